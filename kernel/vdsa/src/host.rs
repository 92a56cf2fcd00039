//! What a virtual accelerator asks of what is around it.

use core::fmt;

use hwio::Submission;
use hwspec::pci::Pasid;

use crate::MAX_QUEUES;

/// A guest-physical address, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestAddr(pub u64);

/// The memory is not RAM of the guest, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRam;

impl fmt::Display for NotRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not RAM of the guest")
    }
}

impl core::error::Error for NotRam {}

/// Number of a virtual work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueIndex(u8);

impl QueueIndex {
    /// Queue `index`, if a virtual accelerator can have so many.
    pub fn new(index: usize) -> Option<Self> {
        u8::try_from(index)
            .ok()
            .filter(|_| index < MAX_QUEUES)
            .map(Self)
    }

    /// As an index into an array, below [`MAX_QUEUES`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// As the field of a register.
    pub const fn value(self) -> u8 {
        self.0
    }
}

/// Some of the virtual queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSet(u8);
const _: () = assert!(MAX_QUEUES == 8, "a bit for each queue");

impl QueueSet {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// All that there can be.
    pub const ALL: Self = Self(!0);

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `queue` is one of them.
    pub const fn contains(self, queue: QueueIndex) -> bool {
        self.0 >> queue.0 & 1 != 0
    }

    /// These, and `queue`.
    #[must_use]
    pub const fn with(self, queue: QueueIndex) -> Self {
        Self(self.0 | 1 << queue.0)
    }

    /// Those of these that are in `others`.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Those of these that are not in `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// One after the other, from the lowest number on.
    pub fn iter(self) -> impl Iterator<Item = QueueIndex> {
        (0..8).map(QueueIndex).filter(move |q| self.contains(*q))
    }
}

impl FromIterator<QueueIndex> for QueueSet {
    fn from_iter<I: IntoIterator<Item = QueueIndex>>(queues: I) -> Self {
        queues.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// An interrupt message: what the guest wrote into an entry of its MSI-X table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Message Address, below 4 GiB and with 0xFEE in bits 31:20.
    pub address: u32,
    /// Message Data.
    pub data: u32,
}

/// What happens to queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueAction {
    /// Wait until what was submitted is done; submissions may go on.
    Drain,
    /// As [`Drain`](Self::Drain), but what has not begun may be given up.
    Abort,
    /// Accept nothing more, then drain. The queue is not used until it is enabled.
    Disable,
    /// As [`Disable`](Self::Disable), but what has not begun may be given up.
    Reset,
}

/// What happens to the descriptors of a PASID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasidAction {
    /// Wait until they are done.
    Drain,
    /// As [`Drain`](Self::Drain), but what has not begun may be given up.
    Abort,
}

/// Something physical that takes time. There is one at a time, and each gets its
/// [`Answer`]. When an answer is given, what was drained or stopped writes no memory and
/// raises no interrupt any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Prepare the physical queue behind `queue` and enable it.
    EnableQueue {
        /// Which.
        queue: QueueIndex,
        /// The queue's host PASID; of a virtual shared queue its default one.
        pasid: Pasid,
    },
    /// Do something to queues that are enabled, or may be where something failed.
    Queues {
        /// Which; never empty.
        queues: QueueSet,
        /// What.
        action: QueueAction,
    },
    /// Do something to the descriptors of a host PASID.
    Pasid {
        /// Which.
        pasid: Pasid,
        /// What.
        action: PasidAction,
    },
    /// Allocate an IMS slot for a virtual vector, which must have none: masked, not
    /// ignored, with this host PASID, and with no message. Answered by
    /// [`Answer::Handle`] or [`Answer::NoHandle`].
    AllocateHandle {
        /// The virtual vector, at least 1.
        vector: u16,
        /// The slot's host PASID.
        pasid: Pasid,
    },
    /// Free the IMS slot of a virtual vector.
    ReleaseHandle {
        /// The virtual vector.
        vector: u16,
    },
    /// [`QueueAction::Reset`] for the queues, and free all IMS slots of this
    /// accelerator.
    Reset {
        /// The queues that may be enabled; may be empty.
        queues: QueueSet,
    },
}

/// What became of a [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done,
    /// The slot is allocated and has this interrupt handle: the IMS index, or what
    /// the device's Request Interrupt Handle said.
    Handle(u16),
    /// No slot, no handle or no route is left.
    NoHandle,
    /// It could not be done.
    Failed,
}

/// What is around one virtual accelerator.
///
/// No method waits, allocates or formats text. Methods about a virtual vector concern
/// its IMS slot and are called only between its [`Answer::Handle`] and the request
/// that frees it.
pub trait Host {
    /// Reads whole words of guest memory. `at` is a multiple of 8.
    ///
    /// # Errors
    /// [`NotRam`]; what `into` holds then is unspecified.
    fn read_guest(&self, at: GuestAddr, into: &mut [u64]) -> Result<(), NotRam>;

    /// Writes whole words of guest memory, in order. `at` is a multiple of 8.
    ///
    /// # Errors
    /// [`NotRam`]; nothing was written then.
    fn write_guest(&mut self, at: GuestAddr, words: &[u64]) -> Result<(), NotRam>;

    /// Writes a completion record; its first word, which says that it is there, last.
    /// `at` is a multiple of 32.
    ///
    /// # Errors
    /// [`NotRam`]; nothing was written then.
    fn write_record(&mut self, at: GuestAddr, record: &[u64; 4]) -> Result<(), NotRam> {
        let [first, rest @ ..] = record;
        let behind = at.0.checked_add(8).ok_or(NotRam)?;
        self.write_guest(GuestAddr(behind), rest)?;
        self.write_guest(at, &[*first])
    }

    /// Reads words of the window. `offset` is in bytes from its base, a multiple of 8,
    /// and all words are inside.
    fn read_window(&self, offset: usize, into: &mut [u64]);

    /// Writes words of the window, in order. `offset` is in bytes from its base, a
    /// multiple of 8, and all words are inside.
    fn write_window(&mut self, offset: usize, words: &[u64]);

    /// Whether a queue that is a [slice](crate::QueueShape::is_slice) of a physical one has
    /// an entry free that is reserved for it. So it is where there are no slices.
    fn has_room(&mut self, _queue: QueueIndex) -> bool {
        true
    }

    /// Submits to the physical queue behind `queue`. The descriptor carries the host
    /// PASID.
    fn submit(&mut self, queue: QueueIndex, descriptor: &[u64; 8]) -> Submission;

    /// Masks the vector's slot. Unmasked with an interrupt pending, it sends it.
    fn set_masked(&mut self, vector: u16, masked: bool);

    /// Sets the slot's Ignore.
    fn set_ignored(&mut self, vector: u16, ignored: bool);

    /// Gives the slot another host PASID.
    fn set_slot_pasid(&mut self, vector: u16, pasid: Pasid);

    /// Whether the slot has an interrupt pending.
    fn is_pending(&self, vector: u16) -> bool;

    /// What an interrupt of the slot is to raise in the guest; `None` for nothing.
    /// Called while the slot is masked.
    fn set_message(&mut self, vector: u16, message: Option<Message>);

    /// Raises an interrupt in the guest.
    fn inject(&mut self, message: Message);

    /// Starts something physical. The answer goes to `VirtualDsa::answer` later, never
    /// before this returns.
    fn request(&mut self, request: Request);
}
