//! What a Linux guest must have shown, and what holds whatever the guests are.

use serde_json::Value;
use system_tests::linux::{COMPLAINTS, Step};
use system_tests::weir_box::{Ending, Outcome};

use crate::guests::{Guest, Way};
use crate::trace::{INVALID_HANDLE, SUCCESS, Trace};

/// How often an interrupt's handle is moved while guests copy, at least.
const MOVES: u64 = 100;

/// The steps that a guest's init reported.
fn steps(outcome: &Outcome, name: &str) -> Vec<Step> {
    let console = outcome.console(name);
    console
        .iter()
        .filter_map(|line| Step::parse(line))
        .collect()
}

/// Every step of `expected` passed, in this order, and the kernel complains of nothing.
#[track_caller]
pub(crate) fn assert_steps(outcome: &Outcome, name: &str, expected: &str) -> Vec<Step> {
    let steps = steps(outcome, name);
    let failed: Vec<_> = steps.iter().filter(|step| !step.passed).collect();
    assert!(failed.is_empty(), "{name}: {failed:?}");
    let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
    let expected: Vec<_> = expected.split_whitespace().collect();
    assert_eq!(names, expected, "{name}");
    let console = outcome.console(name);
    let complaints: Vec<_> = console
        .iter()
        .filter(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)))
        .collect();
    assert!(complaints.is_empty(), "{name}: {complaints:#?}");
    steps
}

