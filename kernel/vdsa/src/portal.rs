//! Submissions, as the guest's processor makes them.

use hwspec::pci::Pasid;

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
    /// The instruction faults.
    GeneralProtection,
}
