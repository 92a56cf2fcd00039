//! Carrying out a request, step by step.

use dsa::ims::SlotPasid;
use dsa::{Command, InterruptHandle, Outcome, Poll};
use hwspec::dsa::CommandError;
use hwspec::pci::Pasid;

use super::super::client::{Answer, Client, Failure, MAX_LINES, QueueAction, Request, Set, Vector};
use super::super::hardware::{Hardware, OpenError};
use super::super::routes::GuestTarget;
use super::{Counters, Inner};

/// What became of a step of a job.
pub(super) enum Step {
    /// There may be another.
    Next,
    /// Nothing more can be done now.
    Wait,
    /// It is done.
    Finished(Answer),
}

/// A request that is being carried out.
pub(super) struct Job {
    pub(super) client: usize,
    pub(super) request: Request,
    /// Queues that are still to be dealt with.
    queues: Set,
    /// PASIDs that are still to be drained, by their places in the client's setup.
    pasids: Set,
    /// Vectors that are still to be released.
    pub(super) vectors: Set,
    /// Their handles are refused.
    has_retired: bool,
    /// Whether a command is active.
    is_active: bool,
    /// The slot and line that a handle was asked for.
    pub(super) opened: Option<u8>,
}

impl Job {
    pub(super) fn new(client: usize, request: Request) -> Self {
        let (queues, pasids, vectors) = match request {
            Request::Queues { queues, pasids, .. } => (queues, pasids, Set::EMPTY),
            Request::ReleaseVectors(vectors) => (Set::EMPTY, Set::EMPTY, vectors),
            Request::Reset {
                queues,
                pasids,
                vectors,
            } => (queues, pasids, vectors),
            _ => (Set::EMPTY, Set::EMPTY, Set::EMPTY),
        };
        Self {
            client,
            request,
            queues,
            pasids,
            vectors,
            has_retired: false,
            is_active: false,
            opened: None,
        }
    }
}

impl<H: Hardware> Inner<H> {
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
    pub(super) fn spare(&mut self, client: &Client<H>, line: H::Line) {
        self.hardware.set_line_target(&line, None);
        client.spare_lines().push(line);
    }

    /// One step of the job.
    pub(super) fn step(&mut self, counters: &Counters) -> Step {
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
                    self.fail(Some(error));
                    return Step::Finished(Answer::Failed(Failure::Device(error)));
                }
            }
        } else {
            None
        };
        if let Some(outcome) = outcome.filter(|outcome| outcome.error != CommandError::NONE) {
            counters.note_refused(outcome);
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
            Request::Queues { action, .. } => self.stop(job, client, action, outcome),
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
            Request::ReplaceVector { vector, cpu, aside } => {
                let step = match outcome {
                    Some(outcome) => self.finish_allocation(job, client, outcome),
                    None => match client.put_aside(vector, aside) {
                        Some((pasid, target)) => {
                            self.allocate(job, client, (vector, pasid, cpu, target))
                        }
                        None => return Step::Finished(Answer::Failed(Failure::NotYours)),
                    },
                };
                if matches!(step, Step::Wait) {
                    client.take_from_aside(vector, aside);
                }
                step
            }
            Request::ReleaseVectors(_) | Request::Reset { .. } => {
                self.stop(job, client, QueueAction::Reset, outcome)
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
                    self.fail(Some(error));
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

    /// A job that is a command for each of some queues, drains some PASIDs and takes
    /// vectors away, in this order.
    fn stop(
        &mut self,
        job: &mut Job,
        client: &Client<H>,
        action: QueueAction,
        outcome: Option<Outcome>,
    ) -> Step {
        match outcome {
            None if !client.owns_queues(job.queues) => {
                return Step::Finished(Answer::Failed(Failure::NotYours));
            }
            // That of a handle which was given back does not matter.
            Some(outcome) if job.opened.is_none() && outcome.error != CommandError::NONE => {
                return Step::Finished(result(outcome));
            }
            _ => {}
        }
        if !job.has_retired {
            job.has_retired = true;
            match retire(client, job.vectors) {
                Ok(pasids) => job.pasids = job.pasids.union(pasids),
                Err(error) => {
                    self.fail(Some(error));
                    self.abandon_vectors(client, job.vectors);
                    return Step::Finished(Answer::Done);
                }
            }
        }
        if let Some(queue) = job.queues.take_first() {
            let command = match action {
                QueueAction::Drain => Command::DrainQueue(queue),
                QueueAction::Abort => Command::AbortQueue(queue),
                QueueAction::Disable => Command::DisableQueue(queue),
                QueueAction::Reset => Command::ResetQueue(queue),
            };
            return self.start(job, command);
        }
        if let Some(place) = job.pasids.take_first() {
            return match client.setup.pasids.get(usize::from(place)) {
                Some(&pasid) => self.start(job, Command::DrainPasid(pasid)),
                None => Step::Finished(Answer::Failed(Failure::NotYours)),
            };
        }
        self.release(job, client)
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
            pasids: client.place_of(pasid).map_or(Set::EMPTY, Set::just),
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
    pub(super) fn take_back(&mut self, client: &Client<H>, number: u8) -> bool {
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

    /// Takes the vectors of a job away, one after the other.
    fn release(&mut self, job: &mut Job, client: &Client<H>) -> Step {
        // The handle of this one was given back; whatever the device says to that, it
        // cannot be used without the slot.
        if let Some(number) = job.opened.take()
            && !self.take_back(client, number)
        {
            self.fail(None);
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
                self.fail(None);
                self.abandon_vectors(client, job.vectors);
                return Step::Finished(Answer::Done);
            }
            return Step::Next;
        }
    }

    /// A slot did not keep what was written to it.
    fn fail_slot(&mut self, error: dsa::Error) -> Step {
        self.fail(Some(error));
        Step::Finished(Answer::Failed(Failure::Device(error)))
    }
}

/// Lets the device refuse the handles of vectors. Returns the PASIDs in whose name they
/// could be used, by their places in the client's setup.
pub(super) fn retire<H: Hardware>(client: &Client<H>, mut vectors: Set) -> Result<Set, dsa::Error> {
    let mut pasids = Set::EMPTY;
    while let Some(number) = vectors.take_first() {
        let Some(cell) = client.vector(number) else {
            continue;
        };
        let mut cell = cell.lock();
        let Some(vector) = cell.as_mut() else {
            continue;
        };
        vector.slot.retire()?;
        pasids = pasids.union(vector.pasids);
    }
    Ok(pasids)
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
