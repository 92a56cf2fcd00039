//! The two interrupt tables: MSI-X with its permissions table, and the
//! Interrupt Message Storage.
//!
//! Both keep 16-byte entries of address, data and control; they differ in
//! where PASID and Ignore stand (MSIXPERM, or the entry's own control word)
//! and in what masks an entry. [341204 Rev 3.0 §3.7 "Interrupts", §9.2 "MSI-X
//! Permissions Table", "Interrupt Message Storage Table"; PCI 3.0 §6.8.2
//! "MSI-X Capability and Table Structure"].

use crate::bits::{bit, field, low32, merge};
use crate::bus::Pasid;
use crate::violation::Violations;

/// Which table an interrupt handle refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// The MSI-X table.
    Msix,
    /// The Interrupt Message Storage.
    Ims,
}

/// An interrupt message, ready to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) address: u64,
    pub(crate) data: u32,
}

/// Who may raise an entry by descriptor: bits of an MSIXPERM entry or of an IMS
/// control word, at the same places in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permission {
    /// Suppress interrupts for descriptor completions.
    pub(crate) ignore: bool,
    /// The PASID that a descriptor must carry; `None`: PASID Enable is 0.
    pub(crate) pasid: Option<Pasid>,
}

impl Permission {
    /// Ignore (2), PASID Enable (3), PASID (31:12).
    const BITS: u32 = 0xffff_f00c;

    fn from_word(word: u32) -> Self {
        let word = u64::from(word);
        let pasid = Pasid::from_low_bits(low32(field(word, 31, 12)));
        Self {
            ignore: bit(word, 2),
            pasid: bit(word, 3).then_some(pasid),
        }
    }
}

/// One write to a 32-bit register: the value, and which of its bits the access
/// carries (narrower accesses carry fewer).
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegisterWrite {
    pub(crate) value: u32,
    pub(crate) lanes: u32,
}

impl RegisterWrite {
    /// `old` after this write to a register with these `writable` bits.
    pub(crate) fn onto(self, old: u32, writable: u32) -> u32 {
        let merged = merge(
            u64::from(old),
            u64::from(self.value),
            u64::from(writable & self.lanes),
        );
        low32(merged)
    }

    /// The bits that this write sets to one.
    pub(crate) fn ones(self) -> u32 {
        self.value & self.lanes
    }

    /// Whether all 32 bits are written.
    pub(crate) fn is_whole(self) -> bool {
        self.lanes == u32::MAX
    }
}

/// Word of an entry: message address, low half.
const ADDRESS_LOW: u64 = 0;
/// Message address, high half.
const ADDRESS_HIGH: u64 = 1;
/// Message data.
const DATA: u64 = 2;

/// Control bit 0: the entry is masked.
const MASK: u32 = 1 << 0;
/// IMS control bit 1, read only: an interrupt waits for the mask.
const PENDING: u32 = 1 << 1;

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    data: u32,
    control: u32,
}

impl Entry {
    fn word(self, word: u64) -> u32 {
        match word {
            ADDRESS_LOW => low32(self.address),
            ADDRESS_HIGH => low32(self.address >> 32),
            DATA => self.data,
            _ => self.control,
        }
    }

    fn set_address_word(&mut self, word: u64, value: u32) {
        let shift = if word == ADDRESS_HIGH { 32 } else { 0 };
        self.address = self.address & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
    }

    fn message(self) -> Message {
        Message {
            address: self.address & !0b11,
            data: self.data,
        }
    }
}

/// The MSI-X table, its pending bits and the permissions table beside it.
#[derive(Debug)]
pub(crate) struct MsixTable {
    entries: Vec<Entry>,
    pending: Vec<bool>,
    permissions: Vec<u32>,
    enabled: bool,
    function_mask: bool,
}

impl MsixTable {
    pub(crate) fn new(vectors: u16) -> Self {
        let count = usize::from(vectors);
        let entry = Entry {
            address: 0,
            data: 0,
            control: MASK,
        };
        Self {
            entries: vec![entry; count],
            pending: vec![false; count],
            permissions: vec![0; count],
            enabled: false,
            function_mask: false,
        }
    }

    /// Reads a 32-bit word of the table.
    pub(crate) fn read(&self, index: usize, word: u64) -> u32 {
        self.entries.get(index).map_or(0, |entry| entry.word(word))
    }

    /// Writes a word; an entry that this unmasks hands out its pending message.
    pub(crate) fn write(
        &mut self,
        index: usize,
        word: u64,
        write: RegisterWrite,
    ) -> Option<Message> {
        let entry = self.entries.get_mut(index)?;
        let value = write.onto(entry.word(word), u32::MAX);
        match word {
            ADDRESS_LOW | ADDRESS_HIGH => entry.set_address_word(word, value),
            DATA => entry.data = value,
            _ => entry.control = value & MASK,
        }
        self.release(index)
    }

    /// 32 pending bits, as the PBA shows them.
    pub(crate) fn read_pending(&self, word: usize) -> u32 {
        let bits = self.pending.iter().skip(word * 32).take(32).enumerate();
        bits.fold(0, |word, (index, pending)| {
            word | u32::from(*pending) << index
        })
    }

