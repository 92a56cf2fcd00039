//! Making a guest, and taking it apart.
//!
//! Everything that a guest holds is taken in [`Parts::acquire`], in the order in which
//! it depends on each other, and given back in [`Parts::give_back`] in the reverse
//! order. There is no other place where a guest gets anything.

mod view;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use arrayvec::{ArrayString, ArrayVec};
use hwio::FrameSource;
use hwspec::dsa::PortalPage;
use hwspec::pci::{Pasid, SourceId};
use vdsa::{PasidPair, Policy, QueueMode, QueueShape, Shape, ShapeError, VirtualDsa, Window};
use vtd::{Access, Iova, Mapping};
use x86_64::PhysAddr;

use crate::arch::clock;
use crate::arch::features::features;
use crate::bundle::Bundle;
use crate::config::plan::{BootPlan, GuestPlan, Mode, VirtualDsaPlan, VirtualQueuePlan};
use crate::host::Host;
use crate::host::accelerator::Accelerator;
use crate::host::client::{self, Answer, ClientSetup, Failure, Request, Set};
use crate::host::error::HostError;
use crate::host::iommu::Domain;
use crate::host::routes::{Completion, GuestTarget};
use crate::loader::bzimage::{self, LinuxPayload};
use crate::loader::{self, Fault, Payload};
use crate::mm::OutOfMemory;
use crate::mm::devices::DmaFrames;
use crate::platform::kvm_clock::KvmClock;
use crate::platform::memory_map;
use crate::platform::pci_bus::PciBus;
use crate::virt::address::GuestPhysAddr;
use crate::virt::backend::{Backend, Entry, Vcpu};
use crate::virt::memory::GuestMemory;
use crate::virt::nested;
use crate::virt::nested::Format;
use crate::virt::registers::Register;
use crate::virt::space::Space;

pub use view::{HeldPasid, Reach};

use super::guest::Guest;
use super::shared;
use super::vdsa_unit::VdsaUnit;
use super::vdsa_unit::backing::{
    Backing, BackingQueue, FIRST_BATCH_VECTOR, FIRST_PASID_VECTOR, WindowPages,
};
use super::vdsa_unit::moving::Moving;
use super::vdsa_unit::portals::ShowPages;
use super::virtual_cpu::VirtualCpu;

/// Where the device sees Weir's own memory for a guest: above all guest RAM.
const WINDOW: u64 = 1 << 38;

/// Why a guest could not be made.
#[derive(Clone, Debug)]
pub enum BuildError {
    /// A file that the configuration names is not in the bundle.
    NoFile,
    /// Its image cannot be loaded.
    Load(Fault),
    /// Not so much memory is free.
    OutOfMemory(OutOfMemory),
    /// The machine's side failed.
    Host(HostError),
    /// The accelerator could not be shaped as the configuration says.
    Shape(ShapeError),
    /// A physical queue has no portal for this processor.
    NoPortal(u8),
    /// There is no slot, entry or vector left for an interrupt of its own.
    NoInterrupt,
    /// The device refused something, or did not answer in time.
    Device(Option<Failure>),
    /// There are as many guests as there can be.
    TooMany,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str("a file that it needs is not in the boot bundle; add it"),
            Self::Load(fault) => fault.fmt(f),
            Self::OutOfMemory(error) => write!(f, "{error}; give it less memory"),
            Self::Host(error) => error.fmt(f),
            Self::Shape(error) => error.fmt(f),
            Self::NoPortal(queue) => {
                write!(
                    f,
                    "work queue {queue} has no portal that this processor can use"
                )
            }
            Self::NoInterrupt => f.write_str(
                "no IMS slot, remapping entry or interrupt vector is left; \
                 stop another guest or use fewer queues",
            ),
            Self::Device(Some(failure)) => write!(f, "the accelerator failed: {failure:?}"),
            Self::Device(None) => f.write_str("the accelerator did not answer in time; reset it"),
            Self::TooMany => write!(
                f,
                "there are {} guests already; stop one",
                shared::MAX_GUESTS
            ),
        }
    }
}

