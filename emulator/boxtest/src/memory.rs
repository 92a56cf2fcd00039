//! Physical memory, seen through the identity map: pages of our own, and
//! windows onto what belongs to devices and firmware.
//!
//! Everything that the checks share with the processor's page walker, the
//! IOMMU or the DSA lives in [`Pages`]. Accesses are volatile, for the other
//! side writes whenever it likes.
#![expect(unsafe_code, reason = "raw access to physical memory")]

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

/// The size of a page, everywhere in this kernel.
pub(crate) const PAGE_SIZE: u64 = 4096;

unsafe extern "C" {
    static __pool_start: u8;
    static __pool_end: u8;
}

/// Bytes of the pool that have been handed out. Nothing is ever given back, so
/// a device that misbehaves cannot write into somebody else's page.
static POOL_USED: AtomicU64 = AtomicU64::new(0);

/// A range of identity-mapped memory that no Rust object lives in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    base: u64,
    size: u64,
}

impl Window {
    /// The `size` bytes at `base`.
    ///
    /// # Safety
    /// For as long as the window is used the range must be identity mapped,
    /// and no Rust object or reference may lie in it.
    pub(crate) const unsafe fn new(base: u64, size: u64) -> Self {
        Self { base, size }
    }

    /// The physical address of the window.
    pub(crate) const fn base(&self) -> u64 {
        self.base
    }

    /// The size in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The `size` bytes at `offset` of this window.
    pub(crate) fn part(&self, offset: u64, size: u64) -> Self {
        assert!(
            offset <= self.size && size <= self.size - offset,
            "{size:#x} bytes at {offset:#x} are outside of {self:x?}"
        );
        Self {
            base: self.base + offset,
            size,
        }
    }

    fn at<T>(&self, offset: u64) -> *mut T {
        let size = size_of::<T>() as u64;
        assert!(
            offset <= self.size && size <= self.size - offset,
            "offset {offset:#x} is outside of {self:x?}"
        );
        let pointer = (self.base + offset) as *mut T;
        assert!(
            pointer.is_aligned(),
            "offset {offset:#x} is misaligned in {self:x?}"
        );
        pointer
    }

    pub(crate) fn read_u8(&self, offset: u64) -> u8 {
        // SAFETY: `at` checked bounds and alignment, `new` promised the rest.
        unsafe { ptr::read_volatile(self.at(offset)) }
    }

    pub(crate) fn read_u16(&self, offset: u64) -> u16 {
        // SAFETY: as in `read_u8`.
        unsafe { ptr::read_volatile(self.at(offset)) }
    }

    pub(crate) fn read_u32(&self, offset: u64) -> u32 {
        // SAFETY: as in `read_u8`.
        unsafe { ptr::read_volatile(self.at(offset)) }
    }

    pub(crate) fn read_u64(&self, offset: u64) -> u64 {
        // SAFETY: as in `read_u8`.
        unsafe { ptr::read_volatile(self.at(offset)) }
    }

    pub(crate) fn write_u8(&self, offset: u64, value: u8) {
        // SAFETY: as in `read_u8`.
        unsafe { ptr::write_volatile(self.at(offset), value) }
    }

    pub(crate) fn write_u16(&self, offset: u64, value: u16) {
        // SAFETY: as in `read_u8`.
        unsafe { ptr::write_volatile(self.at(offset), value) }
    }

    pub(crate) fn write_u32(&self, offset: u64, value: u32) {
        // SAFETY: as in `read_u8`.
        unsafe { ptr::write_volatile(self.at(offset), value) }
    }

    pub(crate) fn write_u64(&self, offset: u64, value: u64) {
        // SAFETY: as in `read_u8`.
        unsafe { ptr::write_volatile(self.at(offset), value) }
    }
}

/// Consecutive pages that belong to the caller for good.
#[derive(Debug)]
pub(crate) struct Pages(Window);

