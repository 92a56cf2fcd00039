//! Batches: members, fences, lists that are not there, and who they run for.
//! [341204 §3.8 "Batch Descriptor Processing", §3.9 "Ordering and Fencing",
//! §8.3.2 "Batch"]
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

mod support;

use support::descriptor::{COMPARE, DRAIN, UNDEFINED};
use support::registers as r;
use support::{
    Bytes, FENCE, LIMITED_IMS, LIMITED_MSIX, QueueSetup, Rig, batch, memory_move, message, no_op,
};

const LIST: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;

/// Queue 0 with as many engines as `engines` has bits, and memory.
fn ready_with(options: &str, engines: u64) -> Rig {
    let mut rig = Rig::new(options);
    rig.allow_user_interrupts();
    rig.configure(0, QueueSetup::default());
    rig.write64(r::GRPCFG + r::ENGINES, engines);
    rig.enable(&[0]);
    map(&mut rig, None);
    rig
}

fn ready(options: &str) -> Rig {
    ready_with(options, 0b1)
}

fn map(rig: &mut Rig, pasid: Option<u32>) {
    rig.machine.map(pasid, LIST, 0x4000, true);
    rig.machine.map(pasid, DATA, 0x1_0000, true);
    rig.machine.map(pasid, RECORD, 0x1_0000, true);
}

/// Where member `index` has its record.
fn member_record(index: u64) -> u64 {
    RECORD + 32 * (index + 1)
}

fn good(index: u64) -> Bytes {
    no_op(member_record(index))
}

fn bad(index: u64) -> Bytes {
    good(index).with(7, &[UNDEFINED])
}

/// A member whose two operands differ although it expects them equal.
fn mismatch(index: u64) -> Bytes {
    memory_move(DATA, DATA + 64, 8, member_record(index))
        .with(7, &[COMPARE])
        .also(1 << 7)
}

fn write_list(rig: &mut Rig, pasid: Option<u32>, members: &[Bytes]) {
    for (address, member) in (LIST..).step_by(64).zip(members) {
        rig.machine.poke(pasid, address, &member.0);
    }
}

/// Writes the list and submits its batch.
fn submit(rig: &mut Rig, members: &[Bytes]) {
    write_list(rig, None, members);
    let count = u32::try_from(members.len()).unwrap_or(0);
    rig.post(0, LIMITED_MSIX, &batch(LIST, count, RECORD).interrupt(2));
}

/// The batch's status, its Descriptors Completed, and its members' statuses.
fn outcome(rig: &Rig, members: u64) -> (u8, u8, Vec<u8>) {
    let record = rig.machine.peek(None, RECORD, 8);
    assert_eq!(record[5..], [0; 3], "few descriptors");
    (
        record[0],
        record[4],
        rig.statuses(member_record(0), members),
    )
}

/// §3.8: the batch's record and interrupt come when all members have theirs.
#[test]
fn members_complete_before_their_batch() {
    for engines in [0b1, 0b1111] {
        let mut rig = ready_with("", engines);
        let members: Vec<Bytes> = (0..6)
            .map(|index| good(index).interrupt(index as u16 + 3))
            .collect();
        submit(&mut rig, &members);
        rig.run();
        assert_eq!(outcome(&rig, 6), (1, 6, vec![1; 6]));
        let last_write = rig
            .machine
            .accesses
            .iter()
            .rev()
            .find(|access| access.write);
        assert_eq!(last_write.map(|access| access.address), Some(RECORD));
        let mut messages = rig.machine.messages.clone();
        assert_eq!(messages.pop(), Some(message(2)));
        messages.sort_unstable();
        let all = [3, 4, 5, 6, 7, 8].map(message);
        assert_eq!(messages, all);
    }
}

/// Table 5-6, 0x05: any status but Success makes a batch fail, and no status
/// stops those that follow.
#[test]
fn a_failed_member_fails_the_batch_and_not_its_siblings() {
    for (failing, status) in [
        (bad as fn(u64) -> Bytes, 0x10),
        (mismatch, 0x02),
        // Batches and drains are unsupported operations in a batch (§5.4).
        (|index| batch(LIST, 2, member_record(index)), 0x10),
        (|index| good(index).with(7, &[DRAIN]), 0x10),
        (|index| good(index).interrupt(99), 0x19),
    ] {
        let mut rig = ready("");
        rig.machine.poke(None, DATA, &[1]);
        submit(&mut rig, &[good(0), failing(1), good(2)]);
        rig.run();
        assert_eq!(outcome(&rig, 3), (5, 3, vec![1, status, 1]));
    }
}

