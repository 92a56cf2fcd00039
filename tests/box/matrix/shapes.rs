//! Boxes of other shapes.

use system_tests::weir_box::Outcome;

use crate::config::Config;
use crate::judge::{assert_own_work, assert_undisturbed};
use crate::scene::{Scene, assert_passed};

/// Three guests with queues of three DSAs, each at work on another.
fn three() -> Config {
    Config::new()
        .guest(
            "a",
            "demo",
            "rounds=20 dsa=0",
            "pasids = [1]",
            &["dsa0/wq0.0", "dsa1/wq1.0", "dsa2/wq2.0"],
        )
        .guest(
            "b",
            "demo",
            "rounds=20 dsa=1",
            "pasids = [1]",
            &["dsa0/wq0.1", "dsa1/wq1.1"],
        )
        .guest(
            "c",
            "demo",
            "rounds=20 dsa=2",
            "pasids = [1]",
            &["dsa0/wq0.2", "dsa1/wq1.2", "dsa2/wq2.0"],
        )
        .dedicated(&[
            "dsa0/wq0.0",
            "dsa0/wq0.1",
            "dsa0/wq0.2",
            "dsa1/wq1.0",
            "dsa1/wq1.2",
        ])
        .shared("dsa1/wq1.1")
        .shared("dsa2/wq2.0")
}

fn three_pass(name: &str, dsas: &[&str], options: &[&str]) -> Outcome {
    let mut scene = Scene::new(name, three());
    scene.dsas = dsas;
    scene.options = options;
    let outcome = scene.run();
    for guest in ["a", "b", "c"] {
        assert_undisturbed(&outcome, guest);
    }
    outcome.assert_nothing_lost(&[]);
    outcome
}

#[test]
fn three_devices_of_three_kinds() {
    let dsas = ["handle-commands=on", "device-id=0x11fb", "device-id=0x1212"];
    let outcome = three_pass("three-kinds", &dsas, &[]);
    let of_box = &outcome.report()["box"];
    assert_eq!(of_box["iommu"]["tables"], "second-stage");
    for (number, id) in ["8086:0b25", "8086:11fb", "8086:1212"].iter().enumerate() {
        assert_eq!(of_box["dsa"][number]["id"], *id, "{of_box:#}");
    }
}

#[test]
fn three_devices_with_first_stage_tables() {
    let outcome = three_pass("three-first-stage", &["", "", ""], &["--first-stage"]);
    assert_eq!(outcome.report()["box"]["iommu"]["tables"], "first-stage");
}

/// The adversary against first-stage tables, where it is other entries that keep it in.
#[test]
fn an_adversary_with_first_stage_tables() {
    let config = Config::new()
        .guest("victim", "demo", "rounds=400", "", &["dsa0/wq0.0"])
        .guest(
            "adversary",
            "adversary",
            "effort=500",
            "pasids = [1]\ncpus = 2",
            &["dsa0/wq0.1", "dsa0/wq0.2"],
        )
        .dedicated(&["dsa0/wq0.0", "dsa0/wq0.1"])
        .shared("dsa0/wq0.2");
    let mut scene = Scene::new("first-stage", config);
    scene.options = &["--first-stage"];
    scene.may_violate = true;
    let outcome = scene.run();
    assert_undisturbed(&outcome, "victim");
    assert_passed(&outcome, "adversary");
    let faults = outcome.guest("adversary")["iommu_faults"].as_u64();
    assert!(faults > Some(0), "{:#?}", outcome.lines);
    assert_own_work(&scene, &outcome, &[("victim", 0), ("adversary", 1)]);
    outcome.assert_nothing_lost(&[]);
}

/// Without ENQCMD in the processor: what guests see as shared queues are dedicated ones.
#[test]
fn shared_queues_without_enqcmd() {
    let shared = ";mode = \"shared\"";
    let config = Config::new()
        .guest(
            "stands-in",
            "demo",
            "rounds=20",
            "pasids = [1]",
            &[&format!("dsa0/wq0.0{shared}")],
        )
        .guest("dedicated", "demo", "rounds=20", "", &["dsa0/wq0.1"])
        .guest(
            "adversary",
            "adversary",
            "effort=200",
            "pasids = [1]\ncpus = 2",
            &[&format!("dsa0/wq0.2{shared}")],
        )
        .dedicated(&["dsa0/wq0.0", "dsa0/wq0.1", "dsa0/wq0.2"]);
    let mut scene = Scene::new("no-enqcmd", config);
    scene.options = &["--no-enqcmd"];
    scene.may_violate = true;
    let outcome = scene.run();
    for guest in ["stands-in", "dedicated"] {
        assert_undisturbed(&outcome, guest);
    }
    assert_passed(&outcome, "adversary");
    let own = [("stands-in", 0), ("dedicated", 1), ("adversary", 2)];
    assert_own_work(&scene, &outcome, &own);
    outcome.assert_nothing_lost(&[]);
}

/// With time by the instruction, a run is the same to the byte.
#[test]
#[ignore = "two boxes that count instructions, two minutes; run by .ci/deep matrix"]
fn counted_runs_repeat() {
    let run = |name| {
        let config = Config::new()
            .guest(
                "a",
                "demo",
                "rounds=5",
                "pasids = [1]",
                &["dsa0/wq0.0", "dsa0/wq0.1"],
            )
            .guest(
                "adversary",
                "adversary",
                "effort=100",
                "cpus = 2",
                &["dsa0/wq0.2"],
            )
            .dedicated(&["dsa0/wq0.0", "dsa0/wq0.2"])
            .shared("dsa0/wq0.1");
        let mut scene = Scene::new(name, config);
        scene.options = &["--icount"];
        scene.may_violate = true;
        let outcome = scene.run();
        assert_undisturbed(&outcome, "a");
        assert_passed(&outcome, "adversary");
        outcome.assert_nothing_lost(&[]);
        (outcome.report().clone(), outcome.lines)
    };
    let (first, second) = (run("counted"), run("counted"));
    assert!(first.1.len() > 20, "{first:#?}");
    assert_eq!(first, second);
}
