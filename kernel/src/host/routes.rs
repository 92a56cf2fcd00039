//! Host vectors: where the interrupts of devices go.
//!
//! Each processor has its own table from vector to target. An interrupt is a
//! look into the table of the processor that it came to, and a call: no lock, no
//! search, nothing allocated. Entries are single words, so the table is changed
//! while interrupts come in.
//!
//! A vector that was given back is not handed out again for a while
//! ([`QUARANTINE_NS`]): an interrupt that was already on its way to the processor
//! must not reach the vector's next owner.

use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use spin::Once;

use crate::arch::trap::DEVICE_VECTORS;
use crate::arch::{clock, percpu, trap};

/// How many vectors a processor has for devices.
pub const VECTORS: usize = (DEVICE_VECTORS.end - DEVICE_VECTORS.start) as usize;

/// How long a vector rests. Processors take interrupts at the end of every time
/// slice at the latest, which is 2 ms.
const QUARANTINE_NS: u64 = 20_000_000;

/// The kinds of words, in their upper two bits.
const KIND_SHIFT: u32 = 62;
/// Nobody's; the other bits are the time since when, 0 if it never was anybody's.
const FREE: u64 = 0;
/// Allocated, and no target was set yet.
const RESERVED: u64 = 1 << KIND_SHIFT;
/// The other bits are a [`HostTarget`].
const HOST: u64 = 2 << KIND_SHIFT;
/// The other bits are a [`GuestTarget`].
const GUEST: u64 = 3 << KIND_SHIFT;
const KIND: u64 = 3 << KIND_SHIFT;

/// What a guest's interrupt is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The virtual vector of that number is to be raised.
    Vector(u16),
    /// Batches of the virtual queue of that number may be done.
    Batch(u16),
}

/// An interrupt on behalf of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestTarget {
    /// The guest's number.
    pub vm: u16,
    /// Which of its virtual accelerators.
    pub device: u8,
    /// What happened.
    pub completion: Completion,
}

/// An interrupt for Weir itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostTarget {
    /// MSI-X entry 0 of the accelerator of that number.
    Accelerator(u8),
    /// The fault event of the IOMMU of that number.
    Iommu(u8),
}

/// Whose an interrupt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Weir's.
    Host(HostTarget),
    /// A guest's.
    Guest(GuestTarget),
}

impl Target {
    /// | bits | guest | host |
    /// |---|---|---|
    /// | 63:62 | 3 | 2 |
    /// | 55:48 | accelerator | 0 accelerator, 1 IOMMU |
    /// | 47:32 | guest | |
    /// | 31:16 | vector or queue | number |
    /// | 0 | 0 vector, 1 batch | |
    ///
    /// Which is also how a [`GuestTarget`] lies in a register, so that unpacking it is
    /// hardly any work.
    const fn pack(self) -> u64 {
        match self {
            Self::Guest(target) => {
                let (kind, number) = match target.completion {
                    Completion::Vector(number) => (0, number),
                    Completion::Batch(number) => (1, number),
                };
                GUEST
                    | (target.device as u64) << 48
                    | (target.vm as u64) << 32
                    | (number as u64) << 16
                    | kind
            }
            Self::Host(HostTarget::Accelerator(number)) => HOST | (number as u64) << 16,
            Self::Host(HostTarget::Iommu(number)) => HOST | 1 << 48 | (number as u64) << 16,
        }
    }

    /// The reverse of [`pack`](Self::pack); nothing if the word holds no target.
    #[inline]
    const fn unpack(word: u64) -> Option<Self> {
        let [flags, _, low, high, vm_low, vm_high, device, _] = word.to_le_bytes();
        match word & KIND {
            GUEST => {
                let number = u16::from_le_bytes([low, high]);
                Some(Self::Guest(GuestTarget {
                    vm: u16::from_le_bytes([vm_low, vm_high]),
                    device,
                    completion: if flags & 1 == 0 {
                        Completion::Vector(number)
                    } else {
                        Completion::Batch(number)
                    },
                }))
            }
            HOST if device == 0 => Some(Self::Host(HostTarget::Accelerator(low))),
            HOST => Some(Self::Host(HostTarget::Iommu(low))),
            _ => None,
        }
    }
}

/// All vectors of a processor are in use, or rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoVector {
    /// The processor.
    pub cpu: usize,
}

impl fmt::Display for NoVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "all {VECTORS} interrupt vectors of processor {} are in use; \
             put guests on other processors",
            self.cpu
        )
    }
}

impl Error for NoVector {}

/// A vector of a processor, in the hands of its owner, who gives it back with
/// [`Routes::free`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Route {
    cpu: usize,
    vector: u8,
}

impl Route {
    /// The processor's number.
    pub fn cpu(&self) -> usize {
        self.cpu
    }

    /// The vector.
    pub fn vector(&self) -> u8 {
        self.vector
    }
}

/// One processor's vectors.
#[derive(Debug)]
struct Table {
    words: [AtomicU64; VECTORS],
    /// Where the next search begins, so that vectors rest as long as possible.
    next: AtomicUsize,
}

