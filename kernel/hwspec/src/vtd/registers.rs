//! The remapping registers of one unit.

use bitfield_struct::bitfield;

use super::fault::Fsts;
use super::interrupt::{EventAddress, EventControl, EventData};
use crate::field::field;
use crate::register::{Ro, Rw, Rw1c, Wo, layouts};

/// Version Register, VER_REG (32-bit, RO).
/// [VT-d 5.10, 11.4.1 "Version Register"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Ver {
    /// MIN: minor version.
    #[bits(4)]
    pub min: u8,
    /// MAX: major version.
    #[bits(4)]
    pub max: u8,
    #[bits(24)]
    _reserved_31_8: u32,
}

/// VER_REG.
pub const VER: Ro<Ver> = Ro::at(0x00);

/// Capability Register, CAP_REG (64-bit, RO).
/// [VT-d 5.10, 11.4.2 "Capability Register"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Cap {
    /// ND: domain-ids have 4 + 2 * ND bits; 7 is reserved.
    #[bits(3)]
    pub nd: u8,
    _reserved_3: bool,
    /// RWBF: Required Write-Buffer Flushing.
    pub rwbf: bool,
    /// PLMR: Protected Low-Memory Region.
    pub plmr: bool,
    /// PHMR: Protected High-Memory Region.
    pub phmr: bool,
    /// CM: Caching Mode. Not-present and erroneous entries may be cached.
    pub cm: bool,
    /// SAGAW: Supported Adjusted Guest Address Widths. Bit 1: 39 bits, 3 levels;
    /// bit 2: 48 bits, 4 levels; bit 3: 57 bits, 5 levels.
    #[bits(5)]
    pub sagaw: u8,
    #[bits(3)]
    _reserved_15_13: u8,
    /// MGAW: Maximum Guest Address Width, less one.
    #[bits(6)]
    pub mgaw: u8,
    /// ZLR: Zero Length Read of write-only pages is supported.
    pub zlr: bool,
    _deprecated_23: bool,
    /// FRO: Fault-recording Register offset, in units of 16 bytes.
    #[bits(10)]
    pub fro: u16,
    /// SSLPS: Second Stage Large Page Support. Bit 0: 2 MiB, bit 1: 1 GiB.
    #[bits(4)]
    pub sslps: u8,
    _reserved_38: bool,
    /// PSI: Page Selective Invalidation.
    pub psi: bool,
    /// NFR: Number of Fault-recording Registers, less one.
    pub nfr: u8,
    /// MAMV: Maximum Address Mask Value of the IOTLB Invalidate Descriptor.
    #[bits(6)]
    pub mamv: u8,
    /// DWD: Write Draining.
    pub dwd: bool,
    /// DRD: Read Draining.
    pub drd: bool,
    /// FS1GP: First Stage 1-GByte Page Support.
    pub fs1gp: bool,
    #[bits(2)]
    _reserved_58_57: u8,
    /// PI: Posted Interrupts Support.
    pub pi: bool,
    /// FS5LP: First Stage 5-level Paging Support.
    pub fs5lp: bool,
    /// ECMDS: Enhanced Command Support.
    pub ecmds: bool,
    /// ESIRTPS: Enhanced Set Interrupt Remap Table Pointer Support.
    pub esirtps: bool,
    /// ESRTPS: Enhanced Set Root Table Pointer Support.
    pub esrtps: bool,
}
const _: () = {
    assert!(Cap::RWBF_OFFSET == 4 && Cap::PLMR_OFFSET == 5 && Cap::PHMR_OFFSET == 6);
    assert!(Cap::CM_OFFSET == 7 && Cap::SAGAW_OFFSET == 8 && Cap::MGAW_OFFSET == 16);
    assert!(Cap::ZLR_OFFSET == 22 && Cap::FRO_OFFSET == 24 && Cap::SSLPS_OFFSET == 34);
    assert!(Cap::PSI_OFFSET == 39 && Cap::NFR_OFFSET == 40 && Cap::MAMV_OFFSET == 48);
    assert!(Cap::DWD_OFFSET == 54 && Cap::DRD_OFFSET == 55 && Cap::FS1GP_OFFSET == 56);
    assert!(Cap::PI_OFFSET == 59 && Cap::FS5LP_OFFSET == 60 && Cap::ECMDS_OFFSET == 61);
    assert!(Cap::ESIRTPS_OFFSET == 62 && Cap::ESRTPS_OFFSET == 63);
};

