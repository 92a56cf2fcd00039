//! The command register: the checks of each command, what it asks of the physical
//! device, and what it does when the answer is there.
//! [DSA 3.0, 9.2.12 "Command Register (CMD)"; 5.8.3 "Administrative Command Error
//! Codes", Table 5-8]

use hwspec::dsa::{Cmd, CmdStatus, CommandCode, CommandError, DeviceState, ResetType, Status};
use hwspec::pci::Pasid;

use crate::access::WordWrite;
use crate::work_queue::State;
use crate::{
    Answer, Handle, Host, PasidAction, QueueAction, QueueIndex, QueueSet, Request, VirtualDsa,
};

/// CMDCAP: commands 1 to 14.
pub(crate) const COMMANDS: u64 = 0x7ffe;

/// CMD and CMDSTATUS. The Reset Device command resets neither.
#[derive(Debug, Default)]
pub(crate) struct CommandUnit {
    /// What was written last.
    command: Cmd,
    status: CmdStatus,
    /// What the active command does when its request is answered.
    active: Option<Then>,
}

impl CommandUnit {
    /// CMDSTATUS.
    pub(crate) const fn status(&self) -> CmdStatus {
        if self.active.is_some() {
            CmdStatus::new().with_active(true)
        } else {
            self.status
        }
    }
}

/// The part of a command that follows the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing.
    Finish,
    /// The device becomes Disabled, with its queues.
    DisableDevice,
    /// The Reset Device command.
    ResetDevice,
    /// The queue becomes Enabled.
    EnableQueue(QueueIndex),
    /// Queues become Disabled.
    DisableQueues(QueueSet),
    /// Queues become Disabled and lose their configuration.
    ResetQueues(QueueSet),
    /// The vector gets its slot, which has this host PASID.
    GiveHandle(u16, Pasid),
    /// The vector has lost its slot.
    TakeHandle,
}

/// What a command comes to.
enum Plan {
    /// It is done, with this result.
    Done(u16),
    /// The request has to be answered first.
    Ask(Request, Then),
}

impl VirtualDsa {
    /// A write to CMD.
    pub(crate) fn write_command(&mut self, host: &mut impl Host, write: WordWrite) {
        if self.command.active.is_some() {
            self.record_device_error(host, Status::COMMAND_ACTIVE);
            return;
        }
        if !write.is_whole() {
            self.count_dropped_write();
            return;
        }
        self.command.command = Cmd::from_bits(write.value);
        match self.plan(host, self.command.command) {
            Ok(Plan::Ask(request, then)) => {
                self.command.active = Some(then);
                self.physical.start(host, request);
            }
            Ok(Plan::Done(result)) => self.finish(host, CommandError::NONE, result),
            Err(error) => self.finish(host, error, 0),
        }
    }

    /// Shows error and result, and raises the interrupt if one was asked for.
    fn finish(&mut self, host: &mut impl Host, error: CommandError, result: u16) {
        self.command.active = None;
        self.command.status = CmdStatus::new().with_error(error).with_result(result);
        if self.command.command.request_interrupt() {
            self.raise_cause(host, |cause| cause.set_command_completion(true));
        }
    }

    /// The active command, if there is one, cannot be done.
    pub(crate) fn fail_command(&mut self, host: &mut impl Host) {
        if self.command.active.is_some() {
            self.finish(host, CommandError::HARDWARE, 0);
        }
    }

