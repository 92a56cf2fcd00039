//! What drivers are made of: windows of registers, portals, and memory that
//! devices use.
//!
//! Physical addresses of devices come from firmware and from configuration
//! space, and may be wrong. So that no two drivers get hold of the same
//! registers, every range is claimed when it is mapped, and a range that
//! overlaps RAM or another claim is refused.

use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::ptr::NonNull;

use hwio::{
    DedicatedPortal, FrameSource, MappedPages, Mmio, PAGE_SIZE, Portal, SharedPortal, Submission,
    TscClock,
};
use spin::Mutex;

use super::address_space::{self, MapError, Window};
use super::{Frames, PhysRange};
use crate::arch::{clock, features};

/// What drivers have. Nothing else is locked while it is held but what mapping
/// locks.
static CLAIMED: Mutex<Vec<PhysRange>> = Mutex::new(Vec::new());

/// Claims a range for good and maps it uncached.
fn claim(range: PhysRange) -> Result<NonNull<u8>, MapError> {
    let mut claimed = CLAIMED.lock();
    if claimed.iter().any(|other| other.overlaps(range)) {
        return Err(MapError::Claimed(range));
    }
    let base = address_space::map_window(range, Window::Registers)?;
    claimed.push(range);
    Ok(base)
}

/// The registers at `range`, for the driver that is to have them.
///
/// # Errors
/// If the range does not begin at a multiple of 8, is RAM or somebody's already,
/// or cannot be mapped.
pub(crate) fn registers(range: PhysRange) -> Result<Mmio, MapError> {
    if !range.start().is_aligned(8_u64) {
        return Err(MapError::NotAWindow(range));
    }
    let len_bytes = usize::try_from(range.len_bytes()).expect("usize has 64 bits");
    let base = claim(range)?;
    // SAFETY: 1. The range is mapped for good, uncached, and is no RAM. 2. It was
    // claimed, and is claimed once. 3. Devices reach memory through the IOMMU,
    // which blocks all that its tables do not allow; the IOMMU itself is told only
    // by a driver that owns the memory that it tells it of.
    Ok(unsafe { Mmio::new(base, len_bytes) })
}

/// The portals of an accelerator, one in each page of a range.
#[derive(Debug)]
pub(crate) struct PortalPages {
    base: NonNull<u8>,
    range: PhysRange,
}

// SAFETY: the pages are the same from every processor, and only written to.
unsafe impl Send for PortalPages {}
// SAFETY: as for `Send`.
unsafe impl Sync for PortalPages {}

/// The kind of queue that a portal leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortalKind {
    /// To one that takes MOVDIR64B.
    Dedicated,
    /// To one that takes ENQCMDS.
    Shared,
}

/// The way into a physical queue.
#[derive(Debug)]
pub enum QueuePortal {
    /// Of a dedicated queue.
    Dedicated(DedicatedPortal),
    /// Of a shared queue.
    Shared(SharedPortal),
}

impl Portal for QueuePortal {
    #[inline]
    fn submit(&self, descriptor: &[u64; 8]) -> Submission {
        match self {
            Self::Dedicated(portal) => portal.submit(descriptor),
            Self::Shared(portal) => portal.submit(descriptor),
        }
    }
}

impl PortalPages {
    /// The portals at `range`.
    ///
    /// # Errors
    /// If the range is RAM or somebody's already, or cannot be mapped.
    pub(crate) fn new(range: PhysRange) -> Result<Self, MapError> {
        if !range.start().is_aligned(super::PAGE_SIZE) {
            return Err(MapError::NotAWindow(range));
        }
        let base = claim(range)?;
        Ok(Self { base, range })
    }

    /// Where they are.
    pub(crate) fn range(&self) -> PhysRange {
        self.range
    }

    /// The portal in the page at `offset`; nothing if there is no such page, or
    /// if the processor lacks the instruction.
    pub(crate) fn portal(&self, offset: usize, kind: PortalKind) -> Option<QueuePortal> {
        let end = u64::try_from(offset.checked_add(PAGE_SIZE)?).ok()?;
        if !offset.is_multiple_of(PAGE_SIZE) || end > self.range.len_bytes() {
            return None;
        }
        let features = features::features();
        // SAFETY: the page is within the mapped range.
        let address = unsafe { self.base.add(offset) };
        match kind {
            PortalKind::Dedicated if features.stores.movdir64b() => {
                // SAFETY: 1. The page is mapped for good, uncached. 2. The
                // instruction is there. 3. The device reaches memory through the
                // IOMMU alone.
                let portal = unsafe { DedicatedPortal::new(address) };
                Some(QueuePortal::Dedicated(portal))
            }
            PortalKind::Shared if features.stores.enqcmd() => {
                // SAFETY: as above.
                let portal = unsafe { SharedPortal::new(address) };
                Some(QueuePortal::Shared(portal))
            }
            PortalKind::Dedicated | PortalKind::Shared => None,
        }
    }
}

/// Frames as drivers want them.
#[derive(Clone, Copy, Debug, Default)]
pub struct DmaFrames;

impl FrameSource for DmaFrames {
    type Pages = MappedPages<Frames>;

    fn allocate_zeroed(&mut self, count_pages: usize) -> Option<Self::Pages> {
        let frames = Frames::allocate(u64::try_from(count_pages).ok()?).ok()?;
        let (base, address) = (frames.pointer().cast(), frames.start());
        // SAFETY: 1. The frames are in the direct map, cached, and this address is
        // theirs, for as long as they are held. 2. They belong to the owner that is
        // handed over, and nobody knows of them.
        Some(unsafe { MappedPages::new(frames, base, address, count_pages) })
    }
}

/// The clock for drivers.
///
/// # Panics
/// If the clocks have not been measured.
pub(crate) fn clock() -> TscClock {
    let frequency = NonZeroU64::new(clock::tsc_hz());
    TscClock::new(frequency.expect("the time-stamp counter counts"))
}
