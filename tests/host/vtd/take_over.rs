//! Units that firmware, a boot loader or another system has used.

use hwspec::pci::SourceId;
use vtd::{Access, Error, Iova, Leftovers, Mapping, ReservedRegion};
use x86_64::PhysAddr;

use hwio::FrameSource;

use crate::hardware::{CFI, IM, IQE, IRE, ITE, PFO, QIE, SIRTP, SRTP, TE, at};
use crate::lab::{
    CACHING, CACHING_FIRST, DSA, FIRST, HALF, KINDS, Kind, Machine, OTHER, PAGE, SECOND, SERVER,
    pasid,
};

/// Whatever was cached before leads to this.
const SECRET: u64 = 0x5ec4_e000;

/// A machine in which everything is on.
///
/// The caches know of a device with a PASID and of an interrupt: what a system before
/// could have used, and what must not work any more.
fn everything_on(kind: Kind, mode: u64) -> Machine {
    let mut machine = Machine::new(kind);
    let tables = machine.memory.allocate_zeroed(3).unwrap();
    let base = hwio::DmaPages::physical_address(&tables).as_u64();
    // The memory stays; nobody knows whose it was.
    std::mem::forget(tables);
    let mut hardware = machine.hardware.borrow_mut();
    hardware.set_root(base | mode << 10);
    hardware.interrupt_table = base + 0x1000;
    hardware.iqa = (base + 0x2000) | u64::from(mode == 1) << 11;
    hardware.gsts = TE | SRTP | QIE | IRE | SIRTP | CFI;
    hardware.iqt = 0x40;
    hardware.iqh = 0x40;
    hardware.fectl = 0;
    hardware.iectl = 0;
    hardware.ics = 1;
    hardware.pmen = 0x8000_0001;
    poison(&mut hardware);
    drop(hardware);
    machine
}

/// Fills the caches.
fn poison(hardware: &mut crate::hardware::Hardware) {
    for source in [DSA.into_bits(), OTHER.into_bits()] {
        hardware.poison_translation((source, Some(1)), 0x1, SECRET);
        hardware.poison_translation((source, None), 0x1, SECRET);
    }
    for index in 0..256 {
        let entry = [0x0000_0009_0077_0001, 0];
        hardware.interrupt_entries.insert(index, entry);
    }
}

fn assert_blocked(machine: &Machine, kind: Kind) {
    let mut hardware = machine.hardware.borrow_mut();
    for source in [DSA.into_bits(), OTHER.into_bits()] {
        for pasid in [None, Some(1)] {
            let result = hardware.request((source, pasid), 0x1000, true);
            assert_eq!(result, Err(0x39), "{}", kind.name);
        }
        assert_eq!(hardware.interrupt(source, 0xfee0_0010, 0), Err(0x22));
        assert_eq!(hardware.interrupt(source, 0xfee0_0000, 0), Err(0x25));
    }
    assert_eq!(hardware.gsts, TE | SRTP | QIE | IRE | SIRTP);
    assert_eq!(hardware.pmen & 0x8000_0001, 0);
    assert_eq!((hardware.fectl & IM, hardware.iectl & IM), (IM, IM));
    assert_eq!(hardware.ics, 0);
}

#[test]
fn a_unit_that_was_used_in_scalable_mode_is_taken_over_without_a_gap() {
    for kind in [SERVER, HALF] {
        let mut machine = everything_on(kind, 1);
        // A device that goes on all the while.
        machine.hardware.borrow_mut().probe = Some(((0x30, Some(1)), 0x5000));
        let unit = machine.bring_up().unwrap();
        let expected = Leftovers {
            translation: true,
            translation_gap: false,
            interrupt_remapping: true,
            queued_invalidation: true,
            protected_memory: true,
        };
        assert_eq!(unit.leftovers(), expected, "{}", kind.name);
        assert_blocked(&machine, kind);
        assert!(machine.hardware.borrow().leaks.is_empty());
    }
}

#[test]
fn a_unit_in_legacy_mode_is_taken_over_without_a_gap_if_it_can_be() {
    let mut machine = everything_on(SERVER, 0);
    machine.hardware.borrow_mut().probe = Some(((0x30, None), 0x5000));
    let unit = machine.bring_up().unwrap();
    assert!(unit.leftovers().translation);
    assert!(!unit.leftovers().translation_gap);
    assert_blocked(&machine, SERVER);
    assert!(machine.hardware.borrow().leaks.is_empty());
}

