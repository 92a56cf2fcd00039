//! The MSI-X table, its pending bits and the permissions table, and what the slots
//! behind the entries were told.
//!
//! Entry 0 is raised by software alone. Each other entry has an IMS slot once its
//! handle was requested; what the guest writes here is then passed on to the slot,
//! and its pending bit is the slot's or that of an interrupt raised by software.

use hwspec::dsa::MsixPermission;
use hwspec::pci::{MsixVectorControl, Pasid};

use crate::access::{WordWrite, high_half, low_half};
use crate::{Host, MAX_VECTORS, Message};

/// What a slot was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    is_masked: bool,
    is_ignored: bool,
    pasid: Pasid,
    message: Option<Message>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    data: u32,
    is_masked: bool,
    /// Raised by software while masked.
    is_pending: bool,
    permission: MsixPermission,
    slot: Option<Slot>,
}

impl Entry {
    /// An entry after reset. [PCIe 5.0, 7.7.2.8 "Vector Control Register for MSI-X
    /// Table Entries": the mask bit is 1]
    const RESET: Self = Self {
        address: 0,
        data: 0,
        is_masked: true,
        is_pending: false,
        permission: MsixPermission::new(),
        slot: None,
    };

    /// The entry's message, if it is one that interrupts a processor: its address is
    /// 0xFEEx_xxxx. [SDM, vol. 3, "Message Address Register Format"]
    fn message(&self) -> Option<Message> {
        let address = u32::try_from(self.address).ok()? & !0b11;
        let data = self.data;
        (address >> 20 == 0xfee).then_some(Message { address, data })
    }
}

/// MSI-X of one virtual accelerator, with its permissions.
#[derive(Debug)]
pub(crate) struct MsixTable {
    entries: [Entry; MAX_VECTORS],
    count: u16,
    is_enabled: bool,
    is_function_masked: bool,
    /// Interrupts that were raised and had no message to send.
    lost: u64,
}

impl MsixTable {
    /// A table of `count` vectors, or as many as there can be, after reset.
    pub(crate) fn new(count: u16) -> Self {
        Self {
            entries: [Entry::RESET; MAX_VECTORS],
            count,
            is_enabled: false,
            is_function_masked: false,
            lost: 0,
        }
    }

    /// How many vectors there are.
    pub(crate) const fn count(&self) -> u16 {
        self.count
    }

    fn entry(&self, vector: u16) -> Option<&Entry> {
        self.entries
            .get(usize::from(vector))
            .filter(|_| vector < self.count)
    }

    fn entry_mut(&mut self, vector: u16) -> Option<&mut Entry> {
        self.entries
            .get_mut(usize::from(vector))
            .filter(|_| vector < self.count)
    }

    /// Whether the guest wants no interrupt of the vector now.
    pub(crate) fn is_masked(&self, vector: u16) -> bool {
        let is_entry_masked = self.entry(vector).is_none_or(|entry| entry.is_masked);
        !self.is_enabled || self.is_function_masked || is_entry_masked
    }

    /// Raises a vector by software, whatever its permissions say. A masked one becomes
    /// pending; with MSI-X off the interrupt is lost.
    #[inline]
    pub(crate) fn raise(&mut self, host: &mut impl Host, vector: u16) {
        self.raise_unless(host, vector, |_| false);
    }

    /// Raises a vector by software for the completion of a descriptor. Does nothing if
    /// the guest set Ignore.
    #[inline]
    pub(crate) fn raise_completion(&mut self, host: &mut impl Host, vector: u16) {
        self.raise_unless(host, vector, |entry| entry.permission.ignore());
    }

    #[inline]
    fn raise_unless(
        &mut self,
        host: &mut impl Host,
        vector: u16,
        is_unwanted: impl FnOnce(&Entry) -> bool,
    ) {
        let is_function_masked = self.is_function_masked;
        if !self.is_enabled {
            return;
        }
        let Some(entry) = self.entry_mut(vector).filter(|entry| !is_unwanted(entry)) else {
            return;
        };
        // Two that come before the guest takes one are one.
        entry.is_pending = is_function_masked || entry.is_masked;
        if entry.is_pending {
            return;
        }
        match entry.message() {
            Some(message) => host.inject(message),
            None => self.lost = self.lost.saturating_add(1),
        }
    }

    /// Sends what software raised, if nothing masks it any more.
    fn send_pending(&mut self, host: &mut impl Host, vector: u16) {
        if self.is_masked(vector) {
            return;
        }
        let Some(entry) = self.entry_mut(vector).filter(|entry| entry.is_pending) else {
            return;
        };
        entry.is_pending = false;
        match entry.message() {
            Some(message) => host.inject(message),
            None => self.lost = self.lost.saturating_add(1),
        }
    }

    /// Interrupts that were raised while the entry held no interrupt message.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Word `word` of an entry of the table; 0 beyond it.
    pub(crate) fn read(&self, vector: u16, word: u32) -> u32 {
        let Some(entry) = self.entry(vector) else {
            return 0;
        };
        match word {
            0 => low_half(entry.address),
            1 => high_half(entry.address),
            2 => entry.data,
            _ => MsixVectorControl::new()
                .with_mask(entry.is_masked)
                .into_bits(),
        }
    }

