//! The command service of an accelerator.
//!
//! A device carries out one administrative command at a time, and its clients
//! may not wait for each other. So a request goes into the client's mailbox, and
//! [`Service::run`] is called by whoever comes by: the processor that posted a
//! request, the one that took the device's interrupt, and the first processor at
//! each tick. Whoever finds it in use goes on; whoever was in it looks once more
//! when leaving. It starts and polls commands, and never waits for one; how much
//! it does at once is bounded.
//!
//! What has to wait for hardware (taking remapping entries back, recovering a
//! device) is left to [`Service::housekeep`], which is called outside of VM exits.
//! A line, once opened, therefore stays with its client when the vector is released
//! or moved, and is used again: a guest that asks for handles all day long uses up
//! nothing that others need, and makes nobody wait for an invalidation.

mod attention;
mod job;
mod view;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hint;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use dsa::ims::{Counts, Store};
use dsa::{Outcome, SoftwareError};
use hwspec::dsa::{CommandCode, CommandError, ResetType};
use spin::Mutex;

use super::client::{Answer, Client, ClientSetup, Failure, Request, Set};
use super::hardware::Hardware;
use job::{Job, Step};
pub use view::{SlotPlace, SlotUse, Status};

/// How many clients a device can have: there is a bit for each in one word.
pub const MAX_CLIENTS: usize = 64;
/// How many steps are made at once.
const MAX_STEPS: usize = 16;
/// How often somebody who leaves looks whether there is more.
const MAX_ROUNDS: usize = 4;
/// How many lines are closed at once.
const MAX_CLOSED: usize = 8;

/// How it was left.
enum After {
    /// In the middle.
    More,
    /// There was nothing more.
    Idle,
    /// Something else has to happen first.
    Waits,
}

/// Whether the device works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Works,
    /// It halted, and will be reset by the next housekeeping.
    Recovers,
    /// It halted and needs this reset.
    Halted(ResetType),
    /// It does not do what it is told, or is gone.
    Failed,
}

/// A client cannot be made or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// There are as many as there can be.
    TooMany,
    /// A queue is another client's.
    QueueTaken(Set),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "an accelerator has {MAX_CLIENTS} guests already"),
            Self::QueueTaken(queues) => write!(
                f,
                "work queues {:#x} (bitmap) belong to another guest; give this one others",
                queues.0
            ),
        }
    }
}

impl core::error::Error for ClientError {}

struct Inner<H: Hardware> {
    hardware: H,
    store: Store<H::Entry>,
    /// Always [`MAX_CLIENTS`] places.
    clients: Vec<Option<Arc<Client<H>>>>,
    job: Option<Job>,
    /// Who is asked first next time.
    next: usize,
    /// Lines of clients that ended, to which nothing sends any more.
    retired: VecDeque<H::Line>,
    health: Health,
    /// Why it failed, if it did and that is known.
    cause: Option<dsa::Error>,
    last_error: Option<SoftwareError>,
}

/// What can be counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Errors that the device reported in its register.
    pub software_errors: AtomicU32,
    /// Errors that were lost, as far as the device said so.
    pub lost_errors: AtomicU32,
    /// Errors that were nobody's.
    pub unowned_errors: AtomicU32,
    /// Recoveries from a halt.
    pub recoveries: AtomicU32,
    /// Commands that the device refused.
    pub refused_commands: AtomicU32,
    /// The last of them: its code in bits 15:8, and the error in bits 7:0.
    last_refused: AtomicU32,
}

impl Counters {
    fn note_refused(&self, outcome: Outcome) {
        let last = u32::from(outcome.command.code().0) << 8 | u32::from(outcome.error.0);
        self.last_refused.store(last, Ordering::Relaxed);
        self.refused_commands.fetch_add(1, Ordering::Relaxed);
    }

    /// The last command that the device refused, and the error that it ended with.
    pub fn last_refused(&self) -> (CommandCode, CommandError) {
        let [error, code, ..] = self.last_refused.load(Ordering::Relaxed).to_le_bytes();
        (CommandCode(code), CommandError(error))
    }
}

/// The service of one device.
pub(super) struct Service<H: Hardware> {
    /// A bit for each client that posted a request.
    pending: AtomicU64,
    /// The device interrupted.
    attention: AtomicBool,
    pub(super) counters: Counters,
    /// Taken by whoever runs the service, with `try_lock`; by life-cycle code, which
    /// may wait. Before it, nothing; after it: a vector of a client, an IOMMU.
    inner: Mutex<Inner<H>>,
}

