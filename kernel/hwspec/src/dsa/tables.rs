//! The tables in BAR0 and the portals in BAR2. Each entry is a type that knows
//! where the entry begins and names its registers.

use bitfield_struct::bitfield;

use crate::field::field;
use crate::register::{Rw, Rw1c, layouts};

/// Where the configuration of one group is.
/// [DSA 3.0, 9.2.23 "Group Configuration Table (GRPCFG)"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    base: usize,
}

impl GroupConfig {
    /// Bytes from one group to the next.
    pub const STRIDE: usize = 64;

    /// Group `index` of the table at `table`.
    pub const fn at(table: usize, index: usize) -> Self {
        Self {
            base: table + index * Self::STRIDE,
        }
    }

    /// GRPWQCFG, 64 of its 256 bits: bit N of `word` is WQ 64 * `word` + N.
    ///
    /// # Panics
    /// If `word` is above 3.
    pub const fn wqs(self, word: usize) -> Rw<u64> {
        assert!(word < 4, "GRPWQCFG has four words");
        Rw::at(self.base + 8 * word)
    }

    /// GRPENGCFG: bit N is engine N.
    pub const fn engines(self) -> Rw<u64> {
        Rw::at(self.base + 32)
    }

    /// GRPFLAGS.
    pub const fn flags(self) -> Rw<GroupFlags> {
        Rw::at(self.base + 40)
    }
}

/// GRPFLAGS (64-bit, RW while the device is Disabled).
/// [DSA 3.0, 9.2.23 "Group Configuration Table (GRPCFG)"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct GroupFlags {
    /// TC-A.
    #[bits(3)]
    pub tc_a: u8,
    /// TC-B.
    #[bits(3)]
    pub tc_b: u8,
    _reserved_6: bool,
    /// Use Global Read Buffer Limit.
    pub use_global_limit: bool,
    /// Read Buffers Reserved.
    pub read_buffers_reserved: u8,
    #[bits(4)]
    _reserved_19_16: u8,
    /// Read Buffers Allowed.
    pub read_buffers_allowed: u8,
    #[bits(4)]
    _reserved_31_28: u8,
    /// Work Descriptors in Progress Limit: the maximum / 2^N.
    #[bits(2)]
    pub work_in_progress_limit: u8,
    #[bits(2)]
    _reserved_35_34: u8,
    /// Batch Descriptors in Progress Limit: the maximum / 2^N.
    #[bits(2)]
    pub batch_in_progress_limit: u8,
    #[bits(2)]
    _reserved_39_38: u8,
    /// Read Bandwidth Limit: the maximum / 2^N, N up to 3.
    #[bits(4)]
    pub read_bandwidth_limit: u8,
    /// Write Bandwidth Limit: the maximum / 2^N, N up to 3.
    #[bits(4)]
    pub write_bandwidth_limit: u8,
    _reserved_63_48: u16,
}
const _: () = {
    assert!(GroupFlags::TC_B_OFFSET == 3 && GroupFlags::USE_GLOBAL_LIMIT_OFFSET == 7);
    assert!(GroupFlags::READ_BUFFERS_RESERVED_OFFSET == 8);
    assert!(GroupFlags::READ_BUFFERS_ALLOWED_OFFSET == 20);
    assert!(GroupFlags::WORK_IN_PROGRESS_LIMIT_OFFSET == 32);
    assert!(GroupFlags::BATCH_IN_PROGRESS_LIMIT_OFFSET == 36);
    assert!(GroupFlags::READ_BANDWIDTH_LIMIT_OFFSET == 40);
    assert!(GroupFlags::WRITE_BANDWIDTH_LIMIT_OFFSET == 44);
};

/// Where the configuration of one work queue is.
/// [DSA 3.0, 9.2.24 "WQ Configuration Table (WQCFG)"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WqConfig {
    base: usize,
}

impl WqConfig {
    /// WQ `index` of the table at `table`, whose entries are `stride` bytes apart:
    /// [`WqCap::wqcfg_bytes`](super::WqCap::wqcfg_bytes).
    pub const fn at(table: usize, stride: usize, index: usize) -> Self {
        Self {
            base: table + index * stride,
        }
    }

    /// Bytes 3:0.
    pub const fn size(self) -> Rw<WqSize> {
        Rw::at(self.base)
    }

    /// Bytes 7:4.
    pub const fn threshold(self) -> Rw<WqThreshold> {
        Rw::at(self.base + 4)
    }

    /// Bytes 11:8.
    pub const fn mode(self) -> Rw<WqMode> {
        Rw::at(self.base + 8)
    }

    /// Bytes 15:12.
    pub const fn limits(self) -> Rw<WqLimits> {
        Rw::at(self.base + 12)
    }

