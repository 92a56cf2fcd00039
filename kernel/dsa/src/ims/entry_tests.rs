use super::*;
use std::rc::Rc;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use core::cell::{Cell, RefCell};

use hwio::FrameSource;
use hwio::fake::{AllOnes, Device, Event, FakeRegisters, Log, Memory, NeverCompletes};
use hwspec::pci::Pasid;

use crate::ims::{Counts, ImsIndex, Slot, SlotPasid, SoleAgent, Store};
use crate::{Error, RegisterName};

const PASID: Pasid = Pasid::from_bits(0x1_2345);

fn message() -> Message {
    Message::new(0xfee0_0214, 0x31).unwrap()
}

/// An entry in registers: 16 bytes that hold what is written.
#[derive(Debug)]
struct Registers16 {
    address: u64,
    data: u64,
    control: u64,
    is_gone: bool,
}

impl Device for Registers16 {
    fn read(&mut self, offset: usize, _: usize) -> u64 {
        match offset {
            _ if self.is_gone => !0,
            0 => self.address,
            8 => self.data,
            _ => self.control,
        }
    }

    fn write(&mut self, offset: usize, _: usize, value: u64) {
        match offset {
            0 => self.address = value,
            8 => self.data = value,
            _ => {
                // Unmasked, it sends what is pending.
                let pending = if value & 1 == 1 { self.control & 2 } else { 0 };
                self.control = value & !2 | pending;
            }
        }
    }
}

type Fake = FakeRegisters<Registers16>;

fn entry(log: &Log) -> (DeviceEntry<Fake>, Rc<RefCell<Registers16>>) {
    let device = Registers16 {
        address: 0xfee0_0000,
        data: 0,
        control: 1,
        is_gone: false,
    };
    let registers = FakeRegisters::new(device, 16, log);
    let device = registers.device();
    (DeviceEntry::new(registers), device)
}

/// A slot that checks [`PASID`], the entry behind it, and what is written from now on.
fn slot() -> (Slot<DeviceEntry<Fake>>, Rc<RefCell<Registers16>>, Log) {
    let log = Log::new();
    let (entry, device) = entry(&log);
    let mut store = Store::new([entry]).unwrap();
    let slot = store.allocate(SlotPasid::Checked(PASID)).unwrap();
    log.take();
    (slot, device, log)
}

const fn write(offset: usize, len_bytes: usize, value: u64) -> Event {
    Event::Write {
        offset,
        len_bytes,
        value,
    }
}

/// Mask 0, Pending 1, Ignore 2, PASID Enable 3, PASID 31:12.
const CHECKED: u64 = 0x1234_5008;
const MASKED: u64 = CHECKED | 1;

#[test]
fn a_message_goes_where_interrupts_go() {
    assert_eq!(message().address(), 0xfee0_0214);
    assert_eq!(message().data(), 0x31);
    assert_eq!(Message::new(0xfeef_ffff, 0).unwrap().address(), 0xfeef_fffc);
    for address in [0, 0xfed0_0000, 0xfef0_0000, 0x1_fee0_0000] {
        let error = Message::new(address, 0).unwrap_err();
        assert_eq!(error, Error::MessageAddress { address });
        assert!(error.to_string().contains("0xfee00000"));
    }
}

fn counts(total: usize, free: usize, peak: usize) -> Counts {
    Counts { total, free, peak }
}

#[test]
fn a_store_masks_all_entries_and_takes_their_pasids_away() {
    let log = Log::new();
    let (entry, device) = entry(&log);
    device.borrow_mut().control = 0xffff_f008;
    let store = Store::new([entry]).unwrap();
    let effects = [write(12, 4, 1), write(0, 8, 0xfee0_0000), write(8, 4, 0)];
    assert_eq!(log.take_effects(), effects);
    assert_eq!(store.counts(), counts(1, 1, 0));
}

/// PASID before message, message before unmasking, and between the two kinds of writes
/// the control word is read back.
#[test]
fn a_slot_is_programmed_in_an_order_in_which_nothing_can_be_torn() {
    let log = Log::new();
    let (entry, _device) = entry(&log);
    let mut store = Store::new([entry]).unwrap();
    log.take();
    let mut slot = store.allocate(SlotPasid::Checked(PASID)).unwrap();
    // Ignored as well as masked, until there is a message.
    assert_eq!(log.take_effects(), [write(12, 4, MASKED | 4)]);
    slot.enable(message()).unwrap();
    let accesses: Vec<(bool, usize)> = log
        .take()
        .into_iter()
        .map(|event| match event {
            Event::Read { offset, .. } => (false, offset),
            Event::Write { offset, .. } => (true, offset),
            other => panic!("{other:?}"),
        })
        .collect();
    let (read, control, address, data) = ((false, 12), (true, 12), (true, 0), (true, 8));
    let expected = [
        // Mask.
        read, control, read, // The message.
        address, data, // Not ignored any more.
        control, read, // Unmask.
        control, read,
    ];
    assert_eq!(accesses, expected);
}

