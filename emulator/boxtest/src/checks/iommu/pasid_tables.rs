//! The way from the requester to the address space: context entry, PASID
//! directory, PASID table.

use core::fmt::Display;

use super::super::machine::{Client, Machine, SOURCE, TARGET};
use super::{PAGE, QUEUE_OF_RID_PASID, QUEUE_WITHOUT_PASID, SUCCESS};
use crate::dsa::descriptor::{Completion, Descriptor};
use crate::memory::PAGE_SIZE;
use crate::report::Report;
use crate::vtd::tables::PasidEntry;
use crate::vtd::{Fault, reason};

/// The way from the requester to the address space.
pub(super) fn check(report: &mut Report, machine: &mut Machine, a: &Client, c: &Client) {
    let entry = PasidEntry::translated(a.domain, &a.space);

    machine.set_entry(a, entry.not_present());
    refused(
        report,
        machine,
        a,
        reason::PASID_NOT_PRESENT,
        "absent_pasid_faults",
    );
    machine.set_entry(a, PasidEntry::ABSENT);
    refused(
        report,
        machine,
        a,
        reason::PASID_NOT_PRESENT,
        "empty_pasid_entry_faults",
    );
    machine.admit(a);
    works(report, machine, a, "pasid_works_once_present");

    machine.set_directory_bit(a, 0, false);
    refused(
        report,
        machine,
        a,
        reason::DIRECTORY_NOT_PRESENT,
        "absent_pasid_directory_entry_faults",
    );
    machine.set_directory_bit(a, 0, true);
    works(
        report,
        machine,
        a,
        "pasid_works_once_its_directory_entry_is_present",
    );

    reserved_bits(report, machine, a);

    machine.set_entry(a, entry.silent());
    let got = machine.submit(a, Descriptor::memory_move(0, TARGET, 64));
    report.equal(
        "fault_processing_disable_records_nothing",
        got,
        (Some(machine.read_failure(0)), None),
    );
    machine.admit(a);

    let context = machine.context();
    machine.set_context(context.with_pasid_enable(false));
    refused(
        report,
        machine,
        a,
        reason::PASID_DISABLED,
        "pasids_fault_while_disabled",
    );

    // A directory of 2^7 entries, for PASIDs of 13 bits.
    machine.set_context(context.with_directory_size(0));
    refused(
        report,
        machine,
        c,
        reason::PASID_BEYOND_DIRECTORY,
        "pasid_beyond_the_directory_faults",
    );
    machine.set_context(context);
    works(report, machine, a, "pasids_work_once_enabled");

    let rid = Client::without_pasid(machine.stage, QUEUE_OF_RID_PASID);
    machine.admit(&rid);
    refused(
        report,
        machine,
        &rid,
        reason::PASID_IS_RID_PASID,
        "pasid_of_requests_without_one_faults",
    );
    let rid = Client::without_pasid(machine.stage, QUEUE_WITHOUT_PASID);
    machine.admit(&rid);
    works(
        report,
        machine,
        &rid,
        "requests_without_a_pasid_use_that_entry",
    );
    let beyond = TARGET + 2 * PAGE_SIZE;
    let (record, fault) = machine.submit(&rid, Descriptor::memory_move(beyond, TARGET, 64));
    let expected = Fault {
        pasid: None,
        ..machine.fault(&rid, machine.not_mapped(), true, beyond)
    };
    report.equal(
        "fault_of_a_request_without_a_pasid_shows_none",
        (record, fault),
        (Some(machine.read_failure(beyond)), Some(expected)),
    );
}

/// Bits that mean nothing, or nothing that ECAP shows, in the entries for a
/// PASID. [VT-d 5.10, 9.5 "Scalable-Mode PASID Directory Entry", 9.6
/// "Scalable-Mode PASID Table Entry"]
fn reserved_bits(report: &mut Report, machine: &mut Machine, a: &Client) {
    // The bits around FPD and the address, whose width is 48 bits.
    for bit in [2, 11, 48, 63] {
        machine.set_directory_bit(a, bit, true);
        refused(
            report,
            machine,
            a,
            reason::DIRECTORY_RESERVED,
            format_args!("reserved_bit_{bit}_of_a_pasid_directory_entry_faults"),
        );
        machine.set_directory_bit(a, bit, false);
    }
    let entry = PasidEntry::translated(a.domain, &a.space);
    // Word 0: bit 5, SSADE, and above the pointer. Word 1: above the domain, and
    // PWSNP. Word 2: SRE's neighbour EAFE, and above the pointer. The last word.
    for (word, bit) in [
        (0, 5),
        (0, 9),
        (0, 48),
        (1, 16),
        (1, 23),
        (2, 7),
        (2, 48),
        (3, 0),
        (7, 63),
    ] {
        machine.set_entry(a, entry.with_reserved(word, bit));
        refused(
            report,
            machine,
            a,
            reason::PASID_RESERVED,
            format_args!("reserved_bit_{bit}_in_word_{word}_of_a_pasid_entry_faults"),
        );
    }
    machine.set_entry(a, entry.silent().with_reserved(0, 5));
    let got = machine.submit(a, Descriptor::memory_move(0, TARGET, 64));
    report.equal(
        "fault_processing_disable_counts_beside_reserved_bits",
        got,
        (None, None),
    );
    machine.admit(a);
    works(report, machine, a, "pasid_works_without_reserved_bits");
}

