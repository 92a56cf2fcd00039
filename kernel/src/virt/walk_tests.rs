use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Numbers in memory; what is not there is no RAM.
#[derive(Debug, Default)]
struct Memory(RefCell<BTreeMap<u64, u64>>);

impl Memory {
    fn new(words: &[(u64, u64)]) -> Self {
        Self(RefCell::new(words.iter().copied().collect()))
    }

    fn get(&self, address: u64) -> u64 {
        self.0.borrow()[&address]
    }
}

impl TableMemory for Memory {
    fn read_u64(&self, address: GuestPhysAddr) -> Option<u64> {
        assert!(address.0.is_multiple_of(8));
        self.0.borrow().get(&address.0).copied()
    }

    fn set_bits(&self, address: GuestPhysAddr, expected: u64, bits: u64) -> bool {
        let mut words = self.0.borrow_mut();
        match words.get_mut(&address.0) {
            Some(word) if *word == expected => {
                *word |= bits;
                true
            }
            _ => false,
        }
    }
}

/// 64-bit mode in the kernel, tables at 0x1000.
const LONG: Paging = Paging {
    cr0: CR0_PG | CR0_WP,
    cr3: 0x1000,
    cr4: CR4_PAE,
    efer: EFER_LMA | EFER_NXE,
    rflags: 0,
    cpl: 0,
};

/// The address 0x8080604567: entries 1, 2, 3, 4 and 0x567.
const ADDRESS_1234: u64 = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 0x567;

fn long_tables(leaf: u64) -> Memory {
    Memory::new(&[
        (0x1008, 0x2000 | 7),
        (0x2010, 0x3000 | 7),
        (0x3018, 0x4000 | 7),
        (0x4020, leaf),
    ])
}

fn walk(
    memory: &Memory,
    paging: &Paging,
    address: u64,
    purpose: Purpose,
) -> Result<u64, (u64, u32)> {
    translate(memory, paging, GuestVirtAddr(address), purpose)
        .map(|address| address.0)
        .map_err(|fault| (fault.address.0, fault.error))
}

#[test]
fn four_levels_lead_to_a_page() {
    let memory = long_tables(0x5_5000 | 7);
    assert_eq!(
        walk(&memory, &LONG, ADDRESS_1234, Purpose::Read),
        Ok(0x5_5567)
    );
}