#[test]
fn a_slot_is_masked_and_unmasked_by_one_write() {
    let (mut slot, _device, log) = slot();
    slot.enable(message()).unwrap();
    log.take();
    slot.set_masked(true).unwrap();
    assert_eq!(log.take_effects(), [write(12, 4, MASKED)]);
    assert!(slot.is_masked());
    slot.set_masked(false).unwrap();
    assert_eq!(log.take_effects(), [write(12, 4, CHECKED)]);
    slot.set_ignored(true).unwrap();
    assert_eq!(log.take_effects(), [write(12, 4, CHECKED | 4)]);
}

#[test]
fn a_slot_without_message_is_not_unmasked() {
    let (mut slot, _device, log) = slot();
    let error = slot.set_masked(false).unwrap_err();
    assert_eq!(error, Error::NoMessage(ImsIndex(0)));
    assert!(error.to_string().contains("IMS index 0 has no message"));
    assert_eq!(log.take_effects(), []);
}

#[test]
fn a_slot_moves_to_another_pasid_while_it_is_masked() {
    let (mut slot, _device, log) = slot();
    slot.enable(message()).unwrap();
    log.take();
    let other = SlotPasid::Checked(Pasid::from_bits(0x7));
    slot.set_pasid(other).unwrap();
    let effects = [MASKED, 0x7009, 0x7008].map(|control| write(12, 4, control));
    assert_eq!(log.take_effects(), effects);
    assert_eq!(slot.pasid(), other);
}

#[test]
fn a_slot_without_check_has_no_pasid() {
    let log = Log::new();
    let (entry, device) = entry(&log);
    let mut store = Store::new([entry]).unwrap();
    let sole = SlotPasid::Unchecked(SoleAgent::promise());
    let mut slot = store.allocate(sole).unwrap();
    slot.enable(message()).unwrap();
    assert_eq!(device.borrow().control, 0);
}

#[test]
fn what_is_pending_goes_to_the_old_owner_before_the_slot_goes_to_a_new_one() {
    let (mut slot, device, log) = slot();
    slot.set_message(message()).unwrap();
    device.borrow_mut().control |= 2;
    assert!(slot.is_pending().unwrap());
    log.take();
    slot.disable().unwrap();
    let effects = [
        write(12, 4, MASKED),
        // Sent with the old message.
        write(12, 4, CHECKED),
        write(12, 4, MASKED),
        write(12, 4, 0b101),
        write(0, 8, 0xfee0_0000),
        write(8, 4, 0),
    ];
    assert_eq!(log.take_effects(), effects);
    assert!(!slot.is_pending().unwrap());
    // And it can be used again.
    slot.enable(message()).unwrap();
    assert_eq!(device.borrow().control, CHECKED);
}

#[test]
fn an_entry_with_a_strange_pending_interrupt_is_passed_over() {
    let log = Log::new();
    let (first, device) = entry(&log);
    let (second, _) = entry(&log);
    let mut store = Store::new([first, second]).unwrap();
    device.borrow_mut().control |= 2;
    let slot = store.allocate(SlotPasid::Checked(PASID)).unwrap();
    assert_eq!(slot.index(), ImsIndex(1));
    let error = store.allocate(SlotPasid::Checked(PASID)).unwrap_err();
    assert_eq!(error, Error::OutOfSlots { count: 2 });
    assert!(error.to_string().contains("all 2 IMS slots are in use"));
}

#[test]
fn a_released_entry_is_the_last_to_be_used_again() {
    let log = Log::new();
    let entries: Vec<_> = (0..3).map(|_| entry(&log).0).collect();
    let mut store = Store::new(entries).unwrap();
    let mut next = || store.allocate(SlotPasid::Checked(PASID)).unwrap();
    let first = next();
    assert_eq!(first.index(), ImsIndex(0));
    store.release(first).unwrap();
    let indexes: Vec<_> = (0..3)
        .map(|_| store.allocate(SlotPasid::Checked(PASID)).unwrap().index())
        .collect();
    assert_eq!(indexes, [1, 2, 0].map(ImsIndex));
    assert_eq!(store.counts(), counts(3, 0, 3));
}

