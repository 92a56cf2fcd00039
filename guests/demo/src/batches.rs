//! Many descriptors at once: fences, records, interrupts of members, and a failure.

use core::time::Duration;

use guest_rt::dsa::{Batch, Work};
use guest_rt::interrupts;
use guest_rt::random::Random;
use hwspec::dsa::Status;

use crate::arena::Arena;
use crate::lane::{Lane, Stuck};
use crate::operations::{CRC, size};
use crate::tally::Tally;

/// The most members of a batch here.
pub(crate) const MOST: usize = 128;
/// How long the second of two interrupts may take.
const LATE: Duration = Duration::from_millis(20);
/// Bytes that each member works on.
const PIECE: usize = 256;

/// Batches of several sizes, and what can go wrong in one.
pub(crate) fn run(
    lane: &Lane,
    arena: &Arena,
    batch: &mut Batch,
    tally: &mut Tally,
) -> Result<(), Stuck> {
    let mut random = Random::new(2);
    for count in [2, 3, 16, 64, MOST] {
        if count <= lane.queue.limits.batch {
            mixed(lane, arena, batch, tally, &mut random, count)?;
        }
    }
    fence(lane, arena, batch, tally)?;
    failing_member(lane, arena, batch, tally)?;
    interrupting_member(lane, arena, batch, tally)
}

/// What member `index` of a mixed batch does.
#[derive(Clone, Copy)]
enum Kind {
    Copy(usize),
    Fill(u64),
    Crc(usize),
}

/// `count` copies, fills and checksums.
pub(crate) fn mixed(
    lane: &Lane,
    arena: &Arena,
    batch: &mut Batch,
    tally: &mut Tally,
    random: &mut Random,
    count: usize,
) -> Result<(), Stuck> {
    let (source, target) = (&arena.source, &arena.destination);
    let mut kinds = [Kind::Fill(0); MOST];
    batch.clear();
    for (index, kind) in kinds.iter_mut().enumerate().take(count) {
        let to = target.address(index * PIECE);
        let from = random.index(PIECE * MOST);
        let (chosen, work) = match random.below(4) {
            0 => {
                let pattern = random.next_u64();
                (Kind::Fill(pattern), Work::fill(pattern, to, size(PIECE)))
            }
            1 => {
                let work = Work::crc(source.address(from), size(PIECE), 0);
                (Kind::Crc(from), work)
            }
            _ => {
                let work = Work::memory_move(source.address(from), to, size(PIECE));
                (Kind::Copy(from), work)
            }
        };
        *kind = chosen;
        batch.push(work);
    }
    lane.run_batch(tally, batch)?;
    whole(lane, batch, tally, Status::SUCCESS);
    for (index, kind) in kinds.iter().enumerate().take(count) {
        let record = batch.records().read(index);
        let at = index * PIECE;
        let is_right = match *kind {
            Kind::Copy(from) => target.holds(at, arena.expected(from, PIECE)),
            Kind::Fill(pattern) => (at..at + PIECE)
                .step_by(8)
                .all(|at| target.read_u64(at) == pattern),
            Kind::Crc(from) => record.word2 == u64::from(CRC.checksum(arena.expected(from, PIECE))),
        };
        let status = record.word0.status();
        tally.check(
            is_right && status == Status::SUCCESS,
            format_args!("member {index} of a batch of {count}: {status}"),
        );
    }
    Ok(())
}

/// The record of the whole.
fn whole(lane: &Lane, batch: &Batch, tally: &mut Tally, expected: Status) {
    let record = batch.records().read(batch.own()).word0;
    let (status, count) = (record.status(), batch.count());
    let done = record.bytes_completed();
    tally.check(
        status == expected && done == size(count),
        format_args!(
            "wq{} batch of {count}: {status}, {done} done",
            lane.queue.index
        ),
    );
}

/// A chain of copies, each of which needs the one before.
fn fence(lane: &Lane, arena: &Arena, batch: &mut Batch, tally: &mut Tally) -> Result<(), Stuck> {
    const LINKS: usize = 8;
    let target = &arena.destination;
    target.fill(0, LINKS * PIECE, 0);
    batch.clear();
    for link in 0..LINKS {
        let to = target.address(link * PIECE);
        batch.push(match link.checked_sub(1) {
            None => Work::memory_move(arena.source.address(0), to, size(PIECE)),
            Some(before) => {
                Work::memory_move(target.address(before * PIECE), to, size(PIECE)).fence()
            }
        });
    }
    lane.run_batch(tally, batch)?;
    whole(lane, batch, tally, Status::SUCCESS);
    tally.check(
        target.holds((LINKS - 1) * PIECE, arena.expected(0, PIECE)),
        format_args!("bytes at the end of a chain of fences"),
    );
    Ok(())
}

/// One member that the device refuses, between others that it does not.
fn failing_member(
    lane: &Lane,
    arena: &Arena,
    batch: &mut Batch,
    tally: &mut Tally,
) -> Result<(), Stuck> {
    let (source, target) = (arena.source.address(0), &arena.destination);
    target.fill(0, 3 * PIECE, 0);
    batch.clear();
    let copy = |index| Work::memory_move(source, target.address(index * PIECE), size(PIECE));
    for work in [copy(0), copy(1).size(0), copy(2)] {
        batch.push(work);
    }
    lane.run_batch(tally, batch)?;
    whole(lane, batch, tally, Status::BATCH_FAILURE);
    // The member's, and that of the whole.
    tally.errors += 2;
    let statuses = [0, 1, 2].map(|index| batch.records().status(index));
    tally.check(
        statuses == [Status::SUCCESS, Status::TRANSFER_SIZE, Status::SUCCESS],
        format_args!("a batch with a transfer of 0 bytes: {statuses:?}"),
    );
    for (index, is_written) in [(0, true), (1, false), (2, true)] {
        let is_right = if is_written {
            target.holds(index * PIECE, arena.expected(0, PIECE))
        } else {
            target.is_all(index * PIECE, PIECE, 0)
        };
        tally.check(is_right, format_args!("bytes of member {index}"));
    }
    Ok(())
}

/// A member with an interrupt of its own.
fn interrupting_member(
    lane: &Lane,
    arena: &Arena,
    batch: &mut Batch,
    tally: &mut Tally,
) -> Result<(), Stuck> {
    let before = interrupts::count(lane.queue.vector);
    batch.clear();
    let to = |index: usize| arena.destination.address(index * PIECE);
    let source = arena.source.address(0);
    batch.push(Work::memory_move(source, to(0), size(PIECE)).interrupt(lane.queue.handle));
    batch.push(Work::memory_move(source, to(1), size(PIECE)));
    lane.run_batch(tally, batch)?;
    whole(lane, batch, tally, Status::SUCCESS);
    // The two may come together, or one after the other; what comes late must not be
    // taken for an interrupt of what is done next.
    interrupts::wait_until(LATE, || {
        interrupts::count(lane.queue.vector).wrapping_sub(before) >= 2
    });
    let came = interrupts::count(lane.queue.vector).wrapping_sub(before);
    tally.check(
        came == 1 || came == 2,
        format_args!("{came} interrupts of a batch with an interrupting member"),
    );
    Ok(())
}
