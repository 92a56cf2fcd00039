//! Interrupts: who may use an entry, and where it leads at any moment.

use std::collections::BTreeMap;

use hwio::fake::Event;
use vtd::{Error, InterruptIndex, Route};

use crate::lab::{CACHING, DSA, HALF, KINDS, Lab, OTHER, SECOND};

fn route(apic_id: u32, vector: u8) -> Route {
    Route { apic_id, vector }
}

#[test]
fn an_interrupt_arrives_from_its_device_alone() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let index = lab.unit.allocate_interrupt(DSA).unwrap();
        assert_eq!(lab.send(DSA, index), Err(0x22), "{}", kind.name);
        lab.unit.set_interrupt(index, route(0x102, 0x51)).unwrap();
        assert_eq!(lab.send(DSA, index), Ok((0x102, 0x51)));
        // Another device; another function of the same; another bus. Neither before nor
        // after the entry is cached.
        for source in [OTHER.into_bits(), 0x0021, 0x0120] {
            let mut hardware = lab.hardware.borrow_mut();
            let address = index.message().address;
            assert_eq!(hardware.interrupt(source, address, 0), Err(0x26));
        }
    }
}

#[test]
fn entries_are_these() {
    let mut lab = Lab::new(SECOND);
    let table = 0x12_3400_5000;
    let entry =
        |lab: &Lab, number: u64| [0, 8].map(|at| lab.memory.device_read(table + 16 * number + at));
    lab.unit.allocate_interrupt(DSA).unwrap();
    let index = lab.unit.allocate_interrupt(OTHER).unwrap();
    assert_eq!(index.number(), 1);
    // SID 6affh, SQ 0, SVT 01.
    assert_eq!(entry(&lab, 1), [0, 0x4_6aff]);
    lab.unit
        .set_interrupt(index, route(0x8000_0102, 0xfe))
        .unwrap();
    // P; V; DST. Physical, edge, fixed.
    assert_eq!(entry(&lab, 1), [0x8000_0102_00fe_0001, 0x4_6aff]);
    assert_eq!(entry(&lab, 0), [0, 0x4_0020]);
    lab.unit.release_interrupt(index).unwrap();
    assert_eq!(entry(&lab, 1), [0, 0]);
}

#[test]
fn a_moved_interrupt_arrives_where_it_was_moved_to() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        lab.unit.allocate_interrupt(OTHER).unwrap();
        let index = lab.unit.allocate_interrupt(DSA).unwrap();
        lab.unit.set_interrupt(index, route(1, 0x51)).unwrap();
        assert_eq!(lab.send(DSA, index), Ok((1, 0x51)));
        lab.invalidations();
        lab.unit.set_interrupt(index, route(2, 0x61)).unwrap();
        // Index-selective: entry 1.
        assert_eq!(lab.invalidations(), [[0x1_0000_0014, 0, 0, 0]]);
        assert_eq!(lab.send(DSA, index), Ok((2, 0x61)), "{}", kind.name);
    }
}

#[test]
fn a_released_interrupt_is_blocked_and_its_entry_is_anyones() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let index = lab.unit.allocate_interrupt(DSA).unwrap();
        lab.unit.set_interrupt(index, route(1, 0x51)).unwrap();
        lab.send(DSA, index).unwrap();
        lab.unit.release_interrupt(index).unwrap();
        assert_eq!(lab.send(DSA, index), Err(0x22), "{}", kind.name);
        assert_eq!(lab.unit.allocate_interrupt(OTHER), Ok(index));
        lab.unit.set_interrupt(index, route(3, 0x71)).unwrap();
        assert_eq!(lab.send(OTHER, index), Ok((3, 0x71)));
        assert_eq!(lab.send(DSA, index), Err(0x26));
    }
}

#[test]
fn the_first_setting_takes_an_invalidation_only_in_caching_mode() {
    for (kind, count) in [(SECOND, 0), (CACHING, 1)] {
        let mut lab = Lab::new(kind);
        let index = lab.unit.allocate_interrupt(DSA).unwrap();
        lab.unit.set_interrupt(index, route(1, 0x51)).unwrap();
        assert_eq!(lab.invalidations().len(), count);
    }
}

