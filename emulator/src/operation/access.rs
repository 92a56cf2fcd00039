//! Memory as operations see it: the regions that a descriptor names, and what
//! becomes of an access that fails.

use crate::bits::low32;
use crate::bus::{BusError, TransferError};
use crate::completion::{Operand, Outcome, PageFault, Status};
use crate::memory::Memory;

/// The granule of address translation, and so of page faults.
pub(super) const PAGE_BYTES: usize = 4096;

/// A page-sized buffer between source and destination: small enough to stay in
/// the first-level cache between the read and the write.
pub(super) type Staging = [u8; PAGE_BYTES];

/// A region of memory that one operand of the descriptor names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) operand: Operand,
    pub(super) base: u64,
}

impl Region {
    pub(super) const fn new(operand: Operand, base: u64) -> Self {
        Self { operand, base }
    }

    /// Bytes from `offset` to the end of the page that it lies in.
    fn bytes_to_page_end(self, offset: u64) -> u64 {
        let page = PAGE_BYTES as u64;
        page - self.base.wrapping_add(offset) % page
    }

    /// Bytes from the beginning of the page in which the byte before `end`
    /// lies up to `end`.
    fn bytes_from_page_start(self, end: u64) -> u64 {
        self.base.wrapping_add(end).wrapping_sub(1) % PAGE_BYTES as u64 + 1
    }
}

/// How many bytes the next step may take: what is left of `size` after `done`,
/// but nothing that crosses a page in any of `regions`. A page fault then takes
/// a whole step or nothing of it, and the count of completed bytes is exact.
pub(super) fn step<const N: usize>(done: u64, size: u64, regions: [Region; N]) -> usize {
    let bytes = regions
        .iter()
        .map(|region| region.bytes_to_page_end(done))
        .fold(size.saturating_sub(done), u64::min);
    at_most(bytes, PAGE_BYTES)
}

/// The same for a step that ends at `end`, for work that goes downwards.
pub(super) fn step_down<const N: usize>(end: u64, regions: [Region; N]) -> usize {
    let bytes = regions
        .iter()
        .map(|region| region.bytes_from_page_start(end))
        .fold(end, u64::min);
    at_most(bytes, PAGE_BYTES)
}

/// `bytes`, but not more than `limit`.
pub(super) fn at_most(bytes: u64, limit: usize) -> usize {
    usize::try_from(bytes).unwrap_or(limit).min(limit)
}

/// The first `length` bytes of `buffer`.
pub(super) fn front(buffer: &[u8], length: usize) -> &[u8] {
    buffer.get(..length).unwrap_or(buffer)
}

/// The first `length` bytes of `buffer`, to be written.
pub(super) fn front_mut(buffer: &mut [u8], length: usize) -> &mut [u8] {
    let length = length.min(buffer.len());
    buffer.split_at_mut(length).0
}

/// What is left of the bytes that one call may move.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.bytes
    }

    /// Takes `bytes` away; returns whether there are some left.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.bytes > 0
    }
}

/// Why an operation cannot go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    /// Bytes at the front of the failed access that were transferred.
    pub(super) transferred: usize,
    status: Status,
    fault: Option<PageFault>,
}

impl Stop {
    /// The outcome of an operation that stopped here after `bytes_completed`.
    pub(super) fn outcome(self, bytes_completed: u64) -> Outcome {
        Outcome {
            bytes_completed: low32(bytes_completed),
            fault: self.fault,
            ..Outcome::new(self.status)
        }
    }
}

/// How many bytes of an access of `length` bytes were transferred.
pub(super) fn transferred(access: Result<(), Stop>, length: usize) -> usize {
    access.map_or_else(|stop| stop.transferred, |()| length)
}

/// The operands of one descriptor, in memory.
pub(super) struct Operands<'memory, 'bus> {
    memory: &'memory mut Memory<'bus>,
    block_on_fault: bool,
    reports_page_faults: bool,
    /// The last byte that was to be written so far.
    last_written: Option<u64>,
}

