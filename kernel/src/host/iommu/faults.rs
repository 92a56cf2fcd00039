//! Faults that the IOMMUs saw.

use core::sync::atomic::Ordering;

use vtd::Fault;

use super::{Iommu, UnitIndex};

/// A fault, and the guest whose PASID it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultReport {
    /// Which IOMMU saw it.
    pub unit: UnitIndex,
    /// What it saw.
    pub fault: Fault,
    /// The guest's number; nothing if the request had no PASID, or nobody's.
    pub vm: Option<u16>,
}

impl Iommu {
    /// Counts a fault event. For its interrupt.
    pub(in crate::host) fn note_event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// Hands the faults that were recorded to `report`, which may look at the
    /// clock and at memory, but not print: a guest can cause any number of them.
    /// Waits for nothing; a unit that is in use is read the next time. Asks the units
    /// themselves, so that a lost event does not silence one for good.
    pub fn read_faults(&self, mut report: impl FnMut(FaultReport)) {
        for (number, unit) in (0..).zip(&self.units) {
            let Some(mut hardware) = unit.hardware.try_lock() else {
                continue;
            };
            let summary = hardware.read_faults(|fault| {
                let pasid = fault.pasid;
                let vm = pasid.and_then(|pasid| self.pasids.lock().owner(pasid));
                report(FaultReport {
                    unit: UnitIndex(number),
                    fault,
                    vm,
                });
            });
            // A unit that is gone has no more faults to report.
            if summary.is_ok_and(|summary| summary.overflow) {
                self.overflows.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