    /// Checks a command, and does what can be done at once.
    fn plan(&mut self, host: &mut impl Host, command: Cmd) -> Result<Plan, CommandError> {
        /// Bits 30:25.
        const RESERVED: u32 = 0x7e00_0000;
        let code = command.code();
        let operand = command.operand();
        if COMMANDS >> code.0 & 1 == 0 {
            return Err(CommandError::UNSUPPORTED);
        }
        if command.into_bits() & RESERVED != 0 || operand & reserved_operand_bits(code) != 0 {
            return Err(CommandError::RESERVED_FIELD);
        }
        let can_reset =
            code == CommandCode::RESET_DEVICE && self.reset_type == ResetType::ResetDevice;
        if self.state == DeviceState::Halted && !can_reset {
            return Err(CommandError::HALTED);
        }
        match code {
            CommandCode::ENABLE_DEVICE => self.enable_device(),
            CommandCode::DISABLE_DEVICE => self.disable_device(host),
            CommandCode::RESET_DEVICE => Ok(self.reset_device(host)),
            CommandCode::DRAIN_ALL => Ok(self.ask_enabled(QueueAction::Drain)),
            CommandCode::ABORT_ALL => Ok(self.ask_enabled(QueueAction::Abort)),
            CommandCode::ENABLE_WQ => self.enable_queue(operand),
            CommandCode::DISABLE_WQ
            | CommandCode::DRAIN_WQ
            | CommandCode::ABORT_WQ
            | CommandCode::RESET_WQ => self.command_queues(host, code, operand),
            CommandCode::DRAIN_PASID => Ok(self.ask_pasid(operand, PasidAction::Drain)),
            CommandCode::ABORT_PASID => Ok(self.ask_pasid(operand, PasidAction::Abort)),
            CommandCode::REQUEST_INTERRUPT_HANDLE => self.request_handle(operand),
            CommandCode::RELEASE_INTERRUPT_HANDLE => self.release_handle(host, operand),
            _ => Err(CommandError::UNSUPPORTED),
        }
    }

    /// The queues that are in a state.
    fn queues_in(&self, state: State) -> QueueSet {
        let queues = self.queues.iter().enumerate();
        queues
            .filter(|(_, queue)| queue.state == state)
            .filter_map(|(index, _)| QueueIndex::new(index))
            .collect()
    }

    fn set_states(&mut self, queues: QueueSet, state: State) {
        for queue in queues.iter() {
            if let Some(queue) = self.queues.get_mut(queue.index()) {
                queue.state = state;
            }
        }
    }

    /// [DSA 3.0, 5.1 "Device Enable Checks"]: what is read-only is right.
    fn enable_device(&mut self) -> Result<Plan, CommandError> {
        if self.state != DeviceState::Disabled {
            return Err(CommandError::DEVICE_NOT_DISABLED);
        }
        if !self.config.is_bus_master() {
            return Err(CommandError::NO_BUS_MASTER);
        }
        self.state = DeviceState::Enabled;
        Ok(Plan::Done(0))
    }

    fn disable_device(&mut self, host: &mut impl Host) -> Result<Plan, CommandError> {
        if self.state != DeviceState::Enabled {
            return Err(CommandError::DEVICE_NOT_ENABLED);
        }
        let queues = self.queues_in(State::Enabled);
        if queues.is_empty() {
            self.carry_out(host, Then::DisableDevice);
            return Ok(Plan::Done(0));
        }
        self.state = DeviceState::Draining;
        self.set_states(queues, State::Draining);
        let action = QueueAction::Disable;
        Ok(Plan::Ask(
            Request::Queues { queues, action },
            Then::DisableDevice,
        ))
    }

    /// Reset Device. The slots raise nothing any more from now on.
    fn reset_device(&mut self, host: &mut impl Host) -> Plan {
        if self.physical.is_idle() {
            self.carry_out(host, Then::ResetDevice);
            return Plan::Done(0);
        }
        self.state = DeviceState::Draining;
        let queues = self.queues_in(State::Enabled);
        self.set_states(queues, State::Draining);
        self.drop_handles(host);
        let queues = self.physical.queues();
        Plan::Ask(Request::Reset { queues }, Then::ResetDevice)
    }

    fn ask_enabled(&self, action: QueueAction) -> Plan {
        let queues = self.queues_in(State::Enabled);
        if queues.is_empty() {
            return Plan::Done(0);
        }
        Plan::Ask(Request::Queues { queues, action }, Then::Finish)
    }

