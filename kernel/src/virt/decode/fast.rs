//! The instructions that guests submit descriptors and touch registers with,
//! understood at once.
//!
//! `iced-x86` takes hundreds of instructions for any of them, more than all the
//! rest of a submission's check. What is understood here is what it would find, as
//! a test compares; for all that is unusual the answer is none, and it is asked.
//! [Intel SDM, vol. 2, ch. 2 "Instruction Format"]

use super::bytes::InstructionBytes;
use super::{Context, Instruction, Operation, Submission};
use crate::virt::address::GuestVirtAddr;
use crate::virt::registers::{GeneralRegisters, Register, RegisterPart, Width};

/// What stands before an opcode, as a set. Two that exclude each other have a bit
/// in common: so has one that is there twice.
type Prefixes = u16;

/// 66h, F2h and F3h, which make different instructions of an opcode.
const MANDATORY: Prefixes = 1 << 0;
const PREFIX_66: Prefixes = 1 << 1 | MANDATORY;
const PREFIX_F2: Prefixes = 1 << 2 | MANDATORY;
const PREFIX_F3: Prefixes = 1 << 3 | MANDATORY;
/// 64h and 65h.
const SEGMENT: Prefixes = 1 << 4;
const PREFIX_FS: Prefixes = 1 << 5 | SEGMENT;
const PREFIX_GS: Prefixes = 1 << 6 | SEGMENT;
/// 67h: addresses have 32 bits.
const ADDRESS: Prefixes = 1 << 7;
/// REX, with what its low bits do.
const REX: Prefixes = 1 << 8;
const REX_B: Prefixes = 1 << 9;
const REX_X: Prefixes = 1 << 10;
const REX_R: Prefixes = 1 << 11;
const REX_W: Prefixes = 1 << 12;

/// Which prefix a byte is. LOCK and the segments that do not count in 64-bit mode
/// are left to the other decoder.
#[expect(clippy::indexing_slicing, reason = "evaluated when this is compiled")]
static PREFIXES: [Prefixes; 256] = {
    let mut prefixes = [0; 256];
    let plain = [
        (0x66, PREFIX_66),
        (0xf2, PREFIX_F2),
        (0xf3, PREFIX_F3),
        (0x64, PREFIX_FS),
        (0x65, PREFIX_GS),
        (0x67, ADDRESS),
    ];
    let mut index = 0;
    while index < plain.len() {
        let (byte, prefix) = plain[index];
        prefixes[byte] = prefix;
        index += 1;
    }
    let mut rex: Prefixes = 0;
    while rex < 16 {
        prefixes[0x40 + rex as usize] = REX | rex << 9;
        rex += 1;
    }
    prefixes
};

/// What an opcode does, before it is known with what.
#[derive(Clone, Copy)]
enum Shape {
    Submit(Submission),
    /// From memory into a register of these widths.
    Load(Width, Width),
    Store(Width),
    StoreImmediate(Width),
}

