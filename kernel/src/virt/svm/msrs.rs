//! The registers that the control block keeps for a guest, as RDMSR and WRMSR
//! show them.
#![forbid(unsafe_code)]

use hwspec::x86::svm::State;

use super::vcpu::EFER_SVME;
use crate::arch::features::features;

const EFER: u32 = 0xc000_0080;
const PAT: u32 = 0x277;

const EFER_SCE: u64 = 1 << 0;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;
const CR0_PG: u64 = 1 << 31;

/// The guest's value of `register`, if the control block has it.
pub(super) fn read(state: &State, register: u32) -> Option<u64> {
    match register {
        // A guest must have SVME set without having SVM.
        EFER => Some(state.efer & !EFER_SVME),
        PAT => Some(state.g_pat),
        _ => None,
    }
}

/// Sets `register`; false if the guest may not set this value.
pub(super) fn write(state: &mut State, register: u32, value: u64) -> Option<bool> {
    match register {
        EFER => {
            let mut allowed = EFER_SCE | EFER_LME | EFER_LMA;
            if features().paging.nx() {
                allowed |= EFER_NXE;
            }
            let changes_mode = (value ^ state.efer) & EFER_LME != 0 && state.cr0 & CR0_PG != 0;
            if value & !allowed != 0 || changes_mode {
                return Some(false);
            }
            // LMA follows from the others.
            let kept = state.efer & (EFER_LMA | EFER_SVME);
            state.efer = value & !EFER_LMA | kept;
            Some(true)
        }
        PAT => {
            let is_valid = is_valid_pat(value);
            if is_valid {
                state.g_pat = value;
            }
            Some(is_valid)
        }
        _ => None,
    }
}

/// Eight memory types: UC, WC, WT, WP, WB or UC-.
fn is_valid_pat(value: u64) -> bool {
    let mut types = value.to_le_bytes().into_iter();
    types.all(|kind| matches!(kind, 0 | 1 | 4..=7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_of_memory_are_page_attributes() {
        assert!(is_valid_pat(0x0007_0406_0007_0406));
        assert!(is_valid_pat(0x0007_0106_0007_0105));
        assert!(!is_valid_pat(0x0007_0406_0007_0402));
        assert!(!is_valid_pat(0x8007_0406_0007_0406));
    }
}
