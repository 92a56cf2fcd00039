//! What became of submissions, for the books.

/// Counters of one virtual accelerator.
///
/// `submitted = accepted + refused + retried + dropped`; a batch counts once there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Portal writes of 64 bytes.
    pub submitted: u64,
    /// Handed to the device, batches included.
    pub accepted: u64,
    /// Refused and reported as a failed descriptor.
    pub refused: u64,
    /// Answered with Retry.
    pub retried: u64,
    /// Dropped, as a posted write is that no queue takes.
    pub dropped: u64,
    /// ENQCMD or ENQCMDS that faulted; not submitted.
    pub faulted: u64,
    /// Of those retried: held back by the rate of the shared queue.
    pub held_back: u64,
    /// Of those retried and dropped: batches and drains that found no free slot.
    pub without_slot: u64,
    /// Batches handed to the device.
    pub batches: u64,
    /// Members of these.
    pub members: u64,
    /// Of these, replaced by a descriptor that the device refuses.
    pub members_refused: u64,
    /// Batches and drains whose completion was handed on to the guest.
    pub handed_on: u64,
    /// Batches and drains that an abort or a reset threw away.
    pub abandoned: u64,
    /// Members of such batches, and of batches that ended before their last member.
    pub members_abandoned: u64,
    /// Interrupts of refused descriptors, raised by software.
    pub refused_interrupts: u64,
    /// Interrupts of batches and drains, raised by software.
    pub handed_on_interrupts: u64,
}
