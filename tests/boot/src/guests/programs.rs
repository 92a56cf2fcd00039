//! The guests' code, and where it is.
//!
//! All of it is copied to [`CODE`] in each guest, where the addresses are mapped
//! one to one. A program begins at its label; RBX to R15 are what the suite set.
#![expect(unsafe_code, reason = "the bytes between two labels")]

use core::arch::global_asm;
use core::slice;

/// Where the code is in a guest's memory.
pub(crate) const CODE: u64 = 0x10_0000;
/// The stack's upper end.
pub(crate) const STACK: u64 = 0x20_0000;
/// Page tables, from here on.
pub(crate) const TABLES: u64 = 0x1000;
/// The interrupt table, of 256 gates; handlers are 16 bytes apart.
pub(crate) const INTERRUPT_TABLE: u64 = 0x8000;
/// The segments.
pub(crate) const SEGMENTS: u64 = 0x9000;
/// A page for data.
pub(crate) const DATA: u64 = 0xa000;
/// Where a device would be: above all RAM.
pub(crate) const DEVICE: u64 = 0xc000_0000;

global_asm!(
    r#"
    .pushsection .rodata.guest, "a", @progbits
    .global guest_code, guest_code_end
    .balign 16
    guest_code:

    .global guest_exits
    guest_exits:
        mov eax, 0x1234
        cpuid
        .byte 0x66, 0x48, 0x0f, 0xa2        /* CPUID with prefixes */
        mov edx, 0x80
        mov al, 0x55
        out dx, al
        mov edx, 0xcfc
        in eax, dx
        .byte 0xe5, 0x61                    /* in eax, 0x61 */
        outsb
        mov ecx, 0x1b
        rdmsr
        mov ecx, 0xd93
        wrmsr
        xor ecx, ecx
        xsetbv
        wbinvd
        invd
        mov r15, rax
        rdpmc
        xor eax, eax
        vmrun rax
        monitor
        ud2
        hlt
        vmmcall

    .global guest_memory
    guest_memory:
        mov dword ptr [rbx + 0x10], 0x11223344
        mov rax, [rbx + 0x18]
        movzx edx, byte ptr [rbx + 0x1f]
        mov rdi, rbx
        mov rsi, r12
        .byte 0x66, 0x0f, 0x38, 0xf8, 0x3e  /* movdir64b rdi, [rsi] */
        mov ecx, 3
        rep movsd
        lock add dword ptr [rbx], 1
        vmmcall

    .global guest_jump
    guest_jump:
        jmp rbx

    .global guest_tables
    guest_tables:
        mov cr3, rbx
        vmmcall

    .global guest_load
    guest_load:
        mov rax, [rbx]
        vmmcall
        jmp guest_load

    .global guest_idle
    guest_idle:
        lgdt [rip + guest_segments]
        lidt [rip + guest_interrupts]
        sti
        hlt
        vmmcall
        jmp guest_idle

    .global guest_closed
    guest_closed:
        lgdt [rip + guest_segments]
        lidt [rip + guest_interrupts]
        vmmcall
        sti
        nop
        nop
        vmmcall

    .global guest_priorities
    guest_priorities:
        lgdt [rip + guest_segments]
        lidt [rip + guest_interrupts]
        mov eax, 5
        mov cr8, rax
        sti
        nop
        vmmcall
        mov eax, 4
        mov cr8, rax
        nop
        mov eax, 3
        mov cr8, rax
        nop
        vmmcall

    .global guest_shadow
    guest_shadow:
        lgdt [rip + guest_segments]
        lidt [rip + guest_interrupts]
        sti
        vmmcall
        nop
        vmmcall

    .global guest_step
    guest_step:
        lgdt [rip + guest_segments]
        lidt [rip + guest_interrupts]
        pushfq
        or dword ptr [rsp], 0x100           /* TF */
        popfq
        cpuid
        nop
        vmmcall

    .global guest_faults
    guest_faults:
        lgdt [rip + guest_segments]
        lidt [rip + guest_interrupts]
        ud2
        mov rax, [rbx]
        vmmcall

    .global guest_undeliverable
    guest_undeliverable:
        lidt [rip + guest_device_interrupts]
        ud2

    .global guest_triple_fault
    guest_triple_fault:
        lidt [rip + guest_no_interrupts]
        int3
        vmmcall

    .global guest_spin
    guest_spin:
        jmp guest_spin

    .global guest_registers
    guest_registers:
        mov rax, cr4
        or rax, 0x600                       /* OSFXSR, OSXMMEXCPT */
        mov cr4, rax
        movq xmm7, rbx
        movq mm1, rbx
        mov dr2, rbx
        mov ecx, 0xc0000082                 /* LSTAR */
        mov eax, ebx
        xor edx, edx
        wrmsr
        mov ecx, 0xc0000101                 /* GS_BASE */
        wrmsr
        mov ecx, 0xc0000103                 /* TSC_AUX */
        wrmsr
    2:  vmmcall
        movq r12, xmm7
        movq r13, mm1
        mov r14, dr2
        mov ecx, 0xc0000082
        rdmsr
        mov r15d, eax
        mov ecx, 0xc0000101
        rdmsr
        mov r10d, eax
        rdtscp
        mov r11d, ecx
        jmp 2b

    /* How long a hypercall takes: R8 before, R9 behind. */
    .global guest_count_hypercall
    guest_count_hypercall:
        rdtsc
        mov r8d, eax
        vmmcall
        rdtsc
        mov r9d, eax
        vmmcall
        jmp guest_count_hypercall

    .global guest_count_submission
    guest_count_submission:
        rdtsc
        mov r8d, eax
        .byte 0x66, 0x0f, 0x38, 0xf8, 0x3e  /* movdir64b rdi, [rsi] */
        rdtsc
        mov r9d, eax
        vmmcall
        jmp guest_count_submission

    /* R8: the last time before an interrupt, at most 3 instructions old. */
    .global guest_count_interrupt
    guest_count_interrupt:
        lgdt [rip + guest_segments]
        lidt [rip + guest_interrupts]
        sti
    3:  rdtsc
        mov r8d, eax
        jmp 3b

    .balign 16
    .global guest_handlers
    guest_handlers:
    .set vector, 0
    .rept 256
        .balign 16
        push vector
        jmp guest_handler
        .set vector, vector + 1
    .endr
    guest_handler:
        /* Reports the vector in R15 and what was pushed in R14, R13. */
        pop r15
        mov r14, [rsp]
        mov r13, [rsp + 8]
        vmmcall
    4:  hlt
        jmp 4b

    .balign 16
    .global guest_timed_handler
    guest_timed_handler:
        rdtsc
        mov r9d, eax
        vmmcall
        iretq

    .balign 8
    guest_segments:
        .word 0x17
        .quad {segments}
    guest_interrupts:
        .word 0xfff
        .quad {interrupts}
    guest_device_interrupts:
        .word 0xfff
        .quad {device}
    guest_no_interrupts:
        .word 0
        .quad 0
    guest_code_end:
    .popsection
    "#,
    segments = const SEGMENTS,
    interrupts = const INTERRUPT_TABLE,
    device = const DEVICE,
);

