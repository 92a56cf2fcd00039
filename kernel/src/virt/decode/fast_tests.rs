use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::virt::decode::decode_slowly;

/// Contexts with numbers that tell the registers apart.
fn registers() -> GeneralRegisters {
    GeneralRegisters {
        by_number: core::array::from_fn(|number| 0x1111_1111_1111_1111 * number as u64),
    }
}

fn context(registers: &GeneralRegisters) -> Context<'_> {
    Context {
        bits: 64,
        rip: 0x40_1000,
        goes_down: false,
        registers,
        segment_bases: [1, 2, 3, 4, 0x5000, 0x6000],
    }
}

fn fast(bytes: &[u8]) -> Option<Instruction> {
    decode(&context(&registers()), &InstructionBytes::from_slice(bytes))
}

#[test]
fn submissions_of_all_forms() {
    use Submission::{Enqcmd, Enqcmds, Movdir64b};
    for (bytes, kind, destination, source) in [
        // rdi, [rsi]
        (
            &[0x66, 0x0f, 0x38, 0xf8, 0x3e][..],
            Movdir64b,
            0x7777_7777_7777_7777,
            0x6666_6666_6666_6666,
        ),
        // rax, [rdx + 0x40]: as compilers write it
        (
            &[0xf2, 0x0f, 0x38, 0xf8, 0x42, 0x40],
            Enqcmd,
            0,
            0x2222_2222_2222_2262,
        ),
        // r15, [r12 + r13 * 2 - 0x80000000]
        (
            &[0xf3, 0x47, 0x0f, 0x38, 0xf8, 0xbc, 0x6c, 0, 0, 0, 0x80],
            Enqcmds,
            0xffff_ffff_ffff_ffff,
            0x8888_8888_0888_8886,
        ),
        // ecx, fs:[ebp + 1]
        (
            &[0x64, 0x67, 0x66, 0x0f, 0x38, 0xf8, 0x4d, 0x01],
            Movdir64b,
            0x1111_1111,
            0x5555_a556,
        ),
        // rcx, [rip + 0x10]
        (
            &[0x66, 0x0f, 0x38, 0xf8, 0x0d, 0x10, 0, 0, 0],
            Movdir64b,
            0x1111_1111_1111_1111,
            0x40_1019,
        ),
        // r9, gs:[0x1000]
        (
            &[
                0x65, 0x66, 0x4c, 0x0f, 0x38, 0xf8, 0x0c, 0x25, 0, 0x10, 0, 0,
            ],
            Movdir64b,
            0x9999_9999_9999_9999,
            0x7000,
        ),
    ] {
        let operation = Operation::Submit {
            kind,
            source: GuestVirtAddr(source),
            destination: GuestVirtAddr(destination),
        };
        let expected = Instruction {
            length: bytes.len() as u64,
            operation,
            step: None,
        };
        assert_eq!(fast(bytes), Some(expected), "{bytes:x?}");
    }
}

