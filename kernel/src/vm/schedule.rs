//! Who runs on a processor, and for how long.
//!
//! Each processor has its virtual processors in a row and gives each that has
//! something to do a slice of time, one after the other. So a guest waits at most as
//! long as all others on its processor have slices, whatever they do.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::{Mutex, Once};

use crate::arch::percpu::{self, PerCpu};
use crate::arch::{clock, trap};
use crate::virt::backend::Backend;

use super::virtual_cpu::VirtualCpu;

/// How many virtual processors a processor can have.
pub const MAX_ON_PROCESSOR: usize = 64;

/// All processors, and how long a virtual processor runs on one of them before the next
/// gets its turn, if there is one.
#[derive(Debug)]
pub struct Processors<B: Backend> {
    each: PerCpu<Processor<B>>,
    slice_ns: u64,
}

/// What others may reach of one processor.
#[derive(Debug)]
struct Processor<B: Backend> {
    /// Virtual processors on their way here. Locked for a moment by whoever brings one;
    /// nothing else is locked meanwhile.
    arrivals: Mutex<Vec<Box<VirtualCpu<B>>>>,
    /// How many virtual processors are here.
    count: AtomicU64,
}

/// A virtual processor's turn.
#[derive(Debug)]
pub struct Turn<'p> {
    end: u64,
    timer_fired: &'p AtomicBool,
}

impl Turn<'_> {
    /// Lets the timer fire at the end of the turn, or at `deadline` before.
    pub fn set_timer(&self, deadline: Option<u64>) {
        let at = deadline.map_or(self.end, |deadline| deadline.min(self.end));
        clock::set_timer(at);
    }

    /// Whether the timer has fired since this was asked last.
    #[inline]
    pub fn has_timer_fired(&self) -> bool {
        // Set on this processor only, with interrupts on, which they are not here.
        let fired = self.timer_fired.load(Ordering::Relaxed);
        if fired {
            self.timer_fired.store(false, Ordering::Relaxed);
        }
        fired
    }

    /// Whether it is over at `now`.
    pub fn is_over(&self, now: u64) -> bool {
        now.wrapping_sub(self.end).cast_signed() >= 0
    }
}

/// Whether the local timer has fired since somebody looked, by processor.
static TIMER_FIRED: Once<PerCpu<AtomicBool>> = Once::new();

/// The timer of this processor has fired.
fn timer_fired() {
    if let Some(flags) = TIMER_FIRED.get() {
        flags.here().store(true, Ordering::Relaxed);
    }
}

/// What is done beside running guests, on the boot processor.
pub trait Housekeeping {
    /// Does a bounded amount of it.
    fn tick(&mut self);
    /// Does a bounded amount of what is not urgent, while no virtual processor has anything
    /// to do. True if there is more.
    fn use_idle_time(&mut self) -> bool;
    /// When it wants to be called again at the latest, in nanoseconds from now.
    fn interval_ns(&self) -> u64;
}

/// Nothing is done beside.
#[derive(Debug)]
pub struct NoHousekeeping;

impl Housekeeping for NoHousekeeping {
    fn tick(&mut self) {}

    fn use_idle_time(&mut self) -> bool {
        false
    }

    fn interval_ns(&self) -> u64 {
        u64::MAX
    }
}

impl<B: Backend> Processors<B> {
    /// One for each processor, with slices of so many nanoseconds.
    pub fn new(slice_ns: u64) -> Self {
        TIMER_FIRED.call_once(|| PerCpu::new(|_| AtomicBool::new(false)));
        trap::set_timer_handler(timer_fired);
        let each = PerCpu::new(|_| Processor {
            arrivals: Mutex::new(Vec::with_capacity(MAX_ON_PROCESSOR)),
            count: AtomicU64::new(0),
        });
        Self { each, slice_ns }
    }

    /// How many virtual processors are on processor `index`.
    pub fn count(&self, index: usize) -> u64 {
        self.each.of(index).count.load(Ordering::Relaxed)
    }

    /// Puts a virtual processor on the processor that its door names.
    ///
    /// # Errors
    /// If that is full, with the virtual processor.
    pub fn place(&self, vcpu: Box<VirtualCpu<B>>) -> Result<(), Box<VirtualCpu<B>>> {
        let index = vcpu.door.processor();
        let processor = self.each.of(index);
        let mut arrivals = processor.arrivals.lock();
        if self.count(index) >= MAX_ON_PROCESSOR as u64 {
            return Err(vcpu);
        }
        processor.count.fetch_add(1, Ordering::Relaxed);
        arrivals.push(vcpu);
        drop(arrivals);
        if index != percpu::current().index {
            crate::arch::smp::wake(index);
        }
        Ok(())
    }

    /// Runs virtual processors on this processor, for ever.
    ///
    /// # Panics
    /// Never: there is a flag for each processor.
    pub fn run(&self, mut housekeeping: impl Housekeeping) -> ! {
        let processor = self.each.here();
        let timer_fired = TIMER_FIRED.get().expect("there is a flag for each").here();
        let mut row: Vec<Box<VirtualCpu<B>>> = Vec::with_capacity(MAX_ON_PROCESSOR);
        let mut next = 0;
        loop {
            // There is always room: both have the same capacity, and `count` keeps it.
            row.append(&mut processor.arrivals.lock());
            self.let_go(processor, &mut row);
            housekeeping.tick();
            let now = clock::now();
            match choose(&mut row, &mut next, now) {
                Some(index) => {
                    let slice = clock::ticks(self.slice_ns.min(housekeeping.interval_ns()));
                    let turn = Turn {
                        end: now.wrapping_add(slice),
                        timer_fired,
                    };
                    if let Some(vcpu) = row.get_mut(index) {
                        vcpu.run(&turn);
                    }
                }
                None if housekeeping.use_idle_time() => {}
                None => idle(processor, &row, now, housekeeping.interval_ns()),
            }
        }
    }

    /// Lets those go that were asked to.
    fn let_go(&self, processor: &Processor<B>, row: &mut Vec<Box<VirtualCpu<B>>>) {
        let mut index = 0;
        while let Some(vcpu) = row.get(index) {
            if vcpu.door.is_to_leave() {
                let vcpu = row.remove(index);
                processor.count.fetch_sub(1, Ordering::Relaxed);
                let guest = vcpu.guest.clone();
                guest.take_back(vcpu);
            } else {
                index += 1;
            }
        }
    }
}

/// The next in the row that has something to do.
fn choose<B: Backend>(row: &mut [Box<VirtualCpu<B>>], next: &mut usize, now: u64) -> Option<usize> {
    let count = row.len();
    for step in 0..count {
        let index = (*next + step) % count;
        if row.get_mut(index).is_some_and(|vcpu| vcpu.is_runnable(now)) {
            *next = (index + 1) % count;
            return Some(index);
        }
    }
    None
}

/// Halts until something happens.
fn idle<B: Backend>(
    processor: &Processor<B>,
    row: &[Box<VirtualCpu<B>>],
    now: u64,
    interval_ns: u64,
) {
    let wanted = (interval_ns != u64::MAX).then(|| now.wrapping_add(clock::ticks(interval_ns)));
    let timers = row.iter().filter_map(|vcpu| vcpu.timer_deadline());
    match timers.chain(wanted).min() {
        Some(deadline) => clock::set_timer(deadline),
        None => clock::stop_timer(),
    }
    if processor.arrivals.lock().is_empty() {
        // What came since `choose` looked wakes this one.
        trap::wait();
    }
}
