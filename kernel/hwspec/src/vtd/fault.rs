//! Faults: the status register, the recording registers and the reasons.

use core::fmt;

use bitfield_struct::bitfield;

use crate::field::field;
use crate::register::{Ro, Rw1c, layouts};

/// Fault Status Register, FSTS_REG (32-bit, RW1C but for PPF and FRI).
/// [VT-d 5.10, 11.4.7.1 "Fault Status Register"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Fsts {
    /// PFO: Primary Fault Overflow.
    pub pfo: bool,
    /// PPF: Primary Pending Fault, RO.
    pub ppf: bool,
    #[bits(2)]
    _reserved_3_2: u8,
    /// IQE: Invalidation Queue Error.
    pub iqe: bool,
    /// ICE: Invalidation Completion Error.
    pub ice: bool,
    /// ITE: Invalidation Time-out Error.
    pub ite: bool,
    _deprecated_7: bool,
    /// FRI: Fault Record Index, RO, valid while PPF is 1.
    pub fri: u8,
    _reserved_31_16: u16,
}
const _: () = {
    assert!(Fsts::PPF_OFFSET == 1 && Fsts::IQE_OFFSET == 4 && Fsts::ICE_OFFSET == 5);
    assert!(Fsts::ITE_OFFSET == 6 && Fsts::FRI_OFFSET == 8);
};

/// Fault Recording Register, FRCD_REG, bits 63:0 (RO).
/// [VT-d 5.10, 11.4.7.6 "Fault Recording Registers \[n\]"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct FrcdLow {
    #[bits(12)]
    _reserved_11_0: u16,
    /// FI: Fault Info. Bits 63:12 of the address; for an interrupt its index in
    /// the register's bits 63:48.
    #[bits(52)]
    pub fi: u64,
}
const _: () = assert!(FrcdLow::FI_OFFSET == 12);

impl FrcdLow {
    /// The address of the page that the request was for.
    pub const fn page_address(self) -> u64 {
        self.fi() << 12
    }

    /// The interrupt_index of the request, where the reason says there is one.
    pub const fn interrupt_index(self) -> u16 {
        let [.., low, high] = self.into_bits().to_le_bytes();
        u16::from_le_bytes([low, high])
    }
}

/// Fault Recording Register, FRCD_REG, bits 127:64 (RO but for F, RW1C).
/// [VT-d 5.10, 11.4.7.6 "Fault Recording Registers \[n\]"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct FrcdHigh {
    /// SID: Source Identifier.
    pub sid: u16,
    #[bits(12)]
    _reserved_91_80: u16,
    /// T2: Type bit 2.
    pub t2: bool,
    /// PRIV: Privilege Mode Requested, if PP is 1.
    pub privileged: bool,
    /// EXE: Execute Permission Requested, if PP is 1.
    pub exe: bool,
    /// PP: PASID Present.
    pub pp: bool,
    /// FR: Fault Reason.
    #[bits(8)]
    pub fr: FaultReason,
    /// PV: PASID Value, if PP is 1.
    #[bits(20)]
    pub pv: u32,
    /// AT: Address Type. 0: untranslated, 1: translation request, 2: translated.
    #[bits(2)]
    pub at: u8,
    /// T1: Type bit 1. T1 and T2: 00 write, 01 page request, 10 read, 11 AtomicOp.
    pub t1: bool,
    /// F: Fault, a fault is recorded here.
    pub f: bool,
}
const _: () = {
    assert!(FrcdHigh::T2_OFFSET == 92 - 64 && FrcdHigh::PRIVILEGED_OFFSET == 93 - 64);
    assert!(FrcdHigh::EXE_OFFSET == 94 - 64 && FrcdHigh::PP_OFFSET == 95 - 64);
    assert!(FrcdHigh::FR_OFFSET == 96 - 64 && FrcdHigh::PV_OFFSET == 104 - 64);
    assert!(FrcdHigh::AT_OFFSET == 124 - 64 && FrcdHigh::T1_OFFSET == 126 - 64);
    assert!(FrcdHigh::F_OFFSET == 127 - 64);
};

/// From one fault recording register to the next, in bytes.
pub const FRCD_STRIDE: usize = 16;

/// The low half of fault recording register `index`. `base` is
/// [`Cap::fault_recording_offset`](super::Cap::fault_recording_offset).
pub const fn frcd_low(base: usize, index: usize) -> Ro<FrcdLow> {
    Ro::at(base + index * FRCD_STRIDE)
}

/// The high half of fault recording register `index`.
pub const fn frcd_high(base: usize, index: usize) -> Rw1c<FrcdHigh> {
    Rw1c::at(base + index * FRCD_STRIDE + 8)
}

