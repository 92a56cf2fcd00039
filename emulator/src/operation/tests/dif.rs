//! The DIF family: its oracle, block by block, and random cases against it.

use super::Build;
use super::case::{AREA, Case, for_each_case};
use super::machine::{BASE, Machine, PAGE, Random};
use super::oracle::{Division, Place, read_all, write_all};
use crate::completion::{Operand, Outcome, Status};
use crate::descriptor::Opcode;

/// The fields of a descriptor of the DIF family.
#[derive(Clone, Copy, Debug)]
struct Dif {
    /// The source has fields, and they are checked.
    checks: bool,
    /// Data, and fields, go to the destination.
    writes: [bool; 2],
    flags: u8,
    source_flags: u8,
    destination_flags: u8,
    source_tags: Tags,
    destination_tags: Tags,
}

/// Reference Tag, Application Tag Mask and Application Tag.
#[derive(Clone, Copy, Debug)]
struct Tags {
    reference: u32,
    mask: u16,
    application: u16,
}

impl Tags {
    fn masked(self) -> Self {
        Self {
            application: self.application & !self.mask,
            ..self
        }
    }

    fn next(self, flags: u8) -> Self {
        let reference = if flags & 0x80 == 0 {
            self.reference.wrapping_add(1)
        } else {
            self.reference
        };
        let application = if flags & 0x10 == 0 {
            self.application
        } else {
            self.application.wrapping_add(1)
        };
        Self {
            reference,
            application,
            ..self
        }
        .masked()
    }

    fn tail(self) -> Vec<u8> {
        let reference = self.reference.to_le_bytes();
        [
            &reference[..],
            &self.mask.to_le_bytes(),
            &self.application.to_le_bytes(),
        ]
        .concat()
    }
}

impl Dif {
    fn block_bytes(self) -> u64 {
        [512, 520, 4096, 4104][usize::from(self.flags & 3)]
    }

    fn guard(self, data: &[u8]) -> u16 {
        // "The first 16 bits of the source data are XORed with the seed."
        let mut data = data.to_vec();
        if self.flags & 4 != 0 {
            data[0] ^= 0xff;
            data[1] ^= 0xff;
        }
        let mut division = Division::new(16, 0x8bb7);
        data.iter().for_each(|byte| division.byte(*byte, false));
        let remainder = u16::try_from(division.register).unwrap();
        if self.flags & 8 != 0 {
            !remainder
        } else {
            remainder
        }
    }

