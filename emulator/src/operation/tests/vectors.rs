//! Descriptors, completion records and memory worked out by hand from the
//! specification, and behaviour that random cases do not single out.

use super::machine::{BASE, Machine, PAGE, Page, Random};
use super::{Build, EVERYTHING, record_flags, run, run_under};
use crate::bus::{Bus, BusError, Requester, TransferError};
use crate::completion::{Operand, Outcome, Status};
use crate::descriptor::{Descriptor, Flags, Opcode};
use crate::memory::{DmaFaultInjection, Memory};
use crate::operation::{Capabilities, Execution};

/// The 64 bytes that `hex`, which may contain white space, stands for.
fn descriptor(hex: &str) -> Descriptor {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    Descriptor::from_bytes(bytes.try_into().unwrap())
}

/// The completion record as hexadecimal digits, eight bytes a group.
fn record(outcome: &Outcome) -> String {
    let record = outcome.record(true);
    let words: Vec<String> = record
        .chunks(8)
        .map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    words.join(" ")
}

#[test]
fn no_op() {
    let mut machine = Machine::zeroed();
    let no_op = descriptor(
        "00000000 0c000000  2000005000000000  0000000000000000  0000000000000000
         00000000 00000000  0000000000000000  0000000000000000  0000000000000000",
    );
    let outcome = run(&mut machine, &no_op, 0);
    let expected = "0100000000000000 0000000000000000 0000000000000000 0000000000000000";
    assert_eq!(record(&outcome), expected);
    assert_eq!(machine.accesses, 0);
}

#[test]
fn memory_move_of_five_bytes() {
    let mut machine = Machine::zeroed();
    machine.at(BASE + 0x123, 5).copy_from_slice(b"weirs");
    // From 7f1234567123 to 7f1234568ffe, over the end of a page.
    let copy = descriptor(
        "00000000 0c000003  2000005000000000  23715634127f0000  fe8f5634127f0000
         05000000 00000000  0000000000000000  0000000000000000  0000000000000000",
    );
    let outcome = run(&mut machine, &copy, 0);
    let expected = "0100000000000000 0000000000000000 0000000000000000 0000000000000000";
    assert_eq!(record(&outcome), expected);
    assert_eq!(machine.at(BASE + 0x1ffd, 7), b"\0weirs\0");
}

#[test]
fn memory_move_into_a_missing_page() {
    let mut machine = Machine::zeroed();
    machine.pages[2] = Page::Absent;
    let copy = descriptor(
        "00000000 0c000003  2000005000000000  23715634127f0000  fe8f5634127f0000
         05000000 00000000  0000000000000000  0000000000000000  0000000000000000",
    );
    // Status 03 and write; destination (3); two bytes; address 7f1234569000.
    let outcome = run(&mut machine, &copy, 0);
    let expected = "8300060002000000 00905634127f0000 0000000000000000 0000000000000000";
    assert_eq!(record(&outcome), expected);

    // The same with Block on Fault.
    let blocking = descriptor(
        "00000000 0e000003  2000005000000000  23715634127f0000  fe8f5634127f0000
         05000000 00000000  0000000000000000  0000000000000000  0000000000000000",
    );
    let outcome = run(&mut machine, &blocking, 0);
    let expected = "8400060002000000 00905634127f0000 0000000000000000 0000000000000000";
    assert_eq!(record(&outcome), expected);
}

#[test]
fn compare_that_finds_a_difference() {
    let mut machine = Machine::zeroed();
    machine.at(BASE + 0x47, 1)[0] = 1;
    // Check Result, and the expectation that the buffers are equal.
    let compare = descriptor(
        "00000000 8c000005  2000005000000000  40705634127f0000  00805634127f0000
         10000000 00000000  0000000000000000  0000000000000000  0000000000000000",
    );
    let outcome = run(&mut machine, &compare, 0);
    let expected = "0201000007000000 0000000000000000 0000000000000000 0000000000000000";
    assert_eq!(record(&outcome), expected);
}

#[test]
fn delta_of_two_words() {
    let mut machine = Machine::zeroed();
    machine.at(BASE + 0x1018, 8).copy_from_slice(b"ABCDEFGH");
    machine.at(BASE + 0x1fff, 1)[0] = b'z';
    let create = descriptor(
        "00000000 0c000007  2000005000000000  00705634127f0000  00805634127f0000
         00100000 00000000  01905634127f0000  5000000000000000  0000000000000000",
    );
    let outcome = run(&mut machine, &create, 0);
    // Result 1; a delta record of 20 bytes.
    let expected = "0101000000000000 0000000000000000 1400000000000000 0000000000000000";
    assert_eq!(record(&outcome), expected);
    assert_eq!(
        machine.at(BASE + 0x2001, 21),
        b"\x03\0ABCDEFGH\xff\x01\0\0\0\0\0\0\0z\0"
    );
}

