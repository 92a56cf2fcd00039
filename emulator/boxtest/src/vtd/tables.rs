//! From a request's source-id and PASID to an address space.
//! [VT-d 5.10, ch. 9 "Translation Structure Formats"]

use bitfield_struct::bitfield;

use super::translation::{AddressSpace, Stage};
use crate::memory::Pages;
use crate::pci::SourceId;

const PRESENT: u64 = 1 << 0;

/// The scalable-mode root table, with the context tables of bus 0.
/// [9.2 "Scalable-Mode Root Entry"]: 256 entries of 16 bytes; their lower half
/// leads to the context entries of functions 0x00 to 0x7f, their upper half to
/// the others.
#[derive(Debug)]
pub(crate) struct RootTable {
    root: Pages,
    lower: Pages,
    upper: Pages,
}

/// First word of a scalable-mode context entry, which has 256 bits.
/// [9.4 "Scalable-Mode Context-Entry"]
#[bitfield(u64)]
pub(crate) struct ContextEntry {
    /// P
    pub(crate) present: bool,
    /// FPD: do not record faults.
    pub(crate) fault_processing_disable: bool,
    /// DTE, for device TLBs.
    pub(crate) device_tlb_enable: bool,
    /// PASIDE: requests with a PASID are processed.
    pub(crate) pasid_enable: bool,
    /// PRE, for page requests.
    pub(crate) page_request_enable: bool,
    #[bits(4)]
    _reserved_8_5: u8,
    /// PDTS: the PASID directory has 2^(PDTS + 7) entries.
    #[bits(3)]
    pub(crate) directory_size: u8,
    /// PASIDDIRPTR: bits 63:12 of the directory's address.
    #[bits(52)]
    pub(crate) directory: u64,
}

const _: () =
    assert!(ContextEntry::PASID_ENABLE_OFFSET == 3 && ContextEntry::DIRECTORY_SIZE_OFFSET == 9);

impl RootTable {
    const CONTEXT_ENTRY_SIZE: u64 = 32;

    /// No function may do anything.
    pub(crate) fn new() -> Self {
        let table = Self {
            root: Pages::one(),
            lower: Pages::one(),
            upper: Pages::one(),
        };
        table.root.write(0, table.lower.address() | PRESENT);
        table.root.write(8, table.upper.address() | PRESENT);
        table
    }

    pub(super) fn address(&self) -> u64 {
        self.root.address()
    }

    /// Sets or clears bits of the entry for the lower half of bus 0.
    pub(crate) fn set_bits(&self, bits: u64, on: bool) {
        let entry = self.root.read(0);
        let entry = if on { entry | bits } else { entry & !bits };
        self.root.write(0, entry);
    }

    /// Sets the context entry of a function on bus 0. Requests without a PASID
    /// take `rid_pasid`.
    pub(crate) fn set(&self, source: SourceId, entry: ContextEntry, rid_pasid: u32) {
        let function = u64::from(source.0 & 0xff);
        let table = if function < 0x80 {
            &self.lower
        } else {
            &self.upper
        };
        let words = [entry.into_bits(), u64::from(rid_pasid), 0, 0];
        table.write_words(function % 0x80 * Self::CONTEXT_ENTRY_SIZE, &words);
    }
}

/// PASID Granular Translation Type. [9.6, bits 8:6]
#[derive(Clone, Copy, Debug)]
enum TranslationType {
    FirstStage = 1,
    SecondStage = 2,
    PassThrough = 4,
}

/// A scalable-mode PASID table entry, 512 bits.
/// [9.6 "Scalable-Mode PASID Table Entry"]
#[derive(Clone, Copy, Debug)]
pub(crate) struct PasidEntry([u64; 8]);

impl PasidEntry {
    const FAULT_PROCESSING_DISABLE: u64 = 1 << 1;
    /// AW, bits 4:2: 48-bit addresses, four levels.
    const ADDRESS_WIDTH_48: u64 = 2 << 2;
    const TRANSLATION_TYPE_SHIFT: u32 = 6;

