//! Ends of interrupts by a word of memory, as KVM's interface has them: without an exit.
//!
//! The word belongs to the boot processor. While it is used, no other may take interrupts.
//! [Linux, Documentation/virt/kvm/x86/msr.rst, MSR_KVM_EOI_EN]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::{Exception, apic, probe};

/// MSR_KVM_EOI_EN: the word's address, and bit 0 to use it.
pub const REGISTER: u32 = 0x4b56_4d04;
const ENABLED: u64 = 1 << 0;
/// The word: the hypervisor offers to end an interrupt by it.
const OFFERED: u32 = 1 << 0;

static WORD: AtomicU32 = AtomicU32::new(0);
/// Whether offers are taken.
static IS_TAKING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Asks for offers.
///
/// # Errors
/// What was raised.
pub fn begin() -> Result<(), Exception> {
    probe::write_msr(REGISTER, WORD.as_ptr().addr() as u64 | ENABLED)
}

/// Asks for none any more.
///
/// # Errors
/// What was raised.
pub fn finish() -> Result<(), Exception> {
    probe::write_msr(REGISTER, 0)
}

/// Whether offers are taken, or interrupts ended by writing EOI all the same.
pub fn take_offers(is_taking: bool) {
    IS_TAKING.store(is_taking, Ordering::Relaxed);
}

/// How many interrupts ended by the word.
pub fn count() -> u32 {
    COUNT.load(Ordering::Relaxed)
}

/// What the word is.
pub fn word() -> u32 {
    WORD.load(Ordering::Relaxed)
}

/// Sets the word, which only the hypervisor should.
pub fn set_word(value: u32) {
    WORD.store(value, Ordering::Relaxed);
}

/// Ends the interrupt that is in service.
pub(crate) fn end() {
    let is_taken = IS_TAKING.load(Ordering::Relaxed)
        && WORD.fetch_and(!OFFERED, Ordering::Relaxed) & OFFERED != 0;
    if is_taken {
        COUNT.fetch_add(1, Ordering::Relaxed);
    } else {
        apic::end_of_interrupt();
    }
}
