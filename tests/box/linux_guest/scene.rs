//! A box with Linux guests and the adversary.

use std::error::Error;
use std::time::{Duration, Instant};

use system_tests::lab_box::BoxError;
use system_tests::weir_box::{Images, Outcome, Setup, Weir};

use crate::guests::{ADVERSARY, Guest};
use crate::trace::Trace;

/// How often an interrupt's handle is moved at the most.
const MOVES_MAX: u64 = 2_000;
/// The time from one move to the next. A submission waits in Linux while handles are asked for
/// again, once: if they are revoked a second time before it goes on, it fails there ("submit
/// error"), which was seen at a move every 60 ms on a busy machine.
const MOVE_INTERVAL: Duration = Duration::from_millis(150);

pub(crate) fn images() -> &'static Images {
    Images::build(env!("CARGO_TARGET_TMPDIR"))
}

pub(crate) fn soon(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// Whether a guest has said `text`.
fn has_said(weir: &Weir, name: &str, text: &str) -> bool {
    let prefix = format!("[{name}] ");
    let mut lines = weir.lines().iter();
    lines.any(|line| line.starts_with(&prefix) && line.contains(text))
}

/// Boots `guests` and the adversary, on `queues`, and moves the handles of all of them while they
/// copy, if `is_moving`.
pub(crate) fn run(
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
