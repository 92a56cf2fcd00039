//! How a guest's image gets into its memory.
//!
//! [`load`] is given the files that `weir.toml` named ([`config`](crate::config)),
//! as the boot [`bundle`](crate::bundle) has them, and the guest's memory. An
//! image is an ELF64 with a PVH note ([`elf`]); the guest then starts in 32-bit
//! protected mode, with the address of what [`pvh`] wrote in EBX. Images are
//! input: nothing in them is followed unchecked, and an error says what is wrong
//! with which file. Linux kernels are another format, [`bzimage`].
//!
//! In the guest's memory:
//!
//! | where | what |
//! |---|---|
//! | [`START_INFO`], up to [`START_INFO_END`] | start information and command line |
//! | where the image's segments say | the image |
//! | the highest page below the end of low RAM from where it fits | the module |
#![forbid(unsafe_code)]

pub mod bzimage;
pub mod elf;
pub mod error;
pub mod pieces;
pub mod pvh;

use crate::bundle::File;
use crate::virt::address::GuestPhysAddr;
use crate::virt::memory::{GuestMemory, LOW_RAM_END, NotRam};

pub use elf::Elf;
pub use error::{Fault, LoadError};
pub use pvh::{Module, Region, StartInfo};

/// Where the start information is in the guest's memory.
pub const START_INFO: u32 = 0x9_0000;
/// Where what belongs to it ends. Segments must keep out of it.
pub const START_INFO_END: u32 = 0x9_2000;

const PAGE: u64 = 0x1000;
/// What memory is cleared from, piece by piece.
static ZEROS: [u8; 0x1000] = [0; 0x1000];

/// A guest's memory, as the loader needs it.
pub trait GuestRam {
    /// How many bytes of RAM there are.
    fn len_bytes(&self) -> u64;

    /// Copies `bytes` to `address`.
    ///
    /// # Errors
    /// If some of it is not RAM; then some may have been copied.
    fn write(&mut self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), NotRam>;
}

impl GuestRam for &GuestMemory {
    fn len_bytes(&self) -> u64 {
        GuestMemory::len_bytes(self)
    }

    fn write(&mut self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), NotRam> {
        GuestMemory::write(self, address, bytes)
    }
}

/// What a guest is started with.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'f> {
    /// The image.
    pub image: File<'f>,
    /// A file that the guest finds in its memory.
    pub module: Option<File<'f>>,
    /// The guest's command line, without a NUL in it.
    pub command_line: &'f str,
    /// What the guest's memory map says beside its RAM.
    pub reserved: &'f [Region],
}

/// Where a guest begins, in 32-bit protected mode. [Xen, "x86/HVM direct boot
/// ABI (PVH)"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// EIP.
    pub entry: u32,
    /// EBX: the address of the start information.
    pub start_info: u32,
}

/// Copies the image and the module into the guest's memory and writes the start
/// information. What the segments leave free in `ram` is not touched.
///
/// # Errors
/// What is wrong with the image, or what does not fit. Then some of it may have
/// been copied.
///
/// # Panics
/// If there is a NUL in the command line, which `weir.toml` cannot have.
pub fn load<'f>(ram: &mut impl GuestRam, payload: &Payload<'f>) -> Result<Start, LoadError<'f>> {
    let low_end = ram.len_bytes().min(LOW_RAM_END);
    let image = payload.image;
    let fail = |fault: Fault| fault.of(image.name);

    let elf = Elf::read(image.content).map_err(fail)?;
    for segment in elf.segments() {
        if segment.end() > low_end {
            return Err(fail(Fault::SegmentOutside(segment.range(), low_end)));
        }
        if segment.overlaps(START_INFO.into(), START_INFO_END.into()) {
            return Err(fail(Fault::SegmentOnStartInfo(segment.range())));
        }
    }
    for segment in elf.segments() {
        write(ram, segment.address, segment.content).map_err(fail)?;
        let end_of_file = segment.address + segment.content.len() as u64;
        clear(ram, end_of_file, segment.end()).map_err(fail)?;
    }

    let module = payload.module.map(|file| {
        let place = place_module(file.content.len() as u64, &elf, low_end);
        let address = place.map_err(|fault| fault.of(file.name))?;
        write(ram, address, file.content).map_err(|fault| fault.of(file.name))?;
        Ok(Module {
            address,
            length: file.content.len() as u64,
        })
    });
    let info = StartInfo {
        ram_bytes: ram.len_bytes(),
        module: module.transpose()?,
        command_line: payload.command_line,
        reserved: payload.reserved,
    };
    let bytes = info
        .at(START_INFO.into(), START_INFO_END.into())
        .map_err(fail)?;
    write(ram, START_INFO.into(), &bytes).map_err(fail)?;
    Ok(Start {
        entry: elf.entry(),
        start_info: START_INFO,
    })
}

/// As high as it fits, from a page's start on, and above everything else.
fn place_module(length: u64, elf: &Elf<'_>, low_end: u64) -> Result<u64, Fault> {
    let address = low_end
        .checked_sub(length)
        .map(|address| address - address % PAGE)
        .ok_or(Fault::ModuleTooLong(length, low_end))?;
    let segments = elf.segments();
    let taken = segments.map(|segment| (segment.address, segment.end()));
    let mut taken = taken.chain([(0, START_INFO_END.into())]);
    match taken.find(|&(_, end)| end > address) {
        Some((_, end)) => Err(Fault::ModuleTooLong(length, low_end.saturating_sub(end))),
        None => Ok(address),
    }
}

fn write(ram: &mut impl GuestRam, address: u64, bytes: &[u8]) -> Result<(), Fault> {
    let result = ram.write(GuestPhysAddr(address), bytes);
    result.map_err(|NotRam(at)| Fault::NotRam(at.0))
}

/// Writes zeros to what is not in the file: a guest that is started again finds
/// what an earlier run left.
fn clear(ram: &mut impl GuestRam, start: u64, end: u64) -> Result<(), Fault> {
    let mut at = start;
    while at < end {
        let left = usize::try_from(end - at).unwrap_or(ZEROS.len());
        let piece = ZEROS.get(..left).unwrap_or(&ZEROS);
        write(ram, at, piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod testing;

#[cfg(test)]
#[path = "loader/tests.rs"]
mod tests;
