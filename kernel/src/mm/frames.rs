//! Frames of physical memory: who owns which.
//!
//! [`Frames`] is a run of adjacent frames that belongs to its holder and goes
//! back when it is dropped. Everything that the hypervisor hands to hardware or
//! to a guest is one of these.

use core::error::Error;
use core::fmt;
use core::mem;
use core::ptr::NonNull;
use core::slice;

use spin::Mutex;
use x86_64::PhysAddr;

use super::direct_map::{self, BOOT_DIRECT_MAP_END};
use super::frame_map::FrameMap;
use super::{PAGE_SIZE, PhysRange};
use crate::boot_info::{BootInfo, MemoryKind};

/// Frames below 1 MiB stay with firmware and with the code that starts the
/// other processors.
const LOW_MEMORY_END: u64 = 1 << 20;

/// Innermost but for the heap's: nothing is locked while it is held.
static FRAMES: Mutex<Option<FrameMap<'static>>> = Mutex::new(None);

/// There are not that many adjacent free frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// What was asked for.
    pub count_pages: u64,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no {} adjacent KiB of memory are free",
            self.count_pages * 4
        )
    }
}

impl Error for OutOfMemory {}

/// Finds out which memory is free.
///
/// What is free is RAM by the memory map that nothing else in the map claims,
/// and that neither the image nor a module is in.
///
/// # Errors
/// If there is no room for the map of frames itself.
///
/// # Panics
/// If called twice.
///
/// # Safety
/// Nothing may use free memory yet, and the low 4 GiB are in the direct map.
pub(super) unsafe fn init(boot: &BootInfo) -> Result<(), OutOfMemory> {
    let ram = || {
        let regions = boot.memory.iter();
        regions.filter(|region| region.kind == MemoryKind::RAM)
    };
    let last = ram().map(|region| region.range.whole_pages().1).max();
    let words = FrameMap::words_for(last.unwrap_or(0));
    let place = place_for(boot, words * 8).ok_or(OutOfMemory {
        count_pages: (words * 8).div_ceil(PAGE_SIZE),
    })?;
    let length = usize::try_from(words).expect("usize has 64 bits");
    let pointer = direct_map::pointer(place.start()).cast::<u64>();
    // SAFETY: 1. The place is mapped, now and later, and aligned. 2. Nobody else
    // uses it: it is RAM that nothing claims, and is marked as used below.
    // 3. `u64` has no invalid values.
    let words = unsafe { slice::from_raw_parts_mut(pointer.as_ptr(), length) };

    let mut map = FrameMap::all_used(words);
    for region in ram() {
        let (first, end) = region.range.whole_pages();
        map.set_free(first..end);
    }
    for taken in taken(boot).chain([place]) {
        let (first, end) = taken.touched_pages();
        map.set_used(first..end);
    }
    let mut frames = FRAMES.lock();
    assert!(frames.is_none(), "the memory map is read once");
    *frames = Some(map);
    Ok(())
}

/// All that is not to be touched although it may lie in RAM.
fn taken(boot: &BootInfo) -> impl Iterator<Item = PhysRange> {
    let low = PhysRange::new(PhysAddr::zero(), PhysAddr::new(LOW_MEMORY_END));
    let claimed = boot.memory.iter();
    claimed
        .filter(|region| region.kind != MemoryKind::RAM)
        .map(|region| region.range)
        .chain(boot.modules.iter().copied())
        .chain([boot.image.whole(), low])
}

/// Whole pages of unclaimed RAM for `length` bytes that can be reached at once.
fn place_for(boot: &BootInfo, length: u64) -> Option<PhysRange> {
    let ram = boot.memory.iter();
    let ram = ram.filter(|region| region.kind == MemoryKind::RAM);
    // If there is such a place at all, there is one right behind something.
    let starts = ram.clone().map(|region| region.range.start());
    starts
        .chain(taken(boot).map(PhysRange::end))
        .find_map(|start| {
            let start = start.as_u64().next_multiple_of(PAGE_SIZE);
            let place = PhysRange::from_parts(start, length.next_multiple_of(PAGE_SIZE))?;
            let is_ram = ram.clone().any(|region| region.range.contains(place));
            let is_free = !taken(boot).any(|range| range.overlaps(place));
            (is_ram && is_free && place.end().as_u64() <= BOOT_DIRECT_MAP_END).then_some(place)
        })
}

