//! From a device to a PASID entry: root, context and PASID tables.
//!
//! An entry's valid word is written last and cleared first, each time with what was
//! before it in memory, so that the unit never sees half of one. What is not there
//! blocks: a bus without context tables, a device without an entry in one, a PASID
//! without a table or an entry.

use alloc::vec::Vec;

use hwio::{DmaPages, FrameSource};
use hwspec::pci::{Pasid, SourceId};
use hwspec::vtd::{
    ContextEntry, ContextEntry0, ContextTablePointer, PasidDirectoryEntry, PasidEntry, PasidEntry0,
    PasidEntry1,
};
use x86_64::PhysAddr;

use crate::memory::{allocate_table, page_number, reserve_one};
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
pub(crate) struct RootTable<P> {
    pages: P,
    /// By half of a root entry: bus number, and the highest bit of the device number.
    contexts: Vec<(usize, P)>,
    is_coherent: bool,
}

impl<P: DmaPages> RootTable<P> {
    pub(crate) fn new(
        frames: &mut impl FrameSource<Pages = P>,
        is_coherent: bool,
    ) -> Result<Self, Error> {
        Ok(Self {
            pages: allocate_table(frames, 1, is_coherent)?,
            contexts: Vec::new(),
            is_coherent,
        })
    }

    pub(crate) fn physical_address(&self) -> PhysAddr {
        self.pages.physical_address()
    }

    /// Makes `source` have a context table.
    pub(crate) fn add_context_table(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        source: SourceId,
    ) -> Result<(), Error> {
        let (half, _) = place(source);
        if self.contexts.iter().any(|&(of, _)| of == half) {
            return Ok(());
        }
        reserve_one(&mut self.contexts)?;
        let table = allocate_table(frames, 1, self.is_coherent)?;
        let pointer = ContextTablePointer::new()
            .with_p(true)
            .with_ctp(page_number(table.physical_address()));
        self.contexts.push((half, table));
        write(
            &mut self.pages,
            half,
            &[pointer.into_bits()],
            self.is_coherent,
        );
        Ok(())
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
        let is_coherent = self.is_coherent;
        let (table, first) = self.context(source);
        write(table, first, &entry.words(), is_coherent);
    }

    /// Clears the entry of `source`, which has one.
    pub(crate) fn clear_context(&mut self, source: SourceId) {
        let is_coherent = self.is_coherent;
        let (table, first) = self.context(source);
        write(table, first, &ContextEntry::default().words(), is_coherent);
    }

    /// Takes all context tables out of the root table.
    pub(crate) fn clear(&mut self) {
        for bus in 0..256 {
            write(
                &mut self.pages,
                bus * ROOT_WORDS,
                &[0; ROOT_WORDS],
                self.is_coherent,
            );
        }
    }

    fn context(&mut self, source: SourceId) -> (&mut P, usize) {
        let (half, first) = place(source);
        let mut tables = self.contexts.iter_mut();
        let found = tables.find(|&&mut (of, _)| of == half);
        let (_, table) = found.expect("the device has a context table");
        (table, first)
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
pub(crate) struct PasidDirectory<P> {
    pages: P,
    /// By directory entry.
    tables: Vec<(usize, P)>,
    is_coherent: bool,
}

impl<P: DmaPages> PasidDirectory<P> {
    pub(crate) fn new(
        frames: &mut impl FrameSource<Pages = P>,
        is_coherent: bool,
    ) -> Result<Self, Error> {
        Ok(Self {
            pages: allocate_table(frames, 1, is_coherent)?,
            tables: Vec::new(),
            is_coherent,
        })
    }

    pub(crate) fn physical_address(&self) -> PhysAddr {
        self.pages.physical_address()
    }

    /// Makes `pasid` have a table.
    pub(crate) fn add_table(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        pasid: Pasid,
    ) -> Result<(), Error> {
        let (index, _) = pasid_place(pasid);
        if self.tables.iter().any(|&(of, _)| of == index) {
            return Ok(());
        }
        reserve_one(&mut self.tables)?;
        let table = allocate_table(frames, 1, self.is_coherent)?;
        let entry = PasidDirectoryEntry::new()
            .with_p(true)
            .with_smptblptr(page_number(table.physical_address()));
        self.tables.push((index, table));
        write(
            &mut self.pages,
            index,
            &[entry.into_bits()],
            self.is_coherent,
        );
        Ok(())
    }

    /// The domain of `pasid`, if it has one, be it that its entry is present or that
    /// it was cleared and the unit may not have forgotten it yet.
    pub(crate) fn domain(&self, pasid: Pasid) -> Option<DomainId> {
        let (index, first) = pasid_place(pasid);
        let (_, table) = self.tables.iter().find(|&&(of, _)| of == index)?;
        let word1 = PasidEntry1::from_bits(table.read_word(first + 1));
        (word1.did() != 0).then(|| DomainId::new(word1.did()))
    }

    /// Writes the entry of `pasid`, which has a table and no entry.
    pub(crate) fn write_entry(&mut self, pasid: Pasid, entry: &PasidEntry) {
        let is_coherent = self.is_coherent;
        let (table, first) = self.entry(pasid);
        write(table, first, &entry.words(), is_coherent);
    }

    /// Makes the entry of `pasid` not present; its domain can still be told.
    pub(crate) fn clear_present(&mut self, pasid: Pasid) {
        let is_coherent = self.is_coherent;
        let (table, first) = self.entry(pasid);
        write(table, first, &[PasidEntry0::new().into_bits()], is_coherent);
    }

    /// Clears the rest of the entry of `pasid`.
    pub(crate) fn clear_rest(&mut self, pasid: Pasid) {
        let is_coherent = self.is_coherent;
        let (table, first) = self.entry(pasid);
        write(table, first, &[0; PASID_WORDS], is_coherent);
    }

    /// The domains of all PASIDs that have one.
    pub(crate) fn domains(&self) -> impl Iterator<Item = DomainId> {
        self.tables.iter().flat_map(|(_, table)| {
            let firsts = (0..table.len_words()).step_by(PASID_WORDS);
            firsts.filter_map(|first| {
                let word1 = PasidEntry1::from_bits(table.read_word(first + 1));
                (word1.did() != 0).then(|| DomainId::new(word1.did()))
            })
        })
    }

    fn entry(&mut self, pasid: Pasid) -> (&mut P, usize) {
        let (index, first) = pasid_place(pasid);
        let mut tables = self.tables.iter_mut();
        let found = tables.find(|&&mut (of, _)| of == index);
        let (_, table) = found.expect("the PASID has a table");
        (table, first)
    }
}

/// Which directory entry, and which word of the PASID table, is for `pasid`.
fn pasid_place(pasid: Pasid) -> (usize, usize) {
    let value = usize::try_from(pasid.value()).expect("it has 20 bits");
    (value >> 6, (value & 0x3f) * PASID_WORDS)
}

/// Writes an entry of which the first word holds the present bit: when it is to be
/// present, that word last; when it is not, that word first.
fn write<P: DmaPages>(table: &mut P, first: usize, words: &[u64], is_coherent: bool) {
    let Some((&word0, rest)) = words.split_first() else {
        return;
    };
    if word0 & 1 == 0 {
        table.write_word(first, word0);
        table.write_words(first + 1, rest);
    } else {
        table.write_words(first + 1, rest);
        table.write_word(first, word0);
    }
    // One time is enough: an entry shares a cache line with itself alone or with its
    // neighbours, and a line that gets to memory early has no word before those that
    // were written before it.
    if !is_coherent {
        table.write_back(first..first + words.len());
    }
}
