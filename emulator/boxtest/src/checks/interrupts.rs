//! The DSA's interrupts: the Interrupt Message Store and MSI-X, their PASIDs and
//! masks, and the interrupt remapping that every message passes.
//! [DSA 3.0, ch. 3 "Interrupts"; VT-d 5.10, 5.1 "Interrupt Remapping"]

mod remapping;

use super::machine::{Client, Machine, RECORD, SOURCE, TARGET};
use crate::apic;
use crate::boot::BootInfo;
use crate::cpu;
use crate::dsa::descriptor::{Completion, Descriptor, operation, status};
use crate::dsa::messages::{MessageTable, Permission};
use crate::dsa::portal::PortalKind;
use crate::dsa::{CAUSE_COMMAND, CAUSE_ERROR, Command, SoftwareError, WorkQueue};
use crate::memory::PAGE_SIZE;
use crate::report::Report;
use crate::trap;
use crate::vtd::Fault;
use crate::vtd::remapping::{Message, Source, Table};

const PASID_A: u32 = 0x1_2345;
const PASID_B: u32 = 0x0_2345;

const SUCCESS: Completion = Completion::with_status(status::SUCCESS);
const INVALID_HANDLE: Completion = Completion::with_status(status::INVALID_INTERRUPT_HANDLE);

/// The slot, the remapping entry and the vector that most checks use; some use
/// a second one of each.
const SLOT: u16 = 0x101;
const INDEX: u16 = 0x25;
const VECTOR: u8 = 0x51;
const OTHER_SLOT: u16 = 0x102;
const OTHER_INDEX: u16 = 0x26;
const OTHER_VECTOR: u8 = 0x52;
/// For the fault event of the IOMMU.
const EVENT_VECTOR: u8 = 0x53;
/// For messages that must never arrive.
const STRAY_VECTOR: u8 = 0x66;

pub(super) fn run(boot: &BootInfo, report: &mut Report) {
    let mut machine = Machine::new(boot);
    let a = Client::new(machine.stage, 0, PASID_A, 2);
    let b = Client::new(machine.stage, 1, PASID_B, 3);
    let rid = Client::without_pasid(machine.stage, 2);
    machine.admit(&a);
    machine.admit(&b);
    machine.admit(&rid);
    machine.dsa.start(&[
        WorkQueue::dedicated(Some(PASID_A)),
        WorkQueue::dedicated(Some(PASID_B)),
        WorkQueue::dedicated(None),
    ]);

    let mut bench = Bench {
        machine,
        remapping: Table::new(),
        a,
        b,
        rid,
    };
    bench.without_remapping(report);
    bench
        .machine
        .iommu
        .set_remapping_table(&bench.remapping, true);
    bench.machine.iommu.remap_interrupts(true);
    bench.store(report);
    bench.sources(report);
    bench.blocked(report);
    bench.compatibility(report);
    bench.fault_event(report);
    bench.permissions(report);
    bench.masks(report);
    bench.msi_x(report);
    bench.administrative(report);
}

struct Bench {
    machine: Machine,
    remapping: Table,
    a: Client,
    b: Client,
    /// Who submits without a PASID.
    rid: Client,
}

/// What a descriptor led to: its record, the fault, and how many interrupts of
/// the vector in question and of all others.
type Effect = (Option<Completion>, Option<Fault>, u32, u32);

impl Bench {
    /// Lets entry `index` take interrupts from `source` to `vector`.
    fn remap(&mut self, index: u16, source: Source, vector: u8) {
        self.remapping.set(index, source, apic::id(), vector);
        self.machine.iommu.invalidate_interrupts();
    }

    fn own_source(&self) -> Source {
        Source::Function(self.machine.dsa.source_id())
    }

    /// Programs a slot of the Interrupt Message Store.
    fn set_slot(&self, slot: u16, message: Message, permission: Permission) {
        self.machine
            .dsa
            .messages(MessageTable::Store)
            .set(slot, message, permission);
    }

    /// The usual slot, entry and vector, for client A.
    fn set_usual(&mut self) {
        self.remap(INDEX, self.own_source(), VECTOR);
        self.set_slot(SLOT, Message::remappable(INDEX), Permission::pasid(PASID_A));
    }

    /// The handle of the usual slot.
    fn slot_handle(&self) -> u16 {
        self.machine.dsa.interrupt_handle(MessageTable::Store, SLOT)
    }

