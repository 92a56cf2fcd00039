//! Where everything is in a guest's physical memory.
//!
//! | from | what |
//! |---|---|
//! | 0 | RAM, up to [`LOW_RAM_END`]; the rest of it from [`HIGH_RAM_START`] on |
//! | [`ECAM`] | configuration space of PCI segment 0, bus 0 |
//! | [`DEVICES`] + n * [`DEVICE_STRIDE`] | BAR0 and BAR2 of virtual DSA n, until the guest moves them |
//! | [`IO_APIC`] | the I/O APIC |
//! | [`INTERRUPT_MESSAGES`] | nothing that can be read or written: x2APIC is the only mode |

use core::ops::Range;

use arrayvec::ArrayVec;

use crate::virt::address::GuestPhysAddr;
pub use crate::virt::memory::{HIGH_RAM_START, LOW_RAM_END};

/// Configuration space of PCI segment 0, bus 0.
pub const ECAM: GuestPhysAddr = GuestPhysAddr(0xe000_0000);
/// How many bytes of configuration space there are: those of one bus.
pub const ECAM_BYTES: u64 = 1 << 20;

/// Where the BARs of the virtual DSAs are at first.
pub const DEVICES: GuestPhysAddr = GuestPhysAddr(0xf000_0000);
/// From one virtual DSA's BARs to the next one's.
pub const DEVICE_STRIDE: u64 = 0x40_0000;
/// From a virtual DSA's BAR0 to its BAR2.
const PORTALS: u64 = 0x20_0000;
/// The PCI device number of virtual DSA 0; the others follow.
pub const FIRST_DEVICE: u8 = 4;
/// There are no more device numbers.
pub const MAX_DEVICES: u8 = 32 - FIRST_DEVICE;

/// All addresses that BARs may have.
pub const DEVICES_RANGE: Range<GuestPhysAddr> =
    DEVICES..GuestPhysAddr(DEVICES.0 + MAX_DEVICES as u64 * DEVICE_STRIDE);

/// The I/O APIC's page.
pub const IO_APIC: GuestPhysAddr = GuestPhysAddr(0xfec0_0000);
/// Writes of devices to the 1 MiB from here on are interrupt messages. There is
/// no RAM, and no local APIC to be reached by memory accesses.
pub const INTERRUPT_MESSAGES: GuestPhysAddr = GuestPhysAddr(0xfee0_0000);
/// How long that range is.
pub const INTERRUPT_MESSAGES_BYTES: u64 = 1 << 20;

/// Where pages of devices are shown, if the guest moves a BAR there: where no guest has
/// RAM, and no further. So the tables that show them stay few, whatever a guest writes
/// into its BARs.
pub const SHOWN: Range<GuestPhysAddr> = GuestPhysAddr(LOW_RAM_END)..IO_APIC;

/// Whether a BAR of so many bytes at `start` is where pages of devices are shown.
pub fn is_shown(start: GuestPhysAddr, len_bytes: u64) -> bool {
    let end = start.0.checked_add(len_bytes);
    start >= SHOWN.start && end.is_some_and(|end| end <= SHOWN.end.0)
}

/// COM1, the first of its eight ports.
pub const SERIAL_PORT: u16 = 0x3f8;
/// The input of the I/O APIC that its interrupt line leads to.
pub const CONSOLE_PIN: u8 = 4;

const _: () = assert!(
    DEVICES.0 + MAX_DEVICES as u64 * DEVICE_STRIDE <= IO_APIC.0
        && LOW_RAM_END <= ECAM.0
        && ECAM.0 + ECAM_BYTES <= DEVICES.0
);

/// Where the BARs of a virtual DSA are at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceBars {
    /// BAR0: the registers.
    pub registers: GuestPhysAddr,
    /// BAR2: the portals.
    pub portals: GuestPhysAddr,
}

/// Where the BARs of virtual DSA `index` are at first, if there can be so many.
pub const fn device_bars(index: u8) -> Option<DeviceBars> {
    if index >= MAX_DEVICES {
        return None;
    }
    let registers = DEVICES.0 + index as u64 * DEVICE_STRIDE;
    Some(DeviceBars {
        registers: GuestPhysAddr(registers),
        portals: GuestPhysAddr(registers + PORTALS),
    })
}