impl<H: Hardware> Service<H> {
    /// A service for `hardware`, whose free IMS entries are in `store`.
    pub(super) fn new(hardware: H, store: Store<H::Entry>) -> Self {
        let inner = Inner {
            hardware,
            store,
            clients: (0..MAX_CLIENTS).map(|_| None).collect(),
            job: None,
            next: 0,
            retired: VecDeque::new(),
            health: Health::Works,
            cause: None,
            last_error: None,
        };
        Self {
            pending: AtomicU64::new(0),
            attention: AtomicBool::new(false),
            counters: Counters::default(),
            inner: Mutex::new(inner),
        }
    }

    // ---- Life cycle: may wait ----

    /// Does something with the hardware itself, before there are clients.
    pub(super) fn with_hardware<T>(&self, f: impl FnOnce(&mut H) -> T) -> T {
        f(&mut self.inner.lock().hardware)
    }

    /// Makes a client.
    pub(super) fn add_client(
        &self,
        setup: ClientSetup,
    ) -> Result<(usize, Arc<Client<H>>), ClientError> {
        let mut inner = self.inner.lock();
        let taken = inner.clients.iter().flatten().fold(0, |taken, client| {
            taken
                | setup.queues.0 & (client.setup.queues.0 | client.setup.shared_queues.0)
                | setup.shared_queues.0 & client.setup.queues.0
        });
        if taken != 0 {
            return Err(ClientError::QueueTaken(Set(taken)));
        }
        let health = inner.health;
        let mut places = inner.clients.iter_mut().enumerate();
        let (number, place) = places
            .find(|(_, place)| place.is_none())
            .ok_or(ClientError::TooMany)?;
        let client = Arc::new(Client::new(setup));
        match health {
            Health::Works | Health::Recovers => {}
            Health::Halted(reset) => client.tell_end(Some(reset)),
            Health::Failed => client.tell_end(None),
        }
        *place = Some(Arc::clone(&client));
        Ok((number, client))
    }

    /// Ends a client. Vectors that it still has are lost with their slots.
    pub(super) fn remove_client(&self, number: usize) {
        let mut inner = self.inner.lock();
        let Some(client) = inner.client(number) else {
            return;
        };
        // As well as can be.
        let _ = job::retire(&client, Set::ALL_VECTORS);
        inner.abandon_vectors(&client, Set::ALL_VECTORS);
        inner.retired.extend(client.spare_lines().drain(..));
        if let Some(place) = inner.clients.get_mut(number) {
            *place = None;
        }
    }

    /// Whether the device works.
    pub(super) fn health(&self) -> Health {
        self.inner.lock().health
    }

    /// Why the device failed, if it did and that is known.
    pub(super) fn cause(&self) -> Option<dsa::Error> {
        self.inner.lock().cause
    }

    /// How many slots there are.
    pub(super) fn slot_counts(&self) -> Counts {
        self.inner.lock().store.counts()
    }

    /// How many lines wait to be closed.
    pub(super) fn count_retired(&self) -> usize {
        self.inner.lock().retired.len()
    }

    /// Does what has to wait: recovers a device that halted, and closes lines. Returns
    /// whether the device works then, unless somebody else is at it.
    pub(super) fn housekeep(&self) -> Option<Health> {
        // Its interrupt may have been lost.
        self.note_interrupt();
        self.run();
        let mut inner = self.inner.try_lock()?;
        if inner.health == Health::Recovers {
            inner.recover(&self.counters);
        }
        inner.close_lines();
        let health = inner.health;
        drop(inner);
        self.run();
        Some(health)
    }

    // ---- On the way of a VM exit: waits for nothing ----

    /// Notes the device's interrupt.
    pub(super) fn note_interrupt(&self) {
        self.attention.store(true, Ordering::Release);
    }

    /// Notes that a client has posted a request, and begins with it if nobody else is
    /// at work here.
    pub(super) fn post(&self, number: usize) {
        self.pending.fetch_or(1 << number, Ordering::Release);
        self.run();
    }

    /// Looks at the hardware, if nobody else is at work here. Does what came up meanwhile,
    /// as [`run`](Self::run) does: in bounded steps, for whomever it is.
    pub(super) fn try_look<T>(&self, look: impl FnOnce(&H) -> T) -> Option<T> {
        let seen = self.inner.try_lock().map(|inner| look(&inner.hardware));
        if seen.is_some() {
            // What was noted meanwhile found the lock taken.
            fence(Ordering::SeqCst);
            let has_news = self.attention.load(Ordering::Relaxed);
            if has_news || self.pending.load(Ordering::Relaxed) != 0 {
                self.run();
            }
        }
        seen
    }

    /// Goes on with what there is to do.
    pub(super) fn run(&self) {
        for _ in 0..MAX_ROUNDS {
            // Either whoever is in there sees what was noted before this, or this
            // finds that he has left.
            fence(Ordering::SeqCst);
            let Some(mut inner) = self.inner.try_lock() else {
                return;
            };
            let after = inner.run(self);
            drop(inner);
            fence(Ordering::SeqCst);
            let is_new = match after {
                After::More => true,
                After::Idle => self.pending.load(Ordering::Relaxed) != 0,
                After::Waits => false,
            };
            if !is_new && !self.attention.load(Ordering::Relaxed) {
                return;
            }
            hint::spin_loop();
        }
    }
}

