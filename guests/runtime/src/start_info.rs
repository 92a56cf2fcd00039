//! What the loader left in memory: the command line, the memory map and the input.
//!
//! Nothing here trusts the loader: every address and count is checked before it is
//! followed. [Xen, "x86/HVM direct boot ABI (PVH)", structures `hvm_start_info`,
//! `hvm_modlist_entry` and `hvm_memmap_table_entry`]

use core::fmt;
use core::ops::Range;

/// "xEn3", with the top bit of its E set.
const MAGIC: u32 = 0x336e_c578;

// Byte offsets into `hvm_start_info`, and its size since version 1.
const INFO_VERSION: usize = 4;
const INFO_MODULE_COUNT: usize = 12;
const INFO_MODULES: usize = 16;
const INFO_COMMAND_LINE: usize = 24;
const INFO_MEMORY_MAP: usize = 40;
const INFO_MEMORY_MAP_COUNT: usize = 48;
const INFO_SIZE: u64 = 56;

/// Bytes of an entry of the module list, which begins with address and length.
const MODULE_SIZE: u64 = 32;
/// Bytes of an entry of the memory map: address, length, and the kind at 16.
const REGION_SIZE: u64 = 24;
const REGION_KIND: usize = 16;
/// E820's number for RAM.
const KIND_RAM: u32 = 1;

/// The longest command line, with the NUL behind it.
pub const MAX_COMMAND_LINE: usize = 1024;
/// How many entries of the memory map are looked at.
const MAX_REGIONS: u32 = 64;
/// What is above this is not looked at: devices begin here.
const RAM_LIMIT: u64 = 0xc000_0000;
/// Below, firmware and the start of other processors may be at home.
const LOW_MEMORY: u64 = 1 << 20;

/// The memory that the loader wrote to.
pub trait LoaderMemory {
    /// The `length` bytes at `address`; nothing if they are out of reach.
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]>;
}

/// What is wrong with the loader's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no start information of version 1 at this address.
    NoStartInfo(u64),
    /// The named structure is where it cannot be.
    Unreachable(&'static str, u64),
    /// The command line is too long, or not text.
    BadCommandLine,
    /// The memory map has no place for a heap.
    NoMemory,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStartInfo(address) => {
                write!(f, "no PVH start information of version 1 at {address:#x}")
            }
            Self::Unreachable(what, address) => {
                write!(f, "the loader's {what} at {address:#x} is out of reach")
            }
            Self::BadCommandLine => write!(
                f,
                "the command line is not text of less than {MAX_COMMAND_LINE} bytes"
            ),
            Self::NoMemory => f.write_str("the memory map has no free range; give the guest more"),
        }
    }
}

impl core::error::Error for Error {}

/// What the loader says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartInfo<'m> {
    /// The command line.
    pub command_line: &'m str,
    /// The first module: the guest's input.
    pub input: Option<Range<u64>>,
    /// The largest range of RAM below 3 GiB that nothing occupies, of whole pages.
    pub free: Range<u64>,
    /// Where the last byte of RAM below 3 GiB ends.
    pub ram_end: u64,
}

impl<'m> StartInfo<'m> {
    /// Reads the start information at `address`. `image` is where the guest is.
    ///
    /// # Errors
    /// The first thing that cannot be right.
    pub fn read(
        memory: &'m impl LoaderMemory,
        address: u64,
        image: Range<u64>,
    ) -> Result<Self, Error> {
        let info = memory
            .bytes(address, INFO_SIZE)
            .filter(|info| u32_at(info, 0) == MAGIC && u32_at(info, INFO_VERSION) >= 1)
            .ok_or(Error::NoStartInfo(address))?;
        let command_line = match u64_at(info, INFO_COMMAND_LINE) {
            0 => "",
            address => command_line(memory, address)?,
        };
        let input = match u32_at(info, INFO_MODULE_COUNT) {
            0 => None,
            _ => Some(module(memory, u64_at(info, INFO_MODULES))?),
        };
        let map = u64_at(info, INFO_MEMORY_MAP);
        let count = u32_at(info, INFO_MEMORY_MAP_COUNT).min(MAX_REGIONS);
        let map = memory
            .bytes(map, u64::from(count) * REGION_SIZE)
            .ok_or(Error::Unreachable("memory map", map))?;
        let occupied = [image, input.clone().unwrap_or(0..0), 0..LOW_MEMORY];
        Ok(Self {
            command_line,
            input,
            free: largest_free(ram(map), &occupied).ok_or(Error::NoMemory)?,
            ram_end: ram(map).map(|range| range.end).max().unwrap_or(0),
        })
    }
}

