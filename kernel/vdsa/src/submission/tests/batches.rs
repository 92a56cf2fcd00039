//! Batches, and drains behind them: the copy, the slots, and how the end is handed on.

use std::vec::Vec;

use hwspec::dsa::Status;

use super::super::{Notices, Rule};
use super::support::{BATCH_HANDLE, BATCHES, HANDLE, RAM, Rig, WINDOW, pasid};
use crate::{QueueIndex, QueueSet, SubmitResult};

/// A batch of two at 0x4000 with a record at 0x1000 and an interrupt through 0x33.
const BATCH: [u64; 8] = [
    0x0100_001c_0000_0000,
    0x1000,
    0x4000,
    0,
    0x0033_0000_0002,
    0,
    0,
    0,
];
/// As the device sees it: PASID 0x101, Weir's record in slot 0, its copy of the list,
/// Weir's handle.
const PRIVATE: [u64; 8] = [
    0x0100_001c_0000_0101,
    WINDOW,
    WINDOW + 0x1000,
    0,
    0x0077_0000_0002,
    0,
    0,
    0,
];
/// A no-op with a record at 0x1020, which claims PASID 7 and Priv.
const NO_OP: [u64; 8] = [0x0000_000c_8000_0007, 0x1020, 0, 0, 0, 0, 0, 0];
/// A fenced move with a record at 0x1040.
const FENCED: [u64; 8] = [
    0x0300_000d_0000_0000,
    0x1040,
    0x2000,
    0x3000,
    0x100,
    0,
    0,
    0,
];
/// A drain with a record at 0x1060 and no interrupt.
const DRAIN: [u64; 8] = [0x0200_000c_0000_0000, 0x1060, 0, 0, 0, 0, 0, 0];
/// A record of a batch: success, two descriptors.
const TWO_DONE: [u64; 4] = [0x0000_0002_0000_0001, 0, 0, 0];

const NOTHING: (SubmitResult, Notices) = (
    SubmitResult::Accepted,
    Notices {
        interrupt: None,
        error: None,
        is_error_lost: false,
    },
);

fn ready(members: &[[u64; 8]]) -> Rig {
    let mut rig = Rig::new();
    rig.host.set(0x4000, members.as_flattened());
    rig
}

/// Hands on all that is done.
fn collect(rig: &mut Rig) -> Vec<Notices> {
    core::iter::from_fn(|| rig.submission.collect(&mut rig.host)).collect()
}

fn interrupt(vector: u16) -> Notices {
    Notices {
        interrupt: Some(vector),
        ..Notices::default()
    }
}

#[test]
fn a_batch_is_copied_and_submitted_with_a_record_of_weirs_own() {
    let mut rig = ready(&[NO_OP, FENCED]);
    rig.host.complete(0, [!0; 4]);
    assert_eq!(rig.post(BATCH), NOTHING);
    assert_eq!(rig.host.submitted, [(3, PRIVATE)]);
    assert_eq!(BATCH_HANDLE, 0x77);
    let mut no_op = NO_OP;
    no_op[0] = 0x0000_000c_0000_0000;
    assert_eq!(rig.host.members(0, 2), [no_op, FENCED]);
    assert_eq!(rig.host.window[..4], [0; 4], "an old record");
    let counters = rig.submission.counters();
    assert_eq!((counters.batches, counters.members), (1, 2));
    assert_eq!((counters.accepted, counters.members_refused), (1, 0));
    assert_eq!(rig.submission.in_flight(), 1);
}

/// A guest that changes its list while it is read is heard once: what is checked is
/// what is submitted.
#[test]
fn each_word_of_a_list_is_read_once() {
    let members: Vec<[u64; 8]> = (0..16).map(|_| FENCED).collect();
    let mut rig = ready(&members);
    rig.host.is_changing.set(true);
    let mut batch = BATCH;
    batch[4] = 0x0033_0000_0010;
    assert_eq!(rig.post(batch), NOTHING);
    let reads = rig.host.reads.borrow().clone();
    let list = 0x4000 / 8..0x4400 / 8;
    assert!(reads[list.clone()].iter().all(|reads| *reads == 1));
    assert_eq!(reads.iter().sum::<u32>(), 128, "nothing else is read");
    assert_eq!(rig.host.members(0, 16), members);
    // What is in memory now would not have passed.
    assert_eq!(rig.host.ram.borrow()[list.start], !FENCED[0]);
}

