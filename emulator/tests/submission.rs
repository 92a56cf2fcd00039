//! From the portal to the completion record: which queue takes what, in whose
//! name it runs, and what its client sees.

mod support;

use dsa_model::{Answer, Transaction};
use support::descriptor::UNDEFINED;
use support::registers as r;
use support::{
    Bytes, CRAV, LIMITED_IMS, LIMITED_MSIX, PORTALS, QueueSetup, Rig, UNLIMITED_IMS,
    UNLIMITED_MSIX, memory_move, message, no_op,
};

const SOURCE: u64 = 0x10_0000;
const DESTINATION: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;

/// One queue, enabled, and memory in its address space and in none.
fn ready(options: &str, setup: QueueSetup) -> Rig {
    let mut rig = Rig::with_queue(options, setup);
    for pasid in [None, setup.pasid] {
        rig.machine.map(pasid, SOURCE, 0x1000, true);
        rig.machine.map(pasid, DESTINATION, 0x1000, true);
        rig.machine.map(pasid, RECORD, 0x1000, true);
    }
    rig.machine.messages.clear();
    rig
}

fn dedicated() -> Rig {
    ready("", QueueSetup::default())
}

/// §3.9: data, then the record, then the interrupt; and none of it before the
/// store that submits it has returned.
#[test]
fn a_move_copies_then_writes_its_record_then_interrupts() {
    let mut rig = dedicated();
    rig.machine.poke(None, SOURCE, b"a weir regulates a stream");
    let descriptor = memory_move(SOURCE, DESTINATION, 25, RECORD).interrupt(1);
    rig.post(0, LIMITED_MSIX, &descriptor);
    assert_eq!(rig.machine.accesses, []);
    rig.run();
    let copied = rig.machine.peek(None, DESTINATION, 25);
    assert_eq!(copied, b"a weir regulates a stream");
    // Success, nothing else: Bytes Completed is 0 after a whole move (§8.2.4).
    let mut record = [0; 32];
    record[0] = 1;
    assert_eq!(rig.machine.peek(None, RECORD, 32), record);
    let writes: Vec<(u64, usize)> = rig
        .machine
        .accesses
        .iter()
        .filter(|access| access.write)
        .map(|access| (access.address, access.length))
        .collect();
    assert_eq!(writes, [(DESTINATION, 25), (RECORD, 32)]);
    assert_eq!(rig.machine.messages, [message(1)]);
    assert_eq!(rig.machine.messages_after, [rig.machine.accesses.len()]);
    assert_eq!(rig.dsa.violations(), [] as [String; 0]);
}

/// §3.6, §8.1.3: the flags decide what a client gets, beside the work.
#[test]
fn a_client_gets_what_its_flags_ask_for() {
    let good = |flags| Bytes::new(0, flags);
    let bad = |flags| Bytes::new(UNDEFINED, flags);
    for (descriptor, status, messages) in [
        (good(0), 0, 0),
        (good(CRAV).record(RECORD), 0, 0),
        (no_op(RECORD), 1, 0),
        (good(0).interrupt(1), 0, 1),
        (no_op(RECORD).interrupt(1), 1, 1),
        // An error is in the record, asked for or not, and interrupts too.
        (bad(CRAV).record(RECORD), 0x10, 0),
        (bad(CRAV).record(RECORD).interrupt(1), 0x10, 1),
        (bad(0).interrupt(1), 0, 1),
    ] {
        let mut rig = dedicated();
        rig.post(0, LIMITED_MSIX, &descriptor);
        rig.run();
        assert_eq!(rig.status(RECORD), status, "{:x?}", descriptor.0);
        assert_eq!(rig.machine.messages.len(), messages);
    }
}

