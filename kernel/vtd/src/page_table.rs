//! Page tables of either stage: what a device's addresses lead to.
//!
//! A table is mapped and unmapped in whole ranges, each page as large as the addresses
//! and what is there already allow. A range is mapped completely or, after an error,
//! not at all; the same goes for unmapping. Tables that became empty stay until the
//! page table is dropped.

use alloc::vec::Vec;

use hwio::{DmaPages, FrameSource, PAGE_SIZE};
use hwspec::vtd::paging::{FirstStageEntry, SecondStageEntry};
use x86_64::PhysAddr;

use crate::capability::Capabilities;
use crate::memory::{allocate_table, insert, page_number};
use crate::{Access, Error, Iova};

/// Which of the two kinds of page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// First stage: the format of the CPU's page tables.
    First,
    /// Second stage: the format of extended page tables.
    Second,
}

/// The interrupt range, in which a write is a message.
/// [VT-d 5.10, 3.15 "Handling Requests to Interrupt Address Range"]
const INTERRUPT_RANGE: (u64, u64) = (0xfee0_0000, 0xfeef_ffff);

/// Bits of the address that one level stands for.
const LEVEL_BITS: u32 = 9;
/// Bits of the address that the lowest level leaves.
const PAGE_BITS: u32 = 12;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Empty,
    /// The next table.
    Table(PhysAddr),
    /// A page.
    Page,
}

impl Stage {
    fn decode(self, entry: u64, level: u32) -> Entry {
        let (is_present, is_page, address) = match self {
            Self::First => {
                let entry = FirstStageEntry::from_bits(entry);
                (entry.p(), entry.ps(), entry.addr())
            }
            Self::Second => {
                let entry = SecondStageEntry::from_bits(entry);
                (entry.r() || entry.w(), entry.ps(), entry.addr())
            }
        };
        match (is_present, is_page || level == 0) {
            (false, _) => Entry::Empty,
            (true, false) => Entry::Table(PhysAddr::new(address << PAGE_BITS)),
            (true, true) => Entry::Page,
        }
    }

    /// An entry that leads to another table. It permits everything; the pages decide.
    fn table(self, address: PhysAddr) -> u64 {
        let addr = page_number(address);
        match self {
            Self::First => FirstStageEntry::new()
                .with_p(true)
                .with_rw(true)
                .with_us(true)
                .with_a(true)
                .with_addr(addr)
                .into_bits(),
            Self::Second => SecondStageEntry::new()
                .with_r(true)
                .with_w(true)
                .with_addr(addr)
                .into_bits(),
        }
    }

    /// An entry for a page.
    fn page(self, address: PhysAddr, access: Access, level: u32) -> u64 {
        let addr = page_number(address);
        let is_writable = access == Access::ReadWrite;
        match self {
            // A and D are set beforehand: a unit that does not look into caches would
            // have to fault instead of setting them. U/S is set because requests are
            // those of users. [VT-d 5.10, 3.10 "Snoop Behavior"; 3.6.1 "Access Rights"]
            Self::First => FirstStageEntry::new()
                .with_p(true)
                .with_rw(is_writable)
                .with_us(true)
                .with_a(true)
                .with_d(true)
                .with_ps(level > 0)
                .with_addr(addr)
                .into_bits(),
            Self::Second => SecondStageEntry::new()
                .with_r(true)
                .with_w(is_writable)
                .with_ps(level > 0)
                .with_addr(addr)
                .into_bits(),
        }
    }
}

/// Bytes of a page that an entry of this level maps.
const fn page_bytes(level: u32) -> u64 {
    1 << (PAGE_BITS + LEVEL_BITS * level)
}

/// A range that a device is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The first address for the device.
    pub iova: Iova,
    /// Where that is.
    pub physical: PhysAddr,
    /// How many bytes, in whole pages.
    pub len_bytes: u64,
    /// What the device may do there.
    pub access: Access,
}

/// An entry, found.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Which of the tables.
    table: usize,
    /// Which word of it.
    index: usize,
    /// Its level.
    level: u32,
}

/// One address space.
#[derive(Debug)]
pub(crate) struct PageTable<P> {
    stage: Stage,
    levels: u32,
    largest_page: u32,
    address_bits: u32,
    is_coherent: bool,
    root: PhysAddr,
    /// All tables, by physical address.
    tables: Vec<P>,
}

