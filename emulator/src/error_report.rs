//! Where errors go that have no completion record to go to: the software error
//! register, or the event log in memory.
//!
//! [341204 Rev 3.0 §5.4 "Error Reporting", §9.2 "Software Error Register",
//! "Event Log Configuration Register", "Event Log Status Register"].

use crate::bits::{bit, field, low16, low32};
use crate::bus::{Pasid, Requester};
use crate::completion::Status;
use crate::interrupt::RegisterWrite;

/// What is known of the descriptor that an error is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultyDescriptor {
    pub(crate) operation: u8,
    pub(crate) pasid: Option<Pasid>,
    pub(crate) privileged: bool,
    /// Position in its batch.
    pub(crate) batch_index: Option<u16>,
}

/// One error, before it is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorReport {
    pub(crate) code: Status,
    pub(crate) queue: Option<u8>,
    pub(crate) descriptor: Option<FaultyDescriptor>,
    /// For address errors: the access was a write.
    pub(crate) write: bool,
    /// The faulting address, or the completion record's.
    pub(crate) address: u64,
    /// Invalid flags (code 0x11) or the interrupt handle (code 0x19).
    pub(crate) info: Option<u32>,
}

impl ErrorReport {
    /// An error that no descriptor caused.
    pub(crate) fn of_device(code: Status, queue: Option<u8>) -> Self {
        Self {
            code,
            queue,
            descriptor: None,
            write: false,
            address: 0,
            info: None,
        }
    }

    /// The four quadwords of SWERROR, and the front of an event log entry.
    fn words(&self, info_valid_exists: bool) -> [u64; 4] {
        let flag = |value: bool, index: u32| u64::from(value) << index;
        let mut first = flag(true, 0)
            | flag(self.descriptor.is_some(), 2)
            | flag(self.queue.is_some(), 3)
            | flag(self.write, 5)
            | flag(self.info.is_some() && info_valid_exists, 7)
            | u64::from(self.code.0) << 8
            | u64::from(self.queue.unwrap_or(0)) << 16;
        let mut second = u64::from(self.info.unwrap_or(0)) << 32;
        if let Some(descriptor) = self.descriptor {
            first |= flag(descriptor.batch_index.is_some(), 4)
                | flag(descriptor.privileged, 6)
                | u64::from(descriptor.operation) << 32
                | u64::from(descriptor.pasid.map_or(0, Pasid::get)) << 40;
            second |= u64::from(descriptor.batch_index.unwrap_or(0));
        }
        [first, second, self.address, 0]
    }
}

/// SWERROR: holds the first error until software clears it.
#[derive(Debug, Default)]
pub(crate) struct SoftwareError {
    words: [u64; 4],
}

/// SWERROR bit 0.
const VALID: u64 = 1 << 0;
/// SWERROR bit 1.
const OVERFLOW: u64 = 1 << 1;

impl SoftwareError {
    /// A 32-bit word of the register.
    pub(crate) fn read(&self, index: usize) -> u32 {
        let quad = self.words.get(index / 2).copied().unwrap_or(0);
        low32(if index.is_multiple_of(2) {
            quad
        } else {
            quad >> 32
        })
    }

    /// Valid and Overflow are cleared by writing ones; the rest is read only.
    pub(crate) fn write(&mut self, index: usize, write: RegisterWrite) {
        if index == 0 {
            self.words[0] &= !(u64::from(write.ones()) & (VALID | OVERFLOW));
        }
    }

    /// Records an error. Returns whether it was the first one; a later one is
    /// lost and leaves Overflow behind.
    pub(crate) fn record(&mut self, report: &ErrorReport, version: u32) -> bool {
        if self.words[0] & VALID != 0 {
            self.words[0] |= OVERFLOW;
            return false;
        }
        self.words = report.words(version >= 0x200);
        true
    }
}

/// What an event log entry says beyond the error itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventDetails {
    pub(crate) completion_interrupt_requested: bool,
    pub(crate) submitted_by_ims_portal: bool,
    pub(crate) completion_record_requested: bool,
    pub(crate) first_error_in_batch: bool,
    /// Which batch, to tell several in progress apart.
    pub(crate) batch_identifier: u8,
}

/// The event log registers. The entries themselves are in memory.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    configuration: [u64; 2],
    status: u64,
}

/// EVLSTATUS bit 62, Interrupt Pending.
const INTERRUPT_PENDING: u64 = 1 << 62;
/// EVLCFG 63:12, 1:0 of the first quadword, 35:0 of the second.
const CONFIGURATION_BITS: [u64; 2] = [!0xffc, 0xf_ffff_ffff];
/// Bytes of one entry.
const ENTRY_BYTES: u64 = 64;

/// Where the next event goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventSlot {
    pub(crate) requester: Requester,
    pub(crate) address: u64,
}

impl EventLog {
    /// A 32-bit word of EVLCFG.
    pub(crate) fn read_configuration(&self, index: usize) -> u32 {
        let quad = self.configuration.get(index / 2).copied().unwrap_or(0);
        low32(if index.is_multiple_of(2) {
            quad
        } else {
            quad >> 32
        })
    }

