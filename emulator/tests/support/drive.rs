//! Turns bytes into bus operations, for the property test and the fuzzer alike:
//! whatever they say, the device must not panic, must come to rest, and its
//! books must balance.

use super::registers as r;
use super::{Bytes, QueueSetup, Rig, batch};
use dsa_model::{Answer, Transaction};

/// Operations that one run carries out at the most.
const OPERATIONS: usize = 256;
/// Steps after which a device that still has something to do is stuck. A
/// transfer of 2 GiB takes 32,768 of them, and there may be some in a queue.
const STEPS: usize = 2_000_000;

/// Identities that a run can have.
const IDENTITIES: [&str; 9] = [
    "",
    "device-id=0x11fb",
    "device-id=0x11fb;handle-commands=off",
    "device-id=0x1212;queues=16;ims=256",
    "configurable=off",
    "configurable=off;device-id=0x1212",
    "handle-commands=on;event-log=on;queues=2;engines=2;groups=1",
    "queues=1;entries=4;groups=1;engines=1;ims=0",
    "handle-commands=on;handles=2;drain-readback=on;ats-disable=off",
];

/// Offsets that are worth hitting more often than chance would.
const REGISTERS: [u64; 24] = [
    r::GENCFG,
    r::GENCTRL,
    r::INTCAUSE,
    r::SWERROR,
    r::EVLCFG,
    r::EVLCFG + 8,
    r::EVLSTATUS,
    r::EVLSTATUS + 4,
    r::GRPCFG,
    r::GRPCFG + r::ENGINES,
    r::GRPCFG + r::GROUP_FLAGS,
    r::MSIXPERM,
    r::MSIXPERM + 8,
    r::PERFMON + 0x10,
    r::PERFMON + 0x100,
    r::PERFMON + 0x200,
    r::MSIX_TABLE + r::CONTROL,
    r::MSIX_TABLE + 16 + r::CONTROL,
    r::WQCFG,
    r::WQCFG + 4,
    r::WQCFG + 8,
    r::WQCFG + 16,
    r::WQCFG + 20,
    r::IMS + r::CONTROL,
];

/// Places in configuration space likewise: command, FLR, MSI-X, VC, ATS, PASID
/// and PRS control.
const CONFIGURATION: [usize; 8] = [0x04, 0x48, 0x82, 0x184, 0x226, 0x236, 0x244, 0x24c];

/// Where memory may be, and the PASIDs that may have some.
const MEMORY: u64 = 0x1_0000;
const PAGES: u64 = 8;
const PASIDS: [Option<u32>; 3] = [None, Some(1), Some(2)];

const BATCH: u8 = 1;

