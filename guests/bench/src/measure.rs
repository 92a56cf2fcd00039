//! The measurements.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use guest_rt::clock::{spin_until, ticks};
use guest_rt::cost::{self, Arrival};
use guest_rt::dsa::{Batch, Device, Instruction, Queue, Records, Submission, Work};
use guest_rt::hypercall::{self, Key, report};
use guest_rt::memory::Buffer;
use guest_rt::{Guest, interrupts};

/// How long one piece of work may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Members of a batch.
const MEMBERS: usize = 64;
/// Bytes of a copy: little work, since it is not the device that is measured.
const COPIED: u32 = 64;
/// Bytes of a copy that ends only when its submission has been measured.
const COPIED_FOR_LONG: u32 = 0x1_0000;
/// An interrupt that comes after fewer readings may have been there before.
const FEW_READINGS: u32 = 8;
/// How often an interrupt may come too early.
const TRIES: u32 = 10;
/// How often the second processor is interrupted.
const TIMES_ON_SECOND: u64 = 4;
/// Nothing has come to the second processor.
const NOTHING: u32 = 0;

/// What the last interrupt of the second processor cost.
static ON_SECOND: AtomicU32 = AtomicU32::new(NOTHING);

/// What something cost, in ticks, of all times that it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) least: u64,
    pub(crate) median: u64,
    pub(crate) most: u64,
}

impl Cost {
    fn of(mut costs: Vec<u64>) -> Self {
        costs.sort_unstable();
        let at = |index: usize| costs.get(index).copied().unwrap_or(0);
        Self {
            least: at(0),
            median: at(costs.len() / 2),
            most: at(costs.len().saturating_sub(1)),
        }
    }
}

/// How often each is done, and what it is done with.
#[derive(Debug)]
pub(crate) struct Bench {
    times: u64,
    records: Records,
    batch: Batch,
    /// What is copied, and where to.
    buffers: [Buffer; 2],
}

impl Bench {
    pub(crate) fn new(times: u64) -> Self {
        let bytes = COPIED_FOR_LONG as usize;
        let buffers = [Buffer::new(bytes), Buffer::new(bytes)];
        let mut batch = Batch::new(MEMBERS);
        for index in 0..MEMBERS {
            batch.push(copy(&buffers, index));
        }
        Self {
            times: times.clamp(1, 10_000),
            records: Records::new(1),
            batch,
            buffers,
        }
    }

    /// Does `once` many times between the two marks of measurement `id`. It returns what
    /// it found.
    fn repeat<T, E>(&self, id: u64, mut once: impl FnMut() -> Result<T, E>) -> Result<Vec<T>, E> {
        // Once to warm up, outside of the marks.
        once()?;
        let mut found = Vec::new();
        report(Key::BenchBegin, id);
        for _ in 0..self.times {
            found.push(once()?);
        }
        report(Key::BenchEnd, id);
        Ok(found)
    }

    /// The floor.
    pub(crate) fn nothing(&self) -> Cost {
        let costs = self.repeat(1, || Ok::<_, ()>(elapsed(|| ())));
        Cost::of(costs.unwrap_or_default())
    }

    /// An exit that does next to nothing; nothing where there is no hypervisor.
    pub(crate) fn hypercall(&self, guest: &Guest) -> Cost {
        if !guest.platform.is_weir() {
            return Cost::default();
        }
        let mark = || {
            hypercall::call(Key::Mark as u64, 0);
        };
        let costs = self.repeat(2, || Ok::<_, ()>(elapsed(mark)));
        Cost::of(costs.unwrap_or_default())
    }

    /// An exit that decodes an instruction.
    pub(crate) fn register(&self, device: &Device) -> Cost {
        let load = || {
            device.state();
        };
        let costs = self.repeat(10, || Ok::<_, ()>(elapsed(load)));
        Cost::of(costs.unwrap_or_default())
    }

    /// A copy with a record.
    fn copy(&self, queue: &Queue, by: Instruction) -> Work {
        self.records.clear(0);
        let copy = named(copy(&self.buffers, 0), queue, by);
        copy.record(self.records.address(0))
    }

    /// A copy with a record and an interrupt, which does not come before the processor
    /// waits for it.
    fn long_copy(&self, queue: &Queue) -> Work {
        let copy = self.copy(queue, queue.instruction);
        copy.size(COPIED_FOR_LONG).interrupt(queue.handle)
    }

