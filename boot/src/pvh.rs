//! What a PVH loader left in memory, as a [`BootInfo`].
//!
//! Nothing here trusts the loader: every address and count it wrote is checked
//! before it is followed. [Xen, "x86/HVM direct boot ABI (PVH)", structures
//! `hvm_start_info`, `hvm_modlist_entry` and `hvm_memmap_table_entry`]

use core::error::Error;
use core::fmt;
use core::slice::ChunksExact;

use kernel::boot_info::{BootInfo, ImageLayout, MAX_COMMAND_LINE, MemoryKind, MemoryRegion};
use kernel::mm::PhysRange;
use x86_64::PhysAddr;

/// `hvm_start_info`: byte offsets, and its size since version 1.
mod start_info {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 4;
    pub(super) const MODULE_COUNT: usize = 12;
    pub(super) const MODULES: usize = 16;
    pub(super) const COMMAND_LINE: usize = 24;
    pub(super) const RSDP: usize = 32;
    pub(super) const MEMORY_MAP: usize = 40;
    pub(super) const MEMORY_MAP_COUNT: usize = 48;
    pub(super) const SIZE: u64 = 56;

    /// "xEn3", with the top bit of its E set.
    pub(super) const MAGIC_VALUE: u32 = 0x336e_c578;
}

/// `hvm_modlist_entry`.
mod module {
    pub(super) const ADDRESS: usize = 0;
    pub(super) const LENGTH: usize = 8;
    pub(super) const SIZE: u64 = 32;
}

/// `hvm_memmap_table_entry`.
mod region {
    pub(super) const ADDRESS: usize = 0;
    pub(super) const LENGTH: usize = 8;
    pub(super) const KIND: usize = 16;
    pub(super) const SIZE: u64 = 24;
}

/// The memory that loaders write to.
pub trait LoaderMemory {
    /// The `length` bytes at `address`, unless some of them are where a loader
    /// has no business or are out of reach.
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]>;
}

/// What is wrong with the loader's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PvhError {
    /// The start information does not begin with its magic number but with this.
    NoStartInfo(u32),
    /// The start information has this version, which has no memory map.
    NoMemoryMap(u32),
    /// There is no ACPI root pointer.
    NoRsdp,
    /// The named structure is at an address that cannot be right.
    Unreachable(&'static str, u64),
    /// There are more of these than there is room for.
    TooMany(&'static str, u32),
    /// The command line is longer than there is room for, or not text.
    BadCommandLine,
}

impl fmt::Display for PvhError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PVH start information: ")?;
        match *self {
            Self::NoStartInfo(magic) => write!(f, "magic number {magic:#x}"),
            Self::NoMemoryMap(version) => {
                write!(
                    f,
                    "version {version} has no memory map; use a loader with version 1"
                )
            }
            Self::NoRsdp => f.write_str("no ACPI root pointer; switch ACPI on"),
            Self::Unreachable(what, address) => write!(f, "{what} at {address:#x} is out of reach"),
            Self::TooMany(what, count) => write!(f, "{count} {what} are too many"),
            Self::BadCommandLine => write!(
                f,
                "the command line is not text of less than {MAX_COMMAND_LINE} bytes"
            ),
        }
    }
}

impl Error for PvhError {}

