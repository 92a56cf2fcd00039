//! Tables as the unit sees them: entries worked out by hand from the specification, and
//! a walk of the test's own.

mod random;

use std::vec::Vec;

use hwio::fake::{Event, FakePages, Log, Memory};
use hwspec::vtd::{Cap, Ecap};

use super::*;

/// The lab box's unit with second-stage tables: no snooping, pages up to 1 GiB.
const SECOND_STAGE: (u64, u64) = (0x00d2_008c_222f_0606, 0x0000_4998_80f0_0f5a);
/// The same with first-stage tables.
const FIRST_STAGE: (u64, u64) = (0x01d2_008c_222f_0606, 0x0000_8998_00f0_0f5a);
/// ECAP.SMPWCS: page walks look into caches.
const SMPWCS: u64 = 1 << 48;

/// Entry 1 of the highest of four levels, 2, 3 and 4 of those below.
const IOVA: Iova = Iova(0x80_8060_4000);
const FRAME: PhysAddr = PhysAddr::new(0x1_2345_6000);

const PAGE: u64 = 0x1000;
const MIB_2: u64 = 0x20_0000;
const GIB: u64 = 0x4000_0000;

/// An address space, and the memory that its tables are in.
struct Space {
    table: PageTable<FakePages>,
    memory: Memory,
    log: Log,
    stage: Stage,
    levels: u32,
}

/// What the unit makes of an address: where it leads, whether it may be written, and
/// the level of the page.
type Found = Option<(u64, bool, u32)>;

impl Space {
    fn new((cap, ecap): (u64, u64)) -> Self {
        let (cap, ecap) = (Cap::from_bits(cap), Ecap::from_bits(ecap));
        let capabilities = Capabilities::check(cap, ecap, 39).unwrap();
        let log = Log::new();
        let mut memory = if ecap.smpwcs() {
            Memory::coherent(&log)
        } else {
            Memory::non_coherent(&log)
        };
        Self {
            table: PageTable::new(&capabilities, &mut memory).unwrap(),
            memory,
            log,
            stage: capabilities.stage,
            levels: capabilities.levels,
        }
    }

    fn map(&mut self, iova: u64, physical: u64, len_bytes: u64) -> Result<(), Error> {
        self.map_as(Access::ReadWrite, iova, physical, len_bytes)
    }

    fn map_as(
        &mut self,
        access: Access,
        iova: u64,
        physical: u64,
        len_bytes: u64,
    ) -> Result<(), Error> {
        let mapping = Mapping {
            iova: Iova(iova),
            physical: PhysAddr::new(physical),
            len_bytes,
            access,
        };
        self.table.map(&mut self.memory, mapping)
    }

    fn unmap(&mut self, iova: u64, len_bytes: u64) -> Result<(), Error> {
        self.table.unmap(Iova(iova), len_bytes)
    }

    /// The walk of the unit, bit by bit. [VT-d 5.10, 3.6 "First-Stage Translation", 3.7
    /// "Second-Stage Translation"]
    fn walk(&self, iova: u64) -> Found {
        let mut table = self.table.root().as_u64();
        let mut is_writable = true;
        for level in (0..self.levels).rev() {
            let shift = 12 + 9 * level;
            let entry = self.memory.device_read(table + 8 * (iova >> shift & 0x1ff));
            let is_present = match self.stage {
                Stage::First => entry & 1 != 0,
                Stage::Second => entry & 3 != 0,
            };
            if !is_present {
                return None;
            }
            is_writable &= entry & 2 != 0;
            let address = entry & 0x000f_ffff_ffff_f000;
            if level == 0 || entry & 0x80 != 0 {
                let offset = iova & ((1 << shift) - 1);
                assert_eq!(
                    address & ((1 << shift) - 1),
                    0,
                    "reserved bits of {entry:#x}"
                );
                return Some((address + offset, is_writable, level));
            }
            table = address;
        }
        unreachable!("level 0 has pages only");
    }

    /// The levels of the pages from `iova` on that make up `len_bytes`.
    fn levels(&self, iova: u64, len_bytes: u64) -> Vec<u32> {
        let mut levels = Vec::new();
        let mut at = iova;
        while at < iova + len_bytes {
            let (_, _, level) = self.walk(at).unwrap();
            levels.push(level);
            at += page_bytes(level);
        }
        levels
    }

    /// Word `index` of the table that was made as number `number`: the memory leaves a
    /// page free behind each.
    fn word(&self, number: u64, index: u64) -> u64 {
        self.memory
            .device_read(0x12_3400_0000 + 0x2000 * number + 8 * index)
    }
}