impl core::error::Error for BuildError {}

impl From<OutOfMemory> for BuildError {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

impl From<HostError> for BuildError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<ShapeError> for BuildError {
    fn from(error: ShapeError) -> Self {
        Self::Shape(error)
    }
}

impl<F: Format> ShowPages for Space<F> {
    fn show(&self, guest: GuestPhysAddr, host: PhysAddr) -> bool {
        self.map(guest, host, nested::SMALL_PAGE, nested::Access::Device)
            .is_ok()
    }

    fn hide(&self, guest: GuestPhysAddr) {
        self.unmap(guest, nested::SMALL_PAGE);
    }
}

/// What one virtual DSA holds of the machine.
#[derive(Debug)]
struct Held {
    accelerator: &'static Accelerator,
    /// Of queues that the guest writes to itself, and of those that are checked.
    domains: ArrayVec<Domain, 2>,
    /// Host PASIDs, all of them set for this accelerator, and which domain each leads to.
    pasids: Vec<(Pasid, usize)>,
}

/// Everything that a guest holds of the machine.
#[derive(Debug)]
pub struct Parts<B: Backend> {
    /// The guest.
    pub guest: Arc<Guest<B>>,
    held: Vec<Held>,
    /// Memory beyond its RAM, in bytes.
    pub overhead_bytes: u64,
}

/// A guest that was just made, and its virtual processors, which are to be placed.
pub type Built<B> = (Parts<B>, Vec<Box<VirtualCpu<B>>>);

/// What a guest is made of.
#[derive(Clone, Copy, Debug)]
pub struct Blueprint<'p> {
    /// Its number.
    pub number: usize,
    /// What the configuration says.
    pub plan: &'p GuestPlan,
    /// Where its files are.
    pub bundle: &'p Bundle<'p>,
    /// The machine.
    pub host: &'static Host,
}

impl<B: Backend> Parts<B> {
    /// Makes a guest. If that fails, everything is given back.
    ///
    /// # Errors
    /// What is missing, or what failed.
    pub fn acquire(blueprint: &Blueprint<'_>) -> Result<Built<B>, BuildError> {
        let plan = blueprint.plan;
        let place = shared::place(blueprint.number).ok_or(BuildError::TooMany)?;
        place.open(plan.cpus.len());
        for (door, &cpu) in place.vcpus.iter().zip(&plan.cpus) {
            door.open(cpu);
        }
        let memory = GuestMemory::new(plan.memory_bytes)?;
        let entry = load(&memory, blueprint)?;
        let space = Space::<B::Format>::new(memory, plan.cpus.len())?;

        let mut held = Vec::new();
        let mut bus = PciBus::new();
        for (index, vdsa) in plan.dsas.iter().enumerate() {
            let made = VdsaParts {
                blueprint,
                space: &space,
                vdsa,
                index,
            };
            match made.acquire() {
                Ok((unit, part)) => {
                    held.push(part);
                    let bars = unit.bars();
                    bus.add(device_address(index), unit, &bars);
                }
                Err(error) => {
                    close_clients(&bus);
                    drop(bus);
                    if !give_back(blueprint.host, &mut held) {
                        // A device may still reach the guest's memory.
                        core::mem::forget(space);
                    }
                    return Err(error);
                }
            }
        }
        let mut name = ArrayString::new();
        let _ = name.try_push_str(&plan.name);
        let clock = KvmClock {
            begun: clock::now(),
            tsc_hz: clock::tsc_hz(),
            is_invariant: features().has_invariant_tsc,
            wall_ns: 0,
        };
        let guest = Guest::new(blueprint.number, name, space, bus, plan.cpus.len(), clock);
        let mut parts = Self {
            guest: guest.ok_or(BuildError::TooMany)?,
            held,
            overhead_bytes: 0,
        };
        let vcpus = (0..plan.cpus.len())
            .map(|index| {
                Ok(Box::new(VirtualCpu::new(
                    &parts.guest,
                    index,
                    &entry.entry,
                )?))
            })
            .collect::<Result<Vec<_>, OutOfMemory>>();
        match vcpus {
            Ok(mut vcpus) => {
                if let Some(first) = vcpus.first_mut() {
                    let registers = first.vcpu_mut().registers_mut();
                    let (register, address) = entry.told;
                    registers.set(register, address.into());
                }
                parts.overhead_bytes = parts.measure(blueprint.host, &vcpus);
                Ok((parts, vcpus))
            }
            Err(error) => {
                parts.give_back(blueprint.host);
                Err(error.into())
            }
        }
    }

