//! The whole: processors, guests, and what comes of them.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::{Mutex, Once};

use crate::arch::clock;
use crate::bundle::Bundle;
use crate::config::plan::{GuestPlan, Plan, Restart};
use crate::host::Host;
use crate::host::routes::{Completion, GuestTarget};
use crate::platform::serial_port::LastLines;
use crate::report::Held;
use crate::trace::{self, Kind};
use crate::virt::backend::Backend;
use crate::{info, warn};

use super::account;
use super::build::filling::{Filled, Filling, Loaded};
use super::build::{Blueprint, BuildError, Parts};
use super::guest::{Ending, Guest};
use super::schedule::Processors;
use super::shared;
use super::summary::Summary;

/// How often a guest is started anew at the most because it ended by itself.
const MAX_RESTARTS: u32 = 1000;

/// How often guests with batches in flight look whether those have ended. Most ends
/// are told by an interrupt; it can be lost, and there may have been none to give.
const LOOK_NS: u64 = 20_000_000;

/// How long guests' memory is filled at once, in nanoseconds; a piece that was begun is
/// ended.
const FILL_NS: u64 = 500_000;

/// How long a kernel that panicks has to say why before the operator is shown.
const PANIC_NS: u64 = 500_000_000;

/// The one hypervisor, whatever its backend.
static INSTANCE: Once<&'static (dyn Any + Send + Sync)> = Once::new();

/// Where a guest is in its life.
#[derive(Debug)]
enum Stage<B: Backend> {
    /// It has not been started, or everything that it held has been given back.
    Gone,
    /// Its memory is cleared and filled with its files.
    Fills(Filling),
    /// Its virtual processors run.
    Runs(Parts<B>),
    /// Its virtual processors leave their processors.
    Leaves(Parts<B>),
    /// Its accelerators finish or abandon what they were given.
    Drains(Parts<B>),
}

/// A guest of the configuration, whether it runs or not.
#[derive(Debug)]
pub struct Record<B: Backend> {
    stage: Stage<B>,
    /// Whether it is to be started when it is gone.
    is_wanted: bool,
    /// How often it was started.
    pub starts: u32,
    /// Whether a life has ended.
    has_lived: bool,
    /// What came of it the last time, and of all of its lives that have ended: in memory
    /// that was taken before there were guests, and does not grow with what they do.
    last: Summary,
    total: Summary,
    /// Why it could not be started the last time.
    pub failure: Option<BuildError>,
    /// The operator was told that its kernel panicked, in this life.
    was_panic_shown: bool,
}

impl<B: Backend> Record<B> {
    /// The guest with what it holds, if it is there.
    pub fn parts(&self) -> Option<&Parts<B>> {
        match &self.stage {
            Stage::Gone | Stage::Fills(_) => None,
            Stage::Runs(parts) | Stage::Leaves(parts) | Stage::Drains(parts) => Some(parts),
        }
    }

    /// The guest, if it is there.
    pub fn guest(&self) -> Option<&Arc<Guest<B>>> {
        Some(&self.parts()?.guest)
    }

    /// Memory that it takes beyond its RAM.
    pub fn overhead_bytes(&self) -> Option<u64> {
        Some(self.parts()?.overhead_bytes)
    }

    /// What came of the life that has not ended yet, up to now. Waits for its virtual
    /// processors where they use its accelerators.
    pub fn current_summary(&self) -> Option<Summary> {
        match &self.stage {
            Stage::Gone | Stage::Fills(_) => None,
            Stage::Runs(parts) | Stage::Leaves(parts) | Stage::Drains(parts) => {
                Some(Summary::of(&parts.guest, parts.overhead_bytes))
            }
        }
    }

    /// What came of its last life that has ended.
    pub fn last(&self) -> Option<&Summary> {
        self.has_lived.then_some(&self.last)
    }

    /// What came of all of its lives that have ended.
    pub fn total(&self) -> Option<&Summary> {
        self.has_lived.then_some(&self.total)
    }

    /// A life has ended.
    fn close(&mut self, parts: &Parts<B>) {
        let last = Summary::of(&parts.guest, parts.overhead_bytes);
        self.last.set(&last);
        self.total.add_life(&last);
        self.has_lived = true;
    }

    /// For people.
    pub fn state(&self) -> &'static str {
        match &self.stage {
            Stage::Gone if self.failure.is_some() => "failed",
            Stage::Gone if self.starts == 0 => "not started",
            Stage::Gone => "ended",
            Stage::Fills(_) => "starting",
            Stage::Runs(_) => "running",
            Stage::Leaves(_) => "stopping",
            Stage::Drains(_) => "draining",
        }
    }

    /// Whether it is gone and stays so.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Gone) && !self.is_wanted
    }
}

/// The hypervisor.
#[derive(Debug)]
pub struct Hypervisor<B: Backend> {
    /// The machine's side.
    pub host: &'static Host,
    /// What the configuration says.
    pub plan: Plan,
    /// The files that came with us.
    pub bundle: Bundle<'static>,
    /// Who runs where.
    pub processors: Processors<B>,
    /// The guests, in the configuration's order. Locked by the boot processor alone,
    /// between two turns.
    pub records: Mutex<Vec<Record<B>>>,
    /// When batches are to be looked for, in ticks of the time-stamp counter.
    next_look: AtomicU64,
    /// How much RAM the machine has.
    pub ram_bytes: u64,
    /// What was taken of the machine before there were guests, once that is over.
    held_before: Once<Held>,
}

