//! The DSA as a guest sees it.
//!
//! [`Device::open`] finds the function and brings it up; each [`Queue`] then has a
//! [`Portal`], and an interrupt vector of its own. [`Work`] is what is submitted,
//! [`Records`] what comes back, [`Batch`] many at once.

#[cfg(any(target_os = "none", doc))]
mod batch;
#[cfg(any(target_os = "none", doc))]
mod device;
#[cfg(any(target_os = "none", doc))]
mod portal;
#[cfg(any(target_os = "none", doc))]
mod records;
mod work;

#[cfg(any(target_os = "none", doc))]
pub use batch::Batch;
#[cfg(any(target_os = "none", doc))]
pub use device::{Device, Error, Limits, Pasids, Queue, VECTOR_BASE};
pub use hwio::Submission;
#[cfg(any(target_os = "none", doc))]
pub use portal::{Instruction, Portal};
#[cfg(any(target_os = "none", doc))]
pub use records::Records;
pub use work::Work;
