//! What is on its way to a virtual processor.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::ipi::Delivery;

const NMI: u32 = 1 << 0;
const INIT: u32 = 1 << 1;
const START_UP: u32 = 1 << 2;
/// A vector below 16 was sent to this processor.
const ILLEGAL_VECTOR: u32 = 1 << 3;
/// What concerns the virtual processor beside interrupts.
const SIGNALS: u32 = NMI | INIT | START_UP;

/// What is on its way to one virtual processor. Any processor may add to it,
/// without a lock; the one that runs the virtual processor takes from it.
///
/// This is the Interrupt Request Register, and what has no vector besides.
#[derive(Debug, Default)]
pub struct Pending {
    /// A bit for each vector; 64 vectors in a word.
    requests: [AtomicU64; 4],
    signals: AtomicU32,
    /// The page of the last start-up.
    page: AtomicU8,
    /// The APIC is enabled by software: it takes interrupts.
    is_enabled: AtomicBool,
}

/// What a virtual processor has to do before it runs on. In this order: INIT, then
/// start-up, then the NMI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// INIT: begin anew, and wait for a start-up.
    pub init: bool,
    /// Start-up at this page; only of interest to one that waits for it.
    pub start_up: Option<u8>,
    /// A non-maskable interrupt. Two that come before it is taken are one.
    pub nmi: bool,
}

impl Pending {
    /// Nothing pending, and not enabled, as after a reset.
    pub const fn new() -> Self {
        Self {
            requests: [const { AtomicU64::new(0) }; 4],
            signals: AtomicU32::new(0),
            page: AtomicU8::new(0),
            is_enabled: AtomicBool::new(false),
        }
    }

    /// Requests an interrupt. An APIC that software has not enabled does not take
    /// it, and none takes a vector below 16. False if there is nothing new to be
    /// looked at: the interrupt was requested already, or is not taken.
    #[inline]
    pub fn raise(&self, vector: u8) -> bool {
        if vector < 16 {
            self.signals.fetch_or(ILLEGAL_VECTOR, Ordering::Relaxed);
        } else if self.is_enabled.load(Ordering::Relaxed) {
            let (word, bit) = self.place(vector);
            return word.fetch_or(bit, Ordering::AcqRel) & bit == 0;
        }
        false
    }

    /// Adds what an inter-processor interrupt or a device's message brings. False if
    /// there is nothing new to be looked at: then whoever brought the first of its
    /// kind has seen to it that somebody looks.
    #[inline]
    pub fn deliver(&self, delivery: Delivery) -> bool {
        match delivery {
            Delivery::Fixed(vector) => self.raise(vector),
            signal => self.signal(signal),
        }
    }

    /// Adds what is no interrupt. All signals are taken at once, so only the first is
    /// news.
    #[cold]
    fn signal(&self, signal: Delivery) -> bool {
        let bit = match signal {
            Delivery::Fixed(_) => return false,
            Delivery::Nmi => NMI,
            Delivery::Init => {
                // A start-up that came before has nothing to start any longer.
                self.signals.fetch_and(!START_UP, Ordering::AcqRel);
                INIT
            }
            Delivery::StartUp(page) => {
                self.page.store(page, Ordering::Relaxed);
                START_UP
            }
        };
        // Whoever takes the signals in between took none of this one: only this looks.
        self.signals.fetch_or(bit, Ordering::AcqRel) & SIGNALS == 0
    }

    /// Whether there are signals to be taken.
    #[inline]
    pub fn has_signals(&self) -> bool {
        self.signals.load(Ordering::Relaxed) & SIGNALS != 0
    }

    /// Takes the signals.
    pub fn take_signals(&self) -> Signals {
        let signals = self.signals.fetch_and(!SIGNALS, Ordering::AcqRel);
        Signals {
            init: signals & INIT != 0,
            start_up: (signals & START_UP != 0).then(|| self.page.load(Ordering::Relaxed)),
            nmi: signals & NMI != 0,
        }
    }

    /// Whether no interrupt is requested, deliverable or not, and no signal there.
    #[inline]
    pub fn is_empty(&self) -> bool {
        let [a, b, c, d] = &self.requests;
        let load = |word: &AtomicU64| word.load(Ordering::Acquire);
        load(a) | load(b) | load(c) | load(d) == 0 && !self.has_signals()
    }

    /// The highest vector that is requested.
    #[inline]
    pub(super) fn highest(&self) -> Option<u8> {
        let [a, b, c, d] = &self.requests;
        for (first, word) in [(192, d), (128, c), (64, b), (0, a)] {
            let word = word.load(Ordering::Acquire);
            if word != 0 {
                return Some(first + highest_bit(word));
            }
        }
        None
    }

    /// Takes a request away, for it is in service now.
    #[inline]
    pub(super) fn clear(&self, vector: u8) {
        let (word, bit) = self.place(vector);
        word.fetch_and(!bit, Ordering::AcqRel);
    }

    /// The requests of 32 vectors, `number` * 32 and following.
    pub(super) fn request_register(&self, number: u32) -> u32 {
        self.requests
            .get(number as usize / 2)
            .map_or(0, |word| half(word.load(Ordering::Acquire), number))
    }

    /// Whether a vector below 16 was sent here since this was last asked.
    pub(super) fn take_illegal_vector(&self) -> bool {
        self.signals.fetch_and(!ILLEGAL_VECTOR, Ordering::Relaxed) & ILLEGAL_VECTOR != 0
    }

    /// Whether interrupts are taken from now on.
    pub(super) fn set_enabled(&self, is_enabled: bool) {
        self.is_enabled.store(is_enabled, Ordering::Relaxed);
    }

    /// Forgets the interrupts. Signals stay, for INIT may be the reason for this,
    /// and a start-up may have followed it already.
    pub(super) fn reset(&self) {
        self.set_enabled(false);
        for word in &self.requests {
            word.store(0, Ordering::Release);
        }
        self.take_illegal_vector();
    }

    /// Forgets everything, for a processor of which nobody has heard yet.
    pub fn forget(&self) {
        self.reset();
        self.signals.store(0, Ordering::SeqCst);
    }

    #[inline]
    fn place(&self, vector: u8) -> (&AtomicU64, u64) {
        let [first, ..] = &self.requests;
        // There are four.
        let word = self.requests.get(usize::from(vector >> 6));
        let word = word.unwrap_or(first);
        (word, 1 << (vector & 63))
    }
}

/// The number of the highest bit that is set, of which there must be one.
#[inline]
pub(super) const fn highest_bit(word: u64) -> u8 {
    let [bit, ..] = (word | 1).ilog2().to_le_bytes();
    bit
}

/// The low or the high half of a word, as the register of this number shows it.
pub(super) const fn half(word: u64, number: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    if number.is_multiple_of(2) {
        u32::from_le_bytes([a, b, c, d])
    } else {
        u32::from_le_bytes([e, f, g, h])
    }
}