    /// Takes over the message control word; hands out what it unmasks.
    pub(crate) fn set_control(&mut self, enabled: bool, function_mask: bool) -> Vec<Message> {
        (self.enabled, self.function_mask) = (enabled, function_mask);
        (0..self.entries.len())
            .filter_map(|index| self.release(index))
            .collect()
    }

    /// Raises vector `index`: the message to send, or none where it is masked
    /// (then it is pending) or MSI-X is off (then it is lost).
    pub(crate) fn raise(&mut self, index: usize) -> Option<Message> {
        if self.enabled {
            *self.pending.get_mut(index)? = true;
        }
        self.release(index)
    }

    pub(crate) fn permission(&self, index: usize) -> Option<Permission> {
        self.permissions
            .get(index)
            .copied()
            .map(Permission::from_word)
    }

    pub(crate) fn read_permission(&self, index: usize) -> u32 {
        self.permissions.get(index).copied().unwrap_or(0)
    }

    pub(crate) fn write_permission(
        &mut self,
        index: usize,
        write: RegisterWrite,
        violations: &mut Violations,
    ) {
        if let Some(permission) = self.permissions.get_mut(index) {
            if write.ones() & !Permission::BITS != 0 {
                violations.record(format!(
                    "MSIXPERM {index}: reserved bits written, {:#010x}",
                    write.ones() & !Permission::BITS
                ));
            }
            *permission = write.onto(*permission, Permission::BITS);
        }
    }

    /// Reset Device clears permissions and pending bits, and keeps the table
    /// [Table 9-3].
    pub(crate) fn reset_by_command(&mut self) {
        self.permissions.fill(0);
        self.pending.fill(false);
    }

    fn release(&mut self, index: usize) -> Option<Message> {
        let entry = self.entries.get(index)?;
        let pending = self.pending.get_mut(index)?;
        let masked = !self.enabled || self.function_mask || entry.control & MASK != 0;
        if !*pending || masked {
            return None;
        }
        *pending = false;
        Some(entry.message())
    }
}

/// The Interrupt Message Storage.
#[derive(Debug)]
pub(crate) struct ImsTable {
    entries: Vec<Entry>,
}

impl ImsTable {
    /// The address of an entry after reset.
    const NEUTRAL: Entry = Entry {
        address: 0xfee0_0000,
        data: 0,
        control: MASK,
    };

    pub(crate) fn new(slots: u32) -> Self {
        Self {
            entries: vec![Self::NEUTRAL; slots as usize],
        }
    }

    /// Every entry as after power-up: masked, without a PASID.
    pub(crate) fn reset(&mut self) {
        self.entries.fill(Self::NEUTRAL);
    }

    pub(crate) fn read(&self, index: usize, word: u64) -> u32 {
        self.entries.get(index).map_or(0, |entry| entry.word(word))
    }

    /// Writes a word; an entry that this unmasks hands out its pending message.
    pub(crate) fn write(
        &mut self,
        index: usize,
        word: u64,
        write: RegisterWrite,
        violations: &mut Violations,
    ) -> Option<Message> {
        let entry = self.entries.get_mut(index)?;
        let old = entry.word(word);
        if word <= DATA {
            // Bits 1:0 of an address are ignored.
            let writable = if word == ADDRESS_LOW { !0b11 } else { u32::MAX };
            let value = write.onto(old, writable);
            if value != old && entry.control & MASK == 0 {
                violations.record(format!(
                    "IMS {index}: address or data changed while unmasked, a message could be torn"
                ));
            }
            match word {
                DATA => entry.data = value,
                // Only 0x00000000_FEExxxxx is accepted, anything else discarded.
                ADDRESS_LOW if value >> 20 == 0xfee => entry.set_address_word(word, value),
                ADDRESS_HIGH if value == 0 => entry.set_address_word(word, value),
                _ => violations.record(format!(
                    "IMS {index}: message address outside 0xFEExxxxx written and discarded"
                )),
            }
            return None;
        }
        let writable = MASK | Permission::BITS;
        let reserved = write.ones() & !(writable | PENDING);
        if reserved != 0 {
            violations.record(format!(
                "IMS {index}: reserved bits written, {reserved:#010x}"
            ));
        }
        entry.control = write.onto(old, writable);
        Self::release(entry)
    }

    /// Raises entry `index`: the message to send, or none while it is masked.
    pub(crate) fn raise(&mut self, index: usize) -> Option<Message> {
        let entry = self.entries.get_mut(index)?;
        entry.control |= PENDING;
        Self::release(entry)
    }

    pub(crate) fn permission(&self, index: usize) -> Option<Permission> {
        self.entries
            .get(index)
            .map(|entry| Permission::from_word(entry.control))
    }

    fn release(entry: &mut Entry) -> Option<Message> {
        if entry.control & PENDING == 0 || entry.control & MASK != 0 {
            return None;
        }
        entry.control &= !PENDING;
        Some(entry.message())
    }
}