// [VT-d 5.10, 9.8 "Second-Stage Paging Entries": R 0, W 1, PS 7, ADDR 51:12]
#[test]
fn second_stage_entries_are_these() {
    let mut space = Space::new(SECOND_STAGE);
    space.map(IOVA.0, FRAME.as_u64(), PAGE).unwrap();
    assert_eq!(space.table.root().as_u64(), 0x12_3400_0000);
    assert_eq!(space.word(0, 1), 0x0012_3400_2003);
    assert_eq!(space.word(1, 2), 0x0012_3400_4003);
    assert_eq!(space.word(2, 3), 0x0012_3400_6003);
    assert_eq!(space.word(3, 4), 0x0001_2345_6003);
    space
        .map_as(Access::ReadOnly, IOVA.0 + PAGE, 0x7000, PAGE)
        .unwrap();
    assert_eq!(space.word(3, 5), 0x7001);
    // 2 MiB: entry 4 of the table with those of 2 MiB; 1 GiB: entry 3 of the next.
    space.map(0x80_8080_0000, 0x4020_0000, MIB_2).unwrap();
    assert_eq!(space.word(2, 4), 0x4020_0083);
    space
        .map_as(Access::ReadOnly, 0x80_c000_0000, 0x8_4000_0000, GIB)
        .unwrap();
    assert_eq!(space.word(1, 3), 0x8_4000_0081);
    assert_eq!(space.table.count_tables(), 4);
    space.unmap(IOVA.0, PAGE).unwrap();
    assert_eq!(space.word(3, 4), 0);
}

// [VT-d 5.10, 9.7 "First-Stage Paging Entries": P 0, R/W 1, U/S 2, A 5, D 6, PS 7, ADDR
// 51:12]
#[test]
fn first_stage_entries_are_these() {
    let mut space = Space::new(FIRST_STAGE);
    space.map(IOVA.0, FRAME.as_u64(), PAGE).unwrap();
    assert_eq!(space.word(0, 1), 0x0012_3400_2027);
    assert_eq!(space.word(1, 2), 0x0012_3400_4027);
    assert_eq!(space.word(2, 3), 0x0012_3400_6027);
    assert_eq!(space.word(3, 4), 0x0001_2345_6067);
    space
        .map_as(Access::ReadOnly, IOVA.0 + PAGE, 0x7000, PAGE)
        .unwrap();
    assert_eq!(space.word(3, 5), 0x7065);
    space.map(0x80_8080_0000, 0x4020_0000, MIB_2).unwrap();
    assert_eq!(space.word(2, 4), 0x4020_00e7);
    space
        .map_as(Access::ReadOnly, 0x80_c000_0000, 0x8_4000_0000, GIB)
        .unwrap();
    assert_eq!(space.word(1, 3), 0x8_4000_00e5);
}

#[test]
fn three_and_five_levels_begin_where_they_should() {
    let (cap, ecap) = SECOND_STAGE;
    let without = cap & !(0x1f << 8);
    // SAGAW 1: 39 bits, three levels; the root has entries of 1 GiB.
    let mut shallow = Space::new((without | 1 << 9, ecap));
    shallow.map(0x8060_4000, 0x7000, PAGE).unwrap();
    assert_eq!(shallow.word(0, 2), 0x0012_3400_2003);
    assert_eq!(shallow.word(2, 4), 0x7003);
    shallow.map(0x40_0000_0000, 0, GIB).unwrap();
    assert_eq!(shallow.word(0, 256), 0x83);
    let (iova, address_bits) = (Iova(1 << 39), 39);
    let beyond = Error::BeyondDomain { iova, address_bits };
    assert_eq!(shallow.map(1 << 39, 0, PAGE), Err(beyond));
    // SAGAW 3: five levels.
    let mut deep = Space::new((without | 1 << 11, ecap));
    deep.map(IOVA.0, 0x7000, PAGE).unwrap();
    assert_eq!(deep.word(0, 0), 0x0012_3400_2003);
    assert_eq!(deep.word(1, 1), 0x0012_3400_4003);
    assert_eq!(deep.word(4, 4), 0x7003);
}

