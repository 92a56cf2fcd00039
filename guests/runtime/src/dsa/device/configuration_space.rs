//! What is done to the device by way of its configuration space.

use core::time::Duration;

use hwio::Registers;
use hwspec::dsa::{DeviceState, GENSTS};
use hwspec::pci::{CAPABILITY_PCIE, DeviceControl, PcieCapability};

use super::{Device, Error};
use crate::clock;

/// How long a function level reset may take.
/// [PCIe 5.0, 6.6.2 "Function Level Reset (FLR)"]
const FLR_TIME: Duration = Duration::from_millis(100);

impl Device {
    /// Makes the function answer again where it was found, whatever was done to its
    /// configuration space, and resets it if it has halted.
    ///
    /// # Errors
    /// If it does not come out of a function level reset.
    pub fn revive(&mut self) -> Result<(), Error> {
        self.restore_configuration();
        if self.registers.read(GENSTS).state() != DeviceState::Halted {
            return Ok(());
        }
        let base = self.function.capability(CAPABILITY_PCIE);
        let capability = PcieCapability {
            base: base.ok_or(Error::Table("PCIe capability"))?,
        };
        let control = DeviceControl::new().with_initiate_flr(true);
        self.function
            .registers
            .write(capability.device_control(), control);
        clock::spin_until(FLR_TIME, || false);
        self.restore_configuration();
        match self.registers.read(GENSTS).state() {
            DeviceState::Halted => Err(Error::Halted),
            _ => Ok(()),
        }
    }

    /// Address and enables. What is right already is not written: a device that works
    /// does not bear changes.
    fn restore_configuration(&mut self) {
        for (index, (address, _)) in [(0, self.bar0), (2, self.bar2)] {
            if self.function.bar_address(index) != address {
                self.function.set_bar(index, address);
            }
        }
        if !self.function.is_enabled() {
            self.function.set_enabled(true);
        }
    }

    /// Moves BAR0 or BAR2, but for the driver's own idea of where they are.
    pub fn move_bar(&mut self, index: usize, address: u64) {
        self.function.set_bar(index, address);
    }
}
