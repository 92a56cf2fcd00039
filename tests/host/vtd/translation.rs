//! Devices, PASIDs, domains and pages: who reaches what, and that nobody reaches what was
//! taken away. The hardware keeps what it has cached until it is told to forget it, so a
//! request is made before each change and after it.

use vtd::{Access, Error, Iova, Mapping};
use x86_64::PhysAddr;

use crate::lab::{
    CACHING, CACHING_FIRST, DSA, FIRST, HALF, KINDS, Lab, OTHER, PAGE, POOR, SECOND, SERVER, pasid,
};

#[test]
fn a_pasid_reaches_its_domain_and_no_other() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let (a, b) = (lab.domain(0x1000, 0xa000), lab.domain(0x1000, 0xb000));
        lab.allow(DSA).unwrap();
        lab.set_pasid(DSA, 1, a).unwrap();
        lab.set_pasid(DSA, 0x7fff, b).unwrap();
        assert_eq!(lab.write(DSA, 1, 0x1234), Ok(0xa234), "{}", kind.name);
        assert_eq!(lab.write(DSA, 0x7fff, 0x1234), Ok(0xb234));
        assert_eq!(lab.write(DSA, 1, 0x2000), lab.not_mapped());
        // A PASID of the same table, one without a table, one beyond the directory.
        assert_eq!(lab.write(DSA, 2, 0x1234), Err(0x59));
        assert_eq!(lab.write(DSA, 0x40, 0x1234), Err(0x51));
        assert_eq!(lab.write(DSA, 0x8001, 0x1234), Err(0x46));
        // RID_PASID is not for requests with a PASID; those without reach nothing.
        assert_eq!(lab.write(DSA, 0, 0x1234), Err(0x48));
        assert_eq!(lab.write_plain(DSA, 0x1234), lab.not_mapped());
        // Another device, on a bus without a table and on one with.
        assert_eq!(lab.write(OTHER, 1, 0x1234), Err(0x39));
        lab.allow(OTHER).unwrap();
        assert_eq!(lab.write(OTHER, 1, 0x1234), Err(0x59));
    }
}

/// The tables as they are in memory, bit by bit.
#[test]
fn entries_are_these() {
    let mut lab = Lab::new(SECOND);
    let before = 0x12_3400_0000 + 0x1000 * (3 + 2 + 2 + 2);
    let domain = lab.unit.create_domain(&mut lab.memory).unwrap();
    lab.allow(OTHER).unwrap();
    lab.set_pasid(OTHER, 0x1043, domain).unwrap();
    // In the order in which they were had: second-stage table, PASID directory, PASID
    // table 0, context table, PASID table 41h.
    let page = |number: u64| before + 0x2000 * number;
    let read = |address| lab.memory.device_read(address);
    // Bus 6ah, upper half.
    assert_eq!(read(0x12_3400_3000 + 16 * 0x6a + 8), page(3) | 1);
    // Device 1fh, function 7: entry 127. PASIDE, PDTS 2.
    let context = page(3) + 32 * 127;
    assert_eq!(read(context), page(1) | 0x409);
    assert_eq!([8, 16, 24].map(|at| read(context + at)), [0; 3]);
    // Directory entry 1043h >> 6.
    assert_eq!(read(page(1) + 8 * 0x41), page(4) | 1);
    // Present, 48 bits, second stage; domain 2.
    let entry = page(4) + 64 * 3;
    assert_eq!(read(entry), page(0) | 0x89);
    assert_eq!(read(entry + 8), 2);
    assert_eq!(
        [2, 3, 4, 5, 6, 7].map(|word| read(entry + 8 * word)),
        [0; 6]
    );
    // RID_PASID's leads to the domain in which nothing is.
    assert_eq!(read(page(2)), 0x12_3400_7000 | 0x89);
    assert_eq!(read(page(2) + 8), 1);
}

#[test]
fn entries_of_other_units_are_these() {
    // First stage: its pointer in the third word, no width.
    let mut lab = Lab::new(FIRST);
    lab.allow(DSA).unwrap();
    let rid = 0x12_3400_b000;
    let words = [0, 1, 2, 3].map(|word| lab.memory.device_read(rid + 8 * word));
    assert_eq!(words, [0x41, 1, 0x12_3400_7000, 0]);
    // Page walks and pages are snooped where that can be asked for.
    let mut lab = Lab::new(SERVER);
    lab.allow(DSA).unwrap();
    assert_eq!(lab.memory.snoop(rid + 8), 0x0180_0001);
}