/// §3.3.1, §3.3.2, §8.1.1: a dedicated queue lends its own PASID and
/// privilege, a shared one the descriptor's.
#[test]
fn requests_carry_the_pasid_and_privilege_of_their_submission() {
    let with_pasid = QueueSetup::with_pasid(0x12345);
    let privileged = QueueSetup {
        privileged: true,
        ..with_pasid
    };
    // WQ Priv is ignored where WQ PASID Enable is 0.
    let without_pasid = QueueSetup {
        privileged: true,
        ..QueueSetup::default()
    };
    let shared = QueueSetup::shared();
    let lies = 0x8000_0777;
    for (setup, trusted, pasid, is_privileged) in [
        (without_pasid, lies, None, false),
        (with_pasid, lies, Some(0x12345), false),
        (privileged, 0x777, Some(0x12345), true),
        (shared, 0x777, Some(0x777), false),
        (shared, 0x8000_0777, Some(0x777), true),
        (shared, 0xf_ffff, Some(0xf_ffff), false),
    ] {
        let mut rig = Rig::with_queue("", setup);
        for address in [SOURCE, DESTINATION, RECORD] {
            rig.machine.map(pasid, address, 0x1000, true);
        }
        let descriptor = memory_move(SOURCE, DESTINATION, 100, RECORD).trusted(trusted);
        if setup.dedicated {
            rig.post(0, LIMITED_MSIX, &descriptor);
        } else {
            assert!(rig.enqueue(0, LIMITED_MSIX, &descriptor));
        }
        rig.run();
        assert_eq!(rig.machine.peek_byte(pasid, RECORD), 1);
        assert_eq!(rig.machine.accesses.len(), 3, "read, write, record");
        for access in &rig.machine.accesses {
            assert_eq!(access.pasid, pasid, "{trusted:#x}");
            assert_eq!(access.privileged, is_privileged, "{trusted:#x}");
        }
    }
}

/// Where a submission can be sent in [`a_queue_takes_only_what_is_meant_for_it`].
#[derive(Clone, Copy, Debug)]
enum Target {
    Dedicated,
    Shared,
    WqDisabled,
    SharedWqDisabled,
    DeviceDisabled,
    Halted,
    NoSuchQueue,
    DummyPortal,
    Misaligned,
}

/// §5.3, Table 9-11 "Supported Portal Operations", §9.2.21: what is taken runs,
/// a deferrable write that is not taken is answered with retry, a posted one is
/// lost without a word.
#[test]
fn a_queue_takes_only_what_is_meant_for_it() {
    use Target::{
        Dedicated, DeviceDisabled, DummyPortal, Halted, Misaligned, NoSuchQueue, Shared,
        SharedWqDisabled, WqDisabled,
    };
    use Transaction::{Deferrable, Posted};
    for (target, transaction, taken) in [
        (Dedicated, Posted, true),
        (Dedicated, Deferrable, false),
        (Shared, Posted, false),
        (Shared, Deferrable, true),
        (WqDisabled, Posted, false),
        (WqDisabled, Deferrable, false),
        (SharedWqDisabled, Posted, false),
        (SharedWqDisabled, Deferrable, false),
        (DeviceDisabled, Posted, false),
        (DeviceDisabled, Deferrable, false),
        (Halted, Posted, false),
        (Halted, Deferrable, false),
        (NoSuchQueue, Posted, false),
        (NoSuchQueue, Deferrable, false),
        (DummyPortal, Posted, false),
        (DummyPortal, Deferrable, false),
        (Misaligned, Posted, false),
        (Misaligned, Deferrable, false),
    ] {
        for page in PORTALS {
            let shared = matches!(target, Shared | SharedWqDisabled);
            let setup = if shared {
                QueueSetup::shared()
            } else {
                QueueSetup::default()
            };
            let mut rig = ready("queues=5", setup);
            match target {
                WqDisabled | SharedWqDisabled => rig.command(r::DISABLE_WQ | 1),
                DeviceDisabled => rig.command(r::DISABLE_DEVICE),
                Halted => {
                    rig.control("halt flr");
                    0
                }
                _ => 0,
            };
            let (bar, offset) = match target {
                NoSuchQueue => (2, 5 * 0x4000 + page * 0x1000),
                DummyPortal => (0, r::DUMMY_PORTAL + page * 0x40),
                Misaligned => (2, page * 0x1000 + 32),
                _ => (2, page * 0x1000),
            };
            let answer = rig.submit(bar, offset, &no_op(RECORD), transaction);
            rig.run();
            let case = format!("{target:?} {transaction:?} page {page}");
            if transaction == Deferrable {
                assert_eq!(answer == Answer::Success, taken, "{case}");
            }
            let space = setup.pasid.filter(|_| taken);
            let status = rig.machine.peek_byte(space, RECORD);
            assert_eq!(status, u8::from(taken), "{case}");
            assert_eq!(rig.software_error(), [0; 4], "{case}");
        }
    }
}

