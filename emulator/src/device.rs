//! The device: its state, its reset, and BAR0.
//!
//! The flows stand in files of their own, each an `impl Dsa`: submissions in
//! [`crate::portal`], commands in [`crate::command`], descriptors in
//! [`crate::engine`], the bench side in [`crate::control`].

use crate::bench::Bench;
use crate::bits::{low8, low32};
use crate::bus::Bus;
use crate::command::CommandUnit;
use crate::completion::Status;
use crate::config_space::{self, ConfigSpace};
use crate::engine::Scheduler;
use crate::error_report::{ErrorReport, EventLog, SoftwareError};
use crate::group::Group;
use crate::handle::InterruptHandles;
use crate::identity::{Identity, IdentityError};
use crate::interrupt::{ImsTable, Message, MsixTable, RegisterWrite, Table};
use crate::perfmon::{Event, Perfmon};
use crate::registers::{self, DeviceState, ResetType};
use crate::work_queue::{WorkQueue, Writability};

/// One Data Streaming Accelerator.
///
/// Plain state: accesses come in through the methods below, effects leave
/// through the [`Bus`] that each of them is given, and work is done when
/// [`Dsa::advance`] is called at or after [`Dsa::deadline`].
#[derive(Debug)]
pub struct Dsa {
    pub(crate) identity: Identity,
    pub(crate) config: ConfigSpace,
    pub(crate) state: DeviceState,
    pub(crate) reset_type: ResetType,
    /// Software has initiated a function level reset, which is yet to come.
    function_level_reset: bool,
    pub(crate) gencfg: u32,
    pub(crate) genctrl: u32,
    pub(crate) intcause: u32,
    pub(crate) command: CommandUnit,
    pub(crate) software_error: SoftwareError,
    pub(crate) event_log: EventLog,
    pub(crate) groups: Vec<Group>,
    pub(crate) queues: Vec<WorkQueue>,
    pub(crate) msix: MsixTable,
    pub(crate) ims: ImsTable,
    pub(crate) handles: InterruptHandles,
    pub(crate) perfmon: Perfmon,
    pub(crate) scheduler: Scheduler,
    pub(crate) bench: Bench,
}

impl Dsa {
    /// A powered-up device.
    ///
    /// # Errors
    /// [`IdentityError`] if no device can have this identity, or if a file that
    /// it names cannot be written.
    pub fn new(identity: Identity) -> Result<Self, IdentityError> {
        identity.validate()?;
        let bench = Bench::new(&identity)?;
        Ok(Self {
            config: Self::initial_config(&identity),
            state: DeviceState::Disabled,
            reset_type: ResetType::Software,
            function_level_reset: false,
            gencfg: u32::from(identity.read_buffers()),
            genctrl: 0,
            intcause: 0,
            command: CommandUnit::default(),
            software_error: SoftwareError::default(),
            event_log: EventLog::default(),
            groups: Self::initial_groups(&identity),
            queues: (0..identity.queues)
                .map(|_| WorkQueue::new(&identity))
                .collect(),
            msix: MsixTable::new(identity.msix_vectors()),
            ims: ImsTable::new(identity.ims_slots),
            handles: InterruptHandles::new(),
            perfmon: Perfmon::default(),
            scheduler: Scheduler::new(identity.engines),
            bench,
            identity,
        })
    }

    fn initial_config(identity: &Identity) -> ConfigSpace {
        ConfigSpace::new(identity, bar_bytes(identity, 0), bar_bytes(identity, 2))
    }

    fn initial_groups(identity: &Identity) -> Vec<Group> {
        (0..identity.groups.into())
            .map(|index| Group::new(identity, index))
            .collect()
    }

    /// Reset from outside: function level, if software initiated one through
    /// configuration space just before, else of the platform. Everything is as
    /// new, but for what the bench counted, and for a halt that wants a
    /// stronger reset than this [§5.7].
    pub fn reset(&mut self) {
        let function_level = std::mem::take(&mut self.function_level_reset);
        let cured = match self.reset_type {
            ResetType::Software | ResetType::FunctionLevel => true,
            ResetType::Warm => !function_level,
            ResetType::Cold => false,
        };
        let stays_halted = self.state == DeviceState::Halt && !cured;

        self.reset_by_command();
        self.config = Self::initial_config(&self.identity);
        self.command = CommandUnit::default();
        self.software_error = SoftwareError::default();
        self.event_log = EventLog::default();
        self.msix = MsixTable::new(self.identity.msix_vectors());
        self.bench.forget_command_faults();
        if stays_halted {
            self.state = DeviceState::Halt;
        } else {
            self.reset_type = ResetType::Software;
        }
    }

