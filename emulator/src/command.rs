//! The Command register: administrative commands, their checks and what they
//! wait for.
//!
//! [341204 Rev 3.0 §9.2.12 "Command Register", §5.1 "Device Enable Checks",
//! §5.2 "WQ Enable Checks", Table 5-8 "Administrative Command Error Codes"].

use crate::bits::{bit, field, low8, low16, low32};
use crate::bus::{Bus, Pasid};
use crate::completion::Status;
use crate::device::Dsa;
use crate::engine::Selection;
use crate::error_report::ErrorReport;
use crate::group::Group;
use crate::identity::PlatformAts;
use crate::interrupt::{RegisterWrite, Table};
use crate::registers::{DeviceState, GENCFG_EVENT_LOG, INTCAUSE_COMMAND, ResetType};
use crate::work_queue::{QueueState, queues_of_operand};

/// Virtual time from the write of a command to its completion, at the least.
const COMMAND_NS: u64 = 500;

/// CMDSTATUS.31.
const ACTIVE: u32 = 1 << 31;
/// CMD.31, Request Completion Interrupt.
const REQUEST_INTERRUPT: u32 = 1 << 31;

/// CMD 24:20 [Table 9-5 "Administrative Commands"].
mod code {
    pub(super) const ENABLE_DEVICE: u32 = 1;
    pub(super) const DISABLE_DEVICE: u32 = 2;
    pub(super) const DRAIN_ALL: u32 = 3;
    pub(super) const ABORT_ALL: u32 = 4;
    pub(super) const RESET_DEVICE: u32 = 5;
    pub(super) const ENABLE_WQ: u32 = 6;
    pub(super) const DISABLE_WQ: u32 = 7;
    pub(super) const DRAIN_WQ: u32 = 8;
    pub(super) const ABORT_WQ: u32 = 9;
    pub(super) const RESET_WQ: u32 = 10;
    pub(super) const DRAIN_PASID: u32 = 11;
    pub(super) const ABORT_PASID: u32 = 12;
    pub(super) const REQUEST_INTERRUPT_HANDLE: u32 = 13;
    pub(super) const RELEASE_INTERRUPT_HANDLE: u32 = 14;

    /// The commands of a device without CMDCAP [Table 9-6], one bit each.
    pub(super) const DEFAULT_SET: u32 = 0x1ffe;
}

/// CMDSTATUS 7:0 [§9.2.13, Table 5-8].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommandError(pub(crate) u8);

impl CommandError {
    const UNSUPPORTED: Self = Self(0x01);
    const INVALID_WQ_INDEX: Self = Self(0x02);
    const HARDWARE: Self = Self(0x03);
    const RESERVED_FIELD: Self = Self(0x04);
    const DEVICE_HALTED: Self = Self(0x05);

    const DEVICE_NOT_DISABLED: Self = Self(0x10);
    const BUS_MASTER_DISABLED: Self = Self(0x12);
    const PAGE_REQUEST_ALLOCATION: Self = Self(0x13);
    const WQ_SIZES: Self = Self(0x14);
    const GROUP_WITHOUT_WQS_OR_ENGINES: Self = Self(0x15);
    const GROUP_WQS: Self = Self(0x16);
    const GROUP_ENGINES: Self = Self(0x17);
    const READ_BUFFERS: Self = Self(0x18);
    const EVENT_LOG: Self = Self(0x19);
    const ATS: Self = Self(0x1a);
    const PASID: Self = Self(0x1b);

    const DEVICE_NOT_ENABLED_FOR_WQ: Self = Self(0x20);
    const WQ_NOT_DISABLED: Self = Self(0x21);
    const WQ_SIZE_ZERO: Self = Self(0x22);
    const WQ_PRIORITY_ZERO: Self = Self(0x23);
    const WQ_MODE: Self = Self(0x24);
    const WQ_BLOCK_ON_FAULT: Self = Self(0x25);
    const WQ_PASID_ENABLE: Self = Self(0x26);
    const WQ_MAX_BATCH: Self = Self(0x27);
    const WQ_MAX_TRANSFER: Self = Self(0x28);
    const WQ_PRIVILEGE: Self = Self(0x2a);
    const WQ_OCCUPANCY_INTERRUPT: Self = Self(0x2b);
    const WQ_ATS_DISABLE: Self = Self(0x2c);
    const WQ_OPERATIONS: Self = Self(0x2d);
    const WQ_PRS_DISABLE: Self = Self(0x2e);

