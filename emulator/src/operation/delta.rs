//! Create Delta Record and Apply Delta Record.
//!
//! [§8.3.8 "Create Delta Record", §8.3.9 "Apply Delta Record"].
//!
//! A delta record is an array of deltas of 10 bytes: a little-endian 16-bit
//! offset in units of 8 bytes, and the 8 bytes to put there.

use crate::bits::low32;
use crate::completion::{Operand, Outcome, Status};
use crate::descriptor::{Descriptor, Flags};

use super::access::{
    Budget, Operands, PAGE_BYTES, Region, Staging, Stop, at_most, front, front_mut, step,
    transferred,
};

/// The unit of comparison.
const WORD_BYTES: usize = 8;
/// The size of one delta.
pub(super) const DELTA_BYTES: usize = 10;
/// The largest transfer whose offsets fit into 16 bits.
pub(super) const MAX_TRANSFER_BYTES: u32 = 0x8_0000;
/// The smallest Maximum Delta Record Size: a cache line that differs throughout.
pub(super) const MIN_RECORD_BYTES: u32 = 80;

/// Create Delta Record.
#[derive(Debug)]
pub(super) struct Create {
    sources: [Region; 2],
    record: Region,
    size: u64,
    max_record_bytes: u64,
    /// Bytes compared so far, their deltas written.
    done: u64,
    /// Bytes of the delta record written so far.
    recorded: u64,
    /// Expected Result Mask, if Check Result is set.
    expected: Option<u8>,
}

impl Create {
    pub(super) fn new(descriptor: &Descriptor) -> Self {
        let checked = descriptor.flags().contains(Flags::CHECK_RESULT);
        Self {
            sources: [
                Region::new(Operand::SOURCE, descriptor.source()),
                Region::new(Operand::SOURCE_2, descriptor.destination()),
            ],
            record: Region::new(Operand::DESTINATION, delta_record_address(descriptor)),
            size: u64::from(descriptor.transfer_size()),
            max_record_bytes: u64::from(max_delta_record_size(descriptor)),
            done: 0,
            recorded: 0,
            expected: checked.then(|| descriptor.u8_at(56)),
        }
    }

    pub(super) fn advance(
        &mut self,
        operands: &mut Operands<'_, '_>,
        mut budget: Budget,
    ) -> Option<Outcome> {
        let mut old: Staging = [0; PAGE_BYTES];
        let mut new: Staging = [0; PAGE_BYTES];
        let [first, second] = self.sources;
        while self.done < self.size {
            let length = step(self.done, self.size, self.sources);
            let old = front_mut(&mut old, length);
            let new = front_mut(&mut new, length);
            let read = operands
                .read(first, self.done, old)
                .and_then(|()| operands.read(second, self.done, new));
            if let Err(stop) = read {
                return Some(self.stopped(stop));
            }

            let deltas = self.collect(old, new);
            if let Err(stop) = operands.write(self.record, self.recorded, deltas.bytes()) {
                // Go back to the first delta that was not written whole.
                let written = stop.transferred / DELTA_BYTES;
                self.recorded += (written * DELTA_BYTES) as u64;
                self.done = deltas.offset_of(written);
                return Some(self.stopped(stop));
            }
            self.recorded += deltas.bytes().len() as u64;
            if let Some(offset) = deltas.no_room_for {
                let bytes_completed = low32(offset);
                return Some(Outcome {
                    bytes_completed,
                    ..self.finished(2)
                });
            }

            self.done += length as u64;
            if !budget.spend(length) {
                break;
            }
        }
        (self.done == self.size).then(|| self.finished(u8::from(self.recorded > 0)))
    }

    /// The deltas between two chunks, as many as there is room for.
    fn collect(&self, old: &[u8], new: &[u8]) -> Deltas {
        let room = self.max_record_bytes.saturating_sub(self.recorded) / DELTA_BYTES as u64;
        let mut deltas = Deltas::default();
        let words = old.as_chunks().0.iter().zip(new.as_chunks().0);
        for (offset, (old, new)) in (self.done..).step_by(WORD_BYTES).zip(words) {
            if old == new {
                continue;
            }
            if deltas.count as u64 == room {
                deltas.no_room_for = Some(offset);
                break;
            }
            deltas.push(offset, new);
        }
        deltas
    }

    fn stopped(&self, stop: Stop) -> Outcome {
        let result = u8::from(self.recorded > 0);
        Outcome {
            result,
            tail: self.tail(),
            ..stop.outcome(self.done)
        }
    }

    fn finished(&self, result: u8) -> Outcome {
        let as_expected = self.expected.is_none_or(|mask| mask >> result & 1 == 1);
        let status = if as_expected {
            Status::SUCCESS
        } else {
            Status::FALSE_PREDICATE
        };
        Outcome {
            result,
            tail: self.tail(),
            ..Outcome::new(status)
        }
    }

