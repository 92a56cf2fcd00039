//! Memory that devices read and write.
#![expect(
    unsafe_code,
    reason = "reaches memory at addresses that the caller vouches for"
)]

use core::arch::asm;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use x86_64::PhysAddr;

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
/// 64-bit words of a page.
pub const PAGE_WORDS: usize = PAGE_SIZE / 8;
/// Bytes of a cache line.
const LINE_SIZE: usize = 64;

/// Adjacent physical pages that belong to their holder, zeroed when they were handed
/// out. Dropping them gives them back; so what a device still knows the address of
/// must not be dropped.
///
/// There are no references into this memory, only whole 64-bit words that are read
/// and written as they are: a device may change or look at them at any time. A word
/// is written after everything that was written to any such memory before it, and
/// read before everything that is read after it.
pub trait DmaPages {
    /// Where the device finds the first word; a multiple of [`PAGE_SIZE`].
    fn physical_address(&self) -> PhysAddr;

    /// How many 64-bit words there are.
    fn len_words(&self) -> usize;

    /// Word `index`.
    ///
    /// # Panics
    /// If there is no such word.
    fn read_word(&self, index: usize) -> u64;

    /// The words from `first` on, in order.
    ///
    /// # Panics
    /// If they do not exist.
    fn read_words(&self, first: usize, into: &mut [u64]) {
        for (index, word) in (first..).zip(into) {
            *word = self.read_word(index);
        }
    }

    /// Sets word `index`.
    ///
    /// # Panics
    /// If there is no such word.
    fn write_word(&mut self, index: usize, value: u64);

    /// Sets the words from `first` on, in order.
    ///
    /// # Panics
    /// If they do not exist.
    fn write_words(&mut self, first: usize, values: &[u64]) {
        for (index, &value) in (first..).zip(values) {
            self.write_word(index, value);
        }
    }

    /// Brings `words` to memory, for a device that does not look into the caches of
    /// the CPU. They are there when this returns.
    ///
    /// # Panics
    /// If there are no such words.
    fn write_back(&self, words: Range<usize>);

    /// Where the device finds word `index`.
    fn word_address(&self, index: usize) -> PhysAddr {
        self.physical_address() + 8 * index as u64
    }
}

/// Where a driver gets memory from while it runs.
pub trait FrameSource {
    /// The memory.
    type Pages: DmaPages;

    /// `count_pages` adjacent pages, zeroed; nothing if there are not so many.
    fn allocate_zeroed(&mut self, count_pages: usize) -> Option<Self::Pages>;
}

/// Pages that the CPU sees through a mapping. `O` owns them: when this value is
/// dropped, so is `O`.
pub struct MappedPages<O> {
    base: NonNull<u64>,
    physical_address: PhysAddr,
    len_words: usize,
    _owner: O,
}

// SAFETY: the memory belongs to this value alone and is the same from every CPU.
unsafe impl<O: Send> Send for MappedPages<O> {}
// SAFETY: through a shared reference it is only read, word by word, as memory that
// changes at any time anyway.
unsafe impl<O: Sync> Sync for MappedPages<O> {}

impl<O> MappedPages<O> {
    /// Fills `count_pages` pages with zeros and takes them over.
    ///
    /// # Panics
    /// If an address is not that of a page.
    ///
    /// # Safety
    /// 1. `base` is where the pages are mapped, with write-back caching, and
    ///    `physical_address` where they are; both for as long as `owner` exists.
    /// 2. Nobody else has a use for the pages, or a reference into them, until `owner`
    ///    is dropped.
    pub unsafe fn new(
        owner: O,
        base: NonNull<u64>,
        physical_address: PhysAddr,
        count_pages: usize,
    ) -> Self {
        assert!(
            base.addr().get().is_multiple_of(PAGE_SIZE)
                && physical_address.is_aligned(PAGE_SIZE as u64),
            "{base:?} or {physical_address:?} is no page"
        );
        let mut pages = Self {
            base,
            physical_address,
            len_words: count_pages * PAGE_WORDS,
            _owner: owner,
        };
        for index in 0..pages.len_words {
            pages.write_word(index, 0);
        }
        pages
    }

    /// Whether so many words exist.
    #[inline]
    fn check(&self, first: usize, count: usize) {
        if first > self.len_words || count > self.len_words - first {
            beyond(first, count, self.len_words);
        }
    }

    #[inline]
    fn pointer(&self, index: usize) -> NonNull<u64> {
        assert!(index < self.len_words, "word {index} of {}", self.len_words);
        // SAFETY: the index is in the pages, which are one mapped object.
        unsafe { self.base.add(index) }
    }
}

/// Whoever asks for them has lost count.
#[cold]
#[track_caller]
fn beyond(first: usize, count: usize, len: usize) -> ! {
    panic!("{count} words at {first} of {len}")
}

impl<O> DmaPages for MappedPages<O> {
    fn physical_address(&self) -> PhysAddr {
        self.physical_address
    }

    fn len_words(&self) -> usize {
        self.len_words
    }

    fn read_word(&self, index: usize) -> u64 {
        // SAFETY: 1. `pointer` checked the bounds. 2. The constructor's caller vouched
        // for the mapping. 3. Whatever a device writes is a valid number.
        let value = unsafe { self.pointer(index).read_volatile() };
        fence(Ordering::Acquire);
        value
    }

    fn write_word(&mut self, index: usize, value: u64) {
        fence(Ordering::Release);
        // SAFETY: 1. `pointer` checked the bounds. 2. The constructor's caller vouched
        // for the mapping. 3. There are no references into the memory.
        unsafe { self.pointer(index).write_volatile(value) };
    }

