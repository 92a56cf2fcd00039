//! The IOMMUs: one lock for each, and what life-cycle code does with them.
//!
//! Lock order: a unit, then the host PASIDs. Units are locked by life-cycle
//! code, which may hold one while it maps all of a guest's memory; so whatever is
//! on a VM-exit path uses the `try_` functions, and comes back later.

mod bring_up;
mod faults;
mod interrupts;
mod owners;
mod view;

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::AtomicU64;

use hwio::{MappedPages, Mmio, TscClock};
use hwspec::pci::{Pasid, SourceId};
use spin::Mutex;
use vtd::{DomainId, Mapping, RemappingUnit, Stage};
use x86_64::PhysAddr;

use owners::Owners;

pub use faults::FaultReport;
pub use interrupts::Interrupt;
pub use view::UnitUse;

use super::error::HostError;
use super::pasids::Pasids;
use super::routes::Route;
use crate::mm::{DmaFrames, Frames};

/// How many bits the addresses have that guests' devices use: RAM, and the window
/// above it, end there.
pub const ADDRESS_BITS: u32 = 39;

type Hardware = RemappingUnit<Mmio, MappedPages<Frames>, TscClock>;

/// Which IOMMU, by its place in the DMAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitIndex(u8);

impl UnitIndex {
    /// The first, for tests.
    #[cfg(test)]
    pub const FIRST: Self = Self(0);

    /// The number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// An address space of devices, in the hands of its owner.
#[derive(Debug)]
#[must_use]
pub struct Domain {
    unit: UnitIndex,
    id: DomainId,
}

struct Unit {
    base: PhysAddr,
    hardware: Mutex<Hardware>,
    /// Where its fault events come in.
    _events: Route,
}

/// All IOMMUs of the machine.
pub struct Iommu {
    units: Vec<Unit>,
    owners: Owners,
    pasids: Mutex<Pasids>,
    /// Fault events that came in.
    events: AtomicU64,
    /// Events after which faults had been lost.
    overflows: AtomicU64,
}

impl Iommu {
    /// The unit that a device is behind.
    ///
    /// # Errors
    /// If there is none.
    pub fn unit_of(&self, segment: u16, source: SourceId) -> Result<UnitIndex, HostError> {
        self.owners
            .unit_of(segment, source)
            .ok_or(HostError::NoIommu(source))
    }

    /// How many units there are.
    pub fn count_units(&self) -> usize {
        self.units.len()
    }

    fn unit(&self, index: UnitIndex) -> &Unit {
        let unit = self.units.get(usize::from(index.0));
        unit.expect("unit numbers come from here")
    }

    /// Does something with a unit, as soon as nobody else does.
    fn with<T>(
        &self,
        index: UnitIndex,
        f: impl FnOnce(&mut Hardware) -> Result<T, vtd::Error>,
    ) -> Result<T, HostError> {
        let unit = self.unit(index);
        f(&mut unit.hardware.lock()).map_err(|error| HostError::Iommu(unit.base, error))
    }

    /// Does something with a unit if nobody else is using it.
    fn try_with<T>(
        &self,
        index: UnitIndex,
        f: impl FnOnce(&mut Hardware) -> Result<T, vtd::Error>,
    ) -> Option<Result<T, HostError>> {
        let unit = self.unit(index);
        let mut hardware = unit.hardware.try_lock()?;
        Some(f(&mut hardware).map_err(|error| HostError::Iommu(unit.base, error)))
    }

    /// Lets a device use PASIDs, none of which leads anywhere yet.
    ///
    /// # Errors
    /// If it may already, or the unit does not confirm.
    pub fn allow_device(&self, unit: UnitIndex, source: SourceId) -> Result<(), HostError> {
        self.with(unit, |hardware| {
            hardware.allow_device(&mut DmaFrames, source)
        })
    }