/// What is in a range of memory, with the number that the PVH start information
/// (and the firmware call E820h) has for it.
/// [Xen, xen/include/public/arch-x86/hvm/start_info.h, `hvm_memmap_table_entry`]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryKind {
    /// XEN_HVM_MEMMAP_TYPE_RAM.
    Ram = 1,
    /// XEN_HVM_MEMMAP_TYPE_RESERVED.
    Reserved = 2,
}

/// A range of a guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// Where it begins.
    pub start: GuestPhysAddr,
    /// How long it is.
    pub len_bytes: u64,
    /// What it is.
    pub kind: MemoryKind,
}

/// The most ranges that [`ranges`] gives.
pub const MAX_RANGES: usize = 5;

/// What a guest with `ram_bytes` of RAM is told about its memory, in ascending
/// order.
pub fn ranges(ram_bytes: u64) -> ArrayVec<MemoryRange, MAX_RANGES> {
    let range = |start, len_bytes, kind| MemoryRange {
        start: GuestPhysAddr(start),
        len_bytes,
        kind,
    };
    let low = ram_bytes.min(LOW_RAM_END);
    let mut ranges = ArrayVec::new();
    ranges.push(range(0, low, MemoryKind::Ram));
    ranges.push(range(ECAM.0, ECAM_BYTES, MemoryKind::Reserved));
    ranges.push(range(IO_APIC.0, 0x1000, MemoryKind::Reserved));
    ranges.push(range(
        INTERRUPT_MESSAGES.0,
        INTERRUPT_MESSAGES_BYTES,
        MemoryKind::Reserved,
    ));
    if ram_bytes > low {
        ranges.push(range(HIGH_RAM_START, ram_bytes - low, MemoryKind::Ram));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_where_the_map_says() {
        let bars = device_bars(0).unwrap();
        assert_eq!(bars.registers, GuestPhysAddr(0xf000_0000));
        assert_eq!(bars.portals, GuestPhysAddr(0xf020_0000));
        let bars = device_bars(3).unwrap();
        assert_eq!(bars.registers, GuestPhysAddr(0xf0c0_0000));
        assert_eq!(bars.portals, GuestPhysAddr(0xf0e0_0000));
        assert!(device_bars(27).is_some());
        assert_eq!(device_bars(28), None);
    }

    /// All that a guest can write into a BAR of 64 bits.
    #[test]
    fn pages_are_shown_beside_ram_alone() {
        const BYTES: u64 = 0x8000;
        let is_shown = |start| is_shown(GuestPhysAddr(start), BYTES);
        for index in 0..MAX_DEVICES {
            assert!(is_shown(device_bars(index).unwrap().portals.0));
        }
        assert!(is_shown(0xc000_0000));
        assert!(is_shown(0xfebf_8000));
        for start in [
            0,
            0xbfff_8000,
            0xfec0_0000,
            0xfee0_0000,
            0x1_0000_0000,
            1 << 47,
            1 << 48,
            0xffff_ffff_ffff_8000,
        ] {
            assert!(!is_shown(start), "{start:#x}");
        }
    }

    #[test]
    fn little_ram_is_one_range() {
        let ranges = ranges(64 << 20);
        let [ram, ecam, io_apic, messages] = ranges.as_slice() else {
            panic!("four ranges: {ranges:?}");
        };
        assert_eq!((ram.start.0, ram.len_bytes), (0, 0x400_0000));
        assert_eq!((ecam.start.0, ecam.len_bytes), (0xe000_0000, 0x10_0000));
        assert_eq!((io_apic.start.0, io_apic.len_bytes), (0xfec0_0000, 0x1000));
        assert_eq!(
            (messages.start.0, messages.len_bytes),
            (0xfee0_0000, 0x10_0000)
        );
        let kinds: std::vec::Vec<_> = ranges.iter().map(|range| range.kind as u32).collect();
        assert_eq!(kinds, [1, 2, 2, 2]);
    }

    #[test]
    fn much_ram_continues_above_4_gib() {
        let ranges = ranges(5 << 30);
        assert_eq!(ranges[0].len_bytes, 0xc000_0000);
        let high = ranges.last().unwrap();
        assert_eq!(high.start, GuestPhysAddr(0x1_0000_0000));
        assert_eq!(high.len_bytes, 0x8000_0000);
        assert_eq!(high.kind, MemoryKind::Ram);
        assert!(ranges.is_sorted_by_key(|range| range.start));
        assert_eq!(ranges.len(), MAX_RANGES);
    }
}
