//! Starting the other processors, and giving them something to do.
//!
//! A processor that is started begins in real mode at a page of low memory. The
//! code there goes straight to 64-bit mode with the tables that `boot` made,
//! which map the low 4 GiB one to one, and from there to the kernel's own tables
//! and to [`started`]. One processor is started after the other, so one page
//! and one set of [`Parameters`] will do.

use alloc::vec::Vec;
use core::arch::global_asm;
use core::hint;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::PhysAddr;
use x86_64::instructions::interrupts;
use x86_64::registers::control::{Cr0, Cr4Flags};
use x86_64::registers::model_specific::EferFlags;

use super::percpu::{self, Cpu};
use super::trap::{self, WAKE_VECTOR};
use super::{apic, clock};
use crate::mm::{self, OutOfMemory, PAGE_SIZE, address_space, direct_map};
use crate::refusal::Refusal;
use crate::warn;

/// After INIT, before start-up. [Intel SDM, vol. 3, 10.4.4.1 "Typical BSP
/// Initialization Sequence"]
const INIT_NS: u64 = 10_000_000;
/// Between the two start-ups.
const START_UP_NS: u64 = 200_000;
/// How long a processor may take to come up.
const ONLINE_NS: u64 = 100_000_000;
/// Pages of a processor's stack.
const STACK_PAGES: u64 = 16;

/// Where in the low page the parameters begin.
const PARAMETERS: usize = 8;

global_asm!(
    r#"
    .pushsection .rodata.smp, "a", @progbits
    .balign 16
    /* Copied to a page of low memory. CS is that page, IP is 0. */
    .code16
    .global ap_start, ap_long, ap_end
    ap_start:
        jmp ap_real
        .skip {parameters} - (. - ap_start)
        .skip {size}
    ap_real:
        cli
        cld
        mov ax, cs
        mov ds, ax
        lgdt [{parameters} + {gdt_limit}]
        mov eax, [{parameters} + {cr4}]
        mov cr4, eax
        mov eax, [{parameters} + {cr3}]
        mov cr3, eax
        mov ecx, 0xc0000080             /* EFER */
        rdmsr
        or eax, {efer}
        wrmsr
        mov eax, [{parameters} + {cr0}]
        mov cr0, eax
        .byte 0x66, 0xff, 0x2e          /* jmp dword far [...] */
        .word {parameters} + {far_offset}

    .code64
    ap_long:
        mov eax, 0x10
        mov ss, eax
        xor eax, eax
        mov ds, eax
        mov es, eax
        mov fs, eax
        mov gs, eax
        mov rcx, [rip + ap_start + {parameters} + {root}]
        mov rdx, [rip + ap_start + {parameters} + {stack}]
        mov rdi, [rip + ap_start + {parameters} + {cpu}]
        mov eax, offset ap_image
        jmp rax
    ap_end:
    .popsection

    .pushsection .text.smp, "ax", @progbits
    /* In the image, which both sets of tables map. The low page is in those of
       `boot` only, and the stack in the kernel's. */
    ap_image:
        mov cr3, rcx
        mov rsp, rdx
        xor ebp, ebp
        call {started}
        ud2
    .popsection
    "#,
    parameters = const PARAMETERS,
    size = const size_of::<Parameters>(),
    gdt_limit = const offset_of!(Parameters, gdt_limit),
    far_offset = const offset_of!(Parameters, far_offset),
    cr0 = const offset_of!(Parameters, cr0),
    cr3 = const offset_of!(Parameters, cr3),
    cr4 = const offset_of!(Parameters, cr4),
    stack = const offset_of!(Parameters, stack),
    cpu = const offset_of!(Parameters, cpu),
    root = const offset_of!(Parameters, root),
    started = sym started,
    efer = const EferFlags::LONG_MODE_ENABLE.union(EferFlags::NO_EXECUTE_ENABLE).bits(),
);

unsafe extern "C" {
    static ap_start: u8;
    static ap_long: u8;
    static ap_end: u8;
}

/// What the code in the low page reads.
#[repr(C)]
struct Parameters {
    /// Nothing, 64-bit code, data.
    gdt: [u64; 3],
    _padding: u16,
    /// The operand of LGDT: limit and address of `gdt`.
    gdt_limit: u16,
    gdt_base: u32,
    /// The operand of the far jump: address and selector of 64-bit code.
    far_offset: u32,
    far_selector: u32,
    cr0: u64,
    /// The tables of `boot`, below 4 GiB.
    cr3: u64,
    cr4: u64,
    stack: u64,
    cpu: *const Cpu,
    /// The kernel's tables.
    root: u64,
}

/// The processor that is being started sets this.
static ONLINE: AtomicBool = AtomicBool::new(false);

