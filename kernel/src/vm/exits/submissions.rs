//! MOVDIR64B, ENQCMD and ENQCMDS.

use vdsa::{SubmissionKind, SubmissionRequest, SubmitResult};

use crate::arch::clock;
use crate::virt::address::{GuestPhysAddr, GuestVirtAddr};
use crate::virt::backend::{Backend, Vcpu};
use crate::virt::decode::{Operation, Submission};
use crate::virt::exit::Exception;
use crate::virt::fetch::{self, AccessError};
use crate::virt::walk::{self, Purpose};

use super::super::counters::Reason;
use super::super::vdsa_unit::PORTALS_BAR;
use super::{Context, Next};

/// What ENQCMD and ENQCMDS change in RFLAGS: all of the status flags but ZF are 0.
const STATUS_FLAGS: u64 = 0x8d5;
const ZERO_FLAG: u64 = 1 << 6;

/// When a submission is made, which counts on shared queues only.
fn now_ns(kind: Submission) -> u64 {
    match kind {
        Submission::Movdir64b => 0,
        Submission::Enqcmd | Submission::Enqcmds => clock::nanoseconds(clock::now()),
    }
}

/// Whether an instruction may be executed at a privilege level. The processor has checked
/// the one at which it stopped; the guest can have put another one in its place since.
#[inline]
const fn is_permitted(kind: Submission, cpl: u8) -> bool {
    cpl == 0 || !matches!(kind, Submission::Enqcmds)
}

impl<B: Backend> Context<'_, B> {
    /// The guest's processor stopped at a submission to `portal`, which decides where
    /// it goes; what the instruction's operand says does not count.
    #[inline]
    pub(super) fn submit(
        &mut self,
        vcpu: &mut B::Vcpu,
        portal: GuestPhysAddr,
        kind: Submission,
        source: GuestVirtAddr,
        length: u64,
    ) -> Next {
        self.door.exits.add(Reason::Submission);
        let paging = vcpu.paging();
        if !is_permitted(kind, paging.cpl) {
            self.raise(vcpu, Exception::GENERAL_PROTECTION);
            return Next::Enter;
        }
        let words = match fetch::descriptor(&self.guest.space.memory, &paging, source) {
            Ok(words) => words,
            Err(error) => {
                self.raise_access_error(vcpu, error);
                return Next::Enter;
            }
        };
        let result = match self.guest.bus.find(portal) {
            Some(place) if place.bar == PORTALS_BAR => place.function.submit(&SubmissionRequest {
                offset: place.offset,
                kind: match kind {
                    Submission::Movdir64b => SubmissionKind::Movdir64b,
                    Submission::Enqcmd => SubmissionKind::Enqcmd,
                    Submission::Enqcmds => SubmissionKind::Enqcmds,
                },
                pasid: self.msrs.pasid(),
                words,
                now_ns: now_ns(kind),
            }),
            // Registers take no 64 bytes, and nobody else is there to answer.
            _ => match kind {
                Submission::Movdir64b => SubmitResult::Dropped,
                Submission::Enqcmd | Submission::Enqcmds => SubmitResult::Retry,
            },
        };
        match result {
            SubmitResult::GeneralProtection => {
                self.raise(vcpu, Exception::GENERAL_PROTECTION);
                return Next::Enter;
            }
            // The instruction is executed again. Until there is room others have the
            // processor, if they want it.
            SubmitResult::Again => return Next::Leave,
            SubmitResult::Accepted | SubmitResult::Retry | SubmitResult::Dropped => {}
        }
        if kind != Submission::Movdir64b {
            let zero = match result {
                SubmitResult::Retry => ZERO_FLAG,
                _ => 0,
            };
            vcpu.set_rflags(vcpu.rflags() & !STATUS_FLAGS | zero);
        }
        let rip = vcpu.rip().wrapping_add(length);
        vcpu.set_rip(rip);
        Next::Enter
    }

    /// An invalid opcode: a submission on a processor that does not have the
    /// instruction, or really one.
    #[cold]
    pub(super) fn invalid_opcode(&mut self, vcpu: &mut B::Vcpu) -> Next {
        let memory = &self.guest.space.memory;
        if let Ok(Some(instruction)) = fetch::decode(vcpu, memory)
            && let Operation::Submit {
                kind: kind @ (Submission::Enqcmd | Submission::Enqcmds),
                source,
                destination,
            } = instruction.operation
        {
            return self.submit_emulated(vcpu, kind, source, destination, instruction.length);
        }
        self.door.exits.add(Reason::InvalidOpcode);
        self.raise(vcpu, Exception::INVALID_OPCODE);
        Next::Enter
    }

    /// What the processor would have checked before it stopped at the portal.
    fn submit_emulated(
        &mut self,
        vcpu: &mut B::Vcpu,
        kind: Submission,
        source: GuestVirtAddr,
        destination: GuestVirtAddr,
        length: u64,
    ) -> Next {
        const LINE: u64 = 64;
        let paging = vcpu.paging();
        let is_allowed = match kind {
            Submission::Enqcmds => is_permitted(kind, paging.cpl),
            _ => self.msrs.pasid().is_some(),
        };
        if !is_allowed || !destination.0.is_multiple_of(LINE) {
            self.raise(vcpu, Exception::GENERAL_PROTECTION);
            return Next::Enter;
        }
        let memory = &self.guest.space.memory;
        match walk::translate(&**memory, &paging, destination, Purpose::Write) {
            Ok(portal) => self.submit(vcpu, portal, kind, source, length),
            Err(fault) => {
                self.raise_access_error(vcpu, AccessError::PageFault(fault));
                Next::Enter
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enqcmds_is_for_the_guests_kernel() {
        for (kind, permitted) in [
            (Submission::Movdir64b, true),
            (Submission::Enqcmd, true),
            (Submission::Enqcmds, false),
        ] {
            assert!(is_permitted(kind, 0), "{kind:?}");
            for cpl in 1..=3 {
                assert_eq!(is_permitted(kind, cpl), permitted, "{kind:?} at {cpl}");
            }
        }
    }
}
