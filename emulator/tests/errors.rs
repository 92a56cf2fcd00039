//! Where errors are reported: completion records and the Software Error
//! Register. [341204 chapter 5 "Error Handling", §8.2, §9.2.15]
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

mod support;

use support::descriptor::{BLOCK_ON_FAULT, COMPARE, MEMORY_MOVE, UNDEFINED};
use support::registers as r;
use support::{
    Bytes, CRAV, LIMITED_MSIX, QueueSetup, RCR, Rig, batch, memory_move, message, no_op,
};

const DATA: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;
/// Not mapped; the page before it is.
const NOWHERE: u64 = DATA + 0x4000;

/// Queue 2 as `setup` says, ATS on where asked for, data and record mapped.
fn ready(options: &str, ats: bool, setup: QueueSetup) -> Rig {
    let mut rig = Rig::new(options);
    if ats {
        rig.enable_ats();
    }
    rig.allow_user_interrupts();
    rig.configure(2, setup);
    rig.enable(&[2]);
    map(&mut rig, setup.pasid);
    rig
}

fn map(rig: &mut Rig, pasid: Option<u32>) {
    rig.machine.map(pasid, DATA, 0x4000, true);
    rig.machine.map(pasid, RECORD, 0x1000, true);
}

fn with_ats(options: &str) -> Rig {
    ready(options, true, QueueSetup::default())
}

fn run(rig: &mut Rig, descriptor: &Bytes) {
    rig.post(2, LIMITED_MSIX, descriptor);
    rig.run();
}

/// An operation on 64 bytes of `DATA` and the third page after it.
fn operation(code: u8) -> Bytes {
    memory_move(DATA, DATA + 0x2000, 64, RECORD).with(7, &[code])
}

/// A part of version 2.0, reporting to registers.
const SECOND: &str = "device-id=0x11fb;handle-commands=off;event-log=off";

const APPLY_DELTA: u8 = 0x08;
const DUALCAST: u8 = 0x09;
const DIF_STRIP: u8 = 0x14;

/// How a descriptor fails of its own.
struct Failure {
    status: u8,
    descriptor: Bytes,
    /// For page faults: the operand [Table 8-13], whether the access was a
    /// write, the page, and Bytes (or Descriptors) Completed.
    fault: Option<(u64, bool, u64, u32)>,
}

fn failure(status: u8, descriptor: Bytes) -> Failure {
    Failure {
        status,
        descriptor,
        fault: None,
    }
}

fn page_fault(status: u8, descriptor: Bytes, fault: (u64, bool, u64, u32)) -> Failure {
    Failure {
        status,
        descriptor,
        fault: Some(fault),
    }
}

/// Table 5-6 "Operation Status Codes", but for those that need more than a
/// descriptor.
fn failures() -> Vec<Failure> {
    let source = 1;
    let destination = 3;
    let delta = |offset: u64, bytes: u8| operation(APPLY_DELTA).source(offset).with(40, &[bytes]);
    let half = NOWHERE - 0x1000;
    vec![
        page_fault(
            0x03,
            memory_move(half, DATA, 0x1800, RECORD),
            (source, false, NOWHERE, 0x1000),
        ),
        page_fault(
            0x03,
            memory_move(DATA, half, 0x1800, RECORD),
            (destination, true, NOWHERE, 0x1000),
        ),
        page_fault(0x06, batch(NOWHERE, 2, RECORD), (source, false, NOWHERE, 0)),
        // Offsets 0 and 0; offset 0x1000 beyond 64 bytes.
        failure(0x07, delta(DATA, 20)),
        failure(0x08, delta(DATA + 64, 10)),
        // A block of 512 bytes whose guard is that of other data.
        failure(0x09, operation(DIF_STRIP).size(520)),
        failure(0x10, operation(UNDEFINED)),
        // Translation fetch is none of version 1.0.
        failure(0x10, operation(0x0a)),
        failure(0x11, operation(MEMORY_MOVE).also(1 << 15)),
        failure(0x12, operation(MEMORY_MOVE).with(63, &[0x80])),
        failure(0x13, operation(MEMORY_MOVE).size(0)),
        failure(0x13, operation(MEMORY_MOVE).size(0x8000_0001)),
        failure(0x14, batch(DATA, 1, RECORD)),
        failure(0x15, delta(DATA, 9)),
        failure(0x16, delta(DATA + 0x2000, 10)),
        failure(
            0x17,
            operation(DUALCAST).with(40, &(DATA + 0x3001).to_le_bytes()),
        ),
        failure(0x18, batch(DATA + 1, 2, RECORD)),
        failure(0x1c, delta(DATA, 10).destination(DATA + 0x2004)),
    ]
}

