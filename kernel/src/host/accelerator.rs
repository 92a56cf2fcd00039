//! The physical accelerators: found, taken over, divided, and shared.
//!
//! An [`Accelerator`] is one DSA. [`configure`](Accelerator::configure) divides it
//! into queues; [`portal`](Accelerator::portal) is the way into one. A guest's
//! virtual accelerator is a [`ClientHandle`] of it: it asks by
//! [`post`](ClientHandle::post) for what takes time, and works on its interrupt
//! vectors directly.
//!
//! Translation services and page requests of the device stay off, and privileged
//! mode too: every queue is to be enabled unprivileged.

mod view;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::Ordering;
use core::time::Duration;

use dsa::ims::{Counts, DeviceEntry, ImsIndex, Message, SlotPasid, Store};
use dsa::{
    Capabilities, Command, Device, InterruptHandle, Plan, Poll, QueueMode, QueuePasid,
    SoftwareError, State,
};
use hwio::{Clock, Mmio, Registers, TscClock};
use hwspec::dsa::{ImsEntry, IntCause, PortalPage, ResetType};
use hwspec::pci::{
    AtsCapability, COMMAND, EXTENDED_CAPABILITY_ATS, EXTENDED_CAPABILITY_PAGE_REQUEST,
    EXTENDED_CAPABILITY_PASID, MsixEntry, PageRequestCapability, Pasid, PasidCapability, SourceId,
    VENDOR_ID_INTEL,
};
use spin::Mutex;
use x86_64::PhysAddr;

pub use view::PciAddress;

use super::client::{Answer, Client, ClientSetup, Event, Failure, Request, Set, VectorError};
use super::error::HostError;
use super::hardware::{Hardware, OpenError};
use super::iommu::{Interrupt, Iommu, UnitIndex};
use super::pci::{Bar, Function, MsixTable, Pci, PciError};
use super::routes::{GuestTarget, HostTarget, Route, Routes, Target};
use super::service::{Counters, Health, Service};
use super::window::WindowAround;
use crate::mm::{PortalKind, QueuePortal, devices};
use crate::{info, warn};

/// Device ids of DSAs: Sapphire and Emerald Rapids, Granite Rapids-D, Diamond
/// Rapids.
const DEVICE_IDS: [u16; 3] = [0x0b25, 0x11fb, 0x1212];

/// How long a command may take, draining included. Whatever guests may have
/// queued is done in less.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// BAR0: registers. BAR2: portals.
const REGISTERS_BAR: usize = 0;
const PORTALS_BAR: usize = 2;

/// The way of an interrupt from a device to a target.
#[derive(Debug)]
pub(super) struct Line {
    interrupt: Interrupt,
    route: Route,
}

/// A DSA, with what its interrupts need.
pub(super) struct DsaHardware {
    device: Device<WindowAround<Mmio>, TscClock>,
    source: SourceId,
    unit: UnitIndex,
    iommu: &'static Iommu,
    routes: &'static Routes,
}

impl Hardware for DsaHardware {
    type Entry = DeviceEntry<Mmio>;
    type Line = Line;

    fn start(&mut self, command: Command, with_interrupt: bool) -> Result<(), dsa::Error> {
        if with_interrupt {
            self.device.start_with_interrupt(command)
        } else {
            self.device.start(command)
        }
    }

    fn poll(&mut self) -> Result<Poll, dsa::Error> {
        self.device.poll()
    }

    fn has_handle_commands(&self) -> bool {
        self.device.capabilities().has_handle_commands()
    }

    fn take_causes(&mut self) -> Result<IntCause, dsa::Error> {
        self.device.take_causes()
    }

    fn take_software_error(&mut self) -> Result<Option<SoftwareError>, dsa::Error> {
        self.device.take_software_error()
    }

    fn state(&self) -> Result<State, dsa::Error> {
        self.device.state()
    }

    fn configure(&mut self, plan: &Plan) -> Result<(), dsa::Error> {
        self.device.configure(plan)
    }

    fn enable_queue(&mut self, queue: u8, pasid: QueuePasid) -> Result<(), dsa::Error> {
        self.device.enable_queue(queue, pasid)
    }

    fn restart(&mut self) -> Result<(), dsa::Error> {
        self.device.restart()
    }

