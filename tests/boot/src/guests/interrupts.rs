//! Delivering interrupts and exceptions to a guest, and taking the machine's.

use core::sync::atomic::{AtomicU32, Ordering};

use boot_suites::Suite;
use kernel::arch::{clock, trap};
use kernel::virt::address::GuestPhysAddr;
use kernel::virt::backend::Vcpu;
use kernel::virt::exit::{Event, Exception, Exit, MemoryAccess, MemoryFault};
use kernel::virt::registers::Register;

use super::programs::{self, DEVICE};
use super::test_guest::{TestGuest, TestVcpu, run as run_loaded};

/// How often the timer has fired.
static TIMER: AtomicU32 = AtomicU32::new(0);

/// What the reporting handlers put into R15, R14 and R13.
fn report(vcpu: &TestVcpu) -> (u64, u64, u64) {
    let get = |number| vcpu.registers().get(Register::new(number));
    (get(15), get(14), get(13))
}

pub(crate) fn run(suite: &mut Suite) {
    trap::set_timer_handler(|| {
        TIMER.fetch_add(1, Ordering::Relaxed);
    });
    check_injection(suite);
    check_windows(suite);
    check_priorities(suite);
    check_non_maskable(suite);
    check_exceptions(suite);
    check_single_step(suite);
    check_delivery_to_nowhere(suite);
    check_machine_interrupts(suite);
}

fn check_injection(suite: &mut Suite) {
    let mut guest = TestGuest::new(programs::idle());
    suite.equal("a_guest_halts", guest.run(), Exit::Halt);
    suite.equal(
        "behind_sti_it_takes_none",
        guest.vcpu.can_take_interrupt(),
        false,
    );
    guest.vcpu.skip(Exit::Halt);
    suite.equal("behind_hlt_it_does", guest.vcpu.can_take_interrupt(), true);
    let after_halt = guest.vcpu.rip();
    suite.equal(
        "nothing_is_in_the_way",
        guest.vcpu.inject(Event::Interrupt(0x51)),
        None,
    );
    suite.equal(
        "one_event_at_a_time",
        guest.vcpu.can_take_interrupt(),
        false,
    );
    suite.equal("its_handler_runs", guest.run(), Exit::Hypercall);
    let (vector, rip, _) = report(&guest.vcpu);
    suite.equal("for_the_right_vector", (vector, rip), (0x51, after_halt));
    suite.equal(
        "handlers_run_with_interrupts_off",
        guest.vcpu.can_take_interrupt(),
        false,
    );
}

fn check_windows(suite: &mut Suite) {
    let mut guest = TestGuest::new(programs::closed());
    suite.equal(
        "a_guest_may_have_interrupts_off",
        guest.run(),
        Exit::Hypercall,
    );
    suite.equal("then_it_takes_none", guest.vcpu.can_take_interrupt(), false);
    guest.vcpu.skip(Exit::Hypercall);
    let sti = guest.vcpu.rip();
    guest.vcpu.request_interrupt_window();
    suite.equal(
        "it_stops_when_it_takes_them",
        guest.run(),
        Exit::InterruptWindow,
    );
    // STI holds interrupts back for one more instruction.
    suite.equal("behind_the_shadow_of_sti", guest.vcpu.rip(), sti + 2);
    suite.equal("and_takes_one_then", guest.vcpu.can_take_interrupt(), true);
    guest.vcpu.inject(Event::Interrupt(0x61));
    suite.equal("which_is_delivered", guest.run(), Exit::Hypercall);
    suite.equal("before_it_goes_on", report(&guest.vcpu).1, sti + 2);

    let mut guest = TestGuest::new(programs::shadow());
    suite.equal(
        "a_guest_may_stop_in_the_shadow",
        guest.run(),
        Exit::Hypercall,
    );
    suite.equal(
        "where_it_takes_no_interrupt",
        guest.vcpu.can_take_interrupt(),
        false,
    );
    guest.vcpu.skip(Exit::Hypercall);
    suite.equal(
        "until_it_has_gone_on",
        guest.vcpu.can_take_interrupt(),
        true,
    );

    guest.vcpu.inject(Event::Interrupt(0x70));
    let displaced = guest
        .vcpu
        .inject(Event::Exception(Exception::INVALID_OPCODE));
    suite.equal(
        "what_is_displaced_comes_back",
        displaced,
        Some(Event::Interrupt(0x70)),
    );
}

fn check_priorities(suite: &mut Suite) {
    let mut guest = TestGuest::new(programs::priorities());
    suite.equal("a_guest_sets_cr8", guest.run(), Exit::Hypercall);
    suite.equal("which_is_kept", guest.vcpu.task_priority(), 5);
    guest.vcpu.skip(Exit::Hypercall);
    guest.vcpu.request_priority_window(4);
    suite.equal(
        "it_stops_when_its_priority_falls",
        guest.run(),
        Exit::InterruptWindow,
    );
    suite.equal("below_the_class", guest.vcpu.task_priority(), 3);
    suite.equal("and_then_goes_on", guest.run(), Exit::Hypercall);
}

