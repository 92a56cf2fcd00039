//! PCI functions: which there are, and what their configuration space says.
//!
//! Configuration space is reached through memory ([`Ecam`]). All buses that
//! firmware tells of are searched, not only those behind bridges, for a server
//! has many root buses that only its AML names. Nothing that a function says is
//! trusted: walks of its lists are bounded, addresses and sizes are checked.
//! Devices for which there is no driver are left as they are; the IOMMU blocks
//! their DMA.

use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use hwio::Registers;
use hwspec::pci::{
    self, BUS_NUMBERS, BaseAddress, CAPABILITIES, CAPABILITIES_POINTER, CAPABILITY_MSIX, COMMAND,
    CONFIGURATION_SPACE_SIZE, DEVICE_ID, EXTENDED_CAPABILITIES, HEADER_TYPE, HeaderType,
    MsixCapability, REVISION_AND_CLASS, RevisionAndClass, STATUS, SourceId, VENDOR_ID,
    VENDOR_ID_NONE, base_address, base_address_high, capability, extended_capability,
};
use hwspec::register::Bits;

use crate::acpi::dmar::{Scope, ScopeKind};
use crate::acpi::mcfg::Allocation;
use crate::mm::PhysRange;

/// Devices of a bus, and functions of a device.
const DEVICES: u8 = 32;
const FUNCTIONS: usize = 8;

/// A capability takes at least four of the 192 bytes for them.
const MAX_CAPABILITIES: usize = 48;
/// An extended capability takes at least four of the 3,840 bytes for them.
const MAX_EXTENDED_CAPABILITIES: usize = 960;

/// A function is not as its driver needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PciError {
    /// No ECAM covers the function's bus.
    NoConfiguration(SourceId),
    /// The base address register is not for memory of 64-bit addresses.
    BarKind(SourceId, usize),
    /// The base address register has no address, or one that cannot be.
    BarAddress {
        /// Whose.
        source: SourceId,
        /// Which.
        index: usize,
        /// What it says.
        address: u64,
        /// How many bytes it decodes.
        len_bytes: u64,
    },
    /// There is no such capability.
    NoCapability(SourceId, &'static str),
    /// The MSI-X table is not in the memory of a base address register, or not
    /// all of it.
    MsixTable(SourceId),
}

impl fmt::Display for PciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConfiguration(source) => write!(
                f,
                "{source}: its configuration space is not mapped; update the BIOS (MCFG table)"
            ),
            Self::BarKind(source, index) => write!(
                f,
                "{source}: BAR{index} is not for 64-bit memory; the device is not what its ids say"
            ),
            Self::BarAddress {
                source,
                index,
                address,
                len_bytes,
            } => write!(
                f,
                "{source}: BAR{index} has no usable address ({address:#x}, {len_bytes:#x} bytes); \
                 enable 'Above 4G Decoding' in the BIOS setup"
            ),
            Self::NoCapability(source, name) => write!(
                f,
                "{source}: no {name} capability; the device is not what its ids say"
            ),
            Self::MsixTable(source) => {
                write!(f, "{source}: its MSI-X table is outside of its memory")
            }
        }
    }
}

impl Error for PciError {}

/// The configuration space of adjacent buses, in memory.
#[derive(Debug)]
pub struct Ecam<R> {
    segment: u16,
    start_bus: u8,
    end_bus: u8,
    registers: R,
}

impl<R: Registers> Ecam<R> {
    /// `registers` is the window at the allocation's range, from the first bus on.
    pub fn new(allocation: &Allocation, registers: R) -> Self {
        Self {
            segment: allocation.segment,
            start_bus: allocation.start_bus,
            end_bus: allocation.end_bus,
            registers,
        }
    }

