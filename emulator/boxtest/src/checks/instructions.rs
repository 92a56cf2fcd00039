//! MOVDIRI, MOVDIR64B, ENQCMD and ENQCMDS on RAM, at CPL 0 and CPL 3.
//! [Intel SDM, vol. 2, "MOVDIRI", "MOVDIR64B", "ENQCMD", "ENQCMDS"]

mod enqcmd;
mod movdir64b;
mod store64;

use super::arena::{Arena, TARGET, source, target};
use crate::boot::BootInfo;
use crate::cpu::{Features, IA32_PASID, IA32_PASID_VALID};
use crate::encodings::{
    BARE_OPCODE, ENQCMD, ENQCMDS, MOVDIR64B, MOVDIRI_32, MOVDIRI_64, MOVDIRI_66, MOVDIRI_F2,
    MOVDIRI_F3, MOVDIRI_LOCK, MOVDIRI_REGISTER, NOP, RDMSR, WRMSR,
};
use crate::paging::{self, Access};
use crate::program::{Exit, FLAGS_ARITHMETIC, Outcome, Privilege, Registers};
use crate::report::Report;
use crate::trap::{GENERAL_PROTECTION, INVALID_OPCODE};
use crate::{apic, cpu, trap};

/// Page fault error code: the page was present; it was a write; it was CPL 3.
const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;

const INVALID: Outcome = exception(INVALID_OPCODE, 0);
const PROTECTION: Outcome = exception(GENERAL_PROTECTION, 0);

const fn exception(vector: u64, error: u64) -> Outcome {
    Outcome::Exception {
        vector,
        error,
        at: 0,
    }
}

const fn page_fault(error: u64, cr2: u64) -> Outcome {
    Outcome::PageFault { error, cr2, at: 0 }
}

pub(super) fn run(boot: &BootInfo, report: &mut Report) {
    let features = Features::parse(boot.option("have").unwrap_or(""));
    report.equal("cpuid_shows_the_instructions", Features::read(), features);

    let arena = Arena::new();
    x2apic(report);
    absent(report, &arena, features);
    if features.movdiri {
        movdiri(report, &arena);
    }
    if features.movdir64b {
        movdir64b::check(report, &arena);
    }
    if features.enqcmd {
        enqcmd::check(report, &arena);
    }
    if boot.option("clock") == Some("icount") {
        counted(report, &arena, features);
    }
}

/// The x2APIC's registers, which stock QEMU cannot touch under `-icount`.
fn x2apic(report: &mut Report) {
    const VECTOR: u8 = 0x40;
    apic::set_task_priority(0x20);
    report.equal("x2apic_register_reads_back", apic::task_priority(), 0x20);
    apic::set_task_priority(0);
    // Of all registers those of the timer need the time.
    apic::start_timer();
    let first = apic::timer_count();
    let counts_down = cpu::wait_until(|| apic::timer_count() < first);
    report.holds("x2apic_timer_counts_down", counts_down);
    apic::send_to_self(VECTOR);
    let came = cpu::wait_with_interrupts_until(|| trap::interrupts(VECTOR) == 1);
    report.holds("x2apic_interrupts_itself", came);
}

/// What CPUID does not show raises an invalid opcode, whoever asks.
fn absent(report: &mut Report, arena: &Arena, features: Features) {
    let mut check = |name: &str, code: &[u8]| {
        arena.reset();
        for privilege in [Privilege::Kernel, Privilege::User] {
            let exit = arena.submit(privilege, code, target(0), source(0));
            report.equal(
                format_args!("{name}_at_cpl_{}", privilege.level()),
                exit.outcome,
                INVALID,
            );
        }
    };
    if !features.movdiri {
        check("absent_movdiri_is_undefined", MOVDIRI_32);
    }
    if !features.movdir64b {
        check("absent_movdir64b_is_undefined", MOVDIR64B);
    }
    if !features.enqcmd {
        check("absent_enqcmd_is_undefined", ENQCMD);
        check("absent_enqcmds_is_undefined", ENQCMDS);
        for (name, code) in [
            ("absent_ia32_pasid_cannot_be_read", RDMSR),
            ("absent_ia32_pasid_cannot_be_written", WRMSR),
        ] {
            let exit = msr(arena, code, 0);
            report.equal(name, exit.outcome, PROTECTION);
        }
    }
    arena.reset();
    report.equal(
        "opcode_without_its_prefix_is_undefined",
        arena.outcome(BARE_OPCODE, target(0), source(0)),
        (INVALID, None),
    );
}

