//! Each operation once or in several sizes, one at a time: every byte is verified, and
//! so is that each raised its interrupt.

use crc::{CRC_32_ISCSI, Crc, Table};
use guest_rt::dsa::Work;
use guest_rt::interrupts;

use crate::arena::{Arena, DELTA_ROOM, LARGEST, guard, is_guarded};
use crate::lane::{Lane, Stuck};
use crate::tally::Tally;

/// The CRC of [DSA 3.0, Appendix A "CRC Computation"], in software.
pub(crate) const CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Offset into the source, offset into the destination, length.
const COPIES: &[(usize, usize, usize)] = &[
    (0, 0, 1),
    (5, 3, 3),
    (1, 0, 7),
    (8, 8, 8),
    (9, 64, 63),
    (64, 128, 64),
    (63, 65, 65),
    (100, 4095, 511),
    (0, 4096, 4095),
    (4096, 0, 4096),
    (17, 4099, 4097),
    (4095, 1, 10_000),
    (0, 0, LARGEST),
];
const FILLS: &[(u64, usize, usize)] = &[
    (0, 0, 1),
    (0x0123_4567_89ab_cdef, 3, 13),
    (0xffff_ffff_ffff_ffff, 64, 64),
    (0xdead_beef_0bad_cafe, 100, 4096),
    (0x8000_0000_0000_0001, 4090, 20_000),
];
/// Length, and where the second differs if at all.
const COMPARES: &[(usize, Option<usize>)] = &[
    (1, None),
    (1, Some(0)),
    (64, Some(63)),
    (4096, None),
    (4097, Some(4096)),
    (LARGEST, None),
    (LARGEST, Some(30_001)),
];

/// The device's sizes are 32 bits wide.
pub(crate) fn size(length: usize) -> u32 {
    u32::try_from(length).expect("sizes of the demo are small")
}

/// Does everything that a single descriptor can do.
pub(crate) fn run(lane: &Lane, arena: &Arena, tally: &mut Tally) -> Result<(), Stuck> {
    let before = (tally.completed, interrupts::count(lane.queue.vector));
    copies(lane, arena, tally)?;
    fills(lane, arena, tally)?;
    compares(lane, arena, tally)?;
    patterns(lane, arena, tally)?;
    dualcasts(lane, arena, tally)?;
    checksums(lane, arena, tally)?;
    deltas(lane, arena, tally)?;
    lane.expect(tally, Work::no_op(), format_args!("no-op"))?;
    // One at a time, they cannot come together.
    let completed = tally.completed - before.0;
    let interrupts = interrupts::count(lane.queue.vector).wrapping_sub(before.1);
    tally.check(
        completed == u64::from(interrupts),
        format_args!("{completed} completions with {interrupts} interrupts"),
    );
    Ok(())
}

/// Whether the queue takes transfers of this length.
fn fits(lane: &Lane, length: usize) -> bool {
    length as u64 <= lane.queue.limits.transfer
}

fn copies(lane: &Lane, arena: &Arena, tally: &mut Tally) -> Result<(), Stuck> {
    for &(from, to, length) in COPIES.iter().filter(|&&(.., length)| fits(lane, length)) {
        let (source, destination) = (&arena.source, &arena.destination);
        guard(destination, to, length);
        let work = Work::memory_move(source.address(from), destination.address(to), size(length));
        lane.expect(tally, work, format_args!("copy of {length} bytes"))?;
        tally.check(
            destination.holds(to, arena.expected(from, length)),
            format_args!("bytes of a copy of {length}"),
        );
        tally.check(
            is_guarded(destination, to, length),
            format_args!("surroundings of a copy of {length}"),
        );
    }
    Ok(())
}

fn fills(lane: &Lane, arena: &Arena, tally: &mut Tally) -> Result<(), Stuck> {
    for &(pattern, to, length) in FILLS.iter().filter(|&&(.., length)| fits(lane, length)) {
        let destination = &arena.destination;
        guard(destination, to, length);
        let work = Work::fill(pattern, destination.address(to), size(length));
        lane.expect(tally, work, format_args!("fill of {length} bytes"))?;
        let expected = pattern.to_le_bytes().into_iter().cycle();
        let is_right = (to..to + length)
            .zip(expected)
            .all(|(at, byte)| destination.read_u8(at) == byte);
        tally.check(is_right, format_args!("bytes of a fill of {length}"));
        tally.check(
            is_guarded(destination, to, length),
            format_args!("surroundings of a fill of {length}"),
        );
    }
    Ok(())
}

