//! Descriptors, laid out by hand. [DSA 3.0, 8.1 "Common Descriptor Fields"; 8.3
//! "Descriptor Types"]

use proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::device::{FOREIGN_HANDLE, HANDLE, OWN_HANDLE, RAM, WINDOW};

/// Where records are: the one of a batch, and behind it those of members.
pub(crate) const RECORD: u64 = 0x1000;
/// Where the list of a batch is: more than one bit away from what is written to, since
/// a device reads members again that earlier ones write to, and Weir's copy stays.
pub(crate) const LIST: u64 = 0x7000;
/// Where data are.
const SOURCE: u64 = 0x8000;
const DESTINATION: u64 = 0xa000;
const THIRD: u64 = 0xc000;
const SEED: u64 = 0xf000;

/// The guest's memory before each descriptor: some pattern, so that data move, and zeros
/// where records are.
pub(crate) fn memory() -> Vec<u8> {
    static MEMORY: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        (0..RAM)
            .map(|at| match at {
                0x1000..0x2000 => 0,
                _ => (at * 7 + at / 256).to_le_bytes()[0],
            })
            .collect()
    });
    MEMORY.clone()
}

/// The same with a list of members.
pub(crate) fn with_members(ram: &[u8], members: &[[u64; 8]]) -> Vec<u8> {
    let mut ram = ram.to_vec();
    let list = &mut ram[usize::try_from(LIST).unwrap()..];
    for (place, word) in list.chunks_exact_mut(8).zip(members.as_flattened()) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    ram
}

/// Where member `index` has its record.
fn record(index: u64) -> u64 {
    RECORD + 0x40 * (index + 1)
}

/// A no-op with a record of its own.
pub(crate) fn no_op(index: u64) -> [u64; 8] {
    [0xc << 32, record(index), 0, 0, 0, 0, 0, 0]
}

/// A batch of `count` members of the list, with a record and an interrupt.
pub(crate) fn batch(count: u64) -> [u64; 8] {
    let word4 = u64::from(HANDLE) << 32 | count;
    [0x0100_001c_0000_0000, RECORD, LIST, 0, word4, 0, 0, 0]
}

/// A batch with some of its flags, and now and then a wrong handle.
pub(crate) fn batch_with(count: usize, flags: u8, seed: u16) -> [u64; 8] {
    let mut words = batch(count as u64);
    words[0] = 1 << 56 | u64::from(flags & 0x1c) << 32;
    if flags & 0x4 == 0 {
        words[0] &= !(8 << 32);
        words[1] = 0;
    }
    let handle = match (flags & 0x10 != 0, seed % 16) {
        (false, _) => 0,
        (true, 0) => FOREIGN_HANDLE,
        (true, _) => HANDLE,
    };
    words[4] = u64::from(handle) << 32 | count as u64;
    words
}

/// An operation with these flags and everything else as it should be. The low bits of
/// `flags` that need fields get them.
pub(crate) fn typical(operation: u8, flags: u32) -> [u64; 8] {
    let mut words = [0; 8];
    words[0] = u64::from(operation) << 56 | u64::from(flags) << 32;
    if flags & 0x4 != 0 {
        words[1] = record(0);
    }
    if flags & 0x10 != 0 {
        words[4] = u64::from(HANDLE) << 32;
    }
    let size = match operation {
        0 | 2 => 0,
        1 => 2,
        0x12 | 0x14 | 0x15 => 520,
        0x13 | 0x17 => 512,
        _ => 0x200,
    };
    words[4] |= size;
    let (source, destination) = match operation {
        0 | 2 => (0, 0),
        1 => (LIST, 0),
        4 => (0x1122_3344_5566_7788, DESTINATION),
        6 => (SOURCE, 0x1122_3344_5566_7788),
        0x0a | 0x10 | 0x12 => (SOURCE, 0),
        0x20 => (0, DESTINATION),
        _ => (SOURCE, DESTINATION),
    };
    words[2] = source;
    words[3] = destination;
    match operation {
        7 => (words[5], words[6]) = (THIRD, 0x100),
        8 => words[5] = 20,
        9 => words[5] = THIRD,
        0x10 | 0x11 if flags & 1 << 16 != 0 => words[6] = SEED,
        _ => {}
    }
    words
}

