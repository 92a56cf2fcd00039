//! The processors and what surrounds them: descriptor tables, exceptions, the
//! local APIC, time, per-CPU data, starting the other processors, power.
#![expect(
    unsafe_code,
    reason = "privileged instructions and tables that the processor reads"
)]

mod apic;
pub mod clock;
mod descriptors;
pub mod features;
mod handover;
mod io_apic;
pub(crate) mod park;
pub(crate) mod pasid;
pub mod percpu;
pub mod power;
pub mod serial;
pub mod smp;
pub mod trap;

use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr4, Cr4Flags};

use crate::acpi::fadt::FixedHardware;
use crate::acpi::madt::Madt;
use crate::refusal::Refusal;
use crate::warn;
pub use handover::Handover;
use percpu::Cpu;

/// Catches exceptions from the very start.
pub(crate) fn init_early() {
    trap::load();
}

/// The page tables in use, which are those of `boot` at the start.
pub(crate) fn page_tables() -> PhysAddr {
    Cr3::read().0.start_address()
}

/// Sets up the boot processor.
///
/// # Errors
/// If memory is short.
pub(crate) fn init_boot_processor(_: &Handover) -> Result<(), Refusal> {
    apic::mask_legacy();
    // Its id can be read in x2APIC mode only.
    apic::init();
    let cpu = Cpu::new(0, apic::id())?;
    // SAFETY: whoever has the handover is the boot processor, and the structure
    // is new.
    unsafe { init_processor(cpu) };
    Ok(())
}

/// What every processor does first.
///
/// # Safety
/// To be called once by each processor, with a structure of its own.
unsafe fn init_processor(cpu: &'static Cpu) {
    // SAFETY: the caller's promise.
    unsafe { cpu.install() };
    trap::load();
    apic::init();
    // Without it a machine check is a reset without a word.
    // SAFETY: machine checks have their entry.
    unsafe { Cr4::update(|cr4| *cr4 |= Cr4Flags::MACHINE_CHECK_EXCEPTION) };
}

/// Takes over the rest of the platform: clocks, I/O APICs, power, and all other
/// processors.
///
/// # Errors
/// If something is missing.
pub(crate) fn init_platform(
    _: &Handover,
    hardware: &FixedHardware,
    madt: &Madt,
    boot_tables: PhysAddr,
) -> Result<(), Refusal> {
    clock::init(hardware.pm_timer)?;
    power::init(hardware);
    for &io_apic in &madt.io_apics {
        if let Err(error) = io_apic::mask(io_apic) {
            warn!("io_apic", "not masked id={} error={error}", io_apic.id);
        }
    }
    // SAFETY: whoever has the handover is the boot processor, and no other has
    // been started; `boot`'s tables are in memory that stays as it is.
    unsafe { smp::start(&madt.processors, boot_tables) }
}