    /// What the Reset Device command resets [§5.5 "Reset", facts 2.16]. CMD,
    /// CMDSTATUS, SWERROR, EVLSTATUS and the MSI-X table stay.
    pub(crate) fn reset_by_command(&mut self) {
        self.abandon_all();
        self.state = DeviceState::Disabled;
        self.gencfg = u32::from(self.identity.read_buffers());
        self.genctrl = 0;
        self.intcause = 0;
        self.event_log.reset_configuration();
        self.groups = Self::initial_groups(&self.identity);
        for queue in &mut self.queues {
            queue.reset_all();
        }
        self.msix.reset_by_command();
        self.ims.reset();
        self.handles.revoke_all();
        self.perfmon = Perfmon::default();
    }

    /// The identity that the device was made with.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Bytes of BAR 0 or 2, a power of two; 0 for any other BAR.
    pub fn bar_bytes(&self, bar: u32) -> u64 {
        bar_bytes(&self.identity, bar)
    }

    /// Reads 1, 2 or 4 bytes of configuration space.
    pub fn config_read(&mut self, offset: usize, size: usize) -> u32 {
        if self.bench.is_gone() {
            u32::MAX
        } else {
            self.config.read(offset, size)
        }
    }

    /// Writes 1, 2 or 4 bytes of configuration space. Returns whether software
    /// initiated a function level reset, after which the caller calls
    /// [`Dsa::reset`].
    pub fn config_write(
        &mut self,
        offset: usize,
        size: usize,
        value: u32,
        bus: &mut dyn Bus,
    ) -> bool {
        if self.bench.is_gone() {
            return false;
        }
        let before = self.config.enables();
        let reset = self.config.write(offset, size, value);
        self.function_level_reset |= reset;
        let running = matches!(self.state, DeviceState::Enabled | DeviceState::Drain);
        if running && self.config.enables() != before && !reset {
            self.bench.violations.record(format!(
                "configuration space {offset:#05x}: BME, PASID, ATS or PRS enable changed while \
                 the device is {:?}",
                self.state
            ));
            self.halt(ResetType::FunctionLevel, bus);
            let report = ErrorReport::of_device(Status::PCI_CONFIGURATION_CHANGE, None);
            self.report_to_register(&report, bus);
        }
        let (enabled, masked) = self.config.msix_enabled_and_masked();
        for message in self.msix.set_control(enabled, masked) {
            self.send(message, bus);
        }
        reset
    }

    /// Reads 1, 2, 4 or 8 bytes at `offset` of BAR 0 or 2. Portal pages and
    /// places without a register read 0.
    pub fn mmio_read(&mut self, bar: u32, offset: u64, size: u32) -> u64 {
        if self.bench.is_gone() {
            return u64::MAX >> (64 - 8 * size.clamp(1, 8));
        }
        if bar != 0 {
            return 0;
        }
        let Some((first, shift)) = self.split(offset, size) else {
            return 0;
        };
        let low = u64::from(self.read_word(first));
        match size {
            8 => low | u64::from(self.read_word(first + 4)) << 32,
            4 => low,
            _ => low >> shift & (u64::MAX >> (64 - 8 * size)),
        }
    }

    /// Writes 1, 2, 4 or 8 bytes at `offset` of BAR 0 or 2.
    pub fn mmio_write(&mut self, bar: u32, offset: u64, size: u32, value: u64, bus: &mut dyn Bus) {
        if self.bench.is_gone() {
            return;
        }
        if bar != 0 || is_dummy_portal(offset) {
            self.bench.violations.record(format!(
                "BAR{bar} {offset:#x}: a write of {size} bytes to a portal is dropped, portals \
                 take 64 bytes"
            ));
            return;
        }
        let Some((first, shift)) = self.split(offset, size) else {
            return;
        };
        if size == 8 {
            // Half of a message address that the IMS discards is discarded too.
            let is_ims_address = first >= registers::IMS && first.is_multiple_of(16);
            if is_ims_address && value >> 20 != 0xfee {
                self.bench.violations.record(format!(
                    "BAR0 {offset:#x}: IMS message address {value:#x} is outside 0xFEExxxxx and \
                     discarded"
                ));
                return;
            }
            let mut halves = [(first, low32(value)), (first + 4, low32(value >> 32))];
            if Perfmon::takes_upper_half_first(first) {
                halves.reverse();
            }
            for (word, value) in halves {
                let lanes = u32::MAX;
                self.write_word(word, RegisterWrite { value, lanes }, bus);
            }
        } else {
            let lanes = low32((u64::MAX >> (64 - 8 * size)) << shift);
            self.write_word(
                first,
                RegisterWrite {
                    value: low32(value << shift),
                    lanes,
                },
                bus,
            );
        }
    }

