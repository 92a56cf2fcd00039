//! What is not mapped, and what the instructions wanted there.

use boot_suites::Suite;
use kernel::mm::Frames;
use kernel::virt::address::{GuestPhysAddr, GuestVirtAddr};
use kernel::virt::backend::Vcpu;
use kernel::virt::decode::{Operation, Submission};
use kernel::virt::exit::{Exit, MemoryAccess, MemoryFault};
use kernel::virt::fetch;
use kernel::virt::registers::{Register, RegisterPart, Width};

use super::programs::{self, CODE, DATA, DEVICE, TABLES};
use super::test_guest::{MEMORY, TestGuest, write};

fn fault(address: u64, access: MemoryAccess) -> Exit {
    Exit::Memory(MemoryFault {
        is_delivery: false,
        address: GuestPhysAddr(address),
        access,
        is_table_walk: false,
    })
}

pub(crate) fn run(suite: &mut Suite) {
    check_operations(suite);
    check_other_faults(suite);
    check_mapping(suite);
}

fn check_operations(suite: &mut Suite) {
    let mut guest = TestGuest::new(programs::memory()).with_rbx(DEVICE);
    // The descriptor crosses a page.
    let source = DATA + 0x1000 - 24;
    let descriptor: [u8; 64] =
        core::array::from_fn(|index| u8::try_from(index + 1).unwrap_or_default());
    write(&guest.space.memory, source, &descriptor);
    let (words, _) = descriptor.as_chunks();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    let words = core::array::from_fn(|_| words.next().unwrap_or_default());
    guest.vcpu.registers_mut().set(Register::new(12), source);

    let address = |offset| GuestVirtAddr(DEVICE + offset);
    let part = RegisterPart::Low;
    let steps = [
        (
            fault(DEVICE + 0x10, MemoryAccess::Write),
            Operation::Store {
                address: address(0x10),
                width: Width::Double,
                value: 0x1122_3344,
            },
        ),
        (
            fault(DEVICE + 0x18, MemoryAccess::Read),
            Operation::Load {
                address: address(0x18),
                width: Width::Quad,
                into: part(Register::RAX, Width::Quad),
                is_signed: false,
            },
        ),
        (
            fault(DEVICE + 0x1f, MemoryAccess::Read),
            Operation::Load {
                address: address(0x1f),
                width: Width::Byte,
                into: part(Register::RDX, Width::Double),
                is_signed: false,
            },
        ),
        (
            fault(DEVICE, MemoryAccess::Write),
            Operation::Submit {
                kind: Submission::Movdir64b,
                source: GuestVirtAddr(source),
                destination: address(0),
            },
        ),
        (
            fault(DEVICE, MemoryAccess::Write),
            Operation::Move {
                source: GuestVirtAddr(source),
                destination: address(0),
                width: Width::Double,
            },
        ),
    ];
    for (expected, operation) in steps {
        suite.equal("an_absent_page_exits", guest.run(), expected);
        let decoded = fetch::decode(&guest.vcpu, &guest.space.memory);
        let decoded = decoded.ok().flatten();
        suite.equal(
            "and_the_operation_is_found",
            decoded.map(|i| i.operation),
            Some(operation),
        );
        if let Operation::Submit { source, .. } = operation {
            let paging = guest.vcpu.paging();
            let bytes = fetch::descriptor(&guest.space.memory, &paging, source);
            suite.equal("and_so_is_the_descriptor", bytes, Ok(words));
        }
        if let Some(instruction) = decoded {
            let rip = guest.vcpu.rip();
            guest.vcpu.set_rip(rip + instruction.length);
        }
    }
    // As a read or as a write: processors differ.
    let is_fault = matches!(guest.run(), Exit::Memory(fault) if fault.address.0 == DEVICE);
    suite.equal("a_locked_addition_exits", is_fault, true);
    let decoded = fetch::decode(&guest.vcpu, &guest.space.memory);
    suite.equal("and_is_not_understood", decoded, Ok(None));
}

fn check_other_faults(suite: &mut Suite) {
    let mut guest = TestGuest::new(programs::jump()).with_rbx(DEVICE);
    suite.equal(
        "a_jump_to_nothing_exits",
        guest.run(),
        fault(DEVICE, MemoryAccess::Execute),
    );

    let mut guest = TestGuest::new(programs::jump()).with_rbx(MEMORY);
    suite.equal(
        "memory_ends_where_it_should",
        guest.run(),
        fault(MEMORY, MemoryAccess::Execute),
    );

    let mut guest = TestGuest::new(programs::tables()).with_rbx(DEVICE);
    let exit = guest.run();
    let is_walk = matches!(exit, Exit::Memory(fault) if fault.is_table_walk
        && fault.address == GuestPhysAddr(DEVICE));
    suite.equal("tables_outside_of_memory_exit", is_walk, true);
}

fn check_mapping(suite: &mut Suite) {
    let page = Frames::allocate_zeroed(1).expect("there is memory for a page");
    let mut guest = TestGuest::new(programs::load()).with_rbx(DEVICE);
    let space = guest.space.clone();
    let at = GuestPhysAddr(DEVICE);
    space
        .reserve(at..GuestPhysAddr(DEVICE + 0x1000), 1)
        .expect("there is memory for tables");
    suite.equal("a_page_is_shown", space.show_page(at, page.start()), true);
    let mut loaded = guest.load();
    suite.equal(
        "a_page_that_is_shown_is_there",
        loaded.run(),
        Exit::Hypercall,
    );
    suite.equal(
        "and_is_what_it_should_be",
        loaded.registers().get(Register::RAX),
        0,
    );
    loaded.skip(Exit::Hypercall);
    space.unmap(at, 0x1000);
    suite.equal("a_change_is_not_settled_at_once", space.is_settled(), false);
    suite.equal(
        "a_page_that_is_hidden_is_gone",
        loaded.run(),
        fault(DEVICE, MemoryAccess::Read),
    );
    suite.equal("and_then_the_change_is_settled", space.is_settled(), true);
    drop(loaded);

    // The guest's own tables are walked as the processor walks them.
    let entry = u64::from_le_bytes(guest.read(TABLES));
    suite.equal("the_processor_marks_tables_as_used", entry & 0x20, 0x20);
    suite.equal("code_is_where_it_was_put", guest.read(CODE), code_start());
}

fn code_start() -> [u8; 8] {
    *programs::code().first_chunk().expect("there is code")
}
