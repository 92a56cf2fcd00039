//! What bringing a unit up does, step by step.

use std::collections::BTreeSet;

use hwio::fake::Event;
use vtd::{Leftovers, Stage};

use crate::hardware::{IRE, QIE, SIRTP, SRTP, TE, at};
use crate::lab::{DSA, FIRST, HALF, KINDS, Lab, Machine, OTHER, SECOND, SERVER};

/// Writes to registers, without what goes to memory.
fn register_writes(events: Vec<Event>) -> Vec<(usize, u64)> {
    let writes = events.into_iter().filter_map(|event| match event {
        Event::Write { offset, value, .. } => Some((offset, value)),
        _ => None,
    });
    writes.collect()
}

/// A unit as it comes out of reset. The addresses are those of the pages in the order in
/// which they were had: queue (2), root table, interrupt remapping table, and a domain;
/// between them one page is free.
#[test]
fn bring_up_writes_these_registers_in_this_order() {
    let mut machine = Machine::new(SECOND);
    let unit = machine.bring_up().unwrap();
    let expected = [
        // 1. No events of faults and of invalidations; nothing is left of old ones.
        (at::FECTL, 0x8000_0000),
        (at::IECTL, 0x8000_0000),
        (at::ICS, 0x1),
        (at::FSTS, 0x71),
        // 2. The invalidation queue: empty, one page, 256-bit descriptors.
        //    [6.5.2 "Queued Invalidation Interface"]
        (at::IQT, 0x0),
        (at::IQA, 0x12_3400_0800),
        (at::GCMD, 0x0400_0000),
        // 3. The root table, in scalable mode, and everything invalidated: three
        //    descriptors and a wait. [6.6 "Set Root Table Pointer Operation"]
        (at::RTADDR, 0x12_3400_3400),
        (at::GCMD, 0x4400_0000),
        (at::IQT, 0x80),
        (at::GCMD, 0x8400_0000),
        // 4. The interrupt remapping table: 2^(7 + 1) entries, extended mode; one
        //    invalidation. [6.7 "Set Interrupt Remapping Table Pointer Operation"]
        (at::IRTA, 0x12_3400_5807),
        (at::GCMD, 0x8500_0000),
        (at::IQT, 0xc0),
        (at::GCMD, 0x8600_0000),
    ];
    assert_eq!(register_writes(machine.log.take()), expected);
    assert_eq!(unit.leftovers(), Leftovers::default());
    let hardware = machine.hardware.borrow();
    assert_eq!(hardware.gsts, TE | SRTP | QIE | IRE | SIRTP);
    let invalidations = [
        // Context-cache, PASID-cache, IOTLB with draining: global.
        [0x11, 0, 0, 0],
        [0x37, 0, 0, 0],
        [0xd2, 0, 0, 0],
        // Interrupt entry cache: global.
        [0x04, 0, 0, 0],
    ];
    assert_eq!(hardware.carried_out, invalidations);
}

#[test]
fn after_bring_up_nothing_gets_through() {
    for kind in KINDS {
        let mut machine = Machine::new(kind);
        let unit = machine.bring_up().unwrap();
        let mut hardware = machine.hardware.borrow_mut();
        for source in [DSA, OTHER] {
            for pasid in [None, Some(0), Some(1), Some(0xf_ffff)] {
                let requester = (source.into_bits(), pasid);
                for is_write in [false, true] {
                    let result = hardware.request(requester, 0x1000, is_write);
                    assert!(result.is_err(), "{}: {requester:x?}", kind.name);
                }
            }
            let compatible = hardware.interrupt(source.into_bits(), 0xfee0_0000, 0x41);
            assert_eq!(compatible, Err(0x25));
            let remappable = hardware.interrupt(source.into_bits(), 0xfee0_0010, 0);
            assert_eq!(remappable, Err(0x22));
            let beyond = hardware.interrupt(source.into_bits(), 0xfee0_2010, 0);
            assert_eq!(beyond, Err(0x21));
        }
        drop(unit);
    }
}