    /// Bytes 19:16.
    pub const fn occupancy_interrupt(self) -> Rw<OccupancyInterrupt> {
        Rw::at(self.base + 16)
    }

    /// Bytes 23:20.
    pub const fn occupancy_limit(self) -> Rw<OccupancyLimit> {
        Rw::at(self.base + 20)
    }

    /// Bytes 27:24.
    pub const fn status(self) -> Rw1c<WqStatus> {
        Rw1c::at(self.base + 24)
    }

    /// Bytes 63:32, 64 of their 256 bits: bit N of `word` allows operation
    /// 64 * `word` + N. Only where an entry has at least 64 bytes.
    ///
    /// # Panics
    /// If `word` is above 3.
    pub const fn operations(self, word: usize) -> Rw<u64> {
        assert!(word < 4, "the operations configuration has four words");
        Rw::at(self.base + 32 + 8 * word)
    }
}

/// WQCFG, bytes 3:0 (32-bit, RW while the device is Disabled).
/// [DSA 3.0, 9.2.24 "WQ Configuration Table (WQCFG)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct WqSize {
    /// WQ Size.
    pub size: u16,
    _reserved_31_16: u16,
}

/// WQCFG, bytes 7:4 (32-bit, RW).
/// [DSA 3.0, 9.2.24 "WQ Configuration Table (WQCFG)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct WqThreshold {
    /// WQ Threshold.
    pub threshold: u16,
    _reserved_31_16: u16,
}

/// WQCFG, bytes 11:8 (32-bit, RW while the WQ is Disabled).
/// [DSA 3.0, 9.2.24 "WQ Configuration Table (WQCFG)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct WqMode {
    /// WQ Mode. 0: shared, 1: dedicated.
    pub dedicated: bool,
    /// WQ Block on Fault Enable.
    pub block_on_fault: bool,
    /// WQ ATS Disable.
    pub ats_disable: bool,
    /// WQ PRS Disable.
    pub prs_disable: bool,
    /// WQ Priority; not 0.
    #[bits(4)]
    pub priority: u8,
    /// WQ PASID, of a dedicated WQ.
    #[bits(20)]
    pub pasid: u32,
    /// WQ PASID Enable.
    pub pasid_enable: bool,
    /// WQ Priv, of a dedicated WQ.
    pub privileged: bool,
    #[bits(2)]
    _reserved_31_30: u8,
}
const _: () = {
    assert!(WqMode::BLOCK_ON_FAULT_OFFSET == 1 && WqMode::ATS_DISABLE_OFFSET == 2);
    assert!(WqMode::PRS_DISABLE_OFFSET == 3 && WqMode::PRIORITY_OFFSET == 4);
    assert!(WqMode::PASID_OFFSET == 8 && WqMode::PASID_ENABLE_OFFSET == 28);
    assert!(WqMode::PRIVILEGED_OFFSET == 29);
};

/// WQCFG, bytes 15:12 (32-bit, RW while the WQ is Disabled).
/// [DSA 3.0, 9.2.24 "WQ Configuration Table (WQCFG)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct WqLimits {
    /// WQ Maximum Transfer Size, as a power of two.
    #[bits(5)]
    pub max_transfer_size: u8,
    /// WQ Maximum Batch Size, as a power of two.
    #[bits(4)]
    pub max_batch_size: u8,
    /// WQ Maximum SGL Size, as a power of two.
    #[bits(4)]
    pub max_sgl_size: u8,
    #[bits(19)]
    _reserved_31_13: u32,
}
const _: () = {
    assert!(WqLimits::MAX_BATCH_SIZE_OFFSET == 5 && WqLimits::MAX_SGL_SIZE_OFFSET == 9);
};

/// WQCFG, bytes 19:16 (32-bit, RW while the WQ is Disabled).
/// [DSA 3.0, 9.2.24 "WQ Configuration Table (WQCFG)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct OccupancyInterrupt {
    /// WQ Occupancy Interrupt Handle.
    pub handle: u16,
    /// WQ Occupancy Interrupt Table. 0: MSI-X, 1: IMS.
    pub ims: bool,
    #[bits(15)]
    _reserved_31_17: u16,
}
const _: () = assert!(OccupancyInterrupt::IMS_OFFSET == 16);

/// WQCFG, bytes 23:20 (32-bit, RW).
/// [DSA 3.0, 9.2.24 "WQ Configuration Table (WQCFG)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct OccupancyLimit {
    /// WQ Occupancy Limit.
    pub limit: u16,
    /// WQ Occupancy Interrupt Enable.
    pub enable: bool,
    #[bits(15)]
    _reserved_31_17: u16,
}
const _: () = assert!(OccupancyLimit::ENABLE_OFFSET == 16);

/// WQ State.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WqState(u8);

