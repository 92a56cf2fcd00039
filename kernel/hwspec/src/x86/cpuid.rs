//! What the CPUID instruction returns, as far as it is used.
//! [Intel SDM, vol. 2, "CPUID—CPU Identification"; AMD64 Architecture
//! Programmer's Manual, vol. 3, appendix E "Obtaining Processor Information Via
//! the CPUID Instruction"]

use bitfield_struct::bitfield;

/// Leaf 1: versions and features.
pub const FEATURES: u32 = 1;
/// Leaf 7: more features.
pub const MORE_FEATURES: u32 = 7;
/// Leaf 0xd: the state that XSAVE knows.
pub const EXTENDED_STATE: u32 = 0xd;
/// Leaf 0x15: the time-stamp counter and its clock.
pub const TIME_STAMP_COUNTER: u32 = 0x15;
/// Leaf 0x8000_0000: the last leaf of this range.
pub const EXTENDED_RANGE: u32 = 0x8000_0000;
/// Leaf 0x8000_0001: features that AMD introduced.
pub const EXTENDED_FEATURES: u32 = 0x8000_0001;
/// Leaf 0x8000_0008: address sizes, and features of speculation.
pub const ADDRESS_SIZES: u32 = 0x8000_0008;
/// Leaf 0x8000_000a: SVM.
pub const SVM_FEATURES: u32 = 0x8000_000a;

/// Leaf 1, ECX.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct FeaturesEcx {
    #[bits(5)]
    _unused_4_0: u8,
    /// VMX: virtual machine extensions.
    pub vmx: bool,
    #[bits(15)]
    _unused_20_6: u16,
    /// x2APIC.
    pub x2apic: bool,
    #[bits(2)]
    _unused_23_22: u8,
    /// TSC-Deadline: the local APIC's timer takes a deadline.
    pub tsc_deadline: bool,
    _unused_25: bool,
    /// XSAVE: and XRSTOR, XSETBV, XGETBV.
    pub xsave: bool,
    #[bits(5)]
    _unused_31_27: u8,
}

const _: () = assert!(
    FeaturesEcx::VMX_OFFSET == 5
        && FeaturesEcx::X2APIC_OFFSET == 21
        && FeaturesEcx::TSC_DEADLINE_OFFSET == 24
        && FeaturesEcx::XSAVE_OFFSET == 26
);

/// Leaf 7, subleaf 0, EBX.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct MoreFeaturesEbx {
    #[bits(7)]
    _unused_6_0: u8,
    /// SMEP: supervisor-mode execution prevention.
    pub smep: bool,
    #[bits(12)]
    _unused_19_8: u16,
    /// SMAP: supervisor-mode access prevention.
    pub smap: bool,
    #[bits(11)]
    _unused_31_21: u16,
}

const _: () = assert!(MoreFeaturesEbx::SMEP_OFFSET == 7 && MoreFeaturesEbx::SMAP_OFFSET == 20);

/// Leaf 7, subleaf 0, ECX.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct MoreFeaturesEcx {
    #[bits(28)]
    _unused_27_0: u32,
    /// MOVDIR64B.
    pub movdir64b: bool,
    /// ENQCMD: and ENQCMDS, and the register IA32_PASID.
    pub enqcmd: bool,
    #[bits(2)]
    _unused_31_30: u8,
}

const _: () =
    assert!(MoreFeaturesEcx::MOVDIR64B_OFFSET == 28 && MoreFeaturesEcx::ENQCMD_OFFSET == 29);

/// Leaf 0x8000_0001, ECX.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ExtendedFeaturesEcx {
    #[bits(2)]
    _unused_1_0: u8,
    /// SVM: secure virtual machine.
    pub svm: bool,
    #[bits(29)]
    _unused_31_3: u32,
}

const _: () = assert!(ExtendedFeaturesEcx::SVM_OFFSET == 2);

/// Leaf 0x8000_0001, EDX.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ExtendedFeaturesEdx {
    #[bits(20)]
    _unused_19_0: u32,
    /// NX: no-execute page protection.
    pub nx: bool,
    #[bits(5)]
    _unused_25_21: u8,
    /// Page1GB: pages of 1 GiB.
    pub gib_pages: bool,
    /// RDTSCP: and the register TSC_AUX.
    pub rdtscp: bool,
    #[bits(4)]
    _unused_31_28: u8,
}

const _: () = assert!(
    ExtendedFeaturesEdx::NX_OFFSET == 20
        && ExtendedFeaturesEdx::GIB_PAGES_OFFSET == 26
        && ExtendedFeaturesEdx::RDTSCP_OFFSET == 27
);

/// Leaf 0x8000_0008, EBX.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct AddressSizesEbx {
    #[bits(12)]
    _unused_11_0: u16,
    /// IBPB: indirect branch prediction barrier, in the register PRED_CMD.
    pub ibpb: bool,
    #[bits(19)]
    _unused_31_13: u32,
}

const _: () = assert!(AddressSizesEbx::IBPB_OFFSET == 12);

/// Leaf 0x8000_000a, EDX.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct SvmFeaturesEdx {
    /// NP: nested paging.
    pub np: bool,
    #[bits(5)]
    _unused_5_1: u8,
    /// FlushByAsid: the TLB can be flushed for one guest.
    pub flush_by_asid: bool,
    #[bits(25)]
    _unused_31_7: u32,
}

const _: () = assert!(SvmFeaturesEdx::FLUSH_BY_ASID_OFFSET == 6);
