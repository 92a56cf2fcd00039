//! The processor's page tables: an identity map for the kernel, and a small
//! window of 4 KiB pages that the checks map, protect and unmap as they like.
//!
//! The identity map is for CPL 0 only; the window also for CPL 3, if a page
//! says so. It lies below 4 GiB because the instructions under test can be told
//! to use 32-bit addresses.
#![expect(unsafe_code, reason = "switching page tables")]

use spin::Mutex;
use x86_64::PhysAddr;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

use crate::memory::{PAGE_SIZE, Pages, Window};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;

const GIB: u64 = 1 << 30;
/// What one entry of a page directory covers.
const DIRECTORY_ENTRY: u64 = 1 << 21;
/// What one entry of the top-level table covers.
const TOP_ENTRY: u64 = 1 << 39;
/// Where the window of checked pages begins: above the image and the page pool,
/// below what firmware leaves at the end of RAM. RAM there is not in the
/// identity map.
const SCRATCH: u64 = 64 << 20;

/// Who may do what to a page of the scratch window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// CPL 0 and CPL 3 read and write.
    UserWrite,
    /// CPL 0 and CPL 3 read.
    UserRead,
    /// CPL 0 reads and writes.
    KernelWrite,
}

#[derive(Debug)]
struct Tables {
    top: Pages,
    /// The low 512 GiB.
    low: Pages,
    /// The 512 GiB that 64-bit BARs lie in, if those are not the low ones.
    high: Option<(u64, Pages)>,
    scratch: Pages,
}

static TABLES: Mutex<Option<Tables>> = Mutex::new(None);

/// Replaces the loader's tables by ours: the low 4 GiB one to one, but for the
/// empty scratch window.
pub(crate) fn init() {
    let tables = Tables {
        top: Pages::one(),
        low: Pages::one(),
        high: None,
        scratch: Pages::one(),
    };
    let directory = Pages::one();
    for entry in 0..512 {
        let target = entry * DIRECTORY_ENTRY;
        directory.write(entry * 8, target | LARGE | WRITABLE | PRESENT);
    }
    let scratch = tables.scratch.address() | USER | WRITABLE | PRESENT;
    directory.write(SCRATCH / DIRECTORY_ENTRY * 8, scratch);
    let first = directory.address() | USER | WRITABLE | PRESENT;
    tables.low.write(0, first);
    for gib in 1..4 {
        tables
            .low
            .write(gib * 8, (gib * GIB) | LARGE | WRITABLE | PRESENT);
    }
    tables
        .top
        .write(0, tables.low.address() | USER | WRITABLE | PRESENT);

    let root = PhysFrame::containing_address(PhysAddr::new(tables.top.address()));
    // SAFETY: the new tables map the image, the stack and the page pool exactly
    // as the old ones do.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
    *TABLES.lock() = Some(tables);
}

/// Maps a device's registers one to one.
pub(crate) fn device_window(base: u64, size: u64) -> Window {
    let mut tables = TABLES.lock();
    let tables = tables.as_mut().expect("paging is set up first");
    for gib in base / GIB..=(base + size - 1) / GIB {
        assert!(gib > 0, "a device lies below the first GiB");
        let entry = gib % 512 * 8;
        let table = match gib * GIB / TOP_ENTRY {
            0 => &tables.low,
            slot => {
                let (used, table) = tables.high.get_or_insert_with(|| (slot, Pages::one()));
                assert!(*used == slot, "devices lie in two 512 GiB slots");
                let link = table.address() | WRITABLE | PRESENT;
                tables.top.write(slot * 8, link);
                table
            }
        };
        table.write(entry, (gib * GIB) | LARGE | WRITABLE | PRESENT);
    }
    // SAFETY: just mapped, and device registers hold no Rust object: the image
    // and the pool are RAM.
    unsafe { Window::new(base, size) }
}

/// The linear address of a page of the scratch window.
pub(crate) const fn scratch(page: u64) -> u64 {
    SCRATCH + page * PAGE_SIZE
}

/// Makes a page of the scratch window show physical memory at `target`.
pub(crate) fn map(page: u64, target: u64, access: Access) {
    let rights = match access {
        Access::UserWrite => USER | WRITABLE,
        Access::UserRead => USER,
        Access::KernelWrite => WRITABLE,
    };
    set(page, target | rights | PRESENT);
}

/// Makes a page of the scratch window not present.
pub(crate) fn unmap(page: u64) {
    set(page, 0);
}

/// Whether the processor has marked a page of the scratch window as accessed,
/// and as written, since it was mapped.
pub(crate) fn is_accessed_and_dirty(page: u64) -> (bool, bool) {
    let tables = TABLES.lock();
    let tables = tables.as_ref().expect("paging is set up first");
    let entry = tables.scratch.read(page * 8);
    (entry & ACCESSED != 0, entry & DIRTY != 0)
}

fn set(page: u64, entry: u64) {
    assert!(page < 512, "page {page} is outside of the scratch window");
    let tables = TABLES.lock();
    let tables = tables.as_ref().expect("paging is set up first");
    tables.scratch.write(page * 8, entry);
    tlb::flush(VirtAddr::new(scratch(page)));
}
