//! Where errors are reported: completion records, SWERROR, the event log.

mod support;

use support::{Bytes, CRAV, QueueSetup, RCI, RCR, Rig, memory_move};

const DATA: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;
const NOWHERE: u64 = 0x70_0000;
const LOG: u64 = 0x40_0000;

/// Queue 0 enabled, ATS on where asked for, data and records mapped.
fn ready(options: &str, ats: bool, setup: QueueSetup) -> Rig {
    let mut rig = Rig::new(options);
    if ats {
        rig.enable_ats();
    }
    let gencfg = rig.read32(0x80);
    rig.write32(0x80, gencfg | 1 << 12);
    rig.configure(0, setup);
    for (address, length) in [(DATA, 0x4000), (RECORD, 0x1000), (LOG, 0x2000)] {
        rig.machine.map(setup.pasid, address, length, true);
        rig.machine.map(None, address, length, true);
    }
    rig.enable(&[0]);
    rig.machine.messages.clear();
    rig
}

fn simple(ats: bool) -> Rig {
    ready("", ats, QueueSetup::default())
}

/// Each status code that a descriptor can end with by its own fault, in the
/// record and, without a record address, in SWERROR. [341204 Table 5-6]
#[test]
fn every_error_is_reported_where_it_belongs() {
    let to = |operation: u8| {
        Bytes::new(operation, CRAV | RCR)
            .record(RECORD)
            .source(DATA)
            .destination(DATA + 0x2000)
            .size(64)
    };
    let delta = |offset: u16| {
        let mut record = [0; 20];
        record[..2].copy_from_slice(&offset.to_le_bytes());
        record
    };
    let cases: [(u8, Bytes); 18] = [
        (0x03, to(3).source(NOWHERE)),
        (0x83, to(3).destination(NOWHERE)),
        (
            0x06,
            Bytes::new(1, CRAV | RCR)
                .record(RECORD)
                .source(NOWHERE)
                .size(2),
        ),
        (0x07, to(8).with(40, &[20])),
        (0x08, to(8).source(DATA + 64).with(40, &[10])),
        (0x09, to(0x12).destination(0).size(520)),
        (0x10, to(0x0a)),
        (0x11, to(3).with(5, &[1 << 7])),
        (0x12, to(3).with(40, &[1])),
        (0x13, to(3).size(0)),
        (
            0x14,
            Bytes::new(1, CRAV | RCR)
                .record(RECORD)
                .source(DATA)
                .size(1),
        ),
        (0x15, to(8).with(40, &[9])),
        (
            0x16,
            to(4).with(7, &[8]).source(DATA + 0x2000).with(40, &[10]),
        ),
        (0x17, to(9).with(40, &(DATA + 0x3001).to_le_bytes())),
        (
            0x18,
            Bytes::new(1, CRAV | RCR)
                .record(RECORD)
                .source(DATA + 1)
                .size(2),
        ),
        (
            0x19,
            Bytes::new(0, CRAV | RCR | RCI).record(RECORD).handle(99),
        ),
        (0x1c, to(8).destination(DATA + 0x2001).with(40, &[10])),
        (0x02, to(5).with(4, &[0x8c]).with(40, &[1])),
    ];
    for (status, descriptor) in cases {
        let mut rig = simple(true);
        // A delta record whose offsets do not increase, and one beyond the end.
        rig.machine.poke(None, DATA, &delta(0));
        rig.machine.poke(None, DATA + 64, &delta(0x1000)[..10]);
        rig.post(0, 1, &descriptor);
        rig.run();
        let found = rig.machine.peek_byte(None, RECORD);
        assert_eq!(found, status, "{:?}", descriptor.0);
        if status == 0x02 || status == 0x19 {
            continue;
        }
        assert_eq!(rig.software_error(), [0; 4], "{status:#x}");

        // The same without a record: SWERROR, valid, descriptor and queue known.
        let operation = u64::from(descriptor.0[7]);
        let flags = descriptor.0[4] & !0xc;
        rig.post(0, 1, &descriptor.record(0).with(4, &[flags]));
        rig.run();
        let [first, ..] = rig.software_error();
        let expected = u64::from(status & 0x7f);
        let needs_record = matches!(descriptor.0[7], 0x12);
        let code = if needs_record { 0x11 } else { expected };
        assert_eq!(first & 0xf, 0b1101, "{status:#x}");
        assert_eq!(first >> 8 & 0xff, code, "{status:#x}");
        assert_eq!(first >> 32 & 0xff, operation);
        let page_fault_on_write = status & 0x80 != 0;
        assert_eq!(first >> 5 & 1 == 1, page_fault_on_write, "{status:#x}");
    }
}

