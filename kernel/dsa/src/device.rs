//! One device, and how it is taken over, configured and recovered.

mod commands;
mod configuration;

use core::fmt;
use core::time::Duration;

use hwio::{Clock, Registers};
use hwspec::dsa::{
    CommandCode, CommandError, DeviceState, INTCAUSE, IntCause, ResetType, SWERROR_0, SWERROR_1,
    SWERROR_2, SwError0, WqState, WqStatus,
};

use crate::control::Control;
use crate::{Capabilities, Command, Error, Plan, QueuePasid, RegisterName, SoftwareError};
use configuration::{Configuration, Queue};

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
        Ok(self.queue_status(queue)?.state())
    }

    fn queue_status(&self, queue: u8) -> Result<WqStatus, Error> {
        self.planned(queue)?;
        let status = self.control.registers.read(self.wqcfg(queue).status());
        if status.into_bits() == !0 {
            let register = RegisterName::WqCfg;
            return Err(Error::DeviceGone { register });
        }
        Ok(status)
    }

    /// How many descriptors wait in a queue of the plan. Of use only where WQCAP has
    /// Occupancy Support.
    ///
    /// # Errors
    /// As [`queue_state`](Self::queue_state).
    pub fn queue_occupancy(&self, queue: u8) -> Result<u16, Error> {
        Ok(self.queue_status(queue)?.occupancy())
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
mod tests;
