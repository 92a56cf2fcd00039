use std::cell::{Cell, RefCell};
use std::vec::Vec;

use super::*;

/// A function that notes what it is asked, and answers with a number.
#[derive(Debug, Default)]
struct Fake {
    asked: RefCell<Vec<(u16, Width, Option<u32>)>>,
    bar: Cell<Option<u64>>,
}

impl PartialEq for Fake {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

impl Function for Fake {
    fn read_config(&self, offset: u16, width: Width) -> u32 {
        self.asked.borrow_mut().push((offset, width, None));
        0x1122_3344
    }

    /// Register 10h moves BAR0; BAR2 is 1 MiB above it.
    fn write_config(&self, offset: u16, width: Width, value: u32) {
        self.asked.borrow_mut().push((offset, width, Some(value)));
        if offset == 0x10 {
            self.bar.set((value != 0).then_some(value.into()));
        }
    }

    fn bar(&self, bar: u8) -> Option<GuestPhysAddr> {
        let start = self.bar.get()?;
        Some(GuestPhysAddr(start + u64::from(bar) * 0x8_0000))
    }
}

fn at(device: u8, function: u8) -> SourceId {
    SourceId::new().with_device(device).with_function(function)
}

/// Functions 00:04.0 and 00:05.1, each with BAR0 of 64 KiB and BAR2 of 16 KiB.
fn bus() -> PciBus<Fake> {
    let mut bus = PciBus::new();
    for (address, start) in [(at(4, 0), 0xf000_0000), (at(5, 1), 0xf040_0000)] {
        let function = Fake::default();
        function.bar.set(Some(start));
        bus.add(address, function, &[(0, 0x1_0000), (2, 0x4000)]);
    }
    bus
}

fn asked(bus: &PciBus<Fake>, address: SourceId) -> Vec<(u16, Width, Option<u32>)> {
    bus.function(address).unwrap().asked.take()
}

#[test]
fn offsets_are_taken_apart() {
    let address = ConfigAddress::from_ecam_offset(0xf_cabc).unwrap();
    assert_eq!(address.function.bus(), 0);
    assert_eq!(address.function.device(), 0x1f);
    assert_eq!(address.function.function(), 4);
    assert_eq!(address.register, 0xabc);
    assert_eq!(ConfigAddress::from_ecam_offset(0x1000_0000), None);
}

#[test]
fn accesses_reach_the_function_that_is_named() {
    let bus = bus();
    assert_eq!(bus.read_config(0x2_0100, Width::Double), 0x1122_3344);
    assert_eq!(bus.read_config(0x2_9002, Width::Word), 0x3344);
    bus.write_config(0x2_0004, Width::Byte, 0x1_ff06);
    assert_eq!(
        asked(&bus, at(4, 0)),
        [(0x100, Width::Double, None), (0x4, Width::Byte, Some(0x06))]
    );
    assert_eq!(asked(&bus, at(5, 1)), [(0x2, Width::Word, None)]);
}

#[test]
fn what_is_absent_reads_as_all_ones() {
    let bus = bus();
    // 00:05.0, 00:00.0, and bus 1.
    for offset in [0x2_8000, 0, 0x12_0000, !0xfff] {
        assert_eq!(bus.read_config(offset, Width::Double), 0xffff_ffff);
        assert_eq!(bus.read_config(offset, Width::Byte), 0xff);
        bus.write_config(offset, Width::Double, 1);
    }
    assert_eq!(read_absent(Width::Word), 0xffff);
}

#[test]
fn accesses_to_no_single_register_go_nowhere() {
    let bus = bus();
    for (offset, width) in [
        (0x2_0001, Width::Word),
        (0x2_0002, Width::Double),
        (0x2_0000, Width::Quad),
    ] {
        assert_eq!(bus.read_config(offset, width), read_absent(width));
        bus.write_config(offset, width, 0);
    }
    assert_eq!(asked(&bus, at(4, 0)), []);
}

#[test]
fn addresses_lead_to_bars() {
    let bus = bus();
    let find = |address| {
        let place = bus.find(GuestPhysAddr(address))?;
        let (index, _) = bus
            .functions()
            .find(|&(_, found)| found == place.function)?;
        Some((index.device(), place.bar, place.offset))
    };
    assert_eq!(find(0xf000_0000), Some((4, 0, 0)));
    assert_eq!(find(0xf000_ffff), Some((4, 0, 0xffff)));
    assert_eq!(find(0xf001_0000), None);
    assert_eq!(find(0xf010_3fc0), Some((4, 2, 0x3fc0)));
    assert_eq!(find(0xf010_4000), None);
    assert_eq!(find(0xf040_0010), Some((5, 0, 0x10)));
    assert_eq!(find(0xefff_ffff), None);
    assert_eq!(find(u64::MAX), None);
}

#[test]
fn bars_are_found_where_the_guest_moved_them() {
    let bus = bus();
    bus.write_config(0x2_0010, Width::Double, 0xc800_0000);
    assert!(bus.find(GuestPhysAddr(0xf000_0000)).is_none());
    let place = bus.find(GuestPhysAddr(0xc810_0040)).unwrap();
    assert_eq!((place.bar, place.offset), (2, 0x40));
    // Decoding off.
    bus.write_config(0x2_0010, Width::Double, 0);
    for address in [0xc810_0040, 0, 1, 0x3fff, u64::MAX >> 12, u64::MAX] {
        assert!(bus.find(GuestPhysAddr(address)).is_none(), "{address:#x}");
    }
}

#[test]
#[should_panic(expected = "00:04.0 is not free on bus 0")]
fn two_functions_cannot_be_in_one_place() {
    bus().add(at(4, 0), Fake::default(), &[]);
}
