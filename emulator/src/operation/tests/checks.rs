//! Every check but those on flags, and every byte of the table behind them.

use super::machine::PAGE;
use super::rows::{A, B, C, Row, code, plain, refusal, rows};
use super::{Build, EVERYTHING, RECORD, record_flags};
use crate::completion::Status;
use crate::descriptor::{Flags, Opcode};
use crate::operation::Capabilities;
use crate::operation::check::Refusal;

#[test]
fn each_byte_that_an_operation_does_not_use_must_be_zero() {
    for Row { good, used, .. } in rows() {
        for byte in 16..64 {
            if used.iter().any(|range| range.contains(&byte)) {
                continue;
            }
            for bit in [0x01, 0x80] {
                let mut build = good;
                build.0[byte] |= bit;
                assert_eq!(
                    refusal(build, &EVERYTHING),
                    Some(plain(Status::RESERVED_FIELD)),
                    "byte {byte} of {:x?}",
                    build.0
                );
            }
        }
    }
}

#[test]
fn fields_are_reserved_where_a_flag_says_so() {
    let crc = |flags| Build::new(Opcode::CRC_GENERATION, record_flags() | flags).transfer(A, 0, 8);
    assert_eq!(code(crc(Flags::READ_CRC_SEED).u64(48, C)), 0);
    assert_eq!(code(crc(Flags::READ_CRC_SEED).u64(48, C).u32(40, 1)), 0x12);
    assert_eq!(code(crc(Flags::NONE).u64(48, C)), 0x12);
    assert_eq!(code(crc(Flags::NONE).u32(44, 1)), 0x12);
    assert_eq!(code(crc(Flags::CRC_SIZE).u32(44, 1)), 0);

    let fill = |flags| Build::new(Opcode::FILL, record_flags() | flags).transfer(0, A, 8);
    assert_eq!(code(fill(Flags::PATTERN_SIZE).u64(40, u64::MAX)), 0);
    assert_eq!(code(fill(Flags::NONE).u64(40, 1)), 0x12);

    let drain = |flags| Build::new(Opcode::DRAIN, record_flags() | flags);
    assert_eq!(code(drain(Flags::READBACK_ADDRESS_1_VALID).u64(16, A)), 0);
    assert_eq!(
        code(drain(Flags::READBACK_ADDRESS_2_VALID).u64(16, A)),
        0x12
    );
    assert_eq!(code(drain(Flags::READBACK_ADDRESS_2_VALID).u64(24, A)), 0);
    assert_eq!(
        code(drain(Flags::READBACK_ADDRESS_1_VALID).u64(24, A)),
        0x12
    );

    let fetch =
        |flags| Build::new(Opcode::TRANSLATION_FETCH, record_flags() | flags).transfer(A, 0, 8);
    assert_eq!(code(fetch(Flags::USE_STRIDE).u32(48, 4096)), 0);
    assert_eq!(code(fetch(Flags::NONE).u32(48, 4096)), 0x12);

    // Bits of the DIF flags bytes.
    let strip = Build::new(Opcode::DIF_STRIP, record_flags()).transfer(A, B, 520);
    assert_eq!(code(strip.u8(42, 0x10)), 0x12);
    assert_eq!(code(strip.u8(42, 0x0c)), 0);
    let insert = Build::new(Opcode::DIF_INSERT, record_flags()).transfer(A, B, 512);
    assert_eq!(code(insert.u8(41, 0x04)), 0x12);
    assert_eq!(code(insert.u8(41, 0xf8)), 0);
    assert_eq!(code(insert.u8(42, 0x80)), 0x12);

    // The fields that belong to flags of all operations.
    let silent = Build::new(Opcode::NO_OP, Flags::NONE);
    assert_eq!(code(silent), 0);
    assert_eq!(code(silent.u64(8, RECORD)), 0x12);
    assert_eq!(code(silent.u16(36, 1)), 0x12);
    let interrupt = Build::new(Opcode::NO_OP, Flags::REQUEST_COMPLETION_INTERRUPT);
    assert_eq!(code(interrupt.u16(36, 1)), 0);
}

