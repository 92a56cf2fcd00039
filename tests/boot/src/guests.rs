//! Guests of a few instructions: each way out of a guest and back, and that
//! guests keep their state to themselves.
#![no_std]
#![no_main]

extern crate alloc;

mod guests {
    pub(crate) mod costs;
    pub(crate) mod exits;
    pub(crate) mod interrupts;
    pub(crate) mod memory;
    pub(crate) mod programs;
    pub(crate) mod state;
    pub(crate) mod test_guest;
}

use boot_suites::Suite;
use kernel::arch::Handover;
use kernel::refuse;
use kernel::virt::svm::Svm;

use guests::{costs, exits, interrupts, memory, state};

boot::main!(run);

fn run(handover: Handover) -> ! {
    let (mut suite, _machine) = Suite::start("guests", handover);
    if let Err(refusal) = kernel::virt::start::<Svm>() {
        refuse(&refusal);
    }
    exits::run(&mut suite);
    memory::run(&mut suite);
    interrupts::run(&mut suite);
    state::run(&mut suite);
    costs::run(&mut suite);
    suite.end()
}
