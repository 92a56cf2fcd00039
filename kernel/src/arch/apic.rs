//! The local APIC of each processor, in x2APIC mode, and the old controllers
//! that it replaces.

use hwspec::x86::apic::{
    self, DIVIDE_BY_1, DeliveryMode, InterruptCommand, Shorthand, Spurious, Timer, TimerMode,
};
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

use super::trap::{SPURIOUS_VECTOR, TIMER_VECTOR};

/// The interrupt mask registers of the two 8259 controllers.
const LEGACY_MASKS: [u16; 2] = [0x21, 0xa1];
/// Local vector table entries that firmware may have left on: thermal, LINT0.
const LVT_LINT0: u32 = 0x835;
const LVT_THERMAL: u32 = 0x833;
const LVT_MASKED: u64 = 1 << 16;

/// Masks the two old interrupt controllers for good.
pub(super) fn mask_legacy() {
    for port in LEGACY_MASKS {
        // SAFETY: masks all of their inputs, none of which we use.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
}

/// Turns this processor's APIC on, with its timer stopped.
pub(super) fn init() {
    let (frame, flags) = ApicBase::read();
    // Both bits at once is a step that the mode allows from either of the
    // others. [Intel SDM, vol. 3, 12.12.5.1 "x2APIC States"]
    let flags = flags | ApicBaseFlags::LAPIC_ENABLE | ApicBaseFlags::X2APIC_ENABLE;
    // SAFETY: nothing uses the APIC's memory window, which this closes.
    unsafe { ApicBase::write(frame, flags) };
    let spurious = Spurious::new()
        .with_vector(SPURIOUS_VECTOR)
        .with_enable(true);
    write(apic::SPURIOUS, spurious.into());
    write(apic::TASK_PRIORITY, 0);
    write(LVT_LINT0, LVT_MASKED);
    write(LVT_THERMAL, LVT_MASKED);
    write(apic::DIVIDE_CONFIGURATION, DIVIDE_BY_1);
    stop_timer();
}

/// The x2APIC id of this processor.
pub(super) fn id() -> u32 {
    let [a, b, c, d, ..] = read(apic::ID).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Lets the next interrupt come.
#[inline]
pub(super) fn end_of_interrupt() {
    write(apic::EOI, 0);
}

/// Sends `vector` to another processor, or to this one.
pub(super) fn send(apic_id: u32, vector: u8) {
    command(
        InterruptCommand::new()
            .with_vector(vector)
            .with_delivery_mode(DeliveryMode::FIXED)
            .with_assert(true)
            .with_destination(apic_id),
    );
}

/// Sends an INIT to another processor, which then waits to be started.
///
/// # Safety
/// The processor must not be running any code of ours.
pub(super) unsafe fn send_init(apic_id: u32) {
    command(
        InterruptCommand::new()
            .with_delivery_mode(DeliveryMode::INIT)
            .with_assert(true)
            .with_destination(apic_id),
    );
}

/// Starts a processor at page `page` of low memory.
///
/// # Safety
/// There must be code for it.
pub(super) unsafe fn send_start_up(apic_id: u32, page: u8) {
    command(
        InterruptCommand::new()
            .with_delivery_mode(DeliveryMode::START_UP)
            .with_vector(page)
            .with_assert(true)
            .with_destination(apic_id),
    );
}

/// Sends an NMI to all other processors.
pub(super) fn send_nmi_to_others() {
    command(
        InterruptCommand::new()
            .with_delivery_mode(DeliveryMode::NMI)
            .with_assert(true)
            .with_shorthand(Shorthand::ALL_BUT_SELF),
    );
}

fn command(command: InterruptCommand) {
    // Unlike the stores that came before, a write to this register is not
    // ordered with them. [Intel SDM, vol. 3, 12.12.3 "MSR Access in x2APIC Mode"]
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    write(apic::INTERRUPT_COMMAND, command.into());
}

/// Lets the timer count down from `count` once, then interrupt.
pub(super) fn start_timer(count: u32) {
    let timer = Timer::new()
        .with_vector(TIMER_VECTOR)
        .with_mode(TimerMode::ONE_SHOT);
    write(apic::TIMER, timer.into());
    write(apic::INITIAL_COUNT, count.into());
}

/// Lets the timer interrupt when the time-stamp counter reaches `deadline`.
pub(super) fn set_deadline(deadline: u64) {
    let timer = Timer::new()
        .with_vector(TIMER_VECTOR)
        .with_mode(TimerMode::TSC_DEADLINE);
    write(apic::TIMER, timer.into());
    // SAFETY: orders the two writes, as the mode wants it. [Intel SDM, vol. 3,
    // 12.5.4.1 "TSC-Deadline Mode"]
    unsafe { core::arch::x86_64::_mm_mfence() };
    write(apic::TSC_DEADLINE, deadline);
}

/// Stops the timer.
pub(super) fn stop_timer() {
    write(apic::TIMER, Timer::new().with_masked(true).into());
    write(apic::INITIAL_COUNT, 0);
}

/// Lets the timer count down from its highest value without interrupting.
pub(super) fn start_silent_timer() {
    write(apic::TIMER, Timer::new().with_masked(true).into());
    write(apic::INITIAL_COUNT, u64::from(u32::MAX));
}

/// What is left of the timer's count.
pub(super) fn timer_count() -> u32 {
    let [a, b, c, d, ..] = read(apic::CURRENT_COUNT).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn read(register: u32) -> u64 {
    // SAFETY: the register exists in x2APIC mode, and reading it changes nothing.
    unsafe { Msr::new(register).read() }
}

#[inline]
fn write(register: u32, value: u64) {
    // SAFETY: these registers steer interrupts, all vectors of which have an
    // entry; none of them touches memory. Resets of other processors are behind
    // unsafe functions.
    unsafe { Msr::new(register).write(value) };
}
