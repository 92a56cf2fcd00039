//! One work queue: its WQCFG registers, its state and what waits in it.
//!
//! [341204 Rev 3.0 §9.2 "Work Queue Configuration Table", Table 9-7 "Work
//! Queue Configuration Write-ability"].

use std::collections::VecDeque;

use crate::bits::{bit, field, low8, low16, low32, mask};
use crate::bus::{Pasid, Requester};
use crate::descriptor::Opcode;
use crate::engine::Submission;
use crate::identity::{Identity, QueueModes};
use crate::interrupt::{RegisterWrite, Table};
use crate::violation::Violations;

/// WQCFG 6 bits 31:30.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueState {
    Disabled = 0,
    Enabled = 1,
    Draining = 2,
}

/// What decides which WQCFG bits a write may change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writability {
    /// GENCAP.31.
    pub(crate) configurable: bool,
    /// WQCFG 6 bit 29, WQ Mode Support.
    pub(crate) mode_support: bool,
    /// The device is Disabled.
    pub(crate) device_disabled: bool,
    /// WQCAP.54, OPCFG is there.
    pub(crate) operation_configuration: bool,
    /// WQCAP.55, the PRS disable bit is there.
    pub(crate) prs_disable: bool,
}

/// What happened at one queue, for the bench.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct QueueCounters {
    /// Portal writes of 64 bytes that arrived.
    pub submitted: u64,
    /// Of these, entered into the queue.
    pub accepted: u64,
    /// Of these, answered with retry (deferrable writes only).
    pub retried: u64,
    /// Of these, dropped.
    pub dropped: u64,
    /// Accepted descriptors that ran to an end, with whatever status.
    pub completed: u64,
    /// Accepted descriptors that an abort or a reset threw away.
    pub abandoned: u64,
    /// Members of batches that ran to an end.
    pub members_completed: u64,
}

const SIZE: usize = 0;
const THRESHOLD: usize = 1;
const MODE: usize = 2;
const LIMITS: usize = 3;
const OCCUPANCY_HANDLE: usize = 4;
const OCCUPANCY_LIMIT: usize = 5;
const STATUS: usize = 6;
const OPCFG: usize = 8;
const OPCFG_END: usize = 10;

/// WQCFG 6 bit 16: an occupancy interrupt has been generated.
const OCCUPANCY_INTERRUPT_GENERATED: u32 = 1 << 16;
const MODE_SUPPORT: u32 = 1 << 29;

/// WQCFG word 2: shared, WQ PASID Enable.
const SHARED_WITH_PASID: u32 = 1 << 28;

/// A work queue.
#[derive(Debug)]
pub(crate) struct WorkQueue {
    words: [u32; 16],
    reset_words: [u32; 16],
    pub(crate) state: QueueState,
    pub(crate) entries: VecDeque<Submission>,
    /// How often this queue was served since the arbiter of its group began a
    /// new round.
    pub(crate) turns_taken: u32,
    /// Whose turn it is where a batch of this queue is in progress.
    pub(crate) batch_goes_first: bool,
    /// The bench wants the queue to look full.
    pub(crate) held_full: bool,
    pub(crate) counters: QueueCounters,
}

impl WorkQueue {
    /// A queue as after power-up.
    pub(crate) fn new(identity: &Identity) -> Self {
        let mut words = [0; 16];
        if !identity.configurable {
            // A fixed configuration: equal shares, dedicated where that is
            // possible, priority 1.
            let size = u32::from(identity.entries / identity.queues);
            words[SIZE] = size;
            words[THRESHOLD] = size;
            words[MODE] = if identity.modes == QueueModes::Shared {
                SHARED_WITH_PASID | 1 << 4
            } else {
                1 | 1 << 4
            };
            words[LIMITS] = u32::from(identity.max_transfer_log2) | 10 << 5;
            words[STATUS] = MODE_SUPPORT;
        }
        let opcap = identity
            .opcap()
            .into_iter()
            .flat_map(|quad| [low32(quad), low32(quad >> 32)]);
        for (word, operations) in words.iter_mut().skip(OPCFG).zip(opcap) {
            *word = operations;
        }
        Self {
            words,
            reset_words: words,
            state: QueueState::Disabled,
            entries: VecDeque::new(),
            turns_taken: 0,
            batch_goes_first: true,
            held_full: false,
            counters: QueueCounters::default(),
        }
    }

