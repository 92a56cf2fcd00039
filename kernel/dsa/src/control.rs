//! The command interface: one command at a time, and waits that end.

use core::time::Duration;

use hwio::{Clock, Registers};
use hwspec::dsa::{CMD, CMDSTATUS, Cmd, CmdStatus, CommandCode, GENSTS, GenSts};

use crate::{Error, RegisterName};

/// A device's registers, and the patience to wait for them.
#[derive(Debug)]
pub(crate) struct Control<R, C> {
    pub(crate) registers: R,
    pub(crate) clock: C,
    pub(crate) timeout: Duration,
}

impl<R: Registers, C: Clock> Control<R, C> {
    /// GENSTS.
    pub(crate) fn read_status(&self) -> Result<GenSts, Error> {
        let status = self.registers.read(GENSTS);
        if status.into_bits() == !0 {
            let register = RegisterName::GenSts;
            return Err(Error::DeviceGone { register });
        }
        Ok(status)
    }

    /// CMDSTATUS.
    pub(crate) fn read_command_status(&self) -> Result<CmdStatus, Error> {
        let status = self.registers.read(CMDSTATUS);
        if status.into_bits() == !0 {
            let register = RegisterName::CmdStatus;
            return Err(Error::DeviceGone { register });
        }
        Ok(status)
    }

    /// Gives a command. None may be active.
    pub(crate) fn write_command(&mut self, command: Cmd) {
        self.registers.write(CMD, command);
    }

    /// Waits until no command is active. Returns how the last one ended.
    pub(crate) fn wait_until_idle(
        &self,
        otherwise: impl FnOnce(CmdStatus) -> Error,
    ) -> Result<CmdStatus, Error> {
        let mut last = CmdStatus::new();
        let outcome = self
            .clock
            .wait_for(self.timeout, || match self.read_command_status() {
                Ok(status) => {
                    last = status;
                    (!status.active()).then_some(Ok(status))
                }
                Err(error) => Some(Err(error)),
            });
        outcome.unwrap_or_else(|| Err(otherwise(last)))
    }

    /// Gives a command that has no operand, and waits for it. None may be active.
    pub(crate) fn execute(&mut self, command: CommandCode) -> Result<CmdStatus, Error> {
        self.write_command(Cmd::new().with_code(command));
        self.wait_until_idle(|status| Error::Timeout { command, status })
    }
}
