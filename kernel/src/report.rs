//! The machine-readable report.
//!
//! When Weir is done it writes one [`Report`] to the second serial port, as one
//! line of JSON and nothing else; `run-qemu.sh` judges the run by it. All counts
//! are taken beforehand: nothing is counted, and nothing measured, here.
//! `docs/report.md` describes the format for those who read it, and a change of
//! either changes [`VERSION`].
#![forbid(unsafe_code)]

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::AddAssign;

use serde::Serialize;

use crate::config::plan::{GuestPlan, Policy};

/// The version of the format. Names that are added do not change it; names that
/// go or mean something else do.
pub const VERSION: u32 = 1;

/// Counts by name, in the order of the names.
pub type Counts = BTreeMap<&'static str, u64>;

/// All that is told of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Weir's own version.
    pub weir: &'static str,
    /// The machine.
    #[serde(rename = "box")]
    pub machine: MachineReport,
    /// The guests, in the configuration's order.
    pub vms: Vec<VmReport>,
    /// What was taken of the machine.
    pub held: HeldReport,
    /// What the benches measured, if they ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bench: Option<BenchReport>,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct MachineReport {
    /// The processors' brand, or what CPUID says instead.
    pub cpu: String,
    /// How many processors.
    pub cpus: usize,
    /// How processors run guests: `"svm"` or `"vmx"`.
    pub virtualisation: String,
    /// How much RAM, in bytes.
    pub memory_bytes: u64,
    /// The IOMMU.
    pub iommu: IommuReport,
    /// The accelerators, dsa0 first.
    pub dsa: Vec<DsaReport>,
}

/// The IOMMU: what all of its units do.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct IommuReport {
    /// How many remapping units.
    pub units: usize,
    /// Whether they are in scalable mode.
    pub scalable_mode: bool,
    /// The tables that translate guests' addresses: `"first-stage"` or
    /// `"second-stage"`.
    pub tables: &'static str,
    /// Whether interrupts are remapped.
    pub interrupt_remapping: bool,
    /// Faults that they reported, those of devices that no guest has included.
    pub faults: u64,
}

/// An accelerator.
#[derive(Clone, Debug, Serialize)]
pub struct DsaReport {
    /// Its name, such as `dsa0`.
    pub name: String,
    /// Its PCI address, such as `0000:00:04.0`.
    pub address: String,
    /// Its PCI vendor and device ids, such as `8086:0b25`.
    pub id: String,
    /// How many slots its Interrupt Message Store has.
    pub ims_slots: u32,
    /// How many of them are allocated now.
    pub ims_allocated: u32,
    /// How many of them were allocated at once at the most.
    pub ims_peak: u32,
    /// How many software errors it reported.
    pub software_errors: u64,
    /// How often it halted.
    pub halts: u64,
}

/// What was taken of the machine before the first guest was started, and when the
/// report was made: the same if all guests are gone and nothing leaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeldReport {
    /// Before.
    pub before: Held,
    /// When the report was made.
    pub after: Held,
}

/// What is taken of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Slots of all Interrupt Message Stores that are allocated.
    pub ims_slots: u64,
    /// Interrupt remapping entries of all IOMMUs that are allocated.
    pub remapping_entries: u64,
    /// Vectors of processors that are in use.
    pub vectors: u64,
    /// Host PASIDs in use.
    pub pasids: u64,
    /// Domains of all IOMMUs.
    pub domains: u64,
    /// Pages of memory that are free.
    pub free_pages: u64,
    /// Bytes of the heap in use.
    pub heap_bytes: u64,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VmResult {
    /// It said that all is well.
    Passed,
    /// It said that something is wrong.
    Failed,
    /// It did something that it cannot go on after, such as a triple fault.
    Crashed,
    /// It switched itself off.
    Off,
    /// The operator, or Weir, stopped it, or it was never started.
    #[default]
    Stopped,
    /// It had not ended when the report was made.
    Running,
}

/// Who checks what a guest submits, over all of its queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VmPolicy {
    /// It has no queues.
    #[default]
    None,
    /// Weir, always.
    Checked,
    /// Only hardware.
    Direct,
    /// It has queues of both kinds.
    Mixed,
}

impl VmPolicy {
    /// The policies of the guest's queues.
    pub fn of(guest: &GuestPlan) -> Self {
        let queues = guest.dsas.iter().flat_map(|dsa| &dsa.queues);
        let policies = queues.map(|queue| match queue.policy {
            Policy::Checked => Self::Checked,
            Policy::Direct => Self::Direct,
        });
        policies
            .reduce(|all, one| if all == one { all } else { Self::Mixed })
            .unwrap_or(Self::None)
    }
}

