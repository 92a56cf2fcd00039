//! Stopping all processors for good.

use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::{hlt, interrupts};

use super::{apic, percpu};

/// Set once somebody has stopped the others.
static PARKED: AtomicBool = AtomicBool::new(false);

/// Stops every other processor, wherever it is. If somebody else has done that
/// already, stops this one.
pub(crate) fn stop_others() {
    interrupts::disable();
    if PARKED.swap(true, Ordering::SeqCst) {
        stop();
    }
    if percpu::all().len() > 1 {
        apic::send_nmi_to_others();
    }
}

/// Stops this processor if it was asked to. Called by the NMI's handler.
pub(super) fn stay_if_asked() {
    if PARKED.load(Ordering::SeqCst) {
        stop();
    }
}

/// Stops this processor.
pub(crate) fn stop() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}