#[test]
fn trusted_fields_count_on_a_shared_queue_only() {
    let shared = Capabilities {
        shared_queue: true,
        ..EVERYTHING
    };
    let member = Capabilities {
        in_batch: true,
        ..shared
    };
    let build = Build::new(Opcode::NO_OP, record_flags()).u32(0, 0x8010_0001);
    assert_eq!(refusal(build, &EVERYTHING), None);
    assert_eq!(refusal(build, &member), None);
    assert_eq!(refusal(build, &shared), Some(plain(Status::RESERVED_FIELD)));

    let user_mode_only = Capabilities {
        privileged_mode_enabled: false,
        ..shared
    };
    let privileged = Build::new(Opcode::NO_OP, record_flags()).u32(0, 0x8000_0001);
    assert_eq!(refusal(privileged, &shared), None);
    assert_eq!(
        refusal(privileged, &user_mode_only),
        Some(Refusal {
            discarded: true,
            ..plain(Status::PRIVILEGE)
        })
    );
    for ignored in [
        Capabilities {
            shared_queue: false,
            ..user_mode_only
        },
        Capabilities {
            in_batch: true,
            ..user_mode_only
        },
    ] {
        assert_eq!(refusal(privileged, &ignored), None);
    }
}

#[test]
fn operations_must_be_known_permitted_and_in_the_right_place() {
    let unsupported = Some(plain(Status::UNSUPPORTED_OPERATION));
    let all_opcodes = Capabilities {
        operations: [u64::MAX; 4],
        ..EVERYTHING
    };
    let known: Vec<u8> = rows()
        .iter()
        .map(|row| row.good.done().opcode().0)
        .collect();
    for opcode in 0..=255u8 {
        let build = Build::new(Opcode(opcode), record_flags());
        let refused = refusal(build, &all_opcodes) == unsupported;
        assert_eq!(refused, !known.contains(&opcode), "{opcode:#x}");
    }
    for Row { good, .. } in rows() {
        let opcode = good.done().opcode().0;
        let mut operations = EVERYTHING.operations;
        operations[0] &= !(1 << opcode);
        let forbidden = Capabilities {
            operations,
            ..EVERYTHING
        };
        assert_eq!(refusal(good, &forbidden), unsupported, "{opcode:#x}");

        let member = Capabilities {
            in_batch: true,
            ..EVERYTHING
        };
        let expected = if opcode == 0x01 || opcode == 0x02 {
            unsupported
        } else {
            None
        };
        assert_eq!(refusal(good, &member), expected, "{opcode:#x}");

        let untranslated = Capabilities {
            ats: false,
            ..EVERYTHING
        };
        let expected = if opcode == 0x0a { unsupported } else { None };
        assert_eq!(refusal(good, &untranslated), expected, "{opcode:#x}");
    }
}

#[test]
fn record_that_cannot_be_written_means_that_the_descriptor_is_discarded() {
    let misaligned = Build::new(Opcode(0xff), record_flags()).u64(8, RECORD + 16);
    let discarded = |status| {
        Some(Refusal {
            discarded: true,
            ..plain(status)
        })
    };
    assert_eq!(
        refusal(misaligned, &EVERYTHING),
        discarded(Status::MISALIGNED_COMPLETION_ADDRESS)
    );
    let only_b = Capabilities {
        traffic_classes: [false, true],
        ..EVERYTHING
    };
    let record_on_a = Build::new(Opcode::NO_OP, record_flags());
    assert_eq!(
        refusal(record_on_a, &only_b),
        discarded(Status::TRAFFIC_CLASS)
    );
    let record_on_b = Build::new(Opcode::NO_OP, record_flags() | Flags::COMPLETION_RECORD_TC);
    assert_eq!(refusal(record_on_b, &only_b), None);
    // Without a record there is nothing to write.
    assert_eq!(
        refusal(Build::new(Opcode::NO_OP, Flags::NONE), &only_b),
        None
    );
}

