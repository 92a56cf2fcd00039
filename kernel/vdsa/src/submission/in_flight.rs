//! Batches and drains that the device works on, and how their end is handed on.
//!
//! Their completion records are Weir's own. A drain is watched while batches are in
//! flight: the guest must not hear that all before it is done while the record of a
//! batch is still on its way through Weir.

use hwspec::dsa::{CompletionRecord, DescriptorWord0, Flags, Operation, Status};
use hwspec::pci::Pasid;

use super::fault::Fault;
use super::operations::{RECORD, RECORD_VALID};
use super::report::{Origin, error_record};
use super::window::{Layout, MAX_BATCHES, MAX_DRAINS, MAX_SLOTS};
use super::{Notices, Rule, Submission};
use crate::{GuestAddr, Host, QueueIndex};

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Batch,
    Drain,
}

/// One batch or drain in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// The descriptor as the guest submitted it.
    pub(super) words: [u64; 8],
    pub(super) origin: Origin,
    /// The host PASID it runs with.
    pub(super) pasid: Pasid,
    /// The virtual vector of its interrupt, if it asks for one.
    pub(super) vector: Option<u16>,
    /// Counts submissions.
    pub(super) sequence: u64,
}

impl Entry {
    /// How many members it has: none if it is a drain.
    pub(super) fn count_members(&self) -> u64 {
        match DescriptorWord0::from_bits(self.words[0]).operation() {
            Operation::BATCH => self.words[4] & 0xffff_ffff,
            _ => 0,
        }
    }
}

/// The slots of the window.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    entries: [Option<Entry>; MAX_SLOTS],
    /// A bit for each slot that is in use.
    used: u64,
    /// A bit for each slot that batches may use.
    batches: u64,
    next_sequence: u64,
}

/// A bit for each slot of a drain.
const DRAINS: u64 = ((1 << MAX_DRAINS) - 1) << MAX_BATCHES;

impl Slots {
    /// All slots free, `batches` of them for batches.
    pub(super) const fn new(batches: usize) -> Self {
        Self {
            entries: [None; MAX_SLOTS],
            used: 0,
            batches: (1 << batches) - 1,
            next_sequence: 0,
        }
    }

    /// A free slot; it is not in use before [`occupy`](Self::occupy).
    pub(super) fn free(&self, kind: Kind) -> Option<usize> {
        let eligible = match kind {
            Kind::Batch => self.batches,
            Kind::Drain => DRAINS,
        };
        let free = eligible & !self.used;
        (free != 0).then(|| free.trailing_zeros() as usize)
    }

    pub(super) fn occupy(&mut self, slot: usize, entry: Entry) {
        if let Some(place) = self.entries.get_mut(slot) {
            *place = Some(Entry {
                sequence: self.next_sequence,
                ..entry
            });
            self.next_sequence += 1;
            self.used |= 1 << slot;
        }
    }

    /// Frees a slot. Its entry can still be [read](Self::get) until the slot is in use
    /// again.
    pub(super) const fn release(&mut self, slot: usize) {
        self.used &= !(1 << slot);
    }

    pub(super) const fn count(&self) -> u32 {
        self.used.count_ones()
    }

    /// Whether there are batches of `queue`, as far as they were not handed on yet.
    pub(super) fn has_batches(&self, queue: QueueIndex) -> bool {
        self.used & self.batches != 0
            && bits(self.used & self.batches).any(|slot| {
                self.get(slot)
                    .is_some_and(|entry| entry.origin.queue == queue)
            })
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Entry> {
        self.entries.get(slot)?.as_ref()
    }

    /// The one that is to be handed on next, with its record, if any is finished.
    #[inline]
    fn next_finished(&self, host: &impl Host) -> Option<(usize, [u64; 4])> {
        let used = self.used;
        // Nearly always it is the only one.
        let slot = if used & used.wrapping_sub(1) == 0 {
            if used == 0 {
                return None;
            }
            used.trailing_zeros() as usize
        } else {
            self.first_finished(host)?
        };
        let mut record = [0; 4];
        host.read_window(Layout::record_offset(slot), &mut record);
        (record[0] & STATUS != 0).then_some((slot, record))
    }

    /// Out of several the one that is to be handed on next.
    #[inline(never)]
    fn first_finished(&self, host: &impl Host) -> Option<usize> {
        // A drain is done when what it waited for is done, and the device writes records
        // in that order. Whoever sees the drain's and then looks for the others sees them
        // too.
        let drain = self.oldest_finished(DRAINS, host);
        self.oldest_finished(!DRAINS, host).or(drain)
    }

    /// The oldest of `slots` that is finished.
    fn oldest_finished(&self, slots: u64, host: &impl Host) -> Option<usize> {
        let mut oldest = None;
        let mut first = u64::MAX;
        for slot in bits(self.used & slots) {
            let mut word = [0];
            host.read_window(Layout::record_offset(slot), &mut word);
            if word[0] & STATUS != 0
                && let Some(entry) = self.get(slot)
                && entry.sequence < first
            {
                first = entry.sequence;
                oldest = Some(slot);
            }
        }
        oldest
    }

    /// Frees those that `is_gone` says the device gave up, and lets `each` see them.
    pub(super) fn abandon(
        &mut self,
        mut is_gone: impl FnMut(&Entry) -> bool,
        mut each: impl FnMut(&Entry),
    ) {
        for slot in bits(self.used) {
            if let Some(entry) = self.get(slot)
                && is_gone(entry)
            {
                each(entry);
                self.release(slot);
            }
        }
    }
}

/// Status, in the first word of a completion record.
const STATUS: u64 = 0x3f;

/// The numbers of the bits that are set.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        (set != 0).then(|| {
            let lowest = set.trailing_zeros() as usize;
            set &= set - 1;
            lowest
        })
    })
}