/// Reads or writes IA32_PASID.
fn msr(arena: &Arena, code: &[u8], value: u64) -> Exit {
    let registers = Registers {
        rcx: u64::from(IA32_PASID),
        rax: value & 0xffff_ffff,
        rdx: value >> 32,
        ..Registers::default()
    };
    arena.sandbox.run(Privilege::Kernel, code, registers)
}

fn movdiri(report: &mut Report, arena: &Arena) {
    const VALUE: u64 = 0x1122_3344_5566_7788;
    let store = |privilege, code: &[u8], target| {
        let registers = Registers {
            rax: VALUE,
            rdi: target,
            flags: FLAGS_ARITHMETIC,
            ..Registers::default()
        };
        arena.sandbox.run(privilege, code, registers)
    };

    arena.reset();
    let exit = store(Privilege::Kernel, MOVDIRI_32, target(0x40));
    report.equal("movdiri_32_completes", exit.outcome, Outcome::Completed);
    report.equal(
        "movdiri_32_stores_eax",
        arena.target.bytes(0x40),
        0x5566_7788_u32.to_le_bytes(),
    );
    report.equal(
        "movdiri_32_stores_nothing_else",
        arena.changed(),
        Some((0x40, 0x43)),
    );
    report.equal(
        "movdiri_keeps_the_flags",
        exit.registers.flags,
        FLAGS_ARITHMETIC,
    );

    arena.reset();
    let exit = store(Privilege::User, MOVDIRI_64, target(0x123));
    report.equal(
        "movdiri_64_at_cpl_3_completes",
        exit.outcome,
        Outcome::Completed,
    );
    report.equal(
        "movdiri_64_stores_rax_unaligned",
        (arena.target.bytes(0x123), arena.changed()),
        (VALUE.to_le_bytes(), Some((0x123, 0x12a))),
    );

    arena.reset();
    for (name, code) in [
        ("movdiri_to_a_register_is_undefined", MOVDIRI_REGISTER),
        ("movdiri_with_lock_is_undefined", MOVDIRI_LOCK),
        ("movdiri_with_66_is_undefined", MOVDIRI_66),
        ("movdiri_with_f2_is_undefined", MOVDIRI_F2),
        ("movdiri_with_f3_is_undefined", MOVDIRI_F3),
    ] {
        let exit = store(Privilege::Kernel, code, target(0));
        report.equal(name, (exit.outcome, arena.changed()), (INVALID, None));
    }

    paging::unmap(TARGET);
    let exit = store(Privilege::Kernel, MOVDIRI_64, target(0x88));
    report.equal(
        "movdiri_to_an_absent_page_faults",
        exit.outcome,
        page_fault(WRITE, target(0x88)),
    );
    arena.map_target(Access::UserRead);
    let exit = store(Privilege::User, MOVDIRI_64, target(0x88));
    report.equal(
        "movdiri_to_a_read_only_page_faults",
        (exit.outcome, arena.changed()),
        (page_fault(PRESENT | WRITE | USER, target(0x88)), None),
    );
}

/// Each of them counts as one instruction.
fn counted(report: &mut Report, arena: &Arena, features: Features) {
    arena.reset_for_commands();
    let ticks = |body: &[u8]| {
        let registers = Registers {
            rdi: target(0),
            rsi: source(0),
            ..Registers::default()
        };
        cpu::ticks_of(&arena.sandbox, body, registers)
    };
    let nop = ticks(NOP);
    if features.movdiri {
        report.equal("movdiri_counts_as_one_instruction", ticks(MOVDIRI_64), nop);
    }
    if features.movdir64b {
        report.equal("movdir64b_counts_as_one_instruction", ticks(MOVDIR64B), nop);
    }
    if features.enqcmd {
        cpu::set_ia32_pasid(IA32_PASID_VALID);
        report.equal("enqcmd_counts_as_one_instruction", ticks(ENQCMD), nop);
        report.equal("enqcmds_counts_as_one_instruction", ticks(ENQCMDS), nop);
        cpu::set_ia32_pasid(0);
    }
}
