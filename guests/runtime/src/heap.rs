//! The heap.
#![expect(unsafe_code, reason = "hands out memory")]

use alloc::boxed::Box;
use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering};

use linked_list_allocator::Heap;
use spin::Mutex;

#[global_allocator]
static HEAP: LockedHeap = LockedHeap(Mutex::new(Heap::empty()));

/// Where the heap ends.
static END: AtomicU64 = AtomicU64::new(0);

/// The most that a guest's heap takes of its RAM.
const MAX_BYTES: u64 = 64 << 20;

struct LockedHeap(Mutex<Heap>);

/// Makes a heap of `free`.
///
/// # Safety
/// The memory must be mapped, belong to nobody else, and stay so. Called once.
pub(crate) unsafe fn init(free: Range<u64>) {
    let length = (free.end - free.start).min(MAX_BYTES);
    END.store(free.start + length, Ordering::Relaxed);
    let length = usize::try_from(length).expect("64-bit");
    // SAFETY: the caller gives the memory away for good, once.
    unsafe { HEAP.0.lock().init(free.start as *mut u8, length) };
}

/// Where the heap, and with it all that Rust knows of but the input, ends.
pub(crate) fn end() -> u64 {
    END.load(Ordering::Relaxed)
}

/// A copy of `text` that stays.
pub(crate) fn keep(text: &str) -> &'static str {
    Box::leak(Box::<str>::from(text))
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
