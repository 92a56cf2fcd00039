//! The steps of one descriptor: fetch, start, run.

use super::drain::PendingDrain;
use super::{BYTES_PER_NS, CHUNK_BYTES, DISPATCH_NS, Ending, Job, Origin, Phase, Submission};
use crate::bits::bit;
use crate::bus::{Bus, BusError, TransferError};
use crate::completion::{Operand, Outcome, PageFault, Status};
use crate::descriptor::{Descriptor, Flags, Opcode};
use crate::device::Dsa;
use crate::interrupt::{Permission, Table};
use crate::operation::{self, Capabilities, Execution};
use crate::registers::GENCFG_USER_INTERRUPTS;

impl Dsa {
    /// Step 1: reads a member of a batch.
    pub(super) fn fetch(
        &mut self,
        job: Job,
        address: u64,
        now: u64,
        bus: &mut dyn Bus,
    ) -> Option<Job> {
        let origin = job.submission.origin;
        let mut bytes = [0; 64];
        if let Err(error) = self.memory(origin.requester, bus).read(address, &mut bytes) {
            let fault = PageFault {
                address,
                write: false,
                operand: Operand::SOURCE,
            };
            let outcome = self.read_failure(origin.queue, Status::BATCH_PAGE_FAULT, error, fault);
            self.stop_batch(origin.member_of, outcome, bus);
            return None;
        }
        let submission = Submission {
            descriptor: Descriptor::from_bytes(bytes),
            origin,
        };
        self.claim_completion_record(&submission);
        let fenced = submission.descriptor.flags().contains(Flags::FENCE);
        if let Some((id, _)) = origin.member_of
            && let Some(batch) = self.scheduler.batches.get_mut(&id)
        {
            batch.fetching = false;
            if fenced && batch.running > 1 {
                batch.running -= 1;
                batch.held = Some(submission);
                return None;
            }
            if fenced && batch.failed {
                self.give_up_member(&submission);
                self.stop_batch(
                    origin.member_of,
                    Outcome::new(Status::BATCH_MEMBER_FAILED),
                    bus,
                );
                return None;
            }
        }
        Some(Job {
            submission,
            phase: Phase::Start,
            interrupt: None,
            due_ns: now + DISPATCH_NS,
        })
    }

    /// How a failed read of the device's own is reported [§5.8.1]: a page
    /// fault with its code where ATS tells of it, else a hardware error.
    pub(super) fn read_failure(
        &self,
        queue: usize,
        page_fault: Status,
        error: TransferError,
        fault: PageFault,
    ) -> Outcome {
        if error.cause == BusError::PageFault && self.has_ats(queue) {
            let faulting = PageFault {
                address: fault.address + error.transferred as u64,
                ..fault
            };
            return Outcome {
                fault: Some(faulting),
                ..Outcome::new(page_fault)
            };
        }
        Outcome::new(Status::HARDWARE_ERROR)
    }

    /// Step 2: checks a descriptor and sets it going.
    pub(super) fn start(&mut self, mut job: Job, now: u64, bus: &mut dyn Bus) -> Option<Job> {
        let Submission { descriptor, origin } = job.submission;
        let capabilities = self.capabilities(&origin)?;
        let interrupt = self.completion_interrupt(&job.submission);
        if let Some(status) = self.bench.takes_error() {
            // An error does not take the interrupt away, but for that of the handle.
            let is_sent = status != Status::INVALID_INTERRUPT_HANDLE;
            let interrupt = interrupt.unwrap_or(None).filter(|_| is_sent);
            let ending = Ending::new(Outcome::new(status), interrupt);
            self.finish(job.submission, ending, bus);
            return None;
        }
        if let Err(refusal) = operation::check(&descriptor, &capabilities) {
            let allowed = !refusal
                .invalid_flags
                .contains(Flags::REQUEST_COMPLETION_INTERRUPT);
            let ending = Ending {
                outcome: refusal.outcome(),
                interrupt: interrupt.unwrap_or(None).filter(|_| allowed),
                discarded: refusal.discarded,
            };
            self.finish(job.submission, ending, bus);
            return None;
        }
        match interrupt {
            Ok(interrupt) => job.interrupt = interrupt,
            Err(InvalidHandle) => {
                let outcome = Outcome::new(Status::INVALID_INTERRUPT_HANDLE);
                self.finish(job.submission, Ending::new(outcome, None), bus);
                return None;
            }
        }
        match descriptor.opcode() {
            Opcode::BATCH => {
                self.begin_batch(job.submission, job.interrupt);
                None
            }
            Opcode::DRAIN => {
                let Job {
                    submission,
                    interrupt,
                    ..
                } = job;
                self.scheduler.drains.push(PendingDrain {
                    submission,
                    interrupt,
                });
                None
            }
            _ => {
                let bytes = (descriptor.transfer_size() as usize).min(CHUNK_BYTES) as u64;
                let execution = Execution::new(&descriptor, &capabilities);
                job.phase = Phase::Run(Box::new(execution));
                job.due_ns = now + bytes / BYTES_PER_NS;
                Some(job)
            }
        }
    }

