//! One user of an accelerator: what it asks for, and what it is told.
//!
//! A client is a guest's virtual accelerator. It has a mailbox for one request
//! at a time, which the device's [`Service`](super::service::Service) empties,
//! whoever happens to run it. The two never meet in it: a state says whose turn
//! it is, and it changes hands with that word alone. The locks around what is
//! handed over are therefore always free, and it is a defect if one is not.
//!
//! A client's interrupt vectors are its own. Their locks are shared with the
//! service while it carries out a request of the same client about that vector,
//! and with the recovery of a device that halted, which writes a slot anew.

mod request;
mod set;

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use alloc::vec::Vec;

use dsa::ims::{Slot, SlotPasid};
use dsa::{InterruptHandle, SoftwareError};
use hwspec::dsa::ResetType;
use hwspec::pci::Pasid;
use spin::Mutex;

pub use request::{Answer, Event, Failure, QueueAction, Request, VectorError};
pub use set::Set;

use super::hardware::Hardware;
use super::routes::GuestTarget;

/// How many vectors a client can have: those of a guest's virtual accelerator,
/// and one of Weir's own for the batches of each of its queues.
pub const MAX_VECTORS: usize = 48;

/// How many host PASIDs a client can have: there is a bit for each in a [`Set`].
pub const MAX_PASIDS: usize = 64;

/// How many lines a client can have: one for each vector, and others that they had
/// before and that led to other processors.
pub(super) const MAX_LINES: usize = 2 * MAX_VECTORS;

/// What a client is made for.
#[derive(Clone, Debug)]
pub struct ClientSetup {
    /// The physical queues that are its alone.
    pub queues: Set,
    /// The physical queues that it shares.
    pub shared_queues: Set,
    /// Its host PASIDs, at most [`MAX_PASIDS`].
    pub pasids: Vec<Pasid>,
    /// Called with `token` when there is an answer or an event, on any processor,
    /// in any context: it may set a flag and wake a processor.
    pub notify: fn(u64),
    /// What `notify` is called with.
    pub token: u64,
}

/// Whose turn it is with the mailbox.
mod turn {
    /// The client's: nothing was asked.
    pub(super) const IDLE: u8 = 0;
    /// The service's: there is a request.
    pub(super) const POSTED: u8 = 1;
    /// The client's: there is an answer.
    pub(super) const ANSWERED: u8 = 2;
}

/// A vector that has a slot.
pub(super) struct Vector<H: Hardware> {
    pub(super) slot: Slot<H::Entry>,
    pub(super) line: H::Line,
    pub(super) handle: InterruptHandle,
    pub(super) target: GuestTarget,
    /// The PASIDs in whose name the slot could be used since it is the client's, by their
    /// places in the setup: the device may have descriptors of all of them that name it.
    pub(super) pasids: Set,
}

/// One client.
pub(super) struct Client<H: Hardware> {
    pub(super) setup: ClientSetup,
    turn: AtomicU8,
    request: Mutex<Option<Request>>,
    answer: Mutex<Option<Answer>>,
    /// Whether `error` holds one that was not taken.
    has_error: AtomicBool,
    error: Mutex<Option<SoftwareError>>,
    errors_lost: AtomicBool,
    was_reset: AtomicBool,
    /// 0, or what happened to the device for good.
    end: AtomicU8,
    end_was_told: AtomicBool,
    vectors: [Mutex<Option<Vector<H>>>; MAX_VECTORS],
    /// Lines that no vector uses at the moment. The service's alone; there is room
    /// for [`MAX_LINES`].
    spares: Mutex<Vec<H::Line>>,
}

/// Codes of `Client::end`: a reset type plus 1, or this.
const END_FAILED: u8 = 5;

impl<H: Hardware> Client<H> {
    pub(super) fn new(setup: ClientSetup) -> Self {
        assert!(
            setup.pasids.len() <= MAX_PASIDS,
            "a client has at most {MAX_PASIDS} PASIDs"
        );
        Self {
            setup,
            turn: AtomicU8::new(turn::IDLE),
            request: Mutex::new(None),
            answer: Mutex::new(None),
            has_error: AtomicBool::new(false),
            error: Mutex::new(None),
            errors_lost: AtomicBool::new(false),
            was_reset: AtomicBool::new(false),
            end: AtomicU8::new(0),
            end_was_told: AtomicBool::new(false),
            vectors: [const { Mutex::new(None) }; MAX_VECTORS],
            spares: Mutex::new(Vec::with_capacity(MAX_LINES)),
        }
    }

