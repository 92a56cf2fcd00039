//! Linux under Weir: the distribution's own kernel, driver and tools use the virtual DSA as they
//! would use a real one, beside other guests, under both policies.
//!
//! What runs in it is `emulator/linux/init`, as on the bare box (`linux.rs`). Each of its steps is
//! asserted, and what Linux counted is compared with what Weir did.
#![forbid(unsafe_code)]
#![expect(clippy::indexing_slicing, reason = "a missing field is a failed test")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::lab_box::BoxError;
use system_tests::linux::{COMPLAINTS, Step};
use system_tests::weir_box::{Ending, Images, Outcome, Setup, Weir};

/// Copies of up to one page that each Linux of the matrix makes.
const COPIES: u64 = 40_000;
/// How often an interrupt's handle is moved meanwhile, at least.
const MOVES: u64 = 100;
/// And at the most.
const MOVES_MAX: u64 = 2_000;
/// The time from one move to the next. A submission waits in Linux while handles are asked for
/// again, once: if they are revoked a second time before it goes on, it fails there ("submit
/// error"), which was seen at a move every 60 ms on a busy machine.
const MOVE_INTERVAL: Duration = Duration::from_millis(150);
/// Status of a completion: what the descriptor asked for was done. [DSA, 5.4]
const SUCCESS: u64 = 1;
/// Invalid interrupt handle.
const INVALID_HANDLE: u64 = 0x19;

/// The tests of the init, and what its steps are then, in their order.
const ALL: (&str, &str) = ("dmatest,reenable,rebind,flr,reload", ALL_STEPS);
const ALL_STEPS: &str = "kernel probe iommu list \
                         enable dmatest dmatest dmatest disable \
                         reenable \
                         rebind enable rebind disable \
                         flr enable flr disable \
                         reload enable reload disable \
                         interrupts end";

/// Linux 6.12 follows a null pointer when it disables a DSA without an event log, under Weir as on
/// the bare box (see `linux.rs`), so there the device stays enabled.
const COPY: (&str, &str) = (
    "copy",
    "kernel probe iommu list enable dmatest dmatest dmatest disable interrupts end",
);

fn images() -> &'static Images {
    Images::build(env!("CARGO_TARGET_TMPDIR"))
}

fn soon(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// How a guest reaches the device.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Weir checks each descriptor.
    Checked,
    /// It writes to the device itself.
    Direct,
    /// Weir checks each, and hands it to a shared queue that others have too.
    Slice,
}

/// A Linux guest.
#[derive(Clone, Copy)]
struct Guest {
    name: &'static str,
    /// "" or "-backports".
    kernel: &'static str,
    way: Way,
    queue: u8,
    cpus: u8,
    copies: u64,
}

impl Guest {
    const fn new(name: &'static str, way: Way, queue: u8, cpus: u8, copies: u64) -> Self {
        Self {
            name,
            kernel: "",
            way,
            queue,
            cpus,
            copies,
        }
    }

    /// What it tests, and its steps.
    fn tests(&self) -> (&'static str, &'static str) {
        if self.kernel.is_empty() { ALL } else { COPY }
    }

    fn config(&self) -> String {
        let Self {
            name,
            kernel,
            way,
            queue,
            cpus,
            copies,
        } = self;
        let (tests, _) = self.tests();
        let is_trusted = *way == Way::Direct;
        let queue_words = match way {
            Way::Checked => "",
            Way::Direct => "policy = \"direct\"",
            Way::Slice => "mode = \"dedicated\"",
        };
        format!(
            r#"
[[guest]]
name = "{name}"
kernel = "vmlinuz{kernel}"
initrd = "initrd{kernel}"
cmdline = "console=ttyS0 panic=1 weir.test={tests} weir.copies={copies} weir.limit=1500"
memory = "256M"
cpus = {cpus}
trusted = {is_trusted}
[[guest.queue]]
wq = "dsa0/wq0.{queue}"
{queue_words}
"#
        )
    }
}

