use alloc::vec;

use x86_64::PhysAddr;

use super::*;
use crate::acpi::dmar::{Scope, ScopeKind};
use crate::host::pci::tests::{bridge, endpoint, pci, source};
use crate::mm::PhysRange;

fn scope(kind: ScopeKind, path: &[(u8, u8)]) -> Scope {
    Scope {
        kind,
        enumeration_id: 0,
        start_bus: 0x10,
        path: path.into(),
    }
}

fn unit(segment: u16, includes_all: bool, scopes: Vec<Scope>) -> dmar::Unit {
    dmar::Unit {
        segment,
        registers: PhysRange::from_parts(0xfed9_0000, 0x1000).unwrap(),
        includes_all,
        scopes,
    }
}

fn reserved(start: u64, length: u64, path: &[(u8, u8)]) -> dmar::ReservedRegion {
    dmar::ReservedRegion {
        segment: 0,
        range: PhysRange::from_parts(start, length).unwrap(),
        scopes: vec![scope(ScopeKind::ENDPOINT, path)],
    }
}

fn dmar(units: Vec<dmar::Unit>, reserved: Vec<dmar::ReservedRegion>) -> Dmar {
    Dmar {
        address_bits: 48,
        has_interrupt_remapping: true,
        units,
        reserved,
    }
}

#[test]
fn a_unit_that_names_a_device_comes_before_the_one_for_all() {
    let pci = pci([
        (source(0x10, 1, 0), endpoint()),
        (source(0x10, 2, 0), bridge(0x11, 0x11)),
        (source(0x11, 5, 0), endpoint()),
        (source(0x12, 1, 0), endpoint()),
    ]);
    let owners = Owners::new(
        &dmar(
            vec![
                unit(1, true, vec![]),
                unit(0, true, vec![]),
                unit(0, false, vec![scope(ScopeKind::SUB_HIERARCHY, &[(2, 0)])]),
                unit(0, false, vec![scope(ScopeKind::ENDPOINT, &[(1, 0)])]),
            ],
            vec![],
        ),
        &pci,
    );
    let unit_of = |segment, source| owners.unit_of(segment, source).map(UnitIndex::number);
    assert_eq!(unit_of(0, source(0x10, 1, 0)), Some(3));
    assert_eq!(unit_of(0, source(0x11, 5, 0)), Some(2));
    assert_eq!(unit_of(0, source(0x10, 2, 0)), Some(2));
    assert_eq!(unit_of(0, source(0x12, 1, 0)), Some(1));
    assert_eq!(unit_of(1, source(0x10, 1, 0)), Some(0));
    assert_eq!(unit_of(2, source(0x10, 1, 0)), None);
}

#[test]
fn a_device_that_no_unit_is_for_has_none() {
    let pci = pci([(source(0x10, 1, 0), endpoint())]);
    let only = unit(0, false, vec![scope(ScopeKind::ENDPOINT, &[(7, 0)])]);
    let owners = Owners::new(&dmar(vec![only], vec![]), &pci);
    assert_eq!(owners.unit_of(0, source(0x10, 1, 0)), None);
}

#[test]
fn reserved_memory_is_for_the_devices_that_exist_and_once() {
    let pci = pci([(source(0x10, 1, 0), endpoint())]);
    let regions = vec![
        reserved(0x7c00_0000, 0x1000, &[(1, 0)]),
        reserved(0x7c00_0000, 0x1000, &[(1, 0)]),
        reserved(0x7d00_0000, 0x1000, &[(9, 0)]),
        reserved(0x7e00_0000, 0x2000, &[(1, 0)]),
    ];
    let found = reserved_regions(&dmar(vec![], regions), &pci);
    let region = |base: u64, limit: u64| {
        let region = ReservedRegion {
            source: source(0x10, 1, 0),
            base: PhysAddr::new(base),
            limit: PhysAddr::new(limit),
        };
        (0, region)
    };
    assert_eq!(
        found,
        [
            region(0x7c00_0000, 0x7c00_0fff),
            region(0x7e00_0000, 0x7e00_1fff)
        ]
    );
}