/// A cursor over the bytes; past the end there are zeros.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// True in so many cases of 256.
    fn chance(&mut self, of_256: u16) -> bool {
        u16::from(self.byte()) < of_256
    }

    fn number(&mut self, bytes: usize) -> u64 {
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    fn word(&mut self) -> u32 {
        self.number(4) as u32
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.number(3) % limit
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    /// An address in one of a few neighbouring pages, at the end of the address
    /// space, or anywhere.
    fn address(&mut self) -> u64 {
        match self.byte() {
            0 => self.number(8),
            1..16 => u64::MAX - self.below(0x3000),
            _ => MEMORY + self.below(PAGES * 0x1000),
        }
    }

    fn page(&mut self) -> u64 {
        MEMORY + self.below(PAGES) * 0x1000
    }
}

/// Carries out what `bytes` say.
pub(crate) fn drive(bytes: &[u8]) {
    let mut source = Source(bytes);
    let identity = source.one_of(&IDENTITIES);
    let mut rig = Rig::powered_up(identity);
    if source.chance(192) {
        set_up(&mut rig, source.byte());
    }
    for page in 0..PAGES {
        for pasid in PASIDS {
            if source.chance(200) {
                let writable = source.chance(200);
                rig.machine.map(pasid, MEMORY + page * 0x1000, 1, writable);
            }
        }
    }
    for _ in 0..OPERATIONS {
        if source.0.is_empty() {
            break;
        }
        operate(&mut rig, &mut source);
        rig.machine.accesses.clear();
        assert_books_balance(&rig);
    }
    come_to_rest(rig);
}

/// Brings a device up from reset, with two queues enabled as far as it has
/// them; the bits of `shape` choose among configurations.
fn set_up(rig: &mut Rig, shape: u8) {
    let has = |bit: u8| shape >> bit & 1 == 1;
    rig.enumerate();
    if has(0) {
        rig.enable_ats();
    }
    let identity = rig.dsa.identity();
    let queues = u32::from(identity.queues).min(2);
    let entries = u32::from(identity.entries).min(4);
    let log = identity.event_log && has(1);
    if identity.configurable {
        for queue in 0..queues {
            let template = if has(2) && queue == 0 {
                QueueSetup::shared()
            } else {
                QueueSetup::default()
            };
            let setup = QueueSetup {
                size: entries,
                threshold: entries,
                ..template
            };
            rig.configure(queue.into(), setup);
        }
        if has(3) {
            rig.write64(r::GRPCFG + r::ENGINES, 0b11);
        }
        if has(4) {
            rig.allow_user_interrupts();
        }
    }
    if log {
        rig.write64(r::EVLCFG, MEMORY);
        rig.write64(r::EVLCFG + 8, 64);
        let gencfg = rig.read32(r::GENCFG);
        rig.write32(r::GENCFG, gencfg | r::EVENT_LOG_ENABLE);
        rig.write32(r::GENCTRL, 0b111);
    }
    let all: Vec<u32> = (0..queues).collect();
    rig.enable(&all);
}

/// What a driver does when it has given up on a device.
fn recover(rig: &mut Rig, shape: u8) {
    rig.control("all-ones off");
    // A halt may want more than a function level reset; twice is a warm one,
    // and one that wants a power cycle stays.
    for _ in 0..2 {
        rig.dsa.reset();
    }
    if rig.read32(r::GENSTS) == r::DISABLED {
        set_up(rig, shape);
    }
}

fn operate(rig: &mut Rig, source: &mut Source<'_>) {
    match source.byte() % 16 {
        0 => {
            let offset = source.below(0x1008) as usize;
            let size = usize::from(source.byte() % 6);
            rig.dsa.config_read(offset, size);
        }
        1 => {
            let (offset, size) = if source.chance(32) {
                (source.one_of(&CONFIGURATION), 2)
            } else {
                (
                    source.below(0x1008) as usize,
                    usize::from(source.byte() % 6),
                )
            };
            let value = source.word();
            if rig.config_write(offset, size, value) {
                rig.dsa.reset();
            }
        }
        2 => {
            let bar = u32::from(source.byte() % 4);
            let offset = source.below(0x6_0000);
            let size = u32::from(source.byte() % 10);
            rig.dsa.mmio_read(bar, offset, size);
        }
        3 => {
            let bar = u32::from(source.byte() % 4);
            let offset = source.below(0x6_0000);
            let size = u32::from(source.byte() % 10);
            let value = source.number(8);
            let machine = &mut rig.machine;
            rig.dsa.mmio_write(bar, offset, size, value, machine);
        }
        4..=5 => {
            let offset = source.one_of(&REGISTERS);
            let value = source.word();
            rig.write32(offset, value);
        }
        6..=7 => {
            let code = u32::from(source.byte() % 16);
            let operand = if source.chance(200) {
                u32::from(source.byte() % 4)
            } else {
                source.word() & 0x7e0f_ffff
            };
            let interrupt = u32::from(source.byte() & 1) << 31;
            rig.write32(r::CMD, interrupt | code << 20 | operand);
        }
        8..=12 => submit(rig, source),
        13 => rig.run_for(source.below(100_000)),
        14 => control(rig, source),
        15 if source.chance(128) => {
            let gone = rig.read32(r::GENSTS) & 0b11 == r::HALTED;
            let shape = source.byte();
            if gone || source.chance(64) {
                recover(rig, shape);
            }
        }
        _ => {
            let (pasid, page) = (source.one_of(&PASIDS), source.page());
            if source.chance(128) {
                rig.machine.unmap(pasid, page);
            } else {
                rig.machine.map(pasid, page, 1, true);
            }
        }
    }
}

/// A command of the bench, made from its help.
fn control(rig: &mut Rig, source: &mut Source<'_>) {
    let help = dsa_model::HELP.trim_start_matches("commands: ");
    let commands: Vec<&str> = help.split(" | ").collect();
    let command = source.one_of(&commands);
    let number = source.byte();
    let words: Vec<String> = command
        .split(' ')
        .map(|word| match word {
            "FILE|off" => "off".to_owned(),
            word if word.contains('|') => {
                let choices: Vec<&str> = word.split('|').collect();
                source.one_of(&choices).to_owned()
            }
            word if word.chars().all(char::is_uppercase) => number.to_string(),
            word => word.to_owned(),
        })
        .collect();
    let _ = rig.dsa.control(&words.join(" "), &mut rig.machine);
}

/// A descriptor that is random, or nearly right.
fn submit(rig: &mut Rig, source: &mut Source<'_>) {
    let mut descriptor = Bytes([0; 64]);
    if source.chance(24) {
        for byte in &mut descriptor.0 {
            *byte = source.byte();
        }
    } else {
        let operation = source.byte() % 0x24;
        descriptor = if operation == BATCH {
            batch_of(rig, source)
        } else {
            work(source, operation, 0x9e)
        };
        descriptor = descriptor.trusted(u32::from(source.byte() % 3));
        if source.chance(32) {
            let at = usize::from(source.byte() % 64);
            descriptor.0[at] = source.byte();
        }
    }
    let queue = source.below(2);
    let offset = if source.chance(240) {
        queue * 0x4000 + source.below(4) * 0x1000 + source.below(64) * 64
    } else {
        source.below(0x5_0000)
    };
    // Mostly the kind of write that the queue wants.
    let dedicated = rig.read32(rig.wqcfg(queue) + 8) & 1 == 1;
    let transaction = if dedicated == source.chance(240) {
        Transaction::Posted
    } else {
        Transaction::Deferrable
    };
    let bar = if source.chance(250) { 2 } else { 0 };
    let answer = rig.submit(bar, offset, &descriptor, transaction);
    let told = transaction == Transaction::Deferrable;
    assert!(
        told || answer == Answer::Success,
        "a posted write hears nothing"
    );
}

/// An operation with some of these flags.
fn work(source: &mut Source<'_>, operation: u8, flags: u32) -> Bytes {
    let flags = u32::from(source.byte()) & flags;
    let mut descriptor = Bytes::new(operation, flags)
        .source(source.address())
        .destination(source.address())
        .size(source.below(0x3000) as u32);
    if flags & 1 << 2 != 0 {
        descriptor = descriptor.record(source.address() & !31);
    }
    if flags & 1 << 4 != 0 {
        descriptor = descriptor.interrupt((source.byte() % 8).into());
    }
    if operation >= 7 && source.chance(128) {
        descriptor = descriptor.with(40, &source.address().to_le_bytes());
        descriptor = descriptor.with(48, &source.below(0x400).to_le_bytes());
    }
    descriptor
}

/// A batch of a few members that are nearly right, whose list is in memory.
fn batch_of(rig: &mut Rig, source: &mut Source<'_>) -> Bytes {
    let (pasid, list) = (source.one_of(&PASIDS), source.page());
    let count = 2 + source.byte() % 6;
    rig.machine.map(pasid, list, 1, true);
    for position in 0..count {
        let operation = source.byte() % 0x10;
        let member = work(source, operation, 0x9d);
        let place = list + 64 * u64::from(position);
        rig.machine.poke(pasid, place, &member.0);
    }
    let flags = u32::from(source.byte()) & 0x1c;
    let descriptor = batch(list, count.into(), 0).flags(flags);
    if flags & 1 << 2 == 0 {
        return descriptor;
    }
    descriptor.record(source.address() & !31)
}

/// A device that nobody touches any more stops by itself, unless it waits for
/// room in a full event log, and what it accepted has ended then; a reset
/// leaves nothing behind.
fn come_to_rest(mut rig: Rig) {
    rig.control("all-ones off");
    let log_enabled = rig.read32(r::GENCFG) & r::EVENT_LOG_ENABLE != 0;
    for _ in 0..if log_enabled { 1_000 } else { STEPS } {
        let Some(deadline) = rig.dsa.deadline() else {
            break;
        };
        rig.machine.now_ns = rig.machine.now_ns.max(deadline);
        rig.dsa.advance(&mut rig.machine);
        rig.machine.accesses.clear();
    }
    if !log_enabled {
        assert_eq!(rig.dsa.deadline(), None, "it does not come to rest");
        assert_nothing_is_left(&rig);
    }
    serde_json::from_str::<serde_json::Value>(&rig.control("report")).expect("JSON");
    rig.dsa.reset();
    assert_eq!(rig.dsa.deadline(), None, "a reset leaves work behind");
    assert_books_balance(&rig);
    assert_nothing_is_left(&rig);
}

/// Each submission was answered once, and no more ended than were accepted.
fn assert_books_balance(rig: &Rig) {
    for (index, queue) in rig.dsa.queue_counters().into_iter().enumerate() {
        let answered = queue.accepted + queue.retried + queue.dropped;
        assert_eq!(queue.submitted, answered, "queue {index}: {queue:?}");
        let ended = queue.completed + queue.abandoned;
        assert!(ended <= queue.accepted, "queue {index}: {queue:?}");
    }
}

fn assert_nothing_is_left(rig: &Rig) {
    for (index, queue) in rig.dsa.queue_counters().into_iter().enumerate() {
        let ended = queue.completed + queue.abandoned;
        assert_eq!(queue.accepted, ended, "queue {index}: {queue:?}");
    }
}
