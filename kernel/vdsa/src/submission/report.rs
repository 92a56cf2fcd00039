//! How a refusal looks to the guest: as the device would have reported it.
//! [DSA 3.0, 5.4 "Descriptor Checks"; 8.1.3 "Flags"]

use hwspec::dsa::{CompletionRecord, CompletionWord0, Flags, Status, SwError0, SwError1};
use hwspec::pci::Pasid;

use super::check::{interrupt_handle, operation};
use super::fault::Fault;
use super::operations::{INTERRUPT, RECORD_VALID};
use super::{Notices, Rule};
use crate::{GuestAddr, Host, QueueIndex, SoftwareErrorRecord};

/// Where a descriptor came from, as SWERROR names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) queue: QueueIndex,
    /// As the guest knows it; 0 without PASIDs.
    pub(super) pasid: Pasid,
    pub(super) is_privileged: bool,
    pub(super) member: Option<u16>,
}

/// What SWERROR says about a descriptor.
pub(super) fn error_record(
    words: &[u64; 8],
    code: Status,
    origin: Origin,
    information: u32,
) -> SoftwareErrorRecord {
    let about_the_record = code == Status::RECORD_PAGE_FAULT || code == Status::RECORD_ALIGNMENT;
    SoftwareErrorRecord {
        word0: SwError0::new()
            .with_descriptor_valid(true)
            .with_wq_index_valid(true)
            .with_batch_member(origin.member.is_some())
            .with_write(code == Status::RECORD_PAGE_FAULT)
            .with_privileged(origin.is_privileged)
            .with_error_code(code)
            .with_wq_index(origin.queue.value())
            .with_operation(operation(words))
            .with_pasid(origin.pasid.into_bits()),
        word1: SwError1::new()
            .with_batch_index(origin.member.unwrap_or(0))
            .with_error_information(information),
        address: if about_the_record { words[1] } else { 0 },
    }
}

/// What SWERROR says about a dedicated queue that had no room.
pub(super) const fn overflow_record(queue: QueueIndex) -> SoftwareErrorRecord {
    SoftwareErrorRecord {
        word0: SwError0::new()
            .with_wq_index_valid(true)
            .with_error_code(Status::WQ_FULL)
            .with_wq_index(queue.value()),
        word1: SwError1::new(),
        address: 0,
    }
}

/// What became of a report.
pub(super) struct Reported {
    pub(super) notices: Notices,
    /// The completion record could be written, or there was none to write.
    pub(super) has_record_memory: bool,
}

impl From<Notices> for Reported {
    fn from(notices: Notices) -> Self {
        Self {
            notices,
            has_record_memory: true,
        }
    }
}

/// Reports a refused descriptor. `vector` is the one of its interrupt, if it asks for
/// one and may have it.
#[cold]
pub(super) fn report(
    host: &mut impl Host,
    words: &[u64; 8],
    fault: &Fault,
    origin: Origin,
    vector: Option<u16>,
) -> Reported {
    let code = fault.rule.status();
    let flags = Flags::from_bits(high_half(fault.invalid_flags));
    let information = match code {
        Status::INVALID_FLAGS => flags.into_bits(),
        Status::INTERRUPT_HANDLE => u32::from(interrupt_handle(words)),
        _ => 0,
    };
    let error = error_record(words, code, origin, information);
    let is_discarded = matches!(
        code,
        Status::RECORD_PAGE_FAULT | Status::RECORD_ALIGNMENT | Status::PRIVILEGE
    ) || fault.rule == Rule::UnknownPasid;
    if is_discarded {
        return Notices::error(error).into();
    }
    let mut notices = Notices {
        interrupt: vector
            .filter(|_| code != Status::INTERRUPT_HANDLE && fault.invalid_flags & INTERRUPT == 0),
        ..Notices::default()
    };
    if words[0] & RECORD_VALID == 0 {
        notices.error = Some(error);
        return notices.into();
    }
    let record = CompletionRecord {
        word0: CompletionWord0::new().with_status(code),
        word2: u64::from(flags.into_bits()),
        ..CompletionRecord::default()
    };
    if host
        .write_record(GuestAddr(words[1]), &record.words())
        .is_err()
    {
        let error = error_record(words, Status::RECORD_PAGE_FAULT, origin, 0);
        return Reported {
            notices: Notices::error(error),
            has_record_memory: false,
        };
    }
    // The device reports this one in both places.
    notices.error = (code == Status::INTERRUPT_HANDLE).then_some(error);
    notices.into()
}

const fn high_half(word: u64) -> u32 {
    let [.., a, b, c, d] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
