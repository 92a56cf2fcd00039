//! What is in use, for people who ask.

use hwio::{Clock, DmaPages, Registers};
use hwspec::pci::SourceId;

use crate::{DomainId, RemappingUnit};

/// How much of something is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    /// So much.
    pub used: usize,
    /// So much there is.
    pub total: usize,
}

/// A domain, and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainUse {
    /// Which.
    pub id: DomainId,
    /// Frames of its tables.
    pub count_tables: usize,
    /// PASIDs, of all devices, that lead to it.
    pub count_pasids: usize,
}

/// A device whose DMA is not blocked altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceUse {
    /// Its requester id.
    pub source: SourceId,
    /// Whether it may use PASIDs; others reach what firmware reserved for them.
    pub has_pasids: bool,
    /// PASIDs that lead somewhere, the one of requests without PASID included.
    pub count_pasids: usize,
}

impl<R: Registers, P: DmaPages, C: Clock> RemappingUnit<R, P, C> {
    /// How many domains there are, the one in which nothing is mapped included.
    pub fn count_domains(&self) -> usize {
        self.tables.domains.len()
    }

    /// The domain at this place in the order of their numbers.
    pub fn domain_at(&self, place: usize) -> Option<DomainUse> {
        let domain = self.tables.domains.get(place)?;
        let devices = self.tables.devices.iter();
        let leading = devices.flat_map(|device| device.directory.domains());
        Some(DomainUse {
            id: domain.id,
            count_tables: domain.table.count_tables(),
            count_pasids: leading.filter(|&id| id == domain.id).count(),
        })
    }

    /// The device at this place in the order in which they were allowed.
    pub fn device_at(&self, place: usize) -> Option<DeviceUse> {
        let device = self.tables.devices.get(place)?;
        Some(DeviceUse {
            source: device.source(),
            has_pasids: device.has_pasids(),
            count_pasids: device.directory.domains().count(),
        })
    }

    /// How many entries of the interrupt remapping table are allocated.
    pub fn interrupts(&self) -> InUse {
        self.tables.interrupts.in_use()
    }
}
