//! A virtual work queue: its WQCFG and its state.

use hwspec::dsa::{CommandError, WqLimits, WqMode, WqSize, WqState, WqStatus, WqThreshold};
use hwspec::pci::Pasid;

use crate::access::WordWrite;
use crate::{PasidMap, Policy, QueueMode, QueueShape};

/// WQ State, with the one that the register does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Takes nothing; the guest may change its configuration.
    Disabled,
    /// Enable WQ is not done yet. Reads as Disabled.
    Enabling,
    /// Takes descriptors.
    Enabled,
    /// A command that ends in Disabled is not done yet.
    Draining,
}

/// One virtual queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkQueue {
    shape: QueueShape,
    pub(crate) state: State,
    mode: WqMode,
    threshold: u16,
    /// The host PASID since Enable WQ.
    host_pasid: Pasid,
}

impl WorkQueue {
    pub(crate) fn new(shape: QueueShape) -> Self {
        let mut queue = Self {
            shape,
            state: State::Disabled,
            mode: WqMode::new(),
            threshold: 0,
            host_pasid: shape.default_pasid,
        };
        queue.reset();
        queue
    }

    /// What Reset WQ does. What the guest cannot write stays: a driver finds it once,
    /// when it finds the device, and never writes it again.
    pub(crate) fn reset(&mut self) {
        let is_shared = self.shape.mode == QueueMode::Shared;
        self.state = State::Disabled;
        self.mode = WqMode::new()
            .with_dedicated(!is_shared)
            .with_priority(self.shape.priority)
            // A shared queue cannot be enabled without.
            .with_pasid_enable(is_shared);
        self.threshold = self.shape.threshold;
        self.host_pasid = self.shape.default_pasid;
    }

    pub(crate) const fn shape(&self) -> &QueueShape {
        &self.shape
    }

    /// Puts another interrupt handle of Weir's own in the place of the one that it has.
    pub(crate) fn replace_batch_handle(&mut self, new: impl Fn(u16) -> u16) {
        self.shape.batch_handle = self.shape.batch_handle.map(new);
    }

    pub(crate) const fn mode(&self) -> WqMode {
        self.mode
    }

    pub(crate) const fn threshold(&self) -> u16 {
        self.threshold
    }

    /// The host PASID of an enabled queue; the default one of a shared queue.
    pub(crate) const fn host_pasid(&self) -> Pasid {
        self.host_pasid
    }

    /// Word `word` of WQCFG.
    /// [DSA 3.0, 9.2.24 "WQ Configuration Table (WQCFG)"]
    pub(crate) fn read(&self, word: u32) -> u32 {
        match word {
            0 => WqSize::new().with_size(self.shape.size).into_bits(),
            1 => WqThreshold::new()
                .with_threshold(self.threshold)
                .into_bits(),
            2 => self.mode.into_bits(),
            3 => WqLimits::new()
                .with_max_transfer_size(self.shape.max_transfer_log2)
                .with_max_batch_size(self.shape.max_batch_log2)
                .into_bits(),
            6 => WqStatus::new()
                .with_mode_support(true)
                .with_state(match self.state {
                    State::Disabled | State::Enabling => WqState::DISABLED,
                    State::Enabled => WqState::ENABLED,
                    State::Draining => WqState::DRAINING,
                })
                .into_bits(),
            // No occupancy, no occupancy interrupt.
            _ => 0,
        }
    }

    /// Writes a word of WQCFG, as far as WQ Mode Support lets it be written: the
    /// threshold always, PASID and privilege while Disabled. The mode is what the
    /// shape says. Returns whether everything was taken.
    /// [DSA 3.0, 9.2.24 "WQ Configuration Table (WQCFG)", Table 9-7]
    pub(crate) fn write(&mut self, word: u32, write: WordWrite) -> bool {
        /// Priv, PASID Enable, PASID.
        const MODE: u32 = 0x3fff_ff00;
        let old = self.read(word);
        let writable = match word {
            // The limit of a physical portal is not the guest's to set.
            1 if self.shape.policy == Policy::Checked => 0xffff,
            2 if self.state == State::Disabled => MODE,
            _ => 0,
        };
        let new = write.onto(old, writable);
        match word {
            1 => self.threshold = WqThreshold::from_bits(new).threshold(),
            2 => self.mode = WqMode::from_bits(new),
            _ => {}
        }
        !write.wants_more(old, writable)
    }

    /// The checks of Enable WQ that are about the queue itself, and what it takes
    /// over. Returns the host PASID to enable the physical queue with.
    /// [DSA 3.0, 5.2 "WQ Enable Checks"]
    pub(crate) fn begin_enable(&mut self, pasids: &PasidMap) -> Result<Pasid, CommandError> {
        if self.state != State::Disabled {
            return Err(CommandError::WQ_NOT_DISABLED);
        }
        let is_pasid_enabled = self.mode.pasid_enable();
        let pasid = if !self.mode.dedicated() {
            if !is_pasid_enabled {
                return Err(CommandError::WQ_PASID_ENABLE);
            }
            self.shape.default_pasid
        } else if is_pasid_enabled {
            // There is no PASID capability to enable; a PASID that Weir knows is as if
            // it were enabled, any other as if it were not.
            let guest = Pasid::from_bits(self.mode.pasid());
            pasids.host(guest).ok_or(CommandError::WQ_PASID_ENABLE)?
        } else {
            self.shape.default_pasid
        };
        if self.mode.dedicated() && is_pasid_enabled && self.mode.privileged() {
            return Err(CommandError::WQ_PRIVILEGE);
        }
        self.host_pasid = pasid;
        self.state = State::Enabling;
        Ok(pasid)
    }
}
