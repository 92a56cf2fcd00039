//! How a descriptor ended: status codes, and the completion record.
//!
//! [§5.8 "Error Codes" and §8.2 "Completion Record"].

use std::fmt;

use crate::descriptor::Flags;

/// An operation status code, or one of the codes that only SWERROR and the
/// event log carry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(pub u8);

/// Declares the constants and their meanings from one list.
macro_rules! statuses {
    ($($constant:ident = $code:literal, $meaning:literal;)*) => {
        impl Status {
            $(#[doc = $meaning] pub const $constant: Self = Self($code);)*

            /// The meaning in a few words, for logs.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$constant => $meaning,)*
                    _ => "unknown status",
                }
            }
        }
    };
}

// [Table 5-6 "Operation Status Codes", Table 5-7 "Other Software Error Codes"]
statuses! {
    SUCCESS = 0x01, "success";
    FALSE_PREDICATE = 0x02, "success with false predicate";
    PAGE_FAULT = 0x03, "partial completion, page fault without Block on Fault";
    PAGE_REQUEST_INVALID = 0x04, "partial completion, page request answered invalid";
    BATCH_MEMBER_FAILED = 0x05, "a descriptor of the batch did not succeed";
    BATCH_PAGE_FAULT = 0x06, "page fault on the descriptor list";
    DELTA_NOT_INCREASING = 0x07, "delta record offsets not increasing";
    DELTA_OUT_OF_RANGE = 0x08, "delta record offset beyond the transfer size";
    DIF_ERROR = 0x09, "DIF error";
    UNSUPPORTED_OPERATION = 0x10, "unsupported operation";
    INVALID_FLAGS = 0x11, "invalid flags";
    RESERVED_FIELD = 0x12, "reserved field not zero";
    TRANSFER_SIZE = 0x13, "transfer size out of range";
    DESCRIPTOR_COUNT = 0x14, "descriptor count out of range";
    FIELD_VALUE = 0x15, "unsupported value of a field";
    OVERLAPPING_BUFFERS = 0x16, "overlapping buffers";
    DUALCAST_OFFSETS = 0x17, "dualcast destinations differ in bits 11:0";
    MISALIGNED_DESCRIPTOR_LIST = 0x18, "misaligned descriptor list address";
    INVALID_INTERRUPT_HANDLE = 0x19, "invalid completion interrupt handle";
    COMPLETION_ADDRESS_FAULT = 0x1a, "page fault on the completion record address";
    MISALIGNED_COMPLETION_ADDRESS = 0x1b, "misaligned completion record address";
    MISALIGNED_ADDRESS = 0x1c, "misaligned address, size or stride";
    PRIVILEGE = 0x1d, "Priv set without privileged mode";
    TRAFFIC_CLASS = 0x1e, "traffic class not enabled";
    READBACK_PAGE_FAULT = 0x1f, "page fault on a readback address";
    HARDWARE_ERROR = 0x20, "hardware error";
    WRITE_HARDWARE_ERROR = 0x21, "hardware error on a write or a readback";
    TRANSLATION_ERROR = 0x22, "error during address translation";
    DRAIN_EVENT_LOG = 0x26, "completion records before a drain are in the event log";
    BATCH_EVENT_LOG = 0x27, "completion records of a batch are in the event log";
    INTER_DOMAIN_WITHOUT_PASID = 0x28, "inter-domain operation without PASID";
    INVALID_IDPT_HANDLE = 0x29, "invalid IDPT handle";
    INTER_DOMAIN_PERMISSION = 0x2a, "inter-domain permission missing";
    INTER_DOMAIN_RANGE = 0x2b, "outside the inter-domain window";
    UPDATE_WINDOW_HANDLE = 0x2c, "invalid IDPT handle in Update Window";
    UPDATE_WINDOW_FIELDS = 0x2d, "invalid window fields in Update Window";
    INTER_DOMAIN_ABORTED = 0x2e, "inter-domain operation aborted";
    PCI_CONFIGURATION_CHANGE = 0x51, "unsupported PCI configuration change while enabled";
    COMMAND_WHILE_ACTIVE = 0x52, "command written while one was active";
    QUEUE_OVERFLOW = 0x53, "descriptor dropped, the dedicated queue was full";
    EVENT_LOG_APPEND = 0x54, "event log entry could not be appended";
}

impl Status {
    /// Success, and nothing else: for fences and batches a false predicate is
    /// a failure too [§3.9 "Ordering and Fencing"].
    pub const fn is_success(self) -> bool {
        self.0 == Self::SUCCESS.0
    }

    /// A translation fault, so that bit 7 of the status byte and the fault
    /// address mean something [Table 8-10 "Completion Record Status field"].
    pub const fn is_page_fault(self) -> bool {
        matches!(
            self,
            Self::PAGE_FAULT
                | Self::PAGE_REQUEST_INVALID
                | Self::BATCH_PAGE_FAULT
                | Self::COMPLETION_ADDRESS_FAULT
                | Self::READBACK_PAGE_FAULT
        )
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#04x} ({})", self.0, self.meaning())
    }
}

