//! What descriptors do: the checks before execution, and the work on data.
//!
//! The engine asks [`check()`] whether a descriptor may run. If it may, an
//! [`Execution`] carries it out in small steps, so that one long descriptor
//! cannot hold up the device, and ends in the [`Outcome`] that the completion
//! record reports. Batch and Drain descriptors are checked here, but carried
//! out by the engine, since they are about other descriptors.
//!
//! One module each for a family of operations; all of them reach memory
//! through [`access::Operands`], which decides what a fault means.

mod access;
mod check;
mod checksum;
mod compare;
mod crc;
mod delta;
mod dif;
mod movement;
mod page_walk;
#[cfg(test)]
mod tests;

pub(crate) use check::check;

use crate::completion::{Outcome, Status};
use crate::descriptor::{Descriptor, Flags, Opcode};
use crate::memory::Memory;

use access::{Budget, Operands};

/// What the device and the work queue offer to a descriptor, as far as checks
/// and execution depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capabilities {
    /// GENCAP.
    pub(crate) gencap: u64,
    /// VERSION.
    pub(crate) version: u32,
    /// Permitted operations: OPCFG of the queue, or OPCAP.
    pub(crate) operations: [u64; 4],
    /// WQ Maximum Transfer Size.
    pub(crate) max_transfer_bytes: u64,
    /// WQ Maximum Batch Size.
    pub(crate) max_batch: u32,
    /// WQ Block on Fault Enable.
    pub(crate) block_on_fault: bool,
    /// WQ Mode is shared, so that the trusted fields of the descriptor count.
    pub(crate) shared_queue: bool,
    /// WQ PASID Enable.
    pub(crate) pasid_enabled: bool,
    /// The privilege that the descriptor runs with: WQ Priv on a dedicated
    /// queue, Priv of the descriptor on a shared one, and for a member that of
    /// its batch.
    pub(crate) privileged: bool,
    /// Privileged Mode Enable of the PASID capability.
    pub(crate) privileged_mode_enabled: bool,
    /// GENCFG User-mode Interrupts Enable.
    pub(crate) user_interrupts: bool,
    /// ATS is enabled, and not disabled for the queue.
    pub(crate) ats: bool,
    /// A page fault ends in partial completion. Otherwise it goes as §3.13.1
    /// "Work Queue Address Translation Controls" says of a device without ATS:
    /// a read ends with a hardware error, a write is lost without notice.
    pub(crate) reports_page_faults: bool,
    /// Whether TC-A and TC-B of the group are enabled traffic classes.
    pub(crate) traffic_classes: [bool; 2],
    /// The descriptor is a member of a batch.
    pub(crate) in_batch: bool,
}

/// One descriptor's work on data, from the first byte to the [`Outcome`].
#[derive(Debug)]
pub(crate) struct Execution {
    work: Work,
    block_on_fault: bool,
    reports_page_faults: bool,
    /// The descriptor asks for a destination readback.
    reads_back: bool,
    /// The last byte of the destination that was written, or lost.
    last_written: Option<u64>,
}

#[derive(Debug)]
enum Work {
    /// Nothing is left to do.
    Finished(Outcome),
    Move(movement::Move),
    Fill(movement::Fill),
    Dualcast(movement::Dualcast),
    Compare(compare::Compare),
    CreateDelta(delta::Create),
    ApplyDelta(delta::Apply),
    PageWalk(page_walk::PageWalk),
    Crc(crc::Crc),
    Dif(dif::Dif),
}

impl Execution {
    /// Begins the work of a descriptor that passed [`check()`].
    pub(crate) fn new(descriptor: &Descriptor, capabilities: &Capabilities) -> Self {
        let work = match descriptor.opcode() {
            Opcode::NO_OP => Work::Finished(Outcome::new(Status::SUCCESS)),
            Opcode::MEMORY_MOVE => Work::Move(movement::Move::new(descriptor)),
            Opcode::FILL => Work::Fill(movement::Fill::new(descriptor)),
            Opcode::DUALCAST => Work::Dualcast(movement::Dualcast::new(descriptor)),
            Opcode::COMPARE => Work::Compare(compare::Compare::buffers(descriptor)),
            Opcode::COMPARE_PATTERN => Work::Compare(compare::Compare::pattern(descriptor)),
            Opcode::CREATE_DELTA_RECORD => Work::CreateDelta(delta::Create::new(descriptor)),
            Opcode::APPLY_DELTA_RECORD => Work::ApplyDelta(delta::Apply::new(descriptor)),
            Opcode::TRANSLATION_FETCH => Work::PageWalk(page_walk::PageWalk::fetch(descriptor)),
            Opcode::CACHE_FLUSH => Work::PageWalk(page_walk::PageWalk::flush(descriptor)),
            Opcode::CRC_GENERATION => Work::Crc(crc::Crc::generation(descriptor)),
            Opcode::COPY_WITH_CRC => Work::Crc(crc::Crc::copy(descriptor)),
            Opcode::DIF_CHECK => Work::Dif(dif::Dif::check(descriptor)),
            Opcode::DIF_INSERT => Work::Dif(dif::Dif::insert(descriptor)),
            Opcode::DIF_STRIP => Work::Dif(dif::Dif::strip(descriptor)),
            Opcode::DIF_UPDATE => Work::Dif(dif::Dif::update(descriptor)),
            Opcode::DIX_GENERATE => Work::Dif(dif::Dif::generate(descriptor)),
            _ => Work::Finished(Outcome::new(Status::UNSUPPORTED_OPERATION)),
        };
        Self {
            work,
            block_on_fault: descriptor.flags().contains(Flags::BLOCK_ON_FAULT),
            reports_page_faults: capabilities.reports_page_faults,
            reads_back: descriptor.flags().contains(Flags::CACHE_CONTROL_2),
            last_written: None,
        }
    }

    /// Works on until about `budget_bytes` have moved, at least one step.
    /// Returns the outcome once there is one, and the same again after that.
    pub(crate) fn advance(
        &mut self,
        memory: &mut Memory<'_>,
        budget_bytes: usize,
    ) -> Option<Outcome> {
        let operands = &mut Operands::new(memory, self.block_on_fault, self.reports_page_faults);
        let budget = Budget::new(budget_bytes);
        let outcome = match &mut self.work {
            Work::Finished(outcome) => Some(*outcome),
            Work::Move(work) => work.advance(operands, budget),
            Work::Fill(work) => work.advance(operands, budget),
            Work::Dualcast(work) => work.advance(operands, budget),
            Work::Compare(work) => work.advance(operands, budget),
            Work::CreateDelta(work) => work.advance(operands, budget),
            Work::ApplyDelta(work) => work.advance(operands, budget),
            Work::PageWalk(work) => work.advance(operands, budget),
            Work::Crc(work) => work.advance(operands, budget),
            Work::Dif(work) => work.advance(operands, budget),
        };
        self.last_written = operands.last_written().or(self.last_written);
        let outcome = self.read_back(outcome?, operands);
        self.work = Work::Finished(outcome);
        Some(outcome)
    }

    /// What becomes of an outcome after the destination readback, which only a
    /// descriptor that completed successfully does [§8.1.3.1].
    fn read_back(&mut self, outcome: Outcome, operands: &mut Operands<'_, '_>) -> Outcome {
        let wanted = std::mem::take(&mut self.reads_back) && outcome.status.is_success();
        match self.last_written.filter(|_| wanted) {
            Some(address) if operands.read_back(address).is_err() => {
                Outcome::new(Status::WRITE_HARDWARE_ERROR)
            }
            _ => outcome,
        }
    }
}
