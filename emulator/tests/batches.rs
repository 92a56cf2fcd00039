//! Batches: members, fences, lists that are not there, and drains.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

mod support;

use support::{Bytes, CRAV, QueueSetup, RCI, RCR, Rig, memory_move};

const LIST: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;
const FENCE: u32 = 1;

fn ready(options: &str) -> Rig {
    let mut rig = Rig::with_queue(options, QueueSetup::default());
    rig.machine.map(None, LIST, 0x1_0000, true);
    rig.machine.map(None, DATA, 0x10_0000, true);
    rig.machine.map(None, RECORD, 0x1_0000, true);
    rig.machine.messages.clear();
    rig
}

/// Where member `index` has its record.
fn member_record(index: usize) -> u64 {
    RECORD + 32 * (index as u64 + 1)
}

fn member(index: usize, operation: u8, flags: u32) -> Bytes {
    Bytes::new(operation, CRAV | RCR | flags).record(member_record(index))
}

/// Writes the list and submits its batch.
fn submit(rig: &mut Rig, members: &[Bytes]) {
    for (index, member) in members.iter().enumerate() {
        rig.machine.poke(None, LIST + 64 * index as u64, &member.0);
    }
    rig.post(0, 1, &batch(members.len()));
}

fn batch(count: usize) -> Bytes {
    Bytes::new(1, CRAV | RCR | RCI)
        .record(RECORD)
        .source(LIST)
        .size(u32::try_from(count).unwrap())
        .handle(2)
}

/// The batch's status and count, then each member's status.
fn statuses(rig: &Rig, count: usize) -> (u8, u8, Vec<u8>) {
    let members = (0..count)
        .map(|index| rig.machine.peek_byte(None, member_record(index)))
        .collect();
    let record = rig.machine.peek(None, RECORD, 8);
    (record[0], record[4], members)
}

#[test]
fn members_complete_before_their_batch() {
    let mut rig = ready("");
    let members: Vec<Bytes> = (0..6)
        .map(|index| member(index, 0, RCI).handle(u16::try_from(index).unwrap() + 3))
        .collect();
    submit(&mut rig, &members);
    rig.run();
    assert_eq!(statuses(&rig, 6), (1, 6, vec![1; 6]));
    let vectors: Vec<u32> = rig
        .machine
        .messages
        .iter()
        .map(|message| message.1)
        .collect();
    assert_eq!(vectors, [0x103, 0x104, 0x105, 0x106, 0x107, 0x108, 0x102]);
}

#[test]
fn a_failed_member_fails_the_batch_and_not_its_siblings() {
    let mut rig = ready("");
    submit(
        &mut rig,
        &[member(0, 0, 0), member(1, 0x7f, 0), member(2, 0, 0)],
    );
    rig.run();
    assert_eq!(statuses(&rig, 3), (5, 3, vec![1, 0x10, 1]));
}

/// [341204 §3.9] A false predicate is a failure for the fence behind it too.
#[test]
fn a_fence_gives_up_what_follows_a_failure() {
    let differs = |rig: &mut Rig| {
        rig.machine.poke(None, DATA, &[1]);
        member(0, 5, 1 << 7)
            .source(DATA)
            .destination(DATA + 64)
            .size(8)
    };
    let mut rig = ready("");
    let compare = differs(&mut rig);
    submit(&mut rig, &[compare, member(1, 0, FENCE), member(2, 0, 0)]);
    rig.run();
    assert_eq!(statuses(&rig, 3), (5, 1, vec![2, 0, 0]));
}

/// With four engines a long move and its successors overlap, and only a fence
/// makes the successor see what the move wrote.
#[test]
fn a_fence_sees_what_members_before_it_wrote() {
    let mut rig = Rig::new("");
    for address in [LIST, DATA, RECORD] {
        rig.machine.map(None, address, 0x10_0000, true);
    }
    rig.write64(0x420, 0xf);
    rig.configure(0, QueueSetup::default());
    rig.enable(&[0]);
    rig.machine.poke(None, DATA, &vec![0xab; 0x1_0000]);
    let long = memory_move(DATA, DATA + 0x4_0000, 0x1_0000, member_record(0));
    let short = |index: usize, flags: u32| {
        member(index, 3, flags)
            .source(DATA + 0x4_0000)
            .destination(DATA + 0x8_0000 + 0x1000 * index as u64)
            .size(16)
    };
    submit(&mut rig, &[long, short(1, 0), short(2, FENCE), short(3, 0)]);
    rig.run();
    assert_eq!(statuses(&rig, 4), (1, 4, vec![1; 4]));
    let copied = |index: u64| rig.machine.peek(None, DATA + 0x8_0000 + 0x1000 * index, 16);
    assert_eq!(copied(1), [0; 16], "overtook the move");
    assert_eq!(copied(2), [0xab; 16]);
    assert_eq!(copied(3), [0xab; 16], "stays behind the fence");
}