fn poke_operands(rig: &mut Rig) {
    rig.machine.poke(None, DATA, &[0; 520]);
    rig.machine.poke(None, DATA + 65, &[0x10]);
}

#[test]
fn an_error_is_in_the_record_where_there_is_one() {
    for (options, fault_info) in [("", false), (SECOND, true)] {
        for case in failures() {
            if fault_info && (case.descriptor.0[7] == 0x0a || case.status == 0x14) {
                continue;
            }
            let mut rig = with_ats(options);
            poke_operands(&mut rig);
            run(&mut rig, &case.descriptor);
            let record = rig.machine.peek(None, RECORD, 32);
            let context = format!("{options} {:#x} {record:x?}", case.status);
            let write = case.fault.is_some_and(|fault| fault.1);
            assert_eq!(record[0], case.status | u8::from(write) << 7, "{context}");
            if let Some((operand, _, page, completed)) = case.fault {
                let info = if fault_info { operand as u8 } else { 0 };
                assert_eq!(record[2] >> 1 & 0b111, info, "{context}");
                assert_eq!(record[4..8], completed.to_le_bytes(), "{context}");
                let address = rig.machine.peek64(None, RECORD + 8);
                assert_eq!(address & !0xfff, page, "{context}");
            }
            if case.status >= 0x10 {
                assert_eq!(record[4..8], [0; 4], "{context}: Bytes Completed");
            }
            if case.status == 0x11 {
                assert_eq!(record[16..19], [0, 0x80, 0], "{context}");
            }
            assert_eq!(rig.software_error(), [0; 4], "{context}");
        }
    }
}

/// §9.2.15, bit by bit: without a record the error is in SWERROR.
#[test]
fn an_error_is_in_the_register_where_there_is_no_record() {
    for (options, second_generation) in [("", false), (SECOND, true)] {
        for case in failures() {
            if second_generation && (case.descriptor.0[7] == 0x0a || case.status == 0x14) {
                continue;
            }
            let mut rig = with_ats(options);
            poke_operands(&mut rig);
            run(&mut rig, &case.descriptor.without_record());
            let [first, second, address, unused] = rig.software_error();
            let context = format!("{options} {:#x}: {first:#x} {second:#x}", case.status);
            let code = u64::from(case.descriptor.0[7]);
            let (operand, write, page, _) = case.fault.unwrap_or_default();
            // Valid; descriptor and WQ index valid; R/W; WQ 2.
            let mut expected =
                0b1101 | u64::from(write) << 5 | u64::from(case.status) << 8 | 2 << 16 | code << 32;
            let mut info = operand << 61;
            if case.status == 0x11 {
                info = 1 << (32 + 15);
            }
            if second_generation && info != 0 {
                expected |= 1 << 7;
            }
            assert_eq!(first, expected, "{context}");
            // Before version 2.0 the error information is for 0x11 only.
            if second_generation || case.status == 0x11 {
                assert_eq!(second, info, "{context}");
            }
            assert_eq!(address & !0xfff, page, "{context}");
            assert_eq!(unused, 0, "{context}");
            assert_eq!(rig.machine.peek(None, RECORD, 32), [0; 32]);
        }
    }
}

