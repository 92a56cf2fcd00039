//! Time, for waits that end.
#![expect(unsafe_code, reason = "reads the time-stamp counter")]

use core::arch::x86_64::_rdtsc;
use core::hint::spin_loop;
use core::num::NonZeroU64;
use core::time::Duration;

/// A clock that only goes forward.
pub trait Clock {
    /// Time since some moment in the past.
    fn now(&self) -> Duration;

    /// What a waiting CPU does meanwhile.
    fn relax(&self) {
        spin_loop();
    }

    /// Asks `poll` until it has an answer, for at least `limit`; nothing if there was
    /// none even then.
    fn wait_for<T>(&self, limit: Duration, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
        let start = self.now();
        loop {
            // The last question is asked after the time was looked at, so that it does
            // not matter how long this CPU was away in between.
            let is_over = self.now().saturating_sub(start) >= limit;
            let answer = poll();
            if answer.is_some() || is_over {
                return answer;
            }
            self.relax();
        }
    }
}

/// The CPU's time-stamp counter.
#[derive(Clone, Copy, Debug)]
pub struct TscClock {
    ticks_per_second: NonZeroU64,
}

impl TscClock {
    /// A counter of the given frequency, the same and in step on every CPU.
    pub const fn new(ticks_per_second: NonZeroU64) -> Self {
        Self { ticks_per_second }
    }

    /// So many ticks as a time.
    fn duration(self, ticks: u64) -> Duration {
        let frequency = self.ticks_per_second.get();
        let seconds = ticks / frequency;
        let rest = u128::from(ticks % frequency) * 1_000_000_000 / u128::from(frequency);
        let nanoseconds = u32::try_from(rest).expect("less than a second is left");
        Duration::new(seconds, nanoseconds)
    }
}

impl Clock for TscClock {
    fn now(&self) -> Duration {
        // SAFETY: every x86-64 CPU has the counter.
        let ticks = unsafe { _rdtsc() };
        self.duration(ticks)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::fake::FakeClock;

    fn clock(ticks_per_second: u64) -> TscClock {
        TscClock::new(NonZeroU64::new(ticks_per_second).unwrap())
    }

    #[test]
    fn ticks_become_time_without_overflow() {
        assert_eq!(
            clock(1_000_000_000).duration(1_500_000_001),
            Duration::new(1, 500_000_001)
        );
        assert_eq!(clock(3).duration(2), Duration::from_nanos(666_666_666));
        assert_eq!(
            clock(u64::MAX).duration(u64::MAX - 1),
            Duration::from_nanos(999_999_999)
        );
        assert_eq!(clock(1).duration(u64::MAX), Duration::from_secs(u64::MAX));
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs the time-stamp counter")]
    fn the_counter_goes_forward() {
        let clock = clock(1_000_000_000);
        let before = clock.now();
        assert!(clock.now() >= before);
    }

    #[test]
    fn a_wait_ends_with_the_answer() {
        let clock = FakeClock::new();
        let asked = Cell::new(0);
        let answer = clock.wait_for(Duration::from_secs(1), || {
            asked.set(asked.get() + 1);
            (asked.get() == 5).then_some("yes")
        });
        assert_eq!(answer, Some("yes"));
        assert_eq!(asked.get(), 5);
    }

    #[test]
    fn a_wait_ends_without_an_answer() {
        let clock = FakeClock::new();
        let start = clock.now();
        assert_eq!(
            clock.wait_for::<()>(Duration::from_millis(1), || None),
            None
        );
        assert!(clock.now() - start >= Duration::from_millis(1));
    }

    #[test]
    fn a_wait_of_no_time_asks_once() {
        assert_eq!(
            FakeClock::new().wait_for(Duration::ZERO, || Some(1)),
            Some(1)
        );
    }
}
