//! What is behind a virtual DSA: its client of the physical device, the queues that its
//! own are made of, and Weir's window.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use dsa::InterruptHandle;
use hwio::{MappedPages, Portal as _, Submission};
use hwspec::pci::Pasid;
use vdsa::{QueueIndex, QueueSet, VirtualDsa};
use x86_64::PhysAddr;

use super::moving::{Moving, RETIRED_VECTOR};
use crate::config::MAX_PASIDS;
use crate::host::accelerator::{Accelerator, ClientHandle};
use crate::host::client::Set;
use crate::host::slices::{Accepted, Slice};
use crate::mm::{Frames, QueuePortal};
use crate::vm::shared::Place;

/// The client's vectors for batches of Weir's own begin here; below are the virtual
/// vectors, under their own numbers.
pub const FIRST_BATCH_VECTOR: u8 = 16;
/// Those for batches of guest PASIDs.
pub const FIRST_PASID_VECTOR: u8 = 24;
const _: () =
    assert!(FIRST_BATCH_VECTOR as usize + vdsa::MAX_QUEUES <= FIRST_PASID_VECTOR as usize);
const _: () = assert!(vdsa::MAX_VECTORS <= FIRST_BATCH_VECTOR as usize);
const _: () = assert!(FIRST_PASID_VECTOR as usize + MAX_PASIDS <= RETIRED_VECTOR as usize);

/// The pages of a window.
pub type WindowPages = MappedPages<Frames>;

/// What is behind one virtual queue.
#[derive(Debug)]
pub struct BackingQueue {
    /// The physical queue.
    pub physical: u8,
    /// The guest is the only one who has it.
    pub is_exclusive: bool,
    /// It is dedicated where the guest has a shared one, and has this PASID whatever the
    /// guest names: all of the guest's lead to the same memory.
    pub stand_in: Option<Pasid>,
    /// What it accepted, if other guests have it as well.
    pub accepted: Option<&'static Accepted>,
    /// The entries of it that are reserved for the guest, if it sees a dedicated one.
    pub slice: Option<Slice>,
    /// The way to it for Weir.
    pub portal: QueuePortal,
    /// The pages that the guest itself may write to: unlimited and limited IMS portal.
    /// Only under the policy `direct`.
    pub direct: Option<[PhysAddr; 2]>,
}

impl BackingQueue {
    /// Submits to it.
    #[inline]
    pub(super) fn submit(&mut self, descriptor: &[u64; 8]) -> Submission {
        let answer = self.portal.submit(descriptor);
        if let Some(accepted) = self.accepted
            && answer == Submission::Accepted
        {
            let mark = accepted.add();
            if let Some(slice) = &mut self.slice {
                slice.occupy(mark);
            }
        }
        answer
    }

    /// Whether one of the entries that are reserved for the guest is free, if any are.
    pub(super) fn has_room(&mut self, accelerator: &Accelerator) -> bool {
        match (&mut self.slice, self.accepted) {
            (Some(slice), Some(accepted)) => {
                slice.has_room(accepted, || accelerator.count_waiting(self.physical))
            }
            _ => true,
        }
    }
}

/// What is behind a virtual DSA.
#[derive(Debug)]
pub struct Backing {
    /// Its client of the physical device, until it is closed.
    pub client: Option<ClientHandle>,
    /// Its host PASIDs, as the client has them: that of each queue, then those that the
    /// guest names.
    pub pasids: Vec<Pasid>,
    /// What is behind its queues.
    pub queues: ArrayVec<BackingQueue, { vdsa::MAX_QUEUES }>,
    /// Weir's own memory that the device reaches; none if all queues are direct.
    pub window: Option<WindowPages>,
    /// The guest's number.
    pub guest: usize,
    /// The number of this virtual DSA in the guest.
    pub vdsa: usize,
    /// The processor that its interrupts go to which no virtual processor has asked for:
    /// those of batches, and of vectors that go nowhere yet.
    pub processor: usize,
    /// Descriptors that asked for the guest's attention by software alone.
    pub injected: u64,
    /// The handles of the client's vectors for batches, as the virtual DSA has them.
    pub batch_handles: Vec<(u8, InterruptHandle)>,
    /// Whether a vector is getting another slot.
    pub moving: Moving,
    /// How many did.
    pub moved: u64,
}

impl Backing {
    /// The processor for the interrupts of a virtual vector that gets a slot now: that of
    /// the virtual processor which takes them.
    pub(super) fn processor_for(&self, place: &Place, vector: usize) -> usize {
        let processor = place.processor_of(self.vdsa, vector);
        processor.unwrap_or(self.processor)
    }