impl<B: Backend> Hypervisor<B> {
    /// Makes the one there is.
    ///
    /// # Panics
    /// If there is one already.
    pub fn new(
        host: &'static Host,
        plan: Plan,
        bundle: Bundle<'static>,
        ram_bytes: u64,
    ) -> &'static Self {
        let record = |guest: &GuestPlan| Record {
            stage: Stage::Gone,
            is_wanted: true,
            starts: 0,
            has_lived: false,
            last: Summary::with_room(guest.dsas.len()),
            total: Summary::with_room(guest.dsas.len()),
            failure: None,
            was_panic_shown: false,
        };
        let slice_ns = u64::from(plan.slice_ms) * 1_000_000;
        let records = plan.guests.iter().map(record).collect();
        let hypervisor: &'static Self = Box::leak(Box::new(Self {
            host,
            plan,
            bundle,
            processors: Processors::new(slice_ns),
            records: Mutex::new(records),
            next_look: AtomicU64::new(0),
            ram_bytes,
            held_before: Once::new(),
        }));
        assert!(!INSTANCE.is_completed(), "there is one hypervisor");
        INSTANCE.call_once(|| hypervisor);
        hypervisor
    }

    /// The one there is.
    ///
    /// # Panics
    /// If there is none, or one of another backend.
    pub fn get() -> &'static Self {
        let instance = INSTANCE.get().and_then(|&instance| instance.downcast_ref());
        instance.expect("the hypervisor is made before its processors run")
    }

    /// What was taken of the machine before there were guests.
    pub fn held_before(&self) -> Held {
        *self.held_before.call_once(|| account::held(self.host))
    }

    /// Starts what is wanted and gone, and brings further what is on its way out. A
    /// bounded amount of work.
    pub fn step(&self) {
        self.held_before();
        let mut records = self.records.lock();
        for (number, record) in records.iter_mut().enumerate() {
            self.step_one(number, record);
        }
        let now = clock::now();
        if now >= self.next_look.load(Ordering::Relaxed) {
            let next = now.wrapping_add(clock::ticks(LOOK_NS));
            self.next_look.store(next, Ordering::Relaxed);
            for record in records.iter() {
                if let Stage::Runs(parts) = &record.stage {
                    parts.guest.look_for_batches();
                }
            }
        }
    }

    fn step_one(&self, number: usize, record: &mut Record<B>) {
        self.stop_without_device(number, record);
        record.stage = match core::mem::replace(&mut record.stage, Stage::Gone) {
            Stage::Gone if record.is_wanted => {
                record.is_wanted = false;
                let begun = self
                    .blueprint(number)
                    .map(|blueprint| Filling::new(&blueprint));
                match begun {
                    Some(Ok(filling)) => Stage::Fills(filling),
                    Some(Err(error)) => self.not_started(number, record, error),
                    None => Stage::Gone,
                }
            }
            Stage::Gone => Stage::Gone,
            Stage::Runs(parts) if parts.guest.has_ended() => {
                let ending = parts.guest.ending().unwrap_or(Ending::Stopped);
                trace::record(Kind::END, number, 0, 0);
                info!("vm", "guest={} ended: {ending}", parts.guest.name);
                if parts.guest.has_trouble() && !record.was_panic_shown {
                    show_last_lines(&parts.guest);
                }
                let is_reset = matches!(ending, Ending::Reset | Ending::TripleFault);
                if is_reset && self.restarts(number, record) {
                    record.is_wanted = true;
                }
                Stage::Leaves(parts)
            }
            Stage::Runs(parts) => {
                let panic = parts.guest.milestones.panic();
                if !record.was_panic_shown
                    && panic
                        .is_some_and(|at| clock::now() >= at.wrapping_add(clock::ticks(PANIC_NS)))
                {
                    record.was_panic_shown = true;
                    let name = parts.guest.name;
                    warn!(
                        "vm",
                        "guest={name} says that its kernel panicked; it goes on until it resets \
                         itself (panic=1 on its command line) or 'stop {name}'"
                    );
                    show_last_lines(&parts.guest);
                }
                Stage::Runs(parts)
            }
            Stage::Leaves(parts) if parts.guest.count_parked() == parts.guest.count_vcpus => {
                Stage::Drains(parts)
            }
            Stage::Drains(parts) if parts.is_quiet() => {
                parts.close_books();
                record.close(&parts);
                parts.give_back(self.host);
                Stage::Gone
            }
            same => same,
        };
    }

    /// Ends a guest that lost an accelerator for good. A guest that was stopped before that
    /// goes on ending.
    fn stop_without_device(&self, number: usize, record: &Record<B>) {
        if let Stage::Runs(parts) = &record.stage
            && !parts.guest.has_ended()
            && let Some(blueprint) = self.blueprint(number)
            && let Some(device) = blueprint.lost_device()
        {
            parts.guest.end(Ending::DeviceLost(device));
        }
    }

    fn blueprint(&self, number: usize) -> Option<Blueprint<'_>> {
        Some(Blueprint {
            number,
            plan: self.plan.guests.get(number)?,
            bundle: &self.bundle,
            host: self.host,
        })
    }

    fn restarts(&self, number: usize, record: &Record<B>) -> bool {
        let plan = self.plan.guests.get(number);
        plan.is_some_and(|plan| plan.restart == Restart::OnReset) && record.starts < MAX_RESTARTS
    }

    /// Fills the memory of guests that are being started for a while. True if some are
    /// not done.
    pub fn fill(&self) -> bool {
        let until = clock::now().wrapping_add(clock::ticks(FILL_NS));
        let mut records = self.records.lock();
        for (number, record) in records.iter_mut().enumerate() {
            if matches!(record.stage, Stage::Fills(_)) {
                self.fill_one(number, record, until);
                if clock::now() >= until {
                    break;
                }
            }
        }
        let mut records = records.iter();
        records.any(|record| matches!(record.stage, Stage::Fills(_)))
    }

    fn fill_one(&self, number: usize, record: &mut Record<B>, until: u64) {
        let Some(blueprint) = self.blueprint(number) else {
            return;
        };
        while let Stage::Fills(filling) = core::mem::replace(&mut record.stage, Stage::Gone) {
            record.stage = match filling.go_on(&blueprint) {
                Ok(Filled::Not(filling)) => Stage::Fills(filling),
                Ok(Filled::Whole(loaded)) => self.start_one(number, record, loaded),
                Err(error) => self.not_started(number, record, error),
            };
            if clock::now() >= until || !matches!(record.stage, Stage::Fills(_)) {
                return;
            }
        }
    }

    fn not_started(&self, number: usize, record: &mut Record<B>, error: BuildError) -> Stage<B> {
        let plan = self.plan.guests.get(number);
        let name = plan.map_or("?", |plan| &plan.name);
        warn!("vm", "guest={name} not started: {error}");
        record.failure = Some(error);
        Stage::Gone
    }

    fn start_one(&self, number: usize, record: &mut Record<B>, loaded: Loaded) -> Stage<B> {
        let Some(blueprint) = self.blueprint(number) else {
            return Stage::Gone;
        };
        let plan = blueprint.plan;
        match Parts::acquire(&blueprint, loaded) {
            Ok((parts, vcpus)) => {
                record.starts += 1;
                record.failure = None;
                record.was_panic_shown = false;
                trace::record(Kind::START, number, 0, record.starts);
                info!(
                    "vm",
                    "guest={} started memory_mib={} overhead_kib={}",
                    plan.name,
                    plan.memory_bytes >> 20,
                    parts.overhead_bytes.div_ceil(1024)
                );
                for vcpu in vcpus {
                    if let Err(vcpu) = self.processors.place(vcpu) {
                        warn!("vm", "guest={} finds its processor full", plan.name);
                        parts.guest.take_back(vcpu);
                        parts.guest.end(Ending::Stopped);
                    }
                }
                Stage::Runs(parts)
            }
            Err(error) => self.not_started(number, record, error),
        }
    }

    /// The number of the guest of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.plan.guests.iter().position(|plan| plan.name == name)
    }

    /// Lets a guest be started. False if it is there already.
    pub fn start(&self, number: usize) -> bool {
        let mut records = self.records.lock();
        let record = records.get_mut(number);
        record.is_some_and(|record| {
            let is_gone = matches!(record.stage, Stage::Gone);
            record.is_wanted |= is_gone;
            is_gone
        })
    }

    /// Lets a guest be stopped, and be started anew if `again`. False if it is not there.
    pub fn stop(&self, number: usize, again: bool) -> bool {
        let mut records = self.records.lock();
        let record = records.get_mut(number);
        record.is_some_and(|record| {
            record.is_wanted = again;
            if matches!(record.stage, Stage::Fills(_)) {
                // Nobody but us has seen its memory.
                record.stage = Stage::Gone;
                return true;
            }
            match record.guest() {
                Some(guest) => guest.end(Ending::Stopped),
                None => return again,
            }
            true
        })
    }

    /// Whether no guest runs or will run.
    pub fn is_over(&self) -> bool {
        self.records.lock().iter().all(Record::is_over)
    }
}

/// Shows the operator the last lines of a guest's console.
fn show_last_lines<B: Backend>(guest: &Guest<B>) {
    for line in LastLines::of(&guest.output).iter() {
        info!("vm", "guest={} last line: {line}", guest.name);
    }
}

/// An interrupt for a guest has come to this processor: the one place where a
/// completion becomes the guest's.
#[inline]
pub fn deliver(target: GuestTarget) {
    let Some(place) = shared::place(target.vm.into()) else {
        return;
    };
    match target.completion {
        Completion::Vector(vector) => place.complete(target.device.into(), vector.into()),
        Completion::Batch(_) => place.batch_ended(target.device.into()),
    }
}
