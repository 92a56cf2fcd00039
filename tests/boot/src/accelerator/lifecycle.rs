//! Draining, disabling, enabling again, and running out.

use alloc::vec::Vec;

use boot_suites::Suite;
use hwio::Portal;
use kernel::host::Host;
use kernel::host::accelerator::ClientHandle;
use kernel::host::client::{Answer, ClientSetup, MAX_VECTORS, QueueAction, Request, Set};
use kernel::host::routes::{Completion, GuestTarget, VECTORS};

use super::owner::{DESTINATION, Owner, RECORD, VECTOR, wait_until, wait_until_quiet};

/// Descriptors that are in the queue at once.
const IN_FLIGHT: u64 = 8;

pub(crate) fn run(suite: &mut Suite, host: &Host, owner: &Owner) {
    drain(suite, owner);
    disable(suite, owner);
    suite.equal(
        "a_vector_is_released",
        owner
            .client
            .call(Request::ReleaseVectors(Set::just(VECTOR))),
        Ok(None),
    );
    suite.equal("and_has_no_handle", owner.client.handle(VECTOR), None);
    let again = owner
        .client
        .call(Request::ReleaseVectors(Set::just(VECTOR)));
    suite.equal("twice_is_no_error", again, Ok(None));
    let used = host.routes.count_used(1);
    for _ in 0..1000 {
        owner.allocate(1);
        let released = owner
            .client
            .call(Request::ReleaseVectors(Set::just(VECTOR)));
        assert_eq!(released, Ok(None), "a vector is released");
    }
    suite.equal(
        "asking_all_day_uses_up_nothing",
        host.routes.count_used(1),
        used,
    );
}

fn drain(suite: &mut Suite, owner: &Owner) {
    for index in 0..IN_FLIGHT {
        let mut descriptor = owner.memory_move(None);
        descriptor.completion_record_address = RECORD + 32 * index;
        descriptor.word3 = DESTINATION + 0x4000 * index;
        owner.submit(&descriptor);
    }
    let drained = owner.client.call(Request::Queues {
        queues: Set::just(owner.queue),
        action: QueueAction::Drain,
        pasids: Set::EMPTY,
    });
    suite.equal("a_queue_is_drained", drained, Ok(None));
    let done = (0..IN_FLIGHT).filter(|index| {
        let [status, ..] = owner.read(RECORD + 32 * index).to_le_bytes();
        status == 1
    });
    suite.equal("then_all_is_done", done.count() as u64, IN_FLIGHT);
}

fn disable(suite: &mut Suite, owner: &Owner) {
    let queues = Set::just(owner.queue);
    let call = |action| {
        owner.client.call(Request::Queues {
            queues,
            action,
            pasids: Set::EMPTY,
        })
    };
    suite.equal("a_queue_is_disabled", call(QueueAction::Disable), Ok(None));
    owner.write(RECORD, 0);
    owner.portal.submit(&owner.memory_move(None).words());
    wait_until_quiet();
    suite.equal("then_it_does_nothing", owner.read(RECORD), 0);
    suite.equal(
        "and_cannot_be_drained",
        matches!(call(QueueAction::Drain), Err(Answer::Failed(_))),
        true,
    );
    owner.enable();
    owner.submit(&owner.memory_move(None));
    suite.equal("it_is_enabled_again", owner.status(), 1);
    suite.equal("a_queue_is_aborted", call(QueueAction::Abort), Ok(None));
}

/// Clients without queues take vectors of processor 1 until there are none.
pub(crate) fn exhaust(suite: &mut Suite, host: &'static Host) {
    let Some(accelerator) = host.accelerators.first() else {
        return;
    };
    let pasid = host.iommu.allocate_pasid(9).expect("there is a PASID");
    let open = || {
        let setup = ClientSetup {
            queues: Set::EMPTY,
            shared_queues: Set::EMPTY,
            pasids: alloc::vec![pasid],
            notify: |_| {},
            token: 0,
        };
        accelerator.open_client(setup).expect("there is room")
    };
    let clients: Vec<ClientHandle> = (0..=VECTORS / MAX_VECTORS).map(|_| open()).collect();
    let mut taken = 0;
    let mut last = None;
    'all: for client in &clients {
        for vector in (0..).take(MAX_VECTORS) {
            let answer = client.call(Request::AllocateVector {
                vector,
                pasid,
                cpu: 1,
                target: GuestTarget {
                    vm: 9,
                    device: 0,
                    completion: Completion::Vector(vector.into()),
                },
            });
            if let Err(refused) = answer {
                last = Some(refused);
                break 'all;
            }
            taken += 1;
        }
    }
    suite.equal("vectors_run_out", last, Some(Answer::NoHandle));
    suite.show("vectors_of_a_processor", taken);
    for client in clients {
        client.close();
    }
    let given_back = wait_until(|| {
        host.housekeep(|_| {});
        accelerator.count_retired() == 0
    });
    suite.equal("their_lines_are_closed", given_back, true);
    let rested = wait_until(|| match host.routes.allocate(1) {
        Ok(route) => {
            host.routes.free_unused(route);
            true
        }
        Err(_) => false,
    });
    suite.equal("and_vectors_can_be_had_again", rested, true);
    host.iommu.release_pasid(pasid).expect("nothing holds it");
}
