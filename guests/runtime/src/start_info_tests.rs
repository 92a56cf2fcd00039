use std::vec;
use std::vec::Vec;

use super::*;

const MIB: u64 = 1 << 20;
const INFO: u64 = 0x1000;
const MODULES: u64 = 0x1100;
const LINE: u64 = 0x1200;
const MAP: u64 = 0x1300;
const IMAGE: Range<u64> = 2 * MIB..3 * MIB;

/// 64 KiB of low memory with what a loader leaves there; addresses above exist.
struct Memory(Vec<u8>);

impl LoaderMemory for Memory {
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]> {
        let start = usize::try_from(address).ok()?;
        let end = usize::try_from(address.checked_add(length)?).ok()?;
        match self.0.get(start..end) {
            // Only lengths of modules are asked for up here.
            None if (MIB..64 * MIB).contains(&address) && (end as u64) <= 64 * MIB => Some(&[]),
            bytes => bytes,
        }
    }
}

impl Memory {
    /// A machine with 64 MiB, a command line and one module of 5,000 bytes.
    fn new() -> Self {
        let mut memory = Self(vec![0; 0x1_0000]);
        memory.put_u32(INFO, 0x336e_c578);
        memory.put_u32(INFO + 4, 1);
        memory.put_u32(INFO + 12, 1);
        memory.put_u64(INFO + 16, MODULES);
        memory.put_u64(INFO + 24, LINE);
        memory.put_u64(INFO + 40, MAP);
        memory.put_u32(INFO + 48, 3);
        memory.put_u64(MODULES, 62 * MIB);
        memory.put_u64(MODULES + 8, 5000);
        memory.put(LINE, b"rounds=2\0");
        for (index, start, length, kind) in [
            (0, 0, 0x9_f000, 1),
            (1, MIB, 63 * MIB, 1),
            (2, 0xe000_0000, MIB, 2),
        ] {
            memory.put_u64(MAP + index * 24, start);
            memory.put_u64(MAP + index * 24 + 8, length);
            memory.put_u32(MAP + index * 24 + 16, kind);
        }
        memory
    }

    fn put(&mut self, address: u64, bytes: &[u8]) {
        let start = usize::try_from(address).unwrap();
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn put_u32(&mut self, address: u64, value: u32) {
        self.put(address, &value.to_le_bytes());
    }

    fn put_u64(&mut self, address: u64, value: u64) {
        self.put(address, &value.to_le_bytes());
    }

    fn read(&self) -> Result<StartInfo<'_>, Error> {
        StartInfo::read(self, INFO, IMAGE)
    }
}

#[test]
fn everything_is_found() {
    let memory = Memory::new();
    let info = memory.read().unwrap();
    assert_eq!(info.command_line, "rounds=2");
    assert_eq!(info.input, Some(62 * MIB..62 * MIB + 5000));
    assert_eq!(info.free, 3 * MIB..62 * MIB);
    assert_eq!(info.ram_end, 64 * MIB);
}

#[test]
fn a_guest_may_have_neither_command_line_nor_input() {
    let mut memory = Memory::new();
    memory.put_u64(INFO + 24, 0);
    memory.put_u32(INFO + 12, 0);
    let info = memory.read().unwrap();
    assert_eq!((info.command_line, info.input), ("", None));
    assert_eq!(info.free, 3 * MIB..64 * MIB);
}

#[test]
fn an_input_right_behind_the_image_is_left_alone() {
    let mut memory = Memory::new();
    memory.put_u64(MODULES, 3 * MIB);
    let free = memory.read().unwrap().free;
    assert_eq!(free, 3 * MIB + 0x2000..64 * MIB);
}

#[test]
fn other_start_information_is_refused() {
    let mut memory = Memory::new();
    memory.put_u32(INFO + 4, 0);
    assert_eq!(memory.read(), Err(Error::NoStartInfo(INFO)));
    memory.put_u32(INFO, 7);
    assert_eq!(memory.read(), Err(Error::NoStartInfo(INFO)));
    let far = StartInfo::read(&memory, u64::MAX - 3, IMAGE);
    assert_eq!(far, Err(Error::NoStartInfo(u64::MAX - 3)));
}

#[test]
fn structures_out_of_reach_are_named() {
    let mut memory = Memory::new();
    memory.put_u64(MODULES + 8, u64::MAX);
    assert_eq!(memory.read(), Err(Error::Unreachable("module", 62 * MIB)));
    let mut memory = Memory::new();
    memory.put_u64(INFO + 16, u64::MAX - 7);
    let expected = Error::Unreachable("module list", u64::MAX - 7);
    assert_eq!(memory.read(), Err(expected));
    let mut memory = Memory::new();
    memory.put_u64(INFO + 24, 0x1_0000_0000);
    let expected = Error::Unreachable("command line", 0x1_0000_0000);
    assert_eq!(memory.read(), Err(expected));
    let mut memory = Memory::new();
    memory.put_u64(INFO + 40, 0x1_0000_0000);
    let expected = Error::Unreachable("memory map", 0x1_0000_0000);
    assert_eq!(memory.read(), Err(expected));
}

#[test]
fn a_command_line_without_end_or_that_is_no_text_is_refused() {
    let mut memory = Memory::new();
    memory.put(0x2000, &[b'x'; MAX_COMMAND_LINE]);
    memory.put_u64(INFO + 24, 0x2000);
    assert_eq!(memory.read(), Err(Error::BadCommandLine));
    memory.put(0x2000, &[0xff, 0]);
    assert_eq!(memory.read(), Err(Error::BadCommandLine));
}

#[test]
fn a_map_without_room_is_refused() {
    let mut memory = Memory::new();
    memory.put_u32(INFO + 48, 1);
    assert_eq!(memory.read(), Err(Error::NoMemory));
}

#[test]
fn ram_above_three_gib_is_left_out() {
    let mut memory = Memory::new();
    memory.put_u64(MAP + 24, 0xbff0_0000);
    memory.put_u64(MAP + 32, u64::MAX);
    let info = memory.read().unwrap();
    assert_eq!(info.free, 0xbff0_0000..0xc000_0000);
    assert_eq!(info.ram_end, 0xc000_0000);
}
