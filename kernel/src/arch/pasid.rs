//! IA32_PASID, as far as a guest's ENQCMD needs it.
//!
//! A guest's own value is virtual. The processor is told only whether there is one, so
//! that ENQCMD gets as far as the portal, where it stops; the PASID that the device sees
//! is chosen behind that.

use x86_64::registers::model_specific::Msr;

use super::features::features;

/// IA32_PASID. [Intel SDM, vol. 4, table 2-2 "IA-32 Architectural MSRs"]
const IA32_PASID: u32 = 0xd93;
const VALID: u64 = 1 << 31;

/// Lets ENQCMD pass on this processor, with PASID 0, or not.
pub(crate) fn set_valid(is_valid: bool) {
    if features().stores.enqcmd() {
        let value = if is_valid { VALID } else { 0 };
        // SAFETY: the processor has the register with the instruction, which it is for.
        // Weir itself submits with ENQCMDS, which does not look at it.
        unsafe { Msr::new(IA32_PASID).write(value) };
    }
}
