//! Every flag of every operation, with and without what it depends on.

use super::rows::{A, B, Row, refusal, rows};
use super::{Build, EVERYTHING, record_flags};
use crate::completion::Status;
use crate::descriptor::{Flags, Opcode};
use crate::operation::Capabilities;

#[test]
fn each_operation_allows_its_flags_and_no_other() {
    for Row { good, addable, .. } in rows() {
        assert_eq!(refusal(good, &EVERYTHING), None, "{:x?}", good.0);
        for bit in 0..24u32 {
            let mut build = good;
            build.0[4 + bit as usize / 8] |= 1 << (bit % 8);
            let invalid = refusal(build, &EVERYTHING)
                .filter(|refusal| refusal.status == Status::INVALID_FLAGS);
            let Some(refusal) = invalid else {
                assert!(addable >> bit & 1 == 1, "flag {bit} of {:x?}", build.0);
                continue;
            };
            assert!(addable >> bit & 1 == 0, "flag {bit} of {:x?}", build.0);
            assert_eq!(refusal.invalid_flags.bits(), 1 << bit);
            assert!(!refusal.discarded);
            let record = refusal.outcome().record(true);
            assert_eq!(record[0], 0x11);
            assert_eq!(record[16..20], (1u32 << bit).to_le_bytes());
        }
    }
}

/// The flags that `capabilities` make invalid in a descriptor of `opcode`.
fn invalid_flags(build: Build, capabilities: &Capabilities) -> u32 {
    refusal(build, capabilities).map_or(0, |refusal| {
        assert_eq!(refusal.status, Status::INVALID_FLAGS);
        refusal.invalid_flags.bits()
    })
}

#[test]
fn flags_need_the_capability_behind_them() {
    let without = |bit: u32| Capabilities {
        gencap: EVERYTHING.gencap & !(1 << bit),
        ..EVERYTHING
    };
    let with = |opcode, flags| Build::new(opcode, record_flags() | flags);
    let copy = |flags| with(Opcode::MEMORY_MOVE, flags).transfer(A, B, 8);
    let fill = |flags| with(Opcode::FILL, flags).transfer(A, B, 8);
    let crc = |flags| with(Opcode::CRC_GENERATION, flags).transfer(A, 0, 8);
    let fetch = |flags| {
        with(Opcode::TRANSLATION_FETCH, flags)
            .transfer(A, 0, 8)
            .u32(48, 4096)
    };
    let drain = |flags| with(Opcode::DRAIN, flags);
    let batch = |flags| with(Opcode::BATCH, flags).u64(16, A).u32(32, 2);
    for (build, bit, invalid) in [
        (copy(Flags::BLOCK_ON_FAULT), 0, 1 << 1),
        (copy(Flags::CACHE_CONTROL_1), 2, 1 << 8),
        (copy(Flags::CACHE_CONTROL_3), 5, 1 << 5),
        (fetch(Flags::USE_STRIDE), 7, 1 << 16),
        (copy(Flags::CACHE_CONTROL_2), 8, 1 << 14),
        (
            copy(Flags::CACHE_CONTROL_2 | Flags::CACHE_CONTROL_1),
            2,
            1 << 14 | 1 << 8,
        ),
        (
            copy(Flags::CACHE_CONTROL_2 | Flags::CACHE_CONTROL_1),
            8,
            1 << 14 | 1 << 8,
        ),
        (
            copy(Flags::CACHE_CONTROL_2 | Flags::CACHE_CONTROL_3),
            8,
            1 << 14 | 1 << 5,
        ),
        (
            drain(Flags::READBACK_ADDRESS_1_VALID).u64(16, A),
            9,
            1 << 16,
        ),
        (
            drain(Flags::READBACK_ADDRESS_2_VALID).u64(24, A),
            9,
            1 << 17,
        ),
        (fill(Flags::PATTERN_SIZE), 10, 1 << 18),
        (crc(Flags::CRC_SIZE), 11, 1 << 19),
        (batch(Flags::BATCH_ERROR), 15, 1 << 16),
    ] {
        assert_eq!(invalid_flags(build, &EVERYTHING), 0, "GENCAP.{bit}");
        assert_eq!(invalid_flags(build, &without(bit)), invalid, "GENCAP.{bit}");
    }

    let unordered = Capabilities {
        gencap: EVERYTHING.gencap | 1 << 53,
        ..EVERYTHING
    };
    assert_eq!(
        invalid_flags(copy(Flags::STRICT_ORDERING), &unordered),
        1 << 13
    );
    let no_waiting = Capabilities {
        block_on_fault: false,
        ..EVERYTHING
    };
    assert_eq!(
        invalid_flags(copy(Flags::BLOCK_ON_FAULT), &no_waiting),
        1 << 1
    );
    let first_generation = Capabilities {
        version: 0x100,
        ..EVERYTHING
    };
    assert_eq!(
        invalid_flags(copy(Flags::CACHE_CONTROL_3), &first_generation),
        1 << 5
    );
    let member = Capabilities {
        in_batch: true,
        ..EVERYTHING
    };
    assert_eq!(invalid_flags(copy(Flags::FENCE), &member), 0);
    assert_eq!(invalid_flags(copy(Flags::FENCE), &EVERYTHING), 1);
}

