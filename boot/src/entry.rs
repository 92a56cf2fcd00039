//! The way from a PVH loader to 64-bit Rust.
//!
//! QEMU's `-kernel` (and Xen) find the note in the ELF file and jump to its
//! address in 32-bit protected mode: flat segments, no paging, interrupts off,
//! EBX pointing at the start information. What happens here is the shortest way
//! from there to [`rust_entry`], with the low 4 GiB mapped one to one and once
//! more where the kernel wants its direct map. The kernel replaces descriptors
//! and page tables by its own.
//! [Xen, "x86/HVM direct boot ABI (PVH)"]
#![expect(
    unsafe_code,
    reason = "entry code, and reading what the loader left in memory"
)]

use core::arch::global_asm;
use core::panic::PanicInfo;
use core::slice;

use kernel::arch::Handover;
use kernel::mm::PhysRange;
use kernel::mm::direct_map::{BOOT_DIRECT_MAP_END, DIRECT_MAP};
use x86_64::registers::control::{Cr0Flags, Cr4Flags};
use x86_64::registers::model_specific::EferFlags;

use crate::layout;
use crate::pvh::{self, LoaderMemory};

/// `XEN_ELFNOTE_PHYS32_ENTRY`: the note that holds the 32-bit entry address.
const NOTE_PHYS32_ENTRY: u32 = 18;
/// Leaf 0x8000_0001, EDX: the processor has 64-bit mode.
const CPUID_LONG_MODE: u32 = 1 << 29;
const MSR_EFER: u32 = 0xc000_0080;
/// Present, writable.
const TABLE: u32 = 0x3;
/// Present, writable, 2 MiB page.
const LARGE_PAGE: u32 = 0x83;

/// What the tables below map, one to one and in the kernel's direct map.
const MAPPED_BYTES: u64 = BOOT_DIRECT_MAP_END;
/// Where in the top-level table the direct map begins.
const DIRECT_MAP_ENTRY: u64 = DIRECT_MAP >> 39 & 0x1ff;

/// The flags fit into the halves of the registers that 32-bit code can write.
const fn low_half(flags: u64) -> u32 {
    assert!(flags >> 32 == 0);
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    {
        flags as u32
    }
}

const CR0: u32 = low_half(
    Cr0Flags::PROTECTED_MODE_ENABLE
        .union(Cr0Flags::WRITE_PROTECT)
        .union(Cr0Flags::NUMERIC_ERROR)
        .union(Cr0Flags::PAGING)
        .bits(),
);

global_asm!(
    r#"
    .pushsection .note.Xen, "a", @note
    .balign 4
    .long 4, 4, {note}
    .asciz "Xen"
    .long pvh_start
    .popsection

    .pushsection .bss.boot, "aw", @nobits
    .balign 4096
    boot_pml4: .skip 4096
    boot_pdpt: .skip 4096
    boot_directories: .skip 4 * 4096
    .popsection

    .pushsection .rodata.boot, "a", @progbits
    .balign 8
    boot_gdt:
        .quad 0
        .quad 0x00af9b000000ffff    /* 0x08: 64-bit code */
        .quad 0x00cf93000000ffff    /* 0x10: data */
    boot_gdt_pointer:
        .word . - boot_gdt - 1
        .long boot_gdt
    boot_no_long_mode:
        .asciz "weir: cannot run here: the processor has no 64-bit mode\r\n"
    .popsection

    .pushsection .text.boot, "ax", @progbits
    .code32
    .global pvh_start
    pvh_start:
        cld
        mov ebp, ebx
        mov edi, offset __bss_start
        mov ecx, offset __bss_end
        sub ecx, edi
        shr ecx, 2
        xor eax, eax
        rep stosd
        mov esp, offset __stack_end

        mov eax, 0x80000000
        cpuid
        cmp eax, 0x80000001
        jb no_long_mode
        mov eax, 0x80000001
        cpuid
        test edx, {cpuid_long_mode}
        jz no_long_mode

        /* 2,048 pages of 2 MiB, at two places. */
        mov edi, offset boot_directories
        mov eax, {large_page}
        mov ecx, 2048
    2:  mov [edi], eax
        add edi, 8
        add eax, 0x200000
        dec ecx
        jnz 2b
        mov edi, offset boot_pdpt
        mov eax, offset boot_directories
        or eax, {table}
        mov ecx, 4
    3:  mov [edi], eax
        add edi, 8
        add eax, 4096
        dec ecx
        jnz 3b
        mov eax, offset boot_pdpt
        or eax, {table}
        mov [boot_pml4], eax
        mov [boot_pml4 + 8 * {direct_map_entry}], eax

        mov eax, offset boot_pml4
        mov cr3, eax
        mov eax, cr4
        or eax, {cr4}
        mov cr4, eax
        mov ecx, {efer}
        rdmsr
        or eax, {long_mode}
        wrmsr
        mov eax, {cr0}
        mov cr0, eax

        lgdt [boot_gdt_pointer]
        push 8
        mov eax, offset long_start
        push eax
        retf

        /* Says so on COM1, at whatever speed it is set to, and stops. */
    no_long_mode:
        mov esi, offset boot_no_long_mode
    4:  lodsb
        test al, al
        jz 5f
        mov edx, 0x3f8
        out dx, al
        jmp 4b
    5:  hlt
        jmp 5b

    .code64
    long_start:
        mov eax, 16
        mov ds, eax
        mov es, eax
        mov ss, eax
        xor eax, eax
        mov fs, eax
        mov gs, eax
        mov esp, offset __stack_end
        mov edi, ebp
        xor ebp, ebp
        call {rust_entry}
        ud2
    .popsection
    "#,
    note = const NOTE_PHYS32_ENTRY,
    cpuid_long_mode = const CPUID_LONG_MODE,
    large_page = const LARGE_PAGE,
    table = const TABLE,
    direct_map_entry = const DIRECT_MAP_ENTRY,
    cr0 = const CR0,
    cr4 = const low_half(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits()),
    efer = const MSR_EFER,
    long_mode = const low_half(EferFlags::LONG_MODE_ENABLE.bits()),
    rust_entry = sym rust_entry,
);

unsafe extern "Rust" {
    /// The program, by [`crate::main!`].
    safe fn weir_main(handover: Handover) -> !;
}

/// Memory below 4 GiB, as the loader left it.
#[derive(Debug)]
struct IdentityMapped;

impl LoaderMemory for IdentityMapped {
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]> {
        let range = PhysRange::from_parts(address, length)?;
        let in_image = range.overlaps(layout::image().whole());
        if address == 0 || range.end().as_u64() > MAPPED_BYTES || in_image {
            return None;
        }
        let length = usize::try_from(length).ok()?;
        // SAFETY: 1. The range is mapped one to one and is not null. 2. Nothing
        // writes to it while `rust_entry` reads: there is one processor and no
        // Rust object lives outside of the image. 3. Whatever bytes are there
        // are valid bytes.
        Some(unsafe { slice::from_raw_parts(address as *const u8, length) })
    }
}

/// Called once, by the entry code.
extern "sysv64" fn rust_entry(start_info: u64) -> ! {
    kernel::console::init();
    match pvh::read(&IdentityMapped, start_info, layout::image()) {
        Ok(info) => {
            // SAFETY: called once, by the code above, which leaves the processor
            // so and makes these tables. What the loader says of memory is all
            // that there is to know; the image is where the linker put it.
            let handover = unsafe { Handover::new(layout::keep(info)) };
            weir_main(handover)
        }
        Err(error) => kernel::refuse(&error),
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    kernel::panic(info)
}
