//! A Linux kernel as distributions ship it: a bzImage.
//!
//! The kernel proper, which decompresses itself, goes to the address that it
//! prefers and is entered in 32-bit protected mode with the address of `struct
//! boot_params`, the "zero page", in RSI. Whatever else the kernel is told is there
//! or behind it: the command line, the memory map, where the ACPI tables and the
//! initial file system are.
//! [Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header", "32-bit
//! Boot Protocol"; Documentation/arch/x86/zero-page.rst]
//!
//! In the guest's memory:
//!
//! | where | what |
//! |---|---|
//! | [`START_INFO`], one page | `struct boot_params` |
//! | the page behind it | the command line |
//! | [`acpi::TABLES`] | ACPI tables, the root pointer first |
//! | [`power::RESTART`] | what a processor finds that begins anew |
//! | the kernel's preferred address | the kernel, and room to unpack itself |
//! | as high in low RAM as the kernel allows | the initial file system |

use alloc::vec;
use alloc::vec::Vec;

use super::error::{Fault, LoadError};
use super::{GuestRam, PAGE, START_INFO, write};
use crate::boot_info::MemoryKind;
use crate::bundle::File;
use crate::platform::acpi;
use crate::platform::memory_map;
use crate::platform::power;
use crate::virt::memory::LOW_RAM_END;

use super::pvh::Region;

/// Offsets in the file, and in `struct boot_params` alike.
mod header {
    pub(super) const SETUP_SECTORS: usize = 0x1f1;
    pub(super) const START: usize = 0x1f1;
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    /// How many bytes follow offset 0x202.
    pub(super) const LENGTH: usize = 0x201;
    pub(super) const BASE: usize = 0x202;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const LOADER: usize = 0x210;
    pub(super) const LOAD_FLAGS: usize = 0x211;
    pub(super) const RAMDISK_IMAGE: usize = 0x218;
    pub(super) const RAMDISK_SIZE: usize = 0x21c;
    pub(super) const COMMAND_LINE: usize = 0x228;
    pub(super) const RAMDISK_LIMIT: usize = 0x22c;
    pub(super) const EXTENDED_LOAD_FLAGS: usize = 0x236;
    pub(super) const COMMAND_LINE_SIZE: usize = 0x238;
    pub(super) const PREFERRED_ADDRESS: usize = 0x258;
    pub(super) const INIT_SIZE: usize = 0x260;
    /// Behind the last field that is used here.
    pub(super) const USED_END: usize = 0x264;
    /// The last that there is room for in `struct boot_params`.
    pub(super) const END: usize = 0x290;
}

/// Offsets in `struct boot_params` outside of the header.
mod boot_params {
    pub(super) const ACPI_ROOT: usize = 0x70;
    pub(super) const MAP_COUNT: usize = 0x1e8;
    pub(super) const MAP: usize = 0x2d0;
    pub(super) const MAP_MAX: usize = 128;
    pub(super) const SIZE: usize = 0x1000;
}

const BOOT_FLAG: u16 = 0xaa55;
const MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
/// Protocol 2.14, Linux 5.5: the first with the address of the ACPI root pointer.
const OLDEST_VERSION: u16 = 0x20e;
/// LOADED_HIGH: the kernel proper goes above 1 MiB.
const LOADED_HIGH: u8 = 1 << 0;
/// XLF_KERNEL_64: it is a kernel for 64 bits.
const KERNEL_64: u16 = 1 << 0;
/// A loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
const SECTOR: usize = 512;
/// What 0 setup sectors mean.
const DEFAULT_SETUP_SECTORS: usize = 4;

/// Where conventional memory ends, but for what the kernel keeps out of anyway.
const CONVENTIONAL_END: u64 = 0xa_0000;
const ONE_MIB: u64 = 1 << 20;
/// The command line has the page behind `struct boot_params`, with a NUL at its end.
const COMMAND_LINE: u32 = START_INFO + 0x1000;
const COMMAND_LINE_ROOM: usize = 0x1000 - 1;

/// The files, and what the guest is told beside them.
#[derive(Clone, Copy, Debug)]
pub struct LinuxPayload<'f> {
    /// The kernel.
    pub kernel: File<'f>,
    /// The initial file system.
    pub initrd: Option<File<'f>>,
    /// The command line, without a NUL in it.
    pub command_line: &'f str,
    /// How many virtual processors there are.
    pub count_vcpus: usize,
}

/// Where Linux begins, in 32-bit protected mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinuxStart {
    /// EIP.
    pub entry: u32,
    /// ESI: the address of `struct boot_params`.
    pub boot_params: u32,
}

