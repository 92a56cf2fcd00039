//! One guest's virtual accelerator.
//!
//! The guest sees a PCI function with the registers of a DSA 1.0 whose queues are its
//! own. What it reads and writes there stays in plain state here; what has to happen
//! outside goes through a [`Host`] that each call is given. Nothing here waits: a
//! command that needs the physical device is a [`Request`], and completes when its
//! [`Answer`] comes.
//!
//! Everything that a guest wrote is hostile. It is bounded and checked where it
//! arrives, and answered as hardware would.
//!
//! Where to read next: [`Shape`] for what a virtual accelerator is made of, `device` for
//! the whole; `config_space`, `registers`, `work_queue` and `msix` for what the guest
//! reads and writes; `commands` and `physical` for what that asks of the physical
//! device; `portal` and `submission` for the way of a descriptor.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod access;
mod commands;
mod config_space;
mod device;
mod handles;
mod host;
mod interrupts;
mod msix;
mod pasids;
mod physical;
mod portal;
mod queue_view;
mod registers;
mod shape;
mod software_error;
mod submission;
mod work_queue;

pub use device::{DroppedAccesses, VirtualDsa};
pub use handles::{Handle, HandleTable};
pub use host::{
    Answer, GuestAddr, Host, Message, NotRam, PasidAction, QueueAction, QueueIndex, QueueSet,
    Request,
};
pub use interrupts::MovedHandle;
pub use pasids::{PasidMap, PasidPair};
pub use portal::{SubmissionKind, SubmissionRequest, SubmitResult};
pub use queue_view::{QueueMode, QueuePasid, QueueView};
pub use shape::{
    MAX_QUEUES, MAX_VECTORS, OPERATIONS, Policy, QueueShape, Shape, ShapeError, Window,
};
pub use software_error::SoftwareErrorRecord;
pub use submission::{Counters, Named, Notices, Refusal, Refusals, Rule, Submission, window_bytes};
