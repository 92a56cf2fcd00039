//! What a client asks for, and what it is told.

use core::fmt;

use dsa::{InterruptHandle, QueuePasid, SoftwareError};
use hwspec::dsa::ResetType;
use hwspec::pci::Pasid;

use super::Set;
use crate::host::routes::GuestTarget;

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
    /// Do something with queues of the client's own, one after the other, and then wait
    /// until the descriptors of PASIDs are done: those that it has in shared queues.
    Queues {
        /// The physical queues.
        queues: Set,
        /// What.
        action: QueueAction,
        /// The PASIDs, by their places in [`ClientSetup::pasids`](super::ClientSetup::pasids).
        pasids: Set,
    },
    /// Wait until the descriptors of a PASID of the client's are done.
    DrainPasid(Pasid),
    /// End or abandon the descriptors of a PASID of the client's.
    AbortPasid(Pasid),
    /// Give a vector an IMS slot, a remapping entry and a route: masked, not ignored.
    /// If it has them already, nothing happens, and the answer is the same again.
    AllocateVector {
        /// Which vector, below [`MAX_VECTORS`](super::MAX_VECTORS).
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
    /// Take the slots of vectors away; those without one are left out. First the device
    /// is made to refuse their handles, then what it took before is drained: nothing that
    /// names a slot may be left when somebody else gets it.
    ReleaseVectors(Set),
    /// As [`Request::Queues`] with [`QueueAction::Reset`], and as
    /// [`Request::ReleaseVectors`].
    Reset {
        /// The physical queues.
        queues: Set,
        /// The PASIDs, by their places in [`ClientSetup::pasids`](super::ClientSetup::pasids).
        pasids: Set,
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