impl<P: DmaPages> PageTable<P> {
    /// One in which nothing is mapped.
    pub(crate) fn new(
        capabilities: &Capabilities,
        frames: &mut impl FrameSource<Pages = P>,
    ) -> Result<Self, Error> {
        let is_coherent = capabilities.ecap.smpwcs();
        let root = allocate_table(frames, 1, is_coherent)?;
        let mut table = Self {
            stage: capabilities.stage,
            levels: capabilities.levels,
            largest_page: capabilities.largest_page,
            address_bits: capabilities.address_bits,
            is_coherent,
            root: root.physical_address(),
            tables: Vec::new(),
        };
        insert(&mut table.tables, 0, root)?;
        Ok(table)
    }

    /// Where the uppermost table is.
    pub(crate) fn root(&self) -> PhysAddr {
        self.root
    }

    /// How many frames the tables take.
    pub(crate) fn count_tables(&self) -> usize {
        self.tables.len()
    }

    /// Maps a range.
    pub(crate) fn map(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        mapping: Mapping,
    ) -> Result<(), Error> {
        self.check_range(mapping.iova, mapping.len_bytes)?;
        check_frames(mapping.physical, mapping.len_bytes)?;
        // Everything that can fail comes first: finding each slot empty, and the tables
        // on the way to it. Tables without pages map nothing, so they may stay.
        self.for_each_chunk(mapping, |table, chunk, wanted| {
            table.empty_slot(frames, chunk.iova, wanted)
        })?;
        self.for_each_chunk(mapping, |table, chunk, wanted| {
            let slot = table.empty_slot(frames, chunk.iova, wanted)?;
            let entry = table.stage.page(chunk.physical, chunk.access, slot.level);
            table.write_entry(slot, entry);
            Ok(slot)
        })
    }

    /// Unmaps a range that was mapped.
    pub(crate) fn unmap(&mut self, iova: Iova, len_bytes: u64) -> Result<(), Error> {
        self.check_range(iova, len_bytes)?;
        self.for_each_page(iova, len_bytes, |_, _| ())?;
        self.for_each_page(iova, len_bytes, |table, slot| table.write_entry(slot, 0))
    }

    /// Calls `step` for each page-sized part of `mapping` with the largest level that
    /// its addresses allow; `step` says which it became.
    fn for_each_chunk(
        &mut self,
        mapping: Mapping,
        mut step: impl FnMut(&mut Self, Mapping, u32) -> Result<Slot, Error>,
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < mapping.len_bytes {
            let chunk = Mapping {
                iova: Iova(mapping.iova.0 + done),
                physical: mapping.physical + done,
                len_bytes: mapping.len_bytes - done,
                ..mapping
            };
            let bits = chunk.iova.0 | chunk.physical.as_u64();
            let fits = |&level: &u32| {
                bits.is_multiple_of(page_bytes(level)) && chunk.len_bytes >= page_bytes(level)
            };
            let wanted = (0..=self.largest_page).rev().find(fits).unwrap_or(0);
            done += page_bytes(step(self, chunk, wanted)?.level);
        }
        Ok(())
    }

    /// Calls `step` for each page that is mapped in a range; all of it must be.
    fn for_each_page(
        &mut self,
        iova: Iova,
        len_bytes: u64,
        mut step: impl FnMut(&mut Self, Slot),
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < len_bytes {
            let here = Iova(iova.0 + done);
            let slot = self.page_slot(here)?;
            let size = page_bytes(slot.level);
            if !here.0.is_multiple_of(size) || len_bytes - done < size {
                return Err(Error::LargerPage(here));
            }
            step(self, slot);
            done += size;
        }
        Ok(())
    }

    /// The slot for a page at `iova`, of level `wanted` or, where there is a table
    /// instead, of a lower one.
    fn empty_slot(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        iova: Iova,
        wanted: u32,
    ) -> Result<Slot, Error> {
        let mut table = self.table_at(self.root);
        for level in (0..self.levels).rev() {
            let slot = Slot {
                table,
                index: index(iova, level),
                level,
            };
            table = match self.stage.decode(self.read_entry(slot), level) {
                Entry::Page => return Err(Error::AlreadyMapped(iova)),
                Entry::Empty if level <= wanted => return Ok(slot),
                Entry::Empty => self.add_table(frames, slot)?,
                Entry::Table(address) => self.table_at(address),
            };
        }
        unreachable!("level 0 has no tables below it");
    }

