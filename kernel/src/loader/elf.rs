//! An ELF64 executable with a PVH note.
//!
//! Segments go to their physical addresses (`p_paddr`); the note of owner "Xen"
//! and type 18 says where a guest begins in 32-bit protected mode. Nothing is
//! relocated. [System V ABI, Edition 4.1 (gABI), chapters 4 "Object Files" and 5
//! "Program Loading and Dynamic Linking"; Xen, public/elfnote.h,
//! `XEN_ELFNOTE_PHYS32_ENTRY`]

use arrayvec::ArrayVec;

use super::error::Fault;

/// How many program headers a file may have.
pub const MAX_HEADERS: usize = 32;

/// `Elf64_Ehdr`, 64 bytes: offsets, and the values that we know.
mod file_header {
    pub(super) const CLASS: usize = 4;
    pub(super) const DATA: usize = 5;
    pub(super) const TYPE: usize = 16;
    pub(super) const MACHINE: usize = 18;
    pub(super) const HEADERS: usize = 32;
    pub(super) const HEADER_SIZE: usize = 54;
    pub(super) const HEADER_COUNT: usize = 56;
    pub(super) const SIZE: usize = 64;

    pub(super) const MAGIC: &[u8] = b"\x7fELF";
    pub(super) const CLASS_64: u8 = 2;
    pub(super) const LITTLE_ENDIAN: u8 = 1;
    pub(super) const EXECUTABLE: u16 = 2;
    pub(super) const X86_64: u16 = 62;
}

/// `Elf64_Phdr`, 56 bytes.
mod program_header {
    pub(super) const TYPE: usize = 0;
    pub(super) const OFFSET: usize = 8;
    pub(super) const ADDRESS: usize = 24;
    pub(super) const FILE_SIZE: usize = 32;
    pub(super) const MEMORY_SIZE: usize = 40;
    pub(super) const ALIGNMENT: usize = 48;
    pub(super) const SIZE: usize = 56;

    pub(super) const LOAD: u32 = 1;
    pub(super) const NOTE: u32 = 4;
}

/// A note: three numbers, then the owner's name and the descriptor, each padded.
mod note {
    pub(super) const NAME_SIZE: usize = 0;
    pub(super) const DESCRIPTOR_SIZE: usize = 4;
    pub(super) const TYPE: usize = 8;
    pub(super) const SIZE: usize = 12;

    pub(super) const XEN: &[u8] = b"Xen\0";
    pub(super) const PHYS32_ENTRY: u32 = 18;
}

/// A Linux bzImage has this at offset 0x202. [Linux,
/// Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"]
const LINUX_MAGIC: (usize, &[u8]) = (0x202, b"HdrS");

/// Something to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'f> {
    /// The guest-physical address.
    pub address: u64,
    /// What goes there.
    pub content: &'f [u8],
    /// How many bytes it has in memory, of which those behind `content` are 0.
    pub length: u64,
}

impl Segment<'_> {
    /// The address behind the last.
    pub const fn end(&self) -> u64 {
        // `Elf::read` has checked the sum.
        self.address + self.length
    }

    /// First and behind last.
    pub const fn range(&self) -> (u64, u64) {
        (self.address, self.end())
    }

    /// Whether it has an address in common with `start..end`.
    pub const fn overlaps(&self, start: u64, end: u64) -> bool {
        self.address < end && start < self.end()
    }
}

/// A file that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf<'f> {
    segments: ArrayVec<Segment<'f>, MAX_HEADERS>,
    entry: u32,
}

impl<'f> Elf<'f> {
    /// Reads the headers and the notes.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(file: &'f [u8]) -> Result<Self, Fault> {
        let mut segments: ArrayVec<Segment<'f>, MAX_HEADERS> = ArrayVec::new();
        let mut entry = None;
        for header in program_headers(file)? {
            match u32_at(header, program_header::TYPE)? {
                program_header::LOAD => {
                    let segment = read_segment(file, header)?;
                    if segment.length == 0 {
                        continue;
                    }
                    if segments
                        .iter()
                        .any(|other| other.overlaps(segment.address, segment.end()))
                    {
                        return Err(Fault::SegmentsOverlap(segment.range()));
                    }
                    // There are not more of them than headers.
                    segments.push(segment);
                }
                program_header::NOTE if entry.is_none() => {
                    let notes = part(file, header, "a note segment")?;
                    // All are aligned to 4 bytes but in segments that say 8.
                    let alignment = match u64_at(header, program_header::ALIGNMENT)? {
                        8 => 8,
                        _ => 4,
                    };
                    entry = find_entry(notes, alignment)?;
                }
                _ => {}
            }
        }
        if segments.is_empty() {
            return Err(Fault::NoSegment);
        }
        let address = entry.ok_or(Fault::NoPvhNote)?;
        // What is only in memory is no code.
        let is_code = |segment: &Segment<'_>| {
            let offset = address.checked_sub(segment.address);
            offset.is_some_and(|offset| offset < segment.content.len() as u64)
        };
        let entry = u32::try_from(address)
            .ok()
            .filter(|_| segments.iter().any(is_code))
            .ok_or(Fault::EntryOutside(address))?;
        Ok(Self { segments, entry })
    }

    /// What to load, in the file's order; no two overlap.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'f>> {
        self.segments.iter().copied()
    }

    /// Where the guest begins, in a segment.
    pub const fn entry(&self) -> u32 {
        self.entry
    }
}

