//! MCFG: where PCI configuration space is in memory.

use alloc::vec::Vec;

use hwspec::acpi::mcfg;

use super::reader::Structure;
use super::{AcpiError, Signature};
use crate::mm::PhysRange;

/// The table's name.
pub const SIGNATURE: [u8; 4] = *b"MCFG";

/// A bus takes 1 MiB: 32 devices of 8 functions of 4 KiB.
const BUS_BYTES: u64 = 1 << 20;

/// The configuration space of some buses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// PCI segment group.
    pub segment: u16,
    /// First bus.
    pub start_bus: u8,
    /// Last bus.
    pub end_bus: u8,
    /// Where their configuration space is, from the first bus on.
    pub range: PhysRange,
}

/// Reads the table, header included.
///
/// # Errors
/// At the first allocation that makes no sense.
pub fn parse(table: &[u8]) -> Result<Vec<Allocation>, AcpiError> {
    let malformed = |offset| AcpiError::Malformed(Signature(SIGNATURE), offset);
    let list = table.get(mcfg::ALLOCATIONS..);
    let list = list.ok_or(malformed(mcfg::ALLOCATIONS))?;
    list.chunks(mcfg::ALLOCATION_SIZE)
        .zip((mcfg::ALLOCATIONS..).step_by(mcfg::ALLOCATION_SIZE))
        .map(|(entry, at)| allocation(Structure(entry)).ok_or(malformed(at)))
        .collect()
}

fn allocation(entry: Structure<'_>) -> Option<Allocation> {
    let start_bus = entry.get(mcfg::START_BUS)?;
    let end_bus = entry.get(mcfg::END_BUS)?;
    let count = u64::from(end_bus.checked_sub(start_bus)?) + 1;
    let offset = u64::from(start_bus) * BUS_BYTES;
    let start = entry.get(mcfg::BASE_ADDRESS)?.checked_add(offset)?;
    Some(Allocation {
        segment: entry.get(mcfg::SEGMENT)?,
        start_bus,
        end_bus,
        range: PhysRange::from_parts(start, count * BUS_BYTES)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::table;
    use super::*;

    fn mcfg(allocations: &[u8]) -> Result<Vec<Allocation>, AcpiError> {
        let mut body = Vec::from([0; 8]);
        body.extend(allocations);
        parse(&table(b"MCFG", 1, &body))
    }

    #[test]
    fn allocations_begin_with_their_first_bus() {
        let found = mcfg(&[
            0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, // segment 0
            0, 0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0x10, 0x1f, 0, 0, 0, 0, // segment 1
        ]);
        let range = |start, length| PhysRange::from_parts(start, length).unwrap();
        assert_eq!(
            found.unwrap(),
            [
                Allocation {
                    segment: 0,
                    start_bus: 0,
                    end_bus: 0xff,
                    range: range(0xb000_0000, 0x1000_0000),
                },
                Allocation {
                    segment: 1,
                    start_bus: 0x10,
                    end_bus: 0x1f,
                    range: range(0x8100_0000, 0x100_0000),
                },
            ]
        );
    }

    #[test]
    fn allocations_that_make_no_sense_are_refused() {
        let malformed = |at| Err(AcpiError::Malformed(Signature(*b"MCFG"), at));
        // Half of one.
        assert_eq!(mcfg(&[0; 24]), malformed(60));
        // Ends before it begins.
        assert_eq!(
            mcfg(&[0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0]),
            malformed(44)
        );
        // Beyond all addresses.
        let far = [
            255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(mcfg(&far), malformed(44));
        assert_eq!(parse(&table(b"MCFG", 1, &[0; 4])), malformed(44));
    }
}
