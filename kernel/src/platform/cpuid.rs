//! What a guest is told by CPUID: what the machine can do, less what a guest does
//! not have, and what a virtual processor is.
//!
//! A feature is shown only if it is named here: those of the future stay hidden
//! until somebody has thought about the registers and exits that come with them.
//! [Intel SDM, vol. 2, "CPUID—CPU Identification"; AMD64 Architecture Programmer's
//! Manual, vol. 3, appendix E "Obtaining Processor Information Via the CPUID
//! Instruction"]

use core::arch::x86_64::CpuidResult;

mod extended_state;

use super::{hypercall, kvm_clock, kvm_eoi};
use crate::virt::extended_state::INITIAL_XCR0;

/// The highest leaf that guests see.
const LAST_LEAF: u32 = 0x1f;
/// The highest that AMD introduced.
const LAST_EXTENDED_LEAF: u32 = 0x8000_0008;

/// No more bits than the nested tables translate.
const MAX_PHYSICAL_BITS: u32 = 48;
/// Four levels of tables.
const LINEAR_BITS: u32 = 48;

const CR4_OSXSAVE: u64 = 1 << 18;

/// A second interface, that of KVM: an operating system that knows it uses x2APIC
/// without interrupt remapping, and has a clock. See
/// docs/decisions/linux-keeps-x2apic.md. [Linux, Documentation/virt/kvm/x86/
/// cpuid.rst]
const KVM_SIGNATURE_LEAF: u32 = 0x4000_0100;
const KVM_FEATURES_LEAF: u32 = 0x4000_0101;
const KVM_SIGNATURE: &[u8; 12] = b"KVMKVMKVM\0\0\0";

/// EBX of leaf 0 with the vendors that describe caches and cores as AMD does:
/// "Auth" and "Hygo".
const AMD_VENDORS: [u32; 2] = [0x6874_7541, 0x6f67_7948];

/// The virtual processor that asks.
#[derive(Clone, Copy, Debug)]
pub struct GuestCpu {
    /// Its number, which is its APIC ID.
    pub index: u32,
    /// How many the guest has.
    pub count: u32,
    /// The guest may use ENQCMD and ENQCMDS. They may arrive as invalid opcodes,
    /// and work by emulation.
    pub has_enqcmd: bool,
    /// Ticks of the time-stamp counter in a second.
    pub tsc_hz: u64,
    /// Its CR4.
    pub cr4: u64,
    /// Its XCR0.
    pub xcr0: u64,
    /// What it may set in XCR0; only x87 if there is no XSAVE.
    pub supported_xcr0: u64,
}

const fn bits<const N: usize>(numbers: [u32; N]) -> u32 {
    let mut sum = 0;
    let mut index = 0;
    #[expect(clippy::indexing_slicing, reason = "evaluated when this is compiled")]
    while index < N {
        sum |= 1 << numbers[index];
        index += 1;
    }
    sum
}

/// Leaf 1, ECX: SSE3, PCLMULQDQ, SSSE3, FMA, CMPXCHG16B, PCID, SSE4.1, SSE4.2,
/// MOVBE, POPCNT, AES, XSAVE, AVX, F16C, RDRAND.
const LEAF_1_ECX: u32 = bits([0, 1, 9, 12, 13, 17, 19, 20, 22, 23, 25, 26, 28, 29, 30]);
/// x2APIC, TSC-Deadline, and that there is a hypervisor.
const LEAF_1_ECX_ALWAYS: u32 = bits([21, 24, 31]);
const LEAF_1_ECX_XSAVE: u32 = 1 << 26;
const LEAF_1_ECX_OSXSAVE: u32 = 1 << 27;
/// Leaf 1, EDX: FPU, VME, DE, PSE, TSC, MSR, PAE, CX8, SEP, PGE, CMOV, PAT,
/// PSE-36, CLFSH, MMX, FXSR, SSE, SSE2, SS. Machine checks are the machine's.
const LEAF_1_EDX: u32 = bits([
    0, 1, 2, 3, 4, 5, 6, 8, 11, 13, 15, 16, 17, 19, 23, 24, 25, 26, 27,
]);
/// APIC, and MTRRs: those that a guest has say that all memory is write-back.
const LEAF_1_EDX_ALWAYS: u32 = bits([9, 12]);
const LEAF_1_EDX_HTT: u32 = 1 << 28;
/// What XSAVE is needed for: FMA, AVX, F16C.
const LEAF_1_ECX_AVX: u32 = bits([12, 28, 29]);

