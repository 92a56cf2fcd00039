//! What is submitted to the accelerator, and what it answers.
//! [DSA 3.0, ch. 8 "Descriptors"]

use crate::memory::Pages;

/// Flags, bits 23:0 of the second dword.
mod flags {
    /// The completion record address is valid.
    pub(super) const COMPLETION_ADDRESS: u64 = 1 << 2;
    /// A completion record is written on success, too.
    pub(super) const REQUEST_COMPLETION: u64 = 1 << 3;
    /// An interrupt is sent on completion.
    pub(super) const REQUEST_INTERRUPT: u64 = 1 << 4;
}

/// Operations, the eighth byte.
pub(crate) mod operation {
    pub(crate) const NO_OP: u8 = 0x00;
    pub(crate) const MEMORY_MOVE: u8 = 0x03;
    pub(crate) const FILL: u8 = 0x04;
}

/// Completion status codes, and the bit that marks the fault of a write.
pub(crate) mod status {
    pub(crate) const SUCCESS: u8 = 0x01;
    pub(crate) const PAGE_FAULT: u8 = 0x03;
    pub(crate) const INVALID_INTERRUPT_HANDLE: u8 = 0x19;
    pub(crate) const COMPLETION_RECORD_FAULT: u8 = 0x1a;
    pub(crate) const HARDWARE_ERROR: u8 = 0x20;
    /// In SWERROR only: a dedicated queue had no room.
    pub(crate) const QUEUE_OVERFLOW: u8 = 0x53;
    pub(crate) const ON_WRITE: u8 = 0x80;
}

/// A descriptor: 64 bytes.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor([u64; 8]);

impl Descriptor {
    fn new(operation: u8) -> Self {
        let mut words = [0; 8];
        words[0] = u64::from(operation) << 56;
        Self(words)
    }

    /// Does nothing.
    pub(crate) fn no_op() -> Self {
        Self::new(operation::NO_OP)
    }

    /// Copies `size` bytes.
    pub(crate) fn memory_move(source: u64, destination: u64, size: u32) -> Self {
        let mut descriptor = Self::new(operation::MEMORY_MOVE);
        descriptor.0[2] = source;
        descriptor.0[3] = destination;
        descriptor.0[4] = u64::from(size);
        descriptor
    }

    /// Fills `size` bytes with `pattern`.
    pub(crate) fn fill(pattern: u64, destination: u64, size: u32) -> Self {
        let mut descriptor = Self::new(operation::FILL);
        descriptor.0[2] = pattern;
        descriptor.0[3] = destination;
        descriptor.0[4] = u64::from(size);
        descriptor
    }

    /// Writes a completion record to `address` in any case.
    pub(crate) fn with_completion(mut self, address: u64) -> Self {
        self.0[0] |= (flags::COMPLETION_ADDRESS | flags::REQUEST_COMPLETION) << 32;
        self.0[1] = address;
        self
    }

    /// Sends the interrupt with this handle on completion.
    pub(crate) fn with_interrupt(mut self, handle: u16) -> Self {
        self.0[0] |= flags::REQUEST_INTERRUPT << 32;
        self.0[4] |= u64::from(handle) << 32;
        self
    }

    /// In the name of `pasid`, for ENQCMDS.
    pub(crate) fn with_pasid(mut self, pasid: u32) -> Self {
        self.0[0] |= u64::from(pasid);
        self
    }

    /// As it lies in memory.
    pub(crate) fn words(&self) -> &[u64; 8] {
        &self.0
    }
}

/// A completion record: 32 bytes, of which the checks look at these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) status: u8,
    /// Of an operation that a page fault ended.
    pub(crate) bytes_completed: u32,
    pub(crate) fault_address: u64,
}

impl Completion {
    /// A record that says no more than its status.
    pub(crate) const fn with_status(status: u8) -> Self {
        Self {
            status,
            bytes_completed: 0,
            fault_address: 0,
        }
    }

    /// The record of an operation that a page fault ended.
    pub(crate) const fn page_fault(status: u8, bytes_completed: u32, fault_address: u64) -> Self {
        Self {
            status,
            bytes_completed,
            fault_address,
        }
    }

    /// Clears the record at `offset`, as software does before it submits.
    pub(crate) fn clear(pages: &Pages, offset: u64) {
        pages.write_words(offset, &[0; 4]);
    }

    /// The record at `offset`, if there is one by now.
    pub(crate) fn read(pages: &Pages, offset: u64) -> Option<Self> {
        let [first, fault_address] = pages.words(offset);
        let [status, _, _, _, bytes @ ..] = first.to_le_bytes();
        let record = match status {
            0 => return None,
            status if status & !status::ON_WRITE == status::PAGE_FAULT => {
                Self::page_fault(status, u32::from_le_bytes(bytes), fault_address)
            }
            // The other fields mean something else, or nothing.
            status => Self::with_status(status),
        };
        Some(record)
    }
}