/// Table 9-11: any write that is not one of 64 bytes.
#[test]
fn a_narrow_write_to_a_portal_is_lost() {
    let mut rig = dedicated();
    for size in [1, 2, 4, 8] {
        for offset in (0..64).step_by(size as usize) {
            rig.dsa
                .mmio_write(2, 0x1000 + offset, size, 0, &mut rig.machine);
            rig.write(r::DUMMY_PORTAL + offset, size, 0);
        }
    }
    rig.run();
    assert_eq!(rig.machine.accesses, []);
    assert_eq!(rig.dsa.queue_counters()[0].accepted, 0);
}

/// §9.3: bits 11:6 of the address select nothing.
#[test]
fn every_slot_of_a_page_is_the_same_portal() {
    let mut rig = dedicated();
    for slot in 0..64 {
        rig.machine.poke(None, RECORD, &[0]);
        let offset = 0x1000 + slot * 64;
        rig.submit(2, offset, &no_op(RECORD), Transaction::Posted);
        rig.run();
        assert_eq!(rig.status(RECORD), 1, "slot {slot}");
    }
}

#[test]
fn the_page_decides_the_queue() {
    let mut rig = Rig::new("queues=64");
    for queue in [0, 7, 63] {
        rig.configure(queue, QueueSetup::default());
    }
    rig.enable(&[0, 7, 63]);
    for queue in [7, 63, 0] {
        rig.post(queue, UNLIMITED_MSIX, &Bytes::new(UNDEFINED, 0));
        rig.run();
        assert_eq!(rig.software_error()[0] >> 16 & 0xff, queue);
        rig.write32(r::SWERROR, 0b11);
    }
}

/// §3.3: without IMS there are no IMS portals.
#[test]
fn ims_portals_exist_with_ims_only() {
    for (setup, transaction) in [
        (QueueSetup::default(), Transaction::Posted),
        (QueueSetup::shared(), Transaction::Deferrable),
    ] {
        let mut rig = ready("ims=0", setup);
        for page in [UNLIMITED_IMS, LIMITED_IMS] {
            let answer = rig.submit(2, page * 0x1000, &no_op(RECORD), transaction);
            assert_eq!(
                answer == Answer::Retry,
                transaction == Transaction::Deferrable
            );
        }
        rig.run();
        assert_eq!(rig.machine.accesses, []);
        assert_eq!(rig.software_error(), [0; 4]);
    }
}

/// WQCFG 6: the occupancy of queue 0.
fn occupancy(rig: &mut Rig) -> u32 {
    rig.read32(rig.wqcfg(0) + 24) & 0xffff
}

/// §5.3: a limited portal takes a descriptor while the occupancy is below the
/// threshold, an unlimited one while it is below the size.
#[test]
fn a_shared_queue_answers_retry_by_its_occupancy() {
    for (size, threshold) in [(8, 3), (8, 8), (8, 0), (4, 200), (1, 1)] {
        let setup = QueueSetup {
            size,
            threshold,
            ..QueueSetup::shared()
        };
        let mut rig = ready("", setup);
        for (page, room) in [
            (LIMITED_MSIX, threshold.min(size)),
            (LIMITED_IMS, threshold.min(size)),
            (UNLIMITED_MSIX, size),
            (UNLIMITED_IMS, size),
            (LIMITED_MSIX, threshold.min(size)),
        ] {
            for _ in 0..size + 4 {
                let before = occupancy(&mut rig);
                let accepted = rig.enqueue(0, page, &Bytes::new(0, 0).trusted(1));
                let case = format!("size {size} threshold {threshold} page {page} at {before}");
                assert_eq!(accepted, before < room, "{case}");
            }
            assert!(occupancy(&mut rig) >= room);
        }
        assert_eq!(rig.software_error(), [0; 4], "retry is no error");
        rig.run();
        assert_eq!(occupancy(&mut rig), 0);
        let accepted = rig.enqueue(0, LIMITED_MSIX, &Bytes::new(0, 0).trusted(1));
        assert_eq!(accepted, threshold > 0, "there is room again");
    }
}