    /// Finds the functions of a bus. Most buses are empty, so this looks at nothing but
    /// the vendor ids until there is something.
    fn enumerate_bus(&mut self, bus: u8, functions: &mut Vec<Function>) {
        let first = SourceId::new().with_bus(bus);
        let Some(base) = self.config(first).map(|config| config.base) else {
            return;
        };
        let stride = FUNCTIONS * CONFIGURATION_SPACE_SIZE;
        let places = (base..self.registers.len_bytes()).step_by(stride);
        for (device, at) in (0..DEVICES).zip(places) {
            if self.registers.read_raw::<u16>(at + VENDOR_ID.offset()) != VENDOR_ID_NONE {
                enumerate_device(self, bus, device, functions);
            }
        }
    }

    /// The configuration space of a function; nothing if it is not in here.
    fn config(&mut self, source: SourceId) -> Option<Config<'_, R>> {
        if !(self.start_bus..=self.end_bus).contains(&source.bus()) {
            return None;
        }
        let first = SourceId::new().with_bus(self.start_bus).ecam_offset();
        let base = usize::try_from(source.ecam_offset() - first).ok()?;
        let end = base.checked_add(CONFIGURATION_SPACE_SIZE)?;
        (end <= self.registers.len_bytes()).then_some(Config {
            registers: &mut self.registers,
            base,
        })
    }
}

/// The configuration space of one function.
#[derive(Debug)]
pub struct Config<'a, R> {
    registers: &'a mut R,
    base: usize,
}

impl<R: Registers> Registers for Config<'_, R> {
    fn len_bytes(&self) -> usize {
        CONFIGURATION_SPACE_SIZE
    }

    fn read_raw<B: Bits>(&self, offset: usize) -> B {
        self.check(offset, B::BYTES);
        self.registers.read_raw(self.base + offset)
    }

    fn write_raw<B: Bits>(&mut self, offset: usize, value: B) {
        self.check(offset, B::BYTES);
        self.registers.write_raw(self.base + offset, value);
    }
}

impl<R: Registers> Config<'_, R> {
    fn check(&self, offset: usize, len_bytes: usize) {
        assert!(
            offset <= CONFIGURATION_SPACE_SIZE - len_bytes,
            "configuration space has no register at {offset:#x}"
        );
    }

    /// Where the capability `id` begins, if there is one.
    pub fn find_capability(&self, id: u8) -> Option<usize> {
        if !self.read(STATUS).capabilities_list() {
            return None;
        }
        let mut next = self.read(CAPABILITIES_POINTER);
        for _ in 0..MAX_CAPABILITIES {
            let base = usize::from(next & !3);
            if base < CAPABILITIES {
                return None;
            }
            let header = self.read(capability(base));
            if header.id() == id {
                return Some(base);
            }
            next = header.next();
        }
        None
    }

    /// Where the extended capability `id` begins, if there is one.
    pub fn find_extended_capability(&self, id: u16) -> Option<usize> {
        let mut base = EXTENDED_CAPABILITIES;
        for _ in 0..MAX_EXTENDED_CAPABILITIES {
            let header = self.read(extended_capability(base));
            if header.into_bits() == 0 || header.into_bits() == !0 {
                return None;
            }
            if header.id() == id {
                return Some(base);
            }
            base = usize::from(header.next() & !3);
            if base < EXTENDED_CAPABILITIES {
                return None;
            }
        }
        None
    }

    /// What base address register `index` decodes, which must be 64-bit memory.
    /// The function's memory decoding is off meanwhile, so nothing may be using
    /// that memory.
    ///
    /// [PCIe 5.0, 7.5.1.2.1 "Base Address Registers"]
    fn size_bar(&mut self, source: SourceId, index: usize) -> Result<Bar, PciError> {
        // The last register has no successor for the upper half.
        let (Some(low_at), Some(high_at)) = (
            (index < 5).then(|| base_address(index)),
            (index < 5).then(|| base_address_high(index)),
        ) else {
            return Err(PciError::BarKind(source, index));
        };
        let low = self.read(low_at);
        if low.io() || low.memory_type() != BaseAddress::MEMORY_64 {
            return Err(PciError::BarKind(source, index));
        }
        let command = self.read(COMMAND);
        self.write(COMMAND, command.with_memory_space(false));
        let high = self.read(high_at);
        self.write(low_at, BaseAddress::from_bits(!0));
        self.write(high_at, !0);
        let mask = join(self.read(low_at), self.read(high_at));
        self.write(low_at, low);
        self.write(high_at, high);
        self.write(COMMAND, command);

        let len_bytes = mask.wrapping_neg();
        let address = join(low, high);
        let range = PhysRange::from_parts(address, len_bytes);
        let is_usable =
            address != 0 && len_bytes.is_power_of_two() && address.is_multiple_of(len_bytes);
        match range {
            Some(range) if is_usable => Ok(Bar { index, range }),
            _ => Err(PciError::BarAddress {
                source,
                index,
                address,
                len_bytes,
            }),
        }
    }
}