/// Understands an instruction of 64-bit mode, if it is one of those that are
/// frequent, in one of the usual forms.
#[inline]
pub(super) fn decode(context: &Context<'_>, bytes: &InstructionBytes) -> Option<Instruction> {
    let word = bytes.word();
    let (shape, prefixes, mut taken) = match plain_submission(bytes.low_half()) {
        Some((kind, prefix)) => (Shape::Submit(kind), prefix, 4),
        None => opcode(bytes.low_half())?,
    };
    // What follows the opcode: ModRM, SIB and a displacement are in its low half.
    let code = low_half(word >> (8 * taken));
    let operands = Operands::read(code, prefixes, context.registers)?;
    taken += operands.len_bytes;
    let (registers, register) = (context.registers, operands.register);
    let mut immediate = 0;
    if let Shape::StoreImmediate(width) = shape {
        // C6 /0 and C7 /0; REX.R has no effect.
        if register & 7 != 0 {
            return None;
        }
        immediate = sign_extended(low_half(word >> (8 * taken)), width);
        taken += match width {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Double | Width::Quad => 4,
        };
    }
    if taken as usize > bytes.len() {
        return None;
    }
    let address = operands.address(context, prefixes, taken);
    let operation = match shape {
        Shape::Submit(kind) => {
            let portal = registers.get(Register::from_low_bits(register));
            Operation::Submit {
                kind,
                source: address,
                destination: GuestVirtAddr(address_width(prefixes).truncate(portal)),
            }
        }
        Shape::Load(width, register_width) => Operation::Load {
            address,
            width,
            into: part(register, register_width, prefixes),
            is_signed: false,
        },
        Shape::Store(width) => Operation::Store {
            address,
            width,
            value: registers.get_part(part(register, width, prefixes)),
        },
        Shape::StoreImmediate(width) => Operation::Store {
            address,
            width,
            value: width.truncate(immediate),
        },
    };
    Some(Instruction {
        length: taken.into(),
        operation,
        step: None,
    })
}

/// Which submission it is, if there is no prefix but the one that belongs to it;
/// which is how nearly all of them are.
#[inline]
const fn plain_submission(code: u64) -> Option<(Submission, Prefixes)> {
    match code & 0xffff_ffff {
        0xf838_0f66 => Some((Submission::Movdir64b, PREFIX_66)),
        0xf838_0ff2 => Some((Submission::Enqcmd, PREFIX_F2)),
        0xf838_0ff3 => Some((Submission::Enqcmds, PREFIX_F3)),
        _ => None,
    }
}

/// What the prefixes and the opcode at the start of `code` do, which prefixes they
/// are, and how many bytes they have together.
#[inline]
fn opcode(mut code: u64) -> Option<(Shape, Prefixes, u32)> {
    let mut prefixes = 0;
    let mut taken = 0;
    loop {
        let [byte, ..] = code.to_le_bytes();
        let prefix = PREFIXES.get(usize::from(byte)).copied().unwrap_or(0);
        if prefix == 0 {
            break;
        }
        // REX is the last one, or has no effect.
        if prefixes & (prefix | REX) != 0 {
            return None;
        }
        prefixes |= prefix;
        code >>= 8;
        taken += 1;
    }
    let (shape, opcode_bytes) = shape(code, prefixes)?;
    Some((shape, prefixes, taken + opcode_bytes))
}

/// What the opcode at the start of `code` does, and how many bytes it has.
#[inline]
fn shape(code: u64, prefixes: Prefixes) -> Option<(Shape, u32)> {
    if code & 0xff_ffff == 0xf8_380f {
        let kind = match prefixes & (PREFIX_66 | PREFIX_F2 | PREFIX_F3) {
            PREFIX_66 => Submission::Movdir64b,
            PREFIX_F2 => Submission::Enqcmd,
            PREFIX_F3 => Submission::Enqcmds,
            _ => return None,
        };
        return Some((Shape::Submit(kind), 3));
    }
    // What REP means for the others is rare, and not the same for all.
    if prefixes & (PREFIX_F2 | PREFIX_F3) & !MANDATORY != 0 {
        return None;
    }
    let wide = if prefixes & REX_W != 0 {
        Width::Quad
    } else if prefixes & MANDATORY != 0 {
        Width::Word
    } else {
        Width::Double
    };
    let [opcode, second, ..] = code.to_le_bytes();
    Some(match opcode {
        0x88 => (Shape::Store(Width::Byte), 1),
        0x89 => (Shape::Store(wide), 1),
        0x8a => (Shape::Load(Width::Byte, Width::Byte), 1),
        0x8b => (Shape::Load(wide, wide), 1),
        0xc6 => (Shape::StoreImmediate(Width::Byte), 1),
        0xc7 => (Shape::StoreImmediate(wide), 1),
        0x0f => match second {
            0xb6 => (Shape::Load(Width::Byte, wide), 2),
            0xb7 => (Shape::Load(Width::Word, wide), 2),
            _ => return None,
        },
        _ => return None,
    })
}