    fn resume(&mut self) -> Result<(), dsa::Error> {
        self.device.resume()
    }

    fn queue_pasid(&self, queue: u8) -> Option<QueuePasid> {
        self.device.queue_pasid(queue)
    }

    fn request_handle(&mut self, index: ImsIndex) -> Result<InterruptHandle, dsa::Error> {
        self.device.request_handle(index)
    }

    fn open_line(&mut self, cpu: usize, target: GuestTarget) -> Result<Line, OpenError> {
        let route = self.routes.allocate(cpu).map_err(|_| OpenError::NoneLeft)?;
        self.routes.set_target(&route, Target::Guest(target));
        let opened = self
            .iommu
            .try_allocate_interrupt(self.unit, self.source, &route);
        match opened {
            Some(Ok(interrupt)) => Ok(Line { interrupt, route }),
            refused => {
                // Nothing was ever sent there.
                self.routes.free_unused(route);
                Err(match refused {
                    None => OpenError::Busy,
                    Some(Err(HostError::Iommu(_, vtd::Error::OutOfInterrupts { .. }))) => {
                        OpenError::NoneLeft
                    }
                    Some(_) => OpenError::Failed,
                })
            }
        }
    }

    fn message(line: &Line) -> Message {
        let message = line.interrupt.message();
        let message = Message::new(message.address, message.data);
        message.expect("remappable messages are in the interrupt range")
    }

    fn line_cpu(line: &Line) -> usize {
        line.route.cpu()
    }

    fn line_vector(line: &Line) -> u8 {
        line.route.vector()
    }

    fn set_line_target(&mut self, line: &Line, target: Option<GuestTarget>) {
        match target {
            Some(target) => self.routes.set_target(&line.route, Target::Guest(target)),
            None => self.routes.clear_target(&line.route),
        }
    }

    fn close_line(&mut self, line: Line) -> Result<(), Line> {
        let Line { interrupt, route } = line;
        match self.iommu.try_release_interrupt(interrupt) {
            Ok(()) => {
                self.routes.free(route);
                Ok(())
            }
            Err((interrupt, _)) => Err(Line { interrupt, route }),
        }
    }
}

/// One DSA.
pub struct Accelerator {
    number: u8,
    function: Function,
    unit: UnitIndex,
    iommu: &'static Iommu,
    capabilities: Capabilities,
    portals: devices::PortalPages,
    /// What it was configured to.
    plan: Mutex<Option<Plan>>,
    service: Service<DsaHardware>,
    /// What of its health the console has shown.
    shown: Mutex<Shown>,
    /// The interrupt of MSI-X entry 0.
    _line: Line,
}

/// What of a device's health the console has shown.
struct Shown {
    health: Health,
    recoveries: u32,
}

/// What a device's bring-up needs of the rest.
pub(super) struct Surroundings<'a> {
    pub(super) pci: &'a mut Pci<Mmio>,
    pub(super) iommu: &'static Iommu,
    pub(super) routes: &'static Routes,
}

impl Accelerator {
    /// Finds all DSAs and takes them over, numbered in the order of their PCI
    /// addresses. One that will not do is an error: an operator who has it wants to
    /// know.
    pub(super) fn find_all(around: &mut Surroundings<'_>) -> Result<Vec<Self>, HostError> {
        let found: Vec<Function> = around
            .pci
            .functions()
            .iter()
            .filter(|function| {
                function.vendor == VENDOR_ID_INTEL && DEVICE_IDS.contains(&function.device)
            })
            .copied()
            .collect();
        (0..)
            .zip(found)
            .map(|(number, function)| Self::bring_up(number, function, around))
            .collect()
    }