    pub(crate) fn write_configuration(&mut self, index: usize, write: RegisterWrite) {
        let old = self.read_configuration(index);
        let shift = if index.is_multiple_of(2) { 0 } else { 32 };
        if let (Some(quad), Some(bits)) = (
            self.configuration.get_mut(index / 2),
            CONFIGURATION_BITS.get(index / 2),
        ) {
            let new = u64::from(write.onto(old, low32(*bits >> shift)));
            *quad = *quad & !(u64::from(u32::MAX) << shift) | new << shift;
        }
    }

    /// A 32-bit word of EVLSTATUS.
    pub(crate) fn read_status(&self, index: usize) -> u32 {
        low32(if index == 0 {
            self.status
        } else {
            self.status >> 32
        })
    }

    /// Head is software's, Interrupt Pending is cleared by writing one.
    pub(crate) fn write_status(&mut self, index: usize, write: RegisterWrite) {
        if index == 0 {
            let head = write.onto(low32(self.status), 0xffff);
            self.status = self.status & !0xffff | u64::from(head);
        } else {
            self.status &= !((u64::from(write.ones()) << 32) & INTERRUPT_PENDING);
        }
    }

    /// Reset Device clears EVLCFG and keeps EVLSTATUS.
    pub(crate) fn reset_configuration(&mut self) {
        self.configuration = [0; 2];
    }

    /// Whether the log has a legal place and size [§5.1].
    pub(crate) fn is_well_placed(&self) -> bool {
        let bytes = u64::from(self.size()) * ENTRY_BYTES;
        let base = self.configuration[0] & !0xfff;
        // The log may end at 2^64 exactly.
        self.size() >= 64 && base.checked_add(bytes - 1).is_some()
    }

    /// Enable Device starts with an empty log.
    pub(crate) fn clear_status(&mut self) {
        self.status = 0;
    }

    /// Entries that the log has room for.
    pub(crate) fn size(&self) -> u16 {
        low16(field(self.configuration[1], 15, 0))
    }

    pub(crate) fn requester(&self) -> Requester {
        let pasid = Pasid::from_low_bits(low32(field(self.configuration[1], 35, 16)));
        Requester {
            pasid: bit(self.configuration[0], 0).then_some(pasid),
            privileged: bit(self.configuration[0], 1),
        }
    }

    fn head(&self) -> u16 {
        low16(self.status)
    }

    fn tail(&self) -> u16 {
        low16(field(self.status, 47, 32))
    }

    /// Where the next entry goes; `None` while the log is full.
    pub(crate) fn next_slot(&self) -> Option<EventSlot> {
        let next = self.next_tail()?;
        if next == self.head() {
            return None;
        }
        let base = self.configuration[0] & !0xfff;
        let address = base.checked_add(u64::from(self.tail()) * ENTRY_BYTES)?;
        Some(EventSlot {
            requester: self.requester(),
            address,
        })
    }

    /// How many entries can be appended before the log is full.
    pub(crate) fn room(&self) -> u16 {
        let (size, head, tail) = (self.size(), self.head(), self.tail());
        if tail < head {
            head - tail - 1
        } else {
            size.saturating_sub(tail - head + 1)
        }
    }

    /// Moves the tail behind an entry that was written. Returns whether an
    /// interrupt is due: where they are enabled, and none is pending.
    pub(crate) fn advance(&mut self, interrupts_enabled: bool) -> bool {
        let Some(next) = self.next_tail() else {
            return false;
        };
        self.status = self.status & !(0xffff << 32) | u64::from(next) << 32;
        let due = interrupts_enabled && self.status & INTERRUPT_PENDING == 0;
        if due {
            self.status |= INTERRUPT_PENDING;
        }
        due
    }

    fn next_tail(&self) -> Option<u16> {
        let size = self.size();
        (size != 0 && self.tail() < size).then(|| (self.tail() + 1) % size)
    }

    /// The 64 bytes of an entry; `record` is the completion record that could
    /// not be written.
    pub(crate) fn entry(
        report: &ErrorReport,
        details: EventDetails,
        record: Option<[u8; 32]>,
    ) -> [u8; 64] {
        let mut words = report.words(true);
        words[0] |= u64::from(details.batch_identifier) << 24;
        // For these codes the error information says what the descriptor had
        // asked for, so that software can deliver it.
        let with_details = [
            Status::INVALID_INTERRUPT_HANDLE,
            Status::COMPLETION_ADDRESS_FAULT,
            Status::DRAIN_EVENT_LOG,
            Status::BATCH_EVENT_LOG,
        ];
        if with_details.contains(&report.code) {
            words[1] |= u64::from(details.completion_interrupt_requested) << 48
                | u64::from(details.submitted_by_ims_portal) << 49
                | u64::from(details.completion_record_requested) << 50
                | u64::from(details.first_error_in_batch) << 51;
        }
        let mut entry = [0; 64];
        for (bytes, word) in entry.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        if let (Some(record), Some(place)) = (record, entry.get_mut(32..)) {
            place.copy_from_slice(&record);
        }
        entry
    }
}
