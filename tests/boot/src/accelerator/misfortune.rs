//! What becomes of guests when a device fails.

use boot_suites::Suite;
use hwio::Portal;
use hwspec::dsa::{ResetType, Status};
use kernel::arch::clock;
use kernel::console;
use kernel::host::Host;
use kernel::host::client::{Answer, Event, Failure, QueueAction, Request, Set};
use kernel::host::service::Health;
use kernel::println;

use super::owner::{DESTINATION, Owner, RECORD, VECTOR, forget_interrupts, interrupts, wait_until};
use super::protection;

/// How long somebody may take to type.
const PATIENCE_NS: u64 = 30_000_000_000;

/// The first device has a misfortune of this name. The second has none.
pub(crate) fn run(suite: &mut Suite, host: &'static Host, name: &str) {
    let [first, second] = host.accelerators.as_slice() else {
        suite.equal("there_are_two", host.accelerators.len(), 2);
        return;
    };
    let one = Owner::new(host, first, 1, super::super::QUEUES[0]);
    let two = Owner::new(host, first, 2, super::super::QUEUES[1]);
    let other = Owner::new(host, second, 3, super::super::QUEUES[0]);
    for owner in [&one, &other] {
        owner.allocate(1);
        let unmasked = owner.client.set_masked(VECTOR, false);
        assert!(unmasked.is_ok(), "a vector with a slot can be unmasked");
    }
    wait_for_it(name);
    let works = match name {
        "halt" => halt(suite, host, &one, &two),
        "flr" => {
            is_told(suite, host, &one, Event::Halted(ResetType::FunctionLevel));
            is_told(suite, host, &two, Event::Halted(ResetType::FunctionLevel));
            false
        }
        "hang" => hang(suite, host, &one, &two),
        "gone" => {
            is_told(suite, host, &one, Event::Failed);
            is_told(suite, host, &two, Event::Failed);
            false
        }
        "lose" => lose(suite, host, &one, &two),
        "slow" => slow(suite, host, &one),
        _ => {
            suite.equal("the_misfortune_is_known", name, "");
            return;
        }
    };
    if !works {
        is_stopped(suite, &one);
        is_stopped(suite, &two);
    }
    suite.equal("the_other_device_goes_on", completes(&other), true);
    for owner in [one, two] {
        if works {
            owner.end(host);
        } else {
            owner.end_without_device(host);
        }
    }
    other.end(host);
    for _ in 0..8 {
        host.housekeep(|_| {});
    }
    suite.equal("all_lines_are_closed", first.count_retired(), 0);
    suite.equal("no_pasid_is_in_use", host.iommu.count_pasids(), 0);
}

/// Waits until a line was typed.
fn wait_for_it(name: &str) {
    println!("suite: ready {name}");
    let start = clock::now();
    while console::read().is_none() {
        let waited = clock::now().wrapping_sub(start);
        assert!(waited < clock::ticks(PATIENCE_NS), "nobody types anything");
        core::hint::spin_loop();
    }
}

/// Whether a descriptor completes, with its interrupt.
fn completes(owner: &Owner) -> bool {
    forget_interrupts();
    owner.submit(&owner.memory_move(owner.client.handle(VECTOR)));
    let taken = interrupts(1);
    owner.status() == 1 && (taken.count, taken.vm) == (1, owner.vm.into())
}

fn is_told(suite: &mut Suite, host: &Host, owner: &Owner, expected: Event) {
    let mut event = None;
    wait_until(|| {
        host.housekeep(|_| {});
        event = event.or_else(|| owner.client.take_event());
        event.is_some()
    });
    suite.equal("a_guest_is_told", event, Some(expected));
}

/// Nothing that a guest asks for is done any more, and it is told so.
fn is_stopped(suite: &mut Suite, owner: &Owner) {
    let drain = Request::Queues {
        queues: Set::just(owner.queue),
        action: QueueAction::Drain,
        pasids: Set::EMPTY,
    };
    suite.equal(
        "its_requests_are_refused",
        owner.client.call(drain),
        Err(Answer::Failed(Failure::Stopped)),
    );
}

/// The device halts, and a Reset Device command helps.
fn halt(suite: &mut Suite, host: &Host, one: &Owner, two: &Owner) -> bool {
    is_told(suite, host, one, Event::WasReset);
    is_told(suite, host, two, Event::WasReset);
    suite.equal("the_device_works", one.accelerator.health(), Health::Works);
    suite.equal("its_queue_and_slot_are_back", completes(one), true);
    two.submit(&two.memory_move(None));
    suite.equal("the_other_queue_too", two.status(), 1);
    two.submit(&two.memory_move(one.client.handle(VECTOR)));
    suite.equal("the_slot_still_has_its_pasid", two.status(), 0x19);
    true
}

/// The next command never ends.
fn hang(suite: &mut Suite, host: &Host, one: &Owner, two: &Owner) -> bool {
    let drain = Request::Queues {
        queues: Set::just(one.queue),
        action: QueueAction::Drain,
        pasids: Set::EMPTY,
    };
    let answer = one.client.call(drain);
    suite.equal(
        "a_command_that_never_ends_is_given_up",
        matches!(
            answer,
            Err(Answer::Failed(Failure::Device(dsa::Error::Timeout { .. })))
        ),
        true,
    );
    is_told(suite, host, one, Event::Failed);
    is_told(suite, host, two, Event::Failed);
    false
}

/// The next interrupt is lost, which is that of an error.
fn lose(suite: &mut Suite, host: &Host, one: &Owner, two: &Owner) -> bool {
    let mut descriptor = two.memory_move(one.client.handle(VECTOR));
    descriptor.word0.set_flags(
        descriptor
            .word0
            .flags()
            .with_completion_record_address_valid(false)
            .with_request_completion_record(false),
    );
    descriptor.completion_record_address = 0;
    two.portal.submit(&descriptor.words());
    suite.equal(
        "without_it_nobody_is_told",
        protection::next_error(two),
        None,
    );
    let mut event = None;
    wait_until(|| {
        host.housekeep(|_| {});
        event = event.or_else(|| two.client.take_event());
        event.is_some()
    });
    let Some(Event::SoftwareError(error)) = event else {
        suite.equal("housekeeping_finds_the_error", event.is_some(), true);
        return true;
    };
    suite.equal(
        "housekeeping_finds_the_error",
        error.code,
        Status::INTERRUPT_HANDLE,
    );
    true
}

/// Completions come late, and a drain waits for them.
fn slow(suite: &mut Suite, host: &Host, one: &Owner) -> bool {
    const IN_FLIGHT: u64 = 4;
    for index in 0..IN_FLIGHT {
        let mut descriptor = one.memory_move(None);
        descriptor.completion_record_address = RECORD + 32 * index;
        descriptor.word3 = DESTINATION + 0x4000 * index;
        one.submit(&descriptor);
    }
    one.client.post(Request::Queues {
        queues: Set::just(one.queue),
        action: QueueAction::Drain,
        pasids: Set::EMPTY,
    });
    suite.equal(
        "a_drain_is_not_done_at_once",
        one.client.take_answer(),
        None,
    );
    host.take_news();
    let news = wait_until(|| host.take_news());
    suite.equal("its_end_interrupts", news, true);
    one.accelerator.service();
    suite.equal(
        "and_is_answered",
        one.client.take_answer(),
        Some(Answer::Done),
    );
    let done = (0..IN_FLIGHT).filter(|index| {
        let [status, ..] = one.read(RECORD + 32 * index).to_le_bytes();
        status == 1
    });
    suite.equal("then_all_is_done", done.count() as u64, IN_FLIGHT);
    true
}
