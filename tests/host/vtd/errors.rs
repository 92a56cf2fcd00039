//! Each error, where it comes from and what it says.

use hwio::fake::{FakeClock, FakeRegisters, Log, Memory, NeverCompletes};
use hwspec::vtd::{Cap, Ecap};
use vtd::{Access, Error, InterruptIndex, Iova, Mapping, RemappingUnit, Route};
use x86_64::PhysAddr;

use crate::hardware::at;
use crate::lab::{DSA, FIRST, Kind, Lab, Machine, OTHER, PAGE, POOR, SECOND, pasid, setup};

#[track_caller]
fn says(error: Error, words: &str) {
    assert_eq!(error.to_string(), words);
}

/// Why a unit like this is not brought up. It was not touched then.
fn refused(cap: u64, ecap: u64) -> Error {
    let kind = Kind {
        name: "refused",
        cap,
        ecap,
    };
    let mut machine = Machine::new(kind);
    let error = machine.bring_up().unwrap_err();
    assert_eq!(machine.log.take_effects(), []);
    assert_eq!(machine.memory.count_allocated(), 0);
    error
}

fn without(bit: u32) -> (Error, Ecap) {
    let ecap = SECOND.ecap & !(1 << bit);
    (refused(SECOND.cap, ecap), Ecap::from_bits(ecap))
}

#[test]
fn a_unit_that_lacks_something_is_refused_by_name() {
    let (error, ecap) = without(1);
    assert_eq!(error, Error::NoQueuedInvalidation(ecap));
    says(
        error,
        "the IOMMU has no queued invalidation (ECAP 0x0000499880f00f58)",
    );
    let (error, ecap) = without(43);
    assert_eq!(error, Error::NoScalableMode(ecap));
    says(
        error,
        "the IOMMU has no scalable mode (ECAP 0x0000419880f00f5a)",
    );
    let (error, ecap) = without(40);
    assert_eq!(error, Error::NoPasid(ecap));
    says(error, "the IOMMU has no PASIDs (ECAP 0x0000489880f00f5a)");
    let (error, ecap) = without(3);
    assert_eq!(error, Error::NoInterruptRemapping(ecap));
    says(
        error,
        "the IOMMU has no interrupt remapping (ECAP 0x0000499880f00f52)",
    );
    let (error, ecap) = without(4);
    assert_eq!(error, Error::NoExtendedInterruptMode(ecap));
    says(
        error,
        "the IOMMU has no x2APIC mode (ECAP 0x0000499880f00f4a)",
    );
    let (error, ecap) = without(46);
    assert_eq!(error, Error::NoTranslation(ecap));
    says(
        error,
        "the IOMMU has no first or second stage (ECAP 0x0000099880f00f5a)",
    );
}

#[test]
fn a_unit_that_is_not_defined_is_refused() {
    let cap = SECOND.cap | 1 << 4;
    let error = refused(cap, SECOND.ecap);
    assert_eq!(error, Error::WriteBufferFlushing(Cap::from_bits(cap)));
    says(
        error,
        "the IOMMU needs its write buffers flushed (CAP 0x00d2008c222f0616)",
    );
    let cap = SECOND.cap | 7;
    let error = refused(cap, SECOND.ecap);
    assert_eq!(error, Error::UnknownDomainCount(Cap::from_bits(cap)));
    says(
        error,
        "the IOMMU's number of domains is undefined (CAP 0x00d2008c222f0607)",
    );
    let cap = SECOND.cap & !(0x1f << 8);
    let error = refused(cap, SECOND.ecap);
    assert_eq!(error, Error::NoTableDepth(Cap::from_bits(cap)));
    says(
        error,
        "the IOMMU's table depth is undefined (CAP 0x00d2008c222f0006)",
    );
    let error = refused(SECOND.cap & !(0x3f << 16) | 35 << 16, SECOND.ecap);
    let (offered_bits, needed_bits) = (36, 39);
    let expected = Error::AddressWidth {
        offered_bits,
        needed_bits,
    };
    assert_eq!(error, expected);
    says(error, "the IOMMU translates 36 bits of 39");
    // FRO in 16 bytes, 256 records: from ff0h to 1ff0h.
    let error = refused(
        SECOND.cap & !(0x3ff << 24) | 0xff << 24 | 0xff << 40,
        SECOND.ecap,
    );
    let (end, len_bytes) = (0x1ff0, 0x1000);
    assert_eq!(error, Error::FaultRegistersOutside { end, len_bytes });
    says(error, "the IOMMU's fault records end at 0x1ff0 of 0x1000");
}

