//! BAR0: where its registers are, and what they read and take.
//!
//! | offset | what |
//! |---|---|
//! | 0x000 | registers at their fixed places |
//! | 0x300 | MSIXPERM, 8 bytes for each vector |
//! | 0x400 | GRPCFG, one group with all queues |
//! | 0x500 | WQCFG, 32 bytes for each queue |
//! | 0x600 | MSI-X table |
//! | 0x700 | MSI-X pending bits |
//! | 0xf000 | the dummy portal |
//!
//! What is not there reads as 0 and takes nothing.

use hwspec::dsa::{EngCap, GenCap, GenCfg, GenCtrl, GenSts, GrpCap, IntCause, Offsets0, WqCap};

use crate::access::{Access, WordWrite, high_half, low_half};
use crate::commands::COMMANDS;
use crate::{Host, QueueMode, QueueShape, VirtualDsa};

/// Bytes of BAR0.
pub(crate) const REGISTERS_SIZE: u32 = 0x1_0000;
const PERMISSIONS: u32 = 0x300;
const GROUPS: u32 = 0x400;
const QUEUES: u32 = 0x500;
/// Where the MSI-X table is.
pub(crate) const MSIX_TABLE: u32 = 0x600;
/// Where the MSI-X pending bits are.
pub(crate) const PENDING_BITS: u32 = 0x700;
const END: u32 = 0x800;

const VERSION: u32 = 0x00;
const GENCAP: u32 = 0x10;
const WQCAP: u32 = 0x20;
const GRPCAP: u32 = 0x30;
const ENGCAP: u32 = 0x38;
const OPCAP: u32 = 0x40;
const OFFSETS: u32 = 0x60;
const GENCFG: u32 = 0x80;
const GENCTRL: u32 = 0x88;
const GENSTS: u32 = 0x90;
const INTCAUSE: u32 = 0x98;
const CMD: u32 = 0xa0;
const CMDSTATUS: u32 = 0xa8;
const CMDCAP: u32 = 0xb0;
const SWERROR: u32 = 0xc0;
const SWERROR_END: u32 = 0xe0;

/// The registers that never change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capabilities {
    general: GenCap,
    queues: WqCap,
    operations: [u64; 4],
}

impl Capabilities {
    /// GENCAP, WQCAP and OPCAP of a DSA 1.0 with these queues. Overlapping copies,
    /// cache control and destination readback are offered; blocking on faults, which
    /// needs page requests, is not.
    pub(crate) fn new(queues: &[QueueShape], operations: [u64; 4]) -> Self {
        let has = |mode| queues.iter().any(|queue| queue.mode == mode);
        let most = |of: fn(&QueueShape) -> u8| queues.iter().map(of).max().unwrap_or(0);
        let total = queues
            .iter()
            .fold(0, |total: u16, queue| total.saturating_add(queue.size));
        Self {
            general: GenCap::new()
                .with_overlapping_copy(true)
                .with_cache_control(true)
                .with_command_capabilities(true)
                .with_destination_readback(true)
                .with_max_transfer_size(most(|queue| queue.max_transfer_log2))
                .with_max_batch_size(most(|queue| queue.max_batch_log2)),
            queues: WqCap::new()
                .with_total_size(total)
                .with_count(u8::try_from(queues.len()).unwrap_or(u8::MAX))
                .with_shared_mode(has(QueueMode::Shared))
                .with_dedicated_mode(has(QueueMode::Dedicated)),
            operations,
        }
    }

    /// Operations that are offered.
    pub(crate) const fn operations(&self) -> [u64; 4] {
        self.operations
    }

    /// The capability register, or the part of one, that is 8 bytes at `offset`.
    fn read(&self, offset: u32) -> u64 {
        match offset {
            GENCAP => self.general.into_bits(),
            WQCAP => self.queues.into_bits(),
            // One group, no read buffers to share out.
            GRPCAP => GrpCap::new().with_count(1).into_bits(),
            ENGCAP => EngCap::new().with_count(1).into_bits(),
            OPCAP..OFFSETS => {
                let word = usize::try_from((offset - OPCAP) / 8).ok();
                let word = word.and_then(|word| self.operations.get(word));
                word.copied().unwrap_or(0)
            }
            OFFSETS => Offsets0::new()
                .with_grpcfg(units(GROUPS))
                .with_wqcfg(units(QUEUES))
                .with_msixperm(units(PERMISSIONS))
                .into_bits(),
            CMDCAP => COMMANDS,
            _ => 0,
        }
    }
}

/// An offset as OFFSETS has it.
fn units(offset: u32) -> u16 {
    u16::try_from(offset / 0x100).unwrap_or_default()
}

