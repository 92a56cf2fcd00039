//! What the three 64-byte instructions have in common: operands that they
//! refuse, and page faults.

use super::super::arena::{Arena, SOURCE, TARGET, source, target};
use super::{INVALID, PRESENT, PROTECTION, USER, WRITE, page_fault};
use crate::memory::PAGE_SIZE;
use crate::paging::{self, Access};
use crate::program::{Exit, FLAGS_ARITHMETIC, Outcome, Privilege, Registers};
use crate::report::Report;

/// An address that no 48-bit table can translate.
const NON_CANONICAL: u64 = 0x8000_0000_0000_0000;

/// One of the instructions, and two forms that there are not.
pub(super) struct Store64 {
    pub(super) name: &'static str,
    pub(super) code: &'static [u8],
    /// With a register as the source.
    pub(super) register: &'static [u8],
    pub(super) lock: &'static [u8],
}

impl Arena {
    /// Runs one of the 64-byte instructions with all arithmetic flags set.
    pub(super) fn submit(
        &self,
        privilege: Privilege,
        code: &[u8],
        target: u64,
        source: u64,
    ) -> Exit {
        let registers = Registers {
            rdi: target,
            rsi: source,
            flags: FLAGS_ARITHMETIC,
            ..Registers::default()
        };
        self.sandbox.run(privilege, code, registers)
    }

    /// The outcome at CPL 0, and what changed in the target page.
    pub(super) fn outcome(
        &self,
        code: &[u8],
        target: u64,
        source: u64,
    ) -> (Outcome, Option<(u64, u64)>) {
        let exit = self.submit(Privilege::Kernel, code, target, source);
        (exit.outcome, self.changed())
    }
}

impl Store64 {
    /// Operands that are refused before anything is touched.
    pub(super) fn check_refused(&self, report: &mut Report, arena: &Arena) {
        let Self { name, code, .. } = self;
        arena.reset_for_commands();
        for (what, code) in [("from_a_register", self.register), ("with_lock", self.lock)] {
            let got = arena.outcome(code, target(0), source(0));
            report.equal(
                format_args!("{name}_{what}_is_undefined"),
                got,
                (INVALID, None),
            );
        }
        for (what, to, from) in [
            ("to_an_unaligned_address", target(0x20), source(0)),
            ("to_a_non_canonical_address", NON_CANONICAL, source(0)),
            ("from_a_non_canonical_address", target(0), NON_CANONICAL),
        ] {
            let got = arena.outcome(code, to, from);
            report.equal(
                format_args!("{name}_{what}_is_refused"),
                got,
                (PROTECTION, None),
            );
        }
    }

    /// Page faults: precise, with the right address, and before anything is
    /// written. `user` if the instruction may be used at CPL 3.
    pub(super) fn check_faults(&self, report: &mut Report, arena: &Arena, user: bool) {
        use Privilege::{Kernel, User};
        let mut check = |what: &str, privilege, to, from, expected| {
            let exit = arena.submit(privilege, self.code, to, from);
            let registers = Registers {
                rdi: to,
                rsi: from,
                flags: FLAGS_ARITHMETIC,
                ..Registers::default()
            };
            report.equal(
                format_args!("{}_{what}_faults", self.name),
                (exit.outcome, exit.registers, arena.changed()),
                (expected, registers, None),
            );
        };

        arena.reset_for_commands();
        paging::unmap(SOURCE);
        let from = source(0x38);
        check(
            "from_an_absent_page",
            Kernel,
            target(0),
            from,
            page_fault(0, from),
        );

        arena.reset_for_commands();
        paging::unmap(SOURCE + 1);
        // The first half of this source is the end of the first page.
        let from = source(PAGE_SIZE - 0x20);
        let expected = page_fault(0, source(PAGE_SIZE));
        check(
            "from_an_absent_second_page",
            Kernel,
            target(0),
            from,
            expected,
        );

        arena.reset_for_commands();
        paging::unmap(TARGET);
        let to = target(0x80);
        check(
            "to_an_absent_page",
            Kernel,
            to,
            source(0),
            page_fault(WRITE, to),
        );

        arena.map_target(Access::UserRead);
        let expected = page_fault(PRESENT | WRITE, to);
        check("to_a_read_only_page", Kernel, to, source(0), expected);

        if user {
            let expected = page_fault(PRESENT | WRITE | USER, to);
            check(
                "at_cpl_3_to_a_read_only_page",
                User,
                to,
                source(0),
                expected,
            );
            arena.map_target(Access::KernelWrite);
            check("at_cpl_3_to_a_kernel_page", User, to, source(0), expected);

            arena.reset_for_commands();
            paging::map(SOURCE, arena.source.address(), Access::KernelWrite);
            let expected = page_fault(PRESENT | USER, source(0));
            check(
                "at_cpl_3_from_a_kernel_page",
                User,
                target(0),
                source(0),
                expected,
            );
        }
    }
}
