//! What a submission or an interrupt costs, to the instruction.
//!
//! Costs are read off the time-stamp counter by code that has nothing else between its
//! two readings, so that where it counts instructions (`labbox --icount`) what is left
//! after subtracting the known ones is what the hypervisor spent.
#![expect(unsafe_code, reason = "code of which every instruction is known")]

use core::arch::{asm, global_asm};
use core::time::Duration;

use hwio::Submission;

use crate::clock::ticks;
use crate::dsa::{Instruction, Portal};
use crate::{apic, trap};

/// Between the two readings around an instruction: one instruction, and the reading
/// itself.
const READING: u32 = 2;
/// How often a spinning processor looks at the counter before it gives up.
const SPINS: u32 = 1_000_000;
/// How long a halted one sleeps at most.
const NAP: Duration = Duration::from_millis(20);

/// Hands the 64 bytes of `words` over, and says what that took. The instruction itself
/// is one, if it does not leave the guest.
pub fn of_submission(portal: Portal, words: &[u64; 8], by: Instruction) -> (Submission, u32) {
    let (start, end, retry): (u32, u32, u8);
    let address = portal.address();
    match by {
        Instruction::Movdir64b => {
            // SAFETY: reads 64 bytes, and writes to a device page.
            unsafe {
                asm!("sfence", "rdtsc", "mov r8d, eax",
                    "movdir64b {portal}, [{words}]",
                    "rdtsc",
                    portal = in(reg) address, words = in(reg) words,
                    out("r8d") start, out("eax") end, out("edx") _,
                    options(nostack, preserves_flags));
            }
            retry = 0;
        }
        Instruction::Enqcmd => {
            // SAFETY: as above.
            unsafe {
                asm!("sfence", "rdtsc", "mov r8d, eax",
                    "enqcmd {portal}, [{words}]",
                    "rdtsc", "setz {retry}",
                    portal = in(reg) address, words = in(reg) words,
                    retry = lateout(reg_byte) retry,
                    out("r8d") start, out("eax") end, out("edx") _, options(nostack));
            }
        }
        Instruction::Enqcmds => {
            // SAFETY: as above.
            unsafe {
                asm!("sfence", "rdtsc", "mov r8d, eax",
                    "enqcmds {portal}, [{words}]",
                    "rdtsc", "setz {retry}",
                    portal = in(reg) address, words = in(reg) words,
                    retry = lateout(reg_byte) retry,
                    out("r8d") start, out("eax") end, out("edx") _, options(nostack));
            }
        }
    }
    let submission = match retry {
        0 => Submission::Accepted,
        _ => Submission::Retry,
    };
    (submission, end.wrapping_sub(start).saturating_sub(READING))
}

global_asm!(
    r#"
    .pushsection .text.cost, "ax", @progbits
    /* Any interrupt while one of the pieces of code below waits for it. R9D: when it came;
       R11: where; goes on at R10, with interrupts off. */
    .balign 16
    .global cost_handler
    cost_handler:
        rdtsc
        mov r9d, eax
        mov r11, [rsp]
        mov [rsp], r10
        and dword ptr [rsp + 16], 0xfffffdff
        iretq

    /* extern "sysv64" fn(spins: u32) -> how it ended, in R8 to R11.
       R8D: the last reading before the interrupt. */
    .balign 16
    .global cost_spin
    cost_spin:
        lea r10, [rip + cost_spin_end]
        xor r11d, r11d
        rdtsc
        mov r8d, eax
        sti
    .global cost_spin_loop
    cost_spin_loop:
        rdtsc
        mov r8d, eax
        dec edi
        jnz cost_spin_loop
        cli
    cost_spin_end:
        ret

    .balign 16
    .global cost_halt
    cost_halt:
        lea r10, [rip + cost_halt_end]
        xor r11d, r11d
        sti
        hlt
        cli
    cost_halt_end:
        ret
    .popsection
    "#
);

unsafe extern "C" {
    static cost_handler: u8;
    static cost_spin: u8;
    static cost_spin_loop: u8;
    static cost_halt: u8;
}

/// An interrupt that came while it was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// From before the submission to the first instruction of the handler.
    pub from_submission: u32,
    /// From the last reading of the spinning processor, which is at most four instructions
    /// old, to the same.
    pub to_handler: u32,
    /// Of these what is not the guest's own: from VM exit to VM entry.
    pub outside: u32,
    /// How often the spinning processor had looked at the counter. Nearly never: then the
    /// interrupt was there before, and something else was measured.
    pub readings: u32,
}

/// An interrupt as the code above saw it.
struct Came {
    /// The last reading before.
    last: u32,
    /// The reading in the handler.
    here: u32,
    /// Where the processor was.
    at: u64,
    /// Readings while it spun.
    readings: u32,
}

/// Waits for an interrupt of a device, spinning or halted, and tells the APIC that it has
/// been taken. None if none comes.
fn wait(is_halted: bool) -> Option<Came> {
    let code = if is_halted {
        &raw const cost_halt
    } else {
        &raw const cost_spin
    };
    let (last, here, at, left): (u32, u32, u64, u32);
    // SAFETY: the code above: it changes these registers and flags alone, and comes back
    // with interrupts off, as they are here.
    unsafe {
        asm!("call {code}", code = in(reg) code,
            inout("edi") SPINS => left, out("eax") _, out("edx") _,
            out("r8d") last, out("r9d") here, out("r10") _, out("r11") at);
    }
    if at == 0 {
        return None;
    }
    apic::end_of_interrupt();
    Some(Came {
        last,
        here,
        at,
        readings: SPINS - left,
    })
}

impl Came {
    /// What it cost, `start` being before the submission.
    fn arrival(&self, start: u32) -> Arrival {
        let to_handler = self.here.wrapping_sub(self.last);
        // Where in the loop it was says how much of it had been executed since the
        // reading in R8D; behind RDTSC that is still the one before.
        let loop_start = (&raw const cost_spin_loop).addr() as u64;
        let own = match self.at.wrapping_sub(loop_start) {
            0 => 3,
            2 => 4,
            5 => 1,
            _ => 2,
        };
        Arrival {
            from_submission: self.here.wrapping_sub(start),
            to_handler,
            outside: to_handler.saturating_sub(1 + own),
            readings: self.readings,
        }
    }
}

/// The low half of the time-stamp counter.
fn ticks_low() -> u32 {
    let [a, b, c, d, ..] = ticks().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Submits, and waits for the interrupt of that, spinning or halted. None if none comes.
/// No other device may interrupt meanwhile.
pub fn of_interrupt(
    portal: Portal,
    words: &[u64; 8],
    by: Instruction,
    is_halted: bool,
) -> Option<Arrival> {
    if is_halted {
        apic::start_timer(NAP);
    }
    trap::load_for_costs(&raw const cost_handler);
    let start = ticks_low();
    portal.submit_words(words, by);
    let came = wait(is_halted);
    trap::load();
    Some(came?.arrival(start))
}

/// Spins until an interrupt comes that somebody else caused, and says what it cost; its
/// `from_submission` means nothing. None if none comes.
pub fn of_interrupt_from_elsewhere() -> Option<Arrival> {
    trap::load_for_costs(&raw const cost_handler);
    let came = wait(false);
    trap::load();
    Some(came?.arrival(0))
}