/// The number of this name that a step found, 0 without one.
fn number(step: &Step, key: &str) -> u64 {
    let value = step.values.get(key);
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The sum of the numbers of this name over all steps.
pub(crate) fn sum(steps: &[Step], key: &str) -> u64 {
    steps.iter().map(|step| number(step, key)).sum()
}

#[track_caller]
pub(crate) fn count(report: &Value, key: &str) -> u64 {
    let value = report[key].as_u64();
    value.unwrap_or_else(|| panic!("no number {key} in {report:#}"))
}

pub(crate) fn exits(report: &Value, reason: &str) -> u64 {
    report["exits"][reason].as_u64().unwrap_or(0)
}

/// What a Linux guest must have shown.
#[track_caller]
fn assert_linux_worked(outcome: &Outcome, guest: &Guest) -> Vec<Step> {
    let steps = assert_steps(outcome, guest.name, guest.tests().1);
    let probe = &steps[1].values;
    assert_eq!(probe["id"], "0x0b25");
    assert_eq!(probe["configurable"], "0");
    assert_eq!(steps[0].values["cpus"], guest.cpus.to_string());
    let dmatest = steps.iter().find(|step| step.name == "dmatest");
    let copies = dmatest.map_or(0, |step| number(step, "copies"));
    assert!(copies >= guest.copies, "{}: {copies} copies", guest.name);
    assert_eq!(sum(&steps, "failures"), 0, "{}", guest.name);

    let report = outcome.guest(guest.name);
    assert_eq!(report["result"], "off", "{report:#}");
    assert_eq!(report["panicked"], false, "{report:#}");
    assert!(count(report, "shell_us") > count(report, "console_us"));
    assert_eq!(report["books"]["balance"], true, "{report:#}");
    assert_interrupts(report, &steps);
    assert_exits(report, guest, &steps);
    steps
}

/// Linux's /proc/interrupts against Weir's counters. A vector of the device's, 1 and up: each
/// interrupt that Weir injected, but for those that found another pending. A descriptor with a handle
/// that is gone raises none. Vector 0: each that Weir raised; only a handle that is revoked can meet
/// the end of a command there, and Linux takes both as one.
#[track_caller]
fn assert_interrupts(report: &Value, steps: &[Step]) {
    let (portal, misc) = (sum(steps, "portal"), sum(steps, "misc"));
    let injected = count(report, "interrupts_injected");
    let merged = count(report, "interrupts_merged");
    let vector_0 = count(report, "interrupts_vector_0");
    let moved = count(report, "handles_moved");
    assert_eq!(
        portal,
        injected - merged,
        "Weir injected {injected} completion interrupts, {merged} of them merged"
    );
    assert!(
        (vector_0 - moved.min(vector_0)..=vector_0).contains(&misc),
        "Linux took {misc} interrupts of vector 0, Weir raised {vector_0}, {moved} handles moved"
    );
}

/// What a copy costs in exits: one for its submission, none where the guest submits by itself; at
/// most one for its interrupt, and seldom one for that one's end.
#[track_caller]
fn assert_exits(report: &Value, guest: &Guest, steps: &[Step]) {
    let name = guest.name;
    let copies = sum(steps, "copies");
    let submissions = exits(report, "submission");
    match guest.way {
        Way::Direct => assert_eq!(submissions, 0, "{name}"),
        // A handle that moved: what is in flight is drained, and what came too late is submitted
        // again, at most all entries of the queue.
        Way::Checked | Way::Slice => {
            let most = copies + count(report, "handles_moved") * 17;
            assert!(
                (copies..=most).contains(&submissions),
                "{name}: {submissions} exits for {copies} copies"
            );
        }
    }
    // One for its interrupt at the most, and a few for vector 0, for words from another processor,
    // and for completions of others on this one.
    let interrupts = exits(report, "interrupt");
    assert!(
        interrupts * 10 <= copies * 11 + 5_000,
        "{name}: {interrupts} exits for interrupts, {copies} copies"
    );
    // All interrupts that Linux took, of whatever kind, end once, and nearly all without an exit:
    // one that finds another behind it, or is left before it ends, has one.
    let taken = sum(steps, "portal") + sum(steps, "misc") + sum(steps, "other");
    let ends = exits(report, "end_of_interrupt");
    assert!(ends * 4 <= taken, "{name}: {ends} exits for {taken} ends");
    // No exit is without a reason.
    let by_reason = report["exits"].as_object().expect("exits by reason");
    let unknown = exits(report, "other") + exits(report, "nowhere");
    let all: u64 = by_reason.values().filter_map(Value::as_u64).sum();
    assert!(unknown * 1_000 <= all, "{name}: {by_reason:?}");
}

/// Each handle that was taken away was asked for again, and what had the old one was refused.
#[track_caller]
pub(crate) fn assert_handles_moved(outcome: &Outcome, guest: &Guest, trace: &Trace) {
    let report = outcome.guest(guest.name);
    let moved = count(report, "handles_moved");
    assert!(moved >= MOVES, "{}: {moved} moves", guest.name);
    // Causes that meet are told once, and Linux asks for all vectors then.
    let again = count(report, "handles_asked_again");
    assert!(
        again > 0 && again <= moved,
        "{}: {moved} moves, asked again {again} times",
        guest.name
    );
    let handles = trace.handles(report);
    assert!(
        handles > 10,
        "{}: only {handles} different handles",
        guest.name
    );
}

/// What does not depend on how guests reach the device: nobody lost anything, the adversary got
/// nothing, and the device did what Linux counted.
#[track_caller]
pub(crate) fn assert_all_is_well(outcome: &Outcome, guests: &[Guest], trace: &Trace) {
    assert_eq!(outcome.ending, Ending::Off(Some(0)));
    for guest in guests {
        let steps = assert_linux_worked(outcome, guest);
        let report = outcome.guest(guest.name);
        let copies = sum(&steps, "copies");
        assert_eq!(
            trace.copies(report, SUCCESS) as u64,
            copies,
            "{}",
            guest.name
        );
        println!(
            "{}: {copies} copies, {} descriptors with a handle that was gone, of them {} at the \
             device: {report:#}",
            guest.name,
            report["refused"],
            trace.copies(report, INVALID_HANDLE),
        );
    }
    let adversary = outcome.guest("adversary");
    assert_eq!(adversary["result"], "passed", "{adversary:#}");
    assert_eq!(adversary["reported"]["failed"], 0, "{adversary:#}");
    let held = &outcome.report()["held"];
    for what in [
        "ims_slots",
        "remapping_entries",
        "vectors",
        "pasids",
        "domains",
        "free_pages",
    ] {
        assert_eq!(held["before"][what], held["after"][what], "{what}");
    }
}
