//! What to build: a configuration that this machine can have.

use alloc::string::String;
use alloc::vec::Vec;

pub use super::{Mode, Policy, Restart};

/// All that is to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// For how long a processor runs a virtual processor while others wait for
    /// it, in milliseconds.
    pub slice_ms: u32,
    /// Whether the machine-readable report leaves on COM2.
    pub report: bool,
    /// How to set up the accelerators: as many as the machine has, dsa0 first.
    pub dsas: Vec<DsaPlan>,
    /// The guests, in the file's order.
    pub guests: Vec<GuestPlan>,
}

/// How to set up an accelerator. One without queues stays disabled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DsaPlan {
    /// The groups that have queues, by their index.
    pub groups: Vec<GroupPlan>,
    /// The queues that are used, in the file's order.
    pub queues: Vec<QueuePlan>,
}

/// A group, which has queues and engines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    /// Its index.
    pub index: u8,
    /// Indices of its queues.
    pub queues: Vec<u8>,
    /// Indices of its engines.
    pub engines: Vec<u8>,
}

/// A physical work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePlan {
    /// Its index.
    pub index: u8,
    /// Dedicated or shared.
    pub mode: Mode,
    /// How many entries.
    pub size: u16,
    /// How many entries a limited portal can fill.
    pub threshold: u16,
    /// From 1 to 15.
    pub priority: u8,
    /// Index of its group.
    pub group: u8,
    /// The largest transfer is 2 to the power of this, in bytes.
    pub max_transfer_log2: u8,
    /// The largest batch is 2 to the power of this, in descriptors.
    pub max_batch_log2: u8,
}

/// A guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestPlan {
    /// Its name, which no other guest has.
    pub name: String,
    /// The files that it starts from. They are in the bundle.
    pub boot: BootPlan,
    /// Its command line.
    pub command_line: String,
    /// Its memory in bytes, a multiple of 2 MiB.
    pub memory_bytes: u64,
    /// The processor that each of its virtual processors runs on.
    pub cpus: Vec<usize>,
    /// What becomes of it when it resets itself.
    pub restart: Restart,
    /// Whether its administrator vouches for it.
    pub trusted: bool,
    /// The PASIDs that it may use beside its queues' own, each once.
    pub pasids: Vec<u32>,
    /// How many descriptors it may hand to shared queues in a millisecond.
    pub share_rate: u32,
    /// Its virtual accelerators, one for each physical one that it has a queue of.
    pub dsas: Vec<VirtualDsaPlan>,
}

/// The files that a guest starts from, by their names in the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootPlan {
    /// A program with a PVH note.
    Pvh {
        /// The program.
        image: String,
        /// A file that it finds in its memory.
        input: Option<String>,
    },
    /// A Linux kernel.
    Linux {
        /// The bzImage.
        kernel: String,
        /// Its initial file system.
        initrd: Option<String>,
    },
}

/// A virtual accelerator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualDsaPlan {
    /// Which physical accelerator is behind it: an index into [`Plan::dsas`].
    pub dsa: usize,
    /// Its work queues; virtual queue 0 is the first.
    pub queues: Vec<VirtualQueuePlan>,
}

/// A virtual work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualQueuePlan {
    /// The physical queue behind it.
    pub physical: QueuePlan,
    /// The mode that the guest sees.
    pub mode: Mode,
    /// How many entries of a physical shared queue are reserved for it, if the guest sees
    /// a dedicated one. Otherwise 0.
    pub reserved: u16,
    /// Who checks what is submitted.
    pub policy: Policy,
    /// How many batches may be in flight.
    pub batches: u8,
}