    /// How much memory the guest takes beyond its RAM: nested tables, IOMMU tables, the
    /// window, its virtual processors, its console.
    fn measure(&self, host: &Host, vcpus: &[Box<VirtualCpu<B>>]) -> u64 {
        let domains = self.held.iter().flat_map(|held| &held.domains);
        let iommu: u64 = domains
            .map(|domain| host.iommu.count_tables(domain).unwrap_or(0) as u64 * PAGE)
            .sum();
        let windows: u64 = self
            .guest
            .bus
            .functions()
            .map(|(_, unit)| {
                unit.look(|_, backing| {
                    let window = backing.window.as_ref();
                    let window = window.map_or(0, |window| hwio::DmaPages::len_words(window) * 8);
                    (window + size_of::<VirtualDsa>() + size_of::<VdsaUnit>()) as u64
                })
            })
            .sum();
        let vcpus: u64 = vcpus.iter().map(|vcpu| vcpu.overhead_bytes()).sum();
        let guest = size_of::<Guest<B>>() as u64;
        self.guest.space.overhead_bytes() + iommu + windows + vcpus + guest
    }

    /// Gives everything back. The guest's virtual processors are on no processor, and
    /// its accelerators have been reset.
    pub fn give_back(mut self, host: &'static Host) {
        close_clients(&self.guest.bus);
        if give_back(host, &mut self.held) {
            // They hold the guest, and with it its memory.
            self.guest.dismiss();
        } else {
            // A device may still reach its memory, which therefore stays what it is.
            core::mem::forget(self.guest);
        }
    }

    /// Its accelerators have nothing to do any more: what they did not finish is counted
    /// as abandoned.
    pub fn close_books(&self) {
        for (_, unit) in self.guest.bus.functions() {
            unit.close_books();
        }
    }

    /// Whether its accelerators have nothing to do any more. Asks for a reset of those
    /// that were not reset yet, which takes a while: to be asked again.
    pub fn is_quiet(&self) -> bool {
        let mut units = self.guest.bus.functions();
        units.all(|(_, unit)| unit.is_quiet())
    }
}

const PAGE: u64 = 4096;

/// The function of a guest's bus that a virtual DSA is.
fn device_address(index: usize) -> SourceId {
    let device = usize::from(memory_map::FIRST_DEVICE) + index;
    let number = u16::try_from(device << 3).unwrap_or(u16::MAX);
    SourceId::from(number)
}

/// Where a guest begins.
struct Begin {
    entry: Entry,
    /// The register that says where the start information is.
    told: (Register, u32),
}

