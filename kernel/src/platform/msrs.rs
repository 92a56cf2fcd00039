//! The model-specific registers of a virtual processor that neither its local APIC
//! nor the backend keeps.
//!
//! Most of them are constants: what a guest finds there keeps it from looking for
//! more. A few take writes that have no effect, because operating systems write
//! them without asking. The rest is not there, which is #GP.
//! [Intel SDM, vol. 4, ch. 2 "Model-Specific Registers (MSRs)"; AMD64 Architecture
//! Programmer's Manual, vol. 2, appendix A "MSR Cross-Reference"]

use hwspec::pci::Pasid;

use super::{BadAccess, kvm_clock, kvm_eoi};

const TSC: u32 = 0x10;
const PLATFORM_ID: u32 = 0x17;
const FEATURE_CONTROL: u32 = 0x3a;
const BIOS_SIGN_ID: u32 = 0x8b;
const XAPIC_DISABLE_STATUS: u32 = 0xbd;
const PLATFORM_INFO: u32 = 0xce;
const MTRR_CAP: u32 = 0xfe;
const ARCH_CAPABILITIES: u32 = 0x10a;
const MISC_FEATURES_ENABLES: u32 = 0x140;
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MISC_ENABLE: u32 = 0x1a0;
const DEBUG_CTL: u32 = 0x1d9;
const MTRR_DEF_TYPE: u32 = 0x2ff;
const PASID: u32 = 0xd93;
const SYSCFG: u32 = 0xc001_0010;
const HWCR: u32 = 0xc001_0015;
const TOP_MEM: u32 = 0xc001_001a;
const TOP_MEM2: u32 = 0xc001_001d;
const NB_CFG: u32 = 0xc001_001f;
const INT_PENDING_MESSAGE: u32 = 0xc001_0055;
const VM_CR: u32 = 0xc001_0114;
const LS_CFG: u32 = 0xc001_1020;
const DC_CFG: u32 = 0xc001_1022;
const DE_CFG: u32 = 0xc001_1029;

/// IA32_FEATURE_CONTROL: locked, with nothing enabled.
const FEATURE_CONTROL_LOCKED: u64 = 1 << 0;
/// IA32_BIOS_SIGN_ID: microcode revision 1 in the half where Intel has it, and in
/// the half where AMD has it.
const MICROCODE_REVISION: u64 = 0x1_0000_0001;
/// IA32_XAPIC_DISABLE_STATUS: x2APIC mode cannot be left.
const LEGACY_XAPIC_DISABLED: u64 = 1 << 0;
/// IA32_ARCH_CAPABILITIES: IA32_XAPIC_DISABLE_STATUS is there.
const XAPIC_DISABLE: u64 = 1 << 21;
/// IA32_MTRRCAP: write-combining is a memory type; there are no ranges, fixed or
/// variable.
const MTRR_CAP_WC: u64 = 1 << 10;
/// IA32_MTRR_DEF_TYPE: MTRRs are enabled; all memory is write-back.
const MTRR_ENABLE: u64 = 1 << 11;
const MTRR_WRITE_BACK: u64 = 6;
const MTRR_DEF_TYPE_BITS: u64 = 0xcff;
/// IA32_MISC_ENABLE: fast strings; branch trace storage and PEBS are unavailable.
const MISC_ENABLE_VALUE: u64 = 1 << 0 | 1 << 11 | 1 << 12;
/// HWCR: the time-stamp counter counts at a constant speed, whatever P-state the
/// processor is in (TscFreqSel).
const HWCR_TSC_FREQ_SEL: u64 = 1 << 24;
/// VM_CR: SVM is disabled, and that is locked.
const VM_CR_DISABLED: u64 = 1 << 4 | 1 << 3;
/// DE_CFG: LFENCE serialises.
const DE_CFG_LFENCE: u64 = 1 << 1;

/// IA32_PASID: bits 19:0 and 31. [Intel SDM, vol. 4, table 2-2
/// "IA32 Architectural MSRs", IA32_PASID]
const PASID_VALID: u64 = 1 << 31;
const PASID_BITS: u64 = 0x800f_ffff;

/// Such registers of one virtual processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msrs {
    pasid: u64,
    mtrr_def_type: u64,
    /// Those of KVM's clock, as they were written. What writing them does is not done here.
    wall_clock: u64,
    system_time: u64,
    /// See [`kvm_eoi`]. Likewise.
    end_of_interrupt: u64,
}

