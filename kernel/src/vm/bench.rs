//! What a bench guest measured, and the figures of the report.
//!
//! A guest reads the time-stamp counter around what it measures and says what it found;
//! Weir counts the exits between the two hypercalls around a measurement.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::report::BenchReport;

/// How many measurements there can be.
pub const COUNT: usize = 32;
/// Members of the batch that is measured.
const MEMBERS: u64 = 64;
/// Nothing was measured.
const NONE: u64 = u64::MAX;

/// What is measured, as `guests/bench` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bench {
    /// Nothing: two readings of the counter.
    Nothing = 1,
    /// A hypercall.
    Hypercall = 2,
    /// A checked MOVDIR64B, from VM exit to VM entry.
    Movdir64b = 3,
    /// ENQCMDS, likewise.
    Enqcmds = 4,
    /// ENQCMD, likewise.
    Enqcmd = 5,
    /// MOVDIR64B of a batch of 64, likewise.
    Batch = 6,
    /// From the device's message to the handler of a virtual processor that has halted.
    InjectHalted = 7,
    /// The same of one that runs.
    InjectDeviceToHandler = 8,
    /// The end of a batch handed on to a virtual processor that runs, from VM exit to VM
    /// entry.
    BatchCompletion = 9,
    /// A load from a register.
    Register = 10,
    /// A completion injected into a virtual processor that runs, from VM exit to VM entry.
    Inject = 11,
    /// From the device's message to the handler of a virtual processor that runs on
    /// another processor.
    InjectOtherCpu = 12,
    /// MOVDIR64B to a portal of the guest's own.
    Direct = 13,
}

/// What a guest measured.
#[derive(Debug)]
pub struct Measurements {
    costs: [AtomicU64; COUNT],
    exits: [AtomicU64; COUNT],
    exits_before: AtomicU64,
}

impl Default for Measurements {
    fn default() -> Self {
        Self {
            costs: [const { AtomicU64::new(NONE) }; COUNT],
            exits: [const { AtomicU64::new(NONE) }; COUNT],
            exits_before: AtomicU64::new(0),
        }
    }
}

/// Sets the place of measurement `id`, if there is such a one.
fn set(places: &[AtomicU64; COUNT], id: u64, value: u64) {
    let index = usize::try_from(id).unwrap_or(COUNT);
    if let Some(place) = places.get(index) {
        place.store(value, Ordering::Relaxed);
    }
}

impl Measurements {
    /// A measurement begins, after so many exits.
    pub fn begin(&self, exits: u64) {
        self.exits_before.store(exits, Ordering::Relaxed);
    }

    /// Measurement `id` ends, after so many exits.
    pub fn end(&self, id: u64, exits: u64) {
        let before = self.exits_before.load(Ordering::Relaxed);
        set(&self.exits, id, exits.wrapping_sub(before));
    }

    /// Measurement `id` found this many ticks.
    pub fn set_cost(&self, id: u64, ticks: u64) {
        set(&self.costs, id, ticks);
    }

    /// What has been measured, if anything has.
    pub fn read(&self) -> Option<Measured> {
        let load = |places: &[AtomicU64; COUNT]| {
            core::array::from_fn(|index| {
                let value = places.get(index)?.load(Ordering::Relaxed);
                (value != NONE).then_some(value)
            })
        };
        let measured = Measured {
            costs: load(&self.costs),
            exits: load(&self.exits),
        };
        let has_costs = measured.costs.iter().any(Option::is_some);
        has_costs.then_some(measured)
    }
}

/// What a guest had measured when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    costs: [Option<u64>; COUNT],
    exits: [Option<u64>; COUNT],
}

impl Measured {
    /// Ticks.
    pub fn cost(&self, bench: Bench) -> Option<u64> {
        self.costs.get(bench as usize).copied().flatten()
    }

    /// How many exits all repeats took together, without the hypercalls around them: of
    /// these the empty measurement has as many.
    pub fn exits(&self, bench: Bench) -> Option<u64> {
        let of = |bench: Bench| self.exits.get(bench as usize).copied().flatten();
        Some(of(bench)?.saturating_sub(of(Bench::Nothing)?))
    }

    /// The guest's part of the report.
    pub fn report(&self) -> BenchReport {
        let batch = self.cost(Bench::Batch);
        BenchReport {
            inject: self.cost(Bench::Inject),
            inject_device_to_handler: self.cost(Bench::InjectDeviceToHandler),
            inject_halted: self.cost(Bench::InjectHalted),
            inject_other_cpu: self.cost(Bench::InjectOtherCpu),
            checked_single: self.cost(Bench::Movdir64b),
            checked_enqcmd: self.cost(Bench::Enqcmd),
            checked_batch64_each: batch.map(|whole| whole.div_ceil(MEMBERS)),
            batch_completion: self.cost(Bench::BatchCompletion),
            direct_exits: self.exits(Bench::Direct),
            ..BenchReport::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_measures_nothing_has_no_figures() {
        let measurements = Measurements::default();
        measurements.begin(5);
        measurements.end(1, 6);
        assert_eq!(measurements.read(), None);
    }

    #[test]
    fn costs_become_figures() {
        let measurements = Measurements::default();
        for (id, ticks) in [
            (3, 1200),
            (5, 1300),
            (6, 12_801),
            (8, 300),
            (9, 440),
            (11, 200),
        ] {
            measurements.set_cost(id, ticks);
        }
        let report = measurements.read().unwrap().report();
        let expected = BenchReport {
            inject: Some(200),
            inject_device_to_handler: Some(300),
            checked_single: Some(1200),
            checked_enqcmd: Some(1300),
            // Rounded up.
            checked_batch64_each: Some(201),
            batch_completion: Some(440),
            ..BenchReport::default()
        };
        assert_eq!(report, expected);
    }

    #[test]
    fn exits_are_those_beyond_an_empty_measurement() {
        let measurements = Measurements::default();
        measurements.set_cost(13, 1);
        measurements.begin(10);
        measurements.end(1, 12);
        measurements.begin(20);
        measurements.end(13, 22);
        assert_eq!(measurements.read().unwrap().report().direct_exits, Some(0));
        measurements.begin(30);
        measurements.end(13, 35);
        assert_eq!(measurements.read().unwrap().report().direct_exits, Some(3));
    }

    #[test]
    fn numbers_of_no_measurement_change_nothing() {
        let measurements = Measurements::default();
        measurements.set_cost(32, 7);
        measurements.set_cost(u64::MAX, 7);
        measurements.end(32, 7);
        assert_eq!(measurements.read(), None);
    }
}
