//! Nested page tables: from a guest's physical addresses to the machine's.
//!
//! One tree of tables of four levels for each guest, the same for SVM and VMX
//! but for the bits of an entry, which a [`Format`] knows. Tables are only
//! changed when a guest is made, when a device's page is shown or hidden, and
//! when a guest goes; the walk down them is the processor's.
//!
//! A page is shown and hidden on VM exits, which may not allocate. So the tables for that
//! are [reserved](NestedTables::reserve) when the guest is made, and a table that maps
//! nothing any more is used again.
#![forbid(unsafe_code)]

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::Range;

use x86_64::PhysAddr;

use super::address::GuestPhysAddr;
use crate::mm::OutOfMemory;

/// Guest-physical addresses have at most so many bits with four levels.
pub const ADDRESS_BITS: u32 = 48;

const ENTRIES_BITS: u32 = 9;
const PAGE_BITS: u32 = 12;
/// Bits below the index into a table of the second lowest level.
const LARGE_BITS: u32 = PAGE_BITS + ENTRIES_BITS;
/// What one entry of that level maps.
pub const LARGE_PAGE: u64 = 1 << LARGE_BITS;
/// What one entry of the lowest level maps.
pub const SMALL_PAGE: u64 = 1 << PAGE_BITS;

/// What a guest may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything: RAM.
    Ram,
    /// Read and write, uncached: the registers of a device.
    Device,
}

/// What the entries of nested tables look like.
pub trait Format {
    /// The entry that leads to the table at `address`.
    fn table(address: PhysAddr) -> u64;
    /// The entry that maps the page at `address`; `large` says which level.
    fn leaf(address: PhysAddr, access: Access, large: bool) -> u64;
}

/// A page of 512 entries that the processor reads.
pub trait TablePage: Sized {
    /// A page of zeros.
    ///
    /// # Errors
    /// If memory is short.
    fn allocate() -> Result<Self, OutOfMemory>;
    /// Where the processor finds it.
    fn address(&self) -> PhysAddr;
    /// Changes an entry as one store.
    fn write(&self, index: usize, entry: u64);
}

/// What an entry stands for. The processor's tables are written from these, and
/// never read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Empty,
    /// The table of this number.
    Table(u16),
    Leaf,
}

const _: () = assert!(size_of::<Slot>() == 4);

#[derive(Debug)]
struct Table<P> {
    page: P,
    slots: Box<[Slot; 1 << ENTRIES_BITS]>,
    /// How many of them are not empty.
    used: u16,
}

/// The nested tables of one guest.
#[derive(Debug)]
pub struct NestedTables<F, P> {
    /// The first is the top.
    tables: Vec<Table<P>>,
    /// Those that are not in the tree. There is room for all of them.
    spare: Vec<u16>,
    format: PhantomData<fn() -> F>,
}

impl<F: Format, P: TablePage> NestedTables<F, P> {
    /// Tables that map nothing.
    ///
    /// # Errors
    /// If memory is short.
    pub fn new() -> Result<Self, OutOfMemory> {
        let mut tables = Self {
            tables: Vec::new(),
            spare: Vec::new(),
            format: PhantomData,
        };
        tables.add_table()?;
        Ok(tables)
    }

    /// Where the top table is.
    ///
    /// # Panics
    /// Never: there is always one.
    pub fn root(&self) -> PhysAddr {
        let top = self.tables.first();
        top.expect("there is always a top table").page.address()
    }

    /// How many bytes the tables take, with what is kept about them.
    pub fn len_bytes(&self) -> u64 {
        let each = size_of::<Table<P>>() + size_of::<[Slot; 1 << ENTRIES_BITS]>();
        self.tables.len() as u64 * (SMALL_PAGE + each as u64)
    }

