//! The performance monitor: a few counters over queue and completion events.
//!
//! [341204 Rev 3.0 §9.2 "Performance Monitoring Registers", appendix D.1
//! "Performance Monitoring Events"]. No filters, and the same events on every
//! counter.

use crate::bits::{bit, field, low32};
use crate::completion::Status;
use crate::interrupt::RegisterWrite;

const COUNTERS: usize = 4;
const COUNTER_WIDTH: u64 = 48;

/// Event category 0: work queues.
const QUEUES: u64 = 0;
/// Event category 4: completions.
const COMPLETIONS: u64 = 4;
/// Categories 0 to 4 are numbered, of which these two have events.
const CATEGORY_COUNT: u64 = 5;

/// PERFCAP: counters, width, categories and which of them exist; counters are
/// writable, freeze and overflow interrupts exist.
const PERFCAP: u64 = COUNTERS as u64
    | COUNTER_WIDTH << 8
    | CATEGORY_COUNT << 16
    | (1 << QUEUES | 1 << COMPLETIONS) << 20
    | 1 << 53
    | 1 << 54
    | 1 << 55;

const PERFRST: u64 = 0x10;
const PERFFRZ: u64 = 0x20;
const OVFSTATUS: u64 = 0x30;
const EVNTCAP: u64 = 0x80;
const CNTRCFG: u64 = 0x100;
const CNTRDATA: u64 = 0x200;

/// Something that can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    category: u64,
    bit: u64,
}

impl Event {
    /// A shared queue accepted a descriptor.
    pub(crate) const SHARED_ACCEPTED: Self = Self {
        category: QUEUES,
        bit: 0x01,
    };
    /// A shared queue answered retry.
    pub(crate) const SHARED_RETRIED: Self = Self {
        category: QUEUES,
        bit: 0x02,
    };
    /// A dedicated queue accepted a descriptor.
    pub(crate) const DEDICATED_ACCEPTED: Self = Self {
        category: QUEUES,
        bit: 0x10,
    };
    /// A dedicated queue was full.
    pub(crate) const DEDICATED_FULL: Self = Self {
        category: QUEUES,
        bit: 0x20,
    };
    const PARTIAL: Self = Self {
        category: COMPLETIONS,
        bit: 0x04,
    };
    const ERROR: Self = Self {
        category: COMPLETIONS,
        bit: 0x08,
    };
    const SUCCESS: Self = Self {
        category: COMPLETIONS,
        bit: 0x10,
    };

    /// What a completion with this status counts as.
    pub(crate) fn of_completion(status: Status) -> Self {
        match status {
            Status::SUCCESS | Status::FALSE_PREDICATE => Self::SUCCESS,
            status if status.is_page_fault() => Self::PARTIAL,
            _ => Self::ERROR,
        }
    }

    /// The events that exist, by category.
    fn of_category(category: u64) -> u64 {
        match category {
            QUEUES => 0x33,
            COMPLETIONS => 0x1c,
            _ => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    configuration: u64,
    value: u64,
}

/// The performance monitor.
#[derive(Debug, Default)]
pub(crate) struct Perfmon {
    counters: [Counter; COUNTERS],
    frozen: bool,
    overflowed: u32,
}

impl Perfmon {
    /// Counts an event. Returns whether an overflow interrupt is due.
    pub(crate) fn count(&mut self, event: Event) -> bool {
        let mut interrupt = false;
        for (index, counter) in self.counters.iter_mut().enumerate() {
            let configuration = counter.configuration;
            let counts = bit(configuration, 0)
                && field(configuration, 11, 8) == event.category
                && field(configuration, 59, 32) & event.bit != 0;
            if self.frozen || !counts {
                continue;
            }
            counter.value = (counter.value + 1) & (u64::MAX >> (64 - COUNTER_WIDTH));
            if counter.value == 0 {
                self.overflowed |= 1 << index;
                interrupt |= bit(configuration, 1);
                self.frozen |= bit(configuration, 2);
            }
        }
        interrupt
    }

    /// A 32-bit word of the block, by byte offset.
    pub(crate) fn read(&self, offset: u64) -> u32 {
        let quad = match offset & !7 {
            0 => PERFCAP,
            PERFFRZ => u64::from(self.frozen),
            OVFSTATUS => u64::from(self.overflowed),
            at @ EVNTCAP..CNTRCFG => Event::of_category((at - EVNTCAP) / 8),
            at @ CNTRCFG..CNTRDATA => self.counter(at - CNTRCFG).configuration,
            at @ CNTRDATA..0x300 => self.counter(at - CNTRDATA).value,
            _ => 0,
        };
        low32(if offset.is_multiple_of(8) {
            quad
        } else {
            quad >> 32
        })
    }

    /// Writes a 32-bit word of the block.
    pub(crate) fn write(&mut self, offset: u64, write: RegisterWrite) {
        match offset {
            PERFRST => {
                for counter in &mut self.counters {
                    if write.ones() & 1 != 0 {
                        counter.configuration = 0;
                    }
                    if write.ones() & 2 != 0 {
                        counter.value = 0;
                    }
                }
            }
            PERFFRZ => self.frozen = write.ones() & 1 != 0,
            OVFSTATUS => self.overflowed &= !write.ones(),
            CNTRCFG..CNTRDATA => {
                self.write_half(offset, CNTRCFG, write, |counter| &mut counter.configuration)
            }
            CNTRDATA..0x300 => {
                self.write_half(offset, CNTRDATA, write, |counter| &mut counter.value)
            }
            _ => {}
        }
    }

    fn write_half(
        &mut self,
        offset: u64,
        base: u64,
        write: RegisterWrite,
        pick: impl Fn(&mut Counter) -> &mut u64,
    ) {
        let index = usize::try_from((offset - base) / 8).unwrap_or(usize::MAX);
        let shift = if offset.is_multiple_of(8) { 0 } else { 32 };
        if let Some(counter) = self.counters.get_mut(index) {
            let quad = pick(counter);
            let new = u64::from(write.onto(low32(*quad >> shift), u32::MAX));
            *quad = *quad & !(u64::from(u32::MAX) << shift) | new << shift;
        }
    }

    fn counter(&self, bytes: u64) -> Counter {
        let index = usize::try_from(bytes / 8).unwrap_or(usize::MAX);
        self.counters.get(index).copied().unwrap_or_default()
    }
}
