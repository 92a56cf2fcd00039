//! How a descriptor ends: completion record, error report, interrupt.

use super::batch::BatchId;
use super::{Ending, Submission};
use crate::bits::{bit, low8};
use crate::bus::{Bus, BusError};
use crate::completion::{Operand, Outcome, PageFault, Status};
use crate::descriptor::Flags;
use crate::device::Dsa;
use crate::error_report::{ErrorReport, EventDetails, EventLog, FaultyDescriptor};
use crate::interrupt::Table;
use crate::perfmon::Event;
use crate::registers::{GENCFG_EVENT_LOG, GENCTRL_EVENT_LOG, INTCAUSE_EVENT_LOG};
use crate::trace::Fate;

/// What became of the completion record of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordFate {
    /// It was written, or none was due.
    Delivered,
    /// Its page is not there, and it went to the event log.
    Logged,
    /// It could not be written, and nobody has it.
    Lost,
}

impl Dsa {
    /// Notes where a descriptor will write its record.
    pub(crate) fn claim_completion_record(&mut self, submission: &Submission) {
        if let Some(address) = self.scheduler.records.claim(submission) {
            self.bench.violations.record(format!(
                "wq{}: completion record {address:#x} overlaps with that of a descriptor in \
                 progress",
                submission.origin.queue
            ));
        }
    }

    /// Step 4 for what an engine held.
    pub(super) fn finish(&mut self, submission: Submission, ending: Ending, bus: &mut dyn Bus) {
        let Ending {
            outcome,
            interrupt,
            discarded,
        } = ending;
        let record = if discarded {
            let report = Self::error_report(&submission, &outcome, outcome.status);
            self.report(&report, &submission, None, None, bus);
            self.retire(&submission, &outcome, false, bus);
            RecordFate::Lost
        } else {
            self.complete(&submission, interrupt, outcome, bus)
        };
        if let Some((id, _)) = submission.origin.member_of {
            if let Some(batch) = self.scheduler.batches.get_mut(&id) {
                batch.running -= 1;
                batch.completed += 1;
                batch.failed |= !outcome.status.is_success() || record == RecordFate::Lost;
                batch.record_logged |= record == RecordFate::Logged;
            }
            self.finish_batch_if_done(id, bus);
        }
    }

    /// [§5.9] Without overflow support the device stops until software has
    /// made room in the event log.
    pub(super) fn waits_for_event_log(&self, entries: u16) -> bool {
        let overflow_support = bit(self.identity.gencap(), 32);
        self.event_log_enabled() && !overflow_support && self.event_log.room() < entries
    }

    pub(super) fn event_log_enabled(&self) -> bool {
        self.gencfg & GENCFG_EVENT_LOG != 0
    }

    /// Completion record, then error report, then interrupt.
    pub(super) fn complete(
        &mut self,
        submission: &Submission,
        interrupt: Option<u16>,
        outcome: Outcome,
        bus: &mut dyn Bus,
    ) -> RecordFate {
        let Submission { descriptor, origin } = submission;
        let flags = descriptor.flags();
        let record_valid = flags.contains(Flags::COMPLETION_ADDRESS_VALID);
        let status = outcome.status;

        let record = if outcome.needs_record(flags) {
            self.write_record(submission, &outcome, bus)
        } else {
            RecordFate::Delivered
        };

        let is_error = ![
            Status::SUCCESS,
            Status::FALSE_PREDICATE,
            Status::BATCH_MEMBER_FAILED,
        ]
        .contains(&status);
        let reported_besides = [Status::INVALID_INTERRUPT_HANDLE, Status::TRANSLATION_ERROR];
        if is_error && (!record_valid || reported_besides.contains(&status)) {
            let report = Self::error_report(submission, &outcome, status);
            let has_copy = record_valid && status == Status::INVALID_INTERRUPT_HANDLE;
            let copy = has_copy.then(|| outcome.record(bit(self.identity.gencap(), 12)));
            self.report(&report, submission, copy, None, bus);
        }

        // Where the record is in the event log, software delivers the interrupt;
        // a descriptor whose record is lost is discarded.
        let delivered = record == RecordFate::Delivered;
        let interrupted = interrupt.filter(|_| delivered).is_some_and(|index| {
            let permission = self.permission(origin.table, index);
            let deliver = permission.is_some_and(|permission| !permission.ignore);
            if deliver {
                self.raise(origin.table, index, bus);
            }
            deliver
        });
        self.retire(submission, &outcome, interrupted, bus);
        record
    }

    /// Writes a completion record, to the event log if its page is not there.
    fn write_record(
        &mut self,
        submission: &Submission,
        outcome: &Outcome,
        bus: &mut dyn Bus,
    ) -> RecordFate {
        let Submission { descriptor, origin } = submission;
        let record = outcome.record(bit(self.identity.gencap(), 12));
        let address = descriptor.completion_address();
        let written = self.memory(origin.requester, bus).write(address, &record);
        match written {
            // Posted writes: without ATS nobody tells the device [§3.13.1].
            Err(error) if error.cause == BusError::PageFault && self.has_ats(origin.queue) => {
                let fault = PageFault {
                    address,
                    write: true,
                    operand: Operand::COMPLETION_RECORD,
                };
                let failure = Outcome {
                    fault: Some(fault),
                    ..Outcome::new(Status::COMPLETION_ADDRESS_FAULT)
                };
                let code = Status::COMPLETION_ADDRESS_FAULT;
                let report = Self::error_report(submission, &failure, code);
                self.report(&report, submission, Some(record), None, bus);
                if self.event_log_enabled() {
                    RecordFate::Logged
                } else {
                    RecordFate::Lost
                }
            }
            _ => RecordFate::Delivered,
        }
    }

