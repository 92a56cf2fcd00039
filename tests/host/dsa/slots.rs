//! One suite for slots, and the layouts that go through it: an array in the device's
//! registers, and records in memory.

use std::cell::RefCell;
use std::rc::Rc;

use dsa::ims::{
    Counts, DeviceEntry, Entry, ImsIndex, QueueEntry, Slot, SlotPasid, SoleAgent, Store,
};
use hwio::FrameSource;
use hwio::fake::{FakePages, Log, Memory};
use hwspec::dsa::Status;

use crate::lab::{Lab, ModelEntry, checked, handle, message, no_op, sent};
use crate::model::ModelRegisters;

/// How many slots a layout has here.
const SLOTS: usize = 256;

const NOTHING: [u32; 0] = [];

/// A device with slots, as the suite sees it.
trait Layout {
    type Entry: Entry;

    fn new() -> Self;

    fn store(&self) -> Store<Self::Entry>;

    /// Lets work of a PASID, 1 or 2, or of none complete that names a slot. Returns whether
    /// it was allowed to.
    fn complete(&self, index: ImsIndex, pasid: Option<u32>) -> bool;

    /// Takes the data of the messages that were sent.
    fn take_sent(&self) -> Vec<u32>;

    /// Resets the device.
    fn wipe(&mut self);
}

/// The DSA's layout, in the model.
struct Array(RefCell<Lab>);

impl Layout for Array {
    type Entry = ModelEntry;

    fn new() -> Self {
        Self(RefCell::new(Lab::ready("ims=256")))
    }

    fn store(&self) -> Store<ModelEntry> {
        let model = self.0.borrow().model.clone();
        let entries = (0..SLOTS).map(|number| {
            let at = 0x1_0000 + 16 * number;
            DeviceEntry::<ModelRegisters>::new(model.registers(at..at + 16))
        });
        Store::new(entries).unwrap()
    }

    fn complete(&self, index: ImsIndex, pasid: Option<u32>) -> bool {
        let lab = self.0.borrow();
        let status = match pasid {
            Some(number) => lab.run_no_op(u8::try_from(number - 1).unwrap(), handle(index)),
            None => run_without_pasid(&lab, index),
        };
        lab.model.write_register(0xc0, 8, 3);
        assert!(
            [Status::SUCCESS, Status::INTERRUPT_HANDLE].contains(&status),
            "{status}"
        );
        status == Status::SUCCESS
    }

    fn take_sent(&self) -> Vec<u32> {
        let messages = self.0.borrow().model.take_messages();
        let (address, _) = sent(0);
        let of_slots = messages.into_iter().filter(|it| it.0 == address);
        of_slots.map(|it| it.1).collect()
    }

    fn wipe(&mut self) {
        self.0.get_mut().device.recover().unwrap();
    }
}

/// Disables queue 0, takes its PASID Enable away, runs a no-op, and puts it back. The driver
/// has no queue without PASID, so this is done behind its back.
fn run_without_pasid(lab: &Lab, index: ImsIndex) -> Status {
    let command = |word: u64| {
        lab.model.write_register(0xa0, 4, word);
        lab.model.run();
        assert_eq!(lab.model.read_register(0xa8, 4), 0);
    };
    let mode = lab.model.read_register(0x4008, 4);
    let (disable, enable) = (0x0070_0001, 0x0060_0000);
    command(disable);
    lab.model.write_register(0x4008, 4, mode & !(1 << 28));
    command(enable);
    lab.model.map(None, crate::lab::RECORD);
    lab.post(0, &no_op(handle(index)));
    lab.model.run();
    let status = lab.model.record(None, crate::lab::RECORD).word0.status();
    command(disable);
    lab.model.write_register(0x4008, 4, mode);
    command(enable);
    status
}

/// Records in memory, and a device that knows no more than where they are.
struct Records {
    context: Rc<Context>,
    pages: RefCell<Vec<FakePages>>,
}

struct Context {
    memory: Memory,
    /// Where the record of each slot is.
    records: Vec<u64>,
    sent: RefCell<Vec<u32>>,
}

