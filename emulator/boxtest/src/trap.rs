//! Exceptions and interrupts.
//!
//! All 256 vectors arrive in [`dispatch`] with the interrupted state in a
//! [`Frame`]. An exception inside of a program under test (see
//! [`crate::program`]) ends that program and is its result; anywhere else it is
//! a bug of this kernel. Interrupts are counted by vector.
#![expect(unsafe_code, reason = "the interrupt table and its entry code")]

use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::{Mutex, Once};
use x86_64::VirtAddr;
use x86_64::instructions::tables;
use x86_64::registers::control::Cr2;
use x86_64::registers::segmentation::{CS, SS, Segment};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use crate::apic;
use crate::memory::{PAGE_SIZE, Pages};

pub(crate) const INVALID_OPCODE: u64 = 6;
pub(crate) const GENERAL_PROTECTION: u64 = 13;
pub(crate) const PAGE_FAULT: u64 = 14;
/// The first vector that is not reserved for exceptions.
const FIRST_INTERRUPT: u64 = 32;
/// The software interrupt by which a program under test ends.
pub(crate) const END_OF_PROGRAM: u64 = 0x80;

/// The interrupted state, in the order in which the entry code pushes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Frame {
    pub(crate) r15: u64,
    pub(crate) r14: u64,
    pub(crate) r13: u64,
    pub(crate) r12: u64,
    pub(crate) r11: u64,
    pub(crate) r10: u64,
    pub(crate) r9: u64,
    pub(crate) r8: u64,
    pub(crate) rbp: u64,
    pub(crate) rdi: u64,
    pub(crate) rsi: u64,
    pub(crate) rdx: u64,
    pub(crate) rcx: u64,
    pub(crate) rbx: u64,
    pub(crate) rax: u64,
    pub(crate) vector: u64,
    pub(crate) error: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

global_asm!(
    r#"
    .pushsection .bss.trap, "aw", @nobits
    .balign 8
    /* The stack to return to when a program under test ends. */
    program_return: .skip 8
    .popsection

    .pushsection .text.trap, "ax", @progbits
    /* 256 entries of 16 bytes. Those vectors without an error code push 0. */
    .balign 16
    trap_entries:
    .set vector, 0
    .rept 256
        .balign 16
        .if vector <> 8 && vector <> 10 && vector <> 11 && vector <> 12 && vector <> 13 && vector <> 14 && vector <> 17 && vector <> 21
            .byte 0x6a, 0
        .endif
        .byte 0x68
        .long vector
        jmp trap_common
        .set vector, vector + 1
    .endr

    trap_common:
        push rax
        push rbx
        push rcx
        push rdx
        push rsi
        push rdi
        push rbp
        push r8
        push r9
        push r10
        push r11
        push r12
        push r13
        push r14
        push r15
        cld
        mov rdi, rsp
        call {dispatch}
        test al, al
        jnz program_end

    trap_return:
        pop r15
        pop r14
        pop r13
        pop r12
        pop r11
        pop r10
        pop r9
        pop r8
        pop rbp
        pop rdi
        pop rsi
        pop rdx
        pop rcx
        pop rbx
        pop rax
        add rsp, 16
        iretq

    /* extern "sysv64" fn(state: *const Frame): becomes that state. */
    .global program_start
    program_start:
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        mov [rip + program_return], rsp
        mov rsp, rdi
        jmp trap_return

    program_end:
        mov rsp, [rip + program_return]
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret
    .popsection
    "#,
    dispatch = sym dispatch,
);

unsafe extern "sysv64" {
    static trap_entries: u8;
    fn program_start(state: *const Frame);
}

/// How a program under test ended: the state it left, and CR2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) frame: Frame,
    pub(crate) cr2: u64,
}

#[derive(Debug)]
enum Program {
    None,
    Running,
    Ended(Ended),
}

static PROGRAM: Mutex<Program> = Mutex::new(Program::None);
#[expect(
    clippy::declare_interior_mutable_const,
    reason = "the initial value of each counter"
)]
const ZERO: AtomicU32 = AtomicU32::new(0);
static INTERRUPTS: [AtomicU32; 256] = [ZERO; 256];

/// The selectors of the global descriptor table.
#[derive(Debug)]
pub(crate) struct Selectors {
    pub(crate) kernel_code: SegmentSelector,
    pub(crate) kernel_data: SegmentSelector,
    pub(crate) user_code: SegmentSelector,
    pub(crate) user_data: SegmentSelector,
    task: SegmentSelector,
}

static TASK: Once<TaskStateSegment> = Once::new();
static DESCRIPTORS: Once<(GlobalDescriptorTable, Selectors)> = Once::new();

