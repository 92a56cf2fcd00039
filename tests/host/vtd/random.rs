//! Whatever is done in whatever order, devices reach what the books say, and interrupts
//! arrive where they say.
//!
//! Before each step every request that can be told apart is made, so that all caches are
//! as full as they get. After it each of them is made again. A flush that is missing, too
//! narrow or too early lets one through that should not be.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use proptest::prelude::*;

use hwspec::pci::SourceId;
use vtd::{Access, DomainId, Error, InterruptIndex, Iova, Mapping, Route};
use x86_64::PhysAddr;

use crate::lab::{DSA, KINDS, Lab, OTHER, PAGE, pasid};

const SOURCES: [SourceId; 3] = [DSA, SourceId::from_bits(0x0021), OTHER];
const PASIDS: [u32; 4] = [1, 2, 0x40, 0x7fff];
const DOMAINS: usize = 3;
const INTERRUPTS: usize = 4;

/// Ranges that are mapped as a whole: what each consists of, and where it leads.
const RANGES: [(u64, u64, u64); 6] = [
    (0x1000, PAGE, 0x1_0000_1000),
    (0x2000, 3 * PAGE, 0x1_0000_2000),
    // Two large pages, with small ones around.
    (0x3f_f000, 0x40_2000, 0x1_203f_f000),
    // Far away, under another entry of the highest table.
    (0x80_0000_0000, PAGE, 0x1_0001_0000),
    // Up to the last page of the first stage's half.
    (0x7fff_ffff_f000, PAGE, 0x1_0002_0000),
    (0x4000_0000, 0x4000_0000, 0x2_4000_0000),
];

/// Addresses in and beside the ranges.
const ADDRESSES: [u64; 14] = [
    0x0,
    0x1000,
    0x2000,
    0x3000,
    0x4000,
    0x5000,
    0x3f_f000,
    0x40_0000,
    0x7f_f000,
    0x80_0000,
    0x80_1000,
    0x80_0000_0000,
    0x7fff_ffff_f000,
    0x7fff_f000,
];

#[derive(Clone, Copy, Debug)]
enum Step {
    Allow(usize),
    Block(usize),
    Create(usize),
    Destroy(usize),
    Map(usize, usize, bool),
    Unmap(usize, usize),
    Set(usize, usize, usize),
    Clear(usize, usize),
    Allocate(usize, usize),
    Route(usize, u32, u8),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (source, pasid) = (0..SOURCES.len(), 0..PASIDS.len());
    let (domain, range) = (0..DOMAINS, 0..RANGES.len());
    let slot = 0..INTERRUPTS;
    prop_oneof![
        2 => source.clone().prop_map(Step::Allow),
        1 => source.clone().prop_map(Step::Block),
        2 => domain.clone().prop_map(Step::Create),
        1 => domain.clone().prop_map(Step::Destroy),
        6 => (domain.clone(), range.clone(), any::<bool>())
            .prop_map(|(domain, range, writable)| Step::Map(domain, range, writable)),
        4 => (domain.clone(), range).prop_map(|(domain, range)| Step::Unmap(domain, range)),
        6 => (source.clone(), pasid.clone(), domain)
            .prop_map(|(source, pasid, domain)| Step::Set(source, pasid, domain)),
        3 => (source.clone(), pasid).prop_map(|(source, pasid)| Step::Clear(source, pasid)),
        2 => (slot.clone(), source).prop_map(|(slot, source)| Step::Allocate(slot, source)),
        3 => (slot.clone(), 0..300_u32, 0x20..=255_u8)
            .prop_map(|(slot, apic_id, vector)| Step::Route(slot, apic_id, vector)),
        1 => slot.prop_map(Step::Release),
    ]
}

#[derive(Debug, Default)]
struct Space {
    id: Option<DomainId>,
    /// Ranges that are mapped, and whether they may be written.
    ranges: BTreeMap<usize, bool>,
}

impl Space {
    fn reach(&self, address: u64, is_write: bool) -> Option<u64> {
        let mut found = self.ranges.iter().filter_map(|(&range, &is_writable)| {
            let (iova, len_bytes, physical) = RANGES[range];
            let is_inside = (iova..iova + len_bytes).contains(&address);
            (is_inside && (is_writable || !is_write)).then(|| physical + (address - iova))
        });
        found.next()
    }
}

/// An entry, whose it is, and where it leads.
#[derive(Clone, Copy, Debug)]
struct Interrupt {
    index: InterruptIndex,
    source: usize,
    route: Option<(u32, u8)>,
}

#[derive(Debug, Default)]
struct Books {
    spaces: [Space; DOMAINS],
    /// By source, what each PASID has.
    devices: BTreeMap<usize, BTreeMap<usize, usize>>,
    interrupts: BTreeMap<usize, Interrupt>,
    /// Indices that were given back.
    old: Vec<InterruptIndex>,
}

impl Books {
    fn users(&self, domain: usize) -> usize {
        let pasids = self.devices.values().flat_map(BTreeMap::values);
        pasids.filter(|&&of| of == domain).count()
    }

