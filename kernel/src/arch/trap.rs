//! Exceptions and interrupts: the table, its entry code, and who gets them.
//!
//! The kernel runs with interrupts off. They come in at two places only: where
//! an idle processor halts, and right after a guest was left because of one (see
//! [`take_pending`]). A handler therefore never meets code that holds a lock of
//! its own processor.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables;
use x86_64::registers::control::Cr2;
use x86_64::structures::DescriptorTablePointer;

use super::descriptors::{DOUBLE_FAULT_STACK, KERNEL_CODE, MACHINE_CHECK_STACK, NMI_STACK};
use super::{apic, park};

const NMI: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const MACHINE_CHECK: u64 = 18;

/// The local APIC's timer.
pub const TIMER_VECTOR: u8 = 0xf0;
/// Wakes a processor; that is all.
pub const WAKE_VECTOR: u8 = 0xf1;
/// Spurious interrupts, which want no end-of-interrupt.
pub(super) const SPURIOUS_VECTOR: u8 = 0xff;
/// The vectors for devices.
pub const DEVICE_VECTORS: core::ops::Range<u8> = 0x30..0xf0;

/// The state that an exception interrupted, as the entry code pushes it.
#[repr(C)]
#[derive(Debug)]
struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    rbp: u64,
    rbx: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rax: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

const _: () = assert!(offset_of!(Frame, vector) == 15 * 8);

global_asm!(
    r#"
    .pushsection .text.trap, "ax", @progbits
    /* 256 entries of 16 bytes. Exceptions without an error code push 0 for it. */
    .balign 16
    .global trap_entries
    trap_entries:
    .set vector, 0
    .rept 256
        .balign 16
        .if vector < 32 && vector <> 8 && (vector < 10 || vector > 14) && vector <> 17 && vector <> 21 && vector <> 29 && vector <> 30
            .byte 0x6a, 0               /* push 0 */
        .endif
        .byte 0x68                      /* push vector */
        .long vector
        .if vector < 32
            jmp exception_entry
        .else
            jmp interrupt_entry
        .endif
        .set vector, vector + 1
    .endr

    /* Interrupts come only where the code around them has nothing in the registers that
       a function may change: this is on the way of every completion. */
    interrupt_entry:
        mov rdi, [rsp]
        cld
        call {interrupt}
        add rsp, 8
        iretq

    exception_entry:
        push rax
        push rcx
        push rdx
        push rsi
        push rdi
        push r8
        push r9
        push r10
        push r11
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        mov rdi, rsp
        mov rbp, rsp
        and rsp, -16
        cld
        call {exception}
        /* Back only from an NMI that was not for us. */
        mov rsp, rbp
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        pop r11
        pop r10
        pop r9
        pop r8
        pop rdi
        pop rsi
        pop rdx
        pop rcx
        pop rax
        add rsp, 16
        iretq
    .popsection
    "#,
    interrupt = sym interrupt,
    exception = sym exception,
);

unsafe extern "C" {
    static trap_entries: u8;
}

/// An interrupt gate. [Intel SDM, vol. 3, 7.14.1 "64-Bit Mode IDT"]
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Gate([u64; 2]);

impl Gate {
    /// The gate to `entry` on the stack of the interrupted code, or on slot
    /// `stack` of the interrupt stack table.
    const fn new(entry: u64, stack: Option<usize>) -> Self {
        const PRESENT: u64 = 1 << 47;
        const INTERRUPT_GATE: u64 = 0xe << 40;
        let stack = match stack {
            Some(index) => index as u64 + 1,
            None => 0,
        };
        Self([
            entry & 0xffff
                | (KERNEL_CODE.0 as u64) << 16
                | stack << 32
                | INTERRUPT_GATE
                | PRESENT
                | (entry >> 16 & 0xffff) << 48,
            entry >> 32,
        ])
    }
}

/// The interrupt table, of all processors.
static TABLE: Once<[Gate; 256]> = Once::new();
/// Who takes the interrupts of devices.
static DEVICE_HANDLER: Once<fn(u8)> = Once::new();
/// Who takes the timer's interrupts.
static TIMER_HANDLER: Once<fn()> = Once::new();
/// Interrupts that nobody takes.
static UNEXPECTED: AtomicU32 = AtomicU32::new(0);

