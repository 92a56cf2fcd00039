//! The page tables that `entry` makes, and what is mapped beyond the low 4 GiB.
#![expect(unsafe_code, reason = "page tables")]

use core::ptr;

use spin::Mutex;

use crate::memory::{Buffer, PAGE_SIZE};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
/// Uncached: PWT and PCD.
const UNCACHED: u64 = 3 << 3;
const LARGE: u64 = 1 << 7;

const GIB: u64 = 1 << 30;
const LARGE_PAGE: u64 = 2 << 20;
/// What one entry of the top-level table covers.
const TOP_ENTRY: u64 = 1 << 39;
/// What `entry` has mapped.
const LOW_GIBS: u64 = 4;

unsafe extern "C" {
    static mut boot_pml4: [u64; 512];
    static mut boot_pdpt: [u64; 512];
}

static LOCK: Mutex<()> = Mutex::new(());

/// Maps the GiBs around `base` up to `base + size` one to one and uncached, where
/// `entry` has not mapped them.
///
/// # Panics
/// If the range wraps or needs more than 47 bits.
pub(crate) fn map(base: u64, size: u64) {
    let last = base.checked_add(size - 1).expect("the range wraps");
    assert!(last < 1 << 47, "{base:#x} is not in the lower half");
    let _lock = LOCK.lock();
    for gib in (base / GIB..=last / GIB).filter(|&gib| gib >= LOW_GIBS) {
        let top = (&raw mut boot_pml4).cast::<u64>();
        let table = match gib * GIB / TOP_ENTRY {
            0 => (&raw mut boot_pdpt).cast::<u64>(),
            slot => child(top, slot),
        };
        let directory = child(table, gib % 512);
        for page in 0..512 {
            let target = gib * GIB + page * LARGE_PAGE;
            write(
                directory,
                page,
                target | LARGE | UNCACHED | WRITABLE | PRESENT,
            );
        }
    }
}

/// The table behind entry `index` of `table`; a new one if there is none.
fn child(table: *mut u64, index: u64) -> *mut u64 {
    let entry = read(table, index);
    if entry & PRESENT == 0 {
        let buffer = Buffer::new(PAGE_SIZE);
        let address = buffer.address(0);
        // A table stays for good.
        core::mem::forget(buffer);
        write(table, index, address | WRITABLE | PRESENT);
        return ptr::with_exposed_provenance_mut(usize::try_from(address).expect("64-bit"));
    }
    let address = entry & !(PAGE_SIZE as u64 - 1);
    ptr::with_exposed_provenance_mut(usize::try_from(address).expect("64-bit"))
}

fn read(table: *mut u64, index: u64) -> u64 {
    let place = place(table, index);
    // SAFETY: an entry of one of our tables, which are whole pages.
    unsafe { place.read_volatile() }
}

fn write(table: *mut u64, index: u64, value: u64) {
    let place = place(table, index);
    // SAFETY: as above. What was mapped stays as it was: only absent entries, and
    // those of uncached pages that were mapped the same before, are written.
    unsafe { place.write_volatile(value) };
}

fn place(table: *mut u64, index: u64) -> *mut u64 {
    assert!(index < 512, "a table has 512 entries");
    table.wrapping_add(usize::try_from(index).expect("64-bit"))
}
