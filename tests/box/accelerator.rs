//! The hypervisor's physical side on the lab box: `suite_accelerator` takes over IOMMUs and DSAs
//! and uses them in the name of guests, and goes through the misfortunes that a device can have.
//!
//! The suite judges itself; here it is also seen that the model found nothing to complain about.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::json;
use system_tests::lab_box::LabBox;
use system_tests::qmp::DSA0;

/// What a box may take; the slowest take half a minute.
const LIMIT: Duration = Duration::from_secs(120);

/// QEMU's exit status when the suite passed.
const GOOD: i32 = 1;

/// The image of the suite, built once.
fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        const TARGET: &str = "x86_64-unknown-none";
        // Not the directory that the cargo around us has locked.
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("suites");
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let status = Command::new(env!("CARGO"))
            .current_dir(root)
            .args(["image", "--quiet", "--target-dir"])
            .arg(&directory)
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "the image cannot be built; does this help? rustup target add {TARGET}"
        );
        let release = directory.join(TARGET).join("release");
        release.join("suite_accelerator")
    })
}

/// Runs the suite on a box with DSAs of these options, and with `options`. With a misfortune, the
/// model of the first DSA is told to have it when the suite is ready.
fn run(name: &str, dsas: &[&str], options: &[&str], misfortune: Option<(&str, &str)>) {
    let file = |what: &str| {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("accelerator-{name}{what}"))
    };
    let violations = file("-violations");
    // What an earlier run left is not of this one.
    let _ = fs::remove_file(&violations);
    let dsas = dsas.iter().flat_map(|dsa| {
        let all = format!("{dsa};violations={}", violations.display());
        ["--dsa".to_owned(), all]
    });
    let options: Vec<String> = dsas
        .chain(options.iter().map(ToString::to_string))
        .collect();
    let log = file(".log");
    try_run(&log, &options, misfortune)
        .unwrap_or_else(|error| panic!("{error}\nsee {}", log.display()));
    let found = fs::read_to_string(&violations).unwrap_or_default();
    assert_eq!(found, "", "the model complains");
}

fn try_run(
    log: &Path,
    options: &[String],
    misfortune: Option<(&str, &str)>,
) -> Result<(), Box<dyn Error>> {
    let kernel = image().display().to_string();
    let words = misfortune.map_or(String::new(), |(name, _)| format!("misfortune={name}"));
    let options = options.iter().map(String::as_str);
    let options: Vec<&str> = ["--cpus", "2"].into_iter().chain(options).collect();
    let mut machine = LabBox::start(log, &options, &["-kernel", &kernel, "-append", &words])?;
    let deadline = Instant::now() + LIMIT;
    let mut lines = Vec::new();
    if let Some((name, command)) = misfortune {
        lines = machine.lines_until(&format!("suite: ready {name}"), deadline)?;
        let mut control = machine.control()?;
        control.set(DSA0, "control", &json!(command))?;
        machine.send_line("")?;
    }
    lines.extend(machine.lines_until("suite: end ", deadline)?);
    let failures: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("FAILED"))
        .collect();
    assert!(failures.is_empty(), "{failures:#?}, see {}", log.display());
    let status = machine.wait_for_exit(deadline)?;
    assert_eq!(status.code(), Some(GOOD), "see {}", log.display());
    Ok(())
}

#[test]
fn one_device() {
    run("one", &[""], &[], None);
}

#[test]
fn two_devices_with_handle_commands() {
    let devices = ["handle-commands=on", "device-id=0x11fb"];
    run("two", &devices, &[], None);
}

#[test]
fn first_stage_tables_and_no_shared_submission() {
    run(
        "first-stage",
        &[""],
        &["--first-stage", "--no-enqcmd"],
        None,
    );
}

const TWO: [&str; 2] = ["", ""];

#[test]
fn a_halt_is_recovered_from() {
    run("halt", &TWO, &[], Some(("halt", "halt software")));
}

#[test]
fn a_halt_is_recovered_from_with_handle_commands() {
    let devices = ["handle-commands=on", ""];
    run(
        "halt-handles",
        &devices,
        &[],
        Some(("halt", "halt software")),
    );
}

#[test]
fn a_halt_that_needs_more_stops_the_guests_of_that_device() {
    run("flr", &TWO, &[], Some(("flr", "halt flr")));
}

#[test]
fn a_command_that_hangs_stops_the_guests_of_that_device() {
    run("hang", &TWO, &[], Some(("hang", "hang-command")));
}

#[test]
fn a_device_that_is_gone_stops_its_guests() {
    run("gone", &TWO, &[], Some(("gone", "all-ones on")));
}

#[test]
fn a_lost_interrupt_is_made_up_for() {
    run("lose", &TWO, &[], Some(("lose", "lose-interrupts 1")));
}

#[test]
fn a_slow_drain_ends_with_an_interrupt() {
    let late = "delay-completions 4 20000000";
    run("slow", &TWO, &[], Some(("slow", late)));
}