/// What ModRM and SIB name.
struct Operands {
    /// How many bytes they have, with the displacement.
    len_bytes: u32,
    /// The number of the register.
    register: u8,
    /// The offset of the memory.
    offset: u64,
    /// The offset counts from the end of the instruction.
    is_relative: bool,
}

impl Operands {
    /// Reads ModRM, SIB and the displacement. None if it is no memory.
    #[inline]
    fn read(code: u64, prefixes: Prefixes, registers: &GeneralRegisters) -> Option<Self> {
        let high_bit = |bit| if prefixes & bit != 0 { 8 } else { 0 };
        let value = |number| registers.get(Register::from_low_bits(number));
        let [modrm, sib, ..] = code.to_le_bytes();
        let (mode, low) = (modrm >> 6, modrm & 7);
        let mut offset = 0_u64;
        let mut len_bytes = 1;
        let mut base = low;
        if low == 4 {
            len_bytes = 2;
            base = sib & 7;
            let index = sib >> 3 & 7 | high_bit(REX_X);
            // Number 4 is none.
            if index != 4 {
                offset = value(index) << (sib >> 6);
            }
        }
        let displacement = code >> (8 * len_bytes);
        // A displacement in the place of the base.
        let has_no_base = mode == 0 && base == 5;
        if !has_no_base {
            offset = offset.wrapping_add(value(base | high_bit(REX_B)));
        }
        if has_no_base || mode == 2 {
            offset = offset.wrapping_add(sign_extended(displacement, Width::Double));
            len_bytes += 4;
        } else if mode == 1 {
            offset = offset.wrapping_add(sign_extended(displacement, Width::Byte));
            len_bytes += 1;
        } else if mode == 3 {
            return None;
        }
        Some(Self {
            len_bytes,
            register: modrm >> 3 & 7 | high_bit(REX_R),
            offset,
            is_relative: has_no_base && low == 5,
        })
    }

    /// The address of the memory, for an instruction of `len_bytes` in all.
    #[inline]
    fn address(&self, context: &Context<'_>, prefixes: Prefixes, len_bytes: u32) -> GuestVirtAddr {
        let mut offset = self.offset;
        if self.is_relative {
            offset = offset
                .wrapping_add(context.rip)
                .wrapping_add(len_bytes.into());
        }
        let offset = address_width(prefixes).truncate(offset);
        let [_, _, _, _, fs, gs] = context.segment_bases;
        let base = match prefixes & (PREFIX_FS | PREFIX_GS) {
            0 => 0,
            PREFIX_FS => fs,
            _ => gs,
        };
        GuestVirtAddr(base.wrapping_add(offset))
    }
}

#[inline]
const fn address_width(prefixes: Prefixes) -> Width {
    if prefixes & ADDRESS == 0 {
        Width::Quad
    } else {
        Width::Double
    }
}

/// The part of a register that an operand means: without REX, the bytes of numbers
/// 4 to 7 are AH, CH, DH and BH.
#[inline]
const fn part(register: u8, width: Width, prefixes: Prefixes) -> RegisterPart {
    match width {
        Width::Byte if prefixes & REX == 0 && register >= 4 => {
            RegisterPart::High(Register::from_low_bits(register - 4))
        }
        _ => RegisterPart::Low(Register::from_low_bits(register), width),
    }
}

#[inline]
const fn low_half(word: u128) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = word.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The immediate or the displacement of this width at the start of `code`; those
/// of eight bytes are written as four.
#[inline]
const fn sign_extended(code: u64, width: Width) -> u64 {
    match width {
        Width::Quad => Width::Double.sign_extend(code),
        width => width.sign_extend(code),
    }
}

#[cfg(test)]
#[path = "fast_tests.rs"]
mod tests;
