//! Ranges of physical addresses.

use core::fmt;

use x86_64::PhysAddr;

use super::PAGE_SIZE;

/// The physical addresses from `start` up to, but not including, `end`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PhysRange {
    start: PhysAddr,
    end: PhysAddr,
}

impl PhysRange {
    /// From `start` to `end`; empty if `end` is not behind `start`.
    pub const fn new(start: PhysAddr, end: PhysAddr) -> Self {
        let end = if end.as_u64() < start.as_u64() {
            start
        } else {
            end
        };
        Self { start, end }
    }

    /// `length` bytes from `start`, if they are within the 52 bits that a
    /// physical address can have. For numbers that others wrote.
    pub fn from_parts(start: u64, length: u64) -> Option<Self> {
        let end = start.checked_add(length)?;
        Some(Self {
            start: PhysAddr::try_new(start).ok()?,
            end: PhysAddr::try_new(end).ok()?,
        })
    }

    /// The first address.
    pub const fn start(self) -> PhysAddr {
        self.start
    }

    /// The address behind the last.
    pub const fn end(self) -> PhysAddr {
        self.end
    }

    /// How many bytes the range covers.
    pub const fn len_bytes(self) -> u64 {
        self.end.as_u64() - self.start.as_u64()
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(self) -> bool {
        self.len_bytes() == 0
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.start < other.end && other.start < self.end
    }

    /// Whether all of `other` is in this range.
    pub fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether all of its addresses have at most so many bits. An entry of a page table
    /// with more than the processor has is one with reserved bits.
    pub const fn is_within_bits(self, bits: u8) -> bool {
        self.end.as_u64() <= 1 << bits
    }

    /// Whether all of `other` is in whole pages of this range, which are what is mapped
    /// of memory.
    pub const fn contains_in_whole_pages(self, other: Self) -> bool {
        let (first, end) = self.whole_pages();
        let (from, to) = other.touched_pages();
        first <= from && to <= end
    }

    /// The whole pages in the range, by number: first, and one behind the last.
    pub const fn whole_pages(self) -> (u64, u64) {
        let first = self.start.as_u64().div_ceil(PAGE_SIZE);
        let end = self.end.as_u64() / PAGE_SIZE;
        (first, if end < first { first } else { end })
    }

    /// The pages that the range touches, by number: first, and one behind the
    /// last.
    pub const fn touched_pages(self) -> (u64, u64) {
        let first = self.start.as_u64() / PAGE_SIZE;
        if self.is_empty() {
            return (first, first);
        }
        (first, self.end.as_u64().div_ceil(PAGE_SIZE))
    }
}

impl fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.as_u64(), self.end.as_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), PhysAddr::new(end))
    }

    #[test]
    fn pages_are_rounded_inwards_for_use_and_outwards_for_reservation() {
        let odd = range(0x1800, 0x4001);
        assert_eq!(odd.whole_pages(), (2, 4));
        assert_eq!(odd.touched_pages(), (1, 5));
        let small = range(0x1800, 0x1900);
        assert_eq!(small.whole_pages(), (2, 2));
        assert_eq!(small.touched_pages(), (1, 2));
        let empty = range(0x1800, 0x1800);
        assert_eq!(empty.touched_pages(), (1, 1));
    }

    #[test]
    fn touching_ranges_do_not_overlap() {
        assert!(!range(0, 0x1000).overlaps(range(0x1000, 0x2000)));
        assert!(range(0, 0x1001).overlaps(range(0x1000, 0x2000)));
        assert!(!range(0, 0x2000).overlaps(range(0x1000, 0x1000)));
    }

    #[test]
    fn addresses_that_a_processor_cannot_have_are_told() {
        assert!(range(0xfff_f000, 0x1000_0000).is_within_bits(28));
        assert!(!range(0xfff_f000, 0x1000_0001).is_within_bits(28));
        assert!(!range(0x1000_0000, 0x1000_1000).is_within_bits(28));
        assert!(!range(1 << 51, (1 << 51) + 4).is_within_bits(48));
    }

    #[test]
    fn the_ends_of_memory_that_are_no_pages_are_not_there() {
        let ram = range(0x1800, 0x4800);
        assert!(ram.contains_in_whole_pages(range(0x2000, 0x4000)));
        assert!(ram.contains_in_whole_pages(range(0x2123, 0x3fff)));
        assert!(!ram.contains_in_whole_pages(range(0x1fff, 0x2123)));
        assert!(!ram.contains_in_whole_pages(range(0x3fff, 0x4001)));
    }

    #[test]
    fn what_a_loader_wrote_is_checked_for_overflow_and_width() {
        assert_eq!(PhysRange::from_parts(u64::MAX, 2), None);
        assert_eq!(PhysRange::from_parts(1 << 52, 1), None);
        assert_eq!(PhysRange::from_parts((1 << 52) - 1, 1), None);
        assert_eq!(PhysRange::from_parts(16, 4), Some(range(16, 20)));
    }
}
