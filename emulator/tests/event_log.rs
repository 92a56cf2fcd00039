//! The event log in memory: what goes there, how it looks, and what happens
//! when it is full. [341204 §5.9 "Event Log", §9.2.16, §9.2.17]
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

mod support;

use support::descriptor::{DRAIN, UNDEFINED};
use support::registers as r;
use support::{
    Bytes, CRAV, FENCE, LIMITED_IMS, LIMITED_MSIX, QueueSetup, RCR, Rig, batch, memory_move,
    message, no_op,
};

const LIST: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;
const LOG: u64 = 0x40_0000;
/// Not mapped.
const NOWHERE: u64 = 0x70_0000;

/// A part with an event log, whose handles are indexes.
const PART: &str = "device-id=0x11fb;handle-commands=off";
const OVERFLOWING_PART: &str = "device-id=0x1212;handle-commands=off";

/// Bits 51:48 of an entry's second quadword, the error information.
const INTERRUPT_REQUIRED: u64 = 1 << 48;
const IMS_PORTAL: u64 = 1 << 49;
const RECORD_REQUIRED: u64 = 1 << 50;
const FIRST_IN_BATCH: u64 = 1 << 51;
/// Operand 5, the completion record, in bits 63:61.
const OPERAND_RECORD: u64 = 5 << 61;

/// ATS on, queue 0 with two engines, and a log of `entries` at [`LOG`].
fn with_log(options: &str, entries: u64) -> Rig {
    let mut rig = Rig::new(options);
    rig.enable_ats();
    rig.allow_user_interrupts();
    rig.configure(0, QueueSetup::default());
    rig.write64(r::EVLCFG, LOG);
    rig.write64(r::EVLCFG + 8, entries);
    let gencfg = rig.read32(r::GENCFG);
    rig.write32(r::GENCFG, gencfg | r::EVENT_LOG_ENABLE);
    rig.write32(r::GENCTRL, 0b101);
    for address in [LIST, DATA, RECORD, LOG] {
        rig.machine.map(None, address, 0x2000, true);
    }
    rig.enable(&[0]);
    rig
}

fn ready() -> Rig {
    with_log(PART, 64)
}

fn run(rig: &mut Rig, descriptor: &Bytes) {
    rig.post(0, LIMITED_MSIX, descriptor);
    rig.run();
}

fn failing() -> Bytes {
    Bytes::new(UNDEFINED, 0)
}

/// The first three quadwords of entry `index`, without the unused bits 1:0 of
/// the first, and with the batch identifier apart.
fn entry(rig: &Rig, index: u64) -> ([u64; 3], u8) {
    let place = LOG + 64 * index;
    let words = [0, 8, 16].map(|offset| rig.machine.peek64(None, place + offset));
    let identifier = (words[0] >> 24 & 0xff) as u8;
    ([words[0] & !0xff00_0003, words[1], words[2]], identifier)
}

/// The completion record in entry `index`.
fn logged_record(rig: &Rig, index: u64) -> Vec<u8> {
    rig.machine.peek(None, LOG + 64 * index + 32, 32)
}

fn tail(rig: &mut Rig) -> u64 {
    rig.read64(r::EVLSTATUS) >> 32 & 0xffff
}

fn record_with(status: u8) -> Vec<u8> {
    let mut record = vec![0; 32];
    record[0] = status;
    record
}

#[test]
fn the_log_takes_what_the_register_took() {
    let mut rig = ready();
    run(&mut rig, &failing());
    // Descriptor and WQ valid, code 0x10, WQ 0.
    let first = 0x7f_0000_100c;
    assert_eq!(entry(&rig, 0).0, [first, 0, 0]);
    // 0x11 names the flags, 0x03 the operand and the page.
    run(&mut rig, &failing().with(7, &[0]).also(1 << 15));
    assert_eq!(entry(&rig, 1).0, [0x118c, 1 << 47, 0]);
    let fault = memory_move(DATA, NOWHERE, 8, 0).without_record();
    run(&mut rig, &fault);
    let ([first, second, address], _) = entry(&rig, 2);
    assert_eq!([first, second], [0x3_0000_03ac, 3 << 61]);
    assert_eq!(address & !0xfff, NOWHERE);
    // 0x1b, about a record that is misaligned.
    run(&mut rig, &no_op(RECORD + 8));
    assert_eq!(entry(&rig, 3).0[0] & 0xff7f, 0x1b0c);
    assert_eq!(tail(&mut rig), 4);
    assert_eq!(rig.software_error(), [0; 4]);
}

