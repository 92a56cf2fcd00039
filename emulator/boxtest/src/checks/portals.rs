//! The instructions on the portals of a DSA: what is accepted, in whose name,
//! and what the processor hears of it.
//! [DSA 3.0, ch. 3 "Work submission"; Intel SDM, vol. 2, "ENQCMD"]

use super::machine::{Client, Machine, RECORD, SOURCE, TARGET};
use crate::boot::BootInfo;
use crate::cpu::{self, IA32_PASID_VALID};
use crate::dsa::WorkQueue;
use crate::dsa::descriptor::{Completion, Descriptor, status};
use crate::dsa::portal::{Enqueued, Portal, PortalKind};
use crate::encodings::{ENQCMD, ENQCMDS, MOVDIR64B, MOVDIRI_32, NOP};
use crate::memory::{PAGE_SIZE, Pages};
use crate::paging::{self, Access};
use crate::program::{
    FIRST_FREE, FLAGS_ARITHMETIC, FLAGS_ZERO, Outcome, Privilege, Registers, Sandbox,
};
use crate::report::Report;
use crate::svm::{
    EXIT_NESTED_PAGE_FAULT, EXIT_VMMCALL, Guest, NESTED_FINAL, NESTED_USER, NESTED_WRITE, VmExit,
};
use crate::vtd::tables::PasidEntry;

const PASID_A: u32 = 0x1_2345;
const PASID_B: u32 = 0x0_2345;
const PASID_PHYSICAL: u32 = 0x3_0000;

/// The queues: dedicated to A, shared, shared but closed to its limited
/// portals, dedicated to physical addresses, and one that is not configured.
const DEDICATED: u64 = 0;
const SHARED: u64 = 1;
const SHARED_CLOSED: u64 = 2;
const DEDICATED_PHYSICAL: u64 = 3;
const DISABLED: u64 = 4;
const QUEUE_SIZE: usize = 8;
const THRESHOLD: u16 = 4;

/// Pages of the scratch window: a portal, and a descriptor for it.
const PORTAL: u64 = FIRST_FREE;
const DESCRIPTOR: u64 = FIRST_FREE + 2;

/// RAM that nothing else uses: what the scratch window hides.
const FREE_RAM: u64 = 64 << 20;
const FREE_RAM_SIZE: u32 = 2 << 20;

const SUCCESS: Completion = Completion::with_status(status::SUCCESS);

pub(super) fn run(boot: &BootInfo, report: &mut Report) {
    let mut machine = Machine::new(boot);
    let a = Client::new(machine.stage, DEDICATED, PASID_A, 2);
    let b = Client::new(machine.stage, SHARED, PASID_B, 3);
    let physical = Client::new(machine.stage, DEDICATED_PHYSICAL, PASID_PHYSICAL, 4);
    machine.admit(&a);
    machine.admit(&b);
    machine.set_entry(&physical, PasidEntry::pass_through(physical.domain));
    machine.dsa.start(&[
        WorkQueue::dedicated(Some(PASID_A)),
        WorkQueue::shared(THRESHOLD),
        WorkQueue::shared(0),
        WorkQueue::dedicated(Some(PASID_PHYSICAL)),
    ]);
    report.holds("one_queue_is_left_over", machine.dsa.queues() > DISABLED);

    let bench = Bench {
        machine,
        a,
        b,
        physical,
        sandbox: Sandbox::new(),
        descriptor: Pages::one(),
    };
    paging::map(DESCRIPTOR, bench.descriptor.address(), Access::UserRead);
    bench.posted(report);
    bench.enqueued(report);
    bench.by_programs(report);
    bench.turned_away(report);
    bench.full(report, boot.option("clock") == Some("icount"));
    bench.by_a_guest(report);
    bench.registers(report);
    if boot.option("clock") == Some("icount") {
        bench.counted(report);
    }
}

struct Bench {
    machine: Machine,
    a: Client,
    b: Client,
    physical: Client,
    sandbox: Sandbox,
    /// What programs submit.
    descriptor: Pages,
}

/// The descriptor that all clients submit: a page of their own.
fn copy() -> Descriptor {
    Descriptor::memory_move(SOURCE, TARGET, 4096).with_completion(RECORD)
}

impl Bench {
    fn portal(&self, queue: u64, kind: PortalKind) -> Portal {
        self.machine.dsa.portal(queue, kind)
    }

