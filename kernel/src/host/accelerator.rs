//! The physical accelerators: found, taken over, divided, and shared.
//!
//! An [`Accelerator`] is one DSA. [`configure`](Accelerator::configure) divides it
//! into queues; [`portal`](Accelerator::portal) is the way into one. A guest's
//! virtual accelerator is a [`ClientHandle`] of it: it asks by
//! [`post`](ClientHandle::post) for what takes time, and works on its interrupt
//! vectors directly.
//!
//! Translation services and page requests of the device stay off, and privileged
//! mode too: every queue is to be enabled unprivileged.

mod announcement;
mod bring_up;
mod client_handle;
mod dsa_hardware;
mod view;

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use dsa::ims::Counts;
use dsa::{Capabilities, Plan, QueueMode, QueuePasid};
use hwspec::dsa::PortalPage;
use hwspec::pci::{Pasid, SourceId};
use spin::Mutex;
use x86_64::PhysAddr;

use announcement::Shown;
use dsa_hardware::{DsaHardware, Line};

use super::client::ClientSetup;
use super::error::HostError;
use super::hardware::Hardware as _;
use super::iommu::{Iommu, UnitIndex};
use super::pci::Function;
use super::service::{Counters, Health, Service};
use super::slices::Accepted;
use crate::mm::{PortalKind, QueuePortal, devices};

pub use announcement::{Cause, NeededReset};
pub(super) use bring_up::Surroundings;
pub use client_handle::ClientHandle;
pub use view::PciAddress;

/// One DSA.
pub struct Accelerator {
    number: u8,
    function: Function,
    unit: UnitIndex,
    iommu: &'static Iommu,
    capabilities: Capabilities,
    portals: devices::PortalPages,
    /// What it was configured to.
    plan: Mutex<Option<Plan>>,
    service: Service<DsaHardware>,
    /// What each queue accepted, as far as it is a shared one.
    accepted: Vec<Accepted>,
    /// What of its health the console has shown.
    shown: Mutex<Shown>,
    /// It does not work any more, and will not until the machine is started anew.
    is_lost: AtomicBool,
    /// The interrupt of MSI-X entry 0.
    _line: Line,
}

impl Accelerator {
    /// Its number: it is called `dsa` with this behind it.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Whether it does not work any more, and will not until the machine is started anew.
    /// Housekeeping finds out.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// The PCI function.
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// Its requester id.
    pub fn source(&self) -> SourceId {
        self.function.source
    }

    /// The IOMMU that it is behind.
    pub fn unit(&self) -> UnitIndex {
        self.unit
    }

    /// What it has.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Divides the device and enables it; its queues stay disabled. Waits.
    ///
    /// # Errors
    /// If the plan does not fit, the device was configured before, or refuses.
    pub fn configure(&self, plan: &Plan) -> Result<(), HostError> {
        self.service
            .with_hardware(|hardware| hardware.configure(plan))
            .map_err(|error| HostError::Dsa(self.source(), error))?;
        *self.plan.lock() = Some(plan.clone());
        Ok(())
    }

    /// Enables a queue that several clients share. Each submission brings its own
    /// PASID. Waits.
    ///
    /// # Errors
    /// If the plan has no such shared queue, or the device refuses.
    pub fn enable_shared_queue(&self, queue: u8) -> Result<(), HostError> {
        if self.mode(queue) != Some(QueueMode::Shared) {
            let error = dsa::Error::QueueNotPlanned { queue };
            return Err(HostError::Dsa(self.source(), error));
        }
        let pasid = QueuePasid::unprivileged(Pasid::ZERO);
        self.service
            .with_hardware(|hardware| hardware.enable_queue(queue, pasid))
            .map_err(|error| HostError::Dsa(self.source(), error))
    }

    /// The mode of a queue, if the plan has it.
    pub fn mode(&self, queue: u8) -> Option<QueueMode> {
        let plan = self.plan.lock();
        let mut queues = plan.as_ref()?.queues.iter();
        let found = queues.find(|planned| planned.index == queue)?;
        Some(found.shape.mode)
    }

    /// What a shared queue has accepted, to be counted by all who submit to it. Nothing if
    /// the plan has no such queue.
    pub fn accepted(&self, queue: u8) -> Option<&Accepted> {
        let is_shared = self.mode(queue)? == QueueMode::Shared;
        self.accepted.get(usize::from(queue)).filter(|_| is_shared)
    }