    /// The 32-bit word that an access starts in, and how many bits into it.
    /// `None`, and a violation, for an access that is no single naturally
    /// aligned one [§9.2].
    fn split(&mut self, offset: u64, size: u32) -> Option<(u64, u32)> {
        let good = matches!(size, 1 | 2 | 4 | 8) && offset.is_multiple_of(u64::from(size));
        if !good {
            self.bench.violations.record(format!(
                "BAR0 {offset:#x}: an access of {size} bytes is not naturally aligned"
            ));
            return None;
        }
        Some((offset & !3, u32::from(low8(offset & 3)) * 8))
    }

    fn read_word(&mut self, offset: u64) -> u32 {
        use registers as r;
        let half = |quad: u64, base: u64| low32(quad >> (8 * (offset - base)));
        let table =
            |base: u64, stride: u64| (index(offset - base, stride), (offset - base) % stride / 4);
        match offset {
            r::VERSION => self.identity.version(),
            r::GENCAP..0x18 => half(self.identity.gencap(), r::GENCAP),
            r::WQCAP..0x28 => half(self.identity.wqcap(), r::WQCAP),
            r::GRPCAP..0x38 => half(self.identity.grpcap(), r::GRPCAP),
            r::ENGCAP..0x40 => half(self.identity.engcap(), r::ENGCAP),
            r::OPCAP..r::OFFSETS => {
                let quad = self
                    .identity
                    .opcap()
                    .into_iter()
                    .nth(index(offset - r::OPCAP, 8));
                low32(quad.unwrap_or(0) >> (8 * (offset % 8)))
            }
            r::OFFSETS..0x70 => half(self.table_offsets(offset >= r::OFFSETS + 8), offset & !7),
            r::GENCFG => self.gencfg,
            r::GENCTRL => self.genctrl,
            r::GENSTS => self.state as u32 | (self.reset_type as u32) << 2,
            r::INTCAUSE => self.intcause,
            r::CMDSTATUS => self.command.status(),
            r::CMDCAP => self.identity.cmdcap(),
            r::SWERROR..r::EVLCFG => self.software_error.read(index(offset - r::SWERROR, 4)),
            r::EVLCFG..r::EVLSTATUS => self
                .event_log
                .read_configuration(index(offset - r::EVLCFG, 4)),
            r::EVLSTATUS..0xf8 => self.event_log.read_status(index(offset - r::EVLSTATUS, 4)),
            r::GRPCFG..r::MSIXPERM => {
                let (group, word) = table(r::GRPCFG, r::GRPCFG_STRIDE);
                self.groups
                    .get(group)
                    .map_or(0, |group| group.read(index(word, 1)))
            }
            r::MSIXPERM..r::PERFMON if offset.is_multiple_of(8) => {
                self.msix.read_permission(index(offset - r::MSIXPERM, 8))
            }
            r::PERFMON..0x2000 => self.perfmon.read(offset - r::PERFMON),
            MSIX_TABLE..MSIX_PBA => {
                let (vector, word) = table(MSIX_TABLE, r::MESSAGE_STRIDE);
                self.msix.read(vector, word)
            }
            MSIX_PBA..r::WQCFG => self.msix.read_pending(index(offset - MSIX_PBA, 4)),
            r::WQCFG..0x5000 => {
                let (queue, word) = table(r::WQCFG, self.identity.wqcfg_bytes());
                self.queues
                    .get(queue)
                    .map_or(0, |queue| queue.read(index(word, 1)))
            }
            r::IMS.. => {
                let (slot, word) = table(r::IMS, r::MESSAGE_STRIDE);
                self.ims.read(slot, word)
            }
            _ => 0,
        }
    }

    /// OFFSETS, its low or its high half.
    fn table_offsets(&self, high: bool) -> u64 {
        let unit = |offset: u64| offset / 0x100;
        if high {
            return unit(registers::PERFMON);
        }
        let ims = if self.identity.ims_slots == 0 {
            0
        } else {
            registers::IMS
        };
        unit(registers::GRPCFG)
            | unit(registers::WQCFG) << 16
            | unit(registers::MSIXPERM) << 32
            | unit(ims) << 48
    }

