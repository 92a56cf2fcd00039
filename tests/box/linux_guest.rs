//! Linux under Weir: the distribution's own kernel, driver and tools use the virtual DSA as they
//! would use a real one, beside other guests, under both policies.
//!
//! What runs in it is `emulator/linux/init`, as on the bare box (`linux.rs`).
#![forbid(unsafe_code)]
#![expect(clippy::indexing_slicing, reason = "a missing field is a failed test")]

use std::error::Error;
use std::time::{Duration, Instant};

use system_tests::linux::{COMPLAINTS, Step};
use system_tests::weir_box::{Ending, Images, Outcome, Setup, Weir};

/// Copies of up to one page that each Linux of the matrix makes.
const COPIES: u64 = 20_000;
/// How often an interrupt's handle is moved meanwhile.
const MOVES: u32 = 100;

/// What the steps of all tests of the init are, in their order.
const ALL_STEPS: &str = "kernel probe iommu list \
                         enable dmatest dmatest dmatest disable \
                         reenable \
                         rebind enable rebind disable \
                         flr enable flr disable \
                         reload enable reload disable \
                         end";

fn images() -> &'static Images {
    Images::build(env!("CARGO_TARGET_TMPDIR"))
}

fn soon(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// A Linux guest.
#[derive(Clone, Copy)]
struct Guest {
    name: &'static str,
    /// "" or "-backports".
    kernel: &'static str,
    queue: u8,
    cpus: u8,
    is_direct: bool,
    copies: u64,
}

impl Guest {
    const fn checked(name: &'static str, queue: u8, cpus: u8, copies: u64) -> Self {
        Self {
            name,
            kernel: "",
            queue,
            cpus,
            is_direct: false,
            copies,
        }
    }

    const fn direct(name: &'static str, queue: u8, cpus: u8, copies: u64) -> Self {
        Self {
            is_direct: true,
            ..Self::checked(name, queue, cpus, copies)
        }
    }

    fn config(&self) -> String {
        let Self {
            name,
            kernel,
            queue,
            cpus,
            is_direct,
            copies,
        } = self;
        let policy = if *is_direct { "direct" } else { "checked" };
        format!(
            r#"
[[guest]]
name = "{name}"
kernel = "vmlinuz{kernel}"
initrd = "initrd{kernel}"
cmdline = "console=ttyS0 panic=1 weir.test=dmatest,reenable,rebind,flr,reload weir.copies={copies} weir.limit=1500"
memory = "256M"
cpus = {cpus}
trusted = {is_direct}
[[guest.queue]]
wq = "dsa0/wq0.{queue}"
policy = "{policy}"
[[wq]]
name = "dsa0/wq0.{queue}"
size = 16
"#
        )
    }
}

/// The adversary, on a queue of its own.
const ADVERSARY: &str = r#"
[[guest]]
name = "adversary"
image = "adversary"
memory = "32M"
pasids = [5]
[[guest.queue]]
wq = "dsa0/wq0.7"
[[wq]]
name = "dsa0/wq0.7"
size = 16
"#;

/// What a Linux guest must have shown.
#[track_caller]
fn assert_linux_worked(outcome: &Outcome, guest: &Guest) {
    let console = outcome.console(guest.name);
    let steps: Vec<Step> = console
        .iter()
        .filter_map(|line| Step::parse(line))
        .collect();
    let failed: Vec<_> = steps.iter().filter(|step| !step.passed).collect();
    assert!(failed.is_empty(), "{}: {failed:?}", guest.name);
    let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
    let expected: Vec<_> = ALL_STEPS.split_whitespace().collect();
    assert_eq!(names, expected, "{}", guest.name);

    let probe = &steps[1].values;
    assert_eq!(probe["id"], "0x0b25");
    assert_eq!(probe["configurable"], "0");
    assert_eq!(steps[0].values["cpus"], guest.cpus.to_string());
    let dmatest = steps.iter().find(|step| step.name == "dmatest");
    let copies = dmatest.map_or(0, |step| number(step, "copies"));
    assert!(copies >= guest.copies, "{}: {copies} copies", guest.name);

    let complaints: Vec<_> = console
        .iter()
        .filter(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)))
        .collect();
    assert!(complaints.is_empty(), "{}: {complaints:#?}", guest.name);

    let report = outcome.guest(guest.name);
    assert_eq!(report["result"], "off", "{report:#}");
    assert_eq!(report["books"]["balance"], true, "{report:#}");
    assert_exits(report, guest, &steps);
}

