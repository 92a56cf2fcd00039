//! Turns bytes into bus operations, for the property test and the fuzzer alike:
//! whatever they say, the device must not panic, must come to rest, and its
//! books must balance.

use super::{Bytes, Machine, QueueSetup, Rig};
use dsa_model::{Dsa, Identity, Transaction};

/// Operations that one run carries out at the most.
const OPERATIONS: usize = 256;
/// Steps after which a device that still has something to do is stuck.
const STEPS: usize = 100_000;

/// Identities that a run can have.
const IDENTITIES: [&str; 6] = [
    "",
    "device-id=0x11fb",
    "device-id=0x1212;queues=16;ims=256",
    "configurable=off",
    "handle-commands=on;event-log=on;queues=2;engines=2;groups=1",
    "queues=1;entries=4;groups=1;engines=1;ims=0",
];

/// Offsets that are worth hitting more often than chance would.
const REGISTERS: [u64; 16] = [
    0x80, 0x88, 0x98, 0xa0, 0xa0, 0xa0, 0xc0, 0xe0, 0xe8, 0xf0, 0x400, 0x420, 0x428, 0x808, 0x4000,
    0x1_000c,
];

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

    fn number(&mut self, bytes: usize) -> u64 {
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.number(3) % limit
    }

    /// An address in one of a few neighbouring pages, or anywhere.
    fn address(&mut self) -> u64 {
        match self.byte() {
            0 => self.number(8),
            1..16 => u64::MAX - self.below(0x3000),
            _ => 0x1_0000 + self.below(0x8000),
        }
    }
}

/// Carries out what `bytes` say.
pub(crate) fn drive(bytes: &[u8]) {
    let mut source = Source(bytes);
    let identity = IDENTITIES[usize::from(source.byte()) % IDENTITIES.len()];
    let mut rig = if source.byte() < 128 {
        fresh(identity)
    } else {
        working(identity)
    };
    for page in 0..8 {
        if source.byte() < 200 {
            let writable = source.byte() < 200;
            rig.machine.map(None, 0x1_0000 + page * 0x1000, 1, writable);
            rig.machine
                .map(Some(1), 0x1_0000 + page * 0x1000, 1, writable);
        }
    }
    for _ in 0..OPERATIONS {
        if source.0.is_empty() {
            break;
        }
        operate(&mut rig, &mut source);
        assert_books_balance(&rig.dsa, None);
    }
    come_to_rest(&mut rig);
}

fn fresh(identity: &str) -> Rig {
    let dsa = Dsa::new(Identity::parse(identity).expect("valid")).expect("no files");
    Rig {
        dsa,
        machine: Machine::default(),
    }
}

/// A device with its first queue enabled.
fn working(identity: &str) -> Rig {
    let mut rig = Rig::new(identity);
    if rig.dsa.identity().configurable {
        let size = u32::from(rig.dsa.identity().entries).min(4);
        rig.configure(
            0,
            QueueSetup {
                size,
                threshold: size,
                ..QueueSetup::default()
            },
        );
    }
    rig.enable(&[0]);
    rig
}

fn operate(rig: &mut Rig, source: &mut Source<'_>) {
    match source.byte() % 16 {
        0 => {
            let offset = usize::try_from(source.below(0x1008)).expect("small");
            let size = usize::from(source.byte() % 6);
            rig.dsa.config_read(offset, size);
        }
        1 => {
            let offset = usize::try_from(source.below(0x1008)).expect("small");
            let size = usize::from(source.byte() % 6);
            let value = u32::try_from(source.number(4)).expect("four bytes");
            if rig.config_write(offset, size, value) {
                rig.dsa.reset();
            }
        }
        2..=3 => {
            let bar = u32::from(source.byte() % 4);
            let offset = source.below(0x6_0000);
            rig.dsa
                .mmio_read(bar, offset, u32::from(source.byte() % 10));
        }
        4..=5 => {
            let bar = u32::from(source.byte() % 4);
            let offset = source.below(0x6_0000);
            let size = u32::from(source.byte() % 10);
            let value = source.number(8);
            let machine = &mut rig.machine;
            rig.dsa.mmio_write(bar, offset, size, value, machine);
        }
        6..=8 => {
            let offset = REGISTERS[usize::from(source.byte()) % REGISTERS.len()];
            let value = u32::try_from(source.number(4)).expect("four bytes");
            rig.write32(offset, value);
        }
        9..=12 => submit(rig, source),
        13 => rig.run_for(source.below(100_000)),
        14 => {
            let count = dsa_model::HELP.split(" | ").count() as u64;
            let nth = usize::try_from(source.below(count)).expect("small");
            let number = source.byte();
            let (table, switch) = if number < 128 {
                ("msix", "on")
            } else {
                ("ims", "off")
            };
            let command = dsa_model::HELP
                .trim_start_matches("commands: ")
                .split(" | ")
                .nth(nth)
                .expect("in range")
                .replace("trace FILE|off", "trace off")
                .replace("msix|ims", table)
                .replace("on|off", switch)
                .replace(
                    "software|flr|warm|cold",
                    ["software", "flr", "warm", "cold"][usize::from(number % 4)],
                )
                .replace("NANOSECONDS", "5000");
            let words = command.split(' ').map(|word| {
                if word.chars().all(char::is_uppercase) {
                    number.to_string()
                } else {
                    word.to_owned()
                }
            });
            let words: Vec<String> = words.collect();
            let _ = rig.dsa.control(&words.join(" "), &mut rig.machine);
        }
        _ => {
            let page = 0x1_0000 + source.below(8) * 0x1000;
            if source.byte() < 128 {
                rig.machine.unmap(None, page);
            } else {
                rig.machine.map(None, page, 1, true);
            }
        }
    }
}

