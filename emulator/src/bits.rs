//! Bit ranges as the specification writes them: `high:low`, both included.

/// Bits `high:low` of `value`, shifted down.
pub(crate) const fn field(value: u64, high: u32, low: u32) -> u64 {
    (value >> low) & mask(high - low, 0)
}

/// A word with ones in bits `high:low`.
pub(crate) const fn mask(high: u32, low: u32) -> u64 {
    (u64::MAX >> (63 - (high - low))) << low
}

/// Whether bit `index` of `value` is set.
pub(crate) const fn bit(value: u64, index: u32) -> bool {
    value >> index & 1 == 1
}

/// `old` with the bits of `writable` taken from `new`.
pub(crate) const fn merge(old: u64, new: u64, writable: u64) -> u64 {
    (old & !writable) | (new & writable)
}

/// The low 32 bits, for register words that are 32 bits wide.
#[expect(
    clippy::cast_possible_truncation,
    reason = "dropping the upper half is the purpose"
)]
pub(crate) const fn low32(value: u64) -> u32 {
    value as u32
}

/// The low 16 bits, for fields that are at most 16 bits wide.
#[expect(
    clippy::cast_possible_truncation,
    reason = "dropping the upper bits is the purpose"
)]
pub(crate) const fn low16(value: u64) -> u16 {
    value as u16
}

/// The low 8 bits, for fields that are at most 8 bits wide.
#[expect(
    clippy::cast_possible_truncation,
    reason = "dropping the upper bits is the purpose"
)]
pub(crate) const fn low8(value: u64) -> u8 {
    value as u8
}

#[cfg(test)]
mod tests {
    use super::{field, mask};

    #[test]
    fn ranges_include_both_ends() {
        assert_eq!(mask(7, 4), 0xf0);
        assert_eq!(mask(63, 0), u64::MAX);
        assert_eq!(field(0x1234, 11, 4), 0x23);
    }
}
