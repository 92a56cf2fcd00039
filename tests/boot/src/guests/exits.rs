//! Each reason to leave a guest, and going on behind the instruction.

use boot_suites::Suite;
use kernel::virt::backend::Vcpu;
use kernel::virt::exit::{Exit, PortAccess};
use kernel::virt::registers::{Register, Width};

use super::programs;
use super::test_guest::TestGuest;

fn port(port: u16, width: Width, is_input: bool) -> Exit {
    Exit::Port(PortAccess {
        port,
        width,
        is_input,
        is_string: false,
    })
}

pub(crate) fn run(suite: &mut Suite) {
    let mut guest = TestGuest::new(programs::exits());
    // What comes, and how long the instruction is.
    for (name, expected, length) in [
        ("cpuid_exits", Exit::Cpuid, 2),
        ("cpuid_with_prefixes_exits", Exit::Cpuid, 4),
        ("out_exits", port(0x80, Width::Byte, false), 1),
        ("in_exits", port(0xcfc, Width::Double, true), 1),
        (
            "in_from_an_immediate_port_exits",
            port(0x61, Width::Double, true),
            2,
        ),
        (
            "outs_exits",
            Exit::Port(PortAccess {
                port: 0xcfc,
                width: Width::Byte,
                is_input: false,
                is_string: true,
            }),
            1,
        ),
        ("rdmsr_exits", Exit::ReadMsr, 2),
        ("wrmsr_exits", Exit::WriteMsr, 2),
        ("xsetbv_exits", Exit::WriteXcr, 3),
        ("wbinvd_exits", Exit::FlushCaches, 2),
        ("invd_exits", Exit::FlushCaches, 2),
    ] {
        let exit = guest.run();
        suite.equal(name, exit, expected);
        let rip = guest.vcpu.rip();
        let skipped = guest.vcpu.skip(exit);
        let length = (true, rip + length);
        suite.equal("and_is_stepped_over", (skipped, guest.vcpu.rip()), length);
    }
    for (name, expected, length) in [
        ("rdpmc_is_not_for_guests", Exit::NotAllowed, 2),
        ("vmrun_is_not_for_guests", Exit::InvalidOpcode, 3),
        ("monitor_is_not_for_guests", Exit::InvalidOpcode, 3),
        ("an_invalid_opcode_exits", Exit::InvalidOpcode, 2),
    ] {
        let exit = guest.run();
        suite.equal(name, exit, expected);
        suite.equal("and_is_not_stepped_over", guest.vcpu.skip(exit), false);
        let rip = guest.vcpu.rip();
        guest.vcpu.set_rip(rip + length);
    }
    suite.equal("hlt_exits", guest.run(), Exit::Halt);
    guest.vcpu.skip(Exit::Halt);
    suite.equal("vmmcall_exits", guest.run(), Exit::Hypercall);
    let rax = guest.vcpu.registers().get(Register::new(15));
    suite.equal("registers_are_those_of_the_guest", rax, 0x1255);

    let mut guest = TestGuest::new(programs::triple_fault());
    suite.equal("a_triple_fault_ends_the_guest", guest.run(), Exit::Shutdown);
}