    fn bring_up(
        number: u8,
        function: Function,
        around: &mut Surroundings<'_>,
    ) -> Result<Self, HostError> {
        let source = function.source;
        let dsa_error = |error| HostError::Dsa(source, error);
        let pci = &mut *around.pci;
        let registers_bar = pci.size_bar(&function, REGISTERS_BAR)?;
        let portals_bar = pci.size_bar(&function, PORTALS_BAR)?;
        let table = pci.msix_table(&function, &[registers_bar])?;
        // Bus mastering stays as it is for now: a device that is enabled would halt.
        pci.config(&function)?
            .modify(COMMAND, |command| command.with_memory_space(true));

        let map = |bar: Bar| {
            devices::registers(bar.range).map_err(|error| HostError::Map("a DSA's BAR0", error))
        };
        let mut registers = map(registers_bar)?;
        let capabilities = Capabilities::read(&registers).map_err(dsa_error)?;
        let len_bytes = registers.len_bytes();
        capabilities.check(len_bytes).map_err(dsa_error)?;
        let ims = capabilities.ims_range(len_bytes).map_err(dsa_error)?;
        let len_bytes = capabilities.count_queues() as u64 * PortalPage::WQ_STRIDE as u64;
        if portals_bar.range.len_bytes() < len_bytes {
            return Err(PciError::BarAddress {
                source,
                index: PORTALS_BAR,
                address: portals_bar.range.start().as_u64(),
                len_bytes: portals_bar.range.len_bytes(),
            }
            .into());
        }
        let portals = devices::PortalPages::new(portals_bar.range)
            .map_err(|error| HostError::Map("a DSA's BAR2", error))?;

        let unit = around.iommu.unit_of(function.segment, source)?;
        let route = around.routes.allocate(0)?;
        let target = Target::Host(HostTarget::Accelerator(number));
        around.routes.set_target(&route, target);
        let interrupt = around.iommu.allocate_interrupt(unit, source, &route)?;
        write_msix(pci, &function, &table, &mut registers, &interrupt)?;

        let (registers, entries) = cut(registers, ims);
        let device =
            Device::take_over(registers, devices::clock(), COMMAND_TIMEOUT).map_err(dsa_error)?;
        // It is disabled now, so that these may change.
        enable(pci, &function)?;
        around.iommu.allow_device(unit, source)?;
        let store = Store::new(entries.map(DeviceEntry::new)).map_err(dsa_error)?;
        info!(
            "dsa",
            "took over dsa{number} at={source} id={:04x} queues={} entries={} groups={} \
             engines={} ims={} handle_commands={}",
            function.device,
            capabilities.count_queues(),
            capabilities.count_entries(),
            capabilities.count_groups(),
            capabilities.count_engines(),
            capabilities.count_ims_entries(),
            capabilities.has_handle_commands(),
        );
        let hardware = DsaHardware {
            device,
            source,
            unit,
            iommu: around.iommu,
            routes: around.routes,
        };
        Ok(Self {
            number,
            function,
            unit,
            iommu: around.iommu,
            capabilities,
            portals,
            plan: Mutex::new(None),
            service: Service::new(hardware, store),
            shown: Mutex::new(Shown {
                health: Health::Works,
                recoveries: 0,
            }),
            _line: Line { interrupt, route },
        })
    }

    /// Its number: it is called `dsa` with this behind it.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The PCI function.
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// Its requester id.
    pub fn source(&self) -> SourceId {
        self.function.source
    }

    /// The IOMMU that it is behind.
    pub fn unit(&self) -> UnitIndex {
        self.unit
    }

    /// What it has.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What it was configured to, if it was.
    pub fn plan(&self) -> Option<Plan> {
        self.plan.lock().clone()
    }

    /// Divides the device and enables it; its queues stay disabled. Waits.
    ///
    /// # Errors
    /// If the plan does not fit, the device was configured before, or refuses.
    pub fn configure(&self, plan: &Plan) -> Result<(), HostError> {
        self.service
            .with_hardware(|hardware| hardware.configure(plan))
            .map_err(|error| HostError::Dsa(self.source(), error))?;
        *self.plan.lock() = Some(plan.clone());
        Ok(())
    }

    /// Enables a queue that several clients share. Each submission brings its own
    /// PASID. Waits.
    ///
    /// # Errors
    /// If the plan has no such shared queue, or the device refuses.
    pub fn enable_shared_queue(&self, queue: u8) -> Result<(), HostError> {
        if self.mode(queue) != Some(QueueMode::Shared) {
            let error = dsa::Error::QueueNotPlanned { queue };
            return Err(HostError::Dsa(self.source(), error));
        }
        let pasid = QueuePasid::unprivileged(Pasid::ZERO);
        self.service
            .with_hardware(|hardware| hardware.enable_queue(queue, pasid))
            .map_err(|error| HostError::Dsa(self.source(), error))
    }