/// A descriptor that is random, or nearly right.
fn submit(rig: &mut Rig, source: &mut Source<'_>) {
    let mut descriptor = Bytes([0; 64]);
    if source.byte() < 32 {
        for byte in &mut descriptor.0 {
            *byte = source.byte();
        }
    } else {
        let flags = u32::from(source.byte()) & 0x9c;
        let operation = source.byte() % 0x24;
        descriptor = Bytes::new(operation, flags).source(source.address());
        descriptor = if operation == BATCH {
            batch_of(rig, source, descriptor)
        } else {
            descriptor
                .destination(source.address())
                .size(u32::try_from(source.below(0x3000)).expect("small"))
        };
        if flags & 4 != 0 {
            descriptor = descriptor.record(source.address() & !31);
        }
        if flags & 16 != 0 {
            descriptor = descriptor.handle(u16::from(source.byte() % 8));
        }
        if source.byte() < 32 {
            let at = usize::from(source.byte() % 64);
            descriptor.0[at] = source.byte();
        }
    }
    let offset = match source.byte() {
        0..240 => source.below(4) * 0x1000 + source.below(64) * 64,
        _ => source.below(0x5_0000),
    };
    let transaction = if source.byte() < 200 {
        Transaction::Posted
    } else {
        Transaction::Deferrable
    };
    let machine = &mut rig.machine;
    rig.dsa
        .portal_write(2, offset, &descriptor.0, transaction, machine);
}

/// A batch of a few members that are nearly right, whose list is in memory.
fn batch_of(rig: &mut Rig, source: &mut Source<'_>, batch: Bytes) -> Bytes {
    let list = 0x1_0000 + source.below(8) * 0x1000;
    let count = 2 + source.byte() % 6;
    rig.machine.map(None, list, 1, true);
    for position in 0..count {
        let flags = u32::from(source.byte()) & 0x8d;
        let mut member = Bytes::new(source.byte() % 0x10, flags)
            .source(source.address())
            .destination(source.address())
            .size(u32::from(source.byte()));
        if flags & 4 != 0 {
            member = member.record(source.address() & !31);
        }
        let place = list + 64 * u64::from(position);
        rig.machine.poke(None, place, &member.0);
    }
    batch.source(list).size(count.into())
}

/// A device that nobody touches any more stops by itself, unless it waits for
/// room in a full event log; and a reset leaves nothing behind.
fn come_to_rest(rig: &mut Rig) {
    let _ = rig.dsa.control("all-ones off", &mut rig.machine);
    let event_log_enabled = rig.read32(0x80) >> 13 & 1 == 1;
    for _ in 0..STEPS {
        let Some(deadline) = rig.dsa.deadline() else {
            break;
        };
        rig.machine.now_ns = rig.machine.now_ns.max(deadline);
        rig.dsa.advance(&mut rig.machine);
    }
    assert!(
        rig.dsa.deadline().is_none() || event_log_enabled,
        "the device does not come to rest"
    );
    rig.dsa.reset();
    assert_eq!(rig.dsa.deadline(), None, "a reset leaves work behind");
    assert_books_balance(&rig.dsa, Some(0));
}

fn assert_books_balance(dsa: &Dsa, still_inside: Option<u64>) {
    for (index, queue) in dsa.queue_counters().into_iter().enumerate() {
        let answered = queue.accepted + queue.retried + queue.dropped;
        assert_eq!(queue.submitted, answered, "queue {index}: {queue:?}");
        let ended = queue.completed + queue.abandoned;
        assert!(ended <= queue.accepted, "queue {index}: {queue:?}");
        if let Some(inside) = still_inside {
            assert_eq!(queue.accepted - ended, inside, "queue {index}: {queue:?}");
        }
    }
}
