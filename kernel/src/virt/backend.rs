//! What a CPU backend does for the layers above, which know no other name for
//! SVM or VMX than these traits.

use alloc::sync::Arc;
use core::fmt::Debug;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::exit::{Event, Exit};
use super::nested::Format;
use super::registers::GeneralRegisters;
use super::space::Space;
use super::walk::Paging;
use crate::mm::OutOfMemory;
use crate::refusal::Refusal;

/// A way to run guests.
pub trait Backend: Debug + Sized + Send + Sync + 'static {
    /// Its nested page tables.
    type Format: Format + Debug + Send + Sync + 'static;
    /// Its virtual processors.
    type Vcpu: Vcpu + Debug;

    /// For people: "SVM".
    const NAME: &'static str;

    /// Prepares for [`enable`](Self::enable), once and for all processors.
    ///
    /// # Errors
    /// What is missing.
    fn init() -> Result<(), Refusal>;

    /// Switches virtualisation on, on the processor that runs this. Every
    /// processor has to, before it runs a guest.
    ///
    /// # Errors
    /// What is missing.
    fn enable() -> Result<(), Refusal>;

    /// A virtual processor in the state of `entry`: number `index` of those of
    /// the guest that `space` belongs to.
    ///
    /// # Errors
    /// If memory is short.
    fn new_vcpu(
        space: Arc<Space<Self::Format>>,
        index: usize,
        entry: &Entry,
    ) -> Result<Self::Vcpu, OutOfMemory>;
}

/// How a virtual processor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// In 64-bit mode with these tables, at this address. The rest is as code
    /// finds it that was called: no interrupts, flat segments.
    Long {
        /// CR3.
        cr3: u64,
        /// RIP.
        rip: u64,
        /// RSP.
        rsp: u64,
    },
    /// In 32-bit mode without paging, in flat segments.
    Protected {
        /// EIP.
        eip: u32,
    },
    /// In real mode, at offset 0 of this page: as after a start-up message.
    Real {
        /// The page's number.
        page: u8,
    },
}

/// A virtual processor.
///
/// It can be looked at and changed at any time; to run, it is put into a
/// processor, by [`Loaded::new`].
pub trait Vcpu: Send + Sized {
    /// Begins anew, as `entry` says.
    fn reset(&mut self, entry: &Entry);

    /// The general registers.
    fn registers(&self) -> &GeneralRegisters;
    /// The general registers, to change them.
    fn registers_mut(&mut self) -> &mut GeneralRegisters;
    /// RIP.
    fn rip(&self) -> u64;
    /// Sets RIP, for an instruction that has been carried out. The guest then is at a
    /// new one: what kept interrupts back for one instruction is over, and the trap that
    /// RFLAGS.TF asks for is delivered next.
    fn set_rip(&mut self, rip: u64);
    /// RFLAGS.
    fn rflags(&self) -> u64;
    /// CR8, the priority that interrupts must exceed.
    fn task_priority(&self) -> u8;
    /// Sets RFLAGS, for an instruction that changes flags.
    fn set_rflags(&mut self, value: u64);
    /// Sets CR8.
    fn set_task_priority(&mut self, priority: u8);
    /// Sets CR2, for a page fault.
    fn set_cr2(&mut self, address: u64);
    /// What steers the translation of its addresses.
    fn paging(&self) -> Paging;
    /// 16, 32 or 64: how its instructions are read.
    fn code_bits(&self) -> u32;
    /// The bases of ES, CS, SS, DS, FS and GS.
    fn segment_bases(&self) -> [u64; 6];

    /// XCR0.
    fn xcr0(&self) -> u64;
    /// The guest's value of a register that the backend keeps, if it keeps it.
    fn read_msr(&self, register: u32) -> Option<u64>;
    /// Sets such a register. None if the backend does not keep it, false if the
    /// guest may not set this value.
    fn write_msr(&mut self, register: u32, value: u64) -> Option<bool>;

