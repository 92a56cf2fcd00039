//! What the device is told to do.

use bitfield_struct::bitfield;

use super::codes::codes;

/// Descriptor: 64 bytes, eight little-endian words. Words 2, 3 and 5 to 7 mean what
/// the operation says; the methods are called as the specification calls them there.
/// [DSA 3.0, 8.1 "Common Descriptor Fields"; 8.3 "Descriptor Types"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Descriptor {
    /// Bytes 7:0.
    pub word0: DescriptorWord0,
    /// Bytes 15:8: Completion Record Address.
    pub completion_record_address: u64,
    /// Bytes 23:16. Source or Source1 Address; Descriptor List Address of a batch,
    /// Readback Address 1 of a drain, Pattern Lower of a fill, Delta Record Address
    /// of what applies one.
    pub word2: u64,
    /// Bytes 31:24. Destination or Destination1 Address; Source2 Address of a
    /// comparison, Pattern of a comparison with one, Readback Address 2 of a drain.
    pub word3: u64,
    /// Bytes 39:32.
    pub word4: DescriptorWord4,
    /// Bytes 47:40.
    pub word5: u64,
    /// Bytes 55:48.
    pub word6: u64,
    /// Bytes 63:56.
    pub word7: u64,
}
const _: () = assert!(size_of::<Descriptor>() == 64);

impl Descriptor {
    /// Bytes of a descriptor.
    pub const SIZE: usize = 64;

    /// The descriptor as it lies in memory.
    pub const fn words(&self) -> [u64; 8] {
        [
            self.word0.into_bits(),
            self.completion_record_address,
            self.word2,
            self.word3,
            self.word4.into_bits(),
            self.word5,
            self.word6,
            self.word7,
        ]
    }

    /// The descriptor from memory.
    pub const fn from_words(words: [u64; 8]) -> Self {
        let [
            word0,
            completion_record_address,
            word2,
            word3,
            word4,
            word5,
            word6,
            word7,
        ] = words;
        Self {
            word0: DescriptorWord0::from_bits(word0),
            completion_record_address,
            word2,
            word3,
            word4: DescriptorWord4::from_bits(word4),
            word5,
            word6,
            word7,
        }
    }

    /// Destination2 Address of Memory Copy with Dualcast.
    /// [DSA 3.0, 8.3.10 "Memory Copy with Dualcast"]
    pub const fn destination2_address(&self) -> u64 {
        self.word5
    }

    /// Delta Record Address of Create Delta Record.
    /// [DSA 3.0, 8.3.8 "Create Delta Record"]
    pub const fn delta_record_address(&self) -> u64 {
        self.word5
    }

    /// Maximum Delta Record Size of Create Delta Record.
    /// [DSA 3.0, 8.3.8 "Create Delta Record"]
    pub const fn max_delta_record_size(&self) -> u32 {
        low_half(self.word6)
    }

    /// Delta Record Size of Apply Delta Record.
    /// [DSA 3.0, 8.3.9 "Apply Delta Record"]
    pub const fn delta_record_size(&self) -> u32 {
        low_half(self.word5)
    }

    /// CRC Seed Address of the CRC operations, if Read CRC Seed is 1.
    /// [DSA 3.0, 8.3.12 "CRC Generation"]
    pub const fn crc_seed_address(&self) -> u64 {
        self.word6
    }

    /// DIF Flags of the DIF operations. [DSA 3.0, 8.3.17.1 "DIF Flags"]
    pub const fn dif_flags(&self) -> u8 {
        self.word5.to_le_bytes()[2]
    }
}

const fn low_half(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Descriptor, bytes 7:0.
/// [DSA 3.0, 8.1.1 "Trusted Fields"; 8.1.2 "Operation"; 8.1.3 "Flags"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct DescriptorWord0 {
    /// PASID, which counts on a shared WQ only.
    #[bits(20)]
    pub pasid: u32,
    #[bits(11)]
    _reserved_30_20: u16,
    /// Priv; likewise.
    pub privileged: bool,
    /// Flags.
    #[bits(24)]
    pub flags: Flags,
    /// Operation.
    #[bits(8)]
    pub operation: Operation,
}
const _: () = {
    assert!(DescriptorWord0::PRIVILEGED_OFFSET == 31 && DescriptorWord0::FLAGS_OFFSET == 32);
    assert!(DescriptorWord0::OPERATION_OFFSET == 56);
};

