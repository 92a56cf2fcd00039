//! The way into a guest and back.

use core::arch::global_asm;
use core::mem::offset_of;

use x86_64::PhysAddr;

use crate::virt::registers::GeneralRegisters;

/// The offset of a register by its number.
const fn offset(number: usize) -> usize {
    offset_of!(GeneralRegisters, by_number) + 8 * number
}

global_asm!(
    r#"
    .pushsection .text.svm, "ax", @progbits
    /* extern "sysv64" fn(vmcb: PhysAddr, registers: *mut GeneralRegisters,
                          host: PhysAddr)
       RAX and RSP are in the control block. While a guest's FS, GS and task
       state are loaded, GIF is clear: nothing of ours can run. */
    .balign 64
    .global svm_enter
    svm_enter:
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        push rsi
        push rdx
        mov rax, rdi
        mov rcx, [rsi + {rcx}]
        mov rdx, [rsi + {rdx}]
        mov rbx, [rsi + {rbx}]
        mov rbp, [rsi + {rbp}]
        mov rdi, [rsi + {rdi}]
        mov r8, [rsi + {r8}]
        mov r9, [rsi + {r9}]
        mov r10, [rsi + {r10}]
        mov r11, [rsi + {r11}]
        mov r12, [rsi + {r12}]
        mov r13, [rsi + {r13}]
        mov r14, [rsi + {r14}]
        mov r15, [rsi + {r15}]
        mov rsi, [rsi + {rsi}]
        clgi
        sti                     /* interrupts of ours end the guest */
        vmload rax
        vmrun rax
        vmsave rax
        mov rax, [rsp]
        vmload rax
        cli
        stgi
        mov rax, [rsp + 8]
        mov [rax + {rcx}], rcx
        mov [rax + {rdx}], rdx
        mov [rax + {rbx}], rbx
        mov [rax + {rbp}], rbp
        mov [rax + {rsi}], rsi
        mov [rax + {rdi}], rdi
        mov [rax + {r8}], r8
        mov [rax + {r9}], r9
        mov [rax + {r10}], r10
        mov [rax + {r11}], r11
        mov [rax + {r12}], r12
        mov [rax + {r13}], r13
        mov [rax + {r14}], r14
        mov [rax + {r15}], r15
        add rsp, 16
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret
    .popsection
    "#,
    rcx = const offset(1),
    rdx = const offset(2),
    rbx = const offset(3),
    rbp = const offset(5),
    rsi = const offset(6),
    rdi = const offset(7),
    r8 = const offset(8),
    r9 = const offset(9),
    r10 = const offset(10),
    r11 = const offset(11),
    r12 = const offset(12),
    r13 = const offset(13),
    r14 = const offset(14),
    r15 = const offset(15),
);

unsafe extern "sysv64" {
    fn svm_enter(vmcb: u64, registers: *mut GeneralRegisters, host: u64);
}

/// Enters the guest of the control block at `vmcb`, until it is left.
///
/// # Safety
/// The control block is complete and describes a guest that can reach nothing of
/// the host's; `host` is the block in which this processor saved its own state;
/// interrupts are off.
#[inline]
pub(super) unsafe fn enter(vmcb: PhysAddr, registers: &mut GeneralRegisters, host: PhysAddr) {
    // SAFETY: the caller's promise. Callee-saved registers and the stack come
    // back as they were, and so do segments and flags.
    unsafe { svm_enter(vmcb.as_u64(), registers, host.as_u64()) };
}