/// No request of this PASID gets through, so there is no record either.
pub(super) fn refused(
    report: &mut Report,
    machine: &Machine,
    client: &Client,
    reason: u8,
    name: impl Display,
) {
    client.reset();
    machine.dsa.take_error();
    let descriptor = Descriptor::memory_move(SOURCE, TARGET, PAGE);
    let got = machine.submit(client, descriptor);
    let error = machine.dsa.take_error().map(|error| error.code);
    report.equal(
        name,
        (got, client.changed(), error),
        (
            (None, Some(machine.fault(client, reason, true, SOURCE))),
            None,
            machine.record_failure(),
        ),
    );
}

pub(super) fn works(report: &mut Report, machine: &Machine, client: &Client, name: &str) {
    client.reset();
    let descriptor = Descriptor::memory_move(SOURCE, TARGET, PAGE);
    let got = machine.submit(client, descriptor);
    report.equal(
        name,
        (got, client.has_copied(512)),
        ((Some(SUCCESS), None), true),
    );
}

/// An entry that let everything pass must be forgotten like any other, also if
/// it was the first that its PASID had.
pub(super) fn check_pass_through(report: &mut Report, machine: &mut Machine, client: &Client) {
    let physical = Descriptor::memory_move(client.source.address(), client.target.address(), PAGE);
    let submit = |machine: &Machine| {
        client.reset();
        machine.dsa.take_error();
        Completion::clear(&client.record, 0);
        machine
            .portal(client)
            .write(&physical.with_completion(client.record.address()));
        machine.finish(client)
    };
    let fault = |machine: &Machine, reason| {
        Some(machine.fault(client, reason, true, client.source.address()))
    };

    machine.set_entry(client, PasidEntry::pass_through(client.domain));
    report.equal(
        "pass_through_takes_addresses_as_they_are",
        (submit(machine), client.has_copied(512)),
        ((Some(SUCCESS), None), true),
    );
    let (record, fault_beyond) = {
        // Bit 48 is beyond the host's width.
        let address = 1 << 48;
        let beyond = Descriptor::memory_move(address, client.target.address(), PAGE);
        client.reset();
        Completion::clear(&client.record, 0);
        machine
            .portal(client)
            .write(&beyond.with_completion(client.record.address()));
        machine.finish(client)
    };
    report.equal(
        "pass_through_beyond_the_hosts_width_faults",
        (record, fault_beyond, client.changed()),
        (
            Some(machine.read_failure(1 << 48)),
            Some(machine.fault(client, reason::BEYOND_HOST_WIDTH, true, 1 << 48)),
            None,
        ),
    );
    machine.admit(client);
    report.equal(
        "former_pass_through_is_translated",
        (submit(machine), client.changed()),
        ((None, fault(machine, machine.not_mapped())), None),
    );

    machine.set_entry(client, PasidEntry::pass_through(client.domain));
    report.equal(
        "pass_through_works_again",
        submit(machine),
        (Some(SUCCESS), None),
    );
    machine.set_entry(client, PasidEntry::ABSENT);
    report.equal(
        "former_pass_through_can_be_taken_away",
        (submit(machine), client.changed()),
        ((None, fault(machine, reason::PASID_NOT_PRESENT)), None),
    );

    machine.set_entry(client, PasidEntry::pass_through(client.domain));
    submit(machine);
    machine.set_entry_of_domain(client, PasidEntry::ABSENT);
    report.equal(
        "former_pass_through_can_be_taken_away_by_domain",
        (submit(machine), client.changed()),
        ((None, fault(machine, reason::PASID_NOT_PRESENT)), None),
    );
    machine.admit(client);
    works(
        report,
        machine,
        client,
        "translation_works_after_pass_through",
    );
}
