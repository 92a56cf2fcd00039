//! Many descriptors at once.

use hwspec::dsa::Descriptor;

use super::{Records, Work};
use crate::memory::Buffer;

/// A list of descriptors in memory, a record for each, and one for the whole.
#[derive(Debug)]
pub struct Batch {
    list: Buffer,
    records: Records,
    count: usize,
}

impl Batch {
    /// Room for `capacity` members.
    pub fn new(capacity: usize) -> Self {
        Self {
            list: Buffer::new(capacity * Descriptor::SIZE),
            // The last one is the batch's own.
            records: Records::new(capacity + 1),
            count: 0,
        }
    }

    /// How many members there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes all members out.
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// Adds a member, with its record. The record number is the member's.
    ///
    /// # Panics
    /// If the list is full.
    pub fn push(&mut self, work: Work) {
        let record = self.records.address(self.count);
        self.push_as_it_is(work.record(record));
    }

    /// Adds a member with whatever record it has, or none.
    ///
    /// # Panics
    /// If the list is full.
    pub fn push_as_it_is(&mut self, work: Work) {
        assert!(
            self.count + 1 < self.records.count(),
            "{} members are too many",
            self.count + 1
        );
        self.records.clear(self.count);
        self.list
            .write_words(self.count * Descriptor::SIZE, &work.words());
        self.count += 1;
    }

    /// The descriptor of the whole, with its record, which is cleared.
    pub fn work(&self) -> Work {
        self.records.clear(self.own());
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        Work::batch(self.list.address(0), count).record(self.records.address(self.own()))
    }

    /// The members' records, by their number.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Number of the record of the whole.
    pub fn own(&self) -> usize {
        self.records.count() - 1
    }

    /// The list, for those who change it under way.
    pub fn list(&self) -> &Buffer {
        &self.list
    }
}