#[test]
fn traffic_class_of_each_address_must_be_enabled() {
    let only_a = Capabilities {
        traffic_classes: [true, false],
        ..EVERYTHING
    };
    let selectors = [
        Flags::ADDRESS_1_TC,
        Flags::ADDRESS_2_TC,
        Flags::ADDRESS_3_TC,
    ];
    for selector in selectors {
        let build = Build::new(Opcode::DUALCAST, record_flags() | selector);
        let build = build.transfer(A, B, 8).u64(40, C);
        assert_eq!(
            refusal(build, &only_a),
            Some(plain(Status::TRAFFIC_CLASS)),
            "{selector:?}"
        );
    }
    // Everything that a fill uses is on TC-B; it has no first address.
    let only_b = Capabilities {
        traffic_classes: [false, true],
        ..EVERYTHING
    };
    let flags = record_flags() | Flags::COMPLETION_RECORD_TC | Flags::ADDRESS_2_TC;
    assert_eq!(
        refusal(Build::new(Opcode::FILL, flags).transfer(0, B, 8), &only_b),
        None
    );
    // A CRC has a third address only if the seed is read.
    let flags = record_flags() | Flags::COMPLETION_RECORD_TC | Flags::ADDRESS_1_TC;
    let build = Build::new(Opcode::CRC_GENERATION, flags).transfer(A, 0, 8);
    assert_eq!(refusal(build, &only_b), None);
    let build = Build::new(Opcode::CRC_GENERATION, flags | Flags::READ_CRC_SEED);
    let build = build.transfer(A, 0, 8).u64(48, C);
    assert_eq!(refusal(build, &only_b), Some(plain(Status::TRAFFIC_CLASS)));
}

#[test]
fn sizes_and_counts() {
    let small = Capabilities {
        max_transfer_bytes: 1 << 12,
        max_batch: 4,
        ..EVERYTHING
    };
    let code = |build| refusal(build, &small).map_or(0, |refusal| refusal.status.0);
    for Row { good, .. } in rows() {
        let opcode = good.done().opcode();
        let limited = !matches!(opcode.0, 0x00..=0x02 | 0x0a);
        let has_size = !matches!(opcode.0, 0x00..=0x02);
        if has_size {
            assert_eq!(code(good.u32(32, 0)), 0x13, "{opcode:?}");
        }
        if limited {
            assert_eq!(code(good.u32(32, 4096 + 520 * 512)), 0x13, "{opcode:?}");
        }
    }
    let copy = Build::new(Opcode::MEMORY_MOVE, record_flags());
    assert_eq!(code(copy.transfer(A, B, 4096)), 0);
    assert_eq!(code(copy.transfer(A, B, 4097)), 0x13);

    let batch = |count| {
        Build::new(Opcode::BATCH, record_flags())
            .u64(16, A)
            .u32(32, count)
    };
    assert_eq!(
        [0, 1, 2, 4, 5].map(|count| code(batch(count))),
        [0x14, 0, 0, 0, 0x14]
    );
    let no_batch1 = Capabilities {
        gencap: EVERYTHING.gencap & !(1 << 52),
        ..small
    };
    let refused = refusal(batch(1), &no_batch1);
    assert_eq!(refused, Some(plain(Status::DESCRIPTOR_COUNT)));
    assert_eq!(refusal(batch(2), &no_batch1), None);

    // Blocks must be whole: 512, 520, 4096 and 4104 bytes, fields apart.
    for (size, flags) in [(512, 0), (520, 1), (4096, 2), (4104, 3)] {
        for (opcode, field) in [
            (Opcode::DIF_CHECK, 8),
            (Opcode::DIF_INSERT, 0),
            (Opcode::DIF_STRIP, 8),
            (Opcode::DIF_UPDATE, 8),
            (Opcode::DIX_GENERATE, 0),
        ] {
            let build = Build::new(opcode, record_flags()).u8(42, flags);
            let destination = if opcode == Opcode::DIF_CHECK { 0 } else { B };
            let of = |size| super::rows::code(build.transfer(A, destination, size));
            assert_eq!(of(3 * (size + field)), 0, "{opcode:?} {size}");
            assert_eq!(of(3 * (size + field) - 1), 0x13, "{opcode:?} {size}");
            assert_eq!(of(3 * (size + field) + 8), 0x13, "{opcode:?} {size}");
        }
    }

    let delta = |size| {
        let build = Build::new(Opcode::CREATE_DELTA_RECORD, record_flags()).transfer(A, B, size);
        super::rows::code(build.u64(40, C).u32(48, 80))
    };
    assert_eq!([0x8_0000, 0x8_0008].map(delta), [0, 0x13]);
}

