//! The performance monitor: a few counters over queue and completion events.
//!
//! [341204 Rev 3.0 §9.2 "Performance Monitoring Registers", appendix D.1
//! "Performance Monitoring Events"]. No filters, and the same events on every
//! counter.

use crate::bits::{bit, field, low32};
use crate::completion::Status;
use crate::interrupt::RegisterWrite;
use crate::registers::PERFMON;

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

/// CNTRCFG: events, category, freeze and interrupt on overflow, Enable.
const CONFIGURATION: u64 = 0x0fff_ffff_0000_0f07;
const ENABLE: u64 = 1;
/// CNTRDATA: as many bits as a counter has.
const VALUE: u64 = u64::MAX >> (64 - COUNTER_WIDTH);
/// PERFFRZ with every counter frozen.
const ALL_COUNTERS: u32 = (1 << COUNTERS) - 1;

/// Something that can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    category: u64,
    bit: u64,
}

impl Event {
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

    /// A shared queue accepted a descriptor through such a portal.
    pub(crate) fn shared_accepted(limited: bool) -> Self {
        Self {
            category: QUEUES,
            bit: if limited { 0x01 } else { 0x04 },
        }
    }

    /// A shared queue answered retry at such a portal.
    pub(crate) fn shared_retried(limited: bool) -> Self {
        Self {
            category: QUEUES,
            bit: if limited { 0x02 } else { 0x08 },
        }
    }

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
            QUEUES => 0x3f,
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
    /// PERFFRZ, a bit for each counter.
    frozen: u32,
    /// OVFSTATUS likewise.
    overflowed: u32,
}

impl Perfmon {
    /// Counts an event. Returns whether an overflow interrupt is due.
    pub(crate) fn count(&mut self, event: Event) -> bool {
        let mut interrupt = false;
        for (index, counter) in self.counters.iter_mut().enumerate() {
            let configuration = counter.configuration;
            let counts = bit(configuration, 0)
                && self.frozen >> index & 1 == 0
                && field(configuration, 11, 8) == event.category
                && field(configuration, 59, 32) & event.bit != 0;
            if !counts {
                continue;
            }
            counter.value = (counter.value + 1) & VALUE;
            if counter.value == 0 {
                self.overflowed |= 1 << index;
                interrupt |= bit(configuration, 1);
                if bit(configuration, 2) {
                    self.frozen = ALL_COUNTERS;
                }
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
                if write.ones() & 1 != 0 {
                    self.frozen = 0;
                    self.overflowed = 0;
                }
                for counter in &mut self.counters {
                    if write.ones() & 1 != 0 {
                        counter.configuration = 0;
                    }
                    if write.ones() & 2 != 0 {
                        counter.value = 0;
                    }
                }
            }
            PERFFRZ => self.frozen = write.onto(self.frozen, ALL_COUNTERS),
            OVFSTATUS => self.overflowed &= !write.ones(),
            CNTRCFG..CNTRDATA => self.write_configuration(offset - CNTRCFG, write),
            CNTRDATA..0x300 => {
                if let Some(counter) = self.counters.get_mut(index(offset - CNTRDATA)) {
                    counter.value = onto_half(counter.value, offset, write, VALUE);
                }
            }
            _ => {}
        }
    }

    /// Whether an 8-byte write at `offset` of BAR0 begins with its upper half:
    /// the bit that locks CNTRCFG stands in the lower one.
    pub(crate) fn takes_upper_half_first(offset: u64) -> bool {
        (PERFMON + CNTRCFG..PERFMON + CNTRDATA).contains(&offset)
    }

    /// Only Enable can be written while it is set [Table 9-8].
    fn write_configuration(&mut self, offset: u64, write: RegisterWrite) {
        let index = index(offset);
        let Some(counter) = self.counters.get_mut(index) else {
            return;
        };
        let writable = if bit(counter.configuration, 0) {
            ENABLE
        } else {
            CONFIGURATION
        };
        counter.configuration = onto_half(counter.configuration, offset, write, writable);
        if !bit(counter.configuration, 0) {
            self.frozen &= !(1 << index);
        }
    }

    fn counter(&self, bytes: u64) -> Counter {
        self.counters.get(index(bytes)).copied().unwrap_or_default()
    }
}

/// The counter whose register is `bytes` into an array of 8-byte registers.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes / 8).unwrap_or(usize::MAX)
}

/// Writes the half of `quad` that `offset` names, as far as `writable` allows.
fn onto_half(quad: u64, offset: u64, write: RegisterWrite, writable: u64) -> u64 {
    let shift = if offset.is_multiple_of(8) { 0 } else { 32 };
    let half = write.onto(low32(quad >> shift), low32(writable >> shift));
    quad & !(u64::from(u32::MAX) << shift) | u64::from(half) << shift
}
