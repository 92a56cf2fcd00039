//! Memory with address spaces, a log of interrupt messages, and a clock that
//! moves when told to.

use std::collections::BTreeMap;

use dsa_model::{Bus, BusError, Pasid, Requester, TransferError};

pub(crate) const PAGE: u64 = 4096;

/// Bytes by (PASID, page number); a page that is not there faults.
#[derive(Default)]
pub(crate) struct Machine {
    pages: BTreeMap<(Option<u32>, u64), Page>,
    pub(crate) now_ns: u64,
    pub(crate) messages: Vec<(u64, u32)>,
    /// For each message, how many DMA accesses came before it.
    pub(crate) messages_after: Vec<usize>,
    /// Every DMA access, whether it succeeded or not.
    pub(crate) accesses: Vec<Access>,
    /// Nothing answers at this address and above, mapped or not.
    pub(crate) aborts_from: Option<u64>,
    pub(crate) refuses_messages: bool,
}

/// A DMA request of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) pasid: Option<u32>,
    pub(crate) privileged: bool,
    pub(crate) address: u64,
    pub(crate) length: usize,
    pub(crate) write: bool,
}

struct Page {
    bytes: Box<[u8; PAGE as usize]>,
    writable: bool,
}

impl Machine {
    /// Maps pages for everything that touches `address..address + length`.
    pub(crate) fn map(&mut self, pasid: Option<u32>, address: u64, length: u64, writable: bool) {
        for page in address / PAGE..=(address + length.max(1) - 1) / PAGE {
            let bytes = Box::new([0; PAGE as usize]);
            self.pages.insert((pasid, page), Page { bytes, writable });
        }
    }

    pub(crate) fn unmap(&mut self, pasid: Option<u32>, address: u64) {
        self.pages.remove(&(pasid, address / PAGE));
    }

    /// Reads memory as the CPU would.
    pub(crate) fn peek(&self, pasid: Option<u32>, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = address + bytes.len() as u64;
            let inside = (at % PAGE) as usize;
            let count = (length - bytes.len()).min(PAGE as usize - inside);
            let page = &self.pages[&(pasid, at / PAGE)];
            bytes.extend_from_slice(&page.bytes[inside..inside + count]);
        }
        bytes
    }

    /// Reads one byte as the CPU would: the status of a completion record.
    pub(crate) fn peek_byte(&self, pasid: Option<u32>, address: u64) -> u8 {
        self.peek(pasid, address, 1)[0]
    }

    /// Reads eight bytes as the CPU would.
    pub(crate) fn peek64(&self, pasid: Option<u32>, address: u64) -> u64 {
        u64::from_le_bytes(self.peek(pasid, address, 8).try_into().unwrap())
    }

    /// Writes memory as the CPU would.
    pub(crate) fn poke(&mut self, pasid: Option<u32>, address: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = address + done as u64;
            let inside = (at % PAGE) as usize;
            let count = (bytes.len() - done).min(PAGE as usize - inside);
            let page = self.pages.get_mut(&(pasid, at / PAGE)).expect("mapped");
            page.bytes[inside..inside + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
    }

    fn transfer(
        &mut self,
        requester: Requester,
        address: u64,
        length: usize,
        write: bool,
        mut piece: impl FnMut(&mut [u8], usize),
    ) -> Result<(), TransferError> {
        let pasid = requester.pasid.map(Pasid::get);
        self.accesses.push(Access {
            pasid,
            privileged: requester.privileged,
            address,
            length,
            write,
        });
        let mut done = 0;
        while done < length {
            let at = address + done as u64;
            let inside = usize::try_from(at % PAGE).unwrap();
            let count = (length - done).min(PAGE as usize - inside);
            if self.aborts_from.is_some_and(|limit| at >= limit) {
                return Err(TransferError {
                    transferred: done,
                    cause: BusError::Aborted,
                });
            }
            let page = self.pages.get_mut(&(pasid, at / PAGE));
            let Some(page) = page.filter(|page| page.writable || !write) else {
                return Err(TransferError {
                    transferred: done,
                    cause: BusError::PageFault,
                });
            };
            piece(&mut page.bytes[inside..inside + count], done);
            done += count;
        }
        Ok(())
    }
}

impl Bus for Machine {
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn read(
        &mut self,
        requester: Requester,
        address: u64,
        data: &mut [u8],
    ) -> Result<(), TransferError> {
        self.transfer(requester, address, data.len(), false, |memory, done| {
            data[done..done + memory.len()].copy_from_slice(memory);
        })
    }

    fn write(
        &mut self,
        requester: Requester,
        address: u64,
        data: &[u8],
    ) -> Result<(), TransferError> {
        self.transfer(requester, address, data.len(), true, |memory, done| {
            memory.copy_from_slice(&data[done..done + memory.len()]);
        })
    }

    fn send_message(&mut self, address: u64, data: u32) -> Result<(), BusError> {
        if self.refuses_messages {
            return Err(BusError::Aborted);
        }
        self.messages.push((address, data));
        self.messages_after.push(self.accesses.len());
        Ok(())
    }
}
