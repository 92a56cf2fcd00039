//! Time: the time-stamp counter, and the local APIC's timer against it.

use core::arch::x86_64::_rdtsc;
use core::hint;
use core::sync::atomic::{AtomicU64, Ordering};

use hwspec::acpi::fadt::{PM_TIMER_BITS, PM_TIMER_HZ};
use spin::Once;
use x86_64::instructions::port::PortReadOnly;

use super::{apic, features};
use crate::refusal::Refusal;

/// How long speeds are measured. The PM timer counts 3,579 times in it, so they
/// are right to 0.03 %.
const CALIBRATION_NS: u64 = 1_000_000;
/// How often they are measured. Whatever interrupts a measurement (system management
/// mode; on an emulated box everything else that its host does) makes counters look
/// faster than they are, so the slowest measurement counts.
const CALIBRATIONS: usize = 5;
const NS_PER_SECOND: u64 = 1_000_000_000;

static SPEEDS: Once<Speeds> = Once::new();
/// Ticks that were spent waiting for hardware.
static WAITED: AtomicU64 = AtomicU64::new(0);
/// Ticks that went into memory of guests.
static FILLED: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Debug)]
struct Speeds {
    tsc_hz: u64,
    apic_timer_hz: u64,
}

/// The time-stamp counter.
#[inline]
pub fn now() -> u64 {
    // SAFETY: the instruction is always there in 64-bit mode.
    unsafe { _rdtsc() }
}

/// Measures the clocks on the boot processor.
///
/// # Errors
/// If there is no clock to measure them with.
pub(super) fn init(pm_timer: Option<u16>) -> Result<(), Refusal> {
    let told = features::features().tsc_hz;
    apic::start_silent_timer();
    let mut best: Option<Measurement> = None;
    for _ in 0..CALIBRATIONS {
        let one = Measurement::take(told, pm_timer)?;
        WAITED.fetch_add(one.tsc_ticks, Ordering::Relaxed);
        best = Some(best.map_or(one, |best| best.slower(one)));
    }
    apic::stop_timer();
    let Some(Measurement {
        tsc_ticks,
        apic_ticks,
    }) = best
    else {
        return Err(Refusal::NoClock);
    };
    let per_second = NS_PER_SECOND / CALIBRATION_NS;
    let tsc_hz = told.unwrap_or(tsc_ticks * per_second);
    SPEEDS.call_once(|| Speeds {
        tsc_hz,
        // As many as fit into the time that really passed.
        apic_timer_hz: (u64::from(apic_ticks) * to_khz(tsc_hz) / tsc_ticks.max(1) * 1000).max(1),
    });
    Ok(())
}

/// What two counters did in [`CALIBRATION_NS`], or a little more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Measurement {
    tsc_ticks: u64,
    apic_ticks: u32,
}

impl Measurement {
    fn take(told: Option<u64>, pm_timer: Option<u16>) -> Result<Self, Refusal> {
        let apic_start = apic::timer_count();
        let tsc_start = now();
        match (told, pm_timer) {
            (Some(hz), _) => wait_ticks(to_ticks(hz, CALIBRATION_NS)),
            (None, Some(port)) => wait_by_pm_timer(port)?,
            (None, None) => return Err(Refusal::NoClock),
        }
        Ok(Self {
            tsc_ticks: now().wrapping_sub(tsc_start),
            apic_ticks: apic_start.wrapping_sub(apic::timer_count()),
        })
    }

    /// The one of two in which the time-stamp counter made fewer ticks.
    fn slower(self, other: Self) -> Self {
        if other.tsc_ticks < self.tsc_ticks {
            other
        } else {
            self
        }
    }
}

const fn to_khz(hz: u64) -> u64 {
    hz / 1000
}