    /// Nothing: all zero.
    pub(crate) const ABSENT: Self = Self([0; 8]);

    /// Requests are translated by `space`.
    pub(crate) fn translated(domain: u16, space: &AddressSpace) -> Self {
        let table = space.address();
        match space.stage() {
            // AW is for the second stage, reserved where there is none.
            Stage::First => Self::new(TranslationType::FirstStage, domain, 0, table),
            Stage::Second => Self::new(
                TranslationType::SecondStage,
                domain,
                table | Self::ADDRESS_WIDTH_48,
                0,
            ),
        }
    }

    /// Requests pass as they are.
    pub(crate) fn pass_through(domain: u16) -> Self {
        Self::new(TranslationType::PassThrough, domain, 0, 0)
    }

    fn new(kind: TranslationType, domain: u16, second_stage: u64, first_stage: u64) -> Self {
        let kind = (kind as u64) << Self::TRANSLATION_TYPE_SHIFT;
        Self([
            PRESENT | kind | second_stage,
            u64::from(domain),
            first_stage,
            0,
            0,
            0,
            0,
            0,
        ])
    }

    /// The same with P cleared.
    pub(crate) fn not_present(mut self) -> Self {
        self.0[0] &= !PRESENT;
        self
    }

    /// The same with a bit set that means nothing.
    pub(crate) fn with_reserved(mut self, word: usize, bit: u32) -> Self {
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << bit;
        }
        self
    }

    /// The same without recording of faults.
    pub(crate) fn silent(mut self) -> Self {
        self.0[0] |= Self::FAULT_PROCESSING_DISABLE;
        self
    }
}

/// A PASID directory for all 20-bit PASIDs, and the tables that are in use.
/// [9.5 "Scalable-Mode PASID Directory Entry"]: bits 19:6 of the PASID choose
/// the directory entry, bits 5:0 the entry in the table behind it.
#[derive(Debug)]
pub(crate) struct PasidDirectory {
    directory: Pages,
    tables: [Option<(u64, Pages)>; 8],
}

impl PasidDirectory {
    /// PDTS for 2^14 directory entries.
    const SIZE_CODE: u8 = 7;
    /// 2^14 entries of 8 bytes.
    const PAGES: u64 = 32;
    const ENTRY_SIZE: u64 = 64;

    /// No PASID is present.
    pub(crate) fn new() -> Self {
        Self {
            directory: Pages::allocate(Self::PAGES),
            tables: [const { None }; 8],
        }
    }

    /// A context entry for this directory.
    pub(crate) fn context_entry(&self) -> ContextEntry {
        ContextEntry::new()
            .with_present(true)
            .with_pasid_enable(true)
            .with_directory_size(Self::SIZE_CODE)
            .with_directory(self.directory.address() >> 12)
    }

    /// Sets the entry of one PASID. The caller invalidates.
    pub(crate) fn set(&mut self, pasid: u32, entry: PasidEntry) {
        let index = u64::from(pasid >> 6);
        let directory = &self.directory;
        let slot = self
            .tables
            .iter_mut()
            .find(|slot| slot.as_ref().is_none_or(|(used, _)| *used == index))
            .expect("the checks use no more PASID tables");
        let (_, table) = slot.get_or_insert_with(|| {
            let table = Pages::one();
            directory.write(index * 8, table.address() | PRESENT);
            (index, table)
        });
        // The word with the present bit last.
        let PasidEntry([first, rest @ ..]) = entry;
        let at = u64::from(pasid & 0x3f) * Self::ENTRY_SIZE;
        table.write(at, 0);
        table.write_words(at + 8, &rest);
        table.write(at, first);
    }

    /// Sets or clears a bit of the directory entry of `pasid`, which has a table.
    pub(crate) fn set_directory_bit(&self, pasid: u32, bit: u32, on: bool) {
        let at = u64::from(pasid >> 6) * 8;
        let entry = self.directory.read(at);
        let entry = if on {
            entry | 1 << bit
        } else {
            entry & !(1 << bit)
        };
        self.directory.write(at, entry);
    }
}
