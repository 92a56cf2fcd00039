//! CRC Generation and Copy with CRC Generation.
//!
//! [§8.3.12 "CRC Generation", §8.3.13 "Copy with CRC
//! Generation", Appendix A "CRC Computation"].

use crate::bits::low32;
use crate::completion::{Operand, Outcome, Status};
use crate::descriptor::{Descriptor, Flags};

use super::access::{Budget, Operands, PAGE_BYTES, Region, Staging, Stop, front_mut, step};
use super::checksum::{BitOrder, CRC32, CRC64, Polynomial};

/// Either operation.
#[derive(Debug)]
pub(super) struct Crc {
    source: Region,
    /// Where to copy to, if at all.
    destination: Option<Region>,
    size: u64,
    done: u64,
    format: Format,
    seed: Seed,
}

/// Where the computation starts from.
#[derive(Clone, Copy, Debug)]
enum Seed {
    /// Not read from memory yet.
    At(Region),
    /// The register of the computation, holding what was fed so far.
    Register(u64),
}

impl Crc {
    /// CRC Generation.
    pub(super) fn generation(descriptor: &Descriptor) -> Self {
        Self::new(descriptor, None)
    }

    /// Copy with CRC Generation.
    pub(super) fn copy(descriptor: &Descriptor) -> Self {
        let destination = Region::new(Operand::DESTINATION, descriptor.destination());
        Self::new(descriptor, Some(destination))
    }

    fn new(descriptor: &Descriptor, destination: Option<Region>) -> Self {
        let flags = descriptor.flags();
        let format = Format::new(flags);
        let seed = if flags.contains(Flags::READ_CRC_SEED) {
            Seed::At(Region::new(Operand::SOURCE_2, crc_seed_address(descriptor)))
        } else {
            Seed::Register(format.register(crc_seed(descriptor)))
        };
        Self {
            source: Region::new(Operand::SOURCE, descriptor.source()),
            destination,
            size: u64::from(descriptor.transfer_size()),
            done: 0,
            format,
            seed,
        }
    }

    pub(super) fn advance(
        &mut self,
        operands: &mut Operands<'_, '_>,
        mut budget: Budget,
    ) -> Option<Outcome> {
        let mut register = match self.seed {
            Seed::Register(register) => register,
            Seed::At(region) => match self.format.read_seed(operands, region) {
                Ok(register) => register,
                Err(stop) => return Some(stop.outcome(0)),
            },
        };

        let mut staging: Staging = [0; PAGE_BYTES];
        while self.done < self.size {
            let length = match self.destination {
                Some(destination) => step(self.done, self.size, [self.source, destination]),
                None => step(self.done, self.size, [self.source]),
            };
            let data = front_mut(&mut staging, length);
            let moved =
                operands
                    .read(self.source, self.done, data)
                    .and_then(|()| match self.destination {
                        Some(destination) => operands.write(destination, self.done, data),
                        None => Ok(()),
                    });
            if let Err(stop) = moved {
                let tail = self.format.value(register);
                return Some(Outcome {
                    tail,
                    ..stop.outcome(self.done)
                });
            }
            register = self.format.update(register, data);
            self.done += length as u64;
            if !budget.spend(length) {
                break;
            }
        }
        self.seed = Seed::Register(register);
        let tail = self.format.value(register);
        (self.done == self.size).then(|| Outcome {
            tail,
            ..Outcome::new(Status::SUCCESS)
        })
    }
}

/// What the operation-specific flags make of data, seed and result.
#[derive(Clone, Copy, Debug)]
struct Format {
    is_64_bit: bool,
    data_order: BitOrder,
    /// Seed and result are neither inverted nor reflected.
    bypass: bool,
}

impl Format {
    fn new(flags: Flags) -> Self {
        Self {
            is_64_bit: flags.contains(Flags::CRC_SIZE),
            data_order: if flags.contains(Flags::BYPASS_DATA_REFLECTION) {
                BitOrder::Normal
            } else {
                BitOrder::Reflected
            },
            bypass: flags.contains(Flags::BYPASS_CRC_INVERSION_AND_REFLECTION),
        }
    }

    fn polynomial(self) -> &'static Polynomial {
        if self.is_64_bit { &CRC64 } else { &CRC32 }
    }

    /// Exchanges a seed or result for the register that stands for it; the
    /// same steps lead back.
    fn exchange(self, value: u64) -> u64 {
        match (self.is_64_bit, self.bypass) {
            (true, true) => value.reverse_bits(),
            (true, false) => !value,
            (false, true) => u64::from(low32(value).reverse_bits()),
            (false, false) => u64::from(!low32(value)),
        }
    }

    fn register(self, seed: u64) -> u64 {
        self.exchange(seed)
    }

    fn update(self, register: u64, data: &[u8]) -> u64 {
        self.polynomial().update(register, data, self.data_order)
    }

    /// CRC Value, as the completion record holds it from byte 16 on.
    fn value(self, register: u64) -> [u8; 16] {
        u128::from(self.exchange(register)).to_le_bytes()
    }

    fn read_seed(self, operands: &mut Operands<'_, '_>, region: Region) -> Result<u64, Stop> {
        let mut seed = [0; 8];
        let length = if self.is_64_bit { 8 } else { 4 };
        operands.read(region, 0, front_mut(&mut seed, length))?;
        Ok(self.register(u64::from_le_bytes(seed)))
    }
}

/// CRC Seed; its upper half is reserved for a 32-bit CRC.
fn crc_seed(descriptor: &Descriptor) -> u64 {
    descriptor.u64_at(40)
}

/// CRC Seed Address.
pub(super) fn crc_seed_address(descriptor: &Descriptor) -> u64 {
    descriptor.u64_at(48)
}