    /// The mode of a queue, if the plan has it.
    pub fn mode(&self, queue: u8) -> Option<QueueMode> {
        let plan = self.plan.lock();
        let mut queues = plan.as_ref()?.queues.iter();
        let found = queues.find(|planned| planned.index == queue)?;
        Some(found.shape.mode)
    }

    /// The way into a queue, for Weir: its page for IMS handles, with the limit of a
    /// shared queue. Nothing if the plan does not have the queue, or the processor
    /// lacks the instruction.
    pub fn portal(&self, queue: u8) -> Option<QueuePortal> {
        let kind = match self.mode(queue)? {
            QueueMode::Dedicated => PortalKind::Dedicated,
            QueueMode::Shared => PortalKind::Shared,
        };
        let offset = PortalPage::LimitedIms.offset(queue.into());
        self.portals.portal(offset, kind)
    }

    /// Where a page of a queue's portals is, to be shown to a guest: for IMS handles
    /// alone, and without a limit only where a dedicated queue belongs to one guest.
    /// Nothing for any other page.
    pub fn portal_address(&self, queue: u8, page: PortalPage) -> Option<PhysAddr> {
        let mode = self.mode(queue)?;
        let is_allowed = match page {
            PortalPage::LimitedIms => true,
            PortalPage::UnlimitedIms => mode == QueueMode::Dedicated,
            PortalPage::LimitedMsix | PortalPage::UnlimitedMsix => false,
        };
        let offset = u64::try_from(page.offset(queue.into())).ok()?;
        is_allowed.then(|| self.portals.range().start() + offset)
    }

    /// Makes a client. Its PASIDs are held until it is [closed](ClientHandle::close).
    ///
    /// # Errors
    /// If one of its queues is another's, a PASID is not allocated, or there are too
    /// many clients.
    pub fn open_client(&'static self, setup: ClientSetup) -> Result<ClientHandle, HostError> {
        let pasids = setup.pasids.clone();
        for (index, &pasid) in pasids.iter().enumerate() {
            if let Err(error) = self.iommu.hold_pasid(pasid) {
                for &held in pasids.iter().take(index) {
                    self.iommu.let_go_of_pasid(held);
                }
                return Err(error);
            }
        }
        match self.service.add_client(setup) {
            Ok((number, client)) => Ok(ClientHandle {
                accelerator: self,
                number,
                client,
            }),
            Err(error) => {
                for &pasid in &pasids {
                    self.iommu.let_go_of_pasid(pasid);
                }
                Err(HostError::Client(error))
            }
        }
    }

    /// Notes the interrupt of MSI-X entry 0. For its handler: waits for nothing.
    pub(super) fn note_interrupt(&self) {
        self.service.note_interrupt();
    }

    /// Goes on with what clients asked for, and looks why the device interrupted.
    /// Waits for nothing.
    pub fn service(&self) {
        self.service.run();
    }

    /// Does what has to wait: recovers the device, gives interrupts back. Not for VM
    /// exits.
    pub fn housekeep(&self) {
        if let Some(health) = self.service.housekeep() {
            self.show(health);
        }
    }

    /// Says on the console what became of the device, once.
    fn show(&self, health: Health) {
        let mut shown = self.shown.lock();
        let number = self.number;
        let recoveries = self.counters().recoveries.load(Ordering::Relaxed);
        if recoveries != shown.recoveries {
            shown.recoveries = recoveries;
            warn!(
                "dsa",
                "dsa{number} halted and was reset times={recoveries}; what it had in hand is \
                 lost, and the virtual DSAs of its guests are halted until they are reset"
            );
        }
        if health == shown.health {
            return;
        }
        shown.health = health;
        match health {
            Health::Works | Health::Recovers => {}
            Health::Halted(reset) => warn!(
                "dsa",
                "dsa{number} halted and needs {}, which Weir cannot give it; the virtual DSAs \
                 of its guests are halted for good; restart the machine",
                match reset {
                    ResetType::ResetDevice => "the command Reset Device",
                    ResetType::FunctionLevel => "a function-level reset",
                    ResetType::Warm => "a warm reset",
                    ResetType::Cold => "a cold reset",
                }
            ),
            Health::Failed => warn!(
                "dsa",
                "dsa{number} at={} does not do what it is told, or is gone; the virtual DSAs \
                 of its guests are halted for good; restart the machine",
                self.source()
            ),
        }
    }

