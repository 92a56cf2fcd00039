//! Portals that the guest writes to itself: shown to it where its BAR2 is.

use x86_64::PhysAddr;

use super::{Inner, PORTALS_BAR, VdsaUnit};
use crate::platform::memory_map;
use crate::virt::address::GuestPhysAddr;
use crate::virt::nested::{self, Format};
use crate::virt::space::Space;

/// Shows a guest pages of a device, and hides them.
pub trait ShowPages: Send + Sync {
    /// Shows the page at `host` at `guest`. False if memory is short.
    fn show(&self, guest: GuestPhysAddr, host: PhysAddr) -> bool;
    /// Hides the page at `guest`.
    fn hide(&self, guest: GuestPhysAddr);
}

impl<F: Format> ShowPages for Space<F> {
    fn show(&self, guest: GuestPhysAddr, host: PhysAddr) -> bool {
        self.map(guest, host, nested::SMALL_PAGE, nested::Access::Device)
            .is_ok()
    }

    fn hide(&self, guest: GuestPhysAddr) {
        self.unmap(guest, nested::SMALL_PAGE);
    }
}

impl VdsaUnit {
    /// Shows the portals of direct queues where BAR2 is now. Where pages of devices are
    /// not shown, or tables are short of memory, submissions stop and are carried out as
    /// those to checked queues are.
    pub(super) fn show_portals(&self) {
        let [_, len_bytes] = self.bar_sizes;
        let mut inner = self.inner.lock();
        let base = inner.device.bar(PORTALS_BAR.into());
        let base = base.filter(|&base| memory_map::is_shown(GuestPhysAddr(base), len_bytes));
        if base == inner.shown {
            return;
        }
        let Inner { backing, shown, .. } = &mut *inner;
        for (index, queue) in (0_u64..).zip(&backing.queues) {
            let Some(pages) = queue.direct else { continue };
            for (page, physical) in (0..).zip(pages) {
                let offset = index * QUEUE_STRIDE + page * PAGE;
                if let Some(old) = *shown {
                    self.pages.hide(GuestPhysAddr(old + offset));
                }
                if let Some(new) = base {
                    self.pages.show(GuestPhysAddr(new + offset), physical);
                }
            }
        }
        *shown = base;
    }
}

/// Bytes of the portals of one queue.
const QUEUE_STRIDE: u64 = 0x4000;
const PAGE: u64 = 0x1000;
