//! What can go wrong on the physical side.

use core::error::Error;
use core::fmt;

use hwspec::pci::SourceId;
use x86_64::PhysAddr;

use super::pasids::PasidError;
use super::pci::PciError;
use super::routes::NoVector;
use super::service::ClientError;
use crate::mm::MapError;

/// Why something physical was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// Something about a PCI function.
    Pci(PciError),
    /// A device's memory or registers could not be mapped.
    Map(&'static str, MapError),
    /// The IOMMU with registers at this address.
    Iommu(PhysAddr, vtd::Error),
    /// No IOMMU is for this device.
    NoIommu(SourceId),
    /// There are more IOMMUs than that.
    TooManyIommus(usize),
    /// A host PASID.
    Pasid(PasidError),
    /// The accelerator at this address.
    Dsa(SourceId, dsa::Error),
    /// A client of an accelerator.
    Client(ClientError),
    /// The physical side was brought up before.
    Twice,
    /// No vector is left.
    NoVector(NoVector),
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(error) => error.fmt(f),
            Self::Map(what, error) => write!(
                f,
                "{what} cannot be mapped: {error}; update the BIOS, which put it there"
            ),
            Self::Iommu(address, error) => {
                write!(f, "the IOMMU at {:#x}: {error}", address.as_u64())?;
                if matches!(error, vtd::Error::NoScalableMode(_)) {
                    f.write_str(
                        "; enable 'VT-d scalable mode' in the BIOS setup \
                         (QEMU: intel-iommu,x-scalable-mode=on,x-pasid-mode=on)",
                    )?;
                }
                Ok(())
            }
            Self::NoIommu(source) => write!(
                f,
                "{source} is behind no IOMMU; update the BIOS, whose DMAR table leaves it out"
            ),
            Self::TooManyIommus(most) => {
                write!(
                    f,
                    "the machine has more than {most} IOMMUs; switch some off"
                )
            }
            Self::Dsa(source, error) => write!(f, "{source}: {error}"),
            Self::Client(error) => error.fmt(f),
            Self::Twice => f.write_str("the machine's devices were taken over before"),
            Self::Pasid(error) => error.fmt(f),
            Self::NoVector(error) => error.fmt(f),
        }
    }
}

impl Error for HostError {}

impl From<PciError> for HostError {
    fn from(error: PciError) -> Self {
        Self::Pci(error)
    }
}

impl From<PasidError> for HostError {
    fn from(error: PasidError) -> Self {
        Self::Pasid(error)
    }
}

impl From<NoVector> for HostError {
    fn from(error: NoVector) -> Self {
        Self::NoVector(error)
    }
}
