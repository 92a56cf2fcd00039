//! Interrupt handles that the guest was not given.

use alloc::format;

use guest_rt::interrupts;
use hwspec::dsa::Status;

use crate::seen::Seen;
use crate::stage::{Stage, Verdict};

/// Slots that nobody has, most likely: those at the end of the table.
pub(crate) fn unallocated(stage: &mut Stage) -> Verdict {
    try_handles(stage, 1900..1964)
}

/// Slots that others have: those at its beginning.
pub(crate) fn foreign(stage: &mut Stage) -> Verdict {
    // From above: the last ones that the operator sees are those that others have.
    try_handles(stage, (0..256).rev())
}

/// Beyond the table.
pub(crate) fn out_of_table(stage: &mut Stage) -> Verdict {
    try_handles(
        stage,
        [2048, 2049, 0x4000, 0x7fff, 0xfffe, 0xffff].into_iter(),
    )
}

/// Contained if each is refused, and none interrupts even this guest.
fn try_handles(stage: &mut Stage, handles: impl Iterator<Item = u16>) -> Verdict {
    let mut seen = Seen::default();
    let mut refused = 0;
    let mut tried = 0;
    let before = interrupts::count_all();
    let own: [Option<u16>; 8] = {
        let mut queues = stage.device.queues().iter().map(|queue| queue.handle);
        core::array::from_fn(|_| queues.next())
    };
    for handle in handles.filter(|&handle| !own.contains(&Some(handle))) {
        let answer = stage.attempt(stage.copy(64).interrupt(handle));
        seen.add(&answer);
        tried += 1;
        refused += u32::from(answer.status() == Some(Status::INTERRUPT_HANDLE));
    }
    // SWERROR interrupts by vector 0, which is right; a queue's vector is not.
    let errors = interrupts::count(guest_rt::dsa::VECTOR_BASE);
    interrupts::settle(core::time::Duration::from_millis(2));
    let came = interrupts::count_all().wrapping_sub(before);
    let errors = interrupts::count(guest_rt::dsa::VECTOR_BASE).wrapping_sub(errors);
    Verdict {
        is_contained: refused == tried && came == errors,
        saw: format!("{seen}; {} interrupts", came.wrapping_sub(errors)),
    }
}
