//! From an exit to the next entry.
//!
//! [`Context::run`] is the innermost loop of the hypervisor: deliver what is pending,
//! enter the guest, do what it was left for. Nothing in it allocates, formats text,
//! waits, or takes a lock that another guest can hold.

mod hypercalls;
mod memory;
mod registers;
mod submissions;

use alloc::sync::Arc;

use crate::arch::clock;
use crate::platform::local_apic::LocalApic;
use crate::platform::msrs::Msrs;
use crate::virt::backend::{Backend, Loaded, Vcpu};
use crate::virt::exit::{Event, Exception, Exit};
use crate::virt::fetch::AccessError;
use crate::virt::walk::PageFault;

use super::counters::Reason;
use super::guest::{Ending, Guest};
use super::held::{Held, NO_OFFER, OFFER};
use super::schedule::Turn;
use super::shared::VcpuDoor;
use super::virtual_cpu::Activity;

/// A virtual processor that is loaded, but for the part that is.
pub(super) struct Context<'c, B: Backend> {
    pub(super) guest: &'c Arc<Guest<B>>,
    pub(super) index: usize,
    pub(super) door: &'static VcpuDoor,
    pub(super) apic: &'c mut LocalApic,
    pub(super) msrs: &'c mut Msrs,
    pub(super) activity: &'c mut Activity,
    pub(super) held: &'c mut Held,
}

/// Whether the guest is entered again at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It is.
    Enter,
    /// Its turn is over, for now or for good.
    Leave,
}