    /// Writes word `word` of an entry. Returns whether there is such an entry. The
    /// caller then calls [`settle`](Self::settle).
    pub(crate) fn write(&mut self, vector: u16, word: u32, write: WordWrite) -> bool {
        let Some(entry) = self.entry_mut(vector) else {
            return false;
        };
        let (low, high) = (low_half(entry.address), high_half(entry.address));
        let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        match word {
            0 => entry.address = join(write.onto(low, u32::MAX), high),
            1 => entry.address = join(low, write.onto(high, u32::MAX)),
            2 => entry.data = write.onto(entry.data, u32::MAX),
            _ => {
                let control = MsixVectorControl::new().with_mask(entry.is_masked);
                let control = write.onto(control.into_bits(), 1);
                entry.is_masked = MsixVectorControl::from_bits(control).mask();
            }
        }
        true
    }

    /// 32 pending bits, from vector 32 * `word` on.
    pub(crate) fn read_pending(&self, host: &impl Host, word: u32) -> u32 {
        if word != 0 {
            return 0;
        }
        let pending = (0..self.count).filter(|vector| {
            self.entry(*vector).is_some_and(|entry| {
                entry.is_pending || entry.slot.is_some() && host.is_pending(*vector)
            })
        });
        pending.fold(0, |bits, vector| bits | 1 << vector)
    }

    /// The permissions of a vector.
    pub(crate) fn permission(&self, vector: u16) -> MsixPermission {
        self.entry(vector)
            .map(|entry| entry.permission)
            .unwrap_or_default()
    }

    /// Writes the permissions of a vector. Returns whether there is such a vector.
    /// The caller then calls [`settle`](Self::settle).
    pub(crate) fn write_permission(&mut self, vector: u16, write: WordWrite) -> bool {
        /// Ignore, PASID Enable, PASID.
        const WRITABLE: u32 = 0xffff_f00c;
        let Some(entry) = self.entry_mut(vector) else {
            return false;
        };
        let permission = write.onto(entry.permission.into_bits(), WRITABLE);
        entry.permission = MsixPermission::from_bits(permission);
        true
    }

    /// Takes over MSI-X Enable and Function Mask. The caller then settles all vectors.
    pub(crate) fn set_control(&mut self, is_enabled: bool, is_function_masked: bool) {
        self.is_enabled = is_enabled;
        self.is_function_masked = is_function_masked;
    }

    /// The vector has a slot now: masked, not ignored, with `pasid`, without message.
    /// The caller then calls [`settle`](Self::settle).
    pub(crate) fn add_slot(&mut self, vector: u16, pasid: Pasid) {
        if let Some(entry) = self.entry_mut(vector) {
            entry.slot = Some(Slot {
                is_masked: true,
                is_ignored: false,
                pasid,
                message: None,
            });
        }
    }

    /// The vector has another slot now: masked, not ignored, with the PASID of the old
    /// one, without message. The caller then calls [`settle`](Self::settle).
    pub(crate) fn move_slot(&mut self, vector: u16) {
        if let Some(pasid) = self.entry(vector).and_then(|entry| Some(entry.slot?.pasid)) {
            self.add_slot(vector, pasid);
        }
    }

    /// Masks the vector's slot and forgets it.
    pub(crate) fn drop_slot(&mut self, host: &mut impl Host, vector: u16) {
        if let Some(entry) = self.entry_mut(vector)
            && let Some(slot) = entry.slot.take()
            && !slot.is_masked
        {
            host.set_masked(vector, true);
        }
    }

    /// Passes on to the vector's slot what it was not told yet, and sends what software
    /// raised if it is masked no more. `pasid` is the host PASID that the slot is to
    /// have; without one it stays masked.
    pub(crate) fn settle(&mut self, host: &mut impl Host, vector: u16, pasid: Option<Pasid>) {
        let is_masked = self.is_masked(vector) || pasid.is_none();
        if let Some(entry) = self.entry_mut(vector) {
            let message = entry.message();
            let is_ignored = entry.permission.ignore();
            if let Some(slot) = &mut entry.slot {
                slot.settle(
                    host,
                    vector,
                    Slot {
                        is_masked,
                        is_ignored,
                        pasid: pasid.unwrap_or(slot.pasid),
                        // Of an entry that is being rewritten nobody needs the halves.
                        message: if is_masked { slot.message } else { message },
                    },
                );
            }
        }
        self.send_pending(host, vector);
    }

    /// Masks all slots and forgets them.
    pub(crate) fn drop_slots(&mut self, host: &mut impl Host) {
        for vector in 0..self.count {
            self.drop_slot(host, vector);
        }
    }

    /// The table after a reset of the function. What was counted stays.
    pub(crate) fn after_reset(&self) -> Self {
        Self {
            lost: self.lost,
            ..Self::new(self.count)
        }
    }

    /// What the Reset Device command resets: permissions and pending bits, not the
    /// table. [DSA 3.0, 5.5 "Reset"]
    pub(crate) fn reset_by_command(&mut self) {
        for entry in &mut self.entries {
            entry.permission = MsixPermission::new();
            entry.is_pending = false;
        }
    }
}

impl Slot {
    /// Tells the host what differs. A slot is masked while its message or its PASID
    /// changes.
    fn settle(&mut self, host: &mut impl Host, vector: u16, wanted: Self) {
        if *self == wanted {
            return;
        }
        let moves = self.pasid != wanted.pasid || self.message != wanted.message;
        if !self.is_masked && (wanted.is_masked || moves) {
            host.set_masked(vector, true);
            self.is_masked = true;
        }
        if self.pasid != wanted.pasid {
            host.set_slot_pasid(vector, wanted.pasid);
        }
        if self.is_ignored != wanted.is_ignored {
            host.set_ignored(vector, wanted.is_ignored);
        }
        if self.message != wanted.message {
            host.set_message(vector, wanted.message);
        }
        if self.is_masked && !wanted.is_masked {
            host.set_masked(vector, false);
        }
        *self = wanted;
    }
}
