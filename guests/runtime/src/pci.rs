//! PCI configuration space, in memory.
#![expect(
    unsafe_code,
    reason = "registers at the address of configuration space"
)]

use core::ptr::NonNull;

use hwio::{Mmio, Registers};
use hwspec::pci::{
    self, CAPABILITIES_POINTER, CONFIGURATION_SPACE_SIZE, Command, DEVICE_ID, SourceId, VENDOR_ID,
};

use crate::paging;

/// The most capabilities that fit behind the header.
const MAX_CAPABILITIES: usize = 48;

/// Registers at a physical address.
pub(crate) fn window(base: u64, size: u64) -> Mmio {
    paging::map(base, size);
    let at = NonNull::new(base as *mut u8).expect("no device is at 0");
    // SAFETY: 1. Mapped one to one and uncached, for good: devices are above 3 GiB or
    // were mapped just now. 2. Each driver asks for its own. 3. What the device does to
    // memory is up to who names addresses to it.
    unsafe { Mmio::new(at, usize::try_from(size).expect("64-bit")) }
}

/// One function's configuration space.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) id: SourceId,
    pub(crate) address: u64,
    pub(crate) registers: Mmio,
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
                    registers: window(address, CONFIGURATION_SPACE_SIZE as u64),
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

    /// Address and size of the memory behind a 64-bit BAR. To be called while the
    /// function does not answer memory accesses.
    pub(crate) fn bar(&mut self, index: usize) -> Option<(u64, u64)> {
        const TYPE: u64 = 0xf;
        let (low, high) = (pci::base_address(index), pci::base_address_high(index));
        let original = (self.registers.read(low), self.registers.read(high));
        let value = |low: pci::BaseAddress, high: u32| {
            (u64::from(high) << 32 | u64::from(low.into_bits())) & !TYPE
        };
        let address = value(original.0, original.1);
        self.registers.write(low, u32::MAX.into());
        self.registers.write(high, u32::MAX);
        let mask = value(self.registers.read(low), self.registers.read(high));
        self.registers.write(low, original.0);
        self.registers.write(high, original.1);
        let size = (!mask).checked_add(1)?;
        (address != 0 && size.is_power_of_two()).then_some((address, size))
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
}
