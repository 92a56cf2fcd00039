//! What a virtual accelerator is made of.

use alloc::vec::Vec;
use core::fmt;

use hwspec::dsa::Operation;
use hwspec::pci::Pasid;

use crate::config_space::portals_size;
use crate::registers::REGISTERS_SIZE;
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
    /// The queue is shared as the guest sees it, and a dedicated one behind that: the
    /// device runs its descriptors with the queue's own host PASID, whatever they name.
    pub is_stand_in: bool,
    /// How far apart submissions to a shared queue are on average, so that no guest
    /// takes all entries of a physical queue that others use too. As many as the queue
    /// has entries may come at once. 0: no limit.
    pub submission_interval_ns: u32,
    /// The guest sees a dedicated queue, and has some entries of a physical shared one:
    /// `size` of them are reserved for it. Where more would be needed, the processor that
    /// submits tries again until there is room.
    pub is_slice: bool,
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

impl Window {
    /// Whether an address is in it.
    pub const fn contains(&self, address: u64) -> bool {
        address >= self.base && address - self.base < self.len_bytes
    }
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

impl Shape<'_> {
    /// Operations that a DSA 1.0 has and the guest may use.
    pub(crate) fn offered_operations(&self) -> [u64; 4] {
        let mut operations = self.operations;
        for (word, known) in operations.iter_mut().zip(OPERATIONS) {
            *word &= known;
        }
        operations
    }

    /// The largest batch of any checked queue, as a power of two: lists of others are
    /// not copied.
    pub(crate) fn max_batch_log2(&self) -> u8 {
        let queues = self.queues.iter();
        let checked = queues.filter(|queue| queue.policy == Policy::Checked);
        let limits = checked.map(|queue| queue.max_batch_log2);
        limits.max().unwrap_or(0)
    }

    /// Whether there can be such an accelerator.
    pub(crate) fn validate(&self) -> Result<(), ShapeError> {
        let require = |good: bool, error: ShapeError| if good { Ok(()) } else { Err(error) };
        let count = self.queues.len();
        require((1..=MAX_QUEUES).contains(&count), ShapeError::Queues(count))?;
        let total = self.queues.iter().map(|queue| u32::from(queue.size)).sum();
        let has_empty = self.queues.iter().any(|queue| queue.size == 0);
        let fits = total <= u32::from(u16::MAX);
        require(fits && !has_empty, ShapeError::Sizes(total))?;
        let [operations, ..] = self.offered_operations();
        let has_batches = operations >> Operation::BATCH.0 & 1 != 0;
        for queue in self.queues {
            let priority = queue.priority;
            require((1..=15).contains(&priority), ShapeError::Priority(priority))?;
            let transfer = queue.max_transfer_log2;
            require(transfer <= 31, ShapeError::TransferSize(transfer))?;
            let batch = queue.max_batch_log2;
            let is_none = !has_batches && batch == 0;
            require(
                is_none || (1..=10).contains(&batch),
                ShapeError::BatchSize(batch),
            )?;
        }
        self.validate_pasids()?;
        let [bar0, bar2] = self.bars;
        require(
            bar0.is_multiple_of(REGISTERS_SIZE.into()),
            ShapeError::Bar(bar0),
        )?;
        require(
            bar2.is_multiple_of(portals_size(count)),
            ShapeError::Bar(bar2),
        )?;
        let Window { base, len_bytes } = self.window;
        let has_end = base.checked_add(len_bytes).is_some();
        let is_paged = base.is_multiple_of(4096) && len_bytes.is_multiple_of(4096);
        require(has_end && is_paged, ShapeError::Window(self.window))
    }

    /// Each guest PASID and each host PASID is there once.
    fn validate_pasids(&self) -> Result<(), ShapeError> {
        let guests = || self.guest_pasids.iter().map(|pair| pair.guest);
        let defaults = self.queues.iter().map(|queue| queue.default_pasid);
        let hosts = defaults.chain(self.guest_pasids.iter().map(|pair| pair.host));
        if let Some(twice) = find_twice(guests()) {
            return Err(ShapeError::GuestPasid(twice));
        }
        match find_twice(hosts) {
            Some(twice) => Err(ShapeError::HostPasid(twice)),
            None => Ok(()),
        }
    }
}

/// An element that is there more than once.
fn find_twice(pasids: impl Iterator<Item = Pasid>) -> Option<Pasid> {
    let mut sorted: Vec<Pasid> = pasids.collect();
    sorted.sort_unstable();
    let mut pairs = sorted.iter().zip(sorted.iter().skip(1));
    pairs.find_map(|(one, next)| (one == next).then_some(*one))
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
