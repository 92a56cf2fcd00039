//! Telling the unit something, and waiting until it is done.

use core::time::Duration;

use hwio::{Clock, Registers};
use hwspec::vtd::{GCMD, GSTS, Gcmd, Gsts};

use crate::Error;
use crate::error::RegisterName;

/// A unit's registers, and the patience to wait for them.
#[derive(Debug)]
pub(crate) struct Control<R, C> {
    pub(crate) registers: R,
    pub(crate) clock: C,
    pub(crate) timeout: Duration,
}

impl<R: Registers, C: Clock> Control<R, C> {
    /// GSTS_REG.
    pub(crate) fn read_status(&self) -> Result<Gsts, Error> {
        let status = self.registers.read(GSTS);
        if status.into_bits() == !0 {
            let register = RegisterName::Gsts;
            return Err(Error::DeviceGone { register });
        }
        Ok(status)
    }

    /// Gives the command that `change` adds to the present state, and waits until
    /// `is_done`. [VT-d 5.10, 11.4.4.1 "Global Command Register"]
    pub(crate) fn write_command(
        &mut self,
        change: impl FnOnce(Gcmd) -> Gcmd,
        is_done: impl Fn(Gsts) -> bool,
    ) -> Result<(), Error> {
        let status = self.read_status()?;
        // All but the one-shot bits, which are not commands to be repeated.
        let state = Gcmd::new()
            .with_te(status.tes())
            .with_qie(status.qies())
            .with_ire(status.ires())
            .with_cfi(status.cfis());
        self.registers.write(GCMD, change(state));
        self.wait_until(
            RegisterName::Gsts,
            |registers| registers.read(GSTS).into_bits(),
            !0_u32,
            |status| is_done(Gsts::from_bits(status)),
        )
    }

    /// Reads a register until `is_done`; `gone` is what it reads as if there is no
    /// unit.
    pub(crate) fn wait_until<B: Copy + Eq + Into<u64>>(
        &self,
        register: RegisterName,
        read: impl Fn(&R) -> B,
        gone: B,
        is_done: impl Fn(B) -> bool,
    ) -> Result<(), Error> {
        let mut last = gone;
        let outcome = self.clock.wait_for(self.timeout, || {
            last = read(&self.registers);
            if last == gone {
                Some(Err(Error::DeviceGone { register }))
            } else {
                is_done(last).then_some(Ok(()))
            }
        });
        outcome.unwrap_or(Err(Error::Timeout {
            register,
            value: last.into(),
        }))
    }
}
