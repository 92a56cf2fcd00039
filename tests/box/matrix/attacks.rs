//! Each attack of the adversary alone, beside a victim that has a queue of its own and shares
//! another with it.
//!
//! The adversary says whether it was kept in as far as it can see. Here it is seen which gate did
//! it, that the victim's data were right, that it got no interrupt which its own descriptors did
//! not send, and that no fault was charged to it.

use std::collections::BTreeSet;

use system_tests::weir_box::Outcome;

use crate::config::Config;
use crate::judge::{assert_own_interrupts, assert_own_work, assert_undisturbed};
use crate::scene::{Scene, assert_passed, has_ended};

/// What an attack is to meet, by the table of the design.
#[derive(Clone, Copy, Debug)]
enum Gate {
    /// Portal mapping: there is no queue where it writes, and nothing reaches the device but the
    /// guest's honest work before and after.
    Portal,
    /// The submission check, or PASID translation, which is part of it where the processor has
    /// none: exactly these rules, so many times in all.
    Check(&'static [&'static str], u64),
    /// The submission check, these rules and others.
    CheckAmong(&'static [&'static str]),
    /// The submission check, at least one of these rules: which of them is chance.
    CheckAny(&'static [&'static str]),
    /// Queue PASID: done in the guest's own name, and not privileged.
    Queue,
    /// The IOMMU's PASID entry: faults, all of them the adversary's. What would reach Weir's
    /// window, and what needs no IOMMU to be wrong, is refused by these rules.
    Iommu(&'static [&'static str]),
    /// The device itself, which takes no more than a queue has room for.
    Device,
    /// The virtual platform: the guest is stopped at this, at least so often.
    Platform(&'static str, u64),
    /// None: the guest harms itself.
    Itself,
}

const NO_HANDLE: &str = "interrupt handle is not one of this guest";
const OTHER_HANDLE: &str = "interrupt handle belongs to another PASID";
const RESERVED: &str = "reserved field not zero";
const PASID: &str = "guest PASID not declared";
const PRIVILEGED: &str = "privileged descriptor";
const WINDOW: &str = "operand in memory of Weir";
const WINDOW_RECORD: &str = "completion record in memory of Weir";

/// All attacks that a guest survives.
const ATTACKS: &[(&str, Gate)] = &[
    ("handle-unallocated", Gate::Check(&[NO_HANDLE], 64)),
    // 256, of which two are its own.
    ("handle-foreign", Gate::Check(&[NO_HANDLE], 254)),
    ("handle-out-of-table", Gate::Check(&[NO_HANDLE], 6)),
    ("pasid-enqcmds", Gate::Check(&[PASID], 11)),
    ("pasid-enqcmd", Gate::Check(&[PASID], 11)),
    ("pasid-movdir64b", Gate::Queue),
    ("pasid-msixperm", Gate::Check(&[OTHER_HANDLE], 11)),
    ("privileged", Gate::Check(&[PRIVILEGED, PASID], 3)),
    ("address-read", Gate::Iommu(&[WINDOW])),
    ("address-checksum", Gate::Iommu(&[WINDOW])),
    ("address-write", Gate::Iommu(&[WINDOW, "buffers overlap"])),
    ("address-record", Gate::Iommu(&[WINDOW_RECORD])),
    (
        "address-list",
        Gate::Check(&["descriptor list not in guest memory"], 19),
    ),
    ("address-message", Gate::Iommu(&[])),
    ("portal-foreign", Gate::Portal),
    ("portal-ims", Gate::Portal),
    ("portal-odd", Gate::Portal),
    ("portal-instruction", Gate::Portal),
    (
        "record-misaligned",
        Gate::Check(&["completion record misaligned"], 6),
    ),
    ("record-overlapping", Gate::Itself),
    (
        "descriptor-invalid",
        Gate::CheckAmong(&[
            "operation not offered",
            "invalid flags",
            "transfer size out of range",
            "batch size out of range",
            "descriptor list misaligned",
        ]),
    ),
    (
        "descriptor-random",
        Gate::CheckAmong(&[
            "operation not offered",
            "invalid flags",
            RESERVED,
            NO_HANDLE,
        ]),
    ),
    (
        "batch-members",
        Gate::CheckAmong(&[
            "batch or drain inside a batch",
            NO_HANDLE,
            WINDOW,
            "transfer size out of range",
            "operation not offered",
        ]),
    ),
    // Half of a change is a handle without its flag.
    ("race-descriptor", Gate::CheckAny(&[NO_HANDLE, RESERVED])),
    ("race-batch", Gate::CheckAny(&[NO_HANDLE, RESERVED])),
    ("flood", Gate::Device),
    ("mmio-random", Gate::Platform("register", 900)),
    ("commands", Gate::Platform("register", 384)),
    // Its own queues alone stop, with what is in them.
    ("stops", Gate::Platform("register", 16)),
    ("configuration", Gate::Platform("configuration", 500)),
    ("msr", Gate::Platform("msr", 250)),
    ("interrupt-flood", Gate::Platform("msr", 5000)),
    ("interrupt-ends", Gate::Platform("msr", 500)),
    ("virtualization", Gate::Platform("other", 1)),
    ("port", Gate::Platform("port", 65_000)),
    ("physical", Gate::Platform("nowhere", 40)),
    ("hypercall", Gate::Platform("hypercall", 7)),
];

