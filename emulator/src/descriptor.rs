//! The 64 bytes that software submits: one descriptor.
//!
//! A [`Descriptor`] keeps the bytes as they came and decodes fields on request,
//! so nothing that software wrote is lost before `operation::check` has seen
//! it. Layouts are those of [§8.1 "Common Descriptor Fields" and
//! §8.3 "Descriptor Types"]; accessors for fields of single operations stand
//! beside the code of the operation.

use std::fmt;
use std::ops::{BitAnd, BitOr, Not, RangeInclusive};

use crate::bits::bit;
use crate::bus::Pasid;

/// One submitted descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    bytes: [u8; Self::BYTES],
}

impl Descriptor {
    /// The size of every descriptor.
    pub const BYTES: usize = 64;

    /// The descriptor with these bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self { bytes }
    }

    /// The bytes as they were submitted.
    pub const fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.bytes
    }

    /// The address space that the submitter claims; ignored on a dedicated
    /// queue and in a batch [§8.1.1 "Trusted Fields"].
    pub fn pasid(&self) -> Pasid {
        Pasid::from_low_bits(self.u32_at(0))
    }

    /// Priv: submitted by kernel-mode software. Ignored where the PASID is.
    pub fn is_privileged(&self) -> bool {
        bit(u64::from(self.u32_at(0)), 31)
    }

    /// The reserved bits 30:20 of the trusted fields, in place.
    pub(crate) fn trusted_reserved(&self) -> u32 {
        self.u32_at(0) & 0x7ff0_0000
    }

    /// Flags, bytes 4 to 6.
    pub fn flags(&self) -> Flags {
        Flags::from_low_bits(self.u32_at(4))
    }

    /// Operation, byte 7.
    pub fn opcode(&self) -> Opcode {
        Opcode(self.u8_at(7))
    }

    /// Completion Record Address, reserved unless
    /// [`Flags::COMPLETION_ADDRESS_VALID`] is set.
    pub fn completion_address(&self) -> u64 {
        self.u64_at(8)
    }

    /// Source Address; also Source1, Address, Pattern Lower, Readback Address 1
    /// and Delta Record Address (of Apply Delta Record).
    pub fn source(&self) -> u64 {
        self.u64_at(16)
    }

    /// Destination Address; also Source2, Destination1, Pattern (of Compare
    /// Pattern) and Readback Address 2.
    pub fn destination(&self) -> u64 {
        self.u64_at(24)
    }

    /// Transfer Size in bytes; also Region Size.
    pub fn transfer_size(&self) -> u32 {
        self.u32_at(32)
    }

    /// Completion Interrupt Handle, reserved unless
    /// [`Flags::REQUEST_COMPLETION_INTERRUPT`] is set.
    pub fn interrupt_handle(&self) -> u16 {
        u16::from_le_bytes(self.bytes_at(36))
    }

    /// Descriptor List Address of a batch.
    pub fn descriptor_list_address(&self) -> u64 {
        self.source()
    }

    /// Descriptor Count of a batch.
    pub fn descriptor_count(&self) -> u32 {
        self.transfer_size()
    }

    /// Whether the bytes of `range` are all zero.
    pub(crate) fn is_clear(&self, range: RangeInclusive<usize>) -> bool {
        self.bytes
            .get(range)
            .is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
    }

    pub(crate) fn u8_at(&self, offset: usize) -> u8 {
        u8::from_le_bytes(self.bytes_at(offset))
    }

    pub(crate) fn u16_at(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.bytes_at(offset))
    }

    pub(crate) fn u32_at(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes_at(offset))
    }

    pub(crate) fn u64_at(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes_at(offset))
    }

    /// The `N` bytes from `offset`. Every caller names a field that lies inside
    /// the descriptor; zeros stand for anything else.
    fn bytes_at<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.bytes
            .get(offset..)
            .and_then(<[u8]>::first_chunk)
            .copied()
            .unwrap_or([0; N])
    }
}

/// An operation code, known or not [§8.1.2 "Operation"].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opcode(pub u8);

