//! What the loader says about the machine, whatever the loader was.
//!
//! `boot` fills one [`BootInfo`] from PVH (or, in time, Multiboot2) data and
//! hands it to the kernel; nothing behind it looks at the loader's own
//! structures. All of it is the loader's word: ranges may overlap each other or
//! be nonsense, and whoever uses one checks it against the others.

use core::fmt;

use arrayvec::{ArrayString, ArrayVec};
use x86_64::PhysAddr;

use crate::mm::PhysRange;

/// How many entries of a memory map there is room for.
pub const MAX_REGIONS: usize = 128;
/// How many modules there is room for.
pub const MAX_MODULES: usize = 8;
/// How many bytes of command line there is room for.
pub const MAX_COMMAND_LINE: usize = 1024;

/// The loader's word on the machine.
#[derive(Clone, Debug)]
pub struct BootInfo {
    /// What it was that loaded us, for people.
    pub loader: &'static str,
    /// Where the image is.
    pub image: ImageLayout,
    /// The memory map, in the loader's order.
    pub memory: ArrayVec<MemoryRegion, MAX_REGIONS>,
    /// Files that were loaded beside the image.
    pub modules: ArrayVec<PhysRange, MAX_MODULES>,
    /// The text behind the image's name.
    pub command_line: ArrayString<MAX_COMMAND_LINE>,
    /// The ACPI root pointer.
    pub rsdp: PhysAddr,
}

impl BootInfo {
    /// The value of the word `key=value` on the command line.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.command_line
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// One entry of a memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRegion {
    /// The addresses it is about.
    pub range: PhysRange,
    /// What is there.
    pub kind: MemoryKind,
}

/// What a memory map says is in a range: the codes of INT 15h, E820h, which PVH
/// and Multiboot2 use too. [ACPI 6.5, 15 "System Address Map Interfaces",
/// table 15.6]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MemoryKind(pub u32);

impl MemoryKind {
    /// RAM that is free to use.
    pub const RAM: Self = Self(1);
    /// Not to be used.
    pub const RESERVED: Self = Self(2);
    /// ACPI tables, in RAM that is free once they have been read.
    pub const ACPI_TABLES: Self = Self(3);
    /// Firmware's own memory, to be kept over sleep.
    pub const ACPI_NVS: Self = Self(4);
    /// Broken RAM.
    pub const UNUSABLE: Self = Self(5);
}

impl fmt::Display for MemoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RAM => f.write_str("RAM"),
            Self::RESERVED => f.write_str("reserved"),
            Self::ACPI_TABLES => f.write_str("ACPI tables"),
            Self::ACPI_NVS => f.write_str("ACPI NVS"),
            Self::UNUSABLE => f.write_str("unusable"),
            Self(code) => write!(f, "kind {code}"),
        }
    }
}

impl fmt::Debug for MemoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the parts of the running image are. Each begins on a page.
///
/// The addresses are virtual and physical at once: the image runs where it was
/// loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLayout {
    /// Code, up to `rodata`.
    pub text: PhysAddr,
    /// Constants, up to `data`.
    pub rodata: PhysAddr,
    /// Variables, up to `data_end`. Behind them is a page that stays unmapped.
    pub data: PhysAddr,
    /// End of the variables.
    pub data_end: PhysAddr,
    /// The boot processor's stack, up to `end`.
    pub stack: PhysAddr,
    /// End of the image.
    pub end: PhysAddr,
}

impl ImageLayout {
    /// Everything that belongs to the image, the unmapped page included.
    pub fn whole(&self) -> PhysRange {
        PhysRange::new(self.text, self.end)
    }
}
