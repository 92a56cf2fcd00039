//! What is asked of the physical device: one request at a time, and in which order.
//!
//! The active command has at most one request. A halt or a reset has to stop what is
//! physically running, whatever the command was doing; that goes first, as soon as
//! the request that is out has been answered.

use crate::{Answer, Host, PasidAction, QueueAction, QueueSet, Request};

/// What has to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cleanup {
    /// The queues.
    Queues,
    /// The queues, and the slots are to be freed.
    All,
}

/// Who waits for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    /// The active command.
    Command,
    /// The command that it was for is gone.
    Nobody,
    /// It is a cleanup.
    Cleanup,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is for the active command, and its request.
    Command(Request, Answer),
    /// These queues were stopped, and what was in them is given up.
    Stopped(QueueSet),
    /// Something that should be stopped may still run. The active command's request
    /// was not sent and is gone.
    CleanupFailed,
    /// Nobody waits for it.
    Nothing,
}

/// Requests, and what they left behind.
#[derive(Debug, Default)]
pub(crate) struct Physical {
    /// Sent and not answered yet.
    out: Option<(Request, Waiter)>,
    /// The request of the active command, if it is not sent yet.
    waiting: Option<Request>,
    cleanup: Option<Cleanup>,
    /// Queues that may be enabled.
    queues: QueueSet,
    /// Vectors that have a slot, a bit for each.
    slots: u16,
    /// Something is to be stopped and is not yet.
    is_stopping: bool,
}

impl Physical {
    /// Queues that may be enabled.
    pub(crate) const fn queues(&self) -> QueueSet {
        self.queues
    }

    /// Whether a halt or a reset gave up what is in the queues, but the physical device
    /// may still be at it.
    pub(crate) const fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Whether descriptors are being aborted. What is submitted meanwhile may be among
    /// them or not.
    pub(crate) const fn is_aborting(&self) -> bool {
        matches!(
            self.out,
            Some((
                Request::Queues {
                    action: QueueAction::Abort,
                    ..
                } | Request::Pasid {
                    action: PasidAction::Abort,
                    ..
                },
                _
            ))
        )
    }

    /// Whether a reset has anything to do.
    pub(crate) const fn is_idle(&self) -> bool {
        self.queues.is_empty() && self.slots == 0 && self.out.is_none() && self.cleanup.is_none()
    }

    /// Sends the request of the active command, once what goes before is done.
    pub(crate) fn start(&mut self, host: &mut impl Host, request: Request) {
        self.waiting = Some(request);
        self.pump(host);
    }

    /// Stops all queues. Returns whether the active command's request was not sent and
    /// is gone now.
    pub(crate) fn stop_queues(&mut self, host: &mut impl Host) -> bool {
        let was_waiting = self.waiting.take().is_some();
        self.cleanup = self.cleanup.max(Some(Cleanup::Queues));
        self.is_stopping = true;
        self.pump(host);
        was_waiting
    }

    /// Stops all queues and frees all slots; no command waits for anything any more.
    pub(crate) fn reset(&mut self, host: &mut impl Host) {
        self.waiting = None;
        if let Some((_, waiter @ Waiter::Command)) = &mut self.out {
            *waiter = Waiter::Nobody;
        }
        self.cleanup = Some(Cleanup::All);
        self.is_stopping = true;
        self.pump(host);
    }

    /// Takes the answer of the request that is out, and sends the next one. An answer
    /// to nothing is nothing.
    pub(crate) fn answer(&mut self, host: &mut impl Host, answer: Answer) -> Outcome {
        let Some((request, waiter)) = self.out.take() else {
            return Outcome::Nothing;
        };
        self.book(request, answer);
        let outcome = match waiter {
            Waiter::Command => Outcome::Command(request, answer),
            Waiter::Cleanup if answer != Answer::Done => Outcome::CleanupFailed,
            Waiter::Cleanup | Waiter::Nobody => {
                if waiter == Waiter::Cleanup {
                    self.is_stopping = self.cleanup.is_some();
                }
                Outcome::Stopped(stopped(request, answer))
            }
        };
        if outcome == Outcome::CleanupFailed {
            self.waiting = None;
        }
        self.pump(host);
        outcome
    }

    /// Keeps in mind what may be enabled or allocated after an answer.
    fn book(&mut self, request: Request, answer: Answer) {
        match (request, answer) {
            (Request::EnableQueue { queue, .. }, Answer::Failed | Answer::NoHandle) => {
                self.queues = self.queues.without(QueueSet::EMPTY.with(queue));
            }
            (Request::Reset { .. }, Answer::Done) => self.slots = 0,
            (Request::AllocateHandle { vector, .. }, Answer::Handle(_)) => {
                self.slots |= slot_bit(vector);
            }
            (Request::ReleaseHandle { vector }, Answer::Done) => {
                self.slots &= !slot_bit(vector);
            }
            _ => {}
        }
        self.queues = self.queues.without(stopped(request, answer));
    }

    fn pump(&mut self, host: &mut impl Host) {
        if self.out.is_some() {
            return;
        }
        let queues = self.queues;
        let cleanup = match self.cleanup.take() {
            Some(Cleanup::Queues) if !queues.is_empty() => Some(Request::Queues {
                queues,
                action: QueueAction::Reset,
            }),
            Some(Cleanup::All) if !queues.is_empty() || self.slots != 0 => {
                Some(Request::Reset { queues })
            }
            Some(_) => {
                self.is_stopping = false;
                None
            }
            None => None,
        };
        let next = match cleanup {
            Some(request) => Some((request, Waiter::Cleanup)),
            None => self
                .waiting
                .take()
                .map(|request| (request, Waiter::Command)),
        };
        if let Some((mut request, waiter)) = next {
            match &mut request {
                Request::EnableQueue { queue, .. } => self.queues = self.queues.with(*queue),
                // There may be others than when it was planned.
                Request::Reset { queues } => *queues = self.queues,
                _ => {}
            }
            self.out = Some((request, waiter));
            host.request(request);
        }
    }
}

/// The queues that are not enabled any more after an answer.
fn stopped(request: Request, answer: Answer) -> QueueSet {
    match (request, answer) {
        (
            Request::Reset { queues }
            | Request::Queues {
                queues,
                action: QueueAction::Disable | QueueAction::Reset,
            },
            Answer::Done,
        ) => queues,
        _ => QueueSet::EMPTY,
    }
}

fn slot_bit(vector: u16) -> u16 {
    1_u16.checked_shl(vector.into()).unwrap_or(0)
}
