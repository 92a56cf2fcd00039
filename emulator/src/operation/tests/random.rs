//! Every operation on random sizes, alignments and flags, in random steps, with
//! pages missing here and there, against its oracle: the outcome must be the
//! same in every field, and so must all of memory.

use super::case::{AREA, Case, for_each_case};
use super::machine::{BASE, PAGE};
use super::oracle::{self, CrcFlags, Place, Seed};
use super::run;
use crate::completion::Operand;
use crate::descriptor::{Flags, Opcode};

#[test]
fn memory_move() {
    for_each_case(|mut case| {
        let source = case.place(Operand::SOURCE, 0, 1);
        // Near enough to overlap, before or behind; the same; just beyond; apart.
        let address = match case.random.below(6) {
            0..3 => BASE + case.random.below(PAGE),
            3 => source.address,
            4 => source.address + case.size,
            _ => case.place(Operand::DESTINATION, 1, 1).address,
        };
        let destination = Place {
            operand: Operand::DESTINATION,
            address,
        };
        case.break_pages();
        let build = case.build(Opcode::MEMORY_MOVE);
        let build = build.transfer(source.address, destination.address, case.size);
        let mut oracle = case.machine.clone();
        let expected = oracle::memory_move(
            &mut oracle,
            source,
            destination,
            case.size,
            case.blocks_on_fault(),
        );
        case.compare(build, expected, oracle, &[]);
    });
}

#[test]
fn fill() {
    for_each_case(|mut case| {
        let destination = case.place(Operand::DESTINATION, 0, 1);
        case.break_pages();
        let mut pattern = case.random.next().to_le_bytes().to_vec();
        if case.flag(Flags::PATTERN_SIZE) {
            pattern.extend(case.random.next().to_le_bytes());
        }
        let build = case
            .build(Opcode::FILL)
            .transfer(0, destination.address, case.size);
        let build = build.put(16, &pattern[..8]).put(40, &pattern[8..]);
        let mut oracle = case.machine.clone();
        let expected = oracle::fill(
            &mut oracle,
            &pattern,
            destination,
            case.size,
            case.blocks_on_fault(),
        );
        case.compare(build, expected, oracle, &[]);
    });
}

#[test]
fn compare() {
    for_each_case(|mut case| {
        let source = case.place(Operand::SOURCE, 0, 1);
        let other = case.place(Operand::SOURCE_2, 1, 1);
        let length = usize::try_from(case.size).unwrap();
        let data = case.machine.at(source.address, length).to_vec();
        case.machine
            .at(other.address, length)
            .copy_from_slice(&data);
        if case.random.once_in(2) {
            let offset = case.random.below(case.size);
            case.machine.at(other.address + offset, 1)[0] ^= 0x10;
        }
        case.break_pages();
        let result = u8::try_from(case.random.below(256)).unwrap();
        let expected = case.flag(Flags::CHECK_RESULT).then_some(result);
        let build = case.build(Opcode::COMPARE).u8(40, result);
        let build = build.transfer(source.address, other.address, case.size);
        let oracle = case.machine.clone();
        let blocks = case.blocks_on_fault();
        let expected = oracle::compare(&oracle, source, Ok(other), case.size, expected, blocks);
        case.compare(build, expected, oracle, &[]);
    });
}

#[test]
fn compare_pattern() {
    for_each_case(|mut case| {
        let source = case.place(Operand::SOURCE, 0, 1);
        let pattern = case.random.next().to_le_bytes();
        let length = usize::try_from(case.size).unwrap();
        for (byte, value) in case
            .machine
            .at(source.address, length)
            .iter_mut()
            .zip(pattern.iter().cycle())
        {
            *byte = *value;
        }
        if case.random.once_in(2) {
            let offset = case.random.below(case.size);
            case.machine.at(source.address + offset, 1)[0] ^= 0x01;
        }
        case.break_pages();
        let result = u8::try_from(case.random.below(256)).unwrap();
        let expected = case.flag(Flags::CHECK_RESULT).then_some(result);
        let build = case.build(Opcode::COMPARE_PATTERN).u8(40, result);
        let build = build.transfer(source.address, u64::from_le_bytes(pattern), case.size);
        let oracle = case.machine.clone();
        let blocks = case.blocks_on_fault();
        let expected = oracle::compare(&oracle, source, Err(pattern), case.size, expected, blocks);
        case.compare(build, expected, oracle, &[]);
    });
}