    const DEVICE_NOT_ENABLED: Self = Self(0x31);
    const WQ_NOT_ENABLED: Self = Self(0x32);
    const INTERRUPT_TABLE_INDEX: Self = Self(0x41);
    const NO_HANDLE: Self = Self(0x42);
}

/// The command in progress and the status of the last one.
#[derive(Debug, Default)]
pub(crate) struct CommandUnit {
    status: u32,
    active: Option<ActiveCommand>,
}

#[derive(Debug)]
struct ActiveCommand {
    word: u32,
    due_ns: u64,
    /// What must have left the device before the command completes.
    waits_for: Vec<Selection>,
    /// Only descriptors submitted before this point are waited for.
    horizon: u64,
    /// What is left to do then.
    then: Then,
    /// The bench wants it never to complete.
    hangs: bool,
}

/// The part of a command that comes after the waiting.
#[derive(Debug)]
enum Then {
    Nothing,
    Fail(CommandError),
    Answer(u16),
    DisableDevice,
    ResetDevice,
    DisableQueues(Vec<usize>),
    ResetQueues(Vec<usize>),
}

impl CommandUnit {
    /// CMDSTATUS as it reads.
    pub(crate) fn status(&self) -> u32 {
        if self.active.is_some() {
            ACTIVE
        } else {
            self.status
        }
    }

    /// When a command may complete. One that still waits for descriptors then
    /// completes with the last of them.
    pub(crate) fn deadline(&self, now_waiting: impl Fn(&[Selection], u64) -> bool) -> Option<u64> {
        let active = self.active.as_ref()?;
        let blocked = active.hangs || now_waiting(&active.waits_for, active.horizon);
        (!blocked).then_some(active.due_ns)
    }
}

impl Dsa {
    /// A write to the Command register.
    pub(crate) fn write_command(&mut self, write: RegisterWrite, bus: &mut dyn Bus) {
        if self.command.active.is_some() {
            self.bench
                .violations
                .record("CMD: written while a command is active".to_owned());
            let report = ErrorReport::of_device(Status::COMMAND_WHILE_ACTIVE, None);
            self.report_to_register(&report, bus);
            return;
        }
        if !write.is_whole() {
            self.bench
                .violations
                .record("CMD: written with less than 32 bits".to_owned());
            return;
        }
        let now = bus.now_ns();
        let plan = self.bench.takes_command_failure().map_or_else(
            || self.plan_command(write.value),
            |code| Err(CommandError(code)),
        );
        let (waits_for, then) = plan.unwrap_or_else(|error| (Vec::new(), Then::Fail(error)));
        self.command.active = Some(ActiveCommand {
            word: write.value,
            due_ns: now + COMMAND_NS,
            waits_for,
            horizon: self.scheduler.horizon(),
            then,
            hangs: self.bench.takes_command_hang(),
        });
    }

    /// Checks a command and does what it does at once; returns what it waits
    /// for and what is done after that.
    fn plan_command(&mut self, word: u32) -> Result<(Vec<Selection>, Then), CommandError> {
        let operand = low32(field(word.into(), 19, 0));
        let code = low32(field(word.into(), 24, 20));
        let supported = match self.identity.cmdcap() {
            0 => code::DEFAULT_SET,
            cmdcap => cmdcap,
        };
        if supported >> code & 1 == 0 {
            return Err(CommandError::UNSUPPORTED);
        }
        if field(word.into(), 30, 25) != 0 || operand & reserved_operand_bits(code) != 0 {
            return Err(CommandError::RESERVED_FIELD);
        }
        let can_reset = code == code::RESET_DEVICE && self.reset_type == ResetType::Software;
        if self.state == DeviceState::Halt && !can_reset {
            return Err(CommandError::DEVICE_HALTED);
        }
        match code {
            code::ENABLE_DEVICE => self.enable_device().map(|()| (Vec::new(), Then::Nothing)),
            code::DISABLE_DEVICE => {
                if self.state != DeviceState::Enabled {
                    return Err(CommandError::DEVICE_NOT_ENABLED);
                }
                self.state = DeviceState::Drain;
                self.close_queues(0..self.queues.len());
                Ok((vec![Selection::All], Then::DisableDevice))
            }
            code::DRAIN_ALL => Ok((vec![Selection::All], Then::Nothing)),
            code::ABORT_ALL => {
                self.abandon(Selection::All);
                Ok((Vec::new(), Then::Nothing))
            }
            code::RESET_DEVICE => {
                self.abandon(Selection::All);
                self.state = DeviceState::Drain;
                self.close_queues(0..self.queues.len());
                Ok((Vec::new(), Then::ResetDevice))
            }
            code::ENABLE_WQ => self
                .enable_queue(operand as usize)
                .map(|()| (Vec::new(), Then::Nothing)),
            code::DISABLE_WQ | code::DRAIN_WQ | code::ABORT_WQ | code::RESET_WQ => {
                self.plan_queue_command(code, operand)
            }
            code::DRAIN_PASID => {
                let selection = Selection::Pasid(Pasid::from_low_bits(operand));
                Ok((vec![selection], Then::Nothing))
            }
            code::ABORT_PASID => {
                self.abandon(Selection::Pasid(Pasid::from_low_bits(operand)));
                Ok((Vec::new(), Then::Nothing))
            }
            code::REQUEST_INTERRUPT_HANDLE => {
                let (table, index) = self.interrupt_of_operand(operand)?;
                let handle = self
                    .handles
                    .request(table, index, self.identity.handles)
                    .ok_or(CommandError::NO_HANDLE)?;
                Ok((Vec::new(), Then::Answer(handle)))
            }
            code::RELEASE_INTERRUPT_HANDLE => {
                let table = if bit(operand.into(), 16) {
                    Table::Ims
                } else {
                    Table::Msix
                };
                if self.handles.release(table, low16(operand.into())) {
                    Ok((Vec::new(), Then::Nothing))
                } else {
                    Err(CommandError::INTERRUPT_TABLE_INDEX)
                }
            }
            _ => Err(CommandError::UNSUPPORTED),
        }
    }

