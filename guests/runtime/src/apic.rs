//! The local APIC in x2APIC mode, by its MSRs.
#![expect(unsafe_code, reason = "registers of interrupt controllers")]

use core::sync::atomic::{AtomicBool, Ordering, fence};
use core::time::Duration;

use hwspec::x86::apic::{
    self, DIVIDE_BY_1, DeliveryMode, InterruptCommand, Spurious, Timer, TimerMode,
};
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

use crate::trap::{SPURIOUS_VECTOR, TIMER_VECTOR};
use crate::{Features, Platform, clock};

/// The interrupt mask registers of the two 8259 controllers.
const LEGACY_MASKS: [u16; 2] = [0x21, 0xa1];

static HAS_DEADLINE: AtomicBool = AtomicBool::new(false);

/// Turns the boot processor's APIC on.
pub(crate) fn init(platform: &Platform, features: Features) {
    HAS_DEADLINE.store(features.tsc_deadline, Ordering::Relaxed);
    if platform.has_legacy_interrupts() {
        for port in LEGACY_MASKS {
            // SAFETY: masks all of their inputs, none of which we use.
            unsafe { Port::<u8>::new(port).write(0xff) };
        }
    }
    init_processor();
}

/// Turns this processor's APIC on.
pub(crate) fn init_processor() {
    let (frame, flags) = ApicBase::read();
    let wanted = ApicBaseFlags::LAPIC_ENABLE | ApicBaseFlags::X2APIC_ENABLE;
    if !flags.contains(wanted) {
        // SAFETY: nothing uses the APIC's memory window, which this closes.
        unsafe { ApicBase::write(frame, flags | wanted) };
    }
    let spurious = Spurious::new()
        .with_vector(SPURIOUS_VECTOR)
        .with_enable(true);
    write(apic::SPURIOUS, spurious.into());
    write(apic::TASK_PRIORITY, 0);
}

/// Lets the next interrupt come.
#[inline]
pub(crate) fn end_of_interrupt() {
    write(apic::EOI, 0);
}

/// Interrupts this processor once, about `time` from now.
pub(crate) fn start_timer(time: Duration) {
    let timer = Timer::new().with_vector(TIMER_VECTOR);
    if HAS_DEADLINE.load(Ordering::Relaxed) {
        let timer = timer.with_mode(TimerMode::TSC_DEADLINE);
        write(apic::TIMER, timer.into());
        // The two writes must stay in order. [Intel SDM, vol. 3, 12.5.4.1
        // "TSC-Deadline Mode"]
        fence(Ordering::SeqCst);
        let deadline = clock::ticks().wrapping_add(clock::ticks_of(time));
        write(apic::TSC_DEADLINE, deadline);
    } else {
        // The timer's clock is not known; that of the lab box counts nanoseconds.
        let count = u32::try_from(time.as_nanos()).unwrap_or(u32::MAX);
        write(apic::DIVIDE_CONFIGURATION, DIVIDE_BY_1);
        write(apic::TIMER, timer.with_mode(TimerMode::ONE_SHOT).into());
        write(apic::INITIAL_COUNT, count.into());
    }
}

/// Sends another processor an INIT.
///
/// # Safety
/// It must not be running any code of ours that matters.
pub(crate) unsafe fn send_init(apic_id: u32) {
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
pub(crate) unsafe fn send_start_up(apic_id: u32, page: u8) {
    command(
        InterruptCommand::new()
            .with_delivery_mode(DeliveryMode::START_UP)
            .with_vector(page)
            .with_assert(true)
            .with_destination(apic_id),
    );
}

fn command(command: InterruptCommand) {
    // A write to this register is not ordered with earlier stores.
    // [Intel SDM, vol. 3, 12.12.3 "MSR Access in x2APIC Mode"]
    fence(Ordering::SeqCst);
    write(apic::INTERRUPT_COMMAND, command.into());
}

#[inline]
fn write(register: u32, value: u64) {
    // SAFETY: these registers steer interrupts, all vectors of which have an entry;
    // none of them touches memory. Resets of the other processor are behind unsafe
    // functions.
    unsafe { Msr::new(register).write(value) };
}