#[test]
fn a_window_that_is_too_small_is_not_looked_at() {
    let log = Log::new();
    let registers = FakeRegisters::new(NeverCompletes::default(), 0x800, &log);
    let mut memory = Memory::coherent(&log);
    let result = RemappingUnit::bring_up(registers, FakeClock::new(), &mut memory, &setup());
    let error = result.unwrap_err();
    assert_eq!(error, Error::WindowTooSmall { len_bytes: 0x800 });
    says(error, "the IOMMU has only 0x800 bytes of registers");
    assert_eq!(log.take(), []);
}

#[test]
fn a_unit_without_memory_for_its_tables_is_left_alone() {
    // Queue, root table, interrupt remapping table, domain; all come first.
    for (count, count_pages) in [(0, 2), (1, 2), (2, 1), (3, 1), (4, 1)] {
        let mut machine = Machine::new(SECOND);
        machine.memory.limit(count);
        let error = machine.bring_up().unwrap_err();
        assert_eq!(error, Error::OutOfFrames { count_pages });
        says(error, &format!("no {count_pages} pages for the IOMMU"));
        assert_eq!(machine.hardware.borrow().gsts, 0);
        let writes = machine.log.take_effects();
        let is_register =
            |event: &hwio::fake::Event| matches!(event, hwio::fake::Event::Write { .. });
        assert!(!writes.iter().any(is_register));
    }
}

#[test]
#[should_panic(expected = "2^7 interrupts")]
fn a_table_of_few_interrupts_is_not_asked_for() {
    let mut machine = Machine::new(SECOND);
    let setup = vtd::Setup {
        interrupts_log2: 7,
        ..setup()
    };
    let (registers, clock) = (machine.registers.clone(), machine.clock.clone());
    drop(RemappingUnit::bring_up(
        registers,
        clock,
        &mut machine.memory,
        &setup,
    ));
}

#[test]
fn domains_that_are_none_or_in_use() {
    let mut lab = Lab::new(SECOND);
    let domain = lab.domain(0x1000, 0xa000);
    lab.unit.destroy_domain(domain).unwrap();
    let unknown = Error::UnknownDomain(domain);
    says(unknown, "there is no domain 2");
    assert_eq!(lab.unit.destroy_domain(domain), Err(unknown));
    assert_eq!(lab.map(domain, 0x1000, 0, PAGE), Err(unknown));
    let result = lab.unit.unmap(domain, Iova(0x1000), PAGE);
    assert_eq!(result, Err(unknown));
    assert_eq!(lab.unit.count_tables(domain), Err(unknown));
    lab.allow(DSA).unwrap();
    assert_eq!(lab.set_pasid(DSA, 1, domain), Err(unknown));

    let domain = lab.domain(0x1000, 0xa000);
    lab.set_pasid(DSA, 1, domain).unwrap();
    lab.set_pasid(DSA, 2, domain).unwrap();
    lab.allow(OTHER).unwrap();
    lab.set_pasid(OTHER, 1, domain).unwrap();
    let in_use = Error::DomainInUse { domain, users: 3 };
    says(in_use, "domain 2 is in use by 3 PASIDs");
    assert_eq!(lab.unit.destroy_domain(domain), Err(in_use));
    // Blocking a device frees what its PASIDs had.
    lab.unit.block_device(DSA).unwrap();
    lab.unit.clear_pasid(OTHER, pasid(1)).unwrap();
    assert_eq!(lab.unit.destroy_domain(domain), Ok(()));
}

#[test]
fn domains_and_interrupts_run_out() {
    says(Error::OutOfHeap, "no heap for the IOMMU");
    let mut lab = Lab::new(POOR);
    let full = loop {
        if let Err(error) = lab.unit.create_domain(&mut lab.memory) {
            break error;
        }
    };
    assert_eq!(full, Error::OutOfDomains { count: 15 });
    says(full, "all 15 domains are in use");
    let full = loop {
        if let Err(error) = lab.unit.allocate_interrupt(DSA) {
            break error;
        }
    };
    assert_eq!(full, Error::OutOfInterrupts { count: 256 });
    says(full, "all 256 interrupt remapping entries are in use");
}

