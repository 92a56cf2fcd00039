//! DIF Check, Insert, Strip and Update, and DIX Generate.
//!
//! [§8.3.14 "DIF Check" to §8.3.18 "DIX Generate", Appendix B
//! "Data Integrity Field (DIF)"].
//!
//! A Data Integrity Field has 8 bytes, big-endian: a guard tag, which is the
//! T10 CRC of the block before it, an application tag and a reference tag. The
//! five operations differ in whether the source has fields (to be checked) and
//! in what goes to the destination: nothing, data, data with fields, or fields.

use crate::bits::{bit, low16, low32};
use crate::completion::{Operand, Outcome, Status};
use crate::descriptor::Descriptor;

use super::access::{Budget, Operands, Region, Stop, front, front_mut};
use super::checksum::{BitOrder, T10};

/// The size of a Data Integrity Field.
const FIELD_BYTES: usize = 8;
/// The largest block, and its field.
const MAX_BLOCK_BYTES: usize = 4104 + FIELD_BYTES;

/// Any of the five operations.
#[derive(Debug)]
pub(super) struct Dif {
    source: Region,
    destination: Region,
    blocks: Blocks,
    guard: Guard,
    /// Checks on the fields of the source, if it has any.
    check: Option<Check>,
    output: Output,
    /// Blocks done.
    done: u64,
}

/// What goes to the destination for each block.
#[derive(Debug)]
enum Output {
    Nothing,
    Data,
    DataAndField(Generate),
    Field(Generate),
}

impl Dif {
    /// DIF Check.
    pub(super) fn check(descriptor: &Descriptor) -> Self {
        Self::new(descriptor, Some(Check::new(descriptor)), Output::Nothing)
    }

    /// DIF Insert.
    pub(super) fn insert(descriptor: &Descriptor) -> Self {
        Self::new(
            descriptor,
            None,
            Output::DataAndField(Generate::without_source(descriptor)),
        )
    }

    /// DIF Strip.
    pub(super) fn strip(descriptor: &Descriptor) -> Self {
        Self::new(descriptor, Some(Check::new(descriptor)), Output::Data)
    }

    /// DIF Update.
    pub(super) fn update(descriptor: &Descriptor) -> Self {
        let output = Output::DataAndField(Generate::new(descriptor));
        Self::new(descriptor, Some(Check::new(descriptor)), output)
    }

    /// DIX Generate.
    pub(super) fn generate(descriptor: &Descriptor) -> Self {
        Self::new(
            descriptor,
            None,
            Output::Field(Generate::without_source(descriptor)),
        )
    }

    fn new(descriptor: &Descriptor, check: Option<Check>, output: Output) -> Self {
        Self {
            source: Region::new(Operand::SOURCE, descriptor.source()),
            destination: Region::new(Operand::DESTINATION, descriptor.destination()),
            blocks: Blocks::new(descriptor, check.is_some()),
            guard: Guard::new(dif_flags(descriptor)),
            check,
            output,
            done: 0,
        }
    }

    pub(super) fn advance(
        &mut self,
        operands: &mut Operands<'_, '_>,
        mut budget: Budget,
    ) -> Option<Outcome> {
        let mut block = [0; MAX_BLOCK_BYTES];
        while self.done < self.blocks.count {
            if let Err(outcome) = self.one_block(operands, &mut block) {
                return Some(outcome);
            }
            self.done += 1;
            if !budget.spend(self.blocks.source_bytes) {
                break;
            }
        }
        (self.done == self.blocks.count).then(|| self.with_tags(Outcome::new(Status::SUCCESS)))
    }

    /// Checks and writes one block; the tags move on when all of it succeeded.
    fn one_block(
        &mut self,
        operands: &mut Operands<'_, '_>,
        block: &mut [u8; MAX_BLOCK_BYTES],
    ) -> Result<(), Outcome> {
        let Blocks {
            data_bytes,
            source_bytes,
            ..
        } = self.blocks;
        let source = front_mut(block, source_bytes);
        operands
            .read(self.source, self.done * source_bytes as u64, source)
            .map_err(|stop| self.stopped(stop))?;

        let (data, after) = block.split_at_mut(data_bytes);
        let field = after.first_chunk_mut::<FIELD_BYTES>();
        let guard = self.guard.of(data);
        let original = field
            .as_deref()
            .copied()
            .map(Field::decode)
            .unwrap_or_default();
        if let Some(check) = &self.check {
            let dif_status = check.judge(guard, original);
            if dif_status != 0 {
                let error = Outcome {
                    result: dif_status,
                    ..Outcome::new(Status::DIF_ERROR)
                };
                return Err(self.with_tags(Outcome {
                    bytes_completed: low32(self.bytes_done()),
                    ..error
                }));
            }
        }
        if let (Output::DataAndField(generate) | Output::Field(generate), Some(field)) =
            (&self.output, field)
        {
            *field = generate.field(guard, original).encode();
        }

        let (begin, end) = match self.output {
            Output::Nothing => (0, 0),
            Output::Data => (0, data_bytes),
            Output::DataAndField(_) => (0, data_bytes + FIELD_BYTES),
            Output::Field(_) => (data_bytes, data_bytes + FIELD_BYTES),
        };
        if begin < end {
            let output = front(block, end).get(begin..).unwrap_or_default();
            let offset = self.done * (end - begin) as u64;
            operands
                .write(self.destination, offset, output)
                .map_err(|stop| self.stopped(stop))?;
        }

        if let Some(check) = &mut self.check {
            check.tags.advance();
        }
        if let Output::DataAndField(generate) | Output::Field(generate) = &mut self.output {
            generate.tags.advance();
        }
        Ok(())
    }

