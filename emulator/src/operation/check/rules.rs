//! Which flags and fields each operation uses.

use std::ops::RangeInclusive;

use crate::descriptor::{Flags, Opcode};

/// A row of Table 5-3 "Supported Flags and Reserved Fields by Operations".
pub(super) struct Rules {
    pub(super) opcode: Opcode,
    pub(super) allowed: Flags,
    pub(super) reserved: &'static [RangeInclusive<usize>],
}

const fn row(opcode: Opcode, allowed: Flags, reserved: &'static [RangeInclusive<usize>]) -> Rules {
    Rules {
        opcode,
        allowed,
        reserved,
    }
}

pub(super) const CACHE: Flags = Flags::CACHE_CONTROL_1
    .with(Flags::CACHE_CONTROL_2)
    .with(Flags::CACHE_CONTROL_3);
pub(super) const TC1: Flags = Flags::ADDRESS_1_TC;
pub(super) const TC2: Flags = Flags::ADDRESS_2_TC;
pub(super) const TC3: Flags = Flags::ADDRESS_3_TC;
/// Operations that read, and may wait for a page.
const READS: Flags = Flags::BLOCK_ON_FAULT;
/// Operations that write.
const WRITES: Flags = Flags::BLOCK_ON_FAULT
    .with(CACHE)
    .with(Flags::STRICT_ORDERING);

/// Table 5-3, as far as the model knows operations. Fields that are reserved
/// only under conditions, and the operation-specific flags, stand in the checks
/// themselves.
pub(super) static RULES: [Rules; 19] = [
    row(Opcode::NO_OP, Flags::NONE, &[16..=35, 38..=63]),
    row(Opcode::BATCH, TC1, &[24..=31, 38..=63]),
    row(Opcode::DRAIN, TC1.with(TC2), &[32..=35, 38..=63]),
    row(Opcode::MEMORY_MOVE, WRITES.with(TC1).with(TC2), &[38..=63]),
    row(Opcode::FILL, WRITES.with(TC2), &[38..=39, 48..=63]),
    row(
        Opcode::COMPARE,
        READS.with(Flags::CHECK_RESULT).with(TC1).with(TC2),
        &[38..=39, 41..=63],
    ),
    row(
        Opcode::COMPARE_PATTERN,
        READS.with(Flags::CHECK_RESULT).with(TC1),
        &[38..=39, 41..=63],
    ),
    row(
        Opcode::CREATE_DELTA_RECORD,
        WRITES
            .with(Flags::CHECK_RESULT)
            .with(TC1)
            .with(TC2)
            .with(TC3),
        &[38..=39, 52..=55, 57..=63],
    ),
    row(
        Opcode::APPLY_DELTA_RECORD,
        WRITES.with(TC1).with(TC2),
        &[38..=39, 44..=63],
    ),
    row(
        Opcode::DUALCAST,
        WRITES.with(TC1).with(TC2).with(TC3),
        &[38..=39, 48..=63],
    ),
    row(
        Opcode::TRANSLATION_FETCH,
        READS,
        &[24..=31, 38..=47, 52..=63],
    ),
    row(
        Opcode::CRC_GENERATION,
        READS.with(TC1).with(TC3),
        &[24..=31, 38..=39, 56..=63],
    ),
    row(
        Opcode::COPY_WITH_CRC,
        WRITES.with(TC1).with(TC2).with(TC3),
        &[38..=39, 56..=63],
    ),
    row(
        Opcode::DIF_CHECK,
        READS.with(TC1),
        &[24..=31, 38..=39, 41..=41, 43..=47, 56..=63],
    ),
    row(
        Opcode::DIF_INSERT,
        WRITES.with(TC1).with(TC2),
        &[38..=40, 43..=55],
    ),
    row(
        Opcode::DIF_STRIP,
        WRITES.with(TC1).with(TC2),
        &[38..=39, 41..=41, 43..=47, 56..=63],
    ),
    row(
        Opcode::DIF_UPDATE,
        WRITES.with(TC1).with(TC2),
        &[38..=39, 43..=47],
    ),
    row(
        Opcode::DIX_GENERATE,
        WRITES.with(TC1).with(TC2),
        &[38..=40, 43..=55],
    ),
    row(Opcode::CACHE_FLUSH, WRITES.with(TC2), &[16..=23, 38..=63]),
];