#[test]
fn the_end_of_a_batch_is_handed_on() {
    let mut rig = ready(&[NO_OP, FENCED]);
    rig.post(BATCH);
    assert_eq!(collect(&mut rig), [], "not done yet");
    rig.host.complete(0, TWO_DONE);
    assert_eq!(collect(&mut rig), [interrupt(1)]);
    assert_eq!(rig.host.words::<4>(0x1000), TWO_DONE);
    assert_eq!(rig.host.written, [0x1008, 0x1010, 0x1018, 0x1000]);
    assert_eq!(rig.submission.in_flight(), 0);
    assert_eq!(collect(&mut rig), [], "once");
    let counters = rig.submission.counters();
    assert_eq!((counters.handed_on, counters.handed_on_interrupts), (1, 1));
}

#[test]
fn a_record_is_handed_on_as_the_flags_say() {
    // Flags of the batch, the status of the device, whether the guest gets a record,
    // and the code in SWERROR.
    for (flags, status, is_written, error) in [
        (0x0c, 0x01, true, None),
        (0x04, 0x01, false, None),
        (0x00, 0x01, false, None),
        (0x0c, 0x05, true, None),
        (0x04, 0x05, false, None),
        (0x00, 0x05, false, None),
        (0x04, 0x20, true, None),
        (0x00, 0x20, false, Some(Status::HARDWARE_ERROR)),
    ] {
        let mut rig = ready(&[NO_OP, FENCED]);
        let mut batch = BATCH;
        batch[0] = 0x01 << 56 | flags << 32;
        batch[1] = if flags & 4 == 0 { 0 } else { 0x1000 };
        batch[4] = 2;
        assert_eq!(rig.post(batch), NOTHING);
        // Weir wants a record and an interrupt in any case.
        assert_eq!(rig.host.only(), PRIVATE);
        let record = [0x0000_0001_0000_0000 | status, 0, 0, 0];
        rig.host.complete(0, record);
        let notices = collect(&mut rig);
        assert_eq!(notices.len(), 1);
        assert_eq!(notices[0].interrupt, None);
        let code = notices[0].error.map(|error| error.word0.error_code());
        assert_eq!(code, error, "{flags:#x} {status:#x}");
        let expected = if is_written { record } else { [0; 4] };
        assert_eq!(rig.host.words::<4>(0x1000), expected);
    }
}

/// Code 0x06 names the address at which the list faulted: the guest's.
#[test]
fn a_fault_on_the_list_is_translated_back() {
    let mut rig = ready(&[NO_OP, FENCED]);
    rig.post(BATCH);
    rig.host.complete(0, [0x06, WINDOW + 0x1040, 0, 0]);
    assert_eq!(collect(&mut rig), [interrupt(1)]);
    assert_eq!(rig.host.words::<4>(0x1000), [0x06, 0x4040, 0, 0]);
}

#[test]
fn a_batch_that_the_device_refuses_for_its_handle_raises_nothing() {
    let mut rig = ready(&[NO_OP, FENCED]);
    rig.post(BATCH);
    rig.host.complete(0, [0x19, 0, 0, 0]);
    assert_eq!(collect(&mut rig), [Notices::default()]);
    assert_eq!(rig.host.words::<4>(0x1000), [0x19, 0, 0, 0]);
}

#[test]
fn a_batch_whose_record_is_not_ram_ends_in_swerror() {
    let mut rig = ready(&[NO_OP, FENCED]);
    let mut batch = BATCH;
    batch[1] = RAM;
    assert_eq!(rig.post(batch), NOTHING);
    rig.host.complete(0, TWO_DONE);
    let notices = collect(&mut rig);
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].interrupt, None);
    let error = notices[0].error.unwrap();
    assert_eq!(u64::from(error.word0), 0x0000_0001_0003_1a2c);
    assert_eq!(error.address, RAM);
    assert_eq!(rig.host.written, []);
    assert_eq!(rig.submission.refusals().count(Rule::RecordMemory), 1);
}

#[test]
fn a_flood_of_batches_finds_the_queue_full() {
    assert_eq!(BATCHES, 2);
    let mut rig = ready(&[NO_OP, FENCED]);
    for _ in 0..BATCHES {
        assert_eq!(rig.post(BATCH), NOTHING);
    }
    let (result, notices) = rig.post(BATCH);
    assert_eq!(result, SubmitResult::Dropped);
    let error = notices.error.unwrap();
    assert_eq!(u64::from(error.word0), 0x0000_0000_0003_5308);
    assert_eq!(rig.submission.counters().without_slot, 1);
    // Other descriptors go on, and each slot is free once its batch is handed on.
    assert_eq!(rig.post(FENCED_ALONE), NOTHING);
    rig.host.complete(1, TWO_DONE);
    assert_eq!(collect(&mut rig), [interrupt(1)]);
    assert_eq!(rig.post(BATCH), NOTHING);
    assert_eq!(rig.submission.in_flight(), 2);
    assert_eq!(rig.host.submitted[2].1[1], 0x1040);
    assert_eq!(rig.host.submitted[3].1[1], WINDOW + 64);
    assert_eq!(rig.host.submitted[3].1[2], WINDOW + 0x1800);
    assert_eq!(rig.submission.counters().dropped, 1);
}