/// Members that the check refuses, one or more for each code that ends in a record, with
/// that code.
#[rustfmt::skip]
pub(crate) fn refused_members() -> Vec<([u64; 8], u8)> {
    let at = record(1);
    vec![
        ([0x7f00_000c_0000_0000, at, 0, 0, 0, 0, 0, 0], 0x10),
        ([0x0100_000c_0000_0000, at, LIST, 0, 2, 0, 0, 0], 0x10),
        ([0x0200_000c_0000_0000, at, 0, 0, 0, 0, 0, 0], 0x10),
        ([0x0a00_000c_0000_0000, at, SOURCE, 0, 0x1000, 0, 0, 0], 0x10),
        ([0x0300_000e_0000_0000, at, SOURCE, DESTINATION, 8, 0, 0, 0], 0x11),
        ([0x0300_402c_0000_0000, at, SOURCE, DESTINATION, 8, 0, 0, 0], 0x11),
        ([0x0404_000c_0000_0000, at, 1, DESTINATION, 8, 2, 0, 0], 0x11),
        ([0x1008_000c_0000_0000, at, SOURCE, 0, 8, 0, 0, 0], 0x11),
        ([0x0500_0004_0000_0000, at, SOURCE, DESTINATION, 8, 0, 0, 0], 0x11),
        ([0x0700_0004_0000_0000, at, SOURCE, DESTINATION, 8, THIRD, 80, 0], 0x11),
        ([0x1100_0084_0000_0000, at, SOURCE, DESTINATION, 8, 0, 0, 0], 0x11),
        ([0x1201_0004_0000_0000, at, SOURCE, 0, 520, 0, 0, 0], 0x11),
        ([0x0300_000c_0000_0000, at, SOURCE, DESTINATION, 8, 0, 0, 1], 0x12),
        ([0x0300_000c_0000_0000, at, SOURCE, DESTINATION, 0, 0, 0, 0], 0x13),
        ([0x0400_000c_0000_0000, at, 1, DESTINATION, 0x4001, 0, 0, 0], 0x13),
        ([0x0500_000c_0000_0000, at, SOURCE, DESTINATION, 0, 0, 0, 0], 0x13),
        ([0x0600_000c_0000_0000, at, SOURCE, 1, 0, 0, 0, 0], 0x13),
        ([0x0700_000c_0000_0000, at, SOURCE, DESTINATION, 0, THIRD, 80, 0], 0x13),
        ([0x0800_000c_0000_0000, at, SOURCE, DESTINATION, 0, 10, 0, 0], 0x13),
        ([0x0900_000c_0000_0000, at, SOURCE, DESTINATION, 0, THIRD, 0, 0], 0x13),
        ([0x1001_000c_0000_0000, at, SOURCE, 0, 0, 0, SEED, 0], 0x13),
        ([0x1100_000c_0000_0000, at, SOURCE, DESTINATION, 0, 0, 0, 0], 0x13),
        ([0x1200_000c_0000_0000, at, SOURCE, 0, 521, 0, 0, 0], 0x13),
        ([0x1300_000c_0000_0000, at, SOURCE, DESTINATION, 513, 0, 0, 0], 0x13),
        ([0x1400_000c_0000_0000, at, SOURCE, DESTINATION, 512, 0, 0, 0], 0x13),
        ([0x1500_000c_0000_0000, at, SOURCE, DESTINATION, 0, 0, 0, 0], 0x13),
        ([0x2000_000c_0000_0000, at, 0, DESTINATION, 0, 0, 0, 0], 0x13),
        ([0x0700_000c_0000_0000, at, SOURCE, DESTINATION, 8, THIRD, 79, 0], 0x15),
        ([0x0800_000c_0000_0000, at, SOURCE, DESTINATION, 8, 0, 0, 0], 0x15),
        ([0x0700_000c_0000_0000, at, SOURCE, DESTINATION, 8, SOURCE, 80, 0], 0x16),
        ([0x0800_000c_0000_0000, at, SOURCE, SOURCE, 8, 10, 0, 0], 0x16),
        ([0x0900_000c_0000_0000, at, SOURCE, DESTINATION, 8, DESTINATION, 0, 0], 0x16),
        ([0x1100_000c_0000_0000, at, SOURCE, SOURCE + 1, 8, 0, 0, 0], 0x16),
        ([0x1300_000c_0000_0000, at, SOURCE, SOURCE, 512, 0, 0, 0], 0x16),
        ([0x1400_000c_0000_0000, at, SOURCE, SOURCE, 520, 0, 0, 0], 0x16),
        ([0x1500_000c_0000_0000, at, SOURCE, SOURCE, 520, 0, 0, 0], 0x16),
        ([0x0900_000c_0000_0000, at, SOURCE, DESTINATION, 8, THIRD + 1, 0, 0], 0x17),
        ([0x0000_001c_0000_0000, at, 0, 0, 0x5_0000_0000, 0, 0, 0], 0x19),
        ([0x0700_000c_0000_0000, at, SOURCE, DESTINATION, 12, THIRD, 80, 0], 0x1c),
        ([0x0800_000c_0000_0000, at, SOURCE, DESTINATION + 1, 8, 10, 0, 0], 0x1c),
        ([0x1001_000c_0000_0000, at, SOURCE, 0, 8, 0, SEED + 1, 0], 0x1c),
        ([0x1101_000c_0000_0000, at, SOURCE, DESTINATION, 8, 0, SEED + 2, 0], 0x1c),
        ([0x0300_000c_0000_0000, at, WINDOW, DESTINATION, 8, 0, 0, 0], 0x20),
        ([0x0400_000c_0000_0000, at, 1, WINDOW + 0x1000, 8, 0, 0, 0], 0x20),
    ]
}

