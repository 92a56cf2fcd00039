//! A model of the Intel Data Streaming Accelerator (DSA).
//!
//! It behaves as software sees the device: PCI configuration space, the
//! registers and tables of BAR0, the portals of BAR2, descriptors and
//! completion records in memory, interrupt messages. [`Dsa`] is plain state;
//! what it does to the machine around it goes through the [`Bus`] that each
//! call is given, and time is the bus's. QEMU embeds it through the C interface
//! in [`ffi`]; tests drive it directly.
//!
//! It is stricter than silicon: what a driver should not do, though hardware
//! would bear it, is recorded as a violation ([`Dsa::violations`]).
//!
//! Where to read next: `device` for the state and BAR0, then the flows, in
//! the order of a descriptor's life: `portal`, `engine`, `operation`,
//! `completion`, `interrupt`; `command` for the Command register.
//!
//! Everything is transcribed from the DSA Architecture Specification, Intel
//! document 341204, Rev 3.0 (June 2025). `[§n "title"]` in this crate is a
//! section of that document.

mod bench;
mod bits;
mod bus;
mod command;
pub mod completion;
mod config_space;
mod control;
pub mod descriptor;
mod device;
mod engine;
mod error_report;
pub mod ffi;
mod group;
mod handle;
mod identity;
mod interrupt;
mod memory;
mod operation;
mod perfmon;
mod portal;
mod registers;
mod trace;
mod violation;
mod work_queue;

pub use bus::{Bus, BusError, Pasid, Requester, TransferError};
pub use control::HELP;
pub use device::Dsa;
pub use identity::{Identity, IdentityError, MAX_IMS_SLOTS, PlatformAts, QueueModes};
pub use portal::{Answer, Transaction};
pub use registers::{DeviceState, ResetType};
pub use work_queue::QueueCounters;