/// Reads the start information at `address` and what it leads to.
///
/// # Errors
/// The first thing in it that cannot be right.
pub fn read(
    memory: &impl LoaderMemory,
    address: u64,
    image: ImageLayout,
) -> Result<BootInfo, PvhError> {
    let info = bytes(memory, "the structure itself", address, start_info::SIZE)?;
    let magic = number_u32(info, start_info::MAGIC);
    if magic != start_info::MAGIC_VALUE {
        return Err(PvhError::NoStartInfo(magic));
    }
    let version = number_u32(info, start_info::VERSION);
    if version == 0 {
        return Err(PvhError::NoMemoryMap(version));
    }
    let mut boot = BootInfo {
        loader: "PVH",
        image,
        memory: Default::default(),
        modules: Default::default(),
        command_line: Default::default(),
        rsdp: match PhysAddr::try_new(number_u64(info, start_info::RSDP)) {
            Ok(address) if !address.is_null() => address,
            _ => return Err(PvhError::NoRsdp),
        },
    };

    let count = number_u32(info, start_info::MEMORY_MAP_COUNT);
    let address = number_u64(info, start_info::MEMORY_MAP);
    for entry in table(memory, "the memory map", address, count, region::SIZE)? {
        let (start, length) = (
            number_u64(entry, region::ADDRESS),
            number_u64(entry, region::LENGTH),
        );
        let range = PhysRange::from_parts(start, length)
            .ok_or(PvhError::Unreachable("a memory region", start))?;
        let kind = MemoryKind(number_u32(entry, region::KIND));
        boot.memory
            .try_push(MemoryRegion { range, kind })
            .map_err(|_| PvhError::TooMany("memory regions", count))?;
    }

    let count = number_u32(info, start_info::MODULE_COUNT);
    let address = number_u64(info, start_info::MODULES);
    for entry in table(memory, "the module list", address, count, module::SIZE)? {
        let (start, length) = (
            number_u64(entry, module::ADDRESS),
            number_u64(entry, module::LENGTH),
        );
        // Only looked at, to know that all of it is there.
        bytes(memory, "a module", start, length)?;
        let range =
            PhysRange::from_parts(start, length).ok_or(PvhError::Unreachable("a module", start))?;
        boot.modules
            .try_push(range)
            .map_err(|_| PvhError::TooMany("modules", count))?;
    }

    let address = number_u64(info, start_info::COMMAND_LINE);
    if address != 0 {
        let text = command_line(memory, address)?;
        boot.command_line
            .try_push_str(text)
            .map_err(|_| PvhError::BadCommandLine)?;
    }
    Ok(boot)
}

/// The text at `address`, which a NUL ends.
fn command_line(memory: &impl LoaderMemory, address: u64) -> Result<&str, PvhError> {
    // One byte after the other, for the text may end right before something
    // that is out of reach.
    let length = (0..MAX_COMMAND_LINE as u64)
        .find(|&offset| {
            let byte = address
                .checked_add(offset)
                .and_then(|at| memory.bytes(at, 1));
            byte.is_none_or(|byte| byte == [0])
        })
        .ok_or(PvhError::BadCommandLine)?;
    let text = bytes(memory, "the command line", address, length + 1)?;
    let (_, text) = text.split_last().ok_or(PvhError::BadCommandLine)?;
    str::from_utf8(text).map_err(|_| PvhError::BadCommandLine)
}

/// `count` entries of `size` bytes.
fn table<'m>(
    memory: &'m impl LoaderMemory,
    what: &'static str,
    address: u64,
    count: u32,
    size: u64,
) -> Result<ChunksExact<'m, u8>, PvhError> {
    let all = if count == 0 {
        &[]
    } else {
        bytes(memory, what, address, u64::from(count) * size)?
    };
    Ok(all.chunks_exact(usize::try_from(size).expect("sizes of structures are small")))
}

fn bytes<'m>(
    memory: &'m impl LoaderMemory,
    what: &'static str,
    address: u64,
    length: u64,
) -> Result<&'m [u8], PvhError> {
    memory
        .bytes(address, length)
        .ok_or(PvhError::Unreachable(what, address))
}

/// The number at `offset` of a structure that is known to be long enough.
fn number_u32(structure: &[u8], offset: usize) -> u32 {
    let bytes = structure.get(offset..).and_then(<[u8]>::first_chunk);
    u32::from_le_bytes(*bytes.expect("fields are within their structures"))
}

/// As [`number_u32`].
fn number_u64(structure: &[u8], offset: usize) -> u64 {
    let bytes = structure.get(offset..).and_then(<[u8]>::first_chunk);
    u64::from_le_bytes(*bytes.expect("fields are within their structures"))
}

#[cfg(test)]
#[path = "pvh_tests.rs"]
mod tests;
