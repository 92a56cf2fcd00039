//! The RAM of one guest.
//!
//! It is made of chunks of 2 MiB, so that nested tables take large pages and a
//! guest-physical address becomes a pointer by one look into a table. The guest
//! and devices change it at any time: nothing here hands out references, and
//! everything that is decided upon is copied first.

use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::PhysAddr;

use super::address::GuestPhysAddr;
use crate::mm::{Frames, OutOfMemory, PAGE_SIZE};

/// The size of a chunk, and what a guest's memory is a multiple of.
pub const CHUNK_BYTES: u64 = 2 << 20;
/// RAM below 4 GiB ends here at the latest. Above are the interrupt messages at
/// 0xfee0_0000, the APICs and the virtual devices.
pub const LOW_RAM_END: u64 = 3 << 30;
/// What does not fit below continues here.
pub const HIGH_RAM_START: u64 = 4 << 30;

/// The access is not, or not all, to the guest's RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRam(pub GuestPhysAddr);

/// The RAM of one guest.
#[derive(Debug)]
pub struct GuestMemory {
    chunks: Vec<Frames>,
    /// Where each 2 MiB of guest-physical addresses can be reached, null where
    /// there is no RAM: one comparison and one look for each access.
    pointers: Vec<*mut u8>,
}

/// How many pages are cleared at once.
const PIECE_PAGES: u64 = 64;
const CHUNK_PAGES: u64 = CHUNK_BYTES / PAGE_SIZE;

/// The RAM of a guest that is not all there yet: nobody sees it before it is cleared.
#[derive(Debug)]
pub struct MemoryInMaking {
    count_chunks: u64,
    chunks: Vec<Frames>,
    /// How many pages of the last chunk have been cleared.
    cleared: u64,
}

impl MemoryInMaking {
    /// None of `size` bytes.
    ///
    /// # Panics
    /// If the size is 0 or not a multiple of [`CHUNK_BYTES`].
    pub fn new(size: u64) -> Self {
        assert!(
            size > 0 && size.is_multiple_of(CHUNK_BYTES),
            "guest memory of {size:#x} bytes is not made of chunks"
        );
        Self {
            count_chunks: size / CHUNK_BYTES,
            chunks: Vec::new(),
            cleared: CHUNK_PAGES,
        }
    }

    /// Takes and clears a piece more. True if that was the last one.
    ///
    /// # Errors
    /// If there is not so much memory.
    pub fn clear_piece(&mut self) -> Result<bool, OutOfMemory> {
        if self.cleared == CHUNK_PAGES && !self.is_complete() {
            let chunk = Frames::allocate_aligned(CHUNK_PAGES, CHUNK_PAGES)?;
            self.chunks.push(chunk);
            self.cleared = 0;
        }
        if let Some(chunk) = self.chunks.last() {
            chunk.clear_some(self.cleared, PIECE_PAGES);
        }
        self.cleared = CHUNK_PAGES.min(self.cleared + PIECE_PAGES);
        Ok(self.is_complete())
    }

    fn is_complete(&self) -> bool {
        self.cleared == CHUNK_PAGES && self.chunks.len() as u64 == self.count_chunks
    }

    /// All of it.
    ///
    /// # Panics
    /// If there are pieces left.
    pub fn finish(self) -> GuestMemory {
        assert!(self.is_complete(), "all pieces are cleared first");
        GuestMemory::of(self.chunks)
    }
}

/// A number that need not be aligned.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Unaligned(u64);

