//! One group: which queues its engines serve, and with what.
//!
//! [341204 Rev 3.0 §9.2 "Group Configuration Table"].

use crate::bits::{bit, field, low8, low32, mask};
use crate::identity::Identity;
use crate::interrupt::RegisterWrite;
use crate::violation::Violations;

const ENGINES: usize = 4;
const FLAGS: usize = 5;

/// GRPCFG of one group: four words of queues, one of engines, one of flags.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    words: [u64; 6],
    writable: [u64; 6],
}

impl Group {
    /// Group `index` as after power-up.
    pub(crate) fn new(identity: &Identity, index: u64) -> Self {
        let all_queues = mask(u32::from(identity.queues) - 1, 0);
        let all_engines = mask(u32::from(identity.engines) - 1, 0);
        // Traffic classes, global limit, read buffers reserved and allowed.
        let flags = mask(5, 0) | 1 << 7 | mask(15, 8) | mask(27, 20);
        let mut words = [0; 6];
        words[FLAGS] = u64::from(identity.read_buffers()) << 20;
        if !identity.configurable {
            // A fixed configuration deals queues and engines out in turn, to
            // as many groups as get both.
            let dealt_to = u64::from(identity.groups)
                .min(identity.queues.into())
                .min(identity.engines.into());
            let mine = |count: u64| {
                let members = (0..count).filter(|member| member % dealt_to == index);
                members.fold(0, |set, member| set | 1 << member)
            };
            words[0] = mine(identity.queues.into());
            words[ENGINES] = mine(identity.engines.into());
        }
        Self {
            words,
            writable: [all_queues, 0, 0, 0, all_engines, flags],
        }
    }

    /// A 32-bit word of GRPCFG.
    pub(crate) fn read(&self, index: usize) -> u32 {
        let quad = self.words.get(index / 2).copied().unwrap_or(0);
        low32(if index.is_multiple_of(2) {
            quad
        } else {
            quad >> 32
        })
    }

    /// Writes a 32-bit word of GRPCFG, which the state must `allow`.
    pub(crate) fn write(
        &mut self,
        number: usize,
        index: usize,
        write: RegisterWrite,
        allow: bool,
        violations: &mut Violations,
    ) {
        let old = self.read(index);
        let (Some(quad), Some(writable)) =
            (self.words.get_mut(index / 2), self.writable.get(index / 2))
        else {
            return;
        };
        let shift = if index.is_multiple_of(2) { 0 } else { 32 };
        let writable = if allow { low32(*writable >> shift) } else { 0 };
        let refused = (write.value ^ old) & write.lanes & !writable;
        if refused != 0 {
            violations.record(format!(
                "GRPCFG {number} word {index}: bits {refused:#010x} are reserved or cannot be \
                 changed {}",
                if allow { "at all" } else { "now" }
            ));
        }
        let new = u64::from(write.onto(old, writable));
        *quad = *quad & !(u64::from(u32::MAX) << shift) | new << shift;
    }

    pub(crate) fn has_queue(&self, queue: usize) -> bool {
        self.words
            .get(queue / 64)
            .is_some_and(|word| word >> (queue % 64) & 1 == 1)
    }

    pub(crate) fn has_engine(&self, engine: usize) -> bool {
        engine < 64 && self.words[ENGINES] >> engine & 1 == 1
    }

    pub(crate) fn has_queues(&self) -> bool {
        self.words[..ENGINES].iter().any(|word| *word != 0)
    }

    pub(crate) fn engine_count(&self) -> u32 {
        self.words[ENGINES].count_ones()
    }

    /// Traffic class A or, with `b`, traffic class B.
    pub(crate) fn traffic_class(&self, b: bool) -> u8 {
        low8(if b {
            field(self.words[FLAGS], 5, 3)
        } else {
            field(self.words[FLAGS], 2, 0)
        })
    }

    pub(crate) fn uses_global_limit(&self) -> bool {
        bit(self.words[FLAGS], 7)
    }

    pub(crate) fn read_buffers_reserved(&self) -> u32 {
        low32(field(self.words[FLAGS], 15, 8))
    }

    pub(crate) fn read_buffers_allowed(&self) -> u32 {
        low32(field(self.words[FLAGS], 27, 20))
    }
}