impl Context {
    fn word(&self, index: usize, word: u64) -> u64 {
        self.memory.device_read(self.records[index] + 8 * word)
    }

    /// The device looks at a record: is it live, and something pending?
    fn look(&self, index: usize) {
        let is_live = self.word(index, 0) & 1 == 1;
        if is_live && self.word(index, 3) & 1 == 1 {
            self.memory.device_write(self.records[index] + 24, 0);
            self.sent
                .borrow_mut()
                .push(u32::try_from(self.word(index, 2)).unwrap());
        }
    }
}

type RecordEntry = QueueEntry<FakePages, Box<dyn FnMut()>>;

impl Layout for Records {
    type Entry = RecordEntry;

    fn new() -> Self {
        // Caches that the device does not look into, so that what is not written back is
        // not seen.
        let mut memory = Memory::non_coherent(&Log::new());
        let pages: Vec<FakePages> = (0..SLOTS)
            .map(|_| memory.allocate_zeroed(1).unwrap())
            .collect();
        let records = pages
            .iter()
            .map(|page| hwio::DmaPages::word_address(page, 4).as_u64())
            .collect();
        let context = Context {
            memory,
            records,
            sent: RefCell::default(),
        };
        Self {
            context: Rc::new(context),
            pages: RefCell::new(pages),
        }
    }

    fn store(&self) -> Store<RecordEntry> {
        let pages = self.pages.take().into_iter().enumerate();
        let entries = pages.map(|(number, page)| {
            let context = Rc::clone(&self.context);
            let doorbell: Box<dyn FnMut()> = Box::new(move || context.look(number));
            QueueEntry::new(page, 4, false, doorbell)
        });
        Store::new(entries).unwrap()
    }

    fn complete(&self, index: ImsIndex, pasid: Option<u32>) -> bool {
        let number = usize::from(index.0);
        let control = self.context.word(number, 0);
        let checked = (control >> 2 & 1 == 1).then_some(control >> 32);
        if checked != pasid.map(u64::from) {
            return false;
        }
        let is_ignored = control >> 1 & 1 == 1;
        if !is_ignored {
            self.context
                .memory
                .device_write(self.context.records[number] + 24, 1);
            self.context.look(number);
        }
        true
    }

    fn take_sent(&self) -> Vec<u32> {
        self.context.sent.take()
    }

    fn wipe(&mut self) {
        for record in &self.context.records {
            for word in 0..4 {
                self.context.memory.device_write(record + 8 * word, 0);
            }
        }
    }
}

/// A slot for a PASID that sends `number`.
fn enabled<E: Entry>(store: &mut Store<E>, of: u32, number: u32) -> Slot<E> {
    let mut slot = store.allocate(checked(of)).unwrap();
    slot.enable(message(number)).unwrap();
    slot
}

fn a_slot_interrupts_for_its_own_pasid_only<L: Layout>() {
    let layout = L::new();
    let mut store = layout.store();
    let slot = enabled(&mut store, 1, 11);
    assert!(layout.complete(slot.index(), Some(1)));
    assert_eq!(layout.take_sent(), [11]);
    assert!(!layout.complete(slot.index(), Some(2)));
    assert!(!layout.complete(slot.index(), None));
    assert_eq!(layout.take_sent(), NOTHING);
    assert!(!slot.is_pending().unwrap());
}

fn slots_do_not_touch_each_other<L: Layout>() {
    let layout = L::new();
    let mut store = layout.store();
    let first = enabled(&mut store, 1, 11);
    let mut second = enabled(&mut store, 2, 22);
    second.set_masked(true).unwrap();
    second.disable().unwrap();
    assert!(layout.complete(first.index(), Some(1)));
    assert_eq!(layout.take_sent(), [11]);
}

