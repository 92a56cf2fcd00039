//! The registers of a guest that entering and leaving it does not switch: those
//! of XSAVE (or FXSAVE), the debug registers, TSC_AUX.
//!
//! The hypervisor uses none of them, so they stay in the processor while a guest
//! is left and entered again. They are saved and loaded when a virtual processor
//! leaves a processor and another one takes its place.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, _fxrstor64, _fxsave64, _xrstor64, _xsave64, _xsetbv};

use hwspec::x86::cpuid;
use spin::Once;
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;

use crate::arch::features::features;
use crate::mm::{Frames, OutOfMemory, PAGE_SIZE};

/// IA32_TSC_AUX, which RDTSCP reads.
const TSC_AUX: Msr = Msr::new(0xc000_0103);
/// PRED_CMD: setting bit 0 is the barrier between one guest's branches and
/// another's. [AMD64 Architecture Programmer's Manual, vol. 2, 3.2.9
/// "Speculation Control MSRs"]
const PRED_CMD: Msr = Msr::new(0x49);
const IBPB: u64 = 1 << 0;

/// Offsets into the area of FXSAVE, which that of XSAVE begins with.
const FCW: usize = 0;
const MXCSR: usize = 24;
/// The two as processors start.
const INITIAL_FCW: u16 = 0x37f;
const INITIAL_MXCSR: u32 = 0x1f80;

/// XCR0 as processors start: x87 alone.
pub const INITIAL_XCR0: u64 = 1;

static FORMAT: Once<Format> = Once::new();

/// How the processors keep this state.
#[derive(Clone, Copy, Debug)]
enum Format {
    /// FXSAVE: 512 bytes.
    Fxsave,
    /// XSAVE: all components of `mask`, in `size` bytes.
    Xsave { mask: u64, size: u64 },
}

fn format() -> Format {
    *FORMAT.call_once(|| {
        if !features().basic.xsave() {
            return Format::Fxsave;
        }
        let leaf = __cpuid_count(cpuid::EXTENDED_STATE, 0);
        Format::Xsave {
            mask: u64::from(leaf.edx) << 32 | u64::from(leaf.eax),
            size: leaf.ecx.into(),
        }
    })
}

/// What a guest may set in XCR0.
pub fn supported_xcr0() -> u64 {
    match format() {
        Format::Fxsave => INITIAL_XCR0,
        Format::Xsave { mask, .. } => mask,
    }
}

/// Lets this processor save and load such state.
pub(super) fn enable() {
    let mut flags = Cr4Flags::OSFXSR;
    flags.set(Cr4Flags::OSXSAVE, features().basic.xsave());
    // SAFETY: makes instructions available; the kernel uses no such registers.
    unsafe { Cr4::update(|cr4| *cr4 |= flags) };
}

/// Such state of one virtual processor, while it is not in a processor.
#[derive(Debug)]
pub struct ExtendedState {
    area: Frames,
    xcr0: u64,
    debug: [u64; 4],
    tsc_aux: u64,
}

impl ExtendedState {
    /// The state of a processor that was reset.
    ///
    /// # Errors
    /// If memory is short.
    pub(super) fn new() -> Result<Self, OutOfMemory> {
        let size = match format() {
            Format::Fxsave => 512,
            Format::Xsave { size, .. } => size,
        };
        let area = Frames::allocate_zeroed(size.div_ceil(PAGE_SIZE))?;
        let pointer = area.pointer();
        // SAFETY: the area has at least 512 bytes.
        let fcw = unsafe { pointer.add(FCW) }.cast::<u16>();
        // SAFETY: as above, and aligned.
        unsafe { fcw.write(INITIAL_FCW) };
        // SAFETY: as for FCW.
        let mxcsr = unsafe { pointer.add(MXCSR) }.cast::<u32>();
        // SAFETY: as for FCW.
        unsafe { mxcsr.write(INITIAL_MXCSR) };
        Ok(Self {
            area,
            xcr0: INITIAL_XCR0,
            debug: [0; 4],
            tsc_aux: 0,
        })
    }

    /// How many bytes it takes.
    pub(super) fn len_bytes(&self) -> u64 {
        self.area.range().len_bytes()
    }