#[test]
fn a_range_is_made_of_the_largest_pages_that_fit() {
    for unit in [SECOND_STAGE, FIRST_STAGE] {
        let mut space = Space::new(unit);
        // Two pages, a large one, a page; for the device and in memory alike.
        space
            .map(0x1f_e000, 0x101f_e000, 2 * PAGE + MIB_2 + PAGE)
            .unwrap();
        assert_eq!(
            space.levels(0x1f_e000, 2 * PAGE + MIB_2 + PAGE),
            [0, 0, 1, 0]
        );
        assert_eq!(space.walk(0x20_0123), Some((0x1020_0123, true, 1)));
        assert_eq!(space.walk(0x40_0008), Some((0x1040_0008, true, 0)));
        assert_eq!(space.walk(0x1f_dfff), None);
        assert_eq!(space.walk(0x40_1000), None);
        // Up to 1 GiB, and down again.
        let len_bytes = MIB_2 + GIB + MIB_2 + PAGE;
        space.map(2 * GIB - MIB_2, GIB - MIB_2, len_bytes).unwrap();
        assert_eq!(space.levels(2 * GIB - MIB_2, len_bytes), [1, 2, 1, 0]);
    }
}

#[test]
fn pages_are_small_where_the_two_addresses_do_not_agree() {
    let mut space = Space::new(SECOND_STAGE);
    space.map(0, PAGE, MIB_2).unwrap();
    assert_eq!(space.levels(0, MIB_2), [0; 512]);
    // They agree for 2 MiB, but not for 1 GiB.
    space.map(GIB, MIB_2, GIB).unwrap();
    assert_eq!(space.levels(GIB, GIB), [1; 512]);
}

#[test]
fn pages_are_no_larger_than_the_unit_offers() {
    let (cap, ecap) = SECOND_STAGE;
    let sslps = |bits: u64| (cap & !(0xf << 34) | bits << 34, ecap);
    let mut small = Space::new(sslps(0));
    small.map(0, 0, MIB_2).unwrap();
    assert_eq!(small.levels(0, MIB_2), [0; 512]);
    let mut medium = Space::new(sslps(1));
    medium.map(0, 0, GIB).unwrap();
    assert_eq!(medium.levels(0, GIB), [1; 512]);
    let (cap, ecap) = FIRST_STAGE;
    let mut first = Space::new((cap & !(1 << 56), ecap));
    first.map(0, 0, GIB).unwrap();
    assert_eq!(first.levels(0, GIB), [1; 512]);
}

#[test]
fn a_table_that_became_empty_is_filled_again() {
    let mut space = Space::new(SECOND_STAGE);
    space.map(0, 0, PAGE).unwrap();
    space.unmap(0, PAGE).unwrap();
    let count = space.table.count_tables();
    space.map(0, 0, MIB_2).unwrap();
    assert_eq!(space.levels(0, MIB_2), [0; 512]);
    assert_eq!(space.table.count_tables(), count);
}

#[test]
fn part_of_a_large_page_cannot_be_unmapped() {
    for unit in [SECOND_STAGE, FIRST_STAGE] {
        let mut space = Space::new(unit);
        space.map(0, 0, PAGE).unwrap();
        space.map(MIB_2, MIB_2, MIB_2).unwrap();
        space.map(2 * MIB_2, 0, PAGE).unwrap();
        for (iova, len_bytes, named) in [
            (MIB_2, PAGE, MIB_2),
            (MIB_2 + PAGE, MIB_2, MIB_2 + PAGE),
            (MIB_2, MIB_2 - PAGE, MIB_2),
        ] {
            let expected = Error::LargerPage(Iova(named));
            assert_eq!(space.unmap(iova, len_bytes), Err(expected));
        }
        assert_eq!(space.walk(MIB_2 + 8), Some((MIB_2 + 8, true, 1)));
        // Whole ones, with what is beside them, can.
        space.unmap(MIB_2, MIB_2 + PAGE).unwrap();
        assert_eq!(space.walk(MIB_2), None);
        assert_eq!(space.walk(2 * MIB_2), None);
        assert_eq!(space.walk(0), Some((0, true, 0)));
    }
}

#[test]
fn a_range_with_a_hole_is_not_unmapped_at_all() {
    let mut space = Space::new(SECOND_STAGE);
    space.map(0, 0x10_0000, 3 * PAGE).unwrap();
    space.map(4 * PAGE, 0x10_4000, PAGE).unwrap();
    let expected = Error::NotMapped(Iova(3 * PAGE));
    assert_eq!(space.unmap(0, 5 * PAGE), Err(expected));
    assert_eq!(space.levels(0, 3 * PAGE), [0; 3]);
    assert_eq!(space.unmap(GIB, PAGE), Err(Error::NotMapped(Iova(GIB))));
    assert_eq!(space.walk(4 * PAGE), Some((0x10_4000, true, 0)));
}

