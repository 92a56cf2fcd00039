//! Questions to the processor.

use core::arch::x86_64::__cpuid_count;

/// IA32_PASID. [Intel SDM, vol. 4, table 2-2 "IA-32 Architectural MSRs"]
pub(crate) const IA32_PASID: u32 = 0xd93;

/// What CPUID says about the instructions that matter here.
/// [Intel SDM, vol. 2, "CPUID"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// MOVDIR64B. Leaf 7, ECX bit 28.
    pub movdir64b: bool,
    /// ENQCMD and ENQCMDS. Leaf 7, ECX bit 29.
    pub enqcmd: bool,
    /// The timer's TSC-deadline mode. Leaf 1, ECX bit 24.
    pub tsc_deadline: bool,
    /// A hypervisor is there. Leaf 1, ECX bit 31.
    pub hypervisor: bool,
}

impl Features {
    /// Asks the processor.
    pub fn read() -> Self {
        let leaf1 = __cpuid_count(1, 0).ecx;
        let leaf7 = if __cpuid_count(0, 0).eax >= 7 {
            __cpuid_count(7, 0).ecx
        } else {
            0
        };
        Self {
            movdir64b: leaf7 & 1 << 28 != 0,
            enqcmd: leaf7 & 1 << 29 != 0,
            tsc_deadline: leaf1 & 1 << 24 != 0,
            hypervisor: leaf1 & 1 << 31 != 0,
        }
    }
}

/// Whether the vendor string is Intel's: which of VMCALL and VMMCALL there is.
pub(crate) fn is_intel() -> bool {
    let leaf = __cpuid_count(0, 0);
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes) == [*b"Genu", *b"ineI", *b"ntel"]
}
