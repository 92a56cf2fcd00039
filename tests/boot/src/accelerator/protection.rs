//! What guests cannot do to each other.

use boot_suites::Suite;
use hwio::Portal;
use hwspec::dsa::Status;
use kernel::host::Host;
use kernel::host::client::Event;
use kernel::host::iommu::FaultReport;
use vtd::{FaultTarget, RequestKind};

use super::owner::{Owner, VECTOR, forget_interrupts, interrupts, wait_until};

/// Beyond the memory of any guest here.
const NOWHERE: u64 = 0x4000_0000;

pub(crate) fn run(suite: &mut Suite, host: &Host, one: &Owner, two: &Owner) {
    foreign_handle(suite, one, two);
    fault(suite, host, two);
}

/// Guest 2 names the interrupt handle of guest 1.
fn foreign_handle(suite: &mut Suite, one: &Owner, two: &Owner) {
    forget_interrupts();
    let mut descriptor = two.memory_move(one.client.handle(VECTOR));
    two.submit(&descriptor);
    suite.equal("a_foreign_handle_is_refused", two.status(), 0x19);
    suite.equal("and_interrupts_nobody", interrupts(0).count, 0);
    let refused = Some((Status::INTERRUPT_HANDLE, Some(two.queue)));
    suite.equal("its_owner_is_told", next_error(two), refused);

    // Without a record to say so, the register alone does.
    descriptor.word0.set_flags(
        descriptor
            .word0
            .flags()
            .with_completion_record_address_valid(false)
            .with_request_completion_record(false),
    );
    descriptor.completion_record_address = 0;
    two.portal.submit(&descriptor.words());
    suite.equal("without_a_record_too", next_error(two), refused);
    suite.equal("and_nobody_else", one.client.take_event(), None);
}

/// The next error that a guest is told: code and queue.
pub(crate) fn next_error(owner: &Owner) -> Option<(Status, Option<u8>)> {
    let mut found = None;
    wait_until(|| {
        owner.accelerator.service();
        if let Some(Event::SoftwareError(error)) = owner.client.take_event() {
            found = Some((error.code, error.queue));
        }
        found.is_some()
    });
    found
}

/// Guest 2 reads from where it has no memory.
fn fault(suite: &mut Suite, host: &Host, two: &Owner) {
    let mut descriptor = two.memory_move(None);
    descriptor.word2 = NOWHERE;
    let events = host.iommu.fault_events().0;
    two.submit(&descriptor);
    // Without ATS the device learns of a read that it failed, and not why.
    suite.equal("memory_of_nobody_cannot_be_read", two.status(), 0x20);
    let event = wait_until(|| host.iommu.fault_events().0 > events);
    suite.equal("the_iommu_interrupts", event, true);
    suite.equal("which_is_news", host.take_news(), true);
    let mut report: Option<FaultReport> = None;
    wait_until(|| {
        host.housekeep(|fault| report = report.or(Some(fault)));
        report.is_some()
    });
    let fault = report.map(|report| report.fault);
    suite.equal(
        "the_iommu_reports_it",
        fault.map(|fault| (fault.source, fault.pasid)),
        Some((two.accelerator.source(), Some(two.pasid))),
    );
    suite.equal(
        "with_its_address",
        fault.map(|fault| fault.target),
        Some(FaultTarget::Memory {
            kind: RequestKind::Read,
            address: NOWHERE,
        }),
    );
    suite.equal(
        "for_its_guest_to_be_told",
        report.and_then(|report| report.vm),
        Some(two.vm),
    );
    if let Some(fault) = fault {
        suite.show("fault", fault);
    }
}
