//! Ends of interrupts by a word of memory, as KVM's interface has them: without an exit.
//!
//! The word belongs to the boot processor. While it is used, no other may take interrupts.
//! [Linux, Documentation/virt/kvm/x86/msr.rst, MSR_KVM_EOI_EN]

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::probe::{self, Width};
use crate::{Exception, apic};

/// MSR_KVM_EOI_EN: the word's address, and bit 0 to use it.
pub const REGISTER: u32 = 0x4b56_4d04;
const ENABLED: u64 = 1 << 0;
/// The word: the hypervisor offers to end an interrupt by it.
const OFFERED: u32 = 1 << 0;

static WORD: AtomicU32 = AtomicU32::new(0);
static HOW: AtomicU8 = AtomicU8::new(How::ByWriting as u8);
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

/// How an interrupt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By writing EOI, whatever is offered.
    ByWriting = 0,
    /// By the word, where that is offered.
    ByWord = 1,
    /// The same, after the word was named again.
    NamedAgain = 2,
    /// The same, after it was given up: the offer is gone.
    GivenUp = 3,
    /// By the word, and then the console asks for no interrupt any more.
    ByWordOfConsole = 4,
}

/// The console's Interrupt Enable Register.
pub const CONSOLE_ENABLE: u16 = 0x3f9;

/// How interrupts end from now on.
pub fn end_them(how: How) {
    HOW.store(how as u8, Ordering::Relaxed);
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
    let how = HOW.load(Ordering::Relaxed);
    let written = match how {
        how if how == How::NamedAgain as u8 => begin(),
        how if how == How::GivenUp as u8 => finish(),
        _ => Ok(()),
    };
    debug_assert!(written.is_ok(), "the register takes what it took before");
    let is_taken =
        how != How::ByWriting as u8 && WORD.fetch_and(!OFFERED, Ordering::Relaxed) & OFFERED != 0;
    if is_taken {
        COUNT.fetch_add(1, Ordering::Relaxed);
    } else {
        apic::end_of_interrupt();
    }
    if how == How::ByWordOfConsole as u8 {
        let written = probe::write_port(CONSOLE_ENABLE, Width::One, 0);
        debug_assert!(written.is_ok(), "the guest has a console");
    }
}
