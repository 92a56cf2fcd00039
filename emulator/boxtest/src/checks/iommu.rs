//! The DSA's memory requests, PASID by PASID, through the IOMMU.
//! [VT-d 5.10, ch. 3 "DMA Remapping", 7.1.3 "Fault Conditions and Remapping
//! Hardware Behavior for Various Requests"]

mod pasid_tables;
mod root_and_context;

use super::machine::{Client, Machine, RECORD, SOURCE, TARGET};
use crate::boot::BootInfo;
use crate::cpu;
use crate::dsa::WorkQueue;
use crate::dsa::descriptor::{Completion, Descriptor, status};
use crate::memory::PAGE_SIZE;
use crate::report::Report;
use crate::trap;
use crate::vtd::reason;
use crate::vtd::tables::PasidEntry;
use crate::vtd::translation::{Rights, Stage};

/// PASIDs that differ above bit 16 and below.
const PASID_A: u32 = 0x1_2345;
const PASID_B: u32 = 0x0_2345;
/// The highest one, in the last directory entry.
const PASID_C: u32 = 0xf_ffff;

/// One that is not used before the check of pass-through.
const PASID_PASS_THROUGH: u32 = 0x3_0000;
/// Two queues for [`Client::RID_PASID`]: one with that PASID, one without any.
const QUEUE_OF_RID_PASID: u64 = 3;
const QUEUE_WITHOUT_PASID: u64 = 4;

/// The range in which requests without a PASID are interrupts.
const INTERRUPT_RANGE: u64 = 0xfee0_0000;

const SUCCESS: Completion = Completion::with_status(status::SUCCESS);
const PAGE: u32 = 4096;

pub(super) fn run(boot: &BootInfo, report: &mut Report) {
    let mut machine = Machine::new(boot);
    capabilities(report, &machine);

    let stage = machine.stage;
    let mut a = Client::new(stage, 0, PASID_A, 2);
    let b = Client::new(stage, 1, PASID_B, 3);
    let c = Client::new(stage, 2, PASID_C, 4);
    for client in [&a, &b, &c] {
        machine.admit(client);
    }
    machine.dsa.start(&[
        WorkQueue::dedicated(Some(PASID_A)),
        WorkQueue::dedicated(Some(PASID_B)),
        WorkQueue::dedicated(Some(PASID_C)),
        WorkQueue::dedicated(Some(Client::RID_PASID)),
        WorkQueue::dedicated(None),
        WorkQueue::dedicated(Some(PASID_PASS_THROUGH)),
    ]);

    own_tables(report, &machine, [&a, &b, &c]);
    pages(report, &mut machine, &mut a);
    cached(report, &mut machine, &mut a);
    root_and_context::check(report, &mut machine, &a);
    pasid_tables::check(report, &mut machine, &a, &c);
    let client = Client::new(stage, 5, PASID_PASS_THROUGH, 5);
    pasid_tables::check_pass_through(report, &mut machine, &client);
    interrupt_range(report, &mut machine, &mut a);
    report.equal("no_interrupt_came_of_all_this", trap::all_interrupts(), 0);
}

fn capabilities(report: &mut Report, machine: &Machine) {
    let capabilities = machine.iommu.extended_capabilities();
    report.equal("ecap_shows_20_bit_pasids", capabilities.pasid_size(), 19);
    report.equal(
        "ecap_shows_scalable_mode_with_pasids",
        (capabilities.scalable_mode(), capabilities.pasid()),
        (true, true),
    );
    report.equal(
        "ecap_shows_the_stage",
        (capabilities.first_stage(), capabilities.second_stage()),
        (
            machine.stage == Stage::First,
            machine.stage == Stage::Second,
        ),
    );
}

/// The same descriptor on queues of different PASIDs.
fn own_tables(report: &mut Report, machine: &Machine, clients: [&Client; 3]) {
    for client in clients {
        for other in clients {
            other.reset();
        }
        let descriptor = Descriptor::memory_move(SOURCE, TARGET, PAGE);
        let got = machine.submit(client, descriptor);
        let untouched = clients
            .iter()
            .filter(|other| other.changed().is_none())
            .count();
        report.equal(
            format_args!("pasid_{:x}_uses_its_own_tables", client.pasid),
            (got, client.has_copied(512), untouched),
            ((Some(SUCCESS), None), true, 2),
        );
    }
}