    fn write_word(&mut self, offset: u64, write: RegisterWrite, bus: &mut dyn Bus) {
        use registers as r;
        let disabled = self.state == DeviceState::Disabled;
        let table =
            |base: u64, stride: u64| (index(offset - base, stride), (offset - base) % stride / 4);
        match offset {
            r::GENCFG => self.write_gencfg(write),
            r::GENCTRL => {
                let bits = r::GENCTRL_SOFTWARE_ERROR | r::GENCTRL_HALT | r::GENCTRL_EVENT_LOG;
                self.expect_reserved_clear("GENCTRL", write, bits);
                self.genctrl = write.onto(self.genctrl, bits);
            }
            r::INTCAUSE => {
                self.expect_reserved_clear("INTCAUSE", write, r::INTCAUSE_ALL);
                self.intcause &= !write.ones();
            }
            r::CMD => self.write_command(write, bus),
            r::SWERROR..r::EVLCFG => {
                self.software_error
                    .write(index(offset - r::SWERROR, 4), write);
            }
            r::EVLCFG..r::EVLSTATUS => {
                if disabled && self.identity.event_log {
                    self.event_log
                        .write_configuration(index(offset - r::EVLCFG, 4), write);
                } else {
                    self.bench.violations.record(
                        "EVLCFG: written without an event log or while not Disabled".to_owned(),
                    );
                }
            }
            r::EVLSTATUS..0xf8 => {
                self.event_log
                    .write_status(index(offset - r::EVLSTATUS, 4), write);
                // There may be room now for what waits for it.
                self.settle(bus.now_ns(), bus);
            }
            r::GRPCFG..r::MSIXPERM => {
                let (group, word) = table(r::GRPCFG, r::GRPCFG_STRIDE);
                let allow = disabled && self.identity.configurable;
                if let Some(config) = self.groups.get_mut(group) {
                    config.write(
                        group,
                        index(word, 1),
                        write,
                        allow,
                        &mut self.bench.violations,
                    );
                }
            }
            r::MSIXPERM..r::PERFMON if offset.is_multiple_of(8) => {
                let vector = index(offset - r::MSIXPERM, 8);
                self.msix
                    .write_permission(vector, write, &mut self.bench.violations);
            }
            r::PERFMON..0x2000 => self.perfmon.write(offset - r::PERFMON, write),
            MSIX_TABLE..MSIX_PBA => {
                let (vector, word) = table(MSIX_TABLE, r::MESSAGE_STRIDE);
                if let Some(message) = self.msix.write(vector, word, write) {
                    self.send(message, bus);
                }
            }
            r::WQCFG..0x5000 => {
                let (number, word) = table(r::WQCFG, self.identity.wqcfg_bytes());
                let rules = self.writability();
                if let Some(queue) = self.queues.get_mut(number) {
                    queue.write(
                        number,
                        index(word, 1),
                        write,
                        rules,
                        &mut self.bench.violations,
                    );
                }
                self.raise_occupancy_interrupts(bus);
            }
            r::IMS.. => {
                let (slot, word) = table(r::IMS, r::MESSAGE_STRIDE);
                let message = self
                    .ims
                    .write(slot, word, write, &mut self.bench.violations);
                if let Some(message) = message {
                    self.send(message, bus);
                }
            }
            // The other half of an 8-byte access to a 4-byte register.
            _ if write.ones() == 0 => {}
            _ => self.bench.violations.record(format!(
                "BAR0 {offset:#x}: {:#x} written where no writable register is",
                write.ones()
            )),
        }
    }

    fn writability(&self) -> Writability {
        let wqcap = self.identity.wqcap();
        Writability {
            configurable: self.identity.configurable,
            mode_support: !self.identity.configurable,
            device_disabled: self.state == DeviceState::Disabled,
            operation_configuration: crate::bits::bit(wqcap, 54),
            prs_disable: crate::bits::bit(wqcap, 55),
        }
    }

    fn write_gencfg(&mut self, write: RegisterWrite) {
        let mut writable = 0;
        if self.state == DeviceState::Disabled {
            if self.identity.configurable {
                writable |= registers::GENCFG_READ_BUFFER_LIMIT | registers::GENCFG_USER_INTERRUPTS;
            }
            if self.identity.event_log {
                writable |= registers::GENCFG_EVENT_LOG;
            }
        }
        let refused = (write.value ^ self.gencfg) & write.lanes & !writable;
        if refused != 0 {
            self.bench.violations.record(format!(
                "GENCFG: bits {refused:#010x} are reserved or cannot be changed while the device \
                 is {:?}",
                self.state
            ));
        }
        self.gencfg = write.onto(self.gencfg, writable);
    }

