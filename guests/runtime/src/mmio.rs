//! Registers in memory, by plain moves.
//!
//! A compiler may fold a volatile load into the instruction that uses it. To hardware
//! that is all the same, but a hypervisor that emulates the device has to know the
//! instruction, and moves are what all of them know. Hence the assembly.
#![expect(unsafe_code, reason = "registers at a physical address")]

use core::arch::asm;

use hwio::Registers;
use hwspec::register::Bits;

use crate::paging;

/// A window of registers.
#[derive(Debug)]
pub(crate) struct Window {
    base: u64,
    len_bytes: usize,
}

impl Window {
    /// The registers at a physical address, which is that of a device. What they make
    /// the device do to memory is up to who names addresses to it.
    pub(crate) fn new(base: u64, size: u64) -> Self {
        paging::map(base, size);
        Self {
            base,
            len_bytes: usize::try_from(size).expect("64-bit"),
        }
    }

    fn address<B: Bits>(&self, offset: usize) -> u64 {
        let end = offset.checked_add(B::BYTES);
        assert!(
            end.is_some_and(|end| end <= self.len_bytes) && offset.is_multiple_of(B::BYTES),
            "no register of {} bytes at {offset:#x} of {:#x}",
            B::BYTES,
            self.len_bytes
        );
        self.base + offset as u64
    }
}

impl Registers for Window {
    fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    fn read_raw<B: Bits>(&self, offset: usize) -> B {
        let at = self.address::<B>(offset);
        let value: u64;
        // All four are a load from device memory, which is mapped one to one.
        match B::BYTES {
            1 => {
                // SAFETY: device memory, in the window.
                unsafe {
                    asm!("movzx {v:e}, byte ptr [{a}]", a = in(reg) at, v = out(reg) value, options(nostack, preserves_flags))
                };
            }
            2 => {
                // SAFETY: device memory, in the window.
                unsafe {
                    asm!("movzx {v:e}, word ptr [{a}]", a = in(reg) at, v = out(reg) value, options(nostack, preserves_flags))
                };
            }
            4 => {
                // SAFETY: device memory, in the window.
                unsafe {
                    asm!("mov {v:e}, dword ptr [{a}]", a = in(reg) at, v = out(reg) value, options(nostack, preserves_flags))
                };
            }
            _ => {
                // SAFETY: device memory, in the window.
                unsafe {
                    asm!("mov {v}, qword ptr [{a}]", a = in(reg) at, v = out(reg) value, options(nostack, preserves_flags))
                };
            }
        }
        B::from_low_bits(value)
    }

    fn write_raw<B: Bits>(&mut self, offset: usize, value: B) {
        let at = self.address::<B>(offset);
        let value = value.to_u64();
        // All four are a store to device memory, which is mapped one to one and
        // holds no Rust object.
        match B::BYTES {
            1 => {
                // SAFETY: device memory, in the window.
                unsafe {
                    asm!("mov byte ptr [{a}], al", a = in(reg) at, in("rax") value, options(nostack, preserves_flags))
                };
            }
            2 => {
                // SAFETY: device memory, in the window.
                unsafe {
                    asm!("mov word ptr [{a}], ax", a = in(reg) at, in("rax") value, options(nostack, preserves_flags))
                };
            }
            4 => {
                // SAFETY: device memory, in the window.
                unsafe {
                    asm!("mov dword ptr [{a}], eax", a = in(reg) at, in("rax") value, options(nostack, preserves_flags))
                };
            }
            _ => {
                // SAFETY: device memory, in the window.
                unsafe {
                    asm!("mov qword ptr [{a}], rax", a = in(reg) at, in("rax") value, options(nostack, preserves_flags))
                };
            }
        }
    }
}