/// Pages that are missing, or do not allow the request.
fn pages(report: &mut Report, machine: &mut Machine, a: &mut Client) {
    let beyond = SOURCE + 2 * PAGE_SIZE;
    let not_mapped = machine.not_mapped();

    a.reset();
    let got = machine.submit(a, Descriptor::memory_move(beyond + 0x40, TARGET, PAGE));
    report.equal(
        "read_of_an_unmapped_page_faults",
        (got, a.changed()),
        (
            (
                Some(machine.read_failure(beyond + 0x40)),
                Some(machine.fault(a, not_mapped, true, beyond)),
            ),
            None,
        ),
    );
    let beyond = TARGET + 2 * PAGE_SIZE;
    let got = machine.submit(a, Descriptor::memory_move(SOURCE, beyond + 0x80, 64));
    report.equal(
        "write_to_an_unmapped_page_faults",
        (got, a.changed()),
        (
            (
                Some(machine.write_failure(0, beyond + 0x80)),
                Some(machine.fault(a, not_mapped, false, beyond)),
            ),
            None,
        ),
    );

    // Half of the target is there.
    let start = TARGET + PAGE_SIZE + 0x800;
    let got = machine.submit(a, Descriptor::memory_move(SOURCE, start, PAGE));
    report.equal(
        "write_stops_at_the_first_unmapped_page",
        (got, a.changed()),
        (
            (
                Some(machine.write_failure(0x800, beyond)),
                Some(machine.fault(a, not_mapped, false, beyond)),
            ),
            Some((0x1800, 0x1fff)),
        ),
    );

    a.reset();
    let address = a.target.address();
    a.space.map(TARGET, address, Rights::Read);
    machine.invalidate_page(a, TARGET);
    let got = machine.submit(a, Descriptor::fill(0, TARGET, 64));
    report.equal(
        "write_to_a_read_only_page_faults",
        (got, a.changed()),
        (
            (
                Some(machine.write_failure(0, TARGET)),
                Some(machine.fault(a, reason::NOT_WRITABLE, false, TARGET)),
            ),
            None,
        ),
    );
    let (name, rights, code) = match machine.stage {
        Stage::First => (
            "user_read_of_a_supervisor_page_faults",
            Rights::Supervisor,
            reason::SUPERVISOR_PAGE,
        ),
        Stage::Second => (
            "read_of_a_write_only_page_faults",
            Rights::Write,
            reason::NOT_READABLE,
        ),
    };
    a.space.map(TARGET, address, rights);
    machine.invalidate_page(a, TARGET);
    let got = machine.submit(a, Descriptor::memory_move(TARGET, TARGET + PAGE_SIZE, 64));
    report.equal(
        name,
        (got, a.changed()),
        (
            (
                Some(machine.read_failure(TARGET)),
                Some(machine.fault(a, code, true, TARGET)),
            ),
            None,
        ),
    );
    a.map_all();
    machine.invalidate_page(a, TARGET);

    // Bit 48 is beyond four levels.
    const TOO_HIGH: u64 = 1 << 48;
    let code = match machine.stage {
        Stage::First => reason::NOT_CANONICAL,
        Stage::Second => reason::BEYOND_ADDRESS_WIDTH,
    };
    let (record, fault) = machine.submit(a, Descriptor::memory_move(TOO_HIGH, TARGET, 64));
    report.equal(
        "read_beyond_the_address_width_faults",
        (record, fault.map(|fault| fault.reason)),
        (Some(machine.read_failure(TOO_HIGH)), Some(code)),
    );

    // The highest address that there is, with tables of its own.
    const HIGHEST: u64 = (1 << 47) - PAGE_SIZE;
    a.reset();
    a.space.map(HIGHEST, address, Rights::ReadWrite);
    let got = machine.submit(a, Descriptor::memory_move(SOURCE, HIGHEST, PAGE));
    report.equal(
        "high_addresses_are_translated",
        (got, a.has_copied(512)),
        ((Some(SUCCESS), None), true),
    );
    a.space.unmap(HIGHEST);
    machine.invalidate_page(a, HIGHEST);

    // Without its record the device can tell only by its own register.
    machine.dsa.take_error();
    a.space.unmap(RECORD);
    machine.invalidate_page(a, RECORD);
    let (record, fault) = machine.submit(a, Descriptor::no_op());
    report.equal(
        "fault_on_the_completion_record_is_a_software_error",
        (
            record,
            fault,
            machine.dsa.take_error().map(|error| error.code),
        ),
        (
            None,
            Some(machine.fault(a, not_mapped, false, RECORD)),
            machine.record_failure(),
        ),
    );
    a.map_all();
}

