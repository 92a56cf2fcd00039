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

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hint;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use dsa::ims::{Counts, Entry, ImsIndex, Message, SlotPasid, Store};
use dsa::{Command, InterruptHandle, Outcome, Plan, Poll, QueuePasid, SoftwareError, State};
use hwspec::dsa::{CommandError, IntCause, ResetType};
use hwspec::pci::Pasid;
use spin::Mutex;

use super::client::{
    Answer, Client, ClientSetup, Failure, MAX_LINES, QueueAction, Request, Set, Vector,
};
use super::routes::GuestTarget;

/// How many clients a device can have: there is a bit for each in one word.
pub const MAX_CLIENTS: usize = 64;
/// How many steps are made at once.
const MAX_STEPS: usize = 16;
/// How often somebody who leaves looks whether there is more.
const MAX_ROUNDS: usize = 4;
/// How many lines are closed at once.
const MAX_CLOSED: usize = 8;

/// Why a line was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    /// Somebody is using the IOMMU; later.
    Busy,
    /// No vector or no remapping entry is left.
    NoneLeft,
    /// The IOMMU failed.
    Failed,
}

/// What a service drives. Nothing here waits but what says so.
pub(super) trait Hardware {
    /// An IMS entry.
    type Entry: Entry;
    /// The way of an interrupt from the device to a target: a remapping entry, and
    /// a vector of a processor.
    type Line;

    /// As [`dsa::Device::start`], or with an interrupt at the end.
    fn start(&mut self, command: Command, with_interrupt: bool) -> Result<(), dsa::Error>;
    /// As [`dsa::Device::poll`].
    fn poll(&mut self) -> Result<Poll, dsa::Error>;
    /// Whether handles are asked for by command.
    fn has_handle_commands(&self) -> bool;
    /// As [`dsa::Device::take_causes`].
    fn take_causes(&mut self) -> Result<IntCause, dsa::Error>;
    /// As [`dsa::Device::take_software_error`].
    fn take_software_error(&mut self) -> Result<Option<SoftwareError>, dsa::Error>;
    /// As [`dsa::Device::state`].
    fn state(&self) -> Result<State, dsa::Error>;
    /// As [`dsa::Device::configure`]. Waits.
    fn configure(&mut self, plan: &Plan) -> Result<(), dsa::Error>;
    /// As [`dsa::Device::enable_queue`]. Waits.
    fn enable_queue(&mut self, queue: u8, pasid: QueuePasid) -> Result<(), dsa::Error>;
    /// As [`dsa::Device::restart`]. Waits.
    fn restart(&mut self) -> Result<(), dsa::Error>;
    /// As [`dsa::Device::resume`]. Waits.
    fn resume(&mut self) -> Result<(), dsa::Error>;
    /// As [`dsa::Device::request_handle`]. Waits.
    fn request_handle(&mut self, index: ImsIndex) -> Result<InterruptHandle, dsa::Error>;

    /// Opens a line to a processor.
    fn open_line(&mut self, cpu: usize, target: GuestTarget) -> Result<Self::Line, OpenError>;
    /// What the device sends to a line.
    fn message(line: &Self::Line) -> Message;
    /// The processor that a line leads to.
    fn line_cpu(line: &Self::Line) -> usize;
    /// Says what interrupts of a line are about; nothing: they are dropped.
    fn set_line_target(&mut self, line: &Self::Line, target: Option<GuestTarget>);
    /// Closes a line, when nothing sends to it any more. Waits. The line comes back
    /// if the IOMMU is in use or did not confirm.
    fn close_line(&mut self, line: Self::Line) -> Result<(), Self::Line>;
}

/// How it was left.
enum After {
    /// In the middle.
    More,
    /// There was nothing more.
    Idle,
    /// Something else has to happen first.
    Waits,
}

/// What became of a step of a job.
enum Step {
    /// There may be another.
    Next,
    /// Nothing more can be done now.
    Wait,
    /// It is done.
    Finished(Answer),
}

/// A request that is being carried out.
struct Job {
    client: usize,
    request: Request,
    /// Queues that are still to be dealt with.
    queues: Set,
    /// Vectors that are still to be released.
    vectors: Set,
    /// Whether a command is active.
    is_active: bool,
    /// The slot and line that a handle was asked for.
    opened: Option<u8>,
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
    /// It still has vectors; release them first.
    HasVectors,
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
            Self::HasVectors => f.write_str("a guest still has interrupt vectors"),
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

