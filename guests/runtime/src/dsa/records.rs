//! Completion records.

use hwspec::dsa::{CompletionRecord, Status};

use crate::memory::Buffer;

/// Completion records next to each other, which the device writes. Whoever drops them
/// answers for the device having finished.
#[derive(Debug)]
pub struct Records {
    buffer: Buffer,
}

impl Records {
    /// `count` of them, all clear.
    pub fn new(count: usize) -> Self {
        Self {
            buffer: Buffer::new(count * CompletionRecord::SIZE),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.buffer.len_bytes() / CompletionRecord::SIZE
    }

    /// Where the device finds record `index`.
    pub fn address(&self, index: usize) -> u64 {
        self.buffer.address(index * CompletionRecord::SIZE)
    }

    /// Makes record `index` unwritten. To be done before its descriptor is submitted.
    pub fn clear(&self, index: usize) {
        let at = index * CompletionRecord::SIZE;
        self.buffer.write_words(at, &[0; 4]);
    }

    /// What became of the operation; [`Status::NONE`] until the device has written it.
    pub fn status(&self, index: usize) -> Status {
        let word = self.buffer.read_u64(index * CompletionRecord::SIZE);
        CompletionRecord::from_words([word, 0, 0, 0]).word0.status()
    }

    /// Whether the device has written record `index`.
    pub fn is_written(&self, index: usize) -> bool {
        self.status(index) != Status::NONE
    }

    /// All of record `index`.
    pub fn read(&self, index: usize) -> CompletionRecord {
        let at = index * CompletionRecord::SIZE;
        CompletionRecord::from_words([0, 8, 16, 24].map(|word| self.buffer.read_u64(at + word)))
    }
}
