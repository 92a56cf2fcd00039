//! The record of refusals, for the operator.

use core::fmt;

use hwspec::dsa::Operation;
use hwspec::pci::Pasid;

use super::Rule;
use crate::QueueIndex;

/// How many refusals are kept.
const KEPT: usize = Refusals::KEPT;

/// Whose handle or PASID a refused descriptor named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Neither matters.
    Nothing,
    /// An interrupt handle that no vector of this guest has.
    NobodysHandle,
    /// The interrupt handle of a vector whose slot belongs to another PASID.
    HandleOf {
        /// The virtual vector.
        vector: u16,
        /// The host PASID of its slot; nothing if the guest named one that is unknown.
        pasid: Option<Pasid>,
        /// The host PASID that the descriptor runs with.
        descriptor: Pasid,
    },
    /// A guest PASID.
    GuestPasid(Pasid),
}

/// One refused descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it did wrong.
    pub rule: Rule,
    /// What stood in the [field](Rule::field).
    pub value: u64,
    /// Whose handle or PASID it named.
    pub named: Named,
    /// The virtual queue.
    pub queue: QueueIndex,
    /// The operation.
    pub operation: Operation,
    /// The position in its batch.
    pub member: Option<u16>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            value,
            queue,
            operation,
            ..
        } = self;
        write!(f, "queue {}, {operation}", queue.value())?;
        if let Some(member) = self.member {
            write!(f, ", member {member} of a batch")?;
        }
        write!(f, ": {}, {} = {value:#x}", rule.title(), rule.field())?;
        match self.named {
            Named::Nothing => {}
            Named::NobodysHandle => write!(f, " (no vector of this guest)")?,
            Named::HandleOf {
                vector,
                pasid: Some(pasid),
                descriptor,
            } => write!(
                f,
                " (vector {vector}, of host PASID {pasid}; the descriptor has {descriptor})"
            )?,
            Named::HandleOf {
                vector,
                pasid: None,
                ..
            } => write!(f, " (vector {vector}, of an unknown PASID)")?,
            Named::GuestPasid(pasid) => write!(f, " (guest PASID {pasid})")?,
        }
        write!(f, "; {}", rule.advice())
    }
}

/// How often each rule was broken, and the last descriptors that broke one.
#[derive(Clone, Debug)]
pub struct Refusals {
    counts: [u64; Rule::COUNT],
    last: [Option<Refusal>; KEPT],
    next: usize,
}

impl Refusals {
    /// How many descriptors are kept.
    pub const KEPT: usize = 32;

    pub(super) const fn new() -> Self {
        Self {
            counts: [0; Rule::COUNT],
            last: [None; KEPT],
            next: 0,
        }
    }

    #[cold]
    pub(super) fn record(&mut self, refusal: Refusal) {
        if let Some(count) = self.counts.get_mut(refusal.rule as usize) {
            *count += 1;
        }
        if let Some(place) = self.last.get_mut(self.next) {
            *place = Some(refusal);
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// How often the rule was broken.
    pub fn count(&self, rule: Rule) -> u64 {
        self.counts.get(rule as usize).copied().unwrap_or(0)
    }

    /// How often any rule was broken.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The last refusals, [`KEPT`](Self::KEPT) at the most, from the oldest to the newest.
    pub fn recent(&self) -> impl Iterator<Item = &Refusal> {
        let (newer, older) = self.last.split_at(self.next.min(KEPT));
        older.iter().chain(newer).flatten()
    }
}

#[cfg(test)]
#[path = "refusals_tests.rs"]
mod tests;
