//! The last events of each processor, kept for the operator.
//!
//! A ring of numbers for each processor: writing one takes a few stores and no lock, and
//! formats nothing. Whoever reads may find an entry half overwritten; entries are checked
//! against their number and left out then.

use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;

use crate::arch::clock;
use crate::arch::percpu::{self, PerCpu};

/// How many events a processor keeps.
pub const COUNT: usize = 256;

static RINGS: Once<PerCpu<Ring>> = Once::new();

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub u8);

impl Kind {
    /// A guest's command went to the device: its code.
    pub const COMMAND: Self = Self(4);
    /// Such a command ended: 0, or 1 if it failed.
    pub const ANSWER: Self = Self(5);
    /// A guest began.
    pub const START: Self = Self(7);
    /// A guest ended.
    pub const END: Self = Self(8);
    /// The IOMMU refused an access.
    pub const FAULT: Self = Self(9);
    /// An accelerator reported an error: its code.
    pub const DEVICE_ERROR: Self = Self(10);
    /// An accelerator halted.
    pub const HALT: Self = Self(11);
    /// A guest tried a model-specific register that it does not have, or a value that it
    /// does not take: its number.
    pub const NO_MSR: Self = Self(12);

    const fn name(self) -> &'static str {
        match self {
            Self::COMMAND => "command",
            Self::ANSWER => "answer",
            Self::START => "start",
            Self::END => "end",
            Self::FAULT => "fault",
            Self::DEVICE_ERROR => "device-error",
            Self::HALT => "halt",
            Self::NO_MSR => "no-msr",
            _ => "unknown",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in ticks of the time-stamp counter.
    pub ticks: u64,
    /// What.
    pub kind: Kind,
    /// The guest's number; 0xff if it is about none.
    pub guest: u8,
    /// Virtual DSA or virtual processor, whichever the kind has.
    pub index: u8,
    /// A code.
    pub value: u32,
}

impl Event {
    const fn pack(self) -> u64 {
        (self.kind.0 as u64) << 48
            | (self.guest as u64) << 40
            | (self.index as u64) << 32
            | self.value as u64
    }

    const fn unpack(ticks: u64, word: u64) -> Self {
        let [a, b, c, d, index, guest, kind, _] = word.to_le_bytes();
        Self {
            ticks,
            kind: Kind(kind),
            guest,
            index,
            value: u32::from_le_bytes([a, b, c, d]),
        }
    }
}

#[derive(Debug)]
struct Ring {
    entries: [[AtomicU64; 2]; COUNT],
    /// How many were ever written.
    next: AtomicU64,
}

impl Ring {
    const fn new() -> Self {
        Self {
            entries: [const { [const { AtomicU64::new(0) }; 2] }; COUNT],
            next: AtomicU64::new(0),
        }
    }

    fn entry(&self, number: u64) -> Option<&[AtomicU64; 2]> {
        let count = COUNT as u64;
        self.entries.get(usize::try_from(number % count).ok()?)
    }

    #[inline]
    fn push(&self, event: Event) {
        // The ring is written by its own processor alone.
        let number = self.next.load(Ordering::Relaxed);
        if let Some([ticks, word]) = self.entry(number) {
            ticks.store(event.ticks, Ordering::Relaxed);
            word.store(event.pack(), Ordering::Relaxed);
        }
        self.next.store(number.wrapping_add(1), Ordering::Release);
    }

    /// The numbers of the events that are kept.
    fn kept(&self) -> Range<u64> {
        let end = self.next.load(Ordering::Acquire);
        end.saturating_sub(COUNT as u64)..end
    }

    /// Event `number`, if it is still kept.
    fn get(&self, number: u64) -> Option<Event> {
        let [ticks, word] = self.entry(number)?;
        let event = Event::unpack(ticks.load(Ordering::Relaxed), word.load(Ordering::Relaxed));
        // Overwritten meanwhile: the newer one is found at its own number.
        let written = self.next.load(Ordering::Acquire);
        let is_kept = number < written && written - number <= COUNT as u64;
        is_kept.then_some(event)
    }
}

/// Makes the rings. All processors must have been found.
pub fn init() {
    RINGS.call_once(|| PerCpu::new(|_| Ring::new()));
}

/// Keeps an event.
#[inline]
pub fn record(kind: Kind, guest: usize, index: usize, value: u32) {
    if let Some(rings) = RINGS.get() {
        let [guest, ..] = guest.to_le_bytes();
        let [index, ..] = index.to_le_bytes();
        rings.here().push(Event {
            ticks: clock::now(),
            kind,
            guest,
            index,
            value,
        });
    }
}

/// The numbers of the events that a processor keeps; none if there is no such one.
pub fn kept(processor: usize) -> Range<u64> {
    match RINGS.get() {
        Some(rings) if processor < percpu::all().len() => rings.of(processor).kept(),
        _ => 0..0,
    }
}

/// The event of a processor with this number, if it is still kept.
pub fn event(processor: usize, number: u64) -> Option<Event> {
    if processor >= percpu::all().len() {
        return None;
    }
    RINGS.get()?.of(processor).get(number)
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::vec::Vec;

    use super::*;

    fn event(number: u64) -> Event {
        Event {
            ticks: number,
            kind: Kind::COMMAND,
            guest: 3,
            index: 7,
            value: u32::try_from(number).unwrap(),
        }
    }

    #[test]
    fn the_last_events_are_kept_in_order() {
        let ring = Box::new(Ring::new());
        let read = || {
            let mut events = Vec::new();
            events.extend(ring.kept().filter_map(|number| ring.get(number)));
            events
        };
        assert_eq!(read(), []);
        ring.push(event(1));
        ring.push(event(2));
        assert_eq!(read(), [event(1), event(2)]);
        for number in 3..1000 {
            ring.push(event(number));
        }
        let expected: Vec<_> = (1000 - COUNT as u64..1000).map(event).collect();
        assert_eq!(read(), expected);
    }

    #[test]
    fn events_are_packed_without_loss() {
        let event = Event {
            ticks: 5,
            kind: Kind::HALT,
            guest: 0xff,
            index: 0x81,
            value: 0xdead_beef,
        };
        assert_eq!(event.pack(), 0x000b_ff81_dead_beef);
        assert_eq!(Event::unpack(5, event.pack()), event);
    }
}
