//! Switching virtualisation on, on all processors.
#![forbid(unsafe_code)]

use core::hint;
use core::sync::atomic::{AtomicUsize, Ordering};

use spin::Mutex;

use super::backend::Backend;
use super::decode;
use crate::arch::{clock, percpu, smp};
use crate::info;
use crate::refusal::Refusal;

/// How long the other processors may take.
const PATIENCE_NS: u64 = 1_000_000_000;

/// How many processors are done, one way or the other.
static DONE: AtomicUsize = AtomicUsize::new(0);
/// What was missing where it was missing.
static FAILED: Mutex<Option<Refusal>> = Mutex::new(None);

/// Switches `B` on, on all processors, which must be idle.
///
/// # Errors
/// What is missing.
pub fn start<B: Backend>() -> Result<(), Refusal> {
    decode::prime();
    B::init()?;
    let count = percpu::all().len();
    for index in 0..count {
        if index == percpu::current().index {
            enable_here::<B>();
        } else {
            smp::call(index, enable_here::<B>);
        }
    }
    let start = clock::now();
    while DONE.load(Ordering::SeqCst) < count {
        if clock::now().wrapping_sub(start) > clock::ticks(PATIENCE_NS) {
            return Err(Refusal::ProcessorSilent);
        }
        hint::spin_loop();
    }
    if let Some(refusal) = *FAILED.lock() {
        return Err(refusal);
    }
    info!("virt", "enabled backend={} processors={count}", B::NAME);
    Ok(())
}

fn enable_here<B: Backend>() {
    if let Err(refusal) = B::enable() {
        *FAILED.lock() = Some(refusal);
    }
    DONE.fetch_add(1, Ordering::SeqCst);
}