/// Loads the interrupt table on this processor.
pub(super) fn load() {
    let table = TABLE.call_once(|| {
        let entries = (&raw const trap_entries).addr() as u64;
        core::array::from_fn(|vector| {
            let vector = vector as u64;
            let stack = match vector {
                NMI => Some(NMI_STACK),
                DOUBLE_FAULT => Some(DOUBLE_FAULT_STACK),
                MACHINE_CHECK => Some(MACHINE_CHECK_STACK),
                _ => None,
            };
            Gate::new(entries + vector * 16, stack)
        })
    });
    let pointer = DescriptorTablePointer {
        limit: 0xfff,
        base: VirtAddr::from_ptr(table),
    };
    // SAFETY: every gate leads to its entry code above, and the table is for
    // good.
    unsafe { tables::lidt(&pointer) };
}

/// Says who takes the interrupts of [`DEVICE_VECTORS`]: it is called with the
/// vector, on the processor that the interrupt came to, with interrupts off.
/// Once.
pub fn set_device_handler(handler: fn(u8)) {
    DEVICE_HANDLER.call_once(|| handler);
}

/// Says who takes the interrupts of [`TIMER_VECTOR`]. Once.
pub fn set_timer_handler(handler: fn()) {
    TIMER_HANDLER.call_once(|| handler);
}

/// How many interrupts have come that nobody takes.
pub fn count_unexpected() -> u32 {
    UNEXPECTED.load(Ordering::Relaxed)
}

/// Lets interrupts in between the instructions `$instruction`, which must be the only such
/// places: [`interrupt_entry`](self) saves no registers, so that whatever a function may
/// change is given up here.
macro_rules! let_in {
    ($($instruction:literal),*) => {
        asm!(
            $($instruction),*,
            out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        )
    };
}

/// Takes the interrupts that are pending on this processor, and no others.
#[inline]
pub fn take_pending() {
    // SAFETY: handlers run as if they had been called here. STI holds interrupts
    // back for one more instruction, so there must be one before CLI.
    unsafe { let_in!("sti", "nop", "cli") };
}

/// Halts this processor until an interrupt comes, and takes it. One that has come already,
/// or comes between the two instructions, waits until the second.
pub fn wait() {
    // SAFETY: as above.
    unsafe { let_in!("sti", "hlt", "cli") };
}

/// Called by the entry code for vectors from 32 on.
extern "sysv64" fn interrupt(vector: u64) {
    let [vector, ..] = vector.to_le_bytes();
    match vector {
        vector if DEVICE_VECTORS.contains(&vector) => match DEVICE_HANDLER.get() {
            Some(handler) => handler(vector),
            None => count_as_unexpected(),
        },
        WAKE_VECTOR => {}
        TIMER_VECTOR => match TIMER_HANDLER.get() {
            Some(handler) => handler(),
            None => count_as_unexpected(),
        },
        SPURIOUS_VECTOR => return,
        _ => count_as_unexpected(),
    }
    apic::end_of_interrupt();
}

fn count_as_unexpected() {
    UNEXPECTED.fetch_add(1, Ordering::Relaxed);
}

/// Called by the entry code for exceptions. Returns only from an NMI.
extern "sysv64" fn exception(frame: &Frame) {
    match frame.vector {
        NMI => {
            park::stay_if_asked();
            count_as_unexpected();
        }
        MACHINE_CHECK => panic!("machine check at {:#x}", frame.rip),
        vector => panic!(
            "exception {vector} ({name}) error={error:#x} cr2={cr2:#x}\n{frame:#x?}",
            name = NAMES
                .get(usize::try_from(vector).unwrap_or(usize::MAX))
                .unwrap_or(&"reserved"),
            error = frame.error,
            cr2 = Cr2::read_raw(),
        ),
    }
}

/// The exceptions by vector.
const NAMES: [&str; 22] = [
    "divide error",
    "debug",
    "NMI",
    "breakpoint",
    "overflow",
    "bound range",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection",
    "page fault",
    "reserved",
    "x87 error",
    "alignment check",
    "machine check",
    "SIMD error",
    "virtualization",
    "control protection",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// [Intel SDM, vol. 3, figure 7-8 "64-Bit IDT Gate Descriptors"]
    #[test]
    fn gates_are_laid_out_as_the_processor_reads_them() {
        let Gate(plain) = Gate::new(0x1122_3344_5566_7788, None);
        assert_eq!(plain, [0x5566_8e00_0008_7788, 0x1122_3344]);
        let Gate(stacked) = Gate::new(0x20_1000, Some(2));
        assert_eq!(stacked, [0x0020_8e03_0008_1000, 0]);
    }
}