/// Descriptor, bytes 39:32.
/// [DSA 3.0, 8.1.7 "Transfer Size"; 8.1.8 "Completion Interrupt Handle"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct DescriptorWord4 {
    /// Transfer Size; Descriptor Count of a batch, Region Size of a translation
    /// fetch.
    pub transfer_size: u32,
    /// Completion Interrupt Handle.
    pub interrupt_handle: u16,
    /// Reserved.
    pub reserved_63_48: u16,
}
const _: () = assert!(DescriptorWord4::INTERRUPT_HANDLE_OFFSET == 32);

/// Flags of a descriptor; bits 31:24 are not part of it.
/// [DSA 3.0, 8.1.3 "Flags", Table 8-3]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Flags {
    /// Fence, in a batch.
    pub fence: bool,
    /// Block On Fault.
    pub block_on_fault: bool,
    /// Completion Record Address Valid.
    pub completion_record_address_valid: bool,
    /// Request Completion Record.
    pub request_completion_record: bool,
    /// Request Completion Interrupt.
    pub request_completion_interrupt: bool,
    /// Cache Control 3.
    pub cache_control_3: bool,
    _reserved_6: bool,
    /// Check Result.
    pub check_result: bool,
    /// Cache Control 1.
    pub cache_control_1: bool,
    /// Address 1 TC Selector.
    pub address_1_tc: bool,
    /// Address 2 TC Selector.
    pub address_2_tc: bool,
    /// Address 3 TC Selector.
    pub address_3_tc: bool,
    /// Completion Record TC Selector.
    pub completion_record_tc: bool,
    /// Strict Ordering.
    pub strict_ordering: bool,
    /// Cache Control 2.
    pub cache_control_2: bool,
    _reserved_15: bool,
    /// Operation-Specific Flags.
    pub operation_specific: u8,
    _none_31_24: u8,
}
const _: () = {
    assert!(Flags::BLOCK_ON_FAULT_OFFSET == 1);
    assert!(Flags::COMPLETION_RECORD_ADDRESS_VALID_OFFSET == 2);
    assert!(Flags::REQUEST_COMPLETION_RECORD_OFFSET == 3);
    assert!(Flags::REQUEST_COMPLETION_INTERRUPT_OFFSET == 4);
    assert!(Flags::CACHE_CONTROL_3_OFFSET == 5 && Flags::CHECK_RESULT_OFFSET == 7);
    assert!(Flags::CACHE_CONTROL_1_OFFSET == 8 && Flags::ADDRESS_1_TC_OFFSET == 9);
    assert!(Flags::ADDRESS_2_TC_OFFSET == 10 && Flags::ADDRESS_3_TC_OFFSET == 11);
    assert!(Flags::COMPLETION_RECORD_TC_OFFSET == 12 && Flags::STRICT_ORDERING_OFFSET == 13);
    assert!(Flags::CACHE_CONTROL_2_OFFSET == 14 && Flags::OPERATION_SPECIFIC_OFFSET == 16);
};

