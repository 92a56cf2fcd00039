//! From a queue's head to the completion interrupt: what the engines do.
//!
//! Each engine works on one descriptor at a time, and so completions of one
//! group may overtake each other. Work is cut into steps that are due at a
//! virtual time; [`Dsa::advance`] does the steps that are due. A descriptor
//! takes these steps:
//!
//! 1. fetch (members of batches only): 64 bytes are read from the list;
//! 2. start: the checks of [341204 Rev 3.0 §5.4 "Descriptor Checks"]; a refused
//!    descriptor completes at once, a batch becomes a source of members, a
//!    drain starts waiting;
//! 3. run, as often as it takes: up to [`CHUNK_BYTES`] of data are processed;
//! 4. finish: completion record, error report, completion interrupt.
//!
//! `arbiter` chooses what an idle engine takes up; `batch` and `drain` hold what
//! waits for others; `selection` is what administrative commands wait for or
//! throw away.

mod arbiter;
mod batch;
mod drain;
mod finish;
mod records;
mod selection;
mod steps;

use std::collections::BTreeMap;

use crate::bus::{Bus, Requester};
use crate::completion::Outcome;
use crate::descriptor::Descriptor;
use crate::device::Dsa;
use crate::interrupt::Table;
use crate::memory::Memory;
use crate::operation::Execution;
use crate::registers::DeviceState;

use batch::{Batch, BatchId};
use drain::PendingDrain;
use records::RecordClaims;
pub(crate) use selection::Selection;

/// Bytes that one step processes. Small enough that neither another engine nor
/// the machine around the model waits long for it.
const CHUNK_BYTES: usize = 64 * 1024;

/// Virtual time that a descriptor spends between portal and engine, that a
/// member's fetch takes, and that 32 bytes of data take. They give the order of
/// magnitude of silicon and promise nothing about it.
const DISPATCH_NS: u64 = 100;
/// See [`DISPATCH_NS`].
const FETCH_NS: u64 = 20;
/// See [`DISPATCH_NS`].
const BYTES_PER_NS: u64 = 32;
/// How often an engine looks whether software made room in a full event log.
const EVENT_LOG_RETRY_NS: u64 = 10_000;

/// Where a descriptor came from, which decides who it runs for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) queue: usize,
    /// The interrupt table of the portal page.
    pub(crate) table: Table,
    pub(crate) requester: Requester,
    /// The batch and the position in it.
    pub(crate) member_of: Option<(BatchId, u16)>,
    /// Orders submissions; members have their batch's.
    pub(crate) sequence: u64,
}

/// A descriptor that a queue accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Submission {
    pub(crate) descriptor: Descriptor,
    pub(crate) origin: Origin,
}

#[derive(Debug)]
enum Phase {
    Fetch {
        address: u64,
    },
    Start,
    Run(Box<Execution>),
    /// The bench delays the completion.
    Hold(Ending),
}

/// How a descriptor ends.
#[derive(Clone, Copy, Debug)]
struct Ending {
    outcome: Outcome,
    /// The table entry that the completion interrupt uses.
    interrupt: Option<u16>,
    /// Neither record nor interrupt, only an error report [§5.4].
    discarded: bool,
}

impl Ending {
    fn new(outcome: Outcome, interrupt: Option<u16>) -> Self {
        Self {
            outcome,
            interrupt,
            discarded: false,
        }
    }
}

#[derive(Debug)]
struct Job {
    submission: Submission,
    phase: Phase,
    /// The table entry that the completion interrupt will use.
    interrupt: Option<u16>,
    due_ns: u64,
}

/// What is in progress behind the queues.
#[derive(Debug)]
pub(crate) struct Scheduler {
    engines: Vec<Option<Job>>,
    batches: BTreeMap<BatchId, Batch>,
    drains: Vec<PendingDrain>,
    next_sequence: u64,
    next_batch: BatchId,
    records: RecordClaims,
    /// The queue of each group that an engine was given work from last.
    last_served: BTreeMap<usize, usize>,
}

impl Scheduler {
    pub(crate) fn new(engines: u8) -> Self {
        Self {
            engines: (0..engines).map(|_| None).collect(),
            batches: BTreeMap::new(),
            drains: Vec::new(),
            next_sequence: 0,
            next_batch: 0,
            records: RecordClaims::default(),
            last_served: BTreeMap::new(),
        }
    }

    /// When the next step is due.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.engines.iter().flatten().map(|job| job.due_ns).min()
    }

    /// The number of the next submission.
    pub(crate) fn take_sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }

    /// A number above those of all submissions so far.
    pub(crate) fn horizon(&self) -> u64 {
        self.next_sequence + 1
    }

    fn origins(&self) -> impl Iterator<Item = &Origin> {
        let jobs = self
            .engines
            .iter()
            .flatten()
            .map(|job| &job.submission.origin);
        let batches = self.batches.values().map(|batch| &batch.submission.origin);
        jobs.chain(batches)
    }

    fn waiting_drains(&self) -> impl Iterator<Item = &Origin> {
        self.drains.iter().map(|drain| &drain.submission.origin)
    }
}

impl Dsa {
    /// Does everything that is due by now.
    pub fn advance(&mut self, bus: &mut dyn Bus) {
        let now = bus.now_ns();
        while let Some(engine) = self.due_engine(now) {
            self.step(engine, now, bus);
            self.settle(now, bus);
        }
        self.settle(now, bus);
    }

    fn due_engine(&self, now: u64) -> Option<usize> {
        let jobs = self.scheduler.engines.iter().enumerate();
        let due = jobs.filter_map(|(engine, job)| Some((job.as_ref()?.due_ns, engine)));
        due.filter(|(due, _)| *due <= now)
            .min()
            .map(|(_, engine)| engine)
    }

    /// Lets follow what the last event made possible: drains, commands that
    /// waited, and new work for idle engines.
    pub(crate) fn settle(&mut self, now: u64, bus: &mut dyn Bus) {
        self.finish_drains(bus);
        self.settle_command(now, bus);
        self.dispatch(now);
        self.raise_occupancy_interrupts(bus);
    }

    fn step(&mut self, engine: usize, now: u64, bus: &mut dyn Bus) {
        let place = self.scheduler.engines.get_mut(engine);
        let Some(mut job) = place.and_then(Option::take) else {
            return;
        };
        // The last member of a batch may bring the batch's entry along.
        let entries = 1 + u16::from(job.submission.origin.member_of.is_some());
        if self.waits_for_event_log(entries) {
            job.due_ns = now + EVENT_LOG_RETRY_NS;
            if let Some(place) = self.scheduler.engines.get_mut(engine) {
                *place = Some(job);
            }
            return;
        }
        let next = match job.phase {
            Phase::Fetch { address } => self.fetch(job, address, now, bus),
            Phase::Start => self.start(job, now, bus),
            Phase::Run(execution) => {
                let Job {
                    submission,
                    interrupt,
                    ..
                } = job;
                self.run(submission, interrupt, execution, now, bus)
            }
            Phase::Hold(ending) => {
                self.finish(job.submission, ending, bus);
                None
            }
        };
        // Finishing may have halted the device, which empties the engines.
        if self.state != DeviceState::Halt
            && let Some(place) = self.scheduler.engines.get_mut(engine)
        {
            *place = next;
        }
    }

    fn memory<'a>(&'a mut self, requester: Requester, bus: &'a mut dyn Bus) -> Memory<'a> {
        Memory::new(bus, requester, &mut self.bench.dma_faults)
    }
}
