//! The memory that all the work is done in.

use guest_rt::memory::{Buffer, PAGE_SIZE};
use guest_rt::random::Random;

/// Bytes of each buffer: the largest transfer of the demo, and room to begin anywhere
/// in a page.
pub(crate) const LARGEST: usize = 64 * 1024;
const ROOM: usize = LARGEST + 2 * PAGE_SIZE;
/// The longest delta record: enough for every 8 bytes of a page.
pub(crate) const DELTA_ROOM: usize = 16 * 1024;

/// What is where nothing should be written.
pub(crate) const GUARD: u8 = 0x5a;

/// A source, two destinations and room for a delta record.
#[derive(Debug)]
pub(crate) struct Arena {
    /// Holds the same as `expected`, for the device.
    pub(crate) source: Buffer,
    pub(crate) destination: Buffer,
    pub(crate) destination2: Buffer,
    pub(crate) delta: Buffer,
    /// What the source holds.
    pub(crate) expected: &'static [u8],
}

impl Arena {
    /// A source that repeats `input`, or something random if there is none.
    pub(crate) fn new(input: &[u8]) -> Self {
        let mut random = Random::new(1);
        let mut bytes = alloc::vec![0_u8; ROOM];
        if input.is_empty() {
            bytes.fill_with(|| random.next_u64().to_le_bytes()[0]);
        } else {
            for (byte, &from) in bytes.iter_mut().zip(input.iter().cycle()) {
                *byte = from;
            }
        }
        let source = Buffer::new(ROOM);
        source.write_bytes(0, &bytes);
        Self {
            source,
            destination: Buffer::new(ROOM),
            destination2: Buffer::new(ROOM),
            delta: Buffer::new(DELTA_ROOM),
            expected: bytes.leak(),
        }
    }

    /// What `length` bytes of the source from `offset` on are.
    pub(crate) fn expected(&self, offset: usize, length: usize) -> &'static [u8] {
        self.expected
            .get(offset..offset + length)
            .unwrap_or_default()
    }
}

/// Prepares the surroundings of what is to be written.
pub(crate) fn guard(buffer: &Buffer, offset: usize, length: usize) {
    let (start, end) = surroundings(buffer, offset, length);
    buffer.fill(start, end - start, GUARD);
}

/// Whether the surroundings are still as [`guard`] left them.
pub(crate) fn is_guarded(buffer: &Buffer, offset: usize, length: usize) -> bool {
    let (start, end) = surroundings(buffer, offset, length);
    let behind = offset + length;
    buffer.is_all(start, offset - start, GUARD) && buffer.is_all(behind, end - behind, GUARD)
}

/// A cache line before and one behind, as far as the buffer reaches.
fn surroundings(buffer: &Buffer, offset: usize, length: usize) -> (usize, usize) {
    const LINE: usize = 64;
    let end = (offset + length + LINE).min(buffer.len_bytes());
    (offset.saturating_sub(LINE), end)
}