impl Cap {
    /// How many bits a domain-id has; nothing for the reserved code.
    pub const fn domain_id_bits(self) -> Option<u32> {
        match self.nd() {
            7 => None,
            nd => Some(4 + 2 * nd as u32),
        }
    }

    /// How many bits an address has that goes through second-stage translation.
    pub const fn guest_address_bits(self) -> u32 {
        self.mgaw() as u32 + 1
    }

    /// Where the first fault recording register is, in bytes.
    pub const fn fault_recording_offset(self) -> usize {
        self.fro() as usize * 16
    }

    /// How many fault recording registers there are: 1 to 256.
    pub const fn fault_recording_count(self) -> usize {
        self.nfr() as usize + 1
    }
}

/// CAP_REG.
pub const CAP: Ro<Cap> = Ro::at(0x08);

/// Extended Capability Register, ECAP_REG (64-bit, RO).
/// [VT-d 5.10, 11.4.3 "Extended Capability Register"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Ecap {
    /// C: Page-walk Coherency of all tables but those behind a PASID entry.
    pub c: bool,
    /// QI: Queued Invalidation support.
    pub qi: bool,
    /// DT: Device-TLB support.
    pub dt: bool,
    /// IR: Interrupt Remapping support.
    pub ir: bool,
    /// EIM: Extended Interrupt Mode, 32-bit APIC-IDs.
    pub eim: bool,
    _deprecated_5: bool,
    /// PT: Pass Through.
    pub pt: bool,
    /// SC: Snoop Control.
    pub sc: bool,
    /// IRO: IOTLB Register Offset, in units of 16 bytes.
    #[bits(10)]
    pub iro: u16,
    #[bits(2)]
    _reserved_19_18: u8,
    /// MHMV: Maximum Handle Mask Value.
    #[bits(4)]
    pub mhmv: u8,
    _deprecated_24: bool,
    /// MTS: Memory Type Support.
    pub mts: bool,
    /// NEST: Nested Translation Support.
    pub nest: bool,
    _reserved_27: bool,
    _deprecated_28: bool,
    /// PRS: Page Request Support.
    pub prs: bool,
    /// ERS: Execute Request Support.
    pub ers: bool,
    /// SRS: Supervisor Request Support.
    pub srs: bool,
    _reserved_32: bool,
    /// NWFS: No Write Flag Support.
    pub nwfs: bool,
    /// EAFS: Extended Accessed Flag Support.
    pub eafs: bool,
    /// PSS: PASID Size Supported, less one.
    #[bits(5)]
    pub pss: u8,
    /// PASID: Process Address Space ID Support.
    pub pasid: bool,
    /// DIT: Device-TLB Invalidation Throttle.
    pub dit: bool,
    /// PDS: Page-request Drain Support.
    pub pds: bool,
    /// SMTS: Scalable Mode Translation Support.
    pub smts: bool,
    /// VCS: Virtual Command Support.
    pub vcs: bool,
    /// SSADS: Second-Stage Accessed/Dirty Support.
    pub ssads: bool,
    /// SSTS: Second-stage Translation Support.
    pub ssts: bool,
    /// FSTS: First-stage Translation Support.
    pub fsts: bool,
    /// SMPWCS: Scalable-Mode Page-walk Coherency Support.
    pub smpwcs: bool,
    /// RPS: RID-PASID Support.
    pub rps: bool,
    /// TDXCS: TDX Connect Support.
    pub tdxcs: bool,
    /// PMS: Performance Monitoring Support.
    pub pms: bool,
    /// ADMS: Abort DMA Mode Support.
    pub adms: bool,
    /// RPRIVS: RID_PRIV Support.
    pub rprivs: bool,
    _reserved_54: bool,
    /// HPTS: HPT Support.
    pub hpts: bool,
    /// PTRS: PASID in Translated Request Support.
    pub ptrs: bool,
    /// SSIRWS: Second Stage I/O Read/Write Support.
    pub ssirws: bool,
    /// SMS: Stop Marker Support.
    pub sms: bool,
    /// HPT1GPS: HPT 1G Page Support.
    pub hpt1gps: bool,
    /// RDTS: RDT Configuration Support.
    pub rdts: bool,
    /// EIMER: Extended Interrupt Mode Enable Required.
    pub eimer: bool,
    /// IRREQ: Interrupt Remapping Required.
    pub irreq: bool,
    _reserved_63: bool,
}
const _: () = {
    assert!(Ecap::QI_OFFSET == 1 && Ecap::DT_OFFSET == 2 && Ecap::IR_OFFSET == 3);
    assert!(Ecap::EIM_OFFSET == 4 && Ecap::PT_OFFSET == 6 && Ecap::SC_OFFSET == 7);
    assert!(Ecap::IRO_OFFSET == 8 && Ecap::MHMV_OFFSET == 20 && Ecap::MTS_OFFSET == 25);
    assert!(Ecap::NEST_OFFSET == 26 && Ecap::PRS_OFFSET == 29 && Ecap::ERS_OFFSET == 30);
    assert!(Ecap::SRS_OFFSET == 31 && Ecap::NWFS_OFFSET == 33 && Ecap::EAFS_OFFSET == 34);
    assert!(Ecap::PSS_OFFSET == 35 && Ecap::PASID_OFFSET == 40 && Ecap::DIT_OFFSET == 41);
    assert!(Ecap::PDS_OFFSET == 42 && Ecap::SMTS_OFFSET == 43 && Ecap::VCS_OFFSET == 44);
    assert!(Ecap::SSADS_OFFSET == 45 && Ecap::SSTS_OFFSET == 46 && Ecap::FSTS_OFFSET == 47);
    assert!(Ecap::SMPWCS_OFFSET == 48 && Ecap::RPS_OFFSET == 49 && Ecap::TDXCS_OFFSET == 50);
    assert!(Ecap::PMS_OFFSET == 51 && Ecap::ADMS_OFFSET == 52 && Ecap::RPRIVS_OFFSET == 53);
    assert!(Ecap::HPTS_OFFSET == 55 && Ecap::PTRS_OFFSET == 56 && Ecap::SSIRWS_OFFSET == 57);
    assert!(Ecap::SMS_OFFSET == 58 && Ecap::HPT1GPS_OFFSET == 59 && Ecap::RDTS_OFFSET == 60);
    assert!(Ecap::EIMER_OFFSET == 61 && Ecap::IRREQ_OFFSET == 62);
};

