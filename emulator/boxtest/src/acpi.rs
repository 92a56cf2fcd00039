//! The two firmware tables that say where PCI configuration space and the IOMMU
//! are. [ACPI 6.5, 5.2 "ACPI System Description Tables"]
#![expect(unsafe_code, reason = "reading tables that firmware left in memory")]

use crate::memory::Window;

/// Byte offsets into the root pointer and into every table.
const RSDP_REVISION: u64 = 15;
const RSDP_RSDT: u64 = 16;
const RSDP_XSDT: u64 = 24;
const RSDP_SIZE: u64 = 36;
const TABLE_LENGTH: u64 = 4;
const TABLE_HEADER: u64 = 36;

/// MCFG: 8 reserved bytes, then allocations of which we take the first.
/// [PCI Firmware 3.3, 4.1.2 "MCFG Table Description"]
const MCFG_BASE: u64 = TABLE_HEADER + 8;
/// DMAR: address width, flags and 10 reserved bytes, then the structures.
/// [VT-d 5.10, 8.1 "DMA Remapping Reporting Structure"]
const DMAR_STRUCTURES: u64 = TABLE_HEADER + 12;
/// DRHD, type 0: [VT-d 5.10, 8.3 "DMA Remapping Hardware Unit Definition
/// Structure"]
const DRHD: u64 = 0;
const DRHD_BASE: u64 = 8;

/// Where PCI configuration space of segment 0 begins in memory.
pub(crate) fn configuration_space(rsdp: u64) -> u64 {
    find(rsdp, *b"MCFG")
        .expect("the firmware reports no memory-mapped configuration space")
        .number::<8>(MCFG_BASE)
}

/// Where the registers of the first IOMMU are, if there is one.
pub(crate) fn iommu(rsdp: u64) -> Option<u64> {
    let dmar = find(rsdp, *b"DMAR")?;
    let kind = dmar.number::<2>(DMAR_STRUCTURES);
    assert_eq!(kind, DRHD, "the first structure of DMAR is no IOMMU");
    Some(dmar.number::<8>(DMAR_STRUCTURES + DRHD_BASE))
}

/// What firmware left in memory, at addresses that are not aligned.
#[derive(Clone, Copy, Debug)]
struct Firmware(Window);

impl Firmware {
    fn new(address: u64, size: u64) -> Self {
        // SAFETY: firmware puts its tables below 4 GiB, at the end of RAM or
        // below 1 MiB; the image and the page pool are elsewhere.
        Self(unsafe { Window::new(address, size) })
    }

    /// The whole table that begins at `address`.
    fn table(address: u64) -> Self {
        let length = Self::new(address, TABLE_HEADER).number::<4>(TABLE_LENGTH);
        Self::new(address, length)
    }

    /// The little-endian number of `N` bytes at `offset`.
    fn number<const N: u64>(&self, offset: u64) -> u64 {
        (0..N)
            .rev()
            .map(|byte| u64::from(self.0.read_u8(offset + byte)))
            .fold(0, |number, byte| number << 8 | byte)
    }
}

fn find(rsdp: u64, signature: [u8; 4]) -> Option<Firmware> {
    let pointer = Firmware::new(rsdp, RSDP_SIZE);
    let extended = pointer.number::<1>(RSDP_REVISION) >= 2;
    let root = Firmware::table(if extended {
        pointer.number::<8>(RSDP_XSDT)
    } else {
        pointer.number::<4>(RSDP_RSDT)
    });
    (TABLE_HEADER..root.0.size())
        .step_by(if extended { 8 } else { 4 })
        .map(|entry| {
            Firmware::table(if extended {
                root.number::<8>(entry)
            } else {
                root.number::<4>(entry)
            })
        })
        .find(|table| table.number::<4>(0) == u64::from(u32::from_le_bytes(signature)))
}