    /// Disable, Drain, Abort and Reset WQ.
    fn plan_queue_command(
        &mut self,
        code: u32,
        operand: u32,
    ) -> Result<(Vec<Selection>, Then), CommandError> {
        let queues: Vec<usize> = queues_of_operand(operand).collect();
        if queues.iter().any(|queue| *queue >= self.queues.len()) {
            return Err(CommandError::INVALID_WQ_INDEX);
        }
        let all_enabled = queues.iter().all(|index| {
            self.queues
                .get(*index)
                .is_some_and(|queue| queue.state == QueueState::Enabled)
        });
        if !all_enabled && code != code::RESET_WQ {
            return Err(CommandError::WQ_NOT_ENABLED);
        }
        let selections: Vec<Selection> = queues.iter().copied().map(Selection::Queue).collect();
        if matches!(code, code::ABORT_WQ | code::RESET_WQ) {
            selections
                .iter()
                .for_each(|selection| self.abandon(*selection));
        }
        if matches!(code, code::DISABLE_WQ | code::RESET_WQ) {
            self.close_queues(queues.iter().copied());
        }
        let then = match code {
            code::DISABLE_WQ => Then::DisableQueues(queues),
            code::RESET_WQ => Then::ResetQueues(queues),
            _ => Then::Nothing,
        };
        Ok((selections, then))
    }

    /// Enabled queues take no descriptors any more [§9.2.24, WQ State 10b].
    fn close_queues(&mut self, queues: impl Iterator<Item = usize>) {
        for index in queues {
            if let Some(queue) = self.queues.get_mut(index)
                && queue.state == QueueState::Enabled
            {
                queue.state = QueueState::Draining;
            }
        }
    }

    fn set_queue_states(&mut self, queues: &[usize], state: QueueState) {
        for index in queues {
            if let Some(queue) = self.queues.get_mut(*index) {
                queue.state = state;
            }
        }
    }

    fn interrupt_of_operand(&self, operand: u32) -> Result<(Table, u16), CommandError> {
        let index = low16(operand.into());
        let (table, entries) = if bit(operand.into(), 16) {
            (Table::Ims, self.identity.ims_slots)
        } else {
            (Table::Msix, u32::from(self.identity.msix_vectors()))
        };
        if u32::from(index) >= entries {
            return Err(CommandError::INTERRUPT_TABLE_INDEX);
        }
        Ok((table, index))
    }

    /// When the command in progress may complete.
    pub(crate) fn command_deadline(&self) -> Option<u64> {
        self.command
            .deadline(|selections, horizon| self.waits_for(selections, horizon))
    }

    fn waits_for(&self, selections: &[Selection], horizon: u64) -> bool {
        selections
            .iter()
            .any(|selection| self.is_busy(*selection, horizon))
    }