/// §3.9: a fence gives up itself and all behind it once something before it
/// has ended with another status than Success.
#[test]
fn a_fence_gives_up_what_follows_a_failure() {
    let fenced = |index| good(index).also(FENCE).interrupt(1);
    type Member = fn(u64) -> Bytes;
    let missing: Member = |index| memory_move(0x70_0000, DATA, 8, member_record(index));
    for (failing, status) in [
        (bad as Member, 0x10),
        (mismatch, 0x02),
        (missing, 0x20),
        (good, 0x01),
    ] {
        for engines in [0b1, 0b1111] {
            let mut rig = ready_with("", engines);
            rig.machine.poke(None, DATA, &[1]);
            let members = [good(0), failing(1), good(2), fenced(3), good(4)];
            submit(&mut rig, &members);
            rig.run();
            let expected = if status == 1 {
                (1, 5, vec![1; 5])
            } else {
                (5, 3, vec![1, status, 1, 0, 0])
            };
            assert_eq!(outcome(&rig, 5), expected, "engines {engines:#b}");
            let messages = if status == 1 {
                vec![message(1), message(2)]
            } else {
                vec![message(2)]
            };
            assert_eq!(rig.machine.messages, messages);
        }
    }
}

#[test]
fn a_fence_without_a_predecessor_waits_for_nobody() {
    let mut rig = ready("");
    submit(&mut rig, &[good(0).also(FENCE), bad(1), good(2)]);
    rig.run();
    assert_eq!(outcome(&rig, 3), (5, 3, vec![1, 0x10, 1]));
}

/// §3.9: with several engines a long move and its successors overlap, and only
/// a fence makes a successor see what the move wrote.
#[test]
fn a_fence_sees_what_members_before_it_wrote() {
    const LONG: u32 = 0x8000;
    let target = DATA + 0x8000;
    let mut rig = ready_with("", 0b1111);
    rig.machine.poke(None, DATA, &vec![0xab; LONG as usize]);
    let long = memory_move(DATA, target, LONG, member_record(0));
    let copy = |index: u64| {
        memory_move(
            target,
            LIST + 0x2000 + 0x100 * index,
            16,
            member_record(index),
        )
    };
    submit(&mut rig, &[long, copy(1), copy(2).also(FENCE), copy(3)]);
    rig.run();
    assert_eq!(outcome(&rig, 4), (1, 4, vec![1; 4]));
    let copied = |index: u64| rig.machine.peek(None, LIST + 0x2000 + 0x100 * index, 16);
    assert_eq!(copied(1), [0; 16], "overtook the move");
    assert_eq!(copied(2), [0xab; 16]);
    assert_eq!(copied(3), [0xab; 16], "stays behind the fence");
}

/// §3.9: a fence is a matter of its own batch.
#[test]
fn a_fence_does_not_hold_another_batch() {
    let mut rig = ready_with("", 0b11);
    let second = LIST + 0x1000;
    let slow = memory_move(DATA, DATA + 0x8000, 0x8000, member_record(0));
    write_list(&mut rig, None, &[slow, good(1).also(FENCE)]);
    for (place, record) in [(second, RECORD + 0x840), (second + 64, RECORD + 0x860)] {
        rig.machine.poke(None, place, &no_op(record).0);
    }
    rig.post(0, LIMITED_MSIX, &batch(LIST, 2, RECORD));
    rig.post(0, LIMITED_MSIX, &batch(second, 2, RECORD + 0x800));
    rig.run_until(10, |rig| rig.status(RECORD + 0x800) == 1);
    assert_eq!(rig.status(RECORD), 0);
    rig.run();
    assert_eq!(outcome(&rig, 2), (1, 2, vec![1, 1]));
}

