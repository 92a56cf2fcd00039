//! Finding tables: from the root pointer to the list of tables to one of them.

use core::error::Error;
use core::fmt;

use arrayvec::ArrayVec;
use hwspec::acpi::{header, rsdp};

use super::reader::{Number, Structure};

/// More tables than any machine has.
const MAX_TABLES: usize = 128;
/// A table is not longer than this. The longest are those with AML, some
/// hundreds of KiB.
const MAX_TABLE_BYTES: u64 = 4 << 20;

/// The memory that firmware left its tables in.
pub trait FirmwareMemory {
    /// The `length` bytes at `address`, if they can be read.
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]>;
}

/// The name of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 4]);

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is wrong with firmware's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiError {
    /// There is no valid root pointer at this address.
    NoRootPointer(u64),
    /// The table at this address cannot be read, or has an impossible length.
    Unreachable(u64),
    /// There is no such table.
    Missing(Signature),
    /// The bytes of this table do not add up to 0.
    Checksum(Signature),
    /// This table has something wrong at this offset.
    Malformed(Signature, usize),
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRootPointer(address) => write!(f, "no ACPI root pointer at {address:#x}"),
            Self::Unreachable(address) => write!(f, "no ACPI table can be at {address:#x}"),
            Self::Missing(table) => write!(f, "there is no ACPI table {table}"),
            Self::Checksum(table) => write!(f, "ACPI table {table} has a wrong checksum"),
            Self::Malformed(table, offset) => {
                write!(f, "ACPI table {table} is malformed at offset {offset:#x}")
            }
        }
    }
}

impl Error for AcpiError {}

/// Where the tables of a machine are.
#[derive(Clone, Debug)]
pub struct Tables<'m, M> {
    memory: &'m M,
    entries: ArrayVec<(Signature, u64), MAX_TABLES>,
}

impl<'m, M: FirmwareMemory> Tables<'m, M> {
    /// Follows the root pointer at `address`.
    ///
    /// Entries that lead nowhere are left out: firmware has some, and a table
    /// that is needed and not found is noticed soon enough.
    ///
    /// # Errors
    /// If there is no root pointer or no list of tables.
    pub fn find(memory: &'m M, address: u64) -> Result<Self, AcpiError> {
        let error = AcpiError::NoRootPointer(address);
        let (list, entry_size) = root(memory, address).ok_or(error)?;
        let entries = table_bytes(memory, list)?;
        let entries = entries.get(header::SIZE..).unwrap_or_default();
        let mut found = ArrayVec::new();
        for entry in entries.chunks_exact(entry_size) {
            let address = if entry_size == 8 {
                u64::read(entry)
            } else {
                u32::read(entry).map(u64::from)
            };
            let Some(address) = address.filter(|&address| address != 0) else {
                continue;
            };
            let name = memory.bytes(address, 4).and_then(<[u8]>::first_chunk);
            if let Some(name) = name
                && found.try_push((Signature(*name), address)).is_err()
            {
                break;
            }
        }
        Ok(Self {
            memory,
            entries: found,
        })
    }

    /// The first table of this name, header included.
    ///
    /// # Errors
    /// If it cannot be read or its checksum is wrong.
    pub fn get(&self, name: [u8; 4]) -> Result<Option<&'m [u8]>, AcpiError> {
        self.all(name).next().transpose()
    }

    /// As [`get`](Self::get).
    ///
    /// # Errors
    /// Also if there is no such table.
    pub fn require(&self, name: [u8; 4]) -> Result<&'m [u8], AcpiError> {
        self.get(name)?.ok_or(AcpiError::Missing(Signature(name)))
    }

    /// All tables of this name.
    pub fn all(&self, name: [u8; 4]) -> impl Iterator<Item = Result<&'m [u8], AcpiError>> {
        let entries = self.entries.iter().filter(move |entry| entry.0.0 == name);
        entries.map(move |&(_, address)| self.at(address, name))
    }

    /// The table of this name that is not in the list but at `address`.
    ///
    /// # Errors
    /// If it cannot be read or its checksum is wrong.
    pub fn at(&self, address: u64, name: [u8; 4]) -> Result<&'m [u8], AcpiError> {
        let table = table_bytes(self.memory, address)?;
        if !table.starts_with(&name) {
            return Err(AcpiError::Missing(Signature(name)));
        }
        if !adds_up(table) {
            return Err(AcpiError::Checksum(Signature(name)));
        }
        Ok(table)
    }
}

