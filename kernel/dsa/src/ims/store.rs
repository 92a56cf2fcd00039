//! The entries that nobody uses.

use alloc::collections::VecDeque;
use core::fmt;

use hwspec::dsa::ImsControl;

use super::slot::read_control;
use super::{Entry, ImsIndex, Message, Slot, SlotPasid};
use crate::Error;

/// Who gets which entry. All of them are masked while they are here.
pub struct Store<E> {
    /// The longest unused first, so that a handle that somebody kept too long names a free
    /// entry for as long as possible.
    free: VecDeque<(ImsIndex, E)>,
    count: usize,
    /// The fewest that were ever free.
    fewest_free: usize,
}

/// How many slots there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub total: usize,
    /// Those that nobody has.
    pub free: usize,
    /// The most that somebody had at once.
    pub peak: usize,
}

impl<E: Entry> Store<E> {
    /// The store that consists of `entries`, in the order of their indexes. All are masked
    /// and without PASID afterwards.
    ///
    /// # Errors
    /// If an entry does not keep what is written, or there is no device.
    ///
    /// # Panics
    /// If there are more than 2^16 entries.
    pub fn new(entries: impl IntoIterator<Item = E>) -> Result<Self, Error> {
        let mut free = VecDeque::new();
        for (number, mut entry) in entries.into_iter().enumerate() {
            let number = u16::try_from(number).expect("no IMS has more than 2^16 entries");
            let index = ImsIndex(number);
            neutralise(&mut entry, index)?;
            free.push_back((index, entry));
        }
        let count = free.len();
        Ok(Self {
            free,
            count,
            fewest_free: count,
        })
    }

    /// Makes a free entry a slot for `pasid`: masked, without a message. Descriptors with
    /// that PASID may name it from now on.
    ///
    /// # Errors
    /// If there is none left, or the entry does not keep what is written.
    pub fn allocate(&mut self, pasid: SlotPasid) -> Result<Slot<E>, Error> {
        // An entry with a pending interrupt of somebody else is of no use to anyone: it
        // would be sent to its next owner.
        for _ in 0..self.free.len() {
            let Some((index, entry)) = self.free.pop_front() else {
                break;
            };
            match read_control(&entry) {
                Ok(control) if control.pending() => self.free.push_back((index, entry)),
                Ok(_) => {
                    let slot = Slot::new(entry, index, pasid).map_err(|(entry, error)| {
                        self.free.push_back((index, entry));
                        error
                    });
                    self.fewest_free = self.fewest_free.min(self.free.len());
                    return slot;
                }
                Err(error) => {
                    self.free.push_back((index, entry));
                    return Err(error);
                }
            }
        }
        Err(Error::OutOfSlots { count: self.count })
    }

    /// Disables a slot that came from here and takes its entry back. All work that names it has been drained,
    /// and its message still leads to its old owner, who gets what is pending.
    ///
    /// # Errors
    /// The slot, and why the entry did not keep what was written; this can be tried again.
    pub fn release(&mut self, mut slot: Slot<E>) -> Result<(), (Slot<E>, Error)> {
        match slot.disable() {
            Ok(()) => {
                self.free.push_back((slot.index(), slot.into_entry()));
                Ok(())
            }
            Err(error) => Err((slot, error)),
        }
    }

    /// How many slots there are.
    pub fn counts(&self) -> Counts {
        Counts {
            total: self.count,
            free: self.free.len(),
            peak: self.count - self.fewest_free,
        }
    }
}

/// Masks an entry that nobody uses, and takes PASID and message away.
fn neutralise(entry: &mut impl Entry, index: ImsIndex) -> Result<(), Error> {
    let masked = ImsControl::new().with_mask(true);
    entry.write_control(masked);
    let control = read_control(entry)?;
    if control.with_pending(false) != masked {
        return Err(Error::SlotNotWritten {
            index,
            control: control.into_bits(),
            written: masked.into_bits(),
        });
    }
    entry.write_message(Message::NEUTRAL);
    Ok(())
}

impl<E> fmt::Debug for Store<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("free", &self.free.len())
            .field("count", &self.count)
            .finish()
    }
}