impl Ecap {
    /// How many bits of a PASID the hardware looks at.
    pub const fn pasid_bits(self) -> u32 {
        self.pss() as u32 + 1
    }
}

/// ECAP_REG.
pub const ECAP: Ro<Ecap> = Ro::at(0x10);

/// Global Command Register, GCMD_REG (32-bit, WO). One command at a time: all
/// other bits repeat what GSTS_REG says, and bits 30, 27 and 24 are 0.
/// [VT-d 5.10, 11.4.4.1 "Global Command Register"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Gcmd {
    #[bits(23)]
    _reserved_22_0: u32,
    /// CFI: Compatibility Format Interrupt. 1: pass them through.
    pub cfi: bool,
    /// SIRTP: Set Interrupt Remap Table Pointer.
    pub sirtp: bool,
    /// IRE: Interrupt Remapping Enable.
    pub ire: bool,
    /// QIE: Queued Invalidation Enable.
    pub qie: bool,
    /// WBF: Write Buffer Flush.
    pub wbf: bool,
    #[bits(2)]
    _reserved_29_28: u8,
    /// SRTP: Set Root Table Pointer.
    pub srtp: bool,
    /// TE: Translation Enable.
    pub te: bool,
}
const _: () = {
    assert!(Gcmd::CFI_OFFSET == 23 && Gcmd::SIRTP_OFFSET == 24 && Gcmd::IRE_OFFSET == 25);
    assert!(Gcmd::QIE_OFFSET == 26 && Gcmd::WBF_OFFSET == 27 && Gcmd::SRTP_OFFSET == 30);
    assert!(Gcmd::TE_OFFSET == 31);
};

/// GCMD_REG.
pub const GCMD: Wo<Gcmd> = Wo::at(0x18);