    /// A no-op of client A that interrupts through `slot`.
    fn submit(&self, slot: u16, vector: u8) -> Effect {
        self.submit_for(&self.a, PortalKind::UnlimitedStore, slot, vector)
    }

    /// A no-op of `client` that interrupts through entry `index` of the table
    /// that belongs to its portal.
    fn submit_for(&self, client: &Client, kind: PortalKind, index: u16, vector: u8) -> Effect {
        let handle = self.machine.dsa.interrupt_handle(kind.table(), index);
        self.submit_handle(client, kind, handle, vector)
    }

    fn submit_handle(&self, client: &Client, kind: PortalKind, handle: u16, vector: u8) -> Effect {
        let portal = self.machine.dsa.portal(client.queue, kind);
        let descriptor = Descriptor::no_op()
            .with_interrupt(handle)
            .with_completion(RECORD);
        self.effect(vector, || {
            Completion::clear(&client.record, 0);
            portal.write(&descriptor);
            self.machine.finish(client)
        })
    }

    /// Counts the interrupts that come of `cause`.
    fn effect<T, U>(&self, vector: u8, cause: impl FnOnce() -> (T, U)) -> (T, U, u32, u32) {
        let before = (trap::interrupts(vector), trap::all_interrupts());
        let (record, fault) = cause();
        cpu::settle();
        let these = trap::interrupts(vector) - before.0;
        let all = trap::all_interrupts() - before.1;
        (record, fault, these, all - these)
    }

    /// A message of the DSA that was blocked at entry `index`.
    fn fault(&self, reason: u8, index: u16) -> Fault {
        Fault {
            reason,
            source: self.machine.dsa.source_id(),
            pasid: None,
            read: false,
            information: u64::from(index) << 48,
        }
    }

    /// Before remapping is on, a message says itself where it goes.
    fn without_remapping(&self, report: &mut Report) {
        let [id, ..] = apic::id().to_le_bytes();
        let message = Message::compatible(id, VECTOR);
        self.set_slot(SLOT, message, Permission::pasid(PASID_A));
        report.equal(
            "message_is_delivered_without_remapping",
            self.submit(SLOT, VECTOR),
            (Some(SUCCESS), None, 1, 0),
        );
    }

    /// A completion interrupt takes the way from slot to entry to vector.
    fn store(&mut self, report: &mut Report) {
        let slots = self.machine.dsa.message_slots();
        report.holds("store_has_slots", slots > u64::from(OTHER_SLOT));

        self.set_usual();
        report.equal(
            "slot_interrupts_on_its_vector",
            self.submit(SLOT, VECTOR),
            (Some(SUCCESS), None, 1, 0),
        );
        self.remap(OTHER_INDEX, self.own_source(), OTHER_VECTOR);
        self.set_slot(
            OTHER_SLOT,
            Message::remappable(OTHER_INDEX),
            Permission::pasid(PASID_A),
        );
        report.equal(
            "second_slot_interrupts_on_its_own_vector",
            self.submit(OTHER_SLOT, OTHER_VECTOR),
            (Some(SUCCESS), None, 1, 0),
        );
        report.equal(
            "first_slot_still_has_its_vector",
            self.submit(SLOT, VECTOR),
            (Some(SUCCESS), None, 1, 0),
        );
        self.set_slot(
            OTHER_SLOT,
            Message::remappable_with_subhandle(INDEX, OTHER_INDEX - INDEX),
            Permission::pasid(PASID_A),
        );
        report.equal(
            "subhandle_is_added_to_the_handle",
            self.submit(OTHER_SLOT, OTHER_VECTOR),
            (Some(SUCCESS), None, 1, 0),
        );
        if let Ok(last) = u16::try_from(slots - 1) {
            self.set_slot(last, Message::remappable(INDEX), Permission::pasid(PASID_A));
            report.equal(
                "last_slot_interrupts",
                self.submit(last, VECTOR),
                (Some(SUCCESS), None, 1, 0),
            );
        }

        // The interrupt comes behind the data and the record.
        self.a.reset();
        let descriptor =
            Descriptor::memory_move(SOURCE, TARGET, 4096).with_interrupt(self.slot_handle());
        let before = trap::interrupts(VECTOR);
        Completion::clear(&self.a.record, 0);
        self.machine
            .portal(&self.a)
            .write(&descriptor.with_completion(RECORD));
        let came = cpu::wait_with_interrupts_until(|| trap::interrupts(VECTOR) != before);
        report.equal(
            "interrupt_comes_after_data_and_record",
            (
                came,
                Completion::read(&self.a.record, 0),
                self.a.has_copied(PAGE_SIZE / 8),
            ),
            (true, Some(SUCCESS), true),
        );
    }

