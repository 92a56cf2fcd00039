//! Portals: submissions as the guest's processor makes them, and how what became of
//! them reaches the guest.

use hwspec::dsa::{DeviceState, PortalPage};
use hwspec::pci::Pasid;

use crate::submission::{HandedOn, Notices};
use crate::work_queue::{State, WorkQueue};
use crate::{
    Answer, Counters, HandleTable, Host, PasidAction, PasidMap, QueueAction, QueueIndex, QueueMode,
    QueuePasid, QueueSet, QueueView, Refusals, Request, VirtualDsa, Window,
};

/// The instruction that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmissionKind {
    /// MOVDIR64B.
    Movdir64b,
    /// ENQCMD.
    Enqcmd,
    /// ENQCMDS, at privilege level 0.
    Enqcmds,
}

/// One submission.
#[derive(Clone, Copy, Debug)]
pub struct SubmissionRequest {
    /// Bytes from the begin of BAR2.
    pub offset: u64,
    /// The instruction.
    pub kind: SubmissionKind,
    /// The PASID in the guest's `IA32_PASID`, if that is valid. ENQCMD takes it from
    /// there.
    pub pasid: Option<Pasid>,
    /// The 64 bytes as the guest had them in memory.
    pub words: [u64; 8],
    /// The time, in nanoseconds since some moment in the past; never goes back.
    pub now_ns: u64,
}

/// What the guest's processor sees of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitResult {
    /// The queue has it, or a refusal was reported like a failed descriptor; ZF = 0.
    Accepted,
    /// The queue did not take it; ZF = 1.
    Retry,
    /// Gone without a trace, as a posted write is.
    Dropped,
    /// Not yet: the processor is to execute the instruction again. It may do other things
    /// before, such as take interrupts.
    Again,
    /// The instruction faults.
    GeneralProtection,
}

/// What a view shows besides the queue.
struct Surroundings<'a> {
    is_device_enabled: bool,
    is_aborting: bool,
    pasids: &'a PasidMap,
    handles: &'a HandleTable,
    operations: [u64; 4],
    window: Window,
}

/// The queue that an offset into BAR2 belongs to, as its portal there is seen.
fn view<'a>(
    queues: &[WorkQueue],
    offset: u64,
    surroundings: Surroundings<'a>,
) -> Option<QueueView<'a>> {
    let stride = u64::try_from(PortalPage::WQ_STRIDE).ok()?;
    let page = u64::try_from(PortalPage::SIZE).ok()?;
    let index = QueueIndex::new(usize::try_from(offset / stride).ok()?)?;
    let queue = queues.get(index.index())?;
    let shape = queue.shape();
    let mode = queue.mode();
    Some(QueueView {
        index,
        is_enabled: surroundings.is_device_enabled && queue.state == State::Enabled,
        is_aborting: surroundings.is_aborting,
        mode: shape.mode,
        is_limited_portal: offset / page % 2 == 1,
        size: shape.size,
        threshold: queue.threshold(),
        max_transfer_log2: shape.max_transfer_log2,
        max_batch_log2: shape.max_batch_log2,
        pasid: match shape.mode {
            QueueMode::Dedicated => QueuePasid::OfQueue(queue.host_pasid()),
            QueueMode::Shared => QueuePasid::OfSubmission(surroundings.pasids),
        },
        is_pasid_enabled: mode.pasid_enable(),
        guest_pasid: Pasid::from_bits(mode.pasid()),
        is_privileged: mode.privileged(),
        handles: surroundings.handles,
        operations: surroundings.operations,
        window: surroundings.window,
        batch_handle: match mode.pasid_enable() {
            true if !shape.is_stand_in => surroundings.pasids.batch_handle(queue.host_pasid()),
            _ => shape.batch_handle,
        },
        policy: shape.policy,
        submission_interval_ns: shape.submission_interval_ns,
        is_slice: shape.is_slice,
    })
}

