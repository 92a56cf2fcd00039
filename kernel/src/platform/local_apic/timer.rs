//! The timer of a local APIC.
//! [Intel SDM, vol. 3, 12.5.4 "APIC Timer"]

use hwspec::x86::apic::TimerMode;

/// The timer's clock ticks with the time-stamp counter, as leaf 15h of CPUID says.
/// A periodic timer does not fire more often than once in so many ticks: each time
/// costs an exit, and nobody has a use for more.
const SHORTEST_PERIOD: u64 = 20_000;

/// The timer. Times are ticks of the time-stamp counter.
#[derive(Debug)]
pub(super) struct Timer {
    mode: TimerMode,
    /// The Divide Configuration Register.
    divide: u32,
    /// The Initial Count Register.
    initial: u32,
    /// When it fires, if it runs.
    deadline: Option<u64>,
}

impl Timer {
    /// As after a reset.
    pub(super) const fn new() -> Self {
        Self {
            mode: TimerMode::ONE_SHOT,
            divide: 0,
            initial: 0,
            deadline: None,
        }
    }

    /// When it fires.
    #[inline]
    pub(super) const fn deadline(&self) -> Option<u64> {
        self.deadline
    }

    /// The Initial Count Register.
    pub(super) const fn initial(&self) -> u32 {
        self.initial
    }

    /// The Divide Configuration Register.
    pub(super) const fn divide(&self) -> u32 {
        self.divide
    }

    /// How far a count is shifted to make ticks of it: bits 3, 1 and 0 are 000 for
    /// 2, 001 for 4, and so on to 110 for 128, and 111 for 1.
    const fn shift(&self) -> u32 {
        let code = self.divide >> 1 & 0b100 | self.divide & 0b11;
        (code + 1) % 8
    }

    const fn is_deadline_mode(&self) -> bool {
        matches!(self.mode, TimerMode::TSC_DEADLINE)
    }

    /// Changes the mode. Going to or from deadlines stops it.
    pub(super) fn set_mode(&mut self, mode: TimerMode) {
        let was_deadline = self.is_deadline_mode();
        self.mode = mode;
        if was_deadline != self.is_deadline_mode() {
            self.initial = 0;
            self.deadline = None;
        }
    }

    /// Writes the Initial Count Register, which starts or stops it.
    pub(super) fn set_initial(&mut self, count: u32, now: u64) {
        if self.is_deadline_mode() {
            return;
        }
        self.initial = count;
        self.start(count, now);
    }

    fn start(&mut self, count: u32, now: u64) {
        let ticks = u64::from(count) << self.shift();
        self.deadline = (count != 0).then_some(now.saturating_add(ticks));
    }

    /// Writes the Divide Configuration Register. What is left is counted at the
    /// new speed.
    pub(super) fn set_divide(&mut self, divide: u32, now: u64) {
        let left = self.current(now);
        self.divide = divide;
        if left != 0 {
            self.start(left, now);
        }
    }

    /// The Current Count Register.
    pub(super) fn current(&self, now: u64) -> u32 {
        match self.deadline {
            Some(deadline) if !self.is_deadline_mode() => {
                let ticks = deadline.saturating_sub(now);
                let left = ticks.div_ceil(1 << self.shift());
                u32::try_from(left).unwrap_or(u32::MAX).min(self.initial)
            }
            _ => 0,
        }
    }

    /// IA32_TSC_DEADLINE.
    pub(super) fn tsc_deadline(&self) -> u64 {
        match self.deadline {
            Some(deadline) if self.is_deadline_mode() => deadline,
            _ => 0,
        }
    }

    /// Writes IA32_TSC_DEADLINE.
    pub(super) fn set_tsc_deadline(&mut self, deadline: u64) {
        if self.is_deadline_mode() {
            self.deadline = (deadline != 0).then_some(deadline);
        }
    }

    /// Whether it has fired. Periods that were missed altogether are one.
    pub(super) fn take_expired(&mut self, now: u64) -> bool {
        let Some(deadline) = self.deadline else {
            return false;
        };
        let Some(late) = now.checked_sub(deadline) else {
            return false;
        };
        self.deadline = (self.mode == TimerMode::PERIODIC).then(|| {
            let period = (u64::from(self.initial) << self.shift()).max(SHORTEST_PERIOD);
            // Less than a period from now, which is far from overflow.
            now.saturating_add(period - late % period)
        });
        true
    }
}
