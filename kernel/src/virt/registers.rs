//! The general registers of a guest.
#![forbid(unsafe_code)]

/// The sixteen general registers by their numbers in an instruction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GeneralRegisters {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub by_number: [u64; 16],
}

/// The number of a general register: 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u8);

impl Register {
    /// Accumulator.
    pub const RAX: Self = Self(0);
    /// Counter.
    pub const RCX: Self = Self(1);
    /// Data.
    pub const RDX: Self = Self(2);
    /// Base.
    pub const RBX: Self = Self(3);
    /// Stack pointer.
    pub const RSP: Self = Self(4);
    /// Source index.
    pub const RSI: Self = Self(6);
    /// Destination index.
    pub const RDI: Self = Self(7);

    /// The register of this number.
    ///
    /// # Panics
    /// If there is none.
    pub const fn new(number: u8) -> Self {
        assert!(number < 16, "there are 16 general registers");
        Self(number)
    }

    /// The register that the low four bits number.
    #[inline]
    pub const fn from_low_bits(number: u8) -> Self {
        Self(number & 0xf)
    }

    /// Its number.
    #[inline]
    pub const fn number(self) -> usize {
        self.0 as usize
    }
}

/// How many bytes an access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Double,
    /// Eight bytes.
    Quad,
}

impl Width {
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Double => 4,
            Self::Quad => 8,
        }
    }

    /// The low bytes of `value`, the others 0.
    #[inline]
    pub const fn truncate(self, value: u64) -> u64 {
        value & (u64::MAX >> (64 - 8 * self.bytes()))
    }

    /// The low bytes of `value`, the others as its highest bit.
    pub const fn sign_extend(self, value: u64) -> u64 {
        let unused = 64 - 8 * self.bytes();
        ((value << unused).cast_signed() >> unused).cast_unsigned()
    }
}

/// A part of a register, as an instruction names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterPart {
    /// Its low bytes.
    Low(Register, Width),
    /// Its second byte: AH, CH, DH or BH.
    High(Register),
}

impl RegisterPart {
    /// How many bytes it has.
    pub const fn width(self) -> Width {
        match self {
            Self::Low(_, width) => width,
            Self::High(_) => Width::Byte,
        }
    }
}

impl GeneralRegisters {
    /// The value of a register.
    #[inline]
    pub fn get(&self, register: Register) -> u64 {
        self.by_number
            .get(register.number())
            .copied()
            .unwrap_or_default()
    }

    /// Sets a register.
    #[inline]
    pub fn set(&mut self, register: Register, value: u64) {
        if let Some(place) = self.by_number.get_mut(register.number()) {
            *place = value;
        }
    }

    /// The value of a part of a register.
    pub fn get_part(&self, part: RegisterPart) -> u64 {
        match part {
            RegisterPart::Low(register, width) => width.truncate(self.get(register)),
            RegisterPart::High(register) => self.get(register) >> 8 & 0xff,
        }
    }

    /// Sets a part of a register. Four bytes clear the other four; one and two
    /// leave the rest alone.
    pub fn set_part(&mut self, part: RegisterPart, value: u64) {
        match part {
            RegisterPart::Low(register, width @ (Width::Double | Width::Quad)) => {
                self.set(register, width.truncate(value));
            }
            RegisterPart::Low(register, width) => {
                let kept = self.get(register) & !width.truncate(u64::MAX);
                self.set(register, kept | width.truncate(value));
            }
            RegisterPart::High(register) => {
                let kept = self.get(register) & !0xff00;
                self.set(register, kept | (value & 0xff) << 8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_change_what_the_processor_changes() {
        let mut registers = GeneralRegisters::default();
        let mut set = |part, value| {
            registers.set(Register::RBX, 0x1122_3344_5566_7788);
            registers.set_part(part, value);
            registers.get(Register::RBX)
        };
        let low = |width| RegisterPart::Low(Register::RBX, width);
        assert_eq!(set(low(Width::Byte), 0xfff), 0x1122_3344_5566_77ff);
        assert_eq!(
            set(RegisterPart::High(Register::RBX), 0xfff),
            0x1122_3344_5566_ff88
        );
        assert_eq!(set(low(Width::Word), 0xf_aaaa), 0x1122_3344_5566_aaaa);
        assert_eq!(set(low(Width::Double), 0xf_9999_aaaa), 0x9999_aaaa);
        assert_eq!(set(low(Width::Quad), 5), 5);
    }

    #[test]
    fn parts_are_read_alone() {
        let mut registers = GeneralRegisters::default();
        registers.set(Register::RCX, 0x1122_3344_5566_7788);
        let low = |width| RegisterPart::Low(Register::RCX, width);
        assert_eq!(registers.get_part(low(Width::Byte)), 0x88);
        assert_eq!(registers.get_part(RegisterPart::High(Register::RCX)), 0x77);
        assert_eq!(registers.get_part(low(Width::Double)), 0x5566_7788);
    }

    #[test]
    fn signs_are_extended() {
        assert_eq!(Width::Byte.sign_extend(0x180), u64::MAX - 0x7f);
        assert_eq!(Width::Word.sign_extend(0x7fff), 0x7fff);
        assert_eq!(Width::Quad.sign_extend(u64::MAX), u64::MAX);
    }
}