/// No NMI comes into the handler of another.
fn check_non_maskable(suite: &mut Suite) {
    let mut guest = TestGuest::with_handlers(programs::closed(), |_| programs::timed_handler());
    guest.run();
    guest.vcpu.skip(Exit::Hypercall);
    suite.equal("an_nmi_can_come_at_first", guest.vcpu.can_take_nmi(), true);
    guest.vcpu.inject(Event::Nmi);
    suite.equal("its_handler_is_entered", guest.run(), Exit::Hypercall);
    suite.equal("no_other_comes_there", guest.vcpu.can_take_nmi(), false);
    guest.vcpu.skip(Exit::Hypercall);
    suite.equal("its_return_is_seen", guest.run(), Exit::InterruptWindow);
    suite.equal("nor_at_its_return", guest.vcpu.can_take_nmi(), false);
    suite.equal("then_the_guest_goes_on", guest.run(), Exit::Hypercall);
    suite.equal("and_takes_another", guest.vcpu.can_take_nmi(), true);
}

/// An instruction that is carried out for the guest traps behind it as any other does.
fn check_single_step(suite: &mut Suite) {
    let mut guest = TestGuest::new(programs::step());
    suite.equal("a_guest_steps_into_cpuid", guest.run(), Exit::Cpuid);
    guest.vcpu.skip(Exit::Cpuid);
    let behind = guest.vcpu.rip();
    suite.equal("something_is_to_come", guest.vcpu.has_event(), true);
    suite.equal("its_debugger_is_entered", guest.run(), Exit::Hypercall);
    let (vector, rip, _) = report(&guest.vcpu);
    suite.equal("right_behind_it", (vector, rip), (1, behind));
}

fn check_exceptions(suite: &mut Suite) {
    let mut guest = TestGuest::new(programs::faults()).with_rbx(DEVICE);
    suite.equal(
        "invalid_opcodes_are_looked_at",
        guest.run(),
        Exit::InvalidOpcode,
    );
    let ud2 = guest.vcpu.rip();
    guest
        .vcpu
        .inject(Event::Exception(Exception::INVALID_OPCODE));
    suite.equal("and_given_back_to_the_guest", guest.run(), Exit::Hypercall);
    let (vector, rip, _) = report(&guest.vcpu);
    suite.equal("as_the_processor_would", (vector, rip), (6, ud2));

    guest.vcpu.set_rip(ud2 + 2);
    let is_memory = matches!(guest.run(), Exit::Memory(_));
    suite.equal("a_fault_of_the_nested_tables", is_memory, true);
    guest.vcpu.set_cr2(DEVICE);
    guest
        .vcpu
        .inject(Event::Exception(Exception::page_fault(0b10)));
    suite.equal("can_become_one_of_the_guest", guest.run(), Exit::Hypercall);
    let (vector, code, rip) = report(&guest.vcpu);
    suite.equal(
        "with_its_error_code",
        (vector, code, rip),
        (14, 0b10, ud2 + 2),
    );
}

/// Its interrupt table is where it has no memory.
fn check_delivery_to_nowhere(suite: &mut Suite) {
    let mut guest = TestGuest::new(programs::undeliverable());
    suite.equal("an_invalid_opcode_exits", guest.run(), Exit::InvalidOpcode);
    guest
        .vcpu
        .inject(Event::Exception(Exception::INVALID_OPCODE));
    let exit = guest.run();
    suite.equal(
        "a_delivery_to_nowhere_is_told_from_an_access",
        exit,
        Exit::Memory(MemoryFault {
            address: GuestPhysAddr(DEVICE + 6 * 16),
            access: MemoryAccess::Read,
            is_table_walk: false,
            is_delivery: true,
        }),
    );
}

/// A guest that never leaves by itself does not keep the machine.
fn check_machine_interrupts(suite: &mut Suite) {
    const SLICE_NS: u64 = 200_000;
    let mut guest = TestGuest::new(programs::spin());
    let mut loaded = guest.load();
    for _ in 0..3 {
        let before = TIMER.load(Ordering::Relaxed);
        clock::set_timer(clock::now() + clock::ticks(SLICE_NS));
        suite.equal(
            "an_endless_loop_is_interrupted",
            loaded.run(),
            Exit::Interrupt,
        );
        let after = TIMER.load(Ordering::Relaxed);
        suite.equal("by_the_timer", after, before + 1);
    }
    drop(loaded);

    // Delivery is taken up again when the machine interrupts the guest meanwhile:
    // the interrupt is pending when the guest is entered.
    let mut guest = TestGuest::new(programs::idle());
    guest.run();
    guest.vcpu.skip(Exit::Halt);
    clock::set_timer(clock::now());
    let mut loaded = guest.load();
    loaded.inject(Event::Interrupt(0x52));
    suite.equal(
        "both_interrupts_arrive",
        run_loaded(&mut loaded),
        Exit::Hypercall,
    );
    suite.equal("each_where_it_should", report(&loaded).0, 0x52);
}
