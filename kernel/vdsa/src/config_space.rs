//! PCI configuration space: a root complex integrated endpoint with two BARs, MSI-X
//! and a function-level reset. No PASID, ATS or page requests: the guest does without,
//! the physical function has them. [DSA 3.0, appendix C "PCI Configuration Registers";
//! 7.5 "Virtualization" for what a virtual device may leave out]
//!
//! | offset | what |
//! |---|---|
//! | 0x00 | type 0 header, device 8086:0b25 |
//! | 0x40 | MSI-X, table and pending bits in BAR0 |
//! | 0x50 | PCI Express, the last capability |
//! | 0x100 | 0: no extended capabilities |

use hwspec::pci::{
    BaseAddress, CAPABILITY_MSIX, CAPABILITY_PCIE, CapabilityHeader, Command, DeviceControl,
    MsixControl, MsixLocation, PcieCapabilities, VENDOR_ID_INTEL,
};

use crate::access::{Access, WordWrite, high_half, low_half};
use crate::registers::{MSIX_TABLE, PENDING_BITS, REGISTERS_SIZE};

/// Bytes of configuration space.
const SIZE: u32 = 4096;

/// Sapphire Rapids' and Emerald Rapids'; every driver knows it.
const DEVICE_ID: u32 = 0x0b25;
/// What Intel's virtual accelerators say.
const SUBSYSTEM_ID: u32 = 0x2010;

const MSIX: u32 = 0x40;
const PCIE: u32 = 0x50;

/// Device Control after reset. [DSA 3.0, appendix C "Device Control Register"]
const DEVICE_CONTROL_RESET: u16 = 0x2910;

/// What the guest can change.
#[derive(Debug)]
pub(crate) struct ConfigSpace {
    /// BAR0 and BAR2.
    bars: [Bar; 2],
    /// How many MSI-X vectors there are.
    vectors: u16,
    command: Command,
    cache_line: u8,
    interrupt_line: u8,
    msix: MsixControl,
    device_control: DeviceControl,
    device_control_2: u16,
}

/// A BAR of 64 bits.
#[derive(Clone, Copy, Debug)]
struct Bar {
    address: u64,
    /// A power of two.
    size: u64,
    initial: u64,
}

impl Bar {
    fn word(self, half: u32) -> u32 {
        /// 64 bits wide, prefetchable.
        const KIND: BaseAddress = BaseAddress::new()
            .with_memory_type(BaseAddress::MEMORY_64)
            .with_prefetchable(true);
        match half {
            0 => low_half(self.address) | KIND.into_bits(),
            _ => high_half(self.address),
        }
    }

    /// Takes the bits of an address that is a multiple of the size; so all ones read
    /// back as the complement of the size less one.
    /// [PCIe 5.0, 7.5.1.2.1 "Base Address Registers"]
    fn write(&mut self, half: u32, write: WordWrite) {
        let mask = !(self.size - 1);
        let (low, high) = (low_half(self.address), high_half(self.address));
        let (low, high) = match half {
            0 => (write.onto(low, low_half(mask)), high),
            _ => (low, write.onto(high, high_half(mask))),
        };
        self.address = u64::from(high) << 32 | u64::from(low);
    }
}

/// What a write to configuration space did that others have to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Bus Master Enable went from 1 to 0.
    pub(crate) bus_master_lost: bool,
    /// MSI-X Enable or Function Mask may be different.
    pub(crate) msix_changed: bool,
    /// A function-level reset was asked for.
    pub(crate) function_level_reset: bool,
    /// Something was written that cannot be: it was dropped.
    pub(crate) dropped: bool,
}

impl ConfigSpace {
    /// Configuration space after reset, with BAR0 and BAR2 at `bars` and room for the
    /// portals of `queues` queues.
    pub(crate) fn new(queues: usize, bars: [u64; 2]) -> Self {
        let [bar0, bar2] = bars;
        let bar = |address, size| Bar {
            address,
            size,
            initial: address,
        };
        let mut space = Self {
            bars: [
                bar(bar0, REGISTERS_SIZE.into()),
                bar(bar2, portals_size(queues)),
            ],
            vectors: u16::try_from(queues + 1).unwrap_or(u16::MAX),
            command: Command::new(),
            cache_line: 0,
            interrupt_line: 0,
            msix: MsixControl::new(),
            device_control: DeviceControl::new(),
            device_control_2: 0,
        };
        space.reset();
        space
    }

    /// Everything is as after power-up.
    pub(crate) fn reset(&mut self) {
        for bar in &mut self.bars {
            bar.address = bar.initial;
        }
        self.command = Command::new();
        self.cache_line = 0;
        self.interrupt_line = 0;
        self.msix = MsixControl::new().with_table_size(self.vectors - 1);
        self.device_control = DeviceControl::from_bits(DEVICE_CONTROL_RESET);
        self.device_control_2 = 0;
    }

    /// Bus Master Enable.
    pub(crate) fn is_bus_master(&self) -> bool {
        self.command.bus_master()
    }

    /// MSI-X Enable and Function Mask.
    pub(crate) fn msix_control(&self) -> (bool, bool) {
        (self.msix.enable(), self.msix.function_mask())
    }

    /// Where BAR `index` is, 0 or 2, if it is decoded.
    pub(crate) fn bar(&self, index: usize) -> Option<u64> {
        let bar = self.find_bar(index)?;
        self.command.memory_space().then_some(bar.address)
    }

