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

/// Why a device failed, in words.
#[derive(Clone, Copy, Debug)]
pub struct Cause(pub Option<dsa::Error>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(dsa::Error::Timeout { command, status }) => write!(
                f,
                "{command} has not ended, CMDSTATUS is {:#010x}",
                status.into_bits()
            ),
            Some(error) => error.fmt(f),
            None => f.write_str("it did not keep what was written to it"),
        }
    }
}

/// What of a device's health the console has shown.
pub(super) struct Shown {
    pub(super) health: Health,
    pub(super) recoveries: u32,
    /// How many refused commands there were when one was shown.
    pub(super) refused: u32,
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
        let refused = self.counters().refused_commands.load(Ordering::Relaxed);
        // Guests ask for commands as often as they like: shown are the first, and each
        // that doubles their number.
        if refused.checked_ilog2() > shown.refused.checked_ilog2() {
            shown.refused = refused;
            let (command, error) = self.counters().last_refused();
            warn!(
                "dsa",
                "dsa{number} refused a command times={refused} command={command} error={error}; \
                 the guest that needed it was told of a hardware error; see 'dsa'"
            );
        }
        if health == shown.health {
            return;
        }
        shown.health = health;
        let is_lost = matches!(health, Health::Halted(_) | Health::Failed);
        self.is_lost.store(is_lost, Ordering::Relaxed);
        match health {
            Health::Works | Health::Recovers => {}
            Health::Halted(reset) => warn!(
                "dsa",
                "dsa{number} at={} halted and needs {}, which Weir cannot give it; its guests \
                 are stopped; restart the machine to use it again",
                self.source(),
                NeededReset(reset)
            ),
            Health::Failed => warn!(
                "dsa",
                "dsa{number} at={} does not do what it is told, or is gone: {}; its guests are \
                 stopped; restart the machine to use it again",
                self.source(),
                Cause(self.service.cause())
            ),
        }
    }
}