#[test]
fn the_threshold_can_be_moved_at_any_time() {
    let mut rig = ready(
        "",
        QueueSetup {
            threshold: 0,
            ..QueueSetup::shared()
        },
    );
    let descriptor = Bytes::new(0, 0).trusted(1);
    assert!(!rig.enqueue(0, LIMITED_MSIX, &descriptor));
    let threshold = rig.wqcfg(0) + 4;
    rig.write32(threshold, 4);
    assert!(rig.enqueue(0, LIMITED_MSIX, &descriptor));
    assert_eq!(rig.dsa.violations(), [] as [String; 0]);
}

/// §3.3.2, Table 5-7: a dedicated queue that is full drops the descriptor and
/// says so; its threshold counts for nothing.
#[test]
fn a_full_dedicated_queue_drops_and_reports() {
    for page in PORTALS {
        let mut rig = Rig::new("");
        let setup = QueueSetup {
            size: 4,
            threshold: 0,
            ..QueueSetup::default()
        };
        rig.configure(0, QueueSetup { size: 1, ..setup });
        rig.configure(3, setup);
        rig.enable(&[3]);
        rig.machine.map(None, RECORD, 0x1000, true);
        let mut taken = 0;
        for index in 0..8 {
            let wqcfg = rig.wqcfg(3);
            let room = rig.read32(wqcfg + 24) & 0xffff < 4;
            taken += u64::from(room);
            assert_eq!(rig.software_error()[0], 0);
            rig.post(3, page, &no_op(RECORD + 32 * index));
            if !room {
                break;
            }
        }
        assert!((4..8).contains(&taken), "{taken}");
        // Valid, WQ index valid, WQ 3, error 0x53.
        assert_eq!(rig.software_error()[0], 0x3_5309);
        rig.post(3, page, &no_op(RECORD + 0x100));
        assert_eq!(rig.software_error()[0], 0x3_530b, "overflow");
        rig.run();
        let statuses = rig.statuses(RECORD, 9);
        let ended = statuses.iter().filter(|status| **status == 1).count();
        assert_eq!(ended as u64, taken);
        let counters = rig.dsa.queue_counters()[3];
        assert_eq!((counters.accepted, counters.dropped), (taken, 2));
    }
}

/// §9.2.24, WQ State 2: nothing is taken while a queue is being disabled.
#[test]
fn a_queue_that_is_being_disabled_takes_nothing() {
    for command in [
        r::DISABLE_WQ | 1,
        r::RESET_WQ | 1,
        r::DISABLE_DEVICE,
        r::RESET_DEVICE,
    ] {
        for setup in [QueueSetup::default(), QueueSetup::shared()] {
            let mut rig = ready("", setup);
            rig.control("delay-completions 1 1000000");
            let submit = |rig: &mut Rig, record: u64| {
                if setup.dedicated {
                    rig.post(0, LIMITED_MSIX, &no_op(record));
                    true
                } else {
                    rig.enqueue(0, LIMITED_MSIX, &no_op(record))
                }
            };
            assert!(submit(&mut rig, RECORD));
            rig.run_for(10_000);
            rig.start(command);
            let accepted = submit(&mut rig, RECORD + 32);
            assert_eq!(accepted, setup.dedicated, "{command:#x}");
            rig.run();
            let space = setup.pasid;
            let status = rig.machine.peek_byte(space, RECORD + 32);
            assert_eq!(status, 0, "{command:#x}");
            assert_eq!(rig.software_error(), [0; 4], "{command:#x}");
        }
    }
}
