//! What the Software Error Register says.

use core::fmt;

use hwspec::dsa::{Operation, Status, SwError0, SwError1};
use hwspec::pci::Pasid;

/// An error that could not be reported in a completion record, or not only there.
/// [DSA 3.0, 9.2.15 "Software Error Register (SWERROR)"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftwareError {
    /// What went wrong.
    pub code: Status,
    /// At which work queue, if it was at one.
    pub queue: Option<u8>,
    /// With which descriptor, if it was about one.
    pub descriptor: Option<FailedDescriptor>,
    /// Whether a page fault was one of a write.
    pub is_write: bool,
    /// The address of a page fault.
    pub address: u64,
    /// More about it, from devices that say more: the invalid flags with code 0x11, the
    /// interrupt handle with 0x19.
    pub information: Option<u32>,
    /// Whether later errors were lost, which may have been of any queue.
    pub overflow: bool,
}

/// What is known of a descriptor that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedDescriptor {
    /// What it asked for.
    pub operation: Operation,
    /// In whose name.
    pub pasid: Pasid,
    /// Whether it ran with privilege.
    pub privileged: bool,
    /// Where in a batch it was, if it was in one.
    pub batch_index: Option<u16>,
}

impl SoftwareError {
    /// The error in the first three words of SWERROR; nothing if they hold none.
    pub fn from_registers(word0: SwError0, word1: SwError1, address: u64) -> Option<Self> {
        if !word0.valid() {
            return None;
        }
        let descriptor = word0.descriptor_valid().then(|| FailedDescriptor {
            operation: word0.operation(),
            pasid: Pasid::from_bits(word0.pasid()),
            privileged: word0.privileged(),
            batch_index: word0.batch_member().then(|| word1.batch_index()),
        });
        let information = word0
            .error_information_valid()
            .then(|| word1.error_information());
        Some(Self {
            code: word0.error_code(),
            queue: word0.wq_index_valid().then(|| word0.wq_index()),
            descriptor,
            is_write: word0.write(),
            address,
            information,
            overflow: word0.overflow(),
        })
    }
}

impl fmt::Display for SoftwareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(queue) = self.queue {
            write!(f, ", queue {queue}")?;
        }
        if let Some(descriptor) = self.descriptor {
            write!(f, ", {}, PASID {}", descriptor.operation, descriptor.pasid)?;
            if descriptor.privileged {
                f.write_str(", privileged")?;
            }
            if let Some(index) = descriptor.batch_index {
                write!(f, ", descriptor {index} of a batch")?;
            }
        }
        if self.address != 0 {
            let access = if self.is_write { "write" } else { "read" };
            write!(f, ", {access} at {:#x}", self.address)?;
        }
        if let Some(information) = self.information {
            write!(f, ", information {information:#x}")?;
        }
        if self.overflow {
            f.write_str("; later errors were lost")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    fn decode(word0: u64, word1: u64, address: u64) -> Option<SoftwareError> {
        SoftwareError::from_registers(
            SwError0::from_bits(word0),
            SwError1::from_bits(word1),
            address,
        )
    }

    /// Valid, descriptor and WQ index valid, in a batch, privileged, information valid:
    /// 1 + 4 + 8 + 0x10 + 0x40 + 0x80. Code 0x19 at 15:8, WQ 5 at 23:16, operation 3 at
    /// 39:32, PASID 0x12345 at 59:40. Batch index 7, handle 0x4001 at 63:32.
    #[test]
    fn every_field_is_where_the_specification_has_it() {
        let error = decode(0x0123_4503_0005_19dd, 0x0000_4001_0000_0007, 0).unwrap();
        let descriptor = FailedDescriptor {
            operation: Operation::MEMORY_MOVE,
            pasid: Pasid::new(0x1_2345).unwrap(),
            privileged: true,
            batch_index: Some(7),
        };
        let expected = SoftwareError {
            code: Status::INTERRUPT_HANDLE,
            queue: Some(5),
            descriptor: Some(descriptor),
            is_write: false,
            address: 0,
            information: Some(0x4001),
            overflow: false,
        };
        assert_eq!(error, expected);
        assert_eq!(
            error.to_string(),
            "invalid interrupt handle (0x19), queue 5, memory move (0x03), PASID 0x12345, \
             privileged, descriptor 7 of a batch, information 0x4001"
        );
    }

    /// Valid, overflow, WQ index valid, write: 1 + 2 + 8 + 0x20. Code 0x1a, WQ 1. The
    /// fields of a descriptor are not valid and say nothing, whatever is in them.
    #[test]
    fn what_is_not_valid_is_not_said() {
        let error = decode(0xffff_ff07_0001_1a2b, 0xffff_ffff_0000_0009, 0xdead_b000).unwrap();
        let expected = SoftwareError {
            code: Status::RECORD_PAGE_FAULT,
            queue: Some(1),
            descriptor: None,
            is_write: true,
            address: 0xdead_b000,
            information: None,
            overflow: true,
        };
        assert_eq!(error, expected);
        assert_eq!(
            error.to_string(),
            "page fault on the completion record (0x1a), queue 1, write at 0xdeadb000; later \
             errors were lost"
        );
    }

    #[test]
    fn a_member_of_no_batch_has_no_index_and_an_error_of_the_device_no_queue() {
        let error = decode(0x0000_0103_0000_1005, 0x0007, 0).unwrap();
        assert_eq!(error.descriptor.unwrap().batch_index, None);
        let halt = decode(0x5101, 0, 0).unwrap();
        assert_eq!((halt.queue, halt.descriptor), (None, None));
        assert_eq!(
            halt.to_string(),
            "PCI configuration changed while enabled (0x51)"
        );
    }

    #[test]
    fn an_empty_register_holds_no_error() {
        assert_eq!(decode(0xffff_ffff_ffff_fffe, !0, !0), None);
    }
}
