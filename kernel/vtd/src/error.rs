//! What can go wrong.

use core::error;
use core::fmt;

use hwspec::pci::{Pasid, SourceId};
use hwspec::vtd::{Cap, Ecap, QueueErrorInfo};
use x86_64::PhysAddr;

use crate::{DomainId, InterruptIndex, Iova};

/// Why something was not done. Nothing was changed unless a variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A register reads as all ones: there is no unit, or no longer.
    DeviceGone {
        /// Which register.
        register: RegisterName,
    },
    /// The unit did not do in time what it was told. It may do so later: what it was
    /// told about must stay as it is.
    Timeout {
        /// The register that would have shown it.
        register: RegisterName,
        /// What it said last.
        value: u64,
    },
    /// The register window is smaller than a page.
    WindowTooSmall {
        /// Its size.
        len_bytes: usize,
    },
    /// The fault recording registers are outside of the register window.
    FaultRegistersOutside {
        /// Where they end.
        end: usize,
        /// The size of the window.
        len_bytes: usize,
    },

    /// The unit has no scalable mode (ECAP.SMTS).
    NoScalableMode(Ecap),
    /// The unit does not know PASIDs (ECAP.PASID).
    NoPasid(Ecap),
    /// The unit has no invalidation queue (ECAP.QI).
    NoQueuedInvalidation(Ecap),
    /// The unit does not remap interrupts (ECAP.IR).
    NoInterruptRemapping(Ecap),
    /// The unit does not know x2APIC ids (ECAP.EIM).
    NoExtendedInterruptMode(Ecap),
    /// The unit translates neither in a first nor in a second stage (ECAP.FSTS, SSTS).
    NoTranslation(Ecap),
    /// The unit wants write buffers to be flushed by hand (CAP.RWBF), which no unit
    /// with scalable mode does.
    WriteBufferFlushing(Cap),
    /// The unit has a number of domains that is not defined (CAP.ND).
    UnknownDomainCount(Cap),
    /// The unit has no table depth that is defined (CAP.SAGAW).
    NoTableDepth(Cap),
    /// The unit translates addresses of fewer bits than guests have (CAP.MGAW, SAGAW).
    AddressWidth {
        /// What it can do.
        offered_bits: u32,
        /// What is needed.
        needed_bits: u32,
    },

    /// There are no more frames.
    OutOfFrames {
        /// How many were asked for.
        count_pages: usize,
    },
    /// There is no more heap.
    OutOfHeap,
    /// All domain-ids are in use.
    OutOfDomains {
        /// How many there are.
        count: u32,
    },
    /// All interrupt remapping entries are in use.
    OutOfInterrupts {
        /// How many there are.
        count: usize,
    },

    /// There is no such domain.
    UnknownDomain(DomainId),
    /// The domain is in use.
    DomainInUse {
        /// Which domain.
        domain: DomainId,
        /// How many PASIDs refer to it.
        users: usize,
    },
    /// The device is not allowed.
    UnknownDevice(SourceId),
    /// The device is allowed already.
    DeviceAllowed(SourceId),
    /// The device may not use PASIDs.
    DeviceWithoutPasids(SourceId),
    /// The PASID is one that requests without PASID have, or beyond what the unit or
    /// its tables can take.
    PasidOutOfRange {
        /// Which PASID.
        pasid: Pasid,
        /// The highest that is possible; the lowest is 1.
        highest: Pasid,
    },
    /// The PASID is in use on this device.
    PasidInUse {
        /// Which device.
        source: SourceId,
        /// Which PASID.
        pasid: Pasid,
    },
    /// The PASID is not in use on this device.
    PasidUnused {
        /// Which device.
        source: SourceId,
        /// Which PASID.
        pasid: Pasid,
    },
    /// There is no such interrupt.
    UnknownInterrupt(InterruptIndex),

    /// A range is empty or not one of whole pages.
    NotPages {
        /// Where it begins for the device.
        iova: Iova,
        /// How long it is.
        len_bytes: u64,
    },
    /// A range goes beyond the addresses that the domain has.
    BeyondDomain {
        /// Where it begins for the device.
        iova: Iova,
        /// How many bits addresses have.
        address_bits: u32,
    },
    /// The physical addresses are not those of whole pages.
    NotFrames {
        /// Where they begin.
        physical: PhysAddr,
        /// How long the range is.
        len_bytes: u64,
    },
    /// A range touches FEE0_0000h to FEEF_FFFFh, where interrupts go.
    InterruptRange {
        /// Where it begins.
        address: u64,
    },
    /// Something is mapped there.
    AlreadyMapped(Iova),
    /// Nothing is mapped there.
    NotMapped(Iova),
    /// There is a page that goes beyond the range.
    LargerPage(Iova),

    /// The unit refused an invalidation. What it was about may still be in its caches
    /// and must stay as it is. The queue goes on.
    InvalidationRefused {
        /// Why, if the unit says so.
        info: QueueErrorInfo,
        /// The first word of the descriptor.
        descriptor: u64,
    },
    /// A device did not answer an invalidation of its translation cache, though none
    /// was sent. What the invalidation was about may still be in use.
    DeviceTlbTimeout {
        /// The device, if the unit says so.
        source: SourceId,
    },
    /// The invalidation queue got stuck before and is not used any more.
    QueueStuck,
}

