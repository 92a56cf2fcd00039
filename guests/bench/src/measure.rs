//! The measurements.

use alloc::vec::Vec;
use core::time::Duration;

use guest_rt::clock::{spin_until, ticks};
use guest_rt::dsa::{Batch, Device, Instruction, Queue, Records, Submission, Work};
use guest_rt::hypercall::{self, Key, report};
use guest_rt::{Guest, interrupts};

/// How long one piece of work may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Members of a batch.
const MEMBERS: usize = 64;

/// What something cost, in ticks, of all times that it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) least: u64,
    pub(crate) median: u64,
    pub(crate) most: u64,
}

/// How often each is done, and what it is done with.
#[derive(Debug)]
pub(crate) struct Bench {
    times: u64,
    records: Records,
    batch: Batch,
}

impl Bench {
    pub(crate) fn new(times: u64) -> Self {
        let mut batch = Batch::new(MEMBERS);
        for _ in 0..MEMBERS {
            batch.push_as_it_is(Work::no_op());
        }
        Self {
            times: times.clamp(1, 10_000),
            records: Records::new(1),
            batch,
        }
    }

    /// Does `once` many times between the two marks of measurement `id`. It returns the
    /// ticks that it took.
    fn repeat<E>(&self, id: u64, mut once: impl FnMut() -> Result<u64, E>) -> Result<Cost, E> {
        // Once to warm up, outside of the marks.
        once()?;
        let mut costs = Vec::new();
        report(Key::BenchBegin, id);
        for _ in 0..self.times {
            costs.push(once()?);
        }
        report(Key::BenchEnd, id);
        costs.sort_unstable();
        let at = |index: usize| costs.get(index).copied().unwrap_or(0);
        Ok(Cost {
            least: at(0),
            median: at(costs.len() / 2),
            most: at(costs.len().saturating_sub(1)),
        })
    }

    /// The floor.
    pub(crate) fn nothing(&self) -> Cost {
        let cost = self.repeat(1, || Ok::<_, ()>(elapsed(|| ())));
        cost.unwrap_or_default()
    }

    /// An exit that does next to nothing; nothing where there is no hypervisor.
    pub(crate) fn hypercall(&self, guest: &Guest) -> Cost {
        if !guest.platform.is_weir() {
            return Cost::default();
        }
        let mark = || {
            hypercall::call(Key::Mark as u64, 0);
        };
        let cost = self.repeat(2, || Ok::<_, ()>(elapsed(mark)));
        cost.unwrap_or_default()
    }

    /// An exit that decodes an instruction.
    pub(crate) fn register(&self, device: &Device) -> Cost {
        let load = || {
            device.state();
        };
        let cost = self.repeat(10, || Ok::<_, ()>(elapsed(load)));
        cost.unwrap_or_default()
    }

    /// One submission, and then enough time for the device.
    pub(crate) fn submission(
        &self,
        id: u64,
        queue: &Queue,
        by: Instruction,
    ) -> Result<Cost, &'static str> {
        let words = named(Work::no_op(), queue, by).words();
        // With a record, and waited for, so that the queue is empty again.
        let last = named(Work::no_op(), queue, by).record(self.records.address(0));
        self.repeat(id, || {
            let mut submission = Submission::Retry;
            let cost = elapsed(|| submission = queue.portal.submit_words(&words, by));
            if submission == Submission::Retry {
                return Err("a submission to an empty queue is to be tried again");
            }
            self.records.clear(0);
            queue.portal.submit(&last, by);
            self.wait_for(|| self.records.is_written(0))?;
            Ok(cost)
        })
    }

    /// One submission of a batch.
    pub(crate) fn batch(&self, queue: &Queue) -> Result<Cost, &'static str> {
        self.fits(queue)?;
        self.repeat(6, || {
            let words = self.batch.work().words();
            let cost = elapsed(|| {
                queue.portal.submit_words(&words, queue.instruction);
            });
            self.wait_for(|| self.batch.records().is_written(self.batch.own()))?;
            Ok(cost)
        })
    }

    /// From before the submission until the handler runs.
    pub(crate) fn interrupt(&self, queue: &Queue, halted: bool) -> Result<Cost, &'static str> {
        let work = named(Work::no_op(), queue, queue.instruction);
        let work = work.record(self.records.address(0)).interrupt(queue.handle);
        let words = work.words();
        self.repeat(if halted { 7 } else { 8 }, || {
            self.records.clear(0);
            from_submission_to_handler(queue, &words, halted)
        })
    }

    /// The same of a batch.
    pub(crate) fn batch_interrupt(&self, queue: &Queue) -> Result<Cost, &'static str> {
        self.fits(queue)?;
        self.repeat(9, || {
            let work = self.batch.work().interrupt(queue.handle);
            from_submission_to_handler(queue, &work.words(), true)
        })
    }

    fn fits(&self, queue: &Queue) -> Result<(), &'static str> {
        if queue.limits.batch < MEMBERS {
            return Err("the queue takes no batch of 64");
        }
        Ok(())
    }

    fn wait_for(&self, is_done: impl FnMut() -> bool) -> Result<(), &'static str> {
        if spin_until(LIMIT, is_done) {
            Ok(())
        } else {
            Err("no completion record")
        }
    }
}

/// `work` with the PASID that ENQCMDS takes from it.
fn named(work: Work, queue: &Queue, by: Instruction) -> Work {
    match by {
        Instruction::Enqcmds => work.pasid(queue.pasid.unwrap_or(0)),
        _ => work,
    }
}

/// Ticks that `what` takes.
#[inline]
fn elapsed(what: impl FnOnce()) -> u64 {
    let before = ticks();
    what();
    ticks().wrapping_sub(before)
}

fn from_submission_to_handler(
    queue: &Queue,
    words: &[u64; 8],
    halted: bool,
) -> Result<u64, &'static str> {
    let before = interrupts::count(queue.vector);
    let is_done = || interrupts::count(queue.vector) != before;
    let start = ticks();
    queue.portal.submit_words(words, queue.instruction);
    let came = if halted {
        interrupts::wait_until(LIMIT, is_done)
    } else {
        interrupts::run_until(LIMIT, is_done)
    };
    if came {
        Ok(interrupts::last_arrival().wrapping_sub(start))
    } else {
        Err("no interrupt")
    }
}
