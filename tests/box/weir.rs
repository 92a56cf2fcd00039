//! The main job, end to end: Weir on a box, with guests that share a DSA.
#![forbid(unsafe_code)]
#![expect(clippy::indexing_slicing, reason = "a missing field is a failed test")]

use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::weir_box::{Ending, Images, Outcome, Setup, Weir};

/// What ./run-qemu.sh starts.
const DEFAULT: &str = include_str!("../../guests/weir.toml");
/// More than a busy machine takes.
const LIMIT: Duration = Duration::from_secs(300);
/// CRC32C of "123456789". [RFC 3720, B.4 "CRC Examples" has others of the polynomial]
const CRC32C: u64 = 0xe306_9283;

fn run(setup: &Setup<'_>) -> Outcome {
    let images = Images::build(env!("CARGO_TARGET_TMPDIR"));
    let outcome = Weir::run(images, setup, Instant::now() + LIMIT);
    outcome.unwrap_or_else(|error| panic!("{}: {error}", setup.name))
}

/// The guest passed, and its books balance.
#[track_caller]
fn assert_passed(outcome: &Outcome, name: &str) {
    let guest = outcome.guest(name);
    assert_eq!(guest["result"], "passed", "{guest:#}");
    assert_eq!(guest["books"]["balance"], true, "{guest:#}");
    assert_eq!(guest["reported"]["failed"], 0, "{guest:#}");
    assert!(
        guest["submitted"].as_u64().is_some_and(|count| count > 0),
        "{guest:#}"
    );
}

/// Nothing that guests held is lost.
#[track_caller]
fn assert_nothing_held(outcome: &Outcome) {
    let held = &outcome.report()["held"];
    for what in ["ims_slots", "pasids"] {
        assert_eq!(
            held["before"][what], held["after"][what],
            "{what}: {held:#}"
        );
    }
}

#[test]
fn guests_share_a_dsa_and_an_adversary_gets_at_nobody() {
    let outcome = run(&Setup::new("default", DEFAULT));
    assert_eq!(outcome.ending, Ending::Off(Some(0)), "{:#?}", outcome.lines);
    for name in ["demo-a", "demo-b"] {
        assert_passed(&outcome, name);
        let guest = outcome.guest(name);
        assert_eq!(guest["crc32c"].as_u64(), Some(CRC32C), "{guest:#}");
        // Each interrupt that the guest took was injected.
        let taken = guest["reported"]["interrupts"].as_u64();
        let injected = guest["interrupts_injected"].as_u64();
        assert!(taken > Some(0) && taken <= injected, "{guest:#}");
    }
    assert_passed(&outcome, "adversary");
    let refused = &outcome.guest("adversary")["refused"];
    let rules = refused.as_object().map_or(0, serde_json::Map::len);
    assert!(rules >= 5, "the adversary met few rules: {refused:#}");
    assert!(
        !outcome.has_line("NOT CONTAINED"),
        "{:#?}",
        outcome.console("adversary")
    );
    assert_nothing_held(&outcome);
    let dsa = &outcome.report()["box"]["dsa"][0];
    assert_eq!(
        (&dsa["id"], &dsa["ims_slots"]),
        (&Value::from("8086:0b25"), &Value::from(2048))
    );
}

/// One guest with one queue.
fn one_queue(guest: &str, queue: &str, wq: &str) -> String {
    format!(
        "[[guest]]\nname = \"demo\"\nimage = \"demo\"\ninput = \"input\"\nmemory = \"32M\"\n\
         cpus = 1\n{guest}\n[[guest.queue]]\nwq = \"dsa0/wq0.0\"\n{queue}\n\
         [[wq]]\nname = \"dsa0/wq0.0\"\nsize = 16\n{wq}\n"
    )
}

#[test]
fn a_trusted_guest_submits_without_an_exit() {
    let config = one_queue("trusted = true", "policy = \"direct\"", "");
    let outcome = run(&Setup::new("direct", &config));
    let guest = outcome.guest("demo");
    assert_eq!(guest["result"], "passed", "{guest:#}");
    assert_eq!(guest["exits_submission"], 0, "{guest:#}");
    assert_eq!(guest["crc32c"].as_u64(), Some(CRC32C), "{guest:#}");
}

