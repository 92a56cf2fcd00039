//! Our own guests, on the lab box itself and without Weir: what they do to a DSA is right before
//! it is asked what Weir makes of it.
//!
//! Without an IOMMU the DSA works on physical addresses, and the guests know that they are not
//! virtual: they print what they would report.
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

/// What a box may take; the slowest take a few seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// QEMU's exit status when a guest ends with 0, and with anything else.
const GOOD: i32 = 1;
const BAD: i32 = 3;

/// The image of one of the guests. They are built once.
fn image(name: &str) -> PathBuf {
    static IMAGES: OnceLock<PathBuf> = OnceLock::new();
    let images = IMAGES.get_or_init(|| {
        const TARGET: &str = "x86_64-unknown-none";
        // Not the directory that the cargo around us has locked.
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let status = Command::new(env!("CARGO"))
            .current_dir(root)
            .args(["guests", "--quiet", "--target-dir"])
            .arg(&directory)
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "the guests cannot be built; does this help? rustup target add {TARGET}"
        );
        directory.join(TARGET).join("release")
    });
    images.join(name)
}

/// A file for a test's own use.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("guests-{name}"))
}

/// A guest on its box.
struct Run {
    lines: Vec<String>,
    status: Option<i32>,
}

impl Run {
    /// Boots `guest` with the command line `words` and an input, and does `meanwhile` when a
    /// line has come that contains `at`.
    fn of(
        name: &str,
        (guest, words): (&str, &str),
        input: &[u8],
        options: &[&str],
        at: &str,
        meanwhile: impl FnOnce(&mut LabBox) -> Result<(), Box<dyn Error>>,
    ) -> Result<Self, Box<dyn Error>> {
        let log = file(&format!("{name}.log"));
        let input_file = file(&format!("{name}.input"));
        fs::write(&input_file, input)?;
        let kernel = image(guest).display().to_string();
        let input_file = input_file.display().to_string();
        let arguments = ["-kernel", &kernel, "-append", words, "-initrd", &input_file];
        // Shared queues need PASIDs, and those an IOMMU.
        let no_iommu: &[&str] = match words.contains("bare=shared") {
            true => &[],
            false => &["--no-iommu"],
        };
        let options = [no_iommu, options].concat();
        let mut machine = LabBox::start(&log, &options, &arguments)?;
        let deadline = Instant::now() + LIMIT;
        let mut lines = machine.lines_until(at, deadline)?;
        meanwhile(&mut machine)?;
        while !lines
            .last()
            .is_some_and(|line| line.starts_with("report End"))
        {
            lines.push(machine.next_line(deadline)?);
        }
        let status = machine.wait_for_exit(deadline)?.code();
        Ok(Self { lines, status })
    }

    /// The number that the guest reports.
    #[track_caller]
    fn reported(&self, key: &str) -> u64 {
        let start = format!("report {key} 0x");
        let mut values = self
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix(&start));
        let value = values
            .next()
            .unwrap_or_else(|| panic!("no {key} in {:#?}", self.lines));
        u64::from_str_radix(value, 16).unwrap_or_else(|error| panic!("{key} is {value}: {error}"))
    }

    #[track_caller]
    fn assert_line(&self, text: &str) {
        let found = self.lines.iter().any(|line| line.contains(text));
        assert!(found, "no '{text}' in {:#?}", self.lines);
    }
}

/// "123456789", whose CRC32C is the check value that every catalogue lists.
const CHECK: (&[u8], u64) = (b"123456789", 0xe306_9283);

#[test]
fn the_demo_does_what_it_says() -> Result<(), Box<dyn Error>> {
    let (trace, violations) = (file("demo.trace"), file("demo.violations"));
    fs::write(&violations, "")?;
    let dsa = format!(
        "trace={};violations={}",
        trace.display(),
        violations.display()
    );
    let demo = ("guest_demo", "rounds=2");
    let run = Run::of("demo", demo, CHECK.0, &["--dsa", &dsa], "demo:", |_| Ok(()))?;
    assert_eq!(run.status, Some(GOOD), "{:#?}", run.lines);
    run.assert_line("wq0 dedicated of 16 entries by MOVDIR64B");
    run.assert_line("wq1 dedicated of 16 entries by MOVDIR64B");
    assert_eq!(run.reported("Crc32c"), CHECK.1);
    assert_eq!(run.reported("Failed"), 0);
    assert!(run.reported("Checks") > 800, "{:#?}", run.lines);
    assert!(run.reported("Interrupts") > 50, "{:#?}", run.lines);
    // Two batches with one refused member.
    assert_eq!(run.reported("Errors"), 4);
    // What the device says that it did is what the guest says that it asked for.
    let ended = fs::read_to_string(&trace)?.lines().count() as u64;
    assert_eq!(run.reported("Submitted"), ended);
    assert_eq!(run.reported("Completed"), ended);
    assert_eq!(fs::read_to_string(&violations)?, "");
    Ok(())
}