layouts! {
    u32: Fsts;
    u64: FrcdLow, FrcdHigh;
}

/// Why a request was blocked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FaultReason(pub u8);

macro_rules! fault_reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl FaultReason {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// What happened, for people; nothing for a code that the
            /// specification does not know.
            pub const fn text(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

// [VT-d 5.10, 5.1.4.1 "Interrupt Remapping Fault Conditions", Table 15; 7.1.3
// "Fault Conditions and Remapping Hardware Behavior for Various Requests", Table
// 30, without the conditions of legacy mode and of host permission tables]
fault_reasons! {
    /// Interrupt request with reserved bits set.
    INTERRUPT_RESERVED = 0x20, "interrupt request with reserved bits set";
    /// interrupt_index beyond the table.
    INTERRUPT_INDEX = 0x21, "interrupt index beyond the remapping table";
    /// IRTE not present.
    IRTE_NOT_PRESENT = 0x22, "interrupt remapping entry not present";
    /// No access to the interrupt remapping table.
    IRTE_ACCESS = 0x23, "no access to the interrupt remapping table";
    /// IRTE with reserved bits set.
    IRTE_RESERVED = 0x24, "interrupt remapping entry with reserved bits set";
    /// Compatibility format blocked.
    INTERRUPT_COMPATIBILITY = 0x25, "interrupt request in compatibility format";
    /// Source-id validation failed.
    INTERRUPT_SOURCE = 0x26, "interrupt from a source that may not use the entry";
    /// No access to the posted interrupt descriptor.
    POSTED_ACCESS = 0x27, "no access to the posted interrupt descriptor";
    /// Posted interrupt descriptor with reserved bits set.
    POSTED_RESERVED = 0x28, "posted interrupt descriptor with reserved bits set";
    /// A write to the interrupt range that is no interrupt.
    NOT_AN_INTERRUPT = 0x29, "request to FEEx_xxxxh that is no interrupt";
    /// EIME is 0 where it is required.
    INTERRUPT_MODE = 0x2a, "extended interrupt mode is required";
    /// Interrupt remapping is off where it is required.
    INTERRUPT_REMAPPING_OFF = 0x2b, "interrupt remapping is required";

    /// RTADDR_REG is invalid.
    ROOT_ADDRESS_INVALID = 0x30, "root table address register is invalid";
    /// A PASID in legacy mode.
    PASID_IN_LEGACY_MODE = 0x31, "request with PASID in legacy mode";
    /// A page request in legacy mode.
    PAGE_REQUEST_IN_LEGACY_MODE = 0x32, "page request in legacy mode";
    /// Abort-dma mode.
    ABORT_DMA = 0x33, "all DMA is aborted";
    /// Execute-Requested.
    EXECUTE_REQUESTED = 0x34, "execute permission requested";
    /// No access to the root table.
    ROOT_ACCESS = 0x38, "no access to the root table";
    /// Root entry not present.
    ROOT_NOT_PRESENT = 0x39, "root entry not present";
    /// Root entry with reserved bits set.
    ROOT_RESERVED = 0x3a, "root entry with reserved bits set";
    /// No access to the context table.
    CONTEXT_ACCESS = 0x40, "no access to the context table";
    /// Context entry not present.
    CONTEXT_NOT_PRESENT = 0x41, "context entry not present";
    /// Context entry with reserved bits set.
    CONTEXT_RESERVED = 0x42, "context entry with reserved bits set";
    /// Context entry invalid.
    CONTEXT_INVALID = 0x43, "context entry is invalid";
    /// Device-TLB disabled.
    DEVICE_TLB_DISABLED = 0x44, "translated or translation request without DTE";
    /// PASIDE is 0.
    PASID_DISABLED = 0x45, "request with PASID without PASIDE";
    /// PASID beyond PDTS.
    PASID_BEYOND_DIRECTORY = 0x46, "PASID beyond the directory";
    /// PRE is 0.
    PAGE_REQUEST_DISABLED = 0x47, "page request without PRE";
    /// PASID equals RID_PASID.
    PASID_IS_RID_PASID = 0x48, "PASID is the one of requests without PASID";
    /// EPTR is 0.
    TRANSLATED_WITH_PASID = 0x49, "translated request with PASID without EPTR";
    /// No access to the PASID directory.
    PASID_DIRECTORY_ACCESS = 0x50, "no access to the PASID directory";
    /// PASID directory entry not present.
    PASID_DIRECTORY_NOT_PRESENT = 0x51, "PASID directory entry not present";
    /// PASID directory entry with reserved bits set.
    PASID_DIRECTORY_RESERVED = 0x52, "PASID directory entry with reserved bits set";
    /// No access to the PASID table.
    PASID_TABLE_ACCESS = 0x58, "no access to the PASID table";
    /// PASID entry not present.
    PASID_NOT_PRESENT = 0x59, "PASID entry not present";
    /// PASID entry with reserved bits set.
    PASID_RESERVED = 0x5a, "PASID entry with reserved bits set";
    /// PASID entry invalid.
    PASID_INVALID = 0x5b, "PASID entry is invalid";
    /// Execute-Requested without ERS.
    EXECUTE_UNSUPPORTED = 0x5c, "execute permission requested, not supported";
    /// SRE is 0.
    SUPERVISOR_DISABLED = 0x5d, "privileged request without SRE";
    /// No access to a first-stage table.
    FIRST_STAGE_ACCESS = 0x70, "no access to a first-stage table";
    /// First-stage entry not present.
    FIRST_STAGE_NOT_PRESENT = 0x71, "first-stage entry not present";
    /// First-stage entry with reserved bits set.
    FIRST_STAGE_RESERVED = 0x72, "first-stage entry with reserved bits set";
    /// No access to the uppermost first-stage table.
    FIRST_STAGE_ROOT_ACCESS = 0x73, "no access to the top first-stage table";
    /// Nested: address beyond the second stage.
    NESTED_ADDRESS = 0x74, "nested first-stage address too wide";
    /// Nested: no read permission for the uppermost first-stage table.
    NESTED_ROOT_READ = 0x75, "nested top first-stage table not readable";
    /// Nested: no read permission for a first-stage table.
    NESTED_READ = 0x76, "nested first-stage table not readable";
    /// Nested: no write permission for the flags of a first-stage table.
    NESTED_WRITE = 0x77, "nested first-stage table not writable";
    /// No access to a second-stage table.
    SECOND_STAGE_ACCESS = 0x78, "no access to a second-stage table";
    /// Second-stage entry not present.
    SECOND_STAGE_NOT_PRESENT = 0x79, "second-stage entry not present";
    /// Second-stage entry with reserved bits set.
    SECOND_STAGE_RESERVED = 0x7a, "second-stage entry with reserved bits set";
    /// No access to the uppermost second-stage table.
    SECOND_STAGE_ROOT_ACCESS = 0x7b, "no access to the top second-stage table";
    /// A/D flags to set in a second-stage table that is not snooped.
    SECOND_STAGE_FLAGS = 0x7c, "second-stage A/D flags in tables not snooped";
    /// A/D flags of a second-stage table could not be set.
    SECOND_STAGE_FLAGS_FAILED = 0x7d, "second-stage A/D flags not updated";
    /// Address not canonical.
    NOT_CANONICAL = 0x80, "first-stage address not canonical";
    /// A request with user privilege to a supervisor page.
    PRIVILEGE = 0x81, "first-stage page is for supervisors";
    /// Address beyond the host's width.
    HOST_ADDRESS = 0x83, "address beyond the host address width";
    /// Address beyond the second stage's width.
    GUEST_ADDRESS = 0x84, "address beyond the guest address width";
    /// No write permission.
    NO_WRITE = 0x85, "page not writable";
    /// No read permission.
    NO_READ = 0x86, "page not readable";
    /// Output address in the interrupt range.
    OUTPUT_IS_INTERRUPT = 0x87, "translates to FEEx_xxxxh";
    /// PASID beyond PSS.
    PASID_TOO_WIDE = 0x89, "PASID beyond what the hardware supports";
    /// A/D flags to set in a first-stage table that is not snooped.
    FIRST_STAGE_FLAGS = 0x90, "first-stage A/D flags in tables not snooped";
    /// A/D flags of a first-stage table could not be set.
    FIRST_STAGE_FLAGS_FAILED = 0x91, "first-stage A/D flags not updated";
}

impl FaultReason {
    /// Whether it was an interrupt that was blocked.
    /// [VT-d 5.10, 5.1.4.1 "Interrupt Remapping Fault Conditions", Table 15]
    pub const fn is_interrupt(self) -> bool {
        self.0 >= 0x20 && self.0 <= 0x2b
    }

    /// Whether FI holds the interrupt_index.
    /// [VT-d 5.10, 11.4.7.6 "Fault Recording Registers \[n\]", field FI]
    pub const fn has_interrupt_index(self) -> bool {
        self.is_interrupt() && !matches!(self.0, 0x20 | 0x25 | 0x29 | 0x2a | 0x2b)
    }
}
field!(FaultReason: u8);

impl fmt::Display for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => write!(f, "{text} ({:02X}h)", self.0),
            None => write!(f, "unknown reason {:02X}h", self.0),
        }
    }
}

impl fmt::Debug for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
