//! Why a guest was left, in terms that every backend can put it in.
#![forbid(unsafe_code)]

use super::address::GuestPhysAddr;
use super::registers::Width;

/// Why a guest was left.
///
/// Unless it says otherwise, the guest is at the instruction that was the
/// reason, and would be stopped by it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// An interrupt of the machine came, and has been taken.
    Interrupt,
    /// The guest can take an interrupt now, as was asked for; or it is about to return
    /// from a non-maskable one, and can take another when it has.
    InterruptWindow,
    /// HLT.
    Halt,
    /// CPUID.
    Cpuid,
    /// The call to the hypervisor: VMMCALL under SVM.
    Hypercall,
    /// RDMSR of a register that is not the guest's own.
    ReadMsr,
    /// WRMSR, likewise.
    WriteMsr,
    /// XSETBV.
    WriteXcr,
    /// An access to an I/O port.
    Port(PortAccess),
    /// An access to a guest-physical address that is not mapped so.
    Memory(MemoryFault),
    /// An instruction that the guest does not have, or that is not for guests.
    InvalidOpcode,
    /// An instruction that reads what guests may not read, such as RDPMC.
    NotAllowed,
    /// INVD or WBINVD.
    FlushCaches,
    /// The guest cannot go on: a triple fault.
    Shutdown,
    /// The processor refused the guest's state, or stopped it for a reason that
    /// was never asked for: the code that the backend saw. The guest cannot go on.
    Unknown(u64),
}

/// An access to an I/O port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// The port.
    pub port: u16,
    /// How many bytes.
    pub width: Width,
    /// IN, not OUT.
    pub is_input: bool,
    /// INS or OUTS, which are not emulated.
    pub is_string: bool,
}

/// An access that the nested page tables stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFault {
    /// Where.
    pub address: GuestPhysAddr,
    /// What was attempted.
    pub access: MemoryAccess,
    /// The processor was walking the guest's page tables: no instruction
    /// accesses this address.
    pub is_table_walk: bool,
    /// The processor was delivering an interrupt or an exception, which it has not: the
    /// access is to the guest's interrupt table, segments or stack, and no instruction's
    /// either.
    pub is_delivery: bool,
}

/// What a guest does with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryAccess {
    /// It reads.
    Read,
    /// It writes.
    Write,
    /// It fetches an instruction.
    Execute,
}

/// Something that is delivered to a guest through its interrupt table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interrupt with this vector.
    Interrupt(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// An exception.
    Exception(Exception),
}

/// An exception, with its error code if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The vector.
    pub vector: u8,
    /// The error code.
    pub error_code: Option<u32>,
}

impl Exception {
    /// #DB.
    pub const DEBUG: Self = Self::plain(1);
    /// #UD.
    pub const INVALID_OPCODE: Self = Self::plain(6);
    /// #GP(0).
    pub const GENERAL_PROTECTION: Self = Self::with_code(13, 0);
    /// #AC(0).
    pub const ALIGNMENT_CHECK: Self = Self::with_code(17, 0);

    const fn plain(vector: u8) -> Self {
        Self {
            vector,
            error_code: None,
        }
    }

    const fn with_code(vector: u8, error_code: u32) -> Self {
        Self {
            vector,
            error_code: Some(error_code),
        }
    }

    /// #PF. The address belongs into CR2.
    pub const fn page_fault(error_code: u32) -> Self {
        Self::with_code(14, error_code)
    }

    /// The exception as a processor with this CR0 raises it: in real mode there are no
    /// error codes. [Intel SDM, vol. 3, 7.13 "Error Code"; 22.1.4 "Interrupt and
    /// Exception Handling"]
    #[must_use]
    pub const fn with_cr0(self, cr0: u64) -> Self {
        const PROTECTION_ENABLE: u64 = 1 << 0;
        if cr0 & PROTECTION_ENABLE == 0 {
            return Self::plain(self.vector);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_mode_has_no_error_codes() {
        let exception = Exception::GENERAL_PROTECTION;
        let without = Exception {
            vector: 13,
            error_code: None,
        };
        assert_eq!(exception.with_cr0(0x10), without);
        assert_eq!(exception.with_cr0(0x11), exception);
        assert_eq!(Exception::DEBUG.with_cr0(0x11), Exception::DEBUG);
    }
}
