//! The end of a guest, as its accelerator sees it: what it has in the device is
//! abandoned, step by step, and its vectors are taken.

use super::backing::Backing;
use super::{Inner, VdsaUnit};
use crate::host::accelerator::ClientHandle;
use crate::host::client::{Request, Set};

/// How far the end of a guest has come with its accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// It has not begun.
    Not,
    /// The descriptors of the client's PASID of this number are being abandoned.
    Pasid(usize),
    /// Its queues are being reset, and its vectors released.
    Reset,
}

impl VdsaUnit {
    /// Whether the accelerator has nothing to do for the guest any more, and the guest no
    /// vector of it. To be asked until it is so, once no virtual processor runs: each
    /// time goes one step further, and waits for nothing.
    pub fn is_quiet(&self) -> bool {
        let mut inner = self.inner.lock();
        let Inner {
            backing, farewell, ..
        } = &mut *inner;
        let Some(client) = &backing.client else {
            return true;
        };
        loop {
            client.accelerator().service();
            if client.is_waiting() {
                return false;
            }
            // What the guest itself had asked for, or the last step. A device that does
            // not do what it is told is cut off by the IOMMU.
            client.take_answer();
            *farewell = match *farewell {
                Farewell::Not => backing.bid(client, 0),
                Farewell::Pasid(number) => backing.bid(client, number + 1),
                Farewell::Reset => return true,
            };
        }
    }

    /// Counts what the accelerator did not finish as abandoned. It is quiet.
    pub fn close_books(&self) {
        self.with(|device, host| device.give_up(host));
    }
}

impl Backing {
    /// Begins a step of the farewell: the PASID of this number, or what comes after the
    /// last.
    fn bid(&self, client: &ClientHandle, number: usize) -> Farewell {
        match self.pasids.get(number) {
            Some(&pasid) => {
                client.post(Request::AbortPasid(pasid));
                Farewell::Pasid(number)
            }
            None => {
                let queues = self.queues.iter().filter(|queue| queue.is_exclusive);
                client.post(Request::Reset {
                    queues: queues.map(|queue| queue.physical).collect(),
                    // They were aborted.
                    pasids: Set::EMPTY,
                    vectors: Set::ALL_VECTORS,
                });
                Farewell::Reset
            }
        }
    }
}