/// Which address of the descriptor an access belonged to [Table 8-13
/// "Completion Record Fault Info", Operand Identifier].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand(pub u8);

impl Operand {
    /// Source, Source1, descriptor list, Readback Address 1, Translation Fetch,
    /// or the delta record that is applied.
    pub const SOURCE: Self = Self(1);
    /// Source2, CRC Seed Address, Readback Address 2.
    pub const SOURCE_2: Self = Self(2);
    /// Destination, Destination1, or the delta record that is created.
    pub const DESTINATION: Self = Self(3);
    /// Destination2.
    pub const DESTINATION_2: Self = Self(4);
    /// The completion record.
    pub const COMPLETION_RECORD: Self = Self(5);
}

/// The access that a page was not there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The first byte that could not be accessed.
    pub address: u64,
    /// The access was a write.
    pub write: bool,
    /// What was accessed.
    pub operand: Operand,
}

/// Everything that a completion record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Operation status.
    pub status: Status,
    /// Result, or DIF Status.
    pub result: u8,
    /// Bytes Completed; Descriptors Completed of a batch.
    pub bytes_completed: u32,
    /// The page fault, if `status` says that there was one.
    pub fault: Option<PageFault>,
    /// Bytes 16 to 31 of the record: operation specific, or Invalid Flags.
    pub tail: [u8; 16],
}

impl Outcome {
    /// The size of every completion record; its address is a multiple of this.
    pub const RECORD_BYTES: usize = 32;

    /// An outcome with this status and zeros everywhere else.
    pub const fn new(status: Status) -> Self {
        Self {
            status,
            result: 0,
            bytes_completed: 0,
            fault: None,
            tail: [0; 16],
        }
    }

    /// Whether a descriptor with `flags` has a completion record written for
    /// this outcome [§8.1.3 "Flags", Request Completion Record].
    pub const fn needs_record(&self, flags: Flags) -> bool {
        let succeeded = matches!(
            self.status,
            Status::SUCCESS | Status::FALSE_PREDICATE | Status::BATCH_MEMBER_FAILED
        );
        flags.contains(Flags::COMPLETION_ADDRESS_VALID)
            && (!succeeded || flags.contains(Flags::REQUEST_COMPLETION_RECORD))
    }

    /// The 32 bytes of the completion record [§8.2]. `fault_info` is GENCAP's
    /// Completion Record Fault Info Support; without it byte 2 stays 0.
    pub fn record(&self, fault_info: bool) -> [u8; Self::RECORD_BYTES] {
        let mut record = [0; Self::RECORD_BYTES];
        record[0] = self.status.0;
        record[1] = self.result;
        record[4..8].copy_from_slice(&self.bytes_completed.to_le_bytes());
        if let Some(fault) = self.fault {
            record[0] |= u8::from(fault.write) << 7;
            record[2] = if fault_info { fault.operand.0 << 1 } else { 0 };
            record[8..16].copy_from_slice(&fault.address.to_le_bytes());
        }
        record[16..].copy_from_slice(&self.tail);
        record
    }
}

#[cfg(test)]
mod tests {
    use super::{Operand, Outcome, PageFault, Status};
    use crate::descriptor::Flags;

    /// A write fault on the destination after 0x1234 bytes, worked out from
    /// Tables 8-10 and 8-13.
    #[test]
    fn record_of_a_write_fault() {
        let outcome = Outcome {
            result: 1,
            bytes_completed: 0x1234,
            fault: Some(PageFault {
                address: 0x7fff_1234_5678_9abc,
                write: true,
                operand: Operand::DESTINATION,
            }),
            ..Outcome::new(Status::PAGE_FAULT)
        };
        #[rustfmt::skip]
        let expected = [
            0x83, 0x01, 0x06, 0x00,  0x34, 0x12, 0x00, 0x00,
            0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12, 0xff, 0x7f,
            0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(outcome.record(true), expected);

        let first_generation = outcome.record(false);
        assert_eq!(first_generation[2], 0);
        assert_eq!(first_generation[3..], expected[3..]);
    }

    #[test]
    fn record_carries_the_operation_specific_bytes() {
        let outcome = Outcome {
            tail: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
            ..Outcome::new(Status::SUCCESS)
        };
        let record = outcome.record(true);
        assert_eq!(
            record[..16],
            [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(record[16..], outcome.tail);
    }

    #[test]
    fn record_is_written_when_asked_for_or_when_something_failed() {
        let valid = Flags::COMPLETION_ADDRESS_VALID;
        let asked = valid | Flags::REQUEST_COMPLETION_RECORD;
        for status in [
            Status::SUCCESS,
            Status::FALSE_PREDICATE,
            Status::BATCH_MEMBER_FAILED,
        ] {
            assert!(!Outcome::new(status).needs_record(valid));
            assert!(Outcome::new(status).needs_record(asked));
        }
        assert!(Outcome::new(Status::PAGE_FAULT).needs_record(valid));
        assert!(!Outcome::new(Status::PAGE_FAULT).needs_record(Flags::NONE));
    }
}
