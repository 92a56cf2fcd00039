//! Tables for tests, as firmware would leave them in memory.

use std::vec::Vec;

use super::FirmwareMemory;

const BASE: u64 = 0xe_0000;
const XSDT: u64 = BASE + 0x100;
const RSDT: u64 = BASE + 0x300;
const TABLES: u64 = BASE + 0x1000;

/// Memory from 0xe0000 on: the root pointer, both lists, and tables.
#[derive(Clone, Debug)]
pub(super) struct Image {
    bytes: Vec<u8>,
}

impl FirmwareMemory for Image {
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]> {
        let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.bytes.get(start..end)
    }
}

impl Image {
    pub(super) fn new(tables: &[Vec<u8>]) -> Self {
        let mut image = Self {
            bytes: std::vec![0; 0x1_0000],
        };
        let mut at = TABLES;
        let mut addresses = Vec::new();
        for table in tables {
            image.put(at, table);
            addresses.push(at);
            at += (table.len() as u64).next_multiple_of(16) + 16;
        }
        let wide: Vec<u8> = addresses.iter().flat_map(|at| at.to_le_bytes()).collect();
        let narrow: Vec<u8> = addresses
            .iter()
            .flat_map(|&at| u32::try_from(at).unwrap().to_le_bytes())
            .collect();
        image.put(XSDT, &table(b"XSDT", 1, &wide));
        image.put(RSDT, &table(b"RSDT", 1, &narrow));
        let mut rsdp = Vec::from(*b"RSD PTR \0WEIR  \x02");
        rsdp.extend(u32::try_from(RSDT).unwrap().to_le_bytes());
        sum_to_zero(&mut rsdp, 8);
        rsdp.extend(36_u32.to_le_bytes());
        rsdp.extend(XSDT.to_le_bytes());
        rsdp.extend([0; 4]);
        sum_to_zero(&mut rsdp, 32);
        image.put(BASE, &rsdp);
        image
    }

    pub(super) fn rsdp(&self) -> u64 {
        BASE
    }

    pub(super) fn put(&mut self, address: u64, bytes: &[u8]) {
        let start = usize::try_from(address - BASE).unwrap();
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// How many bytes there are, for tests that change some.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn base(&self) -> u64 {
        BASE
    }

    /// Turns the root pointer into one of ACPI 1.0, and ruins the other list.
    pub(super) fn make_revision_0(&mut self) {
        self.bytes[15] = 0;
        sum_to_zero(&mut self.bytes[..20], 8);
        self.put(XSDT, b"????");
        self.put(BASE + 24, &[0xff; 8]);
    }

    /// Changes one entry of the list of tables.
    pub(super) fn set_entry(&mut self, index: u64, address: u64) {
        self.put(XSDT + 36 + 8 * index, &address.to_le_bytes());
    }
}

/// A table with a good header.
pub(super) fn table(name: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut table = Vec::from(*name);
    let length = u32::try_from(36 + body.len()).unwrap();
    table.extend(length.to_le_bytes());
    table.extend([revision, 0]);
    table.extend(*b"WEIR  WEIRTEST");
    table.extend([1, 0, 0, 0]);
    table.extend(*b"WEIR");
    table.extend([1, 0, 0, 0]);
    assert_eq!(table.len(), 36);
    table.extend(body);
    sum_to_zero(&mut table, 9);
    table
}

/// Makes the bytes add up to 0 by changing the one at `place`.
pub(super) fn sum_to_zero(bytes: &mut [u8], place: usize) {
    bytes[place] = 0;
    let sum = bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
    bytes[place] = sum.wrapping_neg();
}