    /// Everything as after power-up, the bench's counters apart.
    pub(crate) fn reset_all(&mut self) {
        self.words = self.reset_words;
        self.state = QueueState::Disabled;
    }

    /// What the Reset WQ command does: all fields but the size.
    pub(crate) fn reset_configuration(&mut self) {
        let size = self.words[SIZE];
        self.reset_all();
        self.words[SIZE] = size;
    }

    /// WQCFG word `index` (0 to 15).
    pub(crate) fn read(&self, index: usize) -> u32 {
        let stored = self.words.get(index).copied().unwrap_or(0);
        if index != STATUS {
            return stored;
        }
        let occupancy = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        stored | occupancy & 0xffff | (self.state as u32) << 30
    }

    /// Writes WQCFG word `index`; changes that the state does not allow are
    /// recorded and have no effect.
    pub(crate) fn write(
        &mut self,
        number: usize,
        index: usize,
        write: RegisterWrite,
        rules: Writability,
        violations: &mut Violations,
    ) {
        let writable = self.writable(index, rules);
        let Some(word) = self.words.get_mut(index) else {
            return;
        };
        if index == STATUS {
            *word &= !(write.ones() & OCCUPANCY_INTERRUPT_GENERATED);
            return;
        }
        let refused = (write.value ^ *word) & write.lanes & !writable;
        if refused != 0 {
            violations.record(format!(
                "WQCFG {number} word {index}: bits {refused:#010x} are reserved or cannot be \
                 changed while the queue is {:?}{}",
                self.state,
                if rules.device_disabled {
                    ""
                } else {
                    " and the device is not Disabled"
                },
            ));
        }
        *word = write.onto(*word, writable);
    }

    fn writable(&self, index: usize, rules: Writability) -> u32 {
        let queue_disabled = self.state == QueueState::Disabled;
        let mode = queue_disabled && (rules.configurable || rules.mode_support);
        let configuration = queue_disabled && rules.configurable;
        let when = |allowed: bool, bits: u32| if allowed { bits } else { 0 };
        match index {
            SIZE => when(rules.configurable && rules.device_disabled, 0xffff),
            THRESHOLD => when(rules.configurable || rules.mode_support, 0xffff),
            MODE => {
                // Mode, PASID, PASID enable, privileged; block on fault, ATS
                // disable, PRS disable, priority.
                when(mode, 1 | low32(mask(29, 8)))
                    | when(configuration, 1 << 1 | 1 << 2 | low32(mask(7, 4)))
                    | when(configuration && rules.prs_disable, 1 << 3)
            }
            LIMITS => when(configuration, low32(mask(8, 0))),
            OCCUPANCY_HANDLE => when(mode, low32(mask(16, 0))),
            // The limit is locked while the interrupt is enabled.
            OCCUPANCY_LIMIT if self.bit(OCCUPANCY_LIMIT, 16) => 1 << 16,
            OCCUPANCY_LIMIT => low32(mask(16, 0)),
            // Only operations that the specification defines have a bit, all of
            // them below 64.
            OPCFG..OPCFG_END => {
                let allowed = configuration && rules.operation_configuration;
                let shift = 32 * (index - OPCFG);
                when(allowed, low32(Opcode::DEFINED >> shift))
            }
            _ => 0,
        }
    }

    fn word(&self, word: usize) -> u32 {
        self.words.get(word).copied().unwrap_or(0)
    }

    fn bits(&self, word: usize, high: u32, low: u32) -> u32 {
        low32(field(u64::from(self.word(word)), high, low))
    }

    fn bit(&self, word: usize, index: u32) -> bool {
        bit(u64::from(self.word(word)), index)
    }

    /// WQ Size, in entries.
    pub(crate) fn size(&self) -> usize {
        self.bits(SIZE, 15, 0) as usize
    }

    /// How many entries a limited portal may fill.
    pub(crate) fn threshold(&self) -> usize {
        (self.bits(THRESHOLD, 15, 0) as usize).min(self.size())
    }

