//! A guest at its local APIC, I/O APIC, serial port, registers and PCI bus: the same
//! driver as `kernel/tests/platform`, with the bytes chosen by coverage.
#![no_main]

#[path = "../../tests/platform/drive.rs"]
mod drive;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drive::drive(bytes));
