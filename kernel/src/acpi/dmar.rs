//! DMAR: the IOMMUs, which devices are behind which, and the memory that some
//! devices need from the start.

use alloc::vec::Vec;

use hwspec::acpi::dmar::{self, drhd, rmrr, scope};

use super::reader::Structure;
use super::{AcpiError, Signature};
use crate::mm::{PAGE_SIZE, PhysRange};

/// The table's name.
pub const SIGNATURE: [u8; 4] = *b"DMAR";

/// What the DMAR says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dmar {
    /// How many bits an address may have that a device uses.
    pub address_bits: u8,
    /// Whether the platform can remap interrupts.
    pub has_interrupt_remapping: bool,
    /// The IOMMUs, at least one.
    pub units: Vec<Unit>,
    /// Memory that devices use without asking.
    pub reserved: Vec<ReservedRegion>,
}

/// One IOMMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// PCI segment group.
    pub segment: u16,
    /// Where its registers are.
    pub registers: PhysRange,
    /// Whether it is also for all devices that no unit names.
    pub includes_all: bool,
    /// The devices that it is for.
    pub scopes: Vec<Scope>,
}

/// Memory that must stay mapped, one to one, for some devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservedRegion {
    /// PCI segment group.
    pub segment: u16,
    /// The memory.
    pub range: PhysRange,
    /// The devices that need it.
    pub scopes: Vec<Scope>,
}

/// Names a device, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// What it is.
    pub kind: ScopeKind,
    /// For an I/O APIC or an HPET, its number in other tables.
    pub enumeration_id: u8,
    /// The bus that the path begins on.
    pub start_bus: u8,
    /// Device and function: of a bridge on that bus, of one on the bus behind
    /// it, and so on; the last is that of the device.
    pub path: Vec<(u8, u8)>,
}

/// What a scope names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeKind(pub u8);

impl ScopeKind {
    /// One device.
    pub const ENDPOINT: Self = Self(scope::PCI_ENDPOINT);
    /// A bridge and all that is behind it.
    pub const SUB_HIERARCHY: Self = Self(scope::PCI_SUB_HIERARCHY);
    /// An I/O APIC, by the id that its messages carry.
    pub const IO_APIC: Self = Self(scope::IO_APIC);
    /// A timer that sends messages.
    pub const HPET: Self = Self(scope::HPET);
}

impl Dmar {
    /// Reads the table, header included.
    ///
    /// Structures of other types (ATSR, RHSA, ANDD, SATC, SIDP) are skipped:
    /// address translation services stay off, and the rest is advice.
    ///
    /// # Errors
    /// At the first structure that makes no sense, or if there is no unit.
    pub fn parse(table: &[u8]) -> Result<Self, AcpiError> {
        let malformed = |offset| AcpiError::Malformed(Signature(SIGNATURE), offset);
        let all = Structure(table);
        let (Some(width), Some(flags), Some(list)) = (
            all.get(dmar::HOST_ADDRESS_WIDTH),
            all.get(dmar::FLAGS),
            all.from(dmar::STRUCTURES),
        ) else {
            return Err(malformed(table.len()));
        };
        let mut parsed = Self {
            address_bits: width.saturating_add(1),
            has_interrupt_remapping: flags & dmar::FLAG_INTR_REMAP != 0,
            units: Vec::new(),
            reserved: Vec::new(),
        };
        let mut offset = dmar::STRUCTURES;
        for structure in list.list(4, |s| s.get(dmar::LENGTH).map(usize::from)) {
            let structure = structure.map_err(|at| malformed(dmar::STRUCTURES + at))?;
            parsed.take(structure).ok_or(malformed(offset))?;
            offset += structure.0.len();
        }
        if parsed.units.is_empty() {
            return Err(malformed(offset));
        }
        Ok(parsed)
    }

    /// Takes in one structure; none if it makes no sense.
    fn take(&mut self, structure: Structure<'_>) -> Option<()> {
        match structure.get(dmar::TYPE)? {
            drhd::TYPE => {
                let pages = 1 << (structure.get(drhd::SIZE)? & 0xf);
                let base = structure.get(drhd::REGISTER_BASE)?;
                self.units.push(Unit {
                    segment: structure.get(drhd::SEGMENT)?,
                    registers: PhysRange::from_parts(base, pages * PAGE_SIZE)
                        .filter(|range| range.start().is_aligned(PAGE_SIZE))?,
                    includes_all: structure.get(drhd::FLAGS)? & drhd::FLAG_INCLUDE_PCI_ALL != 0,
                    scopes: scopes(structure.from(drhd::DEVICE_SCOPE)?)?,
                });
            }
            rmrr::TYPE => {
                let base = structure.get(rmrr::BASE)?;
                let limit = structure.get(rmrr::LIMIT)?;
                let length = limit.checked_sub(base)?.checked_add(1)?;
                self.reserved.push(ReservedRegion {
                    segment: structure.get(rmrr::SEGMENT)?,
                    range: PhysRange::from_parts(base, length)?,
                    scopes: scopes(structure.from(rmrr::DEVICE_SCOPE)?)?,
                });
            }
            _ => {}
        }
        Some(())
    }
}

