//! Devices, and what their PASIDs lead to.

use hwio::{Clock, DmaPages, FrameSource, PAGE_SIZE, Registers};
use hwspec::pci::{Pasid, SourceId};
use hwspec::vtd::{PasidEntry, PasidEntry0, PasidEntry1, PasidEntry2, Pgtt};

use crate::device_tables::{PasidDirectory, RID_PASID};
use crate::memory::{page_number, reserve_one};
use crate::page_table::Mapping;
use crate::unit::ReservedRegion;
use crate::{Access, DomainId, Error, Iova, RemappingUnit, Stage, invalidation};

/// A device whose DMA is not blocked altogether.
#[derive(Debug)]
pub(crate) struct Device<P> {
    source: SourceId,
    pub(crate) directory: PasidDirectory<P>,
    has_pasids: bool,
}

impl<P> Device<P> {
    pub(crate) fn source(&self) -> SourceId {
        self.source
    }

    pub(crate) fn has_pasids(&self) -> bool {
        self.has_pasids
    }
}

impl<R: Registers, P: DmaPages, C: Clock> RemappingUnit<R, P, C> {
    /// Lets a device use PASIDs, none of which leads anywhere yet. Its requests without
    /// PASID reach nothing, and are recorded as faults of their addresses.
    ///
    /// # Errors
    /// If it is allowed already, there is no memory, or the unit does not confirm.
    pub fn allow_device(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        source: SourceId,
    ) -> Result<(), Error> {
        self.add_device(frames, source, Self::NOTHING, true)
    }

    /// Blocks a device's DMA. What its PASIDs had is free again.
    ///
    /// # Errors
    /// If it is not allowed; or if the unit does not confirm, in which case the device
    /// may go on for a while, and this can be tried again.
    pub fn block_device(&mut self, source: SourceId) -> Result<(), Error> {
        let index = self.device_index(source)?;
        self.tables.root.clear_context(source);
        self.invalidate(&invalidation::context_cleared(source))?;
        self.tables.devices.remove(index);
        Ok(())
    }

    /// Lets a device's requests with `pasid` go through `domain`. Any number of PASIDs
    /// and devices may share one.
    ///
    /// # Errors
    /// If the device may not use PASIDs, the PASID is in use or out of range, there is
    /// no such domain or no memory, or the unit does not confirm.
    pub fn set_pasid(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        source: SourceId,
        pasid: Pasid,
        domain: DomainId,
    ) -> Result<(), Error> {
        let highest = self.capabilities.highest_pasid;
        if pasid == RID_PASID || pasid > highest {
            return Err(Error::PasidOutOfRange { pasid, highest });
        }
        let entry = self.pasid_entry(domain)?;
        let device = self.device_mut(source)?;
        if !device.has_pasids {
            return Err(Error::DeviceWithoutPasids(source));
        }
        if device.directory.domain(pasid).is_some() {
            return Err(Error::PasidInUse { source, pasid });
        }
        device.directory.add_table(frames, pasid)?;
        device.directory.write_entry(pasid, &entry);
        self.announce_entry()
    }

    /// Lets a device's requests with `pasid` go nowhere any more. When this returns, none
    /// is on its way.
    ///
    /// # Errors
    /// If the PASID is not in use; or if the unit does not confirm, in which case it
    /// stays in use, and this can be tried again.
    pub fn clear_pasid(&mut self, source: SourceId, pasid: Pasid) -> Result<(), Error> {
        let stage = self.capabilities.stage;
        let device = self.device_mut(source)?;
        let domain = device
            .directory
            .domain(pasid)
            .filter(|_| pasid != RID_PASID);
        let domain = domain.ok_or(Error::PasidUnused { source, pasid })?;
        device.directory.clear_present(pasid);
        self.invalidate(&invalidation::pasid_cleared(stage, domain, pasid))?;
        self.device_mut(source)?.directory.clear_rest(pasid);
        Ok(())
    }

