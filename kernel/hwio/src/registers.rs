//! Memory-mapped registers.
#![expect(
    unsafe_code,
    reason = "reaches memory at addresses that the caller vouches for"
)]

#[cfg(not(miri))]
use core::arch::asm;
use core::fmt;
use core::ptr::NonNull;

use hwspec::register::{Acknowledge, Bits, Layout, Readable, Writable};

/// A window of registers, owned by one driver.
///
/// What a register's type does not allow does not compile:
///
/// ```compile_fail
/// use hwio::Registers;
/// use hwspec::register::Rw1c;
///
/// fn drive(registers: &mut impl Registers) {
///     const STATUS: Rw1c<u32> = Rw1c::at(0x34);
///     registers.modify(STATUS, |status| status | 1);
/// }
/// ```
pub trait Registers {
    /// How many bytes the window has. Offsets that hardware reports are to be
    /// compared with it.
    fn len_bytes(&self) -> usize;

    /// One load of the width of `B`.
    ///
    /// # Panics
    /// If `offset` is not aligned to that width or not in the window.
    fn read_raw<B: Bits>(&self, offset: usize) -> B;

    /// One store of the width of `B`.
    ///
    /// # Panics
    /// If `offset` is not aligned to that width or not in the window.
    fn write_raw<B: Bits>(&mut self, offset: usize, value: B);

    /// What `register` says.
    fn read<R: Readable>(&self, register: R) -> R::Value {
        Layout::from_raw(self.read_raw(register.offset()))
    }

    /// Writes `value` to `register`.
    fn write<R: Writable>(&mut self, register: R, value: R::Value) {
        self.write_raw(register.offset(), value.into_raw());
    }

    /// Writes to `register` what `change` makes of its value.
    fn modify<R: Readable + Writable>(
        &mut self,
        register: R,
        change: impl FnOnce(R::Value) -> R::Value,
    ) {
        let value = self.read(register);
        self.write(register, change(value));
    }

    /// Clears those status bits of `register` that are 1 in `bits`, and no others.
    fn acknowledge<R: Acknowledge>(&mut self, register: R, bits: R::Value) {
        self.write_raw(register.offset(), bits.into_raw());
    }
}

/// Registers at an address.
pub struct Mmio {
    base: NonNull<u8>,
    len_bytes: usize,
}

// SAFETY: the window belongs to this value alone and is the same from every CPU.
unsafe impl Send for Mmio {}

impl Mmio {
    /// The `len_bytes` bytes of registers at `base`.
    ///
    /// # Panics
    /// If `base` is not aligned to 8 bytes.
    ///
    /// # Safety
    /// 1. `base` up to `base + len_bytes` is mapped, uncached, for as long as the
    ///    value exists, and nothing but device registers or memory that Rust knows
    ///    nothing of is there.
    /// 2. No other value is made for any of these bytes.
    /// 3. What the registers can be told to do to memory is safe as long as their
    ///    driver keeps to its documentation.
    pub unsafe fn new(base: NonNull<u8>, len_bytes: usize) -> Self {
        assert!(
            base.addr().get().is_multiple_of(8),
            "a register window begins at {base:?}"
        );
        Self { base, len_bytes }
    }

    /// Takes the registers from offset `at` on away, into a window of their own, as
    /// another driver is to have them.
    ///
    /// # Panics
    /// If `at` is not a multiple of 8, or not in the window.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        assert!(
            at.is_multiple_of(8) && at <= self.len_bytes,
            "a window of {:#x} bytes is split at {at:#x}",
            self.len_bytes
        );
        // SAFETY: the offset is in the window, or right behind its end.
        let base = unsafe { self.base.add(at) };
        let rest = Self {
            base,
            len_bytes: self.len_bytes - at,
        };
        self.len_bytes = at;
        rest
    }

    fn pointer<B: Bits>(&self, offset: usize) -> NonNull<B> {
        let end = offset.checked_add(B::BYTES);
        assert!(
            end.is_some_and(|end| end <= self.len_bytes) && offset.is_multiple_of(B::BYTES),
            "no register of {} bytes at {offset:#x} of {:#x}",
            B::BYTES,
            self.len_bytes
        );
        // SAFETY: the offset is in the window, which is one mapped object.
        unsafe { self.base.add(offset) }.cast()
    }
}

impl Registers for Mmio {
    fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    fn read_raw<B: Bits>(&self, offset: usize) -> B {
        let pointer = self.pointer::<B>(offset).cast();
        // SAFETY: 1. `pointer` checked bounds and alignment. 2. The constructor's
        // caller vouched for the mapping.
        B::from_low_bits(unsafe { load::<B>(pointer) })
    }

    fn write_raw<B: Bits>(&mut self, offset: usize, value: B) {
        let pointer = self.pointer::<B>(offset).cast();
        // SAFETY: 1. `pointer` checked bounds and alignment. 2. The constructor's
        // caller vouched for the mapping.
        unsafe { store::<B>(pointer, value.to_u64()) };
    }
}

