//! Entries of a physical shared queue that belong to one guest.
//!
//! A guest that sees a dedicated queue may have some entries of a shared one: a
//! [`Slice`]. It is never given more at once, so that the others have theirs. How many
//! it has follows from three facts: everything that goes into a shared queue goes
//! through Weir; a queue is left in the order in which it was entered; and the device
//! tells how many wait in it. So those that wait are the last ones that it accepted, and
//! what was accepted before them has left, whosever it is and whatever became of it.
//! Nothing in that is taken from memory that the guest can write.
//!
//! [DSA 3.0, chapter 3; 9.2.24 "WQ Configuration Table (WQCFG)", WQ Occupancy]

use alloc::boxed::Box;
use alloc::vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// What a shared queue has accepted, whoever submitted it.
#[derive(Debug, Default)]
pub struct Accepted(AtomicU64);

impl Accepted {
    /// Counts one more that the queue just accepted, and returns how many there were.
    #[inline]
    pub fn add(&self) -> u64 {
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The entries of one guest.
#[derive(Debug)]
pub struct Slice {
    /// For each entry the count of what the queue had accepted when it accepted that one:
    /// a ring.
    marks: Box<[u64]>,
    /// Where in the ring the oldest is that may still wait.
    oldest: usize,
    /// How many may still wait.
    taken: usize,
    /// How many accepted ones may not be counted yet while a later one is: one for each
    /// other processor.
    lag: u64,
}

impl Slice {
    /// So many entries, of a queue that `processors` submit to.
    pub fn new(entries: u16, processors: usize) -> Self {
        Self {
            marks: vec![0; usize::from(entries)].into_boxed_slice(),
            oldest: 0,
            taken: 0,
            lag: processors.saturating_sub(1) as u64,
        }
    }

    /// Whether an entry is free. `waiting` asks the device how many wait in the queue;
    /// nothing if that is not to be known now.
    #[inline]
    pub fn has_room(&mut self, accepted: &Accepted, waiting: impl FnOnce() -> Option<u16>) -> bool {
        self.taken < self.marks.len() || self.make_room(accepted, waiting)
    }

    #[cold]
    fn make_room(&mut self, accepted: &Accepted, waiting: impl FnOnce() -> Option<u16>) -> bool {
        // In this order: what is counted here was accepted before the device is asked.
        let accepted = accepted.get();
        let Some(waiting) = waiting() else {
            return false;
        };
        if waiting == 0 {
            self.taken = 0;
        }
        let behind = self.lag + u64::from(waiting);
        while self.taken > 0
            && let Some(&mark) = self.marks.get(self.oldest)
            && accepted.saturating_sub(mark) >= behind
        {
            self.oldest = (self.oldest + 1) % self.marks.len();
            self.taken -= 1;
        }
        self.taken < self.marks.len()
    }

    /// The queue accepted one of this guest's, as number `mark`.
    ///
    /// # Panics
    /// If there was no room.
    #[inline]
    pub fn occupy(&mut self, mark: u64) {
        assert!(
            self.taken < self.marks.len(),
            "an entry was taken that was not free"
        );
        let place = (self.oldest + self.taken) % self.marks.len();
        if let Some(place) = self.marks.get_mut(place) {
            *place = mark;
            self.taken += 1;
        }
    }

    /// How many entries may be in use.
    pub fn count_taken(&self) -> usize {
        self.taken
    }
}

#[cfg(test)]
#[path = "slices_tests.rs"]
mod tests;
