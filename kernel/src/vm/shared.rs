//! What of a guest any processor may touch, without a lock.
//!
//! There is a fixed number of places for guests, for good: a completion interrupt
//! that comes while its guest is being taken apart finds a place, and nobody in it.
//! An interrupt that names (guest, vDSA, virtual vector) costs two looks into tables:
//! [`Line::route`] says which virtual processor gets which vector.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

use crate::arch::{percpu, smp};
use crate::platform::local_apic::{Delivery, Ipi, Pending, message};

use super::counters::{Counter, Exits};

/// How many guests there can be at once.
pub const MAX_GUESTS: usize = 32;
/// How many virtual processors a guest can have.
pub const MAX_VCPUS: usize = 8;
/// How many virtual DSAs a guest can have.
pub const MAX_VDSAS: usize = 8;
/// How many virtual vectors a virtual DSA can have.
pub const MAX_VECTORS: usize = vdsa::MAX_VECTORS;

/// The places.
static PLACES: [Place; MAX_GUESTS] = [const { Place::new() }; MAX_GUESTS];

/// The place of guest `number`.
#[inline]
pub fn place(number: usize) -> Option<&'static Place> {
    PLACES.get(number)
}

/// The place of one guest.
#[derive(Debug)]
pub struct Place {
    /// Its virtual processors.
    pub vcpus: [VcpuDoor; MAX_VCPUS],
    /// Its virtual DSAs.
    pub vdsas: [VdsaDoor; MAX_VDSAS],
    /// How many virtual processors it has.
    count_vcpus: AtomicUsize,
}

/// The virtual DSAs are to be looked after: something of the physical one has come.
const VDSA_WORK: u8 = 1 << 0;
/// It is to leave its processor for good.
const LEAVE: u8 = 1 << 1;
const _: () = assert!(MAX_VDSAS == 8, "a bit for each");

/// The way to one virtual processor.
#[derive(Debug)]
pub struct VcpuDoor {
    /// Interrupts and signals that wait for it.
    pub pending: Pending,
    /// How often it was left.
    pub exits: Exits,
    /// Completion interrupts that were made pending here.
    pub completions: Counter,
    /// Those of them that the guest takes together with another one: their vector was
    /// pending already. Those that its APIC did not take are here too.
    pub merged: Counter,
    /// What it was asked for: a bit for each.
    requests: AtomicU8,
    /// Virtual DSAs of which a batch of Weir's own has ended: a bit for each.
    batches: AtomicU8,
    /// The processor that it belongs to.
    processor: AtomicUsize,
}

impl VcpuDoor {
    const fn new() -> Self {
        Self {
            pending: Pending::new(),
            exits: Exits::new(),
            completions: Counter::new(),
            merged: Counter::new(),
            requests: AtomicU8::new(0),
            batches: AtomicU8::new(0),
            processor: AtomicUsize::new(0),
        }
    }

    /// Begins anew, on `processor`. Nobody runs it.
    pub fn open(&self, processor: usize) {
        self.pending.forget();
        self.exits.clear();
        self.completions.set(0);
        self.merged.set(0);
        self.requests.store(0, Ordering::SeqCst);
        self.batches.store(0, Ordering::SeqCst);
        self.processor.store(processor, Ordering::SeqCst);
    }

    /// The processor that it belongs to.
    #[inline]
    pub fn processor(&self) -> usize {
        self.processor.load(Ordering::Relaxed)
    }

    /// Makes its processor look at what was raised or asked.
    #[inline]
    pub fn wake(&self) {
        if self.is_elsewhere() {
            smp::wake(self.processor());
        }
    }

    /// Whether another processor than the one that runs this is to look.
    #[inline]
    fn is_elsewhere(&self) -> bool {
        self.processor() != percpu::current().index
    }

    /// Delivers an interrupt or a signal, and wakes its processor. False if there is
    /// no news in it, as [`Pending::deliver`] says.
    #[inline]
    pub fn deliver(&self, delivery: Delivery) -> bool {
        if self.is_elsewhere() {
            self.deliver_elsewhere(delivery)
        } else {
            self.pending.deliver(delivery)
        }
    }

    /// Others run on that processor too: it is woken if there is news, or they would be
    /// left as often as a guest sends to itself.
    #[inline(never)]
    fn deliver_elsewhere(&self, delivery: Delivery) -> bool {
        let is_news = self.pending.deliver(delivery);
        if is_news {
            smp::wake(self.processor());
        }
        is_news
    }

