//! The check of one descriptor.
//!
//! It works on a copy that the guest cannot change. The specification leaves open in
//! which order a device checks [DSA 3.0, 5.4 "Descriptor Checks"]; here what makes the
//! completion record unusable comes first, then the operation, which the later checks
//! go by, then the rest as Table 5-2 lists it. Last comes what only Weir forbids.
//!
//! Not checked, because the device does and it concerns nobody else: traffic classes,
//! and whether the operands exist.

use hwspec::dsa::{DescriptorWord4, Operation};
use hwspec::pci::Pasid;

use super::operations::{
    ADDRESS_1_TC, ADDRESS_2_TC, CACHE_1, CACHE_2, CACHE_3, FENCE, FLAGS, INTERRUPT, Kind,
    READ_SEED, READBACK_1, READBACK_2, RECORD, RECORD_TC, RECORD_VALID, ROWS, Row,
};
use super::{Named, Rule};
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

/// Why a descriptor is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) rule: Rule,
    /// What stood in the field.
    pub(super) value: u64,
    /// With [`Rule::Flags`], the flags that are wrong, in place.
    pub(super) invalid_flags: u64,
    pub(super) named: Named,
}

impl Fault {
    #[cold]
    pub(super) const fn new(rule: Rule, value: u64) -> Self {
        Self {
            rule,
            value,
            invalid_flags: 0,
            named: Named::Nothing,
        }
    }
}

/// Addresses from `start` to `end`, exclusive; the same if there are none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    start: u64,
    end: u64,
}

impl From<Window> for Range {
    fn from(window: Window) -> Self {
        Self {
            start: window.base,
            end: window.base.saturating_add(window.len_bytes),
        }
    }
}

impl Range {
    /// Whether any of `len` bytes at `address` is inside.
    const fn touches(self, address: u64, len: u64) -> bool {
        address < self.end && address.saturating_add(len) > self.start && len != 0
    }
}

/// Whether two buffers have no byte in common.
const fn are_apart(a: u64, a_len: u64, b: u64, b_len: u64) -> bool {
    let (low, len, high) = if a <= b { (a, a_len, b) } else { (b, b_len, a) };
    high - low >= len
}

/// Checks a descriptor, as a member of a batch or by itself.
pub(super) fn check<const IS_MEMBER: bool>(
    words: &[u64; 8],
    limits: &Limits<'_>,
) -> Result<(), Fault> {
    let [word0, record, ..] = *words;
    let has_record = word0 & RECORD_VALID != 0;
    if has_record {
        if !record.is_multiple_of(RECORD_BYTES) {
            return Err(Fault::new(Rule::RecordAlignment, record));
        }
        if limits.window.touches(record, RECORD_BYTES) {
            return Err(Fault::new(Rule::RecordInWindow, record));
        }
    }
    if !IS_MEMBER && limits.is_privilege_checked && word0 >> 31 & 1 != 0 {
        return Err(Fault::new(Rule::Privilege, 1));
    }

    let row = permitted::<IS_MEMBER>(words, limits.operations)?;
    check_flags::<IS_MEMBER>(word0, row)?;
    check_reserved(words, row)?;
    check_operands(words, row.kind, limits)?;
    check_handle(words, limits)?;
    check_window(words, row.kind, limits.window)
}

/// The operation code.
pub(super) const fn operation(words: &[u64; 8]) -> Operation {
    Operation(words[0].to_le_bytes()[7])
}

fn permitted<const IS_MEMBER: bool>(
    words: &[u64; 8],
    operations: u64,
) -> Result<&'static Row, Fault> {
    let code = operation(words).0;
    let refused = |rule| Fault::new(rule, u64::from(code));
    let Some(Some(row)) = ROWS.get(usize::from(code)) else {
        return Err(refused(Rule::Operation));
    };
    if operations >> code & 1 == 0 {
        return Err(refused(Rule::Operation));
    }
    if IS_MEMBER && matches!(row.kind, Kind::Batch | Kind::Drain) {
        return Err(refused(Rule::Nested));
    }
    Ok(row)
}