    /// Ends a client that has no vectors any more.
    pub(super) fn remove_client(&self, number: usize) -> Result<(), ClientError> {
        let mut inner = self.inner.lock();
        let Some(client) = inner.client(number) else {
            return Ok(());
        };
        if client.count_vectors() > 0 {
            return Err(ClientError::HasVectors);
        }
        inner.retired.extend(client.spare_lines().drain(..));
        if let Some(place) = inner.clients.get_mut(number) {
            *place = None;
        }
        Ok(())
    }

    /// Whether the device works.
    pub(super) fn health(&self) -> Health {
        self.inner.lock().health
    }

    /// How many slots there are.
    pub(super) fn slot_counts(&self) -> Counts {
        self.inner.lock().store.counts()
    }

    /// How many lines wait to be closed.
    pub(super) fn count_retired(&self) -> usize {
        self.inner.lock().retired.len()
    }

    /// The last error that the device reported in its register.
    pub(super) fn last_error(&self) -> Option<SoftwareError> {
        self.inner.lock().last_error
    }

    /// Does what has to wait: recovers a device that halted, and closes lines.
    pub(super) fn housekeep(&self) {
        self.run();
        let Some(mut inner) = self.inner.try_lock() else {
            return;
        };
        if inner.health == Health::Recovers {
            inner.recover(&self.counters);
        }
        inner.close_lines();
        drop(inner);
        self.run();
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
            let (queues, vectors) = match request {
                Request::Queues { queues, .. } => (queues, Set::EMPTY),
                Request::ReleaseVectors(vectors) => (Set::EMPTY, vectors),
                Request::Reset { queues, vectors } => (queues, vectors),
                _ => (Set::EMPTY, Set::EMPTY),
            };
            self.job = Some(Job {
                client: number,
                request,
                queues,
                vectors,
                is_active: false,
                opened: None,
            });
            return true;
        }
    }

    fn finish(&mut self, answer: Answer) {
        if let Some(job) = self.job.take()
            && let Some(client) = self.client(job.client)
        {
            client.give_answer(answer);
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

    /// Takes vectors from a client of a device that does not work: their slots are
    /// lost, and nothing comes through their lines any more.
    fn abandon_vectors(&mut self, client: &Client<H>, mut vectors: Set) {
        while let Some(number) = vectors.take_first() {
            let vector = client.vector(number).and_then(|cell| cell.lock().take());
            if let Some(vector) = vector {
                self.spare(client, vector.line);
            }
        }
    }

    /// Gives a client a line to `cpu`: one that it had before, or a new one.
    fn line(
        &mut self,
        client: &Client<H>,
        cpu: usize,
        target: GuestTarget,
    ) -> Result<H::Line, OpenError> {
        let mut spares = client.spare_lines();
        if let Some(at) = spares.iter().position(|line| H::line_cpu(line) == cpu) {
            let line = spares.swap_remove(at);
            self.hardware.set_line_target(&line, Some(target));
            return Ok(line);
        }
        if spares.len() + client.count_vectors() >= MAX_LINES {
            return Err(OpenError::NoneLeft);
        }
        self.hardware.open_line(cpu, target)
    }

    /// Puts a line aside for its client.
    fn spare(&mut self, client: &Client<H>, line: H::Line) {
        self.hardware.set_line_target(&line, None);
        client.spare_lines().push(line);
    }

    /// One step of the job.
    fn step(&mut self, counters: &Counters) -> Step {
        let Some(mut job) = self.job.take() else {
            return Step::Wait;
        };
        let Some(client) = self.client(job.client) else {
            return Step::Next;
        };
        let outcome = if job.is_active {
            match self.hardware.poll() {
                Ok(Poll::Active) => {
                    self.job = Some(job);
                    return Step::Wait;
                }
                Ok(Poll::Done(outcome)) => {
                    job.is_active = false;
                    Some(outcome)
                }
                // A halt may have ended it.
                Ok(Poll::Idle) => {
                    self.job = Some(job);
                    return Step::Finished(Answer::Failed(Failure::Stopped));
                }
                Err(error) => {
                    self.job = Some(job);
                    self.fail();
                    return Step::Finished(Answer::Failed(Failure::Device(error)));
                }
            }
        } else {
            None
        };
        if outcome.is_some_and(|outcome| outcome.error != CommandError::NONE) {
            counters.refused_commands.fetch_add(1, Ordering::Relaxed);
        }
        let step = self.go_on(&mut job, &client, outcome);
        self.job = Some(job);
        step
    }

    /// The next step of a job; `outcome` is that of the command that just ended.
    fn go_on(&mut self, job: &mut Job, client: &Client<H>, outcome: Option<Outcome>) -> Step {
        match job.request {
            Request::EnableQueue { queue, pasid } => {
                let is_own = client.owns_queues(Set::just(queue))
                    && !Set::just(queue).is_empty()
                    && client.owns_pasid(pasid.pasid);
                self.single(job, is_own, Command::EnableQueue { queue, pasid }, outcome)
            }
            Request::DrainPasid(pasid) => {
                let is_own = client.owns_pasid(pasid);
                self.single(job, is_own, Command::DrainPasid(pasid), outcome)
            }
            Request::AbortPasid(pasid) => {
                let is_own = client.owns_pasid(pasid);
                self.single(job, is_own, Command::AbortPasid(pasid), outcome)
            }
            Request::Queues { action, .. } => self.queues(job, client, action, outcome),
            Request::AllocateVector {
                vector,
                pasid,
                cpu,
                target,
            } => match outcome {
                Some(outcome) => self.finish_allocation(job, client, outcome),
                None if !client.owns_pasid(pasid) => {
                    Step::Finished(Answer::Failed(Failure::NotYours))
                }
                None => self.allocate(job, client, (vector, pasid, cpu, target)),
            },
            Request::MoveVector { vector, cpu } => self.move_vector(client, vector, cpu),
            Request::ReleaseVectors(_) => self.release(job, client, outcome),
            Request::Reset { .. } => {
                if job.queues.is_empty()
                    && !matches!(outcome, Some(outcome) if outcome.command.queue().is_some())
                {
                    return self.release(job, client, outcome);
                }
                match self.queues(job, client, QueueAction::Reset, outcome) {
                    Step::Finished(Answer::Done) => Step::Next,
                    step => step,
                }
            }
        }
    }

    /// Starts a command of the job's.
    fn start(&mut self, job: &mut Job, command: Command) -> Step {
        // These can take as long as descriptors do.
        let is_long = !matches!(
            command,
            Command::EnableQueue { .. } | Command::RequestHandle(_) | Command::ReleaseHandle(_)
        );
        match self.hardware.start(command, is_long) {
            Ok(()) => {
                job.is_active = true;
                Step::Next
            }
            Err(error) => {
                if is_fatal(error) {
                    self.fail();
                }
                Step::Finished(Answer::Failed(Failure::Device(error)))
            }
        }
    }

    /// A job that is one command.
    fn single(
        &mut self,
        job: &mut Job,
        is_own: bool,
        command: Command,
        outcome: Option<Outcome>,
    ) -> Step {
        match outcome {
            Some(outcome) => Step::Finished(result(outcome)),
            None if !is_own => Step::Finished(Answer::Failed(Failure::NotYours)),
            None => self.start(job, command),
        }
    }

    /// A job that is a command for each of some queues.
    fn queues(
        &mut self,
        job: &mut Job,
        client: &Client<H>,
        action: QueueAction,
        outcome: Option<Outcome>,
    ) -> Step {
        if let Some(outcome) = outcome
            && outcome.error != CommandError::NONE
        {
            return Step::Finished(result(outcome));
        }
        if !client.owns_queues(job.queues) {
            return Step::Finished(Answer::Failed(Failure::NotYours));
        }
        let Some(queue) = job.queues.take_first() else {
            return Step::Finished(Answer::Done);
        };
        let command = match action {
            QueueAction::Drain => Command::DrainQueue(queue),
            QueueAction::Abort => Command::AbortQueue(queue),
            QueueAction::Disable => Command::DisableQueue(queue),
            QueueAction::Reset => Command::ResetQueue(queue),
        };
        self.start(job, command)
    }

    fn allocate(
        &mut self,
        job: &mut Job,
        client: &Client<H>,
        (number, pasid, cpu, target): (u8, Pasid, usize, GuestTarget),
    ) -> Step {
        let Some(cell) = client.vector(number) else {
            return Step::Finished(Answer::Failed(Failure::NotYours));
        };
        if let Some(vector) = cell.lock().as_ref() {
            return Step::Finished(Answer::Handle(vector.handle));
        }
        if self.store.counts().free == 0 {
            return Step::Finished(Answer::NoHandle);
        }
        let line = match self.line(client, cpu, target) {
            Ok(line) => line,
            Err(OpenError::Busy) => return Step::Wait,
            Err(OpenError::NoneLeft) => return Step::Finished(Answer::NoHandle),
            Err(OpenError::Failed) => return Step::Finished(Answer::Failed(Failure::Iommu)),
        };
        let slot = match self.store.allocate(SlotPasid::Checked(pasid)) {
            Ok(slot) => slot,
            Err(error) => {
                self.spare(client, line);
                return match error {
                    dsa::Error::OutOfSlots { .. } => Step::Finished(Answer::NoHandle),
                    error => self.fail_slot(error),
                };
            }
        };
        let handle = InterruptHandle(slot.index().0);
        let index = slot.index();
        let mut vector = Vector {
            slot,
            line,
            handle,
            target,
        };
        if let Err(error) = vector.slot.set_message(H::message(&vector.line)) {
            self.spare(client, vector.line);
            return self.fail_slot(error);
        }
        *cell.lock() = Some(vector);
        if self.hardware.has_handle_commands() {
            job.opened = Some(number);
            return match self.start(job, Command::RequestHandle(index)) {
                Step::Finished(answer) => {
                    self.take_back(client, number);
                    Step::Finished(answer)
                }
                step => step,
            };
        }
        Step::Finished(Answer::Handle(handle))
    }

    /// The device was asked for a handle.
    fn finish_allocation(&mut self, job: &Job, client: &Client<H>, outcome: Outcome) -> Step {
        let Some(number) = job.opened else {
            return Step::Finished(Answer::Failed(Failure::Stopped));
        };
        if outcome.error != CommandError::NONE {
            self.take_back(client, number);
            return Step::Finished(match outcome.error {
                CommandError::NO_INTERRUPT_HANDLE => Answer::NoHandle,
                _ => result(outcome),
            });
        }
        let handle = InterruptHandle(outcome.result);
        if let Some(cell) = client.vector(number)
            && let Some(vector) = cell.lock().as_mut()
        {
            vector.handle = handle;
        }
        Step::Finished(Answer::Handle(handle))
    }

    /// Gives slot and line of a vector back. False if the device did not do what it
    /// was told.
    fn take_back(&mut self, client: &Client<H>, number: u8) -> bool {
        let taken = client.vector(number).and_then(|cell| cell.lock().take());
        let Some(Vector { slot, line, .. }) = taken else {
            return true;
        };
        let released = self.store.release(slot);
        self.spare(client, line);
        // A slot that cannot be written is masked as well as can be, and lost. Nothing
        // comes through its line.
        released.is_ok()
    }

    fn move_vector(&mut self, client: &Client<H>, number: u8, cpu: usize) -> Step {
        let none = Step::Finished(Answer::Failed(Failure::NotYours));
        let Some(cell) = client.vector(number) else {
            return none;
        };
        let Some(target) = cell.lock().as_ref().map(|vector| vector.target) else {
            return none;
        };
        let line = match self.line(client, cpu, target) {
            Ok(line) => line,
            Err(OpenError::Busy) => return Step::Wait,
            Err(OpenError::NoneLeft) => return Step::Finished(Answer::NoHandle),
            Err(OpenError::Failed) => return Step::Finished(Answer::Failed(Failure::Iommu)),
        };
        let mut cell = cell.lock();
        let Some(vector) = cell.as_mut() else {
            self.spare(client, line);
            return none;
        };
        if let Err(error) = vector.slot.set_message(H::message(&line)) {
            drop(cell);
            self.spare(client, line);
            return self.fail_slot(error);
        }
        let old = core::mem::replace(&mut vector.line, line);
        drop(cell);
        // What is still on its way there is the vector's, so the target stays.
        client.spare_lines().push(old);
        Step::Finished(Answer::Done)
    }

    /// A job that takes vectors away, one after the other.
    fn release(&mut self, job: &mut Job, client: &Client<H>, outcome: Option<Outcome>) -> Step {
        // The handle of this one was given back; whatever the device says to that, it
        // cannot be used without the slot.
        if outcome.is_some()
            && let Some(number) = job.opened.take()
            && !self.take_back(client, number)
        {
            self.fail();
            return Step::Finished(Answer::Done);
        }
        loop {
            let Some(number) = job.vectors.take_first() else {
                return Step::Finished(Answer::Done);
            };
            let Some(cell) = client.vector(number) else {
                return Step::Finished(Answer::Failed(Failure::NotYours));
            };
            let Some(handle) = cell.lock().as_ref().map(|vector| vector.handle) else {
                continue;
            };
            if self.hardware.has_handle_commands() {
                job.opened = Some(number);
                return self.start(job, Command::ReleaseHandle(handle));
            }
            if !self.take_back(client, number) {
                self.fail();
                self.abandon_vectors(client, job.vectors);
                return Step::Finished(Answer::Done);
            }
            return Step::Next;
        }
    }

    /// A slot did not keep what was written to it.
    fn fail_slot(&mut self, error: dsa::Error) -> Step {
        self.fail();
        Step::Finished(Answer::Failed(Failure::Device(error)))
    }

    /// The device does not do what it is told. All who use it are told.
    fn fail(&mut self) {
        if self.health == Health::Failed {
            return;
        }
        self.health = Health::Failed;
        for client in self.clients.iter().flatten() {
            client.tell_end(None);
        }
    }

    /// Looks why the device interrupted.
    fn attend(&mut self, counters: &Counters) {
        let Ok(causes) = self.hardware.take_causes() else {
            self.fail();
            return;
        };
        if causes.software_error() {
            match self.hardware.take_software_error() {
                Ok(Some(error)) => self.deliver(error, counters),
                Ok(None) => {}
                Err(_) => self.fail(),
            }
        }
        if causes.halt_state() {
            match self.hardware.state() {
                Ok(State::Halted(reset)) => self.halt(reset),
                Ok(_) => {}
                Err(_) => self.fail(),
            }
        }
        // Command completions are polled; the other causes are not enabled.
    }

    fn halt(&mut self, reset: ResetType) {
        if self.health != Health::Works {
            return;
        }
        if reset == ResetType::ResetDevice {
            self.health = Health::Recovers;
            return;
        }
        self.health = Health::Halted(reset);
        for client in self.clients.iter().flatten() {
            client.tell_end(Some(reset));
        }
    }

    /// Tells of an error whoever it is about: by queue, or where that is shared or not
    /// known, by PASID.
    fn deliver(&mut self, error: SoftwareError, counters: &Counters) {
        self.last_error = Some(error);
        counters.software_errors.fetch_add(1, Ordering::Relaxed);
        let clients = || self.clients.iter().flatten();
        let by_queue = error
            .queue
            .and_then(|queue| clients().find(|client| client.setup.queues.contains(queue)));
        let pasid = error.descriptor.map(|descriptor| descriptor.pasid);
        let owner = by_queue.or_else(|| {
            let pasid = pasid?;
            clients().find(|client| client.owns_pasid(pasid))
        });
        match owner {
            Some(client) => client.tell_error(error),
            None => {
                counters.unowned_errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        if error.overflow {
            counters.lost_errors.fetch_add(1, Ordering::Relaxed);
            for client in clients() {
                client.tell_errors_lost();
            }
        }
    }

    /// Resets a device that halted, and puts everything back: the slots before the
    /// queues, so that no descriptor meets a slot that is not there.
    fn recover(&mut self, counters: &Counters) {
        let restored = self.hardware.restart().and_then(|()| self.restore_slots());
        if restored.and_then(|()| self.hardware.resume()).is_err() {
            self.finish(Answer::Failed(Failure::Stopped));
            self.fail();
            return;
        }
        counters.recoveries.fetch_add(1, Ordering::Relaxed);
        self.health = Health::Works;
        // What was under way is lost, whatever it was.
        if let Some(job) = &self.job
            && let (Some(number), Some(client)) = (job.opened, self.client(job.client))
        {
            self.take_back(&client, number);
        }
        self.finish(Answer::Failed(Failure::Stopped));
        for client in self.clients.iter().flatten() {
            client.tell_reset();
        }
    }

    fn restore_slots(&mut self) -> Result<(), dsa::Error> {
        for client in self.clients.iter().flatten() {
            for cell in client.vectors() {
                let mut cell = cell.lock();
                let Some(vector) = cell.as_mut() else {
                    continue;
                };
                vector.slot.restore()?;
                if self.hardware.has_handle_commands() {
                    vector.handle = self.hardware.request_handle(vector.slot.index())?;
                }
            }
        }
        Ok(())
    }

    fn close_lines(&mut self) {
        for _ in 0..MAX_CLOSED {
            let Some(line) = self.retired.pop_front() else {
                return;
            };
            if let Err(line) = self.hardware.close_line(line) {
                self.retired.push_back(line);
                return;
            }
        }
    }
}

/// Whether an error says that the device does not work any more.
fn is_fatal(error: dsa::Error) -> bool {
    matches!(
        error,
        dsa::Error::DeviceGone { .. }
            | dsa::Error::Timeout { .. }
            | dsa::Error::CommandActive { .. }
    )
}

/// What a client is answered after a command.
fn result(outcome: Outcome) -> Answer {
    match outcome.error {
        CommandError::NONE => Answer::Done,
        error => Answer::Failed(Failure::Command(error)),
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
