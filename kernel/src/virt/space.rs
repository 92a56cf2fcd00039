//! A guest's physical address space: its RAM, and the nested tables over it.

use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use spin::Mutex;
use x86_64::PhysAddr;

use super::address::GuestPhysAddr;
use super::memory::{CHUNK_BYTES, GuestMemory};
use super::nested::{Access, Format, NestedTables, SMALL_PAGE};
use crate::mm::{OutOfMemory, TableFrame};

/// More virtual processors than any guest may have.
pub const MAX_VCPUS: usize = 64;

/// The physical address space that the virtual processors of a guest share.
#[derive(Debug)]
pub struct Space<F> {
    /// The RAM.
    pub memory: Arc<GuestMemory>,
    root: PhysAddr,
    /// Changes when old translations must not be used any longer.
    generation: AtomicU64,
    /// The one generation that each virtual processor works with.
    seen: ArrayVec<AtomicU64, MAX_VCPUS>,
    /// Locked when something is mapped or unmapped, which nobody does but who makes this
    /// guest, and its own virtual processors. Where tables are made, the lock of the map
    /// of frames is taken then; where a page is shown or hidden, none.
    tables: Mutex<NestedTables<F, TableFrame>>,
}

/// A virtual processor that is not loaded works with no translations at all.
const NOT_LOADED: u64 = u64::MAX;

impl<F: Format> Space<F> {
    /// A space with `memory` as RAM, for so many virtual processors.
    ///
    /// # Errors
    /// If there is no memory for the tables.
    ///
    /// # Panics
    /// If there are more than [`MAX_VCPUS`].
    pub fn new(memory: GuestMemory, vcpus: usize) -> Result<Arc<Self>, OutOfMemory> {
        let mut tables = NestedTables::new()?;
        for (guest, host) in memory.chunks() {
            tables.map(guest, host, CHUNK_BYTES, Access::Ram)?;
        }
        Ok(Arc::new(Self {
            memory: Arc::new(memory),
            root: tables.root(),
            generation: AtomicU64::new(0),
            seen: (0..vcpus).map(|_| AtomicU64::new(NOT_LOADED)).collect(),
            tables: Mutex::new(tables),
        }))
    }

    /// Makes the tables that are needed to [show pages](Self::show_page) anywhere in
    /// `range`, as long as those are in no more than `count` different large pages.
    ///
    /// # Errors
    /// If memory is short.
    ///
    /// # Panics
    /// As [`NestedTables::reserve`].
    pub fn reserve(&self, range: Range<GuestPhysAddr>, count: usize) -> Result<(), OutOfMemory> {
        self.tables.lock().reserve(range, count)
    }

    /// Shows the guest a page of registers at `host`, with the tables that there are:
    /// false if none is left for it. Allocates nothing.
    ///
    /// # Panics
    /// If an address is not that of a page.
    pub fn show_page(&self, guest: GuestPhysAddr, host: PhysAddr) -> bool {
        let mut tables = self.tables.lock();
        if !tables.has_tables_for(guest) {
            return false;
        }
        let replaced = tables.map(guest, host, SMALL_PAGE, Access::Device);
        if replaced == Ok(true) {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        replaced.is_ok()
    }

    /// Hides what is at `guest`. Processors that are in the guest may go on
    /// using it until they leave: wake them, and wait until
    /// [`is_settled`](Self::is_settled).
    ///
    /// # Panics
    /// As [`NestedTables::unmap`].
    pub fn unmap(&self, guest: GuestPhysAddr, length: u64) {
        self.tables.lock().unmap(guest, length);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether no processor uses translations from before the last change.
    pub fn is_settled(&self) -> bool {
        let generation = self.generation();
        let mut seen = self.seen.iter();
        seen.all(|seen| seen.load(Ordering::Acquire) >= generation)
    }

    /// How much memory the tables take, beside the RAM.
    pub fn overhead_bytes(&self) -> u64 {
        self.tables.lock().len_bytes()
    }

    /// Where the processor finds the tables.
    pub(super) fn root(&self) -> PhysAddr {
        self.root
    }

    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Virtual processor `vcpu` is about to work with `generation`.
    pub(super) fn set_seen(&self, vcpu: usize, generation: u64) {
        if let Some(seen) = self.seen.get(vcpu) {
            seen.store(generation, Ordering::SeqCst);
        }
    }

    /// Virtual processor `vcpu` has left its processor.
    pub(super) fn set_unloaded(&self, vcpu: usize) {
        self.set_seen(vcpu, NOT_LOADED);
    }
}
