//! Interrupt Message Storage: what a device sends when work is done.
//!
//! A *slot* is one entry of the store: a message, a mask, and the PASID in whose name it
//! may be used. Work that names a slot's handle under another PASID fails with error 0x19
//! and interrupts nobody.
//!
//! 1. The [`Store`] has all entries that are free. [`Store::allocate`] makes one a
//!    [`Slot`] for a [`SlotPasid`], which must be known by then: there is no slot that
//!    checks PASIDs and has none.
//! 2. A [`Slot`] owns the registers of its entry and nothing else, so that owners of
//!    different slots share no lock. It starts masked, with no message.
//! 3. [`Slot::enable`] programs PASID and message and unmasks; [`Slot::disable`] masks and
//!    takes the PASID away. Between them there is [`Slot::set_masked`].
//! 4. [`Store::release`] disables a slot and takes its entry back.
//!
//! Where the entries are and how their bits lie is the device's business, and in
//! [`Entry`]: registers of the DSA are [`DeviceEntry`], records in memory [`QueueEntry`].
//!
//! An *index* says which entry; it is no interrupt handle, though devices without handles
//! use it as one, and no vector, which is what a message carries.

mod entry;
mod slot;
mod store;

use core::fmt;

use hwspec::pci::Pasid;

use crate::Error;

pub use entry::{DeviceEntry, Entry, QueueEntry};
pub use slot::Slot;
pub use store::{Counts, Store};

/// Which entry of an Interrupt Message Storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImsIndex(pub u16);

impl fmt::Display for ImsIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IMS index {}", self.0)
    }
}

/// In whose name a slot may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotPasid {
    /// Work with this PASID may.
    Checked(Pasid),
    /// Work without PASID may, whoever submitted it.
    Unchecked(SoleAgent),
}

/// A promise that nobody else submits work to the device, which is what it takes to do
/// without the check. A program in which there are others cannot make one: the feature
/// `sole-agent` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoleAgent(());

impl SoleAgent {
    /// Promises it.
    #[cfg(any(test, feature = "sole-agent"))]
    pub const fn promise() -> Self {
        Self(())
    }
}

/// What a device sends: a 32-bit write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    address: u64,
    data: u32,
}

impl Message {
    /// What an entry has that nobody uses.
    pub(crate) const NEUTRAL: Self = Self {
        address: 0xfee0_0000,
        data: 0,
    };

    /// A write of `data` to `address`, the bits 1:0 of which do not count.
    ///
    /// # Errors
    /// If interrupts do not go to that address: the device would discard it and keep the
    /// one that it had. [DSA 3.0, 9.2.28 "Interrupt Message Storage"]
    pub const fn new(address: u64, data: u32) -> Result<Self, Error> {
        if address >> 20 != 0xfee {
            return Err(Error::MessageAddress { address });
        }
        Ok(Self {
            address: address & !0b11,
            data,
        })
    }

    /// Where it is written.
    pub const fn address(self) -> u64 {
        self.address
    }

    /// What is written.
    pub const fn data(self) -> u32 {
        self.data
    }
}
