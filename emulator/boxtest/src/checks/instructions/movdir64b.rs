//! MOVDIR64B. [Intel SDM, vol. 2, "MOVDIR64B"]

use super::super::arena::{Arena, SOURCE, TARGET, source, target};
use super::store64::Store64;
use super::{USER, WRITE, page_fault};
use crate::cpu;
use crate::encodings::{
    MOVDIR64B, MOVDIR64B_ADDRESS_32, MOVDIR64B_AND_JUMP, MOVDIR64B_FS, MOVDIR64B_LOCK,
    MOVDIR64B_R8_R9, MOVDIR64B_REGISTER, MOVDIR64B_SIB,
};
use crate::paging::{self, Access};
use crate::program::{FLAGS_ARITHMETIC, Outcome, Privilege, Registers};
use crate::report::Report;

const STORE: Store64 = Store64 {
    name: "movdir64b",
    code: MOVDIR64B,
    register: MOVDIR64B_REGISTER,
    lock: MOVDIR64B_LOCK,
};

pub(super) fn check(report: &mut Report, arena: &Arena) {
    exact(report, arena);
    operands(report, arena);
    effects(report, arena);
    STORE.check_refused(report, arena);
    STORE.check_faults(report, arena, true);

    // The fault left everything as it was, so the same again succeeds.
    arena.reset();
    paging::unmap(TARGET);
    let first = arena.submit(Privilege::User, MOVDIR64B, target(0x40), source(0x40));
    arena.map_target(Access::UserWrite);
    let second = arena
        .sandbox
        .run(Privilege::User, MOVDIR64B, first.registers);
    report.equal(
        "movdir64b_resumes_after_its_fault",
        (
            first.outcome,
            second.outcome,
            arena.target.bytes::<64>(0x40),
        ),
        (
            page_fault(WRITE | USER, target(0x40)),
            Outcome::Completed,
            arena.source.bytes::<64>(0x40),
        ),
    );
}

/// 64 bytes arrive, all of them and nothing else.
fn exact(report: &mut Report, arena: &Arena) {
    for (name, privilege, to, from) in [
        ("movdir64b_is_exact", Privilege::Kernel, 0x40, 0x80),
        ("movdir64b_at_cpl_3_is_exact", Privilege::User, 0x40, 0x80),
        (
            "movdir64b_reaches_the_last_line",
            Privilege::Kernel,
            0xfc0,
            0,
        ),
        (
            "movdir64b_takes_an_unaligned_source",
            Privilege::Kernel,
            0,
            0x123,
        ),
        (
            "movdir64b_source_may_cross_a_page",
            Privilege::Kernel,
            0,
            0xfdd,
        ),
        (
            "movdir64b_at_cpl_3_source_may_cross_a_page",
            Privilege::User,
            0,
            0xfff,
        ),
    ] {
        arena.reset();
        let exit = arena.submit(privilege, MOVDIR64B, target(to), source(from));
        report.equal(
            name,
            (
                exit.outcome,
                arena.target.bytes(to),
                arena.changed(),
                exit.registers.flags,
            ),
            (
                Outcome::Completed,
                arena.source.bytes::<64>(from),
                Some((to, to + 63)),
                FLAGS_ARITHMETIC,
            ),
        );
    }

    // The whole source is read before the first byte is written.
    arena.reset();
    let before = arena.target.bytes::<64>(0x20);
    let exit = arena.submit(Privilege::Kernel, MOVDIR64B, target(0x40), target(0x20));
    report.equal(
        "movdir64b_reads_before_it_writes",
        (exit.outcome, arena.target.bytes(0x40)),
        (Outcome::Completed, before),
    );
}

/// The ways of naming the operands.
fn operands(report: &mut Report, arena: &Arena) {
    /// Bits that a 32-bit address does not have.
    const ABOVE_32_BITS: u64 = 0xdead_0000_0000_0000;
    /// Moved into the FS base, so that only the source shifts.
    const FS_OFFSET: u64 = 0x180;

    let plain = Registers {
        rdi: target(0),
        rsi: source(0x200),
        ..Registers::default()
    };
    for (name, code, registers) in [
        (
            "movdir64b_of_extended_registers",
            MOVDIR64B_R8_R9,
            Registers {
                r8: target(0),
                r9: source(0x200),
                ..Registers::default()
            },
        ),
        (
            "movdir64b_with_index_and_displacement",
            MOVDIR64B_SIB,
            Registers {
                rsi: source(0x200 - 0x40 - 0x80),
                rax: 0x80 / 8,
                ..plain
            },
        ),
        (
            "movdir64b_with_32_bit_addresses",
            MOVDIR64B_ADDRESS_32,
            Registers {
                rdi: target(0) | ABOVE_32_BITS,
                rsi: source(0x200) | ABOVE_32_BITS,
                ..plain
            },
        ),
        (
            "movdir64b_segment_override_moves_the_source_only",
            MOVDIR64B_FS,
            Registers {
                rsi: source(0x200 - FS_OFFSET),
                ..plain
            },
        ),
    ] {
        arena.reset();
        cpu::set_fs_base(FS_OFFSET);
        let exit = arena.sandbox.run(Privilege::Kernel, code, registers);
        report.equal(
            name,
            (exit.outcome, arena.target.bytes(0), arena.changed()),
            (
                Outcome::Completed,
                arena.source.bytes::<64>(0x200),
                Some((0, 63)),
            ),
        );
    }
}

/// What else a store does: it marks the page as written, and code that has run
/// before runs as it is now.
fn effects(report: &mut Report, arena: &Arena) {
    arena.reset();
    let exit = arena.submit(Privilege::User, MOVDIR64B, target(0), source(0));
    report.equal(
        "movdir64b_marks_its_pages",
        (
            exit.outcome,
            paging::is_accessed_and_dirty(SOURCE),
            paging::is_accessed_and_dirty(TARGET),
        ),
        (Outcome::Completed, (true, false), (true, true)),
    );

    // Copies a line of code to the target, and jumps there.
    for value in [1, 2] {
        // MOV EAX, value; INT 0x80
        arena
            .source
            .write(0, 0xb8 | value << 8 | u64::from(0xcd_u8) << 40 | 0x80 << 48);
        let exit = arena.submit(Privilege::User, MOVDIR64B_AND_JUMP, target(0), source(0));
        report.equal(
            format_args!("movdir64b_changes_code_{value}"),
            (exit.outcome, exit.registers.rax),
            (Outcome::Completed, value),
        );
    }
}