#[test]
fn devices_that_are_allowed_or_not() {
    let mut lab = Lab::new(SECOND);
    let domain = lab.domain(0x1000, 0xa000);
    let unknown = Error::UnknownDevice(DSA);
    says(unknown, "DMA of 00:04.0 is blocked");
    assert_eq!(lab.unit.block_device(DSA), Err(unknown));
    assert_eq!(lab.set_pasid(DSA, 1, domain), Err(unknown));
    assert_eq!(lab.unit.clear_pasid(DSA, pasid(1)), Err(unknown));
    lab.allow(DSA).unwrap();
    let allowed = Error::DeviceAllowed(DSA);
    says(allowed, "DMA of 00:04.0 is allowed already");
    assert_eq!(lab.allow(DSA), Err(allowed));
    says(
        Error::DeviceWithoutPasids(DSA),
        "00:04.0 may not use PASIDs",
    );
}

#[test]
fn pasids_out_of_range_in_use_or_unused() {
    let mut lab = Lab::new(SECOND);
    let domain = lab.domain(0x1000, 0xa000);
    lab.allow(DSA).unwrap();
    // 0 is the one of requests without PASID; the directory has 512 * 64.
    for number in [0, 0x8000, 0xf_ffff] {
        let error = Error::PasidOutOfRange {
            pasid: pasid(number),
            highest: pasid(0x7fff),
        };
        assert_eq!(lab.set_pasid(DSA, number, domain), Err(error));
    }
    says(
        Error::PasidOutOfRange {
            pasid: pasid(0x8000),
            highest: pasid(0x7fff),
        },
        "PASID 0x8000 is not from 0x1 to 0x7fff",
    );
    lab.set_pasid(DSA, 5, domain).unwrap();
    let (source, number) = (DSA, pasid(5));
    let in_use = Error::PasidInUse {
        source,
        pasid: number,
    };
    says(in_use, "PASID 0x5 of 00:04.0 is in use");
    assert_eq!(lab.set_pasid(DSA, 5, domain), Err(in_use));
    lab.unit.clear_pasid(DSA, number).unwrap();
    let unused = |number| Error::PasidUnused {
        source,
        pasid: pasid(number),
    };
    says(unused(5), "PASID 0x5 of 00:04.0 is not in use");
    // Cleared; never set; without a table; the one of requests without PASID.
    for number in [5, 6, 0x100, 0, 0xf_ffff] {
        let result = lab.unit.clear_pasid(DSA, pasid(number));
        assert_eq!(result, Err(unused(number)), "{number:#x}");
    }
}

#[test]
fn pasids_go_as_far_as_the_unit_does() {
    // PSS 7: eight bits.
    let ecap = SECOND.ecap & !(0x1f << 35) | 7 << 35;
    let mut lab = Lab::new(Kind { ecap, ..SECOND });
    let domain = lab.domain(0x1000, 0xa000);
    lab.allow(DSA).unwrap();
    let error = Error::PasidOutOfRange {
        pasid: pasid(0x100),
        highest: pasid(0xff),
    };
    assert_eq!(lab.set_pasid(DSA, 0x100, domain), Err(error));
    lab.set_pasid(DSA, 0xff, domain).unwrap();
    assert_eq!(lab.write(DSA, 0xff, 0x1000), Ok(0xa000));
    assert_eq!(lab.write(DSA, 0x100, 0x1000), Err(0x89));
}

#[test]
fn interrupts_that_are_none() {
    let mut lab = Lab::new(SECOND);
    let route = Route {
        apic_id: 0,
        vector: 0x41,
    };
    let index = lab.unit.allocate_interrupt(DSA).unwrap();
    lab.unit.release_interrupt(index).unwrap();
    let unknown = Error::UnknownInterrupt(index);
    says(unknown, "there is no interrupt remapping entry 0");
    assert_eq!(lab.unit.release_interrupt(index), Err(unknown));
    assert_eq!(lab.unit.set_interrupt(index, route), Err(unknown));
    // One of another, larger table.
    let mut large = Machine::new(SECOND);
    let setup = vtd::Setup {
        interrupts_log2: 16,
        ..setup()
    };
    let (registers, clock) = (large.registers.clone(), large.clock.clone());
    let result = RemappingUnit::bring_up(registers, clock, &mut large.memory, &setup);
    let mut unit = result.unwrap();
    let all: Vec<InterruptIndex> = (0..1 << 16)
        .map(|_| unit.allocate_interrupt(DSA).unwrap())
        .collect();
    let last = all[0xffff];
    assert_eq!(
        lab.unit.set_interrupt(last, route),
        Err(Error::UnknownInterrupt(last))
    );
    // There it works.
    unit.set_interrupt(last, route).unwrap();
    let address = last.message().address;
    let result = large.hardware.borrow_mut().interrupt(0x20, address, 0);
    assert_eq!(result, Ok((0, 0x41)));
}

