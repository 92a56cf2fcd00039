//! What things cost in instructions, against budgets: the bench guest under Weir, on a box that
//! counts them.
//!
//! Each figure that a person reads in `docs/figures.md` is a budget here. The counts are of the
//! whole path, every check included, and the same in every run.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::weir_box::{Ending, Images, Outcome, Setup, Weir};

const CONFIG: &str = include_str!("../../guests/bench/weir.toml");
/// More than a busy machine takes.
const LIMIT: Duration = Duration::from_secs(300);

/// From the hypervisor's entry to the first guest instruction, or from VM exit to VM entry.
const BUDGETS: [(&str, u64); 9] = [
    ("direct_exits", 0),
    ("inject", 400),
    ("inject_device_to_handler", 500),
    ("checked_single", 1_300),
    ("checked_enqcmd", 1_450),
    ("checked_batch64_each", 200),
    ("batch_completion", 450),
    ("entry_to_guest", 10_000_000),
    ("guest_overhead_bytes", 1 << 20),
];
/// Those that must not grow with the number of interrupts.
const STEADY: [&str; 6] = [
    "inject",
    "inject_device_to_handler",
    "checked_single",
    "checked_enqcmd",
    "checked_batch64_each",
    "batch_completion",
];
/// Bytes of the image, stripped.
const IMAGE: u64 = 768 << 10;

fn run(setup: &Setup<'_>) -> Outcome {
    let images = Images::build(env!("CARGO_TARGET_TMPDIR"));
    let outcome = Weir::run(images, setup, Instant::now() + LIMIT);
    let outcome = outcome.unwrap_or_else(|error| panic!("{}: {error}", setup.name));
    let lines = &outcome.lines;
    assert_eq!(outcome.ending, Ending::Off(Some(0)), "{lines:#?}");
    assert_eq!(outcome.guest("bench")["result"], "passed", "{lines:#?}");
    outcome
}

/// Two processors and three guests, two of which wait.
fn run_bench(name: &str) -> Value {
    let options = &["--cpus", "2", "--icount"];
    let outcome = run(&Setup {
        options,
        ..Setup::new(name, CONFIG)
    });
    outcome.report()["bench"].clone()
}

#[track_caller]
fn figure(bench: &Value, name: &str) -> u64 {
    let value = bench[name].as_u64();
    value.unwrap_or_else(|| panic!("{name} was not measured: {bench:#}"))
}

#[test]
fn budgets_are_met_and_counts_repeat() {
    let bench = run_bench("bench");
    for (name, budget) in BUDGETS {
        let value = figure(&bench, name);
        assert!(value <= budget, "{name} = {value}, budget {budget}");
    }
    assert_eq!(run_bench("bench-again"), bench);
}

/// The bench beside a Linux that copies by its own virtual DSA all the while, on one processor:
/// the box counts the instructions of all processors by one counter. A turn of Linux in the middle
/// of a measurement is in the measurement, so it is the median that counts, as everywhere.
#[test]
fn budgets_are_met_beside_linux() {
    const LINUX: &str = r#"
        [[guest]]
        name = "linux"
        kernel = "vmlinuz"
        initrd = "initrd"
        cmdline = "console=ttyS0 quiet panic=1 weir.test=dmatest weir.copies=1000000 weir.limit=3000"
        memory = "256M"
        [[guest.queue]]
        wq = "dsa0/wq0.3"
        [[wq]]
        name = "dsa0/wq0.3"
    "#;
    const COPIES: &str = "dmatest: Started 2 threads";
    const HAS_COPIED: &str = "] weir: dmatest ";
    let one_cpu = CONFIG.replacen("cpus = 2\n", "", 1);
    let one_cpu = one_cpu.replacen("second=on", "", 1);
    let config = format!("{one_cpu}{LINUX}");
    let setup = Setup {
        options: &["--cpus", "1", "--icount"],
        words: "interactive=on",
        ..Setup::new("bench-linux", &config)
    };
    let deadline = Instant::now() + 2 * LIMIT;
    let images = Images::build(env!("CARGO_TARGET_TMPDIR"));
    let mut weir = Weir::start(images, &setup).unwrap();
    weir.until("guest=bench ended: passed", deadline).unwrap();
    weir.until(COPIES, deadline).unwrap();
    weir.machine().send_line("start bench").unwrap();
    weir.until("guest=bench ended: passed", deadline).unwrap();
    assert!(!weir.has_line(HAS_COPIED), "{:#?}", weir.lines());
    weir.machine().send_line("quit").unwrap();
    let outcome = weir.finish(deadline).unwrap();
    let linux = outcome.guest("linux");
    assert!(linux["submitted"].as_u64() > Some(200), "{linux:#}");
    let bench = &outcome.report()["bench"];
    println!("beside Linux: {bench:#}");
    for (name, budget) in BUDGETS {
        let value = figure(bench, name);
        assert!(value <= budget, "{name} = {value}, budget {budget}");
    }
}