/// Table 8-4, all eight encodings.
#[test]
fn cache_control_encodings() {
    let (one, two, three) = (
        Flags::CACHE_CONTROL_1,
        Flags::CACHE_CONTROL_2,
        Flags::CACHE_CONTROL_3,
    );
    for (flags, move_allows, flush_allows) in [
        (Flags::NONE, true, true),
        (one, true, false),
        (two, true, true),
        (two | one, true, false),
        (three, true, false),
        (three | one, false, false),
        (three | two, true, false),
        (three | two | one, false, false),
    ] {
        let expected = |allowed| if allowed { 0 } else { flags.bits() };
        let copy = Build::new(Opcode::MEMORY_MOVE, record_flags() | flags).transfer(A, B, 8);
        assert_eq!(
            invalid_flags(copy, &EVERYTHING),
            expected(move_allows),
            "{flags:?}"
        );
        let flush = Build::new(Opcode::CACHE_FLUSH, record_flags() | flags).transfer(0, B, 8);
        assert_eq!(
            invalid_flags(flush, &EVERYTHING),
            expected(flush_allows),
            "{flags:?}"
        );
    }
}

/// Table 5-4, Request Completion Interrupt.
#[test]
fn interrupts_of_user_mode_descriptors_must_be_enabled() {
    let build = Build::new(Opcode::NO_OP, Flags::REQUEST_COMPLETION_INTERRUPT);
    for bits in 0..8 {
        let capabilities = Capabilities {
            user_interrupts: bits & 1 == 1,
            pasid_enabled: bits & 2 == 2,
            privileged: bits & 4 == 4,
            ..EVERYTHING
        };
        let reserved = bits == 2;
        let expected = if reserved { 1 << 4 } else { 0 };
        assert_eq!(invalid_flags(build, &capabilities), expected, "{bits:#b}");
    }
}

/// Table 5-5.
#[test]
fn operations_that_yield_a_result_require_a_record() {
    for Row { good, .. } in rows() {
        let opcode = good.done().opcode();
        let mut without_record = good.u64(8, 0);
        without_record.0[4] = 0;
        let mut without_request = good;
        without_request.0[4] = 0x04;
        let (expected, expected_request) = match opcode.0 {
            0x05..=0x07 | 0x10..=0x12 | 0x17 => (0x0c, 0x08),
            0x02 => (0x18, 0x18),
            _ => (0, 0),
        };
        assert_eq!(
            invalid_flags(without_record, &EVERYTHING),
            expected,
            "{opcode:?}"
        );
        assert_eq!(
            invalid_flags(without_request, &EVERYTHING),
            expected_request,
            "{opcode:?}"
        );
        // A record that is requested needs an address.
        let mut request_only = without_record;
        request_only.0[4] = 0x08;
        assert_ne!(invalid_flags(request_only, &EVERYTHING), 0, "{opcode:?}");
    }
    let tc_only = Build::new(Opcode::NO_OP, Flags::COMPLETION_RECORD_TC);
    assert_eq!(invalid_flags(tc_only, &EVERYTHING), 1 << 12);
}
