//! Whatever software and the bench do, the device does not panic, comes to
//! rest, and accounts for every descriptor. `emulator/fuzz` looks further.

mod support;

use support::drive::drive;

/// Runs, and bytes of each; a byte is about a quarter of an operation.
const RUNS: u64 = if cfg!(miri) { 4 } else { 3_000 };
const BYTES: usize = if cfg!(miri) { 384 } else { 2_048 };

/// A generator of our own keeps every run repeatable from its number.
/// [G. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8 (2003)]
fn random_bytes(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..BYTES).map(|_| next()).collect()
}

#[test]
fn random_bus_operations_never_break_the_device() {
    for seed in 0..RUNS {
        let bytes = random_bytes(seed);
        let run = std::panic::catch_unwind(|| drive(&bytes));
        assert!(run.is_ok(), "run {seed} failed, see above");
    }
}