    fn bytes_done(&self) -> u64 {
        self.done * self.blocks.source_bytes as u64
    }

    fn stopped(&self, stop: Stop) -> Outcome {
        self.with_tags(stop.outcome(self.bytes_done()))
    }

    /// `outcome`, with the tags that the next block would have: those of the
    /// source from byte 16 on, those of the destination from byte 24 on.
    fn with_tags(&self, outcome: Outcome) -> Outcome {
        let source = self.check.as_ref().map_or(0, |check| check.tags.record());
        let destination = match &self.output {
            Output::Nothing | Output::Data => 0,
            Output::DataAndField(generate) | Output::Field(generate) => generate.tags.record(),
        };
        let tail = u128::from(destination) << 64 | u128::from(source);
        Outcome {
            tail: tail.to_le_bytes(),
            ..outcome
        }
    }
}

/// How the source divides into blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// Bytes of data in a block.
    data_bytes: usize,
    /// Bytes that a block takes in the source: its data, and its field if the
    /// source has fields.
    source_bytes: usize,
    /// Whole blocks in the source.
    count: u64,
}

impl Blocks {
    pub(super) fn new(descriptor: &Descriptor, source_has_fields: bool) -> Self {
        let data_bytes = match dif_flags(descriptor) & 0b11 {
            0b00 => 512,
            0b01 => 520,
            0b10 => 4096,
            _ => 4104,
        };
        let source_bytes = if source_has_fields {
            data_bytes + FIELD_BYTES
        } else {
            data_bytes
        };
        let count = u64::from(descriptor.transfer_size()) / source_bytes as u64;
        Self {
            data_bytes,
            source_bytes,
            count,
        }
    }

    /// Bytes of the source that lie in whole blocks.
    pub(super) fn whole_bytes(self) -> u64 {
        self.count * self.source_bytes as u64
    }

    /// Bytes of all data.
    pub(super) fn all_data_bytes(self) -> u64 {
        self.count * self.data_bytes as u64
    }

    /// Bytes of all fields.
    pub(super) fn all_field_bytes(self) -> u64 {
        self.count * FIELD_BYTES as u64
    }
}

/// A Data Integrity Field.
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    guard: u16,
    application: u16,
    reference: u32,
}

impl Field {
    fn decode(bytes: [u8; FIELD_BYTES]) -> Self {
        let [g0, g1, a0, a1, r0, r1, r2, r3] = bytes;
        Self {
            guard: u16::from_be_bytes([g0, g1]),
            application: u16::from_be_bytes([a0, a1]),
            reference: u32::from_be_bytes([r0, r1, r2, r3]),
        }
    }

    fn encode(self) -> [u8; FIELD_BYTES] {
        let [g0, g1] = self.guard.to_be_bytes();
        let [a0, a1] = self.application.to_be_bytes();
        let [r0, r1, r2, r3] = self.reference.to_be_bytes();
        [g0, g1, a0, a1, r0, r1, r2, r3]
    }
}

/// How the guard tag is computed [§8.3.17.1 "DIF Flags"].
#[derive(Debug)]
struct Guard {
    seed: u64,
    inversion: u16,
}

impl Guard {
    fn new(dif_flags: u8) -> Self {
        let flag = |index| bit(u64::from(dif_flags), index);
        Self {
            seed: if flag(2) { 0xffff } else { 0 },
            inversion: if flag(3) { 0xffff } else { 0 },
        }
    }

    fn of(&self, data: &[u8]) -> u16 {
        let register = T10.update(self.seed, data, BitOrder::Normal);
        low16(register).reverse_bits() ^ self.inversion
    }
}

/// The application and reference tags of the next block.
///
/// The mask is applied when the seed is taken and after each increment, so the
/// values here are the ones in use, and the record can hand them on to a
/// descriptor that continues.
#[derive(Debug)]
struct Tags {
    application: u16,
    application_mask: u16,
    application_increments: bool,
    reference: u32,
    reference_increments: bool,
}

