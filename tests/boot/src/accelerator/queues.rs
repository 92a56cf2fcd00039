//! Descriptors through both kinds of queue.

use boot_suites::Suite;
use hwio::{Portal, Submission};

use super::owner::{DESTINATION, LENGTH, Owner, RECORD, SOURCE};

pub(crate) fn run(suite: &mut Suite, owner: &Owner) {
    dedicated(suite, owner);
    shared(suite, owner);
}

/// Fills the source, and clears the destination.
fn prepare(owner: &Owner, seed: u64) {
    for offset in (0..u64::from(LENGTH)).step_by(8) {
        owner.write(SOURCE + offset, seed ^ offset << 20);
        owner.write(DESTINATION + offset, 0);
    }
    owner.write(DESTINATION + u64::from(LENGTH), 0);
}

fn is_moved(owner: &Owner, seed: u64) -> bool {
    let offsets = (0..u64::from(LENGTH)).step_by(8);
    let all = offsets
        .into_iter()
        .all(|offset| owner.read(DESTINATION + offset) == seed ^ offset << 20);
    all && owner.read(DESTINATION + u64::from(LENGTH)) == 0
}

fn dedicated(suite: &mut Suite, owner: &Owner) {
    prepare(owner, 0x0123_4567);
    let descriptor = owner.memory_move(None);
    suite.equal(
        "a_dedicated_queue_takes_a_descriptor",
        owner.submit(&descriptor),
        Submission::Accepted,
    );
    suite.equal("it_completes", owner.status(), 1);
    suite.equal("the_memory_is_moved", is_moved(owner, 0x0123_4567), true);
    // What the descriptor says about the PASID counts for nothing here.
    let mut forged = descriptor;
    forged.word0.set_pasid(0xf_ffff);
    owner.submit(&forged);
    suite.equal("a_dedicated_queue_has_its_own_pasid", owner.status(), 1);
}

fn shared(suite: &mut Suite, owner: &Owner) {
    let Some(portal) = &owner.shared else {
        suite.show("shared_queue", "skipped: the processor has no ENQCMDS");
        return;
    };
    prepare(owner, 0x89ab_cdef);
    owner.write(RECORD, 0);
    suite.equal(
        "a_shared_queue_takes_a_descriptor",
        portal.submit(&owner.memory_move(None).words()),
        Submission::Accepted,
    );
    suite.equal("it_completes_too", owner.status(), 1);
    suite.equal("its_memory_is_moved", is_moved(owner, 0x89ab_cdef), true);
}
