//! Interrupts of devices.

use hwio::{Clock, DmaPages, Registers};
use hwspec::pci::SourceId;
use hwspec::vtd::RemappableAddress;

use crate::{Error, InterruptIndex, RemappingUnit, invalidation};

/// Where an interrupt goes: edge-triggered, to one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The CPU's x2APIC id.
    pub apic_id: u32,
    /// The vector.
    pub vector: u8,
}

/// What a device is to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptMessage {
    /// Where to write.
    pub address: u64,
    /// What to write. The unit does not look at it.
    pub data: u32,
}

impl InterruptIndex {
    /// The message by which a device refers to this entry.
    /// [VT-d 5.10, 5.1.5 "Programming Interrupt Sources To Generate Remappable
    /// Interrupts"]
    pub fn message(self) -> InterruptMessage {
        // With SHV = 0, so that nothing but the address counts.
        InterruptMessage {
            address: RemappableAddress::for_index(self.number())
                .into_bits()
                .into(),
            data: 0,
        }
    }
}

impl<R: Registers, P: DmaPages, C: Clock> RemappingUnit<R, P, C> {
    /// Takes a remapping entry that only `source` may use. Its interrupts are blocked
    /// until it is [set](Self::set_interrupt).
    ///
    /// # Errors
    /// If there are no more.
    pub fn allocate_interrupt(&mut self, source: SourceId) -> Result<InterruptIndex, Error> {
        self.tables.interrupts.allocate(source)
    }

    /// Sets where an entry's interrupts go, for the first time or anew. When this
    /// returns, none goes where it went before.
    ///
    /// # Errors
    /// If the entry is not allocated, or the unit does not confirm.
    pub fn set_interrupt(&mut self, index: InterruptIndex, route: Route) -> Result<(), Error> {
        let was_present = self.tables.interrupts.set(index, route)?;
        if was_present || self.capabilities.cap.cm() {
            self.invalidate(&[invalidation::interrupt_changed(index)])?;
        }
        Ok(())
    }

    /// Gives an entry back. When this returns, its interrupts are blocked, and those
    /// that were on their way have arrived.
    ///
    /// # Errors
    /// If the entry is not allocated; or if the unit does not confirm, in which case it
    /// stays allocated, and this can be tried again.
    pub fn release_interrupt(&mut self, index: InterruptIndex) -> Result<(), Error> {
        self.tables.interrupts.clear(index)?;
        self.invalidate(&[invalidation::interrupt_changed(index)])?;
        self.tables.interrupts.release(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_entry() {
        let message = |number| InterruptIndex::new(number).message();
        assert_eq!(message(5).address, 0xfee0_00b0);
        assert_eq!(message(0x8001).address, 0xfee0_0034);
        assert_eq!(message(5).data, 0);
    }
}
