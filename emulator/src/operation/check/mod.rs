//! The checks on a descriptor before it is executed.
//!
//! [§5.4 "Descriptor Checks", §5.5 "Descriptor Reserved Field Checking"]. The
//! specification leaves their order open; here errors that make the completion
//! record unusable come first, and then what must be right for the later checks
//! to mean anything. The completion interrupt handle is not checked here: that
//! needs the interrupt tables.

mod flags;
mod rules;

use crate::bits::bit;
use crate::completion::{Outcome, Status};
use crate::descriptor::{Descriptor, Flags, Opcode};

use super::Capabilities;
use super::crc::crc_seed_address;
use super::delta::{
    DELTA_BYTES, MAX_TRANSFER_BYTES, MIN_RECORD_BYTES, delta_record_address, delta_record_size,
    max_delta_record_size,
};
use super::dif::{Blocks, destination_dif_flags, dif_flags};
use super::movement::destination_2;
use super::page_walk::region_stride;
use rules::{RULES, Rules, TC1, TC2, TC3};

/// Why a descriptor is not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The error code.
    pub(crate) status: Status,
    /// With [`Status::INVALID_FLAGS`], the flags that are wrong: set though
    /// they must not be, or clear though they must be set.
    pub(crate) invalid_flags: Flags,
    /// The completion record itself cannot be written: the error goes to
    /// SWERROR or the event log even if the record's address is valid.
    pub(crate) discarded: bool,
}

impl Refusal {
    const fn new(status: Status) -> Self {
        Self {
            status,
            invalid_flags: Flags::NONE,
            discarded: false,
        }
    }

    /// The outcome that the completion record reports.
    pub(crate) fn outcome(&self) -> Outcome {
        let tail = u128::from(self.invalid_flags.bits()).to_le_bytes();
        Outcome {
            tail,
            ..Outcome::new(self.status)
        }
    }
}

/// Whether `descriptor` may be executed under `capabilities`.
///
/// # Errors
/// The first [`Refusal`] found.
pub(crate) fn check(descriptor: &Descriptor, capabilities: &Capabilities) -> Result<(), Refusal> {
    let check = Check {
        descriptor,
        capabilities,
        flags: descriptor.flags(),
    };
    check.completion_record()?;
    let rules = check.operation()?;
    check.flags(rules)?;
    check.reserved_fields(rules)?;
    check.sizes()?;
    check.alignment()?;
    check.values()?;
    check.overlap()?;
    check.traffic_classes(rules)
}

/// One descriptor under check.
struct Check<'a> {
    descriptor: &'a Descriptor,
    capabilities: &'a Capabilities,
    flags: Flags,
}

/// What a single check says.
type Verdict = Result<(), Refusal>;

fn require(condition: bool, status: Status) -> Verdict {
    if condition {
        Ok(())
    } else {
        Err(Refusal::new(status))
    }
}