/// [341204 Table 5-3, 5-6] Not in a batch: batch, drain; and the limits of the
/// list itself.
#[test]
fn what_a_batch_may_not_be() {
    let mut rig = ready("");
    let drain = Bytes::new(2, CRAV | RCR).record(member_record(1));
    submit(
        &mut rig,
        &[member(0, 1, 0).source(LIST).size(2), drain, member(2, 0, 0)],
    );
    rig.run();
    assert_eq!(statuses(&rig, 3), (5, 3, vec![0x10, 0x10, 1]));

    for (descriptor, status) in [
        (batch(0), 0x14),
        (batch(1), 0x14),
        (batch(1025), 0x14),
        (batch(2).source(LIST + 32), 0x18),
        (batch(2).with(4, &[0x1d]), 0x11),
        (batch(2).with(40, &[1]), 0x12),
    ] {
        rig.machine.poke(None, RECORD, &[0; 32]);
        rig.post(0, 1, &descriptor);
        rig.run();
        assert_eq!(rig.machine.peek(None, RECORD, 1), [status]);
    }
}

#[test]
fn a_list_that_ends_in_a_missing_page_stops_there() {
    for (ats, status, address) in [(true, 0x06, LIST + 0x1_0000), (false, 0x20, 0)] {
        let mut rig = ready("");
        rig.control("clear-violations");
        // The last two descriptors of the mapped pages, and two behind them.
        let list = LIST + 0x1_0000 - 128;
        for index in 0..2 {
            let member = member(usize::try_from(index).unwrap(), 0, 0);
            rig.machine.poke(None, list + 64 * index, &member.0);
        }
        let mut rig = if ats { with_ats(rig) } else { rig };
        rig.post(0, 1, &batch(4).source(list));
        rig.run();
        assert_eq!(statuses(&rig, 2), (status, 2, vec![1, 1]));
        let fault = rig.machine.peek(None, RECORD + 8, 8);
        assert_eq!(fault, u64::to_le_bytes(address));
    }
}

/// ATS may only be switched while the device is Disabled.
fn with_ats(mut rig: Rig) -> Rig {
    rig.command(2 << 20);
    rig.enable_ats();
    rig.enable(&[0]);
    rig
}

#[test]
fn batches_of_one_queue_do_not_starve_its_other_descriptors() {
    let mut rig = ready("");
    let members: Vec<Bytes> = (0..64).map(|index| member(index, 0, 0)).collect();
    submit(&mut rig, &members);
    let single = Bytes::new(0, CRAV | RCR).record(RECORD + 0x8000);
    rig.post(0, 1, &single);
    rig.run_for(2_000);
    assert_eq!(rig.machine.peek(None, RECORD + 0x8000, 1), [1]);
    assert_eq!(rig.machine.peek(None, RECORD, 1), [0], "the batch goes on");
    rig.run();
    assert_eq!(statuses(&rig, 64), (1, 64, vec![1; 64]));
}

/// [341204 §3.12] A drain waits for what came before it in its queue.
#[test]
fn a_drain_completes_after_everything_before_it() {
    let mut rig = Rig::new("");
    rig.machine.map(None, DATA, 0x10_0000, true);
    rig.machine.map(None, RECORD, 0x1000, true);
    rig.write64(0x420, 0xf);
    rig.configure(0, QueueSetup::default());
    rig.enable(&[0]);
    for index in 0..3 {
        let target = DATA + 0x4_0000 + index * 0x1_0000;
        rig.post(
            0,
            1,
            &memory_move(DATA, target, 0x1_0000, RECORD + 64 + 32 * index),
        );
    }
    rig.post(0, 1, &Bytes::new(2, CRAV | RCR).record(RECORD));
    while rig.machine.peek(None, RECORD, 1) == [0] {
        rig.run_for(100);
    }
    for index in 0..3 {
        assert_eq!(rig.machine.peek(None, RECORD + 64 + 32 * index, 1), [1]);
    }
}

#[test]
fn short_descriptors_overtake_a_long_one_on_another_engine() {
    let mut rig = Rig::new("");
    rig.machine.map(None, DATA, 0x10_0000, true);
    rig.machine.map(None, RECORD, 0x1000, true);
    rig.write64(0x420, 0x3);
    rig.configure(0, QueueSetup::default());
    rig.enable(&[0]);
    rig.post(0, 1, &memory_move(DATA, DATA + 0x8_0000, 0x8_0000, RECORD));
    rig.post(0, 1, &Bytes::new(0, CRAV | RCR).record(RECORD + 32));
    while rig.machine.peek(None, RECORD + 32, 1) == [0] {
        rig.run_for(100);
    }
    assert_eq!(rig.machine.peek(None, RECORD, 1), [0], "still moving");
}
