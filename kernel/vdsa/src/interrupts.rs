//! Interrupts of the virtual accelerator: causes and vector 0, and what the slots
//! behind the other vectors are to be like.

use hwspec::dsa::IntCause;
use hwspec::pci::Pasid;

use crate::{Handle, Host, VirtualDsa};

/// A vector whose slot was replaced by another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedHandle {
    /// The virtual vector.
    pub vector: u16,
    /// The interrupt handle of its new slot, which is masked, not ignored, without
    /// message, and has the host PASID of the old one.
    pub handle: u16,
}

impl VirtualDsa {
    /// Sets a cause in INTCAUSE and raises vector 0.
    pub(crate) fn raise_cause(&mut self, host: &mut impl Host, set: impl FnOnce(&mut IntCause)) {
        set(&mut self.causes);
        self.msix.raise(host, 0);
    }

    /// The host PASID that a vector's slot has while the guest names none: that of the
    /// queue that the vector belongs to.
    pub(crate) fn default_pasid(&self, vector: u16) -> Option<Pasid> {
        let queue = usize::from(vector).checked_sub(1)?;
        Some(self.queues.get(queue)?.shape().default_pasid)
    }

    /// The host PASID that a vector's slot is to have. `None`: the guest named a PASID
    /// that it does not have.
    pub(crate) fn slot_pasid(&self, vector: u16) -> Option<Pasid> {
        let permission = self.msix.permission(vector);
        if permission.pasid_enable() {
            self.pasids.host(Pasid::from_bits(permission.pasid()))
        } else {
            self.default_pasid(vector)
        }
    }

    /// Passes on what the guest wrote about a vector.
    pub(crate) fn settle_vector(&mut self, host: &mut impl Host, vector: u16) {
        let pasid = self.slot_pasid(vector);
        if let Some(handle) = self.handles.of_vector(vector).copied() {
            self.handles.set(Handle { pasid, ..handle });
        }
        self.msix.settle(host, vector, pasid);
    }

    /// Passes on what concerns all vectors.
    pub(crate) fn settle_vectors(&mut self, host: &mut impl Host) {
        for vector in 0..self.msix.count() {
            self.settle_vector(host, vector);
        }
    }

    /// Nothing that has a handle raises an interrupt any more.
    pub(crate) fn drop_handles(&mut self, host: &mut impl Host) {
        self.msix.drop_slots(host);
        self.handles.clear();
    }

    /// Vectors got other slots. The guest is told that handles were revoked, and asks
    /// for them again; the old ones are good for nothing. Vectors without a handle are
    /// passed over.
    pub fn revoke_handles(&mut self, host: &mut impl Host, moved: &[MovedHandle]) {
        let mut revoked = false;
        for MovedHandle { vector, handle } in moved.iter().copied() {
            let Some(old) = self.handles.of_vector(vector).copied() else {
                continue;
            };
            revoked = true;
            self.handles.set(Handle { handle, ..old });
            self.msix.move_slot(vector);
            self.settle_vector(host, vector);
        }
        if revoked {
            self.raise_cause(host, |cause| cause.set_handles_revoked(true));
        }
    }
}