/// The test vectors of RFC 3720 Appendix B.4, as values of CRC32C.
#[test]
fn crc_of_the_iscsi_test_vectors() {
    let ascending: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap());
    let mut descending = ascending;
    descending.reverse();
    for (data, crc) in [
        ([0x00; 32], "aa36918a"),
        ([0xff; 32], "43aba862"),
        (ascending, "4e79dd46"),
        (descending, "5cdb3f11"),
    ] {
        let mut machine = Machine::zeroed();
        machine.at(BASE, 32).copy_from_slice(&data);
        let generate = descriptor(
            "00000000 0c000010  2000005000000000  00705634127f0000  0000000000000000
             20000000 00000000  0000000000000000  0000000000000000  0000000000000000",
        );
        let outcome = run(&mut machine, &generate, 0);
        let expected = format!("0100000000000000 0000000000000000 {crc}00000000 0000000000000000");
        assert_eq!(record(&outcome), expected);
    }
}

/// A CRC that stopped at a fault goes on from its value, in either form of the
/// seed, to the same result as without the fault.
#[test]
fn crc_goes_on_from_a_partial_completion() {
    let mut machine = Machine::new(&mut Random::new(7));
    let all = Flags::BYPASS_CRC_INVERSION_AND_REFLECTION | Flags::BYPASS_DATA_REFLECTION;
    for flags in [Flags::NONE, Flags::CRC_SIZE, all, all | Flags::CRC_SIZE] {
        let generate = |flags| Build::new(Opcode::CRC_GENERATION, record_flags() | flags);
        let whole = generate(flags)
            .transfer(BASE + 100, 0, 2 * PAGE)
            .u32(40, 0x1234_5678);
        let result = run(&mut machine, &whole.done(), 0).tail;

        machine.pages[1] = Page::Absent;
        let partial = run(&mut machine, &whole.done(), 0);
        machine.pages[1] = Page::Present;
        let done = u64::from(partial.bytes_completed);
        assert_eq!((partial.status, done), (Status::PAGE_FAULT, PAGE - 100));

        let rest = generate(flags).transfer(BASE + 100 + done, 0, 2 * PAGE - done);
        let continued = run(&mut machine, &rest.put(40, &partial.tail[..8]).done(), 0);
        assert_eq!(continued.tail, result);

        let seed = BASE + 8 * PAGE;
        machine.at(seed, 16).copy_from_slice(&partial.tail);
        let rest = generate(flags | Flags::READ_CRC_SEED);
        let rest = rest
            .transfer(BASE + 100 + done, 0, 2 * PAGE - done)
            .u64(48, seed);
        assert_eq!(run(&mut machine, &rest.done(), 0).tail, result);
    }
}

/// A field of guard (T10 CRC of the data), application and reference tag, all
/// big-endian, after each block.
#[test]
fn dif_insert_of_two_blocks() {
    let mut machine = Machine::zeroed();
    // A lone bit in the last byte leaves the polynomial itself, x^16 to be
    // divided once: 8bb7.
    machine.at(BASE + 511, 1)[0] = 1;
    let insert = descriptor(
        "00000000 0c000013  2000005000000000  00705634127f0000  00805634127f0000
         00040000 00000000  0000000000000000  0000000000000000  ffffffff00ff34a2",
    );
    let outcome = run(&mut machine, &insert, 0);
    // The next reference tag; mask ff00; the application tag under its mask.
    let expected = "0100000000000000 0000000000000000 0000000000000000 0100000000ff3400";
    assert_eq!(record(&outcome), expected);
    assert_eq!(
        machine.at(BASE + 0x1000 + 512, 8),
        b"\x8b\xb7\x00\x34\xff\xff\xff\xff"
    );
    assert_eq!(
        machine.at(BASE + 0x1000 + 1032, 8),
        b"\x00\x00\x00\x34\x00\x00\x00\x00"
    );
}

