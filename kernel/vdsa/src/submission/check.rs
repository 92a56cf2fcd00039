//! The check of one descriptor.
//!
//! It works on a copy that the guest cannot change. The specification leaves open in
//! which order a device checks [DSA 3.0, 5.4 "Descriptor Checks"]; here what makes the
//! completion record unusable comes first, then the operation, which the later checks
//! go by, then the rest as Table 5-2 lists it. Last comes what only Weir forbids.
//!
//! Nearly all descriptors pass, so a check says no more than which rule was broken;
//! `fault` finds out the rest.
//!
//! Not checked, because the device does and it concerns nobody else: traffic classes,
//! and whether the operands exist.

use hwspec::dsa::{DescriptorWord4, Operation};
use hwspec::pci::Pasid;

use super::Rule;
use super::operations::{
    FENCE, FLAGS, INTERRUPT, Kind, READ_SEED, RECORD, RECORD_TC, RECORD_VALID, ROWS, Row,
};
use crate::{HandleTable, Window};

/// A completion record has 32 bytes and is aligned to them.
const RECORD_BYTES: u64 = 32;
/// The longest that the delta operations work on.
const MAX_DELTA_TRANSFER: u64 = 0x8_0000;
/// The shortest delta record that may be created.
const MIN_DELTA_RECORD: u64 = 80;
/// Bytes of an entry of a delta record.
const DELTA_ENTRY: u64 = 10;
/// Bytes of a Data Integrity Field.
const DIF_BYTES: u64 = 8;
/// No operand is longer: Transfer Size has 32 bits, and a field of 8 bytes comes to each
/// block of 512 at the most.
const MAX_OPERAND_LOG2: u32 = 33;

/// Transfer Size, in word 4, and the sizes of delta records in theirs.
const LOW_HALF: u64 = 0xffff_ffff;

/// What the guest and its queue may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    /// Bits of OPCAP for operations 0 to 63; there are no others.
    pub(super) operations: u64,
    pub(super) max_transfer: u64,
    /// Descriptors of a batch.
    pub(super) max_batch: u64,
    pub(super) window: Range,
    pub(super) handles: &'a HandleTable,
    /// The host PASID that the descriptor runs with.
    pub(super) pasid: Pasid,
    /// The device looks at Priv: the virtual queue is a shared one.
    pub(super) is_privilege_checked: bool,
}

/// Addresses from `start` to `end`, exclusive; the same if there are none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    start: u64,
    end: u64,
    /// An operand at an address without any of these bits ends before `start`.
    near: u64,
    /// 0, or all bits if there are no such addresses.
    always: u64,
}

impl From<Window> for Range {
    fn from(window: Window) -> Self {
        let start = window.base;
        // Below half of the highest power of two that is not above `start`, if an
        // operand is no longer than that half.
        let (near, always) = match start.checked_ilog2() {
            Some(log2) if log2 > MAX_OPERAND_LOG2 => (!((1 << (log2 - 1)) - 1), 0),
            _ => (!0, !0),
        };
        Self {
            start,
            end: start.saturating_add(window.len_bytes),
            near,
            always,
        }
    }
}

impl Range {
    /// Whether any of `len` bytes at `address` is inside.
    pub(super) const fn touches(self, address: u64, len: u64) -> bool {
        address < self.end && address.saturating_add(len) > self.start && len != 0
    }

    /// Whether it is clear from the words alone that none of them is the address of an
    /// operand inside.
    const fn is_far_from(self, words: &[u64; 8]) -> bool {
        let [_, record, word2, word3, _, word5, word6, _] = *words;
        (record | word2 | word3 | word5 | word6 | self.always) & self.near == 0
    }
}

/// Whether two buffers have no byte in common.
const fn are_apart(a: u64, a_len: u64, b: u64, b_len: u64) -> bool {
    let (low, len, high) = if a <= b { (a, a_len, b) } else { (b, b_len, a) };
    high - low >= len
}

/// Checks a descriptor, as a member of a batch or by itself; `Err` is the rule that it
/// breaks.
#[inline]
pub(super) fn check<const IS_MEMBER: bool>(
    words: &[u64; 8],
    limits: &Limits<'_>,
) -> Result<(), Rule> {
    let [word0, record, ..] = *words;
    let is_far = limits.window.is_far_from(words);
    if word0 & RECORD_VALID != 0 {
        if !record.is_multiple_of(RECORD_BYTES) {
            return Err(Rule::RecordAlignment);
        }
        if !is_far && limits.window.touches(record, RECORD_BYTES) {
            return Err(Rule::RecordInWindow);
        }
    }
    if !IS_MEMBER && limits.is_privilege_checked && word0 >> 31 & 1 != 0 {
        return Err(Rule::Privilege);
    }
    let row = permitted::<IS_MEMBER>(words, limits.operations)?;
    if invalid_flags::<IS_MEMBER>(word0, row) != 0 {
        return Err(Rule::Flags);
    }
    if reserved_bits(words, row) != 0 {
        return Err(Rule::ReservedField);
    }
    if row.kind.has_plain_size() {
        let size = words[4] & LOW_HALF;
        require(
            size.wrapping_sub(1) < limits.max_transfer,
            Rule::TransferSize,
        )?;
    } else if row.kind.has_operands() {
        check_operands(words, row.kind, limits)?;
    }
    check_handle(words, limits)?;
    if !is_far && operand_inside(words, row.kind, limits.window).is_some() {
        return Err(Rule::OperandInWindow);
    }
    Ok(())
}

