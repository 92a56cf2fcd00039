//! The instructions in a guest under SVM, where the nested tables stop them.
//!
//! This is how a hypervisor learns of a submission: the portal page is missing
//! from the nested tables, so the store exits with the guest-physical address
//! before anything has been written.

use super::arena::{Arena, TARGET, source, target};
use crate::boot::BootInfo;
use crate::cpu::{self, Features, IA32_PASID, IA32_PASID_VALID};
use crate::encodings::{ENQCMD, ENQCMDS, MOVDIR64B, MOVDIRI_64, RDMSR, STORE_64, WRMSR};
use crate::memory::PAGE_SIZE;
use crate::paging;
use crate::program::{FLAGS_ARITHMETIC, FLAGS_ZERO, Privilege, Registers};
use crate::report::Report;
use crate::svm::{
    EXIT_EXCEPTION, EXIT_MSR, EXIT_NESTED_PAGE_FAULT, EXIT_VMMCALL, Guest, NESTED_FINAL,
    NESTED_PRESENT, NESTED_USER, NESTED_WRITE, NestedAccess, VmExit,
};
use crate::trap::{GENERAL_PROTECTION, PAGE_FAULT};

/// Error code of a guest's own page fault: a write.
const WRITE: u64 = 1 << 1;

/// One of the instructions, and what it does when nothing stops it.
struct Store {
    name: &'static str,
    privilege: Privilege,
    code: &'static [u8],
    /// The first and last byte of the target that change.
    changes: Option<(u64, u64)>,
    flags: u64,
}

impl Store {
    /// One that stores `size` bytes.
    const fn to_memory(name: &'static str, code: &'static [u8], size: u64) -> Self {
        Self {
            name,
            privilege: Privilege::Kernel,
            code,
            changes: Some((0x40, 0x40 + size - 1)),
            flags: FLAGS_ARITHMETIC,
        }
    }

    /// One that memory drops.
    const fn to_portals(name: &'static str, code: &'static [u8]) -> Self {
        Self {
            name,
            privilege: Privilege::Kernel,
            code,
            changes: None,
            flags: FLAGS_ZERO,
        }
    }

    const fn at_cpl_3(self, name: &'static str) -> Self {
        Self {
            name,
            privilege: Privilege::User,
            ..self
        }
    }
}

pub(super) fn run(boot: &BootInfo, report: &mut Report) {
    let features = Features::parse(boot.option("have").unwrap_or(""));
    let bench = Bench {
        arena: Arena::new(),
        guest: Guest::new(),
    };
    // An ordinary store first: the others must look just like it.
    bench.check_target(report, &Store::to_memory("mov", STORE_64, 8));
    if features.movdiri {
        bench.check_target(report, &Store::to_memory("movdiri", MOVDIRI_64, 8));
    }
    if features.movdir64b {
        let store = Store::to_memory("movdir64b", MOVDIR64B, 64);
        bench.check_target(report, &store);
        bench.check_source(report, &store);
        bench.check_target(report, &store.at_cpl_3("movdir64b_at_cpl_3"));
    }
    if features.enqcmd {
        bench.check_pasid(report);
        let store = Store::to_portals("enqcmds", ENQCMDS);
        bench.check_target(report, &store);
        bench.check_source(report, &store);

        cpu::set_ia32_pasid(IA32_PASID_VALID | 7);
        let store = Store::to_portals("enqcmd", ENQCMD);
        bench.check_target(report, &store);
        bench.check_source(report, &store);
        bench.check_target(report, &store.at_cpl_3("enqcmd_at_cpl_3"));
        cpu::set_ia32_pasid(0);
    }
}

const fn nested_fault(error: u64, address: u64) -> VmExit {
    VmExit {
        code: EXIT_NESTED_PAGE_FAULT,
        info_1: error | NESTED_USER | NESTED_FINAL,
        info_2: address,
        at: 0,
    }
}

struct Bench {
    arena: Arena,
    guest: Guest,
}

impl Bench {
    /// Stores from `from` to 0x40 in the target page.
    fn store(&self, store: &Store, from: u64) -> (VmExit, Registers) {
        let mut registers = Registers {
            rdi: target(0x40),
            rsi: from,
            flags: FLAGS_ARITHMETIC,
            ..Registers::default()
        };
        let exit = self.guest.run(
            &self.arena.sandbox,
            store.privilege,
            store.code,
            &mut registers,
        );
        (exit, registers)
    }

