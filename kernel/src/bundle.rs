//! The boot bundle: the files that come with the hypervisor, in one module.
//!
//! The loader passes one module, a cpio archive in the "newc" format: first
//! `weir.toml`, then the files that it names. [`Bundle::read`] checks all of it
//! once; [`config`](crate::config) and [`loader`](crate::loader) read the files.
//! `boot/bundle` packs such an archive, and so does
//! `printf '%s\n' weir.toml FILE... | cpio -o -H newc`.
//!
//! [FreeBSD manual, cpio(5), "New ASCII Format"; Linux,
//! Documentation/driver-api/early-userspace/buffer-format.rst]
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

/// The file that a bundle begins with.
pub const CONFIG_NAME: &str = "weir.toml";
/// How many files a bundle may hold.
pub const MAX_FILES: usize = 64;
/// How long a file's name may be, in bytes.
pub const MAX_NAME: usize = 255;
/// How long `weir.toml` may be, in bytes.
pub const MAX_CONFIG: usize = 64 << 10;

/// The header of an entry: ASCII, fields of eight hexadecimal digits.
mod header {
    /// Byte offsets.
    pub(super) const MODE: usize = 14;
    pub(super) const LINKS: usize = 38;
    pub(super) const FILE_SIZE: usize = 54;
    pub(super) const NAME_SIZE: usize = 94;
    /// The header's size; the name follows.
    pub(super) const SIZE: usize = 110;

    pub(super) const MAGIC: &[u8] = b"070701";
    /// The variant with checksums, `cpio -H crc`.
    pub(super) const MAGIC_CRC: &[u8] = b"070702";
}

/// The name of the entry that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";
/// What names and contents are padded to a multiple of.
const ALIGNMENT: usize = 4;

/// The bits of a mode that say what kind of file it is, and two kinds.
const KIND: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// A file of a bundle.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct File<'b> {
    /// Its name, as `weir.toml` writes it.
    pub name: &'b str,
    /// What is in it.
    pub content: &'b [u8],
}

impl fmt::Debug for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.content.len())
    }
}

/// The files that came with the hypervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle<'b> {
    config: &'b str,
    files: Vec<File<'b>>,
}

impl<'b> Bundle<'b> {
    /// Reads an archive.
    ///
    /// # Errors
    /// The first entry that is not as it must be.
    pub fn read(archive: &'b [u8]) -> Result<Self, BundleError<'b>> {
        let mut files: Vec<File<'b>> = Vec::new();
        let mut rest = archive;
        let mut number = 1;
        loop {
            let entry = Entry::take(&mut rest).map_err(|fault| fault.on(number, None))?;
            if entry.name == TRAILER {
                break;
            }
            let name = str::from_utf8(entry.name)
                .ok()
                .filter(|name| !name.contains(char::is_control))
                .ok_or(Fault::NameNotText.on(number, None))?;
            let fail = |fault: Fault| fault.on(number, Some(name));
            let kept = entry.check(&files, name).map_err(fail)?;
            if kept {
                let name = plain(name);
                let content = entry.content;
                files.push(File { name, content });
            }
            number += 1;
        }
        if rest.iter().any(|&byte| byte != 0) {
            return Err(Fault::BehindEnd.on(number, None));
        }
        // The first entry that is not a directory, and so in most bundles entry 1.
        let config = match files.first() {
            Some(file) if file.name == CONFIG_NAME => file,
            Some(file) => return Err(Fault::NotConfigFirst.on(1, Some(file.name))),
            None => return Err(Fault::Empty.on(1, None)),
        };
        let fail = |fault: Fault| fault.on(1, Some(config.name));
        if config.content.len() > MAX_CONFIG {
            return Err(fail(Fault::ConfigTooLong(config.content.len())));
        }
        let config = str::from_utf8(config.content).map_err(|_| fail(Fault::ConfigNotText))?;
        Ok(Self { config, files })
    }

    /// The text of `weir.toml`.
    pub fn config(&self) -> &'b str {
        self.config
    }

    /// All files, `weir.toml` first.
    pub fn files(&self) -> &[File<'b>] {
        &self.files
    }

    /// The file of this name.
    pub fn file(&self, name: &str) -> Option<File<'b>> {
        self.files.iter().find(|file| file.name == name).copied()
    }
}

/// A name without the `./` that `find . | cpio` puts before it.
fn plain(name: &str) -> &str {
    name.strip_prefix("./").unwrap_or(name)
}

/// One entry of the archive, as it is there.
struct Entry<'b> {
    mode: u32,
    links: u32,
    name: &'b [u8],
    content: &'b [u8],
}