#[test]
fn pages_that_are_unmapped_are_gone() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let domain = lab.domain(0x1000, 0xa000);
        lab.map(domain, 0x20_0000, 0x4020_0000, 0x20_0000).unwrap();
        lab.map(domain, 0x40_0000, 0xc000, 3 * PAGE).unwrap();
        lab.allow(DSA).unwrap();
        lab.set_pasid(DSA, 1, domain).unwrap();
        lab.set_pasid(DSA, 2, domain).unwrap();
        let all = [
            0x1000, 0x20_0000, 0x3f_f000, 0x40_0000, 0x40_1000, 0x40_2000,
        ];
        for pasid in [1, 2] {
            for address in all {
                lab.write(DSA, pasid, address).unwrap();
            }
        }
        for (iova, len_bytes) in [
            (0x40_1000, PAGE),
            (0x20_0000, 0x20_0000),
            (0x40_2000, PAGE),
            (0x40_0000, PAGE),
            (0x1000, PAGE),
        ] {
            lab.unit.unmap(domain, Iova(iova), len_bytes).unwrap();
            for pasid in [1, 2] {
                for address in all {
                    let is_gone = (iova..iova + len_bytes).contains(&address);
                    let result = lab.write(DSA, pasid, address);
                    if is_gone {
                        assert_eq!(result, lab.not_mapped(), "{}", kind.name);
                    }
                }
            }
        }
        // And what comes into their place is what is reached.
        lab.map(domain, 0x1000, 0xe000, PAGE).unwrap();
        assert_eq!(lab.write(DSA, 2, 0x1000), Ok(0xe000));
    }
}

#[test]
fn unmapping_takes_one_invalidation() {
    let unmap = |kind, iova, len_bytes| {
        let mut lab = Lab::new(kind);
        let domain = lab.unit.create_domain(&mut lab.memory).unwrap();
        lab.map(domain, iova, iova, len_bytes).unwrap();
        lab.invalidations();
        lab.unit.unmap(domain, Iova(iova), len_bytes).unwrap();
        lab.invalidations()
    };
    // Page-selective: domain 2, draining; 2 MiB are 2^9 pages.
    assert_eq!(unmap(SECOND, 0x7000, PAGE), [[0x2_00f2, 0x7000, 0, 0]]);
    let large = [[0x2_00f2, 0x20_0009, 0, 0]];
    assert_eq!(unmap(SECOND, 0x20_0000, 0x20_0000), large);
    // Domain-selective where there is no page-selective one, or in the first stage.
    let domain = [[0x2_00e2, 0, 0, 0]];
    assert_eq!(unmap(POOR, 0x7000, PAGE), domain);
    assert_eq!(unmap(FIRST, 0x7000, PAGE), domain);
}

#[test]
fn a_cleared_pasid_reaches_nothing() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let (a, b) = (lab.domain(0x1000, 0xa000), lab.domain(0x1000, 0xb000));
        for source in [DSA, OTHER] {
            lab.allow(source).unwrap();
            lab.set_pasid(source, 1, a).unwrap();
            lab.set_pasid(source, 2, b).unwrap();
        }
        for source in [DSA, OTHER] {
            lab.write(source, 1, 0x1000).unwrap();
            lab.write(source, 2, 0x1000).unwrap();
        }
        lab.invalidations();
        lab.unit.clear_pasid(DSA, pasid(1)).unwrap();
        let expected = match kind.ecap >> 46 & 1 {
            // PASID-cache: PASID 1 of domain 2; then IOTLB: domain 2.
            1 => [[0x1_0002_0017, 0, 0, 0], [0x2_00e2, 0, 0, 0]],
            // Or the PASID's pages alone.
            _ => [[0x1_0002_0017, 0, 0, 0], [0x1_0002_0026, 0, 0, 0]],
        };
        assert_eq!(lab.invalidations(), expected, "{}", kind.name);
        assert_eq!(lab.write(DSA, 1, 0x1000), Err(0x59));
        assert_eq!(lab.write(DSA, 2, 0x1000), Ok(0xb000));
        assert_eq!(lab.write(OTHER, 1, 0x1000), Ok(0xa000));
        // The number is free for another domain.
        lab.set_pasid(DSA, 1, b).unwrap();
        assert_eq!(lab.write(DSA, 1, 0x1000), Ok(0xb000));
    }
}