/// Descriptors of honest work: before and after an attack.
const HONEST: u64 = 2;

fn config(attack: &str, victim: &str, policy: &str) -> Config {
    let words = format!("attack={attack} effort=500");
    Config::new()
        .guest(
            "victim",
            "demo",
            victim,
            "pasids = [1]\ntrusted = true",
            &[&format!("dsa0/wq0.0;policy = \"{policy}\""), "dsa0/wq0.2"],
        )
        .guest(
            "adversary",
            "adversary",
            &words,
            "pasids = [1]\ncpus = 2",
            &["dsa0/wq0.1", "dsa0/wq0.2"],
        )
        .dedicated(&["dsa0/wq0.0", "dsa0/wq0.1"])
        .shared("dsa0/wq0.2")
}

/// The rules that refused something of the adversary, and how often in all.
fn refused(outcome: &Outcome) -> (BTreeSet<&str>, u64) {
    let rules = outcome.guest("adversary")["refused"].as_object().unwrap();
    let count = rules.values().filter_map(serde_json::Value::as_u64).sum();
    (rules.keys().map(String::as_str).collect(), count)
}

#[track_caller]
fn assert_gate(name: &str, gate: Gate, outcome: &Outcome) {
    let adversary = outcome.guest("adversary");
    let (rules, count) = refused(outcome);
    let faults = adversary["iommu_faults"].as_u64().unwrap();
    let handed_over = adversary["handed_over"].as_u64().unwrap();
    let set = |rules: &[&'static str]| -> BTreeSet<&str> { rules.iter().copied().collect() };
    let is_met = match gate {
        Gate::Portal => rules.is_empty() && faults == 0 && handed_over == HONEST,
        Gate::Check(expected, times) => {
            rules == set(expected) && count == times && faults == 0 && handed_over == HONEST
        }
        Gate::CheckAmong(expected) => rules.is_superset(&set(expected)),
        Gate::CheckAny(expected) => !rules.is_disjoint(&set(expected)),
        Gate::Queue => rules.is_empty() && faults == 0 && handed_over > HONEST,
        Gate::Iommu(expected) => {
            let line = "[warn] iommu: fault guest=adversary pasid=";
            rules == set(expected) && faults > 0 && outcome.has_line(line)
        }
        Gate::Device => outcome.report()["box"]["dsa"][0]["software_errors"].as_u64() > Some(0),
        Gate::Platform(exit, least) => {
            faults == 0 && adversary["exits"][exit].as_u64() >= Some(least)
        }
        Gate::Itself => true,
    };
    assert!(is_met, "{name} did not meet {gate:?}: {adversary:#}");
    // Faults of nobody would be somebody's.
    let all = &outcome.report()["box"]["iommu"]["faults"];
    assert_eq!(*all, faults, "{name}: {:#?}", outcome.lines);
}

fn attack(name: &str, gate: Gate) {
    let mut scene = Scene::new(name, config(name, "rounds=100", "checked"));
    // What goes wrong inside its own queues is the adversary's to do.
    scene.may_violate = true;
    let outcome = scene.run();
    assert_passed(&outcome, "adversary");
    let said = format!("[adversary] adversary: attack {name}: contained: ");
    assert!(outcome.has_line(&said), "{name}: {:#?}", outcome.lines);
    assert_undisturbed(&outcome, "victim");
    assert_own_interrupts(&scene, &outcome, "victim");
    assert_own_work(&scene, &outcome, &[("victim", 0), ("adversary", 1)]);
    outcome.assert_nothing_lost(&[]);
    assert_gate(name, gate, &outcome);
}

#[test]
fn forged_handles_are_refused_beside_a_victim() {
    attack("handle-foreign", Gate::Check(&[NO_HANDLE], 254));
}

#[test]
#[ignore = "37 boxes, a minute and a half; one attack is always run alone, all by .ci/deep matrix"]
fn every_attack_meets_its_gate_beside_a_victim() {
    let mut failed = Vec::new();
    for &(name, gate) in ATTACKS {
        if std::panic::catch_unwind(|| attack(name, gate)).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// The table above has all attacks that there are.
#[test]
fn every_attack_is_in_the_table() {
    let mut scene = Scene::new("attack-names", config("of-no-name", "rounds=1", "checked"));
    scene.may_violate = true;
    let outcome = scene.run();
    let there_is = "adversary: there is attack=";
    let console = outcome.console("adversary");
    let names = console
        .iter()
        .filter_map(|line| line.strip_prefix(there_is));
    let names: BTreeSet<&str> = names.collect();
    let known: BTreeSet<&str> = ATTACKS.iter().map(|&(name, _)| name).collect();
    assert_eq!(names, known);
}

/// With a queue of its own that nobody checks, the adversary meets the gates that are hardware:
/// the queue's PASID, the slot's PASID and the IOMMU's tables.
#[test]
fn hardware_alone_keeps_an_unchecked_adversary_from_a_victim() {
    const HANDLE: u64 = 0x19;
    for (name, status, has_faults) in [
        ("handle-unallocated", Some(HANDLE), false),
        ("handle-foreign", Some(HANDLE), false),
        ("pasid-movdir64b", None, false),
        ("address-read", Some(0x20), true),
        ("address-write", None, true),
        ("address-record", None, true),
        ("address-message", None, true),
    ] {
        let words = format!("attack={name} effort=500");
        let config = Config::new()
            .guest("victim", "demo", "rounds=100", "", &["dsa0/wq0.0"])
            .guest(
                "adversary",
                "adversary",
                &words,
                "trusted = true\ncpus = 2",
                &["dsa0/wq0.1;policy = \"direct\""],
            )
            .dedicated(&["dsa0/wq0.0", "dsa0/wq0.1"]);
        let scene_name = format!("direct-{name}");
        let mut scene = Scene::new(&scene_name, config);
        scene.may_violate = true;
        let outcome = scene.run();
        assert_undisturbed(&outcome, "victim");
        assert_own_interrupts(&scene, &outcome, "victim");
        outcome.assert_nothing_lost(&[]);
        assert_passed(&outcome, "adversary");
        let adversary = outcome.guest("adversary");
        assert_eq!(adversary["exits_submission"], 0, "{name}: {adversary:#}");
        let faults = adversary["iommu_faults"].as_u64().unwrap();
        assert_eq!(faults > 0, has_faults, "{name}: {adversary:#}");
        let trace = scene.trace(0);
        let of_queue: Vec<_> = trace.iter().filter(|line| line["queue"] == 1).collect();
        let pasids = adversary["pasids"].as_array().unwrap();
        assert!(
            of_queue.len() > 2 && of_queue.iter().all(|line| pasids.contains(&line["pasid"])),
            "{name}: {of_queue:#?}"
        );
        if let Some(status) = status {
            let mut refused = of_queue.iter().filter(|line| line["status"] == status);
            assert!(
                refused.next().is_some() && refused.all(|line| line["interrupt"] == false),
                "{name}: {of_queue:#?}"
            );
        }
    }
}

/// All attacks one after the other, beside a victim that submits without Weir.
#[test]
fn an_adversary_beside_a_direct_queue() {
    let mut scene = Scene::new("direct", config("all", "rounds=400", "direct"));
    scene.may_violate = true;
    let outcome = scene.run();
    let victim = outcome.guest("victim");
    assert_eq!(victim["crc32c"], crate::scene::input_crc(), "{victim:#}");
    assert_eq!(victim["iommu_faults"], 0, "{victim:#}");
    assert_passed(&outcome, "victim");
    assert_passed(&outcome, "adversary");
    outcome.assert_nothing_lost(&[]);
}

/// Attacks that end the guest: nobody else notices.
#[test]
fn a_guest_that_ends_badly_ends_alone() {
    for (attack, how) in [("triple-fault", "triple fault"), ("reset", "reset itself")] {
        let scene = Scene::new(attack, config(attack, "rounds=50", "checked"));
        let outcome = scene.run();
        assert_undisturbed(&outcome, "victim");
        outcome.assert_nothing_lost(&[]);
        assert!(
            has_ended(&outcome, "adversary", how),
            "{:#?}",
            outcome.lines
        );
    }
}