    /// Gives the client up. Waits.
    pub fn close(&mut self) {
        if let Some(client) = self.client.take() {
            client.close();
        }
    }

    /// Tells the virtual DSA the handles for batches as they are now: a device that gives
    /// handles gave others when it was reset.
    pub(super) fn renew_batch_handles(&mut self, device: &mut VirtualDsa) {
        let Some(client) = &self.client else {
            return;
        };
        let handles = &self.batch_handles;
        device.replace_batch_handles(|old| {
            let mut known = handles.iter();
            let vector = known.find(|(_, handle)| handle.0 == old);
            let new = vector.and_then(|&(vector, _)| client.handle(vector));
            new.map_or(old, |new| new.0)
        });
        for (vector, handle) in &mut self.batch_handles {
            *handle = client.handle(*vector).unwrap_or(*handle);
        }
    }

    /// The virtual queue that a physical one is behind.
    pub(super) fn virtual_queue(&self, physical: Option<u8>) -> Option<QueueIndex> {
        let physical = physical?;
        let mut queues = self.queues.iter();
        QueueIndex::new(queues.position(|queue| queue.physical == physical)?)
    }

    /// The PASID that the device compares with that of a vector's slot, where the guest's
    /// own choice is `pasid`.
    pub(super) fn slot_pasid(&self, vector: u16, pasid: Pasid) -> Pasid {
        let count = self.queues.len().max(1);
        let queue = usize::from(vector.saturating_sub(1)) % count;
        let queue = self.queues.get(queue);
        queue.and_then(|queue| queue.stand_in).unwrap_or(pasid)
    }

    pub(super) fn queue(&self, queue: QueueIndex) -> Option<&BackingQueue> {
        self.queues.get(queue.index())
    }

    /// Of `queues` those physical ones that are the guest's alone.
    pub(super) fn exclusive(&self, queues: QueueSet) -> Set {
        let queues = queues.iter().filter_map(|queue| self.queue(queue));
        queues
            .filter(|queue| queue.is_exclusive)
            .map(|queue| queue.physical)
            .collect()
    }

    /// The PASIDs that descriptors may have which came in by those of `queues` that others
    /// use as well, by their places in [`pasids`](Self::pasids). Such a queue itself cannot
    /// be drained, aborted or disabled for one of its users: their PASIDs are drained.
    pub(super) fn pasids_of_shared(&self, queues: QueueSet) -> Set {
        let shared = queues
            .iter()
            .filter(|&queue| self.queue(queue).is_some_and(|queue| !queue.is_exclusive));
        pasids_of(shared, self.queues.len(), self.pasids.len())
    }

    /// Which PASIDs descriptors may really have for which the guest says `pasid`, by their
    /// places, if that is not the only one: in queues that stand in for shared ones they
    /// have the queue's.
    pub(super) fn pasids_behind(&self, pasid: Pasid) -> Option<Set> {
        let queues = (0..).zip(&self.queues);
        let stand_ins = queues.filter(|(_, queue)| queue.stand_in.is_some());
        let stand_ins: Set = stand_ins.map(|(place, _)| place).collect();
        if stand_ins.is_empty() {
            return None;
        }
        let place = self.pasids.iter().position(|&own| own == pasid);
        let place = place.and_then(|place| u8::try_from(place).ok());
        Some(stand_ins.union(place.map_or(Set::EMPTY, Set::just)))
    }
}

/// The places of those PASIDs that come in by `queues`, of so many queues and PASIDs.
fn pasids_of(
    queues: impl Iterator<Item = QueueIndex>,
    count_queues: usize,
    count_pasids: usize,
) -> Set {
    let own: Set = queues.map(QueueIndex::value).collect();
    if own.is_empty() {
        return own;
    }
    let named = (0..).take(count_pasids).skip(count_queues);
    own.union(named.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three queues and two PASIDs of the guest's own.
    #[test]
    fn a_shared_queue_has_its_own_pasid_and_those_of_the_guest() {
        let of = |queues: &[usize]| {
            let queues = queues.iter().filter_map(|&queue| QueueIndex::new(queue));
            pasids_of(queues, 3, 5)
        };
        assert_eq!(of(&[]), Set::EMPTY);
        assert_eq!(of(&[1]), Set(0b11010));
        assert_eq!(of(&[0, 2]), Set(0b11101));
        assert_eq!(pasids_of(QueueIndex::new(0).into_iter(), 1, 1), Set(0b1));
    }
}
