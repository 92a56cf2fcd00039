//! A frame of 512 numbers that the processor reads as a table.

use x86_64::PhysAddr;

use super::frames::{Frames, OutOfMemory};
use crate::virt::nested::TablePage;

/// One frame, written a number at a time.
#[derive(Debug)]
pub struct TableFrame(Frames);

impl TablePage for TableFrame {
    fn allocate() -> Result<Self, OutOfMemory> {
        Frames::allocate_zeroed(1).map(Self)
    }

    fn address(&self) -> PhysAddr {
        self.0.start()
    }

    fn write(&self, index: usize, entry: u64) {
        assert!(index < 512, "a table has 512 entries");
        // SAFETY: the entry is within the frame.
        let place = unsafe { self.0.pointer().cast::<u64>().add(index) };
        // SAFETY: as above; the frame is this value's, and aligned.
        unsafe { place.write_volatile(entry) };
    }
}
