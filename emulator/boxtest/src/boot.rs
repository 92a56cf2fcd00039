//! From the loader to [`crate::kernel_main`].
//!
//! QEMU's `-kernel` finds the PVH note in this ELF file and jumps to its
//! address in 32-bit protected mode: flat segments, no paging, interrupts off,
//! EBX pointing at the start information. What happens here is the shortest way
//! from there to 64-bit code with the low 4 GiB mapped one to one.
//! [Xen, "x86/HVM direct boot ABI (PVH)"]
#![expect(
    unsafe_code,
    reason = "the entry point, and reading what the loader left in memory"
)]

use core::arch::global_asm;
use core::ffi::{CStr, c_char};

use crate::memory::Window;

/// `XEN_ELFNOTE_PHYS32_ENTRY`: the note that holds the 32-bit entry address.
const NOTE_PHYS32_ENTRY: u32 = 18;

const CR0_PROTECTION: u32 = 1 << 0;
/// Supervisor writes obey read-only pages, which the fault checks rely on.
const CR0_WRITE_PROTECT: u32 = 1 << 16;
const CR0_PAGING: u32 = 1 << 31;
const CR4_PHYSICAL_ADDRESS_EXTENSION: u32 = 1 << 5;
const MSR_EFER: u32 = 0xc000_0080;
const EFER_LONG_MODE: u32 = 1 << 8;
/// Present, writable, 1 GiB page.
const GIB_PAGE: u32 = 0x83;

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
    boot_stack: .skip 0x10000
    boot_stack_top:
    .popsection

    .pushsection .rodata.boot, "a", @progbits
    .balign 8
    boot_gdt:
        .quad 0
        .quad 0x00af9b000000ffff
        .quad 0x00cf93000000ffff
    boot_gdt_pointer:
        .word . - boot_gdt - 1
        .long boot_gdt
    .popsection

    .pushsection .text.boot, "ax", @progbits
    .code32
    .global pvh_start
    pvh_start:
        cld
        mov esi, ebx
        mov edi, offset __bss_start
        mov ecx, offset __bss_end
        sub ecx, edi
        shr ecx, 2
        xor eax, eax
        rep stosd

        mov esp, offset boot_stack_top
        mov eax, offset boot_pdpt
        or eax, 3
        mov [boot_pml4], eax
        mov edi, offset boot_pdpt
        mov eax, {gib_page}
        mov ecx, 4
    2:  mov [edi], eax
        add edi, 8
        add eax, 0x40000000
        dec ecx
        jnz 2b

        mov eax, offset boot_pml4
        mov cr3, eax
        mov eax, cr4
        or eax, {cr4}
        mov cr4, eax
        mov ecx, {efer}
        rdmsr
        or eax, {long_mode}
        wrmsr
        mov eax, cr0
        or eax, {cr0}
        mov cr0, eax

        lgdt [boot_gdt_pointer]
        push 8
        mov eax, offset long_start
        push eax
        retf

    .code64
    long_start:
        mov eax, 16
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov esp, offset boot_stack_top
        mov edi, esi
        call {main}
        ud2
    .popsection
    "#,
    note = const NOTE_PHYS32_ENTRY,
    gib_page = const GIB_PAGE,
    cr0 = const CR0_PROTECTION | CR0_WRITE_PROTECT | CR0_PAGING,
    cr4 = const CR4_PHYSICAL_ADDRESS_EXTENSION,
    efer = const MSR_EFER,
    long_mode = const EFER_LONG_MODE,
    main = sym crate::kernel_main,
);

/// What the loader says about the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BootInfo {
    /// The text behind `-append`.
    pub(crate) command_line: &'static str,
    /// Physical address of the ACPI root pointer.
    pub(crate) rsdp: u64,
}

impl BootInfo {
    const MAGIC: u32 = 0x336e_c578;
    const COMMAND_LINE: u64 = 24;
    const RSDP: u64 = 32;

    const SIZE: u64 = 40;

    /// Reads the `hvm_start_info` structure at `address`.
    pub(crate) fn read(address: u64) -> Self {
        // SAFETY: the loader left the structure in low memory, outside of the
        // image and of the page pool.
        let info = unsafe { Window::new(address, Self::SIZE) };
        assert_eq!(
            info.read_u32(0),
            Self::MAGIC,
            "no PVH start information at {address:#x}"
        );
        let text = info.read_u64(Self::COMMAND_LINE);
        let command_line = if text == 0 {
            ""
        } else {
            // SAFETY: the loader wrote a NUL-terminated string there, in low
            // memory as well, and nothing here writes to it.
            let text = unsafe { CStr::from_ptr(text as *const c_char) };
            text.to_str().expect("the command line is not UTF-8")
        };
        Self {
            command_line,
            rsdp: info.read_u64(Self::RSDP),
        }
    }

    /// The value of `key=value` on the command line.
    pub(crate) fn option(&self, key: &str) -> Option<&'static str> {
        self.command_line
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}