/// Global Status Register, GSTS_REG (32-bit, RO).
/// [VT-d 5.10, 11.4.4.2 "Global Status Register"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Gsts {
    #[bits(23)]
    _reserved_22_0: u32,
    /// CFIS: Compatibility Format Interrupt Status.
    pub cfis: bool,
    /// IRTPS: Interrupt Remapping Table Pointer Status.
    pub irtps: bool,
    /// IRES: Interrupt Remapping Enable Status.
    pub ires: bool,
    /// QIES: Queued Invalidation Enable Status.
    pub qies: bool,
    /// WBFS: Write Buffer Flush Status.
    pub wbfs: bool,
    #[bits(2)]
    _reserved_29_28: u8,
    /// RTPS: Root Table Pointer Status.
    pub rtps: bool,
    /// TES: Translation Enable Status.
    pub tes: bool,
}
const _: () = {
    assert!(Gsts::CFIS_OFFSET == 23 && Gsts::IRTPS_OFFSET == 24 && Gsts::IRES_OFFSET == 25);
    assert!(Gsts::QIES_OFFSET == 26 && Gsts::WBFS_OFFSET == 27 && Gsts::RTPS_OFFSET == 30);
    assert!(Gsts::TES_OFFSET == 31);
};

/// GSTS_REG.
pub const GSTS: Ro<Gsts> = Ro::at(0x1c);

/// TTM: Translation Table Mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TranslationTableMode(u8);

impl TranslationTableMode {
    /// Scalable mode: scalable-mode root tables and context tables.
    pub const SCALABLE: Self = Self(0b01);
    /// Abort-dma mode.
    pub const ABORT_DMA: Self = Self(0b11);
}
field!(TranslationTableMode: u8);

/// Root Table Address Register, RTADDR_REG (64-bit, RW). Takes effect with
/// GCMD_REG.SRTP. [VT-d 5.10, 11.4.5 "Root Table Address Register"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Rtaddr {
    #[bits(7)]
    _reserved_6_0: u8,
    /// SSIRWE: Second Stage I/O Read/Write Enable.
    pub ssirwe: bool,
    #[bits(2)]
    _reserved_9_8: u8,
    /// TTM: Translation Table Mode.
    #[bits(2)]
    pub ttm: TranslationTableMode,
    /// RTA: bits 63:12 of the root table's address.
    #[bits(52)]
    pub rta: u64,
}
const _: () = {
    assert!(Rtaddr::SSIRWE_OFFSET == 7 && Rtaddr::TTM_OFFSET == 10 && Rtaddr::RTA_OFFSET == 12);
};

/// RTADDR_REG.
pub const RTADDR: Rw<Rtaddr> = Rw::at(0x20);

/// FSTS_REG.
pub const FSTS: Rw1c<Fsts> = Rw1c::at(0x34);
/// Fault Event Control Register, FECTL_REG.
/// [VT-d 5.10, 11.4.7.2 "Fault Event Control Register"]
pub const FECTL: Rw<EventControl> = Rw::at(0x38);
/// Fault Event Data Register, FEDATA_REG.
/// [VT-d 5.10, 11.4.7.3 "Fault Event Data Register"]
pub const FEDATA: Rw<EventData> = Rw::at(0x3c);
/// Fault Event Address Register, FEADDR_REG.
/// [VT-d 5.10, 11.4.7.4 "Fault Event Address Register"]
pub const FEADDR: Rw<EventAddress> = Rw::at(0x40);
/// Fault Event Upper Address Register, FEUADDR_REG.
/// [VT-d 5.10, 11.4.7.5 "Fault Event Upper Address Register"]
pub const FEUADDR: Rw<u32> = Rw::at(0x44);

/// Protected Memory Enable Register, PMEN_REG (32-bit, RW).
/// [VT-d 5.10, 11.4.8.1 "Protected Memory Enable Register"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Pmen {
    /// PRS: Protected Region Status, RO.
    pub prs: bool,
    /// Reserved and preserved.
    #[bits(30)]
    pub reserved_30_1: u32,
    /// EPM: Enable Protected Memory.
    pub epm: bool,
}
const _: () = assert!(Pmen::EPM_OFFSET == 31);

/// PMEN_REG.
pub const PMEN: Rw<Pmen> = Rw::at(0x64);

/// Invalidation Queue Head Register, IQH_REG (64-bit, RO), and Invalidation Queue
/// Tail Register, IQT_REG (64-bit, RW).
/// [VT-d 5.10, 11.4.9.1 "Invalidation Queue Head Register", 11.4.9.2
/// "Invalidation Queue Tail Register"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct QueueOffset {
    #[bits(5)]
    _reserved_4_0: u8,
    /// QH, QT: which 256-bit descriptor. With descriptors of that width bit 4 of
    /// the byte offset, which the specification counts to the field, is reserved.
    #[bits(14)]
    pub descriptor: u16,
    #[bits(45)]
    _reserved_63_19: u64,
}
const _: () = assert!(QueueOffset::DESCRIPTOR_OFFSET == 5 && QueueOffset::DESCRIPTOR_BITS == 14);

