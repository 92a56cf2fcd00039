use proptest::prelude::*;

use super::*;

fn registers() -> GeneralRegisters {
    GeneralRegisters {
        by_number: core::array::from_fn(|number| 0x1111_1111_1111_1111 * number as u64),
    }
}

fn context(registers: &GeneralRegisters, bits: u32) -> Context<'_> {
    Context {
        bits,
        rip: 0x40_1000,
        goes_down: false,
        registers,
        segment_bases: [
            0x10_0000, 0x20_0000, 0x30_0000, 0x40_0000, 0x50_0000, 0x60_0000,
        ],
    }
}

/// Understands the instruction at the start of `bytes`.
fn decode(context: &Context<'_>, bytes: &[u8]) -> Option<Instruction> {
    super::decode(context, &InstructionBytes::from_slice(bytes))
}

fn length_of(bits: u32, bytes: &[u8], opcode: Opcode) -> Option<u64> {
    super::length_of(bits, &InstructionBytes::from_slice(bytes), opcode)
}

fn long(bytes: &[u8]) -> Option<Instruction> {
    decode(&context(&registers(), 64), bytes)
}

fn plain(length: u64, operation: Operation) -> Option<Instruction> {
    Some(Instruction {
        length,
        operation,
        step: None,
    })
}

fn low(register: Register, width: Width) -> RegisterPart {
    RegisterPart::Low(register, width)
}

#[test]
fn loads_of_all_widths() {
    // In each the address is that of RCX.
    let address = GuestVirtAddr(0x1111_1111_1111_1111);
    for (bytes, width, into, is_signed) in [
        (
            &[0x8a, 0x01][..],
            Width::Byte,
            low(Register::RAX, Width::Byte),
            false,
        ),
        (
            &[0x8a, 0x21],
            Width::Byte,
            RegisterPart::High(Register::RAX),
            false,
        ),
        (
            &[0x40, 0x8a, 0x21],
            Width::Byte,
            low(Register::RSP, Width::Byte),
            false,
        ),
        (
            &[0x66, 0x8b, 0x11],
            Width::Word,
            low(Register::RDX, Width::Word),
            false,
        ),
        (
            &[0x8b, 0x19],
            Width::Double,
            low(Register::RBX, Width::Double),
            false,
        ),
        (
            &[0x4c, 0x8b, 0x39],
            Width::Quad,
            low(Register::new(15), Width::Quad),
            false,
        ),
        (
            &[0x0f, 0xb6, 0x01],
            Width::Byte,
            low(Register::RAX, Width::Double),
            false,
        ),
        (
            &[0x48, 0x0f, 0xb7, 0x01],
            Width::Word,
            low(Register::RAX, Width::Quad),
            false,
        ),
        (
            &[0x66, 0x0f, 0xbe, 0x01],
            Width::Byte,
            low(Register::RAX, Width::Word),
            true,
        ),
        (
            &[0x48, 0x63, 0x01],
            Width::Double,
            low(Register::RAX, Width::Quad),
            true,
        ),
    ] {
        let operation = Operation::Load {
            address,
            width,
            into,
            is_signed,
        };
        assert_eq!(
            long(bytes),
            plain(bytes.len() as u64, operation),
            "{bytes:x?}"
        );
    }
}

#[test]
fn stores_of_registers_and_immediates() {
    let address = GuestVirtAddr(0x1111_1111_1111_1111);
    for (bytes, width, value) in [
        (&[0x88, 0x19][..], Width::Byte, 0x33),
        (&[0x88, 0x39], Width::Byte, 0x33), // BH
        (&[0x66, 0x89, 0x11], Width::Word, 0x2222),
        (&[0x89, 0x11], Width::Double, 0x2222_2222),
        (&[0x4c, 0x89, 0x09], Width::Quad, 0x9999_9999_9999_9999),
        (&[0xc6, 0x01, 0x80], Width::Byte, 0x80),
        (&[0x66, 0xc7, 0x01, 1, 2], Width::Word, 0x201),
        (&[0xc7, 0x01, 1, 2, 3, 0x84], Width::Double, 0x8403_0201),
        (
            &[0x48, 0xc7, 0x01, 1, 2, 3, 0x84],
            Width::Quad,
            0xffff_ffff_8403_0201,
        ),
        (
            &[0x48, 0x0f, 0xc3, 0x11],
            Width::Quad,
            0x2222_2222_2222_2222,
        ), // MOVNTI
        (&[0x0f, 0x38, 0xf9, 0x11], Width::Double, 0x2222_2222), // MOVDIRI
    ] {
        let operation = Operation::Store {
            address,
            width,
            value,
        };
        assert_eq!(
            long(bytes),
            plain(bytes.len() as u64, operation),
            "{bytes:x?}"
        );
    }
}

