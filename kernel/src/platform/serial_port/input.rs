//! What the operator types to a guest.

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Bytes that wait at most.
const WAITING: usize = 64;

/// Bytes on their way to a guest's serial port: one side adds, one takes.
#[derive(Debug)]
pub struct Input {
    bytes: [AtomicU8; WAITING],
    /// How many were ever added.
    added: AtomicUsize,
    /// How many were ever taken.
    taken: AtomicUsize,
}

impl Default for Input {
    fn default() -> Self {
        Self::new()
    }
}

impl Input {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            bytes: [const { AtomicU8::new(0) }; WAITING],
            added: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        }
    }

    /// Adds a byte. False if the guest has not taken what came before, and there
    /// is no place. Calls must not overlap.
    pub fn add(&self, byte: u8) -> bool {
        let added = self.added.load(Ordering::Relaxed);
        let waiting = added.wrapping_sub(self.taken.load(Ordering::Acquire));
        if waiting >= WAITING {
            return false;
        }
        if let Some(place) = self.bytes.get(added % WAITING) {
            place.store(byte, Ordering::Relaxed);
        }
        self.added.store(added.wrapping_add(1), Ordering::Release);
        true
    }

    /// Whether bytes wait.
    pub fn has_bytes(&self) -> bool {
        self.added.load(Ordering::Acquire) != self.taken.load(Ordering::Relaxed)
    }

    /// Takes the oldest byte. Calls must not overlap: the guest's lock is held.
    pub(super) fn take(&self) -> Option<u8> {
        let taken = self.taken.load(Ordering::Relaxed);
        if self.added.load(Ordering::Acquire) == taken {
            return None;
        }
        let byte = self.bytes.get(taken % WAITING)?.load(Ordering::Relaxed);
        self.taken.store(taken.wrapping_add(1), Ordering::Release);
        Some(byte)
    }
}