    /// A PASID that the guest does not have has no descriptors.
    fn ask_pasid(&self, operand: u32, action: PasidAction) -> Plan {
        match self.pasids.host(Pasid::from_bits(operand)) {
            Some(pasid) => Plan::Ask(Request::Pasid { pasid, action }, Then::Finish),
            None => Plan::Done(0),
        }
    }

    /// [DSA 3.0, 5.2 "WQ Enable Checks"]
    fn enable_queue(&mut self, operand: u32) -> Result<Plan, CommandError> {
        let index = usize::try_from(operand).ok().and_then(QueueIndex::new);
        let index = index.ok_or(CommandError::INVALID_WQ)?;
        let queue = self.queues.get_mut(index.index());
        let queue = queue.ok_or(CommandError::INVALID_WQ)?;
        if self.state != DeviceState::Enabled {
            return Err(CommandError::WQ_DEVICE_NOT_ENABLED);
        }
        let pasid = queue.begin_enable(&self.pasids)?;
        Ok(Plan::Ask(
            Request::EnableQueue {
                queue: index,
                pasid,
            },
            Then::EnableQueue(index),
        ))
    }

    /// Disable, Drain, Abort and Reset WQ. All queues are named before anything
    /// happens to one.
    fn command_queues(
        &mut self,
        host: &mut impl Host,
        code: CommandCode,
        operand: u32,
    ) -> Result<Plan, CommandError> {
        let block = operand >> 16 & 0xf;
        let mut named = QueueSet::EMPTY;
        for bit in (0..16).filter(|bit| operand >> bit & 1 != 0) {
            let index = usize::try_from(block * 16 + bit).ok();
            let index = index.filter(|index| *index < self.queues.len());
            let queue = index.and_then(QueueIndex::new);
            named = named.with(queue.ok_or(CommandError::INVALID_WQ)?);
        }
        let enabled = self.queues_in(State::Enabled).and(named);
        if enabled != named && code != CommandCode::RESET_WQ {
            return Err(CommandError::WQ_NOT_ENABLED);
        }
        let (action, then) = match code {
            CommandCode::DISABLE_WQ => (QueueAction::Disable, Then::DisableQueues(named)),
            CommandCode::DRAIN_WQ => (QueueAction::Drain, Then::Finish),
            CommandCode::ABORT_WQ => (QueueAction::Abort, Then::Finish),
            _ => (QueueAction::Reset, Then::ResetQueues(named)),
        };
        if enabled.is_empty() {
            self.carry_out(host, then);
            return Ok(Plan::Done(0));
        }
        if then != Then::Finish {
            self.set_states(enabled, State::Draining);
        }
        let queues = enabled;
        Ok(Plan::Ask(Request::Queues { queues, action }, then))
    }

    /// Request Interrupt Handle. Asked again, the handle is the same.
    fn request_handle(&mut self, operand: u32) -> Result<Plan, CommandError> {
        let vector = msix_index(operand)?;
        if vector == 0 || vector >= self.msix.count() {
            return Err(CommandError::INTERRUPT_INDEX);
        }
        if let Some(handle) = self.handles.of_vector(vector) {
            self.handles_asked_again += 1;
            return Ok(Plan::Done(handle.handle));
        }
        let pasid = self.slot_pasid(vector).or(self.default_pasid(vector));
        let pasid = pasid.ok_or(CommandError::INTERRUPT_INDEX)?;
        Ok(Plan::Ask(
            Request::AllocateHandle { vector, pasid },
            Then::GiveHandle(vector, pasid),
        ))
    }

    /// Release Interrupt Handle. The operand is a handle, as drivers have it, or an
    /// index of the table, as the specification has it.
    fn release_handle(&mut self, host: &mut impl Host, operand: u32) -> Result<Plan, CommandError> {
        let operand = msix_index(operand)?;
        let handle = self.handles.find(operand);
        let handle = handle.or_else(|| self.handles.of_vector(operand));
        let vector = handle.ok_or(CommandError::INTERRUPT_INDEX)?.vector;
        self.handles.remove(vector);
        self.msix.drop_slot(host, vector);
        Ok(Plan::Ask(
            Request::ReleaseHandle { vector },
            Then::TakeHandle,
        ))
    }

