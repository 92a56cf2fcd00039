//! Interrupts of Weir's own, for the ends of the batches that it submits for a guest.

use hwspec::pci::Pasid;
use vdsa::PasidPair;

use super::BuildError;
use crate::host::client::{Answer, Request};
use crate::host::routes::{Completion, GuestTarget};
use crate::vm::vdsa_unit::backing::{Backing, FIRST_PASID_VECTOR};

/// Takes an interrupt of Weir's own for the ends of the batches of a PASID.
pub(super) fn allocate_batch_handle(
    backing: &mut Backing,
    vector: u8,
    pasid: Pasid,
) -> Result<u16, BuildError> {
    let client = backing.client.as_ref().ok_or(BuildError::NoInterrupt)?;
    let request = Request::AllocateVector {
        vector,
        pasid,
        cpu: backing.processor,
        target: GuestTarget {
            vm: u16::try_from(backing.guest).unwrap_or(u16::MAX),
            device: u8::try_from(backing.vdsa).unwrap_or(u8::MAX),
            completion: Completion::Batch(vector.into()),
        },
    };
    match client.call(request) {
        Ok(Some(handle)) => {
            let unmasked = client.set_masked(vector, false);
            unmasked.map_err(|_| BuildError::NoInterrupt)?;
            backing.batch_handles.push((vector, handle));
            Ok(handle.0)
        }
        Ok(None) | Err(Answer::NoHandle) => Err(BuildError::NoInterrupt),
        Err(Answer::Failed(failure)) => Err(BuildError::Device(Some(failure))),
        Err(_) => Err(BuildError::Device(None)),
    }
}

/// Takes interrupts of Weir's own for the ends of the batches of guest PASIDs.
pub(super) fn allocate_pasid_handles(
    backing: &mut Backing,
    pairs: &mut [PasidPair],
) -> Result<(), BuildError> {
    for (vector, pair) in (FIRST_PASID_VECTOR..).zip(pairs) {
        pair.batch_handle = Some(allocate_batch_handle(backing, vector, pair.host)?);
    }
    Ok(())
}