    /// Whether the device works. Waits for whoever is using it.
    pub fn health(&self) -> Health {
        self.service.health()
    }

    /// How many interrupt slots there are. Waits for whoever is using the device.
    pub fn slot_counts(&self) -> Counts {
        self.service.slot_counts()
    }

    /// How many interrupts of clients that ended are still to be given back.
    pub fn count_retired(&self) -> usize {
        self.service.count_retired()
    }

    /// The last error that the device reported in its register.
    pub fn last_error(&self) -> Option<SoftwareError> {
        self.service.last_error()
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.service.counters
    }
}

impl fmt::Debug for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accelerator")
            .field("number", &self.number)
            .field("source", &self.function.source)
            .finish_non_exhaustive()
    }
}

/// A guest's share of an accelerator.
///
/// What is about a vector takes no lock but that vector's own, which nobody else
/// holds but the service while it carries out a request of this client about it, and
/// housekeeping while it recovers the device.
#[derive(Debug)]
pub struct ClientHandle {
    accelerator: &'static Accelerator,
    number: usize,
    client: Arc<Client<DsaHardware>>,
}

impl ClientHandle {
    /// The device.
    pub fn accelerator(&self) -> &'static Accelerator {
        self.accelerator
    }

    /// Asks for something. Waits for nothing; the answer comes to
    /// [`take_answer`](Self::take_answer), perhaps at once.
    ///
    /// # Panics
    /// If the last answer was not taken yet.
    pub fn post(&self, request: Request) {
        self.client.post(request);
        self.accelerator.service.post(self.number);
    }

    /// The answer, if it has come.
    pub fn take_answer(&self) -> Option<Answer> {
        self.client.take_answer()
    }

    /// Whether something was asked for and is not answered yet.
    pub fn is_waiting(&self) -> bool {
        self.client.is_waiting()
    }

    /// Whether nothing was asked for whose answer has not been taken.
    pub fn is_idle(&self) -> bool {
        self.client.is_idle()
    }

    /// Something that it is to be told, if there is anything.
    pub fn take_event(&self) -> Option<Event> {
        self.client.take_event()
    }

    /// Asks for something and waits for it, for life-cycle code. If something was
    /// asked for before, its answer is dropped.
    ///
    /// # Errors
    /// What comes instead of an answer that says that it is done.
    pub fn call(&self, request: Request) -> Result<Option<InterruptHandle>, Answer> {
        self.wait_for_answer();
        self.post(request);
        match self.wait_for_answer() {
            Some(Answer::Done) => Ok(None),
            Some(Answer::Handle(handle)) => Ok(Some(handle)),
            Some(answer) => Err(answer),
            None => Err(Answer::Failed(Failure::Stopped)),
        }
    }

    /// Waits for the answer to what was asked for, if anything was.
    ///
    /// Each command is bounded by the device's own limit, after which all are
    /// answered; so this ends.
    fn wait_for_answer(&self) -> Option<Answer> {
        let clock = devices::clock();
        while self.client.is_waiting() {
            self.accelerator.service.housekeep();
            clock.relax();
        }
        self.take_answer()
    }

    /// Masks a vector's slot or unmasks it, which sends what is pending.
    ///
    /// # Errors
    /// If it has no slot, or the device does not keep what is written.
    pub fn set_masked(&self, vector: u8, is_masked: bool) -> Result<(), VectorError> {
        self.client
            .with_slot(vector, |slot| slot.set_masked(is_masked))
    }

    /// Lets a vector's slot ignore interrupts or not.
    ///
    /// # Errors
    /// As [`set_masked`](Self::set_masked).
    pub fn set_ignored(&self, vector: u8, is_ignored: bool) -> Result<(), VectorError> {
        self.client
            .with_slot(vector, |slot| slot.set_ignored(is_ignored))
    }

    /// The host PASID in whose name a vector's slot may be used, if it has one.
    pub fn vector_pasid(&self, vector: u8) -> Option<Pasid> {
        match self.client.vector_pasid(vector)? {
            SlotPasid::Checked(pasid) => Some(pasid),
            SlotPasid::Unchecked(_) => None,
        }
    }

    /// Moves a vector's slot to another PASID of the client's.
    ///
    /// # Errors
    /// As [`set_masked`](Self::set_masked), and if the PASID is not the client's.
    pub fn set_vector_pasid(&self, vector: u8, pasid: Pasid) -> Result<(), VectorError> {
        self.client.set_vector_pasid(vector, pasid)
    }

    /// Whether a vector's slot has an interrupt pending.
    ///
    /// # Errors
    /// If it has no slot, or there is no device any more.
    pub fn is_pending(&self, vector: u8) -> Result<bool, VectorError> {
        self.client.with_slot(vector, |slot| slot.is_pending())
    }

    /// A vector's handle, if it has a slot. It changes only when the device was
    /// reset.
    pub fn handle(&self, vector: u8) -> Option<InterruptHandle> {
        self.client.handle(vector)
    }

    /// Ends a client: takes its vectors, and lets go of its PASIDs. Its queues have
    /// been reset, and nothing of it is in the device any more. Waits.
    ///
    /// # Panics
    /// If vectors are left, which is not even so if the device fails.
    pub fn close(self) {
        let all = Request::ReleaseVectors(Set::ALL_VECTORS);
        // A device that fails meanwhile gives them up the second time.
        if self.call(all).is_err() {
            let _ = self.call(all);
        }
        let removed = self.accelerator.service.remove_client(self.number);
        assert!(
            removed.is_ok(),
            "a client has no vectors after they were released"
        );
        for &pasid in &self.client.setup.pasids {
            self.accelerator.iommu.let_go_of_pasid(pasid);
        }
    }
}

