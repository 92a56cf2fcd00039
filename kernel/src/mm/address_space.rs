//! The kernel's address space: one set of page tables for all processors.
//!
//! | from | what | access |
//! |---|---|---|
//! | 2 MiB | the image, one to one | code: execute; constants: read; rest: write |
//! | `DIRECT_MAP` | all RAM but the image | write |
//! | `STACKS` | stacks, each above an unmapped page | write |
//! | `WINDOWS` | registers of devices, tables of firmware | write, uncached; read |
//!
//! Nothing can be written and executed. Mappings are added, hardly ever taken
//! away, so processors need not tell each other about their TLBs.

use core::error::Error;
use core::fmt;
use core::ptr::NonNull;

use spin::Mutex;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr3, Cr3Flags, Cr4};
use x86_64::registers::model_specific::{Efer, EferFlags};
use x86_64::structures::paging::mapper::{MapToError, MapperFlush};
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame,
    Size1GiB, Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use super::direct_map::{self, DIRECT_MAP, DIRECT_MAP_END};
use super::frames::{Frames, OutOfMemory};
use super::{PAGE_SIZE, PhysRange};
use crate::arch::features;
use crate::boot_info::{BootInfo, MemoryKind};

/// Where stacks are: a slot of [`STACK_SLOT`] bytes each.
const STACKS: u64 = 0xffff_c000_0000_0000;
/// What a stack and the unmapped page below it take at most.
const STACK_SLOT: u64 = 128 << 10;
/// Where devices and firmware tables are mapped, one behind the other.
const WINDOWS: u64 = 0xffff_d000_0000_0000;
const WINDOWS_END: u64 = 0xffff_e000_0000_0000;

const READ: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::NO_EXECUTE);
const WRITE: PageTableFlags = READ.union(PageTableFlags::WRITABLE);
const EXECUTE: PageTableFlags = PageTableFlags::PRESENT;
/// Write-through and cache-disable: uncached by the PAT as processors start.
const UNCACHED: PageTableFlags = PageTableFlags::WRITE_THROUGH.union(PageTableFlags::NO_CACHE);
/// Of the tables themselves; the last level decides.
const TABLE: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);

/// Locked before the map of frames.
static KERNEL: Mutex<Option<AddressSpace>> = Mutex::new(None);

/// Why something could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// There is no memory for page tables.
    OutOfMemory(OutOfMemory),
    /// The range is RAM, or beyond what processors can address.
    NotAWindow(PhysRange),
    /// The range is a driver's already, or part of it.
    Claimed(PhysRange),
    /// The address range for windows is full.
    NoAddresses,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory(error) => error.fmt(f),
            Self::NotAWindow(range) => write!(f, "{range:?} cannot be a device or a table"),
            Self::Claimed(range) => write!(f, "{range:?} belongs to another device"),
            Self::NoAddresses => f.write_str("too many windows are mapped"),
        }
    }
}

impl Error for MapError {}

impl From<OutOfMemory> for MapError {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

/// How a window is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// Registers of a device.
    Registers,
    /// Memory that firmware wrote and nobody changes.
    Tables,
}

struct AddressSpace {
    tables: OffsetPageTable<'static>,
    boot: &'static BootInfo,
    next_stack: u64,
    next_window: u64,
}

/// Page tables come from the map of frames, and are never given back.
struct TableFrames;

// SAFETY: every frame is one that the map of frames gave away for good.
unsafe impl FrameAllocator<Size4KiB> for TableFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frames = Frames::allocate(1).ok()?;
        Some(PhysFrame::containing_address(frames.leak().start()))
    }
}

