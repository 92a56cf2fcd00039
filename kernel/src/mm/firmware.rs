//! The memory that firmware left its tables in.

use core::cell::RefCell;
use core::ptr::NonNull;
use core::slice;

use arrayvec::ArrayVec;

use super::PhysRange;
use super::address_space::{self, Window};
use crate::acpi::FirmwareMemory;

/// Each table takes two windows: its header, then all of it.
const MAX_WINDOWS: usize = 64;

/// Maps what is asked for, read-only, and keeps it mapped.
///
/// Only memory outside of the memory map's RAM is given out: tables in memory
/// that is about to be handed out would change while they are read.
#[derive(Debug, Default)]
pub struct FirmwareWindows {
    mapped: RefCell<ArrayVec<(PhysRange, NonNull<u8>), MAX_WINDOWS>>,
}

impl FirmwareMemory for FirmwareWindows {
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]> {
        let range = PhysRange::from_parts(address, length)?;
        let mut mapped = self.mapped.borrow_mut();
        let known = mapped.iter().find(|(window, _)| window.contains(range));
        let (window, pointer) = match known {
            Some(&known) => known,
            None => {
                let pointer = address_space::map_window(range, Window::Tables).ok()?;
                mapped.try_push((range, pointer)).ok()?;
                (range, pointer)
            }
        };
        let offset = usize::try_from(range.start() - window.start()).ok()?;
        let length = usize::try_from(length).ok()?;
        // SAFETY: the offset is within the window.
        let pointer = unsafe { pointer.add(offset) };
        // SAFETY: 1. The window is mapped for good and the range is within it.
        // 2. No RAM that we use is in it, and firmware has stopped writing.
        Some(unsafe { slice::from_raw_parts(pointer.as_ptr(), length) })
    }
}