    /// DIF Status of a block.
    fn judge(self, tags: Tags, guard: u16, field: &[u8]) -> u8 {
        let application = &field[2..4];
        let ones = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0xff);
        let on = |bit: u8| self.source_flags >> bit & 1 == 1;
        if on(1) && ones(field) {
            return if on(0) { 8 } else { 0 };
        }
        if on(2) && ones(application) || on(3) && ones(&field[2..]) {
            return 0;
        }
        let guard_wrong = !on(5) && field[..2] != guard.to_be_bytes();
        let application_wrong =
            tags.mask != 0xffff && *application != tags.application.to_be_bytes();
        let reference_wrong = !on(6) && field[4..] != tags.reference.to_be_bytes();
        u8::from(guard_wrong) | u8::from(application_wrong) << 1 | u8::from(reference_wrong) << 2
    }

    /// The field that goes to the destination.
    fn field(self, tags: Tags, guard: u16, original: Option<&[u8]>) -> Vec<u8> {
        let reference = tags.reference.to_be_bytes();
        let computed = [
            &guard.to_be_bytes()[..],
            &tags.application.to_be_bytes(),
            &reference,
        ]
        .concat();
        let passed = |bit: u8| original.filter(|_| self.destination_flags >> bit & 1 == 1);
        [
            &passed(5).unwrap_or(&computed)[..2],
            &passed(3).unwrap_or(&computed)[2..4],
            &passed(6).unwrap_or(&computed)[4..],
        ]
        .concat()
    }

    /// Carries it out.
    fn run(
        self,
        machine: &mut Machine,
        [source, destination]: [Place; 2],
        size: u64,
        block_on_fault: bool,
    ) -> Outcome {
        let block = self.block_bytes();
        let step = if self.checks { block + 8 } else { block };
        let mut source_tags = self.source_tags.masked();
        let mut destination_tags = self.destination_tags.masked();
        let mut written = 0;
        let with_tags = |outcome: Outcome, source: Tags, destination: Tags| {
            let absent = vec![0; 8];
            let source = if self.checks {
                source.tail()
            } else {
                absent.clone()
            };
            let destination = if self.writes[1] {
                destination.tail()
            } else {
                absent
            };
            let tail = [source, destination].concat().try_into().unwrap();
            Outcome { tail, ..outcome }
        };
        for done in (0..size).step_by(usize::try_from(step).unwrap()) {
            let bytes = match read_all(machine, source, done, step) {
                Ok(bytes) => bytes,
                Err(trouble) => {
                    let outcome = trouble.outcome(done, block_on_fault);
                    return with_tags(outcome, source_tags, destination_tags);
                }
            };
            let (data, original) = bytes.split_at(usize::try_from(block).unwrap());
            let guard = self.guard(data);
            let dif_status = if self.checks {
                self.judge(source_tags, guard, original)
            } else {
                0
            };
            if dif_status != 0 {
                let bytes_completed = u32::try_from(done).unwrap();
                let outcome = Outcome::new(Status(0x09));
                let outcome = Outcome {
                    result: dif_status,
                    bytes_completed,
                    ..outcome
                };
                return with_tags(outcome, source_tags, destination_tags);
            }
            let mut output = Vec::new();
            if self.writes[0] {
                output.extend(data);
            }
            if self.writes[1] {
                let original = self.checks.then_some(original);
                output.extend(self.field(destination_tags, guard, original));
            }
            if let Err(trouble) = write_all(machine, destination, written, &output) {
                let outcome = trouble.outcome(done, block_on_fault);
                return with_tags(outcome, source_tags, destination_tags);
            }
            written += output.len() as u64;
            source_tags = source_tags.next(self.source_flags);
            destination_tags = destination_tags.next(self.destination_flags);
        }
        with_tags(Outcome::new(Status::SUCCESS), source_tags, destination_tags)
    }
}

/// Tags that wrap, that are all ones, or that are just something.
fn tags(random: &mut Random) -> Tags {
    let word = random.next().to_le_bytes();
    let [a, b, c, d, ..] = word;
    Tags {
        reference: random.pick(&[0, u32::MAX, u32::MAX - 1, u32::from_le_bytes([a, b, c, d])]),
        mask: random.pick(&[0, 0, 0xff00, 0x000f, u16::MAX]),
        application: random.pick(&[0, u16::MAX, 0x00ff, u16::from_le_bytes([c, a])]),
    }
}

