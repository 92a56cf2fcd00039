//! The guests.

use core::fmt;

use super::{Next, World, put};
use crate::monitor::text::{Bytes, Cell, Line, List};
use crate::virt::backend::Backend;
use crate::vm::summary::Summary;

const HEADER: &str = "VM              STATE       CPUS       MEMORY      EXTRA STARTS   SUBMITTED  \
                      REFUSED  RETRIED  INTERRUPTS  LAST ENDING";

#[derive(Debug, Default)]
pub(super) struct Vms {
    next: usize,
}

/// A guest.
struct Row<'r> {
    name: &'r str,
    state: &'r str,
    cpus: &'r [usize],
    memory: Bytes,
    /// Beyond its memory.
    extra: Cell<Bytes>,
    starts: u32,
    submissions: Cell<vdsa::Counters>,
    interrupts: Cell<u64>,
    ending: Cell<&'r dyn fmt::Display>,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<15} {:<11} {:<8} {:>8} {:>10} {:>6} {:>11} {:>8} {:>8} {:>11}  ",
            self.name,
            self.state,
            List(self.cpus.iter()),
            self.memory,
            self.extra,
            self.starts,
            self.submissions.map(|counters| counters.submitted),
            self.submissions
                .map(|counters| counters.refused + counters.members_refused),
            self.submissions.map(|counters| counters.retried),
            self.interrupts,
        )?;
        match self.ending {
            // Longer than a cell may be.
            Cell::Shows(ending) => ending.fmt(f),
            _ => f.write_str("-"),
        }
    }
}

impl Vms {
    pub(super) fn next<B: Backend>(&mut self, world: &World<'_, B>, line: &mut Line) -> Next {
        let Some(number) = self.next.checked_sub(1) else {
            self.next = 1;
            return put!(line, "{HEADER}");
        };
        let plan = world.hypervisor.plan.guests.get(number);
        let (Some(record), Some(plan)) = (world.records.get(number), plan) else {
            return Next::End;
        };
        let submissions = match record.guest() {
            Some(guest) => match Summary::try_submissions(guest) {
                Some(submissions) => Cell::Shows(submissions),
                None if world.is_patient => return Next::Busy,
                None => Cell::Busy,
            },
            None => Cell::of(record.last().map(|last| last.submissions)),
        };
        let interrupts = match record.guest() {
            Some(guest) => Some(guest.doors().map(|door| door.completions.get()).sum()),
            None => record.last().map(|last| last.interrupts),
        };
        let last = record.last().and_then(|last| last.ending.as_ref());
        let failure = record
            .failure
            .as_ref()
            .map(|error| error as &dyn fmt::Display);
        self.next += 1;
        let row = Row {
            name: &plan.name,
            state: record.state(),
            cpus: &plan.cpus,
            memory: Bytes(plan.memory_bytes),
            extra: Cell::of(record.overhead_bytes().map(Bytes)),
            starts: record.starts,
            submissions,
            interrupts: Cell::of(interrupts),
            ending: Cell::of(failure.or(last.map(|last| last as &dyn fmt::Display))),
        };
        put!(line, "{row}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::shown;
    use super::*;
    use crate::vm::guest::Ending;

    #[test]
    fn guests_stand_below_the_header() {
        let running = Row {
            name: "demo0",
            state: "running",
            cpus: &[0, 1],
            memory: Bytes(32 << 20),
            extra: Cell::Shows(Bytes(172 << 10)),
            starts: 1,
            submissions: Cell::Shows(vdsa::Counters {
                submitted: 123_456,
                refused: 7,
                members_refused: 5,
                retried: 30,
                ..vdsa::Counters::default()
            }),
            interrupts: Cell::Shows(99_000),
            ending: Cell::Nothing,
        };
        let gone = Row {
            name: "longest-name-15",
            state: "not started",
            cpus: &[1],
            extra: Cell::Nothing,
            submissions: Cell::Busy,
            interrupts: Cell::Nothing,
            ending: Cell::Shows(&Ending::Failed(2)),
            starts: 0,
            ..running
        };
        assert_eq!(
            [HEADER, &shown(&running), &shown(&gone)],
            [
                "VM              STATE       CPUS       MEMORY      EXTRA STARTS   SUBMITTED  REFUSED  RETRIED  INTERRUPTS  LAST ENDING",
                "demo0           running     0,1        32 MiB    172 KiB      1      123456       12       30       99000  -",
                "longest-name-15 not started 1          32 MiB          -      0        busy     busy     busy           -  failed with its code 0x2",
            ]
        );
    }
}
