//! Walking a guest's own page tables, as the processor would.
//!
//! Needed where the hypervisor acts for the guest: to fetch the instruction that
//! it emulates, and to read and write what that instruction names.
//! [AMD64 Architecture Programmer's Manual, vol. 2, ch. 5 "Page Translation and
//! Protection"]
#![forbid(unsafe_code)]

use super::address::{GuestPhysAddr, GuestVirtAddr};
use super::memory::GuestMemory;

/// A guest's memory, as far as a walk needs it.
pub trait TableMemory {
    /// The number at an aligned address, if it is RAM.
    fn read_u64(&self, address: GuestPhysAddr) -> Option<u64>;
    /// Sets `bits` of the number at an aligned address, if it still is
    /// `expected`.
    fn set_bits(&self, address: GuestPhysAddr, expected: u64, bits: u64) -> bool;
}

impl TableMemory for GuestMemory {
    #[inline]
    fn read_u64(&self, address: GuestPhysAddr) -> Option<u64> {
        Self::read_u64(self, address)
    }

    fn set_bits(&self, address: GuestPhysAddr, expected: u64, bits: u64) -> bool {
        Self::set_bits(self, address, expected, bits)
    }
}

/// What is done at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is read.
    Read,
    /// It is written.
    Write,
    /// An instruction is fetched.
    Execute,
}

/// The registers that steer translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// RFLAGS, for its bit AC.
    pub rflags: u64,
    /// Current privilege level.
    pub cpl: u8,
}

/// An address has no translation. This is a page fault of the guest: the error
/// code is as the processor would push it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The address, for CR2.
    pub address: GuestVirtAddr,
    /// The error code.
    pub error: u32,
}

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;
const RFLAGS_AC: u64 = 1 << 18;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Bits 51:12, the address in an entry of 64 bits.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const ERROR_PRESENT: u32 = 1 << 0;
const ERROR_WRITE: u32 = 1 << 1;
const ERROR_USER: u32 = 1 << 2;
const ERROR_RESERVED: u32 = 1 << 3;
const ERROR_FETCH: u32 = 1 << 4;

/// Finds the guest-physical address of `address`.
///
/// Accessed and dirty bits are set as the processor sets them, or else a guest
/// could take a page for clean that was written for it.
///
/// # Errors
/// The page fault that the processor would raise. Tables outside of RAM count
/// as not present.
#[inline]
pub fn translate(
    memory: &impl TableMemory,
    paging: &Paging,
    address: GuestVirtAddr,
    purpose: Purpose,
) -> Result<GuestPhysAddr, PageFault> {
    let walk = Walk {
        memory,
        paging,
        address,
        purpose,
    };
    // Nearly every guest is in this mode, and nearly every page there and marked.
    if paging.efer & EFER_LMA != 0
        && walk.is_canonical()
        && let Some(found) = walk.quickly()
    {
        return Ok(found);
    }
    translate_slowly(memory, paging, address, purpose)
}

/// Translates in any mode, with all that may have to be done.
#[cold]
fn translate_slowly(
    memory: &impl TableMemory,
    paging: &Paging,
    address: GuestVirtAddr,
    purpose: Purpose,
) -> Result<GuestPhysAddr, PageFault> {
    let walk = Walk {
        memory,
        paging,
        address,
        purpose,
    };
    if paging.efer & EFER_LMA != 0 {
        walk.four_levels()
    } else {
        walk.old_modes()
    }
}

/// What the entries of all levels must allow together: the bits of `looked_at` that
/// are in `needed`, and no others. The bit in the place of NX says that the page may
/// be executed.
#[derive(Clone, Copy, Debug)]
struct Rights {
    looked_at: u64,
    needed: u64,
}