    /// Whether there is something to do between two turns.
    #[inline]
    pub fn has_requests(&self) -> bool {
        self.batches.load(Ordering::Relaxed) != 0 || self.has_other_requests()
    }

    /// The same, batches that have ended not counted.
    #[inline]
    pub fn has_other_requests(&self) -> bool {
        self.requests.load(Ordering::Relaxed) != 0 || self.pending.has_signals()
    }

    #[inline]
    fn ask(&self, request: u8) {
        if self.requests.fetch_or(request, Ordering::SeqCst) & request == 0 {
            self.wake();
        }
    }

    /// Whether `request` was made since this was asked last.
    #[inline]
    fn take(&self, request: u8) -> bool {
        self.requests.load(Ordering::Relaxed) & request != 0
            && self.requests.fetch_and(!request, Ordering::AcqRel) & request != 0
    }

    /// Asks it to hand on batches of virtual DSA `vdsa` that have ended.
    #[inline]
    pub fn ask_to_collect_batches(&self, vdsa: usize) {
        self.batches
            .fetch_or(1 << (vdsa % MAX_VDSAS), Ordering::AcqRel);
        self.wake();
    }

    /// Of which virtual DSAs it was asked to hand on batches since this was asked last: a
    /// bit for each.
    #[inline]
    pub fn take_batches(&self) -> u8 {
        match self.batches.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.batches.swap(0, Ordering::AcqRel),
        }
    }

    /// Asks it to look after the virtual DSAs.
    #[inline]
    pub fn ask_to_serve_vdsas(&self) {
        self.ask(VDSA_WORK);
    }

    /// Whether it was asked to look after the virtual DSAs, since this was asked last.
    #[inline]
    pub fn take_vdsa_work(&self) -> bool {
        self.take(VDSA_WORK)
    }

    /// Asks it to leave its processor.
    pub fn ask_to_leave(&self) {
        self.ask(LEAVE);
    }

    /// Whether it is to leave its processor.
    pub fn is_to_leave(&self) -> bool {
        self.requests.load(Ordering::SeqCst) & LEAVE != 0
    }
}

/// The way to one virtual DSA.
#[derive(Debug)]
pub struct VdsaDoor {
    /// Its interrupt lines, by virtual vector. The first is not used: vector 0 is raised
    /// by software.
    pub lines: [Line; MAX_VECTORS],
    /// A bit for each virtual vector that is to get another slot.
    to_move: AtomicU32,
}

impl VdsaDoor {
    const fn new() -> Self {
        Self {
            lines: [const { Line::new() }; MAX_VECTORS],
            to_move: AtomicU32::new(0),
        }
    }

    /// Asks for another slot for a virtual vector.
    pub fn ask_to_move(&self, vector: u32) {
        let bit = 1_u32.checked_shl(vector).unwrap_or(0);
        self.to_move.fetch_or(bit, Ordering::Release);
    }

    /// Whether there is one for [`take_move`](Self::take_move).
    pub fn has_move(&self) -> bool {
        self.to_move.load(Ordering::Relaxed) != 0
    }

    /// A virtual vector that is to get another slot, if there is one: each time another.
    pub fn take_move(&self) -> Option<u8> {
        let asked = self.to_move.load(Ordering::Acquire);
        if asked == 0 {
            return None;
        }
        self.to_move
            .fetch_and(!(asked & asked.wrapping_neg()), Ordering::AcqRel);
        u8::try_from(asked.trailing_zeros()).ok()
    }

    /// Begins anew.
    pub fn open(&self) {
        self.to_move.store(0, Ordering::SeqCst);
        for line in &self.lines {
            line.connect(None);
            line.raised.set(0);
        }
    }
}

/// Where the completions of one virtual vector go.
#[derive(Debug)]
pub struct Line {
    /// Bit 16: it goes somewhere; 15:8: virtual processor; 7:0: vector of its APIC.
    target: AtomicU32,
    /// Interrupts that came.
    pub raised: Counter,
}

impl Line {
    const CONNECTED: u32 = 1 << 16;

    const fn new() -> Self {
        Self {
            target: AtomicU32::new(0),
            raised: Counter::new(),
        }
    }