/// [`FENCED`] without its fence.
const FENCED_ALONE: [u64; 8] = [
    0x0300_000c_0000_0000,
    0x1040,
    0x2000,
    0x3000,
    0x100,
    0,
    0,
    0,
];

#[test]
fn a_flood_on_a_shared_queue_is_told_to_retry() {
    let mut rig = Rig::shared();
    rig.host.set(0x4000, [NO_OP, FENCED].as_flattened());
    for _ in 0..BATCHES {
        assert_eq!(rig.enqueue(Some(5), BATCH), NOTHING);
    }
    let retry = (SubmitResult::Retry, Notices::default());
    assert_eq!(rig.enqueue(Some(5), BATCH), retry);
    // The handle has one PASID and the queue has many: there is no interrupt.
    assert_eq!(rig.host.submitted[0].1[0], 0x0100_000c_0000_0101);
    assert_eq!(rig.host.submitted[0].1[4], 2);
    rig.host.complete(0, TWO_DONE);
    assert_eq!(collect(&mut rig), [interrupt(1)]);
}

#[test]
fn a_batch_that_the_physical_queue_does_not_take_leaves_no_slot_behind() {
    let mut rig = Rig::shared();
    rig.host.set(0x4000, [NO_OP, FENCED].as_flattened());
    rig.host.retries = 5;
    for _ in 0..5 {
        let answer = rig.enqueue(Some(5), BATCH);
        assert_eq!(answer, (SubmitResult::Retry, Notices::default()));
    }
    assert_eq!(rig.submission.in_flight(), 0);
    assert_eq!(rig.enqueue(Some(5), BATCH), NOTHING);
    assert_eq!(rig.submission.counters().batches, 1);
}

#[test]
fn a_queue_without_a_handle_or_a_window_has_no_batches() {
    let mut rig = ready(&[NO_OP, FENCED]);
    rig.shape = |view| view.batch_handle = None;
    rig.post(BATCH);
    assert_eq!(rig.host.words::<1>(0x1000), [0x10]);
    let mut rig = ready(&[NO_OP, FENCED]);
    let none = crate::Window {
        base: WINDOW,
        len_bytes: 0,
    };
    rig.submission = super::super::Submission::new(none, 4);
    rig.post(BATCH);
    assert_eq!(rig.host.words::<1>(0x1000), [0x10]);
    assert_eq!(rig.host.submitted, []);
    assert_eq!(rig.submission.refusals().count(Rule::Operation), 1);
}

/// The guest must not hear of the end of a drain before that of a batch ahead of it.
#[test]
fn a_drain_waits_for_the_batches_before_it_to_be_handed_on() {
    let mut rig = ready(&[NO_OP, FENCED]);
    // By itself it goes straight to the device.
    assert_eq!(rig.post(DRAIN), NOTHING);
    let mut plain = DRAIN;
    plain[0] |= 0x101;
    assert_eq!(rig.host.submitted, [(3, plain)]);

    rig.post(BATCH);
    assert_eq!(rig.post(DRAIN), NOTHING);
    // Slot 32 is the first of the drains.
    let watched = [
        0x0200_001c_0000_0101,
        WINDOW + 32 * 64,
        0,
        0,
        0x0077_0000_0000,
        0,
        0,
        0,
    ];
    assert_eq!(rig.host.submitted[2], (3, watched));
    // The device is done with both, whichever is looked at first.
    rig.host.complete(32, [1, 0, 0, 0]);
    rig.host.complete(0, TWO_DONE);
    assert_eq!(collect(&mut rig), [interrupt(1), Notices::default()]);
    let order: Vec<u64> = rig
        .host
        .written
        .iter()
        .copied()
        .filter(|at| at % 32 == 0)
        .collect();
    assert_eq!(order, [0x1000, 0x1060]);
}

#[test]
fn a_drain_of_another_queue_waits_for_nobody() {
    let mut rig = ready(&[NO_OP, FENCED]);
    rig.post(BATCH);
    rig.shape = |view| view.index = QueueIndex::new(1).unwrap();
    rig.post(DRAIN);
    assert_eq!(rig.host.submitted[1].1[1], 0x1060);
}