#[test]
fn a_range_that_meets_another_is_not_mapped_at_all() {
    let mut space = Space::new(SECOND_STAGE);
    space.map(2 * MIB_2, 0, MIB_2).unwrap();
    space.map(GIB - PAGE, 0, PAGE).unwrap();
    let mapped = |at| Err(Error::AlreadyMapped(Iova(at)));
    // A large page in the way of small ones, of large ones, and of itself.
    assert_eq!(
        space.map(2 * MIB_2 - PAGE, 0x1000_1000, 2 * PAGE),
        mapped(2 * MIB_2)
    );
    assert_eq!(space.map(0, 0x1000_0000, 8 * MIB_2), mapped(2 * MIB_2));
    assert_eq!(space.map(2 * MIB_2, 0, MIB_2), mapped(2 * MIB_2));
    // A small one in the way of a very large one.
    assert_eq!(space.map(0, 0, GIB), mapped(2 * MIB_2));
    assert_eq!(space.walk(0), None);
    assert_eq!(space.walk(2 * MIB_2 - PAGE), None);
    assert_eq!(space.walk(2 * MIB_2), Some((0, true, 1)));
}

#[test]
fn without_memory_nothing_is_mapped_and_nothing_is_lost() {
    for unit in [SECOND_STAGE, FIRST_STAGE] {
        // Crosses the halves of the highest table: six tables are missing.
        let (iova, len_bytes) = ((1 << 39) - PAGE, 2 * PAGE);
        let mut failures = 0;
        let mut space = Space::new(unit);
        for count in 0.. {
            space.memory.limit(count);
            match space.map(iova, 0x1000_0000, len_bytes) {
                Ok(()) => break,
                Err(error) => assert_eq!(error, Error::OutOfFrames { count_pages: 1 }),
            }
            assert_eq!(space.walk(iova), None);
            assert_eq!(space.walk(iova + PAGE), None);
            failures += 1;
        }
        // What was made stays: 0, then 1, then 2 more, then the last 3 of six.
        assert_eq!(failures, 3);
        assert_eq!(space.table.count_tables(), 7);
        assert_eq!(space.levels(iova, len_bytes), [0; 2]);

        // From nothing, at each of the six.
        for count in 0..6 {
            let mut space = Space::new(unit);
            space.memory.limit(count);
            let expected = Error::OutOfFrames { count_pages: 1 };
            assert_eq!(space.map(iova, 0x1000_0000, len_bytes), Err(expected));
            assert_eq!(space.walk(iova), None);
            space.memory.limit(6 - count);
            space.map(iova, 0x1000_0000, len_bytes).unwrap();
            // Unmapping takes no memory.
            space.unmap(iova, len_bytes).unwrap();
            assert_eq!(space.walk(iova), None);
        }
    }
}

#[test]
fn there_is_no_space_without_a_root() {
    let mut memory = Memory::coherent(&Log::new());
    memory.limit(0);
    let (cap, ecap) = SECOND_STAGE;
    let capabilities = Capabilities::check(Cap::from_bits(cap), Ecap::from_bits(ecap), 39).unwrap();
    let error = PageTable::new(&capabilities, &mut memory).unwrap_err();
    assert_eq!(error, Error::OutOfFrames { count_pages: 1 });
}

#[test]
fn dropping_a_space_gives_its_tables_back() {
    let mut space = Space::new(SECOND_STAGE);
    space.map(IOVA.0, 0, PAGE).unwrap();
    assert_eq!(space.memory.count_allocated(), 4);
    let Space { table, memory, .. } = space;
    drop(table);
    assert_eq!(memory.count_allocated(), 0);
}

#[test]
fn nothing_leads_to_the_interrupt_range_or_from_it() {
    for unit in [SECOND_STAGE, FIRST_STAGE] {
        let mut space = Space::new(unit);
        let refused = |address| Err(Error::InterruptRange { address });
        // For the device: the first page, the last, one across each end, all of it.
        for (iova, len_bytes) in [
            (0xfee0_0000, PAGE),
            (0xfeef_f000, PAGE),
            (0xfedf_f000, 2 * PAGE),
            (0xfeef_f000, 2 * PAGE),
            (0xc000_0000, 4 * GIB),
        ] {
            let result = space.map(iova, 0x1_0000_0000, len_bytes);
            assert_eq!(result, refused(iova));
            assert_eq!(space.unmap(iova, len_bytes), refused(iova));
        }
        // In memory, likewise.
        for (physical, len_bytes) in [
            (0xfee0_0000, PAGE),
            (0xfeef_f000, PAGE),
            (0xfedf_f000, 2 * PAGE),
            (0xfeef_f000, 2 * PAGE),
            (0xc000_0000, 4 * GIB),
        ] {
            let result = space.map(0x1_0000_0000, physical, len_bytes);
            assert_eq!(result, refused(physical));
        }
        assert_eq!(space.table.count_tables(), 1);
        // Up to it and from its end on is fine.
        space.map(0xfedf_f000, 0xfedf_f000, PAGE).unwrap();
        space.map(0xfef0_0000, 0xfef0_0000, PAGE).unwrap();
        // The same bits further up are an address like any.
        space.map(0x1_fee0_0000, 0x1_fee0_0000, PAGE).unwrap();
    }
}