#[test]
fn a_blocked_device_reaches_nothing() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let domain = lab.domain(0x1000, 0xa000);
        for source in [DSA, OTHER] {
            lab.allow(source).unwrap();
            lab.set_pasid(source, 1, domain).unwrap();
            lab.write(source, 1, 0x1000).unwrap();
        }
        lab.invalidations();
        let allocated = lab.memory.count_allocated();
        lab.unit.block_device(DSA).unwrap();
        // Context-cache: this device; PASID-cache and IOTLB: all.
        let expected = [[0x20_0000_0031, 0, 0, 0], [0x37, 0, 0, 0], [0xd2, 0, 0, 0]];
        assert_eq!(lab.invalidations(), expected);
        assert_eq!(lab.write(DSA, 1, 0x1000), Err(0x41), "{}", kind.name);
        assert_eq!(lab.write_plain(DSA, 0x1000), Err(0x41));
        assert_eq!(lab.write(OTHER, 1, 0x1000), Ok(0xa000));
        // Its directory and its table went back.
        assert_eq!(lab.memory.count_allocated(), allocated - 2);
        // Allowed again, it has no PASIDs.
        lab.allow(DSA).unwrap();
        assert_eq!(lab.write(DSA, 1, 0x1000), Err(0x59));
        lab.set_pasid(DSA, 1, domain).unwrap();
        assert_eq!(lab.write(DSA, 1, 0x1000), Ok(0xa000));
    }
}

#[test]
fn a_domain_number_that_is_used_again_has_no_past() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let domain = lab.domain(0x1000, 0xa000);
        lab.allow(DSA).unwrap();
        lab.set_pasid(DSA, 1, domain).unwrap();
        lab.write(DSA, 1, 0x1000).unwrap();
        let in_use = Error::DomainInUse { domain, users: 1 };
        assert_eq!(lab.unit.destroy_domain(domain), Err(in_use));
        lab.unit.clear_pasid(DSA, pasid(1)).unwrap();
        lab.invalidations();
        let allocated = lab.memory.count_allocated();
        assert_eq!(lab.unit.count_tables(domain), Ok(4));
        lab.unit.destroy_domain(domain).unwrap();
        // PASID-cache and IOTLB: domain 2.
        let expected = [[0x2_0007, 0, 0, 0], [0x2_00e2, 0, 0, 0]];
        assert_eq!(lab.invalidations(), expected);
        // Its four tables went back.
        assert_eq!(lab.memory.count_allocated(), allocated - 4);
        let again = lab.domain(0x2000, 0xb000);
        assert_eq!(again, domain);
        lab.set_pasid(DSA, 1, again).unwrap();
        assert_eq!(lab.write(DSA, 1, 0x1000), lab.not_mapped(), "{}", kind.name);
        assert_eq!(lab.write(DSA, 1, 0x2000), Ok(0xb000));
    }
}

#[test]
fn numbers_of_domains_are_filled_from_below() {
    let mut lab = Lab::new(POOR);
    let mut domains = Vec::new();
    // Four bits: 15 numbers, one of which is taken.
    for number in 2..=15 {
        let domain = lab.unit.create_domain(&mut lab.memory).unwrap();
        assert_eq!(domain.number(), number);
        domains.push(domain);
    }
    let full = Error::OutOfDomains { count: 15 };
    assert_eq!(lab.unit.create_domain(&mut lab.memory), Err(full));
    lab.unit.destroy_domain(domains[3]).unwrap();
    lab.unit.destroy_domain(domains[7]).unwrap();
    let again = [(); 2].map(|()| lab.unit.create_domain(&mut lab.memory).unwrap());
    assert_eq!(again, [domains[3], domains[7]]);
    assert_eq!(lab.unit.create_domain(&mut lab.memory), Err(full));
}

#[test]
fn read_only_pages_cannot_be_written() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let domain = lab.unit.create_domain(&mut lab.memory).unwrap();
        let mapping = Mapping {
            iova: Iova(0x20_0000),
            physical: PhysAddr::new(0x4020_0000),
            len_bytes: 0x20_0000,
            access: Access::ReadOnly,
        };
        lab.unit.map(&mut lab.memory, domain, mapping).unwrap();
        lab.allow(DSA).unwrap();
        lab.set_pasid(DSA, 1, domain).unwrap();
        let read = |address| {
            let mut hardware = lab.hardware.borrow_mut();
            hardware.request((0x20, Some(1)), address, false)
        };
        assert_eq!(lab.write(DSA, 1, 0x20_0008), Err(0x85));
        assert_eq!(read(0x20_0008), Ok(0x4020_0008));
        assert_eq!(lab.write(DSA, 1, 0x20_0008), Err(0x85));
    }
}