#[test]
fn dualcast() {
    for_each_case(|mut case| {
        let source = case.place(Operand::SOURCE, 0, 1);
        let first = case.place(Operand::DESTINATION, 1, 1);
        let second = Place {
            operand: Operand::DESTINATION_2,
            address: first.address + AREA,
        };
        case.break_pages();
        let build = case.build(Opcode::DUALCAST).u64(40, second.address);
        let build = build.transfer(source.address, first.address, case.size);
        let mut oracle = case.machine.clone();
        let blocks = case.blocks_on_fault();
        let expected = oracle::copy(
            &mut oracle,
            source,
            &[first, second],
            case.size,
            blocks,
            drop,
        );
        // The first destination may have got one step more than the second.
        let stopped = first.address + u64::from(expected.bytes_completed);
        let excess = Place {
            address: stopped,
            ..first
        };
        let excess = if expected
            .fault
            .is_some_and(|fault| fault.operand == second.operand)
            || expected.status.0 == 0x21
        {
            vec![excess]
        } else {
            Vec::new()
        };
        case.compare(build, expected, oracle, &excess);
    });
}

/// Two buffers in areas 0 and 1 that differ in some words.
fn differing(case: &mut Case) -> [Place; 2] {
    let size = (case.size / 8 * 8).max(8);
    case.size = size;
    let old = case.place(Operand::SOURCE, 0, 8);
    let new = case.place(Operand::SOURCE_2, 1, 8);
    let length = usize::try_from(size).unwrap();
    let data = case.machine.at(old.address, length).to_vec();
    case.machine.at(new.address, length).copy_from_slice(&data);
    let one_in = case.random.pick(&[1, 2, 5, 40, 2000]);
    for offset in (0..size).step_by(8) {
        if case.random.once_in(one_in) {
            let byte = offset + case.random.below(8);
            case.machine.at(new.address + byte, 1)[0] ^= 0x80;
        }
    }
    [old, new]
}

#[test]
fn create_delta_record() {
    for_each_case(|mut case| {
        let sources = differing(&mut case);
        let record = case.place(Operand::DESTINATION, 2, 1);
        let max_record = 80 + case.random.below(case.size * 10 / 8 + 1);
        // In its area there is no room for more.
        let max_record = max_record.min(AREA - PAGE);
        case.break_pages();
        let mask = u8::try_from(case.random.below(256)).unwrap();
        let expected = case.flag(Flags::CHECK_RESULT).then_some(mask);
        let build = case.build(Opcode::CREATE_DELTA_RECORD).u8(56, mask);
        let build = build.transfer(sources[0].address, sources[1].address, case.size);
        let build = build
            .u64(40, record.address)
            .u32(48, u32::try_from(max_record).unwrap());
        let mut oracle = case.machine.clone();
        let sizes = [case.size, max_record];
        let blocks = case.blocks_on_fault();
        let expected = oracle::create_delta(&mut oracle, sources, record, sizes, expected, blocks);
        case.compare(build, expected, oracle, &[]);
    });
}

#[test]
fn apply_delta_record() {
    for_each_case(|mut case| {
        let size = (case.size / 8 * 8).max(8);
        let record = case.place(Operand::SOURCE, 0, 1);
        let destination = case.place(Operand::DESTINATION, 1, 8);
        // Offsets that increase, but for a few that do not or lie outside.
        let mut words = (0..size / 8).collect::<Vec<_>>();
        words.retain(|_| case.random.once_in(3));
        words.truncate(usize::try_from((AREA - PAGE) / 10).unwrap());
        words.push(size / 8 - 1);
        words.dedup();
        if case.random.once_in(3) {
            let index = usize::try_from(case.random.below(words.len() as u64)).unwrap();
            words[index] = case.random.below(size / 8 + 20);
        }
        for (index, word) in words.iter().enumerate() {
            let offset = u16::try_from(*word).unwrap().to_le_bytes();
            case.machine
                .at(record.address + index as u64 * 10, 2)
                .copy_from_slice(&offset);
        }
        case.break_pages();
        let record_size = words.len() as u64 * 10;
        let build = case.build(Opcode::APPLY_DELTA_RECORD);
        let build = build.transfer(record.address, destination.address, size);
        let build = build.u32(40, u32::try_from(record_size).unwrap());
        let mut oracle = case.machine.clone();
        let blocks = case.blocks_on_fault();
        let expected = oracle::apply_delta(
            &mut oracle,
            record,
            destination,
            [size, record_size],
            blocks,
        );
        case.compare(build, expected, oracle, &[]);
    });
}

