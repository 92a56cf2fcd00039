//! A queue and an instruction for it: work goes in, completions come out.

use core::fmt;
use core::time::Duration;

use guest_rt::clock::Deadline;
use guest_rt::dsa::{Batch, Instruction, Queue, Records, Submission, Work};
use guest_rt::interrupts;
use hwspec::dsa::{CompletionRecord, Status};

use crate::tally::Tally;

/// Work that did not come back. The device may still write to its buffers, so the
/// guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// The queue took nothing.
    Full(usize),
    /// No completion record, or no interrupt.
    Silent {
        /// The queue.
        queue: usize,
        /// Whether the records were written.
        is_written: bool,
        /// Whether an interrupt came.
        is_interrupted: bool,
    },
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(queue) => write!(f, "wq{queue} takes no work"),
            Self::Silent {
                queue,
                is_written,
                is_interrupted,
            } => write!(
                f,
                "wq{queue} does not complete: records written: {is_written}, interrupt: {is_interrupted}"
            ),
        }
    }
}

/// A way for work to go.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: Queue,
    pub(crate) instruction: Instruction,
    /// How long one piece of work may take.
    limit: Duration,
    /// As many as the queue has entries.
    records: Records,
}

impl Lane {
    pub(crate) fn new(queue: Queue, instruction: Instruction, limit: Duration) -> Self {
        Self {
            queue,
            instruction,
            limit,
            records: Records::new(queue.size.max(1)),
        }
    }

    /// Does `work`, waits for its interrupt, and returns its record.
    pub(crate) fn run(&self, tally: &mut Tally, work: Work) -> Result<CompletionRecord, Stuck> {
        let [record] = self.run_together(tally, [work])?;
        Ok(record)
    }

    /// Does `work` and expects success.
    pub(crate) fn expect(
        &self,
        tally: &mut Tally,
        work: Work,
        what: fmt::Arguments<'_>,
    ) -> Result<CompletionRecord, Stuck> {
        let record = self.run(tally, work)?;
        let status = record.word0.status();
        tally.check(
            status == Status::SUCCESS,
            format_args!("wq{} {what}: {status}", self.queue.index),
        );
        Ok(record)
    }

    /// How much [`run_together`](Self::run_together) can do at once.
    pub(crate) fn depth(&self) -> usize {
        self.records.count()
    }

    /// Does several things at the same time, each with its own record and interrupt.
    /// Interrupts that come together may be one.
    ///
    /// # Panics
    /// If they are more than the queue has entries.
    pub(crate) fn run_together<const N: usize>(
        &self,
        tally: &mut Tally,
        works: [Work; N],
    ) -> Result<[CompletionRecord; N], Stuck> {
        let before = interrupts::count(self.queue.vector);
        for (index, work) in works.iter().enumerate() {
            self.records.clear(index);
            let work = work.record(self.records.address(index));
            self.submit(tally, work.interrupt(self.queue.handle), 1)?;
        }
        self.wait(before, || {
            (0..N).rev().all(|index| self.records.is_written(index))
        })?;
        tally.completed += N as u64;
        Ok(core::array::from_fn(|index| self.records.read(index)))
    }

    /// Does a batch and waits for its interrupt. The records are the batch's.
    pub(crate) fn run_batch(&self, tally: &mut Tally, batch: &Batch) -> Result<(), Stuck> {
        let before = interrupts::count(self.queue.vector);
        let work = batch.work().interrupt(self.queue.handle);
        let descriptors = 1 + batch.count() as u64;
        self.submit(tally, work, descriptors)?;
        self.wait(before, || batch.records().is_written(batch.own()))?;
        tally.completed += descriptors;
        Ok(())
    }

    fn submit(&self, tally: &mut Tally, work: Work, descriptors: u64) -> Result<(), Stuck> {
        let work = work.pasid(match self.instruction {
            Instruction::Enqcmds => self.queue.pasid.unwrap_or(0),
            _ => 0,
        });
        let deadline = Deadline::after(self.limit);
        while self.queue.portal.submit(&work, self.instruction) == Submission::Retry {
            tally.retried += 1;
            if deadline.has_passed() {
                return Err(Stuck::Full(self.queue.index));
            }
            core::hint::spin_loop();
        }
        tally.submitted += descriptors;
        Ok(())
    }

    /// Halts until there was an interrupt since `before`, and `is_written`.
    fn wait(&self, before: u32, is_written: impl Fn() -> bool) -> Result<(), Stuck> {
        let is_interrupted = || interrupts::count(self.queue.vector) != before;
        if interrupts::wait_until(self.limit, || is_interrupted() && is_written()) {
            return Ok(());
        }
        Err(Stuck::Silent {
            queue: self.queue.index,
            is_written: is_written(),
            is_interrupted: is_interrupted(),
        })
    }
}