/// The vectors of all processors.
#[derive(Debug)]
pub struct Routes {
    tables: Vec<Table>,
    quarantine_ticks: u64,
    /// Interrupts at vectors that nobody has.
    strays: AtomicU32,
}

impl Routes {
    /// For `cpus` processors, with vectors that rest for so many ticks.
    fn new(cpus: usize, quarantine_ticks: u64) -> Self {
        let table = |_| Table {
            words: [const { AtomicU64::new(FREE) }; VECTORS],
            next: AtomicUsize::new(0),
        };
        Self {
            tables: (0..cpus).map(table).collect(),
            quarantine_ticks,
            strays: AtomicU32::new(0),
        }
    }

    /// Takes a vector of processor `cpu`, with no target yet. Waits for nothing.
    ///
    /// # Errors
    /// If there is none, or no such processor.
    pub fn allocate(&self, cpu: usize) -> Result<Route, NoVector> {
        self.allocate_at(cpu, clock::now())
    }

    fn allocate_at(&self, cpu: usize, now: u64) -> Result<Route, NoVector> {
        let none = NoVector { cpu };
        let table = self.tables.get(cpu).ok_or(none)?;
        let start = table.next.load(Ordering::Relaxed);
        for step in 0..VECTORS {
            let index = (start + step) % VECTORS;
            let Some(word) = table.words.get(index) else {
                continue;
            };
            let found = word.load(Ordering::Relaxed);
            let has_rested =
                found == FREE || now.wrapping_sub(found) & !KIND >= self.quarantine_ticks;
            if found & KIND != FREE || !has_rested {
                continue;
            }
            let taken = word.compare_exchange(found, RESERVED, Ordering::AcqRel, Ordering::Relaxed);
            if taken.is_ok() {
                table.next.store(index + 1, Ordering::Relaxed);
                let offset = u8::try_from(index).map_err(|_| none)?;
                let vector = DEVICE_VECTORS.start + offset;
                return Ok(Route { cpu, vector });
            }
        }
        Err(none)
    }

    /// Says where interrupts of `route` go from now on.
    pub fn set_target(&self, route: &Route, target: Target) {
        self.word(route).store(target.pack(), Ordering::Release);
    }

    /// Lets interrupts of `route` go nowhere from now on.
    pub fn clear_target(&self, route: &Route) {
        self.word(route).store(RESERVED, Ordering::Release);
    }

    /// Gives a vector back, to which no device sends any more.
    #[expect(clippy::needless_pass_by_value, reason = "the owner gives it away")]
    pub fn free(&self, route: Route) {
        self.free_at(&route, clock::now());
    }

    /// Gives a vector back to which no device was ever told to send.
    #[expect(clippy::needless_pass_by_value, reason = "the owner gives it away")]
    pub fn free_unused(&self, route: Route) {
        self.word(&route).store(FREE, Ordering::Release);
    }

    fn free_at(&self, route: &Route, now: u64) {
        // 0 would say that it never was anybody's.
        let since = (now & !KIND).max(1);
        self.word(route).store(FREE | since, Ordering::Release);
    }

    fn word(&self, route: &Route) -> &AtomicU64 {
        let table = self.tables.get(route.cpu);
        let index = usize::from(route.vector - DEVICE_VECTORS.start);
        let word = table.and_then(|table| table.words.get(index));
        word.expect("routes are made from these tables")
    }

    /// Whose an interrupt at `vector` of processor `cpu` is.
    #[inline]
    fn target(&self, cpu: usize, vector: u8) -> Option<Target> {
        let index = vector.wrapping_sub(DEVICE_VECTORS.start);
        let word = self.tables.get(cpu)?.words.get(usize::from(index))?;
        Target::unpack(word.load(Ordering::Acquire))
    }

    /// How many vectors of a processor are in use.
    pub fn count_used(&self, cpu: usize) -> usize {
        let words = self.tables.get(cpu).map_or(&[][..], |table| &table.words);
        words
            .iter()
            .filter(|word| word.load(Ordering::Relaxed) & KIND != FREE)
            .count()
    }

    /// How many interrupts came that nobody has a use for: those that were on
    /// their way when their route was taken back.
    pub fn count_strays(&self) -> u32 {
        self.strays.load(Ordering::Relaxed)
    }
}

static INSTALLED: Once<Installed> = Once::new();

/// What an interrupt needs.
#[derive(Debug)]
struct Installed {
    routes: Routes,
    handlers: Handlers,
}

/// Who takes the interrupts of devices. Both are called on the processor to which
/// the interrupt came, with interrupts off: they may not wait, allocate, or take a
/// lock that they may have interrupted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handlers {
    pub(super) guest: fn(GuestTarget),
    pub(super) host: fn(HostTarget),
}

/// Makes the table for the processors that run, and takes the interrupts of
/// devices from now on.
pub(super) fn start(handlers: Handlers) -> &'static Routes {
    let installed = INSTALLED.call_once(|| Installed {
        routes: Routes::new(percpu::all().len(), clock::ticks(QUARANTINE_NS)),
        handlers,
    });
    trap::set_device_handler(device_interrupt);
    &installed.routes
}