fn operation() -> impl Strategy<Value = u8> {
    prop_oneof![20 => 0..=0x22_u8, 1 => any::<u8>()]
}

/// Flags that are mostly right: each combination of the first ones, rarely another.
fn flags() -> impl Strategy<Value = u32> {
    let more = prop_oneof![
        6 => Just(0),
        3 => (0..24_u32).prop_map(|bit| 1 << bit),
        1 => any::<u32>().prop_map(|bits| bits & 0xff_ffff),
    ];
    (0..8_u32, more).prop_map(|(first, more)| {
        // Record and interrupt, and the record on success mostly with its address.
        let first = [0xc, 0xc, 0xc, 0x1c, 0x1c, 0x4, 0x10, 0x0][first as usize];
        first ^ more
    })
}

fn address() -> impl Strategy<Value = u64> {
    let ram = RAM as u64;
    prop_oneof![
        12 => (SOURCE..ram).prop_map(|at| at & !7),
        4 => SOURCE..ram,
        2 => Just(SOURCE),
        1 => WINDOW - 0x100..WINDOW + 0x2100,
        1 => any::<u64>(),
        1 => u64::MAX - 0x1000..=u64::MAX,
    ]
}

fn size() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => (1..64_u32).prop_map(|words| 8 * words),
        4 => 0..0x1000_u32,
        2 => Just(520_u32),
        2 => Just(512_u32),
        1 => 0x3ff0..0x4010_u32,
        1 => any::<u32>(),
    ]
}

fn handle() -> impl Strategy<Value = u16> {
    prop_oneof![
        8 => Just(HANDLE),
        1 => Just(FOREIGN_HANDLE),
        1 => any::<u16>().prop_filter("a bare device takes Weir's own", |handle| {
            *handle != OWN_HANDLE
        }),
    ]
}

fn record_address() -> impl Strategy<Value = u64> {
    prop_oneof![
        16 => Just(record(0)),
        1 => Just(record(0) + 8),
        1 => WINDOW - 0x40..WINDOW + 0x40,
        1 => any::<u64>().prop_map(|at| at & !31),
    ]
}

/// What stands in the last three words: mostly what the operation wants.
fn tail() -> impl Strategy<Value = [u64; 3]> {
    prop_oneof![
        6 => Just([0, 0, 0]),
        4 => Just([THIRD, 0, 0]),
        3 => Just([THIRD, 0x100, 0]),
        3 => (0..6_u64).prop_map(|entries| [10 * entries, 0, 0]),
        2 => (0..0x100_u64).prop_map(|flags| [flags << 16, 0, 0]),
        2 => (address(), 0..0x200_u64).prop_map(|(at, size)| [at, size, 0]),
        2 => address().prop_map(|at| [0, at, 0]),
        1 => any::<[u64; 3]>(),
    ]
}

/// Any descriptor, mostly one that is nearly right.
pub(crate) fn any_descriptor() -> impl Strategy<Value = [u64; 8]> {
    let fields = (
        operation(),
        flags(),
        (address(), address()),
        size(),
        handle(),
        record_address(),
        tail(),
        prop_oneof![20 => Just(None), 1 => (0..512_usize).prop_map(Some)],
    );
    fields.prop_map(
        |(operation, flags, (source, destination), size, handle, at, tail, flip)| {
            let mut words = typical(operation, flags);
            if operation >= 3 {
                let typical = words;
                words[2] = source;
                words[3] = destination;
                words[4] = words[4] & !0xffff_ffff | u64::from(size);
                words[5..].copy_from_slice(&tail);
                if typical[2] == 0 {
                    words[2] = 0;
                }
                if typical[3] == 0 {
                    words[3] = 0;
                }
            }
            if flags & 0x4 != 0 {
                words[1] = at;
            }
            if flags & 0x10 != 0 {
                words[4] = words[4] & 0xffff_ffff | u64::from(handle) << 32;
            }
            if let Some(bit) = flip {
                words[bit / 64] ^= 1 << (bit % 64);
            }
            // Not a PASID that one side does not have, nor what ENQCMDS faults on.
            words[0] &= !0x7fff_ffff;
            if words[4] >> 32 & 0xffff == u64::from(OWN_HANDLE) {
                words[4] ^= 1 << 32;
            }
            words
        },
    )
}

/// The same with a fence now and then, in the name of somebody else.
pub(crate) fn any_member() -> impl Strategy<Value = [u64; 8]> {
    (any_descriptor(), any::<u8>(), any::<u32>()).prop_map(|(mut words, fence, trusted)| {
        if fence < 64 {
            words[0] |= 1 << 32;
        }
        words[0] |= u64::from(trusted);
        words
    })
}