/// The first quadword names privilege and PASID too.
#[test]
fn the_register_names_the_client() {
    for (setup, trusted, client) in [
        (QueueSetup::with_pasid(0xabcde), 0, 0xa_bcde << 40),
        (
            QueueSetup {
                privileged: true,
                ..QueueSetup::with_pasid(0xabcde)
            },
            0,
            0xa_bcde << 40 | 1 << 6,
        ),
        (
            QueueSetup::shared(),
            0x8001_2345 & !0x7ff0_0000,
            0x1_2345 << 40 | 1 << 6,
        ),
        (QueueSetup::shared(), 0xf_ffff, 0xf_ffff << 40),
    ] {
        let mut rig = ready("", true, setup);
        let descriptor = Bytes::new(UNDEFINED, 0).trusted(trusted);
        if setup.dedicated {
            rig.post(2, LIMITED_MSIX, &descriptor);
        } else {
            assert!(rig.enqueue(2, LIMITED_MSIX, &descriptor));
        }
        rig.run();
        let expected = 0x2_100d | u64::from(UNDEFINED) << 32 | client;
        assert_eq!(rig.software_error(), [expected, 0, 0, 0]);
    }
}

/// Table 5-6: Success with false predicate is no error.
#[test]
fn false_predicates_are_no_errors() {
    let mut rig = with_ats("");
    rig.machine.poke(None, DATA, &[1]);
    let compare = operation(COMPARE).also(1 << 7);
    run(&mut rig, &compare);
    assert_eq!(rig.machine.peek(None, RECORD, 8), [2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.software_error(), [0; 4]);
}

/// §3.13.2, Table 5-6: with page requests on, a descriptor that blocks ends
/// with 0x04 once the request has an invalid response; one that does not with
/// 0x03; the list and the record always block.
#[test]
fn page_requests_that_fail_end_a_descriptor() {
    let blocking = operation(MEMORY_MOVE).also(BLOCK_ON_FAULT);
    for (descriptor, status) in [
        (blocking.source(NOWHERE), 0x04),
        (blocking.destination(NOWHERE), 0x84),
        (operation(MEMORY_MOVE).source(NOWHERE), 0x03),
        (batch(NOWHERE, 2, RECORD), 0x06),
        (no_op(NOWHERE), 0x1a),
    ] {
        let mut rig = Rig::new("");
        rig.enable_ats();
        rig.config_write(r::PRS_CONTROL, 2, 1);
        rig.config_write(r::PRS_ALLOCATION, 4, 1);
        rig.configure(2, QueueSetup::default());
        rig.write32(rig.wqcfg(2) + 8, 1 | 1 << 1 | 10 << 4);
        rig.enable(&[2]);
        map(&mut rig, None);
        run(&mut rig, &descriptor);
        let registered = (rig.software_error()[0] >> 8 & 0xff) as u8;
        let found = rig.status(RECORD) | registered;
        assert_eq!(found, status, "{status:#x}");
    }
}

/// §3.13.1, Table 5-6 code 0x20: without ATS nobody tells the device of a fault
/// on a write, and one on a read is a hardware error. A queue can do without
/// by itself.
#[test]
fn without_ats_page_faults_are_hardware_errors_or_unnoticed() {
    for by_queue in [false, true] {
        let mut rig = Rig::new("");
        if by_queue {
            rig.enable_ats();
        }
        rig.configure(2, QueueSetup::default());
        rig.write32(rig.wqcfg(2) + 8, 1 | u32::from(by_queue) << 2 | 10 << 4);
        rig.enable(&[2]);
        map(&mut rig, None);
        for (index, descriptor, status) in [
            (0, memory_move(NOWHERE, DATA, 64, RECORD), 0x20),
            (1, memory_move(DATA, NOWHERE, 64, RECORD + 32), 0x01),
            (2, batch(NOWHERE, 2, RECORD + 64), 0x20),
            (3, no_op(NOWHERE), 0),
        ] {
            run(&mut rig, &descriptor);
            assert_eq!(rig.status(RECORD + 32 * index), status, "case {index}");
        }
        assert_eq!(rig.software_error(), [0; 4]);
    }
}

/// Table 5-6, 0x20 and 0x21: nothing answers.
#[test]
fn aborted_accesses_are_hardware_errors() {
    for ats in [false, true] {
        for (source, destination, status) in
            [(DATA + 0x3000, DATA, 0x20), (DATA, DATA + 0x3000, 0x21)]
        {
            let mut rig = ready("", ats, QueueSetup::default());
            let record = DATA + 0x1000;
            rig.machine.aborts_from = Some(DATA + 0x3000);
            run(&mut rig, &memory_move(source, destination, 64, record));
            assert_eq!(rig.status(record), status);
            let silent = memory_move(source, destination, 64, 0).without_record();
            run(&mut rig, &silent);
            assert_eq!(rig.software_error()[0] >> 8 & 0xff, u64::from(status));
        }
    }
}

/// Table 5-6, 0x1e: the traffic classes of a group must have a virtual channel.
/// TC-A is 0 here, and TC-B 1, which VC0 carries only at first.
#[test]
fn traffic_classes_need_a_channel() {
    const VC0_CONTROL: usize = 0x184;
    const VC1_CONTROL: usize = 0x190;
    const VC1_ENABLE: u32 = 1 << 31;
    let address_1 = 1 << 9;
    let completion_record = 1 << 12;
    for (vc0, vc1, selector, status) in [
        (0xff, 0, address_1, 0x01),
        (0x01, 0, 0, 0x01),
        (0x01, 0, address_1, 0x1e),
        (0x01, 0b10, address_1, 0x1e),
        (0x01, VC1_ENABLE, address_1, 0x1e),
        (0x01, VC1_ENABLE | 0b10, address_1, 0x01),
        (0x01, VC1_ENABLE | 0b10, completion_record, 0x01),
    ] {
        let mut rig = Rig::new("");
        rig.config_write(VC0_CONTROL, 4, vc0);
        rig.config_write(VC1_CONTROL, 4, vc1 | 1 << 24);
        rig.configure(2, QueueSetup::default());
        rig.write64(r::GRPCFG + r::GROUP_FLAGS, 96 << 20 | 1 << 3);
        rig.enable(&[2]);
        map(&mut rig, None);
        run(&mut rig, &operation(MEMORY_MOVE).also(selector));
        assert_eq!(rig.status(RECORD), status, "{vc0:#x} {vc1:#x}");
        assert_eq!(rig.software_error(), [0; 4]);
        if status == 0x1e {
            // A record by that class cannot be written.
            rig.machine.poke(None, RECORD, &[0]);
            run(
                &mut rig,
                &no_op(RECORD).also(completion_record).interrupt(1),
            );
            assert_eq!(rig.status(RECORD), 0);
            assert_eq!(rig.software_error()[0], 0x2_1e0d);
            assert_eq!(rig.machine.messages, [], "discarded");
        }
    }
}

/// §5.4, Table 5-6: a descriptor whose record cannot be written is discarded:
/// SWERROR, no record, no interrupt.
#[test]
fn errors_about_the_record_go_to_the_register() {
    let mut rig = with_ats("");
    run(&mut rig, &no_op(NOWHERE).interrupt(1));
    let [first, _, address, _] = rig.software_error();
    // A write; 0x1a; WQ 2. All bits of the address are there.
    assert_eq!((first, address), (0x2_1a2d, NOWHERE));
    assert_eq!(rig.machine.messages, []);

    for misaligned in [RECORD + 8, RECORD + 16, RECORD + 1] {
        let mut rig = with_ats("");
        rig.machine.poke(None, DATA, &[1; 64]);
        let descriptor = operation(MEMORY_MOVE).record(misaligned).interrupt(1);
        run(&mut rig, &descriptor);
        assert_eq!(rig.software_error()[0], 0x3_0002_1b0d);
        assert_eq!(rig.machine.peek(None, RECORD, 64), [0; 64]);
        assert_eq!(rig.machine.peek(None, DATA + 0x2000, 64), [0; 64]);
        assert_eq!(rig.machine.messages, []);
    }
}

/// Table 5-6, 0x1d: never in the record.
#[test]
fn privilege_without_privileged_mode_goes_to_the_register() {
    let mut rig = Rig::new("");
    rig.config_write(r::PASID_CONTROL, 2, 1);
    rig.configure(2, QueueSetup::shared());
    rig.enable(&[2]);
    rig.machine.map(Some(7), RECORD, 0x1000, true);
    let descriptor = no_op(RECORD).trusted(1 << 31 | 7);
    assert!(rig.enqueue(2, LIMITED_MSIX, &descriptor));
    rig.run();
    assert_eq!(rig.software_error()[0], 0x2_1d4d | 7 << 40);
    assert_eq!(rig.machine.peek_byte(Some(7), RECORD), 0);
}

/// Table 5-6, 0x22: in the record and in SWERROR. Only the bench can raise it.
#[test]
fn translation_errors_are_in_both_places() {
    let mut rig = with_ats("");
    rig.control("error-burst 1 0x22");
    run(&mut rig, &operation(MEMORY_MOVE));
    assert_eq!(rig.status(RECORD), 0x22);
    assert_eq!(rig.software_error()[0], 0x3_0002_220d);
}

fn undefined(operation: u8) -> Bytes {
    Bytes::new(operation, 0)
}

/// §9.2.15: the first error stays until software clears it; its interrupt
/// comes with Valid.
#[test]
fn the_register_holds_the_first_error_and_remembers_overflow() {
    for enabled in [true, false] {
        let mut rig = with_ats("");
        rig.write32(r::GENCTRL, u32::from(enabled));
        let interrupts = |number: usize| vec![message(0); if enabled { number } else { 0 }];
        run(&mut rig, &undefined(0x7e));
        assert_eq!(rig.software_error()[0], 0x7e_0002_100d);
        run(&mut rig, &undefined(0x7f));
        run(&mut rig, &undefined(0x7f));
        assert_eq!(rig.software_error()[0], 0x7e_0002_100f, "overflow");
        assert_eq!(rig.machine.messages, interrupts(1));
        assert_eq!(rig.read32(r::INTCAUSE), u32::from(enabled));
        // What is read-only stays; the two bits are cleared one by one.
        rig.write64(r::SWERROR, !0b11);
        rig.write64(r::SWERROR + 8, u64::MAX);
        assert_eq!(rig.software_error()[0], 0x7e_0002_100f);
        rig.write32(r::SWERROR, 0b10);
        assert_eq!(rig.software_error()[0], 0x7e_0002_100d);
        rig.write(r::SWERROR, 1, 0b01);
        assert_eq!(rig.software_error()[0] & 0b11, 0);
        run(&mut rig, &undefined(0x7f));
        assert_eq!(rig.software_error()[0], 0x7f_0002_100d);
        assert_eq!(rig.machine.messages, interrupts(2));
        // As Linux does it.
        rig.write64(r::SWERROR, 0b11);
        assert_eq!(rig.software_error()[0] & 0b11, 0);
    }
}

/// §8.1.3: flags in the record of a refused descriptor are those that were set
/// and may not be.
#[test]
fn the_record_names_invalid_flags() {
    for (descriptor, invalid) in [
        (
            operation(MEMORY_MOVE).also(1 << 6 | 1 << 15),
            1 << 6 | 1 << 15,
        ),
        (no_op(RECORD).also(1 << 8), 1 << 8),
        (operation(MEMORY_MOVE).also(1 << 0), 1 << 0),
        (operation(MEMORY_MOVE).also(1 << 1), 1 << 1),
        (operation(MEMORY_MOVE).also(0xff << 16), 0xff << 16),
    ] {
        let mut rig = with_ats("");
        run(&mut rig, &descriptor);
        assert_eq!(rig.status(RECORD), 0x11);
        let named = rig.machine.peek64(None, RECORD + 16) & 0xff_ffff;
        assert_ne!(named & invalid, 0, "{invalid:#x}: {named:#x}");
        assert_eq!(named & !invalid, 0, "{invalid:#x}: {named:#x}");
    }
    // A missing flag is named by itself.
    let mut rig = with_ats("");
    run(&mut rig, &operation(COMPARE).flags(CRAV));
    assert_eq!(rig.status(RECORD), 0x11);
    let named = rig.machine.peek64(None, RECORD + 16) & 0xff_ffff;
    assert_eq!(named, u64::from(RCR));
}
