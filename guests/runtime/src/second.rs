//! The second virtual processor.
//!
//! It begins in real mode at a page of low memory. The code there goes straight to
//! 64-bit mode with the page tables of the first.
#![expect(unsafe_code, reason = "starting a processor")]

use core::arch::global_asm;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use spin::Mutex;
use x86_64::instructions::{hlt, interrupts};
use x86_64::registers::control::Cr3;

use crate::entry::{CR0, CR4, EFER};
use crate::{apic, clock, trap};

/// Its APIC ID.
pub const APIC_ID: u8 = 1;
/// The page it starts in. What the loader left in low memory has been read by then.
const PAGE: u64 = 0x8000;
/// Between INIT and start-up, and between two of those. [Intel SDM, vol. 3, 10.4.4.1
/// "Typical BSP Initialization Sequence"]
const INIT: Duration = Duration::from_millis(10);
const START_UP: Duration = Duration::from_micros(200);
/// How long it may take to come up.
const ONLINE: Duration = Duration::from_secs(2);

/// What it runs.
static WORK: Mutex<Option<fn()>> = Mutex::new(None);
static IS_ONLINE: AtomicBool = AtomicBool::new(false);

/// Where in the low page the address of the page tables is.
const ROOT: usize = 8;

global_asm!(
    r#"
    .pushsection .rodata.second, "a", @progbits
    .balign 16
    /* Copied to a page of low memory. CS is that page, IP is 0. */
    .code16
    .global second_start, second_end
    second_start:
        jmp 2f
        .skip {root} - (. - second_start)
        .long 0                         /* the page tables */
        .word 3 * 8 - 1                 /* the operand of LGDT */
        .long boot_gdt
    2:  cli
        cld
        mov ax, cs
        mov ds, ax
        lgdt [{gdt_pointer}]
        mov eax, {cr4}
        mov cr4, eax
        mov eax, [{root}]
        mov cr3, eax
        mov ecx, 0xc0000080             /* EFER */
        rdmsr
        or eax, {efer}
        wrmsr
        mov eax, {cr0}
        mov cr0, eax
        .byte 0x66, 0xea                /* jmp far, 32-bit offset */
        .long second_long
        .word 8
    second_end:
    .popsection

    .pushsection .text.second, "ax", @progbits
    .code64
    second_long:
        mov eax, 16
        mov ds, eax
        mov es, eax
        mov ss, eax
        xor eax, eax
        mov fs, eax
        mov gs, eax
        mov esp, offset __second_stack_end
        xor ebp, ebp
        call {arrived}
        ud2
    .popsection
    "#,
    cr0 = const CR0,
    cr4 = const CR4,
    efer = const EFER,
    root = const ROOT,
    gdt_pointer = const ROOT + 4,
    arrived = sym arrived,
);

unsafe extern "C" {
    static second_start: u8;
    static second_end: u8;
}

/// Starts the second processor with `work`; when that returns, it halts for good.
/// False if there is none, or if it does not come up.
///
/// # Panics
/// If it has been started before.
pub fn start(work: fn()) -> bool {
    let before = WORK.lock().replace(work);
    assert!(before.is_none(), "the second processor was started before");
    write_page();
    // SAFETY: it runs nothing yet.
    unsafe { apic::send_init(APIC_ID.into()) };
    wait(INIT);
    for _ in 0..2 {
        let [page, ..] = (PAGE >> 12).to_le_bytes();
        // SAFETY: the code is there.
        unsafe { apic::send_start_up(APIC_ID.into(), page) };
        wait(START_UP);
        if IS_ONLINE.load(Ordering::SeqCst) {
            return true;
        }
    }
    clock::spin_until(ONLINE, || IS_ONLINE.load(Ordering::SeqCst))
}

fn wait(time: Duration) {
    clock::spin_until(time, || false);
}

/// Puts the code, and the address of the page tables, into the low page.
fn write_page() {
    let start = &raw const second_start;
    let length = (&raw const second_end).addr() - start.addr();
    assert!(length <= 4096, "the code fits into its page");
    let target: *mut u8 = ptr::with_exposed_provenance_mut(0x8000);
    // SAFETY: the code is of that length, the page is RAM that nobody uses.
    unsafe { ptr::copy_nonoverlapping(start, target, length) };
    let root = target.wrapping_add(ROOT);
    let tables = Cr3::read_raw().0.start_address().as_u64();
    let tables = u32::try_from(tables).expect("the tables are in the image");
    // SAFETY: within the copy, and aligned.
    unsafe { root.cast::<u32>().write_volatile(tables) };
}

/// Where the second processor arrives in Rust.
extern "sysv64" fn arrived() -> ! {
    trap::load();
    apic::init_processor();
    let work = *WORK.lock();
    IS_ONLINE.store(true, Ordering::SeqCst);
    if let Some(work) = work {
        work();
    }
    loop {
        interrupts::disable();
        hlt();
    }
}
