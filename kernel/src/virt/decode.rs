//! What the instruction does that a guest was stopped at.
//!
//! A decoder of the field, `iced-x86`, takes the bytes apart; this module turns
//! the few instructions that are emulated into an [`Operation`] and refuses all
//! others. [`fast`] knows the most frequent ones by itself. Which device is meant is never decided by the operand found here but
//! by the guest-physical address at which the processor stopped.
#![forbid(unsafe_code)]

use iced_x86::{Decoder, DecoderOptions, Instruction as Iced, Mnemonic, OpKind, Register as Name};

use super::address::GuestVirtAddr;
use super::registers::{GeneralRegisters, Register, RegisterPart, Width};
pub use bytes::{InstructionBytes, MAX_INSTRUCTION};

mod bytes;
mod fast;

/// How a guest's instruction is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Context<'g> {
    /// 16, 32 or 64.
    pub bits: u32,
    /// Where the instruction is.
    pub rip: u64,
    /// DF, direction flag: string instructions go down.
    pub goes_down: bool,
    /// The general registers.
    pub registers: &'g GeneralRegisters,
    /// The bases of ES, CS, SS, DS, FS and GS.
    pub segment_bases: [u64; 6],
}

/// An instruction that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// How many bytes it has.
    pub length: u64,
    /// What it does.
    pub operation: Operation,
    /// What it does to its index registers, if it is a string instruction.
    pub step: Option<StringStep>,
}

/// What an instruction does. "Device" is the page that the guest was stopped at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads from a device into a register.
    Load {
        /// Where in the device's page: only the low twelve bits count.
        address: GuestVirtAddr,
        /// How much is read.
        width: Width,
        /// Where to.
        into: RegisterPart,
        /// Whether the sign is extended to the size of `into`.
        is_signed: bool,
    },
    /// Writes a value to a device.
    Store {
        /// As in `Load`.
        address: GuestVirtAddr,
        /// How much is written.
        width: Width,
        /// What.
        value: u64,
    },
    /// Moves from one address to another, one of which is a device's.
    Move {
        /// From.
        source: GuestVirtAddr,
        /// To.
        destination: GuestVirtAddr,
        /// How much.
        width: Width,
    },
    /// MOVDIR64B, ENQCMD or ENQCMDS.
    Submit {
        /// Which.
        kind: Submission,
        /// The 64 bytes, which need not be aligned.
        source: GuestVirtAddr,
        /// The portal.
        destination: GuestVirtAddr,
    },
}

/// Which instruction submits a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submission {
    /// MOVDIR64B: posted, for dedicated queues.
    Movdir64b,
    /// ENQCMD: with IA32_PASID.
    Enqcmd,
    /// ENQCMDS: with a PASID of the supervisor's choice.
    Enqcmds,
}

/// What a string instruction does besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringStep {
    /// RSI moves too, not RDI alone.
    pub moves_source: bool,
    /// By so many bytes.
    pub by: i64,
    /// RCX counts down, and the instruction is done when it is 0.
    pub repeats: bool,
    /// How many bits RSI, RDI and RCX have here.
    pub address_width: Width,
}

/// The length of the instruction at the start of `bytes`, if it is one.
pub fn length(bits: u32, bytes: &[u8]) -> Option<u64> {
    let instruction = decode_bytes(bits, 0, bytes)?;
    Some(instruction.len() as u64)
}

/// Whether the instruction at the start of `bytes` is the one that the processor
/// says it stopped at, and how long it is then.
#[inline]
pub fn length_of(bits: u32, bytes: &InstructionBytes, opcode: Opcode) -> Option<u64> {
    // Almost always there is no prefix.
    let (plain, length) = opcode.plain();
    let unused = 64 - 8 * length;
    if (bytes.low_half() ^ plain) << unused == 0 && length as usize <= bytes.len() {
        return Some(length.into());
    }
    length_of_prefixed(bits, bytes, opcode)
}

/// The processor has looked at the instruction, so all that is left is to find the end of
/// its prefixes, of which it ignores those that mean nothing to it: REP before WBINVD is
/// WBNOINVD to others, and before VMMCALL VMGEXIT. None of these takes LOCK: whoever finds
/// it here finds other bytes than the processor did.
#[cold]
fn length_of_prefixed(bits: u32, bytes: &InstructionBytes, opcode: Opcode) -> Option<u64> {
    let is_prefix = |byte: &u8| match byte {
        0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3 => true,
        0x40..=0x4f => bits == 64,
        _ => false,
    };
    let bytes = bytes.as_slice();
    let prefixes = bytes.iter().take_while(|byte| is_prefix(byte)).count();
    let (plain, length) = opcode.plain();
    let plain = plain.to_le_bytes();
    let found = bytes.get(prefixes..)?.get(..length as usize)?;
    plain
        .starts_with(found)
        .then(|| prefixes as u64 + u64::from(length))
}

