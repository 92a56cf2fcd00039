use alloc::vec;
use alloc::vec::Vec;
use std::collections::BTreeMap;

use hwio::fake::{Device, FakeRegisters, Log};
use hwspec::pci::EXTENDED_CAPABILITY_PASID;

use super::*;

/// Configuration space as hardware has it: absent functions read as ones, and
/// base address registers keep the bits that they decode.
#[derive(Debug, Default)]
pub(in super::super) struct Fabric {
    /// By ECAM offset of the function.
    functions: BTreeMap<usize, Space>,
}

#[derive(Debug)]
pub(in super::super) struct Space {
    bytes: Vec<u8>,
    /// Double words that keep only some of the bits written: offset, bits.
    masks: Vec<(usize, u32)>,
    /// What was in the command register while a base address was written.
    commands: Vec<u8>,
}

impl Space {
    fn new(vendor: u16, device: u16) -> Self {
        let mut bytes = vec![0; 4096];
        bytes[0..2].copy_from_slice(&vendor.to_le_bytes());
        bytes[2..4].copy_from_slice(&device.to_le_bytes());
        Self {
            bytes,
            masks: Vec::new(),
            commands: Vec::new(),
        }
    }

    fn with(mut self, offset: usize, value: &[u8]) -> Self {
        self.bytes[offset..offset + value.len()].copy_from_slice(value);
        self
    }

    /// A 64-bit BAR of 2^`log2` bytes at `address`.
    fn with_bar(mut self, index: usize, address: u64, log2: u32) -> Self {
        let offset = 0x10 + 4 * index;
        let mask = !((1_u64 << log2) - 1);
        let half = |value: u64, shift: u32| u32::try_from(value >> shift & 0xffff_ffff).unwrap();
        self.masks.push((offset, half(mask, 0)));
        self.masks.push((offset + 4, half(mask, 32)));
        self.with(offset, &(address | 0xc).to_le_bytes())
    }
}

impl Device for Fabric {
    fn read(&mut self, offset: usize, len_bytes: usize) -> u64 {
        let Some(space) = self.functions.get(&(offset & !0xfff)) else {
            return !0;
        };
        let mut value = [0; 8];
        let at = offset & 0xfff;
        value[..len_bytes].copy_from_slice(&space.bytes[at..at + len_bytes]);
        u64::from_le_bytes(value)
    }

    fn write(&mut self, offset: usize, len_bytes: usize, value: u64) {
        let Some(space) = self.functions.get_mut(&(offset & !0xfff)) else {
            return;
        };
        let at = offset & 0xfff;
        let mut value = value.to_le_bytes();
        if let Some(&(_, mask)) = space.masks.iter().find(|&&(of, _)| of == at) {
            space.commands.push(space.bytes[4]);
            let written = u32::from_le_bytes(value[..4].try_into().unwrap());
            // The low bits of a 64-bit BAR are read-only.
            let fixed = if at & 4 == 0 { 0xc } else { 0 };
            value[..4].copy_from_slice(&(written & mask | fixed).to_le_bytes());
        }
        space.bytes[at..at + len_bytes].copy_from_slice(&value[..len_bytes]);
    }
}

const BUSES: u8 = 4;

pub(in super::super) fn source(bus: u8, device: u8, function: u8) -> SourceId {
    SourceId::new()
        .with_bus(bus)
        .with_device(device)
        .with_function(function)
}

pub(in super::super) type Fake = FakeRegisters<Fabric>;

/// Buses 0x10 to 0x13 of segment 0, with these functions.
pub(in super::super) fn pci(functions: impl IntoIterator<Item = (SourceId, Space)>) -> Pci<Fake> {
    let functions = functions.into_iter().map(|(source, space)| {
        let offset = usize::from(source.into_bits()) << 12;
        (offset - (0x10 << 20), space)
    });
    let fabric = Fabric {
        functions: functions.collect(),
    };
    let len_bytes = usize::from(BUSES) << 20;
    let allocation = Allocation {
        segment: 0,
        start_bus: 0x10,
        end_bus: 0x10 + BUSES - 1,
        range: PhysRange::from_parts(0xb100_0000, u64::from(BUSES) << 20).unwrap(),
    };
    let registers = FakeRegisters::new(fabric, len_bytes, &Log::new());
    Pci::enumerate(vec![Ecam::new(&allocation, registers)])
}