#[test]
fn drains_without_end_find_the_queue_full() {
    let mut rig = ready(&[NO_OP, FENCED]);
    rig.post(BATCH);
    let taken = (0..20)
        .filter(|_| rig.post(DRAIN).0 == SubmitResult::Accepted)
        .count();
    assert_eq!(taken, 8);
    assert_eq!(rig.submission.counters().without_slot, 12);
}

#[test]
fn batches_of_one_queue_end_in_the_order_of_their_submission() {
    let mut rig = ready(&[NO_OP, FENCED]);
    rig.post(BATCH);
    let mut second = BATCH;
    second[1] = 0x1080;
    rig.post(second);
    rig.host.complete(0, TWO_DONE);
    collect(&mut rig);
    // Slot 0 now has a batch that is younger than the one in slot 1.
    let mut third = BATCH;
    third[1] = 0x10a0;
    rig.post(third);
    rig.host.complete(0, TWO_DONE);
    rig.host.complete(1, TWO_DONE);
    rig.host.written.clear();
    assert_eq!(collect(&mut rig).len(), 2);
    assert_eq!((rig.host.written[3], rig.host.written[7]), (0x1080, 0x10a0));
}

#[test]
fn what_the_device_gave_up_is_forgotten() {
    let mut rig = ready(&[NO_OP, FENCED]);
    rig.post(BATCH);
    rig.shape = |view| {
        view.index = QueueIndex::new(1).unwrap();
        view.pasid = crate::QueuePasid::OfQueue(pasid(0x155));
    };
    let mut batch = BATCH;
    batch[0] &= !(0x10 << 32);
    batch[4] = 2;
    rig.post(batch);
    assert_eq!(rig.submission.in_flight(), 2);
    rig.submission
        .abandon(QueueSet::EMPTY.with(QueueIndex::new(3).unwrap()));
    assert_eq!(rig.submission.in_flight(), 1);
    rig.submission.abandon_pasid(pasid(0x101));
    assert_eq!(rig.submission.in_flight(), 1);
    rig.submission.abandon_pasid(pasid(0x155));
    assert_eq!(rig.submission.in_flight(), 0);
    assert_eq!(rig.submission.counters().abandoned, 2);
    assert_eq!(rig.submission.counters().members_abandoned, 4);
    // A record that comes late all the same is not taken for a batch.
    rig.host.complete(0, TWO_DONE);
    assert_eq!(collect(&mut rig), []);
    assert_eq!(rig.host.written, []);
}

#[test]
fn members_that_the_device_did_not_come_to_are_counted() {
    let mut rig = ready(&[NO_OP, FENCED]);
    // A fence ended the batch: status 05h, one descriptor completed.
    rig.post(BATCH);
    rig.host.complete(0, [0x0000_0001_0000_0005, 0, 0, 0]);
    assert_eq!(collect(&mut rig).len(), 1);
    assert_eq!(rig.submission.counters().members_abandoned, 1);
    rig.post(BATCH);
    rig.host.complete(0, TWO_DONE);
    assert_eq!(collect(&mut rig).len(), 1);
    assert_eq!(rig.submission.counters().members_abandoned, 1);
}

