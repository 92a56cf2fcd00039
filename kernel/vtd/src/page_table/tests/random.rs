//! A page table and a simple map, to which the same is done.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Something that is done to a space.
#[derive(Clone, Copy, Debug)]
enum Step {
    Map {
        page: u64,
        count: u64,
        frame: u64,
        access: Access,
        /// How many tables there is memory for.
        tables: usize,
    },
    Unmap {
        page: u64,
        count: u64,
    },
}

/// Numbers around the borders of 2 MiB pages, in four of them.
fn page_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0..5_u64, 0..3_u64).prop_map(|(large, small)| large * 512 + small),
        (1..5_u64, 1..3_u64).prop_map(|(large, small)| large * 512 - small),
        0..2048_u64,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let count = prop_oneof![1..4_u64, Just(512), Just(1024), 511..515_u64, 1..1200_u64];
    let access = prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)];
    let tables = prop_oneof![3 => Just(100_usize), 1 => 0..6_usize];
    prop_oneof![
        2 => (page_number(), count.clone(), page_number(), any::<bool>(), access, tables).prop_map(
            |(page, count, frame, agrees, access, tables)| {
                // Half of them so that large pages are possible.
                let frame = if agrees { frame & !511 | page & 511 } else { frame };
                Step::Map { page, count, frame, access, tables }
            }
        ),
        1 => (page_number(), count).prop_map(|(page, count)| Step::Unmap { page, count }),
    ]
}

/// Fewer where each takes minutes.
const MAX_STEPS: usize = if cfg!(miri) { 3 } else { 24 };

/// A page number's frame number and whether it may be written.
type Book = BTreeMap<u64, (u64, bool)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 32 }))]

    /// Whatever is done in whatever order, an address leads where a simple map says.
    #[test]
    fn a_space_is_a_map_from_pages_to_frames(
        second in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..MAX_STEPS),
    ) {
        let mut space = Space::new(if second { SECOND_STAGE } else { FIRST_STAGE });
        let mut book = Book::new();
        for step in steps {
            match step {
                Step::Map { page, count, frame, access, tables } => {
                    space.memory.limit(tables);
                    let result = space.map_as(access, page << 12, frame << 12, count << 12);
                    let taken = book.range(page..page + count).next().map(|(&at, _)| at);
                    match result {
                        Ok(()) => {
                            prop_assert_eq!(taken, None);
                            let is_writable = access == Access::ReadWrite;
                            let pages = page..page + count;
                            book.extend(pages.zip(frame..).map(|(at, to)| (at, (to, is_writable))));
                        }
                        Err(Error::AlreadyMapped(iova)) => {
                            // Named is a part that begins at or before the page.
                            let taken = taken.unwrap();
                            prop_assert!(iova.0 >> 12 <= taken && iova.0 >> 12 >= page);
                        }
                        Err(Error::OutOfFrames { count_pages: 1 }) => prop_assert!(tables < 6),
                        Err(error) => prop_assert!(false, "{}", error),
                    }
                }
                Step::Unmap { page, count } => {
                    let hole = (page..page + count).find(|at| !book.contains_key(at));
                    let sticks_out = |at: u64| {
                        let (_, _, level) = space.walk(at << 12).unwrap();
                        let size = page_bytes(level) >> 12;
                        at / size * size < page || at / size * size + size > page + count
                    };
                    let larger = (page..page + count)
                        .take_while(|&at| hole.is_none_or(|hole| at < hole))
                        .find(|&at| sticks_out(at));
                    let expected = match (larger, hole) {
                        (Some(at), _) => Err(Error::LargerPage(Iova(at << 12))),
                        (None, Some(at)) => Err(Error::NotMapped(Iova(at << 12))),
                        (None, None) => Ok(()),
                    };
                    prop_assert_eq!(space.unmap(page << 12, count << 12), expected);
                    if expected.is_ok() {
                        book.retain(|at, _| !(page..page + count).contains(at));
                    }
                }
            }
            for at in 0..3400 {
                let found = space.walk(at << 12).map(|(to, is_writable, _)| (to >> 12, is_writable));
                prop_assert_eq!(found, book.get(&at).copied(), "page {:#x}", at);
            }
        }
    }
}
