//! What a service shows to people, who wait for nothing: it is nothing for as long as
//! somebody uses the device.

use dsa::ims::{Counts, ImsIndex, SlotPasid};
use dsa::{InterruptHandle, QueuePasid, SoftwareError};

use super::super::client::Vector;
use super::super::hardware::Hardware;
use super::super::routes::GuestTarget;
use super::{Health, Inner, Service};

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it works.
    pub health: Health,
    /// Why it failed, if it did and that is known.
    pub cause: Option<dsa::Error>,
    /// Its interrupt slots.
    pub slots: Counts,
    /// Interrupts of clients that ended which are still to be given back.
    pub count_retired: usize,
    /// Whether a command is being carried out.
    pub is_busy: bool,
    /// The last error that it reported in its register.
    pub last_error: Option<SoftwareError>,
}

/// An interrupt slot that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotUse {
    /// Which entry.
    pub index: ImsIndex,
    /// By what descriptors name it.
    pub handle: InterruptHandle,
    /// In whose name it may be used.
    pub pasid: SlotPasid,
    /// Whether it is masked.
    pub is_masked: bool,
    /// The processor that it interrupts.
    pub cpu: usize,
    /// With which vector.
    pub vector: u8,
    /// What that is about.
    pub target: GuestTarget,
}

/// Where in the list of slots to go on: a client, and one of its vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotPlace {
    client: usize,
    vector: usize,
}

impl<H: Hardware> Service<H> {
    /// How the device is.
    pub(in super::super) fn try_status(&self) -> Option<Status> {
        let inner = self.inner.try_lock()?;
        Some(Status {
            health: inner.health,
            cause: inner.cause,
            slots: inner.store.counts(),
            count_retired: inner.retired.len(),
            is_busy: inner.job.is_some(),
            last_error: inner.last_error,
        })
    }

    /// How a queue is enabled; nothing within if it is not.
    pub(in super::super) fn try_queue(&self, queue: u8) -> Option<Option<QueuePasid>> {
        Some(self.inner.try_lock()?.hardware.queue_pasid(queue))
    }

    /// The first slot in use from `place` on, and where to go on behind it; nothing
    /// within at the end.
    pub(in super::super) fn try_next_slot(
        &self,
        place: SlotPlace,
    ) -> Option<Option<(SlotUse, SlotPlace)>> {
        self.inner.try_lock()?.next_slot(place)
    }

    /// The slot that has a handle; nothing within if none has.
    pub(in super::super) fn try_slot_of_handle(
        &self,
        handle: InterruptHandle,
    ) -> Option<Option<SlotUse>> {
        let inner = self.inner.try_lock()?;
        let mut place = SlotPlace::default();
        loop {
            match inner.next_slot(place)? {
                None => return Some(None),
                Some((slot, _)) if slot.handle == handle => return Some(Some(slot)),
                Some((_, next)) => place = next,
            }
        }
    }
}

impl<H: Hardware> Inner<H> {
    fn next_slot(&self, place: SlotPlace) -> Option<Option<(SlotUse, SlotPlace)>> {
        let mut first = place.vector;
        for (number, client) in self.clients.iter().enumerate().skip(place.client) {
            let Some(client) = client else {
                first = 0;
                continue;
            };
            for (index, cell) in client.vectors().iter().enumerate().skip(first) {
                if let Some(vector) = cell.try_lock()?.as_ref() {
                    let next = SlotPlace {
                        client: number,
                        vector: index + 1,
                    };
                    return Some(Some((slot_use(vector), next)));
                }
            }
            first = 0;
        }
        Some(None)
    }
}

fn slot_use<H: Hardware>(vector: &Vector<H>) -> SlotUse {
    SlotUse {
        index: vector.slot.index(),
        handle: vector.handle,
        pasid: vector.slot.pasid(),
        is_masked: vector.slot.is_masked(),
        cpu: H::line_cpu(&vector.line),
        vector: H::line_vector(&vector.line),
        target: vector.target,
    }
}