#[test]
fn dif_check_names_every_mismatch() {
    let mut machine = Machine::zeroed();
    machine
        .at(BASE + 512, 8)
        .copy_from_slice(b"\x00\x01\x12\x34\x00\x00\x00\x07");
    let check = |source_flags, mask| {
        let build = Build::new(Opcode::DIF_CHECK, record_flags()).transfer(BASE, 0, 520);
        let build = build
            .u8(40, source_flags)
            .u16(52, mask)
            .u16(54, 0x1235)
            .u32(48, 8);
        run(&mut machine.clone(), &build.done(), 0)
    };
    let all = check(0x00, 0);
    assert_eq!(
        (all.status, all.result, all.bytes_completed),
        (Status::DIF_ERROR, 7, 0)
    );
    assert_eq!(check(0x40, 0).result, 3);
    assert_eq!(check(0x20, 0).result, 6);
    assert_eq!(check(0x00, 0xffff).result, 5);
    assert_eq!(check(0x60, 0xffff).status, Status::SUCCESS);
}

#[test]
fn cache_flush_and_translation_fetch_visit_every_page() {
    let flush = Build::new(Opcode::CACHE_FLUSH, record_flags());
    let fetch = Build::new(Opcode::TRANSLATION_FETCH, record_flags());
    // The last byte of page 1 to the first byte of page 3.
    let from = BASE + 2 * PAGE - 1;
    for build in [
        flush.transfer(0, from, PAGE + 2),
        fetch.transfer(from, 0, PAGE + 2),
    ] {
        let mut machine = Machine::zeroed();
        machine.pages[0] = Page::Absent;
        machine.pages[4] = Page::Absent;
        let outcome = run(&mut machine, &build.done(), 0);
        assert_eq!(
            (outcome, machine.accesses),
            (Outcome::new(Status::SUCCESS), 3)
        );

        machine.pages[3] = Page::WriteOnly;
        let outcome = run(&mut machine, &build.done(), 0);
        assert_eq!(outcome.status, Status::PAGE_FAULT);
        let fault = outcome.fault.unwrap();
        assert_eq!((fault.address, fault.write), (BASE + 3 * PAGE, false));
        assert_eq!(outcome.bytes_completed, 4097);
    }

    let mut machine = Machine::zeroed();
    let strided = Build::new(
        Opcode::TRANSLATION_FETCH,
        record_flags() | Flags::USE_STRIDE,
    );
    let strided = strided
        .transfer(BASE, 0, 10 * PAGE)
        .u32(48, 4 * 4096)
        .done();
    assert_eq!(run(&mut machine, &strided, 0).status, Status::SUCCESS);
    assert_eq!(machine.accesses, 3);
}

/// The region reaches up to the last address, and no further.
#[test]
fn walk_ends_with_the_address_space() {
    let mut machine = Machine::zeroed();
    let fetch = Build::new(Opcode::TRANSLATION_FETCH, record_flags());
    let outcome = run(&mut machine, &fetch.transfer(u64::MAX - 9, 0, 10).done(), 0);
    assert_eq!(outcome.fault.unwrap().address, u64::MAX - 9);
    let flush = Build::new(Opcode::CACHE_FLUSH, record_flags());
    let outcome = run(
        &mut machine,
        &flush.transfer(0, u64::MAX - 9, 4096).done(),
        0,
    );
    assert_eq!(outcome.fault.unwrap().operand, Operand::DESTINATION);
}

#[test]
fn nothing_wraps_round_the_end_of_the_address_space() {
    // Even where faults on writes go unnoticed, the first page stays as it is.
    let silent = Capabilities {
        reports_page_faults: false,
        ..EVERYTHING
    };
    let mut machine = Machine::zeroed();
    let fill = Build::new(Opcode::FILL, record_flags()).transfer(u64::MAX, u64::MAX - 99, 1000);
    let outcome = run_under(&silent, &mut machine, &fill.done(), 0);
    assert_eq!(outcome, Outcome::new(Status::SUCCESS));
    assert_eq!(machine.accesses, 0);
}

/// [§3.13.1 "Work Queue Address Translation Controls", Table 5-6 code 0x20].
#[test]
fn without_ats_writes_are_lost_and_reads_end_in_a_hardware_error() {
    let silent = Capabilities {
        reports_page_faults: false,
        ..EVERYTHING
    };
    let copy = Build::new(Opcode::MEMORY_MOVE, record_flags());
    let copy = copy.transfer(BASE, BASE + 8 * PAGE, 3 * PAGE).done();

    let mut machine = Machine::new(&mut Random::new(1));
    machine.pages[9] = Page::ReadOnly;
    let before = machine.clone();
    let outcome = run_under(&silent, &mut machine, &copy, 0);
    assert_eq!(outcome, Outcome::new(Status::SUCCESS));
    let page = usize::try_from(PAGE).unwrap();
    assert_eq!(machine.bytes[8 * page..9 * page], before.bytes[..page]);
    assert_eq!(
        machine.bytes[9 * page..10 * page],
        before.bytes[9 * page..10 * page]
    );
    assert_eq!(
        machine.bytes[10 * page..11 * page],
        before.bytes[2 * page..3 * page]
    );

    // An aborted write is noticed all the same.
    machine.pages[9] = Page::Broken;
    let outcome = run_under(&silent, &mut machine, &copy, 0);
    let error = (outcome.status, outcome.fault);
    assert_eq!(error, (Status::WRITE_HARDWARE_ERROR, None));

    // Block on Fault asks for a page request, which takes ATS.
    machine.pages[1] = Page::Absent;
    let blocking = Build::new(Opcode::MEMORY_MOVE, record_flags() | Flags::BLOCK_ON_FAULT);
    let blocking = blocking.transfer(BASE, BASE + 8 * PAGE, 3 * PAGE).done();
    for descriptor in [copy, blocking] {
        let outcome = run_under(&silent, &mut machine, &descriptor, 0);
        let error = (outcome.status, outcome.fault);
        assert_eq!(error, (Status::HARDWARE_ERROR, None));
    }
}