impl Default for Msrs {
    fn default() -> Self {
        Self::new()
    }
}

impl Msrs {
    /// As after a reset.
    pub const fn new() -> Self {
        Self {
            pasid: 0,
            mtrr_def_type: MTRR_ENABLE | MTRR_WRITE_BACK,
            wall_clock: 0,
            system_time: 0,
            end_of_interrupt: 0,
        }
    }

    /// As INIT leaves them.
    pub fn reset(&mut self) {
        // IA32_PASID is cleared; what memory is like is not. Nor is the clock.
        self.pasid = 0;
        self.end_of_interrupt = 0;
    }

    /// The PASID of ENQCMD, if IA32_PASID is valid.
    #[inline]
    pub const fn pasid(&self) -> Option<Pasid> {
        if self.pasid & PASID_VALID == 0 {
            return None;
        }
        let [a, b, c, d, ..] = self.pasid.to_le_bytes();
        Some(Pasid::from_bits(u32::from_le_bytes([a, b, c, d])))
    }

    /// RDMSR. `now` is the time-stamp counter.
    ///
    /// # Errors
    /// If there is no such register.
    pub fn read(&self, register: u32, now: u64) -> Result<u64, BadAccess> {
        Ok(match register {
            TSC => now,
            FEATURE_CONTROL => FEATURE_CONTROL_LOCKED,
            BIOS_SIGN_ID => MICROCODE_REVISION,
            XAPIC_DISABLE_STATUS => LEGACY_XAPIC_DISABLED,
            ARCH_CAPABILITIES => XAPIC_DISABLE,
            MTRR_CAP => MTRR_CAP_WC,
            MTRR_DEF_TYPE => self.mtrr_def_type,
            MISC_ENABLE => MISC_ENABLE_VALUE,
            PASID => self.pasid,
            kvm_clock::WALL_CLOCK => self.wall_clock,
            kvm_clock::SYSTEM_TIME => self.system_time,
            kvm_eoi::END_OF_INTERRUPT => self.end_of_interrupt,
            HWCR => HWCR_TSC_FREQ_SEL,
            VM_CR => VM_CR_DISABLED,
            DE_CFG => DE_CFG_LFENCE,
            PLATFORM_ID
            | PLATFORM_INFO
            | MISC_FEATURES_ENABLES
            | MCG_CAP
            | MCG_STATUS
            | DEBUG_CTL
            | SYSCFG
            | TOP_MEM
            | TOP_MEM2
            | NB_CFG
            | INT_PENDING_MESSAGE
            | LS_CFG
            | DC_CFG => 0,
            _ => return Err(BadAccess),
        })
    }

    /// WRMSR.
    ///
    /// # Errors
    /// If there is no such register, it is read-only, or it does not take `value`.
    pub fn write(&mut self, register: u32, value: u64) -> Result<(), BadAccess> {
        match register {
            PASID if value & !PASID_BITS == 0 => self.pasid = value,
            MTRR_DEF_TYPE if is_valid_def_type(value) => self.mtrr_def_type = value,
            kvm_clock::WALL_CLOCK => self.wall_clock = value,
            kvm_clock::SYSTEM_TIME => self.system_time = value,
            kvm_eoi::END_OF_INTERRUPT => {
                kvm_eoi::word_address(value)?;
                self.end_of_interrupt = value;
            }
            // Written in hope, and without effect on any of the values above.
            BIOS_SIGN_ID | MISC_ENABLE | HWCR | NB_CFG | INT_PENDING_MESSAGE | LS_CFG | DC_CFG
            | DE_CFG => {}
            // There is nothing to be enabled.
            MISC_FEATURES_ENABLES | MCG_STATUS | DEBUG_CTL | SYSCFG if value == 0 => {}
            _ => return Err(BadAccess),
        }
        Ok(())
    }
}

/// A default memory type that there is, and no other bits than those of the
/// register. [Intel SDM, vol. 3, 13.11.2.1 "IA32_MTRR_DEF_TYPE MSR"]
const fn is_valid_def_type(value: u64) -> bool {
    value & !MTRR_DEF_TYPE_BITS == 0 && matches!(value & 0xff, 0 | 1 | 4..=6)
}

#[cfg(test)]
#[path = "msrs_tests.rs"]
mod tests;