impl Pages {
    /// Takes `count` zeroed pages from the pool, aligned to their whole size
    /// rounded up to a power of two, as hardware tables want it.
    pub(crate) fn allocate(count: u64) -> Self {
        let start = (&raw const __pool_start).addr() as u64;
        let end = (&raw const __pool_end).addr() as u64;
        let size = count * PAGE_SIZE;
        let used = POOL_USED.load(Ordering::Relaxed);
        let base = (start + used).next_multiple_of(size.next_power_of_two());
        assert!(base + size <= end, "the page pool is empty");
        POOL_USED.store(base + size - start, Ordering::Relaxed);
        // SAFETY: the linker keeps everything else out of the pool, which is
        // RAM below 4 GiB, and the counter hands out each page once.
        let pages = Self(unsafe { Window::new(base, size) });
        pages.fill(0);
        pages
    }

    /// One page.
    pub(crate) fn one() -> Self {
        Self::allocate(1)
    }

    /// The physical address, which is also the virtual one.
    pub(crate) fn address(&self) -> u64 {
        self.0.base
    }

    /// The 64-bit word at byte `offset`.
    pub(crate) fn read(&self, offset: u64) -> u64 {
        self.0.read_u64(offset)
    }

    /// The 32-bit word at byte `offset`.
    pub(crate) fn read_u32(&self, offset: u64) -> u32 {
        self.0.read_u32(offset)
    }

    /// `N` bytes from byte `offset` on, which need not be aligned.
    pub(crate) fn bytes<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut at = offset..;
        [(); N].map(|()| self.0.read_u8(at.next().unwrap_or(u64::MAX)))
    }

    /// Stores a single byte.
    pub(crate) fn write_u8(&self, offset: u64, byte: u8) {
        self.0.write_u8(offset, byte);
    }

    /// Stores a 64-bit word at byte `offset`.
    pub(crate) fn write(&self, offset: u64, word: u64) {
        self.0.write_u64(offset, word);
    }

    /// `N` words from byte `offset` on.
    pub(crate) fn words<const N: usize>(&self, offset: u64) -> [u64; N] {
        let mut at = (offset..).step_by(8);
        [(); N].map(|()| self.read(at.next().unwrap_or(u64::MAX)))
    }

    /// Stores consecutive words from byte `offset` on.
    pub(crate) fn write_words(&self, offset: u64, words: &[u64]) {
        for (at, &word) in (offset..).step_by(8).zip(words) {
            self.write(at, word);
        }
    }

    /// Fills all pages with one word.
    pub(crate) fn fill(&self, word: u64) {
        for offset in (0..self.0.size).step_by(8) {
            self.write(offset, word);
        }
    }

    /// Fills all pages with words that tell one position, and one `seed`, from
    /// another.
    pub(crate) fn fill_pattern(&self, seed: u64) {
        for offset in (0..self.0.size).step_by(8) {
            self.write(offset, pattern(seed, offset));
        }
    }

    /// The first and the last byte that differ from [`Self::fill_pattern`] of
    /// this `seed`, if any does.
    pub(crate) fn changed(&self, seed: u64) -> Option<(u64, u64)> {
        let differs = |&at: &u64| {
            let word = pattern(seed, at & !7).to_le_bytes();
            word.get((at & 7) as usize) != Some(&self.0.read_u8(at))
        };
        let first = (0..self.0.size).find(differs)?;
        let last = (0..self.0.size).rev().find(differs)?;
        Some((first, last))
    }
}

/// The word that [`Pages::fill_pattern`] puts at `offset`. The highest bit of
/// every byte tells odd seeds from even ones, the next keeps bytes from being
/// zero.
fn pattern(seed: u64, offset: u64) -> u64 {
    const HIGHEST_BITS: u64 = 0x8080_8080_8080_8080;
    let mut word = seed << 32 | offset;
    for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        word = (word ^ word >> 30).wrapping_mul(factor);
    }
    word |= HIGHEST_BITS >> 1;
    if seed.is_multiple_of(2) {
        word & !HIGHEST_BITS
    } else {
        word | HIGHEST_BITS
    }
}
