//! The configuration: `weir.toml`.
//!
//! [`Config::parse`] turns the text into a [`Config`], in which every value has a
//! legal form; [`Config::check`] compares that with the machine as it is and makes
//! the [`Plan`] from which everything is built. Nothing is started before both
//! have succeeded, and the first mistake is one line, [`ConfigError`], that says
//! where it is and what to do. `docs/configuration.md` describes the file for
//! those who write it.
#![forbid(unsafe_code)]

mod check;
mod error;
pub mod facts;
mod names;
mod nesting;
mod parse;
pub mod plan;
mod reader;
mod size;

use alloc::string::String;
use alloc::vec::Vec;

pub use error::ConfigError;
pub use facts::{DsaFacts, MachineFacts};
pub use names::{GroupName, QueueName};
pub use plan::Plan;

/// How many guests there may be.
pub const MAX_GUESTS: usize = 32;
/// How many virtual processors a guest may have.
pub const MAX_CPUS: u8 = 8;
/// How long a guest's name may be.
pub const MAX_NAME: usize = 15;
/// How long a guest's command line may be, in bytes.
pub const MAX_COMMAND_LINE: usize = 1023;
/// How many PASIDs of its own a guest may declare.
pub const MAX_PASIDS: usize = 16;
/// How many batches a queue may have in flight.
pub const MAX_BATCHES: u8 = 16;

/// A value, and the line on which it is written, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The line.
    pub line: u32,
    /// The value.
    pub value: T,
}

/// All that `weir.toml` says, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[machine]`.
    pub machine: MachineConfig,
    /// `[[guest]]`.
    pub guests: Vec<GuestConfig>,
    /// `[[wq]]`.
    pub queues: Vec<QueueConfig>,
    /// `[[group]]`.
    pub groups: Vec<GroupConfig>,
}

/// `[machine]`: the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    /// `slice-ms`: for how long a processor runs a virtual processor while others
    /// wait for it, in milliseconds.
    pub slice_ms: u32,
    /// `report`: whether the machine-readable report leaves on COM2.
    pub report: bool,
}

/// `[[guest]]`: one guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestConfig {
    /// `name`: how people and the report call it.
    pub name: At<String>,
    /// `image` and `input`, or `kernel` and `initrd`.
    pub boot: BootConfig,
    /// `memory`, in bytes, a multiple of 2 MiB.
    pub memory: At<u64>,
    /// `cpus`: its virtual processors, from 1 to [`MAX_CPUS`].
    pub cpus: u8,
    /// `trusted`: whether it may have a queue directly on a device that is not on
    /// the list of fixed parts.
    pub trusted: bool,
    /// `cmdline`: its command line.
    pub command_line: String,
    /// `restart`: what becomes of it when it resets itself.
    pub restart: Restart,
    /// `pasids`: the PASIDs that it may use beside its queues' own.
    pub pasids: Vec<At<u32>>,
    /// `share-rate`: how many descriptors it may hand to shared queues in a
    /// millisecond.
    pub share_rate: Option<At<u32>>,
    /// `[[guest.queue]]`: its work queues.
    pub queues: Vec<GuestQueueConfig>,
}

/// The files that a guest starts from, by their names in the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootConfig {
    /// A program with a PVH note.
    Pvh {
        /// `image`: the program.
        image: At<String>,
        /// `input`: a file that it finds in its memory.
        input: Option<At<String>>,
    },
    /// A Linux kernel.
    Linux {
        /// `kernel`: the bzImage.
        kernel: At<String>,
        /// `initrd`: its initial file system.
        initrd: Option<At<String>>,
    },
}

/// What becomes of a guest that resets itself or shuts down by a triple fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// `"never"`: it stays stopped.
    Never,
    /// `"on-reset"`: it starts again.
    OnReset,
}

/// `[[guest.queue]]`: a work queue that a guest gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestQueueConfig {
    /// `wq`: the physical queue.
    pub wq: At<QueueName>,
    /// `policy`: who checks what is submitted.
    pub policy: At<Policy>,
    /// `mode`: which mode the guest sees, if not the physical queue's.
    pub mode: Option<At<Mode>>,
    /// `reserve`: how many entries of a shared queue are reserved for the guest, which
    /// sees a dedicated one.
    pub reserve: Option<At<u16>>,
    /// `batches`: how many batches may be in flight.
    pub batches: Option<At<u8>>,
}

/// Who checks what a guest submits to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `"checked"`: Weir checks each descriptor.
    Checked,
    /// `"direct"`: the guest writes to the portal itself; only hardware checks.
    Direct,
}

/// The mode of a work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `"dedicated"`: MOVDIR64B, one PASID.
    Dedicated,
    /// `"shared"`: ENQCMD and ENQCMDS, a PASID for each descriptor.
    Shared,
}

/// `[[wq]]`: how a physical work queue is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// `name`: which queue.
    pub name: At<QueueName>,
    /// `mode`.
    pub mode: At<Mode>,
    /// `size`, in entries.
    pub size: At<u16>,
    /// `group`: the group that it is in, if not one that Weir picks.
    pub group: Option<At<GroupName>>,
    /// `priority`, from 1 to 15.
    pub priority: u8,
    /// `threshold`: how many entries a limited portal can fill.
    pub threshold: Option<At<u16>>,
    /// `max-transfer`: the largest transfer is 2 to the power of this, in bytes.
    pub max_transfer_log2: Option<At<u8>>,
    /// `max-batch`: the largest batch is 2 to the power of this, in descriptors.
    pub max_batch_log2: Option<At<u8>>,
}

/// `[[group]]`: which engines serve a group of queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `name`: which group.
    pub name: At<GroupName>,
    /// `engines`: their numbers, if not those that Weir picks.
    pub engines: Option<Vec<At<u8>>>,
}

impl Config {
    /// Reads `weir.toml`.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        parse::parse(text)
    }

    /// Compares it with the machine, and plans what to build.
    ///
    /// # Errors
    /// The first thing that this machine has not, or that may not be.
    pub fn check(&self, machine: &MachineFacts<'_>) -> Result<Plan, ConfigError> {
        check::check(self, machine)
    }
}
