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
//! A driver's first steps, in a machine whose memory nobody uses yet:
//!
//! ```
//! use dsa_model::{Bus, BusError, Dsa, Identity, Requester, TransferError};
//!
//! /// No memory, and a clock.
//! struct Machine {
//!     now_ns: u64,
//! }
//!
//! impl Bus for Machine {
//!     fn now_ns(&self) -> u64 {
//!         self.now_ns
//!     }
//!     fn read(&mut self, _: Requester, _: u64, _: &mut [u8]) -> Result<(), TransferError> {
//!         Err(TransferError { transferred: 0, cause: BusError::PageFault })
//!     }
//!     fn write(&mut self, _: Requester, _: u64, _: &[u8]) -> Result<(), TransferError> {
//!         Err(TransferError { transferred: 0, cause: BusError::PageFault })
//!     }
//!     fn send_message(&mut self, _address: u64, _data: u32) -> Result<(), BusError> {
//!         Ok(())
//!     }
//! }
//!
//! let mut machine = Machine { now_ns: 0 };
//! let mut dsa = Dsa::new(Identity::parse("queues=4;ims=512")?)?;
//! // VERSION, and WQCAP 23:16.
//! assert_eq!(dsa.mmio_read(0, 0x00, 4), 0x100);
//! assert_eq!(dsa.mmio_read(0, 0x20, 8) >> 16 & 0xff, 4);
//!
//! // Memory space and bus mastering on; Enable Device.
//! dsa.config_write(0x04, 2, 0x6, &mut machine);
//! dsa.mmio_write(0, 0xa0, 4, 1 << 20, &mut machine);
//! // CMDSTATUS: active, until the time has come.
//! assert_eq!(dsa.mmio_read(0, 0xa8, 4), 1 << 31);
//! machine.now_ns = dsa.deadline().expect("a command is in progress");
//! dsa.advance(&mut machine);
//! assert_eq!(dsa.mmio_read(0, 0xa8, 4), 0);
//! // GENSTS: Enabled.
//! assert_eq!(dsa.mmio_read(0, 0x90, 4), 1);
//! # Ok::<(), dsa_model::IdentityError>(())
//! ```
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
