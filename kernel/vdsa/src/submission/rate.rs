//! How fast a guest may submit to a shared queue.
//!
//! How many of its descriptors wait in a physical queue cannot be known, so it is kept
//! from taking all entries by a rate: submissions are due an interval apart, and one
//! that comes early is let through while no more than a burst is ahead of its time.

/// The rate of one queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    /// When the next submission would be due, had they all been in time.
    due_ns: u64,
}

impl Rate {
    /// Whether a submission may go now; then it counts.
    pub(super) fn admit(&mut self, now_ns: u64, interval_ns: u32, burst: u16) -> bool {
        let interval = u64::from(interval_ns);
        let due = self.due_ns.max(now_ns);
        // Both factors are small: no overflow.
        if due - now_ns > interval * u64::from(burst.saturating_sub(1)) {
            return false;
        }
        self.due_ns = due.saturating_add(interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_for_each_interval() {
        let mut rate = Rate::default();
        let now = 5_000;
        let admitted = (0..10).filter(|_| rate.admit(now, 100, 4)).count();
        assert_eq!(admitted, 4);
        assert!(!rate.admit(now + 99, 100, 4));
        assert!(rate.admit(now + 100, 100, 4));
        assert!(!rate.admit(now + 199, 100, 4));
        assert!(rate.admit(now + 200, 100, 4));
        // Time that was not used is not saved up beyond a burst.
        let later = now + 1_000_000;
        let admitted = (0..10).filter(|_| rate.admit(later, 100, 4)).count();
        assert_eq!(admitted, 4);
    }

    #[test]
    fn no_interval_is_no_limit_and_the_end_of_time_is_no_panic() {
        let mut rate = Rate::default();
        assert!((0..1000).all(|_| rate.admit(0, 0, 1)));
        assert!((0..1000).all(|_| rate.admit(0, 0, 0)));
        assert!(rate.admit(u64::MAX, u32::MAX, u16::MAX));
        assert!(rate.admit(u64::MAX, u32::MAX, u16::MAX));
    }
}