/// The address in the two halves of a base address register.
fn join(low: BaseAddress, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low.address_31_4()) << 4
}

/// Memory of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// The number of its (first) base address register.
    pub index: usize,
    /// Where it is.
    pub range: PhysRange,
}

/// Where a function's MSI-X table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixTable {
    /// The capability.
    pub capability: MsixCapability,
    /// In the memory of which base address register.
    pub bar: usize,
    /// Where in there, in bytes.
    pub offset: usize,
    /// How many entries it has.
    pub entries: usize,
}

/// A function that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// PCI segment group.
    pub segment: u16,
    /// Bus, device and function number.
    pub source: SourceId,
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Revision and class.
    pub class: RevisionAndClass,
    /// The buses behind it, first and last, if it is a bridge.
    pub buses_behind: Option<(u8, u8)>,
}

/// All PCI functions.
#[derive(Debug)]
pub struct Pci<R> {
    spaces: Vec<Ecam<R>>,
    functions: Vec<Function>,
}

impl<R: Registers> Pci<R> {
    /// Searches `spaces` for functions.
    pub fn enumerate(mut spaces: Vec<Ecam<R>>) -> Self {
        let mut functions = Vec::new();
        for space in &mut spaces {
            for bus in space.start_bus..=space.end_bus {
                space.enumerate_bus(bus, &mut functions);
            }
        }
        Self { spaces, functions }
    }

