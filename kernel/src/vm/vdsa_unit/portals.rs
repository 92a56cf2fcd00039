//! Portals that the guest writes to itself: shown to it where its BAR2 is.

use x86_64::PhysAddr;

use super::backing::Backing;
use super::{Inner, PORTALS_BAR, VdsaUnit};
use crate::platform::memory_map;
use crate::virt::address::GuestPhysAddr;
use crate::virt::nested::{Format, LARGE_PAGE, SMALL_PAGE};
use crate::virt::space::Space;

/// Shows a guest pages of a device, and hides them.
pub trait ShowPages: Send + Sync {
    /// Shows the page at `host` at `guest`. False if no table is left for it.
    fn show(&self, guest: GuestPhysAddr, host: PhysAddr) -> bool;
    /// Hides the page at `guest`.
    fn hide(&self, guest: GuestPhysAddr);
}

impl<F: Format> ShowPages for Space<F> {
    fn show(&self, guest: GuestPhysAddr, host: PhysAddr) -> bool {
        self.show_page(guest, host)
    }

    fn hide(&self, guest: GuestPhysAddr) {
        self.unmap(guest, SMALL_PAGE);
    }
}

impl VdsaUnit {
    /// Shows the portals of direct queues where BAR2 is now. Where pages of devices are
    /// not shown, submissions stop and are carried out as those to checked queues are.
    ///
    /// This is on a VM exit: it allocates nothing, and takes no lock but this unit's and
    /// that of the guest's own tables.
    pub(super) fn show_portals(&self) {
        let [_, len_bytes] = self.bar_sizes;
        let mut inner = self.inner.lock();
        let base = inner.device.bar(PORTALS_BAR.into());
        let base = base.filter(|&base| memory_map::is_shown(GuestPhysAddr(base), len_bytes));
        if base == inner.shown {
            return;
        }
        let Inner { backing, shown, .. } = &mut *inner;
        // First all of the old ones go, and then the table that they were in is free for
        // the new ones.
        if let Some(old) = *shown {
            for (offset, _) in backing.direct_pages() {
                self.pages.hide(GuestPhysAddr(old + offset));
            }
        }
        if let Some(new) = base {
            for (offset, physical) in backing.direct_pages() {
                let is_shown = self.pages.show(GuestPhysAddr(new + offset), physical);
                assert!(is_shown, "there is a table for each virtual DSA");
            }
        }
        *shown = base;
    }
}

/// Bytes of the portals of one queue.
const QUEUE_STRIDE: u64 = 0x4000;

/// All portals of a virtual DSA are in one large page, wherever its BAR2 is.
pub const COUNT_TABLES: usize = 1;
const _: () = assert!(vdsa::MAX_QUEUES as u64 * QUEUE_STRIDE <= LARGE_PAGE);

impl Backing {
    /// Where in BAR2 the pages are that the guest itself may write to, and where they are
    /// in the machine.
    fn direct_pages(&self) -> impl Iterator<Item = (u64, PhysAddr)> {
        let queues = (0_u64..).zip(&self.queues);
        queues.flat_map(|(index, queue)| {
            let pages = (0_u64..).zip(queue.direct.into_iter().flatten());
            pages.map(move |(page, physical)| (index * QUEUE_STRIDE + page * SMALL_PAGE, physical))
        })
    }
}
