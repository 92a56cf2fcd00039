//! From a device to a PASID entry: root, context and PASID tables.
//!
//! An entry's valid word is written last and cleared first, each time with what was
//! before it in memory, so that the unit never sees half of one. What is not there
//! blocks: a bus without context tables, a device without an entry in one, a PASID
//! without a table or an entry.

use hwio::{DmaPages, FrameSource};
use hwspec::pci::{Pasid, SourceId};
use hwspec::vtd::{
    ContextEntry, ContextEntry0, ContextTablePointer, PasidDirectoryEntry, PasidEntry, PasidEntry0,
    PasidEntry1,
};
use x86_64::PhysAddr;

use crate::directory::Directory;
use crate::memory::page_number;
use crate::{DomainId, Error};

/// The PASID of requests without one. A unit without ECAP.RPS takes 0 for it.
pub(crate) const RID_PASID: Pasid = Pasid::ZERO;

/// PDTS: 2^(2 + 7) directory entries of 8 bytes are one page.
const PDTS: u8 = 2;
/// 64-bit words of a root, a context and a PASID entry.
const ROOT_WORDS: usize = 2;
const CONTEXT_WORDS: usize = 4;
const PASID_WORDS: usize = 8;

/// The root table and the context tables.
#[derive(Debug)]
pub(crate) struct RootTable<P>(Directory<P>);

impl<P: DmaPages> RootTable<P> {
    pub(crate) fn new(
        frames: &mut impl FrameSource<Pages = P>,
        is_coherent: bool,
    ) -> Result<Self, Error> {
        Ok(Self(Directory::new(frames, is_coherent)?))
    }

    pub(crate) fn physical_address(&self) -> PhysAddr {
        self.0.physical_address()
    }

    /// Makes `source` have a context table.
    pub(crate) fn add_context_table(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        source: SourceId,
    ) -> Result<(), Error> {
        let (half, _) = place(source);
        self.0.add_table(frames, half, |table| {
            let pointer = ContextTablePointer::new()
                .with_p(true)
                .with_ctp(page_number(table));
            pointer.into_bits()
        })
    }

    /// Writes the entry of `source`, which has a context table.
    pub(crate) fn write_context(&mut self, source: SourceId, directory: PhysAddr, paside: bool) {
        let entry = ContextEntry {
            word0: ContextEntry0::new()
                .with_p(true)
                .with_paside(paside)
                .with_pdts(PDTS)
                .with_pasiddirptr(page_number(directory)),
            ..ContextEntry::default()
        };
        let (half, first) = place(source);
        self.0.write_entry(half, first, &entry.words());
    }

    /// Clears the entry of `source`, which has one.
    pub(crate) fn clear_context(&mut self, source: SourceId) {
        let (half, first) = place(source);
        let entry = ContextEntry::default();
        self.0.write_entry(half, first, &entry.words());
    }

    /// Takes all context tables out of the root table.
    pub(crate) fn clear(&mut self) {
        self.0.clear::<ROOT_WORDS>();
    }
}

/// Which half of a root entry, and which word of the context table, is for `source`.
/// [VT-d 5.10, 3.4.3 "Scalable Mode Address Translation"]
fn place(source: SourceId) -> (usize, usize) {
    let device_function = usize::from(source.device_function());
    let half = usize::from(source.bus()) * ROOT_WORDS + device_function / 128;
    (half, device_function % 128 * CONTEXT_WORDS)
}

/// The PASID directory of one device, and its PASID tables.
#[derive(Debug)]
pub(crate) struct PasidDirectory<P>(Directory<P>);

impl<P: DmaPages> PasidDirectory<P> {
    pub(crate) fn new(
        frames: &mut impl FrameSource<Pages = P>,
        is_coherent: bool,
    ) -> Result<Self, Error> {
        Ok(Self(Directory::new(frames, is_coherent)?))
    }

    pub(crate) fn physical_address(&self) -> PhysAddr {
        self.0.physical_address()
    }

    /// Makes `pasid` have a table.
    pub(crate) fn add_table(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        pasid: Pasid,
    ) -> Result<(), Error> {
        let (index, _) = pasid_place(pasid);
        self.0.add_table(frames, index, |table| {
            let entry = PasidDirectoryEntry::new()
                .with_p(true)
                .with_smptblptr(page_number(table));
            entry.into_bits()
        })
    }

    /// The domain of `pasid`, if it has one, be it that its entry is present or that
    /// it was cleared and the unit may not have forgotten it yet.
    pub(crate) fn domain(&self, pasid: Pasid) -> Option<DomainId> {
        let (index, first) = pasid_place(pasid);
        domain_at(self.0.table(index)?, first)
    }

    /// Writes the entry of `pasid`, which has a table and no entry.
    pub(crate) fn write_entry(&mut self, pasid: Pasid, entry: &PasidEntry) {
        self.write(pasid, &entry.words());
    }

    /// Makes the entry of `pasid` not present; its domain can still be told.
    pub(crate) fn clear_present(&mut self, pasid: Pasid) {
        self.write(pasid, &[PasidEntry0::new().into_bits()]);
    }

    /// Clears the rest of the entry of `pasid`.
    pub(crate) fn clear_rest(&mut self, pasid: Pasid) {
        self.write(pasid, &[0; PASID_WORDS]);
    }

    /// The domains of all PASIDs that have one.
    pub(crate) fn domains(&self) -> impl Iterator<Item = DomainId> {
        self.0.tables().flat_map(|table| {
            let firsts = (0..table.len_words()).step_by(PASID_WORDS);
            firsts.filter_map(|first| domain_at(table, first))
        })
    }

    fn write(&mut self, pasid: Pasid, words: &[u64]) {
        let (index, first) = pasid_place(pasid);
        self.0.write_entry(index, first, words);
    }
}

/// The domain of the PASID entry that begins at word `first`.
fn domain_at(table: &impl DmaPages, first: usize) -> Option<DomainId> {
    let word1 = PasidEntry1::from_bits(table.read_word(first + 1));
    (word1.did() != 0).then(|| DomainId::new(word1.did()))
}

/// Which directory entry, and which word of the PASID table, is for `pasid`.
fn pasid_place(pasid: Pasid) -> (usize, usize) {
    let value = usize::try_from(pasid.value()).expect("it has 20 bits");
    (value >> 6, (value & 0x3f) * PASID_WORDS)
}
