//! Drain descriptors: what they wait for and what they read back.

use super::Submission;
use crate::bus::Bus;
use crate::completion::{Operand, Outcome, PageFault, Status};
use crate::descriptor::Flags;
use crate::device::Dsa;

/// A Drain descriptor that waits for what came before it.
#[derive(Debug)]
pub(super) struct PendingDrain {
    pub(super) submission: Submission,
    pub(super) interrupt: Option<u16>,
}

impl Dsa {
    /// Completes the drains that have nothing left to wait for [§3.12].
    pub(super) fn finish_drains(&mut self, bus: &mut dyn Bus) {
        while let Some(ready) = self.ready_drain() {
            if self.waits_for_event_log(1) {
                return;
            }
            let PendingDrain {
                submission,
                interrupt,
            } = self.scheduler.drains.remove(ready);
            let outcome = self.read_back(&submission, bus);
            if outcome.status == Status::SUCCESS && self.logs_drains_of(submission.origin.queue) {
                let code = Status::DRAIN_EVENT_LOG;
                self.log_completion(&submission, &outcome, code, None, bus);
                self.retire(&submission, &outcome, false, bus);
            } else {
                self.complete(&submission, interrupt, outcome, bus);
            }
        }
    }

    /// [§5.9] Without page requests, records before a drain may be in the event
    /// log, and so its own completion goes there behind them.
    fn logs_drains_of(&self, queue: usize) -> bool {
        let queue = self.queues.get(queue);
        let page_requests =
            self.config.enables().prs && !queue.is_some_and(|queue| queue.disables_prs());
        self.event_log_enabled() && !page_requests
    }

    fn ready_drain(&self) -> Option<usize> {
        self.scheduler.drains.iter().position(|drain| {
            let origin = drain.submission.origin;
            let dedicated = self
                .queues
                .get(origin.queue)
                .is_some_and(|queue| queue.is_dedicated());
            let mut before = self
                .scheduler
                .origins()
                .chain(self.scheduler.waiting_drains());
            !before.any(|other| {
                other.queue == origin.queue
                    && other.sequence < origin.sequence
                    && (dedicated || other.requester.pasid == origin.requester.pasid)
            })
        })
    }

    /// The readbacks that a Drain descriptor asks for [§8.3.3].
    fn read_back(&mut self, submission: &Submission, bus: &mut dyn Bus) -> Outcome {
        let Submission { descriptor, origin } = submission;
        let addresses = [
            (
                Flags::READBACK_ADDRESS_1_VALID,
                descriptor.source(),
                Operand::SOURCE,
            ),
            (
                Flags::READBACK_ADDRESS_2_VALID,
                descriptor.destination(),
                Operand::SOURCE_2,
            ),
        ];
        for (flag, address, operand) in addresses {
            if !descriptor.flags().contains(flag) {
                continue;
            }
            if let Err(error) = self.memory(origin.requester, bus).read(address, &mut [0]) {
                let fault = PageFault {
                    address,
                    write: false,
                    operand,
                };
                let status = Status::READBACK_PAGE_FAULT;
                let mut outcome = self.read_failure(origin.queue, status, error, fault);
                if outcome.status == Status::HARDWARE_ERROR {
                    outcome.status = Status::WRITE_HARDWARE_ERROR;
                }
                return outcome;
            }
        }
        Outcome::new(Status::SUCCESS)
    }
}