/// The number of this name that a step found, 0 without one.
fn number(step: &Step, key: &str) -> u64 {
    let value = step.values.get(key);
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// What a copy costs in exits: at most one for its submission, none where the guest submits by
/// itself; one for its interrupt and one for that one's end.
#[track_caller]
fn assert_exits(report: &serde_json::Value, guest: &Guest, steps: &[Step]) {
    let sum = |key: &str| -> u64 { steps.iter().map(|step| number(step, key)).sum() };
    let (copies, taken) = (sum("copies"), sum("interrupts"));
    let submissions = report["exits"]["submission"].as_u64().unwrap_or(0);
    let is_right = match guest.is_direct {
        true => submissions == 0,
        // Each resubmission, and each descriptor that drains, is one more.
        false => (copies..=copies + copies / 10).contains(&submissions),
    };
    assert!(
        is_right,
        "{}: {submissions} exits for {copies} copies",
        guest.name
    );
    let injected = report["interrupts_injected"].as_u64().unwrap_or(0);
    assert!(
        injected >= taken,
        "{}: Linux took {taken} interrupts, Weir injected {injected}",
        guest.name
    );
}

/// Boots `guests` and the adversary, and moves the handles of all of them `moves` times.
fn run(name: &str, guests: &[Guest], moves: u32) -> Result<Outcome, Box<dyn Error>> {
    let config: String = guests.iter().map(Guest::config).collect();
    let config = config + ADVERSARY;
    let setup = Setup {
        options: &["--cpus", "2", "--memory", "1G"],
        words: if moves > 0 { "interactive=on" } else { "" },
        ..Setup::new(name, &config)
    };
    let deadline = soon(1800);
    let mut weir = Weir::start(images(), &setup)?;
    if moves > 0 {
        for guest in guests {
            weir.until_each_says(&[guest.name], "] weir: enable ok", deadline)?;
        }
        for _ in 0..moves {
            for guest in guests {
                weir.machine()
                    .send_line(&format!("ims move {} 1", guest.name))?;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let names: Vec<_> = guests.iter().map(|guest| guest.name).collect();
        weir.until_each_says(&names, "] weir: end ", deadline)?;
        weir.machine().send_line("quit")?;
    }
    weir.finish(deadline)
}

#[test]
fn linux_uses_its_virtual_dsa() {
    let guest = Guest::checked("linux", 0, 1, 500);
    let outcome = run("linux-guest", &[guest], 0).unwrap();
    assert_eq!(outcome.ending, Ending::Off(Some(0)));
    assert_linux_worked(&outcome, &guest);
    assert_eq!(outcome.guest("adversary")["result"], "passed");
}

#[test]
#[ignore = "20,000 copies in each of two guests take some minutes; run by .ci/deep"]
fn two_linux_guests_work_side_by_side_while_handles_move() {
    let guests = [
        Guest::checked("linux-checked", 0, 1, COPIES),
        Guest::direct("linux-direct", 1, 2, COPIES),
    ];
    side_by_side("linux-guests", &guests);
}

#[test]
#[ignore = "20,000 copies in each of two guests take some minutes; run by .ci/deep"]
fn policies_and_processors_are_independent() {
    let guests = [
        Guest::checked("linux-checked", 0, 2, COPIES),
        Guest::direct("linux-direct", 1, 1, COPIES),
    ];
    side_by_side("linux-guests-2", &guests);
}

#[test]
#[ignore = "downloads the backports' kernel (300 MB); .ci/deep kernels runs it"]
fn the_newest_linux_works_side_by_side() {
    let mut guests = [
        Guest::checked("linux-checked", 0, 1, COPIES),
        Guest::direct("linux-direct", 1, 2, COPIES),
    ];
    for guest in &mut guests {
        guest.kernel = "-backports";
    }
    side_by_side("linux-guests-backports", &guests);
}

fn side_by_side(name: &str, guests: &[Guest]) {
    let outcome = run(name, guests, MOVES).unwrap_or_else(|error| panic!("{error}"));
    for guest in guests {
        assert_linux_worked(&outcome, guest);
    }
    assert_eq!(outcome.guest("adversary")["result"], "passed");
}

/// A kernel that panics resets itself; its last lines are on the console.
#[test]
fn a_panic_is_reported_with_the_last_lines() {
    const CONFIG: &str = r#"
[[guest]]
name = "linux"
kernel = "vmlinuz"
cmdline = "console=ttyS0 panic=1 rdinit=/nothing"
memory = "128M"
"#;
    let setup = Setup::new("linux-panic", CONFIG);
    let outcome = Weir::run(images(), &setup, soon(240)).unwrap();
    let console = outcome.console("linux").join("\n");
    assert!(console.contains("Kernel panic - not syncing"), "{console}");
    assert!(
        outcome.has_line("guest=linux ended: reset itself"),
        "{:#?}",
        outcome.lines
    );
    assert_eq!(outcome.guest("linux")["result"], "crashed");
}

/// Each kind of file that is no kernel is named before anything of it runs.
#[test]
fn what_is_no_kernel_is_refused_with_one_line() {
    const CONFIG: &str = r#"
[[guest]]
name = "linux"
kernel = "demo"
memory = "128M"

[[guest]]
name = "small"
kernel = "vmlinuz"
initrd = "initrd"
memory = "64M"

[[guest]]
name = "swapped"
image = "vmlinuz"
memory = "128M"
"#;
    let setup = Setup::new("linux-refused", CONFIG);
    let outcome = Weir::run(images(), &setup, soon(120)).unwrap();
    for text in [
        "guest=linux not started: not a Linux bzImage; give the 'vmlinuz' of a distribution",
        "guest=small not started: the kernel needs 0x",
        "guest=swapped not started: a Linux bzImage; name it by 'kernel' and not by 'image'",
    ] {
        assert!(
            outcome.has_line(text),
            "no '{text}' in {:#?}",
            outcome.lines
        );
    }
}
