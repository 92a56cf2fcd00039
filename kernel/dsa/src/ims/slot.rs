//! One slot, in the hands of its owner.

use core::fmt;

use hwspec::dsa::ImsControl;

use super::{Entry, ImsIndex, Message, SlotPasid};
use crate::{Error, RegisterName};

/// An entry of the store in the hands of its owner.
///
/// Each operation leaves the entry masked if it fails. Dropping a slot loses its entry for
/// good, and leaves it as it is: [release](super::Store::release) it.
#[must_use]
pub struct Slot<E> {
    entry: E,
    index: ImsIndex,
    pasid: SlotPasid,
    /// What to send, once somebody said so.
    message: Option<Message>,
    is_enabled: bool,
    is_masked: bool,
    is_ignored: bool,
}

impl<E: Entry> Slot<E> {
    /// A slot for `pasid` in a free entry: masked, and enabled as far as descriptors are
    /// checked. If that fails, the entry is handed back.
    pub(super) fn new(entry: E, index: ImsIndex, pasid: SlotPasid) -> Result<Self, (E, Error)> {
        let mut slot = Self {
            entry,
            index,
            pasid,
            message: None,
            is_enabled: true,
            is_masked: true,
            is_ignored: false,
        };
        match slot.write_control() {
            Ok(()) => Ok(slot),
            Err(error) => Err((slot.entry, error)),
        }
    }

    pub(super) fn into_entry(self) -> E {
        self.entry
    }

    /// Which entry it is.
    pub fn index(&self) -> ImsIndex {
        self.index
    }

    /// In whose name it may be used.
    pub fn pasid(&self) -> SlotPasid {
        self.pasid
    }

    /// What it sends.
    pub fn message(&self) -> Option<Message> {
        self.message
    }

    /// Whether it is masked.
    pub fn is_masked(&self) -> bool {
        self.is_masked
    }

    /// Programs PASID and message, in this order and masked, and unmasks.
    ///
    /// # Errors
    /// If the entry does not keep what is written.
    pub fn enable(&mut self, message: Message) -> Result<(), Error> {
        self.set_message(message)?;
        self.set_masked(false)
    }

    /// Masks, sends what is pending to where it was to go, and takes PASID and message
    /// away: no descriptor can use the slot any more. Its work has been drained.
    ///
    /// # Errors
    /// If the entry does not keep what is written.
    pub fn disable(&mut self) -> Result<(), Error> {
        self.is_masked = true;
        self.write_control()?;
        // Pending is cleared by nothing but the interrupt, and whoever gets the entry next
        // must not get that. Without a message it cannot be pending, for it is ignored.
        if self.is_pending()? && self.message.is_some() {
            self.entry.write_control(self.control().with_mask(false));
            self.read_control()?;
            self.write_control()?;
        }
        self.is_enabled = false;
        self.message = None;
        self.write_control()?;
        self.entry.write_message(Message::NEUTRAL);
        Ok(())
    }

    /// Takes the PASID away: descriptors that name the slot from now on fail. What the
    /// device took before may still interrupt, to be drained before the slot is
    /// [disabled](Self::disable).
    ///
    /// # Errors
    /// If the entry does not keep what is written.
    pub fn retire(&mut self) -> Result<(), Error> {
        self.is_enabled = false;
        self.write_control()
    }

    /// Sets what is sent, masked meanwhile. What was pending is sent anew.
    ///
    /// # Errors
    /// If the entry does not keep what is written.
    pub fn set_message(&mut self, message: Message) -> Result<(), Error> {
        self.write_masked()?;
        self.entry.write_message(message);
        self.message = Some(message);
        self.is_enabled = true;
        self.write_control()
    }