/// The text at `address`, which a NUL ends.
fn command_line(memory: &impl LoaderMemory, address: u64) -> Result<&str, Error> {
    let byte = |offset: usize| memory.bytes(address.checked_add(offset as u64)?, 1);
    // One byte after the other: the text may end right before what is out of reach.
    let length = (0..MAX_COMMAND_LINE)
        .find(|&offset| byte(offset).is_none_or(|byte| byte == [0]))
        .ok_or(Error::BadCommandLine)?;
    byte(length).ok_or(Error::Unreachable("command line", address))?;
    let text = memory.bytes(address, length as u64);
    let text = text.ok_or(Error::Unreachable("command line", address))?;
    str::from_utf8(text).map_err(|_| Error::BadCommandLine)
}

fn module(memory: &impl LoaderMemory, list: u64) -> Result<Range<u64>, Error> {
    let entry = memory
        .bytes(list, MODULE_SIZE)
        .ok_or(Error::Unreachable("module list", list))?;
    let (start, length) = (u64_at(entry, 0), u64_at(entry, 8));
    // Only asked for, to know that all of it is there.
    memory
        .bytes(start, length)
        .ok_or(Error::Unreachable("module", start))?;
    Ok(start..start + length)
}

/// The ranges of RAM in a memory map, cut off where devices begin.
fn ram(map: &[u8]) -> impl Iterator<Item = Range<u64>> {
    map.chunks_exact(24)
        .filter(|entry| u32_at(entry, REGION_KIND) == KIND_RAM)
        .map(|entry| {
            let (start, length) = (u64_at(entry, 0), u64_at(entry, 8));
            start.min(RAM_LIMIT)..start.saturating_add(length).min(RAM_LIMIT)
        })
        .filter(|range| !range.is_empty())
}

/// The largest part of `ram`, in whole pages, that nothing occupies. What occupies
/// memory is cut out of a range on its larger side only, which is good enough for a
/// loader that puts things at an end.
fn largest_free(
    ram: impl Iterator<Item = Range<u64>>,
    occupied: &[Range<u64>],
) -> Option<Range<u64>> {
    const PAGE: u64 = 4096;
    ram.map(|mut range| {
        for taken in occupied {
            if taken.is_empty() || taken.end <= range.start || taken.start >= range.end {
                continue;
            }
            let below = range.start..taken.start.max(range.start);
            let above = taken.end.min(range.end)..range.end;
            let length = |range: &Range<u64>| range.end - range.start;
            range = if length(&below) > length(&above) {
                below
            } else {
                above
            };
        }
        range.start.next_multiple_of(PAGE)..range.end / PAGE * PAGE
    })
    .filter(|range| !range.is_empty())
    .max_by_key(|range| range.end - range.start)
}

/// The number at `offset` of a structure that is known to be long enough.
fn u32_at(structure: &[u8], offset: usize) -> u32 {
    let bytes = structure.get(offset..).and_then(<[u8]>::first_chunk);
    u32::from_le_bytes(*bytes.expect("fields are within their structures"))
}

/// As [`u32_at`].
fn u64_at(structure: &[u8], offset: usize) -> u64 {
    let bytes = structure.get(offset..).and_then(<[u8]>::first_chunk);
    u64::from_le_bytes(*bytes.expect("fields are within their structures"))
}

#[cfg(test)]
#[path = "start_info_tests.rs"]
mod tests;
