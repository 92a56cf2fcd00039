//! A host that panics where the device breaks its side of the contract, and that looks
//! at everything that would reach the physical device.

use std::collections::HashMap;

use hwio::Submission;
use hwspec::dsa::{Descriptor, Flags, Operation};
use hwspec::pci::Pasid;
use vdsa::{
    Answer, GuestAddr, Host, Message, NotRam, PasidAction, QueueAction, QueueIndex, QueueSet,
    Request,
};

use crate::rig::{BATCH_HANDLE, WINDOW};

pub(crate) const VECTORS: u16 = 4;
/// Of the three queues, then of guest PASIDs 5 and 6.
const HOST_PASIDS: [u32; 5] = [0x101, 0x102, 0x103, 0x205, 0x206];
/// Where the guest's RAM ends.
const RAM_END: u64 = 1 << 32;
/// The page of records, the only part of the window that the device may write.
const RECORDS: u64 = 4096;
/// A handle that no device has, in members that are to be refused.
const NO_HANDLE: u16 = 0xffff;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) is_masked: bool,
    pub(crate) is_ignored: bool,
    pub(crate) pasid: Pasid,
    pub(crate) message: Option<Message>,
    pub(crate) handle: u16,
}

#[derive(Debug, Default)]
pub(crate) struct StrictHost {
    pub(crate) slots: [Option<Slot>; 9],
    pub(crate) out: Option<Request>,
    /// Queues that are physically enabled, or may be.
    pub(crate) enabled: QueueSet,
    handles: u16,
    /// Words that were written; any other reads as its own address.
    ram: HashMap<u64, u64>,
    window: HashMap<usize, u64>,
    /// Records in the window that the device owes.
    owed: Vec<Owed>,
    /// How many of them, from the first on, it had before it was asked for something.
    owed_before: usize,
}

/// A record that the device owes.
#[derive(Clone, Copy, Debug)]
struct Owed {
    offset: usize,
    queue: QueueIndex,
    pasid: Pasid,
}

impl StrictHost {
    pub(crate) fn slot(&mut self, vector: u16) -> &mut Slot {
        let slot = self.slots[usize::from(vector)].as_mut();
        slot.unwrap_or_else(|| panic!("vector {vector} has no slot"))
    }

    /// A handle that nobody had before.
    pub(crate) fn new_handle(&mut self) -> u16 {
        self.handles += 1;
        0x1000 + self.handles
    }

    /// How many handles there were.
    pub(crate) fn count_handles(&self) -> u16 {
        self.handles
    }

    /// The guest writes to its memory.
    pub(crate) fn poke(&mut self, at: u64, word: u64) {
        self.ram.insert(at & (RAM_END - 1) & !7, word);
    }

    /// The device completes what it was given of Weir's own.
    pub(crate) fn complete(&mut self, record: [u64; 4]) {
        for owed in core::mem::take(&mut self.owed) {
            self.write_window(owed.offset, &record);
        }
        self.owed_before = 0;
    }

    /// Does what is asked, and says what to answer.
    pub(crate) fn carry_out(&mut self, succeeds: bool) -> Option<Answer> {
        let request = self.out.take()?;
        if !succeeds {
            return Some(match request {
                Request::AllocateHandle { .. } => Answer::NoHandle,
                Request::EnableQueue { queue, .. } => {
                    self.enabled = self.enabled.without(QueueSet::EMPTY.with(queue));
                    Answer::Failed
                }
                _ => Answer::Failed,
            });
        }
        match request {
            Request::AllocateHandle { vector, pasid } => {
                let handle = self.new_handle();
                self.slots[usize::from(vector)] = Some(Slot {
                    is_masked: true,
                    is_ignored: false,
                    pasid,
                    message: None,
                    handle,
                });
                return Some(Answer::Handle(handle));
            }
            Request::ReleaseHandle { vector } => self.slots[usize::from(vector)] = None,
            Request::Reset { queues } => {
                assert_eq!(self.enabled.without(queues), QueueSet::EMPTY);
                self.give_up(|_| true);
                self.enabled = QueueSet::EMPTY;
                self.slots = Default::default();
            }
            Request::Queues { queues, action } => {
                if action != QueueAction::Drain {
                    self.give_up(|owed| queues.contains(owed.queue));
                }
                if matches!(action, QueueAction::Disable | QueueAction::Reset) {
                    self.enabled = self.enabled.without(queues);
                }
            }
            Request::Pasid { pasid, action } => {
                if action == PasidAction::Abort {
                    self.give_up(|owed| owed.pasid == pasid);
                }
            }
            Request::EnableQueue { .. } => {}
        }
        Some(Answer::Done)
    }

    /// The device forgets what it had before it was asked to. What came later it may
    /// have begun with.
    fn give_up(&mut self, is_concerned: impl Fn(&Owed) -> bool) {
        let later = self.owed.split_off(self.owed_before);
        self.owed.retain(|owed| !is_concerned(owed));
        self.owed.extend(later);
        self.owed_before = 0;
    }