/// Lets MSI-X entry 0 send `interrupt`, and masks all others.
fn write_msix(
    pci: &mut Pci<Mmio>,
    function: &Function,
    table: &MsixTable,
    registers: &mut Mmio,
    interrupt: &Interrupt,
) -> Result<(), HostError> {
    let mut config = pci.config(function)?;
    let control = table.capability.control();
    config.modify(control, |control| control.with_function_mask(true));
    for index in 0..table.entries {
        let entry = MsixEntry::at(table.offset, index);
        registers.modify(entry.control(), |control| control.with_mask(true));
    }
    let message = interrupt.message();
    let entry = MsixEntry::at(table.offset, 0);
    registers.write(entry.address(), message.address);
    registers.write(entry.data(), message.data);
    registers.modify(entry.control(), |control| control.with_mask(false));
    config.modify(control, |control| {
        control.with_enable(true).with_function_mask(false)
    });
    Ok(())
}

/// Lets a device that is disabled use the bus, with PASIDs and nothing else.
///
/// [DSA 3.0, 9.1 "PCI Configuration Registers"]: what is changed here may not change
/// while the device is enabled.
fn enable(pci: &mut Pci<Mmio>, function: &Function) -> Result<(), HostError> {
    let mut config = pci.config(function)?;
    if let Some(base) = config.find_extended_capability(EXTENDED_CAPABILITY_ATS) {
        let control = AtsCapability { base }.control();
        config.modify(control, |control| control.with_enable(false));
    }
    if let Some(base) = config.find_extended_capability(EXTENDED_CAPABILITY_PAGE_REQUEST) {
        let control = PageRequestCapability { base }.control();
        config.modify(control, |control| control.with_enable(false));
    }
    let base = config
        .find_extended_capability(EXTENDED_CAPABILITY_PASID)
        .ok_or(PciError::NoCapability(function.source, "PASID"))?;
    let control = PasidCapability { base }.control();
    config.modify(control, |control| {
        control
            .with_enable(true)
            .with_execute(false)
            .with_privileged(false)
    });
    config.modify(COMMAND, |command| command.with_bus_master(true));
    Ok(())
}

/// Cuts BAR0 into the registers that the driver has, and a window for each IMS entry.
fn cut(mut low: Mmio, range: Range<usize>) -> (WindowAround<Mmio>, impl Iterator<Item = Mmio>) {
    let mut entries = low.split_off(range.start);
    let high = entries.split_off(range.len());
    let count = range.len() / ImsEntry::STRIDE;
    let entries = (0..count).map(move |_| {
        let rest = entries.split_off(ImsEntry::STRIDE);
        core::mem::replace(&mut entries, rest)
    });
    (WindowAround::new(low, high, range.end), entries)
}