impl Flags {
    /// Batch: Batch Error. [Table 8-14]
    pub const BATCH_ERROR: Self = Self::from_bits(1 << 16);
    /// Drain: Readback Address 1 Valid. [Table 8-15]
    pub const DRAIN_READBACK_1: Self = Self::from_bits(1 << 16);
    /// Drain: Readback Address 2 Valid. [Table 8-15]
    pub const DRAIN_READBACK_2: Self = Self::from_bits(1 << 17);
    /// Fill: Pattern Size, 16 bytes. [Table 8-16]
    pub const FILL_PATTERN_16: Self = Self::from_bits(1 << 18);
    /// Translation Fetch: Use Stride. [Table 8-18]
    pub const FETCH_USE_STRIDE: Self = Self::from_bits(1 << 16);
    /// CRC operations: Read CRC Seed. [Table 8-19]
    pub const CRC_READ_SEED: Self = Self::from_bits(1 << 16);
    /// CRC operations: Bypass CRC Inversion and Reflection. [Table 8-19]
    pub const CRC_BYPASS_INVERSION: Self = Self::from_bits(1 << 17);
    /// CRC operations: Bypass Data Reflection. [Table 8-19]
    pub const CRC_BYPASS_REFLECTION: Self = Self::from_bits(1 << 18);
    /// CRC operations: CRC Size, 64 bits. [Table 8-19]
    pub const CRC_64: Self = Self::from_bits(1 << 19);

    /// Whether all flags in `flags` are set.
    pub const fn contains(self, flags: Self) -> bool {
        self.into_bits() & flags.into_bits() == flags.into_bits()
    }

    /// These flags and those in `flags`.
    pub const fn union(self, flags: Self) -> Self {
        Self::from_bits(self.into_bits() | flags.into_bits())
    }
}

/// Operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Operation(pub u8);

// [DSA 3.0, 8.1.2 "Operation", Table 8-2]
codes! { Operation: u8;
    /// No-op.
    NO_OP = 0x00, "no-op";
    /// Batch.
    BATCH = 0x01, "batch";
    /// Drain.
    DRAIN = 0x02, "drain";
    /// Memory Move.
    MEMORY_MOVE = 0x03, "memory move";
    /// Fill.
    FILL = 0x04, "fill";
    /// Compare.
    COMPARE = 0x05, "compare";
    /// Compare Pattern.
    COMPARE_PATTERN = 0x06, "compare pattern";
    /// Create Delta Record.
    CREATE_DELTA = 0x07, "create delta record";
    /// Apply Delta Record.
    APPLY_DELTA = 0x08, "apply delta record";
    /// Memory Copy with Dualcast.
    DUALCAST = 0x09, "dualcast";
    /// Translation Fetch.
    TRANSLATION_FETCH = 0x0a, "translation fetch";
    /// CRC Generation.
    CRC = 0x10, "CRC generation";
    /// Copy with CRC Generation.
    COPY_CRC = 0x11, "copy with CRC generation";
    /// DIF Check.
    DIF_CHECK = 0x12, "DIF check";
    /// DIF Insert.
    DIF_INSERT = 0x13, "DIF insert";
    /// DIF Strip.
    DIF_STRIP = 0x14, "DIF strip";
    /// DIF Update.
    DIF_UPDATE = 0x15, "DIF update";
    /// DIX Generate.
    DIX_GENERATE = 0x17, "DIX generate";
    /// Type Conversion.
    TYPE_CONVERSION = 0x18, "type conversion";
    /// Reduce.
    REDUCE = 0x19, "reduce";
    /// Reduce with Dualcast.
    REDUCE_DUALCAST = 0x1a, "reduce with dualcast";
    /// Gather Reduce.
    GATHER_REDUCE = 0x1b, "gather reduce";
    /// Gather Copy.
    GATHER_COPY = 0x1c, "gather copy";
    /// Scatter Copy.
    SCATTER_COPY = 0x1d, "scatter copy";
    /// Scatter Fill.
    SCATTER_FILL = 0x1e, "scatter fill";
    /// Cache flush.
    CACHE_FLUSH = 0x20, "cache flush";
    /// Update Window.
    UPDATE_WINDOW = 0x21, "update window";
    /// Inter-Domain Copy.
    INTER_DOMAIN_COPY = 0x23, "inter-domain copy";
    /// Inter-Domain Fill.
    INTER_DOMAIN_FILL = 0x24, "inter-domain fill";
    /// Inter-Domain Compare.
    INTER_DOMAIN_COMPARE = 0x25, "inter-domain compare";
    /// Inter-Domain Compare Pattern.
    INTER_DOMAIN_COMPARE_PATTERN = 0x26, "inter-domain compare pattern";
}
