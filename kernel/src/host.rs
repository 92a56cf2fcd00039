//! The physical side: devices, their interrupts, and the IOMMUs between them and
//! memory.
//!
//! [`Host::bring_up`] takes everything over, in the order that lets no device
//! reach anything meanwhile: IOMMUs first, then the accelerators. There is one
//! [`Host`], for good.
//!
//! | module | owns |
//! |---|---|
//! | [`pci`] | configuration space |
//! | [`iommu`] | the IOMMUs, one lock each, and the host PASIDs |
//! | [`routes`] | the host vectors of all processors |
//! | [`accelerator`] | the DSAs: registers, interrupt slots, portals |
//! | [`slices`] | entries of shared queues that are reserved for a guest |
//! | [`service`], [`client`] | how guests share one DSA's commands |
#![forbid(unsafe_code)]

pub mod accelerator;
pub mod client;
pub mod error;
mod hardware;
pub mod iommu;
pub mod pasids;
pub mod pci;
pub mod routes;
pub mod service;
pub mod slices;
mod window;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use hwio::Mmio;
use spin::{Mutex, Once};

use accelerator::{Accelerator, Surroundings};
use error::HostError;
use iommu::{FaultReport, Iommu};
use pci::{Ecam, Pci};
use routes::{GuestTarget, Handlers, HostTarget, Routes};

use crate::machine::Machine;
use crate::mm::devices;
use crate::{info, on_panic};

static HOST: Once<Host> = Once::new();
/// An interrupt of Weir's own came.
static NEWS: AtomicBool = AtomicBool::new(false);

/// All devices of the machine that Weir drives.
#[derive(Debug)]
pub struct Host {
    /// For boot, and for a panic.
    pci: Mutex<Pci<Mmio>>,
    /// The host vectors.
    pub routes: &'static Routes,
    /// The IOMMUs.
    pub iommu: &'static Iommu,
    /// The DSAs, by number.
    pub accelerators: Vec<Accelerator>,
}

impl Host {
    /// Takes over all devices. `deliver` gets the interrupts of guests' vectors, on
    /// the processor that they came to, with interrupts off: it may not wait,
    /// allocate, or take a lock that it may have interrupted.
    ///
    /// From here on a panic blocks all DMA first.
    ///
    /// # Errors
    /// If something is missing or does not do what it is told, or if this was done
    /// before.
    pub fn bring_up(
        machine: &Machine,
        deliver: fn(GuestTarget),
    ) -> Result<&'static Self, HostError> {
        if HOST.get().is_some() {
            return Err(HostError::Twice);
        }
        let spaces = machine.pci.iter().map(|allocation| {
            let registers = devices::registers(allocation.range)
                .map_err(|error| HostError::Map("PCI configuration space", error))?;
            Ok(Ecam::new(allocation, registers))
        });
        let mut pci = Pci::enumerate(spaces.collect::<Result<_, HostError>>()?);
        info!("pci", "found functions={}", pci.functions().len());
        let routes = routes::start(Handlers {
            guest: deliver,
            host: host_interrupt,
        });
        let iommu = Iommu::bring_up(&machine.dmar, &pci, routes)?;
        let iommu: &'static Iommu = Box::leak(Box::new(iommu));
        let accelerators = Accelerator::find_all(&mut Surroundings {
            pci: &mut pci,
            iommu,
            routes,
        })?;
        let host = HOST.call_once(|| Self {
            pci: Mutex::new(pci),
            routes,
            iommu,
            accelerators,
        });
        on_panic(stop_dma);
        Ok(host)
    }

    /// Whether an interrupt of Weir's own came since this was asked the last time.
    /// Then there is something for [`service`](Accelerator::service) or
    /// [`housekeep`](Self::housekeep), sooner than at the next tick.
    #[inline]
    pub fn take_news(&self) -> bool {
        NEWS.load(Ordering::Relaxed) && NEWS.swap(false, Ordering::Acquire)
    }

    /// Does what has to be done now and then and may wait a little: for the first
    /// processor, at each tick, outside of VM exits. Faults go to `report`.
    pub fn housekeep(&self, report: impl FnMut(FaultReport)) {
        self.iommu.read_faults(report);
        for accelerator in &self.accelerators {
            accelerator.housekeep();
        }
    }
}

/// An interrupt of Weir's own: noted, and looked after by housekeeping.
fn host_interrupt(target: HostTarget) {
    let Some(host) = HOST.get() else { return };
    match target {
        HostTarget::Iommu(_) => host.iommu.note_event(),
        HostTarget::Accelerator(number) => {
            if let Some(accelerator) = host.accelerators.get(usize::from(number)) {
                accelerator.note_interrupt();
            }
        }
    }
    NEWS.store(true, Ordering::Release);
}

/// Blocks all DMA, for a panic: other processors have been stopped, wherever they
/// were.
fn stop_dma() {
    let Some(host) = HOST.get() else { return };
    if host.iommu.stop_dma() {
        return;
    }
    // Somebody was just programming an IOMMU, so it cannot be told. What can do DMA
    // is switched off one by one instead.
    if let Some(mut pci) = host.pci.try_lock() {
        for accelerator in &host.accelerators {
            pci.stop_bus_master(accelerator.function());
        }
    }
}
