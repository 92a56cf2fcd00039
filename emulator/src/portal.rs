//! The portals in BAR2: which submissions a queue takes.
//!
//! [341204 Rev 3.0 §3.3 "Work Submission", §5.3 "Descriptor Submission Checks"].

use crate::bits::bit;
use crate::bus::Bus;
use crate::completion::Status;
use crate::descriptor::Descriptor;
use crate::device::Dsa;
use crate::engine::{Origin, Submission};
use crate::error_report::ErrorReport;
use crate::interrupt::Table;
use crate::perfmon::Event;
use crate::registers::{DeviceState, PORTAL_STRIDE};
use crate::trace::Fate;
use crate::work_queue::QueueState;

/// How 64 bytes arrived at a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// A posted write, as MOVDIR64B makes it.
    Posted,
    /// A deferrable memory write, as ENQCMD and ENQCMDS make it.
    Deferrable,
}

/// What a deferrable write is answered. A posted write hears nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The descriptor is in the queue (or the write was posted).
    Success,
    /// Try again later, or never: there is no room or no such queue.
    Retry,
}

/// Which of a queue's four portal pages, by address bits 13:12.
#[derive(Clone, Copy, Debug)]
struct Page {
    table: Table,
    limited: bool,
}

impl Page {
    fn of_offset(offset: u64) -> Self {
        let table = if bit(offset, 13) {
            Table::Ims
        } else {
            Table::Msix
        };
        Self {
            table,
            limited: bit(offset, 12),
        }
    }
}

impl Dsa {
    /// A 64-byte write at `offset` of a BAR. Bits 11:6 of the address select
    /// nothing; bits 5:0 must be 0.
    pub fn portal_write(
        &mut self,
        bar: u32,
        offset: u64,
        data: &[u8; 64],
        transaction: Transaction,
        bus: &mut dyn Bus,
    ) -> Answer {
        let queue = usize::try_from(offset / PORTAL_STRIDE).unwrap_or(usize::MAX);
        if self.bench.is_gone()
            || bar != 2
            || !offset.is_multiple_of(64)
            || queue >= self.queues.len()
        {
            return refuse(transaction);
        }
        let descriptor = Descriptor::from_bytes(*data);
        let page = Page::of_offset(offset);
        let fate = self.admit(queue, page, transaction);

        let origin = Origin {
            queue,
            table: page.table,
            requester: match self.queues.get(queue) {
                Some(queue) => queue.requester(descriptor.pasid(), descriptor.is_privileged()),
                None => return refuse(transaction),
            },
            member_of: None,
            sequence: self.scheduler.take_sequence(),
        };
        let submission = Submission { descriptor, origin };
        self.count(queue, page, transaction, fate, bus);
        match fate {
            Admission::Accepted => {
                self.claim_completion_record(&submission);
                if let Some(queue) = self.queues.get_mut(queue) {
                    queue.entries.push_back(submission);
                }
                let now = bus.now_ns();
                self.settle(now, bus);
                Answer::Success
            }
            Admission::Full if transaction == Transaction::Posted => {
                self.bench.trace(&submission, Fate::Dropped);
                let code = Status::QUEUE_OVERFLOW;
                let report = ErrorReport::of_device(code, u8::try_from(queue).ok());
                self.report_to_register(&report, bus);
                Answer::Success
            }
            Admission::Full | Admission::Ignored => {
                let posted = transaction == Transaction::Posted;
                self.bench.trace(
                    &submission,
                    if posted { Fate::Dropped } else { Fate::Retried },
                );
                refuse(transaction)
            }
        }
    }

    /// [§5.3] in its order: the queue's state, the kind of write, the room.
    fn admit(&self, queue: usize, page: Page, transaction: Transaction) -> Admission {
        let Some(queue) = self.queues.get(queue) else {
            return Admission::Ignored;
        };
        let enabled = self.state == DeviceState::Enabled && queue.state == QueueState::Enabled;
        let expected = if queue.is_dedicated() {
            Transaction::Posted
        } else {
            Transaction::Deferrable
        };
        let no_ims = page.table == Table::Ims && self.identity.ims_slots == 0;
        if !enabled || transaction != expected || no_ims {
            return Admission::Ignored;
        }
        let limited = page.limited && !queue.is_dedicated();
        let room = if limited {
            queue.threshold()
        } else {
            queue.size()
        };
        if queue.held_full || queue.entries.len() >= room {
            return Admission::Full;
        }
        Admission::Accepted
    }

    fn count(
        &mut self,
        index: usize,
        page: Page,
        transaction: Transaction,
        admission: Admission,
        bus: &mut dyn Bus,
    ) {
        let Some(queue) = self.queues.get_mut(index) else {
            return;
        };
        let dedicated = queue.is_dedicated();
        let counters = &mut queue.counters;
        counters.submitted += 1;
        match (admission, transaction) {
            (Admission::Accepted, _) => counters.accepted += 1,
            (_, Transaction::Posted) => counters.dropped += 1,
            (_, Transaction::Deferrable) => counters.retried += 1,
        }
        let event = match admission {
            Admission::Accepted if dedicated => Event::DEDICATED_ACCEPTED,
            Admission::Accepted => Event::shared_accepted(page.limited),
            Admission::Full if dedicated => Event::DEDICATED_FULL,
            Admission::Full => Event::shared_retried(page.limited),
            Admission::Ignored => return,
        };
        self.count_event(event, bus);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Accepted,
    /// The right write for the queue, but there is no room.
    Full,
    /// Not enabled, or the wrong kind of write.
    Ignored,
}

fn refuse(transaction: Transaction) -> Answer {
    match transaction {
        Transaction::Posted => Answer::Success,
        Transaction::Deferrable => Answer::Retry,
    }
}