#[test]
fn created_delta_applied_to_the_first_buffer_gives_the_second() {
    for_each_case(|mut case| {
        let [old, new] = differing(&mut case);
        let length = usize::try_from(case.size).unwrap();
        let record = case.place(Operand::DESTINATION, 2, 1);
        let max_record = u32::try_from((case.size * 10 / 8).max(80)).unwrap();
        if u64::from(max_record) > AREA - PAGE {
            return;
        }
        let create = case.build(Opcode::CREATE_DELTA_RECORD);
        let create = create.transfer(old.address, new.address, case.size);
        let create = create.u64(40, record.address).u32(48, max_record).done();
        let created = run(&mut case.machine, &create, 700);
        assert_eq!(created.status.0, 0x01);
        let [a, b, c, d, ..] = created.tail;
        let record_size = u32::from_le_bytes([a, b, c, d]);
        assert_eq!(created.result, u8::from(record_size > 0));
        if record_size > 0 {
            let apply = case.build(Opcode::APPLY_DELTA_RECORD);
            let apply = apply.transfer(record.address, old.address, case.size);
            let applied = run(&mut case.machine, &apply.u32(40, record_size).done(), 700);
            assert_eq!(applied.status.0, 0x01);
        }
        let expected = case.machine.at(new.address, length).to_vec();
        assert_eq!(case.machine.at(old.address, length), expected);
    });
}

fn crc(opcode: Opcode) {
    for_each_case(|mut case| {
        let source = case.place(Operand::SOURCE, 0, 1);
        let copied = opcode == Opcode::COPY_WITH_CRC;
        let destination = copied.then(|| case.place(Operand::DESTINATION, 1, 1));
        let flags = CrcFlags {
            bypass_inversion_and_reflection: case.flag(Flags::BYPASS_CRC_INVERSION_AND_REFLECTION),
            bypass_data_reflection: case.flag(Flags::BYPASS_DATA_REFLECTION),
            is_64_bit: case.flag(Flags::CRC_SIZE),
        };
        let value = case.random.next() >> if flags.is_64_bit { 0 } else { 32 };
        let seed = if case.flag(Flags::READ_CRC_SEED) {
            let alignment = if flags.is_64_bit { 8 } else { 4 };
            Seed::At(case.place(Operand::SOURCE_2, 2, alignment))
        } else {
            Seed::Value(value)
        };
        case.break_pages();
        let build = case.build(opcode);
        let address = destination.map_or(0, |place| place.address);
        let build = build.transfer(source.address, address, case.size);
        let build = match seed {
            Seed::Value(value) => build.u64(40, value),
            Seed::At(place) => build.u64(48, place.address),
        };
        let mut oracle = case.machine.clone();
        let seed = (seed, flags);
        let blocks = case.blocks_on_fault();
        let expected = oracle::crc(&mut oracle, source, destination, case.size, seed, blocks);
        case.compare(build, expected, oracle, &[]);
    });
}

#[test]
fn crc_generation() {
    crc(Opcode::CRC_GENERATION);
}

#[test]
fn copy_with_crc() {
    crc(Opcode::COPY_WITH_CRC);
}

/// The default flags against a CRC32C that others wrote.
#[cfg_attr(
    miri,
    ignore = "the crate asks the processor for instructions that Miri lacks"
)]
#[test]
fn crc_generation_agrees_with_the_crc32c_crate() {
    for_each_case(|mut case| {
        let source = case.place(Operand::SOURCE, 0, 1);
        let build = case
            .build(Opcode::CRC_GENERATION)
            .transfer(source.address, 0, case.size);
        let outcome = run(&mut case.machine, &build.done(), 5000);
        let length = usize::try_from(case.size).unwrap();
        let expected = crc32c::crc32c(case.machine.at(source.address, length));
        assert_eq!(outcome.tail, u128::from(expected).to_le_bytes());
    });
}
