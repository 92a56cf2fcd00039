//! Batches: their members, their fences and their end.

use super::{DISPATCH_NS, FETCH_NS, Job, Origin, Phase, Submission};
use crate::bits::low16;
use crate::bus::Bus;
use crate::completion::{Outcome, Status};
use crate::descriptor::{Descriptor, Flags};
use crate::device::Dsa;
use crate::trace::Fate;

/// Tells batches in progress apart.
pub(super) type BatchId = u64;

/// A batch whose members are being processed.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) submission: Submission,
    pub(super) interrupt: Option<u16>,
    /// The next member to fetch.
    pub(super) next: u32,
    /// A member is being fetched. One at a time: whoever comes behind a fence
    /// must not overtake it.
    pub(super) fetching: bool,
    /// A fenced member that waits for those before it.
    pub(super) held: Option<Submission>,
    pub(super) running: u32,
    pub(super) completed: u32,
    pub(super) failed: bool,
    /// A member's completion record went to the event log.
    pub(super) record_logged: bool,
    /// A member has an entry in the event log.
    pub(super) has_event: bool,
    /// No more members are to be started: how the batch ends.
    pub(super) stopped: Option<Outcome>,
}

impl Batch {
    /// Whether a member can be given to an engine now.
    pub(super) fn can_start_member(&self) -> bool {
        if self.stopped.is_some() || self.fetching {
            return false;
        }
        match self.held {
            Some(_) => self.running == 0,
            None => self.next < self.submission.descriptor.descriptor_count(),
        }
    }

    fn is_done(&self) -> bool {
        let all = self.next >= self.submission.descriptor.descriptor_count() && self.held.is_none();
        self.running == 0 && (self.stopped.is_some() || all)
    }
}

impl Dsa {
    pub(super) fn begin_batch(&mut self, submission: Submission, interrupt: Option<u16>) {
        let id = self.scheduler.next_batch;
        self.scheduler.next_batch += 1;
        let batch = Batch {
            submission,
            interrupt,
            next: 0,
            fetching: false,
            held: None,
            running: 0,
            completed: 0,
            failed: false,
            record_logged: false,
            has_event: false,
            stopped: None,
        };
        self.scheduler.batches.insert(id, batch);
    }

    /// The next member, for an engine to work on.
    pub(super) fn start_member(&mut self, id: BatchId, now: u64) -> Option<Job> {
        let batch = self.scheduler.batches.get_mut(&id)?;
        batch.running += 1;
        if let Some(submission) = batch.held.take() {
            let due_ns = now + DISPATCH_NS;
            return Some(Job {
                submission,
                phase: Phase::Start,
                interrupt: None,
                due_ns,
            });
        }
        let list = batch.submission.descriptor.descriptor_list_address();
        let position = batch.next;
        batch.next += 1;
        batch.fetching = true;
        let member_of = Some((id, low16(u64::from(position))));
        let origin = Origin {
            member_of,
            ..batch.submission.origin
        };
        // A list that would wrap around faults when it is read.
        let address = list.saturating_add(u64::from(position) * 64);
        let descriptor = Descriptor::from_bytes([0; 64]);
        Some(Job {
            submission: Submission { descriptor, origin },
            phase: Phase::Fetch { address },
            interrupt: None,
            due_ns: now + FETCH_NS,
        })
    }

    /// A fenced member behind one that failed is not executed, and neither is
    /// what follows it [§3.9].
    pub(super) fn give_up_member(&mut self, submission: &Submission) {
        self.scheduler.records.release(submission);
        self.bench.trace(submission, Fate::Abandoned);
    }

    /// Ends a batch early, without the member that is being given up.
    pub(super) fn stop_batch(
        &mut self,
        member: Option<(BatchId, u16)>,
        outcome: Outcome,
        bus: &mut dyn Bus,
    ) {
        let Some((id, _)) = member else { return };
        if let Some(batch) = self.scheduler.batches.get_mut(&id) {
            batch.running -= 1;
            batch.fetching = false;
            batch.stopped.get_or_insert(outcome);
        }
        self.finish_batch_if_done(id, bus);
    }

    pub(super) fn finish_batch_if_done(&mut self, id: BatchId, bus: &mut dyn Bus) {
        if let Some(batch) = self.scheduler.batches.get_mut(&id)
            && batch.running == 0
            && batch.failed
            && let Some(fenced) = batch.held.take()
        {
            let outcome = Outcome::new(Status::BATCH_MEMBER_FAILED);
            batch.stopped.get_or_insert(outcome);
            self.give_up_member(&fenced);
        }
        if !self.scheduler.batches.get(&id).is_some_and(Batch::is_done) {
            return;
        }
        let Some(batch) = self.scheduler.batches.remove(&id) else {
            return;
        };
        let status = if batch.failed {
            Status::BATCH_MEMBER_FAILED
        } else {
            Status::SUCCESS
        };
        let mut outcome = batch.stopped.unwrap_or(Outcome::new(status));
        outcome.bytes_completed = batch.completed;
        if batch.record_logged {
            let flags = batch.submission.descriptor.flags();
            if outcome.needs_record(flags) || flags.contains(Flags::REQUEST_COMPLETION_INTERRUPT) {
                let code = Status::BATCH_EVENT_LOG;
                self.log_completion(&batch.submission, &outcome, code, Some(id), bus);
            }
            self.retire(&batch.submission, &outcome, false, bus);
            return;
        }
        self.complete(&batch.submission, batch.interrupt, outcome, bus);
    }
}