    /// The destination is stopped by the nested tables, by the guest's own, and
    /// by none.
    fn check_target(&self, report: &mut Report, store: &Store) {
        let Self { arena, guest } = self;
        let name = store.name;
        let page = arena.target.address();
        arena.reset_for_commands();
        for (what, access, error) in [
            ("an_absent", NestedAccess::None, NESTED_WRITE),
            (
                "a_read_only",
                NestedAccess::Read,
                NESTED_PRESENT | NESTED_WRITE,
            ),
        ] {
            guest.allow(page, access);
            let (exit, registers) = self.store(store, source(0));
            guest.allow(page, NestedAccess::Write);
            report.equal(
                format_args!("guest_{name}_to_{what}_nested_page_exits"),
                (exit, registers.flags, arena.changed()),
                (nested_fault(error, page + 0x40), FLAGS_ARITHMETIC, None),
            );
        }

        let (exit, registers) = self.store(store, source(0));
        report.equal(
            format_args!("guest_{name}_completes_once_the_page_is_there"),
            (exit.code, registers.flags, arena.changed()),
            (EXIT_VMMCALL, store.flags, store.changes),
        );

        if store.privilege == Privilege::Kernel {
            arena.reset_for_commands();
            paging::unmap(TARGET);
            guest.allow(page, NestedAccess::None);
            let (exit, _) = self.store(store, source(0));
            guest.allow(page, NestedAccess::Write);
            report.equal(
                format_args!("guest_{name}_faults_on_its_own_tables_first"),
                exit,
                VmExit {
                    code: EXIT_EXCEPTION + PAGE_FAULT,
                    info_1: WRITE,
                    info_2: target(0x40),
                    at: 0,
                },
            );
        }
    }

    /// The source is stopped by the nested tables, in its first and in its
    /// second page.
    fn check_source(&self, report: &mut Report, store: &Store) {
        let Self { arena, guest } = self;
        let name = store.name;
        let pages = arena.source.address();
        for (which, page, from, fault) in [
            ("an_absent", 0, 0x18, 0x18),
            ("an_absent_second", PAGE_SIZE, PAGE_SIZE - 0x10, PAGE_SIZE),
        ] {
            arena.reset_for_commands();
            guest.allow(pages + page, NestedAccess::None);
            let (exit, _) = self.store(store, source(from));
            guest.allow(pages + page, NestedAccess::Write);
            report.equal(
                format_args!("guest_{name}_from_{which}_nested_page_exits"),
                (exit, arena.changed()),
                (nested_fault(0, pages + fault), None),
            );
        }
    }

    /// IA32_PASID is the guest's to read and write unless it is intercepted,
    /// and ENQCMD looks at it before anything else.
    fn check_pasid(&self, report: &mut Report) {
        let Self { arena, guest } = self;
        let access = |code| {
            let mut registers = Registers {
                rcx: u64::from(IA32_PASID),
                rax: IA32_PASID_VALID | 9,
                ..Registers::default()
            };
            guest.run(&arena.sandbox, Privilege::Kernel, code, &mut registers)
        };
        cpu::set_ia32_pasid(0);
        guest.intercept_msr(IA32_PASID, true);
        for (name, code, write) in [("read", RDMSR, 0), ("write", WRMSR, 1)] {
            let exit = access(code);
            report.equal(
                format_args!("guest_{name}_of_ia32_pasid_can_be_intercepted"),
                (exit.code, exit.info_1, cpu::ia32_pasid()),
                (EXIT_MSR, write, 0),
            );
        }

        arena.reset_for_commands();
        let page = arena.target.address();
        guest.allow(page, NestedAccess::None);
        let (exit, _) = self.store(&Store::to_portals("enqcmd", ENQCMD), source(0));
        guest.allow(page, NestedAccess::Write);
        report.equal(
            "guest_enqcmd_without_a_pasid_is_refused_before_it_exits",
            (exit.code, exit.info_1),
            (EXIT_EXCEPTION + GENERAL_PROTECTION, 0),
        );

        guest.intercept_msr(IA32_PASID, false);
        let exit = access(WRMSR);
        report.equal(
            "guest_write_of_ia32_pasid_takes_effect",
            (exit.code, cpu::ia32_pasid()),
            (EXIT_VMMCALL, IA32_PASID_VALID | 9),
        );
        cpu::set_ia32_pasid(0);
    }
}
