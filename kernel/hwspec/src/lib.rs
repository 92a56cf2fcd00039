//! Layouts of registers, tables and descriptors, and nothing else: no logic that
//! could be wrong beyond a bit's position, no access to anything.
//!
//! Each item cites the table it was transcribed from; `README.md` lists the
//! documents. Drivers see fields by the specification's mnemonics and, where a
//! field is shifted, off by one or a power of two, a method with the plain value.
//! Read [`register`] first: it says how a register is written down.
#![no_std]
#![forbid(unsafe_code)]

pub mod acpi;
pub mod dsa;
mod field;
pub mod pci;
pub mod register;
pub mod vtd;
pub mod x86;
