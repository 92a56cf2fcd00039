//! Guests of a few instructions on the lab box: `suite_guests` tries each way out of a guest and
//! back, and looks whether guests keep their state to themselves.
//!
//! The suite judges itself.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use system_tests::lab_box::LabBox;
use system_tests::weir_box::Images;

/// What a box may take, which needs a few seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// QEMU's exit status when the suite passed.
const GOOD: i32 = 1;

#[test]
fn guests_leave_and_come_back_and_keep_their_state() -> Result<(), Box<dyn Error>> {
    let directory = env!("CARGO_TARGET_TMPDIR");
    let kernel = Images::build(directory).suite("guests");
    let kernel = kernel.display().to_string();
    let log = Path::new(directory).join("virtualization.log");
    // What it costs is counted too, in instructions.
    let options = ["--cpus", "2", "--icount"];
    let arguments = ["-kernel", &kernel, "-append", "icount=on"];
    let mut machine = LabBox::start(&log, &options, &arguments)?;
    let deadline = Instant::now() + LIMIT;
    let lines = machine.lines_until("suite: end ", deadline)?;
    let failures: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("FAILED"))
        .collect();
    assert!(failures.is_empty(), "{failures:#?}, see {}", log.display());
    let status = machine.wait_for_exit(deadline)?;
    assert_eq!(status.code(), Some(GOOD), "see {}", log.display());
    Ok(())
}
