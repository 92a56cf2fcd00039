//! How a guest reports to the operator: one call, `VMMCALL` at privilege level 0 (under
//! SVM; VMX has `VMCALL` instead), with [`NUMBER`] in RAX, a [`Key`] in RCX and a value
//! in RDX. RAX comes back as [`KNOWN`] or [`UNKNOWN`].
//!
//! A guest finds out that there is such a call by CPUID: leaf [`SIGNATURE_LEAF`].

use crate::virt::registers::{GeneralRegisters, Register};

/// RAX: "Weir".
pub const NUMBER: u64 = 0x5765_6972;
/// RAX afterwards: the key is known.
pub const KNOWN: u64 = 0;
/// RAX afterwards: there is no such call, or no such key.
pub const UNKNOWN: u64 = u64::MAX;

/// CPUID leaf: EAX is the highest of these leaves, EBX, ECX and EDX are
/// [`SIGNATURE`].
pub const SIGNATURE_LEAF: u32 = 0x4000_0000;
/// CPUID leaf: EAX is [`ABI_VERSION`], EBX the speed of the time-stamp counter in
/// kHz.
pub const INTERFACE_LEAF: u32 = 0x4000_0001;
/// What EBX, ECX and EDX hold, one after the other.
pub const SIGNATURE: &[u8; 12] = b"WeirWeirWeir";
/// The version of what this module describes.
pub const ABI_VERSION: u32 = 1;

/// What a guest reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Key {
    /// The guest is done, and its virtual processors stop: 0 if it is content,
    /// else its own code for what went wrong.
    End = 0,
    /// The CRC32C of its input, as the accelerator computed it.
    Crc32c = 1,
    /// How many descriptors it handed to a portal that took them; a batch counts
    /// as one and its members.
    Submitted = 2,
    /// How many descriptors it has seen the completion of.
    Completed = 3,
    /// How many completion interrupts it took.
    Interrupts = 4,
    /// How many checks it made.
    Checks = 5,
    /// How many of them failed.
    Failed = 6,
    /// A moment that benches look for.
    Mark = 7,
    /// How often ENQCMD or ENQCMDS asked for a retry.
    Retried = 8,
    /// How many descriptors ended with an error that the guest provoked.
    Errors = 9,
    /// A bench begins: its number.
    BenchBegin = 10,
    /// A bench ends: its number.
    BenchEnd = 11,
    /// What a bench found: its number in bits 7:0, ticks above.
    BenchCost = 12,
}

/// How many keys there are.
pub const COUNT: usize = Key::BenchCost as usize + 1;

impl Key {
    /// The key of this number, if there is one.
    pub const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::End,
            1 => Self::Crc32c,
            2 => Self::Submitted,
            3 => Self::Completed,
            4 => Self::Interrupts,
            5 => Self::Checks,
            6 => Self::Failed,
            7 => Self::Mark,
            8 => Self::Retried,
            9 => Self::Errors,
            10 => Self::BenchBegin,
            11 => Self::BenchEnd,
            12 => Self::BenchCost,
            _ => return None,
        })
    }
}

/// What an instruction asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The guest reports this.
    Report {
        /// What.
        key: Key,
        /// How much.
        value: u64,
    },
    /// RAX becomes [`UNKNOWN`].
    Unknown,
    /// Programs may not call: the instruction raises #UD.
    NotAllowed,
}

/// What a guest asks for that stopped with these registers, at privilege level
/// `cpl`.
pub fn decode(registers: &GeneralRegisters, cpl: u8) -> Call {
    if cpl != 0 {
        return Call::NotAllowed;
    }
    let key = Key::from_number(registers.get(Register::RCX));
    match key {
        Some(key) if registers.get(Register::RAX) == NUMBER => Call::Report {
            key,
            value: registers.get(Register::RDX),
        },
        _ => Call::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(rax: u64, rcx: u64, rdx: u64) -> GeneralRegisters {
        let mut registers = GeneralRegisters::default();
        registers.by_number[..3].copy_from_slice(&[rax, rcx, rdx]);
        registers
    }

    #[test]
    fn the_number_spells_weir() {
        assert_eq!(NUMBER.to_be_bytes(), *b"\0\0\0\0Weir");
    }

    #[test]
    fn reports_are_understood() {
        let call = decode(&registers(0x5765_6972, 1, 0xe306_9283), 0);
        assert_eq!(
            call,
            Call::Report {
                key: Key::Crc32c,
                value: 0xe306_9283
            }
        );
        for number in 0..13 {
            assert_eq!(Key::from_number(number).map(|key| key as u64), Some(number));
        }
    }

    #[test]
    fn anything_else_is_unknown() {
        assert_eq!(decode(&registers(0x5765_6972, 13, 0), 0), Call::Unknown);
        assert_eq!(decode(&registers(0x5765_6973, 1, 0), 0), Call::Unknown);
        let wide = 0x1_0000_0001;
        assert_eq!(decode(&registers(0x5765_6972, wide, 0), 0), Call::Unknown);
    }

    #[test]
    fn programs_may_not_call() {
        for cpl in 1..4 {
            assert_eq!(decode(&registers(0x5765_6972, 0, 0), cpl), Call::NotAllowed);
        }
    }
}
