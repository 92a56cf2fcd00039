//! What every attack works with: the device, buffers, and attempts that are watched.

use alloc::string::String;
use core::time::Duration;

use guest_rt::dsa::{Device, Error, Instruction, Pasids, Queue, Records, Submission, Work};
use guest_rt::hypercall::{Key, report};
use guest_rt::memory::Buffer;
use guest_rt::probe::{self, Foreign};
use guest_rt::{Guest, clock, interrupts};
use hwspec::dsa::CompletionRecord;

use crate::seen::{Answer, Seen};

/// How long an answer may take before it counts as silence. A device that is slow only
/// makes the guest say "silence" where it could have said more.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long honest work may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Bytes of each buffer.
pub(crate) const ROOM: usize = 64 * 1024;
/// What the target holds where nothing was written.
pub(crate) const UNTOUCHED: u8 = 0xc3;
/// What the source holds.
pub(crate) const OWN: u8 = 0x3c;

/// What an attack came to.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Whether the guest was kept in. Only what this guest can see counts.
    pub(crate) is_contained: bool,
    /// What it saw.
    pub(crate) saw: String,
}

/// The counts that are reported.
#[derive(Debug, Default)]
struct Counts {
    submitted: u64,
    completed: u64,
    retried: u64,
    errors: u64,
}

/// The device and what belongs to it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) guest: &'static Guest,
    pub(crate) device: Device,
    pub(crate) pasids: Pasids,
    pub(crate) records: Records,
    pub(crate) source: Buffer,
    pub(crate) target: Buffer,
    /// 1,024 descriptors, all zero, which are no-ops, until somebody writes to them.
    pub(crate) list: Buffer,
    /// Submissions of the flood, and rounds of the races.
    pub(crate) effort: u64,
    counts: Counts,
}

impl Stage {
    pub(crate) fn new(guest: &'static Guest, device: Device, pasids: Pasids, effort: u64) -> Self {
        let source = Buffer::new(ROOM);
        source.fill(0, ROOM, OWN);
        Self {
            guest,
            device,
            pasids,
            records: Records::new(16),
            source,
            target: Buffer::new(ROOM),
            list: Buffer::new(ROOM),
            effort,
            counts: Counts::default(),
        }
    }

    /// The queue that most attacks go through.
    ///
    /// # Panics
    /// If there is none; the guest does not begin then.
    pub(crate) fn queue(&self) -> Queue {
        *self.device.queues().first().expect("there is a queue")
    }

    /// The first shared queue.
    pub(crate) fn shared_queue(&self) -> Option<Queue> {
        let mut queues = self.device.queues().iter();
        queues.find(|queue| !queue.is_dedicated).copied()
    }

    /// Makes the target as if nothing had ever been written to it.
    pub(crate) fn prepare_target(&self) {
        self.target.fill(0, ROOM, UNTOUCHED);
    }

    /// An honest copy from the source to the target.
    pub(crate) fn copy(&self, length: u32) -> Work {
        Work::memory_move(self.source.address(0), self.target.address(0), length)
    }

    /// Tries `work` on the first queue, with record 0, and watches.
    pub(crate) fn attempt(&mut self, work: Work) -> Answer {
        let work = work.record(self.records.address(0));
        self.attempt_with_record(work)
    }

    /// As [`attempt`](Self::attempt), with the record that `work` has. Record 0 is
    /// watched all the same.
    pub(crate) fn attempt_with_record(&mut self, work: Work) -> Answer {
        let queue = self.queue();
        let work = match queue.pasid {
            Some(pasid) if !queue.is_dedicated => work.pasid(pasid),
            _ => work,
        };
        self.attempt_words(&work.words())
    }

    /// Tries 64 bytes on the first queue. Record 0 is watched whether they name it or
    /// not.
    pub(crate) fn attempt_words(&mut self, words: &[u64; 8]) -> Answer {
        let queue = self.queue();
        self.attempt_at(queue.portal.address(), queue.instruction, words)
    }

