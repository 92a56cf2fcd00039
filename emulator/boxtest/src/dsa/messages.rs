//! The two tables of interrupt messages: MSI-X with its permissions, and the
//! Interrupt Message Store. [DSA 3.0, ch. 3 "Interrupts", 9.2 "MSIXPERM", "IMS"]

use crate::memory::Window;
use crate::vtd::remapping::Message;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageTable {
    MsiX,
    Store,
}

// The control word of an IMS entry, and (without mask and pending) a MSIXPERM
// entry.
const MASK: u32 = 1 << 0;
const PENDING: u32 = 1 << 1;
const IGNORE: u32 = 1 << 2;
const PASID_ENABLE: u32 = 1 << 3;
const PASID_SHIFT: u32 = 12;

const ENTRY_SIZE: u64 = 16;
const ENTRY_DATA: u64 = 8;
const ENTRY_CONTROL: u64 = 12;
const PERMISSION_SIZE: u64 = 8;

/// A table of interrupt messages, by handle.
#[derive(Debug)]
pub(crate) struct Messages<'a> {
    registers: &'a Window,
    entries: u64,
    /// Where MSI-X has its pending bits and its permissions.
    msi_x: Option<(u64, u64)>,
}

/// Whose interrupts an entry sends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Permission {
    /// Only descriptors of this PASID; with `None` only those without one.
    pub(crate) pasid: Option<u32>,
    /// Send nothing, and do not remember it.
    pub(crate) ignore: bool,
}

impl Permission {
    /// Descriptors of this PASID.
    pub(crate) const fn pasid(pasid: u32) -> Self {
        Self {
            pasid: Some(pasid),
            ignore: false,
        }
    }

    fn bits(self) -> u32 {
        let pasid = self
            .pasid
            .map_or(0, |pasid| PASID_ENABLE | pasid << PASID_SHIFT);
        pasid | if self.ignore { IGNORE } else { 0 }
    }
}

impl<'a> Messages<'a> {
    pub(super) fn store(registers: &'a Window, entries: u64) -> Self {
        Self {
            registers,
            entries,
            msi_x: None,
        }
    }

    pub(super) fn msi_x(
        registers: &'a Window,
        entries: u64,
        pending: u64,
        permissions: u64,
    ) -> Self {
        Self {
            registers,
            entries,
            msi_x: Some((pending, permissions)),
        }
    }

    /// Programs and unmasks an entry.
    pub(crate) fn set(&self, handle: u16, message: Message, permission: Permission) {
        let entry = self.entry(handle);
        // Masked while it changes.
        self.mask(handle, true);
        self.registers.write_u64(entry, message.address);
        self.registers.write_u32(entry + ENTRY_DATA, message.data);
        let control = match self.msi_x {
            None => permission.bits(),
            Some((_, permissions)) => {
                let at = permissions + u64::from(handle) * PERMISSION_SIZE;
                self.registers.write_u32(at, permission.bits());
                0
            }
        };
        self.registers.write_u32(entry + ENTRY_CONTROL, control);
    }

    /// Holds the entry's message back, or lets it go.
    pub(crate) fn mask(&self, handle: u16, masked: bool) {
        let at = self.entry(handle) + ENTRY_CONTROL;
        let control = self.registers.read_u32(at) & !(MASK | PENDING);
        let mask = if masked { MASK } else { 0 };
        self.registers.write_u32(at, control | mask);
    }

    /// Whether a message waits for the mask to go.
    pub(crate) fn is_pending(&self, handle: u16) -> bool {
        match self.msi_x {
            None => self.registers.read_u32(self.entry(handle) + ENTRY_CONTROL) & PENDING != 0,
            Some((pending, _)) => {
                let word = self
                    .registers
                    .read_u64(pending + u64::from(handle / 64) * 8);
                word >> (handle % 64) & 1 != 0
            }
        }
    }

    fn entry(&self, handle: u16) -> u64 {
        self.entries + u64::from(handle) * ENTRY_SIZE
    }
}