#[test]
fn the_demo_takes_an_input_of_many_pieces_and_where_instructions_are_counted()
-> Result<(), Box<dyn Error>> {
    let input: Vec<u8> = (0_u32..200_003)
        .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
        .collect();
    let demo = ("guest_demo", "queue=1");
    let run = Run::of("pieces", demo, &input, &["--icount"], "demo:", |_| Ok(()))?;
    assert_eq!(run.status, Some(GOOD), "{:#?}", run.lines);
    run.assert_line("800012 bytes copied and verified");
    Ok(())
}

#[test]
fn the_demo_submits_to_shared_queues_by_both_instructions() -> Result<(), Box<dyn Error>> {
    let violations = file("shared.violations");
    fs::write(&violations, "")?;
    let dsa = format!("violations={}", violations.display());
    let demo = ("guest_demo", "bare=shared rounds=1 pasid=5");
    let run = Run::of("shared", demo, CHECK.0, &["--dsa", &dsa], "demo:", |_| {
        Ok(())
    })?;
    assert_eq!(run.status, Some(GOOD), "{:#?}", run.lines);
    run.assert_line("wq1 shared of 16 entries by ENQCMDS");
    run.assert_line("wq1 shared of 16 entries by ENQCMD,");
    assert_eq!(fs::read_to_string(&violations)?, "");
    Ok(())
}

#[test]
fn the_demo_takes_a_device_as_a_virtual_one_is() -> Result<(), Box<dyn Error>> {
    // Configured by others, and with handles that are no indexes; and a later part.
    for dsa in ["configurable=off;handle-commands=on", "device-id=0x11fb"] {
        let demo = ("guest_demo", "rounds=1");
        let run = Run::of("handles", demo, CHECK.0, &["--dsa", dsa], "demo:", |_| {
            Ok(())
        })?;
        assert_eq!(run.status, Some(GOOD), "{:#?}", run.lines);
    }
    Ok(())
}

#[test]
fn the_demo_notices_work_that_was_not_done() -> Result<(), Box<dyn Error>> {
    let demo = ("guest_demo", "seconds=2 limit=1");
    let run = Run::of("fault", demo, CHECK.0, &[], "bytes copied", |machine| {
        let command = json!("dma-fault 1");
        Ok(machine.control()?.set(DSA0, "control", &command)?)
    })?;
    assert_eq!(run.status, Some(BAD), "{:#?}", run.lines);
    // A write that was lost may have been that of the completion record.
    let is_stuck = run.lines.iter().any(|line| line.contains("STUCK"));
    assert!(run.reported("Failed") > 0 || is_stuck, "{:#?}", run.lines);
    Ok(())
}

#[test]
fn the_demo_notices_lost_interrupts() -> Result<(), Box<dyn Error>> {
    let demo = ("guest_demo", "seconds=1 limit=1");
    let run = Run::of("lost", demo, CHECK.0, &[], "bytes copied", |machine| {
        // One alone may be one of several that come together, where none is missed.
        let command = json!("lose-interrupts 100");
        Ok(machine.control()?.set(DSA0, "control", &command)?)
    })?;
    assert_eq!(run.status, Some(BAD), "{:#?}", run.lines);
    run.assert_line("STUCK");
    Ok(())
}

#[test]
fn a_guest_says_what_it_lacks() -> Result<(), Box<dyn Error>> {
    for (option, line) in [
        ("--no-dsa", "there is no DSA; give the guest one"),
        ("--no-movdir64b", "the processor has no MOVDIR64B"),
    ] {
        let demo = ("guest_demo", "");
        let run = Run::of("lacks", demo, CHECK.0, &[option], "demo:", |_| Ok(()))?;
        assert_eq!(run.status, Some(BAD), "{:#?}", run.lines);
        run.assert_line(line);
    }
    let demo = ("guest_demo", "rounds=some");
    let run = Run::of("words", demo, CHECK.0, &[], "demo:", |_| Ok(()))?;
    assert_eq!(run.status, Some(BAD), "{:#?}", run.lines);
    run.assert_line("the command line says rounds=some; give a number");
    Ok(())
}

/// Boots the adversary with one attack, with two processors and nothing that contains it.
fn attack(name: &str) -> Result<Run, Box<dyn Error>> {
    attack_with(name, "")
}