fn sources(pci: &Pci<Fake>) -> Vec<SourceId> {
    pci.functions().iter().map(|found| found.source).collect()
}

const MULTI: [u8; 1] = [0x80];

/// A bridge to buses `first` to `last`.
pub(in super::super) fn bridge(first: u8, last: u8) -> Space {
    Space::new(0x8086, 0x3420)
        .with(0x0e, &[1])
        .with(0x18, &[0x10, first, last, 0])
}

/// Something that is not a bridge.
pub(in super::super) fn endpoint() -> Space {
    Space::new(0x8086, 0x0b25)
}

#[test]
fn functions_are_found_on_all_buses_with_or_without_bridges() {
    let pci = pci([
        (
            source(0x10, 0, 0),
            Space::new(0x8086, 1).with(8, &[3, 2, 0x80, 8]),
        ),
        (source(0x10, 1, 0), Space::new(0x8086, 2).with(0x0e, &MULTI)),
        (source(0x10, 1, 7), Space::new(0x8086, 3)),
        // Not multi-function, so the other does not exist whatever it reads as.
        (source(0x11, 4, 0), Space::new(0x1af4, 4)),
        (source(0x11, 4, 1), Space::new(0x1af4, 4)),
        // Without a function 0.
        (source(0x12, 5, 1), Space::new(0x8086, 5)),
        (source(0x13, 31, 0), Space::new(0x8086, 6)),
    ]);
    let expected = [
        source(0x10, 0, 0),
        source(0x10, 1, 0),
        source(0x10, 1, 7),
        source(0x11, 4, 0),
        source(0x13, 31, 0),
    ];
    assert_eq!(sources(&pci), expected);
    let first = pci.functions()[0];
    assert_eq!((first.vendor, first.device), (0x8086, 1));
    assert_eq!(first.class.base_class(), 8);
    assert_eq!(first.class.sub_class(), 0x80);
}

#[test]
fn an_allocation_that_is_longer_than_its_window_is_cut() {
    let allocation = Allocation {
        segment: 0,
        start_bus: 0,
        end_bus: 255,
        range: PhysRange::from_parts(0xb000_0000, 1 << 28).unwrap(),
    };
    let fabric = Fabric {
        functions: BTreeMap::from([(0, Space::new(0x8086, 1))]),
    };
    let registers = FakeRegisters::new(fabric, 1 << 20, &Log::new());
    let mut pci = Pci::enumerate(vec![Ecam::new(&allocation, registers)]);
    assert_eq!(sources(&pci), [source(0, 0, 0)]);
    let elsewhere = Function {
        source: source(1, 0, 0),
        ..pci.functions()[0]
    };
    let error = PciError::NoConfiguration(source(1, 0, 0));
    assert_eq!(pci.config(&elsewhere).unwrap_err(), error);
}

#[test]
fn base_addresses_are_sized_with_decoding_off_and_restored() {
    let space = Space::new(0x8086, 0x0b25)
        .with(4, &[0x06, 0])
        .with_bar(0, 0x20_2000_0000, 16)
        .with_bar(2, 0x4_0000_0000, 33);
    let mut pci = pci([(source(0x10, 1, 0), space)]);
    let function = pci.functions()[0];
    assert_eq!(
        pci.size_bar(&function, 0),
        Ok(Bar {
            index: 0,
            range: PhysRange::from_parts(0x20_2000_0000, 0x1_0000).unwrap(),
        })
    );
    assert_eq!(
        pci.size_bar(&function, 2),
        Ok(Bar {
            index: 2,
            range: PhysRange::from_parts(0x4_0000_0000, 0x2_0000_0000).unwrap(),
        })
    );
    let config = pci.config(&function).unwrap();
    assert_eq!(config.read_raw::<u64>(0x10), 0x20_2000_000c);
    assert_eq!(config.read_raw::<u64>(0x18), 0x4_0000_000c);
    assert_eq!(config.read(COMMAND).into_bits(), 6);
    let device = config.registers.device();
    let device = device.borrow();
    let space = device.functions.values().next().unwrap();
    assert!(!space.commands.is_empty());
    assert!(space.commands.iter().all(|command| command & 2 == 0));
}

