//! Instructions that may fault, and what they did.
//!
//! Each of these executes one instruction that has an entry in the table of fixups. An
//! exception does not end the guest but is the answer. Addresses must be
//! [`Foreign`]: outside of all memory that Rust knows of here.
#![expect(unsafe_code, reason = "single instructions at odd addresses")]

use core::arch::asm;
use core::fmt;

use hwio::Submission;
use x86_64::registers::model_specific::{Efer, EferFlags};

use crate::cpu::IA32_PASID;
use crate::trap::NO_EXCEPTION;
use crate::{Exception, heap, paging};

/// A mapped address at or above the end of the heap: devices, or what the guest
/// should not have. Neither the code nor any object is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Foreign(u64);

impl Foreign {
    /// The address, if it is foreign; it is mapped if it was not.
    ///
    /// The bytes up to the end of a page behind it count as part of it.
    pub fn new(address: u64) -> Option<Self> {
        const PAGE: u64 = 4096;
        if address < heap::end() || address >= (1 << 47) - PAGE {
            return None;
        }
        paging::map(address, PAGE);
        Some(Self(address))
    }

    /// The address itself.
    pub const fn address(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Foreign({:#x})", self.0)
    }
}

/// How wide an access is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 1 byte.
    One,
    /// 2 bytes.
    Two,
    /// 4 bytes.
    Four,
    /// 8 bytes.
    Eight,
}

impl Width {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::One, Self::Two, Self::Four, Self::Eight];

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// `instruction` with an entry in the table of fixups; R11 says what came of it.
macro_rules! probe {
    ($instruction:literal, $($operands:tt)*) => {{
        let exception: u64;
        // SAFETY: the instruction writes where the caller of this macro says, or faults
        // and then goes on behind itself.
        unsafe {
            asm!(
                concat!("2: ", $instruction),
                "3:",
                ".pushsection .fixups, \"a\", @progbits",
                ".quad 2b, 3b",
                ".popsection",
                inout("r11") NO_EXCEPTION => exception,
                $($operands)*
            );
        }
        match Exception::from_fixup(exception) {
            None => Ok(()),
            Some(exception) => Err(exception),
        }
    }};
}

/// Reads so many bytes.
///
/// # Errors
/// What was raised.
pub fn read(at: Foreign, width: Width) -> Result<u64, Exception> {
    let mut value: u64 = 0;
    let address = at.0;
    match width {
        Width::One => probe!("movzx {v:e}, byte ptr [{a}]",
            a = in(reg) address, v = inout(reg) value, options(nostack)),
        Width::Two => probe!("movzx {v:e}, word ptr [{a}]",
            a = in(reg) address, v = inout(reg) value, options(nostack)),
        Width::Four => probe!("mov {v:e}, dword ptr [{a}]",
            a = in(reg) address, v = inout(reg) value, options(nostack)),
        Width::Eight => probe!("mov {v}, qword ptr [{a}]",
            a = in(reg) address, v = inout(reg) value, options(nostack)),
    }?;
    Ok(value)
}

/// Writes so many bytes.
///
/// # Errors
/// What was raised.
pub fn write(at: Foreign, width: Width, value: u64) -> Result<(), Exception> {
    let address = at.0;
    match width {
        // RAX has a byte register without a prefix.
        Width::One => probe!("mov byte ptr [{a}], al",
            a = in(reg) address, in("rax") value, options(nostack)),
        Width::Two => probe!("mov word ptr [{a}], ax",
            a = in(reg) address, in("rax") value, options(nostack)),
        Width::Four => probe!("mov dword ptr [{a}], eax",
            a = in(reg) address, in("rax") value, options(nostack)),
        Width::Eight => probe!("mov qword ptr [{a}], rax",
            a = in(reg) address, in("rax") value, options(nostack)),
    }
}

/// MOVDIR64B.
///
/// # Errors
/// What was raised.
pub fn movdir64b(at: Foreign, words: &[u64; 8]) -> Result<(), Exception> {
    probe!("movdir64b {a}, [{w}]",
        a = in(reg) at.0, w = in(reg) words, options(nostack))
}

/// ENQCMD.
///
/// # Errors
/// What was raised.
pub fn enqcmd(at: Foreign, words: &[u64; 8]) -> Result<Submission, Exception> {
    let mut retry: u8 = 0;
    probe!("enqcmd {a}, [{w}]\n setz {z}",
        a = in(reg) at.0, w = in(reg) words, z = inout(reg_byte) retry, options(nostack))?;
    Ok(submission(retry))
}

/// ENQCMDS.
///
/// # Errors
/// What was raised.
pub fn enqcmds(at: Foreign, words: &[u64; 8]) -> Result<Submission, Exception> {
    let mut retry: u8 = 0;
    probe!("enqcmds {a}, [{w}]\n setz {z}",
        a = in(reg) at.0, w = in(reg) words, z = inout(reg_byte) retry, options(nostack))?;
    Ok(submission(retry))
}

fn submission(retry: u8) -> Submission {
    match retry {
        0 => Submission::Accepted,
        _ => Submission::Retry,
    }
}

/// RDMSR.
///
/// # Errors
/// What was raised.
pub fn read_msr(index: u32) -> Result<u64, Exception> {
    let mut low: u32 = 0;
    let mut high: u32 = 0;
    probe!("rdmsr",
        in("ecx") index, inout("eax") low, inout("edx") high, options(nostack))?;
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// WRMSR.
///
/// # Errors
/// What was raised.
///
/// # Panics
/// If it is one of the registers that the guest itself stands on.
pub fn write_msr(index: u32, value: u64) -> Result<(), Exception> {
    assert!(!is_vital(index), "the guest stands on MSR {index:#x}");
    write_msr_unchecked(index, value)
}

/// Sets EFER.SVME, and nothing else.
///
/// # Errors
/// What was raised.
pub fn enable_svm() -> Result<(), Exception> {
    /// EFER. [AMD64 APM, vol. 2, 3.1.7 "Extended Feature Enable Register (EFER)"]
    const EFER: u32 = 0xc000_0080;
    let value = Efer::read_raw() | EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE.bits();
    write_msr_unchecked(EFER, value)
}

/// Sets IA32_PASID, which matters to [`enqcmd`] only.
///
/// # Errors
/// What was raised.
pub fn set_ia32_pasid(value: u64) -> Result<(), Exception> {
    write_msr_unchecked(IA32_PASID, value)
}

fn write_msr_unchecked(index: u32, value: u64) -> Result<(), Exception> {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    probe!("wrmsr",
        in("ecx") index,
        in("eax") u32::from_le_bytes([a, b, c, d]),
        in("edx") u32::from_le_bytes([e, f, g, h]),
        options(nostack))
}

/// The APIC's mode and page, what memory is (MTRRs, PAT), EFER, the ways into the
/// kernel, and the bases of segments. The microcode loader reads memory.
fn is_vital(index: u32) -> bool {
    matches!(
        index,
        0x1b | 0x79 | 0x200..=0x27f | 0x2ff | 0xc000_0080..=0xc000_0084 | 0xc000_0100..=0xc000_0103
    )
}

/// IN of so many bytes, up to 4.
///
/// # Errors
/// What was raised.
pub fn read_port(port: u16, width: Width) -> Result<u32, Exception> {
    let mut value: u32 = 0;
    match width {
        Width::One => probe!("in al, dx", in("dx") port, inout("eax") value, options(nostack)),
        Width::Two => probe!("in ax, dx", in("dx") port, inout("eax") value, options(nostack)),
        _ => probe!("in eax, dx", in("dx") port, inout("eax") value, options(nostack)),
    }?;
    Ok(value)
}

/// OUT of so many bytes, up to 4. A guest that is stopped by its own request has no
/// reason to complain.
///
/// # Errors
/// What was raised.
pub fn write_port(port: u16, width: Width, value: u32) -> Result<(), Exception> {
    match width {
        Width::One => probe!("out dx, al", in("dx") port, in("eax") value, options(nostack)),
        Width::Two => probe!("out dx, ax", in("dx") port, in("eax") value, options(nostack)),
        _ => probe!("out dx, eax", in("dx") port, in("eax") value, options(nostack)),
    }
}

/// An instruction of SVM or VMX that a guest must not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Virtualization {
    /// VMRUN of a page of zeros.
    Vmrun,
    /// VMLOAD of a page of zeros.
    Vmload,
    /// STGI.
    Stgi,
    /// CLGI.
    Clgi,
    /// VMXON of a page of zeros.
    Vmxon,
}

impl Virtualization {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Vmrun,
        Self::Vmload,
        Self::Stgi,
        Self::Clgi,
        Self::Vmxon,
    ];

