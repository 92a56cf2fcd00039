//! Addresses that are not the guest's own.

use alloc::vec::Vec;

use crate::stage::Stage;

/// Where Weir's window begins at the earliest, as a device sees it.
const WINDOW: u64 = 1 << 38;

/// Guest-physical addresses where this guest has no memory, each of a whole page at
/// least: right behind its RAM, its devices, where others and the hypervisor could be,
/// and where nothing can be.
pub(crate) fn outside(stage: &Stage) -> Vec<u64> {
    let ram_end = stage.guest.ram_end.next_multiple_of(4096);
    let mut places = alloc::vec![
        ram_end,
        ram_end + (16 << 20),
        0xb000_0000,
        0xe000_0000,
        stage.device.bar0().0,
        stage.device.bar2().0,
        0xfec0_0000,
        // The box's own VT-d.
        0xfed9_0000,
        WINDOW,
        WINDOW + (1 << 20),
        1 << 39,
        1 << 45,
        (1 << 47) - 0x1000,
        0x8000_0000_0000,
        0xffff_8000_0000_0000,
        0xffff_ffff_ffff_f000,
    ];
    // With more RAM than fits below, the rest begins at 4 GiB.
    if ram_end < 0xc000_0000 {
        places.extend([1 << 32, 5 << 30]);
    }
    places.retain(|&place| place >= ram_end);
    places
}