    /// Makes the tables that are needed to map small pages anywhere in `range`, as long as
    /// those are in no more than `count` different large pages.
    ///
    /// # Errors
    /// If memory is short.
    ///
    /// # Panics
    /// If `range` is not made of pages, or ends beyond [`ADDRESS_BITS`].
    pub fn reserve(
        &mut self,
        range: Range<GuestPhysAddr>,
        count: usize,
    ) -> Result<(), OutOfMemory> {
        let each = 1_u64 << (LARGE_BITS + ENTRIES_BITS);
        check(range.start, range.end.0.saturating_sub(range.start.0));
        for number in range.start.0 / each..range.end.0.div_ceil(each) {
            self.table_for(number * each, LARGE_BITS)?;
        }
        for _ in 0..count {
            let table = self.add_table()?;
            self.spare.push(table);
        }
        Ok(())
    }

    /// Whether a small page can be mapped at `guest` with the tables that there are.
    pub fn has_tables_for(&self, guest: GuestPhysAddr) -> bool {
        let mut table = 0;
        let mut bits = ADDRESS_BITS - ENTRIES_BITS;
        while bits > PAGE_BITS {
            match self.slot(table, index(guest.0, bits)) {
                Slot::Table(lower) => table = lower,
                Slot::Empty => {
                    let missing = (bits - PAGE_BITS) / ENTRIES_BITS;
                    return self.spare.len() >= missing as usize;
                }
                Slot::Leaf => return false,
            }
            bits -= ENTRIES_BITS;
        }
        true
    }

    /// Maps `length` bytes at `guest` to those at `host`, in the largest pages
    /// that fit. What was mapped there before is replaced: true if there was
    /// anything, which processors must then forget.
    ///
    /// # Errors
    /// If memory is short; then part of it may be mapped.
    ///
    /// # Panics
    /// If anything is not a multiple of 4 KiB, or beyond [`ADDRESS_BITS`].
    pub fn map(
        &mut self,
        guest: GuestPhysAddr,
        host: PhysAddr,
        length: u64,
        access: Access,
    ) -> Result<bool, OutOfMemory> {
        let mut replaced = false;
        let mut done = 0;
        check(guest, length);
        assert!(host.is_aligned(SMALL_PAGE), "{host:?} is not a page");
        while done < length {
            let (from, to) = (guest.0 + done, host + done);
            let large = from.is_multiple_of(LARGE_PAGE)
                && to.is_aligned(LARGE_PAGE)
                && length - done >= LARGE_PAGE
                && !self.is_split(from);
            let bits = if large { LARGE_BITS } else { PAGE_BITS };
            let table = self.table_for(from, bits)?;
            let index = index(from, bits);
            replaced |= self.slot(table, index) != Slot::Empty;
            self.set(table, index, Slot::Leaf, F::leaf(to, access, large));
            done += 1 << bits;
        }
        Ok(replaced)
    }

    /// Takes away whatever is mapped in `length` bytes at `guest`. Processors
    /// must then forget it: one that has not yet may find there what is mapped elsewhere
    /// by small pages later, since a table that maps nothing any more is used again.
    ///
    /// # Panics
    /// If anything is not a multiple of 4 KiB, or beyond [`ADDRESS_BITS`]; or if
    /// only part of a large page goes: what may be hidden is mapped apart.
    pub fn unmap(&mut self, guest: GuestPhysAddr, length: u64) {
        check(guest, length);
        let mut at = guest.0;
        let end = guest.0 + length;
        while at < end {
            at = self.unmap_one(at, end);
        }
    }

