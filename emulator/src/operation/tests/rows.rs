//! A second reading of the tables behind the checks, and what the tests of the
//! checks share.

use super::machine::BASE;
use super::{Build, EVERYTHING, record_flags};
use crate::completion::Status;
use crate::descriptor::{Flags, Opcode};
use crate::operation::check::Refusal;
use crate::operation::{Capabilities, check};

pub(super) const A: u64 = BASE;
pub(super) const B: u64 = BASE + 0x10_0000;
pub(super) const C: u64 = BASE + 0x20_0000;

pub(super) fn refusal(build: Build, capabilities: &Capabilities) -> Option<Refusal> {
    check(&build.done(), capabilities).err()
}

/// The error code under capabilities that offer everything; 0 if none.
pub(super) fn code(build: Build) -> u8 {
    refusal(build, &EVERYTHING).map_or(0, |refusal| refusal.status.0)
}

pub(super) fn plain(status: Status) -> Refusal {
    Refusal {
        status,
        invalid_flags: Flags::NONE,
        discarded: false,
    }
}

/// A second reading of Table 5-3: a descriptor of each operation that passes,
/// the flags that may be set in it, each on its own, without being invalid
/// (whatever they ask of other fields), and the bytes from 16 on that are not
/// reserved.
pub(super) struct Row {
    pub(super) good: Build,
    pub(super) addable: u32,
    pub(super) used: &'static [std::ops::RangeInclusive<usize>],
}

pub(super) fn rows() -> Vec<Row> {
    let new = |opcode| Build::new(opcode, record_flags());
    let row = |good, addable, used| Row {
        good,
        addable,
        used,
    };
    // Set in every good descriptor (CRAV and RCR), or allowed with every one
    // (RCI and the completion record's TC selector).
    const ALL: u32 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 12;
    const BOF: u32 = 1 << 1;
    const CHECK: u32 = 1 << 7;
    // Cache Control 1, 2 and 3, each alone, with all of GENCAP offered.
    const CACHE: u32 = 1 << 8 | 1 << 14 | 1 << 5;
    const TC1: u32 = 1 << 9;
    const TC2: u32 = 1 << 10;
    const TC3: u32 = 1 << 11;
    const ORDER: u32 = 1 << 13;
    vec![
        row(new(Opcode::NO_OP), ALL, &[]),
        row(
            new(Opcode::BATCH).u64(16, A).u32(32, 2),
            ALL | TC1 | 1 << 16,
            &[16..=23, 32..=35],
        ),
        row(new(Opcode::DRAIN), ALL | 0xf << 16, &[]),
        row(
            new(Opcode::MEMORY_MOVE).transfer(A, B, 64),
            ALL | BOF | CACHE | ORDER | TC1 | TC2,
            &[16..=35],
        ),
        row(
            new(Opcode::FILL).transfer(A, B, 64),
            ALL | BOF | CACHE | ORDER | TC2 | 1 << 18,
            &[16..=35],
        ),
        row(
            new(Opcode::COMPARE).transfer(A, B, 64),
            ALL | BOF | CHECK | TC1 | TC2,
            &[16..=35, 40..=40],
        ),
        row(
            new(Opcode::COMPARE_PATTERN).transfer(A, B, 64),
            ALL | BOF | CHECK | TC1,
            &[16..=35, 40..=40],
        ),
        row(
            new(Opcode::CREATE_DELTA_RECORD)
                .transfer(A, B, 64)
                .u64(40, C)
                .u32(48, 80),
            ALL | BOF | CHECK | CACHE | ORDER | TC1 | TC2 | TC3,
            &[16..=35, 40..=51, 56..=56],
        ),
        row(
            new(Opcode::APPLY_DELTA_RECORD)
                .transfer(A, B, 64)
                .u32(40, 10),
            ALL | BOF | CACHE | ORDER | TC1 | TC2,
            &[16..=35, 40..=43],
        ),
        row(
            new(Opcode::DUALCAST).transfer(A, B, 64).u64(40, C),
            ALL | BOF | CACHE | ORDER | TC1 | TC2 | TC3,
            &[16..=35, 40..=47],
        ),
        row(
            new(Opcode::TRANSLATION_FETCH).transfer(A, 0, 64),
            ALL | BOF | 1 << 16,
            &[16..=23, 32..=35],
        ),
        row(
            new(Opcode::CRC_GENERATION).transfer(A, 0, 64).u32(40, 7),
            ALL | BOF | TC1 | 0xf << 16,
            &[16..=23, 32..=35, 40..=43],
        ),
        row(
            new(Opcode::COPY_WITH_CRC).transfer(A, B, 64).u32(40, 7),
            ALL | BOF | CACHE | ORDER | TC1 | TC2 | 0xf << 16,
            &[16..=35, 40..=43],
        ),
        row(
            new(Opcode::DIF_CHECK).transfer(A, 0, 520),
            ALL | BOF | TC1,
            &[16..=23, 32..=35, 40..=40, 42..=42, 48..=55],
        ),
        row(
            new(Opcode::DIF_INSERT).transfer(A, B, 512),
            ALL | BOF | CACHE | ORDER | TC1 | TC2,
            &[16..=35, 41..=42, 56..=63],
        ),
        row(
            new(Opcode::DIF_STRIP).transfer(A, B, 520),
            ALL | BOF | CACHE | ORDER | TC1 | TC2,
            &[16..=35, 40..=40, 42..=42, 48..=55],
        ),
        row(
            new(Opcode::DIF_UPDATE).transfer(A, B, 520),
            ALL | BOF | CACHE | ORDER | TC1 | TC2,
            &[16..=35, 40..=42, 48..=63],
        ),
        row(
            new(Opcode::DIX_GENERATE).transfer(A, B, 512),
            ALL | BOF | CACHE | ORDER | TC1 | TC2,
            &[16..=35, 41..=42, 56..=63],
        ),
        row(
            new(Opcode::CACHE_FLUSH).transfer(0, B, 64),
            ALL | BOF | 1 << 14 | ORDER | TC2,
            &[24..=35],
        ),
    ]
}
