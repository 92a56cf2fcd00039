//! A page of pointers to tables, which are made when they are needed.

use alloc::vec::Vec;

use hwio::{DmaPages, FrameSource};
use x86_64::PhysAddr;

use crate::Error;
use crate::memory::{allocate_table, reserve_one};

/// Such a page, and its tables.
#[derive(Debug)]
pub(crate) struct Directory<P> {
    pages: P,
    /// By pointer.
    tables: Vec<(usize, P)>,
    is_coherent: bool,
}

impl<P: DmaPages> Directory<P> {
    /// A page without pointers.
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

    /// Makes the table of pointer `index`, unless it is there; `pointer` gives what leads
    /// to a table.
    pub(crate) fn add_table(
        &mut self,
        frames: &mut impl FrameSource<Pages = P>,
        index: usize,
        pointer: impl FnOnce(PhysAddr) -> u64,
    ) -> Result<(), Error> {
        if self.table(index).is_some() {
            return Ok(());
        }
        reserve_one(&mut self.tables)?;
        let table = allocate_table(frames, 1, self.is_coherent)?;
        let pointer = pointer(table.physical_address());
        self.tables.push((index, table));
        write(&mut self.pages, index, &[pointer], self.is_coherent);
        Ok(())
    }

    /// The table of pointer `index`.
    pub(crate) fn table(&self, index: usize) -> Option<&P> {
        let found = self.tables.iter().find(|&&(of, _)| of == index);
        found.map(|(_, table)| table)
    }

    /// All tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &P> {
        self.tables.iter().map(|(_, table)| table)
    }

    /// Writes the entry that begins at word `first` of the table of pointer `index`, which
    /// is there.
    pub(crate) fn write_entry(&mut self, index: usize, first: usize, words: &[u64]) {
        let mut tables = self.tables.iter_mut();
        let found = tables.find(|&&mut (of, _)| of == index);
        let (_, table) = found.expect("the table of an entry is made before it");
        write(table, first, words, self.is_coherent);
    }

    /// Clears all pointers, so many words at a time.
    pub(crate) fn clear<const WORDS: usize>(&mut self) {
        for first in (0..self.pages.len_words()).step_by(WORDS) {
            write(&mut self.pages, first, &[0; WORDS], self.is_coherent);
        }
    }
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