/// Entry and word of an offset into a table.
fn place(offset: u32, stride: u32) -> (u16, u32) {
    let entry = u16::try_from(offset / stride).unwrap_or(u16::MAX);
    (entry, offset % stride / 4)
}

impl VirtualDsa {
    /// Reads 1, 2, 4 or 8 bytes of BAR0. Any other access, or a misaligned one, reads
    /// as 0.
    pub fn read_register(&self, host: &impl Host, offset: u32, width: u8) -> u64 {
        Access::new(offset, width).map_or(0, |access| {
            access.read(|offset| self.read_word(host, offset))
        })
    }

    fn read_word(&self, host: &impl Host, offset: u32) -> u32 {
        match offset {
            VERSION => 0x100,
            GENCFG => GenCfg::new().with_user_interrupts(true).into_bits(),
            GENCTRL => self.control.into_bits(),
            GENSTS => GenSts::new()
                .with_state(self.state)
                .with_reset_type(self.reset_type)
                .into_bits(),
            INTCAUSE => self.causes.into_bits(),
            CMDSTATUS => self.command.status().into_bits(),
            SWERROR..SWERROR_END => self.software_error.read((offset - SWERROR) / 4),
            PERMISSIONS..GROUPS if offset.is_multiple_of(8) => {
                let (vector, _) = place(offset - PERMISSIONS, 8);
                self.msix.permission(vector).into_bits()
            }
            GROUPS..QUEUES => half(self.read_group(offset - GROUPS), offset),
            QUEUES..MSIX_TABLE => {
                let (queue, word) = place(offset - QUEUES, 32);
                let queue = self.queues.get(usize::from(queue));
                queue.map_or(0, |queue| queue.read(word))
            }
            MSIX_TABLE..PENDING_BITS => {
                let (vector, word) = place(offset - MSIX_TABLE, 16);
                self.msix.read(vector, word)
            }
            PENDING_BITS..END => self.msix.read_pending(host, (offset - PENDING_BITS) / 4),
            GENCAP..GENCFG | CMDCAP..SWERROR => half(self.capabilities.read(offset & !7), offset),
            _ => 0,
        }
    }

    /// GRPCFG of group 0: all queues, one engine, traffic class 0.
    fn read_group(&self, offset: u32) -> u64 {
        match offset & !7 {
            0x00 => (1 << self.queues.len()) - 1,
            0x20 => 1,
            _ => 0,
        }
    }

    /// Writes 1, 2, 4 or 8 bytes of BAR0. Any other access, or a misaligned one, is
    /// dropped, and so is what goes to a register that cannot be written.
    pub fn write_register(&mut self, host: &mut impl Host, offset: u32, width: u8, value: u64) {
        let Some(access) = Access::new(offset, width) else {
            self.count_dropped_write();
            return;
        };
        for (offset, write) in access.words(value) {
            self.write_word(host, offset, write);
        }
    }

    fn write_word(&mut self, host: &mut impl Host, offset: u32, write: WordWrite) {
        let is_taken = match offset {
            GENCTRL => {
                // There is no event log.
                self.control = GenCtrl::from_bits(write.onto(self.control.into_bits(), 0b11));
                true
            }
            INTCAUSE => {
                self.causes = IntCause::from_bits(self.causes.into_bits() & !write.ones());
                true
            }
            CMD => {
                self.write_command(host, write);
                true
            }
            SWERROR => {
                self.software_error.write(write);
                true
            }
            PERMISSIONS..GROUPS if offset.is_multiple_of(8) => {
                let (vector, _) = place(offset - PERMISSIONS, 8);
                let is_taken = self.msix.write_permission(vector, write);
                self.settle_vector(host, vector);
                is_taken
            }
            QUEUES..MSIX_TABLE => {
                let (queue, word) = place(offset - QUEUES, 32);
                let queue = self.queues.get_mut(usize::from(queue));
                queue.is_some_and(|queue| queue.write(word, write))
            }
            MSIX_TABLE..PENDING_BITS => {
                let (vector, word) = place(offset - MSIX_TABLE, 16);
                let is_taken = self.msix.write(vector, word, write);
                self.settle_vector(host, vector);
                is_taken
            }
            // The other half of an 8-byte access to a register of 4.
            _ => write.ones() == 0,
        };
        if !is_taken {
            self.count_dropped_write();
        }
    }
}

/// The half of 8 bytes that an offset is in.
fn half(value: u64, offset: u32) -> u32 {
    if offset & 4 == 0 {
        low_half(value)
    } else {
        high_half(value)
    }
}