impl<B: Backend> Context<'_, B> {
    /// Runs the guest until it has nothing to do, or its turn is over.
    pub(super) fn run(&mut self, vcpu: &mut Loaded<'_, B::Vcpu>, turn: &Turn<'_>) {
        loop {
            self.deliver(vcpu);
            let exit = vcpu.run();
            let next = match exit {
                Exit::Interrupt => self.interrupted(turn),
                exit => self.handle(vcpu, exit, turn),
            };
            if next == Next::Leave {
                self.settle_end();
                return;
            }
        }
    }

    /// Hands the guest the interrupt that is next, or asks to be told when it can be.
    #[inline]
    fn deliver(&mut self, vcpu: &mut B::Vcpu) {
        if !self.held.is_nothing() && self.deliver_held(vcpu) {
            return;
        }
        let priority = vcpu.task_priority();
        let Some(vector) = self.apic.highest(&self.door.pending, priority) else {
            if priority != 0 {
                self.watch_priority(vcpu, priority);
            }
            return;
        };
        if !vcpu.can_take_interrupt() {
            vcpu.request_interrupt_window();
            return;
        }
        self.apic.accept(&self.door.pending, vector);
        // Nothing that is pending may come before this one has ended: it was the highest.
        // What another processor adds now makes this one leave the guest again.
        vcpu.inject(Event::Interrupt(vector));
        if !self.held.is_nothing() {
            self.offer_end();
        }
    }

    /// The guest lowers its task priority without being left: it is to be left when it
    /// lets an interrupt in that waits for that alone.
    #[cold]
    fn watch_priority(&self, vcpu: &mut B::Vcpu, priority: u8) {
        let held = self
            .apic
            .held_by_task_priority(&self.door.pending, priority);
        if let Some(vector) = held {
            vcpu.request_priority_window(vector >> 4);
        }
    }

    /// What had to wait comes before anything new. False if nothing of it can be delivered
    /// but what is new can: an NMI behind another one is looked at again at the next exit,
    /// which is the end of the turn at the latest.
    #[inline(never)]
    fn deliver_held(&mut self, vcpu: &mut B::Vcpu) -> bool {
        self.settle_end();
        if self.held.has_nmi() && vcpu.can_take_nmi() {
            self.held.release_nmi();
            self.displace(vcpu, Event::Nmi);
            return true;
        }
        let Some(vector) = self.held.interrupt() else {
            return false;
        };
        if vcpu.can_take_interrupt() {
            self.held.release_interrupt();
            vcpu.inject(Event::Interrupt(vector));
        } else {
            vcpu.request_interrupt_window();
        }
        true
    }

    /// An interrupt is delivered. Its end may pass unseen where none waits for it, here or
    /// in the I/O APIC; one that is requested from now on makes the guest be left.
    #[inline(never)]
    fn offer_end(&mut self) {
        if let Some(word) = self.held.word()
            && self.door.pending.is_empty()
            && !self.guest.awaits_end()
            && self.guest.space.memory.write_u8(word, OFFER)
        {
            self.held.offer_end();
        }
    }

    /// Whoever asks the APIC what is in service does this first: the guest may have ended
    /// the interrupt that it was offered to end without an exit.
    #[inline]
    pub(super) fn settle_end(&mut self) {
        if self.held.is_end_offered() {
            self.take_back_end();
        }
    }

    #[inline(never)]
    fn take_back_end(&mut self) {
        let memory = &self.guest.space.memory;
        // It was RAM when the offer was made.
        let Some(word) = self.held.word() else {
            return;
        };
        let byte = memory.read_u8(word).unwrap_or(OFFER);
        if self.held.take_back_end(byte) {
            self.apic.end_of_interrupt();
        } else {
            memory.write_u8(word, NO_OFFER);
        }
    }

    /// Delivers `event` now; an interrupt that it takes the place of comes later.
    fn displace(&mut self, vcpu: &mut B::Vcpu, event: Event) {
        match vcpu.inject(event) {
            Some(Event::Interrupt(vector)) => self.held.hold_interrupt(vector),
            Some(Event::Nmi) => self.held.hold_nmi(),
            Some(Event::Exception(_)) | None => {}
        }
    }

    /// Raises an exception in the guest.
    #[cold]
    pub(super) fn raise(&mut self, vcpu: &mut B::Vcpu, exception: Exception) {
        let exception = exception.with_cr0(vcpu.paging().cr0);
        self.displace(vcpu, Event::Exception(exception));
    }

    #[cold]
    pub(super) fn raise_page_fault(&mut self, vcpu: &mut B::Vcpu, fault: PageFault) {
        vcpu.set_cr2(fault.address.0);
        self.raise(vcpu, Exception::page_fault(fault.error));
    }

    /// What an instruction raises whose operand cannot be reached.
    #[cold]
    pub(super) fn raise_access_error(&mut self, vcpu: &mut B::Vcpu, error: AccessError) {
        match error {
            AccessError::PageFault(fault) => self.raise_page_fault(vcpu, fault),
            // No memory is there, nor any device that could be moved from or to.
            AccessError::NotRam(_) => self.raise(vcpu, Exception::GENERAL_PROTECTION),
        }
    }

    /// An interrupt of the machine came, and its handler has run.
    #[inline]
    fn interrupted(&mut self, turn: &Turn<'_>) -> Next {
        if turn.has_timer_fired() {
            return self.timer_fired(turn);
        }
        self.door.exits.add(Reason::Interrupt);
        self.collect_batches();
        if self.door.has_other_requests() {
            return self.requested();
        }
        Next::Enter
    }

    #[cold]
    fn timer_fired(&mut self, turn: &Turn<'_>) -> Next {
        self.door.exits.add(Reason::Timer);
        let now = clock::now();
        if let Some(vector) = self.apic.take_expired_timer(now) {
            self.door.pending.raise(vector);
        }
        if turn.is_over(now) {
            return Next::Leave;
        }
        turn.set_timer(self.apic.timer_deadline());
        self.requested()
    }

    /// Hands on batches of Weir's own that have ended.
    #[inline]
    fn collect_batches(&self) {
        let vdsas = self.door.take_batches();
        if vdsas != 0 {
            self.guest.collect_batches(vdsas);
        }
    }

    /// The virtual DSAs are looked after at once. All else that can be asked for is done
    /// while the virtual processor is not loaded.
    #[inline(never)]
    fn requested(&mut self) -> Next {
        self.collect_batches();
        if self.door.take_vdsa_work() {
            self.guest.serve_vdsas();
        }
        match self.door.has_requests() {
            true => Next::Leave,
            false => Next::Enter,
        }
    }

    fn handle(&mut self, vcpu: &mut Loaded<'_, B::Vcpu>, exit: Exit, turn: &Turn<'_>) -> Next {
        match exit {
            Exit::Memory(fault) => return self.memory(vcpu, fault),
            Exit::WriteMsr => return self.write_msr(vcpu, turn),
            Exit::Interrupt => return self.interrupted(turn),
            Exit::InterruptWindow => self.door.exits.add(Reason::InterruptWindow),
            Exit::Halt => return self.halt(vcpu),
            Exit::Cpuid => self.cpuid(vcpu),
            Exit::ReadMsr => self.read_msr(vcpu),
            Exit::WriteXcr => self.write_xcr(vcpu),
            Exit::Hypercall => return self.hypercall(vcpu),
            Exit::Port(access) => return self.port(vcpu, access),
            Exit::InvalidOpcode => return self.invalid_opcode(vcpu),
            Exit::NotAllowed => {
                self.door.exits.add(Reason::Other);
                self.raise(vcpu, Exception::GENERAL_PROTECTION);
            }
            Exit::FlushCaches => {
                // What a guest could gain by it is to slow others down.
                self.door.exits.add(Reason::Other);
                vcpu.skip(exit);
            }
            Exit::Shutdown => return self.end(Ending::TripleFault),
            Exit::Unknown(code) => return self.end(Ending::NotRunnable(code)),
        }
        Next::Enter
    }

    fn halt(&mut self, vcpu: &mut B::Vcpu) -> Next {
        self.door.exits.add(Reason::Halt);
        self.settle_end();
        vcpu.skip(Exit::Halt);
        let priority = vcpu.task_priority();
        let next = self.apic.highest(&self.door.pending, priority);
        // With interrupts off only an NMI wakes it, or the trap of a single step.
        let has_nmi = self.held.has_nmi() && vcpu.can_take_nmi();
        let can_take = vcpu.can_take_interrupt();
        let has_interrupt = can_take && (next.is_some() || self.held.interrupt().is_some());
        if vcpu.has_event() || has_nmi || has_interrupt {
            return Next::Enter;
        }
        *self.activity = Activity::Halted;
        Next::Leave
    }

    /// The guest has ended, all of it.
    #[cold]
    fn end(&mut self, ending: Ending) -> Next {
        self.door.exits.add(Reason::Other);
        *self.activity = Activity::Stopped;
        self.guest.end(ending);
        Next::Leave
    }
}
