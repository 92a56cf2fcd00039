//! Which submissions a queue takes, and what the descriptor is when it does.
//! [DSA 3.0, 5.3 "Descriptor Submission Checks"]

use hwspec::dsa::{Operation, Status};

use super::super::{Notices, Rule};
use super::support::{PASID, Rig};
use crate::{QueueMode, SubmissionKind, SubmitResult};

/// A memory move of 0x100 bytes from 0x2000 to 0x3000 with a record at 0x1000, which
/// claims PASID 0x12345 and Priv.
const MOVE: [u64; 8] = [
    0x0300_000c_8001_2345,
    0x1000,
    0x2000,
    0x3000,
    0x100,
    0,
    0,
    0,
];
/// The same as the device is to see it.
const MOVE_CHECKED: [u64; 8] = [
    0x0300_000c_0000_0101,
    0x1000,
    0x2000,
    0x3000,
    0x100,
    0,
    0,
    0,
];
/// The same without PASID and Priv.
const MOVE_PLAIN: [u64; 8] = [
    0x0300_000c_0000_0000,
    0x1000,
    0x2000,
    0x3000,
    0x100,
    0,
    0,
    0,
];

const NOTHING: Notices = Notices {
    interrupt: None,
    error: None,
    is_error_lost: false,
};

#[test]
fn a_dedicated_queue_takes_movdir64b_and_its_own_pasid() {
    for offset in [0x0, 0x40, 0x0fc0, 0x1000, 0x1fc0, 0xd000] {
        let mut rig = Rig::new();
        let answer = rig.request(SubmissionKind::Movdir64b, offset, None, MOVE);
        assert_eq!(answer, (SubmitResult::Accepted, NOTHING), "{offset:#x}");
        assert_eq!(rig.host.submitted, [(3, MOVE_CHECKED)]);
        assert_eq!(PASID, 0x101);
    }
    let mut rig = Rig::new();
    assert_eq!(rig.enqueue(Some(5), MOVE), (SubmitResult::Retry, NOTHING));
    let answer = rig.request(SubmissionKind::Enqcmds, 0x1000, None, MOVE_PLAIN);
    assert_eq!(answer, (SubmitResult::Retry, NOTHING));
    assert_eq!(rig.host.submitted, []);
}

#[test]
fn a_shared_queue_takes_the_enqueueing_instructions_alone() {
    let mut rig = Rig::shared();
    assert_eq!(rig.post(MOVE), (SubmitResult::Dropped, NOTHING));
    assert_eq!(rig.host.submitted, []);
    // ENQCMD: PASID 5 of IA32_PASID is host PASID 0x101, and Priv is 0 whatever the
    // memory held.
    let answer = rig.enqueue(Some(5), MOVE);
    assert_eq!(answer, (SubmitResult::Accepted, NOTHING));
    // ENQCMDS: the memory says PASID 5.
    let words = [
        0x0300_000c_0000_0005,
        0x1000,
        0x2000,
        0x3000,
        0x100,
        0,
        0,
        0,
    ];
    let answer = rig.request(SubmissionKind::Enqcmds, 0x1000, Some(7), words);
    assert_eq!(answer, (SubmitResult::Accepted, NOTHING));
    assert_eq!(rig.host.submitted, [(3, MOVE_CHECKED); 2]);
}

#[test]
fn a_shared_queue_without_pasids_has_its_own() {
    let mut rig = Rig::with(|view| view.mode = QueueMode::Shared);
    // IA32_PASID has to be valid, but what is in it does not matter.
    let answer = rig.enqueue(Some(0x777), MOVE);
    assert_eq!(answer, (SubmitResult::Accepted, NOTHING));
    assert_eq!(rig.host.only(), MOVE_CHECKED);
}

#[test]
fn enqueueing_instructions_fault_as_the_processor_would() {
    let mut rig = Rig::shared();
    let fault = (SubmitResult::GeneralProtection, NOTHING);
    assert_eq!(rig.enqueue(None, MOVE), fault);
    for reserved in [1 << 20, 1 << 30] {
        let mut words = MOVE_PLAIN;
        words[0] |= reserved;
        let answer = rig.request(SubmissionKind::Enqcmds, 0x1000, Some(5), words);
        assert_eq!(answer, fault);
    }
    assert_eq!(rig.host.submitted, []);
    assert_eq!(rig.submission.counters().faulted, 3);
    assert_eq!(rig.submission.counters().submitted, 0);
}

#[test]
fn where_no_queue_is_the_processor_still_faults_first() {
    let mut rig = Rig::new();
    let mut nowhere = |kind, named: Option<u32>, words| {
        let request = crate::SubmissionRequest {
            offset: 0x2_0000,
            kind,
            pasid: named.map(super::support::pasid),
            words,
            now_ns: 0,
        };
        rig.submission.submit_nowhere(&request)
    };
    let dropped = nowhere(SubmissionKind::Movdir64b, None, MOVE);
    assert_eq!(dropped, SubmitResult::Dropped);
    let retry = nowhere(SubmissionKind::Enqcmd, Some(5), MOVE);
    assert_eq!(retry, SubmitResult::Retry);
    let fault = nowhere(SubmissionKind::Enqcmd, None, MOVE);
    assert_eq!(fault, SubmitResult::GeneralProtection);
    let counters = rig.submission.counters();
    assert_eq!((counters.submitted, counters.faulted), (2, 1));
}