fn load(memory: &GuestMemory, blueprint: &Blueprint<'_>) -> Result<Begin, BuildError> {
    let file = |name: &str| blueprint.bundle.file(name).ok_or(BuildError::NoFile);
    match &blueprint.plan.boot {
        BootPlan::Pvh { image, input } => {
            let payload = Payload {
                image: file(image)?,
                module: input.as_deref().map(file).transpose()?,
                command_line: &blueprint.plan.command_line,
                reserved: &[],
            };
            let mut ram = memory;
            let start = clock::fill(|| loader::load(&mut ram, &payload));
            let start = start.map_err(|error| BuildError::Load(error.fault))?;
            Ok(Begin {
                entry: Entry::Protected { eip: start.entry },
                told: (Register::RBX, start.start_info),
            })
        }
        BootPlan::Linux { kernel, initrd } => {
            let payload = LinuxPayload {
                kernel: file(kernel)?,
                initrd: initrd.as_deref().map(file).transpose()?,
                command_line: &blueprint.plan.command_line,
                count_vcpus: blueprint.plan.cpus.len(),
            };
            let mut ram = memory;
            let start = bzimage::load(&mut ram, &payload);
            let start = start.map_err(|error| BuildError::Load(error.fault))?;
            Ok(Begin {
                entry: Entry::Protected { eip: start.entry },
                told: (Register::RSI, start.boot_params),
            })
        }
    }
}

/// One virtual DSA that is about to be made.
struct VdsaParts<'p, F: Format> {
    blueprint: &'p Blueprint<'p>,
    space: &'p Arc<Space<F>>,
    vdsa: &'p VirtualDsaPlan,
    index: usize,
}

impl<F: Format + 'static> VdsaParts<'_, F> {
    fn acquire(&self) -> Result<(VdsaUnit, Held), BuildError> {
        let accelerators = &self.blueprint.host.accelerators;
        let accelerator = accelerators.get(self.vdsa.dsa).ok_or(BuildError::NoFile)?;
        let mut held = Held {
            accelerator,
            domains: ArrayVec::new(),
            pasids: Vec::new(),
        };
        match self.fill(&mut held) {
            Ok(unit) => Ok((unit, held)),
            Err(error) => {
                if !give_back_one(self.blueprint.host, &mut held) {
                    core::mem::forget(Arc::clone(self.space));
                }
                Err(error)
            }
        }
    }

    fn fill(&self, held: &mut Held) -> Result<VdsaUnit, BuildError> {
        let host = self.blueprint.host;
        let window = self.window()?;
        let window_shape = Window {
            base: WINDOW,
            len_bytes: window
                .as_ref()
                .map_or(0, |window| hwio::DmaPages::len_words(window) as u64 * 8),
        };

        // Address spaces: RAM, and for checked queues the window besides.
        let unit = held.accelerator.unit();
        for with_window in [false, true] {
            let mut mappings = ram(self.space);
            if let (true, Some(window)) = (with_window, &window) {
                let physical = hwio::DmaPages::physical_address(window);
                mappings.extend(window_mappings(physical, window_shape.len_bytes));
            }
            let domain = host.iommu.create_domain(unit, mappings)?;
            // There is room for two.
            held.domains.push(domain);
            if window.is_none() {
                break;
            }
        }
        let has_window =
            |policy: Policy| usize::from(policy == Policy::Checked && window.is_some());

        // One host PASID for each queue, and one for each of the guest's own.
        let mut defaults = ArrayVec::<Pasid, { vdsa::MAX_QUEUES }>::new();
        for queue in &self.vdsa.queues {
            let pasid = self.give_pasid(held, has_window(policy(queue)))?;
            let _ = defaults.try_push(pasid);
        }
        let mut pairs = Vec::new();
        for &guest in &self.blueprint.plan.pasids {
            let Some(guest) = Pasid::new(guest) else {
                continue;
            };
            let host = self.give_pasid(held, usize::from(window.is_some()))?;
            pairs.push(PasidPair {
                guest,
                host,
                batch_handle: None,
            });
        }

        let queues = self.backing_queues(held.accelerator, &defaults)?;
        // From here on a client has to be closed.
        let client = held
            .accelerator
            .open_client(self.client_setup(&held.pasids))?;
        let mut backing = Backing {
            client: Some(client),
            pasids: held.pasids.iter().map(|&(pasid, _)| pasid).collect(),
            queues,
            window,
            guest: self.blueprint.number,
            vdsa: self.index,
            processor: self.blueprint.plan.cpus.first().copied().unwrap_or(0),
            injected: 0,
            moving: Moving::Not,
            moved: 0,
        };
        let shapes = self.shapes(&backing, &defaults).and_then(|shapes| {
            if backing.window.is_some() {
                allocate_pasid_handles(&backing, &mut pairs)?;
            }
            Ok(shapes)
        });
        let shapes = match shapes {
            Ok(shapes) => shapes,
            Err(error) => {
                backing.close();
                return Err(error);
            }
        };
        let bars = memory_map::device_bars(u8::try_from(self.index).unwrap_or(u8::MAX));
        let bars = bars.ok_or(BuildError::TooMany)?;
        let device = VirtualDsa::new(&Shape {
            queues: &shapes,
            guest_pasids: &pairs,
            operations: vdsa::OPERATIONS,
            window: window_shape,
            bars: [bars.registers.0, bars.portals.0],
        });
        let device = match device {
            Ok(device) => device,
            Err(error) => {
                backing.close();
                return Err(error.into());
            }
        };
        let place = shared::place(self.blueprint.number).ok_or(BuildError::TooMany)?;
        Ok(VdsaUnit::new(
            Box::new(device),
            backing,
            Arc::clone(&self.space.memory),
            place,
            Arc::clone(self.space) as Arc<dyn ShowPages>,
        ))
    }