    /// Unmaps what is at `at`; gives the address behind it.
    fn unmap_one(&mut self, at: u64, end: u64) -> u64 {
        let mut table = 0;
        // The entry that leads to it.
        let mut upper = (0, 0);
        let mut bits = ADDRESS_BITS - ENTRIES_BITS;
        loop {
            let size = 1_u64 << bits;
            let next = (at / size + 1) * size;
            match self.slot(table, index(at, bits)) {
                Slot::Empty => return next,
                Slot::Table(lower) => {
                    upper = (table, index(at, bits));
                    table = lower;
                    bits -= ENTRIES_BITS;
                }
                Slot::Leaf => {
                    assert!(
                        at.is_multiple_of(size) && next <= end,
                        "part of the page at {at:#x} is to be unmapped"
                    );
                    self.set(table, index(at, bits), Slot::Empty, 0);
                    if bits == PAGE_BITS && self.table(table).used == 0 {
                        self.set(upper.0, upper.1, Slot::Empty, 0);
                        self.spare.push(table);
                    }
                    return next;
                }
            }
        }
    }

    /// Whether there is a table of small pages where a large page could be.
    fn is_split(&self, at: u64) -> bool {
        let mut table = 0;
        let mut bits = ADDRESS_BITS - ENTRIES_BITS;
        loop {
            match self.slot(table, index(at, bits)) {
                Slot::Table(_) if bits == LARGE_BITS => return true,
                Slot::Table(lower) => table = lower,
                _ => return false,
            }
            bits -= ENTRIES_BITS;
        }
    }

    /// The table whose entries for `at` map `1 << bits` bytes each, made if it
    /// is not there.
    fn table_for(&mut self, at: u64, bits: u32) -> Result<u16, OutOfMemory> {
        let mut table = 0;
        let mut level = ADDRESS_BITS - ENTRIES_BITS;
        while level > bits {
            let index = index(at, level);
            table = match self.slot(table, index) {
                Slot::Table(lower) => lower,
                Slot::Empty => {
                    let lower = match self.spare.pop() {
                        Some(spare) => spare,
                        None => self.add_table()?,
                    };
                    let entry = F::table(self.table(lower).page.address());
                    self.set(table, index, Slot::Table(lower), entry);
                    lower
                }
                Slot::Leaf => panic!("a large page is at {at:#x} already"),
            };
            level -= ENTRIES_BITS;
        }
        Ok(table)
    }

    fn add_table(&mut self) -> Result<u16, OutOfMemory> {
        // So many tables would map more memory than any machine has.
        let number = u16::try_from(self.tables.len());
        let number = number.map_err(|_| OutOfMemory { count_pages: 1 })?;
        self.tables.push(Table {
            page: P::allocate()?,
            slots: Box::new([Slot::Empty; 1 << ENTRIES_BITS]),
            used: 0,
        });
        self.spare.reserve(self.tables.len() - self.spare.len());
        Ok(number)
    }

    fn table(&self, number: u16) -> &Table<P> {
        let table = self.tables.get(usize::from(number));
        table.expect("tables are numbered from the top")
    }

    fn slot(&self, table: u16, index: usize) -> Slot {
        let slot = self.table(table).slots.get(index);
        *slot.expect("an index has nine bits")
    }

    fn set(&mut self, table: u16, index: usize, new: Slot, entry: u64) {
        let table = self.tables.get_mut(usize::from(table));
        let table = table.expect("tables are numbered from the top");
        let slot = table.slots.get_mut(index);
        let old = core::mem::replace(slot.expect("an index has nine bits"), new);
        table.used += u16::from(new != Slot::Empty);
        table.used -= u16::from(old != Slot::Empty);
        table.page.write(index, entry);
    }
}

fn check(guest: GuestPhysAddr, length: u64) {
    let end = guest.0.checked_add(length);
    let fits = end.is_some_and(|end| end <= 1 << ADDRESS_BITS);
    assert!(
        fits && guest.0.is_multiple_of(SMALL_PAGE) && length.is_multiple_of(SMALL_PAGE),
        "{length:#x} bytes at {guest:?} are not pages of a guest"
    );
}

/// The index into the table whose entries map `1 << bits` bytes each.
fn index(at: u64, bits: u32) -> usize {
    usize::try_from(at >> bits & 0x1ff).expect("nine bits")
}

#[cfg(test)]
#[path = "nested_tests.rs"]
mod tests;
