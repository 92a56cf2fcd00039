//! Entries of the two kinds of page tables.
//!
//! A table of either kind has 512 entries of 8 bytes, 4 KiB. The bits of the address
//! that select an entry are 20:12 for the lowest level, and 29:21, 38:30, 47:39 and
//! 56:48 for the ones above.

use bitfield_struct::bitfield;

/// First-stage paging entry of any level; those of x86-64 in 64-bit mode.
/// [VT-d 5.10, 9.7 "First-Stage Paging Entries", Tables 34 to 40]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct FirstStageEntry {
    /// P: Present.
    pub p: bool,
    /// R/W: Read/Write.
    pub rw: bool,
    /// U/S: User/Supervisor.
    pub us: bool,
    /// PWT: Page-level Write Through, of a page.
    pub pwt: bool,
    /// PCD: Page-level Cache Disable, of a page.
    pub pcd: bool,
    /// A: Accessed.
    pub a: bool,
    /// D: Dirty, of a page.
    pub d: bool,
    /// PS: Page Size, where a page of 2 MiB or 1 GiB is possible. For a page of 4
    /// KiB this is PAT.
    pub ps: bool,
    /// G: Global, ignored.
    pub g: bool,
    _ignored_9: bool,
    /// EA: Extended Accessed.
    pub ea: bool,
    _ignored_11: bool,
    /// ADDR: bits 51:12 of the address of the next table or the page.
    #[bits(40)]
    pub addr: u64,
    #[bits(12)]
    _ignored_63_52: u16,
}
const _: () = {
    assert!(FirstStageEntry::RW_OFFSET == 1 && FirstStageEntry::US_OFFSET == 2);
    assert!(FirstStageEntry::PWT_OFFSET == 3 && FirstStageEntry::PCD_OFFSET == 4);
    assert!(FirstStageEntry::A_OFFSET == 5 && FirstStageEntry::D_OFFSET == 6);
    assert!(FirstStageEntry::PS_OFFSET == 7 && FirstStageEntry::G_OFFSET == 8);
    assert!(FirstStageEntry::EA_OFFSET == 10 && FirstStageEntry::ADDR_OFFSET == 12);
};

/// Second-stage paging entry of any level; those of extended page tables. With R
/// and W 0 the rest is ignored.
/// [VT-d 5.10, 9.8 "Second-Stage Paging Entries", Tables 41 to 47]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SecondStageEntry {
    /// R: Read.
    pub r: bool,
    /// W: Write.
    pub w: bool,
    _ignored_2: bool,
    /// EMT: Extended Memory Type, of a page; ignored if the PASID entry's EMTE is 0.
    #[bits(3)]
    pub emt: u8,
    /// IPAT: Ignore PAT, of a page; likewise.
    pub ipat: bool,
    /// PS: Page Size, where a page of 2 MiB or 1 GiB is possible.
    pub ps: bool,
    /// A: Accessed; ignored if the PASID entry's SSADE is 0.
    pub a: bool,
    /// D: Dirty, of a page; likewise.
    pub d: bool,
    _ignored_10: bool,
    /// SNP: Snoop, of a page; reserved if ECAP_REG.SC is 0.
    pub snp: bool,
    /// ADDR: bits 51:12 of the address of the next table or the page.
    #[bits(40)]
    pub addr: u64,
    #[bits(9)]
    _ignored_60_52: u16,
    /// IR: I/O Read; ignored if RTADDR_REG.SSIRWE is 0.
    pub ir: bool,
    /// IW: I/O Write; reserved if RTADDR_REG.SSIRWE is 0.
    pub iw: bool,
    _ignored_63: bool,
}
const _: () = {
    assert!(SecondStageEntry::W_OFFSET == 1 && SecondStageEntry::EMT_OFFSET == 3);
    assert!(SecondStageEntry::IPAT_OFFSET == 6 && SecondStageEntry::PS_OFFSET == 7);
    assert!(SecondStageEntry::A_OFFSET == 8 && SecondStageEntry::D_OFFSET == 9);
    assert!(SecondStageEntry::SNP_OFFSET == 11 && SecondStageEntry::ADDR_OFFSET == 12);
    assert!(SecondStageEntry::IR_OFFSET == 61 && SecondStageEntry::IW_OFFSET == 62);
};