/// What each refused member becomes; the table is in `replacement`. Records and
/// handles are as in the member.
#[test]
fn refused_members_are_replaced() {
    let list = WINDOW + 0x1000;
    let hole = WINDOW + 0x2000;
    #[rustfmt::skip]
    let rows: &[([u64; 8], [u64; 8], Rule)] = &[
        // A drain and a batch inside.
        ([0x0200_000d_0000_0000, 0x1020, 0, 0, 0, 0, 0, 0],
         [0xff00_000d_0000_0000, 0x1020, 0, 0, 0, 0, 0, 0], Rule::Nested),
        ([0x0100_001c_0000_0000, 0x1020, 0x4000, 0, 0x33_0000_0002, 0, 0, 0],
         [0xff00_001c_0000_0000, 0x1020, 0, 0, 0x33_0000_0000, 0, 0, 0], Rule::Nested),
        // Block on fault, of a member without a record.
        ([0x0300_0003_0000_0000, 0, 0x2000, 0x3000, 8, 0, 0, 0],
         [0x0000_0003_0000_0000, 0, 0, 0, 0, 0, 0, 0], Rule::Flags),
        // A record that nobody asks for, of operations that need one.
        ([0x0500_0004_0000_0000, 0x1020, 0x2000, 0x3000, 8, 0, 0, 0],
         [0x1200_0004_0000_0000, 0x1020, list, 0, 520, 0, 0, 0], Rule::Flags),
        ([0x1100_0084_0000_0000, 0x1020, 0x2000, 0x3000, 8, 0, 0, 0],
         [0x1200_0084_0000_0000, 0x1020, list, 0, 520, 0, 0, 0], Rule::Flags),
        // A reserved field, and a handle of somebody else beside it.
        ([0x0000_001c_0000_0000, 0x1020, 1, 0, 0x34_0000_0000, 0, 0, 0],
         [0x0000_000c_0000_0000, 0x1020, 0, 0, 0, 0, 0, 0x0100_0000_0000_0000],
         Rule::ReservedField),
        // Too much and nothing.
        ([0x0301_000c_0000_0000 & !0x0001_0000_0000_0000, 0x1020, 0x2000, 0x3000, 0x10_0001, 0, 0, 0],
         [0x0300_000c_0000_0000, 0x1020, list, list + 0x800, 0, 0, 0, 0], Rule::TransferSize),
        // Weir's own handle, of the same PASID.
        ([0x0300_001c_0000_0000, 0x1020, 0x2000, 0x3000, 0x77_0000_0008, 0, 0, 0],
         [0x0000_001c_0000_0000, 0x1020, 0, 0, 0xffff_0000_0000, 0, 0, 0],
         Rule::UnknownHandle),
        // A source and a record in the window.
        ([0x0300_001c_0000_0000, 0x1020, WINDOW, 0x3000, 0x33_0000_0008, 0, 0, 0],
         [0x0300_001c_0000_0000, 0x1020, hole, list, 0x33_0000_0001, 0, 0, 0],
         Rule::OperandInWindow),
        ([0x0000_000c_0000_0000, WINDOW, 0, 0, 0, 0, 0, 0],
         [0x0300_000c_0000_0000, hole, hole, list, 1, 0, 0, 0], Rule::RecordInWindow),
        // A misaligned record.
        ([0x0300_001c_0000_0000, 0x1024, 0x2000, 0x3000, 0x33_0000_0008, 0, 0, 0],
         [0x0000_001c_0000_0000, 0x1024, 0, 0, 0x33_0000_0000, 0, 0, 0],
         Rule::RecordAlignment),
    ];
    for (member, expected, rule) in rows {
        let mut rig = ready(&[*member, FENCED]);
        let (result, notices) = rig.post(BATCH);
        assert_eq!(result, SubmitResult::Accepted);
        assert_eq!(rig.host.members(0, 2), [*expected, FENCED], "{rule:?}");
        assert_eq!(rig.host.only(), PRIVATE);
        let last = *rig.submission.refusals().recent().last().unwrap();
        assert_eq!((last.rule, last.member), (*rule, Some(0)));
        assert_eq!(rig.submission.counters().members_refused, 1);
        assert_eq!(rig.submission.counters().refused, 0, "not the batch");
        assert_eq!(notices.error.is_some(), *rule == Rule::RecordInWindow);
    }
    assert_eq!(HANDLE, 0x33);
}

/// The device cannot report a member's record in the window, so Weir does.
#[test]
fn records_of_members_in_the_window_are_reported_at_once() {
    let member = [0x0000_000c_0000_0000, WINDOW + 0x20, 0, 0, 0, 0, 0, 0];
    let mut rig = ready(&[NO_OP, member, member]);
    let mut batch = BATCH;
    batch[4] = 0x0033_0000_0003;
    let (result, notices) = rig.post(batch);
    assert_eq!(result, SubmitResult::Accepted);
    // 0x1a on a write, a member, queue 3, index 1.
    let error = notices.error.unwrap();
    assert_eq!(u64::from(error.word0), 0x0000_0000_0003_1a3c);
    assert_eq!(u64::from(error.word1), 1);
    assert_eq!(error.address, WINDOW + 0x20);
    assert!(notices.is_error_lost, "and there was another");
    assert_eq!(rig.submission.refusals().count(Rule::RecordInWindow), 2);
}

#[test]
fn a_batch_is_never_larger_than_the_room_for_its_list() {
    let mut rig = ready(&[NO_OP, FENCED]);
    rig.shape = |view| view.max_batch_log2 = 10;
    for (count, is_copied) in [(32, true), (33, false), (1024, false)] {
        let mut batch = BATCH;
        batch[4] = 0x0033_0000_0000 | count;
        assert_eq!(rig.post(batch).0, SubmitResult::Accepted);
        let status = if is_copied { 0 } else { 0x14 };
        assert_eq!(rig.host.words::<1>(0x1000), [status], "{count}");
    }
}
