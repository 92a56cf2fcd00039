//! The check of a submission: what a guest hands to a portal, on its way to the device.
//!
//! 1. [`Submission::submit`] decides as a queue does whether it takes the 64 bytes
//!    [DSA 3.0, 5.3 "Descriptor Submission Checks"]: is it enabled, is the instruction
//!    the right one for its mode, does it have room.
//! 2. The copy of the descriptor is [checked](mod@check). Here the guest can change
//!    nothing any more.
//! 3. A descriptor that passes gets the host PASID and goes to the device. What it does
//!    there is bounded by its PASID alone.
//! 4. One that does not pass is [reported](mod@report) as the device would have, without
//!    being submitted, and [recorded](Refusals) for the operator.
//!
//! A [`batch`] is copied into the window, each member checked in the copy, and the
//! copy submitted with a completion record and an interrupt of Weir's own. A member
//! that does not pass is [replaced](mod@replacement) by one that the device refuses with
//! the same code. When the batch is done, [`Submission::collect`]
//! [hands it on](in_flight): it writes the guest's record.

mod batch;
mod check;
mod counters;
mod fault;
mod in_flight;
mod operations;
mod rate;
mod refusals;
mod replacement;
mod report;
mod rules;
mod window;

use hwio::Submission as Answer;
use hwspec::dsa::DescriptorWord0;
use hwspec::pci::Pasid;

pub use counters::Counters;
pub use refusals::{Named, Refusal, Refusals};
pub use rules::Rule;
pub use window::window_bytes;

use crate::{
    Host, MAX_QUEUES, QueueMode, QueuePasid, QueueSet, QueueView, SoftwareErrorRecord,
    SubmissionKind, SubmissionRequest, SubmitResult, Window,
};
use batch::{Fate, Watched};
use check::{Limits, check, check_handle, interrupt_handle, operation};
use fault::Fault;
pub(crate) use in_flight::HandedOn;
use in_flight::{Entry, Kind, Slots};
use operations::INTERRUPT;
use rate::Rate;
use report::{Origin, overflow_record, report};
use window::Layout;

/// PASID and Priv, in word 0, and the reserved bits between them.
const TRUSTED: u64 = 0xffff_ffff;
/// The reserved bits 30:20 of the trusted fields.
const TRUSTED_RESERVED: u64 = 0x7ff0_0000;
/// Priv.
const PRIVILEGED: u64 = 1 << 31;
/// Of the offset in BAR2: the two IMS pages of a queue, which are not offered, and what
/// lies between the 64-byte places of a portal.
const NO_PORTAL: u64 = 0x2000 | 0x3f;

/// What the guest has to be told besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// The interrupt of this virtual vector is to be raised, as far as its mask lets it.
    pub interrupt: Option<u16>,
    /// What goes to SWERROR.
    pub error: Option<SoftwareErrorRecord>,
    /// There were further errors, so that SWERROR overflows.
    pub is_error_lost: bool,
}

impl Notices {
    const fn error(error: SoftwareErrorRecord) -> Self {
        Self {
            interrupt: None,
            error: Some(error),
            is_error_lost: false,
        }
    }
}

/// The submissions of one virtual accelerator.
#[derive(Clone, Debug)]
pub struct Submission {
    layout: Layout,
    slots: Slots,
    rates: [Rate; MAX_QUEUES],
    refusals: Refusals,
    counters: Counters,
}

impl Submission {
    /// With `window` for batches of up to 2^`max_batch_log2` descriptors; how many can
    /// be in flight follows from its size, see [`window_bytes`].
    pub fn new(window: Window, max_batch_log2: u8) -> Self {
        let layout = Layout::new(window, max_batch_log2);
        Self {
            layout,
            slots: Slots::new(layout.batches()),
            rates: [Rate::default(); MAX_QUEUES],
            refusals: Refusals::new(),
            counters: Counters::default(),
        }
    }