    /// A handle works only for the PASID that its slot names.
    fn permissions(&mut self, report: &mut Report) {
        self.set_usual();
        let kind = PortalKind::UnlimitedStore;
        report.equal(
            "foreign_handle_is_refused",
            self.submit_for(&self.b, kind, SLOT, VECTOR),
            (Some(INVALID_HANDLE), None, 0, 0),
        );
        report.equal(
            "refusal_leaves_the_handle_to_its_owner",
            self.submit(SLOT, VECTOR),
            (Some(SUCCESS), None, 1, 0),
        );
        let none = Permission::default();
        self.set_slot(SLOT, Message::remappable(INDEX), none);
        report.equal(
            "handle_without_a_pasid_is_refused_to_one_with",
            self.submit(SLOT, VECTOR),
            (Some(INVALID_HANDLE), None, 0, 0),
        );
        report.equal(
            "and_accepted_from_one_without",
            self.submit_for(&self.rid, kind, SLOT, VECTOR),
            (Some(SUCCESS), None, 1, 0),
        );
        self.set_usual();
        report.equal(
            "handle_with_a_pasid_is_refused_to_one_without",
            self.submit_for(&self.rid, kind, SLOT, VECTOR),
            (Some(INVALID_HANDLE), None, 0, 0),
        );
        if let Ok(beyond) = u16::try_from(self.machine.dsa.message_slots()) {
            report.equal(
                "handle_beyond_the_store_is_refused",
                self.submit_handle(&self.a, kind, beyond, VECTOR),
                (Some(INVALID_HANDLE), None, 0, 0),
            );
        }

        // The refused descriptor does nothing at all.
        self.b.reset();
        self.set_usual();
        let descriptor =
            Descriptor::memory_move(SOURCE, TARGET, 64).with_interrupt(self.slot_handle());
        let got = self.machine.submit(&self.b, descriptor);
        report.equal(
            "refused_descriptor_moves_nothing",
            (got, self.b.changed()),
            ((Some(INVALID_HANDLE), None), None),
        );

        // Without a record there is the error register.
        self.machine.dsa.take_error();
        self.machine
            .portal(&self.b)
            .write(&Descriptor::no_op().with_interrupt(self.slot_handle()));
        self.machine.finish(&self.b);
        report.equal(
            "refusal_without_a_record_is_a_software_error",
            self.machine.dsa.take_error(),
            Some(SoftwareError {
                code: status::INVALID_INTERRUPT_HANDLE,
                queue: 1,
                operation: operation::NO_OP,
                pasid: PASID_B,
            }),
        );

        // The slot can move to another client while everything runs.
        self.set_slot(SLOT, Message::remappable(INDEX), Permission::pasid(PASID_B));
        report.equal(
            "slot_follows_its_new_pasid",
            (
                self.submit(SLOT, VECTOR),
                self.submit_for(&self.b, kind, SLOT, VECTOR),
            ),
            (
                (Some(INVALID_HANDLE), None, 0, 0),
                (Some(SUCCESS), None, 1, 0),
            ),
        );
    }

    /// Mask, pending and ignore.
    fn masks(&mut self, report: &mut Report) {
        self.set_usual();
        let store = self.machine.dsa.messages(MessageTable::Store);
        store.mask(SLOT, true);
        report.equal(
            "masked_slot_holds_its_interrupt",
            (self.submit(SLOT, VECTOR), store.is_pending(SLOT)),
            ((Some(SUCCESS), None, 0, 0), true),
        );
        let unmasked = self.effect(VECTOR, || {
            store.mask(SLOT, false);
            ((), self.machine.iommu.take_fault())
        });
        report.equal(
            "unmasked_slot_sends_what_it_held",
            (unmasked, store.is_pending(SLOT)),
            (((), None, 1, 0), false),
        );

        let permission = Permission {
            ignore: true,
            ..Permission::pasid(PASID_A)
        };
        self.set_slot(SLOT, Message::remappable(INDEX), permission);
        report.equal(
            "ignoring_slot_sends_nothing",
            (self.submit(SLOT, VECTOR), store.is_pending(SLOT)),
            ((Some(SUCCESS), None, 0, 0), false),
        );
    }

