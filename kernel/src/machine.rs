//! Taking over the machine, from the loader's word to all processors running.

use alloc::vec::Vec;

use crate::acpi::dmar::Dmar;
use crate::acpi::fadt::FixedHardware;
use crate::acpi::madt::Madt;
use crate::acpi::mcfg::{self, Allocation};
use crate::acpi::{Tables, dmar, madt};
use crate::arch::{self, Handover, clock, features, percpu};
use crate::boot_info::{BootInfo, MemoryKind};
use crate::info;
use crate::mm::firmware::FirmwareWindows;
use crate::mm::{self, PAGE_SIZE, frames};
use crate::refusal::Refusal;

/// What firmware says about the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What the loader said.
    pub boot: &'static BootInfo,
    /// Where PCI configuration space is.
    pub pci: Vec<Allocation>,
    /// IOMMUs and reserved memory.
    pub dmar: Dmar,
}

impl Machine {
    /// Takes over the machine: memory, tables, clocks, processors. Afterwards
    /// every processor but this one waits in [`arch::smp::idle`].
    ///
    /// # Errors
    /// What the machine lacks.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a machine can be taken over once"
    )]
    pub fn take_over(handover: Handover) -> Result<Self, Refusal> {
        let boot = handover.boot();
        arch::init_early();
        features::features().check()?;
        let boot_tables = arch::page_tables();
        mm::init(&handover)?;
        let free_mib = (frames::count_free() * PAGE_SIZE) >> 20;
        info!("mm", "took over memory free_mib={free_mib}");
        arch::init_boot_processor(&handover)?;

        let windows = FirmwareWindows::default();
        let tables = Tables::find(&windows, boot.rsdp.as_u64())?;
        let madt = Madt::parse(tables.require(madt::SIGNATURE)?)?;
        let pci = tables.get(mcfg::SIGNATURE)?.ok_or(Refusal::NoMmconfig)?;
        let pci = mcfg::parse(pci)?;
        let dmar = tables.get(dmar::SIGNATURE)?.ok_or(Refusal::NoIommu)?;
        let dmar = Dmar::parse(dmar)?;
        if !dmar.has_interrupt_remapping {
            return Err(Refusal::NoInterruptRemapping);
        }
        let hardware = FixedHardware::parse(&tables)?;
        arch::init_platform(&handover, &hardware, &madt, boot_tables)?;
        info!(
            "smp",
            "all processors are up count={} of={} tsc_mhz={}",
            percpu::all().len(),
            madt.processors.len(),
            clock::tsc_hz() / 1_000_000,
        );
        Ok(Self { boot, pci, dmar })
    }

    /// How much RAM there is, whoever uses it.
    pub fn ram_bytes(&self) -> u64 {
        let ram = self.boot.memory.iter();
        ram.filter(|region| region.kind == MemoryKind::RAM)
            .map(|region| region.range.len_bytes())
            .sum()
    }
}
