//! What the suites share: a list of checks, and the way out.
//!
//! A suite prints a line for each check and ends the emulated machine with a
//! status that says whether all of them held.
#![no_std]

use core::fmt::{Debug, Display};

use kernel::arch::Handover;
use kernel::machine::Machine;
use kernel::{println, refuse};
use x86_64::instructions::{hlt, port::Port};

/// Where the box has QEMU's `isa-debug-exit`.
const DEBUG_EXIT: u16 = 0xf4;

/// The checks so far.
#[derive(Debug, Default)]
pub struct Suite {
    passed: u32,
    failed: u32,
}

impl Suite {
    /// Takes over the machine for a suite of this name.
    pub fn start(name: &str, handover: Handover) -> (Self, Machine) {
        println!("suite: {name}");
        match Machine::take_over(handover) {
            Ok(machine) => (Self::default(), machine),
            Err(refusal) => refuse(&refusal),
        }
    }

    /// Checks that two things are equal.
    pub fn equal<T: Debug + PartialEq>(&mut self, name: &str, found: T, expected: T) {
        if found == expected {
            self.passed += 1;
            println!("suite: ok {name}");
        } else {
            self.failed += 1;
            println!("suite: FAILED {name}: found {found:x?}, expected {expected:x?}");
        }
    }

    /// Checks that a number is at most `limit`.
    pub fn at_most(&mut self, name: &str, found: u64, limit: u64) {
        if found <= limit {
            self.passed += 1;
            println!("suite: ok {name} {found} limit={limit}");
        } else {
            self.failed += 1;
            println!("suite: FAILED {name}: {found} is more than {limit}");
        }
    }

    /// Shows a number that nothing depends on.
    pub fn show(&self, name: &str, value: impl Display) {
        println!("suite: shown {name} {value}");
    }

    /// Ends the machine.
    pub fn end(self) -> ! {
        println!("suite: end passed={} failed={}", self.passed, self.failed);
        let mut port = Port::<u8>::new(DEBUG_EXIT);
        #[expect(unsafe_code, reason = "the way out of the box")]
        // SAFETY: nothing else is at this port on the box.
        unsafe {
            port.write(u8::from(self.failed > 0 || self.passed == 0));
        }
        loop {
            hlt();
        }
    }
}