impl VirtualDsa {
    /// The queue that an offset into BAR2 belongs to, as its portal there is seen.
    pub fn view(&self, offset: u64) -> Option<QueueView<'_>> {
        let surroundings = Surroundings {
            is_device_enabled: self.state == DeviceState::Enabled,
            is_aborting: self.physical.is_aborting(),
            pasids: &self.pasids,
            handles: &self.handles,
            operations: self.capabilities.operations(),
            window: self.window,
        };
        view(&self.queues, offset, surroundings)
    }

    /// A submission to a portal.
    pub fn submit(&mut self, host: &mut impl Host, request: &SubmissionRequest) -> SubmitResult {
        // As above, but the check borrows its own part.
        let surroundings = Surroundings {
            is_device_enabled: self.state == DeviceState::Enabled,
            is_aborting: self.physical.is_aborting(),
            pasids: &self.pasids,
            handles: &self.handles,
            operations: self.capabilities.operations(),
            window: self.window,
        };
        let Some(view) = view(&self.queues, request.offset, surroundings) else {
            return self.submission.submit_nowhere(request);
        };
        let (result, notices) = self.submission.submit(&view, host, request);
        self.notify(host, notices);
        result
    }

    /// Hands finished batches on to the guest: after the interrupt of a batch handle, and
    /// from time to time while [some are in flight](Self::batches_in_flight).
    // It is on the way of every batch's end, and what calls it there has little else to do.
    #[inline(always)]
    pub fn collect_batches(&mut self, host: &mut impl Host) {
        // What a halt or a reset gave up is not the guest's any more.
        if self.physical.is_stopping() || self.state == DeviceState::Halted {
            return;
        }
        while let Some(handed_on) = self.submission.hand_on(host) {
            match handed_on {
                HandedOn::Plainly(None) => {}
                HandedOn::Plainly(Some(vector)) => self.msix.raise_completion(host, vector),
                HandedOn::Unusual(slot) => self.hand_on_unusual(host, slot),
            }
        }
    }

    /// The same, where it is but a part of something longer.
    #[inline(never)]
    pub(crate) fn collect_first(&mut self, host: &mut impl Host) {
        self.collect_batches(host);
    }

    #[cold]
    fn hand_on_unusual(&mut self, host: &mut impl Host, slot: usize) {
        let notices = self.submission.hand_on_unusual(host, slot);
        self.notify(host, notices);
    }

    /// The device was reset, and the handles by which it tells Weir of batches are others:
    /// `new` says which, for an old one.
    pub fn replace_batch_handles(&mut self, new: impl Fn(u16) -> u16) {
        for queue in &mut self.queues {
            queue.replace_batch_handle(&new);
        }
        self.pasids.replace_batch_handles(&new);
    }

    /// The physical device has nothing of this one any more, and never will: batches that
    /// it finished are counted as such, all others as abandoned.
    pub fn give_up(&mut self, host: &mut impl Host) {
        self.collect_batches(host);
        self.submission.abandon(QueueSet::ALL);
    }

    /// How many batches and drains are watched for.
    pub const fn batches_in_flight(&self) -> u32 {
        self.submission.in_flight()
    }

    /// What was refused.
    pub const fn refusals(&self) -> &Refusals {
        self.submission.refusals()
    }

    /// What became of submissions.
    pub const fn counters(&self) -> &Counters {
        self.submission.counters()
    }

    #[cold]
    fn notify_of_error(&mut self, host: &mut impl Host, notices: &Notices) {
        if let Some(error) = notices.error {
            self.record_error(host, error);
        }
        if notices.is_error_lost {
            self.software_error.set_overflow();
        }
    }

    #[inline]
    fn notify(&mut self, host: &mut impl Host, notices: Notices) {
        if notices.error.is_some() || notices.is_error_lost {
            self.notify_of_error(host, &notices);
        }
        if let Some(vector) = notices.interrupt {
            self.msix.raise_completion(host, vector);
        }
    }

    /// What a command drained or stopped is handed on or given up, before the guest
    /// hears that the command is done.
    pub(crate) fn close_books(&mut self, host: &mut impl Host, request: Request, answer: Answer) {
        if answer != Answer::Done {
            return;
        }
        match request {
            Request::Queues { queues, action } => {
                self.collect_first(host);
                if action != QueueAction::Drain {
                    self.submission.abandon(queues);
                }
            }
            Request::Pasid { pasid, action } => {
                self.collect_first(host);
                if action == PasidAction::Abort {
                    self.submission.abandon_pasid(pasid);
                }
            }
            Request::Reset { queues } => self.submission.abandon(queues),
            Request::EnableQueue { .. }
            | Request::AllocateHandle { .. }
            | Request::ReleaseHandle { .. } => {}
        }
    }
}