    /// How many descriptors wait in a queue, if the device can be asked now. Waits for
    /// nothing.
    pub fn count_waiting(&self, queue: u8) -> Option<u16> {
        self.service
            .try_look(|hardware| hardware.device.queue_occupancy(queue))?
            .ok()
    }

    /// The way into a queue, for Weir: its page for IMS handles, with the limit of a
    /// shared queue. Nothing if the plan does not have the queue, or the processor
    /// lacks the instruction.
    pub fn portal(&self, queue: u8) -> Option<QueuePortal> {
        let kind = match self.mode(queue)? {
            QueueMode::Dedicated => PortalKind::Dedicated,
            QueueMode::Shared => PortalKind::Shared,
        };
        let offset = PortalPage::LimitedIms.offset(queue.into());
        self.portals.portal(offset, kind)
    }

    /// The way into the entries of a shared queue that its limit keeps free, for those
    /// that they are reserved for. Nothing as for [`portal`](Self::portal), or if the
    /// queue is not a shared one.
    pub fn reserved_portal(&self, queue: u8) -> Option<QueuePortal> {
        let offset = PortalPage::UnlimitedIms.offset(queue.into());
        (self.mode(queue)? == QueueMode::Shared)
            .then(|| self.portals.portal(offset, PortalKind::Shared))?
    }

    /// Where a page of a queue's portals is, to be shown to a guest: for IMS handles
    /// alone, and without a limit only where a dedicated queue belongs to one guest.
    /// Nothing for any other page.
    pub fn portal_address(&self, queue: u8, page: PortalPage) -> Option<PhysAddr> {
        let mode = self.mode(queue)?;
        let is_allowed = match page {
            PortalPage::LimitedIms => true,
            PortalPage::UnlimitedIms => mode == QueueMode::Dedicated,
            PortalPage::LimitedMsix | PortalPage::UnlimitedMsix => false,
        };
        let offset = u64::try_from(page.offset(queue.into())).ok()?;
        is_allowed.then(|| self.portals.range().start() + offset)
    }

    /// Makes a client. Its PASIDs are held until it is [closed](ClientHandle::close).
    ///
    /// # Errors
    /// If one of its queues is another's, a PASID is not allocated, or there are too
    /// many clients.
    pub fn open_client(&'static self, setup: ClientSetup) -> Result<ClientHandle, HostError> {
        let pasids = setup.pasids.clone();
        for (index, &pasid) in pasids.iter().enumerate() {
            if let Err(error) = self.iommu.hold_pasid(pasid) {
                for &held in pasids.iter().take(index) {
                    self.iommu.let_go_of_pasid(held);
                }
                return Err(error);
            }
        }
        match self.service.add_client(setup) {
            Ok((number, client)) => Ok(ClientHandle {
                accelerator: self,
                number,
                client,
            }),
            Err(error) => {
                for &pasid in &pasids {
                    self.iommu.let_go_of_pasid(pasid);
                }
                Err(HostError::Client(error))
            }
        }
    }

    /// Notes the interrupt of MSI-X entry 0. For its handler: waits for nothing.
    pub(super) fn note_interrupt(&self) {
        self.service.note_interrupt();
    }

    /// Goes on with what clients asked for, and looks why the device interrupted.
    /// Waits for nothing.
    pub fn service(&self) {
        self.service.run();
    }

    /// Does what has to wait: recovers the device, gives interrupts back. Not for VM
    /// exits.
    pub fn housekeep(&self) {
        if let Some(health) = self.service.housekeep() {
            self.announce(health);
        }
    }

    /// Whether the device works. Waits for whoever is using it.
    pub fn health(&self) -> Health {
        self.service.health()
    }

    /// How many interrupt slots there are. Waits for whoever is using the device.
    pub fn slot_counts(&self) -> Counts {
        self.service.slot_counts()
    }

    /// How many interrupts of clients that ended are still to be given back.
    pub fn count_retired(&self) -> usize {
        self.service.count_retired()
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.service.counters
    }
}

impl fmt::Debug for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accelerator")
            .field("number", &self.number)
            .field("source", &self.function.source)
            .finish_non_exhaustive()
    }
}
