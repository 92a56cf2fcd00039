//! The clock of KVM's interface, by which a guest knows the time and how fast its
//! time-stamp counter counts.
//!
//! All virtual processors have the same: nanoseconds since the guest was made, as a
//! function of the time-stamp counter that never changes while the guest runs. So a
//! page is written once, when the guest asks for it.
//! [Linux, Documentation/virt/kvm/x86/msr.rst, MSR_KVM_WALL_CLOCK_NEW,
//! MSR_KVM_SYSTEM_TIME_NEW; Documentation/virt/kvm/x86/cpuid.rst]

/// Where to write the time of the day at which the clock was 0.
pub const WALL_CLOCK: u32 = 0x4b56_4d00;
/// Where a virtual processor's clock is, and whether it is wanted.
pub const SYSTEM_TIME: u32 = 0x4b56_4d01;

/// SYSTEM_TIME: the clock is wanted.
const ENABLED: u64 = 1 << 0;
/// Addresses are multiples of 4; the bit between is reserved.
const ADDRESS: u64 = !0b11;

/// KVM_FEATURE_NOP_IO_DELAY: there is no need to wait between accesses to ports.
const FEATURE_NO_IO_DELAY: u32 = 1 << 1;
/// KVM_FEATURE_CLOCKSOURCE2: the two registers above are there.
const FEATURE_CLOCK: u32 = 1 << 3;
/// KVM_FEATURE_CLOCKSOURCE_STABLE_BIT: [`STABLE`] can be relied on.
const FEATURE_STABLE: u32 = 1 << 24;

/// PVCLOCK_TSC_STABLE_BIT: clocks of different processors can be compared.
const STABLE: u8 = 1 << 0;
/// An even version: the page is not being changed.
const VERSION: u32 = 2;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// How large the two structures are, in bytes.
pub const CLOCK_BYTES: usize = 32;
/// As above.
pub const WALL_CLOCK_BYTES: usize = 12;

/// The features of KVM's interface that there are: EAX of its second leaf.
pub const fn features(has_invariant_tsc: bool) -> u32 {
    let stable = if has_invariant_tsc { FEATURE_STABLE } else { 0 };
    FEATURE_NO_IO_DELAY | FEATURE_CLOCK | stable
}

/// The clock of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvmClock {
    /// The time-stamp counter when the guest was made.
    pub begun: u64,
    /// Its ticks in a second, at least 1.
    pub tsc_hz: u64,
    /// It counts at the same speed in all states of the processors, and in step.
    pub is_invariant: bool,
    /// Nanoseconds since 1970 when the guest was made.
    pub wall_ns: u64,
}

impl KvmClock {
    /// The page of a virtual processor: `struct pvclock_vcpu_time_info`.
    pub fn clock(&self) -> [u8; CLOCK_BYTES] {
        let (multiplier, shift) = scale(self.tsc_hz);
        let flags = if self.is_invariant { STABLE } else { 0 };
        let fields: [&[u8]; 7] = [
            &VERSION.to_le_bytes(),
            &[0; 4],
            &self.begun.to_le_bytes(),
            &0_u64.to_le_bytes(),
            &multiplier.to_le_bytes(),
            &shift.to_le_bytes(),
            &[flags, 0, 0],
        ];
        concatenate(&fields)
    }

    /// `struct pvclock_wall_clock`: seconds and nanoseconds since 1970 when the clock
    /// was 0. Seconds are modulo 2 to the power of 32.
    pub fn wall_clock(&self) -> [u8; WALL_CLOCK_BYTES] {
        let [a, b, c, d, ..] = (self.wall_ns / NS_PER_SECOND).to_le_bytes();
        let [e, f, g, h, ..] = (self.wall_ns % NS_PER_SECOND).to_le_bytes();
        concatenate(&[&VERSION.to_le_bytes(), &[a, b, c, d], &[e, f, g, h]])
    }
}