fn dif(opcode: Opcode, checks: bool, writes: [bool; 2]) {
    for_each_case(|mut case| {
        let mut byte = |choices: &[u8]| case.random.pick(choices);
        let dif = Dif {
            checks,
            writes,
            flags: byte(if cfg!(miri) {
                &[0, 13]
            } else {
                &[0, 1, 2, 3, 4, 9, 14, 7]
            }),
            source_flags: byte(&[0, 0x90, 0x80, 0x10, 0x02, 0x03, 0x04, 0x08, 0x60, 0xff]),
            destination_flags: byte(&[0, 0x90, 0x80, 0x10, 0x40, 0x20, 0x08, 0xf8]),
            source_tags: tags(&mut case.random),
            destination_tags: tags(&mut case.random),
        };
        let block = dif.block_bytes() + if checks { 8 } else { 0 };
        let most = if cfg!(miri) {
            2
        } else {
            (AREA - PAGE) / (dif.block_bytes() + 8)
        };
        case.size = block * (1 + case.random.below(most));
        let source = case.place(Operand::SOURCE, 0, 1);
        let alignment = if opcode == Opcode::DIX_GENERATE { 8 } else { 1 };
        let destination = case.place(Operand::DESTINATION, 1, alignment);

        if checks {
            put_fields(&mut case, dif, source, block);
        }
        case.break_pages();

        let address = if writes == [false, false] {
            0
        } else {
            destination.address
        };
        let build = case
            .build(opcode)
            .transfer(source.address, address, case.size);
        let build = build.u8(42, dif.flags);
        let put_tags = |build: Build, offset: usize, tags: Tags| {
            let build = build.u32(offset, tags.reference).u16(offset + 4, tags.mask);
            build.u16(offset + 6, tags.application)
        };
        let build = if checks {
            put_tags(build.u8(40, dif.source_flags), 48, dif.source_tags)
        } else {
            build
        };
        let build = if writes[1] {
            put_tags(
                build.u8(41, dif.destination_flags),
                56,
                dif.destination_tags,
            )
        } else {
            build
        };

        let mut oracle = case.machine.clone();
        let blocks = case.blocks_on_fault();
        let expected = dif.run(&mut oracle, [source, destination], case.size, blocks);
        // Of a block that was not finished, something may have been written.
        let completed = u64::from(expected.bytes_completed) / block;
        let out = if writes[0] { dif.block_bytes() } else { 0 } + if writes[1] { 8 } else { 0 };
        let stopped = Place {
            address: destination.address + completed * out,
            ..destination
        };
        let excess = if expected.status.0 == 0x01 || out == 0 {
            vec![]
        } else {
            vec![stopped]
        };
        case.compare(build, expected, oracle, &excess);
    });
}

/// Gives the source fields that pass the checks, but for one in some cases,
/// which is all ones, partly ones or wrong in one bit.
fn put_fields(case: &mut Case, dif: Dif, source: Place, block: u64) {
    let spoiled = case.random.below(2 * case.size / block);
    // The model of an insertion is the oracle's: its fields are what a check
    // of the same tags expects.
    let insert = Dif {
        checks: false,
        writes: [false, true],
        destination_flags: dif.source_flags & 0x90,
        destination_tags: dif.source_tags,
        ..dif
    };
    let mut scratch = case.machine.clone();
    let data = block - 8;
    let staging = Place {
        operand: Operand::SOURCE,
        address: BASE + AREA,
    };
    let fields = Place {
        operand: Operand::DESTINATION,
        address: BASE + 2 * AREA,
    };
    for index in 0..case.size / block {
        let length = usize::try_from(data).unwrap();
        let bytes = case
            .machine
            .at(source.address + index * block, length)
            .to_vec();
        scratch
            .at(staging.address + index * data, length)
            .copy_from_slice(&bytes);
    }
    let count = case.size / block;
    insert.run(&mut scratch, [staging, fields], count * data, false);
    for index in 0..count {
        let mut field = scratch.at(fields.address + index * 8, 8).to_vec();
        if index == spoiled {
            match case.random.below(5) {
                0 => field.fill(0xff),
                1 => field[2..].fill(0xff),
                2 => field[2..4].fill(0xff),
                3 => field[4..].fill(0xff),
                _ => field[usize::try_from(case.random.below(8)).unwrap()] ^= 1,
            }
        }
        case.machine
            .at(source.address + index * block + data, 8)
            .copy_from_slice(&field);
    }
}

#[test]
fn dif_check() {
    dif(Opcode::DIF_CHECK, true, [false, false]);
}

#[test]
fn dif_insert() {
    dif(Opcode::DIF_INSERT, false, [true, true]);
}

#[test]
fn dif_strip() {
    dif(Opcode::DIF_STRIP, true, [true, false]);
}

#[test]
fn dif_update() {
    dif(Opcode::DIF_UPDATE, true, [true, true]);
}

#[test]
fn dix_generate() {
    dif(Opcode::DIX_GENERATE, false, [false, true]);
}