    /// Lets a device reach a reserved region at its own addresses, without PASID.
    pub(crate) fn allow_reserved(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        region: &ReservedRegion,
    ) -> Result<(), Error> {
        let source = region.source;
        let domain = match self.device_mut(source) {
            Ok(device) => device.directory.domain(RID_PASID),
            Err(_) => None,
        };
        let domain = match domain {
            Some(domain) => domain,
            None => {
                let domain = self.create_domain(frames)?;
                self.add_device(frames, source, domain, false)?;
                domain
            }
        };
        let base = region.base.as_u64();
        let mapping = Mapping {
            iova: Iova(base),
            physical: region.base,
            // Empty if the limit is below the base, which is refused as such.
            len_bytes: (region.limit.as_u64() + 1).saturating_sub(base),
            access: Access::ReadWrite,
        };
        match self.map(frames, domain, mapping) {
            Err(Error::AlreadyMapped(_)) => self.allow_missing_pages(frames, domain, mapping),
            result => result,
        }
    }

    /// Maps those pages of a reserved region that no other region of the device has,
    /// which would lead to the same addresses.
    fn allow_missing_pages(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        domain: DomainId,
        region: Mapping,
    ) -> Result<(), Error> {
        for offset in (0..region.len_bytes).step_by(PAGE_SIZE) {
            let page = Mapping {
                iova: Iova(region.iova.0 + offset),
                physical: region.physical + offset,
                len_bytes: PAGE_SIZE as u64,
                ..region
            };
            match self.map(frames, domain, page) {
                Ok(()) | Err(Error::AlreadyMapped(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives a device tables, with requests without PASID going through `rid_domain`.
    fn add_device(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        source: SourceId,
        rid_domain: DomainId,
        has_pasids: bool,
    ) -> Result<(), Error> {
        if self.device_index(source).is_ok() {
            return Err(Error::DeviceAllowed(source));
        }
        let entry = self.pasid_entry(rid_domain)?;
        let tables = &mut *self.tables;
        reserve_one(&mut tables.devices)?;
        let mut directory = PasidDirectory::new(frames, self.capabilities.ecap.c())?;
        directory.add_table(frames, RID_PASID)?;
        directory.write_entry(RID_PASID, &entry);
        tables.root.add_context_table(frames, source)?;
        // The last thing is the context entry: nothing above can fail any more.
        let address = directory.physical_address();
        tables.devices.push(Device {
            source,
            directory,
            has_pasids,
        });
        tables.root.write_context(source, address, has_pasids);
        self.announce_entry()
    }

    /// A PASID-table entry for `domain`. What the unit does not have is reserved.
    fn pasid_entry(&mut self, domain: DomainId) -> Result<PasidEntry, Error> {
        let capabilities = self.capabilities;
        let root = page_number(self.domain_mut(domain)?.table.root());
        let word0 = PasidEntry0::new().with_p(true);
        let word1 = PasidEntry1::new()
            .with_did(domain.number())
            .with_pwsnp(capabilities.ecap.smpwcs())
            // What devices read and write is coherent, whatever they ask for.
            .with_pgsnp(capabilities.ecap.sc());
        Ok(match capabilities.stage {
            Stage::Second => PasidEntry {
                word0: word0
                    .with_pgtt(Pgtt::SECOND_STAGE)
                    .with_aw(capabilities.address_width_code())
                    .with_ssptptr(root),
                word1,
                ..PasidEntry::default()
            },
            Stage::First => PasidEntry {
                word0: word0.with_pgtt(Pgtt::FIRST_STAGE),
                word1,
                word2: PasidEntry2::new().with_fsptptr(root),
                ..PasidEntry::default()
            },
        })
    }

    fn device_index(&self, source: SourceId) -> Result<usize, Error> {
        let mut devices = self.tables.devices.iter();
        let found = devices.position(|device| device.source == source);
        found.ok_or(Error::UnknownDevice(source))
    }

    fn device_mut(&mut self, source: SourceId) -> Result<&mut Device<P>, Error> {
        let mut devices = self.tables.devices.iter_mut();
        let found = devices.find(|device| device.source == source);
        found.ok_or(Error::UnknownDevice(source))
    }
}