    /// Carries out a step on both sides, and compares what each says of it.
    fn step(&mut self, lab: &mut Lab, step: Step) {
        match step {
            Step::Allow(source) => {
                let expected = match self.devices.contains_key(&source) {
                    true => Err(Error::DeviceAllowed(SOURCES[source])),
                    false => Ok(()),
                };
                assert_eq!(lab.allow(SOURCES[source]), expected);
                self.devices.entry(source).or_default();
            }
            Step::Block(source) => {
                let expected = match self.devices.remove(&source) {
                    None => Err(Error::UnknownDevice(SOURCES[source])),
                    Some(_) => Ok(()),
                };
                assert_eq!(lab.unit.block_device(SOURCES[source]), expected);
            }
            Step::Create(domain) => {
                let space = &mut self.spaces[domain];
                if space.id.is_none() {
                    space.id = Some(lab.unit.create_domain(&mut lab.memory).unwrap());
                }
            }
            Step::Destroy(domain) => {
                let users = self.users(domain);
                if let Some(id) = self.spaces[domain].id {
                    let result = lab.unit.destroy_domain(id);
                    if users > 0 {
                        assert_eq!(result, Err(Error::DomainInUse { domain: id, users }));
                    } else {
                        assert_eq!(result, Ok(()));
                        self.spaces[domain] = Space::default();
                    }
                }
            }
            Step::Map(domain, range, is_writable) => {
                let space = &mut self.spaces[domain];
                let Some(id) = space.id else { return };
                let (iova, len_bytes, physical) = RANGES[range];
                // 2^18 small pages would take too long.
                let has_large_pages = lab.unit.capabilities().largest_page > 0;
                if !has_large_pages && len_bytes >= 0x4000_0000 {
                    return;
                }
                let access = if is_writable {
                    Access::ReadWrite
                } else {
                    Access::ReadOnly
                };
                let mapping = Mapping {
                    iova: Iova(iova),
                    physical: PhysAddr::new(physical),
                    len_bytes,
                    access,
                };
                let result = lab.unit.map(&mut lab.memory, id, mapping);
                let expected = match space.ranges.entry(range) {
                    Entry::Occupied(_) => Err(Error::AlreadyMapped(Iova(iova))),
                    Entry::Vacant(free) => {
                        free.insert(is_writable);
                        Ok(())
                    }
                };
                assert_eq!(result, expected);
            }
            Step::Unmap(domain, range) => {
                let space = &mut self.spaces[domain];
                let Some(id) = space.id else { return };
                let (iova, len_bytes, _) = RANGES[range];
                let result = lab.unit.unmap(id, Iova(iova), len_bytes);
                let expected = match space.ranges.remove(&range) {
                    None => Err(Error::NotMapped(Iova(iova))),
                    Some(_) => Ok(()),
                };
                assert_eq!(result, expected);
            }
            Step::Set(source, index, domain) => {
                let Some(id) = self.spaces[domain].id else {
                    return;
                };
                let result = lab.set_pasid(SOURCES[source], PASIDS[index], id);
                let Some(pasids) = self.devices.get_mut(&source) else {
                    assert_eq!(result, Err(Error::UnknownDevice(SOURCES[source])));
                    return;
                };
                let expected = match pasids.entry(index) {
                    Entry::Occupied(_) => Err(Error::PasidInUse {
                        source: SOURCES[source],
                        pasid: pasid(PASIDS[index]),
                    }),
                    Entry::Vacant(free) => {
                        free.insert(domain);
                        Ok(())
                    }
                };
                assert_eq!(result, expected);
            }
            Step::Clear(source, index) => {
                let result = lab.unit.clear_pasid(SOURCES[source], pasid(PASIDS[index]));
                let removed = self
                    .devices
                    .get_mut(&source)
                    .and_then(|pasids| pasids.remove(&index));
                assert_eq!(result.is_ok(), removed.is_some());
            }
            Step::Allocate(slot, source) => {
                if let Entry::Vacant(free) = self.interrupts.entry(slot) {
                    let index = lab.unit.allocate_interrupt(SOURCES[source]).unwrap();
                    self.old.retain(|&old| old != index);
                    free.insert(Interrupt {
                        index,
                        source,
                        route: None,
                    });
                }
            }
            Step::Route(slot, apic_id, vector) => {
                if let Some(interrupt) = self.interrupts.get_mut(&slot) {
                    let route = Route { apic_id, vector };
                    lab.unit.set_interrupt(interrupt.index, route).unwrap();
                    interrupt.route = Some((apic_id, vector));
                }
            }
            Step::Release(slot) => {
                if let Some(interrupt) = self.interrupts.remove(&slot) {
                    lab.unit.release_interrupt(interrupt.index).unwrap();
                    self.old.push(interrupt.index);
                }
            }
        }
    }

    /// Makes every request, and compares where it goes with what the books say.
    fn check(&self, lab: &Lab) {
        for (number, &source) in SOURCES.iter().enumerate() {
            for address in ADDRESSES {
                assert!(lab.write_plain(source, address).is_err());
                for (index, &pasid) in PASIDS.iter().enumerate() {
                    let pasids = self.devices.get(&number);
                    let domain = pasids.and_then(|pasids| pasids.get(&index));
                    for is_write in [false, true] {
                        let expected =
                            domain.and_then(|&of| self.spaces[of].reach(address, is_write));
                        let mut hardware = lab.hardware.borrow_mut();
                        let requester = (source.into_bits(), Some(pasid));
                        let result = hardware.request(requester, address, is_write);
                        assert_eq!(
                            result.ok(),
                            expected,
                            "{source} PASID {pasid:#x}, {address:#x}, write {is_write}"
                        );
                    }
                }
            }
            for interrupt in self.interrupts.values() {
                let expected = interrupt.route.filter(|_| interrupt.source == number);
                assert_eq!(lab.send(source, interrupt.index).ok(), expected);
            }
            for &index in &self.old {
                assert!(lab.send(source, index).is_err());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_stale_is_ever_usable(
        kind in 0..KINDS.len(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut lab = Lab::new(KINDS[kind]);
        let mut books = Books::default();
        books.check(&lab);
        for step in steps {
            books.step(&mut lab, step);
            books.check(&lab);
            lab.drop_faults();
            lab.log.take();
        }
    }
}