/// What was handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandedOn {
    /// All went well: this virtual vector is to be raised, if any.
    Plainly(Option<u16>),
    /// One in this slot for which [`Submission::hand_on_unusual`] is to be called.
    Unusual(usize),
}

impl Submission {
    /// Hands one batch or drain that the device is done with on to the guest. To be
    /// called until there is none: after the interrupt of a batch handle, after an error
    /// of one of the queues, when a drain or an abort of a queue is done and before the
    /// guest hears of that, and from time to time while
    /// [some are in flight](Self::in_flight), since an interrupt may be lost when the
    /// device is reset, and batches of a PASID without a batch handle raise none.
    pub fn collect(&mut self, host: &mut impl Host) -> Option<Notices> {
        Some(match self.hand_on(host)? {
            HandedOn::Plainly(interrupt) => Notices {
                interrupt,
                ..Notices::default()
            },
            HandedOn::Unusual(slot) => self.hand_on_unusual(host, slot),
        })
    }

    /// The same. Its record goes to the guest, its slot is free again.
    #[inline]
    pub(crate) fn hand_on(&mut self, host: &mut impl Host) -> Option<HandedOn> {
        let (slot, words) = self.slots.next_finished(host)?;
        self.slots.release(slot);
        let entry = self.slots.get(slot)?;
        // Nearly always all went well, and the guest wants a record.
        let record = CompletionRecord::from_words(words);
        let is_plain = record.word0.status() == Status::SUCCESS
            && entry.words[0] & (RECORD | RECORD_VALID) == RECORD | RECORD_VALID
            && entry.count_members() == u64::from(record.word0.bytes_completed());
        if !is_plain
            || host
                .write_record(GuestAddr(entry.words[1]), &words)
                .is_err()
        {
            return Some(HandedOn::Unusual(slot));
        }
        self.counters.handed_on += 1;
        self.counters.handed_on_interrupts += u64::from(entry.vector.is_some());
        Some(HandedOn::Plainly(entry.vector))
    }

    /// Hands on what may not have gone well, or has no record, from a slot that was just
    /// freed.
    #[cold]
    pub(crate) fn hand_on_unusual(&mut self, host: &mut impl Host, slot: usize) -> Notices {
        let Some(&entry) = self.slots.get(slot) else {
            return Notices::default();
        };
        let mut words = [0; 4];
        host.read_window(Layout::record_offset(slot), &mut words);
        let mut record = CompletionRecord::from_words(words);
        let status = record.word0.status();
        if status == Status::BATCH_PAGE_FAULT {
            // The list that faults is the guest's, as far as the guest knows.
            let list = self.layout.address(self.layout.list_offset(slot));
            let offset = record.fault_address.wrapping_sub(list);
            record.fault_address = entry.words[2].wrapping_add(offset);
        }
        let members_done = u64::from(record.word0.bytes_completed());
        let members_left = entry.count_members().saturating_sub(members_done);

        let flags: Flags = DescriptorWord0::from_bits(entry.words[0]).flags();
        let is_error = !status.is_success() && status != Status::BATCH_FAILURE;
        let has_record = flags.completion_record_address_valid();
        let is_due = has_record && (is_error || flags.request_completion_record());
        let address = GuestAddr(entry.words[1]);
        let has_record_memory = !is_due || host.write_record(address, &record.words()).is_ok();
        let error = |code| error_record(&entry.words, code, entry.origin, 0);
        let mut notices = Notices::default();
        if !has_record_memory {
            let fault = Fault::new(Rule::RecordMemory, entry.words[1]);
            self.record(&entry.words, &fault, entry.origin);
            notices.error = Some(error(Status::RECORD_PAGE_FAULT));
        } else if is_error && !has_record {
            notices.error = Some(error(status));
        }
        if has_record_memory && status != Status::INTERRUPT_HANDLE {
            notices.interrupt = entry.vector;
        }
        self.counters.handed_on += 1;
        self.counters.members_abandoned += members_left;
        self.counters.handed_on_interrupts += u64::from(notices.interrupt.is_some());
        notices
    }
}

/// Whether the operation is one that takes a slot.
pub(super) fn kind_of(operation: Operation) -> Option<Kind> {
    match operation {
        Operation::BATCH => Some(Kind::Batch),
        Operation::DRAIN => Some(Kind::Drain),
        _ => None,
    }
}