#[test]
fn ranges_that_are_none() {
    for kind in [SECOND, FIRST] {
        let mut lab = Lab::new(kind);
        let domain = lab.domain(0x20_0000, 0x4020_0000);
        lab.map(domain, 0x40_0000, 0x4040_0000, 0x20_0000).unwrap();
        lab.invalidations();
        let iova = Iova(0x1800);
        let cases = [
            (
                lab.map(domain, 0x1800, 0, PAGE),
                Error::NotPages {
                    iova,
                    len_bytes: PAGE,
                },
                "0x1000 bytes at device address 0x1800 are not whole pages",
            ),
            (
                lab.map(domain, 1 << 50, 0, PAGE),
                Error::BeyondDomain {
                    iova: Iova(1 << 50),
                    address_bits: lab.unit.capabilities().address_bits,
                },
                "",
            ),
            (
                lab.map(domain, 0x1000, 0x1800, PAGE),
                Error::NotFrames {
                    physical: PhysAddr::new(0x1800),
                    len_bytes: PAGE,
                },
                "0x1000 bytes at physical 0x1800 are not whole frames",
            ),
            (
                lab.map(domain, 0xfee0_0000, 0, PAGE),
                Error::InterruptRange {
                    address: 0xfee0_0000,
                },
                "a range at 0xfee00000 touches the interrupt range",
            ),
            (
                lab.map(domain, 0x20_0000, 0, PAGE),
                Error::AlreadyMapped(Iova(0x20_0000)),
                "device address 0x200000 is mapped already",
            ),
            (
                lab.unit.unmap(domain, Iova(0x1000), PAGE),
                Error::NotMapped(Iova(0x1000)),
                "device address 0x1000 is not mapped",
            ),
            (
                lab.unit.unmap(domain, Iova(0x40_1000), PAGE),
                Error::LargerPage(Iova(0x40_1000)),
                "device address 0x401000 is in a larger page",
            ),
        ];
        for (result, expected, words) in cases {
            assert_eq!(result, Err(expected));
            if !words.is_empty() {
                says(expected, words);
            }
        }
        says(
            Error::BeyondDomain {
                iova: Iova(1 << 50),
                address_bits: 48,
            },
            "a range at device address 0x4000000000000 goes beyond 48 bits",
        );
        // What was refused was not invalidated, for nothing changed.
        assert_eq!(lab.invalidations(), [[0; 4]; 0]);
    }
}

/// A mapping that is refused leaves what was there reachable.
#[test]
fn a_refused_mapping_changes_nothing() {
    let mut lab = Lab::new(SECOND);
    let domain = lab.domain(0x3000, 0xa000);
    lab.allow(DSA).unwrap();
    lab.set_pasid(DSA, 1, domain).unwrap();
    let mapping = Mapping {
        iova: Iova(0x1000),
        physical: PhysAddr::new(0xb000),
        len_bytes: 4 * PAGE,
        access: Access::ReadWrite,
    };
    let result = lab.unit.map(&mut lab.memory, domain, mapping);
    assert_eq!(result, Err(Error::AlreadyMapped(Iova(0x3000))));
    assert_eq!(lab.write(DSA, 1, 0x3000), Ok(0xa000));
    for address in [0x1000, 0x2000, 0x4000] {
        assert_eq!(lab.write(DSA, 1, address), Err(0x79));
    }
}

/// The registers are where the driver looks for them.
#[test]
fn register_windows_begin_at_the_version() {
    assert_eq!(at::CAP, hwspec::vtd::CAP.offset());
    assert_eq!(at::ECAP, hwspec::vtd::ECAP.offset());
    assert_eq!(at::GSTS, hwspec::vtd::GSTS.offset());
    assert_eq!(at::PMEN, hwspec::vtd::PMEN.offset());
    assert_eq!(at::ICS, hwspec::vtd::ICS.offset());
    assert_eq!(at::IECTL, hwspec::vtd::IECTL.offset());
    assert_eq!(at::IQERCD, hwspec::vtd::IQERCD.offset());
    assert_eq!(at::FEUADDR, hwspec::vtd::FEUADDR.offset());
}
