//! How hardware is reached: registers, memory that devices use, submission portals
//! and time.
//!
//! Drivers are generic over the four traits here and contain no `unsafe`. The kernel
//! makes the real implementations once, each from an address that it vouches for:
//!
//! | trait | for | real | for tests |
//! |---|---|---|---|
//! | [`Registers`] | a window of memory-mapped registers | [`Mmio`] | `fake::FakeRegisters` |
//! | [`DmaPages`] | memory that a device reads or writes | [`MappedPages`] | `fake::FakePages` |
//! | [`Portal`] | 64 bytes at once to an accelerator's queue | [`DedicatedPortal`], [`SharedPortal`] | `fake::FakePortal` |
//! | [`Clock`] | bounded waits | [`TscClock`] | `fake::FakeClock` |
//!
//! Where a driver needs more memory while it runs, its caller hands it a
//! [`FrameSource`].
#![no_std]

#[cfg(any(test, feature = "fake"))]
extern crate std;

mod clock;
mod dma;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod portal;
mod registers;

pub use clock::{Clock, TscClock};
pub use dma::{DmaPages, FrameSource, MappedPages, PAGE_SIZE, PAGE_WORDS};
pub use portal::{DedicatedPortal, Portal, SharedPortal, Submission};
pub use registers::{Mmio, Registers};
