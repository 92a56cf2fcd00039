//! What a guest's devices reach: its RAM, and for checked queues Weir's window besides.

use alloc::vec::Vec;

use vtd::{Access, Iova, Mapping};
use x86_64::PhysAddr;

use super::PAGE;
use crate::virt::nested::Format;
use crate::virt::space::Space;

/// Where the device sees Weir's own memory for a guest: above all guest RAM.
pub(super) const WINDOW: u64 = 1 << 38;

/// The guest's RAM as its devices see it.
pub(super) fn ram<F: Format>(space: &Space<F>) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for (guest, physical) in space.memory.chunks() {
        let chunk = crate::virt::memory::CHUNK_BYTES;
        if let Some(last) = mappings.last_mut()
            && last.iova.0 + last.len_bytes == guest.0
            && last.physical + last.len_bytes == physical
        {
            last.len_bytes += chunk;
        } else {
            mappings.push(Mapping {
                iova: Iova(guest.0),
                physical,
                len_bytes: chunk,
                access: Access::ReadWrite,
            });
        }
    }
    mappings
}

/// The window: the page of completion records, and the lists, which the device only
/// reads.
pub(super) fn window_mappings(physical: PhysAddr, len_bytes: u64) -> [Mapping; 2] {
    let part = |offset: u64, len_bytes: u64, access| Mapping {
        iova: Iova(WINDOW + offset),
        physical: physical + offset,
        len_bytes,
        access,
    };
    [
        part(0, PAGE, Access::ReadWrite),
        part(PAGE, len_bytes - PAGE, Access::ReadOnly),
    ]
}
