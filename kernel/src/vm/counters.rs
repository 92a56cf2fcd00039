//! Counters that one processor adds to and any may read.

use core::sync::atomic::{AtomicU64, Ordering};

/// A number that only its owner changes: adding to it takes no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds to it. Only one processor at a time may.
    #[inline]
    pub fn add(&self, count: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(count);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// Adds one from any processor.
    #[inline]
    pub fn add_shared(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a guest was left for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An interrupt of the machine that is not the timer's: a completion, of this guest
    /// or another one, or a word from another processor.
    Interrupt,
    /// The timer's interrupt: the guest's own, or the end of its turn.
    Timer,
    /// The guest can take an interrupt that waits.
    InterruptWindow,
    /// HLT.
    Halt,
    /// CPUID.
    Cpuid,
    /// A hypercall.
    Hypercall,
    /// The end of an interrupt, told to the virtual APIC.
    EndOfInterrupt,
    /// Any other RDMSR or WRMSR.
    Msr,
    /// An I/O port.
    Port,
    /// A submission to a portal.
    Submission,
    /// A register or table of a virtual DSA.
    Register,
    /// PCI configuration space.
    Configuration,
    /// The I/O APIC.
    IoApic,
    /// An address where nothing is.
    Nowhere,
    /// An invalid opcode that is not a submission.
    InvalidOpcode,
    /// Anything else.
    Other,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::Interrupt, "interrupt"),
        (Self::Timer, "timer"),
        (Self::InterruptWindow, "interrupt_window"),
        (Self::Halt, "halt"),
        (Self::Cpuid, "cpuid"),
        (Self::Hypercall, "hypercall"),
        (Self::EndOfInterrupt, "end_of_interrupt"),
        (Self::Msr, "msr"),
        (Self::Port, "port"),
        (Self::Submission, "submission"),
        (Self::Register, "register"),
        (Self::Configuration, "configuration"),
        (Self::IoApic, "io_apic"),
        (Self::Nowhere, "nowhere"),
        (Self::InvalidOpcode, "invalid_opcode"),
        (Self::Other, "other"),
    ];
}

/// How often a virtual processor was left, by reason.
#[derive(Debug, Default)]
pub struct Exits([Counter; Reason::ALL.len()]);

impl Exits {
    /// None yet.
    pub const fn new() -> Self {
        Self([const { Counter::new() }; Reason::ALL.len()])
    }

    /// One more, by the processor that runs the virtual one.
    #[inline]
    pub fn add(&self, reason: Reason) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.add(1);
        }
    }

    /// How many there were for `reason`.
    pub fn get(&self, reason: Reason) -> u64 {
        self.0.get(reason as usize).map_or(0, Counter::get)
    }

    /// Forgets them.
    pub fn clear(&self) {
        for counter in &self.0 {
            counter.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_numbers() {
        for (number, (reason, _)) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
    }

    #[test]
    fn exits_are_counted_by_reason() {
        let exits = Exits::new();
        exits.add(Reason::Halt);
        exits.add(Reason::Other);
        exits.add(Reason::Other);
        let counts = Reason::ALL.map(|(reason, _)| exits.get(reason));
        assert_eq!(counts, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        exits.clear();
        assert_eq!(exits.get(Reason::Other), 0);
    }
}