/// The interrupt is vector 0's, and there is no second one while the first is
/// pending.
#[test]
fn the_log_interrupts_once_until_acknowledged() {
    let mut rig = ready();
    run(&mut rig, &failing());
    assert_eq!(rig.read32(r::INTCAUSE), r::CAUSE_EVENT_LOG);
    assert_eq!(rig.read64(r::EVLSTATUS), 1 << 62 | 1 << 32);
    run(&mut rig, &failing());
    assert_eq!(rig.machine.messages, [message(0)]);
    // As Linux does: the upper word alone, then the head alone.
    rig.write32(r::EVLSTATUS + 4, 1 << 30);
    assert_eq!(rig.read64(r::EVLSTATUS), 2 << 32);
    rig.write32(r::EVLSTATUS, 2);
    assert_eq!(rig.read64(r::EVLSTATUS), 2 << 32 | 2);
    run(&mut rig, &failing());
    assert_eq!(rig.machine.messages, [message(0), message(0)]);
    // The tail and reserved bits are not software's, and zero clears nothing.
    rig.write64(r::EVLSTATUS, 0xbfff_0000_ffff_0002);
    assert_eq!(rig.read64(r::EVLSTATUS), 1 << 62 | 3 << 32 | 2);

    let mut rig = ready();
    rig.write32(r::GENCTRL, 0);
    run(&mut rig, &failing());
    assert_eq!(rig.read64(r::EVLSTATUS), 1 << 32, "not enabled");
    assert_eq!(rig.machine.messages, []);
}

/// §3.13.3: a descriptor whose record faults is completed, its record is in
/// the entry, and software delivers both record and interrupt.
#[test]
fn a_record_that_faults_goes_to_the_log() {
    let copy = memory_move(DATA, DATA + 0x1000, 16, NOWHERE);
    for (descriptor, page, status, info) in [
        (copy, LIMITED_MSIX, 1, 0),
        (
            copy.interrupt(1),
            LIMITED_MSIX,
            1,
            INTERRUPT_REQUIRED | 1 << 32,
        ),
        (
            copy.interrupt(2),
            LIMITED_IMS,
            1,
            INTERRUPT_REQUIRED | IMS_PORTAL | 2 << 32,
        ),
        // What the record would have said is in it all the same, asked for or
        // not.
        (copy.with(7, &[UNDEFINED]), LIMITED_MSIX, 0x10, 0),
        (
            copy.with(7, &[UNDEFINED]).flags(CRAV),
            LIMITED_MSIX,
            0x10,
            0,
        ),
    ] {
        let mut rig = ready();
        rig.program_ims(2, (0xfee0_1000, 2), None);
        rig.machine.poke(None, DATA, &[7; 16]);
        rig.post(0, page, &descriptor);
        rig.run();
        let operation = u64::from(descriptor.0[7]) << 32;
        // Information valid, a write, descriptor and WQ valid.
        let first = 0x1aac | operation;
        // The portal has no meaning where no interrupt is required.
        let ([found, mut second, address], _) = entry(&rig, 0);
        if info & INTERRUPT_REQUIRED == 0 {
            second &= !IMS_PORTAL;
        }
        assert_eq!(found, first);
        assert_eq!(second, OPERAND_RECORD | RECORD_REQUIRED | info);
        assert_eq!(address, NOWHERE, "all bits of it");
        assert_eq!(logged_record(&rig, 0), record_with(status));
        let copied = rig.machine.peek(None, DATA + 0x1000, 16) == [7; 16];
        assert_eq!(copied, status == 1);
        assert_eq!(rig.machine.messages, [message(0)], "that of the log");
    }
}

