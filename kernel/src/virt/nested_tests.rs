use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// One page of entries.
type Entries = Rc<RefCell<[u64; 512]>>;

std::thread_local! {
    /// The pages that exist, by address: what a processor would walk.
    static PAGES: RefCell<BTreeMap<u64, Entries>> = const { RefCell::new(BTreeMap::new()) };
}

#[derive(Debug)]
struct FakePage(u64, Entries);

impl TablePage for FakePage {
    fn allocate() -> Result<Self, OutOfMemory> {
        PAGES.with_borrow_mut(|pages| {
            let address = 0x7000_0000 + pages.len() as u64 * SMALL_PAGE;
            let entries = Entries::new(RefCell::new([0; 512]));
            pages.insert(address, entries.clone());
            Ok(Self(address, entries))
        })
    }

    fn address(&self) -> PhysAddr {
        PhysAddr::new(self.0)
    }

    fn write(&self, index: usize, entry: u64) {
        self.1.borrow_mut()[index] = entry;
    }
}

/// Bit 0: present; bit 1: table; bit 2: large; bits 5:4: access.
#[derive(Debug)]
struct FakeFormat;

impl Format for FakeFormat {
    fn table(address: PhysAddr) -> u64 {
        address.as_u64() | 3
    }

    fn leaf(address: PhysAddr, access: Access, large: bool) -> u64 {
        address.as_u64() | 1 | u64::from(large) << 2 | (access as u64) << 4
    }
}

type Tables = NestedTables<FakeFormat, FakePage>;

fn tables() -> Tables {
    PAGES.with_borrow_mut(BTreeMap::clear);
    Tables::new().unwrap()
}

/// What a processor finds: the machine's address, the access, the page's size.
fn walk(tables: &Tables, guest: u64) -> Option<(u64, u64, u64)> {
    let mut table = tables.root().as_u64();
    for bits in [39, 30, 21, 12] {
        let entry =
            PAGES.with_borrow(|pages| pages[&table].borrow()[(guest >> bits & 0x1ff) as usize]);
        if entry & 1 == 0 {
            return None;
        }
        let size = 1_u64 << bits;
        if entry & 2 == 0 {
            assert_eq!(entry & 4 != 0, bits == 21, "a leaf of the wrong level");
            let page = entry & !0xfff;
            return Some((page + guest % size, entry >> 4 & 3, size));
        }
        table = entry & !0xfff;
    }
    panic!("no leaf at the lowest level");
}

fn map(tables: &mut Tables, guest: u64, host: u64, length: u64, access: Access) -> bool {
    tables
        .map(GuestPhysAddr(guest), PhysAddr::new(host), length, access)
        .unwrap()
}

const RAM: u64 = Access::Ram as u64;
const DEVICE: u64 = Access::Device as u64;

#[test]
fn large_pages_are_used_where_both_sides_are_aligned() {
    let mut tables = tables();
    map(&mut tables, 0, 0x1000_0000, 4 << 20, Access::Ram);
    assert_eq!(
        walk(&tables, 0x3f_fff8),
        Some((0x103f_fff8, RAM, LARGE_PAGE))
    );
    assert_eq!(walk(&tables, 4 << 20), None);
    let replaced = map(&mut tables, 1 << 30, 0x1000_1000, 4 << 20, Access::Ram);
    assert_eq!(
        walk(&tables, (1 << 30) + 8),
        Some((0x1000_1008, RAM, SMALL_PAGE))
    );
    assert!(!replaced);
}

#[test]
fn a_device_page_comes_and_goes() {
    let mut tables = tables();
    map(
        &mut tables,
        0xc000_3000,
        0xfe00_3000,
        SMALL_PAGE,
        Access::Device,
    );
    assert_eq!(
        walk(&tables, 0xc000_3010),
        Some((0xfe00_3010, DEVICE, SMALL_PAGE))
    );
    assert_eq!(walk(&tables, 0xc000_4000), None);
    tables.unmap(GuestPhysAddr(0xc000_3000), SMALL_PAGE);
    assert_eq!(walk(&tables, 0xc000_3010), None);
    let replaced = map(
        &mut tables,
        0xc000_3000,
        0xfe00_7000,
        SMALL_PAGE,
        Access::Device,
    );
    assert!(!replaced, "nothing was there any more");
    assert_eq!(
        walk(&tables, 0xc000_3000),
        Some((0xfe00_7000, DEVICE, SMALL_PAGE))
    );
}

#[test]
fn replacing_is_a_change_that_processors_must_see() {
    let mut tables = tables();
    map(&mut tables, 0x1000, 0x5000, SMALL_PAGE, Access::Ram);
    assert!(map(&mut tables, 0x1000, 0x6000, SMALL_PAGE, Access::Ram));
    assert_eq!(walk(&tables, 0x1000), Some((0x6000, RAM, SMALL_PAGE)));
}