#[test]
fn base_addresses_of_other_kinds_are_refused() {
    let space = Space::new(0x8086, 0x0b25)
        .with(0x10, &[0x01, 0xc0, 0, 0]) // I/O
        .with(0x14, &[0, 0, 0, 0xfe]) // 32-bit memory
        .with_bar(2, 0, 16);
    let mut pci = pci([(source(0x10, 1, 0), space)]);
    let function = pci.functions()[0];
    let source = function.source;
    for index in [0, 1, 5, 6, usize::MAX] {
        let refused = pci.size_bar(&function, index);
        assert_eq!(refused, Err(PciError::BarKind(source, index)));
    }
    let unassigned = pci.size_bar(&function, 2);
    assert_eq!(
        unassigned,
        Err(PciError::BarAddress {
            source,
            index: 2,
            address: 0,
            len_bytes: 0x1_0000,
        })
    );
}

#[test]
fn a_base_address_with_odd_bits_is_refused() {
    let mut space = Space::new(0x8086, 0x0b25).with_bar(0, 0x20_2000_0000, 16);
    // Bit 17 cannot be set although bit 16 can.
    space.masks[0].1 = 0xfffd_0000;
    let mut pci = pci([(source(0x10, 1, 0), space)]);
    let function = pci.functions()[0];
    assert_eq!(
        pci.size_bar(&function, 0),
        Err(PciError::BarAddress {
            source: function.source,
            index: 0,
            address: 0x20_2000_0000,
            len_bytes: 0x3_0000,
        })
    );
}

/// A DSA's lists as facts 1.3 and 1.4 have them.
fn accelerator() -> Space {
    Space::new(0x8086, 0x0b25)
        .with(6, &[0x10, 0])
        .with(0x34, &[0x40])
        .with(0x40, &[0x10, 0x80, 0x92, 0])
        .with(0x80, &[0x11, 0x90, 0x08, 0])
        .with(0x84, &[0x00, 0x20, 0, 0])
        .with(0x90, &[0x01, 0, 3, 0])
        .with(0x100, &0x1502_0001_u32.to_le_bytes())
        .with(0x150, &0x2201_0018_u32.to_le_bytes())
        .with(0x220, &0x2301_000f_u32.to_le_bytes())
        .with(0x230, &0x2401_001b_u32.to_le_bytes())
        .with(0x240, &0x0001_0013_u32.to_le_bytes())
        .with_bar(0, 0x20_2000_0000, 16)
}

#[test]
fn capabilities_are_found_by_their_lists() {
    let mut pci = pci([(source(0x10, 1, 0), accelerator())]);
    let function = pci.functions()[0];
    let bar = pci.size_bar(&function, 0).unwrap();
    let config = pci.config(&function).unwrap();
    assert_eq!(config.find_capability(0x10), Some(0x40));
    assert_eq!(config.find_capability(0x01), Some(0x90));
    assert_eq!(config.find_capability(0x05), None);
    assert_eq!(
        config.find_extended_capability(EXTENDED_CAPABILITY_PASID),
        Some(0x230)
    );
    assert_eq!(config.find_extended_capability(0x0023), None);
    let table = pci.msix_table(&function, &[bar]).unwrap();
    assert_eq!((table.bar, table.offset, table.entries), (0, 0x2000, 9));
}

#[test]
fn lists_that_lead_nowhere_end() {
    let find = |space: Space| {
        let mut pci = pci([(source(0x10, 1, 0), space)]);
        let function = pci.functions()[0];
        let config = pci.config(&function).unwrap();
        (
            config.find_capability(0x11),
            config.find_extended_capability(0x1b),
        )
    };
    // Without the status bit the pointer means nothing.
    assert_eq!(find(accelerator().with(6, &[0, 0])).0, None);
    // Both lists in a circle, one within itself.
    let circle = accelerator()
        .with(0x40, &[0x10, 0x90])
        .with(0x90, &[0x01, 0x40])
        .with(0x220, &0x1001_000f_u32.to_le_bytes());
    assert_eq!(find(circle), (None, None));
    // Into the header.
    let header = accelerator()
        .with(0x34, &[0x3c])
        .with(0x100, &0x0402_0001_u32.to_le_bytes());
    assert_eq!(find(header), (None, None));
    // At the very end of the space.
    let end = accelerator()
        .with(0x34, &[0xff])
        .with(0xfc, &[0x11, 0])
        .with(0x100, &0xfff2_0001_u32.to_le_bytes())
        .with(0xffc, &0x0001_001b_u32.to_le_bytes());
    assert_eq!(find(end), (Some(0xfc), Some(0xffc)));
}

