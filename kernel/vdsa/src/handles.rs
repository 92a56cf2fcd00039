//! Which virtual vector has which interrupt handle.

use hwspec::pci::Pasid;

use crate::MAX_VECTORS;

/// The interrupt handle of a virtual vector that has an IMS slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    /// The virtual vector, at least 1.
    pub vector: u16,
    /// What a descriptor names: the IMS index, or the device's handle.
    pub handle: u16,
    /// The host PASID of the slot. `None`: the guest named a PASID that it does not
    /// have, and the handle is good for nothing.
    pub pasid: Option<Pasid>,
}

/// The handles of one virtual accelerator.
#[derive(Clone, Debug, Default)]
pub struct HandleTable {
    entries: [Option<Handle>; MAX_VECTORS],
}

impl HandleTable {
    /// The vector that a descriptor's interrupt handle stands for.
    pub fn find(&self, handle: u16) -> Option<&Handle> {
        self.entries
            .iter()
            .flatten()
            .find(|entry| entry.handle == handle)
    }

    /// The handle of a vector.
    pub fn of_vector(&self, vector: u16) -> Option<&Handle> {
        self.entries.get(usize::from(vector))?.as_ref()
    }

    /// Puts a handle in the place of what its vector had. Does nothing for a vector
    /// that does not exist.
    pub fn set(&mut self, handle: Handle) {
        if let Some(entry) = self.entries.get_mut(usize::from(handle.vector)) {
            *entry = Some(handle);
        }
    }

    /// Takes a vector's handle away.
    pub fn remove(&mut self, vector: u16) -> Option<Handle> {
        self.entries.get_mut(usize::from(vector))?.take()
    }

    /// Takes all handles away.
    pub fn clear(&mut self) {
        self.entries = Default::default();
    }
}
