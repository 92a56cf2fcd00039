//! What the processors can do, by CPUID.

use core::arch::x86_64::{__cpuid_count, CpuidResult};

use arrayvec::ArrayString;
use hwspec::x86::cpuid::{
    self, AddressSizesEbx, ExtendedFeaturesEcx, ExtendedFeaturesEdx, FeaturesEcx, MoreFeaturesEbx,
    MoreFeaturesEcx, SvmFeaturesEdx,
};
use spin::Once;
use x86_64::registers::control::Cr4Flags;

use crate::refusal::Refusal;

/// [AMD64 Architecture Programmer's Manual, vol. 3, E.4.7 "Function 8000_0007h"; Intel
/// SDM, vol. 2, "CPUID—CPU Identification"]
const POWER_MANAGEMENT: u32 = 0x8000_0007;
/// Its EDX.
const INVARIANT_TSC: u32 = 1 << 8;

static FEATURES: Once<Features> = Once::new();

/// Leaves that spell the processor's name, 16 bytes each.
/// [SDM, vol. 2, "CPUID", "Processor Brand String"]
const BRAND: core::ops::RangeInclusive<u32> = 0x8000_0002..=0x8000_0004;

/// The processor's name as it spells it, without what is no ASCII; empty if it has none.
pub fn brand() -> ArrayString<48> {
    let mut name = ArrayString::new();
    if __cpuid_count(cpuid::EXTENDED_RANGE, 0).eax < *BRAND.end() {
        return name;
    }
    for leaf in BRAND {
        let CpuidResult { eax, ebx, ecx, edx } = __cpuid_count(leaf, 0);
        let bytes = [eax, ebx, ecx, edx].map(u32::to_le_bytes);
        for byte in bytes.into_iter().flatten() {
            if byte.is_ascii_graphic() || byte == b' ' {
                // There is room for all of them.
                let _ = name.try_push(char::from(byte));
            }
        }
    }
    name
}

/// The features that the hypervisor asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Leaf 1.
    pub basic: FeaturesEcx,
    /// Leaf 7.
    pub protections: MoreFeaturesEbx,
    /// Leaf 7.
    pub stores: MoreFeaturesEcx,
    /// Leaf 0x8000_0001.
    pub extended: ExtendedFeaturesEcx,
    /// Leaf 0x8000_0001.
    pub paging: ExtendedFeaturesEdx,
    /// Leaf 0x8000_0007: the time-stamp counter counts at the same speed in all states
    /// of the processor.
    pub has_invariant_tsc: bool,
    /// Leaf 0x8000_0008.
    pub speculation: AddressSizesEbx,
    /// Leaf 0x8000_0008: how many bits a physical address has.
    pub physical_bits: u8,
    /// Leaf 0x8000_000a; empty without SVM.
    pub svm: SvmFeaturesEdx,
    /// Leaf 0x8000_000a: how many address-space identifiers there are.
    pub asids: u32,
    /// Leaf 0x15: cycles of the time-stamp counter in a second, if it tells.
    pub tsc_hz: Option<u64>,
}

impl Features {
    /// Asks `cpuid` (leaf, subleaf), which is the instruction or a fake of it.
    pub fn ask(cpuid: impl Fn(u32, u32) -> CpuidResult) -> Self {
        let last = cpuid(0, 0).eax;
        let last_extended = cpuid(cpuid::EXTENDED_RANGE, 0).eax;
        let leaf = |leaf: u32, subleaf: u32| {
            let last = if leaf < cpuid::EXTENDED_RANGE {
                last
            } else {
                last_extended
            };
            if leaf <= last {
                cpuid(leaf, subleaf)
            } else {
                CpuidResult {
                    eax: 0,
                    ebx: 0,
                    ecx: 0,
                    edx: 0,
                }
            }
        };
        let more = leaf(cpuid::MORE_FEATURES, 0);
        let extended = leaf(cpuid::EXTENDED_FEATURES, 0);
        let sizes = leaf(cpuid::ADDRESS_SIZES, 0);
        let [physical_bits, ..] = sizes.eax.to_le_bytes();
        let has_svm = ExtendedFeaturesEcx::from(extended.ecx).svm();
        let svm = leaf(cpuid::SVM_FEATURES, 0);
        let tsc = leaf(cpuid::TIME_STAMP_COUNTER, 0);
        Self {
            basic: leaf(cpuid::FEATURES, 0).ecx.into(),
            protections: more.ebx.into(),
            stores: more.ecx.into(),
            extended: extended.ecx.into(),
            paging: extended.edx.into(),
            has_invariant_tsc: leaf(POWER_MANAGEMENT, 0).edx & INVARIANT_TSC != 0,
            speculation: sizes.ebx.into(),
            physical_bits,
            svm: if has_svm { svm.edx } else { 0 }.into(),
            asids: if has_svm { svm.ebx } else { 0 },
            // EBX / EAX cycles for each of ECX ticks in a second.
            tsc_hz: (u64::from(tsc.ecx) * u64::from(tsc.ebx))
                .checked_div(u64::from(tsc.eax))
                .filter(|&hz| hz != 0),
        }
    }