    /// Dedicated mode; otherwise shared.
    pub(crate) fn is_dedicated(&self) -> bool {
        self.bit(MODE, 0)
    }

    pub(crate) fn blocks_on_fault(&self) -> bool {
        self.bit(MODE, 1)
    }

    pub(crate) fn disables_ats(&self) -> bool {
        self.bit(MODE, 2)
    }

    pub(crate) fn disables_prs(&self) -> bool {
        self.bit(MODE, 3)
    }

    /// Priority, 1 to 15; 0 cannot be enabled.
    pub(crate) fn priority(&self) -> u32 {
        self.bits(MODE, 7, 4)
    }

    pub(crate) fn is_pasid_enabled(&self) -> bool {
        self.bit(MODE, 28)
    }

    pub(crate) fn is_privileged(&self) -> bool {
        self.bit(MODE, 29)
    }

    /// In whose name a descriptor that says `pasid` and `privileged` runs: a
    /// dedicated queue uses its own configuration, a shared one the descriptor.
    pub(crate) fn requester(&self, pasid: Pasid, privileged: bool) -> Requester {
        if !self.is_pasid_enabled() {
            return Requester {
                pasid: None,
                privileged: false,
            };
        }
        if self.is_dedicated() {
            let own = Pasid::from_low_bits(self.bits(MODE, 27, 8));
            return Requester {
                pasid: Some(own),
                privileged: self.is_privileged(),
            };
        }
        Requester {
            pasid: Some(pasid),
            privileged,
        }
    }

    /// Maximum Transfer Size as a power of two.
    pub(crate) fn max_transfer_log2(&self) -> u32 {
        self.bits(LIMITS, 4, 0)
    }

    /// Maximum Batch Size as a power of two.
    pub(crate) fn max_batch_log2(&self) -> u32 {
        self.bits(LIMITS, 8, 5)
    }

    /// OPCFG: the operations that this queue allows.
    pub(crate) fn operations(&self) -> [u64; 4] {
        let mut operations = [0; 4];
        for (quad, words) in operations
            .iter_mut()
            .zip(self.words[OPCFG..].chunks_exact(2))
        {
            *quad = words
                .iter()
                .rev()
                .fold(0, |quad, word| quad << 32 | u64::from(*word));
        }
        operations
    }

    /// Where the occupancy interrupt would go.
    pub(crate) fn occupancy_target(&self) -> (Table, u16) {
        let table = if self.bit(OCCUPANCY_HANDLE, 16) {
            Table::Ims
        } else {
            Table::Msix
        };
        let handle = low16(u64::from(self.bits(OCCUPANCY_HANDLE, 15, 0)));
        (table, handle)
    }

    /// WQ Occupancy Interrupt Enable.
    pub(crate) fn has_occupancy_interrupt(&self) -> bool {
        self.bit(OCCUPANCY_LIMIT, 16)
    }

    /// The occupancy interrupt, if one is due: the occupancy is at the limit or
    /// below, and the last one has been acknowledged [§9.2.24].
    pub(crate) fn take_occupancy_interrupt(&mut self) -> Option<(Table, u16)> {
        let limit = self.bits(OCCUPANCY_LIMIT, 15, 0) as usize;
        let wanted = self.has_occupancy_interrupt() && self.state != QueueState::Disabled;
        let generated = self.words[STATUS] & OCCUPANCY_INTERRUPT_GENERATED != 0;
        if !wanted || generated || self.entries.len() > limit {
            return None;
        }
        self.words[STATUS] |= OCCUPANCY_INTERRUPT_GENERATED;
        Some(self.occupancy_target())
    }
}

/// The commands that take a set of queues name them so: bits 19:16 a block of
/// 16 queues, bits 15:0 which of that block [§9.2 "Command Register"].
pub(crate) fn queues_of_operand(operand: u32) -> impl Iterator<Item = usize> {
    let block = field(u64::from(operand), 19, 16);
    let base = usize::from(low8(block)) * 16;
    (0..16_usize)
        .filter(move |index| operand >> index & 1 == 1)
        .map(move |index| base + index)
}