    /// What the device would do on behalf of `pasid` concerns nobody but the guest.
    fn assert_harmless(&self, words: [u64; 8], pasid: Pasid, is_member: bool) {
        let descriptor = Descriptor::from_words(words);
        let flags = descriptor.word0.flags();
        assert_ne!(descriptor.word0.operation(), Operation::BATCH, "{words:x?}");
        if flags.request_completion_interrupt() {
            self.assert_handle(descriptor.word4.interrupt_handle(), pasid, is_member);
        }
        if flags.completion_record_address_valid() {
            let record = descriptor.completion_record_address;
            assert!(!WINDOW.contains(record), "record in the window: {words:x?}");
        }
        // A member that the device is to refuse may name what can only be read.
        let forbidden = if is_member { RECORDS } else { WINDOW.len_bytes };
        for (address, len_bytes) in operands(&descriptor) {
            assert!(
                len_bytes == 0 || !overlaps(address, len_bytes, WINDOW.base, forbidden),
                "{address:#x} is in the window: {words:x?}"
            );
        }
    }

    /// The handle stands for a slot of the guest's, and the slot lets this PASID use it.
    fn assert_handle(&self, handle: u16, pasid: Pasid, is_member: bool) {
        if is_member && handle == NO_HANDLE {
            return;
        }
        let mut slots = self.slots.iter().flatten();
        let slot = slots.find(|slot| slot.handle == handle);
        let slot = slot.unwrap_or_else(|| panic!("handle {handle:#x} is nobody's"));
        assert_eq!(slot.pasid, pasid, "handle {handle:#x}");
    }

    /// A descriptor with a record of Weir's own.
    fn assert_watched(&mut self, queue: QueueIndex, words: [u64; 8], pasid: Pasid) {
        let descriptor = Descriptor::from_words(words);
        let flags = descriptor.word0.flags();
        let record = descriptor.completion_record_address - WINDOW.base;
        assert!(record.is_multiple_of(64) && record < RECORDS);
        if flags.request_completion_interrupt() {
            assert_eq!(descriptor.word4.interrupt_handle(), BATCH_HANDLE);
        }
        let offset = usize::try_from(record).unwrap();
        assert!(
            self.owed.iter().all(|owed| owed.offset != offset),
            "the place at {offset:#x} is used again while the device has it"
        );
        self.owed.push(Owed {
            offset,
            queue,
            pasid,
        });
        if descriptor.word0.operation() == Operation::DRAIN {
            return;
        }
        assert_eq!(descriptor.word0.operation(), Operation::BATCH);
        let list = descriptor.word2.checked_sub(WINDOW.base).unwrap();
        let count = u64::from(descriptor.word4.transfer_size());
        assert!(list >= RECORDS && (2..=1024).contains(&count));
        assert!(list + 64 * count <= WINDOW.len_bytes);
        for index in 0..count {
            let mut member = [0; 8];
            let offset = usize::try_from(list + 64 * index).unwrap();
            self.read_window(offset, &mut member);
            assert_eq!(member[0] & 0xffff_ffff, 0, "PASID or Priv of a member");
            self.assert_harmless(member, pasid, true);
        }
    }
}

/// Addresses of a descriptor, as far as the device follows them, with how many bytes it
/// reads or writes there at least.
/// [DSA 3.0, 8.3 "Descriptor Types"]
fn operands(descriptor: &Descriptor) -> Vec<(u64, u64)> {
    let size = u64::from(descriptor.word4.transfer_size());
    let source = (descriptor.word2, size);
    let destination = (descriptor.word3, size);
    let reads_seed = descriptor.word0.flags().contains(Flags::CRC_READ_SEED);
    let seed = (
        descriptor.crc_seed_address(),
        if reads_seed { 4 } else { 0 },
    );
    match descriptor.word0.operation() {
        Operation::MEMORY_MOVE | Operation::COMPARE => Vec::from([source, destination]),
        Operation::FILL | Operation::CACHE_FLUSH => Vec::from([destination]),
        Operation::COMPARE_PATTERN | Operation::DIF_CHECK => Vec::from([source]),
        Operation::CREATE_DELTA => {
            let record = descriptor.delta_record_address();
            let record = (record, descriptor.max_delta_record_size().into());
            Vec::from([source, destination, record])
        }
        Operation::APPLY_DELTA => {
            let record = (descriptor.word2, descriptor.delta_record_size().into());
            Vec::from([record, destination])
        }
        Operation::DUALCAST => {
            let second = (descriptor.destination2_address(), size);
            Vec::from([source, destination, second])
        }
        Operation::CRC => Vec::from([source, seed]),
        Operation::COPY_CRC => Vec::from([source, destination, seed]),
        Operation::DIF_INSERT | Operation::DIF_STRIP | Operation::DIF_UPDATE => {
            Vec::from([source, destination])
        }
        _ => Vec::new(),
    }
}

