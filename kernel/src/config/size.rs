//! Sizes in bytes, as people write them.

use core::fmt;

const UNITS: [(char, u32); 3] = [('K', 10), ('M', 20), ('G', 30)];

/// The number of bytes that `64M` stands for: digits, and K, M or G for 2 to the
/// power of 10, 20 or 30.
pub(super) fn parse(text: &str) -> Option<u64> {
    let unit = UNITS.iter().find(|(letter, _)| text.ends_with(*letter));
    let (digits, shift) = match unit {
        Some((letter, shift)) => (text.strip_suffix(*letter)?, *shift),
        None => (text, 0),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1_u64 << shift)
}

/// Shows a number of bytes in the largest unit in which it is whole.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_whole = |shift: u32| self.0 != 0 && self.0.is_multiple_of(1_u64 << shift);
        match UNITS.iter().rev().find(|(_, shift)| is_whole(*shift)) {
            Some((letter, shift)) => write!(f, "{}{letter}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse("512"), Some(512));
        assert_eq!(parse("4K"), Some(0x1000));
        assert_eq!(parse("64M"), Some(0x400_0000));
        assert_eq!(parse("2G"), Some(0x8000_0000));
        assert_eq!(parse("17179869183G"), Some(0xffff_ffff_c000_0000));
        for text in ["", "M", "64m", "64MB", "+1M", "-1", "1.5G", "17179869184G"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_as_they_are_written() {
        assert_eq!(Size(0).to_string(), "0");
        assert_eq!(Size(0x600).to_string(), "1536");
        assert_eq!(Size(0x1000).to_string(), "4K");
        assert_eq!(Size(0x400_0000).to_string(), "64M");
        assert_eq!(Size(3 << 30).to_string(), "3G");
    }
}
