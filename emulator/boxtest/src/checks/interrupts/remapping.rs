//! What interrupt remapping lets through, and what it blocks.
//! [VT-d 5.10, 5.1.4 "Interrupt-Remapping Hardware Operation"]

use super::{Bench, EVENT_VECTOR, INDEX, PASID_A, SLOT, STRAY_VECTOR, SUCCESS, VECTOR};
use crate::apic;
use crate::dsa::messages::Permission;
use crate::pci::SourceId;
use crate::report::Report;
use crate::vtd::reason;
use crate::vtd::remapping::{Message, Source, Table};

impl Bench {
    /// Entries are for those who own them.
    pub(super) fn sources(&mut self, report: &mut Report) {
        let SourceId(id) = self.machine.dsa.source_id();
        let [bus, _] = id.to_be_bytes();
        for (name, source, fault) in [
            (
                "entry_of_another_function_blocks",
                Source::Function(SourceId(id ^ 1)),
                Some(reason::INTERRUPT_SOURCE),
            ),
            (
                "entry_of_another_device_blocks",
                Source::Function(SourceId(id ^ 0x80)),
                Some(reason::INTERRUPT_SOURCE),
            ),
            (
                "entry_of_other_buses_blocks",
                Source::Buses {
                    first: bus + 1,
                    last: 0xff,
                },
                Some(reason::INTERRUPT_SOURCE),
            ),
            (
                "entry_of_the_bus_delivers",
                Source::Buses {
                    first: bus,
                    last: bus,
                },
                None,
            ),
            ("entry_of_the_function_delivers", self.own_source(), None),
        ] {
            self.set_usual();
            self.remap(INDEX, source, VECTOR);
            let fault = fault.map(|reason| self.fault(reason, INDEX));
            let delivered = u32::from(fault.is_none());
            report.equal(
                name,
                self.submit(SLOT, VECTOR),
                (Some(SUCCESS), fault, delivered, 0),
            );
        }
    }

    /// Messages that remapping does not let through.
    pub(super) fn blocked(&mut self, report: &mut Report) {
        self.set_usual();
        self.remapping.clear(INDEX);
        self.machine.iommu.invalidate_interrupts();
        report.equal(
            "absent_entry_blocks",
            self.submit(SLOT, VECTOR),
            (
                Some(SUCCESS),
                Some(self.fault(reason::INTERRUPT_NOT_PRESENT, INDEX)),
                0,
                0,
            ),
        );

        self.set_usual();
        self.remapping.spoil(INDEX);
        self.machine.iommu.invalidate_interrupts();
        report.equal(
            "entry_with_a_reserved_bit_blocks",
            self.submit(SLOT, VECTOR),
            (
                Some(SUCCESS),
                Some(self.fault(reason::INTERRUPT_RESERVED, INDEX)),
                0,
                0,
            ),
        );

        // CAP.PI is 0: there is no posting of interrupts.
        self.set_usual();
        self.remapping.post(INDEX);
        self.machine.iommu.invalidate_interrupts();
        report.equal(
            "posting_entry_blocks",
            self.submit(SLOT, VECTOR),
            (
                Some(SUCCESS),
                Some(self.fault(reason::INTERRUPT_RESERVED, INDEX)),
                0,
                0,
            ),
        );

        let message = Message::remappable(Table::ENTRIES);
        self.set_slot(SLOT, message, Permission::pasid(PASID_A));
        report.equal(
            "index_beyond_the_table_blocks",
            self.submit(SLOT, VECTOR),
            (
                Some(SUCCESS),
                Some(self.fault(reason::INTERRUPT_INDEX, Table::ENTRIES)),
                0,
                0,
            ),
        );

        let [id, ..] = apic::id().to_le_bytes();
        let message = Message::compatible(id, STRAY_VECTOR);
        self.set_slot(SLOT, message, Permission::pasid(PASID_A));
        let (record, fault, these, others) = self.submit(SLOT, STRAY_VECTOR);
        // The information field is undefined for this reason.
        let fault = fault.map(|fault| (fault.reason, fault.source));
        report.equal(
            "compatibility_format_blocks",
            (record, fault, these, others),
            (
                Some(SUCCESS),
                Some((
                    reason::INTERRUPT_COMPATIBILITY,
                    self.machine.dsa.source_id(),
                )),
                0,
                0,
            ),
        );
    }

    /// With 8-bit APIC ids, a switch decides about the compatibility format.
    pub(super) fn compatibility(&mut self, report: &mut Report) {
        let [id, ..] = apic::id().to_le_bytes();
        let message = Message::compatible(id, VECTOR);
        self.set_slot(SLOT, message, Permission::pasid(PASID_A));
        self.machine
            .iommu
            .set_remapping_table(&self.remapping, false);
        let submit = |allowed| {
            self.machine.iommu.allow_compatibility_format(allowed);
            let (record, fault, these, others) = self.submit(SLOT, VECTOR);
            (record, fault.map(|fault| fault.reason), these, others)
        };
        report.equal(
            "compatibility_format_passes_if_switched_on",
            submit(true),
            (Some(SUCCESS), None, 1, 0),
        );
        report.equal(
            "compatibility_format_blocks_if_switched_off",
            submit(false),
            (Some(SUCCESS), Some(reason::INTERRUPT_COMPATIBILITY), 0, 0),
        );
        self.machine
            .iommu
            .set_remapping_table(&self.remapping, true);
    }

    /// The IOMMU's own interrupt, which remapping leaves alone.
    pub(super) fn fault_event(&mut self, report: &mut Report) {
        self.set_usual();
        self.remapping.clear(INDEX);
        self.machine.iommu.invalidate_interrupts();
        let [id, ..] = apic::id().to_le_bytes();
        let message = Message::compatible(id, EVENT_VECTOR);
        self.machine.iommu.set_fault_event(Some(message));
        let got = self.submit(SLOT, EVENT_VECTOR);
        self.machine.iommu.set_fault_event(None);
        report.equal(
            "fault_event_arrives_without_remapping",
            got,
            (
                Some(SUCCESS),
                Some(self.fault(reason::INTERRUPT_NOT_PRESENT, INDEX)),
                1,
                0,
            ),
        );
    }
}
