//! Small questions to the processor, and the way out of QEMU.
#![expect(unsafe_code, reason = "model-specific registers and I/O ports")]

use core::arch::x86_64::__cpuid_count;
use core::{hint, iter};

use x86_64::VirtAddr;
use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};
use x86_64::registers::model_specific::{FsBase, Msr};

use crate::program::{Outcome, Privilege, Registers, Sandbox};

/// IA32_PASID. [Intel SDM, vol. 4, table 2-2 "IA-32 Architectural MSRs"]
pub(crate) const IA32_PASID: u32 = 0xd93;
/// IA32_PASID bit 31: bits 19:0 are a PASID.
pub(crate) const IA32_PASID_VALID: u64 = 1 << 31;

/// Where the tests put QEMU's `isa-debug-exit`.
const DEBUG_EXIT: u16 = 0xf4;
/// The reset control register of the PC, and a hard reset.
const RESET_CONTROL: u16 = 0xcf9;
const HARD_RESET: u8 = 0x0e;

/// The instructions that this kernel is about.
/// [Intel SDM, vol. 2, "CPUID", leaf 7 subleaf 0, ECX]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) movdiri: bool,
    pub(crate) movdir64b: bool,
    pub(crate) enqcmd: bool,
}

impl Features {
    /// What CPUID says.
    pub(crate) fn read() -> Self {
        let ecx = __cpuid_count(7, 0).ecx;
        Self {
            movdiri: ecx & 1 << 27 != 0,
            movdir64b: ecx & 1 << 28 != 0,
            enqcmd: ecx & 1 << 29 != 0,
        }
    }

    /// What a comma-separated list of their names says.
    pub(crate) fn parse(list: &str) -> Self {
        let has = |name| list.split(',').any(|word| word == name);
        Self {
            movdiri: has("movdiri"),
            movdir64b: has("movdir64b"),
            enqcmd: has("enqcmd"),
        }
    }
}

/// Sets IA32_PASID, which must exist and take this value.
pub(crate) fn set_ia32_pasid(value: u64) {
    // SAFETY: the register matters to ENQCMD only.
    unsafe { Msr::new(IA32_PASID).write(value) };
}

/// Reads IA32_PASID, which must exist.
pub(crate) fn ia32_pasid() -> u64 {
    // SAFETY: reading it changes nothing.
    unsafe { Msr::new(IA32_PASID).read() }
}

/// Sets the base of the FS segment, which nothing here uses by itself.
pub(crate) fn set_fs_base(base: u64) {
    FsBase::write(VirtAddr::new(base));
}

/// Ticks of the time-stamp counter that a program of 16 times `body` takes.
pub(crate) fn ticks_of(sandbox: &Sandbox, body: &[u8], registers: Registers) -> u64 {
    /// `RDTSC; SHL RDX, 32; OR RAX, RDX; MOV R8, RAX`
    const START: &[u8] = &[
        0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0x49, 0x89, 0xc0,
    ];
    /// `RDTSC; SHL RDX, 32; OR RAX, RDX`
    const STOP: &[u8] = &[0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0];
    const TIMES: usize = 16;
    let mut program = [0; 256];
    let mut length = 0;
    for part in iter::once(START)
        .chain(iter::repeat_n(body, TIMES))
        .chain(iter::once(STOP))
    {
        for &byte in part {
            if let Some(place) = program.get_mut(length) {
                *place = byte;
            }
            length += 1;
        }
    }
    let program = program.get(..length).expect("the program is short enough");
    let exit = sandbox.run(Privilege::Kernel, program, registers);
    assert_eq!(exit.outcome, Outcome::Completed, "while counting {body:x?}");
    exit.registers.rax - exit.registers.r8
}

/// Waits until `done`, though not for ever. True if it came to pass.
pub(crate) fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    /// Each turn leaves the processor loop of QEMU once, so that timers and
    /// interrupts get their chance.
    const TURNS: u32 = 1_000_000;
    for _ in 0..TURNS {
        if done() {
            return true;
        }
        hint::spin_loop();
    }
    done()
}

/// Lets interrupts in and waits until `done`, though not for ever.
pub(crate) fn wait_with_interrupts_until(done: impl FnMut() -> bool) -> bool {
    interrupts::enable();
    let came = wait_until(done);
    interrupts::disable();
    came
}

/// Lets interrupts in for long enough that one under way arrives.
pub(crate) fn settle() {
    const TURNS: u32 = 20_000;
    interrupts::enable();
    for _ in 0..TURNS {
        hint::spin_loop();
    }
    interrupts::disable();
}

/// Ends QEMU.
pub(crate) fn exit(good: bool) -> ! {
    // SAFETY: nothing else is at this port, and we are done.
    unsafe { Port::<u8>::new(DEBUG_EXIT).write(u8::from(!good)) };
    // SAFETY: a reset is what we want if the first did not help.
    unsafe { Port::<u8>::new(RESET_CONTROL).write(HARD_RESET) };
    loop {
        hlt();
    }
}
