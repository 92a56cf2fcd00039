//! Interrupts: counted by vector, and waited for.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;

use x86_64::instructions::interrupts::{disable, enable, enable_and_hlt};

use crate::apic;
use crate::clock::{Deadline, spin_until};

/// How long a halted processor sleeps at most before it looks at the time.
const NAP: Duration = Duration::from_millis(20);

static COUNTS: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];
/// Whether the timer has been started and has not fired since.
static TIMER_RUNS: AtomicBool = AtomicBool::new(false);

/// Called by the trap code.
pub(crate) fn arrived(vector: u8) {
    if let Some(count) = COUNTS.get(usize::from(vector)) {
        count.fetch_add(1, Ordering::Release);
    }
}

pub(crate) fn timer_fired() {
    TIMER_RUNS.store(false, Ordering::Relaxed);
}

/// How many interrupts of this vector have arrived.
pub fn count(vector: u8) -> u32 {
    COUNTS
        .get(usize::from(vector))
        .map_or(0, |count| count.load(Ordering::Acquire))
}

/// How many interrupts have arrived by any of the vectors from 32 on, the runtime's
/// timer not counted.
pub fn count_all() -> u32 {
    COUNTS
        .iter()
        .map(|count| count.load(Ordering::Acquire))
        .fold(0, u32::wrapping_add)
}

/// Halts the boot processor with interrupts on until `done`, which is asked with
/// interrupts off after each of them; false if `limit` is over before.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Deadline::after(limit);
    loop {
        let is_over = deadline.has_passed();
        disable();
        if done() {
            return true;
        }
        if is_over {
            return false;
        }
        // Only so that the processor wakes if nothing else comes.
        if !TIMER_RUNS.swap(true, Ordering::Relaxed) {
            apic::start_timer(NAP);
        }
        enable_and_hlt();
    }
}

/// Runs on with interrupts on until `done`, without ever halting; false if `limit` is
/// over before.
pub fn run_until(limit: Duration, done: impl FnMut() -> bool) -> bool {
    enable();
    let came = spin_until(limit, done);
    disable();
    came
}

/// Lets interrupts come for `time`, whatever they are.
pub fn settle(time: Duration) {
    wait_until(time, || false);
}