/// Declares the constants and their names from one list.
macro_rules! opcodes {
    ($($constant:ident = $code:literal, $name:literal;)*) => {
        impl Opcode {
            $(#[doc = $name] pub const $constant: Self = Self($code);)*

            /// The operations that the specification defines, a bit each.
            pub(crate) const DEFINED: u64 = 0 $(| 1 << $code)*;

            /// The name that §8.1.2 gives, or "Reserved".
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$constant => $name,)*
                    _ => "Reserved",
                }
            }
        }
    };
}

opcodes! {
    NO_OP = 0x00, "No-op";
    BATCH = 0x01, "Batch";
    DRAIN = 0x02, "Drain";
    MEMORY_MOVE = 0x03, "Memory Move";
    FILL = 0x04, "Fill";
    COMPARE = 0x05, "Compare";
    COMPARE_PATTERN = 0x06, "Compare Pattern";
    CREATE_DELTA_RECORD = 0x07, "Create Delta Record";
    APPLY_DELTA_RECORD = 0x08, "Apply Delta Record";
    DUALCAST = 0x09, "Memory Copy with Dualcast";
    TRANSLATION_FETCH = 0x0a, "Translation Fetch";
    CRC_GENERATION = 0x10, "CRC Generation";
    COPY_WITH_CRC = 0x11, "Copy with CRC Generation";
    DIF_CHECK = 0x12, "DIF Check";
    DIF_INSERT = 0x13, "DIF Insert";
    DIF_STRIP = 0x14, "DIF Strip";
    DIF_UPDATE = 0x15, "DIF Update";
    DIX_GENERATE = 0x17, "DIX Generate";
    TYPE_CONVERSION = 0x18, "Type Conversion";
    REDUCE = 0x19, "Reduce";
    REDUCE_WITH_DUALCAST = 0x1a, "Reduce with Dualcast";
    GATHER_REDUCE = 0x1b, "Gather Reduce";
    GATHER_COPY = 0x1c, "Gather Copy";
    SCATTER_COPY = 0x1d, "Scatter Copy";
    SCATTER_FILL = 0x1e, "Scatter Fill";
    CACHE_FLUSH = 0x20, "Cache flush";
    UPDATE_WINDOW = 0x21, "Update Window";
    INTER_DOMAIN_COPY = 0x23, "Inter-Domain Copy";
    INTER_DOMAIN_FILL = 0x24, "Inter-Domain Fill";
    INTER_DOMAIN_COMPARE = 0x25, "Inter-Domain Compare";
    INTER_DOMAIN_COMPARE_PATTERN = 0x26, "Inter-Domain Compare Pattern";
}

impl fmt::Debug for Opcode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({:#04x})", self.name(), self.0)
    }
}