    /// Executes it.
    ///
    /// # Errors
    /// What was raised.
    pub fn execute(self) -> Result<(), Exception> {
        let page = crate::memory::Buffer::new(crate::memory::PAGE_SIZE);
        let address = page.address(0);
        match self {
            Self::Vmrun => probe!("vmrun rax", in("rax") address, options(nostack)),
            Self::Vmload => probe!("vmload rax", in("rax") address, options(nostack)),
            Self::Stgi => probe!("stgi", options(nostack)),
            Self::Clgi => probe!("clgi", options(nostack)),
            // The operand is memory that holds the address of the region.
            Self::Vmxon => {
                probe!("vmxon [{p}]", p = in(reg) &raw const address, options(nostack))
            }
        }
    }
}

/// Ends the guest by a triple fault: an exception without an interrupt table.
pub fn triple_fault() -> ! {
    let nothing = x86_64::structures::DescriptorTablePointer {
        limit: 0,
        base: x86_64::VirtAddr::zero(),
    };
    // SAFETY: nothing is to work after this.
    unsafe { x86_64::instructions::tables::lidt(&nothing) };
    loop {
        // SAFETY: raises an exception that has no gate.
        unsafe { asm!("ud2", options(nostack)) };
    }
}

/// Loops for ever with interrupts off.
pub fn endless_loop() -> ! {
    x86_64::instructions::interrupts::disable();
    loop {
        // SAFETY: does nothing. No PAUSE: that would be an exit on some processors.
        unsafe { asm!("nop", options(nostack, nomem, preserves_flags)) };
    }
}