    /// Whether `submit` had its descriptor executed for `client` and nobody
    /// else, and what it returned.
    fn executes<T>(&self, client: &Client, submit: impl FnOnce() -> T) -> (T, bool) {
        for other in [&self.a, &self.b] {
            other.reset();
            Completion::clear(&other.record, 0);
        }
        let answer = submit();
        let (record, fault) = self.machine.finish(client);
        let alone = [&self.a, &self.b]
            .iter()
            .all(|other| other.pasid == client.pasid || other.changed().is_none());
        let done = record == Some(SUCCESS) && fault.is_none() && client.has_copied(512) && alone;
        (answer, done)
    }

    /// Whether `submit` led to nothing at all, and what it returned.
    fn leads_nowhere<T>(&self, submit: impl FnOnce() -> T) -> (T, bool) {
        self.machine.dsa.take_error();
        let (answer, executed) = self.executes(&self.a, submit);
        let silent = !executed
            && Completion::read(&self.a.record, 0).is_none()
            && self.a.changed().is_none()
            && self.b.changed().is_none()
            && self.machine.dsa.take_error().is_none();
        (answer, silent)
    }

    /// MOVDIR64B to a dedicated queue: by any page, in any of its slots.
    fn posted(&self, report: &mut Report) {
        for kind in PortalKind::ALL {
            let portal = self.portal(DEDICATED, kind);
            report.equal(
                format_args!("movdir64b_is_executed_by_{kind:?}"),
                self.executes(&self.a, || portal.write(&copy())),
                ((), true),
            );
        }
        let portal = self.portal(DEDICATED, PortalKind::UnlimitedStore);
        for slot in [1, 31, 63] {
            report.equal(
                format_args!("movdir64b_is_executed_in_slot_{slot}"),
                self.executes(&self.a, || portal.write_at(slot, &copy())),
                ((), true),
            );
        }
        report.equal(
            "dedicated_queue_ignores_the_pasid_of_the_descriptor",
            self.executes(&self.a, || portal.write(&copy().with_pasid(PASID_B))),
            ((), true),
        );
    }

    /// ENQCMDS to a shared queue: in the name of each descriptor.
    fn enqueued(&self, report: &mut Report) {
        for kind in PortalKind::ALL {
            let portal = self.portal(SHARED, kind);
            for client in [&self.a, &self.b] {
                let descriptor = copy().with_pasid(client.pasid);
                report.equal(
                    format_args!("enqcmds_for_{:x}_is_executed_by_{kind:?}", client.pasid),
                    self.executes(client, || portal.enqueue(&descriptor)),
                    (Enqueued::Accepted, true),
                );
            }
        }
    }

    /// Runs one of the instructions on `portal`.
    fn run(
        &self,
        privilege: Privilege,
        code: &[u8],
        portal: &Portal,
        descriptor: &Descriptor,
    ) -> (Outcome, u64) {
        self.descriptor.write_words(0, descriptor.words());
        paging::map(PORTAL, portal.address(), Access::UserWrite);
        let exit = self.sandbox.run(privilege, code, Self::operands());
        (exit.outcome, exit.registers.flags)
    }

    fn operands() -> Registers {
        Registers {
            rdi: paging::scratch(PORTAL),
            rsi: paging::scratch(DESCRIPTOR),
            flags: FLAGS_ARITHMETIC,
            ..Registers::default()
        }
    }

    /// With the flags that the instructions leave, and at CPL 3.
    fn by_programs(&self, report: &mut Report) {
        let dedicated = self.portal(DEDICATED, PortalKind::LimitedMsiX);
        let shared = self.portal(SHARED, PortalKind::LimitedMsiX);
        for privilege in [Privilege::Kernel, Privilege::User] {
            let level = privilege.level();
            report.equal(
                format_args!("movdir64b_at_cpl_{level}_keeps_the_flags"),
                self.executes(&self.a, || {
                    self.run(privilege, MOVDIR64B, &dedicated, &copy())
                }),
                ((Outcome::Completed, FLAGS_ARITHMETIC), true),
            );
            cpu::set_ia32_pasid(IA32_PASID_VALID | u64::from(PASID_B));
            report.equal(
                format_args!("enqcmd_at_cpl_{level}_submits_for_ia32_pasid"),
                self.executes(&self.b, || self.run(privilege, ENQCMD, &shared, &copy())),
                ((Outcome::Completed, 0), true),
            );
            report.equal(
                format_args!("enqcmd_at_cpl_{level}_hears_retry"),
                self.leads_nowhere(|| self.run(privilege, ENQCMD, &dedicated, &copy())),
                ((Outcome::Completed, FLAGS_ZERO), true),
            );
            cpu::set_ia32_pasid(0);
        }
        let descriptor = copy().with_pasid(PASID_A);
        report.equal(
            "enqcmds_clears_the_flags",
            self.executes(&self.a, || {
                self.run(Privilege::Kernel, ENQCMDS, &shared, &descriptor)
            }),
            ((Outcome::Completed, 0), true),
        );
    }

