//! From the loader to the kernel.
//!
//! This crate is the first code that runs. [`entry`](self) takes the processor
//! from the loader's 32-bit world to 64-bit code, [`pvh`] turns what the loader
//! left in memory into one [`BootInfo`](kernel::boot_info::BootInfo), and the
//! program named by [`main!`] goes on from there: the hypervisor in
//! `src/main.rs`, or one of the suites in `tests/boot`, which replace it.
//!
//! Another loader needs an entry of its own beside `entry` and a reader of its
//! own beside `pvh`; nothing behind them sees the difference.
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod layout;
pub mod pvh;

/// Names the function that the image runs once it is in 64-bit code.
///
/// It is called with the [`Handover`] on the boot processor, on the stack that
/// `linker.ld` reserves.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        #[expect(
            unsafe_code,
            reason = "the name by which the entry code finds the program"
        )]
        // SAFETY: `boot::entry` declares this symbol with this very signature,
        // and nothing else defines it.
        #[unsafe(no_mangle)]
        extern "Rust" fn weir_main(handover: $crate::Handover) -> ! {
            $main(handover)
        }
    };
}

pub use kernel::arch::Handover;
