//! What the device writes when it is done.

use bitfield_struct::bitfield;

use super::codes::codes;

use crate::field::field;

/// Completion Record: 32 bytes in memory, aligned to 32. What is in words 2 and 3
/// depends on the operation. [DSA 3.0, 8.2 "Completion Record"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CompletionRecord {
    /// Bytes 7:0.
    pub word0: CompletionWord0,
    /// Bytes 15:8, Fault Address.
    pub fault_address: u64,
    /// Bytes 23:16. Invalid Flags in bits 23:0 with status 0x11; the CRC Value of a
    /// CRC operation, the Delta Record Size, the (source) tags of a DIF operation.
    pub word2: u64,
    /// Bytes 31:24: the destination tags of a DIF operation.
    pub word3: u64,
}
const _: () = assert!(size_of::<CompletionRecord>() == 32);

impl CompletionRecord {
    /// Bytes of a record, and what its address is a multiple of.
    pub const SIZE: usize = 32;

    /// The record as it lies in memory.
    pub const fn words(&self) -> [u64; 4] {
        [
            self.word0.into_bits(),
            self.fault_address,
            self.word2,
            self.word3,
        ]
    }

    /// The record from memory.
    pub const fn from_words(words: [u64; 4]) -> Self {
        let [word0, fault_address, word2, word3] = words;
        Self {
            word0: CompletionWord0::from_bits(word0),
            fault_address,
            word2,
            word3,
        }
    }
}

/// Completion record, bytes 7:0.
/// [DSA 3.0, 8.2.1 "Status" to 8.2.4 "Bytes Completed"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CompletionWord0 {
    /// Operation Status; 0 until the record was written.
    #[bits(6)]
    pub status: Status,
    _unused_6: bool,
    /// R/W of a page fault. 1: write.
    pub write: bool,
    /// Result.
    pub result: u8,
    /// Fault Info.
    #[bits(8)]
    pub fault_info: FaultInfo,
    _unused_31_24: u8,
    /// Bytes Completed; Descriptors Completed of a batch.
    pub bytes_completed: u32,
}
const _: () = {
    assert!(CompletionWord0::WRITE_OFFSET == 7 && CompletionWord0::RESULT_OFFSET == 8);
    assert!(CompletionWord0::FAULT_INFO_OFFSET == 16);
    assert!(CompletionWord0::BYTES_COMPLETED_OFFSET == 32);
};

/// Fault Info, if GENCAP says that it is there.
/// [DSA 3.0, 8.2.3 "Fault Info", Table 8-13]
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct FaultInfo {
    /// Fault Address Masked.
    pub address_masked: bool,
    /// Operand Identifier.
    #[bits(3)]
    pub operand: Operand,
    #[bits(4)]
    _unused_7_4: u8,
}
const _: () = assert!(FaultInfo::OPERAND_OFFSET == 1);

/// Operand Identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand(pub u8);

impl Operand {
    /// Unknown.
    pub const UNKNOWN: Self = Self(0);
    /// Source, Source1, Descriptor List, Delta Record to apply, Readback Address1.
    pub const SOURCE: Self = Self(1);
    /// Source2, CRC Seed Address, Readback Address2.
    pub const SOURCE2: Self = Self(2);
    /// Destination, Destination1, Delta Record to create.
    pub const DESTINATION: Self = Self(3);
    /// Destination2.
    pub const DESTINATION2: Self = Self(4);
    /// Completion Record Address.
    pub const COMPLETION_RECORD: Self = Self(5);
}
field!(Operand: u8);

/// Operation Status, and the further codes that only SWERROR has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u8);