/// Builds the kernel's tables and moves this processor to them.
///
/// # Errors
/// If memory is short.
///
/// # Safety
/// The map of frames is right, and `boot` says truly where the image is.
pub(super) unsafe fn init(boot: &'static BootInfo) -> Result<(), OutOfMemory> {
    let root = Frames::allocate_low(1)?;
    root.clear();
    let root = root.leak().start();
    let table = direct_map::pointer(root).cast::<PageTable>();
    // SAFETY: the frame was just cleared and is nobody else's; an empty table is
    // a valid one.
    let table = unsafe { &mut *table.as_ptr() };
    // SAFETY: all RAM is at this distance, in `boot`'s tables and in these.
    let tables = unsafe { OffsetPageTable::new(table, VirtAddr::new(DIRECT_MAP)) };
    let mut space = AddressSpace {
        tables,
        boot,
        next_stack: STACKS,
        next_window: WINDOWS,
    };
    space.map_image()?;
    space.map_ram()?;
    *KERNEL.lock() = Some(space);
    // SAFETY: no table sets the bit for anything but "do not execute".
    unsafe { Efer::update(|efer| *efer |= EferFlags::NO_EXECUTE_ENABLE) };
    // SAFETY: the tables map the image and the stack as they are mapped now.
    unsafe { Cr3::write(PhysFrame::containing_address(root), Cr3Flags::empty()) };
    protect();
    Ok(())
}

/// The physical address of the top-level table.
///
/// # Panics
/// If there is none yet.
pub(crate) fn root() -> PhysAddr {
    let kernel = KERNEL.lock();
    let space = kernel.as_ref().expect("the address space is built first");
    let table: *const PageTable = space.tables.level_4_table();
    PhysAddr::new(table.addr() as u64 - DIRECT_MAP)
}

/// Makes this processor, which uses the kernel's tables, obey them strictly.
pub(crate) fn protect() {
    // SAFETY: no constant is ever written to.
    unsafe { Cr0::update(|cr0| *cr0 |= Cr0Flags::WRITE_PROTECT) };
    // Nothing is mapped for user mode; these catch a table that says otherwise.
    let protections = features::supervisor_protections();
    // SAFETY: no code or data of the kernel is in a user page.
    unsafe { Cr4::update(|cr4| *cr4 |= protections) };
}

impl AddressSpace {
    fn map_image(&mut self) -> Result<(), OutOfMemory> {
        let image = self.boot.image;
        for (from, to, flags) in [
            (image.text, image.rodata, EXECUTE),
            (image.rodata, image.data, READ),
            (image.data, image.data_end, WRITE),
            (image.stack, image.end, WRITE),
        ] {
            self.map(from.as_u64(), PhysRange::new(from, to), flags)?;
        }
        Ok(())
    }

    fn map_ram(&mut self) -> Result<(), OutOfMemory> {
        let image = self.boot.image.whole();
        for region in &self.boot.memory {
            if region.kind != MemoryKind::RAM {
                continue;
            }
            let (first, end) = region.range.whole_pages();
            let at = |page: u64| PhysAddr::new((page * PAGE_SIZE).min(DIRECT_MAP_END));
            let ram = PhysRange::new(at(first), at(end));
            for part in [
                PhysRange::new(ram.start(), ram.end().min(image.start())),
                PhysRange::new(ram.start().max(image.end()), ram.end()),
            ] {
                // The two are the same where the image is elsewhere.
                if !part.is_empty() && !part.overlaps(image) {
                    self.map(DIRECT_MAP + part.start().as_u64(), part, WRITE)?;
                }
            }
        }
        Ok(())
    }

    /// Maps a range of whole pages at `virt` on, in the largest pages that fit.
    /// What is mapped already stays as it is.
    fn map(
        &mut self,
        virt: u64,
        range: PhysRange,
        flags: PageTableFlags,
    ) -> Result<(), OutOfMemory> {
        let mut at = range.start().as_u64();
        let end = range.end().as_u64();
        let distance = virt.wrapping_sub(at);
        while at < end {
            let fits = |size: u64| {
                at.is_multiple_of(size) && distance.is_multiple_of(size) && end - at >= size
            };
            at += if fits(Size1GiB::SIZE) && features::has_gib_pages() {
                self.map_page::<Size1GiB>(at.wrapping_add(distance), at, flags)?
            } else if fits(Size2MiB::SIZE) {
                self.map_page::<Size2MiB>(at.wrapping_add(distance), at, flags)?
            } else {
                self.map_page::<Size4KiB>(at.wrapping_add(distance), at, flags)?
            };
        }
        Ok(())
    }