#[test]
fn what_a_unit_can_do_is_told() {
    let mut machine = Machine::new(SERVER);
    let unit = machine.bring_up().unwrap();
    let capabilities = unit.capabilities();
    assert_eq!(capabilities.stage, Stage::Second);
    assert_eq!(capabilities.highest_pasid.value(), 0x7fff);
    assert_eq!(capabilities.address_bits, 48);
    assert!(format!("{unit:?}").contains("domains: 1"));
}

/// The unit goes on reading its tables, so they must not go back.
#[test]
fn a_dropped_unit_keeps_its_tables() {
    let mut machine = Machine::new(SECOND);
    let unit = machine.bring_up().unwrap();
    // Queue 2, root 1, interrupts 1, the empty domain 1.
    assert_eq!(machine.memory.count_allocated(), 5);
    drop(unit);
    assert_eq!(machine.memory.count_allocated(), 5);
    let mut hardware = machine.hardware.borrow_mut();
    assert_eq!(hardware.request((0x20, None), 0, true), Err(0x39));
}

/// Where the unit does not look into caches, a table's zeros are in memory before an entry
/// or a register leads to it: what was in the frame before is never taken for entries.
#[test]
fn tables_are_in_memory_before_anything_leads_to_them() {
    // Root, context, PASID and interrupt remapping tables go by ECAP.C, page tables by
    // ECAP.SMPWCS.
    for (kind, needed) in [(SECOND, 11), (FIRST, 11), (HALF, 5), (SERVER, 0)] {
        let mut lab = Lab::with_log(kind);
        let domain = lab.domain(0x1000, 0xa000);
        lab.allow(DSA).unwrap();
        lab.set_pasid(DSA, 0x100, domain).unwrap();
        let mut written_back = BTreeSet::new();
        let mut links = 0;
        for event in lab.log.take() {
            let (at, value) = match event {
                Event::WriteBack { address, len_bytes } => {
                    let pages = (address..address + len_bytes as u64).step_by(4096);
                    if len_bytes >= 4096 {
                        written_back.extend(pages);
                    }
                    continue;
                }
                Event::Store { address, value } => (address, value),
                Event::Write { offset, value, .. } => (offset as u64, value),
                _ => continue,
            };
            // The queue is read from caches, and so is the word that it writes to.
            let is_queue = (0x12_3400_0000..0x12_3400_2000).contains(&at) || at == at::IQA as u64;
            let table = value & 0x000f_ffff_ffff_f000;
            if is_queue || table < 0x12_3400_0000 {
                continue;
            }
            links += 1;
            let is_page_table = lab.is_page_table(table);
            let is_coherent = kind.ecap >> if is_page_table { 48 } else { 0 } & 1 == 1;
            let is_in_memory = is_coherent || written_back.contains(&table);
            assert!(is_in_memory, "{}: {table:#x}", kind.name);
        }
        // RTADDR, IRTA, root to context, context to directory, directory to two tables;
        // to the empty domain and to the other; three down to its page.
        assert_eq!(links, 11, "{}", kind.name);
        assert_eq!(written_back.len(), needed, "{}", kind.name);
    }
}

/// Two units in one machine share no number and no table.
#[test]
fn several_units_have_nothing_in_common() {
    let mut first = Lab::new(SECOND);
    let mut second = Lab::new(SERVER);
    let (a, b) = (first.domain(0x1000, 0xa000), second.domain(0x1000, 0xb000));
    assert_eq!(a, b);
    first.allow(DSA).unwrap();
    first.set_pasid(DSA, 1, a).unwrap();
    assert_eq!(first.write(DSA, 1, 0x1000), Ok(0xa000));
    assert_eq!(second.write(DSA, 1, 0x1000), Err(0x39));
    second.allow(DSA).unwrap();
    second.set_pasid(DSA, 1, b).unwrap();
    let interrupt = first.unit.allocate_interrupt(DSA).unwrap();
    assert_eq!(second.unit.allocate_interrupt(DSA), Ok(interrupt));
    first.unit.block_device(DSA).unwrap();
    assert_eq!(first.write(DSA, 1, 0x1000), Err(0x41));
    assert_eq!(second.write(DSA, 1, 0x1000), Ok(0xb000));
    first.unit.block_all().unwrap();
    assert_eq!(second.write(DSA, 1, 0x1000), Ok(0xb000));
}
