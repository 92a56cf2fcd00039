//! The heap, for boot and for the life cycle of guests. No path from a VM exit
//! to the next VM entry allocates.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;
use spin::Mutex;

#[cfg_attr(target_os = "none", global_allocator)]
static HEAP: LockedHeap = LockedHeap(Mutex::new(Heap::empty()));

/// The allocator behind `alloc`. Its lock is the innermost of all.
struct LockedHeap(Mutex<Heap>);

/// How full the heap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapUse {
    /// Bytes that have been handed out.
    pub used_bytes: usize,
    /// Bytes that have not.
    pub free_bytes: usize,
}

impl fmt::Display for HeapUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "used_kib={} free_kib={}",
            self.used_bytes.div_ceil(1024),
            self.free_bytes / 1024
        )
    }
}

/// Hands `size` bytes at `start` to the heap.
///
/// # Safety
/// The memory must be mapped for writing, belong to nobody else, and stay so
/// for good. Called once.
pub(super) unsafe fn init(start: *mut u8, size: usize) {
    // SAFETY: the caller gives the memory away for good, once.
    unsafe { HEAP.0.lock().init(start, size) };
}

/// How full the heap is.
pub fn heap_use() -> HeapUse {
    let heap = HEAP.0.lock();
    HeapUse {
        used_bytes: heap.used(),
        free_bytes: heap.free(),
    }
}

// SAFETY: the heap hands out disjoint blocks of at least the size and alignment
// asked for, or null, and the lock keeps processors apart. It cannot unwind.
unsafe impl GlobalAlloc for LockedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.0.lock().allocate_first_fit(layout);
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller got the block from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(block, layout) };
        }
    }
}