// [DSA 3.0, 5.8.1 "Operation Status Codes", Table 5-6; 5.8.2 "Other Software Error
// Codes", Table 5-7], without the codes of inter-domain operations.
codes! { Status: u8;
    /// Not written yet.
    NONE = 0x00, "not complete";
    /// Success.
    SUCCESS = 0x01, "success";
    /// Success with false predicate.
    FALSE_PREDICATE = 0x02, "success with false predicate";
    /// Partial completion due to page fault.
    PAGE_FAULT = 0x03, "page fault";
    /// Partial completion due to an invalid response to a page request.
    PAGE_REQUEST_INVALID = 0x04, "page request refused";
    /// A descriptor of the batch did not succeed.
    BATCH_FAILURE = 0x05, "a descriptor of the batch failed";
    /// Page fault on the descriptor list.
    BATCH_PAGE_FAULT = 0x06, "page fault on the descriptor list";
    /// Offsets in the delta record not in increasing order.
    DELTA_ORDER = 0x07, "delta record offsets out of order";
    /// An offset in the delta record beyond the transfer size.
    DELTA_OFFSET = 0x08, "delta record offset out of range";
    /// DIF error.
    DIF_ERROR = 0x09, "DIF error";
    /// Unsupported operation code.
    UNSUPPORTED_OPERATION = 0x10, "unsupported operation";
    /// Invalid flags.
    INVALID_FLAGS = 0x11, "invalid flags";
    /// Non-zero reserved field.
    RESERVED_FIELD = 0x12, "reserved field not zero";
    /// Invalid Transfer Size or Element Count.
    TRANSFER_SIZE = 0x13, "invalid transfer size";
    /// Descriptor Count or SGL Size out of range.
    DESCRIPTOR_COUNT = 0x14, "descriptor count out of range";
    /// Unsupported value of a field.
    UNSUPPORTED_VALUE = 0x15, "unsupported value of a field";
    /// Overlapping buffers.
    OVERLAP = 0x16, "overlapping buffers";
    /// The two destinations of a dualcast differ in their low bits.
    DUALCAST_ALIGNMENT = 0x17, "dualcast destinations not aligned alike";
    /// Misaligned Descriptor List Address.
    LIST_ALIGNMENT = 0x18, "misaligned descriptor list";
    /// Invalid Completion Interrupt Handle.
    INTERRUPT_HANDLE = 0x19, "invalid interrupt handle";
    /// Page fault on the completion record.
    RECORD_PAGE_FAULT = 0x1a, "page fault on the completion record";
    /// Completion Record Address is not 32-byte aligned.
    RECORD_ALIGNMENT = 0x1b, "misaligned completion record";
    /// Misaligned address, size or stride.
    ALIGNMENT = 0x1c, "misaligned address or size";
    /// Priv is 1 and not enabled.
    PRIVILEGE = 0x1d, "privileged, which is not enabled";
    /// Incorrect Traffic Class configuration.
    TRAFFIC_CLASS = 0x1e, "incorrect traffic class";
    /// Page fault on a Readback Address of a Drain descriptor.
    DRAIN_PAGE_FAULT = 0x1f, "page fault on a readback address";
    /// Hardware error; a translation fault on a read if ATS is disabled.
    HARDWARE_ERROR = 0x20, "hardware error or faulting read";
    /// Hardware error on a write or a destination readback.
    WRITE_ERROR = 0x21, "hardware error on a write";
    /// Error during address translation.
    TRANSLATION_ERROR = 0x22, "error during address translation";
    /// SWERROR: unsupported change of PCI configuration space, the device halts.
    CONFIGURATION_CHANGED = 0x51, "PCI configuration changed while enabled";
    /// SWERROR: CMD was written while a command was active.
    COMMAND_ACTIVE = 0x52, "command written while another was active";
    /// SWERROR: a dedicated WQ had no space.
    WQ_FULL = 0x53, "dedicated WQ had no space";
    /// SWERROR: no event could be appended to the event log.
    EVENT_LOG = 0x54, "event log not written";
}

impl Status {
    /// Whether the operation status stands for success: 0x01 and 0x02.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::SUCCESS | Self::FALSE_PREDICATE)
    }
}