// SAFETY: the pointers are to the frames beside them, which any processor may
// use; accesses go through raw pointers, and never assume that nobody else
// writes.
unsafe impl Send for GuestMemory {}
// SAFETY: as for `Send`.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    /// `size` bytes of zeros, from address 0 on.
    ///
    /// # Errors
    /// If there is not so much memory.
    ///
    /// # Panics
    /// If the size is 0 or not a multiple of [`CHUNK_BYTES`].
    pub fn new(size: u64) -> Result<Self, OutOfMemory> {
        let mut memory = MemoryInMaking::new(size);
        while !memory.clear_piece()? {}
        Ok(memory.finish())
    }

    fn of(chunks: Vec<Frames>) -> Self {
        let mut pointers = Vec::new();
        for (index, chunk) in (0..).zip(&chunks) {
            let place = chunk_address(index).0 / CHUNK_BYTES;
            let place = usize::try_from(place).expect("usize has 64 bits");
            pointers.resize(place, ptr::null_mut());
            pointers.push(chunk.pointer().as_ptr());
        }
        Self { chunks, pointers }
    }

    /// How many bytes there are.
    pub fn len_bytes(&self) -> u64 {
        self.chunks.len() as u64 * CHUNK_BYTES
    }

    /// Each chunk's guest-physical address, and where it is.
    pub fn chunks(&self) -> impl Iterator<Item = (GuestPhysAddr, PhysAddr)> {
        let chunks = (0..).zip(&self.chunks);
        chunks.map(|(index, chunk)| (chunk_address(index), chunk.start()))
    }

    /// Where the `length` bytes at `address` are, if they are in one chunk.
    #[inline]
    fn pointer(&self, address: GuestPhysAddr, length: u64) -> Option<*mut u8> {
        let index = usize::try_from(address.0 / CHUNK_BYTES).ok()?;
        let start = *self.pointers.get(index)?;
        let offset = address.0 % CHUNK_BYTES;
        if start.is_null() || length > CHUNK_BYTES - offset {
            return None;
        }
        // SAFETY: the offset is within the chunk.
        Some(unsafe { start.add(usize::try_from(offset).ok()?) })
    }

    /// Copies `buffer.len()` bytes out of the guest's memory.
    ///
    /// # Errors
    /// If some of them are not RAM; then some may have been copied.
    pub fn read(&self, address: GuestPhysAddr, buffer: &mut [u8]) -> Result<(), NotRam> {
        self.for_each_part(address, buffer.len(), |pointer, at, length| {
            let Some(part) = buffer.get_mut(at..at + length) else {
                return;
            };
            // SAFETY: 1. The guest's bytes are in one chunk. 2. The part is of
            // the same length. 3. Guest memory is never in a Rust object. What
            // others write meanwhile makes a mix of old and new, as on hardware.
            unsafe { ptr::copy_nonoverlapping(pointer.cast_const(), part.as_mut_ptr(), length) };
        })
    }

    /// Copies `bytes` into the guest's memory.
    ///
    /// # Errors
    /// If some of it is not RAM; then some may have been copied.
    pub fn write(&self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), NotRam> {
        self.for_each_part(address, bytes.len(), |pointer, at, length| {
            let Some(part) = bytes.get(at..at + length) else {
                return;
            };
            // SAFETY: as in `read`.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), pointer, length) };
        })
    }

    /// Whether all of `length` bytes at `address` are RAM.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self, address: GuestPhysAddr, length: u64) -> Result<(), NotRam> {
        let length = usize::try_from(length).map_err(|_| NotRam(address))?;
        self.for_each_part(address, length, |_, _, _| {})
    }

    fn for_each_part(
        &self,
        address: GuestPhysAddr,
        length: usize,
        mut part: impl FnMut(*mut u8, usize, usize),
    ) -> Result<(), NotRam> {
        let mut done = 0;
        while done < length {
            let at = address.checked_add(done as u64).ok_or(NotRam(address))?;
            let left = length - done;
            let in_chunk = usize::try_from(CHUNK_BYTES - at.0 % CHUNK_BYTES).unwrap_or(left);
            let count = left.min(in_chunk);
            let pointer = self.pointer(at, count as u64).ok_or(NotRam(at))?;
            part(pointer, done, count);
            done += count;
        }
        Ok(())
    }

    /// `N` numbers from `address` on, which need not be aligned, copied once.
    ///
    /// # Errors
    /// If some of them are not RAM.
    #[inline]
    pub fn read_words<const N: usize>(&self, address: GuestPhysAddr) -> Result<[u64; N], NotRam> {
        let Some(pointer) = self.pointer(address, 8 * N as u64) else {
            return self.read_split_words(address);
        };
        let pointer = pointer.cast::<Unaligned>();
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            // SAFETY: the words are in one chunk.
            let place = unsafe { pointer.add(index) };
            // SAFETY: as above, and any bytes are a number.
            *word = unsafe { place.read_volatile() }.0;
        }
        Ok(words)
    }

    #[cold]
    fn read_split_words<const N: usize>(&self, address: GuestPhysAddr) -> Result<[u64; N], NotRam> {
        let mut words = [0; N];
        for (index, word) in (0..).zip(&mut words) {
            let mut bytes = [0; 8];
            let at = address.checked_add(8 * index).ok_or(NotRam(address))?;
            self.read(at, &mut bytes)?;
            *word = u64::from_le_bytes(bytes);
        }
        Ok(words)
    }

    /// Copies numbers out of the guest's memory, each once. `address` need not be
    /// aligned.
    ///
    /// # Errors
    /// If some of them are not RAM; then some may have been copied.
    #[inline]
    pub fn copy_words_out(&self, address: GuestPhysAddr, into: &mut [u64]) -> Result<(), NotRam> {
        let Some(pointer) = self.pointer(address, 8 * into.len() as u64) else {
            for (index, word) in (0..).zip(into) {
                let at = address.checked_add(8 * index).ok_or(NotRam(address))?;
                [*word] = self.read_words(at)?;
            }
            return Ok(());
        };
        let pointer = pointer.cast::<Unaligned>();
        for (index, word) in into.iter_mut().enumerate() {
            // SAFETY: the words are in one chunk.
            let place = unsafe { pointer.add(index) };
            // SAFETY: as above, and any bytes are a number.
            *word = unsafe { place.read_volatile() }.0;
        }
        Ok(())
    }

    /// Copies numbers into the guest's memory, in order: whoever sees one of them sees
    /// those before it. `address` is a multiple of 8.
    ///
    /// # Errors
    /// If some of it is not RAM; then nothing has been copied.
    pub fn copy_words_in(&self, address: GuestPhysAddr, words: &[u64]) -> Result<(), NotRam> {
        let length = 8 * words.len() as u64;
        self.check(address, length)?;
        for (index, &word) in (0..).zip(words) {
            let at = address.checked_add(8 * index).ok_or(NotRam(address))?;
            let place = self.word(at).ok_or(NotRam(at))?;
            place.store(word, Ordering::Release);
        }
        Ok(())
    }

    /// Copies four numbers into the guest's memory, the first one last: whoever sees that
    /// sees the others. `address` is a multiple of 32.
    ///
    /// # Errors
    /// If some of it is not RAM, or if it is not aligned; then nothing has been copied.
    #[inline]
    pub fn copy_record_in(&self, address: GuestPhysAddr, words: &[u64; 4]) -> Result<(), NotRam> {
        const BYTES: u64 = 32;
        let pointer = match address.0.is_multiple_of(BYTES) {
            true => self.pointer(address, BYTES),
            false => None,
        };
        let pointer = pointer.ok_or(NotRam(address))?.cast::<u64>();
        for (index, &word) in words.iter().enumerate().rev() {
            // SAFETY: the numbers are in one chunk.
            let place = unsafe { pointer.add(index) };
            // SAFETY: as above, and aligned; it lives as long as `self`, and is only
            // accessed atomically while the reference is there.
            let place = unsafe { AtomicU64::from_ptr(place) };
            place.store(word, Ordering::Release);
        }
        Ok(())
    }

    /// The number at `address`, which must be aligned, as one access.
    #[inline]
    pub fn read_u64(&self, address: GuestPhysAddr) -> Option<u64> {
        self.word(address).map(|word| word.load(Ordering::Relaxed))
    }

    /// Sets `bits` of the number at `address`, which must be aligned, if it still
    /// is `expected`.
    pub fn set_bits(&self, address: GuestPhysAddr, expected: u64, bits: u64) -> bool {
        let changed = self.word(address).map(|word| {
            let new = expected | bits;
            word.compare_exchange(expected, new, Ordering::Relaxed, Ordering::Relaxed)
        });
        matches!(changed, Some(Ok(_)))
    }

    /// The byte at `address`.
    #[inline]
    pub fn read_u8(&self, address: GuestPhysAddr) -> Option<u8> {
        let pointer = self.pointer(address, 1)?;
        // SAFETY: the byte is in a chunk, and any byte is a number.
        Some(unsafe { pointer.read_volatile() })
    }

    /// Sets the byte at `address`. False if there is no RAM.
    #[inline]
    pub fn write_u8(&self, address: GuestPhysAddr, value: u8) -> bool {
        let Some(pointer) = self.pointer(address, 1) else {
            return false;
        };
        // SAFETY: the byte is in a chunk.
        unsafe { pointer.write_volatile(value) };
        true
    }

    #[inline]
    fn word(&self, address: GuestPhysAddr) -> Option<&AtomicU64> {
        if !address.0.is_multiple_of(8) {
            return None;
        }
        let pointer = self.pointer(address, 8)?.cast::<u64>();
        // SAFETY: the word is in a chunk, aligned, lives as long as `self`, and
        // is only accessed atomically while the reference is there.
        Some(unsafe { AtomicU64::from_ptr(pointer) })
    }
}

/// Where a chunk is in the guest's physical memory.
const fn chunk_address(index: u64) -> GuestPhysAddr {
    let low = LOW_RAM_END / CHUNK_BYTES;
    GuestPhysAddr(if index < low {
        index * CHUNK_BYTES
    } else {
        HIGH_RAM_START + (index - low) * CHUNK_BYTES
    })
}