fn check_flags<const IS_MEMBER: bool>(word0: u64, row: &Row) -> Result<(), Fault> {
    let mut allowed = row.allowed;
    if IS_MEMBER {
        allowed |= FENCE;
    }
    if word0 & RECORD_VALID == 0 {
        allowed &= !(RECORD | RECORD_TC);
    }
    if word0 & READ_SEED != 0 {
        allowed |= row.allowed_with_seed;
    }
    let mut missing = row.required & !word0;
    if row.kind == Kind::Drain && word0 & (RECORD | INTERRUPT) == 0 {
        missing = RECORD | INTERRUPT;
    }
    let invalid = word0 & FLAGS & !allowed | missing;
    if invalid == 0 {
        return Ok(());
    }
    Err(invalid_flags(word0, row.kind, invalid))
}

#[cold]
fn invalid_flags(word0: u64, kind: Kind, mut invalid: u64) -> Fault {
    // Cache control is one field of three bits: a reserved value is wrong as a whole.
    let cache_control = CACHE_1 | CACHE_2 | CACHE_3;
    if invalid & cache_control != 0 {
        invalid |= word0 & cache_control;
    }
    // The traffic classes of readback addresses are not wrong besides these.
    if kind == Kind::Drain && word0 & READBACK_1 != 0 {
        invalid &= !ADDRESS_1_TC;
    }
    if kind == Kind::Drain && word0 & READBACK_2 != 0 {
        invalid &= !ADDRESS_2_TC;
    }
    Fault {
        invalid_flags: invalid,
        ..Fault::new(Rule::Flags, (word0 & FLAGS) >> 32)
    }
}

fn check_reserved(words: &[u64; 8], row: &Row) -> Result<(), Fault> {
    let [word0, record, rest @ ..] = words;
    let mut wrong = 0;
    for (word, reserved) in rest.iter().zip(&row.reserved) {
        wrong |= word & reserved;
    }
    if word0 & RECORD_VALID == 0 {
        wrong |= record;
    }
    if word0 & INTERRUPT == 0 {
        wrong |= rest[2] & HANDLE;
    }
    if matches!(row.kind, Kind::Crc | Kind::CopyCrc) {
        wrong |= if word0 & READ_SEED != 0 {
            rest[3]
        } else {
            // Without a 64-bit CRC the upper half of the seed is reserved.
            rest[3] >> 32 | rest[4]
        };
    }
    if wrong == 0 {
        return Ok(());
    }
    Err(Fault::new(Rule::ReservedField, wrong))
}

/// The interrupt handle, in word 4.
const HANDLE: u64 = 0xffff << 32;
/// Transfer Size, in word 4, and the sizes of delta records in theirs.
const LOW_HALF: u64 = 0xffff_ffff;

