//! Commands, and what the device says besides.

use core::time::Duration;

use hwio::Registers;
use hwspec::dsa::{
    CMD, CMDCAP, CMDSTATUS, Cmd, CommandCode, CommandError, GENCAP, INTCAUSE, IntCause, SWERROR_0,
    SwError0,
};

use super::{Device, Error, VECTOR_BASE};
use crate::{clock, interrupts};

/// How long a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);

impl Device {
    /// What descriptors name entry `vector` of the MSI-X table by: its number, unless
    /// the device hands out handles.
    ///
    /// # Errors
    /// The device's own.
    pub fn request_handle(&mut self, vector: u16) -> Result<u16, Error> {
        const REQUEST: CommandCode = CommandCode::REQUEST_INTERRUPT_HANDLE;
        let has_handles = self.registers.read(GENCAP).command_capabilities()
            && self.registers.read(CMDCAP) & 1 << REQUEST.0 != 0;
        if has_handles {
            self.execute(REQUEST, Cmd::msix_operand(vector))
        } else {
            Ok(vector)
        }
    }

    /// Lets the device execute a command, and returns its result.
    ///
    /// # Errors
    /// The device's own, or that it does not finish.
    pub fn execute(&mut self, code: CommandCode, operand: u32) -> Result<u16, Error> {
        let command = Cmd::new().with_code(code).with_operand(operand);
        self.registers.write(CMD, command);
        let registers = &self.registers;
        if !clock::spin_until(COMMAND_LIMIT, || !registers.read(CMDSTATUS).active()) {
            return Err(Error::Stuck(code));
        }
        self.outcome(code, operand)
    }

    /// The same, waiting for the interrupt of vector 0.
    ///
    /// # Errors
    /// The device's own, or that the interrupt does not come.
    pub fn execute_with_interrupt(
        &mut self,
        code: CommandCode,
        operand: u32,
    ) -> Result<u16, Error> {
        let before = interrupts::count(VECTOR_BASE);
        let command = Cmd::new().with_code(code).with_operand(operand);
        self.registers
            .write(CMD, command.with_request_interrupt(true));
        let came =
            interrupts::wait_until(COMMAND_LIMIT, || interrupts::count(VECTOR_BASE) != before);
        let causes = self.take_causes();
        if !came || !causes.command_completion() {
            return Err(Error::Stuck(code));
        }
        self.outcome(code, operand)
    }

    fn outcome(&self, code: CommandCode, operand: u32) -> Result<u16, Error> {
        let status = self.registers.read(CMDSTATUS);
        match status.error() {
            CommandError::NONE => Ok(status.result()),
            error => Err(Error::Command(code, operand, error)),
        }
    }

    /// INTCAUSE, which this clears.
    pub fn take_causes(&mut self) -> IntCause {
        let causes = self.registers.read(INTCAUSE);
        self.registers.acknowledge(INTCAUSE, causes);
        causes
    }

    /// SWERROR, if there is an error in it; this clears it.
    pub fn take_error(&mut self) -> Option<SwError0> {
        let error = self.registers.read(SWERROR_0);
        if !error.valid() {
            return None;
        }
        let clear = SwError0::new().with_valid(true).with_overflow(true);
        self.registers.acknowledge(SWERROR_0, clear);
        Some(error)
    }
}