/// [§8.1.3.1 "Cache Control Hints", Table 5-6 code 0x21] Without ATS it is the
/// destination readback that finds a lost write, if the last byte was lost.
#[test]
fn destination_readback_notices_that_the_last_page_is_missing() {
    let silent = Capabilities {
        reports_page_faults: false,
        ..EVERYTHING
    };
    let flags = record_flags() | Flags::CACHE_CONTROL_2;
    let copy = Build::new(Opcode::MEMORY_MOVE, flags);
    let copy = copy.transfer(BASE, BASE + 8 * PAGE, 3 * PAGE).done();
    for (missing, status) in [
        (None, Status::SUCCESS),
        (Some(9), Status::SUCCESS),
        (Some(10), Status::WRITE_HARDWARE_ERROR),
    ] {
        let mut machine = Machine::new(&mut Random::new(1));
        if let Some(page) = missing {
            machine.pages[page] = Page::Absent;
        }
        let outcome = run_under(&silent, &mut machine, &copy, 0);
        assert_eq!(outcome, Outcome::new(status), "{missing:?}");
    }
}

/// What stands behind the bus is not trusted to count.
#[test]
fn bus_that_claims_to_have_transferred_too_much_is_not_believed() {
    struct Liar {
        copies: usize,
    }
    impl Bus for Liar {
        fn now_ns(&self) -> u64 {
            0
        }
        fn read(&mut self, _: Requester, _: u64, _: &mut [u8]) -> Result<(), TransferError> {
            Ok(())
        }
        fn write(&mut self, _: Requester, _: u64, _: &[u8]) -> Result<(), TransferError> {
            let (transferred, cause) = (usize::MAX, BusError::PageFault);
            Err(TransferError { transferred, cause })
        }
        fn copy(&mut self, _: Requester, _: u64, _: u64, _: usize) -> usize {
            self.copies
        }
        fn send_message(&mut self, _: u64, _: u32) -> Result<(), BusError> {
            Ok(())
        }
    }
    let copy = Build::new(Opcode::MEMORY_MOVE, record_flags()).transfer(BASE, BASE + PAGE, 100);
    let mut injection = DmaFaultInjection::default();
    let requester = Requester {
        pasid: None,
        privileged: false,
    };
    for reports_page_faults in [true, false] {
        let capabilities = Capabilities {
            reports_page_faults,
            ..EVERYTHING
        };
        let mut liar = Liar { copies: 0 };
        let mut memory = Memory::new(&mut liar, requester, &mut injection);
        let mut execution = Execution::new(&copy.done(), &capabilities);
        let outcome = execution.advance(&mut memory, 0).unwrap();
        let (status, completed) = if reports_page_faults {
            (Status::PAGE_FAULT, 100)
        } else {
            (Status::SUCCESS, 0)
        };
        assert_eq!(
            (outcome.status, outcome.bytes_completed),
            (status, completed)
        );
    }
    let mut liar = Liar { copies: usize::MAX };
    let mut memory = Memory::new(&mut liar, requester, &mut injection);
    let outcome = Execution::new(&copy.done(), &EVERYTHING).advance(&mut memory, 1000);
    assert_eq!(outcome, Some(Outcome::new(Status::SUCCESS)));
}

