//! Submissions, as far as the device around the check has a part in them.

use hwspec::dsa::ResetType;
use vdsa::{
    Answer, PasidPair, Policy, QueueShape, Shape, SubmissionKind, SubmissionRequest, SubmitResult,
    Window, window_bytes,
};

use crate::rig::{
    BATCH_HANDLE, CMD, CMDSTATUS, Effect, GENCTRL, INTCAUSE, MSIX, MSIXPERM, Rig, SWERROR, WINDOW,
    dedicated, message, queue, shape, shared, two_pasids,
};

/// CRAV and RCR.
const RECORD: u64 = 0xc << 32;
/// RCI.
const INTERRUPT: u64 = 0x10 << 32;
const NO_OP: u64 = 0;
const BATCH: u64 = 1 << 56;

fn submit(rig: &mut Rig, offset: u64, kind: SubmissionKind, words: [u64; 8]) -> SubmitResult {
    let request = SubmissionRequest {
        offset,
        kind,
        pasid: None,
        words,
        now_ns: 0,
    };
    rig.dsa.submit(&mut rig.host, &request)
}

fn move64(rig: &mut Rig, offset: u64, words: [u64; 8]) -> SubmitResult {
    submit(rig, offset, SubmissionKind::Movdir64b, words)
}

/// A no-op with a record at 0x2000, and with this handle if it is not 0.
fn no_op(handle: u64) -> [u64; 8] {
    let interrupt = if handle == 0 { 0 } else { INTERRUPT };
    [
        NO_OP | RECORD | interrupt,
        0x2000,
        0,
        0,
        handle << 32,
        0,
        0,
        0,
    ]
}

/// Two no-ops from 0x1_0000 on, a record at 0x2000, and this handle.
fn batch(handle: u64) -> [u64; 8] {
    let interrupt = if handle == 0 { 0 } else { INTERRUPT };
    let first = BATCH | RECORD | interrupt;
    [first, 0x2000, 0x1_0000, 0, handle << 32 | 2, 0, 0, 0]
}

/// The device writes the record of the first slot: success, two descriptors.
fn finish_batch(rig: &mut Rig) {
    rig.host.window.insert(0, 0x0000_0002_0000_0001);
}

fn with_handle() -> Rig {
    let mut rig = Rig::two_queues().running();
    rig.command(0x00d0_0001, &[Answer::Handle(0x21)]);
    rig.host.take();
    rig
}

#[test]
fn a_descriptor_goes_out_with_the_host_pasid() {
    let mut rig = with_handle();
    let mut words = no_op(0x21);
    words[0] |= 0x8000_0005;
    assert_eq!(move64(&mut rig, 0x1000, words), SubmitResult::Accepted);
    let mut sent = words;
    sent[0] = RECORD | INTERRUPT | 0x101;
    assert_eq!(rig.host.take(), [Effect::Submit(queue(0), sent)]);
}

#[test]
fn only_an_enabled_queue_takes_anything() {
    let mut rig = with_handle();
    let enqueue = SubmissionKind::Enqcmds;
    // Queue 1 is not enabled, queues 2 and on are not there, IMS pages are not offered.
    for offset in [0x4000, 0x5000, 0x8000, 0x1f000, 0x2000, 0x3000, !63] {
        let dropped = move64(&mut rig, offset, no_op(0));
        assert_eq!(dropped, SubmitResult::Dropped, "{offset:#x}");
        let retried = submit(&mut rig, offset, enqueue, no_op(0));
        assert_eq!(retried, SubmitResult::Retry, "{offset:#x}");
    }
    // Disabled, the queue takes nothing either, from the moment it drains.
    rig.write(CMD, 4, 0x0070_0001);
    assert_eq!(move64(&mut rig, 0, no_op(0)), SubmitResult::Dropped);
    rig.answer(Answer::Done);
    assert_eq!(move64(&mut rig, 0, no_op(0)), SubmitResult::Dropped);
    assert_eq!(rig.dsa.counters().submitted, 16);
    assert_eq!(rig.dsa.counters().dropped, 9);
    assert_eq!(rig.dsa.counters().retried, 7);
    assert_eq!(rig.dsa.counters().accepted, 0);
}