/// Waits for [`CALIBRATION_NS`].
fn wait_by_pm_timer(port: u16) -> Result<(), Refusal> {
    /// Reading a port takes about a microsecond. On a machine where it takes
    /// none, this is still far more often than needed.
    const TRIES: u32 = 100_000_000;
    const MASK: u32 = (1 << PM_TIMER_BITS) - 1;
    let mut port = PortReadOnly::<u32>::new(port);
    // SAFETY: firmware says that this is the timer, which can only be read.
    let mut read = || unsafe { port.read() };
    let start = read();
    let wanted = PM_TIMER_HZ * CALIBRATION_NS / NS_PER_SECOND;
    for _ in 0..TRIES {
        if u64::from(read().wrapping_sub(start) & MASK) >= wanted {
            return Ok(());
        }
        hint::spin_loop();
    }
    Err(Refusal::NoClock)
}

fn speeds() -> Speeds {
    *SPEEDS.get().expect("the clocks are measured first")
}

/// Ticks of the time-stamp counter in a second.
pub fn tsc_hz() -> u64 {
    speeds().tsc_hz
}

/// Ticks of the local APIC's timer in a second.
pub fn apic_timer_hz() -> u64 {
    speeds().apic_timer_hz
}

/// How many ticks of the time-stamp counter take `ns` nanoseconds.
pub fn ticks(ns: u64) -> u64 {
    to_ticks(tsc_hz(), ns)
}

fn to_ticks(hz: u64, ns: u64) -> u64 {
    scale(ns, hz, NS_PER_SECOND)
}

/// How many nanoseconds `ticks` of the time-stamp counter take.
pub fn nanoseconds(ticks: u64) -> u64 {
    scale(ticks, NS_PER_SECOND, tsc_hz())
}

/// `value` * `by` / `of`, which may be larger than 64 bits on the way; at most
/// `u64::MAX`.
fn scale(value: u64, by: u64, of: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(by) / u128::from(of);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Waits for at least `ns` nanoseconds.
pub fn wait(ns: u64) {
    let start = now();
    wait_ticks(ticks(ns));
    // As long as it really took: an emulated box may jump in time meanwhile.
    WAITED.fetch_add(now().wrapping_sub(start), Ordering::Relaxed);
}

fn wait_ticks(ticks: u64) {
    let start = now();
    while now().wrapping_sub(start) < ticks {
        hint::spin_loop();
    }
}

/// How many ticks have been spent waiting because hardware wants to be waited
/// for: what a count of instructions from start to guest leaves out.
pub fn waited_ticks() -> u64 {
    WAITED.load(Ordering::Relaxed)
}

/// Does something that takes time in proportion to a guest's memory or image.
pub fn fill<T>(action: impl FnOnce() -> T) -> T {
    let start = now();
    let result = action();
    FILLED.fetch_add(now().wrapping_sub(start), Ordering::Relaxed);
    result
}

/// How many ticks have been spent clearing guests' memory and copying images into it:
/// what a count of instructions from start to guest leaves out too.
pub fn filled_ticks() -> u64 {
    FILLED.load(Ordering::Relaxed)
}

/// Lets this processor's timer interrupt at `deadline`, in ticks of the
/// time-stamp counter.
pub fn set_timer(deadline: u64) {
    if features::features().basic.tsc_deadline() {
        // Zero would stop the timer.
        apic::set_deadline(deadline.max(1));
    } else {
        let ticks = deadline.saturating_sub(now());
        let count = scale(ticks, apic_timer_hz(), tsc_hz());
        apic::start_timer(u32::try_from(count).unwrap_or(u32::MAX).max(1));
    }
}

/// Stops this processor's timer.
pub fn stop_timer() {
    apic::stop_timer();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_measurement_counts() {
        let right = Measurement {
            tsc_ticks: 2_600_000,
            apic_ticks: 1_000,
        };
        let interrupted = Measurement {
            tsc_ticks: 23_000_000,
            apic_ticks: 8_800,
        };
        assert_eq!(right.slower(interrupted), right);
        assert_eq!(interrupted.slower(right), right);
    }

    #[test]
    fn ticks_are_scaled_without_overflow() {
        assert_eq!(to_ticks(2_000_000_000, 1_500), 3_000);
        assert_eq!(to_ticks(3_000_000_000, u64::MAX), u64::MAX);
        assert_eq!(scale(u64::MAX, 7, 7), u64::MAX);
    }
}