/// The operation code.
pub(super) const fn operation(words: &[u64; 8]) -> Operation {
    Operation(words[0].to_le_bytes()[7])
}

/// The interrupt handle.
pub(super) const fn interrupt_handle(words: &[u64; 8]) -> u16 {
    DescriptorWord4::from_bits(words[4]).interrupt_handle()
}

/// What the descriptor's operation allows, if there is such an operation.
#[inline]
pub(super) fn row(words: &[u64; 8]) -> Option<&'static Row> {
    let row = ROWS.get(usize::from(operation(words).0))?.as_ref()?;
    match row.with_seed {
        Some(with_seed) if words[0] & READ_SEED != 0 => Some(with_seed),
        _ => Some(row),
    }
}

#[inline]
fn permitted<const IS_MEMBER: bool>(
    words: &[u64; 8],
    operations: u64,
) -> Result<&'static Row, Rule> {
    let Some(row) = row(words) else {
        return Err(Rule::Operation);
    };
    if operations >> operation(words).0 & 1 == 0 {
        return Err(Rule::Operation);
    }
    if IS_MEMBER && matches!(row.kind, Kind::Batch | Kind::Drain) {
        return Err(Rule::Nested);
    }
    Ok(row)
}

/// The flags that are wrong, in place: set and not allowed, or required and not set.
#[inline]
pub(super) fn invalid_flags<const IS_MEMBER: bool>(word0: u64, row: &Row) -> u64 {
    let mut allowed = row.allowed;
    if IS_MEMBER {
        allowed |= FENCE;
    }
    if word0 & RECORD_VALID == 0 {
        allowed &= !(RECORD | RECORD_TC);
    }
    let mut missing = row.required & !word0;
    if !IS_MEMBER && row.kind == Kind::Drain && word0 & (RECORD | INTERRUPT) == 0 {
        missing = RECORD | INTERRUPT;
    }
    word0 & FLAGS & !allowed | missing
}

/// Bits that are set in reserved fields, of all words together.
#[inline]
pub(super) fn reserved_bits(words: &[u64; 8], row: &Row) -> u64 {
    let [word0, record, rest @ ..] = words;
    let [_, _, word4, ..] = rest;
    let mut wrong = 0;
    for (word, reserved) in rest.iter().zip(&row.reserved) {
        wrong |= word & reserved;
    }
    if word0 & RECORD_VALID == 0 {
        wrong |= record;
    }
    if word0 & INTERRUPT == 0 {
        wrong |= word4 >> 32;
    }
    wrong
}

const fn require(condition: bool, rule: Rule) -> Result<(), Rule> {
    if condition { Ok(()) } else { Err(rule) }
}