#[test]
fn direct_portals_go_where_a_guest_moves_their_bar() {
    let guest = "trusted = true\ncmdline = \"attack=configuration\"";
    let config = one_queue(guest, "policy = \"direct\"", "");
    let config = config.replace("image = \"demo\"", "image = \"adversary\"");
    let outcome = run(&Setup::new("direct-moved", &config));
    let guest = outcome.guest("demo");
    assert_eq!(guest["result"], "passed", "{guest:#}");
    assert_nothing_held(&outcome);
}

/// Of its own, shared with others, and standing in for a shared one.
#[test]
fn a_queue_that_was_stopped_does_nothing_more() {
    let guest = "pasids = [5]\ncmdline = \"attack=stops pasid=5\"";
    let shared = "mode = \"shared\"";
    let options: &[&str] = &["--cpus", "1", "--no-enqcmd"];
    for (name, queue, wq, options) in [
        ("stops-own", "", "", &options[..2]),
        ("stops-shared", shared, shared, &options[..2]),
        ("stops-stand-in", shared, "", options),
    ] {
        let config = one_queue(guest, queue, wq);
        let config = config.replace("image = \"demo\"", "image = \"adversary\"");
        let outcome = run(&Setup {
            options,
            ..Setup::new(name, &config)
        });
        let guest = outcome.guest("demo");
        assert_eq!(
            guest["result"],
            "passed",
            "{name}: {:#?}",
            outcome.console("demo")
        );
        assert_nothing_held(&outcome);
    }
}

#[test]
fn a_dedicated_queue_stands_in_for_a_shared_one_without_enqcmd() {
    // A second one like it, and a dedicated one that is used with the same guest PASID.
    let config = format!(
        "{}{}",
        one_queue(
            "pasids = [5]\ncmdline = \"pasid=5 dedicated-pasid=5\"",
            "mode = \"shared\"\n\
             [[guest.queue]]\nwq = \"dsa0/wq0.1\"\nmode = \"shared\"\n\
             [[guest.queue]]\nwq = \"dsa0/wq0.2\"",
            "",
        ),
        "[[wq]]\nname = \"dsa0/wq0.1\"\nsize = 16\n\
         [[wq]]\nname = \"dsa0/wq0.2\"\nsize = 16\n"
    );
    let outcome = run(&Setup {
        options: &["--cpus", "1", "--no-enqcmd"],
        ..Setup::new("stand-in", &config)
    });
    assert_passed(&outcome, "demo");
    assert_nothing_held(&outcome);
}

#[test]
fn what_a_machine_lacks_is_named_with_what_to_switch_on() {
    let config = one_queue("", "", "");
    for (name, option, expected) in [
        (
            "no-svm",
            "--no-svm",
            "the processor has neither SVM nor VMX",
        ),
        (
            "no-movdir64b",
            "--no-movdir64b",
            "the processor has no MOVDIR64B",
        ),
        ("no-iommu", "--no-iommu", "firmware reports no IOMMU"),
        (
            "no-dsa",
            "--no-dsa",
            "there is no DSA among the PCI devices",
        ),
    ] {
        let outcome = run(&Setup {
            options: &["--cpus", "1", option],
            ..Setup::new(name, &config)
        });
        let Ending::Refused(reason) = &outcome.ending else {
            panic!("{name}: {:?} {:#?}", outcome.ending, outcome.lines);
        };
        assert!(
            reason.contains(expected) && reason.contains("; "),
            "{name}: {reason}"
        );
    }
}

#[test]
fn a_mistake_in_the_configuration_is_one_line_with_its_number() {
    for (name, config, expected) in [
        (
            "unknown-key",
            one_queue("colour = \"red\"", "", ""),
            "weir.toml:7: ",
        ),
        (
            "untrusted",
            one_queue("", "policy = \"direct\"", ""),
            "weir.toml:",
        ),
        (
            "too-large",
            one_queue("", "", "").replace("32M", "64G"),
            "weir.toml:5: ",
        ),
    ] {
        let outcome = run(&Setup::new(name, &config));
        let Ending::Refused(reason) = &outcome.ending else {
            panic!("{name}: {:?} {:#?}", outcome.ending, outcome.lines);
        };
        assert!(reason.starts_with(expected), "{name}: {reason}");
    }
    let outcome = run(&Setup {
        has_bundle: false,
        ..Setup::new("no-bundle", "")
    });
    assert!(matches!(&outcome.ending, Ending::Refused(reason) if reason.contains("boot bundle")));
}
