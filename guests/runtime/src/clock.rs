//! Time, by the time-stamp counter.
#![expect(unsafe_code, reason = "reads the time-stamp counter")]

use core::arch::x86_64::_rdtsc;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

static TICKS_PER_MS: AtomicU64 = AtomicU64::new(1_000_000);

pub(crate) fn init(tsc_khz: NonZeroU64) {
    TICKS_PER_MS.store(tsc_khz.get(), Ordering::Relaxed);
}

/// The time-stamp counter.
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 CPU has the counter.
    unsafe { _rdtsc() }
}

/// Ticks in so much time, rounded down.
pub fn ticks_of(time: Duration) -> u64 {
    let per_ms = TICKS_PER_MS.load(Ordering::Relaxed);
    let seconds = time.as_secs().saturating_mul(per_ms.saturating_mul(1000));
    seconds.saturating_add(u64::from(time.subsec_micros()).saturating_mul(per_ms) / 1000)
}

/// A moment until which something may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: u64,
    ticks: u64,
}

impl Deadline {
    /// So long from now.
    pub fn after(time: Duration) -> Self {
        Self {
            start: ticks(),
            ticks: ticks_of(time),
        }
    }

    /// Whether that time is over.
    pub fn has_passed(&self) -> bool {
        ticks().wrapping_sub(self.start) >= self.ticks
    }
}

/// Spins until `done`; false if `limit` is over before.
pub fn spin_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Deadline::after(limit);
    loop {
        // The last question is asked after the time was looked at.
        let is_over = deadline.has_passed();
        if done() {
            return true;
        }
        if is_over {
            return false;
        }
        core::hint::spin_loop();
    }
}
