//! PCI configuration space, in memory.

use hwio::Registers;
use hwspec::pci::{
    self, CAPABILITIES_POINTER, CONFIGURATION_SPACE_SIZE, Command, DEVICE_ID, SourceId, VENDOR_ID,
};

use crate::mmio::Window;

/// What a memory BAR says below the address.
const BAR_TYPE: u64 = 0xf;
/// The most capabilities that fit behind the header.
const MAX_CAPABILITIES: usize = 48;
/// The same of the extended ones.
const MAX_EXTENDED_CAPABILITIES: usize = 480;

/// One function's configuration space.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) id: SourceId,
    pub(crate) address: u64,
    pub(crate) registers: Window,
}

impl Function {
    /// The `nth` function on bus 0 of the configuration space at `space` that is one
    /// of `devices` of `vendor`.
    pub(crate) fn find(space: u64, vendor: u16, devices: &[u16], nth: usize) -> Option<Self> {
        (0..=0xff)
            .map(|id| {
                let id = SourceId::from_bits(id);
                let address = space + id.ecam_offset();
                Self {
                    id,
                    address,
                    registers: Window::new(address, CONFIGURATION_SPACE_SIZE as u64),
                }
            })
            .filter(|function| {
                function.registers.read(VENDOR_ID) == vendor
                    && devices.contains(&function.registers.read(DEVICE_ID))
            })
            .nth(nth)
    }

    /// Lets the function answer memory accesses, and make some; or neither.
    pub(crate) fn set_enabled(&mut self, on: bool) {
        let command = Command::new().with_memory_space(on).with_bus_master(on);
        self.registers.write(pci::COMMAND, command);
    }

    /// Whether it does both.
    pub(crate) fn is_enabled(&self) -> bool {
        let command = self.registers.read(pci::COMMAND);
        command.memory_space() && command.bus_master()
    }

    /// Address of the memory behind a 64-bit BAR.
    pub(crate) fn bar_address(&self, index: usize) -> u64 {
        let low = self.registers.read(pci::base_address(index)).into_bits();
        let high = self.registers.read(pci::base_address_high(index));
        (u64::from(high) << 32 | u64::from(low)) & !BAR_TYPE
    }

    /// Address and size of the memory behind a 64-bit BAR. To be called while the
    /// function does not answer memory accesses.
    pub(crate) fn bar(&mut self, index: usize) -> Option<(u64, u64)> {
        let (low, high) = (pci::base_address(index), pci::base_address_high(index));
        let address = self.bar_address(index);
        self.registers.write(low, u32::MAX.into());
        self.registers.write(high, u32::MAX);
        let mask = self.bar_address(index);
        self.set_bar(index, address);
        let size = (!mask).checked_add(1)?;
        (address != 0 && size.is_power_of_two()).then_some((address, size))
    }

    /// Moves the memory behind a 64-bit BAR.
    pub(crate) fn set_bar(&mut self, index: usize, address: u64) {
        let [a, b, c, d, e, f, g, h] = address.to_le_bytes();
        let (low, high) = (pci::base_address(index), pci::base_address_high(index));
        self.registers
            .write(low, u32::from_le_bytes([a, b, c, d]).into());
        self.registers.write(high, u32::from_le_bytes([e, f, g, h]));
    }

    /// Offset of a capability.
    pub(crate) fn capability(&self, id: u8) -> Option<usize> {
        let mut at = self.registers.read(CAPABILITIES_POINTER);
        for _ in 0..MAX_CAPABILITIES {
            let base = usize::from(at & !3);
            if base < pci::CAPABILITIES {
                break;
            }
            let header = self.registers.read(pci::capability(base));
            if header.id() == id {
                return Some(base);
            }
            at = header.next();
        }
        None
    }

    /// Offset of an extended capability.
    pub(crate) fn extended_capability(&self, id: u16) -> Option<usize> {
        let mut base = pci::EXTENDED_CAPABILITIES;
        for _ in 0..MAX_EXTENDED_CAPABILITIES {
            let header = self.registers.read(pci::extended_capability(base));
            if header.id() == id {
                return Some(base);
            }
            base = usize::from(header.next() & !3);
            if base < pci::EXTENDED_CAPABILITIES {
                break;
            }
        }
        None
    }
}