    /// The slot of the page at `iova`.
    fn page_slot(&self, iova: Iova) -> Result<Slot, Error> {
        let mut table = self.table_at(self.root);
        for level in (0..self.levels).rev() {
            let slot = Slot {
                table,
                index: index(iova, level),
                level,
            };
            table = match self.stage.decode(self.read_entry(slot), level) {
                Entry::Page => return Ok(slot),
                Entry::Empty => return Err(Error::NotMapped(iova)),
                Entry::Table(address) => self.table_at(address),
            };
        }
        unreachable!("level 0 has no tables below it");
    }

    /// Puts an empty table into an empty slot. Returns which of the tables it is.
    fn add_table(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        slot: Slot,
    ) -> Result<usize, Error> {
        let page = allocate_table(frames, 1, self.is_coherent)?;
        let address = page.physical_address();
        let Err(place) = self.find(address) else {
            panic!("a frame was handed out twice");
        };
        insert(&mut self.tables, place, page)?;
        // The insertion may have moved the table that the slot is in.
        let slot = Slot {
            table: slot.table + usize::from(place <= slot.table),
            ..slot
        };
        self.write_entry(slot, self.stage.table(address));
        Ok(place)
    }

    fn find(&self, address: PhysAddr) -> Result<usize, usize> {
        self.tables
            .binary_search_by_key(&address, P::physical_address)
    }

    fn table_at(&self, address: PhysAddr) -> usize {
        self.find(address).expect("entries lead to tables of ours")
    }

    fn read_entry(&self, slot: Slot) -> u64 {
        let table = self.tables.get(slot.table).expect("the slot is in a table");
        table.read_word(slot.index)
    }

    fn write_entry(&mut self, slot: Slot, entry: u64) {
        let table = self
            .tables
            .get_mut(slot.table)
            .expect("the slot is in a table");
        table.write_word(slot.index, entry);
        if !self.is_coherent {
            table.write_back(slot.index..slot.index + 1);
        }
    }

    fn check_range(&self, iova: Iova, len_bytes: u64) -> Result<(), Error> {
        if !is_pages(iova.0, len_bytes) {
            return Err(Error::NotPages { iova, len_bytes });
        }
        let end = iova.0.checked_add(len_bytes);
        if end.is_none_or(|end| end > 1 << self.address_bits) {
            let address_bits = self.address_bits;
            return Err(Error::BeyondDomain { iova, address_bits });
        }
        check_no_interrupts(iova.0, len_bytes)
    }
}

/// Which entry of a table of this level is for `iova`.
fn index(iova: Iova, level: u32) -> usize {
    let index = iova.0 >> (PAGE_BITS + LEVEL_BITS * level) & ((1 << LEVEL_BITS) - 1);
    usize::try_from(index).expect("it has nine bits")
}

fn is_pages(start: u64, len_bytes: u64) -> bool {
    let size = PAGE_SIZE as u64;
    len_bytes > 0 && start.is_multiple_of(size) && len_bytes.is_multiple_of(size)
}

fn check_frames(physical: PhysAddr, len_bytes: u64) -> Result<(), Error> {
    let start = physical.as_u64();
    let last = start.checked_add(len_bytes - 1);
    let is_physical = last.is_some_and(|last| PhysAddr::try_new(last).is_ok());
    if !is_pages(start, len_bytes) || !is_physical {
        return Err(Error::NotFrames {
            physical,
            len_bytes,
        });
    }
    check_no_interrupts(start, len_bytes)
}

/// Neither may a device's request go to the interrupt range after translation, which
/// is a fault, nor before, where it is no request at all without a PASID.
/// [VT-d 5.10, 3.15 "Handling Requests to Interrupt Address Range"]
fn check_no_interrupts(address: u64, len_bytes: u64) -> Result<(), Error> {
    let (first, last) = INTERRUPT_RANGE;
    if address <= last && address + (len_bytes - 1) >= first {
        return Err(Error::InterruptRange { address });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