/// The registers that are waited for or that show that a unit is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterName {
    /// Capability Register.
    Cap,
    /// Extended Capability Register.
    Ecap,
    /// Global Status Register.
    Gsts,
    /// Fault Status Register.
    Fsts,
    /// Protected Memory Enable Register.
    Pmen,
    /// Invalidation Queue Head Register.
    Iqh,
    /// A fault recording register.
    Frcd,
}

impl fmt::Display for RegisterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cap => "CAP_REG",
            Self::Ecap => "ECAP_REG",
            Self::Gsts => "GSTS_REG",
            Self::Fsts => "FSTS_REG",
            Self::Pmen => "PMEN_REG",
            Self::Iqh => "IQH_REG",
            Self::Frcd => "FRCD_REG",
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extended = |f: &mut fmt::Formatter<'_>, what: &str, ecap: Ecap| {
            write!(
                f,
                "the IOMMU has no {what} (ECAP {:#018x})",
                ecap.into_bits()
            )
        };
        match *self {
            Self::DeviceGone { register } => {
                write!(f, "the IOMMU is gone: {register} reads as ones")
            }
            Self::Timeout { register, value } => {
                write!(f, "the IOMMU does not get done: {register} is {value:#x}")
            }
            Self::WindowTooSmall { len_bytes } => {
                write!(f, "the IOMMU has only {len_bytes:#x} bytes of registers")
            }
            Self::FaultRegistersOutside { end, len_bytes } => {
                write!(
                    f,
                    "the IOMMU's fault records end at {end:#x} of {len_bytes:#x}"
                )
            }
            Self::NoScalableMode(ecap) => extended(f, "scalable mode", ecap),
            Self::NoPasid(ecap) => extended(f, "PASIDs", ecap),
            Self::NoQueuedInvalidation(ecap) => extended(f, "queued invalidation", ecap),
            Self::NoInterruptRemapping(ecap) => extended(f, "interrupt remapping", ecap),
            Self::NoExtendedInterruptMode(ecap) => extended(f, "x2APIC mode", ecap),
            Self::NoTranslation(ecap) => extended(f, "first or second stage", ecap),
            Self::WriteBufferFlushing(cap) => {
                write!(
                    f,
                    "the IOMMU needs its write buffers flushed (CAP {:#018x})",
                    cap.into_bits()
                )
            }
            Self::UnknownDomainCount(cap) => {
                write!(
                    f,
                    "the IOMMU's number of domains is undefined (CAP {:#018x})",
                    cap.into_bits()
                )
            }
            Self::NoTableDepth(cap) => {
                write!(
                    f,
                    "the IOMMU's table depth is undefined (CAP {:#018x})",
                    cap.into_bits()
                )
            }
            Self::AddressWidth {
                offered_bits,
                needed_bits,
            } => write!(
                f,
                "the IOMMU translates {offered_bits} bits of {needed_bits}"
            ),
            Self::OutOfFrames { count_pages } => {
                write!(f, "no {count_pages} pages for the IOMMU")
            }
            Self::OutOfHeap => f.write_str("no heap for the IOMMU"),
            Self::OutOfDomains { count } => write!(f, "all {count} domains are in use"),
            Self::OutOfInterrupts { count } => {
                write!(f, "all {count} interrupt remapping entries are in use")
            }
            Self::UnknownDomain(domain) => write!(f, "there is no {domain}"),
            Self::DomainInUse { domain, users } => {
                write!(f, "{domain} is in use by {users} PASIDs")
            }
            Self::UnknownDevice(source) => write!(f, "DMA of {source} is blocked"),
            Self::DeviceAllowed(source) => write!(f, "DMA of {source} is allowed already"),
            Self::DeviceWithoutPasids(source) => write!(f, "{source} may not use PASIDs"),
            Self::PasidOutOfRange { pasid, highest } => {
                write!(f, "PASID {pasid} is not from 0x1 to {highest}")
            }
            Self::PasidInUse { source, pasid } => {
                write!(f, "PASID {pasid} of {source} is in use")
            }
            Self::PasidUnused { source, pasid } => {
                write!(f, "PASID {pasid} of {source} is not in use")
            }
            Self::UnknownInterrupt(index) => write!(f, "there is no {index}"),
            Self::NotPages { iova, len_bytes } => {
                write!(f, "{len_bytes:#x} bytes at {iova} are not whole pages")
            }
            Self::BeyondDomain { iova, address_bits } => {
                write!(f, "a range at {iova} goes beyond {address_bits} bits")
            }
            Self::NotFrames {
                physical,
                len_bytes,
            } => {
                let physical = physical.as_u64();
                write!(
                    f,
                    "{len_bytes:#x} bytes at physical {physical:#x} are not whole frames"
                )
            }
            Self::InterruptRange { address } => {
                write!(f, "a range at {address:#x} touches the interrupt range")
            }
            Self::AlreadyMapped(iova) => write!(f, "{iova} is mapped already"),
            Self::NotMapped(iova) => write!(f, "{iova} is not mapped"),
            Self::LargerPage(iova) => write!(f, "{iova} is in a larger page"),
            Self::InvalidationRefused { info, descriptor } => {
                write!(
                    f,
                    "the IOMMU refused invalidation {descriptor:#x}, reason {}",
                    info.0
                )
            }
            Self::DeviceTlbTimeout { source } => {
                write!(f, "{source} did not answer an invalidation of its cache")
            }
            Self::QueueStuck => f.write_str("the IOMMU's invalidation queue is stuck"),
        }
    }
}

impl error::Error for Error {}
