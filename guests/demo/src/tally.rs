//! What the guest counts, and reports.

use core::fmt;

use guest_rt::hypercall::{Key, report};
use guest_rt::println;

/// Failures that are printed; the others are only counted.
const SHOWN_FAILURES: u64 = 10;

/// All counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Descriptors that a portal took; a batch counts 1, and its members.
    pub(crate) submitted: u64,
    /// Descriptors whose completion was seen.
    pub(crate) completed: u64,
    /// ENQCMD(S) that had to be tried again.
    pub(crate) retried: u64,
    /// Completions with an error that was provoked.
    pub(crate) errors: u64,
    /// Completion interrupts of all queues.
    pub(crate) interrupts: u64,
    /// Checks.
    pub(crate) checks: u64,
    /// Those that failed.
    pub(crate) failed: u64,
}

impl Tally {
    /// Counts a check, and prints what failed.
    pub(crate) fn check(&mut self, is_right: bool, what: fmt::Arguments<'_>) {
        self.checks += 1;
        if !is_right {
            self.failed += 1;
            if self.failed <= SHOWN_FAILURES {
                println!("demo: FAILED {what}");
            }
        }
    }

    /// Hands everything to Weir.
    pub(crate) fn report(&self) {
        for (key, value) in [
            (Key::Submitted, self.submitted),
            (Key::Completed, self.completed),
            (Key::Interrupts, self.interrupts),
            (Key::Checks, self.checks),
            (Key::Failed, self.failed),
            (Key::Retried, self.retried),
            (Key::Errors, self.errors),
        ] {
            report(key, value);
        }
    }
}
