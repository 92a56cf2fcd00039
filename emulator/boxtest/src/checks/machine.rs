//! The IOMMU with a DSA behind it, and clients of that DSA: PASIDs with pages
//! of their own.

use crate::acpi;
use crate::boot::BootInfo;
use crate::dsa::descriptor::{Completion, Descriptor, status};
use crate::dsa::portal::{Portal, PortalKind};
use crate::dsa::{Command, Dsa};
use crate::memory::{PAGE_SIZE, Pages};
use crate::vtd::tables::{ContextEntry, PasidDirectory, PasidEntry, RootTable};
use crate::vtd::translation::{AddressSpace, Rights, Stage};
use crate::vtd::{Fault, Iommu, reason};

/// Where every client finds its pages: two of source, two of target, one for
/// completion records. The pages between them are never mapped. All are above
/// the page pool, so that no address means both.
pub(super) const SOURCE: u64 = 0x1000_0000;
pub(super) const TARGET: u64 = 0x1000_4000;
pub(super) const RECORD: u64 = 0x1000_8000;

const SOURCE_SEED: u64 = 3;
const TARGET_SEED: u64 = 4;

/// The box.
pub(super) struct Machine {
    pub(super) iommu: Iommu,
    pub(super) dsa: Dsa,
    pub(super) stage: Stage,
    /// Whether the DSA asks for translations before it accesses memory, and so
    /// learns which pages are missing.
    ats: bool,
    root: RootTable,
    directory: PasidDirectory,
}

impl Machine {
    /// Turns translation on for the DSA, with an empty address space for its
    /// requests without a PASID, and no PASID yet.
    pub(super) fn new(boot: &BootInfo) -> Self {
        let stage = match boot.option("stage") {
            Some("first") => Stage::First,
            _ => Stage::Second,
        };
        let ats = boot.option("ats") == Some("on");
        let base = acpi::iommu(boot.rsdp).expect("there is no IOMMU");
        let mut machine = Self {
            iommu: Iommu::new(base),
            dsa: Dsa::new(acpi::configuration_space(boot.rsdp), ats),
            stage,
            ats,
            root: RootTable::new(),
            directory: PasidDirectory::new(),
        };
        let nothing = PasidEntry::translated(Client::RID_DOMAIN, &AddressSpace::new(stage));
        machine.directory.set(Client::RID_PASID, nothing);
        machine.iommu.set_root_table(&machine.root);
        machine.set_context(machine.context());
        machine.iommu.translate(true);
        machine
    }

    /// The context entry that lets the DSA use its PASIDs.
    pub(super) fn context(&self) -> ContextEntry {
        self.directory.context_entry()
    }

    /// Sets the context entry of the DSA.
    pub(super) fn set_context(&mut self, entry: ContextEntry) {
        self.set_context_of(entry, Client::RID_PASID);
    }

    /// The same with another RID_PASID.
    pub(super) fn set_context_of(&mut self, entry: ContextEntry, rid_pasid: u32) {
        self.root.set(self.dsa.source_id(), entry, rid_pasid);
        self.iommu.invalidate_everything();
    }

    /// Sets or clears bits of the root entry that leads to the DSA.
    pub(super) fn set_root_bits(&mut self, bits: u64, on: bool) {
        self.root.set_bits(bits, on);
        self.iommu.invalidate_everything();
    }

    /// Puts the IOMMU into legacy mode, with tables in which nothing is present.
    pub(super) fn set_legacy_mode(&mut self) {
        self.iommu.set_legacy_root_table(&Pages::one());
    }

    /// Back to the tables of scalable mode.
    pub(super) fn set_scalable_mode(&mut self) {
        self.iommu.set_root_table(&self.root);
    }

    /// Sets the PASID table entry of a client.
    pub(super) fn set_entry(&mut self, client: &Client, entry: PasidEntry) {
        self.directory.set(client.pasid, entry);
        self.iommu.invalidate_pasid(client.domain, client.pasid);
    }

    /// The same, but invalidating all of the client's domain.
    pub(super) fn set_entry_of_domain(&mut self, client: &Client, entry: PasidEntry) {
        self.directory.set(client.pasid, entry);
        self.iommu.invalidate_domain(client.domain);
    }

    /// Sets the client's entry to its own address space.
    pub(super) fn admit(&mut self, client: &Client) {
        let entry = PasidEntry::translated(client.domain, &client.space);
        self.set_entry(client, entry);
    }

    /// Sets or clears a bit of the directory entry of the client's PASID.
    pub(super) fn set_directory_bit(&mut self, client: &Client, bit: u32, on: bool) {
        self.directory.set_directory_bit(client.pasid, bit, on);
        self.iommu.invalidate_pasid(client.domain, client.pasid);
    }

    /// Makes a change to the page of the client at `address` known.
    pub(super) fn invalidate_page(&mut self, client: &Client, address: u64) {
        match self.stage {
            Stage::First => {
                self.iommu
                    .invalidate_first_stage_page(client.domain, client.pasid, address);
            }
            Stage::Second => self
                .iommu
                .invalidate_second_stage_page(client.domain, address),
        }
    }