/// Table 5-1, Table 5-9: an invalid handle is in the record and in the log,
/// which has a copy of the record if there is one.
#[test]
fn an_invalid_handle_goes_to_the_log_too() {
    for (page, portal) in [(LIMITED_MSIX, 0), (LIMITED_IMS, IMS_PORTAL)] {
        for with_record in [true, false] {
            let mut rig = ready();
            let descriptor = no_op(RECORD).interrupt(0x1234);
            let descriptor = if with_record {
                descriptor
            } else {
                descriptor.without_record()
            };
            rig.post(0, page, &descriptor);
            rig.run();
            let required = if with_record { RECORD_REQUIRED } else { 0 };
            let second = 0x1234 << 32 | INTERRUPT_REQUIRED | portal | required;
            assert_eq!(entry(&rig, 0).0, [0x198c, second, 0]);
            if with_record {
                assert_eq!(rig.status(RECORD), 0x19);
                assert_eq!(logged_record(&rig, 0), record_with(0x19));
            } else {
                assert_eq!(rig.status(RECORD), 0);
            }
            assert_eq!(rig.software_error(), [0; 4]);
            assert_eq!(rig.machine.messages, [message(0)]);
        }
    }
}

fn write_list(rig: &mut Rig, list: u64, members: &[Bytes]) {
    for (place, member) in (list..).step_by(64).zip(members) {
        rig.machine.poke(None, place, &member.0);
    }
}

/// A batch with members whose records fault has its own completion in the log,
/// behind theirs.
#[test]
fn a_batch_with_logged_members_goes_to_the_log() {
    let mut rig = ready();
    let lost = |index: u64| no_op(NOWHERE + 32 * index);
    write_list(&mut rig, LIST, &[lost(0), no_op(RECORD + 32), lost(2)]);
    run(&mut rig, &batch(LIST, 3, RECORD).interrupt(1));
    // Batch member, information valid, a write, descriptor and WQ valid.
    let member = 0x1abc;
    let (first, identifier) = entry(&rig, 0);
    let info = OPERAND_RECORD | RECORD_REQUIRED;
    assert_eq!(first, [member, info | FIRST_IN_BATCH, NOWHERE]);
    let (second, same) = entry(&rig, 1);
    assert_eq!(second, [member, info | 2, NOWHERE + 64]);
    assert_eq!(same, identifier);
    // 0x27; the record's address; what software has to deliver.
    let ([first, second, address], same) = entry(&rig, 2);
    assert_eq!(first & !(1 << 7 | 1 << 5), 0x1_0000_270c);
    let delivery = RECORD_REQUIRED | INTERRUPT_REQUIRED | 1 << 32;
    assert_eq!(second & 0x0007_ffff_0000_0000, delivery);
    assert_eq!(address, RECORD);
    assert_eq!(same, identifier);
    let record = logged_record(&rig, 2);
    assert!(matches!(record[0], 1 | 5), "{record:x?}");
    assert_eq!(record[4..8], [3, 0, 0, 0], "Descriptors Completed");
    assert_eq!(tail(&mut rig), 3);
    assert_eq!(rig.statuses(RECORD, 2), [0, 1]);
    assert_eq!(rig.machine.messages, [message(0)]);
}

/// If nobody waits for the batch itself, it has no entry.
#[test]
fn a_silent_batch_has_no_entry_of_its_own() {
    let mut rig = ready();
    write_list(&mut rig, LIST, &[no_op(NOWHERE), no_op(RECORD)]);
    run(&mut rig, &batch(LIST, 2, RECORD).without_record());
    assert_eq!(tail(&mut rig), 1);
}

/// Batches in progress together have identifiers of their own, which members
/// with other errors carry too.
#[test]
fn batches_are_told_apart() {
    let mut rig = ready();
    rig.command(r::DISABLE_DEVICE);
    rig.write64(r::GRPCFG + r::ENGINES, 0b11);
    rig.enable(&[0]);
    let slow = memory_move(DATA, DATA + 0x1000, 0x1000, 0).without_record();
    for list in [LIST, LIST + 0x1000] {
        let silent = failing().also(FENCE);
        write_list(&mut rig, list, &[slow, silent, no_op(NOWHERE)]);
        rig.post(0, LIMITED_MSIX, &batch(list, 3, RECORD));
    }
    rig.run();
    let entries: Vec<(u64, u8)> = (0..tail(&mut rig))
        .map(|index| {
            let (words, identifier) = entry(&rig, index);
            (words[0] >> 8 & 0xff, identifier)
        })
        .collect();
    assert_eq!(entries.len(), 6, "{entries:x?}");
    let identifiers: std::collections::BTreeSet<u8> = entries.iter().map(|entry| entry.1).collect();
    assert_eq!(identifiers.len(), 2, "{entries:x?}");
    for identifier in identifiers {
        let mine = entries.iter().filter(|entry| entry.1 == identifier);
        let codes: Vec<u64> = mine.map(|entry| entry.0).collect();
        assert_eq!(codes, [0x10, 0x1a, 0x27], "{entries:x?}");
    }
}

