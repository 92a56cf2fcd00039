//! The bench side of the device, which software on the box cannot see: faults
//! on demand, violations, the trace.

use std::fs::{File, OpenOptions};
use std::io::{LineWriter, Write};
use std::path::Path;

use crate::completion::Status;
use crate::engine::Submission;
use crate::identity::{Identity, IdentityError};
use crate::memory::DmaFaultInjection;
use crate::trace::{self, Fate};
use crate::violation::Violations;

/// Faults that the bench asked for and that have not happened yet, and what
/// the bench sees of the device.
#[derive(Default)]
pub(crate) struct Bench {
    pub(crate) violations: Violations,
    pub(crate) dma_faults: DmaFaultInjection,
    trace: Option<Box<dyn Write + Send>>,
    gone: bool,
    lost_interrupts: u32,
    command_hangs: bool,
    command_failure: Option<u8>,
    completion_delay: Option<Delay>,
    errors: Option<ErrorBurst>,
    blocked_messages: u64,
}

#[derive(Debug)]
struct Delay {
    completions: u32,
    delay_ns: u64,
}

#[derive(Debug)]
struct ErrorBurst {
    descriptors: u32,
    status: u8,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Bench")
            .field("violations", &self.violations)
            .field("gone", &self.gone)
            .finish_non_exhaustive()
    }
}

impl Bench {
    /// Opens the files that the identity names.
    pub(crate) fn new(identity: &Identity) -> Result<Self, IdentityError> {
        let mut bench = Self::default();
        if let Some(path) = &identity.violations {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|error| IdentityError::of_file("violations", path, &error))?;
            bench.violations.set_sink(Box::new(file));
        }
        if let Some(path) = &identity.trace {
            bench
                .start_trace(path)
                .map_err(|error| IdentityError::of_file("trace", path, &error))?;
        }
        Ok(bench)
    }

    /// Traces into a new file from now on.
    pub(crate) fn start_trace(&mut self, path: &Path) -> std::io::Result<()> {
        self.trace = Some(Box::new(LineWriter::new(File::create(path)?)));
        Ok(())
    }

    pub(crate) fn stop_trace(&mut self) {
        self.trace = None;
    }

    /// Writes a descriptor into the trace, if there is one. A trace that
    /// cannot be written any more is given up.
    pub(crate) fn trace(&mut self, submission: &Submission, fate: Fate<'_>) {
        if let Some(sink) = &mut self.trace
            && trace::write_line(sink, submission, fate).is_err()
        {
            self.trace = None;
        }
    }

    /// A reset ends what hung.
    pub(crate) fn forget_command_faults(&mut self) {
        self.command_hangs = false;
        self.command_failure = None;
    }

    pub(crate) fn set_gone(&mut self, gone: bool) {
        self.gone = gone;
    }

    /// The device answers like one that fell off the bus.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    pub(crate) fn lose_interrupts(&mut self, count: u32) {
        self.lost_interrupts = count;
    }

    pub(crate) fn loses_interrupt(&mut self) -> bool {
        let lost = self.lost_interrupts > 0;
        self.lost_interrupts = self.lost_interrupts.saturating_sub(1);
        lost
    }

    pub(crate) fn hang_next_command(&mut self) {
        self.command_hangs = true;
    }

    pub(crate) fn takes_command_hang(&mut self) -> bool {
        std::mem::take(&mut self.command_hangs)
    }

    pub(crate) fn fail_next_command(&mut self, code: u8) {
        self.command_failure = Some(code);
    }

    pub(crate) fn takes_command_failure(&mut self) -> Option<u8> {
        self.command_failure.take()
    }

    pub(crate) fn delay_completions(&mut self, completions: u32, delay_ns: u64) {
        self.completion_delay = Some(Delay {
            completions,
            delay_ns,
        });
    }

    pub(crate) fn takes_completion_delay(&mut self) -> Option<u64> {
        let delay = self.completion_delay.as_mut()?;
        let delay_ns = delay.delay_ns;
        delay.completions = delay.completions.saturating_sub(1);
        if delay.completions == 0 {
            self.completion_delay = None;
        }
        Some(delay_ns)
    }

    pub(crate) fn burst_errors(&mut self, descriptors: u32, status: u8) {
        self.errors = Some(ErrorBurst {
            descriptors,
            status,
        });
    }

    pub(crate) fn takes_error(&mut self) -> Option<Status> {
        let burst = self.errors.as_mut()?;
        let status = Status(burst.status);
        burst.descriptors = burst.descriptors.saturating_sub(1);
        if burst.descriptors == 0 {
            self.errors = None;
        }
        Some(status)
    }

    pub(crate) fn count_blocked_message(&mut self) {
        self.blocked_messages += 1;
    }

    /// Interrupt messages that the platform refused.
    pub(crate) fn blocked_messages(&self) -> u64 {
        self.blocked_messages
    }
}
