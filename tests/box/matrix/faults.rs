//! Every fault that the device model can have, on dsa0 while two guests use it and a third uses
//! dsa1: nobody on dsa1 notices, Weir goes on, and says what happened.

use system_tests::weir_box::Outcome;

use crate::config::Config;
use crate::judge::assert_undisturbed;
use crate::scene::{Scene, assert_passed};

/// What is to become of the guests of the device.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// They pass as if nothing had been.
    Pass,
    /// Weir stops them, and says that their device is lost.
    Lost,
    /// All of them fail, and say one of these.
    AllFail(&'static [&'static str]),
    /// At least one of them fails, whoever it happens to, and each that does says one of these.
    SomeFail(&'static [&'static str]),
    /// This one fails and says so, and the other passes.
    Fails(&'static str, &'static str),
}

/// A fault, and what it comes to.
#[derive(Clone, Copy, Debug)]
struct Fault {
    name: &'static str,
    /// The command of the model.
    command: &'static str,
    fate: Fate,
    /// What Weir tells the operator. Nothing if the guests alone can see it, or nobody can.
    line: Option<&'static str>,
    /// How often the device halts.
    halts: u64,
    /// What cannot be given back while the device is as it is.
    lost: &'static [&'static str],
}

const GONE: &str = "dsa0 at=00:04.0 does not do what it is told, or is gone: ";
/// Slots of a device that does nothing any more may still send what they hold.
const SLOTS: &[&str] = &["ims_slots"];
/// A completion that a demo did not see, or an error in its place.
const WRONG: &[&str] = &["FAILED", "STUCK"];

const fn harmless(name: &'static str, command: &'static str) -> Fault {
    Fault {
        name,
        command,
        fate: Fate::Pass,
        line: None,
        halts: 0,
        lost: &[],
    }
}

const fn halt(name: &'static str, command: &'static str, line: &'static str) -> Fault {
    Fault {
        fate: Fate::Lost,
        line: Some(line),
        halts: 1,
        lost: SLOTS,
        ..harmless(name, command)
    }
}

const FAULTS: &[Fault] = &[
    SOFTWARE_RESET,
    halt(
        "halt-flr",
        "halt flr",
        "dsa0 at=00:04.0 halted and needs a function-level reset, which Weir cannot give it",
    ),
    halt(
        "halt-warm",
        "halt warm",
        "dsa0 at=00:04.0 halted and needs a warm reset, which Weir cannot give it",
    ),
    halt(
        "halt-cold",
        "halt cold",
        "dsa0 at=00:04.0 halted and needs a cold reset, which Weir cannot give it",
    ),
    halt("all-ones", "all-ones on", GONE),
    // The first command is the drain of the guest that is done first.
    halt("hang", "hang-command", "or is gone: drain "),
    Fault {
        fate: Fate::SomeFail(&["drain all (0x03), 0, hardware error (0x03)"]),
        line: Some("dsa0 refused a command times=1 command="),
        ..harmless("refused-command", "fail-command 5")
    },
    harmless("lose-interrupts", "lose-interrupts 1"),
    harmless("spurious-msix", "spurious msix 0"),
    harmless("spurious-msix-masked", "spurious msix 3"),
    harmless("spurious-ims", "spurious ims 1"),
    harmless("spurious-ims-free", "spurious ims 1000"),
    harmless("late", "delay-completions 20 50000000"),
    Fault {
        fate: Fate::SomeFail(WRONG),
        ..harmless("dma-fault", "dma-fault 100")
    },
    Fault {
        fate: Fate::SomeFail(&["hardware error or faulting read (0x20)"]),
        ..harmless("error-burst", "error-burst 10 0x20")
    },
    Fault {
        fate: Fate::Fails("hit", "FAILED software error: Some(SwError0 { valid: true"),
        ..harmless("queue-full-dedicated", "queue-full 0 on")
    },
    Fault {
        fate: Fate::Fails("hit", "STUCK: wq1 takes no work"),
        ..harmless("queue-full-shared", "queue-full 1 on")
    },
];

const SOFTWARE_RESET: Fault = Fault {
    fate: Fate::AllFail(&["device is in halt or error state (0x05)"]),
    line: Some("dsa0 halted and was reset times=1"),
    halts: 1,
    ..harmless("halt-software", "halt software")
};

/// The guests of the device.
const GUESTS: [&str; 2] = ["hit", "hit-too"];
/// When the fault happens: they are in the middle of their work.
const AFTER: &str = "[hit] demo: wq1 shared of 32 entries by ENQCMD,";

