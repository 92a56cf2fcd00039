//! Dedicated queues that are some entries of a physical shared one.

use super::super::Notices;
use super::support::Rig;
use crate::SubmitResult;

const NOTHING: (SubmitResult, Notices) = (
    SubmitResult::Again,
    Notices {
        interrupt: None,
        error: None,
        is_error_lost: false,
    },
);

/// A memory move of 0x100 bytes from 0x2000 to 0x3000 with a record at 0x1000.
const MOVE: [u64; 8] = [
    0x0300_000c_0000_0000,
    0x1000,
    0x2000,
    0x3000,
    0x100,
    0,
    0,
    0,
];
/// A batch of two descriptors at 0x4000 with a record at 0x1000.
const BATCH: [u64; 8] = [0x0100_000c_0000_0000, 0x1000, 0x4000, 0, 2, 0, 0, 0];
/// The same move with an operation that there is none of, 0x0a.
const UNKNOWN: [u64; 8] = [0x0a00_000c_0000_0000, 0x1000, 0, 0, 0x100, 0, 0, 0];

fn slice() -> Rig {
    Rig::with(|view| view.is_slice = true)
}

/// Nothing is lost, nothing is recorded in SWERROR, and the books do not know of it.
#[test]
fn a_processor_waits_until_there_is_room() {
    let mut rig = slice();
    rig.host.is_full = true;
    for _ in 0..3 {
        assert_eq!(rig.post(MOVE), NOTHING);
    }
    assert_eq!(rig.host.submitted, []);
    rig.host.is_full = false;
    assert_eq!(rig.post(MOVE).0, SubmitResult::Accepted);
    assert_eq!(rig.host.submitted.len(), 1);
    let counters = *rig.submission.counters();
    assert_eq!((counters.submitted, counters.accepted), (1, 1));
    assert_eq!((counters.dropped, counters.waited), (0, 3));
}

/// The physical queue may say that it is full whatever was counted.
#[test]
fn a_device_that_has_no_room_is_asked_again() {
    let mut rig = slice();
    rig.host.retries = 2;
    assert_eq!(rig.post(MOVE), NOTHING);
    assert_eq!(rig.post(MOVE), NOTHING);
    assert_eq!(rig.post(MOVE).0, SubmitResult::Accepted);
    let counters = *rig.submission.counters();
    assert_eq!((counters.submitted, counters.waited), (1, 2));
}

/// What would be refused waits too: it is looked at when it can be submitted.
#[test]
fn a_full_slice_checks_nothing() {
    let mut rig = slice();
    rig.host.is_full = true;
    assert_eq!(rig.post(UNKNOWN), NOTHING);
    assert_eq!(rig.submission.counters().refused, 0);
    rig.host.is_full = false;
    assert_eq!(rig.post(UNKNOWN).0, SubmitResult::Accepted);
    assert_eq!(rig.submission.counters().refused, 1);
}

/// A queue that is not enabled takes nothing, however full it is.
#[test]
fn nobody_waits_for_a_queue_that_is_not_enabled() {
    let mut rig = Rig::with(|view| {
        view.is_slice = true;
        view.is_enabled = false;
    });
    rig.host.is_full = true;
    assert_eq!(rig.post(MOVE).0, SubmitResult::Dropped);
    assert_eq!(rig.submission.counters().dropped, 1);
}

#[test]
fn a_dedicated_queue_of_its_own_is_not_asked() {
    let mut rig = Rig::new();
    rig.host.is_full = true;
    assert_eq!(rig.post(MOVE).0, SubmitResult::Accepted);
}

/// A batch for which there is no slot waits for one, and a batch that the device does not
/// take leaves nothing in the books, its refused member included.
#[test]
fn batches_wait_as_well() {
    let mut rig = slice();
    rig.host.set(0x4000, &MOVE);
    rig.host.set(0x4040, &UNKNOWN);
    rig.host.retries = 1;
    assert_eq!(rig.post(BATCH), NOTHING);
    assert_eq!(rig.submission.counters().members_refused, 0);
    for _ in 0..super::support::BATCHES {
        assert_eq!(rig.post(BATCH).0, SubmitResult::Accepted);
    }
    assert_eq!(rig.post(BATCH), NOTHING);
    let counters = *rig.submission.counters();
    assert_eq!((counters.submitted, counters.batches), (2, 2));
    assert_eq!((counters.members, counters.members_refused), (4, 2));
    assert_eq!(counters.dropped, 0);
    // The device is done with the first.
    rig.host.complete(0, [0x2_0000_0005, 0, 0, 0]);
    assert!(rig.submission.collect(&mut rig.host).is_some());
    assert_eq!(rig.post(BATCH).0, SubmitResult::Accepted);
}