#[test]
fn unmapping_skips_what_is_not_there() {
    let mut tables = tables();
    map(&mut tables, 2 << 20, 2 << 20, 2 << 20, Access::Ram);
    tables.unmap(GuestPhysAddr(0), 1 << 40);
    assert_eq!(walk(&tables, 2 << 20), None);
}

/// How many pages of entries there are.
fn count_pages() -> usize {
    PAGES.with_borrow(BTreeMap::len)
}

#[test]
fn a_reserved_table_is_used_again_and_again() {
    const HOST: u64 = 0xfe00_3000;
    let mut tables = tables();
    let (low, high) = (GuestPhysAddr(0xb000_0000), GuestPhysAddr(0xfec0_0000));
    assert!(!tables.has_tables_for(low));
    tables.reserve(low..high, 1).unwrap();
    // The top, one below it, one for each of the two GiB that the range is in, and the
    // spare one.
    assert_eq!(count_pages(), 5);
    let places = [0xb000_0000, 0xbfff_f000, 0xc000_0000, 0xfebf_f000];
    for place in places.into_iter().cycle().take(100) {
        let guest = GuestPhysAddr(place);
        assert!(tables.has_tables_for(guest));
        assert!(!map(&mut tables, place, HOST, SMALL_PAGE, Access::Device));
        // No other large page has a table now, and this one has.
        for other in places {
            let is_same = other / LARGE_PAGE == place / LARGE_PAGE;
            assert_eq!(tables.has_tables_for(GuestPhysAddr(other)), is_same);
            let found = (other == place).then_some((HOST, DEVICE, SMALL_PAGE));
            assert_eq!(walk(&tables, other), found);
        }
        tables.unmap(guest, SMALL_PAGE);
        assert_eq!(walk(&tables, place), None);
    }
    assert_eq!(count_pages(), 5);
}

#[test]
fn a_table_that_maps_something_stays() {
    let mut tables = tables();
    map(&mut tables, 0x1000, 0x5000, SMALL_PAGE, Access::Device);
    map(&mut tables, 0x2000, 0x6000, SMALL_PAGE, Access::Device);
    tables.unmap(GuestPhysAddr(0x1000), SMALL_PAGE);
    assert_eq!(walk(&tables, 0x2000), Some((0x6000, DEVICE, SMALL_PAGE)));
    assert!(!tables.has_tables_for(GuestPhysAddr(1 << 30)));
    // Nothing is left in it, so a large page can be where it was.
    tables.unmap(GuestPhysAddr(0x2000), SMALL_PAGE);
    map(&mut tables, 0, LARGE_PAGE, LARGE_PAGE, Access::Ram);
    assert_eq!(walk(&tables, 8), Some((LARGE_PAGE + 8, RAM, LARGE_PAGE)));
    assert!(
        !tables.has_tables_for(GuestPhysAddr(0x1000)),
        "RAM is there"
    );
}

#[test]
#[should_panic(expected = "part of the page")]
fn a_large_page_cannot_go_in_part() {
    let mut tables = tables();
    map(&mut tables, 0, 0, 2 << 20, Access::Ram);
    tables.unmap(GuestPhysAddr(0x1000), 0x1000);
}

#[test]
#[should_panic(expected = "not pages of a guest")]
fn addresses_beyond_four_levels_are_noticed() {
    map(&mut tables(), 1 << 48, 0, SMALL_PAGE, Access::Ram);
}

proptest! {
    /// What a processor finds is what was mapped last.
    #[test]
    fn the_tables_behave_like_a_map_of_pages(
        steps in prop::collection::vec((0_u64..40, 1_u64..20, 0_u64..40, any::<bool>()), 1..30),
    ) {
        // Pages around the border of two large pages and of two upper tables.
        let base = (1 << 30) - 20 * SMALL_PAGE;
        let mut tables = tables();
        let mut expected = BTreeMap::new();
        for (page, count, host, unmap) in steps {
            let guest = base + page * SMALL_PAGE;
            let count = if unmap { count } else { count.min(8) };
            if unmap {
                tables.unmap(GuestPhysAddr(guest), count * SMALL_PAGE);
            } else {
                map(&mut tables, guest, host * SMALL_PAGE, count * SMALL_PAGE, Access::Ram);
            }
            for page in 0..count {
                let guest = guest + page * SMALL_PAGE;
                if unmap {
                    expected.remove(&guest);
                } else {
                    expected.insert(guest, (host + page) * SMALL_PAGE);
                }
            }
        }
        for page in 0..60 {
            let guest = base + page * SMALL_PAGE;
            let found = walk(&tables, guest).map(|(host, ..)| host);
            prop_assert_eq!(found, expected.get(&guest).copied());
        }
    }
}
