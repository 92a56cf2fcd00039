//! The moment at which `boot` is done and the kernel begins.

use crate::boot_info::BootInfo;

/// The machine, as `boot` hands it over. There is one of it, and whoever takes
/// over the machine consumes it.
#[derive(Debug)]
pub struct Handover {
    boot: &'static BootInfo,
}

impl Handover {
    /// Vouches for the state of the machine.
    ///
    /// # Safety
    /// To be called once, on the boot processor, while no other processor runs.
    /// The processor is in 64-bit mode with interrupts off, selector 8 is its
    /// code segment, its page tables lie below 4 GiB and map the low 4 GiB one
    /// to one and once more at [`DIRECT_MAP`], writable and executable. `boot`
    /// says truly where the image is, and its memory map is right: nothing is
    /// in what it calls RAM but the image and the modules.
    ///
    /// [`DIRECT_MAP`]: crate::mm::direct_map::DIRECT_MAP
    pub const unsafe fn new(boot: &'static BootInfo) -> Self {
        Self { boot }
    }

    /// What the loader said.
    pub const fn boot(&self) -> &'static BootInfo {
        self.boot
    }
}