/// Sizes, alignment, values and overlap, in this order.
fn check_operands(words: &[u64; 8], kind: Kind, limits: &Limits<'_>) -> Result<(), Rule> {
    let [_, _, word2, word3, word4, word5, word6, _] = *words;
    let size = word4 & LOW_HALF;
    let in_range = |limit: u64| require(size.wrapping_sub(1) < limit, Rule::TransferSize);
    let apart = |a, a_len, b, b_len| require(are_apart(a, a_len, b, b_len), Rule::Overlap);
    let aligned = |value: u64, to: u64| require(value.is_multiple_of(to), Rule::Alignment);
    match kind {
        Kind::NoOp | Kind::Drain => Ok(()),
        Kind::Batch => {
            require(
                (2..=limits.max_batch).contains(&size),
                Rule::DescriptorCount,
            )?;
            require(word2.is_multiple_of(64), Rule::ListAlignment)
        }
        Kind::Move | Kind::Fill | Kind::Compare | Kind::ComparePattern | Kind::CacheFlush => {
            in_range(limits.max_transfer)
        }
        Kind::CreateDelta => {
            in_range(limits.max_transfer.min(MAX_DELTA_TRANSFER))?;
            aligned(word2 | word3 | size, 8)?;
            let record = word6 & LOW_HALF;
            let records = MIN_DELTA_RECORD..=limits.max_transfer;
            require(records.contains(&record), Rule::DeltaSize)?;
            apart(word2, size, word5, record)?;
            apart(word3, size, word5, record)
        }
        Kind::ApplyDelta => {
            in_range(limits.max_transfer.min(MAX_DELTA_TRANSFER))?;
            aligned(word3 | size, 8)?;
            let record = word5 & LOW_HALF;
            let is_good = record.is_multiple_of(DELTA_ENTRY)
                && (DELTA_ENTRY..=limits.max_transfer).contains(&record);
            require(is_good, Rule::DeltaSize)?;
            apart(word2, record, word3, size)
        }
        Kind::Dualcast => {
            in_range(limits.max_transfer)?;
            let difference = word3 ^ word5;
            require(difference.is_multiple_of(0x1000), Rule::DualcastOffsets)?;
            apart(word2, size, word3, size)?;
            apart(word2, size, word5, size)?;
            apart(word3, size, word5, size)
        }
        Kind::Crc | Kind::CopyCrc => {
            in_range(limits.max_transfer)?;
            // Not there, and then 0, without Read CRC Seed.
            aligned(word6, 4)?;
            if kind == Kind::CopyCrc {
                apart(word2, size, word3, size)?;
            }
            Ok(())
        }
        Kind::DifCheck | Kind::DifInsert | Kind::DifStrip | Kind::DifUpdate => {
            in_range(limits.max_transfer)?;
            let blocks = Blocks::new(kind, word5, size);
            require(blocks.rest == 0, Rule::TransferSize)?;
            if kind == Kind::DifCheck {
                return Ok(());
            }
            apart(word2, size, word3, blocks.written)
        }
    }
}

/// What a DIF operation makes of its source.
struct Blocks {
    /// Bytes behind the last whole block.
    rest: u64,
    /// Bytes that go to the destination.
    written: u64,
}

impl Blocks {
    /// [DSA 3.0, 8.3.17.1 "DIF Flags"]: the size of a block without its field is in
    /// the flags, byte 42.
    const fn new(kind: Kind, word5: u64, size: u64) -> Self {
        let data = match word5 >> 16 & 0b11 {
            0 => 512,
            1 => 520,
            2 => 4096,
            _ => 4104,
        };
        let block = match kind {
            Kind::DifInsert => data,
            _ => data + DIF_BYTES,
        };
        let count = size / block;
        let written = match kind {
            Kind::DifInsert => size + count * DIF_BYTES,
            Kind::DifStrip => count * data,
            Kind::DifUpdate => size,
            _ => 0,
        };
        Self {
            rest: size % block,
            written,
        }
    }
}

/// The interrupt handle is one that the descriptor may use, if it asks for an interrupt:
/// what the device checks [DSA 3.0, 3.7 "Interrupts"], and more, since handles of Weir's
/// own have the PASID as well.
#[inline]
pub(super) fn check_handle(words: &[u64; 8], limits: &Limits<'_>) -> Result<(), Rule> {
    if words[0] & INTERRUPT == 0 {
        return Ok(());
    }
    match limits.handles.find(interrupt_handle(words)) {
        Some(entry) => require(entry.pasid == Some(limits.pasid), Rule::ForeignHandle),
        None => Err(Rule::UnknownHandle),
    }
}

/// The address of an operand in the window. The list of a batch is none: Weir reads it,
/// and looks for it in the guest's RAM alone.
pub(super) fn operand_inside(words: &[u64; 8], kind: Kind, window: Range) -> Option<u64> {
    let [word0, _, word2, word3, word4, word5, word6, _] = *words;
    let size = word4 & LOW_HALF;
    let seed = if word0 & READ_SEED != 0 { 4 } else { 0 };
    // How many bytes at words 2, 3, 5 and 6 the operation uses; 0 if that is no address.
    let lengths = match kind {
        Kind::NoOp | Kind::Drain | Kind::Batch => [0, 0, 0, 0],
        Kind::Move | Kind::Compare => [size, size, 0, 0],
        Kind::Fill | Kind::CacheFlush => [0, size, 0, 0],
        Kind::ComparePattern => [size, 0, 0, 0],
        Kind::CreateDelta => [size, size, word6 & LOW_HALF, 0],
        Kind::ApplyDelta => [word5 & LOW_HALF, size, 0, 0],
        Kind::Dualcast => [size, size, size, 0],
        Kind::Crc => [size, 0, 0, seed],
        Kind::CopyCrc => [size, size, 0, seed],
        Kind::DifCheck | Kind::DifInsert | Kind::DifStrip | Kind::DifUpdate => {
            let written = Blocks::new(kind, word5, size).written;
            [size, written, 0, 0]
        }
    };
    let addresses = [word2, word3, word5, word6];
    let mut operands = addresses.into_iter().zip(lengths);
    operands
        .find(|(address, len)| window.touches(*address, *len))
        .map(|(address, _)| address)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
