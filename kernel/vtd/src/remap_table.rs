//! The interrupt remapping table.
//!
//! An entry belongs to one source-id, all 16 bits of which the unit compares. Where its
//! interrupt goes is in the low half, in which one store changes everything at once; the
//! high half, who may use it, is written while the low half says "not present".

use alloc::vec::Vec;

use hwio::{DmaPages, FrameSource, PAGE_WORDS};
use hwspec::pci::SourceId;
use hwspec::vtd::{IrteHigh, IrteLow, SourceValidation};
use x86_64::PhysAddr;

use crate::memory::allocate_table;
use crate::{Error, InUse, InterruptIndex, Route};

/// 64-bit words of an entry.
const WORDS: usize = 2;

#[derive(Debug)]
pub(crate) struct RemapTable<P> {
    pages: P,
    count_log2: u8,
    /// One bit for each entry that is allocated.
    allocated: Vec<u64>,
    is_coherent: bool,
}

impl<P: DmaPages> RemapTable<P> {
    /// A table of 2^`count_log2` entries, none of which is present.
    pub(crate) fn new(
        frames: &mut impl FrameSource<Pages = P>,
        count_log2: u8,
        is_coherent: bool,
    ) -> Result<Self, Error> {
        assert!((8..=16).contains(&count_log2), "2^{count_log2} interrupts");
        let count = 1_usize << count_log2;
        let mut allocated = Vec::new();
        allocated
            .try_reserve_exact(count / 64)
            .map_err(|_| Error::OutOfHeap)?;
        allocated.resize(count / 64, 0);
        Ok(Self {
            pages: allocate_table(frames, count * WORDS / PAGE_WORDS, is_coherent)?,
            count_log2,
            allocated,
            is_coherent,
        })
    }

    pub(crate) fn physical_address(&self) -> PhysAddr {
        self.pages.physical_address()
    }

    /// The size as IRTA_REG has it: 2^(S + 1) entries.
    pub(crate) fn size_code(&self) -> u8 {
        self.count_log2 - 1
    }

    /// How many entries are allocated.
    pub(crate) fn in_use(&self) -> InUse {
        let bits = self.allocated.iter().map(|word| word.count_ones());
        InUse {
            used: usize::try_from(bits.sum::<u32>()).unwrap_or(usize::MAX),
            total: 1 << self.count_log2,
        }
    }

    /// Takes a free entry for `source`. It is not present.
    pub(crate) fn allocate(&mut self, source: SourceId) -> Result<InterruptIndex, Error> {
        let mut words = self.allocated.iter_mut().enumerate();
        let free = words.find(|(_, word)| **word != !0);
        let Some((place, word)) = free else {
            let count = 1 << self.count_log2;
            return Err(Error::OutOfInterrupts { count });
        };
        let bit = word.trailing_ones();
        *word |= 1 << bit;
        let number = place * 64 + usize::try_from(bit).expect("it is below 64");
        let index = InterruptIndex::new(u16::try_from(number).expect("2^16 entries at most"));
        let high = IrteHigh::new()
            .with_sid(source.into_bits())
            .with_svt(SourceValidation::SOURCE_ID);
        self.write(number * WORDS + 1, high.into_bits());
        Ok(index)
    }

    /// Sets where an entry's interrupt goes. Returns whether it was present before.
    pub(crate) fn set(&mut self, index: InterruptIndex, route: Route) -> Result<bool, Error> {
        let word = self.word(index)?;
        let was_present = IrteLow::from_bits(self.pages.read_word(word)).p();
        let low = IrteLow::new()
            .with_p(true)
            .with_v(route.vector)
            .with_dst(route.apic_id);
        self.write(word, low.into_bits());
        Ok(was_present)
    }

    /// Makes an entry not present.
    pub(crate) fn clear(&mut self, index: InterruptIndex) -> Result<(), Error> {
        let word = self.word(index)?;
        self.write(word, IrteLow::new().into_bits());
        Ok(())
    }

    /// Gives an entry back that was cleared and that the unit has forgotten.
    pub(crate) fn release(&mut self, index: InterruptIndex) -> Result<(), Error> {
        let word = self.word(index)?;
        self.write(word + 1, IrteHigh::new().into_bits());
        let number = usize::from(index.number());
        if let Some(bits) = self.allocated.get_mut(number / 64) {
            *bits &= !(1 << (number % 64));
        }
        Ok(())
    }

    /// The first word of an entry that is allocated.
    fn word(&self, index: InterruptIndex) -> Result<usize, Error> {
        let number = usize::from(index.number());
        let bits = self.allocated.get(number / 64).copied().unwrap_or(0);
        if bits >> (number % 64) & 1 == 0 {
            return Err(Error::UnknownInterrupt(index));
        }
        Ok(number * WORDS)
    }

    fn write(&mut self, word: usize, value: u64) {
        self.pages.write_word(word, value);
        if !self.is_coherent {
            self.pages.write_back(word..word + 1);
        }
    }
}