/// Leaf 6, EAX: ARAT, the APIC timer never stops.
const LEAF_6_EAX: u32 = 1 << 2;

/// Leaf 7, EBX: FSGSBASE, BMI1, AVX2, FDP_EXCPTN_ONLY, SMEP, BMI2, ERMS, INVPCID,
/// no FPU CS and DS, AVX512F, DQ, RDSEED, ADX, SMAP, IFMA, CLFLUSHOPT, CLWB,
/// AVX512CD, SHA, BW, VL.
const LEAF_7_EBX: u32 = bits([
    0, 3, 5, 6, 7, 8, 9, 10, 13, 16, 17, 18, 19, 20, 21, 23, 24, 28, 29, 30, 31,
]);
const LEAF_7_EBX_AVX2: u32 = 1 << 5;
/// AVX512F, DQ, IFMA, CD, BW, VL.
const LEAF_7_EBX_AVX512: u32 = bits([16, 17, 21, 28, 30, 31]);
/// Leaf 7, ECX: AVX512_VBMI, UMIP, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG,
/// VPOPCNTDQ, RDPID, CLDEMOTE, MOVDIRI, MOVDIR64B.
const LEAF_7_ECX: u32 = bits([1, 2, 6, 8, 9, 10, 11, 12, 14, 22, 25, 27, 28]);
/// VAES, VPCLMULQDQ.
const LEAF_7_ECX_AVX: u32 = bits([9, 10]);
/// AVX512_VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
const LEAF_7_ECX_AVX512: u32 = bits([1, 6, 11, 12, 14]);
const LEAF_7_ECX_ENQCMD: u32 = 1 << 29;
/// Leaf 7, EDX: fast short REP MOV, AVX512_VP2INTERSECT, MD_CLEAR, SERIALIZE.
const LEAF_7_EDX: u32 = bits([4, 8, 10, 14]);
const LEAF_7_EDX_AVX512: u32 = 1 << 8;
/// IA32_ARCH_CAPABILITIES, which tells that x2APIC mode cannot be left.
const LEAF_7_EDX_ARCH_CAPABILITIES: u32 = 1 << 29;
/// Leaf 7, subleaf 1, EAX: AVX-VNNI, AVX512_BF16, fast zero-length REP MOVSB, fast
/// short REP STOSB, fast short REP CMPSB and SCASB, AVX-IFMA.
const LEAF_7_1_EAX: u32 = bits([4, 5, 10, 11, 12, 23]);
/// AVX-VNNI, AVX-IFMA.
const LEAF_7_1_EAX_AVX: u32 = bits([4, 23]);
const LEAF_7_1_EAX_AVX512: u32 = 1 << 5;

/// Leaf 0x8000_0001, ECX: LAHF, AltMovCr8, ABM, SSE4A, misaligned SSE, 3DNow!
/// prefetch, XOP, FMA4, TBM.
const EXTENDED_ECX: u32 = bits([0, 4, 5, 6, 7, 8, 11, 16, 21]);
/// XOP, FMA4.
const EXTENDED_ECX_AVX: u32 = bits([11, 16]);
/// CmpLegacy: several processors are cores, not threads.
const EXTENDED_ECX_CMP_LEGACY: u32 = 1 << 1;
/// Leaf 0x8000_0001, EDX: SYSCALL, NX, MMX extensions, pages of 1 GiB, RDTSCP,
/// long mode.
const EXTENDED_EDX: u32 = bits([11, 20, 22, 26, 27, 29]);
/// Copies of leaf 1, EDX, where AMD has them.
const EXTENDED_EDX_COPIES: u32 = 0x0183_f3ff & (LEAF_1_EDX | LEAF_1_EDX_ALWAYS);
const POWER_LEAF: u32 = 0x8000_0007;
/// Leaf 0x8000_0007, EDX: the time-stamp counter is invariant.
const POWER_EDX: u32 = 1 << 8;
/// Leaf 0x8000_0008, EBX: CLZERO, XSAVE's error pointers are always there.
const SIZES_EBX: u32 = bits([0, 2]);

const XCR0_AVX: u64 = 1 << 2;
const XCR0_AVX512: u64 = 0b111 << 5;

const NOTHING: CpuidResult = registers(0, 0, 0, 0);

const fn registers(eax: u32, ebx: u32, ecx: u32, edx: u32) -> CpuidResult {
    CpuidResult { eax, ebx, ecx, edx }
}

