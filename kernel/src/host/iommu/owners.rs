//! Which IOMMU a device is behind, and what it needs of it from the start, as the DMAR
//! table says.

use alloc::vec::Vec;

use hwio::Registers;
use hwspec::pci::SourceId;
use vtd::ReservedRegion;

use super::UnitIndex;
use crate::acpi::dmar::{self, Dmar};
use crate::host::pci::Pci;

/// Which functions are whose, in the order of the units.
#[derive(Debug)]
pub(super) struct Owners(pub(super) Vec<Scopes>);

/// What one unit is for.
#[derive(Debug)]
pub(super) struct Scopes {
    pub(super) segment: u16,
    includes_all: bool,
    sources: Vec<SourceId>,
}

impl Owners {
    pub(super) fn new<R: Registers>(dmar: &Dmar, pci: &Pci<R>) -> Self {
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
    pub(super) fn unit_of(&self, segment: u16, source: SourceId) -> Option<UnitIndex> {
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
pub(super) fn reserved_regions<R: Registers>(
    dmar: &Dmar,
    pci: &Pci<R>,
) -> Vec<(u16, ReservedRegion)> {
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
#[path = "owners_tests.rs"]
mod tests;