/// Loads a register of the width of `B`.
///
/// By a plain MOV: where the registers are those of a virtual device, somebody has to
/// understand the instruction, and a compiler would make one of it and of what is done
/// with the value.
///
/// # Safety
/// A register of that width is mapped at `pointer`.
#[cfg(not(miri))]
#[inline]
unsafe fn load<B: Bits>(pointer: NonNull<u8>) -> u64 {
    let pointer = pointer.as_ptr();
    let value: u64;
    match B::BYTES {
        // SAFETY: the caller's promise; as in the other arms.
        1 => unsafe {
            asm!("movzx {value:e}, byte ptr [{pointer}]", value = out(reg) value,
                pointer = in(reg) pointer, options(nostack, preserves_flags));
        },
        // SAFETY: see the first arm.
        2 => unsafe {
            asm!("movzx {value:e}, word ptr [{pointer}]", value = out(reg) value,
                pointer = in(reg) pointer, options(nostack, preserves_flags));
        },
        // SAFETY: see the first arm.
        4 => unsafe {
            asm!("mov {value:e}, dword ptr [{pointer}]", value = out(reg) value,
                pointer = in(reg) pointer, options(nostack, preserves_flags));
        },
        // SAFETY: see the first arm.
        _ => unsafe {
            asm!("mov {value}, qword ptr [{pointer}]", value = out(reg) value,
                pointer = in(reg) pointer, options(nostack, preserves_flags));
        },
    }
    value
}

/// Stores to a register of the width of `B`, by a plain MOV.
///
/// # Safety
/// As for [`load`].
#[cfg(not(miri))]
#[inline]
unsafe fn store<B: Bits>(pointer: NonNull<u8>, value: u64) {
    let pointer = pointer.as_ptr();
    match B::BYTES {
        // SAFETY: the caller's promise; as in the other arms.
        1 => unsafe {
            let [value, ..] = value.to_le_bytes();
            asm!("mov byte ptr [{pointer}], {value}", value = in(reg_byte) value,
                pointer = in(reg) pointer, options(nostack, preserves_flags));
        },
        // SAFETY: see the first arm.
        2 => unsafe {
            asm!("mov word ptr [{pointer}], {value:x}", value = in(reg) value,
                pointer = in(reg) pointer, options(nostack, preserves_flags));
        },
        // SAFETY: see the first arm.
        4 => unsafe {
            asm!("mov dword ptr [{pointer}], {value:e}", value = in(reg) value,
                pointer = in(reg) pointer, options(nostack, preserves_flags));
        },
        // SAFETY: see the first arm.
        _ => unsafe {
            asm!("mov qword ptr [{pointer}], {value}", value = in(reg) value,
                pointer = in(reg) pointer, options(nostack, preserves_flags));
        },
    }
}

/// As the other one, for an interpreter that knows no instructions.
///
/// # Safety
/// A register of that width is mapped at `pointer`.
#[cfg(miri)]
unsafe fn load<B: Bits>(pointer: NonNull<u8>) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { pointer.cast::<B>().read_volatile() }.to_u64()
}

/// As the other one, for an interpreter that knows no instructions.
///
/// # Safety
/// As for [`load`].
#[cfg(miri)]
unsafe fn store<B: Bits>(pointer: NonNull<u8>, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { pointer.cast::<B>().write_volatile(B::from_low_bits(value)) };
}

impl fmt::Debug for Mmio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mmio({:?}, {:#x} bytes)", self.base, self.len_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::vec;

    use hwspec::register::{Ro, Rw, Rw1c};

    use super::*;

    /// Registers in memory that stays for as long as the tests run.
    fn window(len_bytes: usize) -> Mmio {
        let memory = Box::leak(vec![0_u64; len_bytes.div_ceil(8)].into_boxed_slice());
        let base = NonNull::from(memory).cast();
        // SAFETY: the memory was leaked and is used by nobody else.
        unsafe { Mmio::new(base, len_bytes) }
    }

    #[test]
    fn accesses_have_the_width_of_their_register() {
        let mut registers = window(16);
        registers.write(Rw::<u32>::at(4), 0x1122_3344);
        assert_eq!(registers.read(Ro::<u64>::at(0)), 0x1122_3344_0000_0000);
        assert_eq!(registers.read(Ro::<u16>::at(6)), 0x1122);
        assert_eq!(registers.read(Ro::<u8>::at(7)), 0x11);
        registers.modify(Rw::<u64>::at(0), |value| value | 1);
        assert_eq!(registers.read(Ro::<u64>::at(0)), 0x1122_3344_0000_0001);
        registers.acknowledge(Rw1c::<u32>::at(12), 0x80);
        assert_eq!(registers.read(Ro::<u32>::at(12)), 0x80);
    }

    #[test]
    #[should_panic(expected = "no register of 8 bytes at 0xc of 0x10")]
    fn an_access_over_the_end_is_caught() {
        window(16).read_raw::<u64>(12);
    }

    #[test]
    #[should_panic(expected = "no register of 4 bytes at 0x2 of 0x10")]
    fn a_misaligned_access_is_caught() {
        window(16).write_raw(2, 0_u32);
    }

    #[test]
    fn a_window_is_split_into_parts_that_know_their_ends() {
        let mut low = window(48);
        let mut high = low.split_off(16);
        assert_eq!((low.len_bytes(), high.len_bytes()), (16, 32));
        high.write_raw(0, 5_u32);
        low.write_raw(12, 7_u32);
        let last = high.split_off(32);
        assert_eq!((high.len_bytes(), last.len_bytes()), (32, 0));
        assert_eq!(high.read_raw::<u64>(0), 5);
    }

    #[test]
    #[should_panic(expected = "a window of 0x10 bytes is split at 0x18")]
    fn a_split_behind_the_end_is_caught() {
        let _ = window(16).split_off(24);
    }

    #[test]
    #[should_panic(expected = "no register of 8 bytes at 0x10 of 0x10")]
    fn what_was_split_off_is_out_of_reach() {
        let mut low = window(32);
        let _high = low.split_off(16);
        low.read_raw::<u64>(16);
    }

    #[test]
    #[should_panic(expected = "no register of 4 bytes")]
    fn an_offset_that_wraps_is_caught() {
        window(16).read_raw::<u32>(usize::MAX - 3);
    }
}
