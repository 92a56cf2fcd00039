//! Pages for the instructions under test to work on.

use crate::memory::{PAGE_SIZE, Pages};
use crate::paging::{self, Access};
use crate::program::{FIRST_FREE, Sandbox};

/// Two pages of source, then one of target, with gaps that are never mapped.
pub(super) const SOURCE: u64 = FIRST_FREE;
pub(super) const TARGET: u64 = FIRST_FREE + 4;

const SOURCE_SEED: u64 = 1;
const TARGET_SEED: u64 = 2;

/// Source and target pages in the scratch window, and the sandbox to run
/// instructions on them.
pub(super) struct Arena {
    pub(super) sandbox: Sandbox,
    pub(super) source: Pages,
    pub(super) target: Pages,
}

impl Arena {
    pub(super) fn new() -> Self {
        Self {
            sandbox: Sandbox::new(),
            source: Pages::allocate(2),
            target: Pages::one(),
        }
    }

    /// Everything mapped for CPL 0 and 3, with known contents.
    pub(super) fn reset(&self) {
        self.source.fill_pattern(SOURCE_SEED);
        self.reset_target();
        for page in 0..2 {
            let target = self.source.address() + page * PAGE_SIZE;
            paging::map(SOURCE + page, target, Access::UserRead);
        }
        self.map_target(Access::UserWrite);
    }

    /// The same, with zeroes where the checks put commands: the instructions
    /// want most of the first 32 bits to be zero.
    pub(super) fn reset_for_commands(&self) {
        self.reset();
        self.source.write_words(0, &[0; 8]);
        self.source.write_words(PAGE_SIZE - 64, &[0; 8]);
    }

    pub(super) fn reset_target(&self) {
        self.target.fill_pattern(TARGET_SEED);
    }

    pub(super) fn map_target(&self, access: Access) {
        paging::map(TARGET, self.target.address(), access);
    }

    /// The first and last byte of the target that are not as they were.
    pub(super) fn changed(&self) -> Option<(u64, u64)> {
        self.target.changed(TARGET_SEED)
    }
}

/// A linear address in the source pages.
pub(super) fn source(offset: u64) -> u64 {
    paging::scratch(SOURCE) + offset
}

/// A linear address in the target page.
pub(super) fn target(offset: u64) -> u64 {
    paging::scratch(TARGET) + offset
}