/// Table 5-6: 0x04, 0x1e, 0x20 and 0x21 need more than a descriptor.
#[test]
fn errors_of_the_surroundings_have_their_codes() {
    let good = memory_move(DATA, DATA + 0x1000, 64, RECORD);

    let mut rig = Rig::new("");
    rig.enable_ats();
    rig.config_write(0x244, 2, 1);
    rig.config_write(0x24c, 4, 1);
    rig.configure(0, QueueSetup::default());
    rig.write32(0x4008, 1 | 1 << 1 | 10 << 4);
    rig.enable(&[0]);
    rig.machine.map(None, RECORD, 0x1000, true);
    rig.post(0, 1, &good.with(4, &[0x0e]));
    rig.run();
    assert_eq!(rig.machine.peek_byte(None, RECORD), 0x04, "block on fault");

    // Only traffic class 0 has a channel, and class B of the group is 1.
    let mut rig = Rig::new("");
    rig.config_write(0x184, 4, 0x8000_0001);
    rig.configure(0, QueueSetup::default());
    rig.write64(0x428, 96 << 20 | 1 << 3);
    rig.enable(&[0]);
    rig.machine.map(None, DATA, 0x2000, true);
    rig.machine.map(None, RECORD, 0x1000, true);
    rig.post(0, 1, &good.with(5, &[1 << 1]));
    rig.post(0, 1, &good.record(RECORD + 32));
    rig.run();
    assert_eq!(rig.machine.peek_byte(None, RECORD), 0x1e);
    assert_eq!(rig.machine.peek_byte(None, RECORD + 32), 1);

    // Nothing answers at the source; nothing answers at the destination.
    for (source, destination, status) in [(DATA + 0x3000, DATA, 0x20), (DATA, DATA + 0x3000, 0x21)]
    {
        let mut rig = Rig::new("");
        rig.configure(0, QueueSetup::default());
        rig.enable(&[0]);
        let record = DATA - 0x1000;
        rig.machine.map(None, record, 0x5000, true);
        rig.machine.aborts_from = Some(DATA + 0x3000);
        rig.post(0, 1, &memory_move(source, destination, 64, record));
        rig.run();
        assert_eq!(rig.machine.peek_byte(None, record), status);
    }
}

/// [341204 §3.13.1, Table 5-6 code 0x20] Without ATS nobody tells the device of
/// a fault on a write.
#[test]
fn without_ats_page_faults_are_hardware_errors_or_unnoticed() {
    let mut rig = simple(false);
    rig.post(0, 1, &memory_move(NOWHERE, DATA, 64, RECORD));
    rig.post(0, 1, &memory_move(DATA, NOWHERE, 64, RECORD + 32));
    rig.post(0, 1, &memory_move(DATA, DATA + 0x1000, 64, NOWHERE));
    rig.run();
    assert_eq!(rig.machine.peek_byte(None, RECORD), 0x20);
    assert_eq!(rig.machine.peek_byte(None, RECORD + 32), 1);
    assert_eq!(rig.software_error(), [0; 4]);
}

/// Never in a record, always in SWERROR: 0x1a, 0x1b, 0x1d. [Table 5-6]
#[test]
fn errors_about_the_record_go_to_the_register() {
    let mut rig = simple(true);
    rig.post(0, 1, &memory_move(DATA, DATA + 0x1000, 64, NOWHERE));
    rig.run();
    let [first, second, address, _] = rig.software_error();
    assert_eq!(first, 1 | 4 | 8 | 1 << 5 | 0x1a << 8 | 3 << 32);
    assert_eq!((second >> 61, address), (5, NOWHERE), "operand: the record");

    let mut rig = simple(true);
    rig.post(0, 1, &memory_move(DATA, DATA + 0x1000, 64, RECORD + 8));
    rig.run();
    assert_eq!(rig.software_error()[0], 1 | 4 | 8 | 0x1b << 8 | 3 << 32);
    assert_eq!(rig.machine.peek(None, RECORD, 64), [0; 64]);
    assert_eq!(rig.machine.peek(None, DATA + 0x1000, 64), [0; 64]);

    let shared = QueueSetup {
        dedicated: false,
        pasid: Some(0),
        ..QueueSetup::default()
    };
    let mut rig = Rig::new("");
    rig.config_write(0x236, 2, 1);
    rig.configure(0, shared);
    rig.enable(&[0]);
    rig.machine.map(Some(7), RECORD, 0x1000, true);
    let privileged = Bytes::new(0, CRAV | RCR).pasid(7 | 1 << 31).record(RECORD);
    assert!(rig.enqueue(0, 1, &privileged));
    rig.run();
    let expected = 1 | 4 | 8 | 1 << 6 | 0x1d << 8 | 7_u64 << 40;
    assert_eq!(rig.software_error()[0], expected);
    assert_eq!(rig.machine.peek_byte(Some(7), RECORD), 0);
}

/// [341204 §9.2.15] The first error stays until software clears it.
#[test]
fn the_register_holds_the_first_error_and_remembers_overflow() {
    let mut rig = simple(false);
    rig.write32(0x88, 1);
    for operation in [0x7e, 0x7f] {
        rig.post(0, 1, &Bytes::new(operation, 0));
    }
    rig.run();
    assert_eq!(rig.software_error()[0], 0b1111 | 0x10 << 8 | 0x7e << 32);
    assert_eq!(rig.machine.messages.len(), 1, "one interrupt");
    assert_eq!(rig.read32(0x98), 1);
    rig.write64(0xc0, 0b10);
    assert_eq!(rig.software_error()[0] & 0b11, 0b01);
    rig.write64(0xc0, 0b11);
    assert_eq!(rig.software_error()[0] & 0b11, 0);
    rig.post(0, 1, &Bytes::new(0x7f, 0));
    rig.run();
    assert_eq!(rig.software_error()[0] >> 32 & 0xff, 0x7f);
}

