//! What each processor knows about itself.
//!
//! The GS base of every processor points at its [`Cpu`]; [`current`] is the one
//! way to it. Other modules that keep something for each processor put it into a
//! [`PerCpu`].

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::mem::offset_of;
use core::ptr;

use spin::{Mutex, Once};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

use super::descriptors::Descriptors;
use crate::mm::OutOfMemory;

/// All processors, the boot processor first, once they have been found.
static CPUS: Once<Vec<&'static Cpu>> = Once::new();

/// One processor.
#[derive(Debug)]
pub struct Cpu {
    /// This structure's own address, which is read relative to GS.
    this: *const Self,
    /// Its number: 0 for the boot processor, then in the order of the MADT.
    pub index: usize,
    /// Its x2APIC id.
    pub apic_id: u32,
    /// Its segments and its stacks for exceptions.
    pub(super) descriptors: Descriptors,
    /// What it is to do next, if it has nothing to do.
    pub(super) call: Mutex<Option<fn()>>,
}

// SAFETY: the pointer is to the structure itself, which never moves or goes
// away, and is only read.
unsafe impl Sync for Cpu {}
// SAFETY: as for `Sync`.
unsafe impl Send for Cpu {}

impl Cpu {
    /// Makes what a processor needs, for good.
    pub(super) fn new(index: usize, apic_id: u32) -> Result<&'static Self, OutOfMemory> {
        let cpu = Box::leak(Box::new(Self {
            this: ptr::null(),
            index,
            apic_id,
            descriptors: Descriptors::new()?,
            call: Mutex::new(None),
        }));
        cpu.this = ptr::from_ref(cpu);
        Ok(cpu)
    }

    /// Makes this the structure of the processor that runs this.
    ///
    /// # Safety
    /// Each processor takes a structure of its own.
    pub(super) unsafe fn install(&'static self) {
        GsBase::write(VirtAddr::from_ptr(self));
        // SAFETY: the structure is this processor's and lives for ever.
        unsafe { self.descriptors.load() };
    }
}

/// The processor that runs this.
#[inline]
pub fn current() -> &'static Cpu {
    let cpu: *const Cpu;
    // SAFETY: GS points at this processor's structure since it was installed,
    // before which nothing asks.
    unsafe {
        asm!(
            "mov {cpu}, gs:[{this}]",
            cpu = out(reg) cpu,
            this = const offset_of!(Cpu, this),
            options(nostack, preserves_flags, readonly, pure)
        );
    };
    // SAFETY: the structure lives for ever, and what changes in it is locked.
    unsafe { &*cpu }
}

/// Says which processors there are. Once.
pub(super) fn set_all(cpus: Vec<&'static Cpu>) {
    CPUS.call_once(|| cpus);
}

/// All processors that run, the boot processor first.
pub fn all() -> &'static [&'static Cpu] {
    CPUS.get().map_or(&[], Vec::as_slice)
}

/// Something that each processor has one of.
#[derive(Debug)]
pub struct PerCpu<T>(Box<[T]>);

impl<T> PerCpu<T> {
    /// Makes one for each processor, by its number. All must have been found.
    pub fn new(make: impl FnMut(usize) -> T) -> Self {
        Self((0..all().len()).map(make).collect())
    }

    /// The one of the processor that runs this.
    ///
    /// # Panics
    /// If it was made before the processors had been found.
    pub fn here(&self) -> &T {
        self.of(current().index)
    }

    /// The one of processor `index`.
    ///
    /// # Panics
    /// If there is no such processor.
    pub fn of(&self, index: usize) -> &T {
        self.0.get(index).expect("one was made for each processor")
    }
}
