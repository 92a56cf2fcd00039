//! Making one virtual DSA: its address spaces, its host PASIDs, what is behind its
//! queues, and the interrupts of its batches.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arrayvec::ArrayVec;
use hwio::FrameSource;
use hwspec::dsa::PortalPage;
use hwspec::pci::Pasid;
use vdsa::{PasidPair, Policy, QueueMode, QueueShape, Shape, VirtualDsa, Window};
use x86_64::PhysAddr;

use super::address_space::{self, WINDOW};
use super::batch_interrupts::{allocate_batch_handle, allocate_pasid_handles};
use super::held::{self, Held};
use super::{Blueprint, BuildError, PAGE};
use crate::arch::percpu;
use crate::config::plan::{self, Mode, VirtualDsaPlan, VirtualQueuePlan};
use crate::host::accelerator::Accelerator;
use crate::host::client::{ClientSetup, Set};
use crate::host::slices::Slice;
use crate::mm::OutOfMemory;
use crate::mm::devices::DmaFrames;
use crate::platform::memory_map;
use crate::virt::nested::Format;
use crate::virt::space::Space;
use crate::vm::shared;
use crate::vm::vdsa_unit::VdsaUnit;
use crate::vm::vdsa_unit::backing::{Backing, BackingQueue, FIRST_BATCH_VECTOR, WindowPages};
use crate::vm::vdsa_unit::moving::Moving;
use crate::vm::vdsa_unit::portals::{COUNT_TABLES, ShowPages};

/// One virtual DSA that is about to be made.
pub(super) struct VdsaParts<'p, F: Format> {
    pub(super) blueprint: &'p Blueprint<'p>,
    pub(super) space: &'p Arc<Space<F>>,
    pub(super) vdsa: &'p VirtualDsaPlan,
    pub(super) index: usize,
}

impl<F: Format + 'static> VdsaParts<'_, F> {
    /// Takes everything that it needs of the machine.
    ///
    /// # Errors
    /// What is missing, or what failed. Then everything was given back.
    pub(super) fn acquire(&self) -> Result<(VdsaUnit, Held), BuildError> {
        let accelerators = &self.blueprint.host.accelerators;
        let accelerator = accelerators.get(self.vdsa.dsa).ok_or(BuildError::NoFile)?;
        let mut held = Held {
            accelerator,
            domains: ArrayVec::new(),
            pasids: Vec::new(),
            window: self.window()?,
        };
        match self.fill(&mut held) {
            Ok(unit) => Ok((unit, held)),
            Err(error) => {
                if !held::give_back_one(self.blueprint.host, &mut held) {
                    // A device may still reach them.
                    core::mem::forget(held.window);
                    core::mem::forget(Arc::clone(self.space));
                }
                Err(error)
            }
        }
    }

    fn fill(&self, held: &mut Held) -> Result<VdsaUnit, BuildError> {
        let host = self.blueprint.host;
        let has_window = held.window.is_some();
        let window_shape = Window {
            base: WINDOW,
            len_bytes: held
                .window
                .as_ref()
                .map_or(0, |window| hwio::DmaPages::len_words(window) as u64 * 8),
        };

        // Address spaces: RAM, and for checked queues the window besides.
        let unit = held.accelerator.unit();
        for with_window in [false, true] {
            let mut mappings = address_space::ram(self.space);
            if let (true, Some(window)) = (with_window, &held.window) {
                let physical = hwio::DmaPages::physical_address(window);
                mappings.extend(address_space::window_mappings(
                    physical,
                    window_shape.len_bytes,
                ));
            }
            let domain = host.iommu.create_domain(unit, mappings)?;
            // There is room for two.
            held.domains.push(domain);
            if !has_window {
                break;
            }
        }
        let domain_of = |policy: Policy| usize::from(policy == Policy::Checked && has_window);

        // One host PASID for each queue, and one for each of the guest's own.
        let mut defaults = ArrayVec::<Pasid, { vdsa::MAX_QUEUES }>::new();
        for queue in &self.vdsa.queues {
            let pasid = self.give_pasid(held, domain_of(policy(queue)))?;
            let _ = defaults.try_push(pasid);
        }
        let mut pairs = Vec::new();
        for &guest in &self.blueprint.plan.pasids {
            let Some(guest) = Pasid::new(guest) else {
                continue;
            };
            let host = self.give_pasid(held, usize::from(has_window))?;
            pairs.push(PasidPair {
                guest,
                host,
                batch_handle: None,
            });
        }

        let bars = memory_map::device_bars(u8::try_from(self.index).unwrap_or(u8::MAX));
        let bars = bars.ok_or(BuildError::TooMany)?;
        let place = shared::place(self.blueprint.number).ok_or(BuildError::TooMany)?;
        let queues = self.backing_queues(held.accelerator, &defaults)?;
        if queues.iter().any(|queue| queue.direct.is_some()) {
            self.space.reserve(memory_map::SHOWN, COUNT_TABLES)?;
        }
        // From here on a client has to be closed.
        let client = held
            .accelerator
            .open_client(self.client_setup(&held.pasids))?;
        let mut backing = Backing {
            client: Some(client),
            pasids: held.pasids.iter().map(|&(pasid, _)| pasid).collect(),
            queues,
            // Should this fail yet, the device may reach it until `held` is given back.
            window: None,
            guest: self.blueprint.number,
            vdsa: self.index,
            processor: self.blueprint.plan.cpus.first().copied().unwrap_or(0),
            injected: 0,
            batch_handles: Vec::new(),
            moving: Moving::Not,
            moved: 0,
        };
        let shapes = self.shapes(&mut backing, &defaults).and_then(|shapes| {
            if has_window {
                allocate_pasid_handles(&mut backing, &mut pairs)?;
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
        backing.window = held.window.take();
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
        accelerator: &'static Accelerator,
        defaults: &[Pasid],
    ) -> Result<ArrayVec<BackingQueue, { vdsa::MAX_QUEUES }>, BuildError> {
        let mut queues = ArrayVec::new();
        for (queue, &pasid) in self.vdsa.queues.iter().zip(defaults) {
            let physical = queue.physical.index;
            let portal = match queue.reserved {
                0 => accelerator.portal(physical),
                _ => accelerator.reserved_portal(physical),
            };
            let processors = percpu::all().len();
            queues.push(BackingQueue {
                physical,
                accepted: accelerator.accepted(physical),
                slice: (queue.reserved > 0).then(|| Slice::new(queue.reserved, processors)),
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
    fn shapes(
        &self,
        backing: &mut Backing,
        defaults: &[Pasid],
    ) -> Result<Vec<QueueShape>, BuildError> {
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
            let entries = |all: u16| match queue.reserved {
                0 => all,
                reserved => reserved,
            };
            shapes.push(QueueShape {
                mode: match queue.mode {
                    Mode::Dedicated => QueueMode::Dedicated,
                    Mode::Shared => QueueMode::Shared,
                },
                size: entries(queue.physical.size),
                threshold: entries(queue.physical.threshold),
                priority: queue.physical.priority,
                max_transfer_log2: queue.physical.max_transfer_log2,
                max_batch_log2: queue.physical.max_batch_log2,
                default_pasid: pasid,
                policy: policy(queue),
                batch_handle,
                is_stand_in: is_stand_in(queue),
                // So many descriptors in a millisecond.
                submission_interval_ns: 1_000_000_u32
                    .checked_div(self.blueprint.plan.share_rate)
                    .unwrap_or(0),
                is_slice: queue.reserved > 0,
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
        plan::Policy::Checked => Policy::Checked,
        plan::Policy::Direct => Policy::Direct,
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
