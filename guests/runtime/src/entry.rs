//! The way from the loader to the guest's own function.
//!
//! The loader jumps to the address in the PVH note in 32-bit protected mode: flat
//! segments, no paging, interrupts off, EBX pointing at the start information.
//! [Xen, "x86/HVM direct boot ABI (PVH)"]
#![expect(
    unsafe_code,
    reason = "entry code, and reading what the loader left in memory"
)]

use core::arch::global_asm;
use core::ops::Range;
use core::panic::PanicInfo;
use core::slice;

use x86_64::registers::control::{Cr0Flags, Cr4Flags};
use x86_64::registers::model_specific::EferFlags;

use crate::console::{self, println};
use crate::hypercall::{self, FAILED_BY_PANIC};
use crate::options::Options;
use crate::platform::Platform;
use crate::start_info::{LoaderMemory, StartInfo};
use crate::{Features, apic, clock, heap, trap};

/// `XEN_ELFNOTE_PHYS32_ENTRY`: the note that holds the 32-bit entry address.
const NOTE_PHYS32_ENTRY: u32 = 18;
const MSR_EFER: u32 = 0xc000_0080;
/// Present, writable.
const TABLE: u32 = 0x3;
/// Present, writable, 2 MiB page; and the same uncached, for devices.
const LARGE_PAGE: u32 = 0x83;
const DEVICE_PAGE: u32 = 0x9b;
/// Pages of 2 MiB below 3 GiB, where RAM may be, and above, where devices are.
const RAM_PAGES: u32 = 3 * 512;
const DEVICE_PAGES: u32 = 512;

/// The flags fit into the halves of the registers that 32-bit code can write.
const fn low_half(flags: u64) -> u32 {
    assert!(flags >> 32 == 0);
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    {
        flags as u32
    }
}

/// CR0 as both processors have it.
pub(crate) const CR0: u32 = low_half(
    Cr0Flags::PROTECTED_MODE_ENABLE
        .union(Cr0Flags::WRITE_PROTECT)
        .union(Cr0Flags::NUMERIC_ERROR)
        .union(Cr0Flags::PAGING)
        .bits(),
);
/// CR4 as both processors have it.
pub(crate) const CR4: u32 = low_half(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits());
/// What is set in EFER on both processors.
pub(crate) const EFER: u32 = low_half(EferFlags::LONG_MODE_ENABLE.bits());

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
    .global boot_pml4, boot_pdpt
    boot_pml4: .skip 4096
    boot_pdpt: .skip 4096
    boot_directories: .skip 4 * 4096
    .popsection

    .pushsection .rodata.boot, "a", @progbits
    .balign 8
    .global boot_gdt
    boot_gdt:
        .quad 0
        .quad 0x00af9b000000ffff    /* 0x08: 64-bit code */
        .quad 0x00cf93000000ffff    /* 0x10: data */
    boot_gdt_pointer:
        .word . - boot_gdt - 1
        .long boot_gdt
    .popsection

    .pushsection .text.boot, "ax", @progbits
    .code32
    .global pvh_start
    pvh_start:
        cli
        cld
        mov ebp, ebx
        mov edi, offset __bss_start
        mov ecx, offset __bss_end
        sub ecx, edi
        shr ecx, 2
        xor eax, eax
        rep stosd
        mov esp, offset __stack_end

        mov edi, offset boot_directories
        mov eax, {large_page}
        mov ecx, {ram_pages}
    2:  mov [edi], eax
        add edi, 8
        add eax, 0x200000
        dec ecx
        jnz 2b
        or eax, {device_page}
        mov ecx, {device_pages}
    3:  mov [edi], eax
        add edi, 8
        add eax, 0x200000
        dec ecx
        jnz 3b
        mov edi, offset boot_pdpt
        mov eax, offset boot_directories
        or eax, {table}
        mov ecx, 4
    4:  mov [edi], eax
        add edi, 8
        add eax, 4096
        dec ecx
        jnz 4b
        mov eax, offset boot_pdpt
        or eax, {table}
        mov [boot_pml4], eax

        mov eax, offset boot_pml4
        mov cr3, eax
        mov eax, {cr4}
        mov cr4, eax
        mov ecx, {msr_efer}
        rdmsr
        or eax, {efer}
        wrmsr
        mov eax, {cr0}
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
    large_page = const LARGE_PAGE,
    device_page = const DEVICE_PAGE,
    ram_pages = const RAM_PAGES,
    device_pages = const DEVICE_PAGES,
    table = const TABLE,
    cr0 = const CR0,
    cr4 = const CR4,
    efer = const EFER,
    msr_efer = const MSR_EFER,
    rust_entry = sym rust_entry,
);

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
}

unsafe extern "Rust" {
    /// What [`main!`](crate::main) defines.
    fn guest_main(guest: &'static Guest) -> u64;
}

/// What a guest starts with.
#[derive(Debug)]
pub struct Guest {
    /// Where it runs.
    pub platform: Platform,
    /// What the processor has.
    pub features: Features,
    /// Its command line.
    pub options: Options<'static>,
    /// Its input file; empty if it has none.
    pub input: &'static [u8],
    /// Where the guest's own memory ends: image, heap and input lie below.
    pub ram_end: u64,
}

static GUEST: spin::Once<Guest> = spin::Once::new();

/// The low 3 GiB, which are mapped one to one.
struct LowMemory {
    image: Range<u64>,
}

impl LoaderMemory for LowMemory {
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]> {
        let end = address.checked_add(length)?;
        let mapped = u64::from(RAM_PAGES) << 21;
        let is_image = address < self.image.end && end > self.image.start;
        if address == 0 || end > mapped || is_image {
            return None;
        }
        // SAFETY: 1. Mapped one to one and, where there is no RAM, read as some number.
        // 2. The image, and all that Rust knows of, is elsewhere; the heap is set up
        // in what the loader says is free.
        Some(unsafe { slice::from_raw_parts(address as *const u8, usize::try_from(length).ok()?) })
    }
}

/// Where 64-bit code begins.
extern "sysv64" fn rust_entry(start_info: u64) -> ! {
    trap::init();
    let features = Features::read();
    let platform = Platform::detect(features);
    console::init();
    clock::init(platform.tsc_khz());
    apic::init(&platform, features);
    let image = (&raw const __image_start).addr() as u64..(&raw const __image_end).addr() as u64;
    let memory: &'static LowMemory = {
        static MEMORY: spin::Once<LowMemory> = spin::Once::new();
        MEMORY.call_once(|| LowMemory { image })
    };
    let info = match StartInfo::read(memory, start_info, memory.image.clone()) {
        Ok(info) => info,
        Err(error) => {
            println!("guest: cannot start: {error}");
            hypercall::finish(hypercall::FAILED_TO_START)
        }
    };
    // SAFETY: free RAM, mapped, that neither image nor input occupies; once.
    unsafe { heap::init(info.free.clone()) };
    let input = info.input.clone().unwrap_or(0..0);
    let input = memory.bytes(input.start, input.end - input.start);
    let guest = GUEST.call_once(|| Guest {
        platform,
        features,
        options: Options::new(heap::keep(info.command_line)),
        input: input.unwrap_or(&[]),
        ram_end: info.ram_end,
    });
    // SAFETY: `main!` defines it with this signature.
    let code = unsafe { guest_main(guest) };
    hypercall::finish(code)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    console::take_over();
    println!("guest: panic: {info}");
    hypercall::finish(FAILED_BY_PANIC)
}
