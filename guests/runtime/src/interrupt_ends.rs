//! Ends of interrupts by a word of memory, as KVM's interface has them: without an exit.
//!
//! The word belongs to the boot processor. While it is used, no other may take interrupts.
//! [Linux, Documentation/virt/kvm/x86/msr.rst, MSR_KVM_EOI_EN]

use core::sync::atomic::{AtomicU32, Ordering};

use spin::Mutex;

use crate::{Exception, apic, probe};

/// MSR_KVM_EOI_EN: the word's address, and bit 0 to use it.
pub const REGISTER: u32 = 0x4b56_4d04;
const ENABLED: u64 = 1 << 0;
/// The word: the hypervisor offers to end an interrupt by it.
const OFFERED: u32 = 1 << 0;

static WORD: AtomicU32 = AtomicU32::new(0);
static ENDS: Mutex<Ends> = Mutex::new(Ends::BY_WRITING);
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

/// How interrupts end.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// By the word, where that is offered; else by writing EOI, whatever is offered.
    pub by_word: bool,
    /// Called before each end, in the handler.
    pub before: fn(),
    /// And behind it.
    pub after: fn(),
}

impl Ends {
    /// By writing EOI, and nothing else.
    pub const BY_WRITING: Self = Self {
        by_word: false,
        before: || (),
        after: || (),
    };
    /// By the word, and nothing else.
    pub const BY_WORD: Self = Self {
        by_word: true,
        ..Self::BY_WRITING
    };
}

/// How interrupts end from now on. To be called with interrupts off.
pub fn end_them(ends: Ends) {
    *ENDS.lock() = ends;
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
    let ends = *ENDS.lock();
    (ends.before)();
    let is_taken = ends.by_word && WORD.fetch_and(!OFFERED, Ordering::Relaxed) & OFFERED != 0;
    if is_taken {
        COUNT.fetch_add(1, Ordering::Relaxed);
    } else {
        apic::end_of_interrupt();
    }
    (ends.after)();
}
