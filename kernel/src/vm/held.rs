//! What is held for a virtual processor beside its APIC: events that had to wait, and the
//! offer to end an interrupt without an exit.

use crate::virt::address::GuestPhysAddr;

/// A non-maskable interrupt waits.
const NMI: u8 = 1 << 0;
/// So does the interrupt of [`Held::vector`].
const INTERRUPT: u8 = 1 << 1;
/// The guest ends interrupts by [`Held::word`], where that is offered.
const HAS_WORD: u8 = 1 << 2;
/// The word has been set, for an interrupt that was delivered since the last exit.
const OFFERED: u8 = 1 << 3;

/// The first byte of the word while an end is offered by it, and while none is. The
/// guest clears bit 0 alone.
pub(super) const OFFER: u8 = 1;
pub(super) const NO_OFFER: u8 = 0;

/// What is held for one virtual processor. Where there is nothing, looking costs a
/// comparison.
#[derive(Debug)]
pub(super) struct Held {
    /// What of it there is.
    flags: u8,
    vector: u8,
    word: GuestPhysAddr,
}

impl Held {
    /// Nothing.
    pub(super) const fn nothing() -> Self {
        Self {
            flags: 0,
            vector: 0,
            word: GuestPhysAddr(0),
        }
    }

    /// Whether interrupts are delivered as they come, and ended by writing EOI.
    #[inline]
    pub(super) const fn is_nothing(&self) -> bool {
        self.flags == 0
    }

    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// A non-maskable interrupt has to wait. Two that do are one.
    pub(super) const fn hold_nmi(&mut self) {
        self.flags |= NMI;
    }

    /// Whether one waits.
    pub(super) const fn has_nmi(&self) -> bool {
        self.has(NMI)
    }

    /// It is delivered.
    pub(super) const fn release_nmi(&mut self) {
        self.flags &= !NMI;
    }

    /// An interrupt has to wait that the APIC has in service already, because it had to
    /// give way to an exception.
    pub(super) const fn hold_interrupt(&mut self, vector: u8) {
        self.flags |= INTERRUPT;
        self.vector = vector;
    }

    /// The vector of the one that waits.
    pub(super) const fn interrupt(&self) -> Option<u8> {
        if self.has(INTERRUPT) {
            Some(self.vector)
        } else {
            None
        }
    }

    /// It is delivered.
    pub(super) const fn release_interrupt(&mut self) {
        self.flags &= !INTERRUPT;
    }

    /// From now on the guest ends interrupts by this word, of which the first byte is RAM;
    /// or always by writing EOI.
    pub(super) const fn end_by(&mut self, word: Option<GuestPhysAddr>) {
        self.flags &= !(HAS_WORD | OFFERED);
        if let Some(word) = word {
            self.flags |= HAS_WORD;
            self.word = word;
        }
    }

    /// The word by which the guest ends interrupts, if it does.
    pub(super) const fn word(&self) -> Option<GuestPhysAddr> {
        if self.has(HAS_WORD) {
            Some(self.word)
        } else {
            None
        }
    }

    /// The word was set to [`OFFER`], by which the guest may end the interrupt that is
    /// delivered now, the highest in service.
    pub(super) const fn offer_end(&mut self) {
        self.flags |= OFFERED;
    }

    /// Whether that is so, and was not taken back.
    #[inline]
    pub(super) const fn is_end_offered(&self) -> bool {
        self.has(OFFERED)
    }

    /// Takes the offer back, of which this became. True if the guest has ended the
    /// interrupt by it; else the word is to be set to [`NO_OFFER`].
    pub(super) const fn take_back_end(&mut self, byte: u8) -> bool {
        self.flags &= !OFFERED;
        byte & OFFER == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_held_until_it_is_delivered() {
        let mut held = Held::nothing();
        assert!(held.is_nothing());
        held.hold_nmi();
        held.hold_interrupt(0x41);
        held.hold_nmi();
        assert_eq!((held.has_nmi(), held.interrupt()), (true, Some(0x41)));
        held.release_nmi();
        assert_eq!((held.has_nmi(), held.interrupt()), (false, Some(0x41)));
        held.release_interrupt();
        assert_eq!(held.interrupt(), None);
        assert!(held.is_nothing());
    }

    #[test]
    fn an_end_is_the_guests_if_it_cleared_the_bit() {
        let word = GuestPhysAddr(0x1004);
        let mut held = Held::nothing();
        held.end_by(Some(word));
        assert!(!held.is_nothing() && !held.is_end_offered());
        assert_eq!(held.word(), Some(word));
        // The other bits are not looked at.
        for (byte, has_ended) in [(1, false), (0, true), (0xff, false), (0xfe, true)] {
            held.offer_end();
            assert!(held.is_end_offered());
            assert_eq!(held.take_back_end(byte), has_ended, "{byte:#x}");
            assert!(!held.is_end_offered());
        }
        held.offer_end();
        held.end_by(None);
        assert!(held.is_nothing());
    }
}
