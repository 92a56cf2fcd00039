//! Stand-ins for hardware, for tests on the host.
//!
//! A test makes a [`Memory`] and a device, hands the driver [`FakeRegisters`], pages
//! of that memory and a [`FakeClock`], and looks afterwards at what the device saw.
//! All of them write what happens to them into one [`Log`], so that order across
//! registers and memory can be asserted. The devices that are ready made are broken
//! ones: [`AllOnes`], [`NeverCompletes`] and [`Vanishes`].

mod devices;
mod log;
mod memory;
mod portal;

pub use devices::{AllOnes, Device, FakeClock, FakeRegisters, NeverCompletes, Vanishes};
pub use log::{Event, Log};
pub use memory::{FakePages, Memory};
pub use portal::FakePortal;