fn scopes(list: Structure<'_>) -> Option<Vec<Scope>> {
    list.list(scope::PATH + 2, |s| s.get(scope::LENGTH).map(usize::from))
        .map(|found| {
            let found = found.ok()?;
            let path = found.from(scope::PATH)?.0.chunks_exact(2);
            // A length that leaves half a step is as wrong as none at all.
            if !path.remainder().is_empty() {
                return None;
            }
            Some(Scope {
                kind: ScopeKind(found.get(scope::TYPE)?),
                enumeration_id: found.get(scope::ENUMERATION_ID)?,
                start_bus: found.get(scope::START_BUS)?,
                path: path
                    .map(|step| match *step {
                        // Five bits of device number, three of function number.
                        [device @ 0..32, function @ 0..8] => Some((device, function)),
                        _ => None,
                    })
                    .collect::<Option<_>>()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::table;
    use super::*;

    fn dmar(structures: &[u8]) -> Result<Dmar, AcpiError> {
        let mut body = Vec::from([47, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        body.extend(structures);
        Dmar::parse(&table(b"DMAR", 1, &body))
    }

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::from_parts(start, end - start).unwrap()
    }

    const DRHD_ALL: [u8; 16] = [0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0];

    #[test]
    fn units_with_scopes_and_reserved_regions_are_found() {
        let mut structures = Vec::from([
            // DRHD: 32 bytes, flags 0, 2^1 pages, segment 0, 0xfed91000
            0, 0, 32, 0, 0, 1, 0, 0, 0, 0x10, 0xd9, 0xfe, 0, 0, 0, 0, // endpoint 00:04.0
            1, 8, 0, 0, 0, 0, 4, 0, //
            // I/O APIC 8 as f0:1f.7
            3, 8, 0, 0, 8, 0xf0, 31, 7, //
            // ATSR, 8 bytes: skipped
            2, 0, 8, 0, 0, 0, 0, 0, //
            // RMRR: 34 bytes, segment 0, 0x7c000000..=0x7c7fffff
            1, 0, 34, 0, 0, 0, 0, 0, 0, 0, 0, 0x7c, 0, 0, 0, 0, //
            0xff, 0xff, 0x7f, 0x7c, 0, 0, 0, 0, //
            // sub-hierarchy: bridge 00:1c.4, then 00.0 behind it
            2, 10, 0, 0, 0, 0, 0x1c, 4, 0, 0,
        ]);
        structures.extend(DRHD_ALL);
        let scope = |kind, enumeration_id, start_bus, path: &[(u8, u8)]| Scope {
            kind,
            enumeration_id,
            start_bus,
            path: path.into(),
        };
        assert_eq!(
            dmar(&structures),
            Ok(Dmar {
                address_bits: 48,
                has_interrupt_remapping: true,
                units: Vec::from([
                    Unit {
                        segment: 0,
                        registers: range(0xfed9_1000, 0xfed9_3000),
                        includes_all: false,
                        scopes: Vec::from([
                            scope(ScopeKind::ENDPOINT, 0, 0, &[(4, 0)]),
                            scope(ScopeKind::IO_APIC, 8, 0xf0, &[(31, 7)]),
                        ]),
                    },
                    Unit {
                        segment: 0,
                        registers: range(0xfed9_0000, 0xfed9_1000),
                        includes_all: true,
                        scopes: Vec::new(),
                    },
                ]),
                reserved: Vec::from([ReservedRegion {
                    segment: 0,
                    range: range(0x7c00_0000, 0x7c80_0000),
                    scopes: Vec::from([scope(
                        ScopeKind::SUB_HIERARCHY,
                        0,
                        0,
                        &[(0x1c, 4), (0, 0)],
                    )]),
                }]),
            })
        );
    }

    #[test]
    fn a_table_without_units_is_refused() {
        let malformed = |at| Err(AcpiError::Malformed(Signature(*b"DMAR"), at));
        assert_eq!(dmar(&[]), malformed(48));
        assert_eq!(Dmar::parse(&table(b"DMAR", 1, &[47, 1])), malformed(38));
    }

    /// Each of these is a unit with one thing wrong, behind a good unit.
    #[test]
    fn structures_that_make_no_sense_are_refused() {
        let reject = |bad: &[u8]| {
            let mut structures = Vec::from(DRHD_ALL);
            structures.extend(bad);
            let error = AcpiError::Malformed(Signature(*b"DMAR"), 48 + 16);
            assert_eq!(dmar(&structures), Err(error), "{bad:x?}");
        };
        // Shorter than its own header, longer than the table, no fields.
        reject(&[0, 0, 3, 0]);
        reject(&[0, 0, 17, 0, 1, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0]);
        reject(&[0, 0, 8, 0, 1, 0, 0, 0]);
        reject(&[1, 0, 8, 0, 1, 0, 0, 0]);
        // Registers that are not on a page.
        reject(&[0, 0, 16, 0, 1, 0, 0, 0, 8, 0, 0xd9, 0xfe, 0, 0, 0, 0]);
        let drhd = |scope: &[u8]| {
            let mut bad = Vec::from(DRHD_ALL);
            bad.extend(scope);
            bad[2] = u8::try_from(bad.len()).unwrap();
            bad
        };
        // A scope without a path, with half a step, with no length, too long.
        reject(&drhd(&[1, 6, 0, 0, 0, 0]));
        reject(&drhd(&[1, 9, 0, 0, 0, 0, 4, 0, 5]));
        reject(&drhd(&[1, 0, 0, 0, 0, 0, 4, 0]));
        reject(&drhd(&[1, 10, 0, 0, 0, 0, 4, 0]));
        // Device 32, function 8.
        reject(&drhd(&[1, 8, 0, 0, 0, 0, 32, 0]));
        reject(&drhd(&[1, 8, 0, 0, 0, 0, 0, 8]));
        // A reserved region that ends before it begins.
        reject(&[
            1, 0, 24, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
    }
}