    /// Lets interrupts go to `vector` of virtual processor `vcpu`, or nowhere.
    pub fn connect(&self, target: Option<(u8, u8)>) {
        let value = target.map_or(0, |(vcpu, vector)| {
            Self::CONNECTED | u32::from(vcpu) << 8 | u32::from(vector)
        });
        self.target.store(value, Ordering::Release);
    }

    /// Virtual processor and vector that interrupts go to.
    #[inline]
    pub fn route(&self) -> Option<(usize, u8)> {
        let [vector, vcpu, connected, _] = self.target.load(Ordering::Acquire).to_le_bytes();
        (connected != 0).then_some((usize::from(vcpu), vector))
    }
}

impl Place {
    const fn new() -> Self {
        Self {
            vcpus: [const { VcpuDoor::new() }; MAX_VCPUS],
            vdsas: [const { VdsaDoor::new() }; MAX_VDSAS],
            count_vcpus: AtomicUsize::new(0),
        }
    }

    /// Begins anew, for a guest with so many virtual processors.
    pub fn open(&self, count_vcpus: usize) {
        self.count_vcpus
            .store(count_vcpus.min(MAX_VCPUS), Ordering::SeqCst);
        for vdsa in &self.vdsas {
            vdsa.open();
        }
    }

    /// How many virtual processors the guest has.
    pub fn count_vcpus(&self) -> usize {
        self.count_vcpus.load(Ordering::Relaxed)
    }

    /// The ways to its virtual processors.
    pub fn doors(&self) -> impl Iterator<Item = &VcpuDoor> {
        self.vcpus.iter().take(self.count_vcpus())
    }

    /// A completion of `vdsa` for its virtual vector `vector` has come.
    #[inline]
    pub fn complete(&self, vdsa: usize, vector: usize) {
        let vdsa = self.vdsas.get(vdsa);
        let Some(line) = vdsa.and_then(|vdsa| vdsa.lines.get(vector)) else {
            return;
        };
        line.raised.add_shared();
        if let Some((vcpu, vector)) = line.route()
            && let Some(door) = self.vcpus.get(vcpu)
        {
            door.completions.add_shared();
            if !door.deliver(Delivery::Fixed(vector)) {
                door.merged.add_shared();
            }
        }
    }

    /// The processor of the virtual processor that takes the completions of `vdsa` for its
    /// virtual vector `vector`, if they go anywhere at the moment.
    pub fn processor_of(&self, vdsa: usize, vector: usize) -> Option<usize> {
        let line = self.vdsas.get(vdsa)?.lines.get(vector)?;
        let (vcpu, _) = line.route()?;
        self.doors().nth(vcpu).map(VcpuDoor::processor)
    }

    /// A batch of Weir's own, of `vdsa`, has ended. The first virtual processor looks
    /// after it.
    #[inline]
    pub fn batch_ended(&self, vdsa: usize) {
        let [first, ..] = &self.vcpus;
        first.ask_to_collect_batches(vdsa);
    }

    /// Asks for another slot for virtual vector `vector` of all virtual DSAs: handles are
    /// revoked and given anew. The first virtual processor does it.
    pub fn ask_to_move(&self, vector: u32) {
        for vdsa in &self.vdsas {
            vdsa.ask_to_move(vector);
        }
        let [first, ..] = &self.vcpus;
        first.ask_to_serve_vdsas();
    }

    /// Carries what one of the guest's processors or devices sends.
    pub fn send(&self, ipi: &Ipi) {
        for index in ipi.targets.iter() {
            if let Some(door) = self.vcpus.get(index) {
                door.deliver(ipi.delivery);
            }
        }
    }

    /// Raises what a message of a virtual DSA brings. False if that is nothing.
    #[inline]
    pub fn inject(&self, message: vdsa::Message) -> bool {
        if let Some((vcpu, vector)) = plain(message)
            && let Some(door) = self.vcpus.get(vcpu)
            && vcpu < self.count_vcpus()
        {
            door.deliver(Delivery::Fixed(vector));
            return true;
        }
        self.inject_unusual(message)
    }

    #[cold]
    fn inject_unusual(&self, message: vdsa::Message) -> bool {
        let ipi = self.message(message);
        if let Some(ipi) = &ipi {
            self.send(ipi);
        }
        ipi.is_some()
    }

    /// What a message of a device brings, as the guest wrote it.
    pub fn message(&self, message: vdsa::Message) -> Option<Ipi> {
        self::message(message.address.into(), message.data, self.count_vcpus())
    }
}