impl GuestCpu {
    /// How many bits tell the virtual processors apart.
    const fn id_bits(&self) -> u32 {
        u32::BITS - self.count.saturating_sub(1).leading_zeros()
    }

    const fn has_xsave(&self) -> bool {
        self.supported_xcr0 != INITIAL_XCR0
    }

    /// `flags` less those that need registers which the guest cannot have.
    const fn without_state(&self, flags: u32, avx: u32, avx512: u32) -> u32 {
        let mut flags = flags;
        if self.supported_xcr0 & XCR0_AVX == 0 {
            flags &= !avx;
        }
        if self.supported_xcr0 & XCR0_AVX512 != XCR0_AVX512 {
            flags &= !avx512;
        }
        flags
    }
}

/// What CPUID tells `guest` in `leaf` (EAX) and `subleaf` (ECX). `host` is the
/// instruction as the machine has it. A leaf that is not there is all 0.
pub fn answer(
    host: impl Fn(u32, u32) -> CpuidResult,
    guest: &GuestCpu,
    leaf: u32,
    subleaf: u32,
) -> CpuidResult {
    match leaf {
        0..=LAST_LEAF => basic(host, guest, leaf, subleaf),
        hypercall::SIGNATURE_LEAF => signature(hypercall::INTERFACE_LEAF, *hypercall::SIGNATURE),
        KVM_SIGNATURE_LEAF => signature(KVM_FEATURES_LEAF, *KVM_SIGNATURE),
        KVM_FEATURES_LEAF => {
            let power = extended(host, guest, POWER_LEAF).edx;
            let clock = kvm_clock::features(power & POWER_EDX != 0);
            registers(clock | kvm_eoi::FEATURE, 0, 0, 0)
        }
        hypercall::INTERFACE_LEAF => {
            let khz = u32::try_from(guest.tsc_hz / 1000).unwrap_or(u32::MAX);
            registers(hypercall::ABI_VERSION, khz, 0, 0)
        }
        0x8000_0000..=LAST_EXTENDED_LEAF => extended(host, guest, leaf),
        _ => NOTHING,
    }
}

fn basic(
    host: impl Fn(u32, u32) -> CpuidResult,
    guest: &GuestCpu,
    leaf: u32,
    subleaf: u32,
) -> CpuidResult {
    let vendor = host(0, 0);
    if leaf == 0 {
        // Leaves that the machine does not have are 0, or made up here.
        return CpuidResult {
            eax: LAST_LEAF,
            ..vendor
        };
    }
    match leaf {
        0xb | 0x1f => return topology(guest, subleaf),
        6 => return registers(LEAF_6_EAX, 0, 0, 0),
        0x15 => return time_stamp_counter(guest),
        _ if leaf > vendor.eax => return NOTHING,
        _ => {}
    }
    match leaf {
        1 => features(host(1, 0), guest),
        2 => host(2, 0),
        4 => caches(host(4, subleaf), guest),
        7 => more_features(host, guest, subleaf),
        0xd if guest.has_xsave() => extended_state::answer(host, guest, subleaf),
        _ => NOTHING,
    }
}

/// Leaf 1.
fn features(found: CpuidResult, guest: &GuestCpu) -> CpuidResult {
    const CLFLUSH: u32 = 0xff00;
    let mut ecx = guest.without_state(found.ecx & LEAF_1_ECX, LEAF_1_ECX_AVX, 0);
    if !guest.has_xsave() {
        ecx &= !LEAF_1_ECX_XSAVE;
    } else if guest.cr4 & CR4_OSXSAVE != 0 {
        ecx |= LEAF_1_ECX_OSXSAVE;
    }
    let mut edx = found.edx & LEAF_1_EDX | LEAF_1_EDX_ALWAYS;
    if guest.count > 1 {
        edx |= LEAF_1_EDX_HTT;
    }
    // As many IDs as the bits of an ID can tell apart.
    let ids = 1 << guest.id_bits();
    let ebx = found.ebx & CLFLUSH | ids << 16 | guest.index << 24;
    registers(found.eax, ebx, ecx | LEAF_1_ECX_ALWAYS, edx)
}