/// Declares the labels, and gives their addresses in a guest.
macro_rules! labels {
    ($($label:ident = $symbol:ident;)*) => {
        unsafe extern "C" {
            static guest_code: u8;
            static guest_code_end: u8;
            $(static $symbol: u8;)*
        }

        $(
            /// A program, or an interrupt handler.
            pub(crate) fn $label() -> u64 {
                let offset = (&raw const $symbol).addr() - (&raw const guest_code).addr();
                CODE + offset as u64
            }
        )*
    };
}

labels! {
    exits = guest_exits;
    memory = guest_memory;
    jump = guest_jump;
    tables = guest_tables;
    load = guest_load;
    idle = guest_idle;
    closed = guest_closed;
    shadow = guest_shadow;
    priorities = guest_priorities;
    step = guest_step;
    faults = guest_faults;
    undeliverable = guest_undeliverable;
    triple_fault = guest_triple_fault;
    spin = guest_spin;
    registers = guest_registers;
    count_hypercall = guest_count_hypercall;
    count_submission = guest_count_submission;
    count_interrupt = guest_count_interrupt;
    handlers = guest_handlers;
    timed_handler = guest_timed_handler;
}

/// The code of all programs.
pub(crate) fn code() -> &'static [u8] {
    let start = &raw const guest_code;
    let length = (&raw const guest_code_end).addr() - start.addr();
    // SAFETY: the linker keeps the section whole, and nothing writes to it.
    unsafe { slice::from_raw_parts(start, length) }
}