/// Virtual processor and vector of a message as nearly all of them are: one destination
/// by its APIC ID, fixed delivery, a vector that there is.
#[inline]
fn plain(message: vdsa::Message) -> Option<(usize, u8)> {
    const PREFIX: u32 = 0xfee0_0000;
    let id = message.address.wrapping_sub(PREFIX);
    let vector = u8::try_from(message.data).ok();
    let vector = vector.filter(|&vector| vector >= 16)?;
    // 0xff means all of them; no guest has so many that one could have this number.
    const _: () = assert!(MAX_VCPUS <= 0xff);
    (id & 0xfff == 0).then_some(((id >> 12) as usize, vector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_messages_mean_what_the_manual_says() {
        let addresses = [0xfee0_0000_u32, 0xfee0_3000, 0xfee0_8000, 0xfeef_f000]
            .into_iter()
            .flat_map(|at| [at, at | 4, at | 8, at | 1, at - 0x1000, at ^ 0x8000_0000]);
        for address in addresses {
            for data in [0_u32, 15, 16, 0x41, 0xff, 0x141, 0x441, 0x8041, 0x1_0041] {
                let message = vdsa::Message { address, data };
                let Some((vcpu, vector)) = plain(message) else {
                    continue;
                };
                let ipi = super::message(address.into(), data, 8);
                if vcpu < 8 {
                    let ipi = ipi.unwrap();
                    assert_eq!(ipi.delivery, Delivery::Fixed(vector));
                    assert_eq!(ipi.targets.iter().collect::<std::vec::Vec<_>>(), [vcpu]);
                } else if vcpu != 0xff {
                    // As `inject` finds that nobody has the number; to all of them goes
                    // what is not plain.
                    assert_eq!(ipi, None);
                }
            }
        }
        let message = vdsa::Message {
            address: 0xfee0_3000,
            data: 0x41,
        };
        assert_eq!(plain(message), Some((3, 0x41)));
    }

    /// What a guest sent to itself as it ended is not for the next one in its place.
    #[test]
    fn nothing_waits_at_a_door_that_was_just_opened() {
        let door = VcpuDoor::new();
        for delivery in [Delivery::Init, Delivery::StartUp(0x9a), Delivery::Nmi] {
            door.pending.deliver(delivery);
            assert!(door.has_requests());
            door.open(1);
            assert!(!door.has_requests(), "{delivery:?}");
            assert!(door.pending.is_empty());
        }
    }

    #[test]
    fn completions_come_to_the_processor_of_who_takes_them() {
        let place = Place::new();
        place.open(2);
        place.vcpus[0].open(4);
        place.vcpus[1].open(7);
        assert_eq!(place.processor_of(1, 3), None, "not connected");
        place.vdsas[1].lines[3].connect(Some((1, 0x51)));
        assert_eq!(place.processor_of(1, 3), Some(7));
        place.vdsas[1].lines[3].connect(Some((0, 0x51)));
        assert_eq!(place.processor_of(1, 3), Some(4));
        // One that another guest had here: its processor is not this guest's.
        place.vcpus[2].open(6);
        place.vdsas[1].lines[3].connect(Some((2, 0x51)));
        assert_eq!(place.processor_of(1, 3), None);
        for (vdsa, vector) in [(0, 3), (1, 2), (MAX_VDSAS, 3), (1, MAX_VECTORS)] {
            assert_eq!(place.processor_of(vdsa, vector), None, "{vdsa}, {vector}");
        }
    }

    #[test]
    fn vectors_that_are_to_move_are_taken_one_by_one() {
        let door = VdsaDoor::new();
        assert_eq!(door.take_move(), None);
        door.ask_to_move(3);
        door.ask_to_move(1);
        door.ask_to_move(3);
        door.ask_to_move(32);
        let taken = [door.take_move(), door.take_move(), door.take_move()];
        assert_eq!(taken, [Some(1), Some(3), None]);
    }

    #[test]
    fn a_line_that_is_not_connected_leads_nowhere() {
        let line = Line::new();
        assert_eq!(line.route(), None);
        line.connect(Some((3, 0x51)));
        assert_eq!(line.route(), Some((3, 0x51)));
        line.connect(Some((0, 0)));
        assert_eq!(line.route(), Some((0, 0)));
        line.connect(None);
        assert_eq!(line.route(), None);
    }
}
