//! Ends of interrupts without an exit, as KVM's interface has them.
//!
//! A guest names a word of its memory. Where an interrupt is delivered whose end nobody
//! waits for, bit 0 of the word is set: a guest that finds it set ends the interrupt by
//! clearing it, and writes EOI only where it is clear. Whoever has set it looks at the next
//! exit what became of it, and takes it away, so that between two exits at most one
//! interrupt ends like this.
//! [Linux, Documentation/virt/kvm/x86/msr.rst, MSR_KVM_EOI_EN; Documentation/virt/kvm/x86/
//! cpuid.rst]

use super::BadAccess;
use crate::virt::address::GuestPhysAddr;

/// Where the word is, and whether it is wanted.
pub const END_OF_INTERRUPT: u32 = 0x4b56_4d04;
/// KVM_FEATURE_PV_EOI: the register is there.
pub(super) const FEATURE: u32 = 1 << 6;

/// The register: interrupts are ended by the word.
const ENABLED: u64 = 1 << 0;
/// The word is a multiple of 4 bytes away from 0; the bit between is reserved.
const RESERVED: u64 = 1 << 1;
/// Of the word, only its first byte is used.
pub const WORD_BYTES: u64 = 4;

/// Where the word is that a value of the register names, if it is wanted.
///
/// # Errors
/// If the value has a bit set that is reserved.
pub const fn word_address(value: u64) -> Result<Option<GuestPhysAddr>, BadAccess> {
    if value & RESERVED != 0 {
        return Err(BadAccess);
    }
    if value & ENABLED == 0 {
        return Ok(None);
    }
    Ok(Some(GuestPhysAddr(value & !ENABLED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_register_name_a_word() {
        assert_eq!(word_address(0), Ok(None));
        assert_eq!(word_address(0x1234_5678), Ok(None));
        assert_eq!(word_address(0x1235), Ok(Some(GuestPhysAddr(0x1234))));
        assert_eq!(word_address(1), Ok(Some(GuestPhysAddr(0))));
        assert_eq!(word_address(0x1236), Err(BadAccess));
        assert_eq!(word_address(0x1237), Err(BadAccess));
    }
}
