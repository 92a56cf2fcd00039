//! The ways in: portal pages, and the instructions for them.
//! [DSA 3.0, ch. 3, "Work submission"]
#![expect(unsafe_code, reason = "instructions without an intrinsic")]

use core::arch::asm;

use super::descriptor::Descriptor;
use super::messages::MessageTable;
use crate::memory::{PAGE_SIZE, Window};

/// Which of a queue's four pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortalKind {
    UnlimitedMsiX,
    LimitedMsiX,
    UnlimitedStore,
    LimitedStore,
}

impl PortalKind {
    pub(crate) const ALL: [Self; 4] = [
        Self::UnlimitedMsiX,
        Self::LimitedMsiX,
        Self::UnlimitedStore,
        Self::LimitedStore,
    ];

    /// Where the handles of this page's descriptors lead to.
    pub(crate) const fn table(self) -> MessageTable {
        match self {
            Self::UnlimitedMsiX | Self::LimitedMsiX => MessageTable::MsiX,
            Self::UnlimitedStore | Self::LimitedStore => MessageTable::Store,
        }
    }

    pub(super) const fn offset(self) -> u64 {
        match self {
            Self::UnlimitedMsiX => 0,
            Self::LimitedMsiX => 0x1000,
            Self::UnlimitedStore => 0x2000,
            Self::LimitedStore => 0x3000,
        }
    }
}

/// What an enqueue store answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enqueued {
    Accepted,
    Retry,
}

/// One portal page.
///
/// What is submitted makes the device read and write memory. The checks name
/// only pages of their own in descriptors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portal(Window);

impl Portal {
    pub(super) fn new(window: &Window, offset: u64) -> Self {
        Self(window.part(offset, PAGE_SIZE))
    }

    /// The physical address of the page.
    pub(crate) fn address(&self) -> u64 {
        self.0.base()
    }

    /// MOVDIR64B.
    pub(crate) fn write(&self, descriptor: &Descriptor) {
        self.write_at(0, descriptor);
    }

    /// MOVDIR64B to the `slot`-th 64 bytes of the page.
    pub(crate) fn write_at(&self, slot: u64, descriptor: &Descriptor) {
        assert!(slot < PAGE_SIZE / 64, "a page has 64 slots");
        // SAFETY: the window is a mapped device page, which is all that is
        // written.
        unsafe {
            asm!(
                "movdir64b {target}, [{source}]",
                target = in(reg) self.address() + slot * 64,
                source = in(reg) descriptor.words().as_ptr(),
                options(nostack, preserves_flags),
            );
        }
    }

    /// ENQCMDS.
    pub(crate) fn enqueue(&self, descriptor: &Descriptor) -> Enqueued {
        let retry: u8;
        // SAFETY: as for MOVDIR64B.
        unsafe {
            asm!(
                "enqcmds {target}, [{source}]",
                "setz {retry}",
                target = in(reg) self.address(),
                source = in(reg) descriptor.words().as_ptr(),
                retry = out(reg_byte) retry,
                options(nostack),
            );
        }
        if retry == 0 {
            Enqueued::Accepted
        } else {
            Enqueued::Retry
        }
    }

    /// Eight ordinary stores, which no portal takes for a descriptor.
    pub(crate) fn write_in_pieces(&self, descriptor: &Descriptor) {
        for (offset, &word) in (0..).step_by(8).zip(descriptor.words()) {
            self.0.write_u64(offset, word);
        }
    }

    /// What a load answers.
    pub(crate) fn read(&self) -> u64 {
        self.0.read_u64(0)
    }
}