    /// A portal of the client's queue.
    pub(super) fn portal(&self, client: &Client) -> Portal {
        self.dsa.portal(client.queue, PortalKind::UnlimitedStore)
    }

    /// Submits `descriptor` and takes its completion record and the fault.
    pub(super) fn submit(
        &self,
        client: &Client,
        descriptor: Descriptor,
    ) -> (Option<Completion>, Option<Fault>) {
        Completion::clear(&client.record, 0);
        self.portal(client)
            .write(&descriptor.with_completion(RECORD));
        self.finish(client)
    }

    /// Waits until the device is done with everything, and takes the completion
    /// record and the fault.
    pub(super) fn finish(&self, client: &Client) -> (Option<Completion>, Option<Fault>) {
        assert_eq!(self.dsa.command(Command::DrainAll, 0), 0, "drain failed");
        (Completion::read(&client.record, 0), self.iommu.take_fault())
    }

    /// A fault of one of the client's requests.
    pub(super) fn fault(&self, client: &Client, reason: u8, read: bool, address: u64) -> Fault {
        Fault {
            reason,
            source: self.dsa.source_id(),
            pasid: Some(client.pasid),
            read,
            information: address & !(PAGE_SIZE - 1),
        }
    }

    /// What the device says of a read that faulted before anything was moved.
    /// Without the translation service it is told only that the read failed.
    /// [DSA 3.0, 3.13.1]
    pub(super) fn read_failure(&self, address: u64) -> Completion {
        if self.ats {
            Completion::page_fault(status::PAGE_FAULT, 0, address)
        } else {
            Completion::with_status(status::HARDWARE_ERROR)
        }
    }

    /// What the device says of a write that faulted at `address` after `done`
    /// bytes. Without the translation service it is never told.
    pub(super) fn write_failure(&self, done: u32, address: u64) -> Completion {
        if self.ats {
            Completion::page_fault(status::PAGE_FAULT | status::ON_WRITE, done, address)
        } else {
            Completion::with_status(status::SUCCESS)
        }
    }

    /// The software error of a completion record that could not be written.
    pub(super) fn record_failure(&self) -> Option<u8> {
        self.ats.then_some(status::COMPLETION_RECORD_FAULT)
    }

    /// The reason of a fault on a page that is not mapped.
    pub(super) fn not_mapped(&self) -> u8 {
        match self.stage {
            Stage::First => reason::FIRST_STAGE_NOT_PRESENT,
            Stage::Second => reason::SECOND_STAGE_NOT_PRESENT,
        }
    }
}

/// A PASID with an address space and pages in it.
pub(super) struct Client {
    /// The number of its queue, where it has one for itself.
    pub(super) queue: u64,
    pub(super) pasid: u32,
    pub(super) domain: u16,
    pub(super) space: AddressSpace,
    pub(super) source: Pages,
    pub(super) target: Pages,
    pub(super) record: Pages,
}

impl Client {
    /// What requests without a PASID count as, and their domain.
    pub(super) const RID_PASID: u32 = 0;
    const RID_DOMAIN: u16 = 1;

    /// The client that all requests without a PASID belong to.
    pub(super) fn without_pasid(stage: Stage, queue: u64) -> Self {
        Self::new(stage, queue, Self::RID_PASID, Self::RID_DOMAIN)
    }

    /// A client with its pages mapped at [`SOURCE`], [`TARGET`] and [`RECORD`].
    /// Each needs a domain of its own, 2 or above.
    pub(super) fn new(stage: Stage, queue: u64, pasid: u32, domain: u16) -> Self {
        let mut client = Self {
            queue,
            pasid,
            domain,
            space: AddressSpace::new(stage),
            source: Pages::allocate(2),
            target: Pages::allocate(2),
            record: Pages::one(),
        };
        client.map_all();
        client.reset();
        client
    }

    /// Maps all pages as they were in the beginning.
    pub(super) fn map_all(&mut self) {
        for (input, pages, count) in [
            (SOURCE, &self.source, 2),
            (TARGET, &self.target, 2),
            (RECORD, &self.record, 1),
        ] {
            for offset in (0..count * PAGE_SIZE).step_by(4096) {
                let output = pages.address() + offset;
                self.space.map(input + offset, output, Rights::ReadWrite);
            }
        }
    }

    /// Known contents in source and target.
    pub(super) fn reset(&self) {
        self.source
            .fill_pattern(SOURCE_SEED | u64::from(self.domain) << 8);
        self.reset_target();
    }

    pub(super) fn reset_target(&self) {
        self.target.fill_pattern(TARGET_SEED);
    }

    /// The bytes of the target that have changed, as first and last.
    pub(super) fn changed(&self) -> Option<(u64, u64)> {
        self.target.changed(TARGET_SEED)
    }

    /// Whether the first `words` words of the target are those of the source.
    pub(super) fn has_copied(&self, words: u64) -> bool {
        (0..words * 8)
            .step_by(8)
            .all(|offset| self.target.read(offset) == self.source.read(offset))
    }
}