/// Two accesses for each 16 KiB of a move, none of them where the bus copies by
/// itself, and the buffer again from where it gave up.
#[test]
fn a_move_lets_the_bus_copy_what_it_can() {
    let copy = Build::new(Opcode::MEMORY_MOVE, record_flags());
    let copy = copy.transfer(BASE, BASE + 8 * PAGE, 7 * PAGE).done();
    for (copies, accesses) in [(0, 4), (usize::MAX, 2), (12 * 1024, 2 + 2)] {
        let mut machine = Machine::new(&mut Random::new(1));
        machine.copies = copies;
        let outcome = run(&mut machine, &copy, 1 << 20);
        assert_eq!(outcome, Outcome::new(Status::SUCCESS), "{copies}");
        assert_eq!(machine.accesses, accesses, "{copies}");
        let length = usize::try_from(7 * PAGE).unwrap();
        let source = machine.at(BASE, length).to_vec();
        assert!(machine.at(BASE + 8 * PAGE, length) == source, "{copies}");
    }
}

/// What the bus copies does not count: the bench means reads and writes.
#[test]
fn an_armed_dma_fault_hits_the_same_access_of_a_move_either_way() {
    let copy = Build::new(Opcode::MEMORY_MOVE, record_flags());
    let copy = copy.transfer(BASE, BASE + 8 * PAGE, 7 * PAGE).done();
    for copies in [0, usize::MAX] {
        let mut machine = Machine::new(&mut Random::new(1));
        machine.copies = copies;
        let mut injection = DmaFaultInjection::default();
        injection.arm(3);
        let requester = Requester {
            pasid: None,
            privileged: false,
        };
        let mut memory = Memory::new(&mut machine, requester, &mut injection);
        let outcome = Execution::new(&copy, &EVERYTHING)
            .advance(&mut memory, usize::MAX)
            .unwrap();
        let fault = outcome.fault.unwrap();
        assert_eq!((fault.address, fault.write), (BASE + 4 * PAGE, false));
        assert_eq!(u64::from(outcome.bytes_completed), 4 * PAGE);
    }
}

#[test]
fn a_long_descriptor_gives_way_after_its_budget() {
    let mut machine = Machine::zeroed();
    let fill = Build::new(Opcode::FILL, record_flags());
    let fill = fill.transfer(u64::MAX, BASE, 7 * PAGE).done();
    let mut execution = Execution::new(&fill, &EVERYTHING);
    let mut injection = DmaFaultInjection::default();
    let requester = Requester {
        pasid: None,
        privileged: false,
    };
    let mut memory = Memory::new(&mut machine, requester, &mut injection);
    let budget = usize::try_from(3 * PAGE).unwrap();
    let success = Some(Outcome::new(Status::SUCCESS));
    for expected in [None, None, success, success] {
        assert_eq!(execution.advance(&mut memory, budget), expected);
    }
    assert_eq!(machine.accesses, 7);
}

#[test]
fn an_access_that_the_bench_makes_fail_is_a_page_fault() {
    let mut machine = Machine::new(&mut Random::new(2));
    let fill = Build::new(Opcode::FILL, record_flags());
    let fill = fill.transfer(u64::MAX, BASE, 7 * PAGE).done();
    let mut injection = DmaFaultInjection::default();
    injection.arm(6);
    let requester = Requester {
        pasid: None,
        privileged: false,
    };
    let mut memory = Memory::new(&mut machine, requester, &mut injection);
    let outcome = Execution::new(&fill, &EVERYTHING)
        .advance(&mut memory, usize::MAX)
        .unwrap();
    let fault = outcome.fault.unwrap();
    assert_eq!((fault.address, fault.write), (BASE + 5 * PAGE, true));
    assert_eq!(u64::from(outcome.bytes_completed), 5 * PAGE);
}

/// [§8.3.9 "Apply Delta Record"], codes 0x07 and 0x08.
#[test]
fn delta_record_with_a_bad_offset_is_applied_up_to_there() {
    let apply = |offsets: [u8; 3], size: u64| {
        let mut machine = Machine::zeroed();
        for (index, offset) in (0..).zip(offsets) {
            let delta = [offset, 0, 1, 2, 3, 4, 5, 6, 7, 8];
            machine.at(BASE + index * 10, 10).copy_from_slice(&delta);
        }
        let build = Build::new(Opcode::APPLY_DELTA_RECORD, record_flags());
        let build = build.transfer(BASE, BASE + PAGE, size).u32(40, 30);
        let outcome = run(&mut machine, &build.done(), 0);
        (outcome.status, outcome.bytes_completed)
    };
    assert_eq!(apply([0, 1, 5], 48), (Status::SUCCESS, 0));
    assert_eq!(apply([0, 1, 6], 48), (Status::DELTA_OUT_OF_RANGE, 20));
    assert_eq!(apply([2, 2, 5], 48), (Status::DELTA_NOT_INCREASING, 10));
    assert_eq!(apply([0, 4, 3], 48), (Status::DELTA_NOT_INCREASING, 20));
}