impl Tags {
    /// The tags that the descriptor describes from byte `offset` on. In both
    /// sets of flags bit 7 fixes the reference tag, and bit 4 makes the
    /// application tag count.
    fn new(descriptor: &Descriptor, offset: usize, flags: u8) -> Self {
        let application_mask = descriptor.u16_at(offset + 4);
        Self {
            application: descriptor.u16_at(offset + 6) & !application_mask,
            application_mask,
            application_increments: bit(u64::from(flags), 4),
            reference: descriptor.u32_at(offset),
            reference_increments: !bit(u64::from(flags), 7),
        }
    }

    fn advance(&mut self) {
        let application = self
            .application
            .wrapping_add(u16::from(self.application_increments));
        self.application = application & !self.application_mask;
        self.reference = self
            .reference
            .wrapping_add(u32::from(self.reference_increments));
    }

    /// Reference Tag, Application Tag Mask and Application Tag, as they stand
    /// in the completion record and in the descriptor.
    fn record(&self) -> u64 {
        u64::from(self.application) << 48
            | u64::from(self.application_mask) << 32
            | u64::from(self.reference)
    }
}

/// Checks on the fields of the source [§8.3.17.2 "Source DIF Flags"].
#[derive(Debug)]
struct Check {
    flags: u8,
    tags: Tags,
}

impl Check {
    fn new(descriptor: &Descriptor) -> Self {
        let flags = source_dif_flags(descriptor);
        Self {
            flags,
            tags: Tags::new(descriptor, 48, flags),
        }
    }

    fn flag(&self, index: u32) -> bool {
        bit(u64::from(self.flags), index)
    }

    /// DIF Status for a block with this computed guard; 0 if nothing is wrong
    /// [§8.3.17.4 "DIF Status"].
    fn judge(&self, guard: u16, field: Field) -> u8 {
        let application_is_f = field.application == u16::MAX;
        let both_are_f = application_is_f && field.reference == u32::MAX;
        let all_are_f = both_are_f && field.guard == u16::MAX;

        let all_f_detected = self.flag(1) && all_are_f;
        if all_f_detected && self.flag(0) {
            return ALL_F_DETECT_ERROR;
        }
        if all_f_detected || (self.flag(2) && application_is_f) || (self.flag(3) && both_are_f) {
            return 0;
        }

        let mut dif_status = 0;
        if !self.flag(5) && guard != field.guard {
            dif_status |= GUARD_MISMATCH;
        }
        if self.tags.application_mask != u16::MAX && self.tags.application != field.application {
            dif_status |= APPLICATION_TAG_MISMATCH;
        }
        if !self.flag(6) && self.tags.reference != field.reference {
            dif_status |= REFERENCE_TAG_MISMATCH;
        }
        dif_status
    }
}

const GUARD_MISMATCH: u8 = 0x01;
const APPLICATION_TAG_MISMATCH: u8 = 0x02;
const REFERENCE_TAG_MISMATCH: u8 = 0x04;
const ALL_F_DETECT_ERROR: u8 = 0x08;

/// Making of the fields of the destination [§8.3.17.3 "Destination DIF Flags"].
#[derive(Debug)]
struct Generate {
    pass_guard: bool,
    pass_application: bool,
    pass_reference: bool,
    tags: Tags,
}

impl Generate {
    fn new(descriptor: &Descriptor) -> Self {
        let flags = destination_dif_flags(descriptor);
        let flag = |index| bit(u64::from(flags), index);
        Self {
            pass_guard: flag(5),
            pass_application: flag(3),
            pass_reference: flag(6),
            tags: Tags::new(descriptor, 56, flags),
        }
    }

    /// With the pass-through flags ignored, as there is nothing to pass.
    fn without_source(descriptor: &Descriptor) -> Self {
        Self {
            pass_guard: false,
            pass_application: false,
            pass_reference: false,
            ..Self::new(descriptor)
        }
    }

    fn field(&self, guard: u16, original: Field) -> Field {
        Field {
            guard: if self.pass_guard {
                original.guard
            } else {
                guard
            },
            application: if self.pass_application {
                original.application
            } else {
                self.tags.application
            },
            reference: if self.pass_reference {
                original.reference
            } else {
                self.tags.reference
            },
        }
    }
}

/// Source DIF Flags.
fn source_dif_flags(descriptor: &Descriptor) -> u8 {
    descriptor.u8_at(40)
}

/// Destination DIF Flags; bits 2:0 are reserved.
pub(super) fn destination_dif_flags(descriptor: &Descriptor) -> u8 {
    descriptor.u8_at(41)
}

/// DIF Flags; bits 7:4 are reserved.
pub(super) fn dif_flags(descriptor: &Descriptor) -> u8 {
    descriptor.u8_at(42)
}
