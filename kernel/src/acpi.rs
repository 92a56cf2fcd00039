//! What firmware says about the machine.
//!
//! [`Tables`] finds the tables by the root pointer and checks them; each module
//! reads one of them into plain data. All of this works on byte slices that
//! somebody else obtained, through [`FirmwareMemory`], and trusts no length,
//! count or address that it has not checked: firmware can be wrong, and a
//! property test feeds it nonsense.
#![forbid(unsafe_code)]

pub mod dmar;
pub mod fadt;
pub mod madt;
pub mod mcfg;
mod reader;
pub mod tables;

pub use tables::{AcpiError, FirmwareMemory, Signature, Tables};

#[cfg(test)]
mod testing;