fn overlaps(a: u64, a_len: u64, b: u64, b_len: u64) -> bool {
    let (a, b) = (u128::from(a), u128::from(b));
    a < b + u128::from(b_len) && b < a + u128::from(a_len)
}

fn assert_known(pasid: Pasid) {
    assert!(HOST_PASIDS.contains(&pasid.value()), "host PASID {pasid}");
}

fn assert_in_ram(at: GuestAddr, words: usize) -> Result<(), NotRam> {
    assert!(at.0.is_multiple_of(8));
    let end = at.0.checked_add(8 * words as u64).ok_or(NotRam)?;
    if end <= RAM_END { Ok(()) } else { Err(NotRam) }
}

impl Host for StrictHost {
    fn read_guest(&self, at: GuestAddr, into: &mut [u64]) -> Result<(), NotRam> {
        assert_in_ram(at, into.len())?;
        for (word, at) in into.iter_mut().zip((at.0..).step_by(8)) {
            *word = self.ram.get(&at).copied().unwrap_or(at);
        }
        Ok(())
    }

    fn write_guest(&mut self, at: GuestAddr, words: &[u64]) -> Result<(), NotRam> {
        assert_in_ram(at, words.len())?;
        let places = (at.0..).step_by(8);
        self.ram.extend(places.zip(words.iter().copied()));
        Ok(())
    }

    fn read_window(&self, offset: usize, into: &mut [u64]) {
        assert!(((offset + 8 * into.len()) as u64) <= WINDOW.len_bytes);
        for (word, at) in into.iter_mut().zip((offset..).step_by(8)) {
            *word = self.window.get(&at).copied().unwrap_or(0);
        }
    }

    fn write_window(&mut self, offset: usize, words: &[u64]) {
        assert!(((offset + 8 * words.len()) as u64) <= WINDOW.len_bytes);
        let places = (offset..).step_by(8);
        self.window.extend(places.zip(words.iter().copied()));
    }

    fn submit(&mut self, queue: QueueIndex, descriptor: &[u64; 8]) -> Submission {
        assert!(self.enabled.contains(queue), "queue {queue:?} is disabled");
        let words = *descriptor;
        let descriptor = Descriptor::from_words(words);
        let pasid = Pasid::from_bits(descriptor.word0.pasid());
        assert_known(pasid);
        assert!(!descriptor.word0.privileged());
        let has_record = descriptor.word0.flags().completion_record_address_valid();
        if has_record && WINDOW.contains(descriptor.completion_record_address) {
            self.assert_watched(queue, words, pasid);
        } else {
            self.assert_harmless(words, pasid, false);
        }
        Submission::Accepted
    }

    fn set_masked(&mut self, vector: u16, masked: bool) {
        self.slot(vector).is_masked = masked;
    }

    fn set_ignored(&mut self, vector: u16, ignored: bool) {
        self.slot(vector).is_ignored = ignored;
    }

    fn set_slot_pasid(&mut self, vector: u16, pasid: Pasid) {
        assert_known(pasid);
        let slot = self.slot(vector);
        assert!(slot.is_masked, "the PASID of an unmasked slot changes");
        slot.pasid = pasid;
    }

    fn is_pending(&self, vector: u16) -> bool {
        assert!(self.slots[usize::from(vector)].is_some());
        true
    }

    fn set_message(&mut self, vector: u16, message: Option<Message>) {
        let slot = self.slot(vector);
        assert!(slot.is_masked, "the message of an unmasked slot changes");
        slot.message = message;
    }

    fn inject(&mut self, message: Message) {
        assert_eq!(message.address >> 20, 0xfee);
    }

    fn request(&mut self, request: Request) {
        assert_eq!(self.out, None, "{request:?} while another is out");
        match request {
            Request::EnableQueue { queue, pasid } => {
                assert_known(pasid);
                assert!(!self.enabled.contains(queue));
                self.enabled = self.enabled.with(queue);
            }
            Request::Queues { queues, .. } => {
                assert!(!queues.is_empty());
                assert_eq!(queues.without(self.enabled), QueueSet::EMPTY);
            }
            Request::Pasid { pasid, .. } => assert_known(pasid),
            Request::AllocateHandle { vector, pasid } => {
                assert_known(pasid);
                assert!((1..VECTORS).contains(&vector));
                assert!(self.slots[usize::from(vector)].is_none());
            }
            Request::ReleaseHandle { vector } => {
                assert!(self.slot(vector).is_masked, "an unmasked slot is released");
            }
            Request::Reset { .. } => {
                let mut slots = self.slots.iter().flatten();
                assert!(
                    slots.all(|slot| slot.is_masked),
                    "unmasked slots at a reset"
                );
            }
        }
        self.owed_before = self.owed.len();
        self.out = Some(request);
    }
}
