//! Descriptors, put together.
//!
//! [DSA 3.0, ch. 8 "Descriptor Formats"]; the layout is `hwspec`'s.

use hwspec::dsa::{Descriptor, DescriptorWord0, DescriptorWord4, Flags, Operation};

/// Bytes of one entry of a delta record, and of the 8 that it stands for.
const DELTA_ENTRY: u32 = 10;

/// A descriptor. Addresses are guest-physical, lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Work(Descriptor);

impl Work {
    fn new(operation: Operation, word2: u64, word3: u64, size: u32) -> Self {
        Self(Descriptor {
            word0: DescriptorWord0::new().with_operation(operation),
            word2,
            word3,
            word4: DescriptorWord4::new().with_transfer_size(size),
            ..Descriptor::default()
        })
    }

    /// Does nothing.
    pub fn no_op() -> Self {
        Self::new(Operation::NO_OP, 0, 0, 0)
    }

    /// Copies.
    pub fn memory_move(source: u64, destination: u64, length: u32) -> Self {
        Self::new(Operation::MEMORY_MOVE, source, destination, length)
    }

    /// Fills with a pattern of 8 bytes.
    pub fn fill(pattern: u64, destination: u64, length: u32) -> Self {
        Self::new(Operation::FILL, pattern, destination, length)
    }

    /// Compares; the result is 0 if both are equal, else 1.
    pub fn compare(source1: u64, source2: u64, length: u32) -> Self {
        Self::new(Operation::COMPARE, source1, source2, length)
    }

    /// Compares with a pattern of 8 bytes.
    pub fn compare_pattern(source: u64, pattern: u64, length: u32) -> Self {
        Self::new(Operation::COMPARE_PATTERN, source, pattern, length)
    }

    /// Writes to `record` what has to change in `source1` to make it `source2`.
    pub fn create_delta(
        source1: u64,
        source2: u64,
        length: u32,
        record: u64,
        max_record: u32,
    ) -> Self {
        let mut work = Self::new(Operation::CREATE_DELTA, source1, source2, length);
        work.0.word5 = record;
        work.0.word6 = u64::from(max_record / DELTA_ENTRY * DELTA_ENTRY);
        work
    }

    /// Changes `destination` as `record` says.
    pub fn apply_delta(record: u64, record_length: u32, destination: u64, length: u32) -> Self {
        let mut work = Self::new(Operation::APPLY_DELTA, record, destination, length);
        work.0.word5 = u64::from(record_length);
        work
    }

    /// Copies to two places, whose low 12 bits must be the same.
    pub fn dualcast(source: u64, destination1: u64, destination2: u64, length: u32) -> Self {
        let mut work = Self::new(Operation::DUALCAST, source, destination1, length);
        work.0.word5 = destination2;
        work
    }

    /// Calculates the CRC32C. `seed` is 0, or the result for what comes before: the
    /// device inverts both. [DSA 3.0, 8.3.12 "CRC Generation"]
    pub fn crc(source: u64, length: u32, seed: u32) -> Self {
        let mut work = Self::new(Operation::CRC, source, 0, length);
        work.0.word5 = u64::from(seed);
        work
    }

    /// Copies, and calculates the CRC32C of what is copied.
    pub fn copy_crc(source: u64, destination: u64, length: u32, seed: u32) -> Self {
        let mut work = Self::new(Operation::COPY_CRC, source, destination, length);
        work.0.word5 = u64::from(seed);
        work
    }

    /// Waits for all earlier descriptors of the queue.
    pub fn drain() -> Self {
        Self::new(Operation::DRAIN, 0, 0, 0)
    }

    /// Carries out `count` descriptors that lie at `list`.
    pub fn batch(list: u64, count: u32) -> Self {
        Self::new(Operation::BATCH, list, 0, count)
    }

    /// Any operation, without any operand.
    pub fn of(operation: Operation) -> Self {
        Self::new(operation, 0, 0, 0)
    }