#[test]
fn msix_tables_that_are_not_inside_are_refused() {
    let table = |space: Space| {
        let mut pci = pci([(source(0x10, 1, 0), space)]);
        let function = pci.functions()[0];
        let bar = pci.size_bar(&function, 0).unwrap();
        pci.msix_table(&function, &[bar]).map(|table| table.offset)
    };
    let outside = Err(PciError::MsixTable(source(0x10, 1, 0)));
    let none = Err(PciError::NoCapability(source(0x10, 1, 0), "MSI-X"));
    // The last place where 9 entries fit, and eight bytes on.
    assert_eq!(
        table(accelerator().with(0x84, &[0x70, 0xff, 0, 0])),
        Ok(0xff70)
    );
    assert_eq!(
        table(accelerator().with(0x84, &[0x78, 0xff, 0, 0])),
        outside
    );
    // In BAR2, which it does not have.
    assert_eq!(table(accelerator().with(0x84, &[2, 0x20, 0, 0])), outside);
    assert_eq!(table(accelerator().with(0x80, &[0x05])), none);
    let cut = accelerator().with(0x34, &[0xf8]).with(0xf8, &[0x11, 0]);
    assert_eq!(table(cut), none);
}

#[test]
fn scopes_lead_through_bridges() {
    let pci = pci([
        (source(0x10, 1, 0), Space::new(0x8086, 1)),
        (source(0x10, 2, 0), bridge(0x11, 0x12)),
        (source(0x11, 0, 0), bridge(0x12, 0x12)),
        (source(0x12, 3, 0), Space::new(0x8086, 3)),
        (source(0x13, 3, 0), Space::new(0x8086, 4)),
        // Says that it leads back to its own bus.
        (source(0x10, 3, 0), bridge(0x10, 0x10)),
    ]);
    let scope = |kind, path: &[(u8, u8)]| Scope {
        kind,
        enumeration_id: 0,
        start_bus: 0x10,
        path: path.into(),
    };
    let found = |scope: &Scope| {
        let found = pci.in_scope(0, scope);
        found.map(|found| found.source).collect::<Vec<_>>()
    };
    let endpoint = |path: &[(u8, u8)]| found(&scope(ScopeKind::ENDPOINT, path));
    assert_eq!(endpoint(&[(1, 0)]), [source(0x10, 1, 0)]);
    assert_eq!(endpoint(&[(2, 0), (0, 0), (3, 0)]), [source(0x12, 3, 0)]);
    assert_eq!(endpoint(&[(1, 0), (3, 0)]), []);
    assert_eq!(endpoint(&[(3, 0), (1, 0)]), []);
    assert_eq!(endpoint(&[]), []);
    assert_eq!(endpoint(&[(32, 0)]), []);
    let behind = found(&scope(ScopeKind::SUB_HIERARCHY, &[(2, 0)]));
    let expected = [source(0x10, 2, 0), source(0x11, 0, 0), source(0x12, 3, 0)];
    assert_eq!(behind, expected);
    assert_eq!(
        pci.in_scope(1, &scope(ScopeKind::ENDPOINT, &[(1, 0)]))
            .count(),
        0
    );
    // An I/O APIC's number need not be that of a function.
    let io_apic = scope(ScopeKind::IO_APIC, &[(31, 7)]);
    assert_eq!(pci.resolve(0, &io_apic), Some(source(0x10, 31, 7)));
}

#[test]
fn errors_say_what_to_do() {
    let text = std::format!(
        "{}",
        PciError::BarAddress {
            source: source(0x6a, 1, 0),
            index: 2,
            address: 0,
            len_bytes: 0x2_0000,
        }
    );
    assert_eq!(
        text,
        "6a:01.0: BAR2 has no usable address (0x0, 0x20000 bytes); \
         enable 'Above 4G Decoding' in the BIOS setup"
    );
}