/// The handler of [`DEVICE_VECTORS`].
fn device_interrupt(vector: u8) {
    let Some(Installed { routes, handlers }) = INSTALLED.get() else {
        return;
    };
    match routes.target(percpu::current().index, vector) {
        Some(Target::Guest(target)) => (handlers.guest)(target),
        Some(Target::Host(target)) => (handlers.host)(target),
        None => {
            routes.strays.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const GUEST_TARGET: Target = Target::Guest(GuestTarget {
        vm: 0x1234,
        device: 0x56,
        completion: Completion::Vector(0x789a),
    });
    const BATCH_TARGET: Target = Target::Guest(GuestTarget {
        vm: 1,
        device: 0,
        completion: Completion::Batch(7),
    });

    #[test]
    fn targets_are_packed_as_the_table_says() {
        assert_eq!(GUEST_TARGET.pack(), 0xc056_1234_789a_0000);
        assert_eq!(BATCH_TARGET.pack(), 0xc000_0001_0007_0001);
        let accelerator = Target::Host(HostTarget::Accelerator(3));
        assert_eq!(accelerator.pack(), 0x8000_0000_0003_0000);
        let iommu = Target::Host(HostTarget::Iommu(9));
        assert_eq!(iommu.pack(), 0x8001_0000_0009_0000);
        for target in [GUEST_TARGET, BATCH_TARGET, accelerator, iommu] {
            assert_eq!(Target::unpack(target.pack()), Some(target));
        }
        for word in [0, 5, RESERVED, RESERVED | 5] {
            assert_eq!(Target::unpack(word), None);
        }
    }

    #[test]
    fn an_interrupt_finds_its_target_on_its_processor_alone() {
        let routes = Routes::new(2, 100);
        let route = routes.allocate_at(1, 0).unwrap();
        assert_eq!((route.cpu(), route.vector()), (1, 0x30));
        assert_eq!(routes.target(1, 0x30), None);
        routes.set_target(&route, GUEST_TARGET);
        assert_eq!(routes.target(1, 0x30), Some(GUEST_TARGET));
        assert_eq!(routes.target(0, 0x30), None);
        assert_eq!(routes.target(1, 0x31), None);
        routes.clear_target(&route);
        assert_eq!(routes.target(1, 0x30), None);
        assert_eq!(routes.count_used(1), 1);
    }

    #[test]
    fn vectors_that_are_not_for_devices_find_nothing() {
        let routes = Routes::new(1, 100);
        for vector in [0, 0x2f, 0xf0, 0xff] {
            assert_eq!(routes.target(0, vector), None);
        }
        assert_eq!(routes.target(1, 0x30), None);
    }

    #[test]
    fn each_processor_has_192_vectors_and_no_more() {
        let routes = Routes::new(2, 100);
        let vectors: BTreeSet<u8> = (0..192)
            .map(|_| routes.allocate_at(0, 0).unwrap().vector())
            .collect();
        assert_eq!(vectors.len(), 192);
        assert_eq!(vectors.first(), Some(&0x30));
        assert_eq!(vectors.last(), Some(&0xef));
        let none = routes.allocate_at(0, u64::MAX >> 2);
        assert_eq!(none, Err(NoVector { cpu: 0 }));
        assert!(routes.allocate_at(1, 0).is_ok());
        assert_eq!(routes.allocate_at(2, 0), Err(NoVector { cpu: 2 }));
    }

    #[test]
    fn a_vector_rests_before_it_is_somebody_elses() {
        let routes = Routes::new(1, 100);
        let mut all: Vec<Route> = (0..VECTORS)
            .map(|_| routes.allocate_at(0, 0).unwrap())
            .collect();
        let route = all.remove(7);
        routes.set_target(&route, GUEST_TARGET);
        routes.free_at(&route, 1000);
        assert_eq!(routes.target(0, route.vector()), None);
        assert_eq!(routes.allocate_at(0, 1099), Err(NoVector { cpu: 0 }));
        let again = routes.allocate_at(0, 1100).unwrap();
        assert_eq!(again.vector(), route.vector());
        // It does not lead where it led before.
        assert_eq!(routes.target(0, again.vector()), None);
    }

    /// The time is kept in 62 bits.
    #[test]
    fn resting_survives_the_end_of_the_clock() {
        let routes = Routes::new(1, 100);
        let mut all: Vec<Route> = (0..VECTORS)
            .map(|_| routes.allocate_at(0, 0).unwrap())
            .collect();
        routes.free_at(&all.remove(0), !KIND - 9);
        let late = (1 << KIND_SHIFT) + 89;
        assert_eq!(routes.allocate_at(0, late), Err(NoVector { cpu: 0 }));
        assert!(routes.allocate_at(0, late + 1).is_ok());
    }

    #[test]
    fn a_vector_that_was_just_freed_is_the_last_to_be_taken() {
        let routes = Routes::new(1, 0);
        let first = routes.allocate_at(0, 5).unwrap();
        routes.free_at(&first, 5);
        let second = routes.allocate_at(0, 5).unwrap();
        assert_ne!(first.vector(), second.vector());
    }
}
