//! MADT: the processors and the I/O APICs.

use alloc::vec::Vec;

use hwspec::acpi::madt::{self, io_apic, local_apic, local_x2apic};

use super::reader::Structure;
use super::{AcpiError, Signature};

/// The table's name, which is older than the table's.
pub const SIGNATURE: [u8; 4] = *b"APIC";

/// What the MADT says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Madt {
    /// The APIC IDs of the processors that are enabled, in the table's order,
    /// each once.
    pub processors: Vec<u32>,
    /// The I/O APICs.
    pub io_apics: Vec<IoApic>,
}

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Its id, by which DMAR names it.
    pub id: u8,
    /// Physical address of its registers.
    pub address: u32,
}

impl Madt {
    /// Reads the table, header included.
    ///
    /// # Errors
    /// At the first structure that is not as long as it must be.
    pub fn parse(table: &[u8]) -> Result<Self, AcpiError> {
        let malformed = |offset| AcpiError::Malformed(Signature(SIGNATURE), offset);
        let list = Structure(table).from(madt::STRUCTURES);
        let list = list.ok_or(malformed(madt::STRUCTURES))?;
        let mut all = Self::default();
        let mut offset = madt::STRUCTURES;
        for structure in list.list(2, |s| s.get(madt::LENGTH).map(usize::from)) {
            let structure = structure.map_err(|at| malformed(madt::STRUCTURES + at))?;
            all.take(structure).ok_or(malformed(offset))?;
            offset += structure.0.len();
        }
        Ok(all)
    }

    /// Takes in one structure; none if it is too short for its type.
    fn take(&mut self, structure: Structure<'_>) -> Option<()> {
        match structure.get(madt::TYPE)? {
            local_apic::TYPE => {
                // 0xff and above are those of local x2APIC structures.
                let id = u32::from(structure.get(local_apic::APIC_ID)?);
                self.add(id, structure.get(local_apic::FLAGS)?);
            }
            local_x2apic::TYPE => {
                let id = structure.get(local_x2apic::X2APIC_ID)?;
                self.add(id, structure.get(local_x2apic::FLAGS)?);
            }
            io_apic::TYPE => self.io_apics.push(IoApic {
                id: structure.get(io_apic::ID)?,
                address: structure.get(io_apic::ADDRESS)?,
            }),
            _ => {}
        }
        Some(())
    }

    fn add(&mut self, id: u32, flags: u32) {
        if flags & madt::FLAG_ENABLED != 0 && !self.processors.contains(&id) {
            self.processors.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::table;
    use super::*;

    fn madt(structures: &[u8]) -> Result<Madt, AcpiError> {
        let mut body = Vec::from([0, 0, 0xe0, 0xfe, 1, 0, 0, 0]);
        body.extend(structures);
        Madt::parse(&table(b"APIC", 3, &body))
    }

    #[test]
    fn enabled_processors_and_io_apics_are_found() {
        let found = madt(&[
            0, 8, 0, 0, 1, 0, 0, 0, // local APIC 0
            0, 8, 1, 2, 1, 0, 0, 0, // local APIC 2
            0, 8, 2, 4, 0, 0, 0, 0, // local APIC 4: not enabled
            0, 8, 3, 6, 2, 0, 0, 0, // local APIC 6: could be plugged in
            1, 12, 8, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0, // I/O APIC 8
            2, 10, 0, 0, 2, 0, 0, 0, 0, 0, // an interrupt source override
            9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, // x2APIC 0x100
            9, 16, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0, // 2 once more
        ]);
        let io_apic = IoApic {
            id: 8,
            address: 0xfec0_0000,
        };
        assert_eq!(
            found,
            Ok(Madt {
                processors: Vec::from([0, 2, 0x100]),
                io_apics: Vec::from([io_apic]),
            })
        );
    }

    #[test]
    fn structures_that_are_too_short_or_too_long_are_refused() {
        let malformed = |at| Err(AcpiError::Malformed(Signature(*b"APIC"), at));
        assert_eq!(madt(&[0, 0]), malformed(44));
        assert_eq!(madt(&[0, 1]), malformed(44));
        assert_eq!(madt(&[0]), malformed(44));
        assert_eq!(madt(&[0, 7, 0, 0, 1, 0, 0]), malformed(44));
        assert_eq!(madt(&[5, 4, 0, 0, 9, 8, 0, 0, 0, 0, 0, 0]), malformed(48));
        assert_eq!(madt(&[5, 4, 0, 0, 0, 9, 0, 0]), malformed(48));
        assert_eq!(Madt::parse(&table(b"APIC", 3, &[0; 7])), malformed(44));
    }
}
