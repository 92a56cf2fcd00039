//! The machine that a guest sees around its virtual processors.
//!
//! [`local_apic`] takes interrupts and sends them between processors, [`cpuid`]
//! and [`msrs`] say what a virtual processor is, [`memory_map`] where everything
//! is, [`pci_bus`] finds the function that an access is for, [`serial_port`] is
//! the console, whose interrupt goes through the [`io_apic`], [`acpi`] tells of all
//! this, [`power`] switches it off, [`kvm_clock`] tells the time, and [`hypercall`] is
//! how a guest reports to the operator. All of it
//! is logic without hardware: what belongs to one virtual processor is changed by
//! that one alone, and what others may touch is said to be shared.
#![forbid(unsafe_code)]

pub mod acpi;
pub mod cpuid;
pub mod hypercall;
pub mod io_apic;
pub mod kvm_clock;
pub mod kvm_eoi;
pub mod local_apic;
pub mod memory_map;
pub mod msrs;
pub mod pci_bus;
pub mod power;
pub mod serial_port;

/// A guest's RDMSR or WRMSR of a register that is not there, or with a value that
/// it does not take: #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAccess;