    /// One submission, and then enough time for the device.
    pub(crate) fn submission(
        &self,
        id: u64,
        queue: &Queue,
        by: Instruction,
    ) -> Result<Cost, &'static str> {
        let costs = self.repeat(id, || {
            let words = self.copy(queue, by).words();
            let (submission, cost) = cost::of_submission(queue.portal, &words, by);
            if submission == Submission::Retry {
                return Err("a submission to an empty queue is to be tried again");
            }
            self.wait_for(|| self.records.is_written(0))?;
            Ok(u64::from(cost))
        });
        Ok(Cost::of(costs?))
    }

    /// The same with an interrupt, which comes some time later.
    pub(crate) fn with_handle(&self, queue: &Queue) -> Result<Cost, &'static str> {
        let by = queue.instruction;
        let costs = self.repeat(14, || {
            let before = interrupts::count(queue.vector);
            let work = self.long_copy(queue);
            let (_, cost) = cost::of_submission(queue.portal, &work.words(), by);
            let is_done = || interrupts::count(queue.vector) != before;
            if interrupts::run_until(LIMIT, is_done) {
                Ok(u64::from(cost))
            } else {
                Err("no interrupt")
            }
        });
        Ok(Cost::of(costs?))
    }

    /// One submission of a batch.
    pub(crate) fn batch(&self, queue: &Queue) -> Result<Cost, &'static str> {
        self.fits(queue)?;
        let costs = self.repeat(6, || {
            let words = self.batch.work().words();
            let (_, cost) = cost::of_submission(queue.portal, &words, queue.instruction);
            self.wait_for(|| self.batch.records().is_written(self.batch.own()))?;
            Ok(u64::from(cost))
        });
        Ok(Cost::of(costs?))
    }

    /// The interrupt of a copy: message to handler and exit to entry while the processor
    /// runs, message to handler while it has halted.
    ///
    /// When the message came is not known to a processor that has halted; but the device
    /// takes as long as it takes for a processor that runs.
    pub(crate) fn interrupts(&self, queue: &Queue) -> Result<(Cost, Cost, Cost), &'static str> {
        let arrivals = |id, is_halted| {
            self.repeat(id, || {
                self.arrival(queue, &self.long_copy(queue), is_halted)
            })
        };
        let running = arrivals(8, false)?;
        let of_all = |arrivals: &[Arrival], part: fn(&Arrival) -> u32| {
            Cost::of(
                arrivals
                    .iter()
                    .map(|arrival| part(arrival).into())
                    .collect(),
            )
        };
        let to_handler = of_all(&running, |arrival| arrival.to_handler);
        let outside = of_all(&running, |arrival| arrival.outside);
        let before = of_all(&running, |arrival| {
            arrival.from_submission - arrival.to_handler
        });
        let halted = of_all(&arrivals(7, true)?, |arrival| arrival.from_submission);
        let halted = Cost {
            least: halted.least.saturating_sub(before.median),
            median: halted.median.saturating_sub(before.median),
            most: halted.most.saturating_sub(before.median),
        };
        Ok((to_handler, outside, halted))
    }

    /// The end of a batch, exit to entry.
    pub(crate) fn batch_completion(&self, queue: &Queue) -> Result<Cost, &'static str> {
        self.fits(queue)?;
        let costs = self.repeat(9, || {
            let work = self.batch.work().interrupt(queue.handle);
            let arrival = self.arrival(queue, &work, false)?;
            if !self.batch.records().is_written(self.batch.own()) {
                return Err("an interrupt of a batch without its record");
            }
            Ok(u64::from(arrival.outside))
        });
        Ok(Cost::of(costs?))
    }

    /// Message to handler on the second processor, which spins.
    pub(crate) fn on_second(&self, queue: &Queue) -> Result<Cost, &'static str> {
        let mut costs = Vec::new();
        for _ in 0..TIMES_ON_SECOND {
            ON_SECOND.store(NOTHING, Ordering::SeqCst);
            queue
                .portal
                .submit(&self.long_copy(queue), queue.instruction);
            let came = || ON_SECOND.load(Ordering::SeqCst) != NOTHING;
            if !interrupts::wait_until(LIMIT, came) {
                return Err("no interrupt of the second processor");
            }
            costs.push(ON_SECOND.load(Ordering::SeqCst).into());
        }
        Ok(Cost::of(costs))
    }

    fn arrival(
        &self,
        queue: &Queue,
        work: &Work,
        is_halted: bool,
    ) -> Result<Arrival, &'static str> {
        let words = work.words();
        for _ in 0..TRIES {
            let arrival = cost::of_interrupt(queue.portal, &words, queue.instruction, is_halted);
            let arrival = arrival.ok_or("no interrupt")?;
            // Another guest may have had its turn in between.
            if is_halted || arrival.readings >= FEW_READINGS {
                return Ok(arrival);
            }
        }
        Err("interrupts that come before they are waited for")
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

/// What the second processor does.
pub(crate) fn spin_on_second() {
    loop {
        if let Some(arrival) = cost::of_interrupt_from_elsewhere() {
            ON_SECOND.store(arrival.to_handler.max(1), Ordering::SeqCst);
        }
    }
}

/// Copy number `index`.
fn copy(buffers: &[Buffer; 2], index: usize) -> Work {
    let [source, destination] = buffers.each_ref().map(|buffer| buffer.address(64 * index));
    Work::memory_move(source, destination, COPIED)
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
