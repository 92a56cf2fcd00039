//! Every operation once more, one byte, word or block at a time, as plainly as
//! the specification tells it. Nothing here is shared with the model but the
//! types of its answers.

use crate::bus::BusError;
use crate::completion::{Operand, Outcome, PageFault, Status};

use super::machine::Machine;

/// Where an operand is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) operand: Operand,
    pub(super) address: u64,
}

/// A descriptor that met a page or a device that it could not use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    cause: BusError,
    fault: PageFault,
}

impl Trouble {
    pub(super) fn outcome(self, bytes_completed: u64, block_on_fault: bool) -> Outcome {
        let (status, fault) = match self.cause {
            BusError::PageFault if block_on_fault => (0x04, Some(self.fault)),
            BusError::PageFault => (0x03, Some(self.fault)),
            BusError::Aborted => (if self.fault.write { 0x21 } else { 0x20 }, None),
        };
        let bytes_completed = u32::try_from(bytes_completed).unwrap();
        Outcome {
            bytes_completed,
            fault,
            ..Outcome::new(Status(status))
        }
    }
}

fn read(machine: &Machine, place: Place, offset: u64) -> Result<u8, Trouble> {
    let address = place.address + offset;
    let fault = PageFault {
        address,
        write: false,
        operand: place.operand,
    };
    machine
        .peek(address)
        .map_err(|cause| Trouble { cause, fault })
}

fn write(machine: &mut Machine, place: Place, offset: u64, value: u8) -> Result<(), Trouble> {
    let address = place.address + offset;
    let fault = PageFault {
        address,
        write: true,
        operand: place.operand,
    };
    machine
        .poke(address, value)
        .map_err(|cause| Trouble { cause, fault })
}