    fn error_report(submission: &Submission, outcome: &Outcome, code: Status) -> ErrorReport {
        let Submission { descriptor, origin } = submission;
        let info = match code {
            Status::INVALID_FLAGS => {
                let [a, b, c, ..] = outcome.tail;
                Some(u32::from_le_bytes([a, b, c, 0]))
            }
            Status::INVALID_INTERRUPT_HANDLE => Some(u32::from(descriptor.interrupt_handle())),
            _ => {
                let operand = outcome.fault.map(|fault| u32::from(fault.operand.0) << 29);
                let delivers = descriptor
                    .flags()
                    .contains(Flags::REQUEST_COMPLETION_INTERRUPT)
                    && [
                        Status::COMPLETION_ADDRESS_FAULT,
                        Status::DRAIN_EVENT_LOG,
                        Status::BATCH_EVENT_LOG,
                    ]
                    .contains(&code);
                let handle = if delivers {
                    u32::from(descriptor.interrupt_handle())
                } else {
                    0
                };
                operand
                    .or(delivers.then_some(0))
                    .map(|operand| operand | handle)
            }
        };
        let about_the_record = [
            Status::MISALIGNED_COMPLETION_ADDRESS,
            Status::COMPLETION_ADDRESS_FAULT,
            Status::DRAIN_EVENT_LOG,
            Status::BATCH_EVENT_LOG,
        ];
        let address = if about_the_record.contains(&code) {
            descriptor.completion_address()
        } else {
            outcome.fault.map_or(0, |fault| fault.address)
        };
        ErrorReport {
            code,
            queue: Some(low8(origin.queue as u64)),
            descriptor: Some(FaultyDescriptor {
                operation: descriptor.opcode().0,
                pasid: origin.requester.pasid,
                privileged: origin.requester.privileged,
                batch_index: origin.member_of.map(|(_, position)| position),
            }),
            write: outcome.fault.is_some_and(|fault| fault.write),
            address,
            info,
        }
    }

    /// Sends an error of a descriptor to the event log if that is enabled, and
    /// else to SWERROR.
    fn report(
        &mut self,
        report: &ErrorReport,
        submission: &Submission,
        record: Option<[u8; 32]>,
        batch: Option<BatchId>,
        bus: &mut dyn Bus,
    ) {
        if !self.event_log_enabled() {
            self.report_to_register(report, bus);
            return;
        }
        let flags = submission.descriptor.flags();
        let batch = batch.or(submission.origin.member_of.map(|(id, _)| id));
        let in_progress = batch.and_then(|id| self.scheduler.batches.get_mut(&id));
        let first = in_progress.is_some_and(|batch| !std::mem::replace(&mut batch.has_event, true));
        let details = EventDetails {
            completion_interrupt_requested: flags.contains(Flags::REQUEST_COMPLETION_INTERRUPT),
            submitted_by_ims_portal: submission.origin.table == Table::Ims,
            completion_record_requested: flags.contains(Flags::REQUEST_COMPLETION_RECORD)
                || report.code == Status::COMPLETION_ADDRESS_FAULT,
            first_error_in_batch: first,
            batch_identifier: low8(batch.unwrap_or(0) & 0xff),
        };
        self.append_event(&EventLog::entry(report, details, record), bus);
    }

    fn append_event(&mut self, entry: &[u8; 64], bus: &mut dyn Bus) {
        let slot = self.event_log.next_slot();
        let written = slot.is_some_and(|slot| {
            self.memory(slot.requester, bus)
                .write(slot.address, entry)
                .is_ok()
        });
        if !written {
            let report = ErrorReport::of_device(Status::EVENT_LOG_APPEND, None);
            self.report_to_register(&report, bus);
            return;
        }
        let first = self
            .event_log
            .advance(self.genctrl & GENCTRL_EVENT_LOG != 0);
        if first {
            self.raise_cause(INTCAUSE_EVENT_LOG, bus);
        }
    }

    /// A batch or drain whose completion the event log carries [§5.9].
    pub(super) fn log_completion(
        &mut self,
        submission: &Submission,
        outcome: &Outcome,
        code: Status,
        batch: Option<BatchId>,
        bus: &mut dyn Bus,
    ) {
        let report = Self::error_report(submission, outcome, code);
        let record = outcome.record(bit(self.identity.gencap(), 12));
        self.report(&report, submission, Some(record), batch, bus);
    }

    /// The end of a descriptor, for the books.
    pub(super) fn retire(
        &mut self,
        submission: &Submission,
        outcome: &Outcome,
        interrupted: bool,
        bus: &mut dyn Bus,
    ) {
        self.scheduler.records.release(submission);
        if let Some(queue) = self.queues.get_mut(submission.origin.queue) {
            if submission.origin.member_of.is_some() {
                queue.counters.members_completed += 1;
            } else {
                queue.counters.completed += 1;
            }
        }
        self.count_event(Event::of_completion(outcome.status), bus);
        self.bench.trace(
            submission,
            Fate::Completed {
                outcome,
                interrupted,
            },
        );
    }
}