    /// The checked queues, if there are any.
    fn checked(&self) -> impl Iterator<Item = &VirtualQueuePlan> {
        let queues = self.vdsa.queues.iter();
        queues.filter(|queue| policy(queue) == Policy::Checked)
    }

    fn max_batch_log2(&self) -> u8 {
        let limits = self.checked().map(|queue| queue.physical.max_batch_log2);
        limits.max().unwrap_or(0)
    }

    fn window(&self) -> Result<Option<WindowPages>, BuildError> {
        let batches: usize = self.checked().map(|queue| usize::from(queue.batches)).sum();
        if batches == 0 {
            return Ok(None);
        }
        let bytes = vdsa::window_bytes(batches, self.max_batch_log2());
        let pages = bytes.div_ceil(PAGE);
        let count = usize::try_from(pages).unwrap_or(usize::MAX);
        let window = DmaFrames.allocate_zeroed(count);
        let window = window.ok_or(OutOfMemory { count_pages: pages })?;
        Ok(Some(window))
    }

    /// Takes a host PASID and lets it lead to one of the domains.
    fn give_pasid(&self, held: &mut Held, domain: usize) -> Result<Pasid, BuildError> {
        let iommu = self.blueprint.host.iommu;
        let vm = u16::try_from(self.blueprint.number).unwrap_or(u16::MAX);
        let target = held.domains.get(domain).ok_or(BuildError::TooMany)?;
        let pasid = iommu.allocate_pasid(vm)?;
        let source = held.accelerator.source();
        if let Err(error) = iommu.set_pasid(target, source, pasid) {
            iommu.release_pasid(pasid)?;
            return Err(error.into());
        }
        held.pasids.push((pasid, domain));
        Ok(pasid)
    }

    fn client_setup(&self, pasids: &[(Pasid, usize)]) -> ClientSetup {
        let of_mode = |mode: Mode| -> Set {
            let queues = self.vdsa.queues.iter();
            queues
                .filter(|queue| queue.physical.mode == mode)
                .map(|queue| queue.physical.index)
                .collect()
        };
        ClientSetup {
            queues: of_mode(Mode::Dedicated),
            shared_queues: of_mode(Mode::Shared),
            pasids: pasids.iter().map(|&(pasid, _)| pasid).collect(),
            notify,
            token: self.blueprint.number as u64,
        }
    }

