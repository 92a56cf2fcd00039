//! The DSA as a guest sees it.
//!
//! [`Device::open`] finds the function and brings it up; each [`Queue`] then has a
//! [`Portal`], and an interrupt vector of its own. [`Work`] is what is submitted,
//! [`Records`] what comes back, [`Batch`] many at once.

#[cfg(target_os = "none")]
mod batch;
#[cfg(target_os = "none")]
mod device;
#[cfg(target_os = "none")]
mod portal;
#[cfg(target_os = "none")]
mod records;
mod work;

#[cfg(target_os = "none")]
pub use batch::Batch;
#[cfg(target_os = "none")]
pub use device::{Device, Error, Limits, Pasids, Queue, VECTOR_BASE};
pub use hwio::Submission;
#[cfg(target_os = "none")]
pub use portal::{Instruction, Portal};
#[cfg(target_os = "none")]
pub use records::Records;
pub use work::Work;