    /// Makes an address space with `mappings` in it: a guest's memory, and what
    /// else its devices are to reach.
    ///
    /// # Errors
    /// If there is no memory or no domain-id, a mapping makes no sense, or the unit
    /// does not confirm.
    pub fn create_domain(
        &self,
        unit: UnitIndex,
        mappings: impl IntoIterator<Item = Mapping>,
    ) -> Result<Domain, HostError> {
        self.with(unit, |hardware| {
            let id = hardware.create_domain(&mut DmaFrames)?;
            for mapping in mappings {
                if let Err(error) = hardware.map(&mut DmaFrames, id, mapping) {
                    // Nobody has used it, so there is nothing that could fail but
                    // the unit itself, which the caller hears of.
                    hardware.destroy_domain(id)?;
                    return Err(error);
                }
            }
            Ok(Domain { unit, id })
        })
    }

    /// How many frames the tables of an address space take.
    ///
    /// # Errors
    /// Never for a domain that exists.
    pub fn count_tables(&self, domain: &Domain) -> Result<usize, HostError> {
        self.with(domain.unit, |hardware| hardware.count_tables(domain.id))
    }

    /// Takes an address space away.
    ///
    /// # Errors
    /// The domain, if a PASID still has it or the unit does not confirm. Its memory
    /// must then stay as it is; this can be tried again.
    pub fn destroy_domain(&self, domain: Domain) -> Result<(), (Domain, HostError)> {
        self.with(domain.unit, |hardware| hardware.destroy_domain(domain.id))
            .map_err(|error| (domain, error))
    }

    /// Which tables translate guests' addresses: those of the first unit, and a machine
    /// has units of one kind.
    pub fn stage(&self) -> Option<Stage> {
        let first = self.units.first()?;
        Some(first.hardware.lock().capabilities().stage)
    }

    /// Takes a host PASID for guest `vm`.
    ///
    /// # Errors
    /// If there is none left.
    pub fn allocate_pasid(&self, vm: u16) -> Result<Pasid, HostError> {
        Ok(self.pasids.lock().allocate(vm)?)
    }

    /// Gives a host PASID back.
    ///
    /// # Errors
    /// If a table entry or a client of an accelerator still has it.
    pub fn release_pasid(&self, pasid: Pasid) -> Result<(), HostError> {
        Ok(self.pasids.lock().release(pasid)?)
    }

    /// How many host PASIDs are in use.
    pub fn count_pasids(&self) -> usize {
        self.pasids.lock().count()
    }

    pub(super) fn hold_pasid(&self, pasid: Pasid) -> Result<(), HostError> {
        Ok(self.pasids.lock().hold(pasid)?)
    }

    pub(super) fn let_go_of_pasid(&self, pasid: Pasid) {
        // What was held is allocated.
        let _ = self.pasids.lock().let_go(pasid);
    }

    /// Lets a device's requests with `pasid` go through `domain`.
    ///
    /// # Errors
    /// If the PASID is not allocated or the device has it already, there is no
    /// memory, or the unit does not confirm.
    pub fn set_pasid(
        &self,
        domain: &Domain,
        source: SourceId,
        pasid: Pasid,
    ) -> Result<(), HostError> {
        self.hold_pasid(pasid)?;
        let result = self.with(domain.unit, |hardware| {
            hardware.set_pasid(&mut DmaFrames, source, pasid, domain.id)
        });
        if result.is_err() {
            self.let_go_of_pasid(pasid);
        }
        result
    }

    /// Lets a device's requests with `pasid` go nowhere any more. None is on its
    /// way when this returns.
    ///
    /// # Errors
    /// If the device does not have it, or the unit does not confirm.
    pub fn clear_pasid(
        &self,
        domain: &Domain,
        source: SourceId,
        pasid: Pasid,
    ) -> Result<(), HostError> {
        self.with(domain.unit, |hardware| hardware.clear_pasid(source, pasid))?;
        self.let_go_of_pasid(pasid);
        Ok(())
    }

    /// Blocks all DMA for good, on the way into a panic, when all other processors
    /// have been stopped. False if a unit could not be told: somebody was just
    /// programming it, or it did not confirm.
    pub(super) fn stop_dma(&self) -> bool {
        let mut all = true;
        for unit in &self.units {
            let stopped = unit.hardware.try_lock().map(|mut unit| unit.block_all());
            all &= matches!(stopped, Some(Ok(())));
        }
        all
    }
}

impl fmt::Debug for Iommu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iommu")
            .field("units", &self.units.len())
            .finish_non_exhaustive()
    }
}
