//! What a guest under Weir stands on.
//!
//! A guest is an ELF file with a PVH note. `entry` takes the processor from the
//! loader's 32-bit world to 64-bit code with the low 4 GiB mapped one to one;
//! [`start_info`] is what the loader left; the function that [`main!`] names gets
//! both as a [`Guest`]. From there on:
//!
//! | module | what it is |
//! |---|---|
//! | [`platform`] | all that differs between Weir's virtual machine and the bare lab box |
//! | [`hypercall`] | results for Weir, and the end |
//! | [`interrupts`], [`clock`] | counting interrupts, and waiting for them, though not for ever |
//! | [`interrupt_ends`] | ending interrupts without an exit |
//! | [`memory`] | buffers that the DSA reads and writes |
//! | [`dsa`] | the driver of a DSA as a guest sees it |
//! | [`probe`] | instructions that may fault, and what they did |
//! | [`second`] | the second virtual processor |
//! | [`random`] | numbers that look random |
//!
//! A guest keeps its code and data below the heap and hands only buffers of its own
//! to the DSA; nothing checks that, for the adversary's trade is to name others.
#![no_std]

#[cfg(any(target_os = "none", doc))]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod options;
pub mod random;
pub mod start_info;

#[cfg(any(target_os = "none", doc))]
mod apic;
#[cfg(any(target_os = "none", doc))]
pub mod clock;
#[cfg(any(target_os = "none", doc))]
pub mod console;
#[cfg(any(target_os = "none", doc))]
pub mod cost;
#[cfg(any(target_os = "none", doc))]
mod cpu;
pub mod dsa;
#[cfg(any(target_os = "none", doc))]
mod entry;
#[cfg(any(target_os = "none", doc))]
mod heap;
#[cfg(any(target_os = "none", doc))]
pub mod hypercall;
#[cfg(any(target_os = "none", doc))]
pub mod interrupt_ends;
#[cfg(any(target_os = "none", doc))]
pub mod interrupts;
#[cfg(any(target_os = "none", doc))]
pub mod memory;
#[cfg(any(target_os = "none", doc))]
mod mmio;
#[cfg(any(target_os = "none", doc))]
mod paging;
#[cfg(any(target_os = "none", doc))]
mod pass_through;
#[cfg(any(target_os = "none", doc))]
mod pci;
#[cfg(any(target_os = "none", doc))]
pub mod platform;
#[cfg(any(target_os = "none", doc))]
pub mod probe;
#[cfg(any(target_os = "none", doc))]
pub mod second;
#[cfg(any(target_os = "none", doc))]
mod trap;

#[cfg(any(target_os = "none", doc))]
pub use cpu::Features;
#[cfg(any(target_os = "none", doc))]
pub use entry::Guest;
#[cfg(any(target_os = "none", doc))]
pub use platform::Platform;
#[cfg(any(target_os = "none", doc))]
pub use trap::Exception;

/// Names the function that the guest runs once it is in 64-bit code: it gets the
/// [`Guest`] and returns the code that the guest ends with, 0 if all went well.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        #[expect(
            unsafe_code,
            reason = "the name by which the entry code finds the program"
        )]
        // SAFETY: `guest_rt::entry` declares this symbol with this very signature,
        // and nothing else defines it.
        #[unsafe(no_mangle)]
        extern "Rust" fn guest_main(guest: &'static $crate::Guest) -> u64 {
            $main(guest)
        }
    };
}
