//! What a virtual accelerator is made of.

use core::fmt;

use hwspec::pci::Pasid;

use crate::{PasidPair, QueueMode};

/// The most queues of a virtual accelerator; no physical one has more.
pub const MAX_QUEUES: usize = 8;

/// The most virtual vectors: one of the device, one for each queue.
pub const MAX_VECTORS: usize = 1 + MAX_QUEUES;

/// The operations of a DSA 1.0, as OPCAP shows them: 0x00 to 0x09, 0x10 to 0x15 and
/// 0x20.
pub const OPERATIONS: [u64; 4] = [0x1_003f_03ff, 0, 0, 0];

/// How submissions of a queue reach the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Each descriptor is checked and copied.
    Checked,
    /// The guest writes to the physical portal.
    Direct,
}

/// One virtual queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueShape {
    /// Dedicated or shared, as the guest sees it.
    pub mode: QueueMode,
    /// WQ Size in entries, at least 1.
    pub size: u16,
    /// WQ Threshold before the guest writes its own, in entries.
    pub threshold: u16,
    /// WQ Priority, 1 to 15.
    pub priority: u8,
    /// WQ Maximum Transfer Size, as a power of two up to 31.
    pub max_transfer_log2: u8,
    /// WQ Maximum Batch Size, as a power of two from 1 to 10, or 0 if the operations
    /// do not include batches.
    pub max_batch_log2: u8,
    /// The queue's own host PASID.
    pub default_pasid: Pasid,
    /// How submissions reach the device.
    pub policy: Policy,
    /// The interrupt handle by which the device tells Weir that a batch is done. Its
    /// slot has the host PASID of the queue. `None`: batches are refused.
    pub batch_handle: Option<u16>,
    /// How far apart submissions to a shared queue are on average, so that no guest
    /// takes all entries of a physical queue that others use too. As many as the queue
    /// has entries may come at once. 0: no limit.
    pub submission_interval_ns: u32,
}

/// Memory of Weir's own that the device reaches through the PASIDs of checked queues,
/// and the guest does not. No operand of the guest may touch it.
///
/// The first page is for completion records, and the device may write it; the others
/// it only reads. Nothing is mapped behind the last page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its address as the device sees it.
    pub base: u64,
    /// How many bytes it has; 0 if there is none.
    pub len_bytes: u64,
}

/// One virtual accelerator.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// Its queues, 1 to [`MAX_QUEUES`].
    pub queues: &'a [QueueShape],
    /// The guest PASIDs that exist, and the host PASIDs that they stand for.
    pub guest_pasids: &'a [PasidPair],
    /// Operations that the guest may use, a bitmap; those that a DSA 1.0 does not have
    /// are not offered.
    pub operations: [u64; 4],
    /// Where Weir keeps copies of batches.
    pub window: Window,
    /// Where the two BARs are before the guest moves them: BAR0 and BAR2.
    pub bars: [u64; 2],
}

/// Why there can be no such accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeError {
    /// No queue, or more than [`MAX_QUEUES`].
    Queues(usize),
    /// The sizes of the queues do not fit into WQCAP together, or one is 0.
    Sizes(u32),
    /// A priority is not 1 to 15.
    Priority(u8),
    /// A maximum transfer size is above 2^31.
    TransferSize(u8),
    /// A maximum batch size is not 2^1 to 2^10 though batches are offered.
    BatchSize(u8),
    /// A guest PASID is declared twice.
    GuestPasid(Pasid),
    /// A host PASID is used twice.
    HostPasid(Pasid),
    /// A BAR is not a multiple of its size.
    Bar(u64),
    /// The window begins or ends within a page, or beyond the address space.
    Window(Window),
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queues(count) => {
                write!(f, "{count} queues; there must be 1 to {MAX_QUEUES}")
            }
            Self::Sizes(total) => write!(
                f,
                "the queues have {total} entries together; each must have one, and all at most 65535"
            ),
            Self::Priority(priority) => write!(f, "priority {priority}; it must be 1 to 15"),
            Self::TransferSize(log2) => {
                write!(f, "transfers of 2^{log2} bytes; the limit is 2^31")
            }
            Self::BatchSize(log2) => {
                write!(
                    f,
                    "batches of 2^{log2} descriptors; the limit is 2^1 to 2^10"
                )
            }
            Self::GuestPasid(pasid) => write!(f, "guest PASID {pasid} is declared twice"),
            Self::HostPasid(pasid) => write!(f, "host PASID {pasid} is used twice"),
            Self::Bar(address) => {
                write!(f, "a BAR at {address:#x}, which is no multiple of its size")
            }
            Self::Window(window) => write!(
                f,
                "a window of {:#x} bytes at {:#x}; it must consist of whole pages",
                window.len_bytes, window.base
            ),
        }
    }
}

impl core::error::Error for ShapeError {}
