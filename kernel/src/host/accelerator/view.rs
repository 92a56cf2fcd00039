//! What an accelerator shows to people. Nothing here waits: it is nothing for as long as
//! somebody uses the device.

use core::fmt;

use dsa::{InterruptHandle, QueuePasid};

use super::Accelerator;
use crate::host::pci::Function;
use crate::host::service::{SlotPlace, SlotUse, Status};

/// A function's address as people write it: segment, bus, device, function.
#[derive(Clone, Copy, Debug)]
pub struct PciAddress<'f>(pub &'f Function);

impl fmt::Display for PciAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{}", self.0.segment, self.0.source)
    }
}

impl Accelerator {
    /// Its PCI address.
    pub fn address(&self) -> PciAddress<'_> {
        PciAddress(&self.function)
    }

    /// How it is.
    pub fn try_status(&self) -> Option<Status> {
        self.service.try_status()
    }

    /// How a queue is enabled; nothing within if it is not.
    pub fn try_queue(&self, queue: u8) -> Option<Option<QueuePasid>> {
        self.service.try_queue(queue)
    }

    /// The first interrupt slot in use from `place` on, and where to go on behind it;
    /// nothing within at the end.
    pub fn try_next_slot(&self, place: SlotPlace) -> Option<Option<(SlotUse, SlotPlace)>> {
        self.service.try_next_slot(place)
    }

    /// The slot that has a handle; nothing within if none has.
    pub fn try_slot_of_handle(&self, handle: InterruptHandle) -> Option<Option<SlotUse>> {
        self.service.try_slot_of_handle(handle)
    }
}
