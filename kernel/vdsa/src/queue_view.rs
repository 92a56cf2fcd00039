//! A queue, as the check of a submission sees it.

use hwspec::pci::Pasid;

use crate::{HandleTable, PasidMap, Policy, QueueIndex, Window};

/// WQ Mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueMode {
    /// Takes MOVDIR64B; its PASID is the queue's.
    Dedicated,
    /// Takes ENQCMD and ENQCMDS; the PASID comes with each.
    Shared,
}

/// Where the host PASID of a descriptor comes from.
#[derive(Clone, Copy, Debug)]
pub enum QueuePasid<'a> {
    /// The queue has this one: its default, or that of the guest PASID in its WQCFG.
    OfQueue(Pasid),
    /// The submission names a guest PASID, to be looked up.
    OfSubmission(&'a PasidMap),
}

/// A virtual queue and what belongs to it, at the moment of a submission.
#[derive(Clone, Copy, Debug)]
pub struct QueueView<'a> {
    /// Which.
    pub index: QueueIndex,
    /// The device and the queue are Enabled.
    pub is_enabled: bool,
    /// An abort is under way. Nobody would know whether a batch that comes now was among
    /// what it gave up, so that there is no room for one.
    pub is_aborting: bool,
    /// Dedicated or shared.
    pub mode: QueueMode,
    /// The submission came in at a limited portal.
    pub is_limited_portal: bool,
    /// WQ Size, in entries.
    pub size: u16,
    /// WQ Threshold, in entries.
    pub threshold: u16,
    /// WQ Maximum Transfer Size, as a power of two.
    pub max_transfer_log2: u8,
    /// WQ Maximum Batch Size, as a power of two.
    pub max_batch_log2: u8,
    /// Whose memory descriptors work on.
    pub pasid: QueuePasid<'a>,
    /// WQCFG.PASID Enable, as the guest has it.
    pub is_pasid_enabled: bool,
    /// WQCFG.PASID, as the guest has it: what errors of a dedicated queue name.
    pub guest_pasid: Pasid,
    /// WQCFG.Priv, as the guest has it.
    pub is_privileged: bool,
    /// The interrupt handles of the guest.
    pub handles: &'a HandleTable,
    /// Operations that may be used, a bitmap.
    pub operations: [u64; 4],
    /// What no operand may touch.
    pub window: Window,
    /// The interrupt handle of Weir's own for batches of this queue, if they all have one
    /// host PASID.
    pub batch_handle: Option<u16>,
    /// How submissions reach the device.
    pub policy: Policy,
    /// See [`QueueShape::submission_interval_ns`](crate::QueueShape).
    pub submission_interval_ns: u32,
    /// See [`QueueShape::is_slice`](crate::QueueShape).
    pub is_slice: bool,
}