/// The address that [`SYSTEM_TIME`] was set to, if the clock is wanted.
pub const fn clock_address(value: u64) -> Option<u64> {
    if value & ENABLED == 0 {
        return None;
    }
    Some(value & ADDRESS)
}

/// The address that [`WALL_CLOCK`] was set to.
pub const fn wall_clock_address(value: u64) -> u64 {
    value & ADDRESS
}

/// How ticks become nanoseconds: shifted left by the second number (right if it is
/// negative), multiplied by the first, and shifted right by 32.
fn scale(hz: u64) -> (u32, i8) {
    // After the shift there are more than 10^9 ticks in a second, and at most twice as
    // many, so that the multiplier has 32 significant bits.
    let mut shift = 0_i8;
    let mut shifted = u128::from(hz.max(1)) << 64;
    let one = u128::from(NS_PER_SECOND) << 64;
    while shifted > 2 * one {
        shifted >>= 1;
        shift -= 1;
    }
    while shifted <= one {
        shifted <<= 1;
        shift += 1;
    }
    let multiplier = (u128::from(NS_PER_SECOND) << 96) / shifted;
    (u32::try_from(multiplier).unwrap_or(u32::MAX), shift)
}

fn concatenate<const N: usize>(fields: &[&[u8]]) -> [u8; N] {
    let mut all = [0; N];
    let bytes = fields.iter().copied().flatten();
    for (place, &byte) in all.iter_mut().zip(bytes) {
        *place = byte;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a guest computes.
    fn nanoseconds(ticks: u64, (multiplier, shift): (u32, i8)) -> u128 {
        let shifted = if shift >= 0 {
            u128::from(ticks) << shift
        } else {
            u128::from(ticks >> -shift)
        };
        (shifted * u128::from(multiplier)) >> 32
    }

    #[test]
    fn speeds_become_multipliers() {
        // 10^9 << 32 / 2*10^9.
        assert_eq!(scale(1_000_000_000), (0x8000_0000, 1));
        assert_eq!(scale(2_000_000_000), (0x8000_0000, 0));
        // 10^9 << 32 / 1.5*10^9 = 2863311530.67.
        assert_eq!(scale(3_000_000_000), (0xaaaa_aaaa, -1));
        for hz in [1, 999_999, 25_000_000, 2_100_000_123, 6_000_000_000] {
            let ten_seconds = nanoseconds(hz * 10, scale(hz));
            assert!(
                ten_seconds.abs_diff(10_000_000_000) <= 10,
                "{hz}: {ten_seconds}"
            );
        }
    }

    #[test]
    fn the_clock_is_laid_out_as_linux_reads_it() {
        let clock = KvmClock {
            begun: 0x1122_3344_5566_7788,
            tsc_hz: 3_000_000_000,
            is_invariant: true,
            wall_ns: 0x6000_0000 * 1_000_000_000 + 0x1234_5678,
        };
        let expected = [
            2, 0, 0, 0, 0, 0, 0, 0, // version, padding
            0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, // tsc_timestamp
            0, 0, 0, 0, 0, 0, 0, 0, // system_time
            0xaa, 0xaa, 0xaa, 0xaa, 0xff, 1, 0, 0, // multiplier, shift, flags
        ];
        assert_eq!(clock.clock(), expected);
        let expected = [2, 0, 0, 0, 0, 0, 0, 0x60, 0x78, 0x56, 0x34, 0x12];
        assert_eq!(clock.wall_clock(), expected);
        let clock = KvmClock {
            is_invariant: false,
            ..clock
        };
        assert_eq!(clock.clock()[29], 0);
    }

    #[test]
    fn registers_hold_addresses() {
        assert_eq!(clock_address(0x1234_5001), Some(0x1234_5000));
        assert_eq!(clock_address(0x1234_5000), None);
        assert_eq!(wall_clock_address(0x1234_5004), 0x1234_5004);
    }

    #[test]
    fn features_are_those_that_are_there() {
        assert_eq!(features(true), 0x0100_000a);
        assert_eq!(features(false), 0x0000_000a);
    }
}
