//! Memory Move, Fill and Memory Copy with Dualcast.
//!
//! [§8.3.4 "Memory Move", §8.3.5 "Fill", §8.3.10 "Memory Copy
//! with Dualcast"].
//!
//! Cache control and strict ordering change nothing here: the bus carries out
//! writes at once and in order.

use crate::bits::low8;
use crate::completion::{Operand, Outcome, Status};
use crate::descriptor::{Descriptor, Flags};

use super::access::{
    Budget, Operands, PAGE_BYTES, Region, Staging, Stop, at_most, front, front_mut, step,
    step_down, transferred,
};

/// The staging buffer of a long move: large enough that copies of this size run
/// at full speed, small enough to stay in the cache between read and write.
const LARGE_STAGING_BYTES: usize = 4 * PAGE_BYTES;

/// Memory Move.
#[derive(Debug)]
pub(super) struct Move {
    source: Region,
    destination: Region,
    size: u64,
    done: u64,
    /// From the end down, because the destination begins inside the source.
    backwards: bool,
}

impl Move {
    pub(super) fn new(descriptor: &Descriptor) -> Self {
        let source = descriptor.source();
        let destination = descriptor.destination();
        let size = u64::from(descriptor.transfer_size());
        Self {
            source: Region::new(Operand::SOURCE, source),
            destination: Region::new(Operand::DESTINATION, destination),
            size,
            done: 0,
            backwards: destination
                .checked_sub(source)
                .is_some_and(|gap| 0 < gap && gap < size),
        }
    }

    pub(super) fn advance(
        &mut self,
        operands: &mut Operands<'_, '_>,
        mut budget: Budget,
    ) -> Option<Outcome> {
        let moved = if self.backwards {
            self.downwards(operands, budget)
        } else if !self.directly(operands, &mut budget) {
            Ok(())
        } else if self.size - self.done <= PAGE_BYTES as u64 {
            self.upwards::<PAGE_BYTES>(operands, budget)
        } else {
            self.upwards::<LARGE_STAGING_BYTES>(operands, budget)
        };
        match moved {
            Err(stop) => Some(Outcome {
                result: u8::from(self.backwards),
                ..stop.outcome(self.done)
            }),
            Ok(()) => (self.done == self.size).then(|| Outcome::new(Status::SUCCESS)),
        }
    }

    /// Lets the bus copy what it can. Returns whether there is more to do now.
    fn directly(&mut self, operands: &mut Operands<'_, '_>, budget: &mut Budget) -> bool {
        let length = at_most(self.size - self.done, budget.left());
        let copied = operands.copy(self.source, self.destination, self.done, length);
        self.done += copied as u64;
        copied == 0 || (budget.spend(copied) && self.done < self.size)
    }

    fn upwards<const STAGING_BYTES: usize>(
        &mut self,
        operands: &mut Operands<'_, '_>,
        mut budget: Budget,
    ) -> Result<(), Stop> {
        let mut staging = [0; STAGING_BYTES];
        while self.done < self.size {
            let length = at_most(self.size - self.done, STAGING_BYTES);
            let data = front_mut(&mut staging, length);
            let read = operands.read(self.source, self.done, data);
            let data = front(data, transferred(read, length));
            if !data.is_empty() {
                let write = operands.write(self.destination, self.done, data);
                self.done += transferred(write, data.len()) as u64;
                write?;
            }
            read?;
            if !budget.spend(length) {
                break;
            }
        }
        Ok(())
    }

    fn downwards(
        &mut self,
        operands: &mut Operands<'_, '_>,
        mut budget: Budget,
    ) -> Result<(), Stop> {
        let mut staging: Staging = [0; PAGE_BYTES];
        while self.done < self.size {
            let end = self.size - self.done;
            let length = step_down(end, [self.source, self.destination]);
            let offset = end - length as u64;
            let data = front_mut(&mut staging, length);
            operands.read(self.source, offset, data)?;
            operands.write(self.destination, offset, data)?;
            self.done += length as u64;
            if !budget.spend(length) {
                break;
            }
        }
        Ok(())
    }
}

/// Fill.
#[derive(Debug)]
pub(super) struct Fill {
    destination: Region,
    pattern: Pattern,
    size: u64,
    done: u64,
}

/// A pattern of 16 bytes; one of 8 stands here twice.
type Pattern = [u8; 16];

impl Fill {
    pub(super) fn new(descriptor: &Descriptor) -> Self {
        let lower = descriptor.source();
        let upper = if descriptor.flags().contains(Flags::PATTERN_SIZE) {
            descriptor.u64_at(40)
        } else {
            lower
        };
        Self {
            destination: Region::new(Operand::DESTINATION, descriptor.destination()),
            pattern: (u128::from(upper) << 64 | u128::from(lower)).to_le_bytes(),
            size: u64::from(descriptor.transfer_size()),
            done: 0,
        }
    }

    pub(super) fn advance(
        &mut self,
        operands: &mut Operands<'_, '_>,
        mut budget: Budget,
    ) -> Option<Outcome> {
        // One pattern more than a page, so that a step may begin at any byte
        // of the pattern.
        let mut repeated = [0; PAGE_BYTES + size_of::<Pattern>()];
        for copy in repeated.as_chunks_mut().0 {
            *copy = self.pattern;
        }
        while self.done < self.size {
            let length = step(self.done, self.size, [self.destination]);
            let phase = usize::from(low8(self.done % size_of::<Pattern>() as u64));
            let data = front(repeated.get(phase..).unwrap_or_default(), length);
            if let Err(stop) = operands.write(self.destination, self.done, data) {
                return Some(stop.outcome(self.done));
            }
            self.done += length as u64;
            if !budget.spend(length) {
                break;
            }
        }
        (self.done == self.size).then(|| Outcome::new(Status::SUCCESS))
    }
}

/// Memory Copy with Dualcast.
#[derive(Debug)]
pub(super) struct Dualcast {
    source: Region,
    destinations: [Region; 2],
    size: u64,
    done: u64,
}

impl Dualcast {
    pub(super) fn new(descriptor: &Descriptor) -> Self {
        Self {
            source: Region::new(Operand::SOURCE, descriptor.source()),
            destinations: [
                Region::new(Operand::DESTINATION, descriptor.destination()),
                Region::new(Operand::DESTINATION_2, destination_2(descriptor)),
            ],
            size: u64::from(descriptor.transfer_size()),
            done: 0,
        }
    }

    /// Where the second write of a step faults, the first has been done: the
    /// bus offers no way to ask beforehand. Bytes Completed does not count it,
    /// and software that goes on from there writes it again.
    pub(super) fn advance(
        &mut self,
        operands: &mut Operands<'_, '_>,
        mut budget: Budget,
    ) -> Option<Outcome> {
        let mut staging: Staging = [0; PAGE_BYTES];
        let [first, second] = self.destinations;
        while self.done < self.size {
            let length = step(self.done, self.size, [self.source, first, second]);
            let data = front_mut(&mut staging, length);
            let copied = operands
                .read(self.source, self.done, data)
                .and_then(|()| operands.write(first, self.done, data))
                .and_then(|()| operands.write(second, self.done, data));
            if let Err(stop) = copied {
                return Some(stop.outcome(self.done));
            }
            self.done += length as u64;
            if !budget.spend(length) {
                break;
            }
        }
        (self.done == self.size).then(|| Outcome::new(Status::SUCCESS))
    }
}

/// Destination2 Address of a dualcast.
pub(super) fn destination_2(descriptor: &Descriptor) -> u64 {
    descriptor.u64_at(40)
}
