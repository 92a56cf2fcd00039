//! Accesses of a guest to registers, cut into 32-bit words.

/// A write to one 32-bit register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WordWrite {
    /// What is written, at the register's own bit positions.
    pub(crate) value: u32,
    /// The bits that the access carries; one of 1 or 2 bytes does not carry all.
    pub(crate) lanes: u32,
}

impl WordWrite {
    /// The register after the write, if only the bits in `writable` take it.
    pub(crate) const fn onto(self, old: u32, writable: u32) -> u32 {
        let taken = writable & self.lanes;
        old & !taken | self.value & taken
    }

    /// The bits that are written as ones.
    pub(crate) const fn ones(self) -> u32 {
        self.value & self.lanes
    }

    /// Whether all bits are written.
    pub(crate) const fn is_whole(self) -> bool {
        self.lanes == u32::MAX
    }

    /// Whether the write wants a bit to change that is not in `writable`.
    pub(crate) const fn wants_more(self, old: u32, writable: u32) -> bool {
        (old ^ self.value) & self.lanes & !writable != 0
    }
}

/// One access, naturally aligned, of 1, 2, 4 or 8 bytes.
/// [DSA 3.0, 9.2 "MMIO Registers"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Byte offset of the first word that it touches.
    first: u32,
    /// The place of its lowest bit in that word.
    shift: u32,
    /// How many bits it moves.
    bits: u32,
}

impl Access {
    /// An access of `width` bytes at `offset`, if there is one like that.
    pub(crate) fn new(offset: u32, width: u8) -> Option<Self> {
        let is_regular = matches!(width, 1 | 2 | 4 | 8) && offset.is_multiple_of(width.into());
        is_regular.then_some(Self {
            first: offset & !3,
            shift: (offset & 3) * 8,
            bits: u32::from(width) * 8,
        })
    }

    /// What the access reads, from words read by `word`.
    pub(crate) fn read(self, word: impl Fn(u32) -> u32) -> u64 {
        let low = u64::from(word(self.first));
        if self.bits == 64 {
            low | u64::from(word(self.first.saturating_add(4))) << 32
        } else {
            low >> self.shift & ((1 << self.bits) - 1)
        }
    }

    /// The words that writing `value` writes, the lower one first.
    pub(crate) fn words(self, value: u64) -> impl Iterator<Item = (u32, WordWrite)> {
        let whole = |value| WordWrite {
            value,
            lanes: u32::MAX,
        };
        let (low, high) = if self.bits == 64 {
            (whole(low_half(value)), Some(whole(low_half(value >> 32))))
        } else {
            let lanes = low_half(((1 << self.bits) - 1) << self.shift);
            let value = low_half(value << self.shift);
            (WordWrite { value, lanes }, None)
        };
        let high = high.map(|write| (self.first.saturating_add(4), write));
        core::iter::once((self.first, low)).chain(high)
    }
}

/// Bits 31:0.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
pub(crate) const fn low_half(value: u64) -> u32 {
    value as u32
}

/// Bits 63:32.
pub(crate) const fn high_half(value: u64) -> u32 {
    low_half(value >> 32)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn only_aligned_accesses_of_a_power_of_two_are_accesses() {
        for (offset, width) in [(0, 1), (3, 1), (2, 2), (4, 4), (8, 8)] {
            assert!(Access::new(offset, width).is_some(), "{offset} {width}");
        }
        for (offset, width) in [(0, 0), (0, 3), (1, 2), (2, 4), (4, 8), (0, 16), (0, 255)] {
            assert_eq!(Access::new(offset, width), None, "{offset} {width}");
        }
    }

    #[test]
    fn an_access_takes_its_part_of_a_word() {
        let word = |offset| match offset {
            8 => 0x4433_2211,
            12 => 0x8877_6655,
            _ => panic!("no word at {offset}"),
        };
        let read = |offset, width| Access::new(offset, width).unwrap().read(word);
        assert_eq!(read(8, 8), 0x8877_6655_4433_2211);
        assert_eq!(read(12, 4), 0x8877_6655);
        assert_eq!(read(10, 2), 0x4433);
        assert_eq!(read(15, 1), 0x88);
    }

    #[test]
    fn a_write_carries_only_its_own_bytes() {
        let words = |offset, width, value| {
            let access = Access::new(offset, width).unwrap();
            access.words(value).collect::<Vec<_>>()
        };
        let write = |value, lanes| WordWrite { value, lanes };
        assert_eq!(
            words(8, 8, 0x8877_6655_4433_2211),
            [
                (8, write(0x4433_2211, u32::MAX)),
                (12, write(0x8877_6655, u32::MAX))
            ]
        );
        assert_eq!(
            words(10, 2, 0xffff_4433),
            [(8, write(0x4433_0000, 0xffff_0000))]
        );
        let byte = words(13, 1, 0x66);
        assert_eq!(byte, [(12, write(0x6600, 0xff00))]);
        assert_eq!(byte[0].1.onto(0x1111_1111, 0xf000), 0x1111_6111);
        assert!(byte[0].1.wants_more(0x1111_1111, 0xf000));
        assert!(!byte[0].1.wants_more(0x1111_1111, 0xff00));
    }
}
