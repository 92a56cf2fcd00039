//! Guests that end and begin again, and more of them than there are processors.

use std::error::Error;
use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::weir_box::Weir;

use crate::config::Config;
use crate::judge::{assert_own_work, assert_undisturbed};
use crate::scene::{Scene, assert_passed, input_crc};

/// How often a guest is started anew.
const TIMES: u64 = 100;

/// A guest that triple-faults and is started again by Weir, as often as Weir does that: when all
/// is over nothing is taken that was free before.
#[test]
#[ignore = "a hundred lives and more, half a minute; run by .ci/deep matrix"]
fn a_guest_that_resets_itself_loses_nothing() {
    let config = Config::new()
        .guest(
            "crash",
            "adversary",
            "attack=triple-fault",
            "restart = \"on-reset\"",
            &["dsa0/wq0.0"],
        )
        .guest("victim", "demo", "rounds=50", "", &["dsa0/wq0.1"])
        .dedicated(&["dsa0/wq0.0", "dsa0/wq0.1"]);
    let outcome = Scene::new("restarts", config).run();
    assert_undisturbed(&outcome, "victim");
    let count = outcome.guest("crash")["restarts"].as_u64();
    assert!(count >= Some(TIMES), "only {count:?} times");
    outcome.assert_nothing_lost(&[]);
}

/// Stops the guest `work`, and says what is held without it.
fn held_without_work(
    weir: &mut Weir,
    scene: &Scene<'_>,
    deadline: Instant,
) -> Result<Value, Box<dyn Error>> {
    weir.machine().send(b"stop work\r")?;
    weir.until("guest=work ended: stopped by the operator", deadline)?;
    // Its accelerator is drained before all is given back.
    loop {
        weir.machine().send(b"vms\r")?;
        if weir
            .until("work            ", deadline)?
            .contains(" ended ")
        {
            break;
        }
    }
    let before = scene.reports().len();
    weir.machine().send(b"report\r")?;
    while scene.reports().len() == before {
        assert!(Instant::now() < deadline, "no report");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(scene.reports().swap_remove(before)["held"]["after"].take())
}

/// A guest that the operator resets in the middle of its work, with batches in flight on a
/// dedicated and on a shared queue: a hundred lives leave behind what three do, to the byte.
fn destroyed(name: &str, times: u64) {
    const FEW: u64 = 3;
    let words = "seconds=600";
    let config = Config::new()
        .guest(
            "work",
            "demo",
            words,
            "pasids = [1]",
            &["dsa0/wq0.0", "dsa0/wq0.2"],
        )
        .guest(
            "victim",
            "demo",
            words,
            "pasids = [1]",
            &["dsa0/wq0.1", "dsa0/wq0.2"],
        )
        .dedicated(&["dsa0/wq0.0", "dsa0/wq0.1"])
        .shared("dsa0/wq0.2");
    let mut scene = Scene::new(name, config);
    scene.is_traced = false;
    // Batches and copies are what comes next, until it is reset.
    let is_at_work = "[work] demo: 400000 bytes copied and verified";
    let outcome = scene.operate(|weir, deadline| {
        let mut held = Value::Null;
        for life in 1..FEW + times {
            weir.until(is_at_work, deadline)?;
            if life == FEW {
                held = held_without_work(weir, &scene, deadline)?;
                weir.machine().send(b"start work\r")?;
            } else {
                weir.machine().send(b"reset work\r")?;
            }
        }
        weir.until(is_at_work, deadline)?;
        assert_eq!(held_without_work(weir, &scene, deadline)?, held);
        Ok(())
    });
    assert_eq!(outcome.guest("work")["restarts"], FEW + times - 1);
    let victim = outcome.guest("victim");
    assert_eq!(victim["crc32c"], input_crc(), "{victim:#}");
    assert_eq!(victim["result"], "stopped", "{victim:#}");
    for words in ["demo: FAILED", "demo: STUCK"] {
        assert!(!outcome.has_line(words), "{:#?}", outcome.lines);
    }
    outcome.assert_nothing_lost(&[]);
}

#[test]
fn a_guest_can_be_destroyed_in_the_middle_of_its_work() {
    destroyed("lives", 5);
}

#[test]
#[ignore = "a hundred lives, a minute; five are always run, all by .ci/deep matrix"]
fn a_guest_destroyed_a_hundred_times_leaves_nothing_behind() {
    destroyed("many-lives", TIMES);
}

/// Eight guests on two processors with a stated slice, one of which never gives its own up: all
/// others get on equally.
#[test]
fn nobody_starves_beside_an_endless_loop() {
    let queues: Vec<String> = (0..8).map(|number| format!("dsa0/wq0.{number}")).collect();
    let queues: Vec<&str> = queues.iter().map(String::as_str).collect();
    let names: Vec<String> = (0..7).map(|number| format!("g{number}")).collect();
    let mut config = Config::new().slice_ms(5);
    for (name, wq) in names.iter().zip(&queues) {
        config = config.guest(name, "demo", "rounds=400", "", &[wq]);
    }
    let config = config
        .guest("loop", "adversary", "attack=endless-loop", "", &queues[7..])
        .dedicated(&queues);
    let outcome = Scene::new("many", config).operate(|weir, deadline| {
        let mut running = names.len();
        while running > 0 {
            weir.until(" ended: passed", deadline)?;
            running -= 1;
        }
        Ok(())
    });
    for name in &names {
        assert_undisturbed(&outcome, name);
    }
    // When the first was done, all others were well on their way.
    let is_end = |line: &String| line.contains(" ended: passed");
    let first = outcome.lines.iter().position(is_end).unwrap();
    for name in &names {
        let line = format!("[{name}] demo: 400000 bytes copied and verified");
        let was_there = outcome.lines[..first]
            .iter()
            .any(|seen| seen.contains(&line));
        assert!(was_there, "{name}: {:#?}", outcome.lines);
    }
    // It was let run all the time, and nothing else ended it.
    assert_eq!(outcome.guest("loop")["result"], "stopped");
    outcome.assert_nothing_lost(&[]);
}

/// Three guests with four virtual processors on one.
#[test]
fn one_processor_is_enough() {
    let demo = |config: Config, name, wq| {
        config.guest(name, "demo", "", "pasids = [1]", &[wq, "dsa0/wq0.3"])
    };
    let config = demo(Config::new(), "a", "dsa0/wq0.0");
    let config = demo(config, "b", "dsa0/wq0.1")
        .guest(
            "adversary",
            "adversary",
            "effort=500",
            "pasids = [1]\ncpus = 2",
            &["dsa0/wq0.2", "dsa0/wq0.3"],
        )
        .dedicated(&["dsa0/wq0.0", "dsa0/wq0.1", "dsa0/wq0.2"])
        .shared("dsa0/wq0.3");
    let mut scene = Scene::new("one-cpu", config);
    scene.cpus = 1;
    scene.may_violate = true;
    let outcome = scene.run();
    for guest in ["a", "b"] {
        assert_undisturbed(&outcome, guest);
    }
    assert_passed(&outcome, "adversary");
    assert_own_work(&scene, &outcome, &[("a", 0), ("b", 1), ("adversary", 2)]);
    outcome.assert_nothing_lost(&[]);
}