/// Loads the descriptor and interrupt tables.
pub(crate) fn init() {
    let stack = Pages::allocate(4);
    let task = TASK.call_once(|| {
        let mut task = TaskStateSegment::new();
        task.privilege_stack_table[0] = VirtAddr::new(stack.address() + 4 * PAGE_SIZE);
        task
    });
    let (descriptors, selectors) = DESCRIPTORS.call_once(|| {
        let mut table = GlobalDescriptorTable::new();
        let selectors = Selectors {
            kernel_code: table.append(Descriptor::kernel_code_segment()),
            kernel_data: table.append(Descriptor::kernel_data_segment()),
            user_data: table.append(Descriptor::user_data_segment()),
            user_code: table.append(Descriptor::user_code_segment()),
            task: table.append(Descriptor::tss_segment(task)),
        };
        (table, selectors)
    });
    descriptors.load();
    // SAFETY: a 64-bit code segment of CPL 0 in the table just loaded.
    unsafe { CS::set_reg(selectors.kernel_code) };
    // SAFETY: a data segment of CPL 0 in the table just loaded.
    unsafe { SS::set_reg(selectors.kernel_data) };
    // SAFETY: the task segment in the table just loaded, never loaded before.
    unsafe { tables::load_tss(selectors.task) };

    let gates = Pages::one();
    for vector in 0..256 {
        let entry = (&raw const trap_entries).addr() as u64 + vector * 16;
        let [low, high] = gate(entry, selectors.kernel_code, vector == END_OF_PROGRAM);
        gates.write_words(vector * 16, &[low, high]);
    }
    let pointer = DescriptorTablePointer {
        limit: 0xfff,
        base: VirtAddr::new(gates.address()),
    };
    // SAFETY: every gate leads to its entry code above, and pages are for good.
    unsafe { tables::lidt(&pointer) };
}

/// An interrupt gate. [Intel SDM, vol. 3, 7.14.1 "64-Bit Mode IDT"]
fn gate(entry: u64, code: SegmentSelector, from_user: bool) -> [u64; 2] {
    const PRESENT: u64 = 1 << 47;
    const INTERRUPT_GATE: u64 = 0xe << 40;
    let privilege = if from_user { 3 << 45 } else { 0 };
    [
        entry & 0xffff
            | u64::from(code.0) << 16
            | INTERRUPT_GATE
            | privilege
            | PRESENT
            | (entry >> 16 & 0xffff) << 48,
        entry >> 32,
    ]
}

/// The selectors that programs under test run with.
pub(crate) fn selectors() -> &'static Selectors {
    &DESCRIPTORS.get().expect("the tables are loaded first").1
}

/// Takes on the state `frame` until an exception or [`END_OF_PROGRAM`].
///
/// # Safety
/// The code at `frame.rip` must not write to memory that belongs to Rust.
pub(crate) unsafe fn run(frame: &Frame) -> Ended {
    *PROGRAM.lock() = Program::Running;
    // SAFETY: the caller answers for the code; `dispatch` brings us back here
    // with callee-saved registers and the stack as they were.
    unsafe { program_start(frame) };
    match core::mem::replace(&mut *PROGRAM.lock(), Program::None) {
        Program::Ended(ended) => ended,
        state => panic!("a program returned while {state:?}"),
    }
}

/// How many interrupts of this vector have arrived.
pub(crate) fn interrupts(vector: u8) -> u32 {
    INTERRUPTS
        .get(usize::from(vector))
        .map_or(0, |count| count.load(Ordering::Acquire))
}

/// How many interrupts have arrived at all.
pub(crate) fn all_interrupts() -> u32 {
    INTERRUPTS
        .iter()
        .map(|count| count.load(Ordering::Acquire))
        .sum()
}

/// Called by the entry code. True ends the program under test.
extern "sysv64" fn dispatch(frame: &Frame) -> bool {
    let [vector, ..] = frame.vector.to_le_bytes();
    if frame.vector >= FIRST_INTERRUPT && frame.vector != END_OF_PROGRAM {
        if let Some(count) = INTERRUPTS.get(usize::from(vector)) {
            count.fetch_add(1, Ordering::Release);
        }
        apic::end_of_interrupt();
        return false;
    }
    let mut program = PROGRAM.lock();
    if !matches!(*program, Program::Running) {
        panic!(
            "exception {} (error {:#x}, CR2 {:#x}) at {:#x}",
            frame.vector,
            frame.error,
            Cr2::read_raw(),
            frame.rip
        );
    }
    *program = Program::Ended(Ended {
        frame: *frame,
        cr2: Cr2::read_raw(),
    });
    true
}
