//! Where the linker put the image: the one reader of the symbols of `linker.ld`.
#![expect(unsafe_code, reason = "symbols that the linker defines")]

use kernel::boot_info::{BootInfo, ImageLayout};
use spin::Once;
use x86_64::PhysAddr;

unsafe extern "C" {
    static __text_start: u8;
    static __rodata_start: u8;
    static __data_start: u8;
    static __bss_end: u8;
    static __stack_start: u8;
    static __image_end: u8;
}

/// Where the parts of the running image are.
pub(crate) fn image() -> ImageLayout {
    let at = |symbol: *const u8| PhysAddr::new(symbol.addr() as u64);
    ImageLayout {
        text: at(&raw const __text_start),
        rodata: at(&raw const __rodata_start),
        data: at(&raw const __data_start),
        data_end: at(&raw const __bss_end),
        stack: at(&raw const __stack_start),
        end: at(&raw const __image_end),
    }
}

/// Keeps the boot information for as long as the machine runs.
pub(crate) fn keep(info: BootInfo) -> &'static BootInfo {
    static INFO: Once<BootInfo> = Once::new();
    INFO.call_once(|| info)
}
