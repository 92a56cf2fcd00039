//! Compare and Compare Pattern.
//!
//! [§8.3.6 "Compare", §8.3.7 "Compare Pattern"].

use crate::bits::{low8, low32};
use crate::completion::{Operand, Outcome, Status};
use crate::descriptor::{Descriptor, Flags};

use super::access::{Budget, Operands, PAGE_BYTES, Region, Staging, front, front_mut, step};

/// Either comparison.
#[derive(Debug)]
pub(super) struct Compare {
    source: Region,
    other: Other,
    size: u64,
    done: u64,
    /// Expected Result, if Check Result is set.
    expected: Option<u8>,
}

/// What the source is compared with.
#[derive(Clone, Copy, Debug)]
enum Other {
    Buffer(Region),
    Pattern([u8; 8]),
}

impl Compare {
    /// Compare.
    pub(super) fn buffers(descriptor: &Descriptor) -> Self {
        let other = Region::new(Operand::SOURCE_2, descriptor.destination());
        Self::new(descriptor, Other::Buffer(other))
    }

    /// Compare Pattern.
    pub(super) fn pattern(descriptor: &Descriptor) -> Self {
        Self::new(
            descriptor,
            Other::Pattern(descriptor.destination().to_le_bytes()),
        )
    }

    fn new(descriptor: &Descriptor, other: Other) -> Self {
        let checked = descriptor.flags().contains(Flags::CHECK_RESULT);
        Self {
            source: Region::new(Operand::SOURCE, descriptor.source()),
            other,
            size: u64::from(descriptor.transfer_size()),
            done: 0,
            expected: checked.then(|| descriptor.u8_at(40) & 1),
        }
    }

    pub(super) fn advance(
        &mut self,
        operands: &mut Operands<'_, '_>,
        mut budget: Budget,
    ) -> Option<Outcome> {
        let mut staging: Staging = [0; PAGE_BYTES];
        let mut reference: Staging = [0; PAGE_BYTES];
        while self.done < self.size {
            let length = match self.other {
                Other::Buffer(other) => step(self.done, self.size, [self.source, other]),
                Other::Pattern(_) => step(self.done, self.size, [self.source]),
            };
            let data = front_mut(&mut staging, length);
            let expected = front_mut(&mut reference, length);
            let read =
                operands
                    .read(self.source, self.done, data)
                    .and_then(|()| match self.other {
                        Other::Buffer(other) => operands.read(other, self.done, expected),
                        Other::Pattern(pattern) => {
                            repeat(pattern, self.done, expected);
                            Ok(())
                        }
                    });
            if let Err(stop) = read {
                return Some(stop.outcome(self.done));
            }
            if data != expected {
                let equal = data
                    .iter()
                    .zip(expected)
                    .take_while(|(a, b)| *a == *b)
                    .count();
                let bytes_completed = low32(self.done + equal as u64);
                return Some(Outcome {
                    bytes_completed,
                    ..self.finished(1)
                });
            }
            self.done += length as u64;
            if !budget.spend(length) {
                break;
            }
        }
        (self.done == self.size).then(|| self.finished(0))
    }

    /// The end of a comparison with this result [Table 8-17 "Completion Status
    /// for Compare Descriptor"].
    fn finished(&self, result: u8) -> Outcome {
        let as_expected = self.expected.is_none_or(|expected| expected == result);
        let status = if as_expected {
            Status::SUCCESS
        } else {
            Status::FALSE_PREDICATE
        };
        Outcome {
            result,
            ..Outcome::new(status)
        }
    }
}

/// Fills `buffer` with what the repeated `pattern` has at `offset`.
fn repeat(mut pattern: [u8; 8], offset: u64, buffer: &mut [u8]) {
    let phase = usize::from(low8(offset % pattern.len() as u64));
    pattern.rotate_left(phase);
    for chunk in buffer.chunks_mut(pattern.len()) {
        chunk.copy_from_slice(front(&pattern, chunk.len()));
    }
}
