//! The guest's only PCI bus: which function an access is for.
//!
//! Configuration space is reached by memory accesses alone (ECAM); what is not
//! there reads as all ones. The functions answer for themselves, through
//! [`Function`]. Where a function's registers are is looked up in [`PciBus::find`],
//! which takes no lock: it is on the way of every submission.
//! [PCIe 5.0, 7.2.2 "PCI Express Enhanced Configuration Access Mechanism (ECAM)"]

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;
use hwspec::pci::SourceId;

use crate::virt::address::GuestPhysAddr;
use crate::virt::registers::Width;

/// What a read finds where there is nothing, in memory or at a port.
pub const fn read_absent(width: Width) -> u64 {
    width.truncate(u64::MAX)
}

/// One function's configuration space. It is shared between the virtual
/// processors of the guest: it locks for itself.
pub trait Function {
    /// Reads one, two or four bytes at an aligned offset below 4 KiB.
    fn read_config(&self, offset: u16, width: Width) -> u32;
    /// Writes likewise.
    fn write_config(&self, offset: u16, width: Width, value: u32);
    /// Where BAR `bar` is now, if the function answers to memory accesses.
    fn bar(&self, bar: u8) -> Option<GuestPhysAddr>;
}

/// A place in configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigAddress {
    /// Which function.
    pub function: SourceId,
    /// Which of its bytes.
    pub register: u16,
}

impl ConfigAddress {
    /// The place at this offset into the ECAM range of a segment, if one can be
    /// so far up.
    pub fn from_ecam_offset(offset: u64) -> Option<Self> {
        let function = u16::try_from(offset >> 12).ok()?;
        let register = u16::try_from(offset & 0xfff).ok()?;
        Some(Self {
            function: function.into(),
            register,
        })
    }
}

/// A range of addresses that a function answers to, at present or not.
#[derive(Debug)]
struct Window {
    /// The index of the function.
    function: usize,
    bar: u8,
    len_bytes: u64,
    /// Where it is, or [`NOWHERE`].
    start: AtomicU64,
}

/// No physical address has so many bits.
const NOWHERE: u64 = 1 << 63;

/// What an address belongs to.
#[derive(Debug, PartialEq, Eq)]
pub struct Place<'b, F> {
    /// The function.
    pub function: &'b F,
    /// Which of its BARs.
    pub bar: u8,
    /// How far into it.
    pub offset: u64,
}

/// The functions of a guest's bus 0. They are added when the guest is made.
#[derive(Debug)]
pub struct PciBus<F> {
    functions: Vec<(SourceId, F)>,
    windows: Vec<Window>,
}

impl<F> Default for PciBus<F> {
    fn default() -> Self {
        Self {
            functions: Vec::new(),
            windows: Vec::new(),
        }
    }
}

impl<F: Function> PciBus<F> {
    /// A bus without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `function` at `address`, with BARs of these numbers and sizes in
    /// bytes.
    ///
    /// # Panics
    /// If there is one at this address, or it is not on bus 0.
    pub fn add(&mut self, address: SourceId, function: F, bars: &[(u8, u64)]) {
        assert!(
            address.bus() == 0 && self.function(address).is_none(),
            "{address} is not free on bus 0"
        );
        let index = self.functions.len();
        for &(bar, len_bytes) in bars {
            let start = AtomicU64::new(start(&function, bar));
            self.windows.push(Window {
                function: index,
                bar,
                len_bytes,
                start,
            });
        }
        self.functions.push((address, function));
    }

    /// The functions, and where they are on the bus.
    pub fn functions(&self) -> impl Iterator<Item = (SourceId, &F)> {
        self.functions
            .iter()
            .map(|(address, function)| (*address, function))
    }

    /// The function of this number, in the order in which they were added.
    #[inline]
    pub fn nth(&self, index: usize) -> Option<&F> {
        self.functions.get(index).map(|(_, function)| function)
    }

    /// The function at `address`.
    pub fn function(&self, address: SourceId) -> Option<&F> {
        let index = self.index(address)?;
        self.functions.get(index).map(|(_, function)| function)
    }

    fn index(&self, address: SourceId) -> Option<usize> {
        self.functions.iter().position(|&(at, _)| at == address)
    }

    /// Reads configuration space at an offset into the ECAM range: all ones where
    /// there is no function, and where no single register is meant.
    pub fn read_config(&self, offset: u64, width: Width) -> u64 {
        let Some((function, register)) = self.register(offset, width) else {
            return read_absent(width);
        };
        match self.functions.get(function) {
            Some((_, function)) => width.truncate(function.read_config(register, width).into()),
            None => read_absent(width),
        }
    }

    /// Writes configuration space likewise: nothing where there is nothing. A
    /// function may answer elsewhere afterwards.
    pub fn write_config(&self, offset: u64, width: Width, value: u64) {
        let Some((index, register)) = self.register(offset, width) else {
            return;
        };
        let Ok(value) = u32::try_from(width.truncate(value)) else {
            return;
        };
        if let Some((_, function)) = self.functions.get(index) {
            function.write_config(register, width, value);
            self.look_at(index);
        }
    }

    /// Looks where function `index` answers now. If two processors move a function
    /// at once, one of them sees what the other did.
    fn look_at(&self, index: usize) {
        if let Some((_, function)) = self.functions.get(index) {
            let windows = self.windows.iter();
            for window in windows.filter(|window| window.function == index) {
                let start = start(function, window.bar);
                window.start.store(start, Ordering::Release);
            }
        }
    }

    /// The index of the function, and the register, that an access means.
    fn register(&self, offset: u64, width: Width) -> Option<(usize, u16)> {
        if width == Width::Quad || !offset.is_multiple_of(width.bytes()) {
            return None;
        }
        let address = ConfigAddress::from_ecam_offset(offset)?;
        Some((self.index(address.function)?, address.register))
    }

    /// Whose registers or portals are at `address`.
    #[inline]
    pub fn find(&self, address: GuestPhysAddr) -> Option<Place<'_, F>> {
        for window in &self.windows {
            let offset = address.0.wrapping_sub(window.start.load(Ordering::Acquire));
            if offset < window.len_bytes {
                let (_, function) = self.functions.get(window.function)?;
                return Some(Place {
                    function,
                    bar: window.bar,
                    offset,
                });
            }
        }
        None
    }
}

/// Where a BAR is.
fn start(function: &impl Function, bar: u8) -> u64 {
    function.bar(bar).map_or(NOWHERE, |start| start.0)
}

#[cfg(test)]
#[path = "pci_bus_tests.rs"]
mod tests;