    /// Delta Record Size.
    fn tail(&self) -> [u8; 16] {
        u128::from(self.recorded).to_le_bytes()
    }
}

/// The deltas of one chunk.
struct Deltas {
    bytes: [u8; PAGE_BYTES / WORD_BYTES * DELTA_BYTES],
    count: usize,
    /// Offset of the first difference that the delta record has no room for.
    no_room_for: Option<u64>,
}

impl Default for Deltas {
    fn default() -> Self {
        Self {
            bytes: [0; PAGE_BYTES / WORD_BYTES * DELTA_BYTES],
            count: 0,
            no_room_for: None,
        }
    }
}

impl Deltas {
    fn push(&mut self, offset: u64, data: &[u8; WORD_BYTES]) {
        let deltas = self.bytes.as_chunks_mut::<DELTA_BYTES>().0;
        if let Some(delta) = deltas.get_mut(self.count) {
            *delta = encode(offset, data);
            self.count += 1;
        }
    }

    fn bytes(&self) -> &[u8] {
        front(&self.bytes, self.count * DELTA_BYTES)
    }

    /// The offset that delta `index` describes.
    fn offset_of(&self, index: usize) -> u64 {
        self.bytes
            .as_chunks()
            .0
            .get(index)
            .map_or(0, |delta| decode(delta).0)
    }
}

fn encode(offset: u64, data: &[u8; WORD_BYTES]) -> [u8; DELTA_BYTES] {
    let [low, high, ..] = (offset / WORD_BYTES as u64).to_le_bytes();
    let [a, b, c, d, e, f, g, h] = *data;
    [low, high, a, b, c, d, e, f, g, h]
}

/// The offset in bytes, and the data.
fn decode(delta: &[u8; DELTA_BYTES]) -> (u64, [u8; WORD_BYTES]) {
    let [low, high, data @ ..] = *delta;
    (
        u64::from(u16::from_le_bytes([low, high])) * WORD_BYTES as u64,
        data,
    )
}

/// Apply Delta Record.
#[derive(Debug)]
pub(super) struct Apply {
    record: Region,
    destination: Region,
    size: u64,
    record_bytes: u64,
    /// Bytes of the delta record applied so far.
    done: u64,
    /// The lowest offset that the next delta may have.
    next_offset: u64,
}

impl Apply {
    pub(super) fn new(descriptor: &Descriptor) -> Self {
        Self {
            record: Region::new(Operand::SOURCE, descriptor.source()),
            destination: Region::new(Operand::DESTINATION, descriptor.destination()),
            size: u64::from(descriptor.transfer_size()),
            record_bytes: u64::from(delta_record_size(descriptor)),
            done: 0,
            next_offset: 0,
        }
    }

    pub(super) fn advance(
        &mut self,
        operands: &mut Operands<'_, '_>,
        mut budget: Budget,
    ) -> Option<Outcome> {
        let mut staging = [0; PAGE_BYTES / DELTA_BYTES * DELTA_BYTES];
        while self.done < self.record_bytes {
            let length = at_most(self.record_bytes - self.done, staging.len());
            let data = front_mut(&mut staging, length);
            let read = operands.read(self.record, self.done, data);
            for delta in front(data, transferred(read, length)).as_chunks().0 {
                if let Err(outcome) = self.apply(operands, delta) {
                    return Some(outcome);
                }
            }
            if let Err(stop) = read {
                return Some(stop.outcome(self.done));
            }
            if !budget.spend(length) {
                break;
            }
        }
        (self.done == self.record_bytes).then(|| Outcome::new(Status::SUCCESS))
    }

    fn apply(
        &mut self,
        operands: &mut Operands<'_, '_>,
        delta: &[u8; DELTA_BYTES],
    ) -> Result<(), Outcome> {
        let (offset, data) = decode(delta);
        let refused = |status| Outcome {
            bytes_completed: low32(self.done),
            ..Outcome::new(status)
        };
        if offset >= self.size {
            return Err(refused(Status::DELTA_OUT_OF_RANGE));
        }
        if offset < self.next_offset {
            return Err(refused(Status::DELTA_NOT_INCREASING));
        }
        operands
            .write(self.destination, offset, &data)
            .map_err(|stop| stop.outcome(self.done))?;
        self.next_offset = offset + WORD_BYTES as u64;
        self.done += DELTA_BYTES as u64;
        Ok(())
    }
}

/// Delta Record Address of a Create Delta Record.
pub(super) fn delta_record_address(descriptor: &Descriptor) -> u64 {
    descriptor.u64_at(40)
}

/// Maximum Delta Record Size of a Create Delta Record.
pub(super) fn max_delta_record_size(descriptor: &Descriptor) -> u32 {
    descriptor.u32_at(48)
}

/// Delta Record Size of an Apply Delta Record, a multiple of [`DELTA_BYTES`].
pub(super) fn delta_record_size(descriptor: &Descriptor) -> u32 {
    descriptor.u32_at(40)
}