    /// Tries 64 bytes at a portal.
    pub(crate) fn attempt_at(&mut self, portal: u64, by: Instruction, words: &[u64; 8]) -> Answer {
        self.records.clear(0);
        self.device.take_error();
        let Some(at) = Foreign::new(portal) else {
            return Answer::Silence;
        };
        let submission = match by {
            Instruction::Movdir64b => probe::movdir64b(at, words).map(|()| Submission::Accepted),
            Instruction::Enqcmd => probe::enqcmd(at, words),
            Instruction::Enqcmds => probe::enqcmds(at, words),
        };
        match submission {
            Err(exception) => return Answer::Raised(exception),
            Ok(Submission::Retry) => {
                self.counts.retried += 1;
                return Answer::Retry;
            }
            Ok(Submission::Accepted) => self.counts.submitted += 1,
        }
        // SWERROR is a register and far away: asked twice, not in a loop.
        for patience in [PATIENCE / 10, PATIENCE] {
            if let Some(record) = self.wait_for_record(patience) {
                return Answer::Completed(record);
            }
            if let Some(error) = self.device.take_error() {
                // Some errors are in the record too, which may have come just now.
                let record = self.wait_for_record(Duration::ZERO);
                return record.map_or(Answer::Error(error), Answer::Completed);
            }
        }
        Answer::Silence
    }

    /// Record 0, if it is written within `patience`.
    fn wait_for_record(&mut self, patience: Duration) -> Option<CompletionRecord> {
        let records = &self.records;
        if !clock::spin_until(patience, || records.is_written(0)) {
            return None;
        }
        self.counts.completed += 1;
        let record = self.records.read(0);
        if !record.word0.status().is_success() {
            self.counts.errors += 1;
        }
        Some(record)
    }

    /// Counts what was submitted without being watched.
    pub(crate) fn count_submitted(&mut self, count: u64) {
        self.counts.submitted += count;
    }

    /// Counts what was to be tried again.
    pub(crate) fn count_retried(&mut self, count: u64) {
        self.counts.retried += count;
    }

    /// Brings the device up again after an attack, and lets it do honest work.
    ///
    /// # Errors
    /// Why that is not possible.
    pub(crate) fn recover(&mut self) -> Result<(), Recovery> {
        self.device.revive().map_err(Recovery::Start)?;
        let features = self.guest.features;
        self.device
            .start(features, self.pasids)
            .map_err(Recovery::Start)?;
        self.device.take_causes();
        self.device.take_error();
        self.prepare_target();
        self.source.fill(0, ROOM, OWN);
        let queue = self.queue();
        let before = interrupts::count(queue.vector);
        let mut answer = self.attempt(self.copy(1000).interrupt(queue.handle));
        if let Answer::Silence = answer
            && let Some(record) = self.wait_for_record(LIMIT)
        {
            // Honest work is answered, but may wait longer than an attack is watched: others
            // use the device and the processors too.
            answer = Answer::Completed(record);
        }
        let came = interrupts::wait_until(LIMIT, || interrupts::count(queue.vector) != before);
        let is_right = self.target.is_all(0, 1000, OWN);
        if answer.is_success() && came && is_right {
            return Ok(());
        }
        Err(Recovery::Work {
            answer,
            came,
            is_right,
        })
    }

    /// Hands the counts to Weir.
    pub(crate) fn report(&self) {
        let vectors = self.device.queues().iter().map(|queue| queue.vector);
        let interrupts = vectors
            .map(|vector| u64::from(interrupts::count(vector)))
            .sum();
        for (key, value) in [
            (Key::Submitted, self.counts.submitted),
            (Key::Completed, self.counts.completed),
            (Key::Interrupts, interrupts),
            (Key::Retried, self.counts.retried),
            (Key::Errors, self.counts.errors),
        ] {
            report(key, value);
        }
    }
}

/// Why the device does not do honest work any more.
#[derive(Debug)]
pub(crate) enum Recovery {
    /// It does not come up.
    Start(Error),
    /// It does not do a copy.
    Work {
        answer: Answer,
        came: bool,
        is_right: bool,
    },
}

impl core::fmt::Display for Recovery {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Start(error) => write!(f, "{error}"),
            Self::Work {
                answer,
                came,
                is_right,
            } => {
                let mut seen = Seen::default();
                seen.add(answer);
                write!(
                    f,
                    "a copy: {seen}, interrupt: {came}, bytes right: {is_right}"
                )
            }
        }
    }
}
