//! Portal pages that are not the guest's own, or not portals, and odd accesses to those
//! that are.

use alloc::format;

use guest_rt::dsa::Instruction;
use guest_rt::probe::{self, Foreign, Width};
use hwspec::dsa::PortalPage;

use crate::seen::Seen;
use crate::stage::{Stage, UNTOUCHED, Verdict};

/// More queues than any accelerator has.
const QUEUES: usize = 32;
/// How far apart Weir's virtual accelerators are.
const NEXT_DEVICE: u64 = 0x40_0000;

/// Portals of queues that the guest does not have. Contained if nothing is done.
pub(crate) fn foreign(stage: &mut Stage) -> Verdict {
    let own = stage.device.queues().len();
    let base = stage.device.portal_address(0, PortalPage::UnlimitedMsix);
    let mut portals = alloc::vec::Vec::new();
    for queue in own..QUEUES {
        for page in [
            PortalPage::UnlimitedMsix,
            PortalPage::LimitedMsix,
            PortalPage::LimitedIms,
        ] {
            portals.push(stage.device.portal_address(queue, page));
        }
    }
    // Where another accelerator's could be.
    for device in 1..4 {
        portals.push(base + device * NEXT_DEVICE + 0x1000);
        portals.push(base.saturating_sub(device * NEXT_DEVICE) + 0x1000);
    }
    try_portals(stage, &portals)
}

/// The pages of the guest's own queue that are no portals of a virtual accelerator.
/// Contained if nothing is done.
pub(crate) fn message_storage(stage: &mut Stage) -> Verdict {
    let queues = stage.device.queues().len();
    let pages = (0..queues).flat_map(|queue| {
        [PortalPage::UnlimitedIms, PortalPage::LimitedIms].map(|page| (queue, page))
    });
    let portals: alloc::vec::Vec<u64> = pages
        .map(|(queue, page)| stage.device.portal_address(queue, page))
        .collect();
    try_portals(stage, &portals)
}

fn try_portals(stage: &mut Stage, portals: &[u64]) -> Verdict {
    let mut seen = Seen::default();
    stage.prepare_target();
    for &portal in portals {
        for by in [Instruction::Movdir64b, Instruction::Enqcmds] {
            let work = stage.copy(64).record(stage.records.address(0));
            seen.add(&stage.attempt_at(portal, by, &work.words()));
        }
    }
    let is_untouched = stage.target.is_all(0, 64, UNTOUCHED);
    Verdict {
        is_contained: seen.successes() == 0 && is_untouched,
        saw: format!("{seen}; target untouched: {is_untouched}"),
    }
}

/// Stores of other widths, loads, and instructions that are not aligned. Contained if
/// no work gets done, and loads tell nothing.
pub(crate) fn odd_accesses(stage: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    let mut told = 0;
    let portal = stage.queue().portal.address();
    stage.prepare_target();
    let words = stage.copy(64).record(stage.records.address(0)).words();
    for (at, &word) in (portal..).step_by(8).zip(&words) {
        let Some(at) = Foreign::new(at) else { continue };
        match probe::write(at, Width::Eight, word) {
            Ok(()) => {}
            Err(exception) => seen.raised(exception),
        }
        for width in Width::ALL {
            match probe::read(at, width) {
                Ok(value) => {
                    let ones = u64::MAX >> (64 - 8 * width.bytes());
                    told += u32::from(value != 0 && value != ones);
                }
                Err(exception) => seen.raised(exception),
            }
        }
    }
    for offset in [1, 8, 32, 63, 4095] {
        for by in [Instruction::Movdir64b, Instruction::Enqcmds] {
            seen.add(&stage.attempt_at(portal + offset, by, &words));
        }
    }
    let is_untouched = stage.target.is_all(0, 64, UNTOUCHED);
    Verdict {
        is_contained: seen.successes() == 0 && is_untouched && told == 0,
        saw: format!("{seen}; {told} loads that tell something; target untouched: {is_untouched}"),
    }
}

/// The wrong instruction for the mode of the queue. Contained if nothing is done.
pub(crate) fn wrong_instruction(stage: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    stage.prepare_target();
    let queues: alloc::vec::Vec<_> = stage.device.queues().to_vec();
    for queue in queues {
        let by = if queue.is_dedicated {
            Instruction::Enqcmds
        } else {
            Instruction::Movdir64b
        };
        let work = stage.copy(64).record(stage.records.address(0));
        seen.add(&stage.attempt_at(queue.portal.address(), by, &work.words()));
    }
    let is_untouched = stage.target.is_all(0, 64, UNTOUCHED);
    Verdict {
        is_contained: seen.successes() == 0 && is_untouched,
        saw: format!("{seen}; target untouched: {is_untouched}"),
    }
}