#[test]
fn entries_are_handed_out_once() {
    let mut lab = Lab::new(SECOND);
    let all: Vec<InterruptIndex> = (0..256)
        .map(|_| lab.unit.allocate_interrupt(DSA).unwrap())
        .collect();
    assert!((0..256).eq(all.iter().map(|index| index.number())));
    let full = Error::OutOfInterrupts { count: 256 };
    assert_eq!(lab.unit.allocate_interrupt(DSA), Err(full));
    // The last one works, through the whole handle.
    lab.unit.set_interrupt(all[255], route(9, 0x99)).unwrap();
    assert_eq!(lab.send(DSA, all[255]), Ok((9, 0x99)));
    lab.unit.release_interrupt(all[100]).unwrap();
    assert_eq!(lab.unit.allocate_interrupt(DSA), Ok(all[100]));
}

/// At each moment between two stores an entry is not present or it is complete: one of
/// those that were asked for, with the device that it was for.
#[test]
fn a_remap_entry_is_never_seen_half_written() {
    for kind in [SECOND, HALF] {
        let mut lab = Lab::new(kind);
        let index = lab.unit.allocate_interrupt(DSA).unwrap();
        lab.unit.set_interrupt(index, route(0x102, 0x51)).unwrap();
        lab.unit
            .set_interrupt(index, route(0x3_0405, 0x62))
            .unwrap();
        lab.unit.release_interrupt(index).unwrap();
        assert_eq!(lab.unit.allocate_interrupt(OTHER), Ok(index));
        lab.unit.set_interrupt(index, route(0x102, 0x51)).unwrap();

        let first = 0x12_3400_5000;
        let complete = [
            [0x0000_0102_0051_0001, 0x4_0020],
            [0x0003_0405_0062_0001, 0x4_0020],
            [0x0000_0102_0051_0001, 0x4_6aff],
        ];
        let mut words = BTreeMap::new();
        let mut seen = Vec::new();
        let mut written_back = 0;
        let is_coherent = kind.ecap & 1 == 1;
        for event in lab.log.take() {
            match event {
                Event::Store { address, value } if (first..first + 16).contains(&address) => {
                    words.insert(address, value);
                    let word = |at| words.get(&at).copied().unwrap_or(0);
                    let entry = [word(first), word(first + 8)];
                    if entry[0] & 1 == 1 {
                        assert!(complete.contains(&entry), "{entry:x?}");
                        seen.push(entry);
                    }
                }
                Event::WriteBack { address, .. } if (first..first + 16).contains(&address) => {
                    written_back += 1;
                }
                _ => {}
            }
        }
        assert_eq!(seen, complete);
        // Each store to memory at once, where nobody looks into caches.
        let stores = 2 + 1 + 2 + 2;
        assert_eq!(written_back, if is_coherent { 0 } else { stores });
    }
}

/// The same for the entries of devices and PASIDs: with the present bit set there is
/// nothing that is yet to come.
#[test]
fn no_entry_is_seen_half_written() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let domain = lab.domain(0x1000, 0xa000);
        lab.log.take();
        lab.allow(OTHER).unwrap();
        lab.set_pasid(OTHER, 1, domain).unwrap();
        lab.unit.clear_pasid(OTHER, crate::lab::pasid(1)).unwrap();
        lab.set_pasid(OTHER, 1, domain).unwrap();
        lab.unit.block_device(OTHER).unwrap();

        // Words that were stored while the first word of their entry had P set. A PASID
        // entry has 64 bytes, a context entry 32; all are on pages of their own.
        let hardware = lab.hardware.borrow();
        let base = 0x12_3400_9000 + 0x2000 * 4;
        let (directory, table, contexts) = (base, base + 0x2000, base + 0x4000);
        assert_eq!(hardware.contexts.len(), 0);
        let mut words = BTreeMap::new();
        let mut stores = 0;
        for event in lab.log.take() {
            let Event::Store { address, value } = event else {
                continue;
            };
            let entry_bytes = match address & !0xfff {
                page if page == table => 64,
                page if page == contexts => 32,
                _ => 8,
            };
            let first = address & !(entry_bytes - 1);
            if address != first {
                let low = words.get(&first).copied().unwrap_or(0_u64);
                assert_eq!(low & 1, 0, "{}: {address:#x} of a live entry", kind.name);
                stores += 1;
            }
            words.insert(address, value);
        }
        assert!(
            stores > 7 + 3,
            "{directory:#x} and what follows were looked at"
        );
    }
}