/// A bzImage that was looked at.
#[derive(Clone, Copy, Debug)]
pub struct BzImage<'f> {
    /// The fields from offset 0x1f1 on, as far as there is room for them.
    header: &'f [u8],
    /// The kernel proper.
    kernel: &'f [u8],
    /// Where it goes.
    address: u64,
    /// How many bytes it needs there until it is unpacked.
    init_size: u64,
    /// The highest address that the initial file system may have.
    initrd_limit: u64,
    /// The longest command line, without its NUL.
    command_line_size: usize,
}

impl<'f> BzImage<'f> {
    /// Looks at a file.
    ///
    /// # Errors
    /// What it is not, or lacks.
    pub fn read(file: &'f [u8]) -> Result<Self, Fault> {
        let is_one = u16_at(file, header::BOOT_FLAG) == Some(BOOT_FLAG)
            && u32_at(file, header::MAGIC) == Some(MAGIC);
        if !is_one {
            return Err(Fault::NotBzImage);
        }
        let truncated = Fault::Truncated("the kernel's header");
        let version = u16_at(file, header::VERSION).ok_or(truncated)?;
        if version < OLDEST_VERSION {
            return Err(Fault::OldKernel(version));
        }
        let fields = Fields { file };
        let header_end = header::BASE + usize::from(fields.u8(header::LENGTH)?);
        if header_end < header::USED_END {
            return Err(truncated);
        }
        let is_high = fields.u8(header::LOAD_FLAGS)? & LOADED_HIGH != 0;
        let is_64 = fields.u16(header::EXTENDED_LOAD_FLAGS)? & KERNEL_64 != 0;
        if !is_high || !is_64 {
            return Err(Fault::WrongKernel);
        }
        let sectors = match usize::from(fields.u8(header::SETUP_SECTORS)?) {
            0 => DEFAULT_SETUP_SECTORS,
            sectors => sectors,
        };
        let header_end = header_end.min(header::END);
        let header = file.get(header::START..header_end).ok_or(truncated)?;
        let kernel = file.get((sectors + 1) * SECTOR..).unwrap_or_default();
        if kernel.is_empty() {
            return Err(Fault::Truncated("the kernel"));
        }
        let address = fields.u64(header::PREFERRED_ADDRESS)?;
        if !address.is_multiple_of(PAGE) || address < ONE_MIB {
            return Err(Fault::BadKernelAddress(address));
        }
        Ok(Self {
            header,
            kernel,
            address,
            init_size: u64::from(fields.u32(header::INIT_SIZE)?).max(kernel.len() as u64),
            initrd_limit: fields.u32(header::RAMDISK_LIMIT)?.into(),
            command_line_size: usize::try_from(fields.u32(header::COMMAND_LINE_SIZE)?)
                .unwrap_or(usize::MAX),
        })
    }

    /// The address behind what the kernel needs until it is unpacked.
    fn end(&self) -> Option<u64> {
        self.address.checked_add(self.init_size)
    }

    /// Whether it fits into a guest with `ram_bytes` of RAM, and where it ends there.
    fn check_place(&self, low_end: u64) -> Result<u64, Fault> {
        let end = self.end().filter(|&end| end <= low_end);
        end.ok_or(Fault::KernelTooLong(self.address, self.init_size, low_end))
    }

    /// Where an initial file system of `length` bytes goes.
    fn place_initrd(&self, length: u64, low_end: u64) -> Result<u64, Fault> {
        let kernel_end = self.check_place(low_end)?;
        let end = low_end.min(self.initrd_limit.saturating_add(1));
        let too_long = Fault::ModuleTooLong(length, end.saturating_sub(kernel_end));
        let address = end.checked_sub(length).ok_or(too_long)?;
        let address = address - address % PAGE;
        if address < kernel_end {
            return Err(too_long);
        }
        Ok(address)
    }
}