#[test]
fn a_gap_that_cannot_be_avoided_is_told() {
    // Without ESRTPS the mode cannot change while translation is on.
    let mut machine = everything_on(SECOND, 0);
    machine.hardware.borrow_mut().pmen = 0;
    machine.hardware.borrow_mut().probe = Some(((0x30, None), 0x5000));
    let unit = machine.bring_up().unwrap();
    let expected = Leftovers {
        translation: true,
        translation_gap: true,
        interrupt_remapping: true,
        queued_invalidation: true,
        protected_memory: false,
    };
    assert_eq!(unit.leftovers(), expected);
    assert_blocked(&machine, SECOND);
    assert!(!machine.hardware.borrow().leaks.is_empty());
}

#[test]
fn protected_memory_is_protected_until_translation_does_it() {
    for kind in [SERVER, HALF] {
        for mode in [0, 1, 3] {
            let mut machine = everything_on(kind, mode);
            machine.hardware.borrow_mut().gsts = 0;
            machine.hardware.borrow_mut().iqt = 0;
            machine.hardware.borrow_mut().iqh = 0;
            machine.hardware.borrow_mut().probe = Some(((0x30, None), 0x5000));
            let unit = machine.bring_up().unwrap();
            let expected = Leftovers {
                protected_memory: true,
                ..Leftovers::default()
            };
            assert_eq!(unit.leftovers(), expected);
            assert_blocked(&machine, kind);
            assert!(machine.hardware.borrow().leaks.is_empty(), "{}", kind.name);
        }
    }
}

#[test]
fn what_caches_still_hold_is_forgotten() {
    // Firmware had everything on and switched it off again.
    for kind in KINDS {
        let mut machine = Machine::new(kind);
        poison(&mut machine.hardware.borrow_mut());
        let unit = machine.bring_up().unwrap();
        assert_eq!(unit.leftovers(), Leftovers::default());
        assert_blocked(&machine, kind);
    }
}

#[test]
fn a_queue_that_stopped_at_an_error_is_replaced() {
    for status in [IQE, ITE, IQE | ITE | PFO] {
        let mut machine = everything_on(SERVER, 1);
        machine.hardware.borrow_mut().fsts = status;
        // It did not get to its end, and never will.
        machine.hardware.borrow_mut().iqh = 0x20;
        let unit = machine.bring_up().unwrap();
        assert!(unit.leftovers().queued_invalidation);
        assert_eq!(machine.hardware.borrow().fsts, 0);
        assert_blocked(&machine, SERVER);
    }
}

#[test]
fn a_queue_that_is_busy_is_waited_for_and_not_for_ever() {
    let mut machine = everything_on(SERVER, 1);
    machine.hardware.borrow_mut().iqh = 0;
    machine.hardware.borrow_mut().defects.queue_hangs = true;
    let error = machine.bring_up().unwrap_err();
    let register = vtd::RegisterName::Iqh;
    assert_eq!(error, Error::Timeout { register, value: 0 });
    assert_eq!(
        error.to_string(),
        "the IOMMU does not get done: IQH_REG is 0x0"
    );
}

#[test]
fn old_faults_are_not_reported() {
    for kind in KINDS {
        let mut machine = Machine::new(kind);
        let count = machine.hardware.borrow().records.len() + 3;
        for _ in 0..count {
            let record = [0x1000, 0xc000_0079_0000_0020];
            machine.hardware.borrow_mut().record(record);
        }
        let mut unit = machine.bring_up().unwrap();
        let summary = unit.read_faults(|fault| panic!("{fault}")).unwrap();
        assert!(!summary.overflow && !summary.more, "{}", kind.name);
    }
}

fn region(source: SourceId, base: u64, limit: u64) -> ReservedRegion {
    ReservedRegion {
        source,
        base: PhysAddr::new(base),
        limit: PhysAddr::new(limit),
    }
}

#[test]
fn reserved_regions_are_reached_at_their_own_addresses() {
    for kind in KINDS {
        let mut machine = Machine::new(kind);
        let regions = [
            region(DSA, 0x7b80_0000, 0x7fff_ffff),
            region(OTHER, 0x6000, 0x6fff),
            region(DSA, 0x1000, 0x1fff),
        ];
        let mut unit = machine.bring_up_with(&regions).unwrap();
        let reach = |source: SourceId, pasid, address| {
            let mut hardware = machine.hardware.borrow_mut();
            hardware.request((source.into_bits(), pasid), address, true)
        };
        assert_eq!(
            reach(DSA, None, 0x7b80_0123),
            Ok(0x7b80_0123),
            "{}",
            kind.name
        );
        assert_eq!(reach(DSA, None, 0x7fff_ffff), Ok(0x7fff_ffff));
        assert_eq!(reach(DSA, None, 0x1008), Ok(0x1008));
        assert_eq!(reach(OTHER, None, 0x6000), Ok(0x6000));
        // Not beside them, not another's, and not with a PASID.
        assert!(reach(DSA, None, 0x8000_0000).is_err());
        assert!(reach(DSA, None, 0x7b7f_f000).is_err());
        assert!(reach(DSA, None, 0x6000).is_err());
        assert!(reach(OTHER, None, 0x1000).is_err());
        assert_eq!(reach(DSA, Some(1), 0x1000), Err(0x45));
        // Such a device gets no PASIDs: its requests without one reach something.
        let domain = unit.create_domain(&mut machine.memory).unwrap();
        let result = unit.set_pasid(&mut machine.memory, DSA, pasid(1), domain);
        assert_eq!(result, Err(Error::DeviceWithoutPasids(DSA)));
        let result = unit.allow_device(&mut machine.memory, DSA);
        assert_eq!(result, Err(Error::DeviceAllowed(DSA)));
        // Blocked, it does not reach them any more.
        unit.block_device(DSA).unwrap();
        assert_eq!(reach(DSA, None, 0x1008), Err(0x41));
        assert_eq!(reach(OTHER, None, 0x6000), Ok(0x6000));
    }
}

