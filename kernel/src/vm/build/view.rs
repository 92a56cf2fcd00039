//! What a guest holds, for people who ask.

use hwspec::pci::Pasid;

use super::Parts;
use crate::host::iommu::UnitIndex;
use crate::virt::backend::Backend;

/// A host PASID of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPasid {
    /// Which of its virtual DSAs has it.
    pub vdsa: usize,
    /// Its place there: first come the queues, by number, and then the guest's own PASIDs
    /// in the order of the configuration.
    pub place: usize,
    /// The number of the physical DSA.
    pub dsa: u8,
    /// The number of the domain that it leads to.
    pub domain: u16,
}

/// What a domain of a guest reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The guest's RAM.
    Ram,
    /// That, and Weir's window for checked queues.
    RamAndWindow,
}

impl<B: Backend> Parts<B> {
    /// What a host PASID is to this guest, if it is its own.
    pub fn find_pasid(&self, pasid: Pasid) -> Option<HeldPasid> {
        let mut held = self.held.iter().enumerate();
        held.find_map(|(vdsa, held)| {
            let mut pasids = held.pasids.iter().enumerate();
            let (place, &(_, domain)) = pasids.find(|(_, (own, _))| *own == pasid)?;
            Some(HeldPasid {
                vdsa,
                place,
                dsa: held.accelerator.number(),
                domain: held.domains.get(domain)?.number(),
            })
        })
    }

    /// What a domain reaches, if it is this guest's.
    pub fn find_domain(&self, unit: UnitIndex, number: u16) -> Option<Reach> {
        self.held.iter().find_map(|held| {
            let mut domains = held.domains.iter();
            let place =
                domains.position(|domain| domain.unit() == unit && domain.number() == number)?;
            Some(match place {
                0 => Reach::Ram,
                _ => Reach::RamAndWindow,
            })
        })
    }
}
