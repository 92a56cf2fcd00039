//! A stand-in for a device, and what tests need of it.

mod bring_up;
mod commands;
mod recovery;
mod reports;

use super::*;
use std::collections::{BTreeMap, VecDeque};
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use hwio::fake::{AllOnes, Event, FakeClock, FakeRegisters, Log, NeverCompletes, Vanishes};
use hwspec::dsa::CmdStatus;
use hwspec::pci::Pasid;

use crate::ims::ImsIndex;
use crate::{
    GroupPlan, InterruptHandle, Outcome, PlanError, Poll, QueueMode, QueuePlan, QueueShape,
};

const TIMEOUT: Duration = Duration::from_millis(1);
const WINDOW: usize = 0x8000;
const CMD: usize = 0xa0;
const CMDSTATUS: usize = 0xa8;

/// What every device here says of itself: that of `capabilities_tests`.
const CAPABILITIES: [(usize, u64); 7] = [
    (0x00, 0x0100),
    (0x10, 0x0000_0040_915f_0107),
    (0x20, 0x003f_0000_0008_0080),
    (0x30, 0x0003_6004),
    (0x38, 0x0004_0104),
    (0x40, 0x0000_0001_003f_03ff),
    (0x60, 0x0080_0004_0008_0006),
];

/// A device whose registers hold what is written, and whose commands end at once, save
/// for what the test wants.
#[derive(Clone, Debug, Default)]
struct Obedient {
    registers: BTreeMap<usize, u64>,
    commands: Vec<u64>,
    /// How the next commands end.
    errors: VecDeque<u64>,
    /// Commands do not end.
    hangs: bool,
    /// Registers that do not take writes.
    stuck: Vec<usize>,
}

impl Obedient {
    fn new(more: &[(usize, u64)]) -> Self {
        Self {
            registers: CAPABILITIES
                .into_iter()
                .chain(more.iter().copied())
                .collect(),
            ..Self::default()
        }
    }

    fn set(&mut self, offset: usize, value: u64) {
        self.registers.insert(offset, value);
    }

    /// WQ State of a queue, in bits 31:30 of byte 24.
    fn set_queue_state(&mut self, operand: u64, state: u64) {
        self.set(
            0x800 + 32 * usize::try_from(operand).unwrap() + 24,
            state << 30,
        );
    }
}

impl hwio::fake::Device for Obedient {
    fn read(&mut self, offset: usize, _: usize) -> u64 {
        self.registers.get(&offset).copied().unwrap_or(0)
    }

    fn write(&mut self, offset: usize, _: usize, value: u64) {
        match offset {
            CMD => {
                self.commands.push(value);
                let error = self.errors.pop_front().unwrap_or(0);
                let status = if self.hangs { 1 << 31 } else { error };
                self.set(CMDSTATUS, status);
                if status != 0 {
                    return;
                }
                match value >> 20 & 0x1f {
                    1 => self.set(0x90, 1),
                    5 => {
                        self.set(0x90, 0);
                        (0..8).for_each(|queue| self.set_queue_state(queue, 0));
                    }
                    6 => self.set_queue_state(value & 0xff, 1),
                    7 => self.set_queue_state((value & 0xffff).trailing_zeros().into(), 0),
                    _ => {}
                }
            }
            // INTCAUSE and SWERROR: ones clear.
            0x98 | 0xc0 => *self.registers.entry(offset).or_default() &= !value,
            _ if self.stuck.contains(&offset) => {}
            _ => self.set(offset, value),
        }
    }
}

type Fake = FakeRegisters<Obedient>;
type FakeDevice = Device<Fake, FakeClock>;

fn registers(more: &[(usize, u64)]) -> Fake {
    FakeRegisters::new(Obedient::new(more), WINDOW, &Log::new())
}

fn take_over(registers: &Fake) -> Result<FakeDevice, Error> {
    Device::take_over(registers.clone(), FakeClock::new(), TIMEOUT)
}

fn plan() -> Plan {
    let shape = QueueShape {
        size: 16,
        mode: QueueMode::Dedicated,
        threshold: 16,
        priority: 8,
        max_transfer_log2: 31,
        max_batch_log2: 10,
    };
    let shared = QueueShape {
        mode: QueueMode::Shared,
        size: 32,
        threshold: 24,
        priority: 15,
        max_transfer_log2: 21,
        max_batch_log2: 5,
    };
    let (index, group) = (0, 0);
    Plan {
        groups: vec![
            GroupPlan {
                engines: 0b0011,
                traffic_class: 0,
            },
            GroupPlan {
                engines: 0b0100,
                traffic_class: 1,
            },
        ],
        queues: vec![
            QueuePlan {
                index,
                group,
                shape,
            },
            QueuePlan {
                index: 3,
                group: 1,
                shape: shared,
            },
        ],
    }
}

fn pasid(number: u32) -> QueuePasid {
    QueuePasid::unprivileged(Pasid::new(number).unwrap())
}

/// A device that was configured, and its registers.
fn configured() -> (FakeDevice, Fake) {
    let registers = registers(&[]);
    let mut device = take_over(&registers).unwrap();
    device.configure(&plan()).unwrap();
    (device, registers)
}

#[track_caller]
fn says(error: Error, words: &str) {
    let text = error.to_string();
    assert!(text.contains(words), "{text}");
}