/// 15 guests with queues, PASIDs and interrupt handles of their own, beside the bench.
#[test]
fn four_hundred_interrupts_cost_no_more_than_twelve() {
    const GUESTS: usize = 15;
    let options = &["--cpus", "4", "--icount"];
    let config = crowd(GUESTS);
    let outcome = run(&Setup {
        options,
        ..Setup::new("bench-crowd", &config)
    });
    for guest in 0..GUESTS {
        let guest = outcome.guest(&format!("holds-{guest}"));
        assert_eq!(guest["result"], "passed", "{guest:#}");
    }
    // They were all there before the bench began, and until it had ended.
    let place = |text: &str| {
        let mut lines = outcome.lines.iter();
        let place = lines.position(|line| line.contains(text));
        place.unwrap_or_else(|| panic!("no line with {text}: {:#?}", outcome.lines))
    };
    for guest in 0..GUESTS {
        let holds = place(&format!("[holds-{guest}] bench: holds 6 interrupt handles"));
        assert!(
            holds < place("[bench] bench: ticks"),
            "{:#?}",
            outcome.lines
        );
        let ended = place(&format!("guest=holds-{guest} ended"));
        assert!(place("guest=bench ended") < ended, "{:#?}", outcome.lines);
    }
    let dsa = &outcome.report()["box"]["dsa"][0];
    assert_eq!(dsa["ims_slots"], 2048, "{dsa:#}");
    assert!(dsa["ims_peak"].as_u64() >= Some(400), "{dsa:#}");

    let few = run_bench("bench-few");
    let many = &outcome.report()["bench"];
    for name in STEADY {
        let (few, many) = (figure(&few, name), figure(many, name));
        assert!(
            many.abs_diff(few) * 20 <= few,
            "{name} = {many} with many interrupts, {few} with few"
        );
    }
}

/// The bench beside so many guests that hold 28 slots each: for the handles of six queues, and
/// for the ends of batches of these and of sixteen PASIDs.
fn crowd(guests: usize) -> String {
    const SHARED: [u32; 6] = [1, 3, 4, 5, 6, 7];
    let mut config = String::from(
        r#"
        [[guest]]
        name = "bench"
        image = "bench"
        memory = "32M"
        trusted = true
        cmdline = "direct=2 wait=100"
        pasids = [1]
        share-rate = 1000000
        [[guest.queue]]
        wq = "dsa0/wq0.0"
        [[guest.queue]]
        wq = "dsa0/wq0.1"
        [[guest.queue]]
        wq = "dsa0/wq0.2"
        policy = "direct"
        [[wq]]
        name = "dsa0/wq0.0"
        [[wq]]
        name = "dsa0/wq0.2"
        "#,
    );
    for queue in SHARED {
        let name = format!("[[wq]]\nname = \"dsa0/wq0.{queue}\"\n");
        config += &name;
        config += "mode = \"shared\"\nsize = 8\nmax-batch = 64\n";
    }
    for guest in 0..guests {
        write!(
            config,
            "[[guest]]\nname = \"holds-{guest}\"\nimage = \"bench\"\nmemory = \"16M\"\n\
             pasids = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]\n\
             cmdline = \"hold=400\"\n"
        )
        .expect("strings take what is written");
        for queue in SHARED {
            let line = format!("[[guest.queue]]\nwq = \"dsa0/wq0.{queue}\"\nbatches = 1\n");
            config += &line;
        }
    }
    config
}

/// What `strip` leaves of the image: what is loaded, and in front of it and behind it headers.
/// Symbols and debug information are not loaded.
#[test]
fn the_image_is_small() {
    /// The section headers that are kept, and their names.
    const HEADERS: u64 = 1024;
    let images = Images::build(env!("CARGO_TARGET_TMPDIR"));
    let image = fs::read(images.weir()).expect("the image was built");
    let word = |at: usize, bytes: usize| {
        let word = image[at..at + bytes].iter().rev();
        word.fold(0_u64, |value, &byte| value << 8 | u64::from(byte))
    };
    let index = |value: u64| usize::try_from(value).expect("a file is not so long");
    // [ELF-64 Object File Format 1.5, "File header" and "Program header"]
    let table = index(word(32, 8));
    let (entry_bytes, count) = (index(word(54, 2)), index(word(56, 2)));
    let ends = (0..count).map(|number| {
        let entry = table + number * entry_bytes;
        word(entry + 8, 8) + word(entry + 32, 8)
    });
    let bytes = ends.max().expect("something is loaded") + HEADERS;
    assert!(
        bytes > 100_000 && bytes <= IMAGE,
        "{bytes} of {IMAGE} bytes"
    );
}
