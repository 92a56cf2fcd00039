//! What silicon would tolerate and a driver should not do: recorded, so that a
//! test can fail on it.

use std::io::Write;

/// Violations kept in memory; beyond it they are counted only.
const KEPT: usize = 256;

/// The violations that this device has seen.
#[derive(Default)]
pub(crate) struct Violations {
    kept: Vec<String>,
    total: u64,
    sink: Option<Box<dyn Write + Send>>,
}

impl std::fmt::Debug for Violations {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Violations")
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl Violations {
    /// Also writes each violation to `sink` as a line, when it happens.
    pub(crate) fn set_sink(&mut self, sink: Box<dyn Write + Send>) {
        self.sink = Some(sink);
    }

    /// Records one, a sentence that names the register or descriptor and the
    /// rule.
    pub(crate) fn record(&mut self, violation: String) {
        self.total += 1;
        if let Some(sink) = &mut self.sink {
            // A full disk must not take the device down with it.
            let _ = writeln!(sink, "{violation}");
        }
        if self.kept.len() < KEPT {
            self.kept.push(violation);
        }
    }

    /// The first violations, oldest first.
    pub(crate) fn kept(&self) -> &[String] {
        &self.kept
    }

    /// How many there were.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.total = 0;
    }
}
