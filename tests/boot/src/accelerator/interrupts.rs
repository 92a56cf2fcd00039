//! Completion interrupts through the IMS and interrupt remapping.

use boot_suites::Suite;
use dsa::QueuePasid;
use kernel::host::client::{Answer, Failure, Request};

use super::owner::{Owner, VECTOR, forget_interrupts, interrupts, wait_until};

pub(crate) fn run(suite: &mut Suite, owner: &Owner) {
    forget_interrupts();
    let handle = owner.allocate(1);
    suite.equal("the_same_handle_again", owner.allocate(1), handle);
    suite.equal("a_slot_begins_masked", is_pending_after_work(owner), true);
    suite.equal("masked_it_sends_nothing", interrupts(0).count, 0);
    unmask(owner);
    let taken = interrupts(1);
    suite.equal("unmasked_it_sends_what_was_pending", taken.count, 1);
    suite.equal("to_its_processor", taken.cpu, 1);
    suite.equal("for_its_guest", taken.vm, owner.vm.into());
    suite.equal("and_its_vector", taken.number, VECTOR.into());

    forget_interrupts();
    owner.submit(&owner.memory_move(Some(handle)));
    let taken = interrupts(1);
    suite.equal("a_completion_interrupts", (taken.count, taken.cpu), (1, 1));
    suite.equal("when_its_record_is_there", owner.status(), 1);

    ignore(suite, owner);
    moves(suite, owner);
    refusals(suite, owner);
}

fn unmask(owner: &Owner) {
    let unmasked = owner.client.set_masked(VECTOR, false);
    assert!(unmasked.is_ok(), "a vector with a slot can be unmasked");
}

/// Whether an interrupt is pending when a descriptor is done.
fn is_pending_after_work(owner: &Owner) -> bool {
    owner.submit(&owner.memory_move(owner.client.handle(VECTOR)));
    owner.status();
    wait_until(|| owner.client.is_pending(VECTOR) == Ok(true))
}

fn ignore(suite: &mut Suite, owner: &Owner) {
    forget_interrupts();
    let ignored = owner.client.set_ignored(VECTOR, true);
    suite.equal("a_slot_can_ignore", ignored, Ok(()));
    owner.submit(&owner.memory_move(owner.client.handle(VECTOR)));
    suite.equal("which_is_no_error", owner.status(), 1);
    suite.equal("and_no_interrupt", interrupts(0).count, 0);
    let ignored = owner.client.set_ignored(VECTOR, false);
    suite.equal("and_stop_ignoring", ignored, Ok(()));
    suite.equal("what_was_ignored_is_gone", interrupts(0).count, 0);
}

fn moves(suite: &mut Suite, owner: &Owner) {
    let handle = owner.client.handle(VECTOR);
    for cpu in [0, 1, 0, 1] {
        forget_interrupts();
        let moved = owner.client.call(Request::MoveVector {
            vector: VECTOR,
            cpu,
        });
        suite.equal("a_vector_moves", moved, Ok(None));
        suite.equal("its_handle_stays", owner.client.handle(VECTOR), handle);
        owner.submit(&owner.memory_move(handle));
        let taken = interrupts(1);
        suite.equal("it_interrupts_there", (taken.count, taken.cpu), (1, cpu));
    }
}

/// What a client may not ask for.
fn refusals(suite: &mut Suite, owner: &Owner) {
    let not_yours = Err(Answer::Failed(Failure::NotYours));
    let other = QueuePasid::unprivileged(hwspec::pci::Pasid::MAX);
    let enable = |queue, pasid| Request::EnableQueue { queue, pasid };
    let own = QueuePasid::unprivileged(owner.pasid);
    let call = |request| owner.client.call(request);
    suite.equal(
        "not_another_pasid",
        call(enable(owner.queue, other)),
        not_yours,
    );
    suite.equal("not_another_queue", call(enable(7, own)), not_yours);
    let absent = Request::MoveVector { vector: 9, cpu: 0 };
    suite.equal("not_a_vector_without_slot", call(absent), not_yours);
    suite.equal(
        "an_enabled_queue_is_not_enabled_again",
        matches!(
            call(enable(owner.queue, own)),
            Err(Answer::Failed(Failure::Device(
                dsa::Error::QueueNotDisabled { .. }
            )))
        ),
        true,
    );
}
