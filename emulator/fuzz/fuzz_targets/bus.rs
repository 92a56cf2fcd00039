//! Random bus operations: the same driver as `tests/random_operations.rs`, with
//! the bytes chosen by coverage.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| support::drive::drive(bytes));
