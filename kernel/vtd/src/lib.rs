//! The IOMMU: a driver for Intel VT-d in scalable mode.
//!
//! A [`RemappingUnit`] owns one unit of remapping hardware, and all tables that the
//! unit reads. From [`bring_up`](RemappingUnit::bring_up) on, every device's DMA is
//! blocked and every interrupt of a device too, until it is allowed:
//!
//! 1. A *domain* is an address space: page tables, under a number that the unit tags
//!    its caches with. [`create_domain`](RemappingUnit::create_domain),
//!    [`map`](RemappingUnit::map), [`unmap`](RemappingUnit::unmap).
//! 2. A device that is [allowed](RemappingUnit::allow_device) may use PASIDs, each of
//!    which is [given](RemappingUnit::set_pasid) a domain. Requests without PASID reach
//!    nothing.
//! 3. An interrupt is an entry of the remapping table that one device may use.
//!    [`allocate_interrupt`](RemappingUnit::allocate_interrupt),
//!    [`set_interrupt`](RemappingUnit::set_interrupt).
//! 4. What is refused is recorded: [`read_faults`](RemappingUnit::read_faults).
//!
//! Whatever takes something away from a device returns when the unit has forgotten it
//! and all requests that used it are done; only then may the memory be used for
//! something else. Which invalidations that takes is in `invalidation`, one function
//! for each row of the specification's table.
//!
//! Frames come from the caller in the calls that may need some, heap for the driver's
//! books likewise; setting an interrupt and reading faults need neither. Several units
//! are several values, which share nothing.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod books;
mod capability;
mod control;
mod device_tables;
mod devices;
mod directory;
mod domains;
mod error;
mod fault;
mod ids;
mod interrupts;
mod invalidation;
mod invalidation_queue;
mod memory;
mod page_table;
mod remap_table;
mod takeover;
mod unit;

pub use books::{DeviceUse, DomainUse, InUse};
pub use capability::Capabilities;
pub use error::{Error, RegisterName};
pub use fault::{Fault, FaultSummary, FaultTarget, RequestKind};
pub use ids::{Access, DomainId, InterruptIndex, Iova};
pub use interrupts::{InterruptMessage, Route};
pub use page_table::{Mapping, Stage};
pub use takeover::Leftovers;
pub use unit::{RemappingUnit, ReservedRegion, Setup};