impl Check<'_> {
    fn gencap(&self, index: u32) -> bool {
        bit(self.capabilities.gencap, index)
    }

    /// What decides whether there can be a completion record at all.
    fn completion_record(&self) -> Verdict {
        let discard = |status| Refusal {
            discarded: true,
            ..Refusal::new(status)
        };
        if self.flags.contains(Flags::COMPLETION_ADDRESS_VALID) {
            let address = self.descriptor.completion_address();
            if !address.is_multiple_of(Outcome::RECORD_BYTES as u64) {
                return Err(discard(Status::MISALIGNED_COMPLETION_ADDRESS));
            }
            if !self.is_class_enabled(Flags::COMPLETION_RECORD_TC) {
                return Err(discard(Status::TRAFFIC_CLASS));
            }
        }
        // Everywhere else the Priv field is ignored.
        let priv_counts = self.capabilities.shared_queue && !self.capabilities.in_batch;
        if priv_counts
            && self.descriptor.is_privileged()
            && !self.capabilities.privileged_mode_enabled
        {
            return Err(discard(Status::PRIVILEGE));
        }
        Ok(())
    }

    /// Operation known, permitted, and possible where it was submitted.
    fn operation(&self) -> Result<&'static Rules, Refusal> {
        let opcode = self.descriptor.opcode();
        let permitted = self
            .capabilities
            .operations
            .get(usize::from(opcode.0 / 64))
            .is_some_and(|word| bit(*word, u32::from(opcode.0 % 64)));
        let possible = match opcode {
            Opcode::BATCH | Opcode::DRAIN => !self.capabilities.in_batch,
            Opcode::TRANSLATION_FETCH => self.capabilities.ats,
            _ => true,
        };
        RULES
            .iter()
            .find(|rules| rules.opcode == opcode)
            .filter(|_| permitted && possible)
            .ok_or(Refusal::new(Status::UNSUPPORTED_OPERATION))
    }

    fn reserved_fields(&self, rules: &Rules) -> Verdict {
        let descriptor = self.descriptor;
        let flag = |flag| self.flags.contains(flag);
        let is_clear = |range| descriptor.is_clear(range);
        let trusted_counts = self.capabilities.shared_queue && !self.capabilities.in_batch;

        let clear = (!trusted_counts || descriptor.trusted_reserved() == 0)
            && (flag(Flags::COMPLETION_ADDRESS_VALID) || is_clear(8..=15))
            && (flag(Flags::REQUEST_COMPLETION_INTERRUPT) || is_clear(36..=37))
            && rules.reserved.iter().cloned().all(is_clear)
            && match descriptor.opcode() {
                Opcode::DRAIN => {
                    (flag(Flags::READBACK_ADDRESS_1_VALID) || is_clear(16..=23))
                        && (flag(Flags::READBACK_ADDRESS_2_VALID) || is_clear(24..=31))
                }
                Opcode::FILL => flag(Flags::PATTERN_SIZE) || is_clear(40..=47),
                Opcode::TRANSLATION_FETCH => flag(Flags::USE_STRIDE) || is_clear(48..=51),
                Opcode::CRC_GENERATION | Opcode::COPY_WITH_CRC => {
                    if flag(Flags::READ_CRC_SEED) {
                        is_clear(40..=47)
                    } else {
                        is_clear(48..=55) && (flag(Flags::CRC_SIZE) || is_clear(44..=47))
                    }
                }
                Opcode::DIF_CHECK | Opcode::DIF_STRIP => dif_flags(descriptor) & 0xf0 == 0,
                Opcode::DIF_INSERT | Opcode::DIF_UPDATE | Opcode::DIX_GENERATE => {
                    dif_flags(descriptor) & 0xf0 == 0
                        && destination_dif_flags(descriptor) & 0x07 == 0
                }
                _ => true,
            };
        require(clear, Status::RESERVED_FIELD)
    }

    fn sizes(&self) -> Verdict {
        let size = self.descriptor.transfer_size();
        let within = |limit: u64| size != 0 && u64::from(size) <= limit;
        let limit = self.capabilities.max_transfer_bytes;
        match self.descriptor.opcode() {
            Opcode::NO_OP | Opcode::DRAIN => Ok(()),
            Opcode::BATCH => {
                let least = if self.gencap(52) { 1 } else { 2 };
                let allowed = least..=self.capabilities.max_batch;
                let count = self.descriptor.descriptor_count();
                require(allowed.contains(&count), Status::DESCRIPTOR_COUNT)
            }
            Opcode::TRANSLATION_FETCH => require(size != 0, Status::TRANSFER_SIZE),
            Opcode::CREATE_DELTA_RECORD | Opcode::APPLY_DELTA_RECORD => require(
                within(limit.min(u64::from(MAX_TRANSFER_BYTES))),
                Status::TRANSFER_SIZE,
            ),
            // The specification asks for whole blocks without naming a code.
            Opcode::DIF_CHECK | Opcode::DIF_STRIP | Opcode::DIF_UPDATE => {
                let whole = Blocks::new(self.descriptor, true).whole_bytes();
                require(
                    within(limit) && whole == u64::from(size),
                    Status::TRANSFER_SIZE,
                )
            }
            Opcode::DIF_INSERT | Opcode::DIX_GENERATE => {
                let whole = Blocks::new(self.descriptor, false).whole_bytes();
                require(
                    within(limit) && whole == u64::from(size),
                    Status::TRANSFER_SIZE,
                )
            }
            _ => require(within(limit), Status::TRANSFER_SIZE),
        }
    }

    fn alignment(&self) -> Verdict {
        let descriptor = self.descriptor;
        let aligned = |values: &[u64], to: u64| values.iter().all(|value| value % to == 0);
        let good = match descriptor.opcode() {
            Opcode::BATCH => {
                let good = aligned(&[descriptor.descriptor_list_address()], 64);
                return require(good, Status::MISALIGNED_DESCRIPTOR_LIST);
            }
            Opcode::CREATE_DELTA_RECORD => {
                let size = u64::from(descriptor.transfer_size());
                aligned(&[descriptor.source(), descriptor.destination(), size], 8)
            }
            Opcode::APPLY_DELTA_RECORD => aligned(
                &[
                    descriptor.destination(),
                    u64::from(descriptor.transfer_size()),
                ],
                8,
            ),
            Opcode::CRC_GENERATION | Opcode::COPY_WITH_CRC => {
                let seed_bytes = if self.flags.contains(Flags::CRC_SIZE) {
                    8
                } else {
                    4
                };
                aligned(&[crc_seed_address(descriptor)], seed_bytes)
            }
            Opcode::TRANSLATION_FETCH => {
                let stride = region_stride(descriptor);
                !self.flags.contains(Flags::USE_STRIDE)
                    || (stride >= 4096 && stride.is_power_of_two())
            }
            Opcode::DIX_GENERATE => aligned(&[descriptor.destination()], 8),
            _ => true,
        };
        require(good, Status::MISALIGNED_ADDRESS)
    }

    fn values(&self) -> Verdict {
        let descriptor = self.descriptor;
        match descriptor.opcode() {
            Opcode::CREATE_DELTA_RECORD => {
                let size = max_delta_record_size(descriptor);
                let good = size >= MIN_RECORD_BYTES
                    && u64::from(size) <= self.capabilities.max_transfer_bytes;
                require(good, Status::FIELD_VALUE)
            }
            Opcode::APPLY_DELTA_RECORD => {
                let size = u64::from(delta_record_size(descriptor));
                let good = size != 0
                    && size.is_multiple_of(DELTA_BYTES as u64)
                    && size <= self.capabilities.max_transfer_bytes;
                require(good, Status::FIELD_VALUE)
            }
            Opcode::TRANSLATION_FETCH => {
                let last = u64::from(descriptor.transfer_size()).saturating_sub(1);
                require(
                    descriptor.source().checked_add(last).is_some(),
                    Status::FIELD_VALUE,
                )
            }
            Opcode::DUALCAST => {
                let differing = descriptor.destination() ^ destination_2(descriptor);
                require(differing.is_multiple_of(0x1000), Status::DUALCAST_OFFSETS)
            }
            _ => Ok(()),
        }
    }

    /// Destination buffers must not overlap sources or each other.
    fn overlap(&self) -> Verdict {
        let descriptor = self.descriptor;
        let size = u64::from(descriptor.transfer_size());
        let source = Buffer(descriptor.source(), size);
        let destination = |bytes| Buffer(descriptor.destination(), bytes);
        let apart = match descriptor.opcode() {
            Opcode::MEMORY_MOVE => self.gencap(1) || source.is_apart_from(destination(size)),
            Opcode::COPY_WITH_CRC => source.is_apart_from(destination(size)),
            Opcode::DUALCAST => {
                let second = Buffer(destination_2(descriptor), size);
                source.is_apart_from(destination(size))
                    && source.is_apart_from(second)
                    && second.is_apart_from(destination(size))
            }
            Opcode::CREATE_DELTA_RECORD => {
                let length = u64::from(max_delta_record_size(descriptor));
                let record = Buffer(delta_record_address(descriptor), length);
                record.is_apart_from(source) && record.is_apart_from(destination(size))
            }
            Opcode::APPLY_DELTA_RECORD => {
                let length = u64::from(delta_record_size(descriptor));
                Buffer(descriptor.source(), length).is_apart_from(destination(size))
            }
            Opcode::DIF_INSERT => {
                let fields = Blocks::new(descriptor, false).all_field_bytes();
                source.is_apart_from(destination(size + fields))
            }
            Opcode::DIF_STRIP => {
                let data = Blocks::new(descriptor, true).all_data_bytes();
                source.is_apart_from(destination(data))
            }
            Opcode::DIF_UPDATE => source.is_apart_from(destination(size)),
            Opcode::DIX_GENERATE => {
                let fields = Blocks::new(descriptor, false).all_field_bytes();
                source.is_apart_from(destination(fields))
            }
            _ => true,
        };
        require(apart, Status::OVERLAPPING_BUFFERS)
    }

    /// The traffic classes of the addresses in use.
    fn traffic_classes(&self, rules: &Rules) -> Verdict {
        let used = rules.allowed & self.used_selectors();
        let enabled = [TC1, TC2, TC3]
            .into_iter()
            .all(|selector| !used.contains(selector) || self.is_class_enabled(selector));
        require(enabled, Status::TRAFFIC_CLASS)
    }

    fn is_class_enabled(&self, selector: Flags) -> bool {
        let [class_a, class_b] = self.capabilities.traffic_classes;
        if self.flags.contains(selector) {
            class_b
        } else {
            class_a
        }
    }
}

/// A buffer: its address and its size in bytes.
#[derive(Clone, Copy)]
struct Buffer(u64, u64);

impl Buffer {
    fn is_apart_from(self, other: Self) -> bool {
        let end = |buffer: Self| u128::from(buffer.0) + u128::from(buffer.1);
        end(self) <= u128::from(other.0) || end(other) <= u128::from(self.0)
    }
}
