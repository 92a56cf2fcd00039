//! Where in the window what is kept.
//!
//! The first page has a completion record every 64 bytes, one for each batch and each
//! drain in flight. Behind it stand the lists of batches, one behind the other. What
//! is behind the window is not mapped, and serves as an address that faults.

use super::check::Range;
use crate::Window;

/// Bytes of a descriptor.
pub(super) const DESCRIPTOR: usize = 64;
/// Bytes of the page of records.
const RECORDS: usize = 4096;
/// The most batches in flight.
pub(super) const MAX_BATCHES: usize = 32;
/// How many drains are in flight at the most, besides those that Weir need not watch.
pub(super) const MAX_DRAINS: usize = 8;
/// How many records there are.
pub(super) const MAX_SLOTS: usize = MAX_BATCHES + MAX_DRAINS;
const _: () = assert!(MAX_SLOTS * DESCRIPTOR <= RECORDS && MAX_SLOTS <= 64);

/// How many bytes a window needs for `batches` batches of up to
/// 2^`max_batch_log2` descriptors in flight, of which there can be 32.
pub const fn window_bytes(batches: usize, max_batch_log2: u8) -> u64 {
    let lists = batches * (DESCRIPTOR << max_batch_log2);
    (RECORDS + lists.next_multiple_of(RECORDS)) as u64
}

/// The parts of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    window: Window,
    range: Range,
    list_bytes: usize,
    batches: usize,
}

impl Layout {
    /// The parts of `window`, if batches have up to 2^`max_batch_log2` descriptors.
    pub(super) fn new(window: Window, max_batch_log2: u8) -> Self {
        let list_bytes = DESCRIPTOR << max_batch_log2.min(15);
        let bytes = usize::try_from(window.len_bytes).unwrap_or(usize::MAX);
        Self {
            window,
            range: window.into(),
            list_bytes,
            batches: (bytes.saturating_sub(RECORDS) / list_bytes).min(MAX_BATCHES),
        }
    }

    /// How many batches can be in flight.
    pub(super) const fn batches(&self) -> usize {
        self.batches
    }

    /// How many descriptors a list has room for.
    pub(super) const fn list_capacity(&self) -> u64 {
        (self.list_bytes / DESCRIPTOR) as u64
    }

    /// What no operand may touch.
    pub(super) const fn range(&self) -> Range {
        self.range
    }

    /// Where in the window the record of a slot is.
    pub(super) const fn record_offset(slot: usize) -> usize {
        slot * DESCRIPTOR
    }

    /// Where in the window the list of a slot is.
    pub(super) const fn list_offset(&self, slot: usize) -> usize {
        RECORDS + slot * self.list_bytes
    }

    /// Where the device finds what is at `offset`.
    pub(super) const fn address(&self, offset: usize) -> u64 {
        self.window.base + offset as u64
    }

    /// An address that the device can read and not write.
    pub(super) const fn read_only(&self) -> u64 {
        self.address(RECORDS)
    }

    /// An address that the device cannot reach.
    pub(super) const fn hole(&self) -> u64 {
        self.window.base + self.window.len_bytes
    }
}
