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
//! | [`memory`] | buffers that the DSA reads and writes |
//! | [`dsa`] | the driver of a DSA as a guest sees it |
//! | [`probe`] | instructions that may fault, and what they did |
//! | [`second`] | the second virtual processor |
//! | [`random`] | numbers that look random |
//!
//! A guest keeps its code and data below the heap and hands only buffers of its own
//! to the DSA; nothing checks that, for the adversary's trade is to name others.
#![no_std]

#[cfg(target_os = "none")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod options;
pub mod random;
pub mod start_info;

#[cfg(target_os = "none")]
mod apic;
#[cfg(target_os = "none")]
pub mod clock;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
mod cpu;
pub mod dsa;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod heap;
#[cfg(target_os = "none")]
pub mod hypercall;
#[cfg(target_os = "none")]
pub mod interrupts;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
mod mmio;
#[cfg(target_os = "none")]
mod paging;
#[cfg(target_os = "none")]
mod pass_through;
#[cfg(target_os = "none")]
mod pci;
#[cfg(target_os = "none")]
pub mod platform;
#[cfg(target_os = "none")]
pub mod probe;
#[cfg(target_os = "none")]
pub mod second;
#[cfg(target_os = "none")]
mod trap;

#[cfg(target_os = "none")]
pub use cpu::Features;
#[cfg(target_os = "none")]
pub use entry::Guest;
#[cfg(target_os = "none")]
pub use platform::Platform;
#[cfg(target_os = "none")]
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
