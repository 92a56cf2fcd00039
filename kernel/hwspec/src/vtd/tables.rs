//! From a request's source-id and PASID to its page tables.

use bitfield_struct::bitfield;

use crate::field::field;

/// Scalable-mode Root Entry (128-bit). The root table has one for each bus: 256
/// entries * 16 bytes = 4 KiB.
/// [VT-d 5.10, 9.2 "Scalable-mode Root Entry"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RootEntry {
    /// Bits 63:0, LP and LCTP: devices 0 to 15.
    pub lower: ContextTablePointer,
    /// Bits 127:64, UP and UCTP: devices 16 to 31.
    pub upper: ContextTablePointer,
}
const _: () = assert!(size_of::<RootEntry>() == 16);

/// Half of a scalable-mode root entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextTablePointer {
    /// LP, UP: Present.
    pub p: bool,
    #[bits(11)]
    _reserved_11_1: u16,
    /// LCTP, UCTP: bits 63:12 of the context table's address.
    #[bits(52)]
    pub ctp: u64,
}
const _: () = assert!(ContextTablePointer::CTP_OFFSET == 12);

/// Scalable-Mode Context-Entry (256-bit). A context table has 128 entries * 32
/// bytes = 4 KiB, indexed by the low 7 bits of the source-id.
/// [VT-d 5.10, 9.4 "Scalable-Mode Context-Entry"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ContextEntry {
    /// Bits 63:0.
    pub word0: ContextEntry0,
    /// Bits 127:64.
    pub word1: ContextEntry1,
    /// Bits 255:128, reserved.
    pub reserved: [u64; 2],
}
const _: () = assert!(size_of::<ContextEntry>() == 32);

/// Scalable-Mode Context-Entry, bits 63:0.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextEntry0 {
    /// P: Present.
    pub p: bool,
    /// FPD: Fault Processing Disable.
    pub fpd: bool,
    /// DTE: Device-TLB Enable; reserved if ECAP_REG.DT is 0.
    pub dte: bool,
    /// PASIDE: PASID Enable.
    pub paside: bool,
    /// PRE: Page Request Enable; reserved if ECAP_REG.PRS is 0.
    pub pre: bool,
    /// HPTE: HPT Enable; reserved if ECAP_REG.HPTS is 0.
    pub hpte: bool,
    /// EPTR: Enable PASID in Translated Requests; reserved if ECAP_REG.PTRS is 0.
    pub eptr: bool,
    #[bits(2)]
    _reserved_8_7: u8,
    /// PDTS: the PASID directory has 2^(PDTS + 7) entries.
    #[bits(3)]
    pub pdts: u8,
    /// PASIDDIRPTR: bits 63:12 of the PASID directory's address.
    #[bits(52)]
    pub pasiddirptr: u64,
}
const _: () = {
    assert!(ContextEntry0::FPD_OFFSET == 1 && ContextEntry0::DTE_OFFSET == 2);
    assert!(ContextEntry0::PASIDE_OFFSET == 3 && ContextEntry0::PRE_OFFSET == 4);
    assert!(ContextEntry0::HPTE_OFFSET == 5 && ContextEntry0::EPTR_OFFSET == 6);
    assert!(ContextEntry0::PDTS_OFFSET == 9 && ContextEntry0::PASIDDIRPTR_OFFSET == 12);
};

/// Scalable-Mode Context-Entry, bits 127:64.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextEntry1 {
    /// RID_PASID: the PASID of requests without one; reserved if ECAP_REG.RPS is 0,
    /// and they then have PASID 0.
    #[bits(20)]
    pub rid_pasid: u32,
    /// RID_PRIV: their privilege; reserved if ECAP_REG.RPRIVS is 0.
    pub rid_priv: bool,
    #[bits(43)]
    _reserved_127_85: u64,
}
const _: () = assert!(ContextEntry1::RID_PRIV_OFFSET == 84 - 64);

/// Scalable-Mode PASID Directory Entry (64-bit), indexed by `PASID[19:6]`.
/// [VT-d 5.10, 9.5 "Scalable-Mode PASID Directory Entry"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidDirectoryEntry {
    /// P: Present.
    pub p: bool,
    /// FPD: Fault Processing Disable.
    pub fpd: bool,
    #[bits(10)]
    _reserved_11_2: u16,
    /// SMPTBLPTR: bits 63:12 of the PASID table's address.
    #[bits(52)]
    pub smptblptr: u64,
}
const _: () = {
    assert!(PasidDirectoryEntry::FPD_OFFSET == 1 && PasidDirectoryEntry::SMPTBLPTR_OFFSET == 12);
};

/// Scalable-Mode PASID Table Entry (512-bit). A PASID table has 64 entries * 64
/// bytes = 4 KiB, indexed by `PASID[5:0]`.
/// [VT-d 5.10, 9.6 "Scalable-Mode PASID Table Entry"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PasidEntry {
    /// Bits 63:0.
    pub word0: PasidEntry0,
    /// Bits 127:64.
    pub word1: PasidEntry1,
    /// Bits 191:128.
    pub word2: PasidEntry2,
    /// Bits 511:192: reserved, or about host permission tables, which are not used.
    pub reserved: [u64; 5],
}
const _: () = assert!(size_of::<PasidEntry>() == 64);

