//! The box where Linux does not look: `emulator/boxtest`, a bare-metal kernel, checks the
//! submission instructions, the IOMMU and the DSA's interrupts from the inside.
//!
//! One test per box. The kernel prints a line per check and counts them; here it is built, started
//! on boxes with different options, and judged, together with what the model recorded meanwhile.
#![forbid(unsafe_code)]
#![expect(clippy::indexing_slicing, reason = "a missing field is a failed test")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::lab_box::LabBox;
use system_tests::qmp::DSA0;

/// What a box may take; the slowest take a few seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// QEMU's exit status when the kernel says that all is well.
const GOOD: i32 = 1;

/// What one box printed, and what the model of its DSA reports.
#[derive(Debug)]
struct Run {
    log: PathBuf,
    lines: Vec<String>,
    report: Value,
    status: Option<i32>,
}

impl Run {
    /// Boots the kernel on a box with `options` and lets it do what `words` say.
    fn of(name: &str, options: &[&str], words: &str) -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("boxtest-{name}.log"));
        Self::try_of(&log, options, words)
            .unwrap_or_else(|error| panic!("{error}\nsee {}", log.display()))
    }

    fn try_of(log: &Path, options: &[&str], words: &str) -> Result<Self, Box<dyn Error>> {
        let kernel = kernel().display().to_string();
        let words = format!("{words} hold=on");
        let mut machine = LabBox::start(log, options, &["-kernel", &kernel, "-append", &words])?;
        let deadline = Instant::now() + LIMIT;
        let lines = machine.lines_until("passed ", deadline)?;
        let report = if options.contains(&"--no-dsa") {
            Value::Null
        } else {
            machine.control()?.dsa_report(DSA0)?
        };
        machine.send_line("")?;
        Ok(Self {
            log: log.to_owned(),
            lines,
            report,
            status: machine.wait_for_exit(deadline)?.code(),
        })
    }

    /// Every check passed, and there were at least `checks` of them.
    #[track_caller]
    fn assert_passed(&self, checks: usize) {
        let log = self.log.display();
        let failures: Vec<_> = self
            .lines
            .iter()
            .filter(|line| line.starts_with("FAIL"))
            .collect();
        assert!(failures.is_empty(), "{failures:#?}, see {log}");
        let passed = self
            .lines
            .iter()
            .filter(|line| line.starts_with("ok "))
            .count();
        assert!(passed >= checks, "only {passed} checks, see {log}");
        let last = self.lines.last().map(String::as_str);
        let expected = format!("passed {passed} failed 0");
        assert_eq!(last, Some(expected.as_str()), "see {log}");
        assert_eq!(self.status, Some(GOOD), "see {log}");
    }

    /// The kernel drove the DSA as its specification wants.
    #[track_caller]
    fn assert_no_violations(&self) {
        assert_eq!(self.report["violations"], Value::Array(Vec::new()));
    }
}

/// Builds the kernel, once.
fn kernel() -> &'static Path {
    static KERNEL: OnceLock<PathBuf> = OnceLock::new();
    KERNEL.get_or_init(|| {
        const TARGET: &str = "x86_64-unknown-none";
        // Not the directory that the cargo around us has locked.
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boxtest");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--release", "--package", "boxtest"])
            .args(["--target", TARGET, "--target-dir"])
            .arg(&directory)
            .args(["--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "the kernel cannot be built; does this help? rustup target add {TARGET}"
        );
        directory.join(TARGET).join("release").join("boxtest")
    })
}

/// All of the submission instructions.
const ALL: &str = "have=movdiri,movdir64b,enqcmd";

#[test]
fn instructions_work_on_memory_at_both_privilege_levels() {
    let words = format!("group=instructions {ALL}");
    Run::of("instructions", &["--no-dsa"], &words).assert_passed(86);
}

#[test]
fn instructions_and_the_x2apic_work_where_instructions_are_counted() {
    let words = format!("group=instructions {ALL} clock=icount");
    Run::of("instructions-icount", &["--no-dsa", "--icount"], &words).assert_passed(90);
}