#[test]
fn a_refused_descriptor_reports_through_the_registers() {
    let mut rig = with_handle();
    rig.write(GENCTRL, 4, 1);
    // Operation 0x30 without a record address, with an interrupt.
    let words = [0x30 << 56 | INTERRUPT, 0, 0, 0, 0x21 << 32, 0, 0, 0];
    assert_eq!(move64(&mut rig, 0, words), SubmitResult::Accepted);
    // Valid, descriptor and queue valid, error 0x10, operation 0x30.
    assert_eq!(rig.read(SWERROR, 8), 0x0000_0030_0000_100d);
    assert_eq!(rig.read32(INTCAUSE), 1);
    let injected = [Effect::Inject(message(0)), Effect::Inject(message(1))];
    assert_eq!(rig.host.take(), injected);
    // Masked, its interrupt waits; with Ignore there is none.
    rig.write(MSIX + 16 + 12, 4, 1);
    move64(&mut rig, 0, words);
    assert_eq!(rig.read(0x700, 8), 2);
    rig.host.take();
    rig.write(MSIX + 16 + 12, 4, 0);
    assert!(rig.host.take().contains(&Effect::Inject(message(1))));
    rig.write(MSIXPERM + 8, 4, 4);
    rig.host.take();
    move64(&mut rig, 0, words);
    assert_eq!((rig.host.take(), rig.read(0x700, 8)), (vec![], 0));
}

#[test]
fn a_handle_of_another_pasid_is_refused() {
    let mut rig = with_handle();
    rig.write(MSIXPERM + 8, 4, 0x0000_5008);
    assert_eq!(move64(&mut rig, 0, no_op(0x21)), SubmitResult::Accepted);
    // The record says 0x19.
    assert_eq!(rig.host.memory.get(&0x2000), Some(&0x19));
    assert_eq!(rig.dsa.refusals().total(), 1);
}

/// The device looks at the PASID of the queue, which the handle has to have.
#[test]
fn batches_of_a_stand_in_end_by_the_queues_own_handle() {
    let pairs = two_pasids().map(|pair| PasidPair {
        batch_handle: Some(0x71),
        ..pair
    });
    for (is_stand_in, handle) in [(false, 0x71), (true, u64::from(BATCH_HANDLE))] {
        let queue = QueueShape {
            is_stand_in,
            ..shared(0x101)
        };
        let mut rig = Rig::new(&shape(&[queue], &pairs)).running();
        let mut words = batch(0);
        words[0] |= 5;
        let accepted = submit(&mut rig, 0, SubmissionKind::Enqcmds, words);
        assert_eq!(accepted, SubmitResult::Accepted);
        let effects = rig.host.take();
        let [Effect::Submit(_, sent)] = effects[..] else {
            panic!("{effects:x?}");
        };
        assert_eq!(sent[4], handle << 32 | 2, "{is_stand_in}");
    }
}

/// A device that gives handles gives others after it was reset.
#[test]
fn batches_end_by_the_handles_that_the_device_has_now() {
    let pairs = two_pasids().map(|pair| PasidPair {
        batch_handle: Some(0x71),
        ..pair
    });
    let mut rig = Rig::new(&shape(&[dedicated(0x101), shared(0x102)], &pairs)).running();
    assert_eq!(rig.command(0x0060_0001, &[Answer::Done]), 0);
    rig.dsa.replace_batch_handles(|old| match old {
        BATCH_HANDLE => 0x171,
        // What was just replaced is not replaced again.
        0x71 => BATCH_HANDLE,
        _ => panic!("nobody has handle {old:#x}"),
    });
    rig.host.take();
    move64(&mut rig, 0, batch(0));
    let mut words = batch(0);
    words[0] |= 5;
    submit(&mut rig, 0x4000, SubmissionKind::Enqcmds, words);
    let handles: Vec<u64> = rig
        .host
        .take()
        .into_iter()
        .map(|effect| match effect {
            Effect::Submit(_, words) => words[4] >> 32,
            other => panic!("{other:x?}"),
        })
        .collect();
    assert_eq!(handles, [0x171, u64::from(BATCH_HANDLE)]);
}

/// Lists of a direct queue are not copied, and take no room from those that are.
#[test]
fn a_direct_queue_with_long_batches_leaves_room_for_others() {
    let checked = QueueShape {
        max_batch_log2: 1,
        ..dedicated(0x101)
    };
    let direct = QueueShape {
        policy: Policy::Direct,
        batch_handle: None,
        ..dedicated(0x102)
    };
    let window = Window {
        // One batch of two.
        len_bytes: window_bytes(1, 1),
        ..WINDOW
    };
    let queues = [checked, direct];
    let shape = Shape {
        window,
        ..shape(&queues, &[])
    };
    let mut rig = Rig::new(&shape).running();
    assert_eq!(move64(&mut rig, 0, batch(0)), SubmitResult::Accepted);
    assert_eq!(rig.dsa.batches_in_flight(), 1);
}

#[test]
fn a_batch_is_handed_on_before_a_drain_is_done() {
    for command in [
        0x0080_0001,
        0x0030_0000,
        0x0070_0001,
        0x00a0_0001,
        0x0020_0000,
    ] {
        let mut rig = with_handle();
        assert_eq!(move64(&mut rig, 0, batch(0x21)), SubmitResult::Accepted);
        assert_eq!(rig.dsa.batches_in_flight(), 1);
        rig.write(CMD, 4, command);
        rig.host.take();
        finish_batch(&mut rig);
        rig.answer(Answer::Done);
        assert_eq!(rig.read32(CMDSTATUS), 0);
        assert_eq!(rig.host.memory.get(&0x2000), Some(&0x0000_0002_0000_0001));
        assert_eq!(rig.host.take(), [Effect::Inject(message(1))]);
        assert_eq!(rig.dsa.batches_in_flight(), 0);
        assert_eq!(rig.dsa.counters().handed_on, 1);
    }
}

