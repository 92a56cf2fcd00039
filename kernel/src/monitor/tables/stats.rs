//! Counters.

use core::fmt;

use arrayvec::ArrayVec;

use super::{Next, World, put};
use crate::arch::{percpu, trap};
use crate::host::routes::VECTORS;
use crate::mm::{PAGE_SIZE, frames, heap_use};
use crate::monitor::text::{Bytes, Cell, Line, Nanoseconds};
use crate::report::Strays;
use crate::virt::backend::Backend;
use crate::vm::counters::Reason;
use crate::vm::hypervisor::Record;
use crate::vm::summary::Summary;

/// How many guests stand side by side.
const SIDE_BY_SIDE: usize = 6;

/// How many counters of its virtual DSAs a guest has here.
const COUNTERS: usize = vdsa::Counters::NAMES.len();
const EXITS: usize = Reason::ALL.len();
const OTHERS: [&str; 4] = [
    "completion interrupts",
    "accesses to nowhere",
    "MSRs that are not there",
    "unknown instructions",
];
const ROWS: usize = EXITS + COUNTERS + OTHERS.len();

#[derive(Clone, Copy, Debug)]
enum At {
    Machine(usize),
    Processor(usize),
    /// The guests from this one on.
    Guests(usize),
    Row(usize, usize),
}

#[derive(Debug)]
pub(super) struct Stats {
    at: At,
    /// The counters of the guests that stand side by side.
    columns: ArrayVec<Column, SIDE_BY_SIDE>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            at: At::Machine(0),
            columns: ArrayVec::new(),
        }
    }
}

/// The counters of a guest.
#[derive(Clone, Copy, Debug)]
struct Column {
    exits: [u64; EXITS],
    submissions: Cell<vdsa::Counters>,
    interrupts: u64,
    strays: Strays,
}

impl Column {
    fn of<B: Backend>(record: &Record<B>) -> Self {
        match (record.guest(), record.last()) {
            (Some(guest), _) => Self {
                exits: Reason::ALL.map(|(reason, _)| guest.count_exits(reason)),
                submissions: match Summary::try_submissions(guest) {
                    Some(submissions) => Cell::Shows(submissions),
                    None => Cell::Busy,
                },
                interrupts: guest.doors().map(|door| door.completions.get()).sum(),
                strays: guest.strays.get(),
            },
            (None, Some(last)) => Self {
                exits: last.exits,
                submissions: Cell::Shows(last.submissions),
                interrupts: last.interrupts,
                strays: last.strays,
            },
            (None, None) => Self {
                exits: [0; EXITS],
                submissions: Cell::Nothing,
                interrupts: 0,
                strays: Strays::default(),
            },
        }
    }

    fn value(&self, row: usize) -> Cell<u64> {
        if let Some(&exits) = self.exits.get(row) {
            return Cell::Shows(exits);
        }
        match row - EXITS {
            0 => Cell::Shows(self.interrupts),
            1 => Cell::Shows(self.strays.accesses),
            2 => Cell::Shows(self.strays.msrs),
            3 => Cell::Shows(self.strays.instructions),
            row => match self.submissions {
                Cell::Shows(counters) => {
                    let values = counters.values();
                    Cell::of(values.get(row - OTHERS.len()).copied())
                }
                Cell::Nothing => Cell::Nothing,
                Cell::Busy => Cell::Busy,
            },
        }
    }
}

/// The name of a row.
fn name(row: usize) -> RowName {
    match Reason::ALL.get(row) {
        Some((_, name)) => RowName("exits: ", name),
        None => match row - EXITS {
            row if row < OTHERS.len() => RowName("", OTHERS.get(row).unwrap_or(&"?")),
            row => {
                let name = vdsa::Counters::NAMES.get(row - OTHERS.len());
                RowName("vDSA: ", name.unwrap_or(&"?"))
            }
        },
    }
}

struct RowName(&'static str, &'static str);

impl fmt::Display for RowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kind, name) = self;
        Cell::Shows(format_args!("{kind}{name}")).fmt(f)
    }
}

