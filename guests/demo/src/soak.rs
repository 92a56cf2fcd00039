//! Much work, until a goal is reached.

use core::time::Duration;

use guest_rt::clock::Deadline;
use guest_rt::dsa::{Batch, Work};
use guest_rt::options::{BadNumber, Options};
use guest_rt::random::Random;
use hwspec::dsa::Status;

use crate::arena::Arena;
use crate::batches;
use crate::lane::{Lane, Stuck};
use crate::operations::size;
use crate::tally::Tally;

/// Copies at the same time.
const TOGETHER: usize = 8;
/// Room for each of them.
const PIECE: usize = 2048;

/// When it is enough.
#[derive(Debug)]
pub(crate) enum Goal {
    /// At once.
    None,
    /// After so many rounds.
    Rounds(u64),
    /// When so many descriptors were submitted in all.
    Descriptors(u64),
    /// After some time.
    Time(Duration),
}

impl Goal {
    /// `rounds=`, `descriptors=` or `seconds=`, the first of them that is there.
    pub(crate) fn from(options: &Options<'static>) -> Result<Self, BadNumber<'static>> {
        if let Some(rounds) = options.number("rounds")? {
            return Ok(Self::Rounds(rounds));
        }
        if let Some(descriptors) = options.number("descriptors")? {
            return Ok(Self::Descriptors(descriptors));
        }
        let seconds = options.number("seconds")?;
        Ok(seconds.map_or(Self::None, |seconds| {
            Self::Time(Duration::from_secs(seconds))
        }))
    }
}

/// Works on all lanes until the goal is reached, and returns the number of rounds.
pub(crate) fn run(
    goal: &Goal,
    lanes: &[Lane],
    arena: &Arena,
    batch: &mut Batch,
    tally: &mut Tally,
) -> Result<u64, Stuck> {
    let mut random = Random::new(3);
    let deadline = match goal {
        Goal::Time(time) => Deadline::after(*time),
        _ => Deadline::after(Duration::MAX),
    };
    let mut rounds = 0;
    loop {
        let is_enough = match *goal {
            Goal::None => true,
            Goal::Rounds(limit) => rounds >= limit,
            Goal::Descriptors(limit) => tally.submitted >= limit,
            Goal::Time(_) => deadline.has_passed(),
        };
        if is_enough {
            return Ok(rounds);
        }
        for lane in lanes {
            round(lane, arena, batch, tally, &mut random)?;
        }
        rounds += 1;
    }
}

/// A batch of 64, and several copies at the same time.
fn round(
    lane: &Lane,
    arena: &Arena,
    batch: &mut Batch,
    tally: &mut Tally,
    random: &mut Random,
) -> Result<(), Stuck> {
    let members = 64.min(lane.queue.limits.batch);
    if members >= 2 {
        batches::mixed(lane, arena, batch, tally, random, members)?;
    }
    if lane.depth() < TOGETHER {
        return Ok(());
    }
    let (source, target) = (&arena.source, &arena.destination2);
    let copies: [(usize, usize); TOGETHER] =
        core::array::from_fn(|_| (random.index(PIECE), 1 + random.index(PIECE)));
    let mut index = 0;
    let works = copies.map(|(from, length)| {
        let to = target.address(index * PIECE);
        index += 1;
        Work::memory_move(source.address(from), to, size(length))
    });
    let records = lane.run_together(tally, works)?;
    for (index, (record, (from, length))) in records.iter().zip(copies).enumerate() {
        let status = record.word0.status();
        tally.check(
            status == Status::SUCCESS && target.holds(index * PIECE, arena.expected(from, length)),
            format_args!("copy of {length} bytes among others: {status}"),
        );
    }
    Ok(())
}
