//! Drain descriptors, and the order in which descriptors complete.
//! [341204 §3.12 "Drain Descriptor", §8.3.3 "Drain", §3.9]

mod support;

use support::descriptor::DRAIN;
use support::registers as r;
use support::{
    Bytes, CRAV, LIMITED_MSIX, QueueSetup, RCI, RCR, Rig, batch, memory_move, message, no_op,
};

const LIST: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;
const LONG: u32 = 0x8000;

/// Queue 0 as `setup` says, four engines, and memory in the given space.
fn ready(setup: QueueSetup, pasids: &[Option<u32>]) -> Rig {
    ready_with("", false, setup, pasids)
}

fn ready_with(options: &str, ats: bool, setup: QueueSetup, pasids: &[Option<u32>]) -> Rig {
    let mut rig = Rig::new(options);
    if ats {
        rig.enable_ats();
    }
    rig.allow_user_interrupts();
    rig.configure(0, setup);
    rig.configure(1, setup);
    rig.write64(r::GRPCFG + r::ENGINES, 0b1111);
    rig.enable(&[0, 1]);
    for pasid in pasids {
        rig.machine.map(*pasid, LIST, 0x1000, true);
        rig.machine.map(*pasid, DATA, 0x1_0000, true);
        rig.machine.map(*pasid, RECORD, 0x1000, true);
    }
    rig
}

fn drain(record: u64) -> Bytes {
    Bytes::new(DRAIN, CRAV | RCR).record(record)
}

fn long_move(record: u64) -> Bytes {
    memory_move(DATA, DATA + 0x8000, LONG, record)
}

/// On a dedicated queue, a drain waits for everything before it there.
#[test]
fn a_drain_completes_after_everything_before_it() {
    let mut rig = ready(QueueSetup::default(), &[None]);
    for index in 0..3 {
        rig.post(0, LIMITED_MSIX, &long_move(RECORD + 32 * index));
    }
    rig.post(0, LIMITED_MSIX, &drain(RECORD + 0x100).interrupt(1));
    rig.post(0, LIMITED_MSIX, &no_op(RECORD + 0x120));
    rig.run_until(10, |rig| rig.status(RECORD + 0x100) == 1);
    assert_eq!(rig.statuses(RECORD, 3), [1; 3]);
    assert_eq!(rig.machine.messages, [message(1)]);
}

/// It waits for no other queue, and nobody waits for it.
#[test]
fn a_drain_is_a_matter_of_its_queue() {
    let mut rig = ready(QueueSetup::default(), &[None]);
    rig.post(0, LIMITED_MSIX, &long_move(RECORD));
    rig.post(1, LIMITED_MSIX, &no_op(RECORD + 32));
    rig.post(1, LIMITED_MSIX, &drain(RECORD + 64));
    rig.post(0, LIMITED_MSIX, &drain(RECORD + 96));
    rig.post(0, LIMITED_MSIX, &no_op(RECORD + 128));
    rig.run_until(10, |rig| rig.status(RECORD + 64) == 1);
    assert_eq!(rig.status(RECORD + 32), 1);
    rig.run_until(10, |rig| rig.status(RECORD + 128) == 1);
    assert_eq!([rig.status(RECORD), rig.status(RECORD + 96)], [0, 0]);
    rig.run();
    assert_eq!(rig.statuses(RECORD, 5), [1; 5]);
}

/// On a shared queue it waits for descriptors of its own PASID only.
#[test]
fn a_drain_on_a_shared_queue_is_a_matter_of_its_pasid() {
    for (others, waits) in [(1, true), (2, false)] {
        let mut rig = ready(QueueSetup::shared(), &[Some(1), Some(2)]);
        assert!(rig.enqueue(0, LIMITED_MSIX, &long_move(RECORD).trusted(others)));
        assert!(rig.enqueue(0, LIMITED_MSIX, &drain(RECORD + 32).trusted(1)));
        rig.run_until(10, |rig| rig.machine.peek_byte(Some(1), RECORD + 32) == 1);
        let before = rig.machine.peek_byte(Some(others), RECORD) == 1;
        assert_eq!(before, waits, "PASID {others}");
    }
}

#[test]
fn a_drain_waits_for_the_members_of_a_batch_before_it() {
    let mut rig = ready(QueueSetup::default(), &[None]);
    for index in 0..4 {
        let member = long_move(RECORD + 32 * (index + 1));
        rig.machine.poke(None, LIST + 64 * index, &member.0);
    }
    rig.post(0, LIMITED_MSIX, &batch(LIST, 4, RECORD));
    rig.post(0, LIMITED_MSIX, &drain(RECORD + 0x100));
    rig.run_until(10, |rig| rig.status(RECORD + 0x100) == 1);
    assert_eq!(rig.statuses(RECORD, 5), [1; 5]);
}

/// Drains complete in their order, each after what is before it.
#[test]
fn drains_keep_their_order() {
    let mut rig = ready(QueueSetup::default(), &[None]);
    rig.post(0, LIMITED_MSIX, &drain(RECORD).interrupt(1));
    rig.post(0, LIMITED_MSIX, &long_move(RECORD + 32));
    rig.post(0, LIMITED_MSIX, &drain(RECORD + 64).interrupt(2));
    rig.post(0, LIMITED_MSIX, &drain(RECORD + 96).interrupt(3));
    rig.run_until(10, |rig| rig.status(RECORD) == 1);
    assert_eq!(rig.statuses(RECORD, 4), [1, 0, 0, 0]);
    rig.run();
    assert_eq!(rig.machine.messages, [1, 2, 3].map(message));
}

