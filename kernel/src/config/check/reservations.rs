//! Entries of shared queues that are reserved for guests which see a dedicated queue.
//!
//! Such a guest submits with MOVDIR64B, which cannot be told that a queue is full. So
//! it has entries of its own: those above the queue's threshold, which all others stop
//! at.

use alloc::format;

use super::super::plan::{DsaPlan, QueuePlan};
use super::super::{Config, ConfigError, GuestQueueConfig, Mode, QueueConfig, QueueName};

/// How many entries are reserved where the file does not say.
const DEFAULT_RESERVE: u16 = 8;

/// How many entries of `physical` are reserved for the guest's queue; 0 if the guest sees
/// it as it is.
pub(super) fn reserved(queue: &GuestQueueConfig, physical: &QueuePlan) -> u16 {
    match queue.mode.map(|mode| mode.value) {
        Some(Mode::Dedicated) if physical.mode == Mode::Shared => queue
            .reserve
            .map_or(DEFAULT_RESERVE, |reserve| reserve.value),
        _ => 0,
    }
}

/// Sets the thresholds of shared queues to what is not reserved, or compares the two.
pub(super) fn plan(config: &Config, dsas: &mut [DsaPlan]) -> Result<(), ConfigError> {
    for (dsa, plan) in (0..).zip(dsas) {
        let shared = plan.queues.iter_mut();
        for physical in shared.filter(|queue| queue.mode == Mode::Shared) {
            let name = QueueName {
                dsa,
                queue: physical.index,
            };
            let mut queues = config.queues.iter();
            if let Some(queue) = queues.find(|queue| queue.name.value == name) {
                physical.threshold = threshold(config, queue, physical)?;
            }
        }
    }
    Ok(())
}

/// The threshold of a shared queue.
fn threshold(
    config: &Config,
    queue: &QueueConfig,
    physical: &QueuePlan,
) -> Result<u16, ConfigError> {
    let name = queue.name.value;
    let users = || {
        let guests = config.guests.iter();
        guests.flat_map(|guest| {
            let queues = guest.queues.iter();
            let own = queues.filter(|own| own.wq.value == name);
            own.map(move |own| (guest, own, reserved(own, physical)))
        })
    };
    // What those have to have who see it as a shared one.
    let is_shown_shared = users().any(|(_, _, reserved)| reserved == 0);
    let common = match queue.threshold {
        Some(threshold) => threshold.value,
        None => u16::from(is_shown_shared),
    };
    let mut left = queue.size.value.saturating_sub(common);
    for (guest, own, reserved) in users() {
        left = left.checked_sub(reserved).ok_or_else(|| {
            let at = own.reserve.map_or(own.wq.line, |reserve| reserve.line);
            ConfigError::new(
                at,
                format!(
                    "guest '{}': {reserved} entries of {name} are to be reserved, but of its {} \
                     {left} are left, beside {common} for guests that share it; reserve fewer, or \
                     make the queue larger",
                    guest.name.value, queue.size.value
                ),
            )
        })?;
    }
    Ok(match queue.threshold {
        Some(threshold) => threshold.value,
        // 0 would not do for a queue, even if nobody looks at it.
        None => (left + common).max(1),
    })
}
