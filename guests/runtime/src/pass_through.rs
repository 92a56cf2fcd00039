//! The lab box's IOMMU, told to let everything pass: only then does a DSA there take
//! PASIDs, without which there are no shared queues. Under Weir there is no IOMMU to be
//! seen.

use core::time::Duration;

use hwio::Registers;
use hwspec::pci::SourceId;
use hwspec::vtd::{
    ContextEntry, ContextEntry0, ContextTablePointer, GCMD, GSTS, Gcmd, PasidDirectoryEntry,
    PasidEntry, PasidEntry0, PasidEntry1, Pgtt, RTADDR, Rtaddr, TranslationTableMode,
};

use crate::clock;
use crate::memory::{Buffer, PAGE_SIZE};
use crate::mmio::Window;

/// Where the box has it.
const BASE: u64 = 0xfed9_0000;
const LIMIT: Duration = Duration::from_secs(1);
/// PASIDs below this pass: those of one table.
const PASIDS: usize = 64;

/// Lets requests of `device` pass, with and without PASIDs. False if the IOMMU does not
/// answer.
pub(crate) fn enable(device: SourceId) -> bool {
    let [root, contexts, directory, table] = [(); 4].map(|()| Buffer::new(PAGE_SIZE));
    let page = |buffer: &Buffer| buffer.address(0) >> 12;
    let entry = PasidEntry {
        word0: PasidEntry0::new()
            .with_p(true)
            .with_pgtt(Pgtt::PASS_THROUGH),
        word1: PasidEntry1::new().with_did(1),
        ..PasidEntry::default()
    };
    for pasid in 0..PASIDS {
        table.write_words(pasid * size_of::<PasidEntry>(), &entry.words());
    }
    let to_table = PasidDirectoryEntry::new()
        .with_p(true)
        .with_smptblptr(page(&table));
    directory.write_u64(0, to_table.into_bits());
    let context = ContextEntry {
        word0: ContextEntry0::new()
            .with_p(true)
            .with_paside(true)
            .with_pasiddirptr(page(&directory)),
        ..ContextEntry::default()
    };
    let index = usize::from(device.into_bits() & 0x7f);
    contexts.write_words(index * size_of::<ContextEntry>(), &context.words());
    let to_contexts = ContextTablePointer::new()
        .with_p(true)
        .with_ctp(page(&contexts));
    // Devices 0 to 15 of bus 0.
    root.write_u64(0, to_contexts.into_bits());
    let root_page = page(&root);
    // The tables stay for good.
    core::mem::forget([root, contexts, directory, table]);

    let mut registers = Window::new(BASE, PAGE_SIZE as u64);
    let pointer = Rtaddr::new()
        .with_ttm(TranslationTableMode::SCALABLE)
        .with_rta(root_page);
    registers.write(RTADDR, pointer);
    registers.write(GCMD, Gcmd::new().with_srtp(true));
    if !clock::spin_until(LIMIT, || registers.read(GSTS).rtps()) {
        return false;
    }
    registers.write(GCMD, Gcmd::new().with_te(true));
    clock::spin_until(LIMIT, || registers.read(GSTS).tes())
}