/// With a PASID, 0xFEEx_xxxx is an address like any, and nothing can be mapped there.
#[test]
fn the_interrupt_range_is_no_memory() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let domain = lab.domain(0x1000, 0xa000);
        lab.map(domain, 0xfedf_f000, 0xfedf_f000, PAGE).unwrap();
        lab.map(domain, 0xfef0_0000, 0xfef0_0000, PAGE).unwrap();
        lab.allow(DSA).unwrap();
        lab.set_pasid(DSA, 1, domain).unwrap();
        lab.write(DSA, 1, 0xfedf_f000).unwrap();
        lab.write(DSA, 1, 0xfef0_0000).unwrap();
        for address in [0xfee0_0000, 0xfee0_0010, 0xfeef_f000] {
            assert_eq!(lab.write(DSA, 1, address), lab.not_mapped());
        }
    }
}

#[test]
fn blocking_all_blocks_all() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let domain = lab.domain(0x1000, 0xa000);
        for source in [DSA, OTHER] {
            lab.allow(source).unwrap();
            lab.set_pasid(source, 1, domain).unwrap();
            lab.write(source, 1, 0x1000).unwrap();
        }
        lab.unit.block_all().unwrap();
        for source in [DSA, OTHER] {
            assert_eq!(lab.write(source, 1, 0x1000), Err(0x39), "{}", kind.name);
            assert_eq!(lab.write_plain(source, 0x1000), Err(0x39));
        }
    }
}

/// What comes is reached at once, though the unit remembers that it was not there.
#[test]
fn a_unit_that_caches_what_is_not_there_hears_of_what_comes() {
    for kind in [CACHING, CACHING_FIRST] {
        let mut lab = Lab::new(kind);
        assert_eq!(lab.write(DSA, 1, 0x1000), Err(0x39));
        lab.allow(DSA).unwrap();
        assert_eq!(lab.write(DSA, 1, 0x1000), Err(0x59), "{}", kind.name);
        let domain = lab.unit.create_domain(&mut lab.memory).unwrap();
        lab.set_pasid(DSA, 1, domain).unwrap();
        assert_eq!(lab.write(DSA, 1, 0x1000), lab.not_mapped());
        lab.map(domain, 0x1000, 0xa000, PAGE).unwrap();
        assert_eq!(lab.write(DSA, 1, 0x1000), Ok(0xa000));
    }
    // And one that does not is not told.
    for kind in [SECOND, HALF] {
        let mut lab = Lab::new(kind);
        let domain = lab.domain(0x1000, 0xa000);
        lab.allow(DSA).unwrap();
        lab.set_pasid(DSA, 1, domain).unwrap();
        assert_eq!(lab.invalidations(), [[0; 4]; 0]);
    }
}

/// Without memory nothing is half done: what was refused works later.
#[test]
fn without_memory_nothing_changes() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let out = Error::OutOfFrames { count_pages: 1 };
        lab.memory.limit(0);
        assert_eq!(lab.unit.create_domain(&mut lab.memory), Err(out));
        lab.memory.limit(1);
        let domain = lab.unit.create_domain(&mut lab.memory).unwrap();
        // Directory, PASID table, context table.
        for count in 0..3 {
            lab.memory.limit(count);
            assert_eq!(lab.allow(DSA), Err(out));
            assert!(lab.write(DSA, 1, 0x1000).is_err());
            let unknown = Err(Error::UnknownDevice(DSA));
            assert_eq!(lab.unit.block_device(DSA), unknown);
        }
        lab.memory.limit(3);
        lab.allow(DSA).unwrap();
        assert_eq!(lab.set_pasid(DSA, 0x100, domain), Err(out));
        assert_eq!(lab.write(DSA, 0x100, 0x1000), Err(0x51));
        assert_eq!(lab.map(domain, 0x1000, 0xa000, PAGE), Err(out));
        lab.memory.limit(usize::MAX);
        lab.map(domain, 0x1000, 0xa000, PAGE).unwrap();
        lab.set_pasid(DSA, 0x100, domain).unwrap();
        assert_eq!(lab.write(DSA, 0x100, 0x1000), Ok(0xa000), "{}", kind.name);
    }
}