/// The address of a 32-bit load with each way to write one.
#[test]
fn operands_are_found_by_every_addressing_mode() {
    for (bits, bytes, address) in [
        // [rdx + rbx * 4 + 0x10]
        (64, &[0x8b, 0x44, 0x9a, 0x10][..], 0xeeee_eeee_eeee_eefe),
        // [rip + 0x100]: behind the instruction of 6 bytes
        (64, &[0x8b, 0x05, 0, 1, 0, 0], 0x40_1106),
        // [0x80001234], sign-extended
        (
            64,
            &[0x8b, 0x04, 0x25, 0x34, 0x12, 0, 0x80],
            0xffff_ffff_8000_1234,
        ),
        // [ecx - 1]
        (64, &[0x67, 0x8b, 0x41, 0xff], 0x1111_1110),
        // fs:[rcx], ss:[rcx]
        (64, &[0x64, 0x8b, 0x01], 0x1111_1111_1161_1111),
        (64, &[0x36, 0x8b, 0x01], 0x1111_1111_1111_1111),
        // mov eax, moffs
        (64, &[0xa1, 8, 7, 6, 5, 4, 3, 2, 1], 0x0102_0304_0506_0708),
        (32, &[0xa1, 0x44, 0x33, 0x22, 0x11], 0x1162_3344),
        // ds:[ecx], ss:[ebp], and es:[ecx * 8]
        (32, &[0x8b, 0x01], 0x1151_1111),
        (32, &[0x8b, 0x45, 0x00], 0x5585_5555),
        (32, &[0x26, 0x8b, 0x04, 0xcd, 0, 0, 0, 0], 0x8898_8888),
        // ds:[bx + si + 2]
        (16, &[0x66, 0x8b, 0x40, 0x02], 0x40_999b),
        // ds:[0xfff0]
        (16, &[0x66, 0xa1, 0xf0, 0xff], 0x40_fff0),
    ] {
        let found = decode(&context(&registers(), bits), bytes);
        let operation = Operation::Load {
            address: GuestVirtAddr(address),
            width: Width::Double,
            into: low(Register::RAX, Width::Double),
            is_signed: false,
        };
        assert_eq!(found, plain(bytes.len() as u64, operation), "{bytes:x?}");
    }
}

#[test]
fn submissions_name_their_source_and_portal() {
    // rdi <- [rsi], and edx <- [eax + 0x40]
    for (bytes, kind) in [
        (&[0x66, 0x0f, 0x38, 0xf8, 0x3e][..], Submission::Movdir64b),
        (&[0xf2, 0x0f, 0x38, 0xf8, 0x3e], Submission::Enqcmd),
        (&[0xf3, 0x0f, 0x38, 0xf8, 0x3e], Submission::Enqcmds),
    ] {
        let operation = Operation::Submit {
            kind,
            source: GuestVirtAddr(0x6666_6666_6666_6666),
            destination: GuestVirtAddr(0x7777_7777_7777_7777),
        };
        assert_eq!(long(bytes), plain(5, operation));
    }
    let bytes = [0x67, 0x66, 0x0f, 0x38, 0xf8, 0x50, 0x40];
    let operation = Operation::Submit {
        kind: Submission::Movdir64b,
        source: GuestVirtAddr(0x40),
        destination: GuestVirtAddr(0x2222_2222),
    };
    assert_eq!(long(&bytes), plain(7, operation));
    // In 32-bit mode the portal is relative to ES, the source to DS.
    let found = decode(&context(&registers(), 32), &[0x66, 0x0f, 0x38, 0xf8, 0x3e]);
    let operation = Operation::Submit {
        kind: Submission::Movdir64b,
        source: GuestVirtAddr(0x66a6_6666),
        destination: GuestVirtAddr(0x7787_7777),
    };
    assert_eq!(found, plain(5, operation));
}

#[test]
fn string_moves_step_their_indices() {
    let step = |by, repeats, address_width| {
        Some(StringStep {
            moves_source: true,
            by,
            repeats,
            address_width,
        })
    };
    let found = long(&[0xf3, 0xa5]).unwrap();
    let operation = Operation::Move {
        source: GuestVirtAddr(0x6666_6666_6666_6666),
        destination: GuestVirtAddr(0x7777_7777_7777_7777),
        width: Width::Double,
    };
    assert_eq!(
        (found.operation, found.step),
        (operation, step(4, true, Width::Quad))
    );

    let registers = registers();
    let context = Context {
        goes_down: true,
        ..context(&registers, 64)
    };
    // fs-relative source, 32-bit addresses, going down
    let found = decode(&context, &[0x67, 0x64, 0xa4]).unwrap();
    let operation = Operation::Move {
        source: GuestVirtAddr(0x66b6_6666),
        destination: GuestVirtAddr(0x7777_7777),
        width: Width::Byte,
    };
    assert_eq!(
        (found.operation, found.step),
        (operation, step(-1, false, Width::Double))
    );
}

#[test]
fn string_stores_take_the_accumulator() {
    let found = long(&[0xf3, 0x48, 0xab]).unwrap();
    let operation = Operation::Store {
        address: GuestVirtAddr(0x7777_7777_7777_7777),
        width: Width::Quad,
        value: 0,
    };
    let step = StringStep {
        moves_source: false,
        by: 8,
        repeats: true,
        address_width: Width::Quad,
    };
    assert_eq!((found.operation, found.step), (operation, Some(step)));
}

