//! What came of a guest: its counters at the end, or now.

use alloc::vec::Vec;
use core::mem::take;

use hwspec::pci::Pasid;
use vdsa::{Refusal, Rule};

use crate::platform::hypercall;
use crate::platform::serial_port::LastLines;
use crate::report::Strays;
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
    /// Those of them that found theirs pending.
    pub interrupts_merged: u64,
    /// Interrupts of its virtual DSAs that software raised.
    pub software_interrupts: u64,
    /// Vectors that got another slot.
    pub handles_moved: u64,
    /// Interrupt handles that it asked for although it had them.
    pub handles_asked_again: u64,
    /// What was refused: each rule, and how often.
    pub refused: Vec<(Rule, u64)>,
    /// The last descriptors that were refused, each with the number of the virtual DSA.
    pub last_refused: Vec<(usize, Refusal)>,
    /// What it said of itself, by key.
    pub results: [Option<u64>; hypercall::COUNT],
    /// When it wrote the first byte to its console, when there was a shell, and when its
    /// kernel panicked, in ticks of the time-stamp counter: in its first life that came so
    /// far.
    pub console: Option<u64>,
    /// See [`console`](Self::console).
    pub shell: Option<u64>,
    /// See [`console`](Self::console).
    pub panic: Option<u64>,
    /// The last lines on its console, of its last life that it did not end as it should.
    pub last_lines: LastLines,
    /// What it measured.
    pub measured: Option<Measured>,
    /// What it did that led nowhere.
    pub strays: Strays,
    /// Its host PASIDs.
    pub pasids: Vec<Pasid>,
    /// Memory that it took beyond its RAM, in bytes.
    pub overhead_bytes: u64,
}

impl Summary {
    /// Distinct PASIDs that there is room for from the beginning.
    const PASIDS: usize = 64;

    /// An empty one with room for all that can be said of a guest with so many virtual
    /// DSAs, so that [`set`](Self::set) takes no memory; but for the PASIDs of a guest
    /// that had very many in all its lives.
    pub fn with_room(vdsas: usize) -> Self {
        Self {
            ending: None,
            exits: [0; Reason::ALL.len()],
            submissions: vdsa::Counters::default(),
            interrupts: 0,
            interrupts_merged: 0,
            software_interrupts: 0,
            handles_moved: 0,
            handles_asked_again: 0,
            refused: Vec::with_capacity(Rule::ALL.len()),
            last_refused: Vec::with_capacity(vdsas * vdsa::Refusals::KEPT),
            results: [None; hypercall::COUNT],
            console: None,
            shell: None,
            panic: None,
            last_lines: LastLines::none(),
            measured: None,
            strays: Strays::default(),
            pasids: Vec::with_capacity(Self::PASIDS),
            overhead_bytes: 0,
        }
    }

    /// Makes it the same as `other`, in the memory that it has.
    pub fn set(&mut self, other: &Self) {
        fn copy<T: Copy>(mut to: Vec<T>, from: &[T]) -> Vec<T> {
            to.clear();
            to.extend_from_slice(from);
            to
        }
        let (refused, last_refused) = (take(&mut self.refused), take(&mut self.last_refused));
        let pasids = take(&mut self.pasids);
        *self = Self {
            refused: copy(refused, &other.refused),
            last_refused: copy(last_refused, &other.last_refused),
            pasids: copy(pasids, &other.pasids),
            ..*other
        };
    }

    /// Another life, which came behind all that it is about.
    pub fn add_life(&mut self, life: &Self) {
        let mut sum = life.clone();
        sum.add_earlier(self);
        self.set(&sum);
    }

    /// What became of the descriptors of `guest` until now; nothing while one of its
    /// virtual processors uses its accelerators.
    pub fn try_submissions<B: Backend>(guest: &Guest<B>) -> Option<vdsa::Counters> {
        let mut sum = vdsa::Counters::default();
        for (_, unit) in guest.bus.functions() {
            unit.try_look(|device, _| sum += *device.counters())?;
        }
        Some(sum)
    }

