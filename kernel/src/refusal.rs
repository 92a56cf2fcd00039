//! Why a machine will not do, and what to switch on.
#![forbid(unsafe_code)]

use core::error::Error;
use core::fmt;

use crate::acpi::AcpiError;
use crate::mm::OutOfMemory;

/// Something that the machine lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No NX bit.
    NoExecuteDisable,
    /// No x2APIC mode.
    NoX2apic,
    /// Neither SVM nor VMX.
    NoVirtualisation,
    /// VMX, and no SVM.
    VmxOnly,
    /// SVM is there, but firmware disabled it.
    SvmDisabled,
    /// SVM without nested paging.
    NoNestedPaging,
    /// No MOVDIR64B.
    NoMovdir64b,
    /// Firmware's tables are not usable.
    Acpi(AcpiError),
    /// There is no DMAR table: no IOMMU, or one that is switched off.
    NoIommu,
    /// There is an IOMMU, but firmware says it cannot remap interrupts.
    NoInterruptRemapping,
    /// There is no MCFG table.
    NoMmconfig,
    /// There is no DSA among the PCI devices.
    NoDsa,
    /// No free page below 640 KiB.
    NoLowMemory,
    /// Not even enough memory for the hypervisor itself.
    OutOfMemory(OutOfMemory),
    /// A processor came up but does not do what it is told.
    ProcessorSilent,
    /// Nothing tells how fast the time-stamp counter is.
    NoClock,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NoExecuteDisable => {
                "the processor has no NX bit; \
                 enable 'Execute Disable Bit' in the BIOS setup (QEMU: -cpu ...,+nx)"
            }
            Self::NoX2apic => {
                "the processor has no x2APIC mode; \
                 enable 'x2APIC' in the BIOS setup (QEMU: -cpu ...,+x2apic)"
            }
            Self::NoVirtualisation => {
                "the processor has neither SVM nor VMX; \
                 enable 'SVM Mode' or 'VT-x' in the BIOS setup (QEMU: -cpu ...,+svm,+npt)"
            }
            Self::VmxOnly => {
                "the processor virtualises by VMX, which this version does not drive; \
                 use the emulated lab box (emulator/labbox), which has SVM"
            }
            Self::SvmDisabled => {
                "SVM is locked off by firmware; enable 'SVM Mode' in the BIOS setup"
            }
            Self::NoNestedPaging => {
                "the processor has no nested paging; \
                 enable 'Nested Paging' in the BIOS setup (QEMU: -cpu ...,+npt)"
            }
            Self::NoMovdir64b => {
                "the processor has no MOVDIR64B; use one that has it, \
                 Sapphire Rapids or later (emulator/labbox: without --no-movdir64b)"
            }
            Self::Acpi(error) => {
                return write!(
                    f,
                    "{error}; switch ACPI on in the BIOS setup, or update the BIOS"
                );
            }
            Self::NoIommu => {
                "firmware reports no IOMMU (no DMAR table); \
                 enable 'VT-d' in the BIOS setup (QEMU: -device intel-iommu,intremap=on)"
            }
            Self::NoInterruptRemapping => {
                "the IOMMU has no interrupt remapping; \
                 enable 'Interrupt Remapping' in the BIOS setup (QEMU: intel-iommu,intremap=on)"
            }
            Self::NoMmconfig => {
                "firmware reports no memory-mapped PCI configuration space (no MCFG table); \
                 enable 'MMCONFIG' in the BIOS setup (QEMU: -machine q35)"
            }
            Self::NoDsa => {
                "there is no DSA among the PCI devices; enable 'DSA' in the BIOS setup \
                 (Socket Configuration, IIO, IOAT; emulator/labbox: without --no-dsa)"
            }
            Self::NoLowMemory => {
                "no page of memory below 640 KiB is free to start processors in; \
                 switch off what loads there in the BIOS setup (PXE, legacy option ROMs)"
            }
            Self::OutOfMemory(error) => {
                return write!(f, "{error} for the hypervisor; give the machine more");
            }
            Self::ProcessorSilent => {
                "a processor stopped answering while it was set up; \
                 switch the machine off and on"
            }
            Self::NoClock => {
                "nothing tells the speed of the time-stamp counter (neither CPUID leaf 15h nor \
                 an ACPI PM timer); enable the PM timer in the BIOS setup"
            }
        };
        f.write_str(text)
    }
}

impl Error for Refusal {}

impl From<AcpiError> for Refusal {
    fn from(error: AcpiError) -> Self {
        Self::Acpi(error)
    }
}

impl From<OutOfMemory> for Refusal {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}
