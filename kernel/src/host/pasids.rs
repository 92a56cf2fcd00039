//! Host PASIDs: which are in use, and whose they are.
//!
//! There is one space of them for all IOMMUs and accelerators. A PASID can be
//! given back only when no PASID-table entry and no client of an accelerator,
//! whose queues and interrupt slots carry it, [holds](Pasids::hold) it any more;
//! and the longest unused is taken next, of no more than the tables of all IOMMUs have
//! pages for already, if there is one.

use alloc::collections::BTreeMap;
use core::error::Error;
use core::fmt;

use hwspec::pci::Pasid;

/// PASIDs that a page of a PASID table has entries for.
/// [VT-d 5.10, 9.6 "Scalable-Mode PASID Table Entry"]
const IN_PAGE: u32 = 64;

/// Why a PASID was not allocated or given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasidError {
    /// All are in use.
    NoneLeft {
        /// The highest that there can be; the lowest is 1.
        highest: Pasid,
    },
    /// It is not allocated.
    Unknown(Pasid),
    /// Something still carries it.
    Held {
        /// The PASID.
        pasid: Pasid,
        /// How many things.
        holders: u32,
    },
}

impl fmt::Display for PasidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneLeft { highest } => write!(
                f,
                "all host PASIDs up to {highest} are in use; give guests fewer queues or PASIDs"
            ),
            Self::Unknown(pasid) => write!(f, "host PASID {pasid} is not in use"),
            Self::Held { pasid, holders } => write!(
                f,
                "host PASID {pasid} is still in {holders} tables or slots; take it out of them first"
            ),
        }
    }
}

impl Error for PasidError {}

#[derive(Clone, Copy, Debug)]
struct Entry {
    vm: u16,
    holders: u32,
}

/// A PASID that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasidUse {
    /// Which.
    pub pasid: Pasid,
    /// The guest's number.
    pub vm: u16,
    /// How many table entries and clients carry it.
    pub holders: u32,
}

/// The allocator.
#[derive(Debug)]
pub struct Pasids {
    highest: Pasid,
    /// None above it has been used yet.
    limit: u32,
    next: u32,
    entries: BTreeMap<u32, Entry>,
}

impl Pasids {
    /// PASIDs from 1 to `highest`.
    pub fn new(highest: Pasid) -> Self {
        Self {
            highest,
            limit: highest.value().min(IN_PAGE - 1),
            next: 1,
            entries: BTreeMap::new(),
        }
    }

    /// Takes a PASID for guest `vm`.
    ///
    /// # Errors
    /// If there is none.
    pub fn allocate(&mut self, vm: u16) -> Result<Pasid, PasidError> {
        let highest = self.highest;
        let from_next = self.next..=self.limit;
        let from_start = 1..self.next;
        let found = from_next
            .chain(from_start)
            .chain(self.limit + 1..=highest.value())
            .find(|number| !self.entries.contains_key(number))
            .and_then(Pasid::new)
            .ok_or(PasidError::NoneLeft { highest })?;
        if found.value() > self.limit {
            self.limit = (found.value() | (IN_PAGE - 1)).min(highest.value());
        }
        self.next = found.value() % self.limit + 1;
        self.entries.insert(found.value(), Entry { vm, holders: 0 });
        Ok(found)
    }

    /// Notes that one more table entry or client carries `pasid`.
    ///
    /// # Errors
    /// If it is not allocated.
    pub fn hold(&mut self, pasid: Pasid) -> Result<(), PasidError> {
        self.entry(pasid)?.holders += 1;
        Ok(())
    }

    /// Notes that one table entry or client does not any more.
    ///
    /// # Errors
    /// If it is not allocated.
    ///
    /// # Panics
    /// If none did.
    pub fn let_go(&mut self, pasid: Pasid) -> Result<(), PasidError> {
        let entry = self.entry(pasid)?;
        assert!(entry.holders > 0, "nothing held host PASID {pasid}");
        entry.holders -= 1;
        Ok(())
    }

    /// Gives a PASID back.
    ///
    /// # Errors
    /// If it is not allocated, or something carries it.
    pub fn release(&mut self, pasid: Pasid) -> Result<(), PasidError> {
        let holders = self.entry(pasid)?.holders;
        if holders > 0 {
            return Err(PasidError::Held { pasid, holders });
        }
        self.entries.remove(&pasid.value());
        if self.entries.is_empty() {
            // An empty map keeps a node.
            self.entries = BTreeMap::new();
        }
        Ok(())
    }

    /// Whose a PASID is.
    pub fn owner(&self, pasid: Pasid) -> Option<u16> {
        self.entries.get(&pasid.value()).map(|entry| entry.vm)
    }

