//! A guest that counts what submissions and completions cost it.
//!
//! Costs are ticks of the time-stamp counter: instructions, where the box counts them
//! (`labbox --icount`). Those of submissions are from VM exit to VM entry, the portal
//! write of Weir included. It tells them to Weir, which counts exits between the
//! hypercalls around each measurement:
//!
//! | id | measurement |
//! |---|---|
//! | 1 | nothing: two readings of the counter, the floor of the next and of 10 |
//! | 2 | a hypercall, the smallest exit there is, with the CPUID before it |
//! | 3 | MOVDIR64B of a copy with a record |
//! | 4 | the same by ENQCMDS |
//! | 5 | the same by ENQCMD |
//! | 6 | MOVDIR64B of a batch of 64 such copies |
//! | 7 | from the device's message to the handler, of a processor that has halted |
//! | 8 | the same of one that runs with interrupts on |
//! | 9 | the end of a batch, from VM exit to VM entry, of a processor that runs |
//! | 10 | a load from a register of the accelerator |
//! | 11 | as 8, from VM exit to VM entry |
//! | 12 | as 8, of a second processor, while the first has halted |
//! | 13 | MOVDIR64B to a portal of the guest's own: 1, the instruction itself |
//! | 14 | as 3, with an interrupt handle to be looked up |
//!
//! `times=N` repeats each so often (64), `pasid=N` is the guest PASID of shared queues
//! (1), `direct=N` the number of a queue whose portal is the guest's own (none). Of a
//! guest with `hold=MS` the queues and interrupt handles are all that is wanted: it
//! halts for so long. With `wait=MS` it halts for so long before it begins. It ends with 0, 2 if work did not come back, 3 if it could not begin.
#![no_std]
#![no_main]

extern crate alloc;

mod measure;

use core::fmt::Display;
use core::time::Duration;

use guest_rt::dsa::{Device, Instruction, Pasids, Queue};
use guest_rt::hypercall::{Key, report};
use guest_rt::{Guest, interrupts, println, probe, second};

use crate::measure::{Bench, Cost};

guest_rt::main!(run);

const STUCK: u64 = 2;
const CANNOT_BEGIN: u64 = 3;
/// IA32_PASID bit 31.
const VALID: u64 = 1 << 31;

fn run(guest: &'static Guest) -> u64 {
    let options = &guest.options;
    let numbers = ["times", "direct", "hold", "wait"].map(|key| options.number(key));
    let [Ok(times), Ok(direct), Ok(hold), Ok(wait)] = numbers else {
        return cannot_begin(&"times=, direct=, hold= and wait= want numbers");
    };
    let pasids = match Pasids::from_options(options) {
        Ok(pasids) => pasids,
        Err(error) => return cannot_begin(&error),
    };
    let mut device = match Device::open(guest, 0, pasids) {
        Ok(device) => device,
        Err(error) => return cannot_begin(&error),
    };
    if let Some(time) = hold {
        println!("bench: holds {} interrupt handles", device.queues().len());
        interrupts::settle(Duration::from_millis(time));
        return 0;
    }
    interrupts::settle(Duration::from_millis(wait.unwrap_or(0)));
    let direct = direct.and_then(|index| usize::try_from(index).ok());
    let find = |is_wanted: &dyn Fn(&Queue) -> bool| {
        device
            .queues()
            .iter()
            .find(|queue| is_wanted(queue))
            .copied()
    };
    let checked = find(&|queue| queue.is_dedicated && Some(queue.index) != direct);
    let shared = find(&|queue| !queue.is_dedicated);
    let direct = find(&|queue| Some(queue.index) == direct);
    println!("bench: ticks of the time-stamp counter, instructions if those are counted");
    println!(
        "bench: {:<52} {:>8} {:>8} {:>8}",
        "", "least", "median", "most"
    );
    let bench = Bench::new(times.unwrap_or(64));
    tell(1, "nothing", bench.nothing());
    tell(2, "hypercall", bench.hypercall(guest));
    tell(10, "load from a register", bench.register(&device));
    let result = checked
        .map_or(Ok(()), |queue| on_dedicated(&bench, &queue))
        .and_then(|()| shared.map_or(Ok(()), |queue| on_shared(&bench, &queue)))
        .and_then(|()| direct.map_or(Ok(()), |queue| on_direct(&bench, &queue)))
        .and_then(|()| match checked {
            Some(queue) if guest.options.text("second") == Some("on") => {
                on_second(&bench, &mut device, &queue)
            }
            _ => Ok(()),
        });
    match result {
        Ok(()) => 0,
        Err(stuck) => {
            println!("bench: STUCK: {stuck}");
            STUCK
        }
    }
}

fn on_dedicated(bench: &Bench, queue: &Queue) -> Result<(), &'static str> {
    tell(
        3,
        "MOVDIR64B",
        bench.submission(3, queue, queue.instruction)?,
    );
    tell(14, "MOVDIR64B with a handle", bench.with_handle(queue)?);
    tell(6, "MOVDIR64B of a batch of 64", bench.batch(queue)?);
    let (running, outside, halted) = bench.interrupts(queue)?;
    tell(8, "message to handler, running", running);
    tell(11, "the same, exit to entry", outside);
    tell(7, "message to handler, halted", halted);
    tell(
        9,
        "end of a batch, exit to entry",
        bench.batch_completion(queue)?,
    );
    Ok(())
}

fn on_shared(bench: &Bench, queue: &Queue) -> Result<(), &'static str> {
    tell(
        4,
        "ENQCMDS",
        bench.submission(4, queue, Instruction::Enqcmds)?,
    );
    let value = VALID | u64::from(queue.pasid.unwrap_or(0));
    match probe::set_ia32_pasid(value) {
        Ok(()) => tell(
            5,
            "ENQCMD",
            bench.submission(5, queue, Instruction::Enqcmd)?,
        ),
        Err(exception) => println!("bench: no ENQCMD: IA32_PASID raises {exception}"),
    }
    Ok(())
}

fn on_direct(bench: &Bench, queue: &Queue) -> Result<(), &'static str> {
    let cost = bench.submission(13, queue, queue.instruction)?;
    tell(13, "MOVDIR64B to a portal of its own", cost);
    Ok(())
}

fn on_second(bench: &Bench, device: &mut Device, queue: &Queue) -> Result<(), &'static str> {
    let sent = device.send_to(queue.index + 1, second::APIC_ID);
    sent.map_err(|_| "the MSI-X table has no such entry")?;
    if !second::start(measure::spin_on_second) {
        return Err("the second processor does not come up");
    }
    let cost = bench.on_second(queue)?;
    tell(12, "message to handler, another processor", cost);
    Ok(())
}

/// To people and to Weir.
fn tell(id: u64, name: &str, cost: Cost) {
    println!(
        "bench: {id:>2} {name:<49} {:>8} {:>8} {:>8}",
        cost.least, cost.median, cost.most
    );
    report(Key::BenchCost, cost.median << 8 | id);
}

fn cannot_begin(why: &dyn Display) -> u64 {
    println!("bench: cannot begin: {why}");
    CANNOT_BEGIN
}
