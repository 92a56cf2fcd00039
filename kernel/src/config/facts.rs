//! The machine as it is, which a configuration is compared with.

use crate::bundle::File;

/// The machine.
#[derive(Clone, Copy, Debug)]
pub struct MachineFacts<'m> {
    /// How much memory guests can have together, in bytes.
    pub memory_bytes: u64,
    /// How many processors there are, at least 1.
    pub cpus: usize,
    /// Whether they have ENQCMD and ENQCMDS.
    pub has_enqcmds: bool,
    /// The files of the boot bundle.
    pub files: &'m [File<'m>],
    /// The accelerators; the first is dsa0.
    pub dsas: &'m [DsaFacts],
}

/// An accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DsaFacts {
    /// The PCI device id.
    pub device_id: u16,
    /// Whether queues and groups can be set up (GENCAP, Configuration Support).
    pub is_configurable: bool,
    /// Whether there are dedicated queues (WQCAP, Dedicated Mode Support).
    pub has_dedicated_mode: bool,
    /// Whether there are shared queues (WQCAP, Shared Mode Support).
    pub has_shared_mode: bool,
    /// Whether the device says how full a queue is (WQCAP, WQ Occupancy Support).
    pub has_occupancy: bool,
    /// How many work queues (WQCAP, Number of WQs).
    pub queues: u16,
    /// How many entries all queues have together (WQCAP, Total WQ Size).
    pub entries: u16,
    /// How many groups (GRPCAP, Number of Groups).
    pub groups: u16,
    /// How many engines (ENGCAP, Number of Engines).
    pub engines: u16,
    /// How many slots the Interrupt Message Store has (GENCAP, Interrupt Message
    /// Storage Size).
    pub ims_entries: u32,
    /// The largest transfer is 2 to the power of this, in bytes (GENCAP).
    pub max_transfer_log2: u8,
    /// The largest batch is 2 to the power of this, in descriptors (GENCAP).
    pub max_batch_log2: u8,
}
