//! A virtual processor with its APIC, and what it does between two turns.

use alloc::sync::Arc;

use crate::arch::{clock, pasid};
use crate::mm::OutOfMemory;
use crate::platform::local_apic::LocalApic;
use crate::platform::msrs::Msrs;
use crate::virt::backend::{Backend, Entry, Loaded, Vcpu};

use super::exits::Context;
use super::guest::Guest;
use super::held::Held;
use super::schedule::Turn;
use super::shared::VcpuDoor;
use super::start;

/// What a virtual processor is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It executes.
    Running,
    /// It has halted until an interrupt.
    Halted,
    /// It waits for a start-up message.
    AwaitsStart,
    /// It does nothing any more: its guest has ended.
    Stopped,
}

/// A virtual processor. It belongs to one processor for its life.
#[derive(Debug)]
pub struct VirtualCpu<B: Backend> {
    /// The guest.
    pub(super) guest: Arc<Guest<B>>,
    /// Its number in the guest, which is its APIC id.
    pub(super) index: usize,
    /// What others ask of it.
    pub(super) door: &'static VcpuDoor,
    apic: LocalApic,
    /// Registers that neither the backend nor the APIC keeps.
    msrs: Msrs,
    activity: Activity,
    held: Held,
    vcpu: B::Vcpu,
}

impl<B: Backend> VirtualCpu<B> {
    /// Virtual processor `index` of `guest`: the first begins as `entry` says, the
    /// others wait to be started.
    ///
    /// # Errors
    /// If memory is short.
    pub fn new(guest: &Arc<Guest<B>>, index: usize, entry: &Entry) -> Result<Self, OutOfMemory> {
        let mut new = Self {
            door: guest.door(index),
            apic: LocalApic::new(index, guest.count_vcpus),
            msrs: Msrs::new(),
            activity: first_activity(index),
            held: Held::nothing(),
            vcpu: B::new_vcpu(Arc::clone(&guest.space), index, entry)?,
            guest: Arc::clone(guest),
            index,
        };
        new.apic.reset(&new.door.pending);
        Ok(new)
    }

    fn begin(&mut self, entry: &Entry) {
        self.vcpu.reset(entry);
        self.apic.reset(&self.door.pending);
        self.msrs.reset();
        self.held = Held::nothing();
    }

    /// The registers of the guest, for the loader of its image.
    pub fn vcpu_mut(&mut self) -> &mut B::Vcpu {
        &mut self.vcpu
    }

    /// How much memory it takes.
    pub fn overhead_bytes(&self) -> u64 {
        self.vcpu.overhead_bytes() + size_of::<Self>() as u64
    }

    /// Whether it has something to do at `now`.
    pub fn is_runnable(&mut self, now: u64) -> bool {
        match self.activity {
            Activity::Running => true,
            Activity::Halted => self.door.has_requests() || self.has_interrupt(now),
            Activity::AwaitsStart | Activity::Stopped => self.door.has_requests(),
        }
    }

    fn has_interrupt(&mut self, now: u64) -> bool {
        self.expire_timer(now);
        let priority = self.vcpu.task_priority();
        let pending = &self.door.pending;
        let is_next =
            |held: Option<u8>| held.is_some() || self.apic.highest(pending, priority).is_some();
        // Halted with interrupts off, only an NMI wakes it.
        let has_nmi = self.held.has_nmi() && self.vcpu.can_take_nmi();
        has_nmi || self.vcpu.can_take_interrupt() && is_next(self.held.interrupt())
    }

    /// When its timer is to fire, in ticks of the time-stamp counter.
    pub fn timer_deadline(&self) -> Option<u64> {
        self.apic.timer_deadline()
    }

    fn expire_timer(&mut self, now: u64) {
        if let Some(vector) = self.apic.take_expired_timer(now) {
            self.door.pending.raise(vector);
        }
    }

    /// Runs it until it has nothing to do, or its turn is over.
    pub fn run(&mut self, turn: &Turn<'_>) {
        self.serve_requests();
        if self.activity == Activity::Halted && self.has_interrupt(clock::now()) {
            self.activity = Activity::Running;
        }
        if self.activity != Activity::Running {
            return;
        }
        turn.set_timer(self.apic.timer_deadline());
        pasid::set_valid(self.msrs.pasid().is_some());
        start::note_guest();
        let mut context = Context {
            guest: &self.guest,
            index: self.index,
            door: self.door,
            apic: &mut self.apic,
            msrs: &mut self.msrs,
            activity: &mut self.activity,
            held: &mut self.held,
        };
        context.run(&mut Loaded::new(&mut self.vcpu), turn);
    }

    /// Does what others asked for, while it is not loaded.
    fn serve_requests(&mut self) {
        let batches = self.door.take_batches();
        if batches != 0 {
            self.guest.collect_batches(batches);
        }
        if self.door.take_vdsa_work() {
            self.guest.serve_vdsas();
        }
        if !self.door.pending.has_signals() {
            return;
        }
        let signals = self.door.pending.take_signals();
        if self.activity == Activity::Stopped {
            return;
        }
        if signals.init {
            self.begin(&Entry::Real { page: 0 });
            self.activity = match self.index {
                // The first processor begins where a reset would, which is nowhere that
                // this platform has anything.
                0 => Activity::Stopped,
                _ => Activity::AwaitsStart,
            };
        }
        if let Some(page) = signals.start_up
            && self.activity == Activity::AwaitsStart
        {
            self.vcpu.reset(&Entry::Real { page });
            self.activity = Activity::Running;
        }
        if signals.nmi {
            self.held.hold_nmi();
        }
    }
}

/// The first processor runs, the others wait for it.
fn first_activity(index: usize) -> Activity {
    match index {
        0 => Activity::Running,
        _ => Activity::AwaitsStart,
    }
}