fn a_masked_slot_is_pending_and_sends_when_unmasked<L: Layout>() {
    let layout = L::new();
    let mut store = layout.store();
    let mut slot = enabled(&mut store, 1, 11);
    slot.set_masked(true).unwrap();
    assert!(layout.complete(slot.index(), Some(1)));
    assert!(layout.complete(slot.index(), Some(1)));
    assert_eq!(layout.take_sent(), NOTHING);
    assert!(slot.is_pending().unwrap());
    slot.set_masked(false).unwrap();
    assert_eq!(layout.take_sent(), [11], "one for both");
    assert!(!slot.is_pending().unwrap());
}

fn an_ignored_slot_is_allowed_and_silent<L: Layout>() {
    let layout = L::new();
    let mut store = layout.store();
    let mut slot = enabled(&mut store, 1, 11);
    slot.set_ignored(true).unwrap();
    assert!(layout.complete(slot.index(), Some(1)));
    slot.set_ignored(false).unwrap();
    assert_eq!(layout.take_sent(), NOTHING);
    assert!(layout.complete(slot.index(), Some(1)));
    assert_eq!(layout.take_sent(), [11]);
}

/// D10: it is allocated when its handle is requested, and the message may come later.
fn a_slot_without_message_is_allowed_and_silent<L: Layout>() {
    let layout = L::new();
    let mut store = layout.store();
    let mut slot = store.allocate(checked(1)).unwrap();
    assert!(layout.complete(slot.index(), Some(1)));
    assert!(!layout.complete(slot.index(), Some(2)));
    assert!(!slot.is_pending().unwrap());
    slot.enable(message(11)).unwrap();
    assert_eq!(layout.take_sent(), NOTHING);
}

fn a_message_is_changed_with_nothing_lost<L: Layout>() {
    let layout = L::new();
    let mut store = layout.store();
    let mut slot = enabled(&mut store, 1, 11);
    slot.set_message(message(12)).unwrap();
    assert!(layout.complete(slot.index(), Some(1)));
    assert_eq!(layout.take_sent(), [12]);
    slot.set_masked(true).unwrap();
    assert!(layout.complete(slot.index(), Some(1)));
    slot.set_message(message(13)).unwrap();
    assert_eq!(layout.take_sent(), NOTHING);
    slot.set_masked(false).unwrap();
    assert_eq!(layout.take_sent(), [13]);
}

fn a_slot_moves_to_another_pasid<L: Layout>() {
    let layout = L::new();
    let mut store = layout.store();
    let mut slot = enabled(&mut store, 1, 11);
    slot.set_pasid(checked(2)).unwrap();
    assert!(!layout.complete(slot.index(), Some(1)));
    assert!(layout.complete(slot.index(), Some(2)));
    assert_eq!(layout.take_sent(), [11]);
    // The mask stays as it was.
    slot.set_masked(true).unwrap();
    slot.set_pasid(checked(1)).unwrap();
    assert!(layout.complete(slot.index(), Some(1)));
    assert_eq!(layout.take_sent(), NOTHING);
    assert!(slot.is_masked() && slot.is_pending().unwrap());
}

fn a_disabled_slot_is_nobodys<L: Layout>() {
    let layout = L::new();
    let mut store = layout.store();
    let mut slot = enabled(&mut store, 1, 11);
    slot.disable().unwrap();
    assert!(!layout.complete(slot.index(), Some(1)));
    slot.enable(message(12)).unwrap();
    assert!(layout.complete(slot.index(), Some(1)));
    assert_eq!(layout.take_sent(), [12]);
}

fn a_released_slot_is_nobodys_and_then_somebody_elses<L: Layout>() {
    let layout = L::new();
    let mut store = layout.store();
    let slot = enabled(&mut store, 1, 11);
    let index = slot.index();
    store.release(slot).unwrap();
    assert!(!layout.complete(index, Some(1)));
    assert_eq!(
        store.counts(),
        Counts {
            total: SLOTS,
            free: SLOTS,
            peak: 1,
        }
    );

    // All others come first.
    let mut others: Vec<_> = (1..SLOTS)
        .map(|_| store.allocate(checked(1)).unwrap())
        .collect();
    assert!(others.iter().all(|slot| slot.index() != index));
    let again = enabled(&mut store, 2, 22);
    assert_eq!(again.index(), index);
    assert!(store.allocate(checked(1)).is_err());
    assert!(!layout.complete(index, Some(1)));
    assert!(layout.complete(index, Some(2)));
    assert_eq!(layout.take_sent(), [22]);
    while let Some(other) = others.pop() {
        store.release(other).unwrap();
    }
    assert_eq!(store.counts().free, SLOTS - 1);
}