/// A page below 640 KiB, where the other processors can begin.
///
/// It stays outside of the map of frames: low memory is never handed out.
pub(super) fn low_page(boot: &BootInfo) -> Option<PhysAddr> {
    const CONVENTIONAL_END: u64 = 640 << 10;
    let ram = boot.memory.iter();
    let ram = ram.filter(|region| region.kind == MemoryKind::RAM);
    let taken = || {
        let reserved = boot.memory.iter();
        let reserved = reserved.filter(|region| region.kind != MemoryKind::RAM);
        let reserved = reserved.map(|region| region.range);
        reserved.chain(boot.modules.iter().copied())
    };
    // From the top, for firmware keeps its own things at the bottom.
    (1..CONVENTIONAL_END / PAGE_SIZE).rev().find_map(|page| {
        let page = PhysRange::from_parts(page * PAGE_SIZE, PAGE_SIZE)?;
        let is_ram = ram.clone().any(|region| region.range.contains(page));
        (is_ram && !taken().any(|range| range.overlaps(page))).then_some(page.start())
    })
}

/// How many frames are free.
pub fn count_free() -> u64 {
    FRAMES.lock().as_ref().map_or(0, FrameMap::count_free)
}

/// Adjacent frames that belong to the holder of this value.
#[derive(Debug, PartialEq, Eq)]
pub struct Frames {
    first: u64,
    count: u64,
}

impl Frames {
    /// `count_pages` adjacent frames with whatever they contain.
    ///
    /// # Errors
    /// If so many are not free.
    pub fn allocate(count_pages: u64) -> Result<Self, OutOfMemory> {
        Self::allocate_with(count_pages, 1, u64::MAX)
    }

    /// As [`allocate`](Self::allocate), from an address that is a multiple of
    /// `alignment_pages` pages, a power of two.
    ///
    /// # Errors
    /// If so many are not free.
    pub fn allocate_aligned(count_pages: u64, alignment_pages: u64) -> Result<Self, OutOfMemory> {
        Self::allocate_with(count_pages, alignment_pages, u64::MAX)
    }

    /// As [`allocate`](Self::allocate), below 4 GiB.
    ///
    /// # Errors
    /// If so many are not free.
    pub(super) fn allocate_low(count_pages: u64) -> Result<Self, OutOfMemory> {
        Self::allocate_with(count_pages, 1, BOOT_DIRECT_MAP_END / PAGE_SIZE)
    }

    fn allocate_with(count: u64, alignment: u64, limit: u64) -> Result<Self, OutOfMemory> {
        let mut frames = FRAMES.lock();
        let map = frames.as_mut();
        let first = map.and_then(|map| map.allocate(count, alignment, limit));
        first
            .map(|first| Self { first, count })
            .ok_or(OutOfMemory { count_pages: count })
    }

    /// As [`allocate`](Self::allocate), filled with zeros.
    ///
    /// # Errors
    /// If so many are not free.
    pub fn allocate_zeroed(count_pages: u64) -> Result<Self, OutOfMemory> {
        let frames = Self::allocate(count_pages)?;
        frames.clear();
        Ok(frames)
    }

    /// Fills the frames with zeros.
    pub fn clear(&self) {
        self.clear_some(0, self.count);
    }

    /// Fills `count` of the frames with zeros, from the one of number `first` on, as far as
    /// there are so many.
    pub fn clear_some(&self, first: u64, count: u64) {
        let first = first.min(self.count);
        let count = count.min(self.count - first);
        // The casts hold: this kernel is 64-bit only.
        let offset = usize::try_from(first * PAGE_SIZE).unwrap_or(usize::MAX);
        let length = usize::try_from(count * PAGE_SIZE).unwrap_or(usize::MAX);
        // SAFETY: the offset is within the frames.
        let start = unsafe { self.pointer().add(offset) };
        // SAFETY: the frames are mapped for writing and belong to this value.
        unsafe { start.write_bytes(0, length) };
    }

    /// Their physical addresses.
    pub fn range(&self) -> PhysRange {
        let start = PhysAddr::new(self.first * PAGE_SIZE);
        PhysRange::new(start, start + self.count * PAGE_SIZE)
    }

    /// The first physical address.
    #[inline]
    pub fn start(&self) -> PhysAddr {
        // Frames that were allocated have addresses of no more than 52 bits.
        PhysAddr::new_truncate(self.first * PAGE_SIZE)
    }

    /// Where the frames can be read and written, for as long as they are held.
    pub fn pointer(&self) -> NonNull<u8> {
        direct_map::pointer(self.start())
    }

    /// Gives up ownership for good: the frames are never free again.
    pub fn leak(self) -> PhysRange {
        let range = self.range();
        mem::forget(self);
        range
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if let Some(map) = FRAMES.lock().as_mut() {
            map.release(self.first, self.count);
        }
    }
}
