//! Interrupt remapping entries: taken, pointed at a route, and given back.

use hwspec::pci::SourceId;
use vtd::{InterruptIndex, InterruptMessage};

use super::{Hardware, Iommu, UnitIndex};
use crate::arch::percpu;
use crate::host::error::HostError;
use crate::host::routes::Route;

/// An interrupt remapping entry, in the hands of its owner.
#[derive(Debug)]
#[must_use]
pub struct Interrupt {
    unit: UnitIndex,
    index: InterruptIndex,
}

impl Interrupt {
    /// What the device is to send.
    pub fn message(&self) -> InterruptMessage {
        self.index.message()
    }
}

impl Iommu {
    /// Takes a remapping entry that only `source` may use, and lets it lead to
    /// `route`. Waits for the unit's lock.
    ///
    /// # Errors
    /// If there is none left, or the unit does not confirm.
    pub fn allocate_interrupt(
        &self,
        unit: UnitIndex,
        source: SourceId,
        route: &Route,
    ) -> Result<Interrupt, HostError> {
        let destination = destination(route);
        self.with(unit, |hardware| {
            allocate_interrupt(hardware, unit, source, destination)
        })
    }

    /// As [`allocate_interrupt`](Self::allocate_interrupt), without waiting:
    /// nothing if the unit is in use.
    pub fn try_allocate_interrupt(
        &self,
        unit: UnitIndex,
        source: SourceId,
        route: &Route,
    ) -> Option<Result<Interrupt, HostError>> {
        let destination = destination(route);
        self.try_with(unit, |hardware| {
            allocate_interrupt(hardware, unit, source, destination)
        })
    }

    /// Gives a remapping entry back if the unit is not in use; otherwise the entry comes
    /// back without an error. When this returns, its interrupts are blocked, and those on
    /// their way have arrived.
    ///
    /// # Errors
    /// The entry, and why if there is a reason.
    pub fn try_release_interrupt(
        &self,
        interrupt: Interrupt,
    ) -> Result<(), (Interrupt, Option<HostError>)> {
        let released = self.try_with(interrupt.unit, |hardware| {
            hardware.release_interrupt(interrupt.index)
        });
        match released {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err((interrupt, Some(error))),
            None => Err((interrupt, None)),
        }
    }
}

/// Where a route leads, as the IOMMU says it.
pub(super) fn destination(route: &Route) -> vtd::Route {
    let cpu = percpu::all().get(route.cpu());
    vtd::Route {
        apic_id: cpu.expect("routes are made for processors").apic_id,
        vector: route.vector(),
    }
}

fn allocate_interrupt(
    hardware: &mut Hardware,
    unit: UnitIndex,
    source: SourceId,
    destination: vtd::Route,
) -> Result<Interrupt, vtd::Error> {
    let index = hardware.allocate_interrupt(source)?;
    if let Err(error) = hardware.set_interrupt(index, destination) {
        hardware.release_interrupt(index)?;
        return Err(error);
    }
    Ok(Interrupt { unit, index })
}
