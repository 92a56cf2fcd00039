//! Descriptors, laid out by hand here and not by the model.
//! [341204 §8.1 "Common Descriptor Fields"]

/// The 64 bytes of a descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Bytes(pub(crate) [u8; 64]);

pub(crate) const FENCE: u32 = 1 << 0;
pub(crate) const BLOCK_ON_FAULT: u32 = 1 << 1;
pub(crate) const CRAV: u32 = 1 << 2;
pub(crate) const RCR: u32 = 1 << 3;
pub(crate) const RCI: u32 = 1 << 4;

pub(crate) const BATCH: u8 = 0x01;
pub(crate) const DRAIN: u8 = 0x02;
pub(crate) const MEMORY_MOVE: u8 = 0x03;
pub(crate) const COMPARE: u8 = 0x05;
/// An operation code that no version of the specification defines.
pub(crate) const UNDEFINED: u8 = 0x7f;

impl Bytes {
    pub(crate) fn new(operation: u8, flags: u32) -> Self {
        Self([0; 64]).flags(flags).with(7, &[operation])
    }

    pub(crate) fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn flags(self, flags: u32) -> Self {
        self.with(4, &flags.to_le_bytes()[..3])
    }

    /// Sets flags besides those that are set.
    pub(crate) fn also(self, flags: u32) -> Self {
        let present = u32::from_le_bytes([self.0[4], self.0[5], self.0[6], 0]);
        self.flags(present | flags)
    }

    /// Bits 31:0 of the first word: PASID in 19:0, Priv in 31.
    pub(crate) fn trusted(self, word: u32) -> Self {
        self.with(0, &word.to_le_bytes())
    }

    pub(crate) fn record(self, address: u64) -> Self {
        self.with(8, &address.to_le_bytes())
    }

    /// Neither a record nor its address.
    pub(crate) fn without_record(self) -> Self {
        let flags = self.0[4] & !(CRAV | RCR).to_le_bytes()[0];
        self.record(0).with(4, &[flags])
    }

    pub(crate) fn source(self, address: u64) -> Self {
        self.with(16, &address.to_le_bytes())
    }

    pub(crate) fn destination(self, address: u64) -> Self {
        self.with(24, &address.to_le_bytes())
    }

    pub(crate) fn size(self, bytes: u32) -> Self {
        self.with(32, &bytes.to_le_bytes())
    }

    /// Asks for an interrupt through `handle`.
    pub(crate) fn interrupt(self, handle: u16) -> Self {
        self.also(RCI).with(36, &handle.to_le_bytes())
    }
}

/// A no-op with a completion record.
pub(crate) fn no_op(record: u64) -> Bytes {
    Bytes::new(0, CRAV | RCR).record(record)
}

/// A memory move with a completion record.
pub(crate) fn memory_move(source: u64, destination: u64, size: u32, record: u64) -> Bytes {
    Bytes::new(MEMORY_MOVE, CRAV | RCR)
        .record(record)
        .source(source)
        .destination(destination)
        .size(size)
}

/// A batch of `count` descriptors at `list`, with a completion record.
pub(crate) fn batch(list: u64, count: u32, record: u64) -> Bytes {
    Bytes::new(BATCH, CRAV | RCR)
        .record(record)
        .source(list)
        .size(count)
}
