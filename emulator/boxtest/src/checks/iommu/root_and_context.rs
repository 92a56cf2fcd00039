//! The way from the requester to its PASID directory: root entry, context
//! entry. [VT-d 5.10, 9.2 "Scalable-Mode Root Entry", 9.4 "Scalable-Mode
//! Context-Entry"]

use super::super::machine::{Client, Machine};
use super::pasid_tables::{refused, works};
use crate::report::Report;
use crate::vtd::reason;
use crate::vtd::tables::ContextEntry;

pub(super) fn check(report: &mut Report, machine: &mut Machine, a: &Client) {
    // Above the present bit, and beyond an address of 48 bits.
    for (bits, on, reason, name) in [
        (
            1,
            false,
            reason::ROOT_NOT_PRESENT,
            "absent_root_entry_faults",
        ),
        (
            1 << 1,
            true,
            reason::ROOT_RESERVED,
            "reserved_bit_1_of_a_root_entry_faults",
        ),
        (
            1 << 48,
            true,
            reason::ROOT_RESERVED,
            "reserved_bit_48_of_a_root_entry_faults",
        ),
    ] {
        machine.set_root_bits(bits, on);
        refused(report, machine, a, reason, name);
        machine.set_root_bits(bits, !on);
    }
    works(
        report,
        machine,
        a,
        "pasids_work_once_the_root_entry_is_good",
    );

    let context = machine.context();
    let reserved = |bit: u32| ContextEntry::from_bits(context.into_bits() | 1 << bit);
    // A directory of 2^7 entries, for PASIDs of 13 bits.
    let small = context.with_directory_size(0);
    for (entry, rid_pasid, reason, name) in [
        (
            context.with_present(false),
            Client::RID_PASID,
            reason::CONTEXT_NOT_PRESENT,
            "absent_context_entry_faults",
        ),
        (
            reserved(5),
            Client::RID_PASID,
            reason::CONTEXT_RESERVED,
            "reserved_bit_5_of_a_context_entry_faults",
        ),
        (
            reserved(48),
            Client::RID_PASID,
            reason::CONTEXT_RESERVED,
            "reserved_bit_48_of_a_context_entry_faults",
        ),
        // Page requests need the device TLB, RID_PASID a place in the directory.
        (
            context.with_page_request_enable(true),
            Client::RID_PASID,
            reason::CONTEXT_INVALID,
            "page_requests_without_a_device_tlb_fault",
        ),
        (
            small,
            1 << 13,
            reason::CONTEXT_INVALID,
            "rid_pasid_beyond_the_directory_faults",
        ),
    ] {
        machine.set_context_of(entry, rid_pasid);
        refused(report, machine, a, reason, name);
    }
    machine.set_context(context);
    works(report, machine, a, "pasids_work_once_the_context_is_good");

    machine.set_legacy_mode();
    refused(
        report,
        machine,
        a,
        reason::PASID_IN_LEGACY_MODE,
        "pasids_fault_in_legacy_mode",
    );
    machine.set_scalable_mode();
    works(report, machine, a, "pasids_work_in_scalable_mode");
}