#[test]
fn alignment() {
    let batch = |address| {
        Build::new(Opcode::BATCH, record_flags())
            .u64(16, address)
            .u32(32, 2)
    };
    assert_eq!(code(batch(A + 64)), 0);
    assert_eq!(code(batch(A + 32)), 0x18);

    let create = |first, second, size| {
        let build = Build::new(Opcode::CREATE_DELTA_RECORD, record_flags());
        code(
            build
                .transfer(first, second, size)
                .u64(40, C + 1)
                .u32(48, 80),
        )
    };
    assert_eq!(create(A, B, 8), 0);
    assert_eq!(create(A + 4, B, 8), 0x1c);
    assert_eq!(create(A, B + 4, 8), 0x1c);
    assert_eq!(create(A, B, 12), 0x1c);
    let apply = |record, destination, size| {
        let build = Build::new(Opcode::APPLY_DELTA_RECORD, record_flags());
        code(build.transfer(record, destination, size).u32(40, 10))
    };
    assert_eq!(apply(A + 1, B, 8), 0);
    assert_eq!(apply(A, B + 4, 8), 0x1c);
    assert_eq!(apply(A, B, 12), 0x1c);

    for opcode in [Opcode::CRC_GENERATION, Opcode::COPY_WITH_CRC] {
        let seed = |flags, address| {
            let build = Build::new(opcode, record_flags() | Flags::READ_CRC_SEED | flags);
            let destination = if opcode == Opcode::COPY_WITH_CRC {
                B
            } else {
                0
            };
            code(build.transfer(A, destination, 8).u64(48, address))
        };
        assert_eq!(seed(Flags::NONE, C + 4), 0);
        assert_eq!(seed(Flags::NONE, C + 2), 0x1c);
        assert_eq!(seed(Flags::CRC_SIZE, C + 8), 0);
        assert_eq!(seed(Flags::CRC_SIZE, C + 4), 0x1c);
    }

    let stride = |stride| {
        let build = Build::new(
            Opcode::TRANSLATION_FETCH,
            record_flags() | Flags::USE_STRIDE,
        );
        code(build.transfer(A, 0, 8).u32(48, stride))
    };
    assert_eq!([4096, 1 << 31].map(stride), [0, 0]);
    assert_eq!([0, 2048, 12288].map(stride), [0x1c, 0x1c, 0x1c]);

    let dix = |destination| {
        code(Build::new(Opcode::DIX_GENERATE, record_flags()).transfer(A + 1, destination, 512))
    };
    assert_eq!([B + 8, B + 4].map(dix), [0, 0x1c]);
}

#[test]
fn values_of_other_fields() {
    let small = Capabilities {
        max_transfer_bytes: 4096,
        ..EVERYTHING
    };
    let create = |size| {
        let build = Build::new(Opcode::CREATE_DELTA_RECORD, record_flags()).transfer(A, B, 8);
        let build = build.u64(40, C).u32(48, size);
        refusal(build, &small).map_or(0, |refusal| refusal.status.0)
    };
    // Not only multiples of ten: "should be" binds software, not the device.
    assert_eq!([79, 80, 81, 4096, 4097].map(create), [0x15, 0, 0, 0, 0x15]);
    let apply = |size| {
        let build = Build::new(Opcode::APPLY_DELTA_RECORD, record_flags()).transfer(A, B, 8);
        refusal(build.u32(40, size), &small).map_or(0, |refusal| refusal.status.0)
    };
    assert_eq!(
        [0, 9, 10, 15, 4090, 4100].map(apply),
        [0x15, 0x15, 0, 0x15, 0, 0x15]
    );

    let fetch = |address, size| {
        code(Build::new(Opcode::TRANSLATION_FETCH, record_flags()).transfer(address, 0, size))
    };
    assert_eq!(fetch(u64::MAX - 0xfff, 0x1000), 0);
    assert_eq!(fetch(u64::MAX - 0xfff, 0x1001), 0x15);

    let dualcast = |second| {
        let build = Build::new(Opcode::DUALCAST, record_flags()).transfer(A, B + 0x123, 8);
        code(build.u64(40, second))
    };
    assert_eq!(dualcast(C + 0x123), 0);
    assert_eq!(dualcast(C + 0x124), 0x17);
    assert_eq!(dualcast(C + 0x923), 0x17);
}

