//! Where entries are, and how their bits lie.

use core::fmt;

use hwio::{DmaPages, Registers};
use hwspec::dsa::{ImsControl, ImsEntry};

use super::Message;

/// One entry, wherever it is.
///
/// The [`ImsControl`] of a layout that has other bits is put together from them. A write
/// takes effect before anything that is read afterwards.
pub trait Entry {
    /// Sets the message. The entry is masked.
    fn write_message(&mut self, message: Message);

    /// Sets Mask, Ignore, PASID Enable and PASID, all at once as the device sees it.
    fn write_control(&mut self, control: ImsControl);

    /// What the entry holds, and whether an interrupt is pending; all ones if there is no
    /// device any more.
    fn read_control(&self) -> ImsControl;
}

/// The array layout: an entry in a device's registers, 16 bytes.
/// [DSA 3.0, 9.2.28 "Interrupt Message Storage"]
#[derive(Debug)]
pub struct DeviceEntry<R> {
    registers: R,
}

impl<R: Registers> DeviceEntry<R> {
    const PLACE: ImsEntry = ImsEntry::at(0, 0);

    /// The entry that is all there is in the window `registers`.
    ///
    /// # Panics
    /// If the window has another size than an entry.
    pub fn new(registers: R) -> Self {
        assert!(
            registers.len_bytes() == ImsEntry::STRIDE,
            "an IMS entry has a window of 16 bytes, not of {}",
            registers.len_bytes()
        );
        Self { registers }
    }
}

impl<R: Registers> Entry for DeviceEntry<R> {
    fn write_message(&mut self, message: Message) {
        self.registers
            .write(Self::PLACE.address(), message.address());
        self.registers.write(Self::PLACE.data(), message.data());
    }

    fn write_control(&mut self, control: ImsControl) {
        self.registers.write(Self::PLACE.control(), control);
    }

    fn read_control(&self) -> ImsControl {
        self.registers.read(Self::PLACE.control())
    }
}

/// The queue layout: a record in memory that belongs to a context of a device. The device
/// reads it when the doorbell `D` tells it to. Four 64-bit words:
///
/// | word | bits | |
/// |---|---|---|
/// | 0 | 0, 1, 2 | live (the reverse of Mask), Ignore, PASID Enable |
/// | 0 | 63:32 | PASID |
/// | 1 | 63:0 | message address |
/// | 2 | 31:0 | message data |
/// | 3 | 0 | pending, which the device writes |
///
/// No device of ours has it. It is here so that the store stays free of what the DSA's
/// layout happens to be.
pub struct QueueEntry<P, D> {
    pages: P,
    first_word: usize,
    is_coherent: bool,
    doorbell: D,
}

impl<P: DmaPages, D: FnMut()> QueueEntry<P, D> {
    /// Words of a record.
    pub const WORDS: usize = 4;

    const LIVE: u64 = 1 << 0;
    const IGNORE: u64 = 1 << 1;
    const PASID_ENABLE: u64 = 1 << 2;
    const PASID_SHIFT: u32 = 32;

    /// The record whose first word is word `first_word` of `pages`, which nobody else
    /// uses. If the device does not look into the CPU's caches, `is_coherent` is false.
    /// When `doorbell` returns, the device has seen the record as it is.
    ///
    /// # Panics
    /// If the pages end before the record does.
    pub fn new(pages: P, first_word: usize, is_coherent: bool, doorbell: D) -> Self {
        let end = first_word.checked_add(Self::WORDS);
        assert!(
            end.is_some_and(|end| end <= pages.len_words()),
            "a record at word {first_word} of {}",
            pages.len_words()
        );
        Self {
            pages,
            first_word,
            is_coherent,
            doorbell,
        }
    }

    fn write(&mut self, word: usize, value: u64) {
        let index = self.first_word + word;
        self.pages.write_word(index, value);
        if !self.is_coherent {
            self.pages.write_back(index..index + 1);
        }
    }
}

impl<P: DmaPages, D: FnMut()> Entry for QueueEntry<P, D> {
    fn write_message(&mut self, message: Message) {
        self.write(1, message.address());
        self.write(2, message.data().into());
    }

    fn write_control(&mut self, control: ImsControl) {
        let bit = |condition: bool, bit: u64| if condition { bit } else { 0 };
        let word = bit(!control.mask(), Self::LIVE)
            | bit(control.ignore(), Self::IGNORE)
            | bit(control.pasid_enable(), Self::PASID_ENABLE)
            | u64::from(control.pasid()) << Self::PASID_SHIFT;
        self.write(0, word);
        (self.doorbell)();
    }

    fn read_control(&self) -> ImsControl {
        let word = self.pages.read_word(self.first_word);
        let pending = self.pages.read_word(self.first_word + 3);
        let pasid = u32::try_from(word >> Self::PASID_SHIFT).unwrap_or(0) & 0xf_ffff;
        ImsControl::new()
            .with_mask(word & Self::LIVE == 0)
            .with_pending(pending & 1 == 1)
            .with_ignore(word & Self::IGNORE != 0)
            .with_pasid_enable(word & Self::PASID_ENABLE != 0)
            .with_pasid(pasid)
    }
}

impl<P: fmt::Debug, D> fmt::Debug for QueueEntry<P, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueEntry")
            .field("pages", &self.pages)
            .field("first_word", &self.first_word)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
