//! What exactly is wrong with a descriptor that breaks a rule.

use super::check::{
    Limits, interrupt_handle, invalid_flags, operand_inside, operation, reserved_bits, row,
};
use super::operations::{
    ADDRESS_1_TC, ADDRESS_2_TC, CACHE_1, CACHE_2, CACHE_3, FLAGS, Kind, READBACK_1, READBACK_2,
};
use super::{Named, Rule};

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

    /// What is wrong with a descriptor that breaks `rule`, as the check found.
    #[cold]
    pub(super) fn find<const IS_MEMBER: bool>(
        rule: Rule,
        words: &[u64; 8],
        limits: &Limits<'_>,
    ) -> Self {
        let [word0, record, word2, word3, word4, word5, word6, _] = *words;
        let low_half = |word: u64| word & 0xffff_ffff;
        let row = row(words);
        let kind = row.map(|row| row.kind);
        let value = match rule {
            Rule::Operation | Rule::Nested => u64::from(operation(words).0),
            Rule::Flags => (word0 & FLAGS) >> 32,
            Rule::ReservedField => row.map_or(0, |row| reserved_bits(words, row)),
            Rule::TransferSize | Rule::DescriptorCount => low_half(word4),
            Rule::ListAlignment | Rule::ListMemory => word2,
            Rule::Alignment => match kind {
                Some(Kind::Crc | Kind::CopyCrc) => word6,
                Some(Kind::CreateDelta) if !word2.is_multiple_of(8) => word2,
                _ if !word3.is_multiple_of(8) => word3,
                _ => low_half(word4),
            },
            Rule::DeltaSize if kind == Some(Kind::CreateDelta) => low_half(word6),
            Rule::DeltaSize => low_half(word5),
            Rule::Overlap if kind == Some(Kind::CreateDelta) => word5,
            Rule::Overlap => word3,
            Rule::DualcastOffsets => word5,
            Rule::UnknownHandle | Rule::ForeignHandle => u64::from(interrupt_handle(words)),
            Rule::RecordAlignment | Rule::RecordInWindow | Rule::RecordMemory => record,
            Rule::OperandInWindow => kind
                .and_then(|kind| operand_inside(words, kind, limits.window))
                .unwrap_or(0),
            Rule::Privilege => 1,
            // Whoever looks a PASID up says which.
            Rule::UnknownPasid => 0,
        };
        Self {
            invalid_flags: match row {
                Some(row) if rule == Rule::Flags => {
                    reported_flags(word0, row.kind, invalid_flags::<IS_MEMBER>(word0, row))
                }
                _ => 0,
            },
            named: named(rule, words, limits),
            ..Self::new(rule, value)
        }
    }
}

/// The flags that a device reports as invalid.
fn reported_flags(word0: u64, kind: Kind, mut invalid: u64) -> u64 {
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
    invalid
}

fn named(rule: Rule, words: &[u64; 8], limits: &Limits<'_>) -> Named {
    match (rule, limits.handles.find(interrupt_handle(words))) {
        (Rule::UnknownHandle, _) => Named::NobodysHandle,
        (Rule::ForeignHandle, Some(entry)) => Named::HandleOf {
            vector: entry.vector,
            pasid: entry.pasid,
            descriptor: limits.pasid,
        },
        _ => Named::Nothing,
    }
}