#[test]
fn overlapping_buffers() {
    let apart_only = Capabilities {
        gencap: EVERYTHING.gencap & !2,
        ..EVERYTHING
    };
    let copy = |destination| {
        let build = Build::new(Opcode::MEMORY_MOVE, record_flags()).transfer(A, destination, 64);
        assert_eq!(code(build), 0);
        refusal(build, &apart_only).map_or(0, |refusal| refusal.status.0)
    };
    let around = [A - 64, A - 63, A, A + 63, A + 64];
    assert_eq!(around.map(copy), [0, 0x16, 0x16, 0x16, 0]);

    let copy_crc = |destination| {
        code(Build::new(Opcode::COPY_WITH_CRC, record_flags()).transfer(A, destination, 64))
    };
    assert_eq!(around.map(copy_crc), [0, 0x16, 0x16, 0x16, 0]);

    let dualcast = |source, first, second| {
        let build = Build::new(Opcode::DUALCAST, record_flags()).transfer(source, first, 4097);
        code(build.u64(40, second))
    };
    assert_eq!(dualcast(C, B, B + 2 * PAGE), 0);
    assert_eq!(dualcast(C, B, B + PAGE), 0x16);
    assert_eq!(dualcast(B + 4096, B, C), 0x16);
    assert_eq!(dualcast(B + 4096, C, B), 0x16);

    // With 64 bytes of sources and a delta record of up to 80.
    let create = |first, second, record| {
        let build = Build::new(Opcode::CREATE_DELTA_RECORD, record_flags());
        code(
            build
                .transfer(first, second, 64)
                .u64(40, record)
                .u32(48, 80),
        )
    };
    assert_eq!(create(A, A + 8, A + 72), 0);
    assert_eq!(create(A, B, A + 63), 0x16);
    assert_eq!(create(A, B, B - 79), 0x16);
    assert_eq!(create(A, B, B - 80), 0);
    let apply = |record| {
        let build = Build::new(Opcode::APPLY_DELTA_RECORD, record_flags());
        code(build.transfer(record, B, 64).u32(40, 20))
    };
    assert_eq!(
        [B - 20, B - 19, B + 63, B + 64].map(apply),
        [0, 0x16, 0x16, 0]
    );

    // Two blocks; what the destination takes differs from operation to operation.
    for (opcode, source_size, destination_size) in [
        (Opcode::DIF_INSERT, 1024, 1040),
        (Opcode::DIF_STRIP, 1040, 1024),
        (Opcode::DIF_UPDATE, 1040, 1040),
        (Opcode::DIX_GENERATE, 1024, 16),
    ] {
        let build = |source| Build::new(opcode, record_flags()).transfer(source, B, source_size);
        let sources = [
            B - source_size,
            B - source_size + 1,
            B + destination_size - 1,
            B + destination_size,
        ];
        assert_eq!(
            sources.map(|source| code(build(source))),
            [0, 0x16, 0x16, 0],
            "{opcode:?}"
        );
    }

    // At the end of the address space the sum does not wrap.
    let last = u64::MAX - 63;
    let build = Build::new(Opcode::COPY_WITH_CRC, record_flags());
    assert_eq!(code(build.transfer(last, 0, 64)), 0);
    assert_eq!(code(build.transfer(last, last + 8, 64)), 0x16);
}