    /// The same by the other table: which one is the portal's choice.
    fn msi_x(&mut self, report: &mut Report) {
        const HANDLE: u16 = 1;
        let kind = PortalKind::UnlimitedMsiX;
        self.remap(OTHER_INDEX, self.own_source(), OTHER_VECTOR);
        let dsa = &self.machine.dsa;
        let table = dsa.messages(MessageTable::MsiX);
        table.set(
            HANDLE,
            Message::remappable(OTHER_INDEX),
            Permission::pasid(PASID_A),
        );
        dsa.enable_msi_x(false);
        report.equal(
            "msi_x_entry_interrupts_on_its_vector",
            self.submit_for(&self.a, kind, HANDLE, OTHER_VECTOR),
            (Some(SUCCESS), None, 1, 0),
        );
        report.equal(
            "foreign_msi_x_handle_is_refused",
            self.submit_for(&self.b, kind, HANDLE, OTHER_VECTOR),
            (Some(INVALID_HANDLE), None, 0, 0),
        );
        table.mask(HANDLE, true);
        report.equal(
            "masked_msi_x_entry_holds_its_interrupt",
            (
                self.submit_for(&self.a, kind, HANDLE, OTHER_VECTOR),
                table.is_pending(HANDLE),
            ),
            ((Some(SUCCESS), None, 0, 0), true),
        );
        let unmasked = self.effect(OTHER_VECTOR, || {
            table.mask(HANDLE, false);
            ((), self.machine.iommu.take_fault())
        });
        report.equal(
            "unmasked_msi_x_entry_sends_what_it_held",
            (unmasked, table.is_pending(HANDLE)),
            (((), None, 1, 0), false),
        );
    }

    /// MSI-X entry 0: commands and errors.
    fn administrative(&mut self, report: &mut Report) {
        self.remap(INDEX, self.own_source(), VECTOR);
        let dsa = &self.machine.dsa;
        let table = dsa.messages(MessageTable::MsiX);
        table.set(0, Message::remappable(INDEX), Permission::default());
        dsa.take_interrupt_causes();

        let drain = |interrupt| {
            self.effect(VECTOR, || {
                let code = if interrupt {
                    dsa.command_with_interrupt(Command::DrainAll, 0)
                } else {
                    dsa.command(Command::DrainAll, 0)
                };
                (code, dsa.take_interrupt_causes())
            })
        };
        report.equal(
            "command_interrupts_on_request",
            drain(true),
            (0, CAUSE_COMMAND, 1, 0),
        );
        report.equal("command_is_silent_otherwise", drain(false), (0, 0, 0, 0));

        dsa.enable_msi_x(true);
        report.equal(
            "function_mask_holds_the_interrupt",
            (drain(true), table.is_pending(0)),
            ((0, CAUSE_COMMAND, 0, 0), true),
        );
        let unmasked = self.effect(VECTOR, || {
            dsa.enable_msi_x(false);
            ((), ())
        });
        report.equal(
            "function_unmask_sends_what_it_held",
            (unmasked, table.is_pending(0)),
            (((), (), 1, 0), false),
        );

        // A command that fails interrupts just as well.
        let failed = self.effect(VECTOR, || {
            (
                dsa.command_with_interrupt(Command::EnableWorkQueue, 0xff),
                dsa.take_interrupt_causes(),
            )
        });
        const INVALID_QUEUE: u8 = 0x02;
        report.equal(
            "failed_command_interrupts_too",
            failed,
            (INVALID_QUEUE, CAUSE_COMMAND, 1, 0),
        );

        dsa.take_error();
        dsa.enable_error_interrupt();
        self.set_slot(SLOT, Message::remappable(INDEX), Permission::pasid(PASID_A));
        let error = self.effect(VECTOR, || {
            self.machine
                .portal(&self.b)
                .write(&Descriptor::no_op().with_interrupt(self.slot_handle()));
            self.machine.finish(&self.b);
            (
                dsa.take_error().map(|error| error.code),
                dsa.take_interrupt_causes(),
            )
        });
        report.equal(
            "software_error_interrupts",
            error,
            (Some(status::INVALID_INTERRUPT_HANDLE), CAUSE_ERROR, 1, 0),
        );
    }
}
