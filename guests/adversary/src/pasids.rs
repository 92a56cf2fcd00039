//! PASIDs and privileges that the guest was not given.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use guest_rt::dsa::Instruction;
use guest_rt::interrupts;
use guest_rt::probe;
use hwspec::dsa::MsixPermission;

use crate::seen::{Answer, Seen};
use crate::stage::{OWN, Stage, UNTOUCHED, Verdict};

/// Small numbers are in use somewhere, surely; 0 is a guest's own.
const PASIDS: [u32; 12] = [1, 2, 3, 4, 5, 8, 16, 32, 64, 0x100, 0x1234, 0xf_ffff];
/// IA32_PASID bit 31.
const VALID: u64 = 1 << 31;

/// PASIDs that are not the guest's own.
fn foreign_pasids(stage: &Stage) -> impl Iterator<Item = u32> + use<> {
    let own = [stage.pasids.dedicated, Some(stage.pasids.shared)];
    let declared = stage.guest.options.text("own").unwrap_or("");
    PASIDS
        .into_iter()
        .filter(move |&pasid| !own.contains(&Some(pasid)))
        .filter(move |&pasid| {
            let mut declared = declared.split(',');
            !declared.any(|own| own.parse() == Ok(pasid))
        })
}

/// ENQCMDS in the name of a foreign PASID. Contained if nothing is done.
pub(crate) fn enqcmds(stage: &mut Stage) -> Verdict {
    let queue = stage.shared_queue().unwrap_or(stage.queue());
    let mut seen = Seen::default();
    stage.prepare_target();
    for pasid in foreign_pasids(stage) {
        let work = stage.copy(64).record(stage.records.address(0)).pasid(pasid);
        let portal = queue.portal.address();
        seen.add(&stage.attempt_at(portal, Instruction::Enqcmds, &work.words()));
    }
    nothing_done(stage, &seen)
}

/// ENQCMD with a foreign PASID in IA32_PASID. Contained if nothing is done.
pub(crate) fn enqcmd(stage: &mut Stage) -> Verdict {
    let queue = stage.shared_queue().unwrap_or(stage.queue());
    let mut seen = Seen::default();
    stage.prepare_target();
    for pasid in foreign_pasids(stage) {
        if let Err(exception) = probe::set_ia32_pasid(VALID | u64::from(pasid)) {
            seen.raised(exception);
            continue;
        }
        let work = stage.copy(64).record(stage.records.address(0));
        let portal = queue.portal.address();
        seen.add(&stage.attempt_at(portal, Instruction::Enqcmd, &work.words()));
    }
    // Where the register does not exist there is nothing to clear.
    let _ = probe::set_ia32_pasid(0);
    nothing_done(stage, &seen)
}

fn nothing_done(stage: &Stage, seen: &Seen) -> Verdict {
    let is_untouched = stage.target.is_all(0, 64, UNTOUCHED);
    Verdict {
        is_contained: seen.successes() == 0 && is_untouched,
        saw: format!("{seen}; target untouched: {is_untouched}"),
    }
}

/// PASID and Priv in what MOVDIR64B writes. Contained if a dedicated queue ignores
/// both, or refuses.
pub(crate) fn movdir64b(stage: &mut Stage) -> Verdict {
    let Some(queue) = stage
        .device
        .queues()
        .iter()
        .find(|queue| queue.is_dedicated)
    else {
        return Verdict {
            is_contained: true,
            saw: String::from("no dedicated queue"),
        };
    };
    let portal = queue.portal.address();
    let mut seen = Seen::default();
    let mut is_right = true;
    for pasid in PASIDS {
        stage.prepare_target();
        let work = stage.copy(64).record(stage.records.address(0));
        let work = work.pasid(pasid).privileged();
        let answer = stage.attempt_at(portal, Instruction::Movdir64b, &work.words());
        // Done in the guest's own name, or not at all.
        let expected = if answer.is_success() { OWN } else { UNTOUCHED };
        is_right &= stage.target.is_all(0, 64, expected);
        seen.add(&answer);
    }
    Verdict {
        is_contained: is_right,
        saw: format!("{seen}; done in the guest's own name: {is_right}"),
    }
}

/// The Priv bit in ENQCMDS. Contained if nothing is done.
pub(crate) fn privileged(stage: &mut Stage) -> Verdict {
    let queue = stage.shared_queue().unwrap_or(stage.queue());
    let mut seen = Seen::default();
    stage.prepare_target();
    let own = queue.pasid.unwrap_or(0);
    for pasid in [own, 1, 0xf_ffff] {
        let work = stage.copy(64).record(stage.records.address(0));
        let work = work.pasid(pasid).privileged();
        let portal = queue.portal.address();
        seen.add(&stage.attempt_at(portal, Instruction::Enqcmds, &work.words()));
    }
    nothing_done(stage, &seen)
}

/// A foreign PASID in MSIXPERM. Contained if the vector does not fire.
pub(crate) fn msix_permission(stage: &mut Stage) -> Verdict {
    let queue = stage.queue();
    let mut seen = Seen::default();
    let mut fired = 0;
    for pasid in foreign_pasids(stage) {
        let permission = MsixPermission::new()
            .with_pasid_enable(true)
            .with_pasid(pasid);
        if let Err(error) = stage.device.set_permission(queue.index + 1, permission) {
            return Verdict {
                is_contained: true,
                saw: format!("{error}"),
            };
        }
        let before = interrupts::count(queue.vector);
        let answer: Answer = stage.attempt(stage.copy(64).interrupt(queue.handle));
        seen.add(&answer);
        interrupts::settle(Duration::from_millis(1));
        fired += interrupts::count(queue.vector).wrapping_sub(before);
    }
    Verdict {
        is_contained: fired == 0,
        saw: format!("{seen}; {fired} interrupts"),
    }
}
