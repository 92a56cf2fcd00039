//! Where the guest runs. All that differs between Weir's virtual machine and the bare
//! lab box is decided here:
//!
//! | | under Weir | bare |
//! |---|---|---|
//! | recognised by | CPUID 0x4000_0000 | the lack of it |
//! | configuration space | at 0xE000_0000 | where the chipset says |
//! | time-stamp counter | CPUID 0x4000_0001 | a guess, for time limits only |
//! | results | hypercall | console |
//! | DSA | configured by Weir | configured by the guest: [`crate::dsa`] |
//!
//! What an interrupt handle is, the DSA's own CMDCAP says in both.
#![expect(unsafe_code, reason = "reads the chipset's registers")]

use core::arch::x86_64::__cpuid_count;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::port::Port;

use crate::Features;

/// CPUID leaves of hypervisors.
const LEAF_VENDOR: u32 = 0x4000_0000;
const LEAF_TIME: u32 = 0x4000_0001;
const VENDOR: [[u8; 4]; 3] = [*b"Weir", *b"Weir", *b"Weir"];
/// Where Weir puts PCI configuration space.
const WEIR_ECAM: u64 = 0xe000_0000;

/// The host bridge's PCIEXBAR by the old ports.
/// [Intel 3 Series Express Chipset Family, "PCIEXBAR"]
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const PCIEXBAR: u32 = 0x8000_0060;
const PCIEXBAR_BASE: u64 = 0xf000_0000;
/// A clock at least as fast as that of any box: limits get longer, not shorter.
const BARE_TSC_KHZ: NonZeroU64 = NonZeroU64::new(4_000_000).expect("not 0");

static IS_WEIR: AtomicBool = AtomicBool::new(false);

/// Where the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// In a virtual machine of Weir.
    Weir {
        /// Version of the interface.
        version: u32,
        /// kHz of the time-stamp counter.
        tsc_khz: NonZeroU64,
    },
    /// On the lab box itself.
    Bare,
}

impl Platform {
    pub(crate) fn detect(features: Features) -> Self {
        if !features.hypervisor {
            return Self::Bare;
        }
        let leaf = __cpuid_count(LEAF_VENDOR, 0);
        let vendor = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
        if vendor != VENDOR || leaf.eax < LEAF_TIME {
            return Self::Bare;
        }
        IS_WEIR.store(true, Ordering::Relaxed);
        let leaf = __cpuid_count(LEAF_TIME, 0);
        Self::Weir {
            version: leaf.eax,
            tsc_khz: NonZeroU64::new(leaf.ebx.into()).unwrap_or(BARE_TSC_KHZ),
        }
    }

    /// Whether this is a virtual machine of Weir.
    pub fn is_weir(&self) -> bool {
        matches!(self, Self::Weir { .. })
    }

    /// kHz of the time-stamp counter.
    pub(crate) fn tsc_khz(&self) -> NonZeroU64 {
        match self {
            Self::Weir { tsc_khz, .. } => *tsc_khz,
            Self::Bare => BARE_TSC_KHZ,
        }
    }

    /// Whether the two old interrupt controllers are there.
    pub(crate) fn has_legacy_interrupts(&self) -> bool {
        !self.is_weir()
    }

    /// Where the configuration space of bus 0 begins.
    pub(crate) fn configuration_space(&self) -> u64 {
        match self {
            Self::Weir { .. } => WEIR_ECAM,
            Self::Bare => {
                // SAFETY: selects a register of the host bridge, for the next access.
                unsafe { Port::<u32>::new(CONFIG_ADDRESS).write(PCIEXBAR) };
                // SAFETY: reading it changes nothing.
                let base = unsafe { Port::<u32>::new(CONFIG_DATA).read() };
                u64::from(base) & PCIEXBAR_BASE
            }
        }
    }
}

/// Whether this is a virtual machine of Weir.
pub(crate) fn is_weir() -> bool {
    IS_WEIR.load(Ordering::Relaxed)
}
