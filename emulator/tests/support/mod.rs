//! A machine for the device to live in, and a driver's view of the device.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test file uses the part of it that it needs"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

pub(crate) mod descriptor;
pub(crate) mod drive;
pub(crate) mod machine;
pub(crate) mod registers;
pub(crate) mod rig;

pub(crate) use descriptor::{Bytes, CRAV, FENCE, RCI, RCR, batch, memory_move, no_op};
pub(crate) use machine::{Access, Machine};
pub(crate) use rig::{
    LIMITED_IMS, LIMITED_MSIX, PORTALS, QueueSetup, Rig, UNLIMITED_IMS, UNLIMITED_MSIX, message,
};