/// Instructions that the processor stops at without needing their operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// CPUID
    Cpuid,
    /// HLT
    Hlt,
    /// VMMCALL
    Vmmcall,
    /// RDMSR
    Rdmsr,
    /// WRMSR
    Wrmsr,
    /// XSETBV
    Xsetbv,
    /// INVD
    Invd,
    /// WBINVD
    Wbinvd,
}

impl Opcode {
    /// The instruction without prefixes, the first byte lowest, and how many
    /// bytes it has.
    #[inline]
    const fn plain(self) -> (u64, u32) {
        match self {
            Self::Cpuid => (0xa2_0f, 2),
            Self::Hlt => (0xf4, 1),
            Self::Vmmcall => (0xd9_01_0f, 3),
            Self::Rdmsr => (0x32_0f, 2),
            Self::Wrmsr => (0x30_0f, 2),
            Self::Xsetbv => (0xd1_01_0f, 3),
            Self::Invd => (0x08_0f, 2),
            Self::Wbinvd => (0x09_0f, 2),
        }
    }
}

/// Understands the instruction at the start of `bytes`.
///
/// None if it is not complete, no instruction, or not one that is emulated.
#[inline]
pub fn decode(context: &Context<'_>, bytes: &InstructionBytes) -> Option<Instruction> {
    if context.bits == 64
        && let Some(instruction) = fast::decode(context, bytes)
    {
        return Some(instruction);
    }
    decode_slowly(context, bytes)
}

/// Understands an instruction in any mode and of any form.
#[cold]
fn decode_slowly(context: &Context<'_>, bytes: &InstructionBytes) -> Option<Instruction> {
    let iced = decode_bytes(context.bits, context.rip, bytes.as_slice())?;
    let operands = Operands {
        context,
        iced: &iced,
    };
    let mut step = None;
    let operation = match iced.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movdiri | Mnemonic::Movnti => operands.mov()?,
        Mnemonic::Movzx => operands.load(false)?,
        Mnemonic::Movsx | Mnemonic::Movsxd => operands.load(true)?,
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq => {
            step = Some(operands.string_step(true)?);
            operands.movs()?
        }
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => {
            step = Some(operands.string_step(false)?);
            operands.stos()?
        }
        Mnemonic::Movdir64b => operands.submit(Submission::Movdir64b)?,
        Mnemonic::Enqcmd => operands.submit(Submission::Enqcmd)?,
        Mnemonic::Enqcmds => operands.submit(Submission::Enqcmds)?,
        _ => return None,
    };
    Some(Instruction {
        length: iced.len() as u64,
        operation,
        step,
    })
}

/// Builds the decoder's tables, which it otherwise does at its first use.
pub fn prime() {
    // One of each kind of encoding would do; any instruction builds all tables.
    let _ = length(64, &[0x90]);
}

fn decode_bytes(bits: u32, rip: u64, bytes: &[u8]) -> Option<Iced> {
    let bytes = bytes.get(..MAX_INSTRUCTION).unwrap_or(bytes);
    let mut decoder = Decoder::try_with_ip(bits, bytes, rip, DecoderOptions::NONE).ok()?;
    let mut instruction = Iced::default();
    decoder.decode_out(&mut instruction);
    (!instruction.is_invalid()).then_some(instruction)
}

struct Operands<'d> {
    context: &'d Context<'d>,
    iced: &'d Iced,
}