/// A device that firmware let reach its region is let through at every moment, for it
/// does not stop. (Where the mode has to change, it is the gap that lets it through.)
#[test]
fn a_reserved_region_is_reached_as_soon_as_translation_is_on() {
    for kind in [SECOND, FIRST, SERVER, CACHING, CACHING_FIRST] {
        let mut machine = Machine::new(kind);
        machine.hardware.borrow_mut().probe = Some(((0x20, None), 0x1000));
        let unit = machine
            .bring_up_with(&[region(DSA, 0x1000, 0x1fff)])
            .unwrap();
        // After TE came IRTA_REG; it got through then too.
        assert!(machine.hardware.borrow().leaks.contains(&at::IRTA));
        drop(unit);
    }
}

#[test]
fn a_region_that_is_none_is_refused() {
    let cases = [
        // Not whole pages.
        (
            region(DSA, 0x1800, 0x1fff),
            Error::NotPages {
                iova: Iova(0x1800),
                len_bytes: 0x800,
            },
        ),
        // The limit is below the base.
        (
            region(DSA, 0x3000, 0x1fff),
            Error::NotPages {
                iova: Iova(0x3000),
                len_bytes: 0,
            },
        ),
        (
            region(DSA, 0xfee0_0000, 0xfee0_0fff),
            Error::InterruptRange {
                address: 0xfee0_0000,
            },
        ),
        (
            region(DSA, 1 << 50, (1 << 50) + 0xfff),
            Error::BeyondDomain {
                iova: Iova(1 << 50),
                address_bits: 48,
            },
        ),
    ];
    for (region, expected) in cases {
        let mut machine = Machine::new(SECOND);
        let error = machine.bring_up_with(&[region]).unwrap_err();
        assert_eq!(error, expected);
        // Translation was not switched on with a part of what is needed.
        assert_eq!(machine.hardware.borrow().gsts & TE, 0);
    }
}

/// Firmware may name a region twice, or for two devices behind one bridge, which are one
/// source. What is there already is what the second asks for.
#[test]
fn regions_that_meet_are_one() {
    for kind in KINDS {
        let mut machine = Machine::new(kind);
        let regions = [
            region(DSA, 0x20_0000, 0x5f_ffff),
            region(DSA, 0x20_0000, 0x5f_ffff),
            region(DSA, 0x1f_f000, 0x20_0fff),
            region(DSA, 0x5f_f000, 0x60_0fff),
        ];
        let unit = machine.bring_up_with(&regions).unwrap();
        let mut hardware = machine.hardware.borrow_mut();
        for address in [0x1f_f000, 0x20_0000, 0x40_0000, 0x5f_f000, 0x60_0000] {
            let result = hardware.request((0x20, None), address, true);
            assert_eq!(result, Ok(address), "{}", kind.name);
        }
        for address in [0x1f_e000, 0x60_1000] {
            assert!(hardware.request((0x20, None), address, true).is_err());
        }
        drop(unit);
    }
}

/// What a unit was brought up with is what it can be used with.
#[test]
fn a_unit_that_was_taken_over_works() {
    for mode in [0, 1] {
        let mut machine = everything_on(SERVER, mode);
        let mut unit = machine.bring_up().unwrap();
        let memory = &mut machine.memory;
        let domain = unit.create_domain(memory).unwrap();
        let mapping = Mapping {
            iova: Iova(0x1000),
            physical: PhysAddr::new(0xa000),
            len_bytes: PAGE,
            access: Access::ReadWrite,
        };
        unit.map(memory, domain, mapping).unwrap();
        unit.allow_device(memory, DSA).unwrap();
        unit.set_pasid(memory, DSA, pasid(1), domain).unwrap();
        let mut hardware = machine.hardware.borrow_mut();
        assert_eq!(hardware.request((0x20, Some(1)), 0x1000, true), Ok(0xa000));
    }
}
