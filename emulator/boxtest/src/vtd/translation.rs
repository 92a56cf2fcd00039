//! Page tables of the IOMMU, first-stage or second-stage: four levels of 512
//! entries, 4 KiB pages. [VT-d 5.10, 9.7 "First-Stage Paging Entries", 9.8
//! "Second-Stage Paging Entries"]

use crate::memory::Pages;

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    First,
    Second,
}

/// What requests may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    Read,
    ReadWrite,
    /// Second stage only.
    Write,
    /// First stage only: read and write, with supervisor privilege.
    Supervisor,
}

/// First-stage entries: P, R/W, U/S.
const FIRST_PRESENT: u64 = 1 << 0;
const FIRST_WRITE: u64 = 1 << 1;
const FIRST_USER: u64 = 1 << 2;
/// Second-stage entries: R and W.
const SECOND_READ: u64 = 1 << 0;
const SECOND_WRITE: u64 = 1 << 1;

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const LEVELS: u32 = 4;

/// One address space.
#[derive(Debug)]
pub(crate) struct AddressSpace {
    stage: Stage,
    /// The top table first.
    tables: [Option<Pages>; 12],
}

impl AddressSpace {
    /// Nothing is mapped.
    pub(crate) fn new(stage: Stage) -> Self {
        let mut tables = [const { None }; 12];
        tables[0] = Some(Pages::one());
        Self { stage, tables }
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn address(&self) -> u64 {
        self.tables[0].as_ref().map_or(0, Pages::address)
    }

    /// Maps the page at `input` to the one at `output`.
    pub(crate) fn map(&mut self, input: u64, output: u64, rights: Rights) {
        let bits = match (self.stage, rights) {
            (Stage::First, Rights::Read) => FIRST_PRESENT | FIRST_USER,
            (Stage::First, Rights::ReadWrite) => FIRST_PRESENT | FIRST_USER | FIRST_WRITE,
            (Stage::First, Rights::Supervisor) => FIRST_PRESENT | FIRST_WRITE,
            (Stage::Second, Rights::Read) => SECOND_READ,
            (Stage::Second, Rights::ReadWrite) => SECOND_READ | SECOND_WRITE,
            (Stage::Second, Rights::Write) => SECOND_WRITE,
            (stage, rights) => panic!("no {rights:?} in stage {stage:?}"),
        };
        self.set(input, output | bits);
    }

    /// Takes the page at `input` away. The caller invalidates.
    pub(crate) fn unmap(&mut self, input: u64) {
        self.set(input, 0);
    }

    fn set(&mut self, input: u64, leaf: u64) {
        let link = match self.stage {
            Stage::First => FIRST_PRESENT | FIRST_USER | FIRST_WRITE,
            Stage::Second => SECOND_READ | SECOND_WRITE,
        };
        let mut table = self.address();
        for level in (1..LEVELS).rev() {
            let slot = index(input, level);
            let entry = self.table(table).read(slot);
            table = if entry == 0 {
                let new = self.add_table();
                self.table(table).write(slot, new | link);
                new
            } else {
                entry & ADDRESS
            };
        }
        self.table(table).write(index(input, 0), leaf);
    }

    fn table(&self, address: u64) -> &Pages {
        self.tables
            .iter()
            .flatten()
            .find(|table| table.address() == address)
            .expect("every entry leads to a table of ours")
    }

    fn add_table(&mut self) -> u64 {
        let slot = self.tables.iter_mut().find(|table| table.is_none());
        let slot = slot.expect("the checks use no more page tables");
        slot.insert(Pages::one()).address()
    }
}

/// Byte offset of the entry for `input` in a table of `level` (0: leaves).
const fn index(input: u64, level: u32) -> u64 {
    (input >> (12 + 9 * level) & 0x1ff) * 8
}
