//! A guest's memory on its way: cleared, then filled with its files, in pieces.
//!
//! That takes as long as the memory is large, and the processor that does it has guests
//! of its own. So it is done a piece at a time, between their turns.

use super::files::{Begin, load};
use super::{Blueprint, BuildError};
use crate::arch::clock;
use crate::loader::pieces::Piecewise;
use crate::virt::memory::{GuestMemory, MemoryInMaking};

/// How much of a guest's files is copied at once.
const PIECE_BYTES: u64 = 256 << 10;

/// A guest's memory that is not complete yet.
#[derive(Debug)]
pub struct Filling(State);

#[derive(Debug)]
enum State {
    Clears(MemoryInMaking),
    /// So many bytes of the files are there.
    Loads(GuestMemory, u64),
}

/// What came of a piece.
#[derive(Debug)]
pub enum Filled {
    /// There are more.
    Not(Filling),
    /// The memory is complete.
    Whole(Loaded),
}

/// A guest's memory with its files in it.
#[derive(Debug)]
pub struct Loaded {
    pub(super) memory: GuestMemory,
    pub(super) begin: Begin,
}

impl Filling {
    /// Begins.
    ///
    /// # Errors
    /// If the guest has an accelerator that does not work any more.
    pub fn new(blueprint: &Blueprint<'_>) -> Result<Self, BuildError> {
        match blueprint.lost_device() {
            Some(number) => Err(BuildError::DeviceLost(number)),
            None => {
                let memory = MemoryInMaking::new(blueprint.plan.memory_bytes);
                Ok(Self(State::Clears(memory)))
            }
        }
    }

    /// Does one piece more.
    ///
    /// # Errors
    /// If there is not enough memory, or a file is missing or cannot be loaded.
    pub fn go_on(self, blueprint: &Blueprint<'_>) -> Result<Filled, BuildError> {
        clock::fill(|| match self.0 {
            State::Clears(mut memory) => Ok(Filled::Not(Self(match memory.clear_piece()? {
                false => State::Clears(memory),
                true => State::Loads(memory.finish(), 0),
            }))),
            State::Loads(memory, done) => {
                let mut piece = Piecewise::new(&memory, done, PIECE_BYTES);
                let begin = load(&mut piece, blueprint)?;
                let (is_complete, taken) = (piece.is_complete(), piece.taken());
                Ok(match is_complete {
                    true => Filled::Whole(Loaded { memory, begin }),
                    false => Filled::Not(Self(State::Loads(memory, done + taken))),
                })
            }
        })
    }
}