fn compares(lane: &Lane, arena: &Arena, tally: &mut Tally) -> Result<(), Stuck> {
    for &(length, difference) in COMPARES.iter().filter(|&&(length, _)| fits(lane, length)) {
        let (source, other) = (&arena.source, &arena.destination);
        other.write_bytes(0, arena.expected(0, length));
        if let Some(at) = difference {
            other.write_u8(at, !source.read_u8(at));
        }
        let work = Work::compare(source.address(0), other.address(0), size(length));
        let record = lane.expect(tally, work, format_args!("compare of {length}"))?;
        let (result, bytes) = (record.word0.result(), record.word0.bytes_completed());
        let is_right = match difference {
            None => result == 0,
            // The device says where, to within the line it was at.
            Some(at) => result == 1 && bytes as usize <= at,
        };
        tally.check(
            is_right,
            format_args!("compare of {length} with {difference:?}: {result} at {bytes}"),
        );
    }
    Ok(())
}

fn patterns(lane: &Lane, arena: &Arena, tally: &mut Tally) -> Result<(), Stuck> {
    const PATTERN: u64 = 0x1122_3344_5566_7788;
    const LENGTH: usize = 4096;
    let destination = &arena.destination;
    for at in (0..LENGTH).step_by(8) {
        destination.write_u64(at, PATTERN);
    }
    for is_equal in [true, false] {
        if !is_equal {
            destination.write_u8(2000, 0);
        }
        let work = Work::compare_pattern(destination.address(0), PATTERN, size(LENGTH));
        let record = lane.expect(tally, work, format_args!("compare with a pattern"))?;
        let result = record.word0.result();
        tally.check(
            result == u8::from(!is_equal),
            format_args!("compare with a pattern, equal: {is_equal}: {result}"),
        );
    }
    Ok(())
}

fn dualcasts(lane: &Lane, arena: &Arena, tally: &mut Tally) -> Result<(), Stuck> {
    for (to, length) in [(0, 64), (100, 5000)] {
        let targets = [&arena.destination, &arena.destination2];
        for target in targets {
            guard(target, to, length);
        }
        let [first, second] = targets.map(|target| target.address(to));
        let work = Work::dualcast(arena.source.address(7), first, second, size(length));
        lane.expect(tally, work, format_args!("dualcast of {length}"))?;
        for target in targets {
            let is_right =
                target.holds(to, arena.expected(7, length)) && is_guarded(target, to, length);
            tally.check(is_right, format_args!("bytes of a dualcast of {length}"));
        }
    }
    Ok(())
}

fn checksums(lane: &Lane, arena: &Arena, tally: &mut Tally) -> Result<(), Stuck> {
    for (from, length) in [(0, 9), (3, 4096), (1000, 20_000)] {
        let destination = &arena.destination;
        guard(destination, 16, length);
        let (source, target) = (arena.source.address(from), destination.address(16));
        let work = Work::copy_crc(source, target, size(length), 0);
        let record = lane.expect(tally, work, format_args!("copy with CRC of {length}"))?;
        let expected = arena.expected(from, length);
        tally.check(
            record.word2 == u64::from(CRC.checksum(expected)),
            format_args!("CRC of {length} bytes: {:#x}", record.word2),
        );
        tally.check(
            destination.holds(16, expected) && is_guarded(destination, 16, length),
            format_args!("bytes of a copy with CRC of {length}"),
        );
    }
    Ok(())
}

fn deltas(lane: &Lane, arena: &Arena, tally: &mut Tally) -> Result<(), Stuck> {
    const LENGTH: usize = 4096;
    /// Bytes that differ; 8 and 9 are in one word, so four words are.
    const DIFFERENCES: [usize; 5] = [8, 9, 800, 2047, 4095];
    const WORDS: u32 = 4;
    let (source, target) = (&arena.source, &arena.destination2);
    target.write_bytes(0, arena.expected(0, LENGTH));
    for at in DIFFERENCES {
        target.write_u8(at, !source.read_u8(at));
    }
    // What changes `target` back into the source.
    let (from, to) = (target.address(0), source.address(0));
    let (delta, room) = (arena.delta.address(0), size(DELTA_ROOM));
    let work = Work::create_delta(from, to, size(LENGTH), delta, room);
    let record = lane.expect(tally, work, format_args!("create delta"))?;
    let delta_length = u32::try_from(record.word2).unwrap_or(u32::MAX);
    tally.check(
        record.word0.result() == 1 && delta_length == WORDS * 10,
        format_args!("delta record of {delta_length} bytes"),
    );
    if delta_length != WORDS * 10 {
        return Ok(());
    }
    let work = Work::apply_delta(delta, delta_length, from, size(LENGTH));
    lane.expect(tally, work, format_args!("apply delta"))?;
    tally.check(
        target.holds(0, arena.expected(0, LENGTH)),
        format_args!("bytes after a delta was applied"),
    );
    Ok(())
}