/// §5.4, §8.3.2: what a batch descriptor may say.
#[test]
fn a_batch_itself_can_be_wrong() {
    let sixteen = 31 | 4 << 5;
    let ten = 31 | 10 << 5;
    for (options, limits, descriptor, status) in [
        ("", ten, batch(LIST, 0, RECORD), 0x14),
        ("", ten, batch(LIST, 1, RECORD), 0x14),
        ("", ten, batch(LIST, 1025, RECORD), 0x14),
        ("", ten, batch(LIST, u32::MAX, RECORD), 0x14),
        ("", sixteen, batch(LIST, 17, RECORD), 0x14),
        ("", sixteen, batch(LIST, 16, RECORD), 0x01),
        // Batches of one, where GENCAP.52 offers them.
        ("device-id=0x11fb", ten, batch(LIST, 0, RECORD), 0x14),
        ("device-id=0x11fb", ten, batch(LIST, 1, RECORD), 0x01),
        ("device-id=0x11fb", 31, batch(LIST, 1, RECORD), 0x01),
        ("device-id=0x11fb", 31, batch(LIST, 2, RECORD), 0x14),
        ("", ten, batch(LIST + 32, 2, RECORD), 0x18),
        ("", ten, batch(LIST, 2, RECORD).also(FENCE), 0x11),
        // Batch Error needs Batch Continuation Support.
        ("", ten, batch(LIST, 2, RECORD).also(1 << 16), 0x11),
        ("", ten, batch(LIST, 2, RECORD).destination(1), 0x12),
        ("", ten, batch(LIST, 2, RECORD).with(40, &[1]), 0x12),
    ] {
        let mut rig = Rig::new(options);
        rig.configure(0, QueueSetup::default());
        rig.write32(rig.wqcfg(0) + 12, limits);
        rig.enable(&[0]);
        map(&mut rig, None);
        let members: Vec<Bytes> = (0..16).map(|_| Bytes::new(0, 0)).collect();
        write_list(&mut rig, None, &members);
        rig.post(0, LIMITED_MSIX, &descriptor);
        rig.run();
        assert_eq!(rig.status(RECORD), status, "{:x?}", &descriptor.0[..48]);
        if status != 1 {
            let list_was_read = rig.machine.accesses.iter().any(|access| !access.write);
            assert!(!list_was_read, "{:x?}", &descriptor.0[..48]);
        }
    }
}

#[test]
fn the_largest_batch_completes() {
    let count = if cfg!(miri) { 64 } else { 1024 };
    let mut rig = ready_with("", 0b1111);
    rig.machine.map(None, LIST, 0x1_0000, true);
    let members: Vec<Bytes> = (0..count).map(good).collect();
    write_list(&mut rig, None, &members);
    rig.post(0, LIMITED_MSIX, &batch(LIST, count as u32, RECORD));
    rig.run();
    assert_eq!(rig.status(RECORD), 1);
    let completed = rig.machine.peek(None, RECORD + 4, 4);
    assert_eq!(completed, (count as u32).to_le_bytes());
    assert!(
        rig.statuses(member_record(0), count)
            .iter()
            .all(|status| *status == 1)
    );
    assert_eq!(rig.dsa.queue_counters()[0].members_completed, count);
    assert_eq!(rig.dsa.violations(), [] as [String; 0]);
}

/// Table 5-6, 0x06 and 0x20: the list ends in a page that is not there.
#[test]
fn a_list_that_ends_in_a_missing_page_stops_there() {
    let missing = LIST + 0x4000;
    for (ats, status, address) in [(true, 0x06, missing), (false, 0x20, 0)] {
        let mut rig = ready("");
        rig.command(r::DISABLE_DEVICE);
        if ats {
            rig.enable_ats();
        }
        rig.enable(&[0]);
        let list = missing - 128;
        for index in 0..2 {
            rig.machine.poke(None, list + 64 * index, &good(index).0);
        }
        rig.post(0, LIMITED_MSIX, &batch(list, 4, RECORD));
        rig.run();
        assert_eq!(outcome(&rig, 2), (status, 2, vec![1, 1]));
        let fault = rig.machine.peek64(None, RECORD + 8) & !0xfff;
        assert_eq!(fault, address);
        // Without a record: valid, descriptor and WQ known; a batch.
        rig.post(0, LIMITED_MSIX, &batch(list, 4, RECORD).without_record());
        rig.run();
        let [first, ..] = rig.software_error();
        assert_eq!(first, 0x1_0000_000d | u64::from(status) << 8);
    }
}

/// §8.1.1, §3.8, §3.7: members run for whoever submitted the batch, whatever
/// they say themselves, and interrupt through the table of its portal.
#[test]
fn members_run_in_the_name_of_their_batch() {
    let mut rig = Rig::with_queue("", QueueSetup::shared());
    map(&mut rig, Some(5));
    rig.program_ims(1, (0xfee0_1000, 1), Some(5));
    rig.program_ims(2, (0xfee0_1000, 2), Some(6));
    rig.write32(r::msixperm(1), r::permission(Some(5)));
    let lie = 0x8000_0006;
    let members = [
        memory_move(DATA, DATA + 64, 8, member_record(0))
            .trusted(lie)
            .interrupt(1),
        good(1).trusted(lie).interrupt(2),
    ];
    write_list(&mut rig, Some(5), &members);
    assert!(rig.enqueue(0, LIMITED_IMS, &batch(LIST, 2, RECORD).trusted(5)));
    rig.run();
    assert!(rig.machine.accesses.len() >= 6);
    for access in &rig.machine.accesses {
        assert_eq!((access.pasid, access.privileged), (Some(5), false));
    }
    let status = |record| rig.machine.peek_byte(Some(5), record);
    assert_eq!(status(RECORD), 5);
    assert_eq!(status(member_record(0)), 1);
    assert_eq!(status(member_record(1)), 0x19, "PASID 6 does not count");
    assert_eq!(rig.machine.messages, [(0xfee0_1000, 1)]);
    // Valid, descriptor, WQ and batch; its second member; the handle.
    let [first, second, ..] = rig.software_error();
    assert_eq!(first, 0x1_d | 0x1900 | 5 << 40);
    assert_eq!(second, 2 << 32 | 1);
}

