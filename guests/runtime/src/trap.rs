//! Exceptions and interrupts.
//!
//! All 256 vectors arrive in [`dispatch`] with the interrupted state in a [`Frame`].
//! Interrupts are counted ([`crate::interrupts`]). An exception of an instruction that
//! has a fixup ([`crate::probe`]) is recorded in R11 and goes on behind it; any other
//! is a bug of the guest and ends it.
#![expect(unsafe_code, reason = "the interrupt table and its entry code")]

use core::arch::global_asm;
use core::fmt;
use core::slice;

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables;
use x86_64::registers::control::Cr2;
use x86_64::structures::DescriptorTablePointer;

use crate::console::{self, println};
use crate::hypercall::{self, FAILED_BY_EXCEPTION};
use crate::{interrupt_ends, interrupts};

/// The first vector that is not reserved for exceptions.
const FIRST_INTERRUPT: u64 = 32;
/// The vector of the runtime's timer.
pub(crate) const TIMER_VECTOR: u8 = 0xfe;
/// The vector of the APIC's spurious interrupt.
pub(crate) const SPURIOUS_VECTOR: u8 = 0xff;
/// The selector of 64-bit code in the table that `entry` loads.
const CODE: u64 = 8;

/// The interrupted state, in the order in which the entry code pushes it.
#[repr(C)]
#[derive(Debug)]
struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

global_asm!(
    r#"
    .pushsection .text.trap, "ax", @progbits
    /* 256 entries of 16 bytes. Those vectors without an error code push 0. */
    .balign 16
    .global trap_entries
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
    .popsection
    "#,
    dispatch = sym dispatch,
);

unsafe extern "C" {
    static trap_entries: u8;
    static __fixups_start: Fixup;
    static __fixups_end: Fixup;
}

/// An entry of the table that the linker collects.
#[repr(C)]
struct Fixup {
    /// The instruction that may fault.
    instruction: u64,
    /// Where to go on then.
    resume: u64,
}

/// An exception that an instruction raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Its vector.
    pub vector: u8,
    /// Its error code, 0 if it has none.
    pub error: u32,
}

impl Exception {
    /// Invalid opcode.
    pub const INVALID_OPCODE: u8 = 6;
    /// General protection.
    pub const GENERAL_PROTECTION: u8 = 13;
    /// Page fault.
    pub const PAGE_FAULT: u8 = 14;

    /// What R11 says behind an instruction with a fixup: see [`dispatch`].
    pub(crate) fn from_fixup(word: u64) -> Option<Self> {
        let [vector, _, _, _, a, b, c, d] = word.to_le_bytes();
        (word != NO_EXCEPTION).then_some(Self {
            vector,
            error: u32::from_le_bytes([a, b, c, d]),
        })
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vector {
            Self::INVALID_OPCODE => f.write_str("#UD"),
            Self::GENERAL_PROTECTION => write!(f, "#GP({:#x})", self.error),
            Self::PAGE_FAULT => write!(f, "#PF({:#x})", self.error),
            other => write!(f, "exception {other} ({:#x})", self.error),
        }
    }
}

/// What R11 holds before an instruction with a fixup.
pub(crate) const NO_EXCEPTION: u64 = u64::MAX;

#[repr(C, align(16))]
struct Gates([[u64; 2]; 256]);

static GATES: Once<Gates> = Once::new();
/// The same, but that the interrupts of devices lead elsewhere.
static GATES_FOR_COSTS: Once<Gates> = Once::new();

/// Makes the interrupt table, and loads it.
pub(crate) fn init() {
    GATES.call_once(|| {
        let mut gates = Gates([[0; 2]; 256]);
        let first = (&raw const trap_entries).addr() as u64;
        for (entry, gate_words) in (first..).step_by(16).zip(&mut gates.0) {
            *gate_words = gate(entry);
        }
        gates
    });
    load();
}

/// Loads the interrupt table on this processor.
pub(crate) fn load() {
    if let Some(gates) = GATES.get() {
        load_table(gates);
    }
}

/// Loads a table in which all interrupts but the runtime's timer lead to `handler`, the
/// same for all callers. Interrupts stay off but where `handler` takes them.
pub(crate) fn load_for_costs(handler: *const u8) {
    let gates = GATES_FOR_COSTS.call_once(|| {
        let mut gates = Gates(GATES.get().map_or([[0; 2]; 256], |gates| gates.0));
        let vectors = usize::try_from(FIRST_INTERRUPT).unwrap_or(0)..usize::from(TIMER_VECTOR);
        for gate_words in gates.0.get_mut(vectors).into_iter().flatten() {
            *gate_words = gate(handler.addr() as u64);
        }
        gates
    });
    load_table(gates);
}

fn load_table(gates: &'static Gates) {
    let pointer = DescriptorTablePointer {
        limit: 0xfff,
        base: VirtAddr::from_ptr(gates),
    };
    // SAFETY: every gate leads to its entry code above, and the table is static.
    unsafe { tables::lidt(&pointer) };
}

/// An interrupt gate. [Intel SDM, vol. 3, 7.14.1 "64-Bit Mode IDT"]
fn gate(entry: u64) -> [u64; 2] {
    const PRESENT: u64 = 1 << 47;
    const INTERRUPT_GATE: u64 = 0xe << 40;
    [
        entry & 0xffff | CODE << 16 | INTERRUPT_GATE | PRESENT | (entry >> 16 & 0xffff) << 48,
        entry >> 32,
    ]
}

/// Called by the entry code, with interrupts off.
extern "sysv64" fn dispatch(frame: &mut Frame) {
    let [vector, ..] = frame.vector.to_le_bytes();
    if frame.vector >= FIRST_INTERRUPT {
        match vector {
            SPURIOUS_VECTOR => return,
            TIMER_VECTOR => interrupts::timer_fired(),
            _ => interrupts::arrived(vector),
        }
        interrupt_ends::end();
        return;
    }
    match resume_of(frame.rip) {
        Some(resume) => {
            frame.rip = resume;
            frame.r11 = frame.error << 32 | frame.vector;
        }
        None => {
            console::take_over();
            println!(
                "guest: exception {} (error {:#x}, CR2 {:#x}) at {:#x}",
                frame.vector,
                frame.error,
                Cr2::read_raw(),
                frame.rip
            );
            hypercall::finish(FAILED_BY_EXCEPTION | frame.vector)
        }
    }
}

fn resume_of(rip: u64) -> Option<u64> {
    let start = &raw const __fixups_start;
    let length = ((&raw const __fixups_end).addr() - start.addr()) / size_of::<Fixup>();
    // SAFETY: the linker script puts the entries, and nothing else, between the two.
    let fixups = unsafe { slice::from_raw_parts(start, length) };
    let fixup = fixups.iter().find(|fixup| fixup.instruction == rip)?;
    Some(fixup.resume)
}