pub(super) fn read_all(
    machine: &Machine,
    place: Place,
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, Trouble> {
    (offset..offset + length)
        .map(|offset| read(machine, place, offset))
        .collect()
}

pub(super) fn write_all(
    machine: &mut Machine,
    place: Place,
    offset: u64,
    data: &[u8],
) -> Result<(), Trouble> {
    (offset..)
        .zip(data)
        .try_for_each(|(offset, value)| write(machine, place, offset, *value))
}

/// Copies forwards to every destination, and hands each copied byte on.
pub(super) fn copy(
    machine: &mut Machine,
    source: Place,
    destinations: &[Place],
    size: u64,
    block_on_fault: bool,
    mut copied: impl FnMut(u8),
) -> Outcome {
    for offset in 0..size {
        let result = read(machine, source, offset).and_then(|value| {
            // Not before all destinations are known to take it.
            for place in destinations {
                let old = machine.at(place.address + offset, 1)[0];
                write(machine, *place, offset, old)?;
            }
            for place in destinations {
                write(machine, *place, offset, value)?;
            }
            Ok(value)
        });
        match result {
            Ok(value) => copied(value),
            Err(trouble) => return trouble.outcome(offset, block_on_fault),
        }
    }
    Outcome::new(Status::SUCCESS)
}

/// Memory Move: backwards where the destination begins inside the source.
///
/// Page faults are met from the end down; the address reported is the first
/// byte of the part of the page that was wanted.
pub(super) fn memory_move(
    machine: &mut Machine,
    source: Place,
    destination: Place,
    size: u64,
    block_on_fault: bool,
) -> Outcome {
    let inside =
        source.address < destination.address && destination.address < source.address + size;
    if !inside {
        return copy(machine, source, &[destination], size, block_on_fault, drop);
    }
    for offset in (0..size).rev() {
        let result = read(machine, source, offset)
            .and_then(|value| write(machine, destination, offset, value));
        if let Err(mut trouble) = result {
            // Down to where a page of either buffer begins, or the buffers do.
            let wanted = (0..=offset)
                .rev()
                .find(|offset| {
                    *offset == 0
                        || (source.address + offset).is_multiple_of(4096)
                        || (destination.address + offset).is_multiple_of(4096)
                })
                .unwrap();
            trouble.fault.address -= offset - wanted;
            let outcome = trouble.outcome(size - offset - 1, block_on_fault);
            return Outcome {
                result: 1,
                ..outcome
            };
        }
    }
    Outcome::new(Status::SUCCESS)
}

pub(super) fn fill(
    machine: &mut Machine,
    pattern: &[u8],
    destination: Place,
    size: u64,
    block_on_fault: bool,
) -> Outcome {
    for (offset, value) in (0..size).zip(pattern.iter().cycle()) {
        if let Err(trouble) = write(machine, destination, offset, *value) {
            return trouble.outcome(offset, block_on_fault);
        }
    }
    Outcome::new(Status::SUCCESS)
}

/// Table 8-17: the status that goes with a result, if one is expected.
fn verdict(result: u8, good_results: Option<u8>) -> Status {
    match good_results {
        Some(mask) if mask & 1 << result == 0 => Status(0x02),
        _ => Status(0x01),
    }
}

/// Compare, or with `pattern` Compare Pattern. `expected` is Expected Result if
/// the result is checked.
pub(super) fn compare(
    machine: &Machine,
    source: Place,
    other: Result<Place, [u8; 8]>,
    size: u64,
    expected: Option<u8>,
    block_on_fault: bool,
) -> Outcome {
    let good = expected.map(|expected| 1 << (expected & 1));
    for offset in 0..size {
        let pair = read(machine, source, offset).and_then(|value| {
            let other = match other {
                Ok(place) => read(machine, place, offset)?,
                Err(pattern) => pattern[usize::try_from(offset % 8).unwrap()],
            };
            Ok((value, other))
        });
        match pair {
            Ok((value, other)) if value == other => {}
            Ok(_) => {
                let bytes_completed = u32::try_from(offset).unwrap();
                return Outcome {
                    result: 1,
                    bytes_completed,
                    ..Outcome::new(verdict(1, good))
                };
            }
            Err(trouble) => return trouble.outcome(offset, block_on_fault),
        }
    }
    Outcome::new(verdict(0, good))
}

pub(super) fn create_delta(
    machine: &mut Machine,
    sources: [Place; 2],
    record: Place,
    [size, max_record]: [u64; 2],
    good_results: Option<u8>,
    block_on_fault: bool,
) -> Outcome {
    let mut recorded = 0;
    let with_size = |outcome: Outcome, recorded: u64| Outcome {
        tail: u128::from(recorded).to_le_bytes(),
        ..outcome
    };
    for offset in (0..size).step_by(8) {
        let words = read_all(machine, sources[0], offset, 8)
            .and_then(|old| Ok((old, read_all(machine, sources[1], offset, 8)?)));
        let result = words.and_then(|(old, new)| {
            if old == new {
                return Ok(true);
            }
            if recorded + 10 > max_record {
                return Ok(false);
            }
            let mut delta = u16::try_from(offset / 8).unwrap().to_le_bytes().to_vec();
            delta.extend(new);
            write_all(machine, record, recorded, &delta)?;
            recorded += 10;
            Ok(true)
        });
        match result {
            Ok(true) => {}
            Ok(false) => {
                let bytes_completed = u32::try_from(offset).unwrap();
                let outcome = Outcome::new(verdict(2, good_results));
                return with_size(
                    Outcome {
                        result: 2,
                        bytes_completed,
                        ..outcome
                    },
                    recorded,
                );
            }
            Err(trouble) => {
                let outcome = trouble.outcome(offset, block_on_fault);
                let result = u8::from(recorded > 0);
                return with_size(Outcome { result, ..outcome }, recorded);
            }
        }
    }
    let result = u8::from(recorded > 0);
    with_size(
        Outcome {
            result,
            ..Outcome::new(verdict(result, good_results))
        },
        recorded,
    )
}

pub(super) fn apply_delta(
    machine: &mut Machine,
    record: Place,
    destination: Place,
    [size, record_size]: [u64; 2],
    block_on_fault: bool,
) -> Outcome {
    let mut previous = None;
    for done in (0..record_size).step_by(10) {
        let delta = match read_all(machine, record, done, 10) {
            Ok(delta) => delta,
            Err(trouble) => return trouble.outcome(done, block_on_fault),
        };
        let offset = u64::from(delta[1]) * 0x800 + u64::from(delta[0]) * 8;
        let error = if offset >= size {
            Some(0x08)
        } else if previous.is_some_and(|previous| offset <= previous) {
            Some(0x07)
        } else {
            None
        };
        if let Some(code) = error {
            let bytes_completed = u32::try_from(done).unwrap();
            return Outcome {
                bytes_completed,
                ..Outcome::new(Status(code))
            };
        }
        if let Err(trouble) = write_all(machine, destination, offset, &delta[2..]) {
            return trouble.outcome(done, block_on_fault);
        }
        previous = Some(offset);
    }
    Outcome::new(Status::SUCCESS)
}

/// CRC as Appendix A tells it: division of a polynomial whose coefficients come
/// in one by one, the register holding the remainder, highest power on the left.
pub(super) struct Division {
    width: u32,
    polynomial: u64,
    pub(super) register: u64,
}

/// The three operation-specific flags of the CRC operations.
#[derive(Clone, Copy, Debug)]
pub(super) struct CrcFlags {
    pub(super) bypass_inversion_and_reflection: bool,
    pub(super) bypass_data_reflection: bool,
    pub(super) is_64_bit: bool,
}

impl Division {
    pub(super) fn new(width: u32, polynomial: u64) -> Self {
        Self {
            width,
            polynomial,
            register: 0,
        }
    }

    pub(super) fn crc(flags: CrcFlags, seed: u64) -> Self {
        let mut division = if flags.is_64_bit {
            Self::new(64, 0xad93_d235_94c9_3659)
        } else {
            Self::new(32, 0x1edc_6f41)
        };
        division.register = division.translate(flags, seed);
        division
    }

    /// Between a seed or result in a descriptor or record, and the register.
    fn translate(&self, flags: CrcFlags, value: u64) -> u64 {
        if flags.bypass_inversion_and_reflection {
            return value;
        }
        (0..self.width)
            .map(|bit| (!value >> bit & 1) << (self.width - 1 - bit))
            .fold(0, |all, bit| all | bit)
    }

    fn bit(&mut self, coefficient: u8) {
        let highest = self.register >> (self.width - 1) & 1;
        let mask = u64::MAX >> (64 - self.width);
        self.register = self.register << 1 & mask;
        if highest != u64::from(coefficient) {
            self.register ^= self.polynomial;
        }
    }

    pub(super) fn byte(&mut self, value: u8, lowest_bit_first: bool) {
        for bit in 0..8 {
            let bit = if lowest_bit_first { bit } else { 7 - bit };
            self.bit(value >> bit & 1);
        }
    }

    fn tail(&self, flags: CrcFlags) -> [u8; 16] {
        u128::from(self.translate(flags, self.register)).to_le_bytes()
    }
}

/// What a CRC begins with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seed {
    Value(u64),
    At(Place),
}

/// CRC Generation, and with a destination Copy with CRC Generation.
pub(super) fn crc(
    machine: &mut Machine,
    source: Place,
    destination: Option<Place>,
    size: u64,
    (seed, flags): (Seed, CrcFlags),
    block_on_fault: bool,
) -> Outcome {
    let seed = match seed {
        Seed::Value(seed) => Ok(seed),
        Seed::At(place) => {
            read_all(machine, place, 0, if flags.is_64_bit { 8 } else { 4 }).map(|bytes| {
                bytes
                    .iter()
                    .rev()
                    .fold(0, |seed, byte| seed << 8 | u64::from(*byte))
            })
        }
    };
    let mut division = match seed {
        Ok(seed) => Division::crc(flags, seed),
        Err(trouble) => return trouble.outcome(0, block_on_fault),
    };
    let destinations = destination.as_slice();
    let outcome = copy(
        machine,
        source,
        destinations,
        size,
        block_on_fault,
        |byte| {
            division.byte(byte, !flags.bypass_data_reflection);
        },
    );
    Outcome {
        tail: division.tail(flags),
        ..outcome
    }
}