/// The program headers of a file for this machine.
fn program_headers(file: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Fault> {
    if !file.starts_with(file_header::MAGIC) {
        let (at, magic) = LINUX_MAGIC;
        let is_linux = file.get(at..).is_some_and(|rest| rest.starts_with(magic));
        return Err(if is_linux {
            Fault::LinuxImage
        } else {
            Fault::NotElf
        });
    }
    let header = file.get(..file_header::SIZE);
    let header = header.ok_or(Fault::Truncated("the ELF header"))?;
    if byte_at(header, file_header::CLASS)? != file_header::CLASS_64 {
        return Err(Fault::WrongElf("not a 64-bit ELF file"));
    }
    if byte_at(header, file_header::DATA)? != file_header::LITTLE_ENDIAN {
        return Err(Fault::WrongElf("a big-endian ELF file"));
    }
    if u16_at(header, file_header::MACHINE)? != file_header::X86_64 {
        return Err(Fault::WrongElf("an ELF file for another machine"));
    }
    if u16_at(header, file_header::TYPE)? != file_header::EXECUTABLE {
        return Err(Fault::WrongElf(
            "an ELF file that is not linked to addresses (relocatable, shared or PIE)",
        ));
    }
    let count = u16_at(header, file_header::HEADER_COUNT)?;
    if usize::from(count) > MAX_HEADERS {
        return Err(Fault::TooManySegments(count));
    }
    if count > 0 && usize::from(u16_at(header, file_header::HEADER_SIZE)?) != program_header::SIZE {
        return Err(Fault::WrongElf("an ELF file with odd program headers"));
    }
    let truncated = Fault::Truncated("the program header table");
    let start = usize::try_from(u64_at(header, file_header::HEADERS)?).map_err(|_| truncated)?;
    let length = usize::from(count) * program_header::SIZE;
    let table = start
        .checked_add(length)
        .and_then(|end| file.get(start..end))
        .ok_or(truncated)?;
    Ok(table.chunks_exact(program_header::SIZE))
}

fn read_segment<'f>(file: &'f [u8], header: &[u8]) -> Result<Segment<'f>, Fault> {
    let content = part(file, header, "a segment")?;
    let address = u64_at(header, program_header::ADDRESS)?;
    let length = u64_at(header, program_header::MEMORY_SIZE)?;
    if content.len() as u64 > length || address.checked_add(length).is_none() {
        return Err(Fault::BadSegment(address));
    }
    Ok(Segment {
        address,
        content,
        length,
    })
}

/// The bytes of the file that a program header is about.
fn part<'f>(file: &'f [u8], header: &[u8], what: &'static str) -> Result<&'f [u8], Fault> {
    let offset = u64_at(header, program_header::OFFSET)?;
    let size = u64_at(header, program_header::FILE_SIZE)?;
    // The offset of what has no bytes is of no account.
    if size == 0 {
        return Ok(&[]);
    }
    let range = usize::try_from(offset).ok().and_then(|start| {
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        Some(start..end)
    });
    range
        .and_then(|range| file.get(range))
        .ok_or(Fault::Truncated(what))
}

/// The address in the PVH note, if it is among `notes`.
fn find_entry(notes: &[u8], alignment: usize) -> Result<Option<u64>, Fault> {
    const TRUNCATED: Fault = Fault::Truncated("a note");
    let mut rest = notes;
    while !rest.is_empty() {
        let name_size = size_at(rest, note::NAME_SIZE).ok_or(TRUNCATED)?;
        let descriptor_size = size_at(rest, note::DESCRIPTOR_SIZE).ok_or(TRUNCATED)?;
        let kind = u32_at(rest, note::TYPE).map_err(|_| TRUNCATED)?;
        let name_end = note::SIZE.checked_add(name_size).ok_or(TRUNCATED)?;
        let name = rest.get(note::SIZE..name_end).ok_or(TRUNCATED)?;
        let start = name_end.checked_next_multiple_of(alignment);
        let start = start.ok_or(TRUNCATED)?;
        let end = start.checked_add(descriptor_size).ok_or(TRUNCATED)?;
        let descriptor = rest.get(start..end).ok_or(TRUNCATED)?;
        if name == note::XEN && kind == note::PHYS32_ENTRY {
            // 4 or 8 bytes, as the linked program has it.
            let long = descriptor.try_into().map(u64::from_le_bytes);
            let short = descriptor.try_into().map(u32::from_le_bytes);
            return long
                .or(short.map(u64::from))
                .map(Some)
                .map_err(|_| Fault::WrongElf("an ELF file whose PVH note is not of 4 or 8 bytes"));
        }
        // The padding of the last one may be missing.
        let next = end.checked_next_multiple_of(alignment).unwrap_or(end);
        rest = rest.get(next..).unwrap_or_default();
    }
    Ok(None)
}

fn size_at(structure: &[u8], offset: usize) -> Option<usize> {
    let size = u32_at(structure, offset).ok()?;
    usize::try_from(size).ok()
}

fn bytes_at<const N: usize>(structure: &[u8], offset: usize) -> Result<[u8; N], Fault> {
    structure
        .get(offset..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .ok_or(Fault::Truncated("a header"))
}

fn byte_at(structure: &[u8], offset: usize) -> Result<u8, Fault> {
    bytes_at(structure, offset).map(u8::from_le_bytes)
}

fn u16_at(structure: &[u8], offset: usize) -> Result<u16, Fault> {
    bytes_at(structure, offset).map(u16::from_le_bytes)
}

fn u32_at(structure: &[u8], offset: usize) -> Result<u32, Fault> {
    bytes_at(structure, offset).map(u32::from_le_bytes)
}

fn u64_at(structure: &[u8], offset: usize) -> Result<u64, Fault> {
    bytes_at(structure, offset).map(u64::from_le_bytes)
}