/// Table 5-3, 5-4, 5-5: what a drain may say where GENCAP.9 offers no readback
/// addresses. Bits 18 and 19 suppress implicit readbacks.
#[test]
fn a_drain_itself_can_be_wrong() {
    for (descriptor, status) in [
        (drain(RECORD), 0x01),
        (drain(RECORD).also(1 << 18 | 1 << 19), 0x01),
        (drain(RECORD).flags(CRAV), 0x11),
        (drain(RECORD).flags(CRAV | RCI).interrupt(1), 0x00),
        (drain(RECORD).also(1 << 16), 0x11),
        (drain(RECORD).also(1 << 17), 0x11),
        (drain(RECORD).also(1 << 9), 0x11),
        (drain(RECORD).also(1 << 10), 0x11),
        (drain(RECORD).size(1), 0x12),
    ] {
        let mut rig = ready(QueueSetup::default(), &[None]);
        rig.post(0, LIMITED_MSIX, &descriptor);
        rig.run();
        assert_eq!(rig.status(RECORD), status, "{:x?}", &descriptor.0[..48]);
    }
}

/// §8.3.3, Table 5-6 codes 0x1f, 0x21, Table 8-13: a drain reads a byte of each
/// address that it names, in the name of its queue. A page that is not there is
/// a page fault of that operand with ATS, and a hardware error without; what
/// does not answer is a hardware error.
#[test]
fn a_drain_reads_back_the_addresses_that_it_names() {
    const NOWHERE: u64 = 0x40_0000;
    const ABORTED: u64 = 0x8000_0000;
    const FIRST: u32 = 1 << 16;
    const SECOND: u32 = 1 << 17;
    let both = |first, second| {
        let drain = drain(RECORD).also(FIRST | SECOND);
        drain.source(first).destination(second)
    };
    for (descriptor, with_ats, without_ats, operand, reads) in [
        (both(DATA, DATA + 0x1fff), 0x01, 0x01, 0, 2),
        (
            drain(RECORD).also(SECOND).destination(DATA),
            0x01,
            0x01,
            0,
            1,
        ),
        (both(NOWHERE, DATA), 0x1f, 0x21, 1, 1),
        (both(DATA, NOWHERE), 0x1f, 0x21, 2, 2),
        (both(ABORTED, DATA), 0x21, 0x21, 0, 1),
        (both(DATA, ABORTED), 0x21, 0x21, 0, 2),
    ] {
        for (ats, status) in [(true, with_ats), (false, without_ats)] {
            let setup = QueueSetup::with_pasid(7);
            let options = "device-id=0x11fb;event-log=off;drain-readback=on";
            let mut rig = ready_with(options, ats, setup, &[Some(7)]);
            rig.machine.aborts_from = Some(ABORTED);
            rig.post(0, LIMITED_MSIX, &descriptor);
            rig.run();
            let record = rig.machine.peek(Some(7), RECORD, 16);
            let context = format!("{record:x?}, ATS {ats}");
            assert_eq!(record[0], status, "{context}");
            let made: Vec<_> = rig.machine.accesses.iter().filter(|a| !a.write).collect();
            assert_eq!(made.len(), reads, "{context}");
            assert!(made.iter().all(|a| a.length == 1 && a.pasid == Some(7)));
            if status == 0x1f {
                assert_eq!(record[2] >> 1, operand, "{context}");
                assert_eq!(record[8..16], NOWHERE.to_le_bytes(), "{context}");
            }
        }
    }
}

/// Table 5-7: without a record the address is in SWERROR.
#[test]
fn a_failed_readback_without_a_record_is_in_the_register() {
    let options = "drain-readback=on";
    let mut rig = ready_with(options, true, QueueSetup::default(), &[None]);
    let drain = Bytes::new(DRAIN, RCI | 1 << 16).source(0x40_0000);
    rig.post(0, LIMITED_MSIX, &drain.interrupt(1));
    rig.run();
    let [first, _, address, _] = rig.software_error();
    // Valid; descriptor and WQ index valid; a read; 0x1f; Drain.
    assert_eq!((first, address), (0x2_0000_1f0d, 0x40_0000));
    assert_eq!(rig.machine.messages, [message(1)]);
}

/// §3.9: with one engine a queue's descriptors execute in their order; with
/// several a short one overtakes a long one.
#[test]
fn engines_decide_whether_descriptors_keep_their_order() {
    for (engines, overtakes) in [(0b1, false), (0b11, true)] {
        let mut rig = ready(QueueSetup::default(), &[None]);
        rig.command(r::DISABLE_DEVICE);
        rig.write64(r::GRPCFG + r::ENGINES, engines);
        rig.enable(&[0]);
        rig.post(0, LIMITED_MSIX, &long_move(RECORD));
        rig.post(0, LIMITED_MSIX, &no_op(RECORD + 32));
        rig.run_until(10, |rig| rig.status(RECORD + 32) == 1);
        assert_eq!(rig.status(RECORD) == 0, overtakes, "{engines:#b}");
    }
}
