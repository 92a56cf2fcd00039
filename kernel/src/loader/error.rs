//! What is wrong with a guest's files.

use core::error::Error;
use core::fmt;

use super::{START_INFO, START_INFO_END};

/// What is wrong with which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadError<'f> {
    /// The file's name in the bundle.
    pub file: &'f str,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a file. Addresses are the guest's, ranges are from first
/// to behind last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not a Linux kernel as distributions ship it.
    NotBzImage,
    /// A Linux kernel with this version of the boot protocol.
    OldKernel(u16),
    /// A Linux kernel that is not loaded high, or not one for 64 bits.
    WrongKernel,
    /// A Linux kernel that wants to be at this address.
    BadKernelAddress(u64),
    /// The kernel at the first address needs the second number of bytes, and low RAM
    /// ends at the third.
    KernelTooLong(u64, u64, u64),
    /// The command line has this many bytes, and the kernel takes so many.
    CommandLineTooLong(u64, u64),
    /// Neither an ELF file nor anything else that is known.
    NotElf,
    /// A Linux kernel as distributions ship it.
    LinuxImage,
    /// An ELF file, but not for this: what it is instead.
    WrongElf(&'static str),
    /// The named structure is not, or not all, in the file.
    Truncated(&'static str),
    /// There are this many program headers.
    TooManySegments(u16),
    /// There is nothing to load.
    NoSegment,
    /// The range has more bytes in the file than in memory, or ends behind all
    /// addresses.
    BadSegment(u64),
    /// Two segments have some of this range in common.
    SegmentsOverlap((u64, u64)),
    /// The segment is not within low RAM, which ends here.
    SegmentOutside((u64, u64), u64),
    /// The segment is where the start information goes.
    SegmentOnStartInfo((u64, u64)),
    /// No PVH note.
    NoPvhNote,
    /// The PVH note's address is in no segment, or not below 4 GiB.
    EntryOutside(u64),
    /// The module has this many bytes, and there is room for so many.
    ModuleTooLong(u64, u64),
    /// The command line and the memory map together have this many bytes, and
    /// there is room for so many.
    StartInfoTooLong(u64, u64),
    /// There is no RAM at this address.
    NotRam(u64),
}

impl Fault {
    pub(super) const fn of(self, file: &str) -> LoadError<'_> {
        LoadError { file, fault: self }
    }
}

impl fmt::Display for LoadError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotBzImage => f.write_str(
                "not a Linux bzImage; give the 'vmlinuz' of a distribution, \
                 or name a program with a PVH note by 'image'",
            ),
            Self::OldKernel(version) => write!(
                f,
                "boot protocol {}.{:02} is too old; give Linux 5.5 or later",
                version >> 8,
                version & 0xff
            ),
            Self::WrongKernel => f.write_str("not a kernel for 64 bits; give one for x86-64"),
            Self::BadKernelAddress(address) => write!(
                f,
                "the kernel wants to be at {address:#x}, where it cannot be started; \
                 build it with CONFIG_PHYSICAL_START at a page from 0x100000 on, below 4 GiB"
            ),
            Self::KernelTooLong(address, length, limit) => write!(
                f,
                "the kernel needs {length:#x} bytes from {address:#x} on, and the guest's low RAM \
                 ends at {limit:#x}; give the guest more memory"
            ),
            Self::CommandLineTooLong(length, room) => write!(
                f,
                "the command line has {length} bytes, and the kernel takes {room}; shorten it"
            ),
            Self::NotElf => f.write_str("not an ELF file; give a 64-bit ELF with a PVH note"),
            Self::LinuxImage => {
                f.write_str("a Linux bzImage; name it by 'kernel' and not by 'image'")
            }
            Self::WrongElf(what) => write!(
                f,
                "{what}; link it as a little-endian 64-bit x86-64 executable at fixed addresses"
            ),
            Self::Truncated(what) => {
                write!(f, "{what} is not all in the file; copy the file again")
            }
            Self::TooManySegments(count) => write!(
                f,
                "{count} program headers are too many; link it into at most {} segments",
                super::elf::MAX_HEADERS
            ),
            Self::NoSegment => f.write_str("nothing in it is to be loaded; link it as a program"),
            Self::BadSegment(address) => write!(
                f,
                "the segment at {address:#x} is larger in the file than in memory, or ends \
                 behind all addresses; link it again"
            ),
            Self::SegmentsOverlap((start, end)) => write!(
                f,
                "the segment at {start:#x}..{end:#x} overlaps another; link them apart"
            ),
            Self::SegmentOutside((start, end), limit) => write!(
                f,
                "the segment at {start:#x}..{end:#x} is not below {limit:#x}, where the guest's \
                 low RAM ends; give the guest more memory or link the image lower"
            ),
            Self::SegmentOnStartInfo((start, end)) => write!(
                f,
                "the segment at {start:#x}..{end:#x} overlaps the start information at \
                 {START_INFO:#x}..{START_INFO_END:#x}; link it elsewhere, such as at 0x100000"
            ),
            Self::NoPvhNote => f.write_str(
                "no PVH note (owner \"Xen\", type 18) in a PT_NOTE segment; \
                 add one with the 32-bit entry point",
            ),
            Self::EntryOutside(address) => write!(
                f,
                "the PVH entry point {address:#x} is in no segment below 4 GiB; \
                 give its physical address"
            ),
            Self::ModuleTooLong(length, room) => write!(
                f,
                "{length} bytes do not fit into the {room} that are free in the guest's low RAM; \
                 give the guest more memory or a smaller file"
            ),
            Self::StartInfoTooLong(length, room) => write!(
                f,
                "its start information has {length} bytes and room for {room}; \
                 give it a shorter command line"
            ),
            Self::NotRam(address) => write!(
                f,
                "there is no RAM at {address:#x}; give the guest more memory"
            ),
        }
    }
}

impl Error for LoadError<'_> {}