/// Copies kernel and initial file system into the guest's memory, and writes what the
/// kernel is told: `struct boot_params`, the command line, the ACPI tables.
///
/// # Errors
/// What is wrong with which file, or what does not fit. Then some of it may have been
/// copied.
///
/// # Panics
/// If there is a NUL in the command line, which `weir.toml` cannot have.
pub fn load<'f>(
    ram: &mut impl GuestRam,
    payload: &LinuxPayload<'f>,
) -> Result<LinuxStart, LoadError<'f>> {
    let low_end = ram.len_bytes().min(LOW_RAM_END);
    let fail = |fault: Fault| fault.of(payload.kernel.name);
    assert!(
        !payload.command_line.contains('\0'),
        "a command line with a NUL in it"
    );

    let image = BzImage::read(payload.kernel.content).map_err(fail)?;
    image.check_place(low_end).map_err(fail)?;
    let room = image.command_line_size.min(COMMAND_LINE_ROOM);
    let command_line = payload.command_line.as_bytes();
    if command_line.len() > room {
        let (length, room) = (command_line.len() as u64, room as u64);
        return Err(fail(Fault::CommandLineTooLong(length, room)));
    }
    let initrd = match payload.initrd {
        Some(file) => {
            let length = file.content.len() as u64;
            let place = image.place_initrd(length, low_end);
            let address = place.map_err(|fault| fault.of(file.name))?;
            write(ram, address, file.content).map_err(|fault| fault.of(file.name))?;
            Some((address, length))
        }
        None => None,
    };
    write(ram, image.address, image.kernel).map_err(fail)?;
    let params = params(&image, initrd, ram.len_bytes()).map_err(fail)?;
    write(ram, START_INFO.into(), &params).map_err(fail)?;
    write(ram, COMMAND_LINE.into(), command_line).map_err(fail)?;
    let command_line_end = u64::from(COMMAND_LINE) + command_line.len() as u64;
    write(ram, command_line_end, &[0]).map_err(fail)?;
    let tables = acpi::tables(payload.count_vcpus);
    write(ram, acpi::TABLES.0, &tables).map_err(fail)?;
    write(ram, power::RESTART.0, &power::RESTART_CODE).map_err(fail)?;
    let entry = u32::try_from(image.address);
    Ok(LinuxStart {
        entry: entry.map_err(|_| fail(Fault::BadKernelAddress(image.address)))?,
        boot_params: START_INFO,
    })
}

/// `struct boot_params`.
fn params(
    image: &BzImage<'_>,
    initrd: Option<(u64, u64)>,
    ram_bytes: u64,
) -> Result<Vec<u8>, Fault> {
    let mut page = vec![0; boot_params::SIZE];
    let mut put = |at: usize, bytes: &[u8]| {
        let place = page.get_mut(at..at + bytes.len());
        place
            .expect("fields are in the page")
            .copy_from_slice(bytes);
    };
    put(header::START, image.header);
    put(header::LOADER, &[LOADER_UNDEFINED]);
    put(header::COMMAND_LINE, &COMMAND_LINE.to_le_bytes());
    if let Some((address, length)) = initrd {
        // Below `initrd_limit`, which has 32 bits.
        for (at, value) in [
            (header::RAMDISK_IMAGE, address),
            (header::RAMDISK_SIZE, length),
        ] {
            let value = u32::try_from(value).map_err(|_| Fault::NotRam(value))?;
            put(at, &value.to_le_bytes());
        }
    }
    put(boot_params::ACPI_ROOT, &acpi::TABLES.0.to_le_bytes());
    let regions = regions(ram_bytes);
    let count = u8::try_from(regions.len()).expect("the regions are few");
    assert!(
        usize::from(count) <= boot_params::MAP_MAX,
        "the regions are few"
    );
    put(boot_params::MAP_COUNT, &[count]);
    let mut at = boot_params::MAP;
    for region in regions {
        put(at, &region.start.to_le_bytes());
        put(at + 8, &region.length.to_le_bytes());
        put(at + 16, &region.kind.0.to_le_bytes());
        at += 20;
    }
    Ok(page)
}

/// The memory map: that of the platform, with the first MiB as PCs have it.
fn regions(ram_bytes: u64) -> Vec<Region> {
    let mut regions = Vec::new();
    let tables = acpi::TABLES.0;
    for range in memory_map::ranges(ram_bytes) {
        let (start, length) = (range.start.0, range.len_bytes);
        let kind = MemoryKind(range.kind as u32);
        if start != 0 {
            regions.push(Region {
                start,
                length,
                kind,
            });
            continue;
        }
        for (start, end, kind) in [
            (0, CONVENTIONAL_END, kind),
            (tables, ONE_MIB, MemoryKind::RESERVED),
            (ONE_MIB, length, kind),
        ] {
            let length = end - start;
            regions.push(Region {
                start,
                length,
                kind,
            });
        }
    }
    regions
}

/// The header's fields, which all are in the file.
struct Fields<'f> {
    file: &'f [u8],
}

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], Fault> {
        bytes_at(self.file, at).ok_or(Fault::Truncated("the kernel's header"))
    }

    fn u8(&self, at: usize) -> Result<u8, Fault> {
        self.bytes(at).map(u8::from_le_bytes)
    }

    fn u16(&self, at: usize) -> Result<u16, Fault> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Result<u32, Fault> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, Fault> {
        self.bytes(at).map(u64::from_le_bytes)
    }
}

fn bytes_at<const N: usize>(file: &[u8], at: usize) -> Option<[u8; N]> {
    file.get(at..)?.first_chunk().copied()
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    bytes_at(file, at).map(u16::from_le_bytes)
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    bytes_at(file, at).map(u32::from_le_bytes)
}

#[cfg(test)]
#[path = "bzimage_tests.rs"]
mod tests;
