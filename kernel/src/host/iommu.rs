//! The IOMMUs: one lock for each, and what life-cycle code does with them.
//!
//! Lock order: a unit, then the host PASIDs. Units are locked by life-cycle
//! code, which may hold one while it maps all of a guest's memory; so whatever is
//! on a VM-exit path uses the `try_` functions, and comes back later.

mod view;

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use hwio::{MappedPages, Mmio, Registers, TscClock};
use hwspec::pci::{Pasid, SourceId};
use spin::Mutex;
use vtd::{
    DomainId, Fault, InterruptIndex, InterruptMessage, Iova, Mapping, RemappingUnit,
    ReservedRegion, Setup, Stage,
};
use x86_64::PhysAddr;

pub use view::UnitUse;

use super::error::HostError;
use super::pasids::Pasids;
use super::pci::Pci;
use super::routes::{HostTarget, Route, Routes, Target, VECTORS};
use crate::acpi::dmar::{self, Dmar};
use crate::arch::percpu;
use crate::mm::{DmaFrames, Frames, devices};
use crate::{info, warn};

/// How many bits the addresses have that guests' devices use: RAM, and the window
/// above it, end there.
pub const ADDRESS_BITS: u32 = 39;

/// How long a unit may take for anything. Units answer within microseconds.
const TIMEOUT: Duration = Duration::from_millis(100);

const MAX_UNITS: usize = 256;

type Hardware = RemappingUnit<Mmio, MappedPages<Frames>, TscClock>;

/// Which IOMMU, by its place in the DMAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitIndex(u8);

impl UnitIndex {
    /// The first.
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

/// A fault, and the guest whose PASID it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultReport {
    /// Which IOMMU saw it.
    pub unit: UnitIndex,
    /// What it saw.
    pub fault: Fault,
    /// The guest's number; nothing if the request had no PASID, or nobody's.
    pub vm: Option<u16>,
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
    /// Takes over all units. From here on no device reaches anything that it was
    /// not allowed, except the memory that firmware reserved for it.
    ///
    /// # Errors
    /// If one lacks something or does not do what it is told.
    pub(super) fn bring_up<R: Registers>(
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

    /// Blocks a device's DMA.
    ///
    /// # Errors
    /// If it is not allowed, or the unit does not confirm.
    pub fn block_device(&self, unit: UnitIndex, source: SourceId) -> Result<(), HostError> {
        self.with(unit, |hardware| hardware.block_device(source))
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

    /// Maps more into an address space.
    ///
    /// # Errors
    /// As [`create_domain`](Self::create_domain).
    pub fn map(&self, domain: &Domain, mapping: Mapping) -> Result<(), HostError> {
        self.with(domain.unit, |hardware| {
            hardware.map(&mut DmaFrames, domain.id, mapping)
        })
    }

    /// Takes a range out of an address space. No device uses it when this returns.
    ///
    /// # Errors
    /// If it was not mapped like that, or the unit does not confirm.
    pub fn unmap(&self, domain: &Domain, iova: Iova, len_bytes: u64) -> Result<(), HostError> {
        self.with(domain.unit, |hardware| {
            hardware.unmap(domain.id, iova, len_bytes)
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

    /// Gives a remapping entry back. When this returns, its interrupts are blocked,
    /// and those on their way have arrived. Waits for the unit's lock, and for the
    /// unit.
    ///
    /// # Errors
    /// The entry, if the unit does not confirm; this can be tried again.
    pub fn release_interrupt(&self, interrupt: Interrupt) -> Result<(), (Interrupt, HostError)> {
        self.with(interrupt.unit, |hardware| {
            hardware.release_interrupt(interrupt.index)
        })
        .map_err(|error| (interrupt, error))
    }

    /// As [`release_interrupt`](Self::release_interrupt), if the unit is not in use;
    /// otherwise the entry comes back without an error.
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

    /// Counts a fault event. For its interrupt.
    pub(super) fn note_event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// How many fault events came in.
    pub fn count_events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Hands the faults that were recorded to `report`, which may look at the
    /// clock and at memory, but not print: a guest can cause any number of them.
    /// Waits for nothing; a unit that is in use is read the next time. Asks the units
    /// themselves, so that a lost event does not silence one for good.
    pub fn read_faults(&self, mut report: impl FnMut(FaultReport)) {
        for (number, unit) in (0..).zip(&self.units) {
            let Some(mut hardware) = unit.hardware.try_lock() else {
                continue;
            };
            let summary = hardware.read_faults(|fault| {
                let pasid = fault.pasid;
                let vm = pasid.and_then(|pasid| self.pasids.lock().owner(pasid));
                report(FaultReport {
                    unit: UnitIndex(number),
                    fault,
                    vm,
                });
            });
            // A unit that is gone has no more faults to report.
            if summary.is_ok_and(|summary| summary.overflow) {
                self.overflows.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How often faults were lost because there was no room for them.
    pub fn count_overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
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

/// Where a route leads, as the IOMMU says it.
fn destination(route: &Route) -> vtd::Route {
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

/// Which functions are whose, in the order of the units.
#[derive(Debug)]
struct Owners(Vec<Scopes>);

/// What one unit is for.
#[derive(Debug)]
struct Scopes {
    segment: u16,
    includes_all: bool,
    sources: Vec<SourceId>,
}

impl Owners {
    fn new<R: Registers>(dmar: &Dmar, pci: &Pci<R>) -> Self {
        let scopes = |unit: &dmar::Unit| Scopes {
            segment: unit.segment,
            includes_all: unit.includes_all,
            sources: unit
                .scopes
                .iter()
                .flat_map(|scope| pci.in_scope(unit.segment, scope))
                .map(|function| function.source)
                .collect(),
        };
        Self(dmar.units.iter().map(scopes).collect())
    }

    /// A unit that names the device, else the one for all the others.
    fn unit_of(&self, segment: u16, source: SourceId) -> Option<UnitIndex> {
        let in_segment = || {
            let units = (0..).zip(&self.0);
            units.filter(|(_, unit)| unit.segment == segment)
        };
        in_segment()
            .find(|(_, unit)| unit.sources.contains(&source))
            .or_else(|| in_segment().find(|(_, unit)| unit.includes_all))
            .map(|(number, _)| UnitIndex(number))
    }
}

/// What devices need from the start, without repetitions, by segment.
fn reserved_regions<R: Registers>(dmar: &Dmar, pci: &Pci<R>) -> Vec<(u16, ReservedRegion)> {
    let mut found = Vec::new();
    for region in &dmar.reserved {
        for scope in &region.scopes {
            for function in pci.in_scope(region.segment, scope) {
                if region.range.is_empty() {
                    continue;
                }
                let reserved = ReservedRegion {
                    source: function.source,
                    base: region.range.start(),
                    limit: region.range.end() - 1_u64,
                };
                let found_now = (region.segment, reserved);
                if !found.contains(&found_now) {
                    found.push(found_now);
                }
            }
        }
    }
    found
}

#[cfg(test)]
#[path = "iommu_tests.rs"]
mod tests;