    #[inline]
    fn read_words(&self, first: usize, into: &mut [u64]) {
        self.check(first, into.len());
        for (index, word) in (first..).zip(into) {
            // SAFETY: the index is in the pages, which are one mapped object.
            let place = unsafe { self.base.add(index) };
            // SAFETY: as in `read_word`.
            *word = unsafe { place.read_volatile() };
            fence(Ordering::Acquire);
        }
    }

    #[inline]
    fn write_words(&mut self, first: usize, words: &[u64]) {
        /// So many are written between two comparisons: a descriptor.
        const AT_ONCE: usize = 8;
        self.check(first, words.len());
        // SAFETY: the index is in the pages, or just behind them if there is no word.
        let mut place = unsafe { self.base.add(first) };
        let mut write = |word| {
            fence(Ordering::Release);
            // SAFETY: 1. There are as many words as were compared above. 2. and 3. as in
            // `write_word`.
            unsafe { place.write_volatile(word) };
            // SAFETY: as above; behind the last word is at most the end of the pages.
            place = unsafe { place.add(1) };
        };
        let (chunks, rest) = words.as_chunks::<AT_ONCE>();
        for &[a, b, c, d, e, f, g, h] in chunks {
            write(a);
            write(b);
            write(c);
            write(d);
            write(e);
            write(f);
            write(g);
            write(h);
        }
        for &word in rest {
            write(word);
        }
    }

    fn write_back(&self, words: Range<usize>) {
        assert!(
            words.end <= self.len_words,
            "words {words:?} of {}",
            self.len_words
        );
        let words_of_line = LINE_SIZE / 8;
        let first_line = words.start / words_of_line * words_of_line;
        for index in (first_line..words.end).step_by(words_of_line) {
            let line = self.pointer(index);
            // SAFETY: writes a cache line back and forgets it, which no program can
            // tell but by its timing.
            unsafe { asm!("clflush [{}]", in(reg) line.as_ptr(), options(nostack)) };
        }
        // CLFLUSH is in order with other stores and with itself, but not done until a
        // fence says so.
        // SAFETY: waits, and does nothing else.
        unsafe { asm!("mfence", options(nostack, preserves_flags)) };
    }
}

impl<O> fmt::Debug for MappedPages<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = self.len_words / PAGE_WORDS;
        write!(f, "MappedPages({:?}, {pages} pages)", self.physical_address)
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::rc::Rc;
    use std::vec::Vec;

    use super::*;

    #[repr(align(4096))]
    struct Pages([u64; 2 * PAGE_WORDS]);

    fn pages<O>(owner: O) -> MappedPages<O> {
        let memory = Box::leak(Box::new(Pages([!0; 2 * PAGE_WORDS])));
        let base = NonNull::from(&mut memory.0).cast();
        // SAFETY: the memory was leaked and is used by nobody else. No device will
        // ever look at the physical address.
        unsafe { MappedPages::new(owner, base, PhysAddr::new(0x1_2345_6000), 2) }
    }

    #[test]
    fn pages_are_zeroed_and_hold_what_is_written() {
        let mut pages = pages(());
        assert_eq!(pages.len_words(), 2 * PAGE_WORDS);
        assert!((0..pages.len_words()).all(|index| pages.read_word(index) == 0));
        pages.write_words(PAGE_WORDS - 1, &[1, 2, 3]);
        assert_eq!(pages.read_word(PAGE_WORDS), 2);
        assert_eq!(pages.read_word(PAGE_WORDS + 1), 3);
        assert_eq!(pages.word_address(PAGE_WORDS), PhysAddr::new(0x1_2345_7000));
    }

    #[test]
    fn the_owner_is_dropped_with_the_pages() {
        let owner = Rc::new(());
        let pages = pages(Rc::clone(&owner));
        assert_eq!(Rc::strong_count(&owner), 2);
        drop(pages);
        assert_eq!(Rc::strong_count(&owner), 1);
    }

    #[test]
    #[should_panic(expected = "word 1024 of 1024")]
    fn a_word_behind_the_end_is_caught() {
        pages(()).write_word(2 * PAGE_WORDS, 0);
    }

    #[test]
    fn many_words_are_written_one_behind_the_other() {
        let mut pages = pages(());
        let words: Vec<u64> = (1..=21).collect();
        pages.write_words(3, &words);
        let mut read = [!0; 23];
        pages.read_words(2, &mut read);
        assert_eq!(read.first(), Some(&0));
        assert_eq!(read.get(1..22), Some(&words[..]));
        assert_eq!(read.last(), Some(&0));
        pages.write_words(2 * PAGE_WORDS - 8, &words[..8]);
        pages.write_words(2 * PAGE_WORDS, &[]);
        assert_eq!(pages.read_word(2 * PAGE_WORDS - 1), 8);
    }

    #[test]
    #[should_panic(expected = "5 words at 1020 of 1024")]
    fn many_words_beyond_the_end_are_not_read() {
        pages(()).read_words(2 * PAGE_WORDS - 4, &mut [0; 5]);
    }

    #[test]
    #[should_panic(expected = "9 words at 1016 of 1024")]
    fn many_words_beyond_the_end_are_caught() {
        pages(()).write_words(2 * PAGE_WORDS - 8, &[0; 9]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs CLFLUSH")]
    fn writing_back_changes_nothing() {
        let mut pages = pages(());
        pages.write_word(9, 7);
        pages.write_back(9..10);
        pages.write_back(0..pages.len_words());
        assert_eq!(pages.read_word(9), 7);
    }
}