#[test]
fn moves_of_all_forms() {
    let low = |number, width| RegisterPart::Low(Register::new(number), width);
    let at_rcx = GuestVirtAddr(0x1111_1111_1111_1111);
    let load = |width, into| Operation::Load {
        address: at_rcx,
        width,
        into,
        is_signed: false,
    };
    let store = |width, value| Operation::Store {
        address: at_rcx,
        width,
        value,
    };
    for (bytes, operation) in [
        (
            &[0x8a, 0x21][..],
            load(Width::Byte, RegisterPart::High(Register::RAX)),
        ),
        (&[0x40, 0x8a, 0x21], load(Width::Byte, low(4, Width::Byte))),
        (&[0x66, 0x8b, 0x11], load(Width::Word, low(2, Width::Word))),
        (&[0x8b, 0x19], load(Width::Double, low(3, Width::Double))),
        (
            &[0x66, 0x4c, 0x8b, 0x39],
            load(Width::Quad, low(15, Width::Quad)),
        ),
        (
            &[0x0f, 0xb6, 0x01],
            load(Width::Byte, low(0, Width::Double)),
        ),
        (
            &[0x66, 0x0f, 0xb6, 0x01],
            load(Width::Byte, low(0, Width::Word)),
        ),
        (
            &[0x48, 0x0f, 0xb7, 0x01],
            load(Width::Word, low(0, Width::Quad)),
        ),
        (&[0x88, 0x39], store(Width::Byte, 0x33)),
        (&[0x66, 0x89, 0x11], store(Width::Word, 0x2222)),
        (&[0x89, 0x11], store(Width::Double, 0x2222_2222)),
        (
            &[0x4c, 0x89, 0x09],
            store(Width::Quad, 0x9999_9999_9999_9999),
        ),
        (&[0xc6, 0x01, 0x80], store(Width::Byte, 0x80)),
        (&[0x66, 0xc7, 0x01, 1, 0x82], store(Width::Word, 0x8201)),
        (
            &[0xc7, 0x01, 1, 2, 3, 0x84],
            store(Width::Double, 0x8403_0201),
        ),
        (
            &[0x48, 0xc7, 0x01, 1, 2, 3, 0x84],
            store(Width::Quad, 0xffff_ffff_8403_0201),
        ),
    ] {
        let expected = Instruction {
            length: bytes.len() as u64,
            operation,
            step: None,
        };
        assert_eq!(fast(bytes), Some(expected), "{bytes:x?}");
    }
    // mov qword ptr [rip + 8], -1: counted from behind the immediate.
    let found = fast(&[0x48, 0xc7, 0x05, 8, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).unwrap();
    assert_eq!(
        found.operation,
        Operation::Store {
            address: GuestVirtAddr(0x40_1013),
            width: Width::Quad,
            value: u64::MAX,
        }
    );
}

#[test]
fn the_unusual_is_left_to_the_other_decoder() {
    for bytes in [
        &[0x0f, 0x38, 0xf8, 0x3e][..],         // no prefix
        &[0x66, 0xf2, 0x0f, 0x38, 0xf8, 0x3e], // two
        &[0xf3, 0xf2, 0x0f, 0x38, 0xf8, 0x3e],
        &[0x66, 0x66, 0x0f, 0x38, 0xf8, 0x3e],
        &[0x66, 0x0f, 0x38, 0xf8, 0xfe],       // a register
        &[0x48, 0x66, 0x0f, 0x38, 0xf8, 0x3e], // REX before a prefix
        &[0x48, 0x48, 0x8b, 0x01],
        &[0x2e, 0x8b, 0x01], // CS
        &[0xf0, 0x89, 0x01], // LOCK
        &[0xf3, 0x89, 0x01], // XRELEASE
        &[0xf2, 0x0f, 0xb6, 0x01],
        &[0xc7, 0x09, 0, 0, 0, 0], // C7 /1
        &[0x8b, 0xc1],             // MOV between registers
        &[0x0f, 0xbe, 0x01],       // MOVSX
        &[0x0f, 0x38, 0xf9, 0x11], // MOVDIRI
        &[0x90],
        // Not all of it.
        &[],
        &[0x66],
        &[0x66, 0x0f, 0x38, 0xf8],
        &[0x66, 0x0f, 0x38, 0xf8, 0x42],
        &[0xc7, 0x01, 0, 0, 0],
    ] {
        assert_eq!(fast(bytes), None, "{bytes:x?}");
    }
    // Sixteen bytes.
    let mut bytes = Vec::from([0x64, 0x67, 0x66, 0x48, 0xc7, 0x84, 0x88]);
    bytes.extend([0; 8]);
    assert_eq!(fast(&bytes).map(|found| found.length), Some(15));
    bytes.insert(0, 0x66);
    assert_eq!(fast(&bytes), None);
}

/// Instructions that are likely to be of interest.
fn candidate() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop::sample::select(std::vec![
        0x66_u8, 0x67, 0xf2, 0xf3, 0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e, 0xf0, 0x48, 0x41,
    ]);
    let rex = prop_oneof![Just(None), (0x40..0x50_u8).prop_map(Some)];
    let opcode = prop::sample::select(std::vec![
        &[0x0f_u8, 0x38, 0xf8][..],
        &[0x0f, 0x38, 0xf9],
        &[0x0f, 0xb6],
        &[0x0f, 0xb7],
        &[0x0f, 0xbe],
        &[0x88],
        &[0x89],
        &[0x8a],
        &[0x8b],
        &[0x8c],
        &[0xc6],
        &[0xc7],
    ]);
    let prefixes = prop::collection::vec(prefix, 0..4);
    // ModRM with few values of the register, so that C6 /0 comes up.
    let modrm = (0..4_u8, prop_oneof![Just(0), 0..8_u8], 0..8_u8)
        .prop_map(|(mode, register, low)| mode << 6 | register << 3 | low);
    let rest = prop::collection::vec(any::<u8>(), 0..10);
    (prefixes, rex, opcode, modrm, rest).prop_map(|(prefixes, rex, opcode, modrm, rest)| {
        let mut bytes = prefixes;
        bytes.extend(rex);
        bytes.extend(opcode);
        bytes.push(modrm);
        bytes.extend(rest);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 20_000 }))]

    /// What is understood here is what the other decoder finds.
    #[test]
    fn both_decoders_agree(
        bytes in prop_oneof![candidate(), prop::collection::vec(any::<u8>(), 0..16)],
        by_number in any::<[u64; 16]>(),
        segment_bases in any::<[u64; 6]>(),
        rip in any::<u64>(),
    ) {
        let registers = GeneralRegisters { by_number };
        let context = Context {
            bits: 64,
            rip,
            goes_down: false,
            registers: &registers,
            segment_bases,
        };
        let bytes = InstructionBytes::from_slice(&bytes);
        let found = decode(&context, &bytes);
        if found.is_some() {
            prop_assert_eq!(found, decode_slowly(&context, &bytes));
        }
    }
}
