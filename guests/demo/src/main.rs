//! A guest that works a file through its DSA.
//!
//! On every queue, with each instruction that it takes: copies, fills, compares,
//! dualcasts, checksums, deltas and batches. All of it is waited for by interrupt, and
//! every byte is verified. Then the whole input is copied and checksummed, and if the
//! command line says so the guest goes on for a while:
//!
//! | word | effect |
//! |---|---|
//! | `rounds=N`, `descriptors=N`, `seconds=N` | goes on for so long |
//! | `queue=N` | uses this queue alone |
//! | `dsa=N` | uses the guest's Nth DSA (0) |
//! | `limit=N` | gives a piece of work so many seconds (20) |
//! | `pasid=N` | work on shared queues carries this guest PASID (1) |
//! | `dedicated-pasid=N` | dedicated queues run with this guest PASID |
//! | `talk=1` | first listens at its console: what is typed comes back, `go` begins |
//!
//! It ends with 0, 1 if a check failed, 2 if work did not come back, 3 if it could not
//! begin.
#![no_std]
#![no_main]

extern crate alloc;

mod arena;
mod batches;
mod input;
mod lane;
mod operations;
mod soak;
mod talk;
mod tally;

use alloc::vec::Vec;
use core::fmt::Display;
use core::time::Duration;

use guest_rt::dsa::{Batch, Device, Instruction, Pasids};
use guest_rt::hypercall::{Key, report};
use guest_rt::options::{BadNumber, Options};
use guest_rt::{Guest, Platform, interrupts, println, probe};
use hwspec::dsa::CommandCode;

use crate::arena::Arena;
use crate::lane::{Lane, Stuck};
use crate::soak::Goal;
use crate::tally::Tally;

guest_rt::main!(run);

const FAILED: u64 = 1;
const STUCK: u64 = 2;
const CANNOT_BEGIN: u64 = 3;

/// The command line.
struct Settings {
    goal: Goal,
    queue: Option<u64>,
    device: u64,
    limit: Duration,
    pasids: Pasids,
    talks: bool,
}