    /// Bytes of BAR `index`, 0 or 2; 0 of any other.
    pub(crate) fn bar_size(&self, index: usize) -> u64 {
        self.find_bar(index).map_or(0, |bar| bar.size)
    }

    fn find_bar(&self, index: usize) -> Option<&Bar> {
        let [bar0, bar2] = &self.bars;
        match index {
            0 => Some(bar0),
            2 => Some(bar2),
            _ => None,
        }
    }

    /// Reads 1, 2 or 4 bytes. Anything else reads as all ones.
    pub(crate) fn read(&self, offset: u16, width: u8) -> u32 {
        match access(offset, width) {
            Some(access) => low_half(access.read(|offset| self.word(offset))),
            None => u32::MAX,
        }
    }

    fn word(&self, offset: u32) -> u32 {
        let halves = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        let [bar0, bar2] = self.bars;
        match offset {
            0x00 => u32::from(VENDOR_ID_INTEL) | DEVICE_ID << 16,
            // Status: there is a capability list.
            0x04 => halves(self.command.into_bits(), 0x0010),
            // "Other system peripheral", revision 0.
            0x08 => 0x0880_0000,
            0x0c => self.cache_line.into(),
            0x10 | 0x14 => bar0.word(offset & 4),
            0x18 | 0x1c => bar2.word(offset & 4),
            0x2c => u32::from(VENDOR_ID_INTEL) | SUBSYSTEM_ID << 16,
            0x34 => MSIX,
            0x3c => self.interrupt_line.into(),
            MSIX => halves(capability(CAPABILITY_MSIX, PCIE), self.msix.into_bits()),
            0x44 => location(MSIX_TABLE),
            0x48 => location(PENDING_BITS),
            PCIE => {
                let capabilities = PcieCapabilities::new()
                    .with_version(2)
                    .with_port_type(PcieCapabilities::ROOT_COMPLEX_INTEGRATED);
                halves(capability(CAPABILITY_PCIE, 0), capabilities.into_bits())
            }
            // Device Capabilities: function-level reset, extended tags, payloads of up
            // to 512 bytes, errors by role.
            0x54 => 0x1000_8022,
            0x58 => halves(self.device_control.into_bits(), 0),
            // Device Capabilities 2: prefixes, and completion time-outs that can be off.
            0x74 => 0x0070_0010,
            0x78 => self.device_control_2.into(),
            _ => 0,
        }
    }

    /// Writes 1, 2 or 4 bytes.
    pub(crate) fn write(&mut self, offset: u16, width: u8, value: u32) -> Effects {
        let mut effects = Effects::default();
        let Some(access) = access(offset, width) else {
            effects.dropped = true;
            return effects;
        };
        for (offset, write) in access.words(value.into()) {
            self.write_word(offset, write, &mut effects);
        }
        effects
    }

    fn write_word(&mut self, offset: u32, write: WordWrite, effects: &mut Effects) {
        let old = self.word(offset);
        // What goes into the low half, with the bits that can be written.
        let low = |writable: u16| {
            let new = write.onto(old, writable.into());
            u16::try_from(new & 0xffff).unwrap_or_default()
        };
        match offset {
            0x04 => {
                // Memory space, bus master, parity errors, SERR#.
                let command = Command::from_bits(low(0x0146));
                effects.bus_master_lost = self.command.bus_master() && !command.bus_master();
                self.command = command;
            }
            0x0c => self.cache_line = low(0xff).to_le_bytes()[0],
            0x3c => self.interrupt_line = low(0xff).to_le_bytes()[0],
            0x10 | 0x14 => self.bars[0].write(offset & 4, write),
            0x18 | 0x1c => self.bars[1].write(offset & 4, write),
            MSIX => {
                // Enable and Function Mask.
                let control = write.onto(old, 0xc000_0000) >> 16;
                self.msix = MsixControl::from_bits(u16::try_from(control).unwrap_or_default());
                effects.msix_changed = true;
            }
            0x58 => {
                effects.function_level_reset = DeviceControl::from_bits(low(0x8000)).initiate_flr();
                // All but phantom functions, auxiliary power and the reset itself.
                self.device_control = DeviceControl::from_bits(low(0x79ff));
            }
            // Completion Timeout Disable.
            0x78 => self.device_control_2 = low(0x0010),
            _ => effects.dropped = true,
        }
    }
}

/// Bytes of BAR2: four pages for each queue.
/// [DSA 3.0, 9.3 "Portals (BAR2)"]
pub(crate) fn portals_size(queues: usize) -> u64 {
    let queues = u64::try_from(queues).unwrap_or(u64::MAX);
    let stride = hwspec::dsa::PortalPage::WQ_STRIDE;
    queues
        .saturating_mul(u64::try_from(stride).unwrap_or(u64::MAX))
        .checked_next_power_of_two()
        .unwrap_or(1 << 63)
}

fn access(offset: u16, width: u8) -> Option<Access> {
    Access::new(offset.into(), width).filter(|_| width <= 4 && u32::from(offset) < SIZE)
}

fn capability(id: u8, next: u32) -> u16 {
    CapabilityHeader::new()
        .with_id(id)
        .with_next(u8::try_from(next).unwrap_or_default())
        .into_bits()
}

/// A place in BAR0.
fn location(offset: u32) -> u32 {
    MsixLocation::new()
        .with_offset_31_3(offset >> 3)
        .into_bits()
}
