//! What came of a guest: its counters at the end, or now.

use alloc::vec::Vec;

use vdsa::Rule;

use crate::platform::hypercall;
use crate::virt::backend::Backend;

use super::bench::Measured;
use super::counters::Reason;
use super::guest::{Ending, Guest};

/// The books of one guest. Numbers are since it was started.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How it ended, if it has.
    pub ending: Option<Ending>,
    /// Exits, in the order of [`Reason::ALL`].
    pub exits: [u64; Reason::ALL.len()],
    /// Descriptors and submissions of all its virtual DSAs.
    pub submissions: vdsa::Counters,
    /// Completion interrupts that reached its virtual processors.
    pub interrupts: u64,
    /// Interrupts of its virtual DSAs that software raised.
    pub software_interrupts: u64,
    /// What was refused: each rule, and how often.
    pub refused: Vec<(Rule, u64)>,
    /// What it said of itself, by key.
    pub results: [Option<u64>; hypercall::COUNT],
    /// What it measured.
    pub measured: Option<Measured>,
    /// Accesses to where nothing is.
    pub strays: u64,
    /// Memory that it took beyond its RAM, in bytes.
    pub overhead_bytes: u64,
}

impl Summary {
    /// That of `guest` as it is now. Waits for its virtual processors where they use
    /// its accelerators.
    pub fn of<B: Backend>(guest: &Guest<B>, overhead_bytes: u64) -> Self {
        let mut submissions = vdsa::Counters::default();
        let mut software_interrupts = 0;
        let mut refused: Vec<(Rule, u64)> = Vec::new();
        for (_, unit) in guest.bus.functions() {
            unit.look(|device, backing| {
                add(&mut submissions, device.counters());
                software_interrupts += backing.injected;
                for &rule in Rule::ALL {
                    let count = device.refusals().count(rule);
                    match refused.iter_mut().find(|(known, _)| *known == rule) {
                        Some((_, sum)) => *sum += count,
                        None if count > 0 => refused.push((rule, count)),
                        None => {}
                    }
                }
            });
        }
        Self {
            ending: guest.ending(),
            exits: Reason::ALL.map(|(reason, _)| guest.count_exits(reason)),
            submissions,
            interrupts: guest.doors().map(|door| door.completions.get()).sum(),
            software_interrupts,
            refused,
            results: guest.results.all(),
            measured: guest.measurements.read(),
            strays: guest.counters.strays.get(),
            overhead_bytes,
        }
    }
}

/// Adds the counters of another virtual DSA.
fn add(sum: &mut vdsa::Counters, other: &vdsa::Counters) {
    let vdsa::Counters {
        submitted,
        accepted,
        refused,
        retried,
        dropped,
        faulted,
        held_back,
        without_slot,
        batches,
        members,
        members_refused,
        handed_on,
        abandoned,
        refused_interrupts,
        handed_on_interrupts,
    } = *other;
    for (sum, count) in [
        (&mut sum.submitted, submitted),
        (&mut sum.accepted, accepted),
        (&mut sum.refused, refused),
        (&mut sum.retried, retried),
        (&mut sum.dropped, dropped),
        (&mut sum.faulted, faulted),
        (&mut sum.held_back, held_back),
        (&mut sum.without_slot, without_slot),
        (&mut sum.batches, batches),
        (&mut sum.members, members),
        (&mut sum.members_refused, members_refused),
        (&mut sum.handed_on, handed_on),
        (&mut sum.abandoned, abandoned),
        (&mut sum.refused_interrupts, refused_interrupts),
        (&mut sum.handed_on_interrupts, handed_on_interrupts),
    ] {
        *sum += count;
    }
}
