//! Buffers that the DSA reads and writes.
#![expect(unsafe_code, reason = "memory that a device changes at any time")]

use alloc::alloc::{alloc_zeroed, dealloc, handle_alloc_error};
use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;

/// Memory of the guest's own, zeroed when it is made. There are no references into it:
/// the device may change it at any time. Its physical address is its address.
///
/// A buffer that the device may still write to must not be dropped.
pub struct Buffer {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is the same from every processor, and is accessed as what may
// change at any time.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len_bytes` bytes that begin at a multiple of a page.
    ///
    /// # Panics
    /// If there is no memory left, or none was asked for.
    pub fn new(len_bytes: usize) -> Self {
        let layout = Layout::from_size_align(len_bytes, PAGE_SIZE).expect("a sensible size");
        assert!(len_bytes > 0, "an empty buffer");
        // SAFETY: the size is not 0.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| handle_alloc_error(layout));
        Self { base, layout }
    }

    /// Where the device finds byte `offset`.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn address(&self, offset: usize) -> u64 {
        assert!(offset < self.len_bytes(), "byte {offset} of {self:?}");
        (self.base.addr().get() + offset) as u64
    }

    /// How long it is.
    pub fn len_bytes(&self) -> usize {
        self.layout.size()
    }

    /// The byte at `offset`.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn read_u8(&self, offset: usize) -> u8 {
        let place = self.place::<u8>(offset);
        // SAFETY: `place` is in the buffer, and any byte is valid.
        let value = unsafe { place.read_volatile() };
        fence(Ordering::Acquire);
        value
    }

    /// Sets the byte at `offset`.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn write_u8(&self, offset: usize, value: u8) {
        fence(Ordering::Release);
        // SAFETY: `place` is in the buffer, which has no references into it.
        unsafe { self.place::<u8>(offset).write_volatile(value) };
    }

    /// The word at `offset`, a multiple of 8.
    ///
    /// # Panics
    /// If there is no such word.
    #[inline]
    pub fn read_u64(&self, offset: usize) -> u64 {
        let place = self.place::<u64>(offset);
        // SAFETY: `place` is in the buffer and aligned, and any word is valid.
        let value = unsafe { place.read_volatile() };
        fence(Ordering::Acquire);
        value
    }

    /// Sets the word at `offset`, a multiple of 8.
    ///
    /// # Panics
    /// If there is no such word.
    #[inline]
    pub fn write_u64(&self, offset: usize, value: u64) {
        fence(Ordering::Release);
        // SAFETY: `place` is in the buffer and aligned; there are no references.
        unsafe { self.place::<u64>(offset).write_volatile(value) };
    }

    /// Sets the words from `offset` on.
    ///
    /// # Panics
    /// If they are not all there.
    pub fn write_words(&self, offset: usize, words: &[u64]) {
        for (at, &word) in (offset..).step_by(8).zip(words) {
            self.write_u64(at, word);
        }
    }

    /// Sets `length` bytes from `offset` on.
    ///
    /// # Panics
    /// If they are not all there.
    pub fn fill(&self, offset: usize, length: usize, byte: u8) {
        let word = u64::from_ne_bytes([byte; 8]);
        self.for_each_piece(offset, length, |at, is_word| {
            if is_word {
                self.write_u64(at, word);
            } else {
                self.write_u8(at, byte);
            }
            true
        });
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    /// If there is not so much room.
    pub fn write_bytes(&self, offset: usize, bytes: &[u8]) {
        self.for_each_piece(offset, bytes.len(), |at, is_word| {
            let rest = bytes.get(at - offset..).unwrap_or_default();
            match rest.first_chunk() {
                Some(word) if is_word => self.write_u64(at, u64::from_ne_bytes(*word)),
                _ => self.write_u8(at, rest.first().copied().unwrap_or_default()),
            }
            true
        });
    }

    /// Whether the bytes from `offset` on are `expected`.
    ///
    /// # Panics
    /// If they are not all there.
    pub fn holds(&self, offset: usize, expected: &[u8]) -> bool {
        self.for_each_piece(offset, expected.len(), |at, is_word| {
            let rest = expected.get(at - offset..).unwrap_or_default();
            match rest.first_chunk() {
                Some(word) if is_word => self.read_u64(at) == u64::from_ne_bytes(*word),
                _ => rest.first() == Some(&self.read_u8(at)),
            }
        })
    }

    /// Whether `length` bytes from `offset` on are all `byte`.
    ///
    /// # Panics
    /// If they are not all there.
    pub fn is_all(&self, offset: usize, length: usize, byte: u8) -> bool {
        let word = u64::from_ne_bytes([byte; 8]);
        self.for_each_piece(offset, length, |at, is_word| {
            if is_word {
                self.read_u64(at) == word
            } else {
                self.read_u8(at) == byte
            }
        })
    }

    /// Calls `each` with offset and kind of the words and, at both ends, bytes that
    /// make up a range, until it says false. True if it never did.
    #[inline]
    fn for_each_piece(
        &self,
        offset: usize,
        length: usize,
        mut each: impl FnMut(usize, bool) -> bool,
    ) -> bool {
        let end = offset.checked_add(length);
        let end = end.filter(|&end| end <= self.len_bytes());
        let end = end.unwrap_or_else(|| panic!("{length} bytes at {offset} of {self:?}"));
        let mut at = offset;
        while at < end {
            let is_word = at.is_multiple_of(8) && end - at >= 8;
            if !each(at, is_word) {
                return false;
            }
            at += if is_word { 8 } else { 1 };
        }
        true
    }

    #[inline]
    fn place<T>(&self, offset: usize) -> NonNull<T> {
        let end = offset.checked_add(size_of::<T>());
        assert!(
            end.is_some_and(|end| end <= self.len_bytes()) && offset.is_multiple_of(size_of::<T>()),
            "{} bytes at {offset} of {self:?}",
            size_of::<T>()
        );
        // SAFETY: the offset is in the buffer.
        unsafe { self.base.add(offset) }.cast()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({:?}, {} bytes)", self.base, self.len_bytes())
    }
}
