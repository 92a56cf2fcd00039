//! What it costs to leave a guest and come back, counted in instructions if the
//! box counts them (`icount=on` on the command line).

use core::hint::black_box;

use boot_suites::Suite;
use kernel::arch::{clock, trap};
use kernel::platform::local_apic::{LocalApic, Pending};
use kernel::virt::address::GuestVirtAddr;
use kernel::virt::backend::Vcpu;
use kernel::virt::decode::Operation;
use kernel::virt::exit::{Event, Exit};
use kernel::virt::fetch;
use kernel::virt::registers::Register;

use super::programs::{self, DATA, DEVICE};
use super::test_guest::TestGuest;

/// Ticks from R8 to R9, without the instruction that fills R8.
fn ticks(vcpu: &impl Vcpu) -> u64 {
    let get = |number| vcpu.registers().get(Register::new(number));
    get(9).wrapping_sub(get(8)) & 0xffff_ffff
}

pub(crate) fn run(suite: &mut Suite) {
    suite.show("ticks_for_a_hypercall", hypercall());
    suite.show("ticks_for_a_decoded_submission", submission());
    parts(suite);
    suite.show("ticks_for_an_injected_interrupt", interrupt());
    local_apic(suite);
}

/// From a request to service and to its end, in a virtual local APIC.
fn local_apic(suite: &Suite) {
    /// MSRs of the local APIC.
    const EOI: u32 = 0x80b;
    const SPURIOUS: u32 = 0x80f;
    const SPURIOUS_ENABLED: u64 = 0x1ff;
    let pending = Pending::new();
    let mut apic = LocalApic::new(0, 1);
    let enabled = apic.write(&pending, SPURIOUS, SPURIOUS_ENABLED, 0);
    assert!(enabled.is_ok(), "an APIC can be enabled");
    for vector in [0x31, 0xe7] {
        let start = clock::now();
        pending.raise(black_box(vector));
        let raised = clock::now();
        let highest = apic.highest(&pending, black_box(0));
        if let Some(vector) = highest {
            apic.accept(&pending, vector);
        }
        let accepted = clock::now();
        let ended = apic.write(&pending, black_box(EOI), 0, 0);
        let end = clock::now();
        assert!(ended.is_ok() && highest == Some(vector));
        suite.show("ticks_to_raise_an_interrupt", raised - start);
        suite.show("ticks_to_take_it_into_service", accepted - raised);
        suite.show("ticks_to_end_it", end - accepted);
    }
}

fn hypercall() -> u64 {
    let mut guest = TestGuest::new(programs::count_hypercall());
    let mut loaded = guest.load();
    // Two for each round; the first round fills caches.
    for _ in 0..4 {
        loaded.run();
        loaded.skip(Exit::Hypercall);
    }
    ticks(&*loaded)
}

/// Parts of what a submission takes, from the hypervisor's side.
fn parts(suite: &Suite) {
    let mut guest = TestGuest::new(programs::count_submission());
    guest.vcpu.registers_mut().set(Register::RDI, DEVICE);
    guest.vcpu.registers_mut().set(Register::RSI, DATA);
    guest.run();
    let (vcpu, memory) = (&guest.vcpu, &guest.space.memory);
    let paging = vcpu.paging();
    for _ in 0..2 {
        let start = clock::now();
        let at = fetch::instruction_address(vcpu);
        let fetched = fetch::instruction(memory, &paging, at);
        let is_fetched = fetched.is_ok();
        let fetched = clock::now();
        let decoded = fetch::decode(vcpu, memory);
        let decoded_at = clock::now();
        let copied = fetch::descriptor(memory, &paging, GuestVirtAddr(DATA));
        let end = clock::now();
        assert!(is_fetched && decoded.is_ok() && copied.is_ok());
        suite.show("ticks_to_fetch_an_instruction", fetched - start);
        suite.show("ticks_to_fetch_and_decode_it", decoded_at - fetched);
        suite.show("ticks_to_copy_a_descriptor", end - decoded_at);
    }
}

fn submission() -> u64 {
    let mut guest = TestGuest::new(programs::count_submission());
    guest.vcpu.registers_mut().set(Register::RDI, DEVICE);
    guest.vcpu.registers_mut().set(Register::RSI, DATA);
    let space = guest.space.clone();
    let mut loaded = guest.load();
    for _ in 0..6 {
        let exit = loaded.run();
        if let Exit::Memory(_) = exit {
            let decoded = fetch::decode(&*loaded, &space.memory);
            if let Ok(Some(instruction)) = decoded
                && let Operation::Submit { source, .. } = instruction.operation
                && fetch::descriptor(&space.memory, &loaded.paging(), source).is_ok()
            {
                let rip = loaded.rip();
                loaded.set_rip(rip + instruction.length);
            }
        } else {
            loaded.skip(exit);
        }
    }
    ticks(&*loaded)
}

fn interrupt() -> u64 {
    const SLICE_NS: u64 = 20_000;
    let mut guest =
        TestGuest::with_handlers(programs::count_interrupt(), |_| programs::timed_handler());
    let mut loaded = guest.load();
    for _ in 0..3 {
        clock::set_timer(clock::now() + clock::ticks(SLICE_NS));
        loop {
            let exit = loaded.run();
            match exit {
                Exit::Interrupt if loaded.can_take_interrupt() => {
                    loaded.inject(Event::Interrupt(trap::TIMER_VECTOR));
                }
                Exit::Interrupt => {}
                _ => {
                    loaded.skip(exit);
                    break;
                }
            }
        }
    }
    ticks(&*loaded)
}
