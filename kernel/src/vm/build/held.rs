//! What a virtual DSA holds of the IOMMU, and how it is given back.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use hwspec::pci::Pasid;

use crate::host::Host;
use crate::host::accelerator::Accelerator;
use crate::host::iommu::Domain;
use crate::vm::vdsa_unit::backing::WindowPages;

/// What one virtual DSA holds of the machine.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) accelerator: &'static Accelerator,
    /// Of queues that the guest writes to itself, and of those that are checked.
    pub(super) domains: ArrayVec<Domain, 2>,
    /// Host PASIDs, all of them set for this accelerator, and which domain each leads to.
    pub(super) pasids: Vec<(Pasid, usize)>,
    /// The window, until there is a virtual DSA for it.
    pub(super) window: Option<WindowPages>,
}

/// Gives back what virtual DSAs hold of the IOMMU.
/// False if the IOMMU did not confirm that nothing leads to the guest's memory any more.
pub(super) fn give_back(host: &Host, held: &mut Vec<Held>) -> bool {
    let mut is_confirmed = true;
    while let Some(mut part) = held.pop() {
        is_confirmed &= give_back_one(host, &mut part);
    }
    is_confirmed
}

pub(super) fn give_back_one(host: &Host, held: &mut Held) -> bool {
    let mut is_confirmed = true;
    let iommu = host.iommu;
    let source = held.accelerator.source();
    for (pasid, domain) in held.pasids.drain(..) {
        let Some(domain) = held.domains.get(domain) else {
            continue;
        };
        // What the IOMMU does not confirm stays taken: nobody else may get it.
        let cleared = iommu.clear_pasid(domain, source, pasid);
        if let Err(error) = cleared.and_then(|()| iommu.release_pasid(pasid)) {
            crate::warn!("vm", "pasid={pasid} stays taken: {error}");
            is_confirmed = false;
        }
    }
    for domain in held.domains.drain(..) {
        if let Err((_, error)) = iommu.destroy_domain(domain) {
            crate::warn!("vm", "a domain stays: {error}");
            is_confirmed = false;
        }
    }
    is_confirmed
}