impl<'b> Entry<'b> {
    /// The entry that `rest` begins with; `rest` is then what is behind it.
    fn take(rest: &mut &'b [u8]) -> Result<Self, Fault> {
        let all = *rest;
        match all.get(..header::MAGIC.len()) {
            Some(header::MAGIC) => {}
            Some(header::MAGIC_CRC) => return Err(Fault::WithChecksums),
            Some(_) => return Err(Fault::NotNewc),
            None => return Err(Fault::Truncated),
        }
        if all.len() < header::SIZE {
            return Err(Fault::Truncated);
        }
        let name_size = size(all, header::NAME_SIZE)?;
        let file_size = size(all, header::FILE_SIZE)?;
        // The length of a name counts the NUL behind it.
        if !(2..=MAX_NAME + 1).contains(&name_size) {
            return Err(Fault::NameLength(name_size));
        }
        let name_end = header::SIZE + name_size;
        let name = all.get(header::SIZE..name_end).ok_or(Fault::Truncated)?;
        let (end, name) = name.split_last().ok_or(Fault::Truncated)?;
        if *end != 0 || name.contains(&0) {
            return Err(Fault::NameNotText);
        }
        let start = name_end.next_multiple_of(ALIGNMENT);
        let end = start.checked_add(file_size).ok_or(Fault::Truncated)?;
        let content = all.get(start..end).ok_or(Fault::Truncated)?;
        // The padding of the last entry may be missing.
        let next = end.checked_next_multiple_of(ALIGNMENT).unwrap_or(end);
        *rest = all.get(next..).unwrap_or_default();
        Ok(Self {
            mode: number(all, header::MODE)?,
            links: number(all, header::LINKS)?,
            name,
            content,
        })
    }

    /// Whether the entry is a file to keep beside `files`; directories are not.
    fn check(&self, files: &[File<'_>], name: &str) -> Result<bool, Fault> {
        match self.mode & KIND {
            DIRECTORY => return Ok(false),
            REGULAR => {}
            _ => return Err(Fault::NotRegular(self.mode)),
        }
        // Of the names of one file, cpio writes the content with the last.
        if self.links > 1 && self.content.is_empty() {
            return Err(Fault::HardLink);
        }
        if files.iter().any(|file| file.name == plain(name)) {
            return Err(Fault::Duplicate);
        }
        if files.len() == MAX_FILES {
            return Err(Fault::TooMany);
        }
        Ok(true)
    }
}

/// The field at `offset` of a header that is all there.
fn number(header: &[u8], offset: usize) -> Result<u32, Fault> {
    let digits = header.get(offset..offset + 8).ok_or(Fault::Truncated)?;
    let mut value = 0;
    for &digit in digits {
        let digit = char::from(digit).to_digit(16).ok_or(Fault::NotNewc)?;
        value = value << 4 | digit;
    }
    Ok(value)
}

/// As [`number`], for a length.
fn size(header: &[u8], offset: usize) -> Result<usize, Fault> {
    number(header, offset).and_then(|size| usize::try_from(size).map_err(|_| Fault::Truncated))
}

/// What is wrong with a bundle, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleError<'b> {
    /// Which entry of the archive, counted from 1.
    pub entry: usize,
    /// The entry's name, where it could be read.
    pub name: Option<&'b str>,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an entry of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No entry of a newc archive begins here.
    NotNewc,
    /// An entry of the variant with checksums begins here.
    WithChecksums,
    /// The archive ends before the entry, or the entry that ends it, does.
    Truncated,
    /// The name has this many bytes, the NUL behind it included.
    NameLength(usize),
    /// The name is not text, or has control characters in it.
    NameNotText,
    /// Neither a file nor a directory, but of this mode.
    NotRegular(u32),
    /// A further name of a file whose content is elsewhere.
    HardLink,
    /// There was a file of this name already.
    Duplicate,
    /// There are [`MAX_FILES`] files already.
    TooMany,
    /// There is something behind the end of the archive.
    BehindEnd,
    /// There is no file at all.
    Empty,
    /// The first file is not `weir.toml`.
    NotConfigFirst,
    /// `weir.toml` has this many bytes.
    ConfigTooLong(usize),
    /// `weir.toml` is not UTF-8.
    ConfigNotText,
}

impl Fault {
    fn on(self, entry: usize, name: Option<&str>) -> BundleError<'_> {
        BundleError {
            entry,
            name,
            fault: self,
        }
    }
}

impl fmt::Display for BundleError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot bundle, entry {}", self.entry)?;
        if let Some(name) = self.name {
            write!(f, " ({name})")?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::NotNewc => {
                "no entry of an uncompressed newc archive begins here; pack with boot/bundle"
            }
            Self::WithChecksums => "packed with checksums; use cpio -H newc, not -H crc",
            Self::Truncated => {
                "the archive ends in the middle; pack it again, or give the loader more memory"
            }
            Self::NameLength(length) => {
                return write!(
                    f,
                    "a name of {} bytes; names have 1 to {MAX_NAME}",
                    length.saturating_sub(1)
                );
            }
            Self::NameNotText => "the name is not printable UTF-8; rename the file",
            Self::NotRegular(mode) => {
                return write!(
                    f,
                    "mode {mode:#o} is not that of a plain file; pack a copy of the file"
                );
            }
            Self::HardLink => "a hard link without content; pack a copy of the file",
            Self::Duplicate => "there is a file of this name already; pack each name once",
            Self::TooMany => {
                return write!(
                    f,
                    "more than {MAX_FILES} files; pack what {CONFIG_NAME} names"
                );
            }
            Self::BehindEnd => "there is something behind the archive's end; pack one archive",
            Self::Empty => "there is no file in it; pack weir.toml and what it names",
            Self::NotConfigFirst => "the first file must be weir.toml; pack it first",
            Self::ConfigTooLong(length) => {
                return write!(f, "{length} bytes are too long; the limit is {MAX_CONFIG}");
            }
            Self::ConfigNotText => "it is not UTF-8; save it as plain text",
        };
        f.write_str(text)
    }
}

impl Error for BundleError<'_> {}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
