//! The verdicts: one line for each check, and the count of both kinds.

use core::fmt::{Debug, Display};

use crate::console::println;

/// Collects the results of one run.
#[derive(Debug)]
pub(crate) struct Report {
    passed: u32,
    failed: u32,
}

impl Report {
    pub(crate) const fn new() -> Self {
        Self {
            passed: 0,
            failed: 0,
        }
    }

    /// Records whether `got` is what the specification lets one expect.
    pub(crate) fn equal<T: PartialEq + Debug>(&mut self, name: impl Display, got: T, expected: T) {
        if got == expected {
            self.passed += 1;
            println!("ok {name}");
        } else {
            self.failed += 1;
            println!("FAIL {name}: expected {expected:x?}, got {got:x?}");
        }
    }

    /// Records whether something holds.
    pub(crate) fn holds(&mut self, name: impl Display, got: bool) {
        self.equal(name, got, true);
    }

    /// Prints the last line. True if nothing failed, and something passed.
    pub(crate) fn finish(&self) -> bool {
        println!("passed {} failed {}", self.passed, self.failed);
        self.failed == 0 && self.passed > 0
    }
}
