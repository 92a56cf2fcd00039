//! Start information written by hand, right and wrong.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const BASE: u64 = 0x1000;
const START: u64 = BASE;
const MAP: u64 = BASE + 0x100;
const MODULES: u64 = BASE + 0x200;
const LINE: u64 = BASE + 0x300;
const MODULE: u64 = BASE + 0x400;

/// Memory from `BASE` on.
#[derive(Clone, Debug)]
struct Memory(Vec<u8>);

impl LoaderMemory for Memory {
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]> {
        let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.0.get(start..end)
    }
}

impl Memory {
    /// Everything as a loader should leave it.
    fn good() -> Self {
        let mut memory = Self(std::vec![0; 0x800]);
        // magic, version 1, flags, 1 module
        memory.put(
            START,
            &[0x78, 0xc5, 0x6e, 0x33, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        );
        memory.put(START + 16, &MODULES.to_le_bytes());
        memory.put(START + 24, &LINE.to_le_bytes());
        memory.put(START + 32, &0xf_59f0_u64.to_le_bytes());
        memory.put(START + 40, &MAP.to_le_bytes());
        memory.put(START + 48, &2_u32.to_le_bytes());
        for (entry, [start, length, kind]) in [[0, 0x9_fc00, 1], [0xb000_0000, 0x1000_0000, 2]]
            .iter()
            .enumerate()
        {
            let at = MAP + 24 * entry as u64;
            memory.put(at, &u64::to_le_bytes(*start));
            memory.put(at + 8, &u64::to_le_bytes(*length));
            memory.put(at + 16, &u64::to_le_bytes(*kind));
        }
        memory.put(MODULES, &MODULE.to_le_bytes());
        memory.put(MODULES + 8, &0x400_u64.to_le_bytes());
        memory.put(LINE, b"suite=first quiet\0");
        memory
    }

    fn put(&mut self, address: u64, bytes: &[u8]) {
        let start = usize::try_from(address - BASE).unwrap();
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn with(mut self, address: u64, bytes: &[u8]) -> Self {
        self.put(address, bytes);
        self
    }

    fn read(&self) -> Result<BootInfo, PvhError> {
        read(self, START, image())
    }
}

fn image() -> ImageLayout {
    let at = PhysAddr::new;
    ImageLayout {
        text: at(0x20_0000),
        rodata: at(0x21_0000),
        data: at(0x22_0000),
        data_end: at(0x23_0000),
        stack: at(0x23_1000),
        end: at(0x24_1000),
    }
}

fn range(start: u64, length: u64) -> PhysRange {
    PhysRange::from_parts(start, length).unwrap()
}

#[test]
fn what_the_loader_says_is_what_boot_info_says() {
    let boot = Memory::good().read().unwrap();
    let region = |start, length, kind| MemoryRegion {
        range: range(start, length),
        kind,
    };
    assert_eq!(
        boot.memory.as_slice(),
        [
            region(0, 0x9_fc00, MemoryKind::RAM),
            region(0xb000_0000, 0x1000_0000, MemoryKind::RESERVED),
        ]
    );
    assert_eq!(boot.modules.as_slice(), [range(MODULE, 0x400)]);
    assert_eq!(boot.rsdp, PhysAddr::new(0xf_59f0));
    assert_eq!(&boot.command_line, "suite=first quiet");
    assert_eq!(boot.option("suite"), Some("first"));
    assert_eq!(boot.option("sui"), None);
}

#[test]
fn no_modules_and_no_command_line_need_no_addresses() {
    let boot = Memory::good()
        .with(START + 12, &[0; 4])
        .with(START + 16, &[0xff; 8])
        .with(START + 24, &[0; 8])
        .read()
        .unwrap();
    assert!(boot.modules.is_empty());
    assert_eq!(&boot.command_line, "");
}

#[test]
fn another_magic_number_is_refused() {
    let memory = Memory::good().with(START, &[0x79]);
    assert_eq!(
        memory.read().unwrap_err(),
        PvhError::NoStartInfo(0x336e_c579)
    );
}

#[test]
fn version_0_is_refused() {
    let memory = Memory::good().with(START + 4, &[0]);
    assert_eq!(memory.read().unwrap_err(), PvhError::NoMemoryMap(0));
}

#[test]
fn no_root_pointer_is_refused() {
    for rsdp in [0, u64::MAX] {
        let memory = Memory::good().with(START + 32, &rsdp.to_le_bytes());
        assert_eq!(memory.read().unwrap_err(), PvhError::NoRsdp);
    }
}

#[test]
fn structures_out_of_reach_are_refused_by_name() {
    for (field, what) in [
        (START + 16, "the module list"),
        (START + 24, "the command line"),
        (START + 40, "the memory map"),
        (MODULES, "a module"),
    ] {
        for address in [0x8000, u64::MAX] {
            let memory = Memory::good().with(field, &address.to_le_bytes());
            assert_eq!(
                memory.read().unwrap_err(),
                PvhError::Unreachable(what, address)
            );
        }
    }
    let error = read(&Memory::good(), 0, image()).unwrap_err();
    assert_eq!(error, PvhError::Unreachable("the structure itself", 0));
}

#[test]
fn counts_that_lead_out_of_memory_are_refused() {
    let memory = Memory::good().with(START + 48, &u32::MAX.to_le_bytes());
    assert_eq!(
        memory.read().unwrap_err(),
        PvhError::Unreachable("the memory map", MAP)
    );
    let memory = Memory::good().with(START + 12, &9_u32.to_le_bytes());
    assert_eq!(
        memory.read().unwrap_err(),
        PvhError::Unreachable("a module", 0)
    );
}

#[test]
fn more_than_there_is_room_for_is_refused() {
    let mut memory = Memory::good();
    memory.0.resize(0x4000, 0);
    let memory = memory
        .with(START + 40, &(BASE + 0x1000).to_le_bytes())
        .with(START + 48, &129_u32.to_le_bytes());
    assert_eq!(
        memory.read().unwrap_err(),
        PvhError::TooMany("memory regions", 129)
    );

    let mut memory = Memory::good().with(START + 12, &9_u32.to_le_bytes());
    for entry in 0..9 {
        let at = MODULES + 32 * entry;
        // Entries 8 and on run into the command line, which is then garbage.
        memory.put(at, &MODULE.to_le_bytes());
        memory.put(at + 8, &1_u64.to_le_bytes());
    }
    assert_eq!(memory.read().unwrap_err(), PvhError::TooMany("modules", 9));
}

#[test]
fn memory_regions_beyond_the_physical_addresses_are_refused() {
    let memory = Memory::good().with(MAP, &u64::MAX.to_le_bytes());
    assert_eq!(
        memory.read().unwrap_err(),
        PvhError::Unreachable("a memory region", u64::MAX)
    );
}

#[test]
fn command_lines_without_end_or_of_no_text_are_refused() {
    let endless = [b'x'; 0x500];
    let memory = Memory::good().with(LINE, &endless);
    assert_eq!(memory.read().unwrap_err(), PvhError::BadCommandLine);
    let memory = Memory::good().with(LINE, &[0xff, 0xfe, 0]);
    assert_eq!(memory.read().unwrap_err(), PvhError::BadCommandLine);
}

#[test]
fn a_command_line_may_end_with_memory() {
    let mut memory = Memory::good();
    let end = BASE + memory.0.len() as u64;
    memory.put(end - 3, b"ab\0");
    let memory = memory.with(START + 24, &(end - 3).to_le_bytes());
    assert_eq!(&memory.read().unwrap().command_line, "ab");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 2_000 }))]

    /// Whatever a loader writes, it is understood or refused.
    #[test]
    fn no_start_information_makes_us_panic(
        changes in prop::collection::vec((0_usize..0x700, any::<u64>(), 1_usize..9), 0..12),
    ) {
        let mut memory = Memory::good();
        for (at, value, length) in changes {
            memory.put(BASE + at as u64, &value.to_le_bytes()[..length]);
        }
        if let Ok(boot) = memory.read() {
            for module in boot.modules {
                prop_assert!(memory.bytes(module.start().as_u64(), module.len_bytes()).is_some());
            }
        }
    }
}