/// IQH_REG.
pub const IQH: Ro<QueueOffset> = Ro::at(0x80);
/// IQT_REG.
pub const IQT: Rw<QueueOffset> = Rw::at(0x88);

/// Invalidation Queue Address Register, IQA_REG (64-bit, RW).
/// [VT-d 5.10, 11.4.9.3 "Invalidation Queue Address Register"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Iqa {
    /// QS: the queue occupies 2^QS pages of 4 KiB.
    #[bits(3)]
    pub qs: u8,
    #[bits(8)]
    _reserved_10_3: u8,
    /// DW: 0 = 128-bit descriptors, 1 = 256-bit (scalable mode needs 1).
    pub dw: bool,
    /// IQA: bits 63:12 of the queue's address.
    #[bits(52)]
    pub iqa: u64,
}
const _: () = assert!(Iqa::DW_OFFSET == 11 && Iqa::IQA_OFFSET == 12);

/// IQA_REG.
pub const IQA: Rw<Iqa> = Rw::at(0x90);

/// Invalidation Completion Status Register, ICS_REG (32-bit, RW1C).
/// [VT-d 5.10, 11.4.9.4 "Invalidation Completion Status Register"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Ics {
    /// IWC: Invalidation Wait Descriptor Complete.
    pub iwc: bool,
    #[bits(31)]
    _reserved_31_1: u32,
}

/// ICS_REG.
pub const ICS: Rw1c<Ics> = Rw1c::at(0x9c);
/// Invalidation Event Control Register, IECTL_REG.
/// [VT-d 5.10, 11.4.9.5 "Invalidation Event Control Register"]
pub const IECTL: Rw<EventControl> = Rw::at(0xa0);

/// IQEI: Invalidation Queue Error Info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueErrorInfo(pub u8);

impl QueueErrorInfo {
    /// Invalid descriptor type.
    pub const INVALID_TYPE: Self = Self(3);
    /// Reserved field violation of a valid descriptor type.
    pub const RESERVED_FIELD: Self = Self(4);
    /// Invalid descriptor width in IQA_REG.
    pub const INVALID_WIDTH: Self = Self(5);
}
field!(QueueErrorInfo: u8);

/// Invalidation Queue Error Record Register, IQERCD_REG (64-bit, RO).
/// [VT-d 5.10, 11.4.9.9 "Invalidation Queue Error Record Register"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Iqercd {
    /// IQEI: Invalidation Queue Error Info, valid while FSTS_REG.IQE is 1.
    #[bits(4)]
    pub iqei: QueueErrorInfo,
    #[bits(28)]
    _reserved_31_4: u32,
    /// ITESID: Invalidation Time-out Error Source Identifier, valid while
    /// FSTS_REG.ITE is 1.
    pub itesid: u16,
    /// ICESID: Invalidation Completion Error Source Identifier, valid while
    /// FSTS_REG.ICE is 1.
    pub icesid: u16,
}
const _: () = assert!(Iqercd::ITESID_OFFSET == 32 && Iqercd::ICESID_OFFSET == 48);

/// IQERCD_REG.
pub const IQERCD: Ro<Iqercd> = Ro::at(0xb0);

/// Interrupt Remapping Table Address Register, IRTA_REG (64-bit, RW). Takes effect
/// with GCMD_REG.SIRTP.
/// [VT-d 5.10, 11.4.10 "Interrupt Remapping Table Address Register"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Irta {
    /// S: the table has 2^(S + 1) entries.
    #[bits(4)]
    pub s: u8,
    #[bits(7)]
    _reserved_10_4: u8,
    /// EIME: Extended Interrupt Mode Enable, 32-bit APIC-IDs.
    pub eime: bool,
    /// IRTA: bits 63:12 of the table's address.
    #[bits(52)]
    pub irta: u64,
}
const _: () = assert!(Irta::EIME_OFFSET == 11 && Irta::IRTA_OFFSET == 12);

/// IRTA_REG.
pub const IRTA: Rw<Irta> = Rw::at(0xb8);

layouts! {
    u32: Ver, Gcmd, Gsts, Pmen, Ics;
    u64: Cap, Ecap, Rtaddr, QueueOffset, Iqa, Iqercd, Irta;
}