/// The address of the list of tables, and how long its entries are.
fn root(memory: &impl FirmwareMemory, address: u64) -> Option<(u64, usize)> {
    let first = memory.bytes(address, rsdp::SIZE_REVISION_0 as u64)?;
    if !first.starts_with(&rsdp::SIGNATURE) || !adds_up(first) {
        return None;
    }
    let old = Structure(first);
    if old.get(rsdp::REVISION)? < 2 {
        return Some((u64::from(old.get(rsdp::RSDT_ADDRESS)?), 4));
    }
    let whole = memory.bytes(address, rsdp::SIZE as u64)?;
    let new = Structure(whole);
    let length = usize::try_from(new.get(rsdp::LENGTH)?).ok()?;
    if length < rsdp::SIZE || !adds_up(whole) {
        return None;
    }
    match new.get(rsdp::XSDT_ADDRESS)? {
        0 => Some((u64::from(new.get(rsdp::RSDT_ADDRESS)?), 4)),
        address => Some((address, 8)),
    }
}

/// The table that begins at `address`, as long as it says it is.
fn table_bytes(memory: &impl FirmwareMemory, address: u64) -> Result<&[u8], AcpiError> {
    let error = AcpiError::Unreachable(address);
    let start = memory.bytes(address, header::SIZE as u64).ok_or(error)?;
    let length = Structure(start).get(header::LENGTH).ok_or(error)?;
    let length = u64::from(length);
    if !(header::SIZE as u64..=MAX_TABLE_BYTES).contains(&length) {
        return Err(error);
    }
    memory.bytes(address, length).ok_or(error)
}

/// Whether the bytes add up to 0.
fn adds_up(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Image, sum_to_zero, table};
    use super::*;

    #[test]
    fn the_extended_list_is_preferred() {
        let image = Image::new(&[table(b"APIC", 2, &[1, 2, 3])]);
        let tables = Tables::find(&image, image.rsdp()).unwrap();
        let madt = tables.require(*b"APIC").unwrap();
        assert_eq!(madt.get(36..), Some(&[1, 2, 3][..]));
    }

    #[test]
    fn the_first_version_of_the_root_pointer_will_do() {
        let mut image = Image::new(&[table(b"APIC", 2, &[])]);
        image.make_revision_0();
        let tables = Tables::find(&image, image.rsdp()).unwrap();
        assert!(tables.require(*b"APIC").is_ok());
    }

    #[test]
    fn a_missing_table_is_an_error_only_if_it_is_required() {
        let image = Image::new(&[]);
        let tables = Tables::find(&image, image.rsdp()).unwrap();
        assert_eq!(tables.get(*b"DMAR"), Ok(None));
        let error = AcpiError::Missing(Signature(*b"DMAR"));
        assert_eq!(tables.require(*b"DMAR"), Err(error));
    }

    #[test]
    fn checksums_are_checked() {
        let mut bad = table(b"APIC", 2, &[0; 8]);
        bad[40] = 1;
        let image = Image::new(&[bad]);
        let tables = Tables::find(&image, image.rsdp()).unwrap();
        let error = AcpiError::Checksum(Signature(*b"APIC"));
        assert_eq!(tables.get(*b"APIC"), Err(error));

        let mut image = Image::new(&[]);
        let rsdp = image.rsdp();
        image.put(rsdp + 9, &[0x5a]);
        let error = AcpiError::NoRootPointer(rsdp);
        assert_eq!(Tables::find(&image, rsdp).unwrap_err(), error);
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0_u32, 35, 0x1000_0000, u32::MAX] {
            let mut bad = table(b"APIC", 2, &[]);
            bad[4..8].copy_from_slice(&length.to_le_bytes());
            sum_to_zero(&mut bad, 9);
            let image = Image::new(&[bad]);
            let tables = Tables::find(&image, image.rsdp()).unwrap();
            let error = tables.get(*b"APIC").unwrap_err();
            assert!(matches!(error, AcpiError::Unreachable(_)), "{error}");
        }
    }

    #[test]
    fn entries_that_lead_nowhere_are_left_out() {
        let mut image = Image::new(&[table(b"APIC", 2, &[]), table(b"MCFG", 1, &[])]);
        image.set_entry(0, u64::MAX - 2);
        let tables = Tables::find(&image, image.rsdp()).unwrap();
        assert_eq!(tables.get(*b"APIC"), Ok(None));
        assert!(tables.require(*b"MCFG").is_ok());
    }

    #[test]
    fn a_root_pointer_out_of_reach_is_refused() {
        let image = Image::new(&[]);
        let error = Tables::find(&image, u64::MAX).unwrap_err();
        assert_eq!(error, AcpiError::NoRootPointer(u64::MAX));
    }
}
