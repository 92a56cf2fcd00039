//! Frames and heap, with errors instead of aborts.

use alloc::vec::Vec;

use hwio::{DmaPages, FrameSource};
use x86_64::PhysAddr;

use crate::Error;

/// `count_pages` zeroed pages.
pub(crate) fn allocate<P: DmaPages>(
    frames: &mut impl FrameSource<Pages = P>,
    count_pages: usize,
) -> Result<P, Error> {
    frames
        .allocate_zeroed(count_pages)
        .ok_or(Error::OutOfFrames { count_pages })
}

/// A zeroed page for a table. If the unit does not look into caches, the zeros are
/// brought to memory, lest it finds there what was in the frame before.
pub(crate) fn allocate_table<P: DmaPages>(
    frames: &mut impl FrameSource<Pages = P>,
    count_pages: usize,
    is_coherent: bool,
) -> Result<P, Error> {
    let pages = allocate(frames, count_pages)?;
    if !is_coherent {
        pages.write_back(0..pages.len_words());
    }
    Ok(pages)
}

/// Inserts `value` at `index`, if there is heap for it.
pub(crate) fn insert<T>(list: &mut Vec<T>, index: usize, value: T) -> Result<(), Error> {
    reserve_one(list)?;
    list.insert(index, value);
    Ok(())
}

/// Makes sure that the next push does not need heap.
pub(crate) fn reserve_one<T>(list: &mut Vec<T>) -> Result<(), Error> {
    list.try_reserve(1).map_err(|_| Error::OutOfHeap)
}

/// An address as the tables have it, without its low 12 bits.
pub(crate) fn page_number(address: PhysAddr) -> u64 {
    address.as_u64() >> 12
}
