//! Translation Fetch and Cache Flush: no data moves, but each page of a region
//! is visited, and a page that is not there is reported.
//!
//! [§8.3.11 "Translation Fetch", §8.3.26 "Cache Flush"].
//!
//! The bus has no request that only translates, so a visit is a read of one
//! byte that is thrown away.

use crate::completion::{Operand, Outcome, Status};
use crate::descriptor::{Descriptor, Flags};

use super::access::{Budget, Operands, PAGE_BYTES, Region};

/// What a visit counts for in the budget: one request on the bus.
const VISIT_BYTES: usize = 64;

/// Either operation.
#[derive(Debug)]
pub(super) struct PageWalk {
    region: Region,
    last: u64,
    /// The next page to visit, or `None` beyond the last address of all.
    next: Option<u64>,
    stride: u64,
}

impl PageWalk {
    /// Translation Fetch.
    pub(super) fn fetch(descriptor: &Descriptor) -> Self {
        let stride = if descriptor.flags().contains(Flags::USE_STRIDE) {
            u64::from(region_stride(descriptor))
        } else {
            PAGE_BYTES as u64
        };
        let region = Region::new(Operand::SOURCE, descriptor.source());
        Self::new(region, descriptor.transfer_size(), stride)
    }

    /// Cache Flush: memory of the model has no cache in front of it.
    pub(super) fn flush(descriptor: &Descriptor) -> Self {
        let region = Region::new(Operand::DESTINATION, descriptor.destination());
        Self::new(region, descriptor.transfer_size(), PAGE_BYTES as u64)
    }

    fn new(region: Region, size: u32, stride: u64) -> Self {
        Self {
            region,
            last: region
                .base
                .saturating_add(u64::from(size).saturating_sub(1)),
            next: Some(region.base - region.base % PAGE_BYTES as u64),
            stride,
        }
    }

    pub(super) fn advance(
        &mut self,
        operands: &mut Operands<'_, '_>,
        mut budget: Budget,
    ) -> Option<Outcome> {
        while let Some(page) = self.next.filter(|page| *page <= self.last) {
            let offset = page.saturating_sub(self.region.base);
            if let Err(stop) = operands.read(self.region, offset, &mut [0]) {
                return Some(stop.outcome(offset));
            }
            self.next = page.checked_add(self.stride);
            if !budget.spend(VISIT_BYTES) {
                return None;
            }
        }
        Some(Outcome::new(Status::SUCCESS))
    }
}

/// Region Stride of a Translation Fetch.
pub(super) fn region_stride(descriptor: &Descriptor) -> u32 {
    descriptor.u32_at(48)
}