    /// Completes the command in progress if its time has come and nothing that
    /// it waits for is left.
    pub(crate) fn settle_command(&mut self, now: u64, bus: &mut dyn Bus) {
        if self.command_deadline().is_none_or(|due| due > now) {
            return;
        }
        let Some(ActiveCommand { word, then, .. }) = self.command.active.take() else {
            return;
        };
        let (error, result) = match then {
            Then::Fail(error) => (error.0, 0),
            // The device halted meanwhile, and stays halted.
            _ if self.state == DeviceState::Halt => (CommandError::HARDWARE.0, 0),
            Then::Answer(handle) => (0, handle),
            then => {
                self.carry_out(then);
                (0, 0)
            }
        };
        self.command.status = u32::from(error) | u32::from(result) << 8;
        if word & REQUEST_INTERRUPT != 0 {
            self.raise_cause(INTCAUSE_COMMAND, bus);
        }
    }

    fn carry_out(&mut self, then: Then) {
        match then {
            Then::Nothing | Then::Fail(_) | Then::Answer(_) => {}
            Then::DisableDevice => {
                let all: Vec<usize> = (0..self.queues.len()).collect();
                self.set_queue_states(&all, QueueState::Disabled);
                self.state = DeviceState::Disabled;
            }
            Then::ResetDevice => self.reset_by_command(),
            Then::DisableQueues(queues) => self.set_queue_states(&queues, QueueState::Disabled),
            Then::ResetQueues(queues) => {
                for index in queues {
                    if let Some(queue) = self.queues.get_mut(index) {
                        queue.reset_configuration();
                    }
                }
            }
        }
    }

    // ---- Enable Device ---------------------------------------------------

    /// [§5.1] The checks of Enable Device, and the enabling.
    fn enable_device(&mut self) -> Result<(), CommandError> {
        let require = |good: bool, error: CommandError| if good { Ok(()) } else { Err(error) };
        let enables = self.config.enables();
        require(
            self.state == DeviceState::Disabled,
            CommandError::DEVICE_NOT_DISABLED,
        )?;
        require(enables.bus_master, CommandError::BUS_MASTER_DISABLED)?;
        if enables.prs {
            let allowed = 1..=PAGE_REQUEST_CAPACITY;
            let requested = self.config.page_request_allocation();
            require(
                allowed.contains(&requested),
                CommandError::PAGE_REQUEST_ALLOCATION,
            )?;
        }
        let sizes: usize = self.queues.iter().map(|queue| queue.size()).sum();
        require(
            sizes <= usize::from(self.identity.entries),
            CommandError::WQ_SIZES,
        )?;
        self.check_groups()?;
        self.check_read_buffers()?;
        let ats_good = match self.identity.platform_ats {
            PlatformAts::Optional => true,
            PlatformAts::Required => enables.ats,
            PlatformAts::Unsupported => !enables.ats,
        };
        require(ats_good, CommandError::ATS)?;
        let requester = self.event_log.requester();
        let pasid_good = requester.pasid.is_none() || enables.pasid;
        let privilege_good =
            !requester.privileged || requester.pasid.is_some() && enables.pasid_privileged;
        require(pasid_good && privilege_good, CommandError::PASID)?;
        if self.gencfg & GENCFG_EVENT_LOG != 0 {
            require(self.event_log.is_well_placed(), CommandError::EVENT_LOG)?;
            self.event_log.clear_status();
        }
        self.state = DeviceState::Enabled;
        Ok(())
    }

    fn check_groups(&self) -> Result<(), CommandError> {
        for group in &self.groups {
            if group.has_queues() != (group.engine_count() > 0) {
                return Err(CommandError::GROUP_WITHOUT_WQS_OR_ENGINES);
            }
        }
        for (index, queue) in self.queues.iter().enumerate() {
            let memberships = self
                .groups
                .iter()
                .filter(|group| group.has_queue(index))
                .count();
            if memberships != usize::from(queue.size() > 0) {
                return Err(CommandError::GROUP_WQS);
            }
        }
        for engine in 0..usize::from(self.identity.engines) {
            if self
                .groups
                .iter()
                .filter(|group| group.has_engine(engine))
                .count()
                > 1
            {
                return Err(CommandError::GROUP_ENGINES);
            }
        }
        Ok(())
    }

    fn check_read_buffers(&self) -> Result<(), CommandError> {
        let total = u32::from(self.identity.read_buffers());
        let active: Vec<&Group> = self
            .groups
            .iter()
            .filter(|group| group.engine_count() > 0)
            .collect();
        let reserved: u32 = active
            .iter()
            .map(|group| group.read_buffers_reserved())
            .sum();
        let groups_good = active.iter().all(|group| {
            let allowed = group.read_buffers_allowed();
            let own = group.read_buffers_reserved();
            allowed >= 4 * group.engine_count()
                && allowed >= own
                && allowed <= own + total.saturating_sub(reserved)
        });
        let limited = active.iter().filter(|group| group.uses_global_limit());
        let limited_engines: u32 = limited.map(|group| group.engine_count()).sum();
        let limit = u32::from(low8(self.gencfg.into()));
        let limit_good = limit <= total && (limited_engines == 0 || limit >= 4 * limited_engines);
        if reserved <= total && groups_good && limit_good {
            Ok(())
        } else {
            Err(CommandError::READ_BUFFERS)
        }
    }