/// The 24 flag bits [§8.1.3 "Flags"].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Wait for all earlier members of the batch.
    pub const FENCE: Self = Self::nth(0);
    /// Wait for page faults to be resolved.
    pub const BLOCK_ON_FAULT: Self = Self::nth(1);
    /// The Completion Record Address is valid.
    pub const COMPLETION_ADDRESS_VALID: Self = Self::nth(2);
    /// Write the completion record on success too.
    pub const REQUEST_COMPLETION_RECORD: Self = Self::nth(3);
    /// Send an interrupt message at completion.
    pub const REQUEST_COMPLETION_INTERRUPT: Self = Self::nth(4);
    /// With the other two, where written data should go.
    pub const CACHE_CONTROL_3: Self = Self::nth(5);
    /// The result of the operation decides between success and false predicate.
    pub const CHECK_RESULT: Self = Self::nth(7);
    /// With the other two, where written data should go.
    pub const CACHE_CONTROL_1: Self = Self::nth(8);
    /// TC-B instead of TC-A for the first address.
    pub const ADDRESS_1_TC: Self = Self::nth(9);
    /// TC-B instead of TC-A for the second address.
    pub const ADDRESS_2_TC: Self = Self::nth(10);
    /// TC-B instead of TC-A for the third address.
    pub const ADDRESS_3_TC: Self = Self::nth(11);
    /// TC-B instead of TC-A for the completion record.
    pub const COMPLETION_RECORD_TC: Self = Self::nth(12);
    /// Writes become visible in order.
    pub const STRICT_ORDERING: Self = Self::nth(13);
    /// With the other two, where written data should go; before Rev 2.0 of the
    /// specification this bit was called Destination Readback.
    pub const CACHE_CONTROL_2: Self = Self::nth(14);

    /// Batch: an earlier part of this batch had a failure.
    pub const BATCH_ERROR: Self = Self::nth(16);
    /// Drain: Readback Address 1 is valid.
    pub const READBACK_ADDRESS_1_VALID: Self = Self::nth(16);
    /// Drain: Readback Address 2 is valid.
    pub const READBACK_ADDRESS_2_VALID: Self = Self::nth(17);
    /// Drain: no implicit readback on TC-A.
    pub const SUPPRESS_TC_A_READBACK: Self = Self::nth(18);
    /// Drain: no implicit readback on TC-B.
    pub const SUPPRESS_TC_B_READBACK: Self = Self::nth(19);
    /// Fill: the pattern has 16 bytes.
    pub const PATTERN_SIZE: Self = Self::nth(18);
    /// Translation Fetch: the Region Stride field is valid.
    pub const USE_STRIDE: Self = Self::nth(16);
    /// CRC operations: the seed is read from the CRC Seed Address.
    pub const READ_CRC_SEED: Self = Self::nth(16);
    /// CRC operations: seed and result are neither inverted nor reflected.
    pub const BYPASS_CRC_INVERSION_AND_REFLECTION: Self = Self::nth(17);
    /// CRC operations: bit 7 of each data byte counts first.
    pub const BYPASS_DATA_REFLECTION: Self = Self::nth(18);
    /// CRC operations: 64 bits instead of 32.
    pub const CRC_SIZE: Self = Self::nth(19);

    const MASK: u32 = 0x00ff_ffff;

    const fn nth(index: u32) -> Self {
        Self(1 << index)
    }

    /// The flags in the low 24 bits of `bits`; what stands above is ignored.
    pub const fn from_low_bits(bits: u32) -> Self {
        Self(bits & Self::MASK)
    }

    /// The bits themselves, in place.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `flags` are set.
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether no flag is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// `self`, and `flags` as well; for constants, where `|` cannot stand.
    pub(crate) const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// `self` if `condition` holds, else no flag.
    pub(crate) const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl BitAnd for Flags {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Flags {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0 & Self::MASK)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Flags({:#08x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Descriptor, Flags, Opcode};

    /// A Memory Move as the layout of §8.3.4 puts it into memory, each field
    /// with bytes of its own.
    #[test]
    fn memory_move_is_decoded_as_the_specification_lays_it_out() {
        #[rustfmt::skip]
        let bytes = [
            0x45, 0x23, 0xf1, 0x80,  0x1d, 0x61, 0x00, 0x03,
            0xe0, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,
            0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
            0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
            0x00, 0x10, 0x20, 0x30,  0x34, 0x12,  0, 0,
            0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let descriptor = Descriptor::from_bytes(bytes);
        assert_eq!(descriptor.pasid().get(), 0x1_2345);
        assert!(descriptor.is_privileged());
        assert_eq!(descriptor.trusted_reserved(), 0x00f0_0000);
        assert_eq!(descriptor.opcode(), Opcode::MEMORY_MOVE);
        assert_eq!(
            descriptor.flags(),
            Flags::FENCE
                | Flags::COMPLETION_ADDRESS_VALID
                | Flags::REQUEST_COMPLETION_RECORD
                | Flags::REQUEST_COMPLETION_INTERRUPT
                | Flags::CACHE_CONTROL_1
                | Flags::STRICT_ORDERING
                | Flags::CACHE_CONTROL_2
        );
        assert_eq!(descriptor.completion_address(), 0x0102_0304_0506_07e0);
        assert_eq!(descriptor.source(), 0x1112_1314_1516_1718);
        assert_eq!(descriptor.destination(), 0x2122_2324_2526_2728);
        assert_eq!(descriptor.transfer_size(), 0x3020_1000);
        assert_eq!(descriptor.interrupt_handle(), 0x1234);
        assert!(descriptor.is_clear(38..=63));
        assert!(!descriptor.is_clear(37..=63));
        assert_eq!(descriptor.bytes(), &bytes);
    }

    #[test]
    fn unknown_operation_keeps_its_code() {
        assert_eq!(format!("{:?}", Opcode(0x16)), "Reserved (0x16)");
        assert_eq!(format!("{:?}", Opcode::CACHE_FLUSH), "Cache flush (0x20)");
    }
}
