//! Memory as one descriptor may reach it: the bus, under that descriptor's
//! requester, with the faults that the bench asked for.

use crate::bus::{Bus, BusError, Requester, TransferError};

/// Counts DMA accesses and fails the one that the bench chose.
#[derive(Debug, Default)]
pub(crate) struct DmaFaultInjection {
    /// Accesses that still succeed before the chosen one; `None`: no fault.
    countdown: Option<u64>,
}

impl DmaFaultInjection {
    /// Makes the `nth` access from now (1 is the next) fail with a page fault.
    pub(crate) fn arm(&mut self, nth: u64) {
        self.countdown = nth.checked_sub(1);
    }

    fn strikes(&mut self) -> bool {
        match self.countdown {
            Some(0) => {
                self.countdown = None;
                true
            }
            Some(left) => {
                self.countdown = Some(left - 1);
                false
            }
            None => false,
        }
    }
}

/// The memory that one requester reaches over the bus.
pub(crate) struct Memory<'a> {
    bus: &'a mut dyn Bus,
    requester: Requester,
    injection: &'a mut DmaFaultInjection,
}

impl<'a> Memory<'a> {
    pub(crate) fn new(
        bus: &'a mut dyn Bus,
        requester: Requester,
        injection: &'a mut DmaFaultInjection,
    ) -> Self {
        Self {
            bus,
            requester,
            injection,
        }
    }

    /// Reads `data.len()` bytes at `address`.
    pub(crate) fn read(&mut self, address: u64, data: &mut [u8]) -> Result<(), TransferError> {
        self.admit(address, data.len())?;
        self.bus.read(self.requester, address, data)
    }

    /// Writes `data` at `address`.
    pub(crate) fn write(&mut self, address: u64, data: &[u8]) -> Result<(), TransferError> {
        self.admit(address, data.len())?;
        self.bus.write(self.requester, address, data)
    }

    /// Copies from the front of `source` what the bus can copy by itself, and
    /// returns how many bytes that were. None while a fault is armed: it counts
    /// the reads and writes.
    pub(crate) fn copy(&mut self, source: u64, destination: u64, length: usize) -> usize {
        let ends = [source, destination].map(|start| start.checked_add(length as u64));
        if self.injection.countdown.is_some() || ends.contains(&None) {
            return 0;
        }
        let copied = self.bus.copy(self.requester, source, destination, length);
        copied.min(length)
    }

    /// Refuses what must not reach the bus at all.
    fn admit(&mut self, address: u64, length: usize) -> Result<(), TransferError> {
        let fault = TransferError {
            transferred: 0,
            cause: BusError::PageFault,
        };
        if self.injection.strikes() || address.checked_add(length as u64).is_none() {
            return Err(fault);
        }
        Ok(())
    }
}