    /// One submission to the queue of `view`.
    ///
    /// It costs a bounded number of steps, in proportion to the members of a batch.
    pub fn submit(
        &mut self,
        view: &QueueView<'_>,
        host: &mut impl Host,
        request: &SubmissionRequest,
    ) -> (SubmitResult, Notices) {
        let mut words = request.words;
        let Some(named) = trusted_fields(request, &mut words) else {
            self.counters.faulted += 1;
            return (SubmitResult::GeneralProtection, Notices::default());
        };
        self.counters.submitted += 1;
        if !self.admit(view, request) {
            return self.not_taken(request.kind, Notices::default());
        }
        if view.is_slice && !host.has_room(view.index) {
            return self.wait();
        }

        let pasid = match view.pasid {
            QueuePasid::OfQueue(pasid) => pasid,
            QueuePasid::OfSubmission(map) => {
                let guest = named.unwrap_or(Pasid::ZERO);
                let Some(host_pasid) = map.host(guest) else {
                    let fault = Fault {
                        named: Named::GuestPasid(guest),
                        ..Fault::new(Rule::UnknownPasid, u64::from(guest.value()))
                    };
                    let origin = origin(view, &words, Some(guest));
                    return self.refuse(host, &words, &fault, origin, None);
                };
                host_pasid
            }
        };
        let limits = Limits {
            operations: view.operations[0],
            max_transfer: 1 << view.max_transfer_log2.min(31),
            max_batch: self
                .layout
                .list_capacity()
                .min(1 << view.max_batch_log2.min(15)),
            window: self.layout.range(),
            handles: view.handles,
            pasid,
            is_privilege_checked: view.mode == QueueMode::Shared,
        };
        if let Err(rule) = check::<false>(&words, &limits) {
            let fault = Fault::find::<false>(rule, &words, &limits);
            let origin = origin(view, &words, named);
            return self.refuse(host, &words, &fault, origin, Some(&limits));
        }

        if let Some(kind) = in_flight::kind_of(operation(&words))
            && (kind == Kind::Batch || self.slots.has_batches(view.index))
        {
            let origin = origin(view, &words, named);
            let watched = Watched {
                words: &words,
                origin,
                pasid,
                vector: vector(&words, &limits),
                own_handle: match view.pasid {
                    QueuePasid::OfQueue(_) => view.batch_handle,
                    QueuePasid::OfSubmission(map) => {
                        view.batch_handle.or_else(|| map.batch_handle(pasid))
                    }
                },
            };
            let fate = match kind {
                _ if view.is_aborting => Fate::Full,
                Kind::Batch if !self.has_batches(view) => {
                    let code = u64::from(operation(&words).0);
                    Fate::Refused(Fault::new(Rule::Operation, code))
                }
                Kind::Batch => self.submit_batch(&watched, &limits, host),
                Kind::Drain => self.submit_drain(&watched, host),
            };
            return match fate {
                Fate::Submitted(notices) => {
                    self.counters.accepted += 1;
                    (SubmitResult::Accepted, notices)
                }
                Fate::Full => self.full(view, request.kind),
                Fate::Refused(fault) => self.refuse(host, &words, &fault, origin, Some(&limits)),
            };
        }

        words[0] = words[0] & !TRUSTED | u64::from(pasid.into_bits());
        match host.submit(view.index, &words) {
            Answer::Accepted => {
                self.counters.accepted += 1;
                (SubmitResult::Accepted, Notices::default())
            }
            Answer::Retry => self.full(view, request.kind),
        }
    }

    /// One submission to an address in BAR2 that belongs to no queue.
    pub fn submit_nowhere(&mut self, request: &SubmissionRequest) -> SubmitResult {
        if trusted_fields(request, &mut { request.words }).is_none() {
            self.counters.faulted += 1;
            return SubmitResult::GeneralProtection;
        }
        self.counters.submitted += 1;
        self.not_taken(request.kind, Notices::default()).0
    }

    /// How many batches and drains are in flight.
    pub const fn in_flight(&self) -> u32 {
        self.slots.count()
    }

    /// Forgets what the device gave up. Only when queues were aborted, reset or disabled
    /// and that is done, after the last [`collect`](Self::collect): the device must not
    /// write to the window any more.
    pub fn abandon(&mut self, queues: QueueSet) {
        self.abandon_those(|entry| queues.contains(entry.origin.queue));
    }

    /// The same for a host PASID that was aborted.
    pub fn abandon_pasid(&mut self, pasid: Pasid) {
        self.abandon_those(|entry| entry.pasid == pasid);
    }

    fn abandon_those(&mut self, is_gone: impl FnMut(&Entry) -> bool) {
        let counters = &mut self.counters;
        self.slots.abandon(is_gone, |entry| {
            counters.abandoned += 1;
            counters.members_abandoned += entry.count_members();
        });
    }

    /// What was refused.
    pub const fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// What became of submissions.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether the queue takes the 64 bytes. For a dedicated queue the device decides
    /// whether there is room.
    fn admit(&mut self, view: &QueueView<'_>, request: &SubmissionRequest) -> bool {
        if request.offset & NO_PORTAL != 0 || !view.is_enabled {
            return false;
        }
        let is_posted = request.kind == SubmissionKind::Movdir64b;
        if view.mode == QueueMode::Dedicated {
            return is_posted;
        }
        let room = if view.is_limited_portal {
            view.size.min(view.threshold)
        } else {
            view.size
        };
        if is_posted || room == 0 {
            return false;
        }
        let Some(rate) = self.rates.get_mut(view.index.index()) else {
            return false;
        };
        let is_in_time = rate.admit(request.now_ns, view.submission_interval_ns, room);
        self.counters.held_back += u64::from(!is_in_time);
        is_in_time
    }