#[test]
fn reads_mark_what_they_use_and_writes_mark_the_page_dirty() {
    let memory = long_tables(0x5_5000 | 7);
    walk(&memory, &LONG, ADDRESS_1234, Purpose::Read).unwrap();
    for entry in [0x1008, 0x2010, 0x3018, 0x4020] {
        assert_eq!(memory.get(entry) & (ACCESSED | DIRTY), ACCESSED);
    }
    walk(&memory, &LONG, ADDRESS_1234, Purpose::Write).unwrap();
    assert_eq!(memory.get(0x3018) & (ACCESSED | DIRTY), ACCESSED);
    assert_eq!(memory.get(0x4020) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
}

#[test]
fn large_pages_end_the_walk_early() {
    let memory = Memory::new(&[
        (0x1008, 0x2000 | 7),
        (0x2010, 0x3000 | 7),
        (0x3018, 0x1234_0000_0000 | 0x60_0000 | 0x87),
    ]);
    let expected = 0x1234_0060_0000 | ADDRESS_1234 & 0x1f_ffff;
    assert_eq!(
        walk(&memory, &LONG, ADDRESS_1234, Purpose::Read),
        Ok(expected)
    );

    let memory = Memory::new(&[(0x1008, 0x2000 | 7), (0x2010, 0x8000_0000 | 0x87)]);
    let expected = 0x8000_0000 | ADDRESS_1234 & 0x3fff_ffff;
    assert_eq!(
        walk(&memory, &LONG, ADDRESS_1234, Purpose::Read),
        Ok(expected)
    );
}

#[test]
fn a_large_page_at_the_top_is_a_reserved_bit() {
    let memory = Memory::new(&[(0x1008, 0x2000 | 0x87)]);
    assert_eq!(
        walk(&memory, &LONG, ADDRESS_1234, Purpose::Read),
        Err((ADDRESS_1234, 0b1001))
    );
}

#[test]
fn every_level_must_be_present() {
    for entry in [0x1008, 0x2010, 0x3018, 0x4020] {
        let memory = long_tables(0x5_5000 | 7);
        *memory.0.borrow_mut().get_mut(&entry).unwrap() &= !1;
        for (purpose, error) in [
            (Purpose::Read, 0),
            (Purpose::Write, 0b10),
            (Purpose::Execute, 0b1_0000),
        ] {
            assert_eq!(
                walk(&memory, &LONG, ADDRESS_1234, purpose),
                Err((ADDRESS_1234, error))
            );
        }
    }
}

#[test]
fn tables_outside_of_memory_are_not_present() {
    let memory = Memory::default();
    assert_eq!(
        walk(&memory, &LONG, 0x1000, Purpose::Read),
        Err((0x1000, 0))
    );
}

#[test]
fn addresses_that_are_not_canonical_have_no_translation() {
    let memory = long_tables(0x5_5000 | 7);
    for address in [1 << 47, 0xffff_0000_0000_0000] {
        assert_eq!(
            walk(&memory, &LONG, address, Purpose::Read),
            Err((address, 0))
        );
    }
}

/// Who may do what: the tables of the manual, row by row.
#[test]
fn rights_are_checked_as_the_processor_checks_them() {
    const RO: u64 = PRESENT;
    const RW: u64 = PRESENT | WRITABLE;
    const URO: u64 = PRESENT | USER;
    const URW: u64 = PRESENT | WRITABLE | USER;
    let user = Paging { cpl: 3, ..LONG };
    let no_wp = Paging {
        cr0: CR0_PG,
        ..LONG
    };
    let protected = Paging {
        cr4: CR4_PAE | CR4_SMEP | CR4_SMAP,
        ..LONG
    };
    let with_ac = Paging {
        rflags: RFLAGS_AC,
        ..protected
    };
    for (paging, leaf, [read, write, execute]) in [
        (LONG, RO, [true, false, true]),
        (LONG, RW, [true, true, true]),
        (LONG, URW | NO_EXECUTE, [true, true, false]),
        (no_wp, RO, [true, true, true]),
        (no_wp, URO, [true, true, true]),
        (user, RW, [false, false, false]),
        (user, URO, [true, false, true]),
        (user, URW | NO_EXECUTE, [true, true, false]),
        (protected, URW, [false, false, false]),
        (protected, RW, [true, true, true]),
        (with_ac, URW, [true, true, false]),
    ] {
        let memory = long_tables(0x5_5000 | leaf);
        for (purpose, allowed) in [
            (Purpose::Read, read),
            (Purpose::Write, write),
            (Purpose::Execute, execute),
        ] {
            let result = walk(&memory, &paging, ADDRESS_1234, purpose);
            assert_eq!(
                result.is_ok(),
                allowed,
                "{purpose:?} of {leaf:#x} with {paging:x?}"
            );
            if let Err((_, error)) = result {
                let user = if paging.cpl == 3 { ERROR_USER } else { 0 };
                let kind = match purpose {
                    Purpose::Read => 0,
                    Purpose::Write => ERROR_WRITE,
                    Purpose::Execute => ERROR_FETCH,
                };
                assert_eq!(error, ERROR_PRESENT | user | kind);
            }
        }
    }
}

#[test]
fn an_upper_level_can_take_rights_away() {
    let memory = long_tables(0x5_5000 | 7);
    *memory.0.borrow_mut().get_mut(&0x2010).unwrap() &= !WRITABLE;
    assert!(walk(&memory, &LONG, ADDRESS_1234, Purpose::Read).is_ok());
    assert_eq!(
        walk(&memory, &LONG, ADDRESS_1234, Purpose::Write),
        Err((ADDRESS_1234, ERROR_PRESENT | ERROR_WRITE))
    );
}

#[test]
fn no_execute_without_its_enable_is_a_reserved_bit() {
    let memory = long_tables(0x5_5000 | 7 | NO_EXECUTE);
    let paging = Paging {
        efer: EFER_LMA,
        ..LONG
    };
    assert_eq!(
        walk(&memory, &paging, ADDRESS_1234, Purpose::Read),
        Err((ADDRESS_1234, ERROR_PRESENT | ERROR_RESERVED))
    );
}

#[test]
fn without_paging_addresses_are_physical() {
    let paging = Paging {
        cr0: 0,
        efer: 0,
        ..LONG
    };
    let memory = Memory::default();
    assert_eq!(
        walk(&memory, &paging, 0xf_fff0, Purpose::Execute),
        Ok(0xf_fff0)
    );
}

#[test]
fn two_levels_of_32_bit_entries() {
    let paging = Paging {
        cr4: CR4_PSE,
        efer: 0,
        ..LONG
    };
    // Directory entry 3, an odd one, and table entry 5 lead to 0x77000.
    let memory = Memory::new(&[
        (0x1008, (0x2000 | 7) << 32),
        (0x2010, (0x7_7000 | 7) << 32 | 0xdead_beef),
        // Directory entry 4: a large page at 0x12_3440_0000.
        (0x1010, 0x3440_0000 | 0x12 << 13 | 0x87),
    ]);
    let address = 3 << 22 | 5 << 12 | 0x89a;
    assert_eq!(
        walk(&memory, &paging, address, Purpose::Write),
        Ok(0x7_789a)
    );
    assert_eq!(
        memory.get(0x2010),
        (0x7_7000 | 7 | ACCESSED | DIRTY) << 32 | 0xdead_beef
    );
    let address = 4 << 22 | 0x12_3456;
    assert_eq!(
        walk(&memory, &paging, address, Purpose::Read),
        Ok(0x12_3440_0000 | 0x12_3456)
    );
}

#[test]
fn three_levels_of_64_bit_entries() {
    let paging = Paging {
        cr3: 0x1020,
        efer: EFER_NXE,
        ..LONG
    };
    // Pointer 2, directory 3, table 4. The pointers give no rights of their own.
    let memory = Memory::new(&[
        (0x1030, 0x2000 | 1),
        (0x2018, 0x3000 | 7),
        (0x3020, 0x5_5000 | 7),
    ]);
    let address = 2 << 30 | 3 << 21 | 4 << 12 | 0x567;
    assert_eq!(
        walk(&memory, &paging, address, Purpose::Write),
        Ok(0x5_5567)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 256 }))]

    /// Any tables, any mode: an answer, and soon.
    #[test]
    fn no_tables_make_us_panic(
        words in prop::collection::vec((0_u64..0x40, any::<u64>()), 0..60),
        cr0 in any::<u64>(), cr3 in 0_u64..0x400, cr4 in any::<u64>(),
        efer in any::<u64>(), cpl in 0_u8..4, address in any::<u64>(), purpose in 0..3,
    ) {
        // Addresses in entries are kept small, so that walks go on.
        let words = words.iter().map(|&(at, word)| (at * 8, word & !0x000f_ffff_ffff_fc00));
        let memory = Memory(RefCell::new(words.collect()));
        let paging = Paging { cr0, cr3, cr4, efer, rflags: 0, cpl };
        let purpose = [Purpose::Read, Purpose::Write, Purpose::Execute][purpose as usize];
        let _ = walk(&memory, &paging, address, purpose);
    }
}