impl Stats {
    pub(super) fn next<B: Backend>(&mut self, world: &World<'_, B>, line: &mut Line) -> Next {
        match self.at {
            At::Machine(number) => {
                self.at = At::Machine(number + 1);
                match machine(number, world, line) {
                    Next::End => {
                        self.at = At::Processor(0);
                        put!(line, "CPU  VCPUS  VECTORS")
                    }
                    next => next,
                }
            }
            At::Processor(cpu) if cpu < percpu::all().len() => {
                self.at = At::Processor(cpu + 1);
                let used = world.hypervisor.host.routes.count_used(cpu);
                let count = world.hypervisor.processors.count(cpu);
                put!(line, "{cpu:>3}  {count:>5}  {used} of {VECTORS}")
            }
            At::Processor(_) => {
                self.at = At::Guests(0);
                Next::Skip
            }
            At::Guests(first) => self.guests(first, world, line),
            At::Row(first, row) if row < ROWS => {
                self.at = At::Row(first, row + 1);
                let values = || self.columns.iter().map(|column| column.value(row));
                if values().all(|value| matches!(value, Cell::Shows(0) | Cell::Nothing)) {
                    return Next::Skip;
                }
                put!(line, "{:<26}", name(row));
                for value in values() {
                    put!(line, " {value:>15}");
                }
                Next::Line
            }
            At::Row(first, _) => {
                self.at = At::Guests(first + SIDE_BY_SIDE);
                Next::Skip
            }
        }
    }

    fn guests<B: Backend>(&mut self, first: usize, world: &World<'_, B>, line: &mut Line) -> Next {
        let Some(records) = world.records.get(first..).filter(|rest| !rest.is_empty()) else {
            return Next::End;
        };
        self.columns.clear();
        for record in records.iter().take(SIDE_BY_SIDE) {
            let column = Column::of(record);
            if matches!(column.submissions, Cell::Busy) && world.is_patient {
                return Next::Busy;
            }
            self.columns.push(column);
        }
        self.at = At::Row(first, 0);
        put!(line, "{:<26}", "SINCE ITS START");
        for number in first..first + self.columns.len() {
            put!(line, " {:>15}", world.name(number).unwrap_or("?"));
        }
        Next::Line
    }
}

/// What is told of the machine.
fn machine<B: Backend>(number: usize, world: &World<'_, B>, line: &mut Line) -> Next {
    let host = world.hypervisor.host;
    match number {
        0 => put!(line, "time        {}", Nanoseconds(world.own.now_ns)),
        1 => {
            let free = frames::count_free();
            put!(
                line,
                "memory      {} free ({free} frames)",
                Bytes(free * PAGE_SIZE)
            )
        }
        2 => {
            let heap = heap_use();
            put!(
                line,
                "heap        {} bytes used, {} free",
                heap.used_bytes,
                Bytes(heap.free_bytes as u64)
            )
        }
        3 => put!(
            line,
            "PASIDs      {} host PASIDs in use",
            host.iommu.count_pasids()
        ),
        4 => {
            let (events, lost) = host.iommu.fault_events();
            put!(
                line,
                "IOMMU       {} faults, {events} events, {lost} times some were lost",
                world.faults.total()
            )
        }
        5 => put!(
            line,
            "interrupts  {} of nobody, {} at vectors that are nobody's",
            host.routes.count_strays(),
            trap::count_unexpected()
        ),
        6 => put!(
            line,
            "monitor     longest tick {}, longest line {}",
            Nanoseconds(world.own.longest_tick_ns),
            Nanoseconds(world.own.longest_line_ns)
        ),
        _ => Next::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_row_with_its_name() {
        let submissions = vdsa::Counters {
            submitted: 5,
            handed_on_interrupts: 9,
            ..vdsa::Counters::default()
        };
        let mut column = Column {
            exits: [0; EXITS],
            submissions: Cell::Shows(submissions),
            interrupts: 3,
            strays: Strays {
                accesses: 4,
                msrs: 8,
                instructions: 6,
            },
        };
        column.exits[Reason::Halt as usize] = 7;
        let rows: std::vec::Vec<_> = (0..ROWS)
            .map(|row| std::format!("{:<28}{:>4}", name(row), column.value(row)))
            .filter(|row| !row.ends_with("   0"))
            .collect();
        assert_eq!(
            rows,
            [
                "exits: halt                    7",
                "completion interrupts          3",
                "accesses to nowhere            4",
                "MSRs that are not there        8",
                "unknown instructions           6",
                "vDSA: submitted                5",
                "vDSA: interrupts handed on     9",
            ]
        );
        column.submissions = Cell::Busy;
        assert_eq!(column.value(ROWS - 1), Cell::Busy);
        assert_eq!(column.value(0), Cell::Shows(0));
    }
}