    fn backing_queues(
        &self,
        accelerator: &Accelerator,
        defaults: &[Pasid],
    ) -> Result<ArrayVec<BackingQueue, { vdsa::MAX_QUEUES }>, BuildError> {
        let mut queues = ArrayVec::new();
        for (queue, &pasid) in self.vdsa.queues.iter().zip(defaults) {
            let physical = queue.physical.index;
            let portal = accelerator.portal(physical);
            queues.push(BackingQueue {
                physical,
                is_exclusive: queue.physical.mode == Mode::Dedicated,
                stand_in: is_stand_in(queue).then_some(pasid),
                portal: portal.ok_or(BuildError::NoPortal(physical))?,
                direct: match policy(queue) {
                    Policy::Direct => Some(direct_pages(accelerator, physical)?),
                    Policy::Checked => None,
                },
            });
        }
        Ok(queues)
    }

    /// The virtual queues. Each checked one gets an interrupt of Weir's own for the ends
    /// of batches.
    fn shapes(&self, backing: &Backing, defaults: &[Pasid]) -> Result<Vec<QueueShape>, BuildError> {
        let mut shapes = Vec::new();
        for ((index, queue), &pasid) in (0..).zip(&self.vdsa.queues).zip(defaults) {
            let batch_handle = match policy(queue) {
                Policy::Checked if queue.batches > 0 => Some(allocate_batch_handle(
                    backing,
                    FIRST_BATCH_VECTOR + index,
                    pasid,
                )?),
                _ => None,
            };
            shapes.push(QueueShape {
                mode: match queue.mode {
                    Mode::Dedicated => QueueMode::Dedicated,
                    Mode::Shared => QueueMode::Shared,
                },
                size: queue.physical.size,
                threshold: queue.physical.threshold,
                priority: queue.physical.priority,
                max_transfer_log2: queue.physical.max_transfer_log2,
                max_batch_log2: queue.physical.max_batch_log2,
                default_pasid: pasid,
                policy: policy(queue),
                batch_handle,
                // So many descriptors in a millisecond.
                submission_interval_ns: 1_000_000_u32
                    .checked_div(self.blueprint.plan.share_rate)
                    .unwrap_or(0),
            });
        }
        Ok(shapes)
    }
}

/// Whether the queue is dedicated where the guest has a shared one.
fn is_stand_in(queue: &VirtualQueuePlan) -> bool {
    queue.mode == Mode::Shared && queue.physical.mode == Mode::Dedicated
}

/// What the guest's unlimited and limited portal pages are.
fn direct_pages(accelerator: &Accelerator, queue: u8) -> Result<[PhysAddr; 2], BuildError> {
    let page = |page| accelerator.portal_address(queue, page);
    let unlimited = page(PortalPage::UnlimitedIms);
    let limited = page(PortalPage::LimitedIms);
    match (unlimited, limited) {
        (Some(unlimited), Some(limited)) => Ok([unlimited, limited]),
        _ => Err(BuildError::NoPortal(queue)),
    }
}

fn policy(queue: &VirtualQueuePlan) -> Policy {
    match queue.policy {
        crate::config::plan::Policy::Checked => Policy::Checked,
        crate::config::plan::Policy::Direct => Policy::Direct,
    }
}

/// The window: the page of completion records, and the lists, which the device only
/// reads.
fn window_mappings(physical: PhysAddr, len_bytes: u64) -> [Mapping; 2] {
    let part = |offset: u64, len_bytes: u64, access| Mapping {
        iova: Iova(WINDOW + offset),
        physical: physical + offset,
        len_bytes,
        access,
    };
    [
        part(0, PAGE, Access::ReadWrite),
        part(PAGE, len_bytes - PAGE, Access::ReadOnly),
    ]
}

/// The guest's RAM as its devices see it.
fn ram<F: Format>(space: &Space<F>) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for (guest, physical) in space.memory.chunks() {
        let chunk = crate::virt::memory::CHUNK_BYTES;
        if let Some(last) = mappings.last_mut()
            && last.iova.0 + last.len_bytes == guest.0
            && last.physical + last.len_bytes == physical
        {
            last.len_bytes += chunk;
        } else {
            mappings.push(Mapping {
                iova: Iova(guest.0),
                physical,
                len_bytes: chunk,
                access: Access::ReadWrite,
            });
        }
    }
    mappings
}

