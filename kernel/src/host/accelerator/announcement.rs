//! What the console says of a device's health.

use core::fmt;
use core::sync::atomic::Ordering;

use hwspec::dsa::ResetType;

use super::Accelerator;
use crate::host::service::Health;
use crate::warn;

/// The reset that a device needs, in words.
#[derive(Clone, Copy, Debug)]
pub struct NeededReset(pub ResetType);

impl fmt::Display for NeededReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            ResetType::ResetDevice => "the command Reset Device",
            ResetType::FunctionLevel => "a function-level reset",
            ResetType::Warm => "a warm reset",
            ResetType::Cold => "a cold reset",
        })
    }
}

/// What of a device's health the console has shown.
pub(super) struct Shown {
    pub(super) health: Health,
    pub(super) recoveries: u32,
}

impl Accelerator {
    /// Says on the console what became of the device, once.
    pub(super) fn announce(&self, health: Health) {
        let mut shown = self.shown.lock();
        let number = self.number;
        let recoveries = self.counters().recoveries.load(Ordering::Relaxed);
        if recoveries != shown.recoveries {
            shown.recoveries = recoveries;
            warn!(
                "dsa",
                "dsa{number} halted and was reset times={recoveries}; what it had in hand is \
                 lost, and the virtual DSAs of its guests are halted until they are reset"
            );
        }
        if health == shown.health {
            return;
        }
        shown.health = health;
        match health {
            Health::Works | Health::Recovers => {}
            Health::Halted(reset) => warn!(
                "dsa",
                "dsa{number} halted and needs {}, which Weir cannot give it; the virtual DSAs \
                 of its guests are halted for good; restart the machine",
                NeededReset(reset)
            ),
            Health::Failed => warn!(
                "dsa",
                "dsa{number} at={} does not do what it is told, or is gone; the virtual DSAs \
                 of its guests are halted for good; restart the machine",
                self.source()
            ),
        }
    }
}
