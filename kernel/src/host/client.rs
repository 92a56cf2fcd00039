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

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use alloc::vec::Vec;

use dsa::ims::{Slot, SlotPasid};
use dsa::{InterruptHandle, QueuePasid, SoftwareError};
use hwspec::dsa::ResetType;
use hwspec::pci::Pasid;
use spin::Mutex;

use super::hardware::Hardware;
use super::routes::GuestTarget;

/// How many vectors a client can have: those of a guest's virtual accelerator,
/// and one of Weir's own for the batches of each of its queues.
pub const MAX_VECTORS: usize = 48;

/// How many lines a client can have: one for each vector, and others that they had
/// before and that led to other processors.
pub(super) const MAX_LINES: usize = 2 * MAX_VECTORS;

/// Some of a client's vectors, or of a device's queues: a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// All vectors that a client can have.
    pub const ALL_VECTORS: Self = Self((1 << MAX_VECTORS) - 1);

    /// Just `number`; none if it is 64 or more.
    pub const fn just(number: u8) -> Self {
        if number < 64 {
            Self(1 << number)
        } else {
            Self::EMPTY
        }
    }

    /// Whether `number` is in it.
    pub const fn contains(self, number: u8) -> bool {
        number < 64 && self.0 >> number & 1 == 1
    }

    /// Whether all of these are in `other`.
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest number, if there is one, taken out.
    pub(super) fn take_first(&mut self) -> Option<u8> {
        let first = u8::try_from(self.0.trailing_zeros()).ok()?;
        if self.is_empty() {
            return None;
        }
        self.0 &= self.0 - 1;
        Some(first)
    }
}

impl FromIterator<u8> for Set {
    fn from_iter<I: IntoIterator<Item = u8>>(numbers: I) -> Self {
        let bits = numbers.into_iter().map(|number| Self::just(number).0);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

/// What happens to queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueAction {
    /// Wait until what they have is done. They must be enabled.
    Drain,
    /// End or abandon what they have. They must be enabled.
    Abort,
    /// Drain and disable. They must be enabled.
    Disable,
    /// Abandon what they have, and disable.
    Reset,
}

/// Something that takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Enable a queue of the client's own, with one of its PASIDs.
    EnableQueue {
        /// The physical queue.
        queue: u8,
        /// With what PASID.
        pasid: QueuePasid,
    },
    /// Do something with queues of the client's own, one after the other.
    Queues {
        /// The physical queues.
        queues: Set,
        /// What.
        action: QueueAction,
    },
    /// Wait until the descriptors of a PASID of the client's are done.
    DrainPasid(Pasid),
    /// End or abandon the descriptors of a PASID of the client's.
    AbortPasid(Pasid),
    /// Give a vector an IMS slot, a remapping entry and a route: masked, not ignored.
    /// If it has them already, nothing happens, and the answer is the same again.
    AllocateVector {
        /// Which vector, below [`MAX_VECTORS`].
        vector: u8,
        /// In whose name it may be used.
        pasid: Pasid,
        /// The processor to interrupt.
        cpu: usize,
        /// What that is about.
        target: GuestTarget,
    },
    /// Let a vector that has a slot interrupt another processor. The handle stays.
    MoveVector {
        /// Which vector.
        vector: u8,
        /// The processor.
        cpu: usize,
    },
    /// Give a vector that has a slot another one, with the same PASID, processor and
    /// target, masked and not ignored. The old one keeps working, as the vector `aside`,
    /// which must have no slot.
    ReplaceVector {
        /// Which vector.
        vector: u8,
        /// The processor to interrupt.
        cpu: usize,
        /// What the old slot is called from now on, until it is released.
        aside: u8,
    },
    /// Take the slots of vectors away; those without one are left out. What names
    /// their handles has been drained.
    ReleaseVectors(Set),
    /// [`QueueAction::Reset`] for queues, then [`Request::ReleaseVectors`].
    Reset {
        /// The physical queues.
        queues: Set,
        /// The vectors.
        vectors: Set,
    },
}

/// What became of a [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The vector's handle, by which descriptors name it.
    Handle(InterruptHandle),
    /// No slot, no handle, no remapping entry or no vector of the processor is
    /// left.
    NoHandle,
    /// It could not be done, for this reason.
    Failed(Failure),
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was about a queue, a PASID or a vector that is not the client's.
    NotYours,
    /// The device refused the command, or did not keep what was written.
    Device(dsa::Error),
    /// The device refused the command with this code.
    Command(hwspec::dsa::CommandError),
    /// The device stopped, and what was asked is lost.
    Stopped,
    /// The IOMMU failed.
    Iommu,
}

/// What a client is told without having asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An error of one of its queues, for its virtual SWERROR.
    SoftwareError(SoftwareError),
    /// Errors were lost which may have been its own.
    ErrorsLost,
    /// The device halted and was reset. Descriptors that it had are gone; queues
    /// are enabled as they were, and slots are as they were.
    WasReset,
    /// The device halted, needs this reset, and does not work until then.
    Halted(ResetType),
    /// The device does not do what it is told, or is gone.
    Failed,
}

/// Why something about a vector was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorError {
    /// It has no slot.
    NoSlot(u8),
    /// The PASID is not the client's.
    NotYours(Pasid),
    /// The device.
    Device(dsa::Error),
}

impl fmt::Display for VectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlot(vector) => write!(f, "vector {vector} has no IMS slot; request it first"),
            Self::NotYours(pasid) => write!(f, "host PASID {pasid} is not the guest's"),
            Self::Device(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for VectorError {}

/// What a client is made for.
#[derive(Clone, Debug)]
pub struct ClientSetup {
    /// The physical queues that are its alone.
    pub queues: Set,
    /// The physical queues that it shares.
    pub shared_queues: Set,
    /// Its host PASIDs.
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
        if !self.owns_pasid(pasid) {
            return Err(VectorError::NotYours(pasid));
        }
        self.with_slot(vector, |slot| slot.set_pasid(SlotPasid::Checked(pasid)))
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