/// Starts every processor in `apic_ids` but the one that runs this.
///
/// One that does not come up is left out, with a warning.
///
/// # Errors
/// If there is no memory to start them with.
///
/// # Safety
/// To be called once, by the boot processor, with the APIC IDs of processors
/// that run nothing, and while the tables at `boot_tables` map low memory and
/// the image one to one.
pub(super) unsafe fn start(apic_ids: &[u32], boot_tables: PhysAddr) -> Result<(), Refusal> {
    let boot = percpu::current();
    let mut cpus = Vec::from([boot]);
    let others: Vec<u32> = apic_ids
        .iter()
        .copied()
        .filter(|&id| id != boot.apic_id)
        .collect();
    if !others.is_empty() {
        let page = mm::low_page().ok_or(Refusal::NoLowMemory)?;
        for &id in &others {
            // SAFETY: the caller says that the processor runs nothing.
            unsafe { apic::send_init(id) };
        }
        clock::wait(INIT_NS);
        for id in others {
            let cpu = Cpu::new(cpus.len(), id)?;
            // SAFETY: the caller's promise, and the processor waits for it.
            if unsafe { start_one(cpu, page, boot_tables)? } {
                cpus.push(cpu);
            } else {
                warn!("smp", "processor did not start apic_id={id:#x}");
            }
        }
    }
    percpu::set_all(cpus);
    Ok(())
}

/// Starts one processor; false if it does not answer.
///
/// # Safety
/// As for [`start`]; the processor has had its INIT.
unsafe fn start_one(
    cpu: &'static Cpu,
    page: PhysAddr,
    boot_tables: PhysAddr,
) -> Result<bool, OutOfMemory> {
    let base = u32::try_from(page.as_u64()).expect("the page is in low memory");
    let parameters = Parameters {
        gdt: [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff],
        _padding: 0,
        gdt_limit: 3 * 8 - 1,
        gdt_base: base + low_offset(PARAMETERS) + low_offset(offset_of!(Parameters, gdt)),
        far_offset: base + low_offset((&raw const ap_long).addr() - (&raw const ap_start).addr()),
        far_selector: 8,
        cr0: Cr0::read_raw(),
        cr3: boot_tables.as_u64(),
        // What 64-bit mode needs; `started` sets the rest.
        cr4: Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits(),
        stack: address_space::map_stack(STACK_PAGES)?.as_u64(),
        cpu,
        root: address_space::root().as_u64(),
    };
    // SAFETY: the page is nobody else's, and no processor is in it: those that
    // were started from it have left.
    unsafe { write_low_page(page, parameters) };
    ONLINE.store(false, Ordering::SeqCst);
    let [vector, ..] = (page.as_u64() / PAGE_SIZE).to_le_bytes();
    for _ in 0..2 {
        // SAFETY: the code is there.
        unsafe { apic::send_start_up(cpu.apic_id, vector) };
        clock::wait(START_UP_NS);
        if ONLINE.load(Ordering::SeqCst) {
            return Ok(true);
        }
    }
    let start = clock::now();
    while !ONLINE.load(Ordering::SeqCst) {
        if clock::now().wrapping_sub(start) > clock::ticks(ONLINE_NS) {
            return Ok(false);
        }
        hint::spin_loop();
    }
    Ok(true)
}

/// An offset into the low page.
fn low_offset(offset: impl TryInto<u16>) -> u32 {
    let offset = offset.try_into().ok();
    offset.expect("everything is in one page").into()
}

/// Puts code and parameters into the low page.
///
/// # Safety
/// The page must be nobody else's.
unsafe fn write_low_page(page: PhysAddr, parameters: Parameters) {
    let length = (&raw const ap_end).addr() - (&raw const ap_start).addr();
    assert!(length <= 4096, "the code fits into its page");
    let target = direct_map::pointer(page).as_ptr();
    // SAFETY: the code is of that length, and so much fits into the page.
    unsafe { ptr::copy_nonoverlapping(&raw const ap_start, target, length) };
    // SAFETY: the parameters' place is within the copy, and aligned.
    let place = unsafe { target.add(PARAMETERS) }.cast::<Parameters>();
    // SAFETY: as above.
    unsafe { place.write(parameters) };
}

/// Where a started processor arrives in Rust.
///
/// # Safety
/// `cpu` is this processor's own, and its tables are the kernel's.
unsafe extern "sysv64" fn started(cpu: &'static Cpu) -> ! {
    address_space::protect();
    // SAFETY: the caller's promise.
    unsafe { super::init_processor(cpu) };
    ONLINE.store(true, Ordering::SeqCst);
    idle()
}

/// Waits for something to do, and does it, for ever.
pub fn idle() -> ! {
    let cpu = percpu::current();
    loop {
        interrupts::disable();
        let call = cpu.call.lock().take();
        match call {
            Some(call) => call(),
            None => trap::wait(),
        }
    }
}

/// Gives processor `index` something to do when it is idle next. The boot
/// processor is idle only if it called [`idle`] itself.
///
/// False if it has not begun with what it was given before, or if there is no
/// such processor.
pub fn call(index: usize, function: fn()) -> bool {
    let Some(cpu) = percpu::all().get(index) else {
        return false;
    };
    let mut slot = cpu.call.lock();
    if slot.is_some() {
        return false;
    }
    *slot = Some(function);
    drop(slot);
    wake(index);
    true
}

/// Wakes a processor that halts, or makes it leave its guest.
pub fn wake(index: usize) {
    if let Some(cpu) = percpu::all().get(index) {
        apic::send(cpu.apic_id, WAKE_VECTOR);
    }
}