    fn expect_reserved_clear(&mut self, register: &str, write: RegisterWrite, bits: u32) {
        let reserved = write.ones() & !bits;
        if reserved != 0 {
            self.bench.violations.record(format!(
                "{register}: reserved bits written, {reserved:#010x}"
            ));
        }
    }

    /// Sets an interrupt cause and raises MSI-X vector 0 for it.
    pub(crate) fn raise_cause(&mut self, cause: u32, bus: &mut dyn Bus) {
        self.intcause |= cause;
        self.raise(Table::Msix, 0, bus);
    }

    /// Lets the performance monitor count.
    pub(crate) fn count_event(&mut self, event: Event, bus: &mut dyn Bus) {
        if self.perfmon.count(event) {
            self.raise_cause(registers::INTCAUSE_PERFMON, bus);
        }
    }

    /// Raises the occupancy interrupts that are due, each through the entry
    /// that its queue names. PASID and Ignore are for descriptor completions
    /// [§3.7], and INTCAUSE is for entry 0 of the MSI-X table [§9.2.11].
    pub(crate) fn raise_occupancy_interrupts(&mut self, bus: &mut dyn Bus) {
        for queue in 0..self.queues.len() {
            let due = self.queues.get_mut(queue);
            let target = due.and_then(WorkQueue::take_occupancy_interrupt);
            let entry = target.and_then(|(table, handle)| {
                let index = self.resolve_handle(table, handle)?;
                Some((table, index))
            });
            match entry {
                Some((Table::Msix, 0)) => self.raise_cause(registers::INTCAUSE_OCCUPANCY, bus),
                Some((table, index)) => self.raise(table, index, bus),
                None => {}
            }
        }
    }

    /// Raises an entry of a table, whatever its permissions say.
    pub(crate) fn raise(&mut self, table: Table, index: u16, bus: &mut dyn Bus) {
        let message = match table {
            Table::Msix => self.msix.raise(index.into()),
            Table::Ims => self.ims.raise(index.into()),
        };
        if let Some(message) = message {
            self.send(message, bus);
        }
    }

    fn send(&mut self, message: Message, bus: &mut dyn Bus) {
        if self.bench.loses_interrupt() {
            return;
        }
        if bus.send_message(message.address, message.data).is_err() {
            self.bench.count_blocked_message();
        }
    }

    /// Stops the device until it is reset.
    pub(crate) fn halt(&mut self, reset_type: ResetType, bus: &mut dyn Bus) {
        self.abandon_all();
        self.state = DeviceState::Halt;
        self.reset_type = reset_type;
        if self.genctrl & registers::GENCTRL_HALT != 0 {
            self.raise_cause(registers::INTCAUSE_HALT, bus);
        }
    }

    /// Records an error in SWERROR and raises its interrupt.
    pub(crate) fn report_to_register(&mut self, report: &ErrorReport, bus: &mut dyn Bus) {
        let first = self.software_error.record(report, self.identity.version());
        if first && self.genctrl & registers::GENCTRL_SOFTWARE_ERROR != 0 {
            self.raise_cause(registers::INTCAUSE_SOFTWARE_ERROR, bus);
        }
    }

    /// When the device next has something to do by itself, in virtual
    /// nanoseconds; `None` while it is idle.
    pub fn deadline(&self) -> Option<u64> {
        [self.command_deadline(), self.scheduler.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The group that an engine or a queue belongs to.
    pub(crate) fn group_of_queue(&self, queue: usize) -> Option<&Group> {
        self.groups.iter().find(|group| group.has_queue(queue))
    }
}

const MSIX_TABLE: u64 = config_space::MSIX_TABLE_OFFSET as u64;
const MSIX_PBA: u64 = config_space::MSIX_PBA_OFFSET as u64;

fn is_dummy_portal(offset: u64) -> bool {
    (registers::DUMMY_PORTAL..registers::DUMMY_PORTAL + 0x1000).contains(&offset)
}

/// Which entry of a table a byte offset into it falls into.
fn index(bytes: u64, stride: u64) -> usize {
    usize::try_from(bytes / stride).unwrap_or(usize::MAX)
}

fn bar_bytes(identity: &Identity, bar: u32) -> u64 {
    match bar {
        0 => {
            let ims = u64::from(identity.ims_slots) * registers::MESSAGE_STRIDE;
            (registers::IMS + ims).next_power_of_two()
        }
        2 => (u64::from(identity.queues) * registers::PORTAL_STRIDE).next_power_of_two(),
        _ => 0,
    }
}
