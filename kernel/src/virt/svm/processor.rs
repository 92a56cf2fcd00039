//! Each processor's side of SVM: what it needs to run guests, and who has which
//! address-space identifier on it.

use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use hwspec::x86::svm::{VM_CR, VM_CR_SVMDIS, VM_HSAVE_PA};
use spin::Once;
use x86_64::PhysAddr;
use x86_64::registers::model_specific::{Efer, EferFlags, Msr};

use crate::arch::features::features;
use crate::arch::percpu::{self, PerCpu};
use crate::mm::{Frames, OutOfMemory};
use crate::refusal::Refusal;
use crate::virt::extended_state;

static PROCESSORS: Once<PerCpu<Processor>> = Once::new();

/// What a processor needs to run guests.
#[derive(Debug)]
pub(super) struct Processor {
    /// Where VMRUN saves the host's state.
    host_save: Frames,
    /// A control block for the part of the host's state that VMRUN does not
    /// save: FS, GS, TR, LDTR and some registers.
    host_block: Frames,
    /// Set while a virtual processor is in this one.
    is_taken: AtomicBool,
    /// The next address-space identifier to be given out.
    next_asid: AtomicU32,
    /// How often all of them have been given out.
    asid_generation: AtomicU64,
}

/// An address-space identifier on one processor: tags a guest's entries in the
/// TLB. Valid as long as its generation is the processor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asid {
    pub(super) processor: PhysAddr,
    pub(super) generation: u64,
    pub(super) number: u32,
}

/// Makes what each processor needs.
pub(super) fn init() -> Result<(), OutOfMemory> {
    let count = percpu::all().len();
    let made = (0..count).map(|_| Processor::new());
    let mut made = made.collect::<Result<Vec<_>, _>>()?;
    PROCESSORS.call_once(|| PerCpu::new(|_| made.pop().expect("there is one for each")));
    Ok(())
}

/// The side of the processor that runs this.
pub(super) fn here() -> &'static Processor {
    PROCESSORS
        .get()
        .expect("processors are prepared first")
        .here()
}

/// Switches SVM on, on the processor that runs this.
pub(super) fn enable() -> Result<(), Refusal> {
    // SAFETY: the register is there with SVM, and reading it changes nothing.
    if unsafe { Msr::new(VM_CR).read() } & VM_CR_SVMDIS != 0 {
        return Err(Refusal::SvmDisabled);
    }
    extended_state::enable();
    // SAFETY: makes instructions available.
    unsafe { Efer::update(|efer| *efer |= EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE) };
    let processor = here();
    let mut register = Msr::new(VM_HSAVE_PA);
    // SAFETY: the frame is this processor's for good.
    unsafe { register.write(processor.host_save.start().as_u64()) };
    // SAFETY: as above. What is saved stays true: the kernel sets none of it
    // again on this processor.
    unsafe {
        asm!(
            "vmsave rax",
            in("rax") processor.host_block.start().as_u64(),
            options(nostack, preserves_flags),
        );
    };
    Ok(())
}

impl Processor {
    fn new() -> Result<Self, OutOfMemory> {
        Ok(Self {
            host_save: Frames::allocate_zeroed(1)?,
            host_block: Frames::allocate_zeroed(1)?,
            is_taken: AtomicBool::new(false),
            next_asid: AtomicU32::new(1),
            asid_generation: AtomicU64::new(0),
        })
    }

    /// Where the host's control block is.
    pub(super) fn host_block(&self) -> PhysAddr {
        self.host_block.start()
    }

    /// Takes the processor for a virtual one.
    pub(super) fn take(&self) {
        let was_taken = self.is_taken.swap(true, Ordering::Relaxed);
        assert!(
            !was_taken,
            "a processor runs one virtual processor at a time"
        );
    }

    /// Frees it.
    pub(super) fn free(&self) {
        self.is_taken.store(false, Ordering::Relaxed);
    }

    /// An identifier for a guest that had `old` on some processor, and whether
    /// the TLB must be flushed before it is used.
    ///
    /// Identifiers are given out one after the other. When all have been, a new
    /// generation begins with a flush of everything, and whoever comes with one
    /// of an old generation gets a new one.
    pub(super) fn asid(&self, old: Option<Asid>) -> (Asid, bool) {
        let generation = self.asid_generation.load(Ordering::Relaxed);
        let processor = self.host_save.start();
        if let Some(old) = old
            && old.processor == processor
            && old.generation == generation
        {
            return (old, false);
        }
        let next = self.next_asid.load(Ordering::Relaxed);
        let (number, generation, flush) = next_asid(next, generation, features().asids);
        self.next_asid.store(number + 1, Ordering::Relaxed);
        self.asid_generation.store(generation, Ordering::Relaxed);
        let asid = Asid {
            processor,
            generation,
            number,
        };
        (asid, flush)
    }
}

/// The identifier that is given out when `next` would be the next of `count`.
fn next_asid(next: u32, generation: u64, count: u32) -> (u32, u64, bool) {
    if next < count {
        (next, generation, false)
    } else {
        (1, generation + 1, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D19: on the emulated box a missing flush would never show.
    #[test]
    fn identifiers_are_used_again_only_after_a_flush() {
        let (mut next, mut generation) = (1, 0);
        let mut given = Vec::new();
        for _ in 0..10 {
            let flush;
            (next, generation, flush) = next_asid(next, generation, 4);
            if flush {
                given.clear();
            }
            assert!((1..4).contains(&next), "0 is the host's");
            assert!(!given.contains(&(generation, next)));
            given.push((generation, next));
            next += 1;
        }
        assert_eq!(generation, 3);
    }
}