fn config() -> Config {
    // Those of dsa0 are long at it, so that they are in the middle of it; the one that ends first
    // is the first to need a command.
    Config::new()
        .guest(
            "hit",
            "demo",
            "rounds=200 limit=3",
            "pasids = [1]",
            &["dsa0/wq0.0", "dsa0/wq0.1"],
        )
        .guest(
            "hit-too",
            "demo",
            "rounds=400 limit=3",
            "pasids = [1]",
            &["dsa0/wq0.2"],
        )
        .guest("beside", "demo", "rounds=400", "", &["dsa1/wq1.0"])
        .dedicated(&["dsa0/wq0.0", "dsa0/wq0.2", "dsa1/wq1.0"])
        .shared("dsa0/wq0.1")
}

fn run(name: &str, command: &str, dsas: &[&str]) -> Outcome {
    let name = format!("fault-{name}");
    let mut scene = Scene::new(&name, config());
    scene.dsas = dsas;
    scene.command = Some((AFTER, command));
    let outcome = scene.run();
    assert_undisturbed(&outcome, "beside");
    outcome
}

/// Whether the guest failed, saying one of these.
fn has_failed(outcome: &Outcome, guest: &str, words: &[&str]) -> bool {
    let console = outcome.console(guest);
    let says = |words: &&str| console.iter().any(|line| line.contains(words));
    outcome.guest(guest)["result"] == "failed" && words.iter().any(says)
}

fn has_passed(outcome: &Outcome, guest: &str) -> bool {
    outcome.guest(guest)["result"] == "passed"
}

fn fault(fault: Fault) {
    let outcome = run(fault.name, fault.command, &["", ""]);
    let failed = |guest: &&&str, words: &[&str]| has_failed(&outcome, guest, words);
    let passed = GUESTS.iter().filter(|guest| has_passed(&outcome, guest));
    let passed = passed.count();
    let is_right = match fault.fate {
        Fate::Pass => {
            for guest in GUESTS {
                assert_undisturbed(&outcome, guest);
            }
            true
        }
        Fate::Lost => GUESTS.iter().all(|guest| {
            let guest = outcome.guest(guest);
            guest["result"] == "stopped" && guest["reason"] == "its accelerator dsa0 is lost"
        }),
        Fate::AllFail(words) => GUESTS.iter().all(|guest| failed(&guest, words)),
        Fate::SomeFail(words) => {
            let count = GUESTS.iter().filter(|guest| failed(guest, words)).count();
            count > 0 && count + passed == GUESTS.len()
        }
        Fate::Fails(guest, words) => has_failed(&outcome, guest, &[words]) && passed == 1,
    };
    assert!(is_right, "{fault:?}: {:#?}", outcome.lines);
    let mut warnings = outcome.lines.iter();
    match fault.line {
        Some(line) => assert!(outcome.has_line(line), "{fault:?}: {:#?}", outcome.lines),
        None => assert!(
            !warnings.any(|line| line.starts_with("[warn] dsa: ")),
            "{fault:?}: {:#?}",
            outcome.lines
        ),
    }
    let dsas = &outcome.report()["box"]["dsa"];
    assert_eq!(dsas[0]["halts"], fault.halts, "{fault:?}: {dsas:#}");
    assert_eq!(dsas[1]["halts"], 0, "{fault:?}: {dsas:#}");
    outcome.assert_nothing_lost(fault.lost);
}

#[test]
fn a_halt_stops_the_guests_of_that_device_alone() {
    fault(SOFTWARE_RESET);
}

#[test]
#[ignore = "17 boxes, two minutes; one is always run, all by .ci/deep matrix"]
fn every_fault_stays_with_the_guests_of_its_device() {
    let mut failed = Vec::new();
    for &each in FAULTS {
        if std::panic::catch_unwind(|| fault(each)).is_err() {
            failed.push(each.name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Handles that were taken back: guests that look at it get new ones, and these do not, so their
/// descriptors fail until then. Weir's own batches too.
#[test]
fn revoked_handles_are_refused_by_the_device() {
    let outcome = run("revoke", "revoke-handles", &["handle-commands=on", ""]);
    for guest in GUESTS {
        let guest = outcome.guest(guest);
        assert_eq!(guest["result"], "failed", "{guest:#}");
    }
    outcome.assert_nothing_lost(&[]);
}

/// After a halt that Weir can mend, a guest that is started again works as ever.
#[test]
fn a_device_that_was_reset_serves_guests_again() {
    let mut scene = Scene::new("fault-again", config());
    scene.dsas = &["", ""];
    scene.command = Some((AFTER, "halt software"));
    let outcome = scene.operate(|weir, deadline| {
        for _ in GUESTS {
            weir.until(" ended: failed", deadline)?;
        }
        weir.machine().send(b"reset hit\r")?;
        weir.until("guest=hit ended: passed", deadline)?;
        Ok(())
    });
    assert_passed(&outcome, "hit");
    assert_eq!(outcome.guest("hit")["restarts"], 1);
    outcome.assert_nothing_lost(&[]);
}