/// What the IOMMU has cached.
fn cached(report: &mut Report, machine: &mut Machine, a: &mut Client) {
    let address = a.target.address();
    let read = Descriptor::memory_move(TARGET, TARGET + PAGE_SIZE, 64);
    let write = Descriptor::fill(0, TARGET, 64);

    // A permission that is missing faults, even if a read has made the
    // translation known.
    a.reset();
    a.space.map(TARGET, address, Rights::Read);
    machine.invalidate_page(a, TARGET);
    let first = machine.submit(a, read);
    let before = a.target.read(0);
    let second = machine.submit(a, write);
    report.equal(
        "write_after_a_cached_read_faults",
        (first, second, a.target.read(0)),
        (
            (Some(SUCCESS), None),
            (
                Some(machine.write_failure(0, TARGET)),
                Some(machine.fault(a, reason::NOT_WRITABLE, false, TARGET)),
            ),
            before,
        ),
    );

    a.space.map(TARGET, address, Rights::ReadWrite);
    machine.invalidate_page(a, TARGET);
    let got = machine.submit(a, write);
    report.equal(
        "granted_write_works_once_invalidated",
        (got, a.target.read(0)),
        ((Some(SUCCESS), None), 0),
    );

    a.reset();
    a.space.unmap(TARGET);
    machine.invalidate_page(a, TARGET);
    let got = machine.submit(a, write);
    report.equal(
        "unmapped_page_faults_once_invalidated",
        (got, a.changed()),
        (
            (
                Some(machine.write_failure(0, TARGET)),
                Some(machine.fault(a, machine.not_mapped(), false, TARGET)),
            ),
            None,
        ),
    );

    // The other way round: what was not mapped is not cached.
    a.map_all();
    let got = machine.submit(a, write);
    report.equal(
        "newly_mapped_page_needs_no_invalidation",
        got,
        (Some(SUCCESS), None),
    );
}

/// A request with a PASID is never an interrupt.
/// [VT-d 5.10, 3.15 "Handling Requests to Interrupt Address Range"]
fn interrupt_range(report: &mut Report, machine: &mut Machine, a: &mut Client) {
    /// What would be vector 0x66 for processor 0.
    const MESSAGE: u64 = 0x66;
    let not_mapped = machine.not_mapped();
    let read = Descriptor::memory_move(INTERRUPT_RANGE, TARGET, 4);
    let write = Descriptor::fill(MESSAGE, INTERRUPT_RANGE, 4);

    a.reset();
    for (name, descriptor, record, is_read) in [
        (
            "read_of_the_interrupt_range_faults_if_unmapped",
            read,
            machine.read_failure(INTERRUPT_RANGE),
            true,
        ),
        (
            "write_to_the_interrupt_range_faults_if_unmapped",
            write,
            machine.write_failure(0, INTERRUPT_RANGE),
            false,
        ),
    ] {
        let got = machine.submit(a, descriptor);
        report.equal(
            name,
            (got, a.changed()),
            (
                (
                    Some(record),
                    Some(machine.fault(a, not_mapped, is_read, INTERRUPT_RANGE)),
                ),
                None,
            ),
        );
    }

    // A transfer that begins below the range and runs into it.
    let before = INTERRUPT_RANGE - PAGE_SIZE;
    a.space.map(before, a.target.address(), Rights::ReadWrite);
    let got = machine.submit(a, Descriptor::fill(MESSAGE, before, 2 * PAGE));
    report.equal(
        "write_that_runs_into_the_interrupt_range_stops_there",
        (got, a.changed()),
        (
            (
                Some(machine.write_failure(PAGE, INTERRUPT_RANGE)),
                Some(machine.fault(a, not_mapped, false, INTERRUPT_RANGE)),
            ),
            Some((0, PAGE_SIZE - 1)),
        ),
    );
    a.space.unmap(before);
    machine.invalidate_page(a, before);

    a.reset();
    a.space
        .map(INTERRUPT_RANGE, a.target.address(), Rights::ReadWrite);
    let got = machine.submit(a, write);
    cpu::settle();
    report.equal(
        "write_to_the_interrupt_range_is_translated_if_mapped",
        (got, a.target.read_u32(0), trap::all_interrupts()),
        ((Some(SUCCESS), None), 0x66, 0),
    );
    a.space.unmap(INTERRUPT_RANGE);
    machine.invalidate_page(a, INTERRUPT_RANGE);

    // Nothing may be translated into the range.
    a.reset();
    let input = TARGET + 2 * PAGE_SIZE;
    a.space.map(input, INTERRUPT_RANGE, Rights::ReadWrite);
    let got = machine.submit(a, Descriptor::fill(MESSAGE, input, 4));
    cpu::settle();
    report.equal(
        "translation_into_the_interrupt_range_faults",
        (got, trap::all_interrupts()),
        (
            (
                Some(machine.write_failure(0, input)),
                Some(machine.fault(a, reason::INTERRUPT_RANGE, false, input)),
            ),
            0,
        ),
    );
    a.space.unmap(input);
    machine.invalidate_page(a, input);

    machine.set_entry(a, PasidEntry::pass_through(a.domain));
    Completion::clear(&a.record, 0);
    machine
        .portal(a)
        .write(&write.with_completion(a.record.address()));
    let got = machine.finish(a);
    cpu::settle();
    report.equal(
        "pass_through_to_the_interrupt_range_faults",
        (got, trap::all_interrupts()),
        (
            (
                Some(machine.write_failure(0, INTERRUPT_RANGE)),
                Some(machine.fault(a, reason::INTERRUPT_RANGE, false, INTERRUPT_RANGE)),
            ),
            0,
        ),
    );
    machine.admit(a);
}