/// A guest. Counts are over all of its lives.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VmReport {
    /// Its name.
    pub name: String,
    /// Who checks what it submits.
    pub policy: VmPolicy,
    /// How it ended.
    pub result: VmResult,
    /// The code that it ended with, or nothing if it did not say.
    pub code: Option<u64>,
    /// Why it ended as it did, in words; nothing if it passed.
    pub reason: Option<String>,
    /// Whether its kernel said that it panicked.
    pub panicked: bool,
    /// The last lines on its console, if it panicked, reset itself or crashed.
    pub last_lines: Vec<String>,
    /// How many virtual processors it has.
    pub cpus: usize,
    /// Microseconds from Weir's entry to the first byte on its console.
    pub console_us: Option<u64>,
    /// Microseconds from Weir's entry to its shell.
    pub shell_us: Option<u64>,
    /// Descriptors that it submitted and Weir counted: each of those to a checked
    /// queue, batches and their members included.
    pub submitted: u64,
    /// Those whose completion Weir or the device's record showed.
    pub completed: u64,
    /// Those that Weir handed to the device, members that it replaced included.
    pub handed_over: u64,
    /// Completion interrupts that were injected.
    pub interrupts_injected: u64,
    /// Those of them that the device sent while another of their vector was pending:
    /// the guest took both as one.
    pub interrupts_merged: u64,
    /// Interrupts of vectors 0: commands, errors, resets, revoked handles.
    pub interrupts_vector_0: u64,
    /// Vectors that got another slot while the guest ran.
    pub handles_moved: u64,
    /// Interrupt handles that the guest asked for although it had them.
    pub handles_asked_again: u64,
    /// VM exits that submissions took.
    pub exits_submission: u64,
    /// VM exits that completions took.
    pub exits_completion: u64,
    /// All VM exits, by reason.
    pub exits: Counts,
    /// Refused descriptors, by rule.
    pub refused: Counts,
    /// What it did that led nowhere.
    pub strays: Strays,
    /// The CRC-32C of the input as the guest got it from the accelerator.
    pub crc32c: Option<u32>,
    /// How often it was started again.
    pub restarts: u64,
    /// Faults that the IOMMUs reported of its accelerators.
    pub iommu_faults: u64,
    /// The host PASIDs that it had.
    pub pasids: Vec<u32>,
    /// Memory that it took beyond its RAM, in bytes.
    pub overhead_bytes: u64,
    /// What it said about itself.
    pub reported: GuestReport,
    /// What became of what it submitted.
    pub books: Books,
}

/// What a guest did that led nowhere, and was answered as hardware answers where nothing
/// is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Strays {
    /// Accesses to addresses and I/O ports where nothing is.
    pub accesses: u64,
    /// RDMSR and WRMSR of registers that are not there, or with values that they do not
    /// take.
    pub msrs: u64,
    /// Instructions at devices that are not emulated.
    pub instructions: u64,
}

impl AddAssign for Strays {
    fn add_assign(&mut self, other: Self) {
        self.accesses += other.accesses;
        self.msrs += other.msrs;
        self.instructions += other.instructions;
    }
}

/// What a guest said about itself, by hypercalls; nothing where it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GuestReport {
    /// Descriptors that it handed to a portal.
    pub submitted: Option<u64>,
    /// Descriptors whose completion it has seen.
    pub completed: Option<u64>,
    /// Completion interrupts that it took.
    pub interrupts: Option<u64>,
    /// Checks that it made.
    pub checks: Option<u64>,
    /// Checks that failed.
    pub failed: Option<u64>,
    /// Submissions that it was told to retry.
    pub retried: Option<u64>,
    /// Descriptors that ended with an error that it provoked.
    pub errors: Option<u64>,
}

/// What became of the descriptors of a guest, once everything was drained. They
/// balance if the others add up to `submitted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Submitted, however.
    pub submitted: u64,
    /// Completed by the accelerator.
    pub completed: u64,
    /// Refused by the submission check.
    pub refused: u64,
    /// Turned away for now: the queue was full.
    pub retried: u64,
    /// Written to a dedicated queue that was full or not enabled.
    pub dropped: u64,
    /// In flight when the guest was destroyed or reset.
    pub abandoned: u64,
}

impl Books {
    /// Whether everything that was submitted is accounted for.
    pub fn balance(&self) -> bool {
        let ways = [
            self.completed,
            self.refused,
            self.retried,
            self.dropped,
            self.abandoned,
        ];
        let sum: u128 = ways.into_iter().map(u128::from).sum();
        sum == u128::from(self.submitted)
    }
}

impl Serialize for Books {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut books = serializer.serialize_struct("Books", 7)?;
        books.serialize_field("submitted", &self.submitted)?;
        books.serialize_field("completed", &self.completed)?;
        books.serialize_field("refused", &self.refused)?;
        books.serialize_field("retried", &self.retried)?;
        books.serialize_field("dropped", &self.dropped)?;
        books.serialize_field("abandoned", &self.abandoned)?;
        books.serialize_field("balance", &self.balance())?;
        books.end()
    }
}

/// What the benches measured: instructions, but where the name says otherwise;
/// nothing where a bench did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BenchReport {
    /// An injected completion into a running virtual processor that accepts it,
    /// from VM exit to VM entry.
    pub inject: Option<u64>,
    /// The same from the device's message to the guest's handler.
    pub inject_device_to_handler: Option<u64>,
    /// The same into a halted virtual processor.
    pub inject_halted: Option<u64>,
    /// The same into a virtual processor of another processor.
    pub inject_other_cpu: Option<u64>,
    /// A checked MOVDIR64B, from VM exit to VM entry.
    pub checked_single: Option<u64>,
    /// A checked ENQCMD, likewise.
    pub checked_enqcmd: Option<u64>,
    /// A checked batch of 64, for each descriptor.
    pub checked_batch64_each: Option<u64>,
    /// A batch's completion, handed on to its guest.
    pub batch_completion: Option<u64>,
    /// VM exits for a direct submission.
    pub direct_exits: Option<u64>,
    /// From the hypervisor's entry to the first guest instruction.
    pub entry_to_guest: Option<u64>,
    /// The hypervisor's image, stripped, in bytes.
    pub image_bytes: Option<u64>,
    /// Memory beyond its RAM that a guest takes, in bytes.
    pub guest_overhead_bytes: Option<u64>,
}

impl Report {
    /// Writes it as one line. It is made in memory first: not for VM-exit paths.
    ///
    /// # Errors
    /// If `out` fails.
    ///
    /// # Panics
    /// If it cannot be written as JSON, which all of its types can.
    pub fn write(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let line = serde_json::to_string(self).expect("all keys are strings");
        out.write_str(&line)?;
        out.write_str("\n")
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