/// Walks four levels of tables from `table`, as long as nothing has to be changed
/// and nothing is wrong: the entries are marked as accessed, the last one has all
/// bits of `leaf`, and all of them give `rights`. Or else none.
fn walk_quickly(
    memory: &impl TableMemory,
    mut table: u64,
    address: u64,
    rights: Rights,
    leaf: u64,
) -> Option<GuestPhysAddr> {
    let mut allowed = u64::MAX;
    for bits in [39, 30, 21, 12] {
        let at = table | address >> (bits - 3) & 0xff8;
        let entry = memory.read_u64(GuestPhysAddr(at))?;
        allowed &= entry ^ NO_EXECUTE;
        if bits != 12 && entry & (PRESENT | ACCESSED | LARGE) == PRESENT | ACCESSED {
            table = entry & ADDRESS;
            continue;
        }
        if bits == 39 || entry & leaf != leaf || allowed & rights.looked_at != rights.needed {
            return None;
        }
        // Large, or of the last level; a table that is not marked is neither.
        if bits != 12 && entry & LARGE == 0 {
            return None;
        }
        let mask = (1 << bits) - 1;
        return Some(GuestPhysAddr(entry & ADDRESS & !mask | address & mask));
    }
    None
}

struct Walk<'w, M> {
    memory: &'w M,
    paging: &'w Paging,
    address: GuestVirtAddr,
    purpose: Purpose,
}

