//! The whole input: copied, verified and checksummed, piece by piece over all lanes.

use guest_rt::dsa::Work;

use crate::arena::{Arena, LARGEST};
use crate::lane::{Lane, Stuck};
use crate::operations::{CRC, size};
use crate::tally::Tally;

/// Pieces that are no multiple of anything.
const PIECE: usize = LARGEST - 37;

/// Returns the CRC32C as the device calculated it.
pub(crate) fn run(
    lanes: &[Lane],
    arena: &Arena,
    input: &'static [u8],
    tally: &mut Tally,
) -> Result<u32, Stuck> {
    let smallest = lanes.iter().map(|lane| lane.queue.limits.transfer).min();
    let piece = usize::try_from(smallest.unwrap_or(1))
        .unwrap_or(PIECE)
        .min(PIECE);
    let target = &arena.destination;
    let mut crc = 0;
    for (bytes, lane) in input.chunks(piece).zip(lanes.iter().cycle()) {
        let (from, to) = (bytes.as_ptr().addr() as u64, target.address(0));
        let length = bytes.len();
        target.fill(0, length, 0);
        let work = Work::memory_move(from, to, size(length));
        lane.expect(tally, work, format_args!("copy of the input"))?;
        tally.check(
            target.holds(0, bytes),
            format_args!("bytes of {length} of the input"),
        );
        let work = Work::crc(from, size(length), crc);
        let record = lane.expect(tally, work, format_args!("CRC of the input"))?;
        crc = u32::try_from(record.word2).unwrap_or(0);
    }
    tally.check(
        crc == CRC.checksum(input),
        format_args!("CRC32C of the input: {crc:#010x} by the DSA"),
    );
    Ok(crc)
}
