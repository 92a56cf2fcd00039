//! The local APIC in x2APIC mode. [Intel SDM, vol. 3, 13.12 "Extended XAPIC
//! (x2APIC)"]
#![expect(unsafe_code, reason = "registers of interrupt controllers")]

use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

const ID: Msr = Msr::new(0x802);
const TASK_PRIORITY: Msr = Msr::new(0x808);
const END_OF_INTERRUPT: Msr = Msr::new(0x80b);
const SPURIOUS: Msr = Msr::new(0x80f);
const TIMER: Msr = Msr::new(0x832);
const INITIAL_COUNT: Msr = Msr::new(0x838);
const CURRENT_COUNT: Msr = Msr::new(0x839);
const SELF_IPI: Msr = Msr::new(0x83f);

const TIMER_MASKED: u64 = 1 << 16;
const SPURIOUS_ENABLE: u64 = 1 << 8;
const SPURIOUS_VECTOR: u64 = 0xff;

/// The interrupt mask registers of the two 8259 controllers.
const LEGACY_MASKS: [u16; 2] = [0x21, 0xa1];

/// Turns the local APIC on, and the legacy controllers off.
pub(crate) fn init() {
    for port in LEGACY_MASKS {
        // SAFETY: masks all of their inputs, none of which we use.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
    let (frame, flags) = ApicBase::read();
    let flags = flags | ApicBaseFlags::LAPIC_ENABLE | ApicBaseFlags::X2APIC_ENABLE;
    // SAFETY: nothing uses the APIC's memory window, which this closes.
    unsafe { ApicBase::write(frame, flags) };
    write(SPURIOUS, SPURIOUS_ENABLE | SPURIOUS_VECTOR);
    write(TASK_PRIORITY, 0);
}

/// The x2APIC id of this processor.
pub(crate) fn id() -> u32 {
    // SAFETY: the register exists in x2APIC mode and reading it changes nothing.
    let id = unsafe { ID.read() };
    // The upper half of this MSR is reserved.
    let [a, b, c, d, ..] = id.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The task priority register.
pub(crate) fn task_priority() -> u64 {
    // SAFETY: as for the id.
    unsafe { TASK_PRIORITY.read() }
}

/// Holds back interrupts below `priority` (bits 7:4 count).
pub(crate) fn set_task_priority(priority: u8) {
    write(TASK_PRIORITY, u64::from(priority));
}

/// Sends this processor an interrupt.
pub(crate) fn send_to_self(vector: u8) {
    write(SELF_IPI, u64::from(vector));
}

/// Starts the timer, which does not interrupt, at its highest count.
pub(crate) fn start_timer() {
    write(TIMER, TIMER_MASKED);
    write(INITIAL_COUNT, u64::from(u32::MAX));
}

/// What is left of the timer's count.
pub(crate) fn timer_count() -> u64 {
    // SAFETY: as for the id.
    unsafe { CURRENT_COUNT.read() }
}

/// Lets the next interrupt come.
pub(crate) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

fn write(mut register: Msr, value: u64) {
    // SAFETY: these registers steer interrupts, all vectors of which have an
    // entry; none of them touches memory.
    unsafe { register.write(value) };
}