impl<M: TableMemory> Walk<'_, M> {
    /// Bits 63:47 are the same.
    #[inline]
    fn is_canonical(&self) -> bool {
        let sign = self.address.0.cast_signed() >> 47;
        sign == 0 || sign == -1
    }

    /// Walks four levels, if that is all there is to do.
    #[inline]
    fn quickly(&self) -> Option<GuestPhysAddr> {
        let mut rights = self.rights();
        if self.paging.efer & EFER_NXE == 0 {
            // NX is reserved then: whoever has it set is looked at more closely.
            rights.looked_at |= NO_EXECUTE;
            rights.needed |= NO_EXECUTE;
        }
        let leaf = PRESENT | self.wanted(true);
        let table = self.paging.cr3 & ADDRESS;
        walk_quickly(self.memory, table, self.address.0, rights, leaf)
    }

    fn four_levels(&self) -> Result<GuestPhysAddr, PageFault> {
        // A non-canonical address never gets as far as the tables; whoever asks
        // for one gets no more than a page fault for it.
        if !self.is_canonical() {
            return Err(self.fault(0));
        }
        self.long_walk(self.paging.cr3 & ADDRESS, 39)
    }

    fn old_modes(&self) -> Result<GuestPhysAddr, PageFault> {
        if self.paging.cr0 & CR0_PG == 0 {
            Ok(GuestPhysAddr(self.address.0 & 0xffff_ffff))
        } else if self.paging.cr4 & CR4_PAE != 0 {
            self.physical_address_extension()
        } else {
            self.two_levels()
        }
    }

    fn physical_address_extension(&self) -> Result<GuestPhysAddr, PageFault> {
        // Four entries, on a boundary of 32 bytes, with hardly any permissions.
        let at = (self.paging.cr3 & 0xffff_ffe0) + (self.address.0 >> 30 & 3) * 8;
        let entry = self.read(GuestPhysAddr(at))?;
        if entry & PRESENT == 0 {
            return Err(self.fault(0));
        }
        self.long_walk(entry & ADDRESS, 21)
    }

    /// Walks tables of 64-bit entries down from `table`, the entries of which
    /// cover `1 << bits` bytes each.
    #[inline]
    fn long_walk(&self, mut table: u64, mut bits: u32) -> Result<GuestPhysAddr, PageFault> {
        let reserved = if self.paging.efer & EFER_NXE == 0 {
            NO_EXECUTE
        } else {
            0
        };
        // A right is there if every level gives it. Turned around, so that this
        // is true of execution too.
        let mut rights = u64::MAX;
        loop {
            let at = GuestPhysAddr(table | (self.address.0 >> bits & 0x1ff) << 3);
            let entry = self.read(at)?;
            if entry & PRESENT == 0 {
                return Err(self.fault(0));
            }
            if entry & reserved != 0 {
                return Err(self.fault(ERROR_PRESENT | ERROR_RESERVED));
            }
            rights &= entry ^ NO_EXECUTE;
            let is_leaf = bits == 12 || entry & LARGE != 0;
            if is_leaf {
                if bits > 30 {
                    return Err(self.fault(ERROR_PRESENT | ERROR_RESERVED));
                }
                self.check(rights)?;
                self.mark(at, entry, true);
                let mask = (1 << bits) - 1;
                let page = entry & ADDRESS & !mask;
                return Ok(GuestPhysAddr(page | self.address.0 & mask));
            }
            self.mark(at, entry, false);
            table = entry & ADDRESS;
            bits -= 9;
        }
    }

    /// Two levels of 32-bit entries.
    fn two_levels(&self) -> Result<GuestPhysAddr, PageFault> {
        let mut table = self.paging.cr3 & 0xffff_f000;
        // There is no bit that forbids execution.
        let mut rights = u64::MAX;
        for bits in [22, 12] {
            let at = table + (self.address.0 >> bits & 0x3ff) * 4;
            let (word, shift) = (GuestPhysAddr(at & !7), at % 8 * 8);
            let whole = self.read(word)?;
            let entry = whole >> shift & 0xffff_ffff;
            if entry & PRESENT == 0 {
                return Err(self.fault(0));
            }
            rights &= entry | NO_EXECUTE;
            let large = bits == 22 && entry & LARGE != 0 && self.paging.cr4 & CR4_PSE != 0;
            let is_leaf = bits == 12 || large;
            if is_leaf {
                self.check(rights)?;
            }
            let wanted = self.wanted(is_leaf) & !entry;
            if wanted != 0 {
                self.memory.set_bits(word, whole, wanted << shift);
            }
            if is_leaf {
                let mask = (1 << bits) - 1;
                // Bits 20:13 of a large page's entry are bits 39:32 of its address.
                let high = if large { (entry >> 13 & 0xff) << 32 } else { 0 };
                let page = entry & 0xffff_f000 & !mask | high;
                return Ok(GuestPhysAddr(page | self.address.0 & mask));
            }
            table = entry & 0xffff_f000;
        }
        Err(self.fault(0))
    }

    #[inline]
    fn read(&self, address: GuestPhysAddr) -> Result<u64, PageFault> {
        self.memory.read_u64(address).ok_or_else(|| self.fault(0))
    }

    /// Checks what all levels allow together.
    fn check(&self, allowed: u64) -> Result<(), PageFault> {
        let rights = self.rights();
        if allowed & rights.looked_at == rights.needed {
            Ok(())
        } else {
            Err(self.fault(ERROR_PRESENT))
        }
    }

    /// What this purpose needs.
    #[inline]
    fn rights(&self) -> Rights {
        let is_user = self.paging.cpl == 3;
        let cr4 = self.paging.cr4;
        let mut needed = 0;
        let mut forbidden = 0;
        if is_user {
            needed |= USER;
        } else if self.purpose == Purpose::Execute {
            if cr4 & CR4_SMEP != 0 {
                forbidden |= USER;
            }
        } else if cr4 & CR4_SMAP != 0 && self.paging.rflags & RFLAGS_AC == 0 {
            forbidden |= USER;
        }
        match self.purpose {
            Purpose::Read => {}
            Purpose::Write if !is_user && self.paging.cr0 & CR0_WP == 0 => {}
            Purpose::Write => needed |= WRITABLE,
            Purpose::Execute => needed |= NO_EXECUTE,
        }
        Rights {
            looked_at: needed | forbidden,
            needed,
        }
    }

    /// What must be set in an entry that is used.
    #[inline]
    fn wanted(&self, is_leaf: bool) -> u64 {
        if is_leaf && self.purpose == Purpose::Write {
            ACCESSED | DIRTY
        } else {
            ACCESSED
        }
    }

    /// Sets accessed and dirty bits that are not set.
    #[inline]
    fn mark(&self, at: GuestPhysAddr, entry: u64, is_leaf: bool) {
        let wanted = self.wanted(is_leaf);
        if entry & wanted != wanted {
            self.set_bits(at, entry, wanted);
        }
    }

    #[cold]
    fn set_bits(&self, at: GuestPhysAddr, entry: u64, wanted: u64) {
        // If another processor was faster, the entry was used as it was.
        self.memory.set_bits(at, entry, wanted);
    }

    #[cold]
    fn fault(&self, mut error: u32) -> PageFault {
        if self.paging.cpl == 3 {
            error |= ERROR_USER;
        }
        match self.purpose {
            Purpose::Write => error |= ERROR_WRITE,
            Purpose::Execute
                if self.paging.efer & EFER_NXE != 0 || self.paging.cr4 & CR4_SMEP != 0 =>
            {
                error |= ERROR_FETCH;
            }
            _ => {}
        }
        PageFault {
            address: self.address,
            error,
        }
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