    /// Step 3: one chunk of data.
    pub(super) fn run(
        &mut self,
        submission: Submission,
        interrupt: Option<u16>,
        mut execution: Box<Execution>,
        now: u64,
        bus: &mut dyn Bus,
    ) -> Option<Job> {
        let mut memory = self.memory(submission.origin.requester, bus);
        let Some(outcome) = execution.advance(&mut memory, CHUNK_BYTES) else {
            let due_ns = now + CHUNK_BYTES as u64 / BYTES_PER_NS;
            return Some(Job {
                submission,
                phase: Phase::Run(execution),
                interrupt,
                due_ns,
            });
        };
        let ending = Ending::new(outcome, interrupt);
        if let Some(delay_ns) = self.bench.takes_completion_delay() {
            let phase = Phase::Hold(ending);
            return Some(Job {
                submission,
                phase,
                interrupt,
                due_ns: now + delay_ns,
            });
        }
        self.finish(submission, ending, bus);
        None
    }

    /// What the queue, the group and the configuration allow a descriptor.
    fn capabilities(&self, origin: &Origin) -> Option<Capabilities> {
        let queue = self.queues.get(origin.queue)?;
        let enables = self.config.enables();
        let mapped = self.config.mapped_traffic_classes();
        let class = |b: bool| {
            let class = self
                .group_of_queue(origin.queue)
                .map_or(0, |group| group.traffic_class(b));
            bit(u64::from(mapped), u32::from(class))
        };
        let has_opcfg = bit(self.identity.wqcap(), 54);
        Some(Capabilities {
            gencap: self.identity.gencap(),
            version: self.identity.version(),
            operations: if has_opcfg {
                queue.operations()
            } else {
                self.identity.opcap()
            },
            max_transfer_bytes: 1 << queue.max_transfer_log2(),
            max_batch: 1 << queue.max_batch_log2(),
            block_on_fault: queue.blocks_on_fault(),
            shared_queue: !queue.is_dedicated(),
            pasid_enabled: queue.is_pasid_enabled(),
            privileged: origin.requester.privileged,
            privileged_mode_enabled: enables.pasid_privileged,
            user_interrupts: self.gencfg & GENCFG_USER_INTERRUPTS != 0,
            ats: self.has_ats(origin.queue),
            reports_page_faults: self.has_ats(origin.queue),
            traffic_classes: [class(false), class(true)],
            in_batch: origin.member_of.is_some(),
        })
    }

    /// ATS is on for a queue [§3.13.1]. Without it the device hears nothing of
    /// a fault on a write, and a fault on a read is a hardware error.
    pub(super) fn has_ats(&self, queue: usize) -> bool {
        let disabled = self
            .queues
            .get(queue)
            .is_some_and(|queue| queue.disables_ats());
        self.config.enables().ats && !disabled
    }

    /// The table entry behind a handle [§5.4 Table 5-2].
    pub(crate) fn resolve_handle(&self, table: Table, handle: u16) -> Option<u16> {
        if self.identity.handle_commands {
            return self.handles.resolve(table, handle);
        }
        self.permission(table, handle).map(|_| handle)
    }

    pub(super) fn permission(&self, table: Table, index: u16) -> Option<Permission> {
        match table {
            Table::Msix => self.msix.permission(index.into()),
            Table::Ims => self.ims.permission(index.into()),
        }
    }

    /// The table entry that a descriptor's completion interrupt uses, if it
    /// asks for one, with the entry's PASID checked [§5.4].
    fn completion_interrupt(&self, submission: &Submission) -> Result<Option<u16>, InvalidHandle> {
        let Submission { descriptor, origin } = submission;
        if !descriptor
            .flags()
            .contains(Flags::REQUEST_COMPLETION_INTERRUPT)
        {
            return Ok(None);
        }
        let handle = descriptor.interrupt_handle();
        let index = self
            .resolve_handle(origin.table, handle)
            .ok_or(InvalidHandle)?;
        let permission = self.permission(origin.table, index).ok_or(InvalidHandle)?;
        if permission.pasid != origin.requester.pasid {
            return Err(InvalidHandle);
        }
        Ok(Some(index))
    }
}

/// The handle names no table entry, or one of another PASID.
#[derive(Debug)]
struct InvalidHandle;