/// PGTT: PASID Granular Translation Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pgtt(u8);

impl Pgtt {
    /// First-stage Translation only.
    pub const FIRST_STAGE: Self = Self(0b001);
    /// Second-stage Translation only.
    pub const SECOND_STAGE: Self = Self(0b010);
    /// Pass-through.
    pub const PASS_THROUGH: Self = Self(0b100);
}
field!(Pgtt: u8);

/// Scalable-Mode PASID Table Entry, bits 63:0.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidEntry0 {
    /// P: Present.
    pub p: bool,
    /// FPD: Fault Processing Disable.
    pub fpd: bool,
    /// AW: Address Width of the second stage. 1: 39 bits, 3 levels; 2: 48 bits, 4
    /// levels; 3: 57 bits, 5 levels. Reserved if ECAP_REG.SSTS is 0.
    #[bits(3)]
    pub aw: u8,
    _reserved_5: bool,
    /// PGTT: PASID Granular Translation Type.
    #[bits(3)]
    pub pgtt: Pgtt,
    /// SSADE: Second Stage Access/Dirty bit Enable.
    pub ssade: bool,
    #[bits(2)]
    _reserved_11_10: u8,
    /// SSPTPTR: bits 63:12 of the address of the uppermost second-stage table.
    #[bits(52)]
    pub ssptptr: u64,
}
const _: () = {
    assert!(PasidEntry0::FPD_OFFSET == 1 && PasidEntry0::AW_OFFSET == 2);
    assert!(PasidEntry0::PGTT_OFFSET == 6 && PasidEntry0::SSADE_OFFSET == 9);
    assert!(PasidEntry0::SSPTPTR_OFFSET == 12);
};

/// Scalable-Mode PASID Table Entry, bits 127:64.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidEntry1 {
    /// DID: Domain Identifier.
    pub did: u16,
    #[bits(7)]
    _reserved_86_80: u8,
    /// PWSNP: Page-walk Snoop; reserved if ECAP_REG.SMPWCS is 0.
    pub pwsnp: bool,
    /// PGSNP: Page Snoop; reserved if ECAP_REG.SC is 0.
    pub pgsnp: bool,
    /// CD: Cache Disable; reserved if ECAP_REG.MTS is 0, as the next two are.
    pub cd: bool,
    /// EMTE: Extended Memory Type Enable.
    pub emte: bool,
    #[bits(5)]
    _reserved_95_91: u8,
    /// PAT: Page Attribute Table.
    pub pat: u32,
}
const _: () = {
    assert!(PasidEntry1::PWSNP_OFFSET == 87 - 64 && PasidEntry1::PGSNP_OFFSET == 88 - 64);
    assert!(PasidEntry1::CD_OFFSET == 89 - 64 && PasidEntry1::EMTE_OFFSET == 90 - 64);
    assert!(PasidEntry1::PAT_OFFSET == 96 - 64);
};

/// Scalable-Mode PASID Table Entry, bits 191:128.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidEntry2 {
    /// SRE: Supervisor Request Enable; reserved if ECAP_REG.SRS is 0.
    pub sre: bool,
    _reserved_129: bool,
    /// FSPM: First Stage Paging Mode. 0: 4 levels, 1: 5 levels.
    #[bits(2)]
    pub fspm: u8,
    /// WPE: Write Protect Enable, for privileged requests.
    pub wpe: bool,
    #[bits(2)]
    _ignored_134_133: u8,
    /// EAFE: Extended Accessed Flag Enable; reserved if ECAP_REG.EAFS is 0.
    pub eafe: bool,
    #[bits(4)]
    _reserved_139_136: u8,
    /// FSPTPTR: bits 63:12 of the address of the uppermost first-stage table.
    #[bits(52)]
    pub fsptptr: u64,
}
const _: () = {
    assert!(PasidEntry2::FSPM_OFFSET == 130 - 128 && PasidEntry2::WPE_OFFSET == 132 - 128);
    assert!(PasidEntry2::EAFE_OFFSET == 135 - 128 && PasidEntry2::FSPTPTR_OFFSET == 140 - 128);
};

impl PasidEntry {
    /// The entry as the 64-bit words it is stored in.
    pub const fn words(&self) -> [u64; 8] {
        let [a, b, c, d, e] = self.reserved;
        [
            self.word0.into_bits(),
            self.word1.into_bits(),
            self.word2.into_bits(),
            a,
            b,
            c,
            d,
            e,
        ]
    }
}

impl ContextEntry {
    /// The entry as the 64-bit words it is stored in.
    pub const fn words(&self) -> [u64; 4] {
        let [a, b] = self.reserved;
        [self.word0.into_bits(), self.word1.into_bits(), a, b]
    }
}