/// Takes interrupts of Weir's own for the ends of the batches of guest PASIDs, as far as
/// there are vectors for them. Batches of others are looked for from time to time.
fn allocate_pasid_handles(backing: &Backing, pairs: &mut [PasidPair]) -> Result<(), BuildError> {
    let last = u8::try_from(client::MAX_VECTORS).unwrap_or(u8::MAX);
    // Where a dedicated queue stands in for a shared one, batches have its PASID.
    let stand_in = backing.queues.iter().find_map(|queue| queue.stand_in);
    for (vector, pair) in (FIRST_PASID_VECTOR..last).zip(pairs) {
        let pasid = stand_in.unwrap_or(pair.host);
        pair.batch_handle = Some(allocate_batch_handle(backing, vector, pasid)?);
    }
    Ok(())
}

/// Takes an interrupt of Weir's own for the ends of the batches of a PASID.
fn allocate_batch_handle(backing: &Backing, vector: u8, pasid: Pasid) -> Result<u16, BuildError> {
    let client = backing.client.as_ref().ok_or(BuildError::NoInterrupt)?;
    let request = Request::AllocateVector {
        vector,
        pasid,
        cpu: backing.processor,
        target: GuestTarget {
            vm: u16::try_from(backing.guest).unwrap_or(u16::MAX),
            device: u8::try_from(backing.vdsa).unwrap_or(u8::MAX),
            completion: Completion::Batch(vector.into()),
        },
    };
    match client.call(request) {
        Ok(Some(handle)) => {
            let unmasked = client.set_masked(vector, false);
            unmasked.map_err(|_| BuildError::NoInterrupt)?;
            Ok(handle.0)
        }
        Ok(None) | Err(Answer::NoHandle) => Err(BuildError::NoInterrupt),
        Err(Answer::Failed(failure)) => Err(BuildError::Device(Some(failure))),
        Err(_) => Err(BuildError::Device(None)),
    }
}

/// The client of guest `token` is to be looked after.
fn notify(token: u64) {
    let place = usize::try_from(token).ok().and_then(shared::place);
    if let Some(place) = place {
        let [first, ..] = &place.vcpus;
        first.ask_to_serve_vdsas();
    }
}

/// Gives up the clients of virtual DSAs. Waits.
fn close_clients(bus: &PciBus<VdsaUnit>) {
    for (_, unit) in bus.functions() {
        unit.with_backing(Backing::close);
    }
}

/// Gives back what virtual DSAs hold of the IOMMU.
/// False if the IOMMU did not confirm that nothing leads to the guest's memory any more.
fn give_back(host: &Host, held: &mut Vec<Held>) -> bool {
    let mut is_confirmed = true;
    while let Some(mut part) = held.pop() {
        is_confirmed &= give_back_one(host, &mut part);
    }
    is_confirmed
}

fn give_back_one(host: &Host, held: &mut Held) -> bool {
    let mut is_confirmed = true;
    let iommu = host.iommu;
    let source = held.accelerator.source();
    for (pasid, domain) in held.pasids.drain(..) {
        let Some(domain) = held.domains.get(domain) else {
            continue;
        };
        // What the IOMMU does not confirm stays taken: nobody else may get it.
        let cleared = iommu.clear_pasid(domain, source, pasid);
        if let Err(error) = cleared.and_then(|()| iommu.release_pasid(pasid)) {
            crate::warn!("vm", "pasid={pasid} stays taken: {error}");
            is_confirmed = false;
        }
    }
    for domain in held.domains.drain(..) {
        if let Err((_, error)) = iommu.destroy_domain(domain) {
            crate::warn!("vm", "a domain stays: {error}");
            is_confirmed = false;
        }
    }
    is_confirmed
}