fn attack_with(name: &str, words: &str) -> Result<Run, Box<dyn Error>> {
    let words = format!("attack={name} effort=500 {words}");
    let log = format!("attack-{name}");
    let options = ["--cpus", "2"];
    let adversary = ("guest_adversary", words.as_str());
    Run::of(&log, adversary, b"", &options, "adversary:", |_| Ok(()))
}

#[test]
fn the_adversary_finds_contained_what_a_device_refuses_by_itself() -> Result<(), Box<dyn Error>> {
    for (name, saw) in [
        (
            "handle-unallocated",
            "64 x invalid interrupt handle (0x19); 0 interrupts",
        ),
        (
            "pasid-movdir64b",
            "12 x success (0x01); done in the guest's own name: true",
        ),
        (
            "pasid-msixperm",
            "11 x invalid interrupt handle (0x19); 0 interrupts",
        ),
        (
            "portal-foreign",
            "96 x retry, 96 x silence; target untouched: true",
        ),
        (
            "portal-odd",
            "10 x #GP; 0 loads that tell something; target untouched: true",
        ),
        (
            "record-misaligned",
            "6 x SWERROR misaligned completion record (0x1b)",
        ),
        (
            "flood",
            "5000 submitted, 0 to be tried again, SWERROR dedicated WQ had no space",
        ),
        ("mmio-random", "1000 accesses"),
        ("commands", "0 without an end"),
        ("stops", "0 times it went on"),
        ("virtualization", "5 x #UD; 0 worked"),
    ] {
        let run = attack(name)?;
        assert_eq!(run.status, Some(GOOD), "{:#?}", run.lines);
        run.assert_line(&format!("attack {name}: contained: "));
        run.assert_line(saw);
        assert_eq!((run.reported("Checks"), run.reported("Failed")), (1, 0));
    }
    Ok(())
}

#[test]
fn the_adversary_sees_that_nothing_contains_it_without_weir() -> Result<(), Box<dyn Error>> {
    for name in [
        "handle-foreign",
        "address-read",
        "address-checksum",
        "address-list",
        "portal-ims",
        "batch-members",
        "race-descriptor",
        "race-batch",
        "msr",
        "physical",
    ] {
        let run = attack(name)?;
        assert_eq!(run.status, Some(BAD), "{:#?}", run.lines);
        run.assert_line(&format!("attack {name}: NOT CONTAINED: "));
        assert_eq!((run.reported("Checks"), run.reported("Failed")), (1, 1));
    }
    Ok(())
}

#[test]
fn the_adversary_names_pasids_of_others_on_shared_queues() -> Result<(), Box<dyn Error>> {
    // Without Weir the device takes any PASID, but not privilege that nobody enabled.
    for (name, status) in [
        ("pasid-enqcmds", BAD),
        ("pasid-enqcmd", BAD),
        ("privileged", GOOD),
    ] {
        let run = attack_with(name, "bare=shared")?;
        assert_eq!(run.status, Some(status), "{:#?}", run.lines);
    }
    Ok(())
}

#[test]
fn a_write_as_an_interrupt_message_is_an_interrupt_without_weir() -> Result<(), Box<dyn Error>> {
    // The status of a completion record is vector 1, for which no guest has a handler.
    let run = attack("address-message")?;
    assert_eq!(run.status, Some(BAD), "{:#?}", run.lines);
    run.assert_line("guest: exception 1 ");
    assert_eq!(run.reported("End"), 0x201);
    Ok(())
}

#[test]
fn the_adversary_ends_when_it_is_told_to() -> Result<(), Box<dyn Error>> {
    let log = file("attack-triple-fault.log");
    let kernel = image("guest_adversary").display().to_string();
    let arguments = ["-kernel", &kernel, "-append", "attack=triple-fault"];
    let machine = LabBox::start(&log, &["--no-iommu"], &arguments)?;
    // The box does not start again but ends, as it was told (`-no-reboot`).
    let status = machine.wait_for_exit(Instant::now() + LIMIT)?;
    assert_eq!(status.code(), Some(0));
    let run = attack("of-another-name")?;
    assert_eq!(run.status, Some(BAD), "{:#?}", run.lines);
    run.assert_line("there is attack=handle-foreign");
    Ok(())
}

#[test]
fn the_bench_counts_instructions_and_repeats() -> Result<(), Box<dyn Error>> {
    let bench = ("guest_bench", "times=5");
    let run = || Run::of("bench", bench, b"", &["--icount"], "bench:", |_| Ok(()));
    let (one, other) = (run()?, run()?);
    assert_eq!(one.status, Some(GOOD), "{:#?}", one.lines);
    assert_eq!(one.lines, other.lines);
    // Two readings of the counter with one instruction of each between.
    one.assert_line("1 nothing                                                  3        3");
    one.assert_line("9 end of a batch, exit to entry");
    Ok(())
}
