//! What holds of every run, whatever went wrong in it.

use serde_json::Value;
use system_tests::weir_box::Outcome;

use crate::scene::{Scene, input_crc};

/// What the demo provokes itself on each queue, by each instruction that it takes.
const OWN_REFUSAL: &str = "transfer size out of range";

fn number(value: &Value) -> u64 {
    let number = value.as_u64();
    number.unwrap_or_else(|| panic!("not a number: {value}"))
}

/// A demo that nothing disturbed: it passed, its input arrived as it is, its books are right, it
/// was refused nothing but what it provokes, and no fault was its.
///
/// # Panics
/// If that is not so.
#[track_caller]
pub(crate) fn assert_undisturbed(outcome: &Outcome, name: &str) {
    let guest = outcome.guest(name);
    assert_eq!(guest["result"], "passed", "{name}: {guest:#}");
    assert_eq!(guest["reported"]["failed"], 0, "{name}: {guest:#}");
    assert_eq!(guest["crc32c"], input_crc(), "{name}: {guest:#}");
    assert_eq!(guest["iommu_faults"], 0, "{name}: {guest:#}");
    let refused = guest["refused"].as_object().unwrap();
    let is_own = |rule: &String| rule == OWN_REFUSAL;
    assert!(
        refused.keys().all(is_own) && number(&refused[OWN_REFUSAL]) <= 3,
        "{name}: {refused:#?}"
    );
    let named = format!("guest={name} pasid=");
    assert!(!outcome.has_line(&named), "{name}: {:#?}", outcome.lines);
    assert_own_count(outcome, name);
}

/// The guest's own count is that of Weir's books.
#[track_caller]
fn assert_own_count(outcome: &Outcome, name: &str) {
    let guest = outcome.guest(name);
    let (books, reported) = (&guest["books"], &guest["reported"]);
    let both = |left: &str, right: &str| number(&reported[left]) + number(&reported[right]);
    let sum = number(&books["completed"]) + number(&books["refused"]);
    assert_eq!(
        both("submitted", "retried"),
        number(&books["submitted"]),
        "{name}: {guest:#}"
    );
    assert_eq!(number(&reported["completed"]), sum, "{name}: {guest:#}");
}

/// Whether a line of the trace is of a guest with these PASIDs.
fn is_of(line: &Value, guest: &Value) -> bool {
    guest["pasids"].as_array().unwrap().contains(&line["pasid"])
}

/// The interrupts of a guest with checked queues: those that it took are among those that it got,
/// and each of these was sent by a descriptor of its own, or stands for one that was refused.
///
/// # Panics
/// If that is not so.
#[track_caller]
pub(crate) fn assert_own_interrupts(scene: &Scene<'_>, outcome: &Outcome, name: &str) {
    let guest = outcome.guest(name);
    let trace = scene.trace(0);
    let of_guest = trace.iter().filter(|line| is_of(line, guest));
    let sent = of_guest.filter(|line| line["interrupt"] == true).count() as u64;
    let refused = number(&guest["books"]["refused"]);
    let injected = number(&guest["interrupts_injected"]);
    let taken = number(&guest["reported"]["interrupts"]);
    assert!(
        0 < taken && taken <= injected && injected <= sent + refused,
        "{}: {name} took {taken}, got {injected}; sent {sent}, refused {refused}",
        scene.name
    );
}

/// The device did for each guest what Weir handed to it for that guest, no more, and no less but
/// for what was thrown away; and each queue of one guest alone did nothing for any other.
///
/// # Panics
/// If that is not so.
#[track_caller]
pub(crate) fn assert_own_work(scene: &Scene<'_>, outcome: &Outcome, own_queues: &[(&str, u64)]) {
    let trace = scene.trace(0);
    let mut known = 0;
    for guest in outcome.report()["vms"].as_array().unwrap() {
        let count = trace.iter().filter(|line| is_of(line, guest)).count();
        known += count;
        // Members that the device had not read when their batch was thrown away are not there.
        let handed_over = number(&guest["handed_over"]);
        let least = handed_over - number(&guest["books"]["abandoned"]);
        assert!(
            (least..=handed_over).contains(&(count as u64)),
            "{}: the device has {count}: {guest:#}",
            scene.name
        );
    }
    assert_eq!(known, trace.len(), "{}: work of nobody", scene.name);
    assert!(
        trace.iter().all(|line| line["privileged"] == false),
        "{}: privileged work",
        scene.name
    );
    for &(name, queue) in own_queues {
        let guest = outcome.guest(name);
        let mut of_queue = trace.iter().filter(|line| line["queue"] == queue);
        assert!(
            of_queue.all(|line| is_of(line, guest)),
            "{}: queue {queue} worked for others than {name}",
            scene.name
        );
    }
}