/// Leaf 4: the caches of Intel's processors. The virtual processors are cores of
/// one package, which share the last level and no other.
fn caches(found: CpuidResult, guest: &GuestCpu) -> CpuidResult {
    let (kind, level) = (found.eax & 0x1f, found.eax >> 5 & 0b111);
    if kind == 0 {
        return NOTHING;
    }
    let highest_id = (1 << guest.id_bits()) - 1;
    let sharing = if level >= 3 { highest_id } else { 0 };
    CpuidResult {
        eax: found.eax & 0x3fff | sharing << 14 | highest_id << 26,
        ..found
    }
}

/// Leaf 7.
fn more_features(
    host: impl Fn(u32, u32) -> CpuidResult,
    guest: &GuestCpu,
    subleaf: u32,
) -> CpuidResult {
    let last = host(7, 0).eax.min(1);
    if subleaf > last {
        return NOTHING;
    }
    let found = host(7, subleaf);
    if subleaf == 1 {
        let eax = found.eax & LEAF_7_1_EAX;
        let eax = guest.without_state(eax, LEAF_7_1_EAX_AVX, LEAF_7_1_EAX_AVX512);
        return registers(eax, 0, 0, 0);
    }
    let ebx = guest.without_state(found.ebx & LEAF_7_EBX, LEAF_7_EBX_AVX2, LEAF_7_EBX_AVX512);
    let ecx = guest.without_state(found.ecx & LEAF_7_ECX, LEAF_7_ECX_AVX, LEAF_7_ECX_AVX512);
    let edx = guest.without_state(found.edx & LEAF_7_EDX, 0, LEAF_7_EDX_AVX512);
    let enqcmd = if guest.has_enqcmd {
        LEAF_7_ECX_ENQCMD
    } else {
        0
    };
    registers(last, ebx, ecx | enqcmd, edx | LEAF_7_EDX_ARCH_CAPABILITIES)
}

/// Leaves 0xb and 0x1f: the virtual processors are cores of one package, with one
/// thread each.
fn topology(guest: &GuestCpu, subleaf: u32) -> CpuidResult {
    const THREADS: u32 = 1 << 8;
    const CORES: u32 = 2 << 8;
    match subleaf {
        0 => registers(0, 1, THREADS, guest.index),
        1 => registers(guest.id_bits(), guest.count, 1 | CORES, guest.index),
        _ => registers(0, 0, subleaf & 0xff, guest.index),
    }
}

/// Leaf 0x15: the clock of the local APIC's timer is as fast as the time-stamp
/// counter. Nothing, if that does not fit.
fn time_stamp_counter(guest: &GuestCpu) -> CpuidResult {
    match u32::try_from(guest.tsc_hz) {
        Ok(hz) => registers(1, 1, hz, 0),
        Err(_) => NOTHING,
    }
}

/// The first leaf of an interface: its last leaf, and its name.
const fn signature(last: u32, name: [u8; 12]) -> CpuidResult {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = name;
    registers(
        last,
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
        u32::from_le_bytes([i, j, k, l]),
    )
}

fn extended(host: impl Fn(u32, u32) -> CpuidResult, guest: &GuestCpu, leaf: u32) -> CpuidResult {
    let range = host(0x8000_0000, 0);
    if leaf > range.eax {
        return NOTHING;
    }
    let found = host(leaf, 0);
    let is_amd = AMD_VENDORS.contains(&host(0, 0).ebx);
    match leaf {
        0x8000_0000 => CpuidResult {
            eax: range.eax.min(LAST_EXTENDED_LEAF),
            ..range
        },
        0x8000_0001 => {
            let mut ecx = guest.without_state(found.ecx & EXTENDED_ECX, EXTENDED_ECX_AVX, 0);
            let mut edx = found.edx & EXTENDED_EDX;
            if is_amd {
                edx |= found.edx & EXTENDED_EDX_COPIES;
                if guest.count > 1 {
                    ecx |= EXTENDED_ECX_CMP_LEGACY;
                }
            }
            registers(found.eax, found.ebx, ecx, edx)
        }
        // Names, and caches as AMD describes them.
        0x8000_0002..=0x8000_0006 => found,
        POWER_LEAF => registers(0, 0, 0, found.edx & POWER_EDX),
        0x8000_0008 => {
            let physical = (found.eax & 0xff).min(MAX_PHYSICAL_BITS);
            let cores = if is_amd {
                guest.id_bits() << 12 | guest.count.saturating_sub(1)
            } else {
                0
            };
            registers(physical | LINEAR_BITS << 8, found.ebx & SIZES_EBX, cores, 0)
        }
        _ => NOTHING,
    }
}

#[cfg(test)]
#[path = "cpuid_tests.rs"]
mod tests;