fn a_pending_interrupt_does_not_go_to_the_next_owner<L: Layout>() {
    let layout = L::new();
    let mut store = layout.store();
    let mut slot = enabled(&mut store, 1, 11);
    slot.set_masked(true).unwrap();
    let index = slot.index();
    assert!(layout.complete(index, Some(1)));
    store.release(slot).unwrap();
    assert_eq!(layout.take_sent(), [11], "to the owner that it was for");
    for _ in 0..SLOTS {
        let slot = enabled(&mut store, 2, 22);
        assert!(!slot.is_pending().unwrap());
        store.release(slot).unwrap();
    }
    assert_eq!(layout.take_sent(), NOTHING);
}

fn a_wiped_slot_is_restored<L: Layout>() {
    let mut layout = L::new();
    let mut store = layout.store();
    let mut slot = enabled(&mut store, 1, 11);
    let mut masked = enabled(&mut store, 2, 22);
    masked.set_masked(true).unwrap();
    let mut ignored = enabled(&mut store, 1, 33);
    ignored.set_ignored(true).unwrap();
    let mut silent = store.allocate(checked(1)).unwrap();
    layout.wipe();
    assert!(!layout.complete(slot.index(), Some(1)));
    for slot in [&mut slot, &mut masked, &mut ignored, &mut silent] {
        slot.restore().unwrap();
    }
    assert!(layout.complete(slot.index(), Some(1)));
    assert!(layout.complete(masked.index(), Some(2)));
    assert!(layout.complete(ignored.index(), Some(1)));
    assert!(layout.complete(silent.index(), Some(1)));
    assert_eq!(layout.take_sent(), [11]);
    assert!(masked.is_pending().unwrap());
    assert!(!ignored.is_pending().unwrap() && !silent.is_pending().unwrap());
}

fn a_sole_agent_does_without_pasids<L: Layout>() {
    let layout = L::new();
    let mut store = layout.store();
    let unchecked = SlotPasid::Unchecked(SoleAgent::promise());
    let mut slot = store.allocate(unchecked).unwrap();
    slot.enable(message(11)).unwrap();
    assert!(layout.complete(slot.index(), None));
    assert_eq!(layout.take_sent(), [11]);
    assert!(!layout.complete(slot.index(), Some(1)));
    // And it can become one that checks.
    slot.set_pasid(checked(1)).unwrap();
    assert!(!layout.complete(slot.index(), None));
    assert!(layout.complete(slot.index(), Some(1)));
    assert_eq!(layout.take_sent(), [11]);
}

macro_rules! suite {
    ($($test:ident),+ $(,)?) => {
        mod array_in_registers {
            $(#[test] fn $test() { super::$test::<super::Array>(); })+
        }

        mod records_in_memory {
            $(#[test] fn $test() { super::$test::<super::Records>(); })+
        }
    };
}

suite! {
    a_slot_interrupts_for_its_own_pasid_only,
    slots_do_not_touch_each_other,
    a_masked_slot_is_pending_and_sends_when_unmasked,
    an_ignored_slot_is_allowed_and_silent,
    a_slot_without_message_is_allowed_and_silent,
    a_message_is_changed_with_nothing_lost,
    a_slot_moves_to_another_pasid,
    a_disabled_slot_is_nobodys,
    a_released_slot_is_nobodys_and_then_somebody_elses,
    a_pending_interrupt_does_not_go_to_the_next_owner,
    a_wiped_slot_is_restored,
    a_sole_agent_does_without_pasids,
}
