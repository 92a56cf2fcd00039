//! The accelerator: a driver for the Intel Data Streaming Accelerator.
//!
//! A [`Device`] owns the registers of one DSA. It is [taken over](Device::take_over)
//! whatever used it before, [configured](Device::configure) as a [`Plan`] says, and its
//! work queues are enabled, each with a PASID, so that every memory access of the queue
//! is translated by the IOMMU's tables for that PASID.
//!
//! A device does one [`Command`] at a time. [`start`](Device::start) and
//! [`poll`](Device::poll) wait for nothing; [`execute`](Device::execute) is for moments
//! at which waiting is allowed, and ends.
//!
//! Interrupts of completed work are in [`ims`], whose slots have one owner each and are
//! no part of `Device`. A kernel therefore cuts the window of BAR0 into two with
//! [`Capabilities::ims_range`].
//!
//! Descriptors go through portals in BAR2, which `hwio::Portal` writes; they need nothing
//! from here.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod capabilities;
mod command;
mod control;
mod device;
mod error;
pub mod ims;
mod plan;
mod software_error;

pub use capabilities::Capabilities;
pub use command::{Command, InterruptHandle, Outcome, Poll, QueuePasid};
pub use device::{Device, State};
pub use error::{Error, RegisterName};
pub use plan::{GroupPlan, Plan, PlanError, QueueMode, QueuePlan, QueueShape};
pub use software_error::{FailedDescriptor, SoftwareError};