    /// What does not fit the queue, or has none.
    fn turned_away(&self, report: &mut Report) {
        let kind = PortalKind::UnlimitedStore;
        let descriptor = copy().with_pasid(PASID_A);
        for (name, portal) in [
            ("a_dedicated_queue", self.portal(DEDICATED, kind)),
            ("a_disabled_queue", self.portal(DISABLED, kind)),
            ("no_queue", self.machine.dsa.dummy_portal()),
            (
                "a_closed_portal",
                self.portal(SHARED_CLOSED, PortalKind::LimitedStore),
            ),
        ] {
            report.equal(
                format_args!("enqcmds_to_{name}_hears_retry"),
                self.leads_nowhere(|| portal.enqueue(&descriptor)),
                (Enqueued::Retry, true),
            );
        }
        let portal = self.portal(SHARED_CLOSED, kind);
        report.equal(
            "unlimited_portal_stays_open",
            self.executes(&self.a, || portal.enqueue(&descriptor)),
            (Enqueued::Accepted, true),
        );

        for (name, portal) in [
            ("a_shared_queue", self.portal(SHARED, kind)),
            ("a_disabled_queue", self.portal(DISABLED, kind)),
            ("no_queue", self.machine.dsa.dummy_portal()),
        ] {
            report.equal(
                format_args!("movdir64b_to_{name}_is_dropped"),
                self.leads_nowhere(|| portal.write(&descriptor)),
                ((), true),
            );
        }
        for (name, queue) in [("dedicated", DEDICATED), ("shared", SHARED)] {
            let portal = self.portal(queue, kind);
            report.equal(
                format_args!("ordinary_stores_to_a_{name}_queue_are_dropped"),
                self.leads_nowhere(|| portal.write_in_pieces(&descriptor)),
                ((), true),
            );
            report.holds(
                format_args!("load_from_a_{name}_queue_reads_all_zeroes_or_ones"),
                [0, u64::MAX].contains(&portal.read()),
            );
        }
    }

    /// Long descriptors until the queue has no room. Where time does not stand
    /// still between two submissions, nobody can say when that is.
    fn full(&self, report: &mut Report, exact: bool) {
        /// More than any queue here takes before the first is done.
        const ATTEMPTS: usize = 32;
        /// What a completion record takes.
        const RECORD_SIZE: usize = 32;
        let client = &self.physical;
        let places = || (0..).step_by(RECORD_SIZE).take(ATTEMPTS);
        let slow = |place: u64| {
            Descriptor::fill(place, FREE_RAM, FREE_RAM_SIZE)
                .with_completion(client.record.address() + place)
                .with_pasid(client.pasid)
        };
        let records = || {
            places()
                .filter(|&place| Completion::read(&client.record, place) == Some(SUCCESS))
                .count()
        };
        for (name, kind, room) in [
            ("limited", PortalKind::LimitedStore, usize::from(THRESHOLD)),
            ("unlimited", PortalKind::UnlimitedStore, QUEUE_SIZE),
        ] {
            client.record.fill(0);
            let portal = self.portal(SHARED, kind);
            let accepted = places()
                .take_while(|&place| portal.enqueue(&slow(place)) == Enqueued::Accepted)
                .count();
            self.machine.finish(client);
            report.equal(
                format_args!("{name}_portal_executes_what_it_accepted"),
                records(),
                accepted,
            );
            if exact {
                // One is with the engine, the others wait.
                report.equal(
                    format_args!("{name}_portal_takes_what_has_room"),
                    accepted,
                    room + 1,
                );
            }
        }

        client.record.fill(0);
        self.machine.dsa.take_error();
        let portal = self.portal(DEDICATED_PHYSICAL, PortalKind::UnlimitedStore);
        for place in places() {
            portal.write(&slow(place));
        }
        self.machine.finish(client);
        let error = self.machine.dsa.take_error();
        let overflow = (records() < ATTEMPTS).then_some((status::QUEUE_OVERFLOW, 3));
        report.equal(
            "dedicated_queue_records_what_it_drops",
            error.map(|error| (error.code, error.queue)),
            overflow,
        );
        if exact {
            report.equal(
                "dedicated_queue_takes_what_has_room",
                records(),
                QUEUE_SIZE + 1,
            );
        }
    }

