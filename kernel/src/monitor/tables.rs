//! What the operator's questions are answered with, a line at a time.
//!
//! An [`Answer`] remembers how far it has come. Each call of [`Answer::next`] makes one
//! line from what is so at that moment; nothing waits, and nothing is put on the heap.
//! What somebody uses just then is asked for again later, and shown as busy in the end.

mod dsa;
mod help;
mod ims;
mod iommu;
mod pasids;
mod stats;
mod trace;
mod vms;
mod why;

use hwspec::pci::Pasid;

use super::command::Command;
use super::faults::FaultLog;
use super::text::Line;
use crate::virt::backend::Backend;
use crate::vm::hypervisor::{Hypervisor, Record};

pub use trace::MAX_PROCESSORS;

/// How often something that is busy is asked for again.
const PATIENCE: u32 = 50;

/// All that there is to see.
#[derive(Debug)]
pub struct World<'w, B: Backend> {
    /// The machine and its processors.
    pub hypervisor: &'static Hypervisor<B>,
    /// The guests.
    pub records: &'w [Record<B>],
    /// What the IOMMUs refused.
    pub faults: &'w FaultLog,
    /// Of the monitor itself.
    pub own: Own,
    /// Whether what is busy is to be asked for again.
    pub is_patient: bool,
}

/// What the monitor knows of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own {
    /// Nanoseconds since the monitor began.
    pub now_ns: u64,
    /// The longest of its ticks so far, in nanoseconds.
    pub longest_tick_ns: u64,
    /// The longest that one line took.
    pub longest_line_ns: u64,
}

impl<B: Backend> World<'_, B> {
    /// The name of a guest by its number.
    pub fn name(&self, number: usize) -> Option<&str> {
        let plan = self.hypervisor.plan.guests.get(number)?;
        Some(&plan.name)
    }

    /// Whose a host PASID is.
    fn owner(&self, pasid: Pasid) -> Option<&str> {
        let number = self.hypervisor.host.iommu.owner(pasid)?;
        self.name(number.into())
    }
}

/// What came of asking for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is there.
    Line,
    /// There is none here, but there may be one behind.
    Skip,
    /// Somebody uses what it is about.
    Busy,
    /// There are no more.
    End,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it shall not need heap"
)]
enum Table {
    Help(help::Help),
    Vms(vms::Vms),
    Dsa(dsa::Dsa),
    Ims(ims::Ims),
    Pasids(pasids::Pasids),
    Iommu(iommu::Units),
    Stats(stats::Stats),
    Trace(trace::Trace),
    Why(why::Why),
}

/// An answer that is being given.
#[derive(Debug)]
pub struct Answer {
    table: Table,
    busy: u32,
}

impl Answer {
    /// The answer to a question, if it is one; `guest` is the number of the guest that it
    /// names.
    pub fn to(command: Command<'_>, guest: Option<usize>) -> Option<Self> {
        let table = match command {
            Command::Help => Table::Help(help::Help::default()),
            Command::Vms => Table::Vms(vms::Vms::default()),
            Command::Dsa => Table::Dsa(dsa::Dsa::default()),
            Command::Ims => Table::Ims(ims::Ims::default()),
            Command::Pasids => Table::Pasids(pasids::Pasids::default()),
            Command::Iommu => Table::Iommu(iommu::Units::default()),
            Command::Stats => Table::Stats(stats::Stats::default()),
            Command::Trace => Table::Trace(trace::Trace::default()),
            Command::Why(_) => Table::Why(why::Why::new(guest)),
            _ => return None,
        };
        Some(Self { table, busy: 0 })
    }

    /// The next line, into `line`.
    pub fn next<B: Backend>(&mut self, world: &mut World<'_, B>, line: &mut Line) -> Next {
        line.clear();
        world.is_patient = self.busy < PATIENCE;
        let next = match &mut self.table {
            Table::Help(table) => table.next(line),
            Table::Vms(table) => table.next(world, line),
            Table::Dsa(table) => table.next(world, line),
            Table::Ims(table) => table.next(world, line),
            Table::Pasids(table) => table.next(world, line),
            Table::Iommu(table) => table.next(world, line),
            Table::Stats(table) => table.next(world, line),
            Table::Trace(table) => table.next(world, line),
            Table::Why(table) => table.next(world, line),
        };
        self.busy = if next == Next::Busy { self.busy + 1 } else { 0 };
        next
    }
}

/// Writes into a line, which takes everything.
macro_rules! put {
    ($line:expr, $($argument:tt)*) => {{
        use core::fmt::Write as _;
        let _ = write!($line, $($argument)*);
        $crate::monitor::tables::Next::Line
    }};
}
use put;

#[cfg(test)]
fn shown(what: &dyn core::fmt::Display) -> std::string::String {
    use std::string::ToString;
    what.to_string()
}
