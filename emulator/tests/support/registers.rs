//! Where registers stand and what their bits are called, transcribed for the
//! tests alone. The offsets of the tables are the model's own choice; that
//! OFFSETS and the MSI-X capability announce them is a test in `registers.rs`.

// [341204 §9.2 "Configuration and Control Registers (BAR0)"]
pub(crate) const VERSION: u64 = 0x00;
pub(crate) const GENCAP: u64 = 0x10;
pub(crate) const WQCAP: u64 = 0x20;
pub(crate) const GRPCAP: u64 = 0x30;
pub(crate) const ENGCAP: u64 = 0x38;
pub(crate) const OPCAP: u64 = 0x40;
pub(crate) const OFFSETS: u64 = 0x60;
pub(crate) const GENCFG: u64 = 0x80;
pub(crate) const GENCTRL: u64 = 0x88;
pub(crate) const GENSTS: u64 = 0x90;
pub(crate) const INTCAUSE: u64 = 0x98;
pub(crate) const CMD: u64 = 0xa0;
pub(crate) const CMDSTATUS: u64 = 0xa8;
pub(crate) const CMDCAP: u64 = 0xb0;
pub(crate) const SWERROR: u64 = 0xc0;
pub(crate) const EVLCFG: u64 = 0xe0;
pub(crate) const EVLSTATUS: u64 = 0xf0;
pub(crate) const DUMMY_PORTAL: u64 = 0xf000;

pub(crate) const GRPCFG: u64 = 0x400;
pub(crate) const MSIXPERM: u64 = 0x800;
pub(crate) const PERFMON: u64 = 0x1000;
pub(crate) const MSIX_TABLE: u64 = 0x2000;
pub(crate) const MSIX_PBA: u64 = 0x3000;
pub(crate) const WQCFG: u64 = 0x4000;
pub(crate) const IMS: u64 = 0x1_0000;

/// GRPCFG of group `group`: WQs at +0, engines at +0x20, flags at +0x28.
pub(crate) const fn grpcfg(group: u64) -> u64 {
    GRPCFG + group * 0x40
}
pub(crate) const ENGINES: u64 = 0x20;
pub(crate) const GROUP_FLAGS: u64 = 0x28;

/// Entry `index` of the MSI-X table.
pub(crate) const fn msix(index: u64) -> u64 {
    MSIX_TABLE + index * 16
}

/// Entry `index` of the MSI-X Permissions Table.
pub(crate) const fn msixperm(index: u64) -> u64 {
    MSIXPERM + index * 8
}

/// Slot `index` of the Interrupt Message Storage.
pub(crate) const fn ims(index: u64) -> u64 {
    IMS + index * 16
}
/// The control word of an MSI-X or IMS entry.
pub(crate) const CONTROL: u64 = 12;

/// The permission bits of an MSIXPERM or IMS control word that lets `pasid`
/// through: PASID in 31:12, PASID Enable in 3.
pub(crate) fn permission(pasid: Option<u32>) -> u32 {
    pasid.map_or(0, |pasid| pasid << 12 | 1 << 3)
}
pub(crate) const IGNORE: u32 = 1 << 2;
pub(crate) const PENDING: u32 = 1 << 1;
pub(crate) const MASK: u32 = 1 << 0;

// [§9.2.8 to §9.2.11]
pub(crate) const USER_INTERRUPTS: u32 = 1 << 12;
pub(crate) const EVENT_LOG_ENABLE: u32 = 1 << 13;
pub(crate) const CAUSE_SOFTWARE_ERROR: u32 = 1 << 0;
pub(crate) const CAUSE_COMMAND: u32 = 1 << 1;
pub(crate) const CAUSE_OCCUPANCY: u32 = 1 << 2;
pub(crate) const CAUSE_PERFMON: u32 = 1 << 3;
pub(crate) const CAUSE_HALT: u32 = 1 << 4;
pub(crate) const CAUSE_EVENT_LOG: u32 = 1 << 5;
pub(crate) const CAUSE_HANDLES_REVOKED: u32 = 1 << 31;

/// GENSTS 1:0.
pub(crate) const DISABLED: u32 = 0;
pub(crate) const ENABLED: u32 = 1;
pub(crate) const DRAINING: u32 = 2;
pub(crate) const HALTED: u32 = 3;

// [§9.2.12 "Command Register (CMD)"]
pub(crate) const ENABLE_DEVICE: u32 = 1 << 20;
pub(crate) const DISABLE_DEVICE: u32 = 2 << 20;
pub(crate) const DRAIN_ALL: u32 = 3 << 20;
pub(crate) const ABORT_ALL: u32 = 4 << 20;
pub(crate) const RESET_DEVICE: u32 = 5 << 20;
pub(crate) const ENABLE_WQ: u32 = 6 << 20;
pub(crate) const DISABLE_WQ: u32 = 7 << 20;
pub(crate) const DRAIN_WQ: u32 = 8 << 20;
pub(crate) const ABORT_WQ: u32 = 9 << 20;
pub(crate) const RESET_WQ: u32 = 10 << 20;
pub(crate) const DRAIN_PASID: u32 = 11 << 20;
pub(crate) const ABORT_PASID: u32 = 12 << 20;
pub(crate) const REQUEST_HANDLE: u32 = 13 << 20;
pub(crate) const RELEASE_HANDLE: u32 = 14 << 20;
/// Operand of the handle commands: the index is one of the IMS.
pub(crate) const OF_IMS: u32 = 1 << 16;
pub(crate) const REQUEST_INTERRUPT: u32 = 1 << 31;
pub(crate) const ACTIVE: u32 = 1 << 31;

// Configuration space [Appendix C].
pub(crate) const PCICMD: usize = 0x04;
pub(crate) const DEVCTL: usize = 0x48;
pub(crate) const MSIX_CONTROL: usize = 0x82;
pub(crate) const ATS_CONTROL: usize = 0x226;
pub(crate) const PASID_CONTROL: usize = 0x236;
pub(crate) const PRS_CONTROL: usize = 0x244;
pub(crate) const PRS_ALLOCATION: usize = 0x24c;
/// DEVCTL.15.
pub(crate) const INITIATE_FLR: u32 = 1 << 15;