    /// Whether an interrupt can be delivered at the next entry: the guest has
    /// them enabled and nothing else is to be delivered. Priorities are not
    /// looked at.
    fn can_take_interrupt(&self) -> bool;
    /// Whether something is to be delivered at the next entry already.
    fn has_event(&self) -> bool;
    /// Whether a non-maskable interrupt can be delivered at the next entry: no exception
    /// is to be delivered, and the guest has returned from the last one.
    fn can_take_nmi(&self) -> bool;
    /// Asks for [`Exit::InterruptWindow`] as soon as an interrupt can be
    /// delivered. The last such request counts.
    fn request_interrupt_window(&mut self);
    /// As [`request_interrupt_window`](Self::request_interrupt_window), but not
    /// before CR8 is below `class`: for an interrupt with a vector of this class,
    /// its bits 7:4, that only the task priority holds back.
    fn request_priority_window(&mut self, class: u8);
    /// Delivers `event` at the next entry. Gives back what it takes the place
    /// of: an interrupt, which then is still to be delivered.
    fn inject(&mut self, event: Event) -> Option<Event>;

    /// Steps over the instruction that was the reason for `exit`, as
    /// [`set_rip`](Self::set_rip) does. False if it is
    /// not there any longer, since the guest changed it meanwhile; then it is
    /// executed again.
    fn skip(&mut self, exit: Exit) -> bool;

    /// How much memory it takes.
    fn overhead_bytes(&self) -> u64;

    /// Takes this processor for the virtual one.
    ///
    /// # Panics
    /// If there is another one in it.
    ///
    /// # Safety
    /// To be undone by [`unload`](Self::unload) on the same processor.
    unsafe fn load(&mut self);
    /// Frees this processor.
    ///
    /// # Safety
    /// The virtual processor is loaded on this processor.
    unsafe fn unload(&mut self);
    /// Runs the guest until there is a reason to leave it.
    ///
    /// # Safety
    /// The virtual processor is loaded on this processor, with interrupts off.
    unsafe fn run(&mut self) -> Exit;
    /// Sets XCR0. False if the guest may not set this value.
    ///
    /// # Safety
    /// The virtual processor is loaded on this processor.
    unsafe fn set_xcr0(&mut self, value: u64) -> bool;
}

/// A virtual processor that is in the processor that runs this.
///
/// As long as it stays there its floating-point and debug registers are the
/// guest's; they change hands when it leaves.
#[derive(Debug)]
pub struct Loaded<'v, V: Vcpu> {
    vcpu: &'v mut V,
    /// It must not go to another processor.
    not_send: PhantomData<*mut ()>,
}

impl<'v, V: Vcpu> Loaded<'v, V> {
    /// Takes this processor for `vcpu`.
    ///
    /// # Panics
    /// If there is another one in it.
    pub fn new(vcpu: &'v mut V) -> Self {
        // SAFETY: undone when this value goes, which cannot leave the processor:
        // it is not `Send`, and processors do not exchange their stacks.
        unsafe { vcpu.load() };
        Self {
            vcpu,
            not_send: PhantomData,
        }
    }

    /// Runs the guest until there is a reason to leave it.
    #[inline]
    pub fn run(&mut self) -> Exit {
        // SAFETY: it is loaded here. Interrupts are off but where they are let
        // in on purpose, and nothing that runs there runs guests.
        unsafe { self.vcpu.run() }
    }

    /// Sets XCR0. False if the guest may not set this value.
    pub fn set_xcr0(&mut self, value: u64) -> bool {
        // SAFETY: it is loaded here.
        unsafe { self.vcpu.set_xcr0(value) }
    }
}

impl<V: Vcpu> Drop for Loaded<'_, V> {
    fn drop(&mut self) {
        // SAFETY: it was loaded on this processor, by `new`.
        unsafe { self.vcpu.unload() };
    }
}

impl<V: Vcpu> Deref for Loaded<'_, V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.vcpu
    }
}

impl<V: Vcpu> DerefMut for Loaded<'_, V> {
    fn deref_mut(&mut self) -> &mut V {
        self.vcpu
    }
}