    /// Maps one page and says how large it is.
    fn map_page<S: PageSize>(
        &mut self,
        virt: u64,
        phys: u64,
        flags: PageTableFlags,
    ) -> Result<u64, OutOfMemory>
    where
        OffsetPageTable<'static>: Mapper<S>,
    {
        let page = Page::<S>::containing_address(VirtAddr::new(virt));
        let frame = PhysFrame::<S>::containing_address(PhysAddr::new(phys));
        // SAFETY: callers map memory of theirs at addresses that are nobody's,
        // and the tables refuse to map an address twice.
        let result = unsafe {
            self.tables
                .map_to_with_table_flags(page, frame, flags, TABLE, &mut TableFrames)
        };
        match result {
            // An address that was not mapped is in no TLB.
            Ok(flush) => MapperFlush::ignore(flush),
            // Memory maps may name a range twice.
            Err(MapToError::PageAlreadyMapped(_) | MapToError::ParentEntryHugePage) => {}
            Err(MapToError::FrameAllocationFailed) => return Err(OutOfMemory { count_pages: 1 }),
        }
        Ok(S::SIZE)
    }

    fn map_window(&mut self, range: PhysRange, window: Window) -> Result<NonNull<u8>, MapError> {
        let (first, end) = range.touched_pages();
        let pages = PhysRange::from_parts(first * PAGE_SIZE, (end - first) * PAGE_SIZE)
            .filter(|pages| !pages.is_empty())
            .filter(|pages| pages.is_within_bits(features::features().physical_bits))
            .ok_or(MapError::NotAWindow(range))?;
        let is_ram = self
            .boot
            .memory
            .iter()
            .any(|region| region.kind == MemoryKind::RAM && region.range.overlaps(pages));
        if is_ram {
            return Err(MapError::NotAWindow(range));
        }
        let flags = match window {
            Window::Registers => WRITE.union(UNCACHED),
            Window::Tables => READ,
        };
        // Large windows are as far from a multiple of 2 MiB as their physical
        // addresses, so that they take large pages. A page is left out behind
        // each window.
        let virt = if pages.len_bytes() < Size2MiB::SIZE {
            self.next_window
        } else {
            let offset = pages.start().as_u64() % Size2MiB::SIZE;
            self.next_window.next_multiple_of(Size2MiB::SIZE) + offset
        };
        let next = virt.checked_add(pages.len_bytes() + PAGE_SIZE);
        let next = next.filter(|&next| next <= WINDOWS_END);
        self.next_window = next.ok_or(MapError::NoAddresses)?;
        self.map(virt, pages, flags)?;
        let pointer = (virt + range.start().as_u64() % PAGE_SIZE) as *mut u8;
        Ok(NonNull::new(pointer).expect("windows are not at 0"))
    }

    fn map_stack(&mut self, count_pages: u64) -> Result<VirtAddr, OutOfMemory> {
        let size = count_pages * PAGE_SIZE;
        assert!(
            size < STACK_SLOT,
            "a stack leaves an unmapped page below it"
        );
        let frames = Frames::allocate(count_pages)?;
        let top = self.next_stack + STACK_SLOT;
        self.next_stack = top;
        self.map(top - size, frames.leak(), WRITE)?;
        Ok(VirtAddr::new(top))
    }
}

/// Maps a range that is not RAM.
///
/// # Errors
/// If it is RAM after all, or there is no room.
pub(crate) fn map_window(range: PhysRange, window: Window) -> Result<NonNull<u8>, MapError> {
    let mut kernel = KERNEL.lock();
    let space = kernel.as_mut().expect("the address space is built first");
    space.map_window(range, window)
}

/// Makes a stack with an unmapped page below it, for good; gives its upper end.
///
/// # Errors
/// If memory is short.
pub(crate) fn map_stack(count_pages: u64) -> Result<VirtAddr, OutOfMemory> {
    let mut kernel = KERNEL.lock();
    let space = kernel.as_mut().expect("the address space is built first");
    space.map_stack(count_pages)
}