    /// With a completion record at `address`, written even on success.
    pub fn record(self, address: u64) -> Self {
        let flags = Flags::new()
            .with_completion_record_address_valid(true)
            .with_request_completion_record(true);
        let mut work = self.flags(flags);
        work.0.completion_record_address = address;
        work
    }

    /// With an interrupt through `handle`.
    pub fn interrupt(self, handle: u16) -> Self {
        let mut work = self.flags(Flags::new().with_request_completion_interrupt(true));
        work.0.word4 = work.0.word4.with_interrupt_handle(handle);
        work
    }

    /// In a batch: not before all earlier members have completed.
    pub fn fence(self) -> Self {
        self.flags(Flags::new().with_fence(true))
    }

    /// With further flags.
    pub fn flags(self, flags: Flags) -> Self {
        let word0 = self.0.word0;
        let word0 = word0.with_flags(word0.flags().union(flags));
        Self(Descriptor { word0, ..self.0 })
    }

    /// In the name of a PASID, which only ENQCMDS looks at.
    pub fn pasid(self, pasid: u32) -> Self {
        let word0 = self.0.word0.with_pasid(pasid);
        Self(Descriptor { word0, ..self.0 })
    }

    /// With the Priv bit, which only ENQCMDS looks at.
    pub fn privileged(self) -> Self {
        let word0 = self.0.word0.with_privileged(true);
        Self(Descriptor { word0, ..self.0 })
    }

    /// With another transfer size, or descriptor count.
    pub fn size(self, size: u32) -> Self {
        let word4 = self.0.word4.with_transfer_size(size);
        Self(Descriptor { word4, ..self.0 })
    }

    /// What is submitted.
    pub fn words(&self) -> [u64; 8] {
        self.0.words()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Worked out from [DSA 3.0, 8.1 "Descriptor"]: byte 7 is the operation, bytes 6:4
    // the flags, 3:0 PASID and Priv.
    #[test]
    fn a_move_with_record_and_interrupt() {
        let work = Work::memory_move(0x1000, 0x2000, 0x345)
            .record(0x3020)
            .interrupt(0x81);
        let expected = [
            0x0300_001c_0000_0000,
            0x3020,
            0x1000,
            0x2000,
            0x0000_0081_0000_0345,
            0,
            0,
            0,
        ];
        assert_eq!(work.words(), expected);
    }

    #[test]
    fn a_fenced_fill_of_a_privileged_pasid() {
        let work = Work::fill(0xa5a5, 0x2000, 64)
            .fence()
            .pasid(0x1_2345)
            .privileged();
        let expected = [0x0400_0001_8001_2345, 0, 0xa5a5, 0x2000, 64, 0, 0, 0];
        assert_eq!(work.words(), expected);
    }

    #[test]
    fn operations_have_their_further_operands_where_they_belong() {
        let delta = Work::create_delta(0x1000, 0x2000, 512, 0x3000, 85);
        assert_eq!(
            delta.words(),
            [0x0700_0000_0000_0000, 0, 0x1000, 0x2000, 512, 0x3000, 80, 0]
        );
        let apply = Work::apply_delta(0x3000, 20, 0x2000, 512);
        assert_eq!(
            apply.words(),
            [0x0800_0000_0000_0000, 0, 0x3000, 0x2000, 512, 20, 0, 0]
        );
        let dualcast = Work::dualcast(0x1000, 0x2000, 0x3000, 8);
        assert_eq!(
            dualcast.words(),
            [0x0900_0000_0000_0000, 0, 0x1000, 0x2000, 8, 0x3000, 0, 0]
        );
        let crc = Work::copy_crc(0x1000, 0x2000, 8, 0xffff_fffe);
        assert_eq!(
            crc.words(),
            [
                0x1100_0000_0000_0000,
                0,
                0x1000,
                0x2000,
                8,
                0xffff_fffe,
                0,
                0
            ]
        );
        let batch = Work::batch(0x4000, 64);
        assert_eq!(
            batch.words(),
            [0x0100_0000_0000_0000, 0, 0x4000, 0, 64, 0, 0, 0]
        );
    }
}