    /// The first that is in use behind `last`, or of all.
    pub fn next(&self, last: Option<Pasid>) -> Option<PasidUse> {
        let first = last.map_or(0, |last| last.value() + 1);
        let (&number, entry) = self.entries.range(first..).next()?;
        Some(PasidUse {
            pasid: Pasid::new(number)?,
            vm: entry.vm,
            holders: entry.holders,
        })
    }

    /// How many are in use.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    fn entry(&mut self, pasid: Pasid) -> Result<&mut Entry, PasidError> {
        let entry = self.entries.get_mut(&pasid.value());
        entry.ok_or(PasidError::Unknown(pasid))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn pasid(value: u32) -> Pasid {
        Pasid::new(value).unwrap()
    }

    #[test]
    fn pasids_begin_at_1_and_end_with_the_highest() {
        let mut pasids = Pasids::new(pasid(3));
        assert_eq!(pasids.allocate(7), Ok(pasid(1)));
        assert_eq!(pasids.allocate(8), Ok(pasid(2)));
        assert_eq!(pasids.allocate(8), Ok(pasid(3)));
        let highest = pasid(3);
        assert_eq!(pasids.allocate(9), Err(PasidError::NoneLeft { highest }));
        assert_eq!(pasids.owner(pasid(1)), Some(7));
        assert_eq!(pasids.owner(pasid(2)), Some(8));
        assert_eq!(pasids.owner(pasid(4)), None);
        assert_eq!(pasids.count(), 3);
    }

    #[test]
    fn the_longest_unused_is_taken_next() {
        let mut pasids = Pasids::new(pasid(3));
        assert_eq!(pasids.allocate(1), Ok(pasid(1)));
        pasids.release(pasid(1)).unwrap();
        assert_eq!(pasids.allocate(1), Ok(pasid(2)));
        assert_eq!(pasids.allocate(1), Ok(pasid(3)));
        assert_eq!(pasids.allocate(1), Ok(pasid(1)));
    }

    #[test]
    fn guests_that_come_and_go_take_no_further_page_of_the_tables() {
        let mut pasids = Pasids::new(Pasid::MAX);
        let first = pasids.allocate(1).unwrap();
        for _ in 0..1000 {
            let taken = pasids.allocate(2).unwrap();
            assert!(taken > first && taken <= pasid(63), "{taken}");
            pasids.release(taken).unwrap();
        }
        // 62 more fill the page, and the next one begins another.
        let taken: Vec<_> = (0..62).map(|_| pasids.allocate(2).unwrap()).collect();
        assert!(taken.iter().all(|&taken| taken <= pasid(63)));
        assert_eq!(pasids.allocate(3), Ok(pasid(64)));
        // There are 127 now before another is begun.
        pasids.release(first).unwrap();
        assert_eq!(pasids.allocate(3), Ok(pasid(65)));
    }

    #[test]
    fn what_something_carries_cannot_be_given_back() {
        let mut pasids = Pasids::new(Pasid::MAX);
        let taken = pasids.allocate(1).unwrap();
        pasids.hold(taken).unwrap();
        pasids.hold(taken).unwrap();
        pasids.let_go(taken).unwrap();
        let held = PasidError::Held {
            pasid: taken,
            holders: 1,
        };
        assert_eq!(pasids.release(taken), Err(held));
        pasids.let_go(taken).unwrap();
        assert_eq!(pasids.release(taken), Ok(()));
        let unknown = Err(PasidError::Unknown(taken));
        assert_eq!(pasids.release(taken), unknown);
        assert_eq!(pasids.hold(taken), unknown);
        assert_eq!(pasids.let_go(taken), unknown);
    }

    #[test]
    fn those_in_use_are_listed_in_order() {
        let mut pasids = Pasids::new(Pasid::MAX);
        assert_eq!(pasids.next(None), None);
        for vm in [5, 6, 7] {
            pasids.allocate(vm).unwrap();
        }
        pasids.hold(pasid(3)).unwrap();
        pasids.release(pasid(2)).unwrap();
        let first = pasids.next(None).unwrap();
        assert_eq!((first.pasid, first.vm, first.holders), (pasid(1), 5, 0));
        let second = pasids.next(Some(first.pasid)).unwrap();
        assert_eq!((second.pasid, second.vm, second.holders), (pasid(3), 7, 1));
        assert_eq!(pasids.next(Some(second.pasid)), None);
        assert_eq!(pasids.next(Some(Pasid::MAX)), None);
    }

    #[test]
    #[should_panic(expected = "nothing held host PASID 0x1")]
    fn letting_go_of_what_is_not_held_is_caught() {
        let mut pasids = Pasids::new(Pasid::MAX);
        let taken = pasids.allocate(1).unwrap();
        let _ = pasids.let_go(taken);
    }
}
