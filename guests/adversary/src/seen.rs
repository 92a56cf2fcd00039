//! What came of attempts, counted.

use alloc::collections::BTreeMap;
use core::fmt;

use guest_rt::Exception;
use hwspec::dsa::{CompletionRecord, Status, SwError0};

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A completion record.
    Completed(CompletionRecord),
    /// No record, but an error in SWERROR.
    Error(SwError0),
    /// The instruction raised an exception.
    Raised(Exception),
    /// ENQCMD(S) said to try again.
    Retry,
    /// Nothing at all.
    Silence,
}

impl Answer {
    /// The status code, in a record or in SWERROR.
    pub(crate) fn status(&self) -> Option<Status> {
        match self {
            Self::Completed(record) => Some(record.word0.status()),
            Self::Error(error) => Some(error.error_code()),
            _ => None,
        }
    }

    /// Whether the device did what it was told to.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Self::Completed(record) if record.word0.status().is_success())
    }
}

/// How often which answer came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    records: BTreeMap<u8, u32>,
    errors: BTreeMap<u8, u32>,
    exceptions: BTreeMap<u8, u32>,
    retries: u32,
    silence: u32,
}

impl Seen {
    pub(crate) fn add(&mut self, answer: &Answer) {
        match answer {
            Answer::Completed(record) => {
                *self.records.entry(record.word0.status().0).or_default() += 1;
            }
            Answer::Error(error) => {
                *self.errors.entry(error.error_code().0).or_default() += 1;
            }
            Answer::Raised(exception) => self.raised(*exception),
            Answer::Retry => self.retries += 1,
            Answer::Silence => self.silence += 1,
        }
    }

    pub(crate) fn raised(&mut self, exception: Exception) {
        *self.exceptions.entry(exception.vector).or_default() += 1;
    }

    /// How many attempts completed without an error.
    pub(crate) fn successes(&self) -> u32 {
        let success = |status| self.records.get(&status).copied().unwrap_or(0);
        success(Status::SUCCESS.0) + success(Status::FALSE_PREDICATE.0)
    }

    /// How many raised an exception.
    pub(crate) fn exceptions(&self) -> u32 {
        self.exceptions.values().sum()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (&status, count) in &self.records {
            write!(f, "{separator}{count} x {}", Status(status))?;
            separator = ", ";
        }
        for (&code, count) in &self.errors {
            write!(f, "{separator}{count} x SWERROR {}", Status(code))?;
            separator = ", ";
        }
        for (&vector, count) in &self.exceptions {
            let name = match vector {
                Exception::INVALID_OPCODE => "#UD",
                Exception::GENERAL_PROTECTION => "#GP",
                Exception::PAGE_FAULT => "#PF",
                _ => "another exception",
            };
            write!(f, "{separator}{count} x {name}")?;
            separator = ", ";
        }
        for (count, name) in [(self.retries, "retry"), (self.silence, "silence")] {
            if count > 0 {
                write!(f, "{separator}{count} x {name}")?;
                separator = ", ";
            }
        }
        if separator.is_empty() {
            f.write_str("nothing")?;
        }
        Ok(())
    }
}
