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
    Move,
    Fill,
    Compare,
    ComparePattern,
    CacheFlush,
    NoOp,
    Batch,
    Drain,
    CreateDelta,
    ApplyDelta,
    Dualcast,
    Crc,
    CopyCrc,
    DifCheck,
    DifInsert,
    DifStrip,
    DifUpdate,
}

impl Kind {
    /// Whether all that has to be right about the operands is Transfer Size. Moves may
    /// overlap.
    pub(super) const fn has_plain_size(self) -> bool {
        matches!(
            self,
            Self::Move | Self::Fill | Self::Compare | Self::ComparePattern | Self::CacheFlush
        )
    }

    /// Whether there are operands at all.
    pub(super) const fn has_operands(self) -> bool {
        !matches!(self, Self::NoOp | Self::Drain)
    }
}

/// One operation.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) kind: Kind,
    /// Flags that may be 1, in place.
    pub(super) allowed: u64,
    /// Flags that must be 1, in place.
    pub(super) required: u64,
    /// Reserved bits of words 2 to 7.
    pub(super) reserved: [u64; 6],
    /// What holds instead if Read CRC Seed is 1, of operations that have it.
    pub(super) with_seed: Option<&'static Self>,
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

const fn row(kind: Kind, allowed: u64, reserved: [u64; 6]) -> Row {
    Row {
        kind,
        allowed: COMMON | allowed,
        required: 0,
        reserved,
        with_seed: None,
    }
}

/// A row of an operation whose result is in the record.
const fn with_result(kind: Kind, allowed: u64, reserved: [u64; 6]) -> Row {
    Row {
        required: RECORD_VALID | RECORD,
        ..row(kind, allowed, reserved)
    }
}

/// A CRC operation that takes its seed from the descriptor: 32 bits of it, without an
/// address.
const fn crc(kind: Kind, allowed: u64, word3: u64, with_seed: &'static Row) -> Row {
    let reserved = [0, word3, W4, bytes(44, 47), ALL, ALL];
    Row {
        with_seed: Some(with_seed),
        ..with_result(kind, allowed | CRC, reserved)
    }
}

/// The same with a seed in memory: that has an address and a traffic class.
const fn crc_with_seed(kind: Kind, allowed: u64, word3: u64) -> Row {
    let reserved = [0, word3, W4, ALL, 0, ALL];
    with_result(kind, allowed | CRC | ADDRESS_3_TC, reserved)
}

/// What Copy with CRC Generation allows.
const COPY_CRC: u64 = WRITES | ADDRESS_1_TC | ADDRESS_2_TC;
static CRC_WITH_SEED: Row = crc_with_seed(Kind::Crc, ADDRESS_1_TC, ALL);
static COPY_CRC_WITH_SEED: Row = crc_with_seed(Kind::CopyCrc, COPY_CRC, 0);

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
    rows[at(Operation::NO_OP)] = Some(row(
        Kind::NoOp,
        0,
        [ALL, ALL, bytes(32, 35) | W4, ALL, ALL, ALL],
    ));
    rows[at(Operation::BATCH)] = Some(row(Kind::Batch, ADDRESS_1_TC, [0, ALL, W4, ALL, ALL, ALL]));
    rows[at(Operation::DRAIN)] = Some(row(
        Kind::Drain,
        DRAIN,
        [ALL, ALL, bytes(32, 35) | W4, ALL, ALL, ALL],
    ));
    rows[at(Operation::MEMORY_MOVE)] = Some(row(
        Kind::Move,
        WRITES | ADDRESS_1_TC | ADDRESS_2_TC,
        [0, 0, W4, ALL, ALL, ALL],
    ));
    rows[at(Operation::FILL)] = Some(row(
        Kind::Fill,
        WRITES | ADDRESS_2_TC,
        [0, 0, W4, ALL, ALL, ALL],
    ));
    rows[at(Operation::COMPARE)] = Some(with_result(
        Kind::Compare,
        CHECK | ADDRESS_1_TC | ADDRESS_2_TC,
        [0, 0, W4, bytes(41, 47), ALL, ALL],
    ));
    rows[at(Operation::COMPARE_PATTERN)] = Some(with_result(
        Kind::ComparePattern,
        CHECK | ADDRESS_1_TC,
        [0, 0, W4, bytes(41, 47), ALL, ALL],
    ));
    rows[at(Operation::CREATE_DELTA)] = Some(with_result(
        Kind::CreateDelta,
        WRITES | CHECK | ADDRESS_1_TC | ADDRESS_2_TC | ADDRESS_3_TC,
        [0, 0, W4, 0, bytes(52, 55), bytes(57, 63)],
    ));
    rows[at(Operation::APPLY_DELTA)] = Some(row(
        Kind::ApplyDelta,
        WRITES | ADDRESS_1_TC | ADDRESS_2_TC,
        [0, 0, W4, bytes(44, 47), ALL, ALL],
    ));
    rows[at(Operation::DUALCAST)] = Some(row(
        Kind::Dualcast,
        WRITES | ADDRESS_1_TC | ADDRESS_2_TC | ADDRESS_3_TC,
        [0, 0, W4, 0, ALL, ALL],
    ));
    rows[at(Operation::CRC)] = Some(crc(Kind::Crc, ADDRESS_1_TC, ALL, &CRC_WITH_SEED));
    rows[at(Operation::COPY_CRC)] = Some(crc(Kind::CopyCrc, COPY_CRC, 0, &COPY_CRC_WITH_SEED));
    rows[at(Operation::DIF_CHECK)] = Some(with_result(
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
    ));
    rows[at(Operation::DIF_INSERT)] = Some(row(
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
    ));
    rows[at(Operation::DIF_STRIP)] = Some(row(
        Kind::DifStrip,
        WRITES | ADDRESS_1_TC | ADDRESS_2_TC,
        [0, 0, W4, bytes(41, 41) | DIF_FLAGS | bytes(43, 47), 0, ALL],
    ));
    rows[at(Operation::DIF_UPDATE)] = Some(row(
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
    ));
    rows[at(Operation::CACHE_FLUSH)] = Some(row(
        Kind::CacheFlush,
        CACHE_2 | STRICT | ADDRESS_2_TC,
        [ALL, 0, W4, ALL, ALL, ALL],
    ));
    rows
}
