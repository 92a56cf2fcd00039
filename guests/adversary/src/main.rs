//! A guest that tries everything it can to get at the others.
//!
//! `attack=NAME` tries one attack, `attack=all` (or nothing) all that leave the guest
//! alive. For each it prints what it saw and whether it was contained, as far as the
//! guest itself can see: whether a victim beside it had its data right is for the victim
//! to say. After each it brings its accelerator up again and lets it do honest work.
//!
//! | word | effect |
//! |---|---|
//! | `attack=NAME` | what to try (`all`) |
//! | `effort=N` | how often, for races, floods and random accesses (2000) |
//! | `rounds=N` | all over again so many times (1) |
//! | `dsa=N` | uses the guest's Nth DSA (0) |
//! | `pasid=N`, `dedicated-pasid=N` | a guest PASID for shared (1) and dedicated queues |
//! | `own=N,N` | further guest PASIDs that are the guest's own, and no attack |
//!
//! It ends with 0, 1 if an attack was not contained, 3 if it could not begin.
#![no_std]
#![no_main]

extern crate alloc;

mod addresses;
mod descriptors;
mod handles;
mod pasids;
mod places;
mod portals;
mod processor;
mod races;
mod registers;
mod seen;
mod stage;
mod stops;

use core::fmt::Display;

use guest_rt::dsa::{Device, Pasids};
use guest_rt::hypercall::{Key, report};
use guest_rt::options::BadNumber;
use guest_rt::{Guest, println, probe};

use crate::stage::{Stage, Verdict};

guest_rt::main!(run);

const NOT_CONTAINED: u64 = 1;
const CANNOT_BEGIN: u64 = 3;

/// An attack by its name.
type Attack = (&'static str, fn(&mut Stage) -> Verdict);

const ATTACKS: &[Attack] = &[
    ("handle-unallocated", handles::unallocated),
    ("handle-foreign", handles::foreign),
    ("handle-out-of-table", handles::out_of_table),
    ("pasid-enqcmds", pasids::enqcmds),
    ("pasid-enqcmd", pasids::enqcmd),
    ("pasid-movdir64b", pasids::movdir64b),
    ("pasid-msixperm", pasids::msix_permission),
    ("privileged", pasids::privileged),
    ("address-read", addresses::read),
    ("address-checksum", addresses::checksum),
    ("address-write", addresses::write),
    ("address-record", addresses::record),
    ("address-list", addresses::list),
    ("address-message", addresses::message),
    ("portal-foreign", portals::foreign),
    ("portal-ims", portals::message_storage),
    ("portal-odd", portals::odd_accesses),
    ("portal-instruction", portals::wrong_instruction),
    ("record-misaligned", descriptors::misaligned_record),
    ("record-overlapping", descriptors::overlapping_record),
    ("descriptor-invalid", descriptors::invalid),
    ("descriptor-random", descriptors::random),
    ("batch-members", descriptors::batch_members),
    ("race-descriptor", races::descriptor),
    ("race-batch", races::batch),
    ("flood", descriptors::flood),
    ("mmio-random", registers::random),
    ("commands", registers::commands),
    ("stops", stops::queues),
    ("configuration", registers::configuration),
    ("msr", processor::msrs),
    ("interrupt-flood", processor::interrupt_flood),
    ("interrupt-ends", processor::interrupt_ends),
    ("virtualization", processor::virtualization),
    ("port", processor::ports),
    ("physical", processor::memory),
    ("hypercall", processor::hypercalls),
];

/// Attacks that end the guest, tried only by name.
const ENDS: &[(&str, fn() -> !)] = &[
    ("triple-fault", probe::triple_fault),
    ("endless-loop", probe::endless_loop),
    ("reset", processor::reset),
];

struct Settings {
    attack: &'static str,
    effort: u64,
    rounds: u64,
    device: u64,
    pasids: Pasids,
}

impl Settings {
    fn from(guest: &Guest) -> Result<Self, BadNumber<'static>> {
        let options = &guest.options;
        Ok(Self {
            attack: options.text("attack").unwrap_or("all"),
            effort: options.number("effort")?.unwrap_or(2000),
            rounds: options.number("rounds")?.unwrap_or(1),
            device: options.number("dsa")?.unwrap_or(0),
            pasids: Pasids::from_options(options)?,
        })
    }
}

fn run(guest: &'static Guest) -> u64 {
    let settings = match Settings::from(guest) {
        Ok(settings) => settings,
        Err(error) => return cannot_begin(&error),
    };
    if let Some((name, end)) = ENDS.iter().find(|(name, _)| *name == settings.attack) {
        println!("adversary: attack {name}: the end of this guest");
        end();
    }
    let is_chosen = |name: &str| settings.attack == "all" || settings.attack == name;
    if !ATTACKS.iter().any(|(name, _)| is_chosen(name)) {
        for (name, _) in ATTACKS {
            println!("adversary: there is attack={name}");
        }
        return cannot_begin(&"there is no attack of that name");
    }
    let nth = usize::try_from(settings.device).unwrap_or(usize::MAX);
    let device = match Device::open(guest, nth, settings.pasids) {
        Ok(device) if !device.queues().is_empty() => device,
        Ok(_) => return cannot_begin(&"the DSA has no queue"),
        Err(error) => return cannot_begin(&error),
    };
    println!(
        "adversary: DSA {}, {} queues; attack={}",
        device.id(),
        device.queues().len(),
        settings.attack
    );
    let mut stage = Stage::new(guest, device, settings.pasids, settings.effort);
    let (mut tried, mut escaped) = (0, 0);
    if let Err(error) = stage.recover() {
        println!("adversary: honest work fails before the first attack: {error}");
        return CANNOT_BEGIN;
    }
    'rounds: for _ in 0..settings.rounds {
        for (name, attack) in ATTACKS.iter().filter(|(name, _)| is_chosen(name)) {
            let verdict = attack(&mut stage);
            let recovery = stage.recover();
            let is_contained = verdict.is_contained && recovery.is_ok();
            tried += 1;
            escaped += u64::from(!is_contained);
            println!(
                "adversary: attack {name}: {}: {}",
                if is_contained {
                    "contained"
                } else {
                    "NOT CONTAINED"
                },
                verdict.saw
            );
            if let Err(error) = recovery {
                println!("adversary: after {name} honest work fails: {error}");
                break 'rounds;
            }
        }
    }
    report(Key::Checks, tried);
    report(Key::Failed, escaped);
    stage.report();
    println!("adversary: {tried} attacks, {escaped} not contained");
    if escaped > 0 { NOT_CONTAINED } else { 0 }
}

fn cannot_begin(why: &dyn Display) -> u64 {
    println!("adversary: cannot begin: {why}");
    CANNOT_BEGIN
}
