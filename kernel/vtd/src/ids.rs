//! Numbers that mean something.

use core::fmt;

/// An address as a device uses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Iova(pub u64);

impl fmt::Display for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device address {:#x}", self.0)
    }
}

impl fmt::Debug for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iova({:#x})", self.0)
    }
}

/// What a device may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    ReadOnly,
    /// Read and write it.
    ReadWrite,
}

/// A domain: what the unit tags its caches with. Never 0, which is the tag of entries
/// that are not there. [VT-d 5.10, 6.2.3 "PASID-Cache"]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DomainId(u16);

impl DomainId {
    pub(crate) const fn new(number: u16) -> Self {
        assert!(number != 0, "there is no domain 0");
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domain {}", self.0)
    }
}

impl fmt::Debug for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DomainId({})", self.0)
    }
}

/// An entry of the interrupt remapping table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterruptIndex(u16);

impl InterruptIndex {
    pub(crate) const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for InterruptIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupt remapping entry {}", self.0)
    }
}

impl fmt::Debug for InterruptIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InterruptIndex({})", self.0)
    }
}
