//! Submission of descriptors.
#![expect(
    unsafe_code,
    reason = "writes to addresses that the caller vouches for"
)]

use core::arch::asm;
use core::fmt;
use core::ptr::NonNull;

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submission {
    /// The queue has it; a dedicated queue does not say so, and may have been full.
    Accepted,
    /// The queue did not take it; try again later.
    Retry,
}

/// The way into one work queue. Several CPUs may use it at once.
pub trait Portal {
    /// Hands over the 64 bytes of `descriptor` as one.
    ///
    /// What was stored before is visible to the device before it sees the descriptor.
    fn submit(&self, descriptor: &[u64; 8]) -> Submission;
}

/// A portal of a dedicated work queue, written with MOVDIR64B.
pub struct DedicatedPortal {
    address: NonNull<u8>,
}

/// A portal of a shared work queue, written with ENQCMDS. The PASID and the privilege
/// are those in the descriptor.
pub struct SharedPortal {
    address: NonNull<u8>,
}

// SAFETY: a portal is the same from every CPU.
unsafe impl Send for DedicatedPortal {}
// SAFETY: the instruction is one write, whoever else writes meanwhile.
unsafe impl Sync for DedicatedPortal {}
// SAFETY: a portal is the same from every CPU.
unsafe impl Send for SharedPortal {}
// SAFETY: the instruction is one write, whoever else writes meanwhile.
unsafe impl Sync for SharedPortal {}

/// What the constructors ask for.
fn assert_portal(address: NonNull<u8>) {
    assert!(
        address.addr().get().is_multiple_of(64),
        "a portal at {address:?}"
    );
}

impl DedicatedPortal {
    /// The portal at `address`.
    ///
    /// # Panics
    /// If `address` is not a multiple of 64.
    ///
    /// # Safety
    /// 1. A work queue's portal is mapped there, uncached, for as long as the value
    ///    exists.
    /// 2. The CPU has MOVDIR64B.
    /// 3. What the device can be told to do to memory through this queue is safe,
    ///    whatever the descriptor: its IOMMU sees to that.
    pub unsafe fn new(address: NonNull<u8>) -> Self {
        assert_portal(address);
        Self { address }
    }
}

impl Portal for DedicatedPortal {
    fn submit(&self, descriptor: &[u64; 8]) -> Submission {
        // The store is ordered as if to write-combining memory: nothing holds it back
        // behind earlier stores but a fence. [SDM, vol. 2, "MOVDIR64B"]
        // SAFETY: 1. Reads 64 bytes of a valid reference. 2. Writes them to an aligned
        // address that the constructor's caller vouched for, with an instruction that
        // the caller says is there.
        unsafe {
            asm!(
                "sfence",
                "movdir64b {portal}, [{descriptor}]",
                portal = in(reg) self.address.as_ptr(),
                descriptor = in(reg) descriptor,
                options(nostack, preserves_flags),
            );
        }
        Submission::Accepted
    }
}

impl SharedPortal {
    /// The portal at `address`.
    ///
    /// # Panics
    /// If `address` is not a multiple of 64.
    ///
    /// # Safety
    /// 1. A work queue's portal is mapped there, uncached, for as long as the value
    ///    exists.
    /// 2. The CPU has ENQCMDS.
    /// 3. What the device can be told to do to memory through this queue is safe,
    ///    whatever the descriptor: its IOMMU sees to that.
    pub unsafe fn new(address: NonNull<u8>) -> Self {
        assert_portal(address);
        Self { address }
    }
}

impl Portal for SharedPortal {
    fn submit(&self, descriptor: &[u64; 8]) -> Submission {
        let retry: u8;
        // [SDM, vol. 2, "ENQCMDS"]: ZF is 1 if the queue did not accept. Bits 30:20 of
        // the descriptor must be 0, or there is an exception.
        // SAFETY: 1. Reads 64 bytes of a valid reference. 2. Writes them to an aligned
        // address that the constructor's caller vouched for, with an instruction that
        // the caller says is there.
        unsafe {
            asm!(
                "sfence",
                "enqcmds {portal}, [{descriptor}]",
                "setz {retry}",
                portal = in(reg) self.address.as_ptr(),
                descriptor = in(reg) descriptor,
                retry = out(reg_byte) retry,
                options(nostack),
            );
        }
        match retry {
            0 => Submission::Accepted,
            _ => Submission::Retry,
        }
    }
}

impl fmt::Debug for DedicatedPortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DedicatedPortal({:?})", self.address)
    }
}

impl fmt::Debug for SharedPortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedPortal({:?})", self.address)
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use super::*;

    #[repr(align(64))]
    struct Line([u64; 9]);

    #[test]
    #[should_panic(expected = "a portal at")]
    fn a_misaligned_portal_is_caught() {
        let line = Box::leak(Box::new(Line([0; 9])));
        let address = NonNull::from(&mut line.0[1]).cast();
        // SAFETY: never gets beyond the check.
        let _ = unsafe { DedicatedPortal::new(address) };
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs MOVDIR64B")]
    fn a_dedicated_portal_gets_all_64_bytes() {
        // CPUID leaf 7, ECX bit 28.
        if core::arch::x86_64::__cpuid(7).ecx & 1 << 28 == 0 {
            std::eprintln!("skipped: this CPU has no MOVDIR64B");
            return;
        }
        let line = Box::leak(Box::new(Line([0; 9])));
        let base = NonNull::from(&mut *line).cast();
        // SAFETY: to plain memory the instruction is a store, and the memory is leaked.
        let portal = unsafe { DedicatedPortal::new(base) };
        let descriptor = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(portal.submit(&descriptor), Submission::Accepted);
        // SAFETY: nobody has a reference to the memory.
        let stored = unsafe { base.cast::<[u64; 9]>().read_volatile() };
        assert_eq!(stored, [1, 2, 3, 4, 5, 6, 7, 8, 0]);
    }
}
