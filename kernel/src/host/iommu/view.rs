//! What the IOMMUs show to people. What begins with `try_` does not wait: it is nothing
//! for as long as somebody uses the unit.

use core::sync::atomic::Ordering;

use hwspec::pci::Pasid;
use vtd::{Capabilities, DeviceUse, DomainUse, InUse};
use x86_64::PhysAddr;

use super::{Domain, Iommu, UnitIndex};
use crate::host::pasids::PasidUse;

/// A remapping unit.
#[derive(Clone, Copy, Debug)]
pub struct UnitUse {
    /// Where its registers are.
    pub base: PhysAddr,
    /// The PCI segment that it is for.
    pub segment: u16,
    /// What it can do.
    pub capabilities: Capabilities,
    /// How many domains there are, Weir's empty one included.
    pub count_domains: usize,
    /// Entries of its interrupt remapping table.
    pub interrupts: InUse,
}

impl Iommu {
    /// All units.
    pub fn unit_indices(&self) -> impl Iterator<Item = UnitIndex> {
        (0..).zip(&self.units).map(|(number, _)| UnitIndex(number))
    }

    /// The PCI segment that a unit is for.
    pub fn segment(&self, unit: UnitIndex) -> u16 {
        let scopes = self.owners.0.get(usize::from(unit.0));
        scopes.map_or(0, |scopes| scopes.segment)
    }

    /// A unit.
    pub fn try_unit(&self, index: UnitIndex) -> Option<UnitUse> {
        let unit = self.unit(index);
        let hardware = unit.hardware.try_lock()?;
        Some(UnitUse {
            base: unit.base,
            segment: self.segment(index),
            capabilities: *hardware.capabilities(),
            count_domains: hardware.count_domains(),
            interrupts: hardware.interrupts(),
        })
    }

    /// The domain of a unit at this place; nothing within if there are not so many.
    pub fn try_domain(&self, unit: UnitIndex, place: usize) -> Option<Option<DomainUse>> {
        Some(self.unit(unit).hardware.try_lock()?.domain_at(place))
    }

    /// The device of a unit at this place; nothing within if there are not so many.
    pub fn try_device(&self, unit: UnitIndex, place: usize) -> Option<Option<DeviceUse>> {
        Some(self.unit(unit).hardware.try_lock()?.device_at(place))
    }

    /// How many interrupt remapping entries of all units are allocated. Waits for whoever
    /// is using one.
    pub fn count_interrupts(&self) -> usize {
        let units = self.units.iter();
        let used = units.map(|unit| unit.hardware.lock().interrupts().used);
        used.sum()
    }

    /// How many domains all units have, Weir's empty ones included. Waits likewise.
    pub fn count_domains(&self) -> usize {
        let units = self.units.iter();
        let counts = units.map(|unit| unit.hardware.lock().count_domains());
        counts.sum()
    }

    /// Whose a host PASID is; nothing if it is nobody's.
    pub fn owner(&self, pasid: Pasid) -> Option<u16> {
        self.pasids.lock().owner(pasid)
    }

    /// The first host PASID in use behind `last`.
    pub fn next_pasid(&self, last: Option<Pasid>) -> Option<PasidUse> {
        self.pasids.lock().next(last)
    }

    /// How many fault events came in, and after how many of them faults had been lost.
    pub fn fault_events(&self) -> (u64, u64) {
        let events = self.events.load(Ordering::Relaxed);
        (events, self.overflows.load(Ordering::Relaxed))
    }
}

impl Domain {
    /// The unit that it is of.
    pub fn unit(&self) -> UnitIndex {
        self.unit
    }

    /// Its number there.
    pub fn number(&self) -> u16 {
        self.id.number()
    }
}