/// A device whose event log of 64 entries is at [`LOG`], with its interrupt.
fn with_log(options: &str) -> Rig {
    let mut rig = Rig::new(options);
    rig.enable_ats();
    rig.configure(0, QueueSetup::default());
    for address in [DATA, RECORD, LOG] {
        rig.machine.map(None, address, 0x2000, true);
    }
    rig.write64(0xe0, LOG);
    rig.write64(0xe8, 64);
    let gencfg = rig.read32(0x80);
    rig.write32(0x80, gencfg | 1 << 12 | 1 << 13);
    rig.write32(0x88, 1 << 2);
    rig.enable(&[0]);
    rig.machine.messages.clear();
    rig
}

fn quad(rig: &Rig, address: u64) -> u64 {
    u64::from_le_bytes(
        rig.machine
            .peek(None, address, 8)
            .try_into()
            .expect("8 bytes"),
    )
}

/// [341204 §5.9, §5.9.1]
#[test]
fn the_event_log_takes_errors_with_their_records() {
    let mut rig = with_log("device-id=0x11fb;handle-commands=off");
    rig.post(0, 1, &Bytes::new(0x7f, 0));
    rig.run();
    assert_eq!(rig.software_error(), [0; 4]);
    assert_eq!(quad(&rig, LOG), 1 | 4 | 8 | 0x10 << 8 | 0x7f << 32);
    assert_eq!(rig.read64(0xf0), 1 << 62 | 1 << 32, "pending, tail 1");
    assert_eq!(rig.read32(0x98), 1 << 5);
    assert_eq!(rig.machine.messages.len(), 1);

    // No further interrupt while one is pending; the record goes along, with
    // what software must deliver: handle 1, an interrupt and a record.
    let lost = memory_move(DATA, DATA + 0x1000, 16, NOWHERE)
        .with(4, &[0x1c])
        .handle(1);
    rig.post(0, 1, &lost);
    rig.run();
    assert_eq!(rig.machine.messages.len(), 1);
    let entry = LOG + 64;
    let first = 1 | 4 | 8 | 1 << 5 | 1 << 7 | 0x1a << 8 | 3 << 32;
    assert_eq!(quad(&rig, entry), first);
    assert_eq!(quad(&rig, entry + 8), 5 << 61 | 1 << 50 | 1 << 48 | 1 << 32);
    assert_eq!(quad(&rig, entry + 16), NOWHERE);
    assert_eq!(quad(&rig, entry + 32), 1, "the record: success");

    rig.write32(0xf4, 1 << 30);
    assert_eq!(rig.read64(0xf0), 2 << 32);
    // The drain behind a record that went to the log goes there too.
    rig.post(0, 1, &Bytes::new(2, CRAV | RCR).record(RECORD));
    rig.run();
    assert_eq!(quad(&rig, LOG + 128) >> 8 & 0xff, 0x26);
    assert_eq!(rig.machine.peek_byte(None, RECORD), 0);
    assert_eq!(rig.machine.messages.len(), 2);
}

/// [341204 §5.9] Full: tail + 1 = head. Without overflow support the device
/// waits for software, with it the event is lost and SWERROR says so.
#[test]
fn a_full_event_log_blocks_or_overflows() {
    for (options, overflows) in [("device-id=0x11fb", false), ("device-id=0x1212", true)] {
        let mut rig = with_log(options);
        for _ in 0..64 {
            rig.post(0, 1, &Bytes::new(0x7f, 0));
            rig.run_for(10_000);
        }
        assert_eq!(rig.read64(0xf0) >> 32 & 0xffff, 63, "{options}");
        let counters = rig.dsa.queue_counters();
        let done = counters.first().map(|counters| counters.completed);
        assert_eq!(done, Some(if overflows { 64 } else { 63 }));
        let error = rig.software_error()[0] >> 8 & 0xff;
        assert_eq!(error, if overflows { 0x54 } else { 0 });
        // Software takes ten entries, and the device goes on, around the end.
        rig.write32(0xf0, 10);
        rig.run();
        let tail = rig.read64(0xf0) >> 32 & 0xffff;
        assert_eq!(tail, if overflows { 63 } else { 0 });
    }
}

#[test]
fn a_log_that_cannot_be_written_is_reported() {
    let mut rig = with_log("device-id=0x11fb;handle-commands=off");
    rig.machine.unmap(None, LOG);
    rig.post(0, 1, &Bytes::new(0x7f, 0));
    rig.run();
    assert_eq!(rig.software_error()[0], 1 | 0x54 << 8);
}