    /// The functions, in the order of their numbers.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// A function's configuration space.
    ///
    /// # Errors
    /// If it is not one of these.
    pub fn config(&mut self, function: &Function) -> Result<Config<'_, R>, PciError> {
        let source = function.source;
        let mut spaces = self.spaces.iter_mut();
        spaces
            .find(|space| {
                space.segment == function.segment
                    && (space.start_bus..=space.end_bus).contains(&source.bus())
            })
            .and_then(|space| space.config(source))
            .ok_or(PciError::NoConfiguration(source))
    }

    /// What a function's base address register `index` decodes. Nobody may be
    /// using that memory.
    ///
    /// # Errors
    /// If that is not memory with a 64-bit address.
    pub fn size_bar(&mut self, function: &Function, index: usize) -> Result<Bar, PciError> {
        self.config(function)?.size_bar(function.source, index)
    }

    /// Lets a function use the bus no more: neither DMA nor interrupts.
    pub fn stop_bus_master(&mut self, function: &Function) {
        if let Ok(mut config) = self.config(function) {
            config.modify(COMMAND, |command| command.with_bus_master(false));
        }
    }

    /// Where a function's MSI-X table is, which must be in the memory of one of
    /// `bars`.
    ///
    /// # Errors
    /// If it has none, or one that is elsewhere.
    pub fn msix_table(&mut self, function: &Function, bars: &[Bar]) -> Result<MsixTable, PciError> {
        let source = function.source;
        let config = self.config(function)?;
        let base = config
            .find_capability(CAPABILITY_MSIX)
            .ok_or(PciError::NoCapability(source, "MSI-X"))?;
        // The capability is 12 bytes long.
        if base > EXTENDED_CAPABILITIES - 12 {
            return Err(PciError::NoCapability(source, "MSI-X"));
        }
        let capability = MsixCapability { base };
        let location = config.read(capability.table());
        let table = MsixTable {
            capability,
            bar: location.bir().into(),
            offset: location.offset(),
            entries: config.read(capability.control()).entries(),
        };
        let len_bytes = (table.entries * pci::MsixEntry::STRIDE) as u64;
        let end = (table.offset as u64).saturating_add(len_bytes);
        let is_inside = bars
            .iter()
            .any(|bar| bar.index == table.bar && end <= bar.range.len_bytes());
        // Entries are aligned to 8 bytes by the location's own format.
        is_inside
            .then_some(table)
            .ok_or(PciError::MsixTable(source))
    }

    /// The functions that a scope of the DMAR names: one, or a bridge with all
    /// that is behind it. None if the path leads nowhere.
    ///
    /// [VT-d 5.10, 8.3.1 "Device Scope Structure"]
    pub fn in_scope<'a>(
        &'a self,
        segment: u16,
        scope: &Scope,
    ) -> impl Iterator<Item = &'a Function> {
        let named = self.resolve(segment, scope);
        let behind = named
            .and_then(|source| self.find(segment, source))
            .filter(|_| scope.kind == ScopeKind::SUB_HIERARCHY)
            .and_then(|bridge| bridge.buses_behind);
        self.functions.iter().filter(move |function| {
            function.segment == segment
                && (Some(function.source) == named
                    || behind.is_some_and(|(first, last)| {
                        (first..=last).contains(&function.source.bus())
                    }))
        })
    }

    /// The source-id at the end of a scope's path. There need not be a function of
    /// that number: an I/O APIC or a timer may use one that is not used otherwise.
    pub fn resolve(&self, segment: u16, scope: &Scope) -> Option<SourceId> {
        let (last, bridges) = scope.path.split_last()?;
        let at = |bus, &(device, function): &(u8, u8)| {
            let is_number = device < 32 && function < 8;
            is_number.then(|| {
                SourceId::new()
                    .with_bus(bus)
                    .with_device(device)
                    .with_function(function)
            })
        };
        let bus = bridges.iter().try_fold(scope.start_bus, |bus, step| {
            let bridge = self.find(segment, at(bus, step)?)?;
            bridge.buses_behind.map(|(first, _)| first)
        })?;
        at(bus, last)
    }

    /// The function of that number.
    pub fn find(&self, segment: u16, source: SourceId) -> Option<&Function> {
        let mut functions = self.functions.iter();
        functions.find(|function| function.segment == segment && function.source == source)
    }
}

fn enumerate_device<R: Registers>(
    space: &mut Ecam<R>,
    bus: u8,
    device: u8,
    functions: &mut Vec<Function>,
) {
    let segment = space.segment;
    for number in 0..8 {
        let source = SourceId::new()
            .with_bus(bus)
            .with_device(device)
            .with_function(number);
        let Some(config) = space.config(source) else {
            return;
        };
        let vendor = config.read(VENDOR_ID);
        if vendor == VENDOR_ID_NONE {
            // Where there is no function 0 there are no others.
            if number == 0 {
                return;
            }
            continue;
        }
        let header = config.read(HEADER_TYPE);
        let buses_behind = (header.layout() == HeaderType::BRIDGE).then(|| {
            let buses = config.read(BUS_NUMBERS);
            (buses.secondary(), buses.subordinate())
        });
        functions.push(Function {
            segment,
            source,
            vendor,
            device: config.read(DEVICE_ID),
            class: config.read(REVISION_AND_CLASS),
            // A bridge that was given no buses, or none that make sense, has
            // nothing behind it.
            buses_behind: buses_behind.filter(|&(first, last)| first > bus && first <= last),
        });
        if number == 0 && !header.multi_function() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "pci_tests.rs"]
pub(super) mod tests;
