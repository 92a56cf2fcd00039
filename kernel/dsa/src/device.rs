//! One device, and how it is taken over, configured and recovered.

use core::fmt;
use core::time::Duration;

use alloc::vec::Vec;

use hwio::{Clock, Registers};
use hwspec::dsa::{
    CommandCode, CommandError, DeviceState, GENCFG, GENCTRL, GenCtrl, GroupConfig, INTCAUSE,
    IntCause, OccupancyInterrupt, OccupancyLimit, ResetType, SWERROR_0, SWERROR_1, SWERROR_2,
    SwError0, WqConfig, WqLimits, WqMode, WqSize, WqState, WqThreshold,
};

use crate::control::Control;
use crate::ims::ImsIndex;
use crate::{
    Capabilities, Command, Error, InterruptHandle, Outcome, Plan, Poll, QueueMode, QueuePasid,
    QueuePlan, RegisterName, SoftwareError,
};

/// Causes of interrupts that are defined; the other bits of INTCAUSE are reserved.
const CAUSES: IntCause = IntCause::new()
    .with_software_error(true)
    .with_command_completion(true)
    .with_occupancy_below_limit(true)
    .with_perfmon_overflow(true)
    .with_halt_state(true)
    .with_event_log(true)
    .with_handles_revoked(true);

/// In which state a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It can be configured.
    Disabled,
    /// Queues can be enabled.
    Enabled,
    /// It is being disabled or reset.
    Draining,
    /// It stopped, and needs this reset or a stronger one.
    Halted(ResetType),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Draining => "draining",
            Self::Halted(_) => "halted",
        })
    }
}

/// A command that was started.
#[derive(Clone, Copy, Debug)]
struct ActiveCommand {
    command: Command,
    deadline: Duration,
}

/// A queue of the plan.
#[derive(Clone, Copy, Debug)]
struct Queue {
    plan: QueuePlan,
    /// How it was enabled, if it is.
    enabled: Option<QueuePasid>,
}

/// What the device was configured to.
#[derive(Debug)]
struct Configuration {
    plan: Plan,
    queues: Vec<Queue>,
}

/// One device.
pub struct Device<R, C> {
    control: Control<R, C>,
    capabilities: Capabilities,
    configuration: Option<Configuration>,
    active: Option<ActiveCommand>,
}

impl<R: Registers, C: Clock> Device<R, C> {
    /// Takes a device over, whatever used it before: ends all that it does and resets it.
    /// `registers` is BAR0 from its beginning, and may end where
    /// [`Capabilities::ims_range`] begins; nothing in that range is touched. `timeout` is
    /// how long any command may take.
    ///
    /// # Errors
    /// If the device lacks something, does not do what it is told, or needs a reset that
    /// is not a command.
    pub fn take_over(registers: R, clock: C, timeout: Duration) -> Result<Self, Error> {
        let capabilities = Capabilities::read(&registers)?;
        capabilities.check(registers.len_bytes())?;
        let mut device = Self {
            control: Control {
                registers,
                clock,
                timeout,
            },
            capabilities,
            configuration: None,
            active: None,
        };
        device
            .control
            .wait_until_idle(|status| Error::StaleCommand { status })?;
        device.reset()?;
        // The reset leaves what was recorded before.
        device.take_software_error()?;
        Ok(device)
    }

    /// What the device has.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// In which state the device is.
    ///
    /// # Errors
    /// If there is no device any more.
    pub fn state(&self) -> Result<State, Error> {
        let status = self.control.read_status()?;
        Ok(match status.state() {
            DeviceState::Disabled => State::Disabled,
            DeviceState::Enabled => State::Enabled,
            DeviceState::Draining => State::Draining,
            DeviceState::Halted => State::Halted(status.reset_type()),
        })
    }

    /// In which state a queue of the plan is.
    ///
    /// # Errors
    /// If it is not planned, or there is no device any more.
    pub fn queue_state(&self, queue: u8) -> Result<WqState, Error> {
        self.planned(queue)?;
        let status = self.control.registers.read(self.wqcfg(queue).status());
        if status.into_bits() == !0 {
            let register = RegisterName::WqCfg;
            return Err(Error::DeviceGone { register });
        }
        Ok(status.state())
    }

    /// How a queue is enabled, if it is.
    pub fn queue_pasid(&self, queue: u8) -> Option<QueuePasid> {
        self.planned(queue).ok()?.enabled
    }