/// §5.9: while page requests are off, the completion of a successful drain is
/// in the log, behind the records that it drained.
#[test]
fn drains_complete_in_the_log() {
    let drain = Bytes::new(DRAIN, CRAV | RCR).record(RECORD).interrupt(1);
    let mut rig = ready();
    run(&mut rig, &no_op(NOWHERE));
    run(&mut rig, &drain);
    let ([first, second, address], _) = entry(&rig, 1);
    assert_eq!(first & !(1 << 7 | 1 << 5), 0x2_0000_260c);
    let delivery = RECORD_REQUIRED | INTERRUPT_REQUIRED | 1 << 32;
    assert_eq!(second & 0x0007_ffff_0000_0000, delivery);
    assert_eq!(address, RECORD);
    assert_eq!(logged_record(&rig, 1), record_with(1));
    assert_eq!(rig.status(RECORD), 0);
    assert_eq!(rig.machine.messages, [message(0)]);
    // Another one, with nothing before it.
    run(&mut rig, &drain);
    assert_eq!(tail(&mut rig), 3);
    assert_eq!(rig.status(RECORD), 0);
    // One that is refused is in its record.
    run(&mut rig, &drain.also(1 << 16));
    assert_eq!(tail(&mut rig), 3);
    assert_eq!(rig.status(RECORD), 0x11);

    let mut rig = Rig::new(PART);
    rig.config_write(r::PRS_CONTROL, 2, 1);
    rig.config_write(r::PRS_ALLOCATION, 4, 1);
    rig.configure(0, QueueSetup::default());
    rig.write64(r::EVLCFG, LOG);
    rig.write64(r::EVLCFG + 8, 64);
    rig.write32(r::GENCFG, 96 | r::EVENT_LOG_ENABLE);
    rig.enable(&[0]);
    rig.machine.map(None, RECORD, 0x1000, true);
    run(&mut rig, &drain);
    assert_eq!(rig.status(RECORD), 1, "page requests are on");
    assert_eq!(tail(&mut rig), 0);
    assert_eq!(rig.machine.messages, [message(1)]);
}

/// Full is tail + 1 = head. Without overflow support the device waits for
/// software.
#[test]
fn a_full_log_blocks_the_device() {
    let mut rig = ready();
    for _ in 0..70 {
        rig.post(0, LIMITED_MSIX, &failing());
        rig.run_for(10_000);
    }
    assert_eq!(tail(&mut rig), 63);
    assert_eq!(rig.dsa.queue_counters()[0].completed, 63);
    assert_eq!(rig.software_error(), [0; 4]);
    // Software takes ten entries, and the device goes on around the end.
    rig.write32(r::EVLSTATUS, 10);
    rig.run();
    assert_eq!(tail(&mut rig), 6);
    assert_eq!(rig.dsa.queue_counters()[0].completed, 70);
    assert_eq!(entry(&rig, 5).0[0], 0x7f_0000_100c);
}

/// Batches and drains wait for room for their own completion too.
#[test]
fn a_full_log_holds_batches_and_drains_back() {
    let drain = Bytes::new(DRAIN, CRAV | RCR).record(RECORD);
    let members = batch(LIST, 2, RECORD);
    for (filled, descriptor, codes) in [(63, drain, &[0x26][..]), (62, members, &[0x1a, 0x27])] {
        let mut rig = ready();
        for _ in 0..filled {
            run(&mut rig, &failing());
        }
        write_list(&mut rig, LIST, &[Bytes::new(0, 0), no_op(NOWHERE)]);
        rig.post(0, LIMITED_MSIX, &descriptor);
        rig.run_for(1_000_000);
        assert_eq!(rig.software_error(), [0; 4], "nothing is lost");
        rig.write32(r::EVLSTATUS, 10);
        rig.run();
        assert_eq!(rig.dsa.queue_counters()[0].completed, filled + 1);
        for (index, code) in (filled..).zip(codes) {
            assert_eq!(entry(&rig, index % 64).0[0] >> 8 & 0xff, *code);
        }
        assert_eq!(tail(&mut rig), 0);
    }
}