/// §3.6: members without a record report to SWERROR, the batch itself never
/// does for their sake.
#[test]
fn errors_of_members_without_records_name_their_position() {
    let mut rig = ready("");
    let silent = |descriptor: Bytes| descriptor.without_record();
    let members = [silent(good(0)), silent(good(1)), silent(bad(2))];
    write_list(&mut rig, None, &members);
    rig.post(0, LIMITED_MSIX, &batch(LIST, 3, RECORD).without_record());
    rig.run();
    let operation = u64::from(UNDEFINED) << 32;
    assert_eq!(rig.software_error(), [0x101d | operation, 2, 0, 0]);
    assert_eq!(rig.status(RECORD), 0);
}

/// §5.4: a member whose record cannot be written is discarded, which is not
/// Success.
#[test]
fn a_member_that_is_discarded_fails_its_batch() {
    for lost in [no_op(0x70_0000), no_op(member_record(1) + 8)] {
        let mut rig = ready("");
        rig.command(r::DISABLE_DEVICE);
        rig.enable_ats();
        rig.enable(&[0]);
        submit(&mut rig, &[good(0), lost, good(2)]);
        rig.run();
        assert_eq!(outcome(&rig, 3), (5, 3, vec![1, 0, 1]));
        assert_ne!(rig.software_error()[0], 0);
    }
}

/// §3.6: a batch that did not ask for a record has none if members failed.
#[test]
fn a_failed_batch_writes_a_record_only_if_asked() {
    let mut rig = ready("");
    write_list(&mut rig, None, &[good(0), bad(1)]);
    let unasked = batch(LIST, 2, RECORD).flags(1 << 2);
    rig.post(0, LIMITED_MSIX, &unasked);
    rig.run();
    assert_eq!(outcome(&rig, 2), (0, 0, vec![1, 0x10]));
    assert_eq!(rig.software_error(), [0; 4]);
}

#[test]
fn batches_of_one_queue_do_not_starve_its_other_descriptors() {
    let mut rig = ready("");
    let members: Vec<Bytes> = (0..64).map(good).collect();
    submit(&mut rig, &members);
    let single = RECORD + 0x8000;
    rig.post(0, LIMITED_MSIX, &no_op(single));
    rig.run_until(10, |rig| rig.status(single) == 1);
    assert_eq!(rig.status(RECORD), 0, "the batch goes on");
    rig.run();
    assert_eq!(outcome(&rig, 64), (1, 64, vec![1; 64]));
}

/// More batches than engines keep in progress, each of them in the end whole.
#[test]
fn many_batches_are_in_progress_at_once() {
    let mut rig = ready_with("", 0b11);
    let members: Vec<Bytes> = (0..8).map(|_| Bytes::new(0, 0)).collect();
    write_list(&mut rig, None, &members);
    for index in 0..16 {
        rig.post(0, LIMITED_MSIX, &batch(LIST, 8, RECORD + 32 * index));
    }
    rig.run();
    assert_eq!(rig.statuses(RECORD, 16), [1; 16]);
    assert_eq!(rig.dsa.queue_counters()[0].members_completed, 128);
}

/// §3.9: "the order of descriptors within a batch is not guaranteed": one that
/// is short overtakes a long one on another engine.
#[test]
fn short_members_overtake_long_ones() {
    let mut rig = ready_with("", 0b11);
    let long = memory_move(DATA, DATA + 0x8000, 0x8000, member_record(0));
    submit(&mut rig, &[long, good(1)]);
    rig.run_until(10, |rig| rig.status(member_record(1)) == 1);
    assert_eq!(rig.status(member_record(0)), 0);
    rig.run();
    assert_eq!(outcome(&rig, 2), (1, 2, vec![1, 1]));
}