impl WqState {
    /// Descriptors are not accepted.
    pub const DISABLED: Self = Self(0);
    /// Descriptors may be submitted.
    pub const ENABLED: Self = Self(1);
    /// A command that disables or resets is in progress.
    pub const DRAINING: Self = Self(2);
}
field!(WqState: u8);

/// WQCFG, bytes 27:24 (32-bit, RO but for one RW1C bit).
/// [DSA 3.0, 9.2.24 "WQ Configuration Table (WQCFG)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct WqStatus {
    /// WQ Occupancy.
    pub occupancy: u16,
    /// WQ Occupancy Interrupt Generated, RW1C.
    pub interrupt_generated: bool,
    #[bits(12)]
    _reserved_28_17: u16,
    /// WQ Mode Support, if GENCAP's Configuration Support is 0.
    pub mode_support: bool,
    /// WQ State.
    #[bits(2)]
    pub state: WqState,
}
const _: () = {
    assert!(WqStatus::INTERRUPT_GENERATED_OFFSET == 16);
    assert!(WqStatus::MODE_SUPPORT_OFFSET == 29 && WqStatus::STATE_OFFSET == 30);
};

/// Entry of the MSI-X Permissions Table (32-bit, RW).
/// [DSA 3.0, 9.2.22 "MSI-X Permissions Table (MSIXPERM)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct MsixPermission {
    #[bits(2)]
    _reserved_1_0: u8,
    /// Ignore: completions that name this entry raise no interrupt.
    pub ignore: bool,
    /// PASID Enable.
    pub pasid_enable: bool,
    _reserved_11_4: u8,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
}
const _: () = {
    assert!(MsixPermission::IGNORE_OFFSET == 2 && MsixPermission::PASID_ENABLE_OFFSET == 3);
    assert!(MsixPermission::PASID_OFFSET == 12);
};

/// Entry `index` of the MSI-X Permissions Table at `table`.
pub const fn msix_permission(table: usize, index: usize) -> Rw<MsixPermission> {
    Rw::at(table + index * 8)
}

/// Where an entry of the Interrupt Message Storage is.
/// [DSA 3.0, 9.2.28 "Interrupt Message Storage"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImsEntry {
    base: usize,
}

impl ImsEntry {
    /// Bytes from one entry to the next.
    pub const STRIDE: usize = 16;

    /// Entry `index` of the table at `table`.
    pub const fn at(table: usize, index: usize) -> Self {
        Self {
            base: table + index * Self::STRIDE,
        }
    }

    /// Message Address. A value without 00000000FEEh in bits 63:20 is ignored.
    pub const fn address(self) -> Rw<u64> {
        Rw::at(self.base)
    }

    /// Message Data.
    pub const fn data(self) -> Rw<u32> {
        Rw::at(self.base + 8)
    }

    /// Control.
    pub const fn control(self) -> Rw<ImsControl> {
        Rw::at(self.base + 12)
    }
}

/// IMS entry, bytes 15:12 (32-bit, RW).
/// [DSA 3.0, 9.2.28 "Interrupt Message Storage"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ImsControl {
    /// Mask.
    pub mask: bool,
    /// Pending, RO: an interrupt was raised while Mask was 1.
    pub pending: bool,
    /// Ignore: completions that name this entry raise no interrupt.
    pub ignore: bool,
    /// PASID Enable.
    pub pasid_enable: bool,
    _reserved_11_4: u8,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
}
const _: () = {
    assert!(ImsControl::PENDING_OFFSET == 1 && ImsControl::IGNORE_OFFSET == 2);
    assert!(ImsControl::PASID_ENABLE_OFFSET == 3 && ImsControl::PASID_OFFSET == 12);
};

/// Which of a WQ's four pages in BAR2: the limit that a shared WQ applies, and the
/// table that the completion interrupt handle refers to. The first 64 bytes stand
/// for the whole page. [DSA 3.0, 3.3 "Work Queues"; 9.3 "Portals (BAR2)"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortalPage {
    /// Unlimited, MSI-X.
    UnlimitedMsix = 0,
    /// Limited, MSI-X.
    LimitedMsix = 1,
    /// Unlimited, IMS.
    UnlimitedIms = 2,
    /// Limited, IMS.
    LimitedIms = 3,
}

impl PortalPage {
    /// Bytes of BAR2 that belong to one WQ.
    pub const WQ_STRIDE: usize = 0x4000;
    /// Bytes of a portal's page.
    pub const SIZE: usize = 0x1000;

    /// Where in BAR2 the page of WQ `wq` is.
    pub const fn offset(self, wq: usize) -> usize {
        wq * Self::WQ_STRIDE + self as usize * Self::SIZE
    }
}

layouts! {
    u32: WqSize, WqThreshold, WqMode, WqLimits, OccupancyInterrupt, OccupancyLimit, WqStatus,
        MsixPermission, ImsControl;
    u64: GroupFlags;
}