#[test]
fn a_slot_of_a_device_that_is_gone_says_so() {
    let gone = Error::DeviceGone {
        register: RegisterName::Ims,
    };
    let ones = DeviceEntry::new(FakeRegisters::new(AllOnes, 16, &Log::new()));
    assert_eq!(Store::new([ones]).unwrap_err(), gone);

    let log = Log::new();
    let (entry, device) = entry(&log);
    let mut store = Store::new([entry]).unwrap();
    let set_gone = |is_gone| device.borrow_mut().is_gone = is_gone;
    // The entry stays in the store.
    set_gone(true);
    assert_eq!(store.allocate(SlotPasid::Checked(PASID)).unwrap_err(), gone);
    set_gone(false);
    let mut slot = store.allocate(SlotPasid::Checked(PASID)).unwrap();
    slot.enable(message()).unwrap();
    set_gone(true);
    assert_eq!(slot.is_pending(), Err(gone));
    assert_eq!(slot.set_message(message()), Err(gone));
    assert_eq!(slot.set_masked(true), Err(gone));
    // A slot whose release fails is handed back, and can be released later.
    let (slot, error) = store.release(slot).unwrap_err();
    assert_eq!((slot.index(), error), (ImsIndex(0), gone));
    set_gone(false);
    store.release(slot).unwrap();
    assert_eq!(store.counts(), counts(1, 1, 1));
}

/// Registers that keep nothing.
#[test]
fn a_slot_that_does_not_keep_what_is_written_is_found_out() {
    let log = Log::new();
    let stuck = FakeRegisters::new(NeverCompletes::new([(12, 1)]), 16, &log);
    let mut store = Store::new([DeviceEntry::new(stuck)]).unwrap();
    log.take();
    let error = store.allocate(SlotPasid::Checked(PASID)).unwrap_err();
    let expected = Error::SlotNotWritten {
        index: ImsIndex(0),
        control: 1,
        written: 0x1234_500d,
    };
    assert_eq!(error, expected);
    assert!(
        error
            .to_string()
            .contains("holds 0x00000001 and not 0x1234500d")
    );
    // Masked, as well as can be, and still there to be tried again.
    assert_eq!(log.take_effects().pop(), Some(write(12, 4, 0x1234_500d)));
    assert_eq!(store.counts().free, 1);

    let unmasked = FakeRegisters::new(NeverCompletes::new([(12, 0)]), 16, &log);
    let error = Store::new([DeviceEntry::new(unmasked)]).unwrap_err();
    let expected = Error::SlotNotWritten {
        index: ImsIndex(0),
        control: 0,
        written: 1,
    };
    assert_eq!(error, expected);
}

#[test]
fn a_wiped_slot_is_restored_as_it_was() {
    let (mut slot, device, log) = slot();
    slot.enable(message()).unwrap();
    slot.set_ignored(true).unwrap();
    *device.borrow_mut() = Registers16 {
        address: 0xfee0_0000,
        data: 0,
        control: 1,
        is_gone: false,
    };
    log.take();
    slot.restore().unwrap();
    let effects = [
        write(12, 4, 1),
        write(0, 8, 0xfee0_0214),
        write(8, 4, 0x31),
        write(12, 4, CHECKED | 4),
    ];
    assert_eq!(log.take_effects(), effects);
}

#[test]
#[should_panic(expected = "a window of 16 bytes, not of 32")]
fn an_entry_has_a_window_of_its_own() {
    let _ = DeviceEntry::new(FakeRegisters::new(AllOnes, 32, &Log::new()));
}

/// The record of the queue layout, bit by bit, and that all of it is written back where
/// the device does not look into caches.
#[test]
fn a_record_in_memory_has_the_bits_that_its_table_says() {
    let log = Log::new();
    let mut memory = Memory::non_coherent(&log);
    let pages = memory.allocate_zeroed(1).unwrap();
    let at = pages.word_address(8).as_u64();
    let rung = Cell::new(0);
    let mut store = Store::new([QueueEntry::new(pages, 8, false, || {
        rung.set(rung.get() + 1)
    })])
    .unwrap();
    let mut slot = store.allocate(SlotPasid::Checked(PASID)).unwrap();
    // Ignore and PASID Enable; not live.
    assert_eq!(memory.device_read(at), 0x0001_2345_0000_0006);
    slot.enable(message()).unwrap();
    let record: Vec<u64> = (0..4)
        .map(|word| memory.device_read(at + 8 * word))
        .collect();
    assert_eq!(record, [0x0001_2345_0000_0005, 0xfee0_0214, 0x31, 0]);
    // The store masked it, it was allocated, masked, given a message and unmasked.
    assert_eq!(rung.get(), 5);
    memory.device_write(at + 24, 1);
    assert!(slot.is_pending().unwrap());
    memory.device_write(at + 24, 0);
    slot.set_ignored(true).unwrap();
    slot.set_masked(true).unwrap();
    assert_eq!(memory.device_read(at), 0x0001_2345_0000_0006);
    store.release(slot).unwrap();
    let record: Vec<u64> = (0..4)
        .map(|word| memory.device_read(at + 8 * word))
        .collect();
    assert_eq!(record, vec![0b10, 0xfee0_0000, 0, 0]);
}

#[test]
#[should_panic(expected = "a record at word 509 of 512")]
fn a_record_ends_where_its_pages_do() {
    let mut memory = Memory::coherent(&Log::new());
    let _ = QueueEntry::new(memory.allocate_zeroed(1).unwrap(), 509, true, || {});
}
