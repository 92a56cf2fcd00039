//! Interrupt handles: what a descriptor names instead of a table index where
//! the device has the Request Interrupt Handle command.
//!
//! [341204 Rev 3.0 §3.7 "Interrupts", §9.2 "Command Register"]. A handle lives
//! from its request until it is released or revoked, or the device is reset. Handle values are
//! never a table index's own number, so that software that confuses the two
//! is found out.

use std::collections::BTreeMap;

use crate::interrupt::Table;

/// The handles that are alive.
#[derive(Debug)]
pub(crate) struct InterruptHandles {
    live: BTreeMap<u16, (Table, u16)>,
    next: u16,
}

/// The first handle after a reset; indexes stop below it.
const FIRST: u16 = 0x4000;

impl InterruptHandles {
    pub(crate) fn new() -> Self {
        Self {
            live: BTreeMap::new(),
            next: FIRST,
        }
    }

    /// The handle of a table index: the living one, or a new one. `None` when
    /// no handle is left, or `limit` of them are alive.
    pub(crate) fn request(&mut self, table: Table, index: u16, limit: u16) -> Option<u16> {
        if let Some((handle, _)) = self
            .live
            .iter()
            .find(|(_, target)| **target == (table, index))
        {
            return Some(*handle);
        }
        if self.live.len() >= usize::from(limit) {
            return None;
        }
        let handle = (self.next..=u16::MAX)
            .chain(FIRST..self.next)
            .find(|handle| !self.live.contains_key(handle))?;
        self.next = if handle == u16::MAX {
            FIRST
        } else {
            handle + 1
        };
        self.live.insert(handle, (table, index));
        Some(handle)
    }

    /// Releases by handle, as Linux does, or by table index, as the
    /// specification says. Returns whether anything was released.
    pub(crate) fn release(&mut self, table: Table, handle_or_index: u16) -> bool {
        if self.live.remove(&handle_or_index).is_some() {
            return true;
        }
        let before = self.live.len();
        self.live
            .retain(|_, target| *target != (table, handle_or_index));
        self.live.len() < before
    }

    /// The table entry that a handle stands for.
    pub(crate) fn resolve(&self, table: Table, handle: u16) -> Option<u16> {
        self.live
            .get(&handle)
            .filter(|target| target.0 == table)
            .map(|target| target.1)
    }

    /// Takes back every handle.
    pub(crate) fn revoke_all(&mut self) {
        self.live.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::InterruptHandles;
    use crate::interrupt::Table;

    #[test]
    fn a_revoked_handle_is_not_handed_out_again() {
        let mut handles = InterruptHandles::new();
        let first = handles.request(Table::Ims, 3, 9).unwrap();
        assert_eq!(
            handles.request(Table::Ims, 3, 9),
            Some(first),
            "requests are idempotent"
        );
        assert_eq!(handles.resolve(Table::Ims, first), Some(3));
        assert_eq!(handles.resolve(Table::Msix, first), None);

        handles.revoke_all();
        let second = handles.request(Table::Ims, 3, 9).unwrap();
        assert_ne!(first, second);
        assert_eq!(handles.resolve(Table::Ims, first), None);
    }

    #[test]
    fn release_takes_a_handle_or_an_index() {
        let mut handles = InterruptHandles::new();
        let handle = handles.request(Table::Msix, 1, 9).unwrap();
        assert!(handles.release(Table::Msix, handle));
        assert!(!handles.release(Table::Msix, handle));
        handles.request(Table::Msix, 1, 9).unwrap();
        assert!(!handles.release(Table::Ims, 1), "of the other table");
        assert!(handles.release(Table::Msix, 1));
    }
}