impl Operands<'_> {
    fn mov(&self) -> Option<Operation> {
        if self.iced.op0_kind() == OpKind::Memory {
            self.store()
        } else {
            self.load(false)
        }
    }

    fn load(&self, is_signed: bool) -> Option<Operation> {
        if self.iced.op1_kind() != OpKind::Memory {
            return None;
        }
        let into = register_part(self.iced.op0_register())?;
        let width = self.iced.memory_size().size_in_bytes()?;
        Some(Operation::Load {
            address: self.memory_address()?,
            width,
            into,
            is_signed,
        })
    }

    fn store(&self) -> Option<Operation> {
        let (value, width) = match self.iced.op1_kind() {
            OpKind::Register => {
                let part = register_part(self.iced.op1_register())?;
                (self.context.registers.get_part(part), part.width())
            }
            kind => {
                let width = match kind {
                    OpKind::Immediate8 => Width::Byte,
                    OpKind::Immediate16 => Width::Word,
                    OpKind::Immediate32 => Width::Double,
                    OpKind::Immediate32to64 => Width::Quad,
                    _ => return None,
                };
                (self.iced.immediate(1), width)
            }
        };
        Some(Operation::Store {
            address: self.memory_address()?,
            width,
            value: width.truncate(value),
        })
    }

    fn movs(&self) -> Option<Operation> {
        Some(Operation::Move {
            source: self.string_source()?,
            destination: self.string_destination()?,
            width: self.string_width()?,
        })
    }

    fn stos(&self) -> Option<Operation> {
        let width = self.string_width()?;
        let accumulator = self.context.registers.get(Register::RAX);
        Some(Operation::Store {
            address: self.string_destination()?,
            width,
            value: width.truncate(accumulator),
        })
    }

    fn submit(&self, kind: Submission) -> Option<Operation> {
        let portal = register_part(self.iced.op0_register())?;
        let offset = self.context.registers.get_part(portal);
        Some(Operation::Submit {
            kind,
            source: self.memory_address()?,
            // The portal is relative to ES, which counts outside of 64-bit mode.
            destination: self.linear(Name::ES, offset)?,
        })
    }

    /// The linear address of the memory operand.
    fn memory_address(&self) -> Option<GuestVirtAddr> {
        let registers = self.context.registers;
        let displacement = self.iced.memory_displacement64();
        let mut offset = displacement;
        let mut width = match self.iced.memory_displ_size() {
            2 => Width::Word,
            4 => Width::Double,
            _ => Width::Quad,
        };
        match self.iced.memory_base() {
            Name::None => {}
            // The decoder has added the instruction's address already.
            Name::RIP => width = Width::Quad,
            Name::EIP => width = Width::Double,
            base => {
                let base = register_part(base)?;
                width = base.width();
                offset = offset.wrapping_add(registers.get_part(base));
            }
        }
        match self.iced.memory_index() {
            Name::None => {}
            index => {
                let index = register_part(index)?;
                width = index.width();
                let scale = u64::from(self.iced.memory_index_scale());
                offset = offset.wrapping_add(registers.get_part(index).wrapping_mul(scale));
            }
        }
        self.linear(self.iced.memory_segment(), width.truncate(offset))
    }

    fn string_source(&self) -> Option<GuestVirtAddr> {
        let offset = self.context.registers.get(Register::RSI);
        let offset = self.address_width()?.truncate(offset);
        self.linear(self.iced.memory_segment(), offset)
    }

    fn string_destination(&self) -> Option<GuestVirtAddr> {
        let offset = self.context.registers.get(Register::RDI);
        self.linear(Name::ES, self.address_width()?.truncate(offset))
    }

    /// The linear address of an offset into a segment.
    fn linear(&self, segment: Name, offset: u64) -> Option<GuestVirtAddr> {
        let [es, cs, ss, ds, fs, gs] = self.context.segment_bases;
        let is_long = self.context.bits == 64;
        let base = match segment {
            Name::FS => fs,
            Name::GS => gs,
            Name::ES | Name::CS | Name::SS | Name::DS if is_long => 0,
            Name::ES => es,
            Name::CS => cs,
            Name::SS => ss,
            Name::DS => ds,
            _ => return None,
        };
        let sum = base.wrapping_add(offset);
        Some(GuestVirtAddr(if is_long { sum } else { sum & 0xffff_ffff }))
    }

    fn string_step(&self, moves_source: bool) -> Option<StringStep> {
        let bytes = self.string_width()?.bytes().cast_signed();
        Some(StringStep {
            moves_source,
            by: if self.context.goes_down {
                -bytes
            } else {
                bytes
            },
            repeats: self.iced.has_rep_prefix() || self.iced.has_repne_prefix(),
            address_width: self.address_width()?,
        })
    }

    fn string_width(&self) -> Option<Width> {
        self.iced.memory_size().size_in_bytes()
    }

    /// How wide RSI and RDI are in a string instruction.
    fn address_width(&self) -> Option<Width> {
        match self.iced.op0_kind() {
            OpKind::MemoryESDI => Some(Width::Word),
            OpKind::MemoryESEDI => Some(Width::Double),
            OpKind::MemoryESRDI => Some(Width::Quad),
            _ => None,
        }
    }
}

/// The size of an operand in memory, for the sizes that are emulated.
trait SizeInBytes {
    fn size_in_bytes(self) -> Option<Width>;
}

impl SizeInBytes for iced_x86::MemorySize {
    fn size_in_bytes(self) -> Option<Width> {
        match self {
            Self::UInt8 | Self::Int8 => Some(Width::Byte),
            Self::UInt16 | Self::Int16 => Some(Width::Word),
            Self::UInt32 | Self::Int32 => Some(Width::Double),
            Self::UInt64 | Self::Int64 => Some(Width::Quad),
            _ => None,
        }
    }
}

/// A general register by the decoder's name for it, or a part of one.
fn register_part(name: Name) -> Option<RegisterPart> {
    let number_from = |first: Name| {
        let number = (name as usize).checked_sub(first as usize)?;
        u8::try_from(number).ok().filter(|&number| number < 16)
    };
    let low = |number: u8, width| Some(RegisterPart::Low(Register::new(number), width));
    if let Some(number) = number_from(Name::RAX) {
        return low(number, Width::Quad);
    }
    if let Some(number) = number_from(Name::EAX) {
        return low(number, Width::Double);
    }
    if let Some(number) = number_from(Name::AX) {
        return low(number, Width::Word);
    }
    // AL, CL, DL, BL, AH, CH, DH, BH, and then SPL to R15L.
    let number = (name as usize).checked_sub(Name::AL as usize)?;
    match u8::try_from(number).ok()? {
        number @ 0..4 => low(number, Width::Byte),
        number @ 4..8 => Some(RegisterPart::High(Register::new(number - 4))),
        number @ 8..20 => low(number - 4, Width::Byte),
        _ => None,
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
