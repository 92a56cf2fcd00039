//! Random test cases: sizes, places and flags, memory with pages missing here
//! and there, and the comparison of what the model and an oracle made of them.

use super::machine::{BASE, Machine, PAGE, PAGES, Page, Random};
use super::oracle::Place;
use super::{Build, record_flags, run};
use crate::completion::{Operand, Outcome};
use crate::descriptor::{Flags, Opcode};

/// Cases per operation; Miri takes a few, only to see every path.
pub(super) const CASES: u64 = if cfg!(miri) { 6 } else { 200 };

/// Memory is divided into areas, so that operands in different areas cannot
/// overlap.
pub(super) const AREA: u64 = PAGES / 3 * PAGE;

/// The largest transfer that fits into an area from any place in its first
/// page on.
pub(super) const MAX_SIZE: u64 = if cfg!(miri) { 300 } else { AREA - PAGE };

/// One test case in the making.
pub(super) struct Case {
    pub(super) random: Random,
    pub(super) machine: Machine,
    pub(super) flags: Flags,
    pub(super) size: u64,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let machine = Machine::new(&mut random);
        let flags = record_flags() | Flags::BLOCK_ON_FAULT.when(random.once_in(4));
        // Most sizes small or near page boundaries, where mistakes live.
        let size = match random.below(4) {
            0 => 1 + random.below(70),
            1 => PAGE * (1 + random.below(3)) - 8 + random.below(17),
            _ => 1 + random.below(MAX_SIZE),
        };
        Self {
            random,
            machine,
            flags,
            size: size.min(MAX_SIZE),
        }
    }

    /// A place in area `index`, aligned to `alignment`.
    pub(super) fn place(&mut self, operand: Operand, index: u64, alignment: u64) -> Place {
        let offset = if self.random.once_in(3) {
            PAGE - alignment * self.random.below(8)
        } else {
            self.random.below(PAGE)
        };
        let offset = offset % PAGE / alignment * alignment;
        Place {
            operand,
            address: BASE + index * AREA + offset,
        }
    }

    /// Breaks some pages in half of the cases.
    pub(super) fn break_pages(&mut self) {
        if self.random.once_in(2) {
            return;
        }
        for _ in 0..=self.random.below(3) {
            let index = usize::try_from(self.random.below(PAGES)).unwrap();
            self.machine.pages[index] = self.random.pick(&[
                Page::Absent,
                Page::ReadOnly,
                Page::WriteOnly,
                Page::Absent,
                Page::ReadOnly,
                Page::WriteOnly,
                Page::Broken,
            ]);
        }
    }

    pub(super) fn flag(&mut self, flag: Flags) -> bool {
        let set = self.random.once_in(2);
        self.flags = self.flags | flag.when(set);
        set
    }

    pub(super) fn blocks_on_fault(&self) -> bool {
        self.flags.contains(Flags::BLOCK_ON_FAULT)
    }

    pub(super) fn build(&self, opcode: Opcode) -> Build {
        Build::new(opcode, self.flags)
    }

    /// Runs the descriptor and compares with what the oracle made of a copy of
    /// memory. `excess` are regions in which the model may have written more
    /// than the oracle when it stopped.
    pub(super) fn compare(
        mut self,
        build: Build,
        expected: Outcome,
        oracle: Machine,
        excess: &[Place],
    ) {
        let budget = self.random.pick(&[0, 1, 100, 5000, 1 << 20]);
        self.machine.copies = self.random.pick(&[0, 0, 1000, usize::MAX]);
        let descriptor = build.done();
        let outcome = run(&mut self.machine, &descriptor, budget);
        assert_eq!(
            outcome, expected,
            "{descriptor:x?} pages {:?}",
            self.machine.pages
        );

        let mut oracle = oracle;
        for place in excess {
            let length = usize::try_from(AREA - (place.address - BASE) % AREA).unwrap();
            let written = self.machine.at(place.address, length).to_vec();
            oracle.at(place.address, length).copy_from_slice(&written);
        }
        if self.machine.bytes != oracle.bytes {
            let differs = self
                .machine
                .bytes
                .iter()
                .zip(&oracle.bytes)
                .position(|(a, b)| a != b);
            panic!("memory differs at {differs:x?} after {descriptor:x?}");
        }
    }
}

/// Runs `test` on the cases of one operation.
pub(super) fn for_each_case(test: impl Fn(Case)) {
    (0..CASES).for_each(|seed| test(Case::new(seed)));
}
