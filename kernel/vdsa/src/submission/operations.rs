//! What each operation of a DSA 1.0 allows, as a table.
//!
//! The flags and reserved fields of [DSA 3.0, 5.5 "Descriptor Reserved Field Checking",
//! Tables 5-3 to 5-5; 8.3 "Descriptor Types"], as far as a device offers them whose
//! GENCAP is the virtual one: overlapping copies, cache control and destination
//! readback, but no block on fault, no readback addresses of drains, no patterns of 16
//! bytes, no 64-bit CRC, no batch continuation.

use hwspec::dsa::{Flags, Operation};

/// The flags of a descriptor where its first word has them.
pub(super) const FLAGS: u64 = 0x00ff_ffff << 32;

/// Flags, in place.
const fn place(flags: Flags) -> u64 {
    (flags.into_bits() as u64) << 32
}

pub(super) const FENCE: u64 = place(Flags::new().with_fence(true));
pub(super) const RECORD_VALID: u64 = place(Flags::new().with_completion_record_address_valid(true));
pub(super) const RECORD: u64 = place(Flags::new().with_request_completion_record(true));
pub(super) const INTERRUPT: u64 = place(Flags::new().with_request_completion_interrupt(true));
pub(super) const CACHE_1: u64 = place(Flags::new().with_cache_control_1(true));
pub(super) const CACHE_2: u64 = place(Flags::new().with_cache_control_2(true));
pub(super) const CACHE_3: u64 = place(Flags::new().with_cache_control_3(true));
pub(super) const RECORD_TC: u64 = place(Flags::new().with_completion_record_tc(true));
pub(super) const ADDRESS_1_TC: u64 = place(Flags::new().with_address_1_tc(true));
pub(super) const READ_SEED: u64 = place(Flags::CRC_READ_SEED);
pub(super) const READBACK_1: u64 = place(Flags::DRAIN_READBACK_1);
pub(super) const READBACK_2: u64 = place(Flags::DRAIN_READBACK_2);
pub(super) const ADDRESS_2_TC: u64 = place(Flags::new().with_address_2_tc(true));
const ADDRESS_3_TC: u64 = place(Flags::new().with_address_3_tc(true));
const CHECK: u64 = place(Flags::new().with_check_result(true));
const STRICT: u64 = place(Flags::new().with_strict_ordering(true));
/// CRC: Read CRC Seed, Bypass CRC Inversion and Reflection, Bypass Data Reflection.
const CRC: u64 =
    READ_SEED | place(Flags::CRC_BYPASS_INVERSION) | place(Flags::CRC_BYPASS_REFLECTION);
/// Drain: Suppress TC-A and TC-B Implicit Readback.
const DRAIN: u64 = place(Flags::new().with_operation_specific(0b1100));

/// What every operation allows. The record's flags need a record, fences a batch.
const COMMON: u64 = RECORD_VALID | RECORD | INTERRUPT | RECORD_TC;
/// What operations that write allow besides. Cache Control 3 is of later devices.
const WRITES: u64 = CACHE_1 | CACHE_2 | STRICT;

/// Which checks an operation needs beyond its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NoOp,
    Batch,
    Drain,
    Move,
    Fill,
    Compare,
    ComparePattern,
    CreateDelta,
    ApplyDelta,
    Dualcast,
    Crc,
    CopyCrc,
    DifCheck,
    DifInsert,
    DifStrip,
    DifUpdate,
    CacheFlush,
}

/// One operation.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) kind: Kind,
    /// Flags that may be 1, in place.
    pub(super) allowed: u64,
    /// Flags that must be 1, in place.
    pub(super) required: u64,
    /// Flags that may be 1 if Read CRC Seed is, in place.
    pub(super) allowed_with_seed: u64,
    /// Reserved bits of words 2 to 7.
    pub(super) reserved: [u64; 6],
}

/// A mask of `bytes` of a word, counted from the first byte of the descriptor.
const fn bytes(first: u32, last: u32) -> u64 {
    let count = last - first + 1;
    let ones = if count == 8 {
        !0
    } else {
        (1 << (8 * count)) - 1
    };
    ones << (8 * (first % 8))
}

/// All of a word.
const ALL: u64 = !0;
/// The two bytes behind the interrupt handle.
const W4: u64 = bytes(38, 39);
/// DIF Flags beyond block size, inversion and seed of the guard.
const DIF_FLAGS: u64 = 0xf0 << 16;
/// Destination DIF Flags below those that say where the tags come from.
const DESTINATION_DIF_FLAGS: u64 = 0x07 << 8;

const fn row(kind: Kind, allowed: u64, reserved: [u64; 6]) -> Option<Row> {
    Some(Row {
        kind,
        allowed: COMMON | allowed,
        required: 0,
        allowed_with_seed: 0,
        reserved,
    })
}