impl<H: Hardware> Inner<H> {
    /// Makes some steps.
    fn run(&mut self, service: &Service<H>) -> After {
        if service.attention.swap(false, Ordering::Acquire) {
            self.attend(&service.counters);
        }
        for _ in 0..MAX_STEPS {
            match self.health {
                Health::Works => {}
                // The mailboxes stay as they are until then.
                Health::Recovers => return After::Waits,
                Health::Halted(_) | Health::Failed => {
                    self.refuse_all(service);
                    return After::Idle;
                }
            }
            if self.job.is_none() && !self.begin(service) {
                return After::Idle;
            }
            match self.step(&service.counters) {
                Step::Next => {}
                Step::Wait => return After::Waits,
                Step::Finished(answer) => self.finish(answer),
            }
        }
        After::More
    }

    fn client(&self, number: usize) -> Option<Arc<Client<H>>> {
        self.clients.get(number)?.clone()
    }

    /// Takes up the next request. False if there is none.
    fn begin(&mut self, service: &Service<H>) -> bool {
        loop {
            let pending = service.pending.load(Ordering::Acquire);
            if pending == 0 {
                return false;
            }
            // The first from `next` on, in a circle.
            let shift = u32::try_from(self.next % MAX_CLIENTS).unwrap_or(0);
            let distance = pending.rotate_right(shift).trailing_zeros();
            let number = (self.next + usize::try_from(distance).unwrap_or(0)) % MAX_CLIENTS;
            service.pending.fetch_and(!(1 << number), Ordering::AcqRel);
            self.next = (number + 1) % MAX_CLIENTS;
            let Some(client) = self.client(number) else {
                continue;
            };
            let Some(request) = client.posted() else {
                continue;
            };
            self.job = Some(Job::new(number, request));
            return true;
        }
    }

    fn finish(&mut self, answer: Answer) {
        if let Some(job) = self.job.take()
            && let Some(client) = self.client(job.client)
        {
            if let Request::ReplaceVector { vector, aside, .. } = job.request {
                self.end_replacement(&client, (vector, aside), answer);
            }
            client.give_answer(answer);
        }
    }

    /// Without a new slot, a vector keeps the one that it had.
    fn end_replacement(&mut self, client: &Client<H>, (vector, aside): (u8, u8), answer: Answer) {
        let is_undone = !matches!(
            answer,
            Answer::Handle(_) | Answer::Failed(Failure::NotYours)
        );
        if is_undone {
            self.take_back(client, vector);
            client.take_from_aside(vector, aside);
        }
    }

    /// Answers everybody, for the device does not work any more.
    fn refuse_all(&mut self, service: &Service<H>) {
        let stopped = Answer::Failed(Failure::Stopped);
        self.finish(stopped);
        // Each client has one request, so this ends.
        while self.begin(service) {
            let Some(job) = self.job.take() else { return };
            let Some(client) = self.client(job.client) else {
                continue;
            };
            // What needs no device can still be done: to let go.
            if let Request::ReleaseVectors(vectors) | Request::Reset { vectors, .. } = job.request {
                self.abandon_vectors(&client, vectors);
                client.give_answer(Answer::Done);
            } else {
                client.give_answer(stopped);
            }
        }
    }

    /// Takes vectors from a client of a device that does not let go of them: their slots
    /// are lost, and nothing comes through their lines any more.
    fn abandon_vectors(&mut self, client: &Client<H>, mut vectors: Set) {
        while let Some(number) = vectors.take_first() {
            let vector = client.vector(number).and_then(|cell| cell.lock().take());
            if let Some(vector) = vector {
                self.spare(client, vector.line);
            }
        }
    }

    /// The device does not do what it is told. All who use it are told.
    fn fail(&mut self, cause: Option<dsa::Error>) {
        if self.health == Health::Failed {
            return;
        }
        self.health = Health::Failed;
        self.cause = cause;
        for client in self.clients.iter().flatten() {
            client.tell_end(None);
        }
    }

    fn close_lines(&mut self) {
        for _ in 0..MAX_CLOSED {
            let Some(line) = self.retired.pop_front() else {
                break;
            };
            if let Err(line) = self.hardware.close_line(line) {
                self.retired.push_back(line);
                return;
            }
        }
        if self.retired.is_empty() {
            // Without lines it holds no memory either.
            self.retired = VecDeque::new();
        }
    }
}

impl<H: Hardware> fmt::Debug for Service<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
