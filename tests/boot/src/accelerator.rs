//! The physical side on the emulated box: IOMMUs and DSAs are brought up, and
//! Weir itself uses them as guests will.
//!
//! Two guests that do not exist each have memory, a host PASID and a queue of each
//! DSA. Needs two processors.
//!
//! With `misfortune=NAME` on the command line something goes wrong instead: the suite
//! says `ready`, whoever runs it makes it happen to the first DSA and types a line, and
//! what comes of it is checked.
#![no_std]
#![no_main]

extern crate alloc;

mod accelerator {
    pub(crate) mod interrupts;
    pub(crate) mod lifecycle;
    pub(crate) mod misfortune;
    pub(crate) mod owner;
    pub(crate) mod protection;
    pub(crate) mod queues;
}

use alloc::vec::Vec;

use boot_suites::Suite;
use dsa::{Plan, QueueMode, QueueShape};
use kernel::arch::{Handover, clock};
use kernel::host::Host;
use kernel::host::accelerator::Accelerator;
use kernel::mm::frames;
use kernel::refuse;

use accelerator::{interrupts, lifecycle, misfortune, owner, protection, queues};

boot::main!(run);

/// Queues of each device: one for each guest, and one that they share.
pub(crate) const QUEUES: [u8; 2] = [0, 1];
pub(crate) const SHARED: u8 = 2;

fn run(handover: Handover) -> ! {
    let (mut suite, machine) = Suite::start("accelerator", handover);
    let start = clock::now();
    let host = match Host::bring_up(&machine, owner::take_interrupt) {
        Ok(host) => host,
        Err(error) => refuse(&error),
    };
    suite.show("bring_up_ticks", clock::now().wrapping_sub(start));
    suite.show("accelerators", host.accelerators.len());
    suite.equal("there_is_one", host.accelerators.is_empty(), false);
    for accelerator in &host.accelerators {
        suite.show("accelerator", accelerator.source());
        configure(accelerator);
    }
    if let Some(name) = machine.boot.option("misfortune") {
        misfortune::run(&mut suite, host, name);
        suite.end();
    }
    // Tables that are made once and stay are made by the first round.
    round(&mut suite, host);
    let before = Counts::now(host);
    round(&mut suite, host);
    let after = Counts::now(host);
    suite.equal("everything_was_given_back", &after, &before);
    suite.equal("no_pasid_is_in_use", host.iommu.count_pasids(), 0);
    suite.equal("no_fault_was_lost", host.iommu.fault_events().1, 0);
    suite.end()
}

fn configure(accelerator: &Accelerator) {
    let capabilities = accelerator.capabilities();
    let shape = |mode| QueueShape::largest(mode, 16, capabilities);
    let shapes = [
        shape(QueueMode::Dedicated),
        shape(QueueMode::Dedicated),
        shape(QueueMode::Shared),
    ];
    let plan = Plan::spread(capabilities, &shapes).expect("the device has three queues");
    if let Err(error) = accelerator.configure(&plan) {
        refuse(&error);
    }
    if let Err(error) = accelerator.enable_shared_queue(SHARED) {
        refuse(&error);
    }
}

/// Everything, with two guests that come and go.
fn round(suite: &mut Suite, host: &'static Host) {
    for accelerator in &host.accelerators {
        let one = owner::Owner::new(host, accelerator, 1, QUEUES[0]);
        let two = owner::Owner::new(host, accelerator, 2, QUEUES[1]);
        queues::run(suite, &one);
        interrupts::run(suite, &one);
        protection::run(suite, host, &one, &two);
        lifecycle::run(suite, host, &one);
        one.end(host);
        two.end(host);
    }
    lifecycle::exhaust(suite, host);
}

/// What must be the same before and after.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    frames: u64,
    slots: Vec<usize>,
    vectors: Vec<usize>,
    retired: Vec<usize>,
}

impl Counts {
    fn now(host: &Host) -> Self {
        // Lines are closed a few at a time.
        for _ in 0..64 {
            host.housekeep(|_| {});
        }
        let devices = || host.accelerators.iter();
        Self {
            frames: frames::count_free(),
            slots: devices().map(|device| device.slot_counts().free).collect(),
            vectors: (0..2).map(|cpu| host.routes.count_used(cpu)).collect(),
            retired: devices().map(Accelerator::count_retired).collect(),
        }
    }
}
