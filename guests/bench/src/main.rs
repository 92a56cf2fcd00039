//! A guest that counts what submissions and completions cost it.
//!
//! Costs are ticks of the time-stamp counter: instructions, where the box counts them
//! (`labbox --icount`). What Weir spends between a VM exit and the next entry it counts
//! itself, between the two hypercalls around each measurement:
//!
//! | id | measurement |
//! |---|---|
//! | 1 | nothing: two readings of the counter, the floor of all others |
//! | 2 | a hypercall, the smallest exit there is |
//! | 3 | MOVDIR64B of a no-op without record or interrupt |
//! | 4 | the same by ENQCMDS |
//! | 5 | the same by ENQCMD |
//! | 6 | a batch of 64 no-ops, submission only |
//! | 7 | MOVDIR64B with an interrupt, from the submission to the handler, while the guest halts |
//! | 8 | the same while the guest runs with interrupts on |
//! | 9 | a batch of 64 with an interrupt, from the submission to the handler, while the guest halts |
//! | 10 | a load from a register of the accelerator |
//!
//! `times=N` repeats each so often (64), `pasid=N` is the guest PASID of shared queues
//! (1). It ends with 0, 2 if work did not come back, 3
//! if it could not begin.
#![no_std]
#![no_main]

extern crate alloc;

mod measure;

use core::fmt::Display;

use guest_rt::dsa::{Device, Instruction, Pasids, Queue};
use guest_rt::{Guest, println, probe};

use crate::measure::{Bench, Cost};

guest_rt::main!(run);

const STUCK: u64 = 2;
const CANNOT_BEGIN: u64 = 3;
/// IA32_PASID bit 31.
const VALID: u64 = 1 << 31;

fn run(guest: &'static Guest) -> u64 {
    let options = &guest.options;
    let (times, pasids) = match (options.number("times"), Pasids::from_options(options)) {
        (Ok(times), Ok(pasids)) => (times.unwrap_or(64), pasids),
        (Err(error), _) | (_, Err(error)) => return cannot_begin(&error),
    };
    let device = match Device::open(guest, 0, pasids) {
        Ok(device) => device,
        Err(error) => return cannot_begin(&error),
    };
    let dedicated = device.queues().iter().find(|queue| queue.is_dedicated);
    let shared = device.queues().iter().find(|queue| !queue.is_dedicated);
    if dedicated.is_none() && shared.is_none() {
        return cannot_begin(&"the DSA has no queue");
    }
    println!(
        "bench: {times} times each; ticks of the time-stamp counter, instructions if those are counted"
    );
    println!(
        "bench: {:<52} {:>8} {:>8} {:>8}",
        "", "least", "median", "most"
    );
    let bench = Bench::new(times);
    print(1, "nothing", bench.nothing());
    print(2, "hypercall", bench.hypercall(guest));
    print(10, "load from a register", bench.register(&device));
    let result = dedicated
        .map_or(Ok(()), |queue| on_dedicated(&bench, queue))
        .and_then(|()| shared.map_or(Ok(()), |queue| on_shared(&bench, queue)));
    match result {
        Ok(()) => 0,
        Err(stuck) => {
            println!("bench: STUCK: {stuck}");
            STUCK
        }
    }
}

fn on_dedicated(bench: &Bench, queue: &Queue) -> Result<(), &'static str> {
    print(
        3,
        "MOVDIR64B",
        bench.submission(3, queue, queue.instruction)?,
    );
    print(6, "MOVDIR64B of a batch of 64", bench.batch(queue)?);
    print(
        7,
        "MOVDIR64B to handler, halted",
        bench.interrupt(queue, true)?,
    );
    print(
        8,
        "MOVDIR64B to handler, running",
        bench.interrupt(queue, false)?,
    );
    print(
        9,
        "batch of 64 to handler, halted",
        bench.batch_interrupt(queue)?,
    );
    Ok(())
}

fn on_shared(bench: &Bench, queue: &Queue) -> Result<(), &'static str> {
    print(
        4,
        "ENQCMDS",
        bench.submission(4, queue, Instruction::Enqcmds)?,
    );
    let value = VALID | u64::from(queue.pasid.unwrap_or(0));
    match probe::set_ia32_pasid(value) {
        Ok(()) => print(
            5,
            "ENQCMD",
            bench.submission(5, queue, Instruction::Enqcmd)?,
        ),
        Err(exception) => println!("bench: no ENQCMD: IA32_PASID raises {exception}"),
    }
    Ok(())
}

fn print(id: u64, name: &str, cost: Cost) {
    println!(
        "bench: {id:>2} {name:<49} {:>8} {:>8} {:>8}",
        cost.least, cost.median, cost.most
    );
}

fn cannot_begin(why: &dyn Display) -> u64 {
    println!("bench: cannot begin: {why}");
    CANNOT_BEGIN
}