/// A row of an operation whose result is in the record.
const fn with_result(kind: Kind, allowed: u64, reserved: [u64; 6]) -> Option<Row> {
    Some(Row {
        kind,
        allowed: COMMON | allowed,
        required: RECORD_VALID | RECORD,
        allowed_with_seed: if allowed & CRC == CRC {
            ADDRESS_3_TC
        } else {
            0
        },
        reserved,
    })
}

/// By operation code.
pub(super) static ROWS: [Option<Row>; 0x21] = rows();

#[expect(
    clippy::indexing_slicing,
    reason = "an index too high does not compile"
)]
const fn rows() -> [Option<Row>; 0x21] {
    const fn at(operation: Operation) -> usize {
        operation.0 as usize
    }
    let mut rows = [const { None }; 0x21];
    rows[at(Operation::NO_OP)] = row(Kind::NoOp, 0, [ALL, ALL, bytes(32, 35) | W4, ALL, ALL, ALL]);
    rows[at(Operation::BATCH)] = row(Kind::Batch, ADDRESS_1_TC, [0, ALL, W4, ALL, ALL, ALL]);
    rows[at(Operation::DRAIN)] = row(
        Kind::Drain,
        DRAIN,
        [ALL, ALL, bytes(32, 35) | W4, ALL, ALL, ALL],
    );
    rows[at(Operation::MEMORY_MOVE)] = row(
        Kind::Move,
        WRITES | ADDRESS_1_TC | ADDRESS_2_TC,
        [0, 0, W4, ALL, ALL, ALL],
    );
    rows[at(Operation::FILL)] = row(Kind::Fill, WRITES | ADDRESS_2_TC, [0, 0, W4, ALL, ALL, ALL]);
    rows[at(Operation::COMPARE)] = with_result(
        Kind::Compare,
        CHECK | ADDRESS_1_TC | ADDRESS_2_TC,
        [0, 0, W4, bytes(41, 47), ALL, ALL],
    );
    rows[at(Operation::COMPARE_PATTERN)] = with_result(
        Kind::ComparePattern,
        CHECK | ADDRESS_1_TC,
        [0, 0, W4, bytes(41, 47), ALL, ALL],
    );
    rows[at(Operation::CREATE_DELTA)] = with_result(
        Kind::CreateDelta,
        WRITES | CHECK | ADDRESS_1_TC | ADDRESS_2_TC | ADDRESS_3_TC,
        [0, 0, W4, 0, bytes(52, 55), bytes(57, 63)],
    );
    rows[at(Operation::APPLY_DELTA)] = row(
        Kind::ApplyDelta,
        WRITES | ADDRESS_1_TC | ADDRESS_2_TC,
        [0, 0, W4, bytes(44, 47), ALL, ALL],
    );
    rows[at(Operation::DUALCAST)] = row(
        Kind::Dualcast,
        WRITES | ADDRESS_1_TC | ADDRESS_2_TC | ADDRESS_3_TC,
        [0, 0, W4, 0, ALL, ALL],
    );
    rows[at(Operation::CRC)] = with_result(Kind::Crc, CRC | ADDRESS_1_TC, [0, ALL, W4, 0, 0, ALL]);
    rows[at(Operation::COPY_CRC)] = with_result(
        Kind::CopyCrc,
        CRC | WRITES | ADDRESS_1_TC | ADDRESS_2_TC,
        [0, 0, W4, 0, 0, ALL],
    );
    rows[at(Operation::DIF_CHECK)] = with_result(
        Kind::DifCheck,
        ADDRESS_1_TC,
        [
            0,
            ALL,
            W4,
            bytes(41, 41) | DIF_FLAGS | bytes(43, 47),
            0,
            ALL,
        ],
    );
    rows[at(Operation::DIF_INSERT)] = row(
        Kind::DifInsert,
        WRITES | ADDRESS_1_TC | ADDRESS_2_TC,
        [
            0,
            0,
            W4,
            bytes(40, 40) | DESTINATION_DIF_FLAGS | DIF_FLAGS | bytes(43, 47),
            ALL,
            0,
        ],
    );
    rows[at(Operation::DIF_STRIP)] = row(
        Kind::DifStrip,
        WRITES | ADDRESS_1_TC | ADDRESS_2_TC,
        [0, 0, W4, bytes(41, 41) | DIF_FLAGS | bytes(43, 47), 0, ALL],
    );
    rows[at(Operation::DIF_UPDATE)] = row(
        Kind::DifUpdate,
        WRITES | ADDRESS_1_TC | ADDRESS_2_TC,
        [
            0,
            0,
            W4,
            DESTINATION_DIF_FLAGS | DIF_FLAGS | bytes(43, 47),
            0,
            0,
        ],
    );
    rows[at(Operation::CACHE_FLUSH)] = row(
        Kind::CacheFlush,
        CACHE_2 | STRICT | ADDRESS_2_TC,
        [ALL, 0, W4, ALL, ALL, ALL],
    );
    rows
}
