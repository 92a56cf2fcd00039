//! Memory: which frames are free, what is mapped where, the heap.
#![expect(
    unsafe_code,
    reason = "page tables, and memory that is reached by its physical address"
)]

pub(crate) mod address_space;
pub(crate) mod devices;
pub mod direct_map;
pub mod firmware;
mod frame_map;
pub mod frames;
mod heap;
mod range;
mod table_frame;

use spin::Once;
use x86_64::PhysAddr;

pub use address_space::MapError;
pub use devices::{DmaFrames, PortalKind, QueuePortal};
pub use frames::{Frames, OutOfMemory};
pub use heap::{HeapUse, heap_use};
pub use range::PhysRange;
pub use table_frame::TableFrame;

use crate::arch::Handover;
use crate::boot_info::{BootInfo, MemoryKind};

/// The size of a page, and of a frame of physical memory.
pub const PAGE_SIZE: u64 = 4096;

/// The heap's size. What is on it: the tables of the instruction decoder,
/// tables from firmware, and what is kept about guests and devices.
const HEAP_PAGES: u64 = (4 << 20) / PAGE_SIZE;

static LOW_PAGE: Once<PhysAddr> = Once::new();

/// Takes over memory: frames, page tables, heap.
///
/// # Errors
/// If there is too little of it.
///
/// # Panics
/// If called twice.
pub(crate) fn init(handover: &Handover) -> Result<(), OutOfMemory> {
    let boot = handover.boot();
    // SAFETY: until now nothing used memory but what `boot` tells of, and `boot`
    // mapped the direct map.
    unsafe { frames::init(boot)? };
    if let Some(page) = frames::low_page(boot) {
        LOW_PAGE.call_once(|| page);
    }
    // SAFETY: `boot` vouches for what it says of the image.
    unsafe { address_space::init(boot)? };
    let frames = Frames::allocate(HEAP_PAGES)?;
    let start = frames.pointer().as_ptr();
    let size = usize::try_from(frames.leak().len_bytes()).expect("usize has 64 bits");
    // SAFETY: the frames were just given away for good.
    unsafe { heap::init(start, size) };
    Ok(())
}

/// What the loader brought at `range`, one of the modules of `boot`: nothing if it is
/// not in pages of RAM.
///
/// Modules are never handed out as free memory, and nobody writes to them.
pub(crate) fn module(boot: &'static BootInfo, range: PhysRange) -> Option<&'static [u8]> {
    let ram = boot.memory.iter();
    let mut ram = ram.filter(|region| region.kind == MemoryKind::RAM);
    let is_mapped = ram.any(|region| region.range.contains_in_whole_pages(range));
    if !boot.modules.contains(&range) || !is_mapped {
        return None;
    }
    let length = usize::try_from(range.len_bytes()).ok()?;
    let pointer = direct_map::pointer(range.start());
    // SAFETY: 1. The range is in pages of RAM, which are in the direct map for good. 2. It is a
    // module, which `frames` keeps out of what it hands out, so nobody writes to it.
    // 3. Any bytes are valid.
    Some(unsafe { core::slice::from_raw_parts(pointer.as_ptr(), length) })
}

/// A page below 640 KiB for the code that starts processors.
pub(crate) fn low_page() -> Option<PhysAddr> {
    LOW_PAGE.get().copied()
}
