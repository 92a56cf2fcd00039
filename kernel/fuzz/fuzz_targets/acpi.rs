//! Firmware's tables of any content are read or refused.
#![no_main]

mod input;

use input::Input;
use kernel::acpi::dmar::{self, Dmar};
use kernel::acpi::fadt::FixedHardware;
use kernel::acpi::madt::{self, Madt};
use kernel::acpi::{FirmwareMemory, Tables, mcfg};
use libfuzzer_sys::fuzz_target;

const BASE: u64 = 0xe_0000;
const LIST: u64 = BASE + 0x40;
const TABLES: u64 = BASE + 0x400;
const NAMES: [[u8; 4]; 5] = [*b"FACP", *b"APIC", *b"MCFG", *b"DMAR", *b"DSDT"];

struct Memory(Vec<u8>);

impl FirmwareMemory for Memory {
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]> {
        let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.0.get(start..end)
    }
}

/// Makes the bytes add up to 0 by changing the one at `place`.
fn sum_to_zero(bytes: &mut [u8], place: usize) {
    bytes[place] = 0;
    let sum = bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
    bytes[place] = sum.wrapping_neg();
}

/// A table with a good header.
fn table(name: [u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(36 + body.len()).expect("inputs are short");
    let header = [
        &name[..],
        &length.to_le_bytes(),
        &[2, 0],
        b"WEIR  WEIRTEST",
        &[1, 0, 0, 0],
        b"WEIR",
        &[1, 0, 0, 0],
    ];
    let mut table = [&header.concat()[..], body].concat();
    sum_to_zero(&mut table, 9);
    table
}

/// Tables with bodies out of the input, and some bytes that are wrong.
fn image(input: &mut Input<'_>) -> Option<Memory> {
    let count = usize::from(input.u8()? % 16);
    let mut addresses = Vec::new();
    let mut tables = Vec::new();
    for _ in 0..count {
        let name = NAMES[usize::from(input.u8()?) % NAMES.len()];
        let length = usize::from(input.u8()?);
        let at = TABLES + tables.len() as u64;
        addresses.extend(at.to_le_bytes());
        tables.extend(table(name, input.bytes(length)?));
    }
    let mut rsdp = b"RSD PTR \0WEIR  \x02\0\0\0\0".to_vec();
    sum_to_zero(&mut rsdp, 8);
    rsdp.extend(36_u32.to_le_bytes());
    rsdp.extend(LIST.to_le_bytes());
    rsdp.extend([0; 4]);
    sum_to_zero(&mut rsdp, 32);
    let mut memory = rsdp;
    memory.resize(0x40, 0);
    memory.extend(table(*b"XSDT", &addresses));
    memory.resize(0x400, 0);
    memory.extend(tables);
    while let (Some(at), Some(byte)) = (input.u16(), input.u8()) {
        if let Some(place) = memory.get_mut(usize::from(at)) {
            *place = byte;
        }
    }
    Some(Memory(memory))
}

fuzz_target!(|bytes: &[u8]| {
    let Some(memory) = image(&mut Input(bytes)) else {
        return;
    };
    let Ok(tables) = Tables::find(&memory, BASE) else {
        return;
    };
    let _ = FixedHardware::parse(&tables);
    for found in tables.all(madt::SIGNATURE).flatten() {
        let _ = Madt::parse(found);
    }
    for found in tables.all(mcfg::SIGNATURE).flatten() {
        let _ = mcfg::parse(found);
    }
    for found in tables.all(dmar::SIGNATURE).flatten() {
        match Dmar::parse(found) {
            Ok(dmar) => assert!(!dmar.units.is_empty()),
            Err(error) => assert!(!error.to_string().contains(char::is_control)),
        }
    }
});