/// Sizes, alignment, values and overlap, in this order.
fn check_operands(words: &[u64; 8], kind: Kind, limits: &Limits<'_>) -> Result<(), Fault> {
    let [_, _, word2, word3, word4, word5, word6, _] = *words;
    let size = word4 & LOW_HALF;
    let in_range = |limit: u64| {
        if size.wrapping_sub(1) < limit {
            Ok(())
        } else {
            Err(Fault::new(Rule::TransferSize, size))
        }
    };
    let apart = |a, a_len, b, b_len| {
        if are_apart(a, a_len, b, b_len) {
            Ok(())
        } else {
            Err(Fault::new(Rule::Overlap, b))
        }
    };
    let aligned = |value: u64, to: u64| {
        if value.is_multiple_of(to) {
            Ok(())
        } else {
            Err(Fault::new(Rule::Alignment, value))
        }
    };
    match kind {
        Kind::NoOp | Kind::Drain => Ok(()),
        Kind::Batch => {
            if !(2..=limits.max_batch).contains(&size) {
                return Err(Fault::new(Rule::DescriptorCount, size));
            }
            if !word2.is_multiple_of(64) {
                return Err(Fault::new(Rule::ListAlignment, word2));
            }
            Ok(())
        }
        // Moves may overlap.
        Kind::Move | Kind::Fill | Kind::Compare | Kind::ComparePattern | Kind::CacheFlush => {
            in_range(limits.max_transfer)
        }
        Kind::CreateDelta => {
            in_range(limits.max_transfer.min(MAX_DELTA_TRANSFER))?;
            aligned(word2, 8)?;
            aligned(word3, 8)?;
            aligned(size, 8)?;
            let record = word6 & LOW_HALF;
            if !(MIN_DELTA_RECORD..=limits.max_transfer).contains(&record) {
                return Err(Fault::new(Rule::DeltaSize, record));
            }
            apart(word2, size, word5, record)?;
            apart(word3, size, word5, record)
        }
        Kind::ApplyDelta => {
            in_range(limits.max_transfer.min(MAX_DELTA_TRANSFER))?;
            aligned(word3, 8)?;
            aligned(size, 8)?;
            let record = word5 & LOW_HALF;
            if record == 0 || !record.is_multiple_of(DELTA_ENTRY) || record > limits.max_transfer {
                return Err(Fault::new(Rule::DeltaSize, record));
            }
            apart(word2, record, word3, size)
        }
        Kind::Dualcast => {
            in_range(limits.max_transfer)?;
            if !(word3 ^ word5).is_multiple_of(0x1000) {
                return Err(Fault::new(Rule::DualcastOffsets, word5));
            }
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
            if blocks.rest != 0 {
                return Err(Fault::new(Rule::TransferSize, size));
            }
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

/// The vector of the handle that the descriptor names, if it may use it: what the
/// device checks [DSA 3.0, 3.7 "Interrupts"], and more, since handles of Weir's own
/// have the PASID as well.
pub(super) fn check_handle(words: &[u64; 8], limits: &Limits<'_>) -> Result<(), Fault> {
    if words[0] & INTERRUPT == 0 {
        return Ok(());
    }
    let handle = interrupt_handle(words);
    let Some(entry) = limits.handles.find(handle) else {
        return Err(Fault {
            named: Named::NobodysHandle,
            ..Fault::new(Rule::UnknownHandle, u64::from(handle))
        });
    };
    if entry.pasid == Some(limits.pasid) {
        return Ok(());
    }
    Err(Fault {
        named: Named::HandleOf {
            vector: entry.vector,
            pasid: entry.pasid,
            descriptor: limits.pasid,
        },
        ..Fault::new(Rule::ForeignHandle, u64::from(handle))
    })
}

/// The interrupt handle.
pub(super) const fn interrupt_handle(words: &[u64; 8]) -> u16 {
    DescriptorWord4::from_bits(words[4]).interrupt_handle()
}

/// No operand in the window. The list of a batch is read by Weir, which looks for it
/// in the guest's RAM alone.
fn check_window(words: &[u64; 8], kind: Kind, window: Range) -> Result<(), Fault> {
    let [word0, _, word2, word3, word4, word5, word6, _] = *words;
    let size = word4 & LOW_HALF;
    let seed = if word0 & READ_SEED != 0 { 4 } else { 0 };
    // How many bytes at words 2, 3, 5 and 6 the operation uses; 0 if that is no address.
    let (at_2, at_3, at_5, at_6) = match kind {
        Kind::NoOp | Kind::Drain | Kind::Batch => (0, 0, 0, 0),
        Kind::Move | Kind::Compare => (size, size, 0, 0),
        Kind::Fill | Kind::CacheFlush => (0, size, 0, 0),
        Kind::ComparePattern => (size, 0, 0, 0),
        Kind::CreateDelta => (size, size, word6 & LOW_HALF, 0),
        Kind::ApplyDelta => (word5 & LOW_HALF, size, 0, 0),
        Kind::Dualcast => (size, size, size, 0),
        Kind::Crc => (size, 0, 0, seed),
        Kind::CopyCrc => (size, size, 0, seed),
        Kind::DifCheck | Kind::DifInsert | Kind::DifStrip | Kind::DifUpdate => {
            (size, Blocks::new(kind, word5, size).written, 0, 0)
        }
    };
    for (address, len) in [(word2, at_2), (word3, at_3), (word5, at_5), (word6, at_6)] {
        if window.touches(address, len) {
            return Err(Fault::new(Rule::OperandInWindow, address));
        }
    }
    Ok(())
}
