//! The checks on flags.

use crate::completion::Status;
use crate::descriptor::{Flags, Opcode};

use super::rules::{CACHE, Rules, TC1, TC2, TC3};
use super::{Check, Refusal, Verdict};

impl Check<'_> {
    /// No flag that is reserved, none missing that is required.
    pub(super) fn flags(&self, rules: &Rules) -> Verdict {
        let invalid = self.flags & !self.allowed_flags(rules)
            | self.reserved_cache_control()
            | self.missing();
        if invalid.is_empty() {
            return Ok(());
        }
        Err(Refusal {
            invalid_flags: invalid,
            ..Refusal::new(Status::INVALID_FLAGS)
        })
    }

    /// The flags that may be set, each on its own [Table 5-3; Table 5-4
    /// "Conditional Reserved Field Checking"].
    fn allowed_flags(&self, rules: &Rules) -> Flags {
        let capabilities = self.capabilities;
        let record = self.flags.contains(Flags::COMPLETION_ADDRESS_VALID);
        let may_interrupt =
            capabilities.user_interrupts || !capabilities.pasid_enabled || capabilities.privileged;
        let may_block = self.gencap(0) && capabilities.block_on_fault;
        // Strict Ordering Limitation for Memory Destinations.
        let may_order = !self.gencap(53);

        let for_every_operation = Flags::COMPLETION_ADDRESS_VALID
            | Flags::FENCE.when(capabilities.in_batch)
            | Flags::REQUEST_COMPLETION_RECORD.when(record)
            | Flags::COMPLETION_RECORD_TC.when(record)
            | Flags::REQUEST_COMPLETION_INTERRUPT.when(may_interrupt);
        let unavailable = Flags::BLOCK_ON_FAULT.when(!may_block)
            | Flags::STRICT_ORDERING.when(!may_order)
            | !self.used_selectors() & (TC1 | TC2 | TC3);
        for_every_operation | rules.allowed & !unavailable | self.operation_specific_flags()
    }

    /// Flags 23:16 [§8.3 "Descriptor Types"].
    fn operation_specific_flags(&self) -> Flags {
        match self.descriptor.opcode() {
            Opcode::BATCH => Flags::BATCH_ERROR.when(self.gencap(15)),
            Opcode::DRAIN => {
                let readback = Flags::READBACK_ADDRESS_1_VALID | Flags::READBACK_ADDRESS_2_VALID;
                readback.when(self.gencap(9))
                    | Flags::SUPPRESS_TC_A_READBACK
                    | Flags::SUPPRESS_TC_B_READBACK
            }
            Opcode::FILL => Flags::PATTERN_SIZE.when(self.gencap(10)),
            Opcode::TRANSLATION_FETCH => Flags::USE_STRIDE.when(self.gencap(7)),
            Opcode::CRC_GENERATION | Opcode::COPY_WITH_CRC => {
                Flags::READ_CRC_SEED
                    | Flags::BYPASS_CRC_INVERSION_AND_REFLECTION
                    | Flags::BYPASS_DATA_REFLECTION
                    | Flags::CRC_SIZE.when(self.gencap(11))
            }
            _ => Flags::NONE,
        }
    }

    /// Traffic class selectors whose address the descriptor uses, whatever the
    /// operation allows: a readback or seed address may be absent.
    pub(super) fn used_selectors(&self) -> Flags {
        match self.descriptor.opcode() {
            Opcode::DRAIN => {
                TC1.when(self.flags.contains(Flags::READBACK_ADDRESS_1_VALID))
                    | TC2.when(self.flags.contains(Flags::READBACK_ADDRESS_2_VALID))
            }
            Opcode::CRC_GENERATION | Opcode::COPY_WITH_CRC => {
                TC1 | TC2 | TC3.when(self.flags.contains(Flags::READ_CRC_SEED))
            }
            _ => TC1 | TC2 | TC3,
        }
    }

    /// The cache control flags, if together they are a reserved encoding
    /// [Table 8-4 "Cache Control Flags"].
    fn reserved_cache_control(&self) -> Flags {
        let (write_to_cache, durable, readback) = (self.gencap(2), self.gencap(5), self.gencap(8));
        let encoding = (
            self.flags.contains(Flags::CACHE_CONTROL_3),
            self.flags.contains(Flags::CACHE_CONTROL_2),
            self.flags.contains(Flags::CACHE_CONTROL_1),
        );
        // Before Rev 2.0, Cache Control 3 was a steering tag selector, which no
        // device supported.
        let third_flag = self.capabilities.version >= 0x200;
        let to_memory = self.descriptor.opcode() != Opcode::CACHE_FLUSH;
        let good = match encoding {
            (false, false, false) => true,
            (false, true, false) => readback,
            (false, false, true) => to_memory && write_to_cache,
            (false, true, true) => to_memory && write_to_cache && readback,
            (true, false, false) => to_memory && third_flag && durable,
            (true, true, false) => to_memory && third_flag && readback,
            (true, _, true) => false,
        };
        self.flags & CACHE.when(!good)
    }

    /// Flags that the operation requires and that are clear [Table 5-5
    /// "Operation Types with Required (Must be 1) Flags"; DIX Generate: §8.3.18].
    fn missing(&self) -> Flags {
        let record = Flags::COMPLETION_ADDRESS_VALID | Flags::REQUEST_COMPLETION_RECORD;
        let notice = Flags::REQUEST_COMPLETION_RECORD | Flags::REQUEST_COMPLETION_INTERRUPT;
        match self.descriptor.opcode() {
            Opcode::COMPARE
            | Opcode::COMPARE_PATTERN
            | Opcode::CREATE_DELTA_RECORD
            | Opcode::CRC_GENERATION
            | Opcode::COPY_WITH_CRC
            | Opcode::DIF_CHECK
            | Opcode::DIX_GENERATE => record & !self.flags,
            Opcode::DRAIN => notice.when((self.flags & notice).is_empty()),
            _ => Flags::NONE,
        }
    }
}