impl<'memory, 'bus> Operands<'memory, 'bus> {
    pub(super) fn new(
        memory: &'memory mut Memory<'bus>,
        block_on_fault: bool,
        reports_page_faults: bool,
    ) -> Self {
        Self {
            memory,
            block_on_fault,
            reports_page_faults,
            last_written: None,
        }
    }

    /// The address of the last byte that was written through this, or lost.
    pub(super) fn last_written(&self) -> Option<u64> {
        self.last_written
    }

    /// Reads a byte to see that the writes before it have arrived
    /// [§8.1.3.1 "Cache Control Hints"].
    pub(super) fn read_back(&mut self, address: u64) -> Result<(), TransferError> {
        self.memory.read(address, &mut [0])
    }

    /// Copies from `offset` of one region to the same offset of another what the
    /// bus can copy without a buffer of ours, and returns how many bytes of
    /// `length` that were. It says nothing about the others.
    pub(super) fn copy(
        &mut self,
        source: Region,
        destination: Region,
        offset: u64,
        length: usize,
    ) -> usize {
        let [Some(from), Some(to)] =
            [source, destination].map(|region| region.base.checked_add(offset))
        else {
            return 0;
        };
        let copied = self.memory.copy(from, to, length);
        if let Some(last) = (copied as u64).checked_sub(1) {
            self.last_written = Some(to + last);
        }
        copied
    }

    /// Reads `data.len()` bytes at `offset` of `region`.
    pub(super) fn read(
        &mut self,
        region: Region,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), Stop> {
        let length = data.len();
        let result = match region.base.checked_add(offset) {
            Some(address) => self.memory.read(address, data),
            None => Err(BEYOND_MEMORY),
        };
        result.map_err(|error| self.stop(region, offset, length, error, false))
    }

    /// Writes `data` at `offset` of `region`.
    pub(super) fn write(&mut self, region: Region, offset: u64, data: &[u8]) -> Result<(), Stop> {
        let mut done = 0;
        while done < data.len() {
            let offset = offset + done as u64;
            let rest = data.get(done..).unwrap_or_default();
            let result = match region.base.checked_add(offset) {
                Some(address) => self.memory.write(address, rest),
                None => Err(BEYOND_MEMORY),
            };
            let Err(error) = result else {
                break;
            };
            let stop = self.stop(region, offset, rest.len(), error, true);
            done += stop.transferred;
            if self.reports_page_faults || error.cause != BusError::PageFault {
                return Err(Stop {
                    transferred: done,
                    ..stop
                });
            }
            // What was meant for this page is lost, and nobody is told.
            let behind = region.bytes_to_page_end(offset + stop.transferred as u64);
            done += at_most(behind, data.len());
        }
        let last = (data.len() as u64).checked_sub(1);
        let end = last.and_then(|last| offset.checked_add(last));
        let address = end.and_then(|end| region.base.checked_add(end));
        self.last_written = address.or(self.last_written);
        Ok(())
    }

    /// What a failed access means for the descriptor [Table 5-6 "Operation
    /// Status Codes"; §3.13.1 where page faults are not reported].
    fn stop(
        &self,
        region: Region,
        offset: u64,
        length: usize,
        error: TransferError,
        write: bool,
    ) -> Stop {
        let transferred = error.transferred.min(length);
        let address = region
            .base
            .wrapping_add(offset)
            .wrapping_add(transferred as u64);
        let page_fault = PageFault {
            address,
            write,
            operand: region.operand,
        };
        let (status, fault) = match error.cause {
            // There is nobody who would answer a page request with anything but
            // Invalid Request.
            BusError::PageFault if self.reports_page_faults && self.block_on_fault => {
                (Status::PAGE_REQUEST_INVALID, Some(page_fault))
            }
            BusError::PageFault if self.reports_page_faults => {
                (Status::PAGE_FAULT, Some(page_fault))
            }
            BusError::Aborted if write => (Status::WRITE_HARDWARE_ERROR, None),
            BusError::PageFault | BusError::Aborted => (Status::HARDWARE_ERROR, None),
        };
        Stop {
            transferred,
            status,
            fault,
        }
    }
}

/// The access starts beyond the last address.
const BEYOND_MEMORY: TransferError = TransferError {
    transferred: 0,
    cause: BusError::PageFault,
};
