//! Address spaces.

use hwio::{Clock, DmaPages, FrameSource, Registers};

use crate::memory::insert;
use crate::page_table::{Mapping, PageTable};
use crate::{DomainId, Error, Iova, RemappingUnit, Stage, invalidation};

/// An address space under its number.
#[derive(Debug)]
pub(crate) struct Domain<P> {
    pub(crate) id: DomainId,
    pub(crate) table: PageTable<P>,
}

impl<R: Registers, P: DmaPages, C: Clock> RemappingUnit<R, P, C> {
    /// Makes an address space in which nothing is mapped.
    ///
    /// # Errors
    /// If there are no more domain-ids or no memory.
    pub fn create_domain(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
    ) -> Result<DomainId, Error> {
        let domains = &mut self.tables.domains;
        // The first number that is missing in the list.
        let missing = (1_u32..).zip(domains.iter());
        let missing =
            missing.take_while(|(number, domain)| u32::from(domain.id.number()) == *number);
        let index = missing.count();
        let count = (1_u32 << self.capabilities.domain_id_bits) - 1;
        let id = u32::try_from(index + 1)
            .ok()
            .filter(|&number| number <= count);
        let id = id.and_then(|number| u16::try_from(number).ok());
        let id = DomainId::new(id.ok_or(Error::OutOfDomains { count })?);
        let table = PageTable::new(&self.capabilities, frames)?;
        insert(domains, index, Domain { id, table })?;
        Ok(id)
    }

    /// Takes an address space away. Its tables go back to where they came from.
    ///
    /// # Errors
    /// If a PASID still has it; or if the unit does not confirm, in which case the
    /// domain stays and this can be tried again.
    pub fn destroy_domain(&mut self, domain: DomainId) -> Result<(), Error> {
        let index = self.domain_index(domain)?;
        let devices = &self.tables.devices;
        let of_devices = devices.iter().flat_map(|device| device.directory.domains());
        let users = of_devices.filter(|&used| used == domain).count();
        if users > 0 || domain == Self::NOTHING {
            return Err(Error::DomainInUse { domain, users });
        }
        self.invalidate(&invalidation::domain_ended(domain))?;
        self.tables.domains.remove(index);
        Ok(())
    }

    /// Lets devices reach a range through this domain: all of it or, after an error,
    /// nothing of it.
    ///
    /// # Errors
    /// If the range is not one of pages, goes too far, is mapped in part already or
    /// touches the interrupt range on either side; if there is no memory for tables; or
    /// if the unit does not confirm.
    pub fn map(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        domain: DomainId,
        mapping: Mapping,
    ) -> Result<(), Error> {
        self.domain_mut(domain)?.table.map(frames, mapping)?;
        // A unit in caching mode has heard that nothing was there; of the first stage
        // it does not cache that. [VT-d 5.10, 6.1 "Caching Mode"]
        if self.caches_absence() && self.capabilities.stage == Stage::Second {
            self.forget_pages(domain, mapping.iova, mapping.len_bytes)?;
        }
        Ok(())
    }

    /// Lets devices not reach a range any more, which may consist of several ranges
    /// that were mapped, but not of parts of their pages. When this returns, no device
    /// uses it.
    ///
    /// # Errors
    /// If not all of the range is mapped, or a page goes beyond it; nothing is changed
    /// then. If the unit does not confirm, devices may still use the range.
    pub fn unmap(&mut self, domain: DomainId, iova: Iova, len_bytes: u64) -> Result<(), Error> {
        self.domain_mut(domain)?.table.unmap(iova, len_bytes)?;
        self.forget_pages(domain, iova, len_bytes)
    }

    /// How many frames the tables of a domain take.
    ///
    /// # Errors
    /// If there is no such domain.
    pub fn count_tables(&self, domain: DomainId) -> Result<usize, Error> {
        let index = self.domain_index(domain)?;
        let found = self.tables.domains.get(index);
        found
            .map(|found| found.table.count_tables())
            .ok_or(Error::UnknownDomain(domain))
    }

    fn forget_pages(&mut self, domain: DomainId, iova: Iova, len_bytes: u64) -> Result<(), Error> {
        let (cap, stage) = (self.capabilities.cap, self.capabilities.stage);
        let pages = invalidation::pages_changed(cap, stage, domain, iova, len_bytes);
        self.invalidate(&[pages])
    }

    fn domain_index(&self, domain: DomainId) -> Result<usize, Error> {
        let found = self
            .tables
            .domains
            .binary_search_by_key(&domain, |found| found.id);
        found.map_err(|_| Error::UnknownDomain(domain))
    }

    /// The domain of that number.
    pub(crate) fn domain_mut(&mut self, domain: DomainId) -> Result<&mut Domain<P>, Error> {
        let index = self.domain_index(domain)?;
        let found = self.tables.domains.get_mut(index);
        found.ok_or(Error::UnknownDomain(domain))
    }
}
