//! From a [`Config`] and the machine to a [`Plan`].

mod groups;
mod guests;
mod queues;
mod reservations;

use super::{Config, ConfigError, MachineFacts, Plan};

/// DSAs of which a guest that is not trusted may have a queue directly: those
/// that CVE-2024-21823 is not about. Granite Rapids-D, Diamond Rapids. [Intel,
/// INTEL-SA-01084; Linux, drivers/dma/idxd, `user_submission_safe`]
pub(super) const FIXED_PARTS: [u16; 2] = [0x11fb, 0x1212];

pub(super) fn check(config: &Config, machine: &MachineFacts<'_>) -> Result<Plan, ConfigError> {
    let mut dsas = queues::plan(config, machine)?;
    reservations::plan(config, &mut dsas)?;
    groups::plan(config, machine, &mut dsas)?;
    let guests = guests::plan(config, machine, &dsas)?;
    Ok(Plan {
        slice_ms: config.machine.slice_ms,
        report: config.machine.report,
        dsas,
        guests,
    })
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "check_properties.rs"]
mod properties;