#[test]
fn nothing_is_taken_where_no_portal_is() {
    // The IMS pages are not offered, and bits 5:0 must be 0.
    for offset in [0x2000, 0x2fc0, 0x3000, 0x3fc0, 0x1020, 0x1001] {
        let mut rig = Rig::new();
        let answer = rig.request(SubmissionKind::Movdir64b, offset, None, MOVE);
        assert_eq!(answer, (SubmitResult::Dropped, NOTHING), "{offset:#x}");
        let mut rig = Rig::shared();
        let answer = rig.request(SubmissionKind::Enqcmd, offset, Some(5), MOVE);
        assert_eq!(answer, (SubmitResult::Retry, NOTHING), "{offset:#x}");
    }
}

#[test]
fn nothing_is_taken_by_a_queue_that_is_not_enabled() {
    let mut rig = Rig::with(|view| view.is_enabled = false);
    assert_eq!(rig.post(MOVE), (SubmitResult::Dropped, NOTHING));
    let mut rig = Rig::with(|view| {
        view.is_enabled = false;
        view.mode = QueueMode::Shared;
    });
    assert_eq!(rig.enqueue(Some(5), MOVE), (SubmitResult::Retry, NOTHING));
    assert_eq!(rig.submission.counters().retried, 1);
}

#[test]
fn a_threshold_of_0_closes_the_limited_portal() {
    let mut rig = Rig::with(|view| {
        view.mode = QueueMode::Shared;
        view.threshold = 0;
    });
    assert_eq!(rig.enqueue(Some(5), MOVE), (SubmitResult::Retry, NOTHING));
    rig.shape = |view| {
        view.mode = QueueMode::Shared;
        view.threshold = 0;
        view.is_limited_portal = false;
    };
    let answer = rig.request(SubmissionKind::Enqcmd, 0, Some(5), MOVE);
    assert_eq!(answer, (SubmitResult::Accepted, NOTHING));
}

#[test]
fn a_guest_cannot_fill_a_shared_queue_faster_than_its_rate() {
    let mut rig = Rig::with(|view| {
        view.mode = QueueMode::Shared;
        view.submission_interval_ns = 1000;
    });
    let accepted = |rig: &mut Rig| {
        (0..100)
            .filter(|_| rig.enqueue(Some(5), MOVE).0 == SubmitResult::Accepted)
            .count()
    };
    // The threshold is 8.
    assert_eq!(accepted(&mut rig), 8);
    rig.now_ns += 3000;
    assert_eq!(accepted(&mut rig), 3);
    assert_eq!(rig.submission.counters().held_back, 92 + 97);
    assert_eq!(rig.submission.counters().retried, 92 + 97);
}

#[test]
fn a_full_queue_is_reported_as_its_mode_has_it() {
    let mut rig = Rig::shared();
    rig.host.retries = 1;
    assert_eq!(rig.enqueue(Some(5), MOVE), (SubmitResult::Retry, NOTHING));
    let mut rig = Rig::new();
    rig.host.retries = 1;
    let (result, notices) = rig.post(MOVE);
    assert_eq!(result, SubmitResult::Dropped);
    // 0x53, queue 3 valid, nothing about the descriptor.
    let error = notices.error.unwrap();
    assert_eq!(u64::from(error.word0), 0x0000_0000_0003_5308);
    assert_eq!((u64::from(error.word1), error.address), (0, 0));
    assert_eq!(error.word0.error_code(), Status::WQ_FULL);
}

#[test]
fn an_unknown_guest_pasid_is_an_error_without_a_record() {
    let mut rig = Rig::shared();
    let (result, notices) = rig.enqueue(Some(6), MOVE);
    assert_eq!(result, SubmitResult::Accepted);
    assert_eq!((notices.interrupt, rig.host.written.len()), (None, 0));
    // 0x22, queue 3, operation 3, guest PASID 6, descriptor and queue valid.
    let error = notices.error.unwrap();
    assert_eq!(u64::from(error.word0), 0x0000_0603_0003_220c);
    assert_eq!(rig.host.submitted, []);
    assert_eq!(rig.submission.refusals().count(Rule::UnknownPasid), 1);
    let last = rig.submission.refusals().recent().last().unwrap();
    assert_eq!((last.operation, last.value), (Operation::MEMORY_MOVE, 6));
}

#[test]
fn priv_is_refused_on_a_shared_queue_and_ignored_on_a_dedicated_one() {
    let mut rig = Rig::shared();
    let words = [
        0x0300_000c_8000_0005,
        0x1000,
        0x2000,
        0x3000,
        0x100,
        0,
        0,
        0,
    ];
    let (result, notices) = rig.request(SubmissionKind::Enqcmds, 0x1000, None, words);
    assert_eq!((result, notices.interrupt), (SubmitResult::Accepted, None));
    // 0x1d, Priv, guest PASID 5.
    let error = notices.error.unwrap();
    assert_eq!(u64::from(error.word0), 0x0000_0503_0003_1d4c);
    assert_eq!(rig.host.submitted, []);
    assert_eq!(rig.host.written, []);
}

#[test]
fn the_books_balance() {
    let mut rig = Rig::new();
    rig.post(MOVE);
    rig.post([0xff << 56, 0, 0, 0, 0, 0, 0, 0]);
    rig.enqueue(Some(5), MOVE);
    rig.shape = |view| view.is_enabled = false;
    rig.post(MOVE);
    let counters = *rig.submission.counters();
    assert_eq!(counters.submitted, 4);
    assert_eq!(
        (
            counters.accepted,
            counters.refused,
            counters.retried,
            counters.dropped
        ),
        (1, 1, 1, 1)
    );
}
