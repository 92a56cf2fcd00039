//! The processor: what CPUID tells, the local APIC in x2APIC mode, and AMD's
//! virtual machine control block.

pub mod apic;
pub mod cpuid;
pub mod svm;
