//! Results for Weir, by its one hypercall. Without Weir they are printed, and the end
//! is that of the lab box.
#![expect(
    unsafe_code,
    reason = "the hypercall instruction, and the end of the box"
)]

use core::arch::asm;

use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

use crate::console::println;
use crate::cpu;
use crate::platform;

/// "Weir": what RAX holds.
const SIGNATURE: u64 = 0x5765_6972;
/// What is returned for a key that is not known.
const UNKNOWN: u64 = u64::MAX;
/// QEMU's `isa-debug-exit` of the lab box: V ends it with status 2 V + 1.
const DEBUG_EXIT: u16 = 0xf4;

/// END of a guest whose start information is unusable.
pub const FAILED_TO_START: u64 = 0x101;
/// END of a guest that panicked.
pub const FAILED_BY_PANIC: u64 = 0x102;
/// END of a guest that raised an exception it did not expect; plus the vector.
pub const FAILED_BY_EXCEPTION: u64 = 0x200;

/// What is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The guest is done: 0 if all went well, else a code of its own.
    End = 0,
    /// CRC32C of the input as the DSA calculated it.
    Crc32c = 1,
    /// Descriptors that a portal accepted; a batch counts 1, and its members.
    Submitted = 2,
    /// Descriptors whose completion was seen.
    Completed = 3,
    /// Completion interrupts.
    Interrupts = 4,
    /// Checks made.
    Checks = 5,
    /// Checks failed.
    Failed = 6,
    /// A moment, for the benches.
    Mark = 7,
    /// ENQCMD and ENQCMDS that were to be tried again.
    Retried = 8,
    /// Descriptors that completed with an error that the guest provoked.
    Errors = 9,
    /// A measurement begins.
    BenchBegin = 10,
    /// A measurement ends.
    BenchEnd = 11,
    /// What it found: its number in bits 7:0, ticks above.
    BenchCost = 12,
}

/// Calls Weir with any key: false if it does not know the key.
pub fn call(key: u64, value: u64) -> bool {
    let answer: u64;
    if cpu::is_intel() {
        // SAFETY: the hypervisor changes RAX only.
        unsafe {
            asm!("vmcall", inout("rax") SIGNATURE => answer, in("rcx") key, in("rdx") value,
                options(nostack));
        }
    } else {
        // SAFETY: as above.
        unsafe {
            asm!("vmmcall", inout("rax") SIGNATURE => answer, in("rcx") key, in("rdx") value,
                options(nostack));
        }
    }
    answer != UNKNOWN
}

/// Reports a result.
pub fn report(key: Key, value: u64) {
    if platform::is_weir() {
        call(key as u64, value);
    } else {
        println!("report {key:?} {value:#x}");
    }
}

/// Ends the guest.
pub fn finish(code: u64) -> ! {
    report(Key::End, code);
    if !platform::is_weir() {
        // SAFETY: nothing else is at this port, and we are done.
        unsafe { Port::<u8>::new(DEBUG_EXIT).write(u8::from(code != 0)) };
    }
    loop {
        interrupts::disable();
        hlt();
    }
}