    /// That of `guest` as it is now. Waits for its virtual processors where they use
    /// its accelerators.
    pub fn of<B: Backend>(guest: &Guest<B>, overhead_bytes: u64) -> Self {
        let mut submissions = vdsa::Counters::default();
        let (mut software_interrupts, mut handles_moved, mut handles_asked_again) = (0, 0, 0);
        let mut refused: Vec<(Rule, u64)> = Vec::new();
        let mut pasids = Vec::new();
        let mut last_refused = Vec::new();
        for (_, unit) in guest.bus.functions() {
            unit.look(|device, backing| {
                submissions += *device.counters();
                software_interrupts += backing.injected;
                handles_moved += backing.moved;
                handles_asked_again += device.handles_asked_again();
                pasids.extend_from_slice(&backing.pasids);
                let recent = device.refusals().recent();
                last_refused.extend(recent.map(|&refusal| (backing.vdsa, refusal)));
                for &rule in Rule::ALL {
                    add_refused(&mut refused, rule, device.refusals().count(rule));
                }
            });
        }
        Self {
            ending: guest.ending(),
            exits: Reason::ALL.map(|(reason, _)| guest.count_exits(reason)),
            submissions,
            interrupts: guest.doors().map(|door| door.completions.get()).sum(),
            interrupts_merged: guest.doors().map(|door| door.merged.get()).sum(),
            software_interrupts,
            handles_moved,
            handles_asked_again,
            refused,
            last_refused,
            results: guest.results.all(),
            console: guest.milestones.console(),
            shell: guest.milestones.shell(),
            panic: guest.milestones.panic(),
            last_lines: match guest.has_trouble() {
                true => LastLines::of(&guest.output),
                false => LastLines::none(),
            },
            measured: guest.measurements.read(),
            strays: guest.strays.get(),
            pasids,
            overhead_bytes,
        }
    }

    /// Adds the counts of the guest's earlier lives. What it said of itself, and how it
    /// ended, stays what it is.
    pub fn add_earlier(&mut self, earlier: &Self) {
        for (sum, count) in self.exits.iter_mut().zip(earlier.exits) {
            *sum += count;
        }
        self.submissions += earlier.submissions;
        self.interrupts += earlier.interrupts;
        self.interrupts_merged += earlier.interrupts_merged;
        self.software_interrupts += earlier.software_interrupts;
        self.handles_moved += earlier.handles_moved;
        self.handles_asked_again += earlier.handles_asked_again;
        for &(rule, count) in &earlier.refused {
            add_refused(&mut self.refused, rule, count);
        }
        self.console = earlier.console.or(self.console);
        self.shell = earlier.shell.or(self.shell);
        self.panic = earlier.panic.or(self.panic);
        if self.last_lines.is_empty() {
            self.last_lines = earlier.last_lines;
        }
        self.strays += earlier.strays;
        for &pasid in &earlier.pasids {
            if !self.pasids.contains(&pasid) {
                self.pasids.push(pasid);
            }
        }
    }
}

fn add_refused(refused: &mut Vec<(Rule, u64)>, rule: Rule, count: u64) {
    match refused.iter_mut().find(|(known, _)| *known == rule) {
        Some((_, sum)) => *sum += count,
        None if count > 0 => refused.push((rule, count)),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;
    use crate::platform::serial_port::Output;

    /// Moments are those of the first life that had them, last lines those of the last one
    /// that has some.
    #[test]
    fn moments_come_from_the_first_life_and_last_lines_from_the_last() {
        let lines = |text: &str| {
            let output = Output::new();
            text.bytes().for_each(|byte| output.push(byte));
            LastLines::of(&output)
        };
        let shown = |of: &Summary| {
            let lines = of.last_lines.iter();
            lines.map(|line| line.to_string()).collect::<Vec<_>>()
        };
        let mut total = Summary::with_room(0);
        let mut life = Summary::with_room(0);
        (life.console, life.last_lines) = (Some(5), lines("one"));
        total.add_life(&life);
        (life.console, life.panic, life.last_lines) = (Some(50), Some(60), lines("two"));
        total.add_life(&life);
        assert_eq!(shown(&total), ["two"]);
        life.last_lines = LastLines::none();
        total.add_life(&life);
        assert_eq!((total.console, total.panic), (Some(5), Some(60)));
        assert_eq!((total.shell, shown(&total).len()), (None, 1));
    }

    #[test]
    fn lives_are_added_up_in_the_memory_that_is_there() {
        let mut life = Summary::with_room(1);
        life.ending = Some(Ending::TripleFault);
        life.interrupts = 3;
        life.refused.push((Rule::Privilege, 2));
        let mut total = Summary::with_room(1);
        let rooms = |of: &Summary| {
            let Summary {
                refused,
                last_refused,
                pasids,
                ..
            } = of;
            (
                refused.capacity(),
                last_refused.capacity(),
                pasids.capacity(),
            )
        };
        let before = rooms(&total);
        for number in 1..=63 {
            life.pasids = [Pasid::new(number).unwrap()].into();
            total.add_life(&life);
        }
        assert_eq!(total.ending, Some(Ending::TripleFault));
        assert_eq!((total.interrupts, total.pasids.len()), (3 * 63, 63));
        assert_eq!(total.refused, [(Rule::Privilege, 2 * 63)]);
        assert_eq!(rooms(&total), before);
    }
}