    // ---- Enable WQ -------------------------------------------------------

    /// [§5.2] The checks of Enable WQ, and the enabling.
    fn enable_queue(&mut self, index: usize) -> Result<(), CommandError> {
        let require = |good: bool, error: CommandError| if good { Ok(()) } else { Err(error) };
        let queue = self
            .queues
            .get(index)
            .ok_or(CommandError::INVALID_WQ_INDEX)?;
        let enables = self.config.enables();
        let gencap = self.identity.gencap();
        let wqcap = self.identity.wqcap();
        let dedicated = queue.is_dedicated();
        let pasid = queue.is_pasid_enabled();

        require(
            self.state == DeviceState::Enabled,
            CommandError::DEVICE_NOT_ENABLED_FOR_WQ,
        )?;
        require(
            queue.state == QueueState::Disabled,
            CommandError::WQ_NOT_DISABLED,
        )?;
        require(queue.size() > 0, CommandError::WQ_SIZE_ZERO)?;
        require(queue.priority() > 0, CommandError::WQ_PRIORITY_ZERO)?;
        let mode_supported = bit(wqcap, if dedicated { 49 } else { 48 });
        require(mode_supported, CommandError::WQ_MODE)?;
        let can_block = bit(gencap, 0) && enables.prs;
        require(
            !queue.blocks_on_fault() || can_block,
            CommandError::WQ_BLOCK_ON_FAULT,
        )?;
        require(dedicated || pasid, CommandError::WQ_PASID_ENABLE)?;
        require(!pasid || enables.pasid, CommandError::WQ_PASID_ENABLE)?;
        // Where batches of one descriptor exist, they may be the largest too.
        let min_batch = if bit(gencap, 52) { 0 } else { 1 };
        let max_batch = low32(field(gencap, 24, 21));
        require(
            (min_batch..=max_batch).contains(&queue.max_batch_log2()),
            CommandError::WQ_MAX_BATCH,
        )?;
        let max_transfer = low32(field(gencap, 20, 16));
        require(
            queue.max_transfer_log2() <= max_transfer,
            CommandError::WQ_MAX_TRANSFER,
        )?;
        let privileged = dedicated && pasid && queue.is_privileged();
        require(
            !privileged || enables.pasid_privileged,
            CommandError::WQ_PRIVILEGE,
        )?;
        require(
            !queue.disables_ats() || bit(wqcap, 50),
            CommandError::WQ_ATS_DISABLE,
        )?;
        let opcap = self.identity.opcap();
        let operations_good = queue
            .operations()
            .iter()
            .zip(opcap)
            .all(|(allowed, offered)| allowed & !offered == 0);
        require(operations_good, CommandError::WQ_OPERATIONS)?;
        let can_disable_prs =
            bit(wqcap, 55) && self.gencfg & GENCFG_EVENT_LOG != 0 && !queue.blocks_on_fault();
        require(
            !queue.disables_prs() || can_disable_prs,
            CommandError::WQ_PRS_DISABLE,
        )?;
        let (table, handle) = queue.occupancy_target();
        // A handle is there to be checked once it is used; an index always is.
        let checked = queue.has_occupancy_interrupt() || !self.identity.handle_commands;
        let occupancy_good = !checked || self.resolve_handle(table, handle).is_some();
        require(occupancy_good, CommandError::WQ_OCCUPANCY_INTERRUPT)?;

        self.set_queue_states(&[index], QueueState::Enabled);
        Ok(())
    }
}

/// Page requests that the PRS capability announces (PRSREQCAP).
const PAGE_REQUEST_CAPACITY: u32 = 0x200;

/// Operand bits that a command does not use.
fn reserved_operand_bits(code: u32) -> u32 {
    match code {
        code::ENABLE_DEVICE..=code::RESET_DEVICE => 0xf_ffff,
        code::ENABLE_WQ => 0xf_ff00,
        code::REQUEST_INTERRUPT_HANDLE | code::RELEASE_INTERRUPT_HANDLE => 0xe_0000,
        _ => 0,
    }
}