    /// The active command's request was answered.
    pub(crate) fn complete_command(&mut self, host: &mut impl Host, answer: Answer) {
        let Some(then) = self.command.active else {
            return;
        };
        // The device halted meanwhile, and stays halted.
        if self.state == DeviceState::Halted {
            self.finish(host, CommandError::HARDWARE, 0);
            return;
        }
        match (then, answer) {
            (Then::GiveHandle(vector, pasid), Answer::Handle(handle)) => {
                self.give_handle(host, vector, handle, pasid);
                self.finish(host, CommandError::NONE, handle);
            }
            (Then::GiveHandle(..), Answer::NoHandle) => {
                self.finish(host, CommandError::NO_INTERRUPT_HANDLE, 0);
            }
            (Then::GiveHandle(..) | Then::Finish, Answer::Failed)
            | (Then::GiveHandle(..), Answer::Done) => {
                self.finish(host, CommandError::HARDWARE, 0);
            }
            (Then::EnableQueue(queue), Answer::Failed | Answer::NoHandle) => {
                self.set_states(QueueSet::EMPTY.with(queue), State::Disabled);
                self.finish(host, CommandError::HARDWARE, 0);
            }
            // What should have stopped may go on.
            (_, Answer::Failed) => {
                self.finish(host, CommandError::HARDWARE, 0);
                self.halt(host, ResetType::FunctionLevel);
            }
            (then, Answer::Done | Answer::Handle(_) | Answer::NoHandle) => {
                self.carry_out(host, then);
                self.finish(host, CommandError::NONE, 0);
            }
        }
    }

    /// The slot has the PASID that was asked for; the guest may have named another one
    /// since.
    fn give_handle(&mut self, host: &mut impl Host, vector: u16, handle: u16, pasid: Pasid) {
        self.handles.set(Handle {
            vector,
            handle,
            pasid: Some(pasid),
        });
        self.msix.add_slot(vector, pasid);
        self.settle_vector(host, vector);
    }

    fn carry_out(&mut self, host: &mut impl Host, then: Then) {
        match then {
            Then::Finish | Then::GiveHandle(..) | Then::TakeHandle => {}
            Then::DisableDevice => {
                for queue in &mut self.queues {
                    queue.state = State::Disabled;
                }
                self.state = DeviceState::Disabled;
            }
            Then::ResetDevice => self.reset_by_command(host),
            Then::EnableQueue(queue) => {
                self.set_states(QueueSet::EMPTY.with(queue), State::Enabled);
            }
            Then::DisableQueues(queues) => self.set_states(queues, State::Disabled),
            Then::ResetQueues(queues) => {
                for queue in queues.iter() {
                    if let Some(queue) = self.queues.get_mut(queue.index()) {
                        queue.reset();
                    }
                }
            }
        }
    }
}

/// Operand bits that a command does not use.
fn reserved_operand_bits(code: CommandCode) -> u32 {
    match code {
        CommandCode::ENABLE_DEVICE
        | CommandCode::DISABLE_DEVICE
        | CommandCode::DRAIN_ALL
        | CommandCode::ABORT_ALL
        | CommandCode::RESET_DEVICE => 0xf_ffff,
        CommandCode::ENABLE_WQ => 0xf_ff00,
        CommandCode::REQUEST_INTERRUPT_HANDLE | CommandCode::RELEASE_INTERRUPT_HANDLE => 0xe_0000,
        _ => 0,
    }
}

/// The low half of an operand that names an entry of the MSI-X table. The other table,
/// the IMS, has no entries.
fn msix_index(operand: u32) -> Result<u16, CommandError> {
    u16::try_from(operand).map_err(|_| CommandError::INTERRUPT_INDEX)
}
