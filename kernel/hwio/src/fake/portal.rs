//! Portals.

use std::cell::Cell;

use super::{Event, Log};
use crate::{Portal, Submission};

/// A portal that records what it gets and says what it was told to.
#[derive(Clone, Debug)]
pub struct FakePortal {
    log: Log,
    retries: Cell<usize>,
}

impl FakePortal {
    /// A portal that accepts.
    pub fn new(log: &Log) -> Self {
        Self {
            log: log.clone(),
            retries: Cell::new(0),
        }
    }

    /// Answers the next `count` submissions with [`Submission::Retry`].
    pub fn retry_next(&self, count: usize) {
        self.retries.set(count);
    }
}

impl Portal for FakePortal {
    fn submit(&self, descriptor: &[u64; 8]) -> Submission {
        self.log.add(Event::Submit {
            descriptor: *descriptor,
        });
        match self.retries.get() {
            0 => Submission::Accepted,
            left => {
                self.retries.set(left - 1);
                Submission::Retry
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_retries_as_often_as_it_was_told() {
        let log = Log::new();
        let portal = FakePortal::new(&log);
        portal.retry_next(1);
        assert_eq!(portal.submit(&[1; 8]), Submission::Retry);
        assert_eq!(portal.submit(&[2; 8]), Submission::Accepted);
        let submitted = [1, 2].map(|n| Event::Submit { descriptor: [n; 8] });
        assert_eq!(log.take(), submitted);
    }
}