#[test]
fn what_is_not_emulated_is_refused() {
    for bytes in [
        &[0x90][..],                     // NOP
        &[0x01, 0x11],                   // ADD [rcx], edx
        &[0xf0, 0x0f, 0xb1, 0x11],       // LOCK CMPXCHG
        &[0x0f, 0x29, 0x01],             // MOVAPS [rcx], xmm0
        &[0x8b, 0xc1],                   // MOV between registers
        &[0x0f, 0x22, 0xc0],             // MOV CR0, RAX
        &[0x8e, 0x01],                   // MOV ES, [rcx]
        &[0x8c, 0x01],                   // MOV [rcx], ES
        &[0x66, 0x0f, 0x38, 0xf8, 0xfe], // MOVDIR64B with a register source
        &[0x0f, 0xff],                   // no instruction
        &[0x8b],                         // half of one
        &[],
    ] {
        assert_eq!(long(bytes), None, "{bytes:x?}");
    }
}

#[test]
fn lengths_include_prefixes_and_are_those_of_the_right_instruction() {
    assert_eq!(length_of(64, &[0x0f, 0xa2, 0x90], Opcode::Cpuid), Some(2));
    assert_eq!(
        length_of(64, &[0x66, 0x48, 0x0f, 0xa2], Opcode::Cpuid),
        Some(4)
    );
    assert_eq!(length_of(64, &[0xf3, 0xf4], Opcode::Hlt), Some(2));
    assert_eq!(length_of(64, &[0x0f, 0x01, 0xd9], Opcode::Vmmcall), Some(3));
    assert_eq!(length_of(64, &[0x0f, 0x30], Opcode::Wrmsr), Some(2));
    assert_eq!(length_of(64, &[0x0f, 0x32], Opcode::Wrmsr), None);
    assert_eq!(length_of(64, &[0x0f], Opcode::Cpuid), None);
    assert_eq!(length_of(64, &[0x0f, 0x01], Opcode::Vmmcall), None);
    assert_eq!(length_of(64, &[], Opcode::Hlt), None);
    // Prefixes that make another instruction of it for other processors: WBNOINVD, VMGEXIT.
    assert_eq!(length_of(64, &[0xf3, 0x0f, 0x09], Opcode::Wbinvd), Some(3));
    assert_eq!(
        length_of(64, &[0xf3, 0x0f, 0x01, 0xd9], Opcode::Vmmcall),
        Some(4)
    );
    // LOCK raises an invalid opcode before anybody stops at the rest.
    assert_eq!(length_of(64, &[0xf0, 0xf4], Opcode::Hlt), None);
    // Outside of 64-bit mode this is INC EAX.
    assert_eq!(length_of(32, &[0x40, 0x0f, 0xa2], Opcode::Cpuid), None);
    // Fifteen bytes are the most.
    let mut bytes = [0x66; 16];
    bytes[13..15].copy_from_slice(&[0x0f, 0xa2]);
    assert_eq!(length_of(64, &bytes, Opcode::Cpuid), Some(15));
    bytes[13..16].copy_from_slice(&[0x66, 0x0f, 0xa2]);
    assert_eq!(length_of(64, &bytes, Opcode::Cpuid), None);
}

#[test]
fn every_plain_opcode_is_what_the_decoder_says_it_is() {
    for (opcode, mnemonic) in [
        (Opcode::Cpuid, Mnemonic::Cpuid),
        (Opcode::Hlt, Mnemonic::Hlt),
        (Opcode::Vmmcall, Mnemonic::Vmmcall),
        (Opcode::Rdmsr, Mnemonic::Rdmsr),
        (Opcode::Wrmsr, Mnemonic::Wrmsr),
        (Opcode::Xsetbv, Mnemonic::Xsetbv),
        (Opcode::Invd, Mnemonic::Invd),
        (Opcode::Wbinvd, Mnemonic::Wbinvd),
    ] {
        let (word, length) = opcode.plain();
        let bytes = &word.to_le_bytes()[..usize::try_from(length).unwrap()];
        for bits in [16, 32, 64] {
            let iced = decode_bytes(bits, 0, bytes).unwrap();
            assert_eq!(iced.mnemonic(), mnemonic);
            assert_eq!(iced.len(), bytes.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 20_000 }))]

    /// Any bytes: an answer that stays within them.
    #[test]
    fn no_bytes_make_us_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..20),
        bits in prop::sample::select(std::vec![16_u32, 32, 64]),
    ) {
        let registers = registers();
        if let Some(instruction) = decode(&context(&registers, bits), &bytes) {
            prop_assert!(instruction.length <= bytes.len().min(MAX_INSTRUCTION) as u64);
        }
        for opcode in [Opcode::Cpuid, Opcode::Hlt] {
            if let Some(length) = length_of(bits, &bytes, opcode) {
                prop_assert!(length <= bytes.len().min(MAX_INSTRUCTION) as u64);
            }
        }
    }
}