    // ---- The client's side ----

    /// Asks for something.
    pub(super) fn post(&self, request: Request) {
        let turn = self.turn.load(Ordering::Acquire);
        assert!(
            turn == turn::IDLE,
            "a client asks for one thing at a time, and takes the answer"
        );
        *hand_over(&self.request) = Some(request);
        self.turn.store(turn::POSTED, Ordering::Release);
    }

    /// Whether something was asked for and is not answered yet. The request itself is
    /// the service's meanwhile.
    pub(super) fn is_waiting(&self) -> bool {
        self.turn.load(Ordering::Acquire) == turn::POSTED
    }

    /// Whether nothing was asked for whose answer has not been taken.
    pub(super) fn is_idle(&self) -> bool {
        self.turn.load(Ordering::Acquire) == turn::IDLE
    }

    /// The answer, if it has come.
    pub(super) fn take_answer(&self) -> Option<Answer> {
        if self.turn.load(Ordering::Acquire) != turn::ANSWERED {
            return None;
        }
        let answer = hand_over(&self.answer).take();
        self.turn.store(turn::IDLE, Ordering::Release);
        answer
    }

    /// What there is to be told, one thing at a time.
    pub(super) fn take_event(&self) -> Option<Event> {
        // First what makes the rest pointless.
        let end = self.end.load(Ordering::Acquire);
        if end != 0 && !self.end_was_told.swap(true, Ordering::Relaxed) {
            return Some(match end {
                1 => Event::Halted(ResetType::ResetDevice),
                2 => Event::Halted(ResetType::FunctionLevel),
                3 => Event::Halted(ResetType::Warm),
                4 => Event::Halted(ResetType::Cold),
                _ => Event::Failed,
            });
        }
        if self.was_reset.load(Ordering::Relaxed) && self.was_reset.swap(false, Ordering::Acquire) {
            return Some(Event::WasReset);
        }
        if self.has_error.load(Ordering::Acquire) {
            let error = hand_over(&self.error).take();
            self.has_error.store(false, Ordering::Release);
            return error.map(Event::SoftwareError);
        }
        // After the error that was not lost, as the register has it.
        if self.errors_lost.load(Ordering::Relaxed)
            && self.errors_lost.swap(false, Ordering::Acquire)
        {
            return Some(Event::ErrorsLost);
        }
        None
    }

    /// Does something with the slot of a vector.
    pub(super) fn with_slot<T>(
        &self,
        vector: u8,
        f: impl FnOnce(&mut Slot<H::Entry>) -> Result<T, dsa::Error>,
    ) -> Result<T, VectorError> {
        let mut vectors = self
            .vector(vector)
            .ok_or(VectorError::NoSlot(vector))?
            .lock();
        let found = vectors.as_mut().ok_or(VectorError::NoSlot(vector))?;
        f(&mut found.slot).map_err(VectorError::Device)
    }

    /// Moves a vector to another PASID of the client's.
    pub(super) fn set_vector_pasid(&self, vector: u8, pasid: Pasid) -> Result<(), VectorError> {
        let place = self.place_of(pasid).ok_or(VectorError::NotYours(pasid))?;
        let cell = self.vector(vector).ok_or(VectorError::NoSlot(vector))?;
        let mut cell = cell.lock();
        let found = cell.as_mut().ok_or(VectorError::NoSlot(vector))?;
        found.pasids = found.pasids.union(Set::just(place));
        let moved = found.slot.set_pasid(SlotPasid::Checked(pasid));
        moved.map_err(VectorError::Device)
    }

    /// In whose name the slot of a vector may be used.
    pub(super) fn vector_pasid(&self, vector: u8) -> Option<SlotPasid> {
        let vector = self.vector(vector)?.lock();
        vector.as_ref().map(|vector| vector.slot.pasid())
    }

    /// The handle of a vector.
    pub(super) fn handle(&self, vector: u8) -> Option<InterruptHandle> {
        let vector = self.vector(vector)?.lock();
        vector.as_ref().map(|vector| vector.handle)
    }

    // ---- The service's side ----

    /// What was asked for. It stays posted until it is answered.
    pub(super) fn posted(&self) -> Option<Request> {
        if self.turn.load(Ordering::Acquire) != turn::POSTED {
            return None;
        }
        *hand_over(&self.request)
    }

