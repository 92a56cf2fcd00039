//! The direct map: all RAM, at a fixed distance from its physical addresses.
//!
//! `boot` maps the low 4 GiB there before the kernel runs; the kernel's own
//! tables then map exactly the RAM of the memory map, without the image.

use core::ptr::NonNull;

use x86_64::PhysAddr;

/// Virtual address of physical address 0. The direct map may be 64 TiB long.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// How much of it `boot` provides.
pub const BOOT_DIRECT_MAP_END: u64 = 4 << 30;
/// Physical addresses from here on have no place in the direct map.
pub(super) const DIRECT_MAP_END: u64 = 64 << 40;

/// Where the RAM at `address` is mapped. Only RAM is.
///
/// # Panics
/// If the address is beyond what the direct map can hold.
pub fn pointer(address: PhysAddr) -> NonNull<u8> {
    assert!(
        address.as_u64() < DIRECT_MAP_END,
        "{address:?} is beyond the direct map"
    );
    let pointer = (DIRECT_MAP + address.as_u64()) as *mut u8;
    NonNull::new(pointer).expect("the direct map is not at 0")
}
