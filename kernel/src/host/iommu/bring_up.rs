//! Taking the IOMMUs over.

use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::time::Duration;

use hwio::Registers;
use hwspec::pci::Pasid;
use spin::Mutex;
use vtd::{ReservedRegion, Setup};

use super::interrupts::destination;
use super::owners::{Owners, reserved_regions};
use super::{ADDRESS_BITS, Hardware, Iommu, Unit, UnitIndex};
use crate::acpi::dmar::{self, Dmar};
use crate::arch::percpu;
use crate::host::error::HostError;
use crate::host::pasids::Pasids;
use crate::host::pci::Pci;
use crate::host::routes::{HostTarget, Route, Routes, Target, VECTORS};
use crate::mm::{DmaFrames, devices};
use crate::{info, warn};

/// How long a unit may take for anything. Units answer within microseconds.
const TIMEOUT: Duration = Duration::from_millis(100);

const MAX_UNITS: usize = 256;

impl Iommu {
    /// Takes over all units. From here on no device reaches anything that it was
    /// not allowed, except the memory that firmware reserved for it.
    ///
    /// # Errors
    /// If one lacks something or does not do what it is told.
    pub(in crate::host) fn bring_up<R: Registers>(
        dmar: &Dmar,
        pci: &Pci<R>,
        routes: &Routes,
    ) -> Result<Self, HostError> {
        // Their numbers have eight bits.
        if dmar.units.len() > MAX_UNITS {
            return Err(HostError::TooManyIommus(MAX_UNITS));
        }
        let owners = Owners::new(dmar, pci);
        let reserved = reserved_regions(dmar, pci);
        let mut units = Vec::new();
        for (number, described) in (0..).zip(&dmar.units) {
            let of_unit: Vec<ReservedRegion> = reserved
                .iter()
                .filter(|(segment, region)| {
                    owners.unit_of(*segment, region.source) == Some(UnitIndex(number))
                })
                .map(|&(_, region)| region)
                .collect();
            let events = routes.allocate(0)?;
            routes.set_target(&events, Target::Host(HostTarget::Iommu(number)));
            units.push(bring_up_unit(described, &of_unit, events)?);
        }
        let highest = units
            .iter()
            .map(|unit| unit.hardware.lock().capabilities().highest_pasid)
            .min()
            .unwrap_or(Pasid::ZERO);
        Ok(Self {
            units,
            owners,
            pasids: Mutex::new(Pasids::new(highest)),
            events: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
        })
    }
}

fn bring_up_unit(
    described: &dmar::Unit,
    reserved: &[ReservedRegion],
    events: Route,
) -> Result<Unit, HostError> {
    let base = described.registers.start();
    let registers = devices::registers(described.registers)
        .map_err(|error| HostError::Map("an IOMMU", error))?;
    let setup = Setup {
        address_bits: ADDRESS_BITS,
        interrupts_log2: interrupts_log2(percpu::all().len()),
        timeout: TIMEOUT,
        reserved,
    };
    let mut hardware = Hardware::bring_up(registers, devices::clock(), &mut DmaFrames, &setup)
        .map_err(|error| HostError::Iommu(base, error))?;
    hardware.enable_fault_events(destination(&events));
    let leftovers = hardware.leftovers();
    if leftovers.translation_gap {
        warn!(
            "iommu",
            "translation was off for a moment base={:#x}",
            base.as_u64()
        );
    }
    info!(
        "iommu",
        "brought up base={:#x} stage={:?} highest_pasid={} reserved={}",
        base.as_u64(),
        hardware.capabilities().stage,
        hardware.capabilities().highest_pasid,
        reserved.len(),
    );
    Ok(Unit {
        base,
        hardware: Mutex::new(hardware),
        _events: events,
    })
}

/// Remapping entries for as many interrupts as so many processors have vectors.
fn interrupts_log2(cpus: usize) -> u8 {
    let entries = (cpus * VECTORS).next_power_of_two();
    u8::try_from(entries.trailing_zeros().clamp(8, 16)).expect("at most 16")
}

#[cfg(test)]
mod tests {
    use super::interrupts_log2;

    #[test]
    fn there_is_a_remapping_entry_for_each_vector_of_each_processor() {
        assert_eq!(interrupts_log2(1), 8);
        assert_eq!(interrupts_log2(2), 9);
        assert_eq!(interrupts_log2(64), 14);
        assert_eq!(interrupts_log2(1000), 16);
    }
}