    /// Masks or unmasks. While it is masked, an interrupt is pending; when it is unmasked,
    /// it is sent. When this returns, a masked slot sends nothing.
    ///
    /// # Errors
    /// If it is to be unmasked and has no message; if the entry does not keep what is
    /// written.
    pub fn set_masked(&mut self, is_masked: bool) -> Result<(), Error> {
        if !is_masked && self.message.is_none() {
            return Err(Error::NoMessage(self.index));
        }
        self.is_masked = is_masked;
        self.write_control()
    }

    /// Whether completions raise no interrupt, not even a pending one.
    ///
    /// # Errors
    /// If the entry does not keep what is written.
    pub fn set_ignored(&mut self, is_ignored: bool) -> Result<(), Error> {
        self.is_ignored = is_ignored;
        self.write_control()
    }

    /// Moves the slot to another PASID, masked meanwhile. Descriptors of the old one that
    /// are still in flight fail; drain them first.
    ///
    /// This is for guests with PASIDs of their own: the owner of such a guest's device
    /// looks up the host's PASID and refuses one that it does not know.
    ///
    /// # Errors
    /// If the entry does not keep what is written; it stays masked then.
    pub fn set_pasid(&mut self, pasid: SlotPasid) -> Result<(), Error> {
        self.write_masked()?;
        self.pasid = pasid;
        self.write(self.control().with_mask(true))?;
        self.write_control()
    }

    /// Whether an interrupt waits for the slot to be unmasked.
    ///
    /// # Errors
    /// If there is no device any more.
    pub fn is_pending(&self) -> Result<bool, Error> {
        Ok(self.read_control()?.pending())
    }

    /// Programs the slot anew as it was, after a reset of the device wiped it. What was
    /// pending is lost.
    ///
    /// # Errors
    /// If the entry does not keep what is written; it stays masked then.
    pub fn restore(&mut self) -> Result<(), Error> {
        self.write_masked()?;
        self.entry
            .write_message(self.message.unwrap_or(Message::NEUTRAL));
        self.write_control()
    }

    /// What the entry is to hold.
    fn control(&self) -> ImsControl {
        let control = ImsControl::new()
            .with_mask(self.is_masked)
            // Before there is a message nothing shall become pending, for only a message
            // would end that.
            .with_ignore(self.is_ignored || self.message.is_none());
        match self.pasid {
            SlotPasid::Checked(pasid) if self.is_enabled => {
                control.with_pasid_enable(true).with_pasid(pasid.value())
            }
            _ => control,
        }
    }

    /// Masks, and changes nothing else.
    fn write_masked(&mut self) -> Result<(), Error> {
        let present = self.read_control()?;
        self.write(present.with_mask(true).with_pending(false))
    }

    fn write_control(&mut self) -> Result<(), Error> {
        self.write(self.control())
    }

    /// Writes the control word and reads it back, which also makes sure that the device
    /// has it when this returns. If it does not, masks as well as can be.
    fn write(&mut self, control: ImsControl) -> Result<(), Error> {
        self.entry.write_control(control);
        let present = self.read_control()?;
        if present.with_pending(false) == control {
            return Ok(());
        }
        self.is_masked = true;
        self.entry.write_control(control.with_mask(true));
        Err(Error::SlotNotWritten {
            index: self.index,
            control: present.into_bits(),
            written: control.into_bits(),
        })
    }

    fn read_control(&self) -> Result<ImsControl, Error> {
        read_control(&self.entry)
    }
}

/// What an entry holds, unless there is none.
pub(super) fn read_control(entry: &impl Entry) -> Result<ImsControl, Error> {
    let control = entry.read_control();
    if control.into_bits() == !0 {
        let register = RegisterName::Ims;
        return Err(Error::DeviceGone { register });
    }
    Ok(control)
}

impl<E> fmt::Debug for Slot<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("index", &self.index)
            .field("pasid", &self.pasid)
            .field("message", &self.message)
            .field("is_masked", &self.is_masked)
            .field("is_ignored", &self.is_ignored)
            .finish_non_exhaustive()
    }
}