    /// Divides the device as `plan` says and enables it. Its queues stay disabled.
    ///
    /// Unprivileged queues may ask for interrupts from then on, and the device interrupts
    /// by MSI-X entry 0 for software errors and when it halts.
    ///
    /// # Errors
    /// If the plan does not fit the device, the device is not disabled, or refuses; then
    /// it stays disabled.
    pub fn configure(&mut self, plan: &Plan) -> Result<(), Error> {
        plan.check(&self.capabilities)?;
        self.need_state(State::Disabled)?;
        self.need_idle()?;
        self.configuration = Some(Configuration {
            plan: plan.clone(),
            queues: plan
                .queues
                .iter()
                .map(|&plan| Queue {
                    plan,
                    enabled: None,
                })
                .collect(),
        });
        self.write_configuration()
    }

    /// Takes back what [`configure`](Self::configure) did, and abandons all work: the
    /// device is disabled, and every interrupt slot is as after power-up.
    ///
    /// # Errors
    /// If the device needs another reset, a command does not end, or the device refuses.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.write_reset()?;
        self.configuration = None;
        Ok(())
    }

    /// Brings a halted device back, or one that was reset from outside: resets it,
    /// configures it as it was and enables the queues that were enabled. All work that was
    /// in it is lost, and the outcome of a command that was not polled to its end.
    ///
    /// Interrupt slots are wiped, and descriptors that name one fail until its owner has
    /// [restored](crate::ims::Slot::restore) it. So that none does, do instead what this
    /// does in two steps, [`restart`](Self::restart) and [`resume`](Self::resume), with
    /// the slots between them.
    ///
    /// # Errors
    /// Which reset is needed, if it is not a command; otherwise as those two.
    pub fn recover(&mut self) -> Result<(), Error> {
        self.restart()?;
        self.resume()
    }

    /// The first half of [`recover`](Self::recover): up to where queues can be enabled.
    ///
    /// # Errors
    /// If the device was never configured, needs another reset, a command does not end, or
    /// the device refuses.
    pub fn restart(&mut self) -> Result<(), Error> {
        if self.configuration.is_none() {
            return Err(Error::NoPlan);
        }
        self.write_reset()?;
        self.write_configuration()
    }

    /// The second half of [`recover`](Self::recover): enables the queues that were enabled
    /// before [`restart`](Self::restart).
    ///
    /// # Errors
    /// If the device refuses.
    pub fn resume(&mut self) -> Result<(), Error> {
        let count = self.configuration()?.queues.len();
        for place in 0..count {
            let queue = self.configuration()?.queues.get(place).copied();
            if let Some(Queue {
                plan,
                enabled: Some(pasid),
            }) = queue
            {
                self.enable_queue(plan.index, pasid)?;
            }
        }
        Ok(())
    }

    /// Enables a queue, and waits for it.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn enable_queue(&mut self, queue: u8, pasid: QueuePasid) -> Result<(), Error> {
        self.execute(Command::EnableQueue { queue, pasid })?;
        Ok(())
    }

    /// Waits until a queue's descriptors are done, and disables it.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn disable_queue(&mut self, queue: u8) -> Result<(), Error> {
        self.execute(Command::DisableQueue(queue))?;
        Ok(())
    }

    /// What a descriptor says to have the interrupt of an IMS entry. Asks the device for
    /// it, if it has handles, and waits; otherwise that is the index.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn request_handle(&mut self, index: ImsIndex) -> Result<InterruptHandle, Error> {
        if !self.capabilities.has_handle_commands() {
            return Ok(InterruptHandle(index.0));
        }
        self.execute(Command::RequestHandle(index))
            .map(InterruptHandle)
    }

    /// Starts a command. [`poll`](Self::poll) says when it is done.
    ///
    /// # Errors
    /// If another one is active, the device does not know it, or it is about a queue that
    /// is not in the plan, or that is to be enabled and not disabled.
    pub fn start(&mut self, command: Command) -> Result<(), Error> {
        self.start_as(command, false)
    }

    /// Starts a command; when it is done, the device interrupts by MSI-X entry 0, with
    /// [`IntCause::command_completion`].
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with_interrupt(&mut self, command: Command) -> Result<(), Error> {
        self.start_as(command, true)
    }

    fn start_as(&mut self, command: Command, request_interrupt: bool) -> Result<(), Error> {
        self.need_idle()?;
        let code = command.code();
        if !self.capabilities.has_command(code) {
            return Err(Error::UnsupportedCommand { command: code });
        }
        if let Some(queue) = command.queue() {
            self.planned(queue)?;
        }
        if let Command::EnableQueue { queue, pasid } = command {
            self.write_queue(queue, pasid)?;
        }
        let register = command.register().with_request_interrupt(request_interrupt);
        self.control.write_command(register);
        let deadline = self.control.clock.now() + self.control.timeout;
        self.active = Some(ActiveCommand { command, deadline });
        Ok(())
    }

    /// Asks what became of the command that was started. Waits for nothing.
    ///
    /// # Errors
    /// If there is no device any more; or if the command takes too long, in which case it
    /// is still active and can still be polled.
    pub fn poll(&mut self) -> Result<Poll, Error> {
        let Some(ActiveCommand { command, deadline }) = self.active else {
            return Ok(Poll::Idle);
        };
        // Before the status, so that it does not matter how long this CPU is away in
        // between.
        let is_late = self.control.clock.now() >= deadline;
        let status = self.control.read_command_status()?;
        if status.active() {
            let command = command.code();
            return if is_late {
                Err(Error::Timeout { command, status })
            } else {
                Ok(Poll::Active)
            };
        }
        self.active = None;
        let outcome = Outcome {
            command,
            error: status.error(),
            result: status.result(),
        };
        self.note(outcome);
        Ok(Poll::Done(outcome))
    }

    /// Starts a command and waits for it. Returns its result.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`poll`](Self::poll), and if the device refuses.
    pub fn execute(&mut self, command: Command) -> Result<u16, Error> {
        self.start(command)?;
        loop {
            match self.poll()? {
                Poll::Active => self.control.clock.relax(),
                Poll::Done(Outcome {
                    error: CommandError::NONE,
                    result,
                    ..
                }) => {
                    return Ok(result);
                }
                Poll::Done(outcome) => return Err(Error::of_command(command, outcome.error)),
                Poll::Idle => unreachable!("the command was just started"),
            }
        }
    }

    /// Why MSI-X entry 0 was used; what is returned is acknowledged.
    ///
    /// # Errors
    /// If there is no device any more.
    pub fn take_causes(&mut self) -> Result<IntCause, Error> {
        let causes = self.control.registers.read(INTCAUSE);
        if causes.into_bits() == !0 {
            let register = RegisterName::IntCause;
            return Err(Error::DeviceGone { register });
        }
        let causes = IntCause::from_bits(causes.into_bits() & CAUSES.into_bits());
        if causes.into_bits() != 0 {
            self.control.registers.acknowledge(INTCAUSE, causes);
        }
        Ok(causes)
    }

    /// The error that is recorded, if there is one; it is cleared, so that the next one
    /// can be.
    ///
    /// # Errors
    /// If there is no device any more.
    pub fn take_software_error(&mut self) -> Result<Option<SoftwareError>, Error> {
        let registers = &mut self.control.registers;
        let word0 = registers.read(SWERROR_0);
        if word0.into_bits() == !0 {
            let register = RegisterName::SwError;
            return Err(Error::DeviceGone { register });
        }
        // While it is valid, nothing but Overflow changes.
        let word1 = registers.read(SWERROR_1);
        let address = registers.read(SWERROR_2);
        let error = SoftwareError::from_registers(word0, word1, address);
        if error.is_some() {
            let handled = SwError0::new()
                .with_valid(true)
                .with_overflow(word0.overflow());
            registers.acknowledge(SWERROR_0, handled);
        }
        Ok(error)
    }

    /// Notes what a command changed.
    fn note(&mut self, outcome: Outcome) {
        let enabled = match outcome.command {
            Command::EnableQueue { pasid, .. } => Some(pasid),
            Command::DisableQueue(_) | Command::ResetQueue(_) => None,
            _ => return,
        };
        let queue = outcome.command.queue();
        let queues = self.configuration.iter_mut().flat_map(|it| &mut it.queues);
        for entry in queues.filter(|entry| Some(entry.plan.index) == queue) {
            if outcome.error == CommandError::NONE {
                entry.enabled = enabled;
            }
        }
    }

    fn configuration(&self) -> Result<&Configuration, Error> {
        self.configuration.as_ref().ok_or(Error::NoPlan)
    }

    fn planned(&self, queue: u8) -> Result<&Queue, Error> {
        let mut queues = self.configuration()?.queues.iter();
        queues
            .find(|entry| entry.plan.index == queue)
            .ok_or(Error::QueueNotPlanned { queue })
    }

    fn need_state(&self, needed: State) -> Result<(), Error> {
        let state = self.state()?;
        if state == needed {
            Ok(())
        } else {
            Err(Error::WrongState { state, needed })
        }
    }

    /// That no command is active that was started and not polled to its end.
    fn need_idle(&self) -> Result<(), Error> {
        match self.active {
            Some(ActiveCommand { command, .. }) => {
                let active = command.code();
                Err(Error::CommandActive { active })
            }
            None => Ok(()),
        }
    }

    /// Gives the Reset Device command.
    fn write_reset(&mut self) -> Result<(), Error> {
        if let State::Halted(reset) = self.state()?
            && reset != ResetType::ResetDevice
        {
            return Err(Error::ResetRequired(reset));
        }
        // What was active may have ended with the halt, or with a reset from outside.
        let active = self
            .active
            .map_or(CommandCode::RESET_DEVICE, |it| it.command.code());
        self.control
            .wait_until_idle(|_| Error::CommandActive { active })?;
        self.active = None;
        self.execute_on_device(CommandCode::RESET_DEVICE)?;
        self.need_state(State::Disabled)
    }

    fn execute_on_device(&mut self, command: CommandCode) -> Result<(), Error> {
        match self.control.execute(command)?.error() {
            CommandError::NONE => Ok(()),
            error => Err(Error::CommandFailed {
                command,
                queue: None,
                error,
            }),
        }
    }

    /// Writes what was planned and enables the device.
    fn write_configuration(&mut self) -> Result<(), Error> {
        let Configuration { plan, queues } = self.configuration.as_ref().ok_or(Error::NoPlan)?;
        let registers = &mut self.control.registers;
        let grpcfg = self.capabilities.offsets.grpcfg_offset();
        for group in 0..self.capabilities.count_groups() {
            let table = GroupConfig::at(grpcfg, group.into());
            let members = queues.iter().filter(|queue| queue.plan.group == group);
            let mut words = [0_u64; 4];
            for queue in members {
                if let Some(word) = words.get_mut(usize::from(queue.plan.index / 64)) {
                    *word |= 1 << (queue.plan.index % 64);
                }
            }
            for (word, bits) in words.into_iter().enumerate() {
                registers.write(table.wqs(word), bits);
            }
            let planned = plan
                .groups
                .get(usize::from(group))
                .copied()
                .unwrap_or_default();
            registers.write(table.engines(), planned.engines);
            // The rest are read buffers, of which every group may use all.
            registers.modify(table.flags(), |flags| {
                flags
                    .with_tc_a(planned.traffic_class)
                    .with_tc_b(planned.traffic_class)
            });
        }
        for index in 0..self.capabilities.count_queues() {
            let planned = queues.iter().find(|queue| queue.plan.index == index);
            let size = planned.map_or(0, |queue| queue.plan.shape.size);
            let table = wqcfg(&self.capabilities, index);
            registers.write(table.size(), WqSize::new().with_size(size));
        }

        // Without it, Request Completion Interrupt is a reserved flag of an unprivileged
        // queue. [DSA 3.0, 8.1.3 "Flags", Table 8-3; 9.2.8]
        registers.modify(GENCFG, |gencfg| gencfg.with_user_interrupts(true));
        let gencfg = registers.read(GENCFG);
        if !gencfg.user_interrupts() {
            let gencfg = gencfg.into_bits();
            return Err(Error::NoUserInterrupts { gencfg });
        }
        let interrupts = GenCtrl::new()
            .with_software_error(true)
            .with_halt_state(true);
        registers.write(GENCTRL, interrupts);
        self.execute_on_device(CommandCode::ENABLE_DEVICE)?;
        self.need_state(State::Enabled)
    }

    /// Writes all of a disabled queue's configuration but its size.
    fn write_queue(&mut self, queue: u8, pasid: QueuePasid) -> Result<(), Error> {
        let shape = self.planned(queue)?.plan.shape;
        let state = self.queue_state(queue)?;
        if state != WqState::DISABLED {
            return Err(Error::QueueNotDisabled { queue, state });
        }
        let mode = WqMode::new()
            .with_priority(shape.priority)
            .with_pasid_enable(true);
        let mode = match shape.mode {
            QueueMode::Dedicated => mode
                .with_dedicated(true)
                .with_pasid(pasid.pasid.value())
                .with_privileged(pasid.privileged),
            QueueMode::Shared => mode,
        };
        let limits = WqLimits::new()
            .with_max_transfer_size(shape.max_transfer_log2)
            .with_max_batch_size(shape.max_batch_log2);
        let threshold = WqThreshold::new().with_threshold(shape.threshold);
        let table = self.wqcfg(queue);
        let registers = &mut self.control.registers;
        registers.write(table.threshold(), threshold);
        registers.write(table.mode(), mode);
        registers.write(table.limits(), limits);
        // No interrupts about occupancy.
        registers.write(table.occupancy_interrupt(), OccupancyInterrupt::new());
        registers.write(table.occupancy_limit(), OccupancyLimit::new());
        Ok(())
    }

    fn wqcfg(&self, queue: u8) -> WqConfig {
        wqcfg(&self.capabilities, queue)
    }
}

fn wqcfg(capabilities: &Capabilities, queue: u8) -> WqConfig {
    let table = capabilities.offsets.wqcfg_offset();
    WqConfig::at(table, capabilities.wqcap.wqcfg_bytes(), queue.into())
}

impl<R, C> fmt::Debug for Device<R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("capabilities", &self.capabilities)
            .field("configuration", &self.configuration)
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