    /// Whether a hypervisor can run here.
    ///
    /// # Errors
    /// The first thing that it cannot do without.
    pub fn check(&self) -> Result<(), Refusal> {
        if !self.paging.nx() {
            return Err(Refusal::NoExecuteDisable);
        }
        if !self.basic.x2apic() {
            return Err(Refusal::NoX2apic);
        }
        match (self.extended.svm(), self.basic.vmx()) {
            (false, false) => return Err(Refusal::NoVirtualisation),
            (false, true) => return Err(Refusal::VmxOnly),
            (true, _) if !self.svm.np() => return Err(Refusal::NoNestedPaging),
            (true, _) => {}
        }
        if !self.stores.movdir64b() {
            return Err(Refusal::NoMovdir64b);
        }
        Ok(())
    }
}

/// What the processor that asked first can do. The processors of a machine do
/// not differ in what is asked here.
pub fn features() -> &'static Features {
    FEATURES.call_once(|| Features::ask(__cpuid_count))
}

/// Whether page tables may have entries for 1 GiB.
pub(crate) fn has_gib_pages() -> bool {
    features().paging.gib_pages()
}

/// What keeps the kernel from executing or touching pages of user mode.
pub(crate) fn supervisor_protections() -> Cr4Flags {
    let mut flags = Cr4Flags::empty();
    let protections = features().protections;
    flags.set(
        Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        protections.smep(),
    );
    flags.set(
        Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION,
        protections.smap(),
    );
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A processor with everything; `change` takes something away.
    fn machine(change: impl Fn(u32, &mut CpuidResult)) -> Features {
        Features::ask(|leaf, _| {
            let mut result = CpuidResult {
                eax: 0,
                ebx: 0,
                ecx: 0,
                edx: 0,
            };
            match leaf {
                0 => result.eax = 0x16,
                1 => result.ecx = 1 << 21 | 1 << 26,
                7 => (result.ebx, result.ecx) = (1 << 7 | 1 << 20, 1 << 28 | 1 << 29),
                0x15 => (result.eax, result.ebx, result.ecx) = (2, 160, 25_000_000),
                0x8000_0000 => result.eax = 0x8000_001f,
                0x8000_0001 => (result.ecx, result.edx) = (1 << 2, 1 << 20 | 1 << 26),
                0x8000_0008 => result.eax = 0x3030,
                0x8000_000a => (result.ebx, result.edx) = (16, 1),
                _ => {}
            }
            change(leaf, &mut result);
            result
        })
    }

    #[test]
    fn a_machine_with_everything_will_do() {
        let features = machine(|_, _| {});
        assert_eq!(features.check(), Ok(()));
        assert_eq!(features.tsc_hz, Some(2_000_000_000));
        assert_eq!(features.physical_bits, 48);
        assert_eq!(features.asids, 16);
    }

    #[test]
    fn each_lack_has_its_refusal() {
        for (leaf, mask_ecx, mask_edx, refusal) in [
            (1, 1 << 21, 0, Refusal::NoX2apic),
            (7, 1 << 28, 0, Refusal::NoMovdir64b),
            (0x8000_0001, 0, 1 << 20, Refusal::NoExecuteDisable),
            (0x8000_0001, 1 << 2, 0, Refusal::NoVirtualisation),
            (0x8000_000a, 0, 1, Refusal::NoNestedPaging),
        ] {
            let features = machine(|asked, result| {
                if asked == leaf {
                    result.ecx &= !mask_ecx;
                    result.edx &= !mask_edx;
                }
            });
            assert_eq!(features.check(), Err(refusal));
        }
    }

    #[test]
    fn vmx_alone_is_told_apart_from_nothing() {
        let features = machine(|leaf, result| match leaf {
            1 => result.ecx |= 1 << 5,
            0x8000_0001 => result.ecx = 0,
            _ => {}
        });
        assert_eq!(features.check(), Err(Refusal::VmxOnly));
    }

    #[test]
    fn leaves_beyond_the_last_are_not_believed() {
        let features = machine(|leaf, result| {
            if leaf == 0 {
                result.eax = 6;
            }
        });
        assert_eq!(features.tsc_hz, None);
        assert!(!features.stores.movdir64b());
    }

    #[test]
    fn a_tsc_leaf_without_a_ratio_tells_nothing() {
        let features = machine(|leaf, result| {
            if leaf == 0x15 {
                result.eax = 0;
            }
        });
        assert_eq!(features.tsc_hz, None);
    }
}
