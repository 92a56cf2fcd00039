//! ENQCMD, ENQCMDS and IA32_PASID. [Intel SDM, vol. 2, "ENQCMD", "ENQCMDS"; vol.
//! 4, table 2-2 "IA-32 Architectural MSRs"]

use super::super::arena::{Arena, source, target};
use super::store64::Store64;
use super::{PROTECTION, msr};
use crate::cpu::{self, IA32_PASID_VALID};
use crate::encodings::{
    ENQCMD, ENQCMD_ADDRESS_32, ENQCMD_LOCK, ENQCMD_R8_R9, ENQCMD_REGISTER, ENQCMDS,
    ENQCMDS_ADDRESS_32, ENQCMDS_LOCK, ENQCMDS_REGISTER, WRMSR,
};
use crate::program::{FLAGS_ZERO, Outcome, Privilege, Registers};
use crate::report::Report;

const ENQCMD_STORE: Store64 = Store64 {
    name: "enqcmd",
    code: ENQCMD,
    register: ENQCMD_REGISTER,
    lock: ENQCMD_LOCK,
};
const ENQCMDS_STORE: Store64 = Store64 {
    name: "enqcmds",
    code: ENQCMDS,
    register: ENQCMDS_REGISTER,
    lock: ENQCMDS_LOCK,
};

pub(super) fn check(report: &mut Report, arena: &Arena) {
    ia32_pasid(report, arena);
    enqcmd(report, arena);
    enqcmds(report, arena);
}

/// The register that ENQCMD takes the PASID from.
fn ia32_pasid(report: &mut Report, arena: &Arena) {
    report.equal("ia32_pasid_is_zero_at_reset", cpu::ia32_pasid(), 0);
    cpu::set_ia32_pasid(IA32_PASID_VALID | 0xf_fedc);
    report.equal(
        "ia32_pasid_keeps_its_fields",
        cpu::ia32_pasid(),
        IA32_PASID_VALID | 0xf_fedc,
    );
    for (name, bit) in [
        ("ia32_pasid_bit_20_is_reserved", 20),
        ("ia32_pasid_bit_30_is_reserved", 30),
        ("ia32_pasid_bit_32_is_reserved", 32),
        ("ia32_pasid_bit_63_is_reserved", 63),
    ] {
        let exit = msr(arena, WRMSR, IA32_PASID_VALID | 1 << bit);
        report.equal(name, exit.outcome, PROTECTION);
    }
    cpu::set_ia32_pasid(0);
}

fn enqcmd(report: &mut Report, arena: &Arena) {
    arena.reset_for_commands();
    report.equal(
        "enqcmd_needs_a_valid_ia32_pasid",
        arena.outcome(ENQCMD, target(0), source(0)),
        (PROTECTION, None),
    );
    cpu::set_ia32_pasid(IA32_PASID_VALID | 5);
    ENQCMD_STORE.check_refused(report, arena);
    for (name, bit) in [
        ("enqcmd_source_bit_0_is_reserved", 0),
        ("enqcmd_source_bit_19_is_reserved", 19),
        ("enqcmd_source_bit_20_is_reserved", 20),
        ("enqcmd_source_bit_31_is_reserved", 31),
    ] {
        arena.source.write(0, 1 << bit);
        let got = arena.outcome(ENQCMD, target(0), source(0));
        report.equal(name, got, (PROTECTION, None));
    }
    arena.source.write(0, 0xffff_ffff_0000_0000);
    dropped(
        report,
        arena,
        Privilege::Kernel,
        ENQCMD,
        "enqcmd_to_memory_is_dropped",
    );
    dropped(
        report,
        arena,
        Privilege::User,
        ENQCMD,
        "enqcmd_at_cpl_3_to_memory_is_dropped",
    );
    dropped(
        report,
        arena,
        Privilege::Kernel,
        ENQCMD_ADDRESS_32,
        "enqcmd_with_32_bit_addresses",
    );
    let exit = arena.sandbox.run(
        Privilege::Kernel,
        ENQCMD_R8_R9,
        Registers {
            r8: target(0),
            r9: source(0),
            ..Registers::default()
        },
    );
    report.equal(
        "enqcmd_of_extended_registers",
        (exit.outcome, exit.registers.flags),
        (Outcome::Completed, FLAGS_ZERO),
    );
    ENQCMD_STORE.check_faults(report, arena, true);
    cpu::set_ia32_pasid(0);
}

fn enqcmds(report: &mut Report, arena: &Arena) {
    arena.reset_for_commands();
    ENQCMDS_STORE.check_refused(report, arena);
    for (name, bit) in [
        ("enqcmds_source_bit_20_is_reserved", 20),
        ("enqcmds_source_bit_30_is_reserved", 30),
    ] {
        arena.source.write(0, 1 << bit);
        let got = arena.outcome(ENQCMDS, target(0), source(0));
        report.equal(name, got, (PROTECTION, None));
    }
    let exit = arena.submit(Privilege::User, ENQCMDS, target(0), source(0x40));
    report.equal("enqcmds_at_cpl_3_is_refused", exit.outcome, PROTECTION);

    // Privilege and a PASID in the source; IA32_PASID plays no part.
    arena.source.write(0, 0xffff_ffff_800f_ffff);
    dropped(
        report,
        arena,
        Privilege::Kernel,
        ENQCMDS,
        "enqcmds_to_memory_is_dropped",
    );
    dropped(
        report,
        arena,
        Privilege::Kernel,
        ENQCMDS_ADDRESS_32,
        "enqcmds_with_32_bit_addresses",
    );
    ENQCMDS_STORE.check_faults(report, arena, false);
}

/// Memory is no enqueue register: the store is dropped and ZF says "retry", the
/// other flags are cleared.
fn dropped(report: &mut Report, arena: &Arena, privilege: Privilege, code: &[u8], name: &str) {
    arena.reset_target();
    let exit = arena.submit(privilege, code, target(0x40), source(0));
    report.equal(
        name,
        (exit.outcome, exit.registers.flags, arena.changed()),
        (Outcome::Completed, FLAGS_ZERO, None),
    );
}