/// With overflow support the event is lost, and SWERROR says so.
#[test]
fn a_full_log_overflows_where_that_is_supported() {
    let mut rig = with_log(OVERFLOWING_PART, 64);
    for _ in 0..63 {
        run(&mut rig, &failing());
    }
    assert_eq!(tail(&mut rig), 63);
    assert_eq!(rig.software_error(), [0; 4]);
    run(&mut rig, &failing());
    assert_eq!(rig.software_error()[0] & 0xff0f, 0x5401);
    run(&mut rig, &failing());
    assert_eq!(rig.software_error()[0] & 0xff0f, 0x5403);
    assert_eq!(tail(&mut rig), 63);
    assert_eq!(rig.dsa.queue_counters()[0].completed, 65);
    rig.write32(r::EVLSTATUS, 1);
    run(&mut rig, &failing());
    assert_eq!(tail(&mut rig), 0);
}

/// Table 5-7, 0x54; and SWERROR's interrupt, not the log's.
#[test]
fn a_log_that_cannot_be_written_is_reported() {
    for aborts in [false, true] {
        let mut rig = ready();
        if aborts {
            rig.machine.aborts_from = Some(LOG);
        } else {
            rig.machine.unmap(None, LOG);
        }
        run(&mut rig, &failing());
        assert_eq!(rig.software_error()[0] & 0xff01, 0x5401);
        assert_eq!(rig.read32(r::INTCAUSE), r::CAUSE_SOFTWARE_ERROR);
        assert_eq!(tail(&mut rig), 0);
    }
}

/// Table 5-7: errors that are not for the log.
#[test]
fn errors_of_the_device_stay_in_the_register() {
    let mut rig = ready();
    rig.control("queue-full 0 on");
    rig.post(0, LIMITED_MSIX, &failing());
    assert_eq!(rig.software_error()[0], 0x5309);
    let mut rig = ready();
    rig.config_write(r::PCICMD, 2, 0b010);
    assert_eq!(rig.software_error()[0], 0x5101);
    assert_eq!(tail(&mut rig), 0);
}

/// §9.2.16: entries are written in the name that EVLCFG says.
#[test]
fn the_log_is_written_with_its_own_pasid() {
    for (low, pasid, privileged) in [
        (0, None, false),
        (1, Some(0xabcde), false),
        (3, Some(0xabcde), true),
    ] {
        let mut rig = ready();
        rig.command(r::DISABLE_DEVICE);
        rig.write64(r::EVLCFG, LOG | low);
        rig.write64(r::EVLCFG + 8, 0xa_bcde_0000 | 100);
        rig.enable(&[0]);
        rig.machine.map(pasid, LOG, 0x2000, true);
        run(&mut rig, &failing());
        let write = rig.machine.accesses.last().copied();
        let found = write.map(|access| (access.pasid, access.privileged, access.address));
        assert_eq!(found, Some((pasid, privileged, LOG)));
    }
}

/// §9.2.17, Table 9-3: Enable Device empties a log that is enabled; Reset
/// Device leaves its status alone.
#[test]
fn the_status_of_the_log_outlives_a_reset() {
    let mut rig = ready();
    run(&mut rig, &failing());
    rig.command(r::RESET_DEVICE);
    assert_eq!(rig.read64(r::EVLSTATUS), 1 << 62 | 1 << 32);
    assert_eq!(rig.read64(r::EVLCFG), 0);
    rig.configure(0, QueueSetup::default());
    rig.command(r::ENABLE_DEVICE);
    assert_eq!(
        rig.read64(r::EVLSTATUS),
        1 << 62 | 1 << 32,
        "no log enabled"
    );
    rig.command(r::DISABLE_DEVICE);
    rig.write64(r::EVLCFG, LOG);
    rig.write64(r::EVLCFG + 8, 64);
    rig.write32(r::GENCFG, 96 | r::EVENT_LOG_ENABLE);
    rig.command(r::ENABLE_DEVICE);
    assert_eq!(rig.read64(r::EVLSTATUS), 0);
}
