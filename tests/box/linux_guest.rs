//! Linux under Weir: the distribution's own kernel, driver and tools use the virtual DSA as they
//! would use a real one, beside other guests, under both policies.
//!
//! What runs in it is `emulator/linux/init`, as on the bare box (`linux.rs`). Each of its steps is
//! asserted, and what Linux counted is compared with what Weir did: see [`judge`].
#![forbid(unsafe_code)]
#![expect(clippy::indexing_slicing, reason = "a missing field is a failed test")]

#[path = "linux_guest/guests.rs"]
mod guests;
#[path = "linux_guest/judge.rs"]
mod judge;
#[path = "linux_guest/scene.rs"]
mod scene;
#[path = "linux_guest/trace.rs"]
mod trace;

use serde_json::Value;
use system_tests::weir_box::{Setup, Weir};

use crate::guests::{Guest, Way, queue};
use crate::judge::{assert_all_is_well, assert_handles_moved, assert_steps, count, exits, sum};
use crate::scene::{images, run, soon};

/// Copies of up to one page that each Linux of the matrix makes.
const COPIES: u64 = 40_000;

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
#[ignore = "two guests with 40,000 copies each, over a minute; one with 500 is always run, all by .ci/deep linux"]
fn two_linux_guests_work_side_by_side_while_handles_move() {
    side_by_side("linux-guests", "", [1, 2]);
}

#[test]
#[ignore = "two guests with 40,000 copies each, over a minute; one with 500 is always run, all by .ci/deep linux"]
fn policies_and_processors_are_independent() {
    side_by_side("linux-guests-2", "", [2, 1]);
}

#[test]
#[ignore = "downloads a second kernel (300 MB), Debian's own is always tested; run by .ci/deep linux"]
fn the_newest_linux_works_side_by_side() {
    side_by_side("linux-guests-backports", "-backports", [1, 2]);
}

/// Both have a dedicated queue, as Linux wants it, and share a physical one.
#[test]
#[ignore = "two guests with 40,000 copies each, over a minute; one with 500 is always run, all by .ci/deep linux"]
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