    /// A guest meets the portal: behind the nested tables, or in them.
    fn by_a_guest(&self, report: &mut Report) {
        let guest = Guest::new();
        let run = |code: &[u8], portal: &Portal, descriptor: &Descriptor| {
            self.descriptor.write_words(0, descriptor.words());
            paging::map(PORTAL, portal.address(), Access::UserWrite);
            let mut registers = Self::operands();
            let exit = guest.run(&self.sandbox, Privilege::User, code, &mut registers);
            (exit, registers.flags)
        };
        cpu::set_ia32_pasid(IA32_PASID_VALID | u64::from(PASID_B));
        for (name, code, queue, client, flags) in [
            ("movdir64b", MOVDIR64B, DEDICATED, &self.a, FLAGS_ARITHMETIC),
            ("enqcmd", ENQCMD, SHARED, &self.b, 0),
        ] {
            let portal = self.portal(queue, PortalKind::LimitedStore);
            let code_size = code.len() as u64;
            guest.expose_device_page(portal.address(), false);
            report.equal(
                format_args!("guest_{name}_to_a_hidden_portal_exits"),
                self.leads_nowhere(|| run(code, &portal, &copy())),
                (
                    (
                        VmExit {
                            code: EXIT_NESTED_PAGE_FAULT,
                            info_1: NESTED_WRITE | NESTED_USER | NESTED_FINAL,
                            info_2: portal.address(),
                            at: 0,
                        },
                        FLAGS_ARITHMETIC,
                    ),
                    true,
                ),
            );
            guest.expose_device_page(portal.address(), true);
            let ((exit, got_flags), executed) =
                self.executes(client, || run(code, &portal, &copy()));
            report.equal(
                format_args!("guest_{name}_to_an_exposed_portal_is_executed"),
                (exit.code, exit.at, got_flags, executed),
                (EXIT_VMMCALL, code_size, flags, true),
            );
        }
        cpu::set_ia32_pasid(0);
    }

    /// MOVDIRI is an ordinary store to an ordinary register.
    fn registers(&self, report: &mut Report) {
        let (address, before) = self.machine.dsa.general_control();
        let page = address & !(PAGE_SIZE - 1);
        paging::map(PORTAL, page, Access::UserWrite);
        let exit = self.sandbox.run(
            Privilege::User,
            MOVDIRI_32,
            Registers {
                rdi: paging::scratch(PORTAL) + (address - page),
                rax: u64::from(before ^ 1),
                ..Registers::default()
            },
        );
        let (_, after) = self.machine.dsa.general_control();
        report.equal(
            "movdiri_writes_a_device_register",
            (exit.outcome, after),
            (Outcome::Completed, before ^ 1),
        );
    }

    /// A submission counts as one instruction, whatever the device makes of it.
    fn counted(&self, report: &mut Report) {
        let ticks = |code: &[u8], queue| {
            let portal = self.portal(queue, PortalKind::UnlimitedStore);
            let descriptor = Descriptor::no_op().with_pasid(PASID_A);
            self.descriptor.write_words(0, descriptor.words());
            paging::map(PORTAL, portal.address(), Access::UserWrite);
            let ticks = cpu::ticks_of(&self.sandbox, code, Self::operands());
            self.machine.finish(&self.a);
            ticks
        };
        let nop = ticks(NOP, DEDICATED);
        report.equal(
            "movdir64b_to_a_portal_counts_as_one_instruction",
            ticks(MOVDIR64B, DEDICATED),
            nop,
        );
        report.equal(
            "enqcmds_to_a_portal_counts_as_one_instruction",
            ticks(ENQCMDS, SHARED),
            nop,
        );
    }
}