impl Settings {
    fn from(options: &Options<'static>) -> Result<Self, BadNumber<'static>> {
        Ok(Self {
            goal: Goal::from(options)?,
            queue: options.number("queue")?,
            device: options.number("dsa")?.unwrap_or(0),
            limit: Duration::from_secs(options.number("limit")?.unwrap_or(20)),
            pasids: Pasids::from_options(options)?,
            talks: options.number("talk")? == Some(1),
        })
    }
}

fn run(guest: &'static Guest) -> u64 {
    let settings = match Settings::from(&guest.options) {
        Ok(settings) => settings,
        Err(error) => return cannot_begin(&error),
    };
    let nth = usize::try_from(settings.device).unwrap_or(usize::MAX);
    let mut device = match Device::open(guest, nth, settings.pasids) {
        Ok(device) => device,
        Err(error) => return cannot_begin(&error),
    };
    introduce(guest, &device);
    if settings.talks {
        talk::until_go();
    }
    let mut tally = Tally::default();
    let lanes = lanes(&device, &settings, &mut tally);
    if lanes.is_empty() {
        return cannot_begin(&"there is no such queue");
    }
    let result = work(guest, &settings.goal, &lanes, &mut tally);

    // The device is still well, and says so by its own vector.
    let drained = device.execute_with_interrupt(CommandCode::DRAIN_ALL, 0);
    tally.check(drained.is_ok(), format_args!("drain: {drained:?}"));
    let error = device.take_error();
    tally.check(error.is_none(), format_args!("software error: {error:?}"));

    let mut vectors: Vec<u8> = lanes.iter().map(|lane| lane.queue.vector).collect();
    vectors.dedup();
    let counts = vectors.iter().map(|&vector| interrupts::count(vector));
    tally.interrupts = counts.map(u64::from).sum();
    println!(
        "demo: {} descriptors submitted, {} completed, {} with an error that was provoked",
        tally.submitted, tally.completed, tally.errors
    );
    println!(
        "demo: {} interrupts, {} submissions to be tried again",
        tally.interrupts, tally.retried
    );
    tally.report();
    if let Err(stuck) = result {
        println!("demo: STUCK: {stuck}");
        // The device may still write to memory that would be freed now.
        core::mem::forget(lanes);
        return STUCK;
    }
    if tally.failed > 0 {
        println!("demo: FAILED {} of {} checks", tally.failed, tally.checks);
        return FAILED;
    }
    println!("demo: passed {} checks", tally.checks);
    0
}

fn cannot_begin(why: &dyn Display) -> u64 {
    println!("demo: cannot begin: {why}");
    CANNOT_BEGIN
}

fn introduce(guest: &Guest, device: &Device) {
    match guest.platform {
        Platform::Weir { version, tsc_khz } => {
            println!("demo: a guest of Weir, interface {version}, {tsc_khz} kHz");
        }
        Platform::Bare => println!("demo: on the bare box"),
    }
    let version = device.version();
    println!(
        "demo: DSA {} version {}.{}, {} queues; the input has {} bytes",
        device.id(),
        version.major(),
        version.minor(),
        device.queues().len(),
        guest.input.len()
    );
}

/// A lane for each queue and each instruction that it takes.
fn lanes(device: &Device, settings: &Settings, tally: &mut Tally) -> Vec<Lane> {
    const VALID: u64 = 1 << 31;
    let mut lanes = Vec::new();
    for queue in device.queues() {
        let only = settings.queue;
        if only.is_some_and(|only| only != queue.index as u64) {
            continue;
        }
        lanes.push(Lane::new(*queue, queue.instruction, settings.limit));
        if queue.instruction == Instruction::Enqcmds {
            let value = VALID | u64::from(queue.pasid.unwrap_or(0));
            let set = probe::set_ia32_pasid(value);
            tally.check(set.is_ok(), format_args!("IA32_PASID {value:#x}: {set:?}"));
            lanes.push(Lane::new(*queue, Instruction::Enqcmd, settings.limit));
        }
    }
    lanes
}

fn work(guest: &Guest, goal: &Goal, lanes: &[Lane], tally: &mut Tally) -> Result<(), Stuck> {
    let arena = Arena::new(guest.input);
    let mut batch = Batch::new(batches::MOST);
    let result = work_in(guest, goal, lanes, &arena, &mut batch, tally);
    if result.is_err() {
        // As for the lanes.
        core::mem::forget((arena, batch));
    }
    result
}

fn work_in(
    guest: &Guest,
    goal: &Goal,
    lanes: &[Lane],
    arena: &Arena,
    batch: &mut Batch,
    tally: &mut Tally,
) -> Result<(), Stuck> {
    for lane in lanes {
        let before = (tally.completed, tally.checks);
        operations::run(lane, arena, tally)?;
        batches::run(lane, arena, batch, tally)?;
        println!(
            "demo: wq{} {} of {} entries by {}, handle {:#x}: {} descriptors, {} checks",
            lane.queue.index,
            if lane.queue.is_dedicated {
                "dedicated"
            } else {
                "shared"
            },
            lane.queue.size,
            lane.instruction.name(),
            lane.queue.handle,
            tally.completed - before.0,
            tally.checks - before.1
        );
    }
    let input = if guest.input.is_empty() {
        arena.expected
    } else {
        guest.input
    };
    let crc = input::run(lanes, arena, input, tally)?;
    println!(
        "demo: {} bytes copied and verified; CRC32C by the DSA {crc:#010x}",
        input.len()
    );
    report(Key::Crc32c, crc.into());
    let rounds = soak::run(goal, lanes, arena, batch, tally)?;
    if rounds > 0 {
        println!("demo: {rounds} rounds of batches and copies");
    }
    Ok(())
}