#[test]
fn what_is_no_range_is_refused() {
    let mut space = Space::new(SECOND_STAGE);
    for (iova, len_bytes) in [
        (0, 0),
        (1, PAGE),
        (0x800, PAGE),
        (0, 0x800),
        (PAGE, u64::MAX),
    ] {
        let expected = Error::NotPages {
            iova: Iova(iova),
            len_bytes,
        };
        assert_eq!(space.map(iova, 0, len_bytes), Err(expected));
        assert_eq!(space.unmap(iova, len_bytes), Err(expected));
    }
    let frames = |physical, len_bytes| {
        Err(Error::NotFrames {
            physical: PhysAddr::new(physical),
            len_bytes,
        })
    };
    assert_eq!(space.map(0, 0x800, PAGE), frames(0x800, PAGE));
    let last = (1 << 52) - PAGE;
    assert_eq!(space.map(0, last, 2 * PAGE), frames(last, 2 * PAGE));
    space.map(0, last, PAGE).unwrap();
    assert_eq!(space.walk(0), Some((last, true, 0)));
    assert_eq!(space.table.count_tables(), 4);
}

#[test]
fn the_last_page_of_a_space_is_one() {
    for (unit, address_bits) in [(SECOND_STAGE, 48), (FIRST_STAGE, 47)] {
        let mut space = Space::new(unit);
        let end = 1 << address_bits;
        space.map(end - PAGE, 0, PAGE).unwrap();
        assert_eq!(space.walk(end - 1), Some((PAGE - 1, true, 0)));
        for (iova, len_bytes) in [
            (end, PAGE),
            (end - 2 * PAGE, 3 * PAGE),
            (u64::MAX - PAGE + 1, PAGE),
            (PAGE, 0_u64.wrapping_sub(PAGE)),
        ] {
            let expected = Error::BeyondDomain {
                iova: Iova(iova),
                address_bits,
            };
            assert_eq!(space.map(iova, 0, len_bytes), Err(expected));
            assert_eq!(space.unmap(iova, len_bytes), Err(expected));
        }
    }
}

/// What the walker finds in memory at any moment is complete: a link only ever leads to
/// a table whose zeros are in memory, and each entry is brought there at once.
#[test]
fn a_table_is_in_memory_before_an_entry_leads_to_it() {
    for unit in [SECOND_STAGE, FIRST_STAGE] {
        let mut space = Space::new(unit);
        space
            .map(IOVA.0 - PAGE, FRAME.as_u64(), MIB_2 + 2 * PAGE)
            .unwrap();
        space.unmap(IOVA.0, PAGE).unwrap();
        let events = space.log.take();
        let mut written_back = Vec::new();
        let mut links = 0;
        for pair in events.windows(2) {
            if let Event::WriteBack {
                address,
                len_bytes: 4096,
            } = pair[0]
            {
                written_back.push(address);
            }
            if let Event::Store { address, value } = pair[0] {
                let len_bytes = 8;
                assert_eq!(pair[1], Event::WriteBack { address, len_bytes });
                let leads_to = value & 0x000f_ffff_ffff_f000;
                if leads_to >= 0x12_3400_0000 {
                    assert!(written_back.contains(&leads_to), "{leads_to:#x}");
                    links += 1;
                }
            }
        }
        assert_eq!(links, space.table.count_tables() - 1);
        assert_eq!(written_back.len(), space.table.count_tables());
    }
}

#[test]
fn a_unit_that_looks_into_caches_needs_no_write_backs() {
    let (cap, ecap) = SECOND_STAGE;
    let mut space = Space::new((cap, ecap | SMPWCS));
    space.map(IOVA.0, FRAME.as_u64(), PAGE).unwrap();
    space.unmap(IOVA.0, PAGE).unwrap();
    let events = space.log.take();
    assert!(!events.is_empty());
    let is_store = |event: &Event| matches!(event, Event::Store { .. });
    assert!(events.iter().all(is_store), "{events:?}");
}