    /// The guest's XCR0.
    pub(super) fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// Puts the state into this processor.
    ///
    /// # Safety
    /// The processor must hold nobody else's state.
    pub(super) unsafe fn load(&self) {
        if features().speculation.ibpb() {
            let mut command = PRED_CMD;
            // SAFETY: the register is there, and writing it is a barrier.
            unsafe { command.write(IBPB) };
        }
        let area = self.area.pointer().as_ptr();
        match format() {
            // SAFETY: the area is of the right size and alignment, and what is
            // in it came from FXSAVE or is the initial state.
            Format::Fxsave => unsafe { _fxrstor64(area) },
            Format::Xsave { mask, .. } => {
                // SAFETY: the processor supports these components.
                unsafe { _xsetbv(0, mask) };
                // SAFETY: as for FXRSTOR.
                unsafe { _xrstor64(area, mask) };
                // SAFETY: the guest's value was checked when it was set.
                unsafe { _xsetbv(0, self.xcr0) };
            }
        }
        let [dr0, dr1, dr2, dr3] = self.debug;
        // SAFETY: DR7 is clear while the hypervisor runs, so these do nothing.
        unsafe {
            asm!(
                "mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
                in(reg) dr0, in(reg) dr1, in(reg) dr2, in(reg) dr3,
                options(nostack, nomem, preserves_flags),
            );
        };
        if features().paging.rdtscp() {
            let mut register = TSC_AUX;
            // SAFETY: the register is there, and a number for programs to read.
            unsafe { register.write(self.tsc_aux) };
        }
    }

    /// Takes the state out of this processor.
    ///
    /// # Safety
    /// The processor must hold this state.
    pub(super) unsafe fn save(&mut self) {
        let area = self.area.pointer().as_ptr();
        match format() {
            // SAFETY: the area is of the right size and alignment.
            Format::Fxsave => unsafe { _fxsave64(area) },
            Format::Xsave { mask, .. } => {
                // SAFETY: the processor supports these components.
                unsafe { _xsetbv(0, mask) };
                // SAFETY: the area is of the right size and alignment.
                unsafe { _xsave64(area, mask) };
            }
        }
        let (dr0, dr1, dr2, dr3): (u64, u64, u64, u64);
        // SAFETY: reading them changes nothing.
        unsafe {
            asm!(
                "mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3",
                out(reg) dr0, out(reg) dr1, out(reg) dr2, out(reg) dr3,
                options(nostack, nomem, preserves_flags),
            );
        };
        self.debug = [dr0, dr1, dr2, dr3];
        if features().paging.rdtscp() {
            // SAFETY: the register is there, and reading it changes nothing.
            self.tsc_aux = unsafe { TSC_AUX.read() };
        }
    }

    /// Sets the guest's XCR0, in the processor that holds this state. False if
    /// the guest may not have this value.
    ///
    /// # Safety
    /// The processor must hold this state.
    pub(super) unsafe fn set_xcr0(&mut self, value: u64) -> bool {
        if !is_valid_xcr0(value, supported_xcr0()) {
            return false;
        }
        self.xcr0 = value;
        // SAFETY: the value is valid on this processor.
        unsafe { _xsetbv(0, value) };
        true
    }
}

/// Whether a processor with the components `supported` takes `value`.
/// [Intel SDM, vol. 1, 13.3 "Enabling the XSAVE Feature Set and XSAVE-Enabled
/// Features"]
const fn is_valid_xcr0(value: u64, supported: u64) -> bool {
    const X87: u64 = 1 << 0;
    const SSE: u64 = 1 << 1;
    const AVX: u64 = 1 << 2;
    const MPX: u64 = 0b11 << 3;
    const AVX512: u64 = 0b111 << 5;
    const AMX: u64 = 0b11 << 17;
    value & !supported == 0
        && value & X87 != 0
        && (value & AVX == 0 || value & SSE != 0)
        && (value & MPX == 0 || value & MPX == MPX)
        && (value & AVX512 == 0 || value & (AVX512 | AVX) == AVX512 | AVX)
        && (value & AMX == 0 || value & AMX == AMX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_that_need_each_other_come_together() {
        let all = 0x602e7;
        for (value, is_valid) in [
            (0, false),
            (0b1, true),
            (0b10, false),
            (0b11, true),
            (0b101, false),
            (0b111, true),
            (0xe7, true),
            (0xe3, false),
            (0x67, false),
            (0x2_0007, false),
            (0x6_0007, true),
            (0b11111, false), // MPX is not there
        ] {
            assert_eq!(is_valid_xcr0(value, all), is_valid, "{value:#x}");
        }
        assert!(!is_valid_xcr0(0b111, 0b11));
    }
}
