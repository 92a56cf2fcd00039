//! Descriptors from the portal to the completion record and the interrupt.

mod support;

use support::{Bytes, CRAV, QueueSetup, RCI, RCR, Rig, memory_move};

const SOURCE: u64 = 0x10_0000;
const DESTINATION: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;

fn ready(options: &str, setup: QueueSetup) -> Rig {
    let mut test = Rig::with_queue(options, setup);
    for address in [SOURCE, DESTINATION] {
        test.machine.map(setup.pasid, address, 0x2_0000, true);
    }
    test.machine.map(setup.pasid, RECORD, 0x1000, true);
    test
}

#[test]
fn a_move_copies_then_writes_its_record_then_interrupts() {
    let mut test = ready("", QueueSetup::default());
    test.machine
        .poke(None, SOURCE, b"a weir regulates a stream");
    let descriptor = memory_move(SOURCE, DESTINATION, 25, RECORD)
        .with(4, &[0x1c])
        .handle(1);
    test.post(0, 1, &descriptor);
    assert_eq!(
        test.machine.peek(None, RECORD, 1),
        [0],
        "nothing happens at once"
    );
    test.run();
    assert_eq!(
        test.machine.peek(None, DESTINATION, 25),
        b"a weir regulates a stream"
    );
    let mut record = vec![0; 32];
    record[0] = 1;
    assert_eq!(test.machine.peek(None, RECORD, 32), record);
    assert_eq!(test.machine.messages, [(0xfee0_0000, 0x101)]);
    assert_eq!(test.dsa.violations(), [] as [String; 0]);
}

#[test]
fn a_queue_with_a_pasid_reaches_that_address_space_only() {
    let setup = QueueSetup {
        pasid: Some(0x12345),
        ..QueueSetup::default()
    };
    let mut test = ready("", setup);
    test.machine.poke(Some(0x12345), SOURCE, &[7; 100]);
    // The PASID in the descriptor has no effect on a dedicated queue.
    test.post(
        0,
        1,
        &memory_move(SOURCE, DESTINATION, 100, RECORD).pasid(0x777),
    );
    test.run();
    assert_eq!(test.machine.peek(Some(0x12345), DESTINATION, 100), [7; 100]);
    assert!(
        test.machine
            .accesses
            .iter()
            .all(|access| access.0 == Some(0x12345))
    );
}

#[test]
fn a_fence_waits_and_a_failed_member_stops_it() {
    let mut test = ready("", QueueSetup::default());
    let list = SOURCE + 0x1_0000;
    let member = |index: u64, operation: u8, flags: u32| {
        Bytes::new(operation, CRAV | RCR | flags).record(RECORD + 32 * (index + 1))
    };
    let members = [
        member(0, 0, 0),
        member(1, 0x7f, 0),
        member(2, 0, 0),
        member(3, 0, 1),
        member(4, 0, 0),
    ];
    for (index, member) in members.iter().enumerate() {
        test.machine.poke(None, list + 64 * index as u64, &member.0);
    }
    let batch = Bytes::new(1, CRAV | RCR | RCI)
        .record(RECORD)
        .source(list)
        .size(5)
        .handle(2);
    test.post(0, 1, &batch);
    test.run();
    let statuses: Vec<u8> = (0..6)
        .map(|index| test.machine.peek(None, RECORD + 32 * index, 1)[0])
        .collect();
    assert_eq!(statuses, [5, 1, 0x10, 1, 0, 0]);
    assert_eq!(
        test.machine.peek(None, RECORD + 4, 4),
        [3, 0, 0, 0],
        "descriptors completed"
    );
    assert_eq!(test.machine.messages, [(0xfee0_0000, 0x102)]);
}