/// A physical queue.
fn queue(number: u8, mode: &str, size: u8) -> String {
    format!("[[wq]]\nname = \"dsa0/wq0.{number}\"\nmode = \"{mode}\"\nsize = {size}\n")
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
fn assert_steps(outcome: &Outcome, name: &str, expected: &str) -> Vec<Step> {
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
fn sum(steps: &[Step], key: &str) -> u64 {
    steps.iter().map(|step| number(step, key)).sum()
}

#[track_caller]
fn count(report: &Value, key: &str) -> u64 {
    let value = report[key].as_u64();
    value.unwrap_or_else(|| panic!("no number {key} in {report:#}"))
}

fn exits(report: &Value, reason: &str) -> u64 {
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
fn assert_handles_moved(outcome: &Outcome, guest: &Guest, trace: &Trace) {
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

/// What the device says of descriptors.
struct Trace(Vec<Value>);

impl Trace {
    fn path(name: &str) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("weir-{name}.trace"))
    }

    fn read(name: &str) -> Self {
        let text = fs::read_to_string(Self::path(name)).expect("the device wrote a trace");
        let lines = text.lines();
        Self(
            lines
                .map(|line| serde_json::from_str(line).expect("each line is JSON"))
                .collect(),
        )
    }

    /// Lines about a guest.
    fn of<'t>(&'t self, report: &'t Value) -> impl Iterator<Item = &'t Value> {
        let pasids = report["pasids"].as_array().expect("PASIDs");
        self.0
            .iter()
            .filter(|line| pasids.iter().any(|pasid| *pasid == line["pasid"]))
    }

    /// How many of a guest's copies ended with this status.
    fn copies(&self, report: &Value, status: u64) -> usize {
        self.of(report)
            .filter(|line| line["operation"] == "Memory Move" && line["status"] == status)
            .count()
    }

    /// How many different interrupt handles a guest used.
    fn handles(&self, report: &Value) -> usize {
        let mut handles: Vec<_> = self
            .of(report)
            .filter_map(|line| line["handle"].as_u64())
            .collect();
        handles.sort_unstable();
        handles.dedup();
        handles.len()
    }
}

/// Whether a guest has said `text`.
fn has_said(weir: &Weir, name: &str, text: &str) -> bool {
    let prefix = format!("[{name}] ");
    let mut lines = weir.lines().iter();
    lines.any(|line| line.starts_with(&prefix) && line.contains(text))
}

/// Boots `guests` and the adversary, on `queues`, and moves the handles of all of them while they
/// copy, if `is_moving`.
fn run(
    name: &str,
    guests: &[Guest],
    queues: &str,
    is_moving: bool,
) -> Result<(Outcome, Trace), Box<dyn Error>> {
    const DONE: &str = "] weir: dmatest ";
    let config: String = guests.iter().map(Guest::config).collect();
    let config = config + queues + ADVERSARY;
    let device = format!("trace={}", Trace::path(name).display());
    let setup = Setup {
        options: &["--cpus", "2", "--memory", "1G", "--dsa", &device],
        words: if is_moving { "interactive=on" } else { "" },
        ..Setup::new(name, &config)
    };
    let deadline = soon(1800);
    let mut weir = Weir::start(images(), &setup)?;
    if is_moving {
        let names: Vec<_> = guests.iter().map(|guest| guest.name).collect();
        weir.until_each_says(&names, "] weir: enable ok", deadline)?;
        for _ in 0..MOVES_MAX {
            // One that has copied gives its handle back soon.
            let mut copying = names.clone();
            copying.retain(|name| !has_said(&weir, name, DONE));
            if copying.is_empty() {
                break;
            }
            for name in &copying {
                weir.machine().send_line(&format!("ims move {name} 1"))?;
            }
            match weir.until_each_says(&copying, DONE, Instant::now() + MOVE_INTERVAL) {
                Err(BoxError::TimedOut { .. }) => {}
                result => result?,
            }
        }
        for name in names.into_iter().chain(["adversary"]) {
            let ended = format!("guest={name} ended");
            if !weir.has_line(&ended) {
                weir.until(&ended, deadline)?;
            }
        }
        weir.machine().send_line("quit")?;
    }
    let outcome = weir.finish(deadline)?;
    Ok((outcome, Trace::read(name)))
}

/// What does not depend on how guests reach the device: nobody lost anything, the adversary got
/// nothing, and the device did what Linux counted.
#[track_caller]
fn assert_all_is_well(outcome: &Outcome, guests: &[Guest], trace: &Trace) {
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

#[test]
fn linux_uses_its_virtual_dsa() {
    let guests = [Guest::new("linux", Way::Checked, 0, 1, 500)];
    let (outcome, trace) = run("linux-guest", &guests, &queue(0, "dedicated", 16), false).unwrap();
    assert_all_is_well(&outcome, &guests, &trace);
    let report = outcome.guest("linux");
    assert_eq!(report["refused"], serde_json::json!({}), "{report:#}");
}

/// `reboot`, with the queue enabled and handles given: the guest is started anew, and works.
#[test]
fn a_linux_that_reboots_is_started_anew() {
    const CONFIG: &str = r#"
[[guest]]
name = "linux"
kernel = "vmlinuz"
initrd = "initrd"
cmdline = "console=ttyS0 quiet panic=1 weir.test=reboot,dmatest weir.copies=100"
memory = "256M"
restart = "on-reset"
[[guest.queue]]
wq = "dsa0/wq0.0"
[[wq]]
name = "dsa0/wq0.0"
"#;
    const ASKS: &str = "] weir: reboot: ";
    let setup = Setup {
        words: "interactive=on",
        ..Setup::new("linux-reboot", CONFIG)
    };
    let deadline = soon(240);
    let mut weir = Weir::start(images(), &setup).unwrap();
    for answer in ["again", "on"] {
        // Its last lines before the reboot, as Weir repeats them, are not asked again.
        weir.until("guest=linux started", deadline).unwrap();
        weir.until(ASKS, deadline).unwrap();
        weir.machine().send_line("console linux").unwrap();
        weir.until("this is the console of linux", deadline)
            .unwrap();
        // Ctrl-] leaves it.
        weir.machine().send_line(answer).unwrap();
        weir.machine().send_line("\x1d").unwrap();
    }
    weir.until("guest=linux ended: switched itself off", deadline)
        .unwrap();
    weir.machine().send_line("quit").unwrap();
    let outcome = weir.finish(deadline).unwrap();
    let steps = assert_steps(
        &outcome,
        "linux",
        "kernel probe iommu list enable reboot interrupts \
         kernel probe iommu list enable reboot disable rebooted \
         enable dmatest dmatest dmatest disable interrupts end",
    );
    let report = outcome.guest("linux");
    assert_eq!(report["restarts"], 1, "{report:#}");
    assert_eq!(report["result"], "off", "{report:#}");
    assert_eq!(report["books"]["balance"], true, "{report:#}");
    assert_eq!(exits(report, "submission"), sum(&steps, "copies"));
    let taken = count(report, "interrupts_injected") - count(report, "interrupts_merged");
    assert_eq!(sum(&steps, "portal"), taken, "{report:#}");
}

/// The same guests whatever the kernel: each policy, one and two processors, all at once.
fn side_by_side(name: &str, kernel: &'static str, cpus: [u8; 2]) {
    let [checked, direct] = cpus;
    let mut guests = [
        Guest::new("linux-checked", Way::Checked, 0, checked, COPIES),
        Guest::new("linux-direct", Way::Direct, 1, direct, COPIES),
    ];
    for guest in &mut guests {
        guest.kernel = kernel;
    }
    let queues = queue(0, "dedicated", 16) + &queue(1, "dedicated", 16);
    work_while_handles_move(name, &guests, &queues);
}

fn work_while_handles_move(name: &str, guests: &[Guest], queues: &str) {
    let result = run(name, guests, queues, true);
    let (outcome, trace) = result.unwrap_or_else(|error| panic!("{error}"));
    assert_all_is_well(&outcome, guests, &trace);
    for guest in guests {
        assert_handles_moved(&outcome, guest, &trace);
    }
}

#[test]
#[ignore = "40,000 copies in each of two guests take some minutes; run by .ci/deep linux"]
fn two_linux_guests_work_side_by_side_while_handles_move() {
    side_by_side("linux-guests", "", [1, 2]);
}

#[test]
#[ignore = "40,000 copies in each of two guests take some minutes; run by .ci/deep linux"]
fn policies_and_processors_are_independent() {
    side_by_side("linux-guests-2", "", [2, 1]);
}

#[test]
#[ignore = "downloads the backports' kernel (300 MB); run by .ci/deep linux"]
fn the_newest_linux_works_side_by_side() {
    side_by_side("linux-guests-backports", "-backports", [1, 2]);
}

/// Both have a dedicated queue, as Linux wants it, and share a physical one.
#[test]
#[ignore = "40,000 copies in each of two guests take some minutes; run by .ci/deep linux"]
fn dedicated_queues_are_slices_of_a_shared_one() {
    let guests = [
        Guest::new("linux-a", Way::Slice, 0, 1, COPIES),
        Guest::new("linux-b", Way::Slice, 0, 2, COPIES),
    ];
    work_while_handles_move("linux-slices", &guests, &queue(0, "shared", 32));
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
    let report = outcome.guest("linux");
    assert_eq!(report["result"], "crashed");
    assert_eq!(report["panicked"], true, "{report:#}");
    assert_eq!(report["shell_us"], Value::Null, "{report:#}");
    let lines = report["last_lines"].as_array().expect("lines");
    let has_panic = |line: &Value| {
        let line = line.as_str();
        line.is_some_and(|line| line.contains("Kernel panic - not syncing"))
    };
    assert!(lines.iter().any(has_panic), "{report:#}");
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