    /// Answers.
    pub(super) fn give_answer(&self, answer: Answer) {
        assert!(
            self.turn.load(Ordering::Acquire) == turn::POSTED,
            "an answer is to a request"
        );
        *hand_over(&self.answer) = Some(answer);
        self.turn.store(turn::ANSWERED, Ordering::Release);
        self.notify();
    }

    /// Tells of an error. If the last one was not taken yet, this one is lost, as
    /// it is in the register.
    pub(super) fn tell_error(&self, error: SoftwareError) {
        if self.has_error.load(Ordering::Acquire) {
            self.errors_lost.store(true, Ordering::Release);
        } else {
            *hand_over(&self.error) = Some(error);
            self.has_error.store(true, Ordering::Release);
        }
        self.notify();
    }

    /// Tells that errors were lost.
    pub(super) fn tell_errors_lost(&self) {
        self.errors_lost.store(true, Ordering::Release);
        self.notify();
    }

    /// Tells that the device was reset.
    pub(super) fn tell_reset(&self) {
        self.was_reset.store(true, Ordering::Release);
        self.notify();
    }

    /// Tells that the device does not work any more: which reset it needs, or
    /// nothing if none is known to help.
    pub(super) fn tell_end(&self, reset: Option<ResetType>) {
        let code = match reset {
            Some(ResetType::ResetDevice) => 1,
            Some(ResetType::FunctionLevel) => 2,
            Some(ResetType::Warm) => 3,
            Some(ResetType::Cold) => 4,
            None => END_FAILED,
        };
        self.end.store(code, Ordering::Release);
        self.notify();
    }

    fn notify(&self) {
        (self.setup.notify)(self.setup.token);
    }

    /// The place of a PASID in the setup.
    pub(super) fn place_of(&self, pasid: Pasid) -> Option<u8> {
        let mut pasids = self.setup.pasids.iter();
        u8::try_from(pasids.position(|&own| own == pasid)?).ok()
    }

    pub(super) fn owns_pasid(&self, pasid: Pasid) -> bool {
        self.setup.pasids.contains(&pasid)
    }

    /// Whether `queues` are all its own.
    pub(super) fn owns_queues(&self, queues: Set) -> bool {
        queues.is_within(self.setup.queues)
    }

    /// Where a vector is kept; nothing if there can be no such one.
    pub(super) fn vector(&self, vector: u8) -> Option<&Mutex<Option<Vector<H>>>> {
        self.vectors.get(usize::from(vector))
    }

    /// Calls the slot of `vector` that of `aside`, which must have none. In whose name it
    /// may be used, and what it is about; nothing if that cannot be.
    pub(super) fn put_aside(&self, vector: u8, aside: u8) -> Option<(Pasid, GuestTarget)> {
        if vector == aside {
            return None;
        }
        let mut place = self.vector(aside)?.lock();
        let mut cell = self.vector(vector)?.lock();
        let found = cell.as_ref()?;
        let SlotPasid::Checked(pasid) = found.slot.pasid() else {
            return None;
        };
        if place.is_some() {
            return None;
        }
        let target = found.target;
        *place = cell.take();
        Some((pasid, target))
    }

    /// Undoes [`put_aside`](Self::put_aside).
    pub(super) fn take_from_aside(&self, vector: u8, aside: u8) {
        if let (Some(cell), Some(place)) = (self.vector(vector), self.vector(aside)) {
            let old = place.lock().take();
            let mut cell = cell.lock();
            if cell.is_none() {
                *cell = old;
            }
        }
    }

    /// All vectors.
    pub(super) fn vectors(&self) -> &[Mutex<Option<Vector<H>>>] {
        &self.vectors
    }

    /// How many vectors have a slot.
    pub(super) fn count_vectors(&self) -> usize {
        let vectors = self.vectors.iter();
        vectors.filter(|vector| vector.lock().is_some()).count()
    }

    /// Lines that no vector uses at the moment.
    pub(super) fn spare_lines(&self) -> spin::MutexGuard<'_, Vec<H::Line>> {
        hand_over(&self.spares)
    }
}

/// What only the one has whose turn it is.
fn hand_over<T>(cell: &Mutex<T>) -> spin::MutexGuard<'_, T> {
    let cell = cell.try_lock();
    cell.expect("nobody touches a mailbox when it is not his turn")
}

impl<H: Hardware> fmt::Debug for Client<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}