#[test]
fn a_batch_that_was_given_up_is_forgotten() {
    // Abort and reset of the queue, Abort All, Disable and Reset Device.
    for command in [
        0x0090_0001,
        0x00a0_0001,
        0x0040_0000,
        0x0020_0000,
        0x0050_0000,
    ] {
        let mut rig = with_handle();
        move64(&mut rig, 0, batch(0));
        assert_eq!(rig.command(command, &[Answer::Done]), 0);
        assert_eq!(rig.dsa.batches_in_flight(), 0, "{command:#x}");
        assert_eq!(rig.dsa.counters().abandoned, 1);
        assert_eq!(rig.host.memory.get(&0x2000), None);
    }
    // A drain gives up nothing.
    let mut rig = with_handle();
    move64(&mut rig, 0, batch(0));
    assert_eq!(rig.command(0x0080_0001, &[Answer::Done]), 0);
    assert_eq!(rig.dsa.batches_in_flight(), 1);
}

/// A batch that comes while others are aborted would be forgotten with them, and its place
/// in the window given to the next one while the device still reads there.
#[test]
fn no_batch_is_taken_while_others_are_aborted() {
    // Abort WQ, Abort All, and Abort PASID of a guest PASID.
    for (command, gives_up) in [(0x0090_0001, 1), (0x0040_0000, 1), (0x00c0_0005, 0)] {
        let mut rig = with_handle();
        assert_eq!(move64(&mut rig, 0, batch(0)), SubmitResult::Accepted);
        rig.write(CMD, 4, command);
        assert_eq!(move64(&mut rig, 0, batch(0)), SubmitResult::Dropped);
        // Valid, queue valid, error 0x53.
        assert_eq!(rig.read(SWERROR, 8), 0x5309, "{command:#x}");
        assert_eq!(rig.dsa.batches_in_flight(), 1);
        // Whatever needs no place there goes to the device.
        assert_eq!(move64(&mut rig, 0, no_op(0)), SubmitResult::Accepted);
        rig.answer(Answer::Done);
        assert_eq!(rig.dsa.counters().abandoned, gives_up);
        assert_eq!(move64(&mut rig, 0, batch(0)), SubmitResult::Accepted);
    }
    // A drain gives up nothing, and so nothing waits for it.
    let mut rig = with_handle();
    rig.write(CMD, 4, 0x0080_0001);
    assert_eq!(move64(&mut rig, 0, batch(0)), SubmitResult::Accepted);
}

#[test]
fn after_a_reset_of_the_function_no_batch_reaches_the_guest() {
    // With nothing else going on, and with a Disable WQ on its way.
    for command in [None, Some(0x0070_0001)] {
        let mut rig = with_handle();
        move64(&mut rig, 0, batch(0x21));
        if let Some(command) = command {
            rig.write(CMD, 4, command);
        }
        rig.write_config(0x58, 2, 0x8000);
        finish_batch(&mut rig);
        rig.dsa.collect_batches(&mut rig.host);
        while !rig.requests().is_empty() {
            rig.dsa.collect_batches(&mut rig.host);
            rig.answer(Answer::Done);
        }
        rig.dsa.collect_batches(&mut rig.host);
        assert_eq!(rig.host.memory.get(&0x2000), None);
        assert_eq!(rig.dsa.batches_in_flight(), 0);
        assert_eq!(rig.dsa.counters().abandoned, 1);
    }
}

#[test]
fn a_physical_halt_hands_on_what_was_done_and_gives_up_the_rest() {
    let mut rig = with_handle();
    move64(&mut rig, 0, batch(0));
    finish_batch(&mut rig);
    let mut second = batch(0);
    second[1] = 0x3000;
    move64(&mut rig, 0, second);
    assert_eq!(rig.dsa.batches_in_flight(), 2);
    rig.dsa.report_halt(&mut rig.host, ResetType::ResetDevice);
    assert_eq!(rig.host.memory.get(&0x2000), Some(&0x0000_0002_0000_0001));
    // What comes after is lost.
    rig.host.window.insert(64, 1);
    rig.dsa.collect_batches(&mut rig.host);
    rig.answer(Answer::Done);
    rig.dsa.collect_batches(&mut rig.host);
    assert_eq!(rig.host.memory.get(&0x3000), None);
    assert_eq!(rig.dsa.batches_in_flight(), 0);
    assert_eq!(move64(&mut rig, 0, no_op(0)), SubmitResult::Dropped);
}
