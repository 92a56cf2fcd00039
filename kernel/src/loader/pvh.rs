//! The PVH start information that a guest finds.
//!
//! In one piece: `hvm_start_info`, the module list, the memory map, the command
//! line. [Xen, "x86/HVM direct boot ABI (PVH)"; public/arch-x86/hvm/start_info.h,
//! structures `hvm_start_info`, `hvm_modlist_entry`, `hvm_memmap_table_entry`]

use alloc::vec::Vec;

use super::error::Fault;
use crate::boot_info::MemoryKind;
use crate::virt::memory::{HIGH_RAM_START, LOW_RAM_END};

/// "xEn3", with the top bit of its E set.
const MAGIC: u32 = 0x336e_c578;
/// The version with a memory map.
const VERSION: u32 = 1;
/// Sizes of the three structures.
const START_INFO_SIZE: u64 = 56;
const MODULE_SIZE: u64 = 32;
const REGION_SIZE: u64 = 24;

/// An entry of the guest's memory map. Guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The first address.
    pub start: u64,
    /// How many bytes.
    pub length: u64,
    /// What is there.
    pub kind: MemoryKind,
}

/// A file in the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// The guest-physical address.
    pub address: u64,
    /// How many bytes.
    pub length: u64,
}

/// What the start information says.
#[derive(Clone, Copy, Debug)]
pub struct StartInfo<'f> {
    /// How much RAM the guest has, up to [`LOW_RAM_END`] and from
    /// [`HIGH_RAM_START`] on.
    pub ram_bytes: u64,
    /// The one module.
    pub module: Option<Module>,
    /// The command line, without a NUL in it.
    pub command_line: &'f str,
    /// What the memory map says beside the RAM.
    pub reserved: &'f [Region],
}

impl StartInfo<'_> {
    /// The bytes to put at `address`, which must end before `limit`. There is no
    /// ACPI root pointer.
    ///
    /// # Errors
    /// If they are too many.
    ///
    /// # Panics
    /// If there is a NUL in the command line, which `weir.toml` cannot have.
    pub fn at(&self, address: u64, limit: u64) -> Result<Vec<u8>, Fault> {
        assert!(
            !self.command_line.contains('\0'),
            "a command line with a NUL in it"
        );
        let regions = self.regions();
        let modules = address + START_INFO_SIZE;
        let map = modules + self.module.map_or(0, |_| MODULE_SIZE);
        let command_line = map + REGION_SIZE * regions.len() as u64;
        let end = command_line + self.command_line.len() as u64 + 1;
        if end > limit {
            return Err(Fault::StartInfoTooLong(end - address, limit - address));
        }
        let map_count = u32::try_from(regions.len()).expect("what fits into the limit is few");

        let mut bytes = Vec::new();
        let mut put = |field: &[u8]| bytes.extend_from_slice(field);
        put(&MAGIC.to_le_bytes());
        put(&VERSION.to_le_bytes());
        put(&0_u32.to_le_bytes()); // flags
        put(&u32::from(self.module.is_some()).to_le_bytes());
        put(&self.module.map_or(0, |_| modules).to_le_bytes());
        put(&command_line.to_le_bytes());
        put(&0_u64.to_le_bytes()); // ACPI root pointer
        put(&map.to_le_bytes());
        put(&map_count.to_le_bytes());
        put(&0_u32.to_le_bytes()); // reserved
        if let Some(module) = self.module {
            put(&module.address.to_le_bytes());
            put(&module.length.to_le_bytes());
            put(&0_u64.to_le_bytes()); // no command line of its own
            put(&0_u64.to_le_bytes()); // reserved
        }
        for region in regions {
            put(&region.start.to_le_bytes());
            put(&region.length.to_le_bytes());
            put(&region.kind.0.to_le_bytes());
            put(&0_u32.to_le_bytes()); // reserved
        }
        put(self.command_line.as_bytes());
        put(&[0]);
        Ok(bytes)
    }

    /// The memory map, in order of addresses.
    fn regions(&self) -> Vec<Region> {
        let mut regions = Vec::from([Region {
            start: 0,
            length: self.ram_bytes.min(LOW_RAM_END),
            kind: MemoryKind::RAM,
        }]);
        if let Some(length) = self.ram_bytes.checked_sub(LOW_RAM_END).filter(|&l| l > 0) {
            regions.push(Region {
                start: HIGH_RAM_START,
                length,
                kind: MemoryKind::RAM,
            });
        }
        regions.extend_from_slice(self.reserved);
        regions.sort_by_key(|region| region.start);
        regions
    }
}
