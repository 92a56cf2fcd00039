//! Which completion records descriptors in progress will write: two that
//! overlap are a mistake of software.

use std::collections::BTreeMap;

use super::Submission;
use crate::bus::Pasid;
use crate::completion::Outcome;
use crate::descriptor::Flags;

/// An address in an address space.
type Place = (Option<Pasid>, u64);

/// The completion records of descriptors in progress, and how many descriptors
/// name each.
#[derive(Debug, Default)]
pub(crate) struct RecordClaims {
    claims: BTreeMap<Place, u32>,
}

impl RecordClaims {
    /// Notes where a descriptor will write its record, if it does; returns the
    /// address if that overlaps with the record of another one.
    pub(super) fn claim(&mut self, submission: &Submission) -> Option<u64> {
        let (pasid, address) = record_of(submission)?;
        let reach = Outcome::RECORD_BYTES as u64 - 1;
        let from = (pasid, address.saturating_sub(reach));
        let to = (pasid, address.saturating_add(reach));
        let overlaps = self.claims.range(from..=to).next().is_some();
        *self.claims.entry((pasid, address)).or_insert(0) += 1;
        overlaps.then_some(address)
    }

    /// The descriptor has ended.
    pub(super) fn release(&mut self, submission: &Submission) {
        if let Some(place) = record_of(submission)
            && let Some(count) = self.claims.get_mut(&place)
        {
            *count -= 1;
            if *count == 0 {
                self.claims.remove(&place);
            }
        }
    }
}

fn record_of(submission: &Submission) -> Option<Place> {
    let Submission { descriptor, origin } = submission;
    let valid = descriptor.flags().contains(Flags::COMPLETION_ADDRESS_VALID);
    valid.then(|| (origin.requester.pasid, descriptor.completion_address()))
}