#[test]
fn instructions_that_cpuid_does_not_show_are_undefined() {
    let options = ["--no-dsa", "--no-movdir64b", "--no-enqcmd"];
    Run::of(
        "no-instructions",
        &options,
        "group=instructions have=movdiri",
    )
    .assert_passed(26);
}

#[test]
fn each_instruction_can_be_left_out_alone() {
    let words = "group=instructions have=movdiri,enqcmd";
    Run::of("no-movdir64b", &["--no-dsa", "--no-movdir64b"], words).assert_passed(61);
    let words = "group=instructions have=movdiri,movdir64b";
    Run::of("no-enqcmd", &["--no-dsa", "--no-enqcmd"], words).assert_passed(51);
}

#[test]
fn nested_tables_stop_a_guests_submission_before_anything_is_written() {
    let words = format!("group=nested {ALL}");
    Run::of("nested", &["--no-dsa"], &words).assert_passed(36);
}

#[test]
fn portals_take_what_the_specification_lets_them_take() {
    let run = Run::of("portals", &[], "group=portals");
    run.assert_passed(44);
    assert_only_partial_writes(&run);
}

#[test]
fn portals_take_the_same_where_instructions_are_counted() {
    let run = Run::of(
        "portals-icount",
        &["--icount"],
        "group=portals clock=icount",
    );
    run.assert_passed(49);
    assert_only_partial_writes(&run);
}

/// Neither the host's clock nor its randomness reaches a box that counts.
#[test]
fn a_box_that_counts_instructions_repeats_to_the_byte() {
    for (options, words) in [
        (&["--icount"][..], "group=portals clock=icount"),
        (
            &["--icount", "--cpus", "2"],
            "group=interrupts clock=icount",
        ),
    ] {
        let runs = [1, 2].map(|_| {
            let run = Run::of("repeats", options, words);
            (run.lines, run.report, run.status)
        });
        assert_eq!(runs[0], runs[1], "{options:?}");
    }
}

/// The kernel writes two descriptors by eight ordinary stores each.
#[track_caller]
fn assert_only_partial_writes(run: &Run) {
    let violations = run.report["violations"].as_array();
    let violations = violations.unwrap_or_else(|| panic!("no violations in {}", run.report));
    assert_eq!(violations.len(), 2 * 8, "{violations:#?}");
    for violation in violations {
        let text = violation.as_str().unwrap_or_default();
        assert!(text.contains("a write of 8 bytes to a portal"), "{text}");
    }
}

#[test]
fn every_pasid_has_its_own_second_stage_tables() {
    for (name, words) in [
        ("iommu", "group=iommu ats=off"),
        ("iommu-ats", "group=iommu ats=on"),
    ] {
        let run = Run::of(name, &[], words);
        run.assert_passed(71);
        run.assert_no_violations();
    }
}

#[test]
fn every_pasid_has_its_own_first_stage_tables() {
    for (name, words) in [
        ("iommu-first", "group=iommu stage=first ats=off"),
        ("iommu-first-ats", "group=iommu stage=first ats=on"),
    ] {
        let run = Run::of(name, &["--first-stage"], words);
        run.assert_passed(71);
        run.assert_no_violations();
    }
}

#[test]
fn interrupts_reach_those_who_own_them_and_nobody_else() {
    for (name, options, words) in [
        ("interrupts", &[] as &[&str], "group=interrupts"),
        (
            "interrupts-icount",
            &["--icount"],
            "group=interrupts clock=icount",
        ),
        (
            "interrupts-first",
            &["--first-stage"],
            "group=interrupts stage=first",
        ),
        // This one hands out handles instead of taking indexes.
        (
            "interrupts-handles",
            &["--dsa", "device-id=0x11fb"],
            "group=interrupts",
        ),
    ] {
        let run = Run::of(name, options, words);
        run.assert_passed(43);
        run.assert_no_violations();
        // Each of these the kernel has provoked and found in the fault record.
        assert_eq!(run.report["blocked_messages"], 10, "{name}");
    }
}