    /// Whether the queue has batches at all.
    fn has_batches(&self, view: &QueueView<'_>) -> bool {
        let has_handle = match view.pasid {
            QueuePasid::OfQueue(_) => view.batch_handle.is_some(),
            QueuePasid::OfSubmission(_) => true,
        };
        has_handle && self.layout.batches() != 0
    }

    fn not_taken(&mut self, kind: SubmissionKind, notices: Notices) -> (SubmitResult, Notices) {
        if kind == SubmissionKind::Movdir64b {
            self.counters.dropped += 1;
            return (SubmitResult::Dropped, notices);
        }
        self.counters.retried += 1;
        (SubmitResult::Retry, Notices::default())
    }

    /// There is no room; a dedicated queue says so in SWERROR.
    #[cold]
    fn full(&mut self, view: &QueueView<'_>, kind: SubmissionKind) -> (SubmitResult, Notices) {
        if view.is_slice {
            return self.wait();
        }
        self.not_taken(kind, Notices::error(overflow_record(view.index)))
    }

    /// A store cannot be answered, but the processor that makes it can be kept waiting.
    #[cold]
    fn wait(&mut self) -> (SubmitResult, Notices) {
        self.counters.submitted -= 1;
        self.counters.waited += 1;
        (SubmitResult::Again, Notices::default())
    }

    #[cold]
    fn refuse(
        &mut self,
        host: &mut impl Host,
        words: &[u64; 8],
        fault: &Fault,
        origin: Origin,
        limits: Option<&Limits<'_>>,
    ) -> (SubmitResult, Notices) {
        self.counters.refused += 1;
        self.record(words, fault, origin);
        let vector = limits.and_then(|limits| vector(words, limits));
        let reported = report(host, words, fault, origin, vector);
        if !reported.has_record_memory {
            self.record(words, &Fault::new(Rule::RecordMemory, words[1]), origin);
        }
        let notices = reported.notices;
        self.counters.refused_interrupts += u64::from(notices.interrupt.is_some());
        (SubmitResult::Accepted, notices)
    }

    /// For the operator.
    fn record(&mut self, words: &[u64; 8], fault: &Fault, origin: Origin) {
        self.refusals.record(Refusal {
            rule: fault.rule,
            value: fault.value,
            named: fault.named,
            queue: origin.queue,
            operation: operation(words),
            member: origin.member,
        });
    }
}

/// Where a descriptor comes from, if it names a guest PASID or not.
fn origin(view: &QueueView<'_>, words: &[u64; 8], named: Option<Pasid>) -> Origin {
    Origin {
        queue: view.index,
        pasid: if view.is_pasid_enabled {
            named.unwrap_or(view.guest_pasid)
        } else {
            Pasid::ZERO
        },
        is_privileged: match view.mode {
            QueueMode::Dedicated => view.is_privileged,
            QueueMode::Shared => words[0] & PRIVILEGED != 0,
        },
        member: None,
    }
}

/// Puts the PASID and Priv into the descriptor as the instruction does, and returns the
/// guest PASID that it names; nothing if the instruction faults.
/// [SDM, vol. 2, "ENQCMD", "ENQCMDS"]
fn trusted_fields(request: &SubmissionRequest, words: &mut [u64; 8]) -> Option<Option<Pasid>> {
    match request.kind {
        SubmissionKind::Movdir64b => Some(None),
        SubmissionKind::Enqcmd => {
            words[0] &= !TRUSTED;
            request.pasid.map(Some)
        }
        SubmissionKind::Enqcmds if words[0] & TRUSTED_RESERVED != 0 => None,
        SubmissionKind::Enqcmds => {
            let pasid = DescriptorWord0::from_bits(words[0]).pasid();
            Some(Some(Pasid::from_bits(pasid)))
        }
    }
}

/// The vector of the interrupt that the descriptor asks for, if it may have it.
fn vector(words: &[u64; 8], limits: &Limits<'_>) -> Option<u16> {
    if words[0] & INTERRUPT == 0 || check_handle(words, limits).is_err() {
        return None;
    }
    let handle = limits.handles.find(interrupt_handle(words))?;
    Some(handle.vector)
}

#[cfg(test)]
mod tests;
