//! The hypervisor.
//!
//! `boot` calls [`start`] with what the loader said. [`machine`] takes over
//! memory ([`mm`]), firmware's tables ([`acpi`]) and processors ([`arch`]);
//! [`host`] drives the devices; [`virt`] runs guests, and [`platform`] is the machine
//! that they see. [`vm`] puts it all together, and [`monitor`] shows it. `arch`, `mm`
//! and `virt` are the only modules that may contain `unsafe`.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod arch;
pub mod boot_info;
pub mod bundle;
pub mod config;
pub mod console;
pub mod host;
pub mod loader;
pub mod machine;
pub mod mm;
pub mod monitor;
pub mod platform;
pub mod refusal;
pub mod report;
pub mod trace;
pub mod virt;
pub mod vm;

use core::fmt::Display;
use core::panic::PanicInfo;

use spin::Once;

use arch::{Handover, park};
use machine::Machine;
use virt::svm::Svm;

/// What a panic does first, so that no device writes on.
static STOP_DMA: Once<fn()> = Once::new();

/// The hypervisor's main program.
pub fn start(handover: Handover) -> ! {
    vm::start::note_entry(arch::clock::now());
    let machine = match Machine::take_over(handover) {
        Ok(machine) => machine,
        Err(refusal) => refuse(&refusal),
    };
    match vm::start::run::<Svm>(&machine) {
        Ok(never) => match never {},
        Err(error) => refuse(&error),
    }
}

/// Says why this machine will not do, and stops.
pub fn refuse(reason: &dyn Display) -> ! {
    println!("weir: cannot run here: {reason}");
    park::stop()
}

/// Says how to stop all DMA, which is what a panic does first. Once.
pub fn on_panic(stop_dma: fn()) {
    STOP_DMA.call_once(|| stop_dma);
}

/// What a program does that found its own state wrong: stop DMA, stop the other
/// processors, say why, and halt.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    // First the others, for one of them may be in the middle of programming the
    // IOMMU. Does not return if another processor is panicking already.
    park::stop_others();
    if let Some(stop) = STOP_DMA.get() {
        stop();
    }
    console::write_at_last(format_args!("weir: {info}\n"));
    park::stop()
}
