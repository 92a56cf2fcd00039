//! What a device has.

use core::ops::Range;

use hwio::Registers;
use hwspec::dsa::{
    CMDCAP, CommandCode, ENGCAP, EngCap, GENCAP, GRPCAP, GenCap, GroupConfig, GrpCap, ImsEntry,
    OFFSETS_0, Offsets0, VERSION, Version, WQCAP, WqCap, opcap,
};

use crate::{Error, RegisterName};

/// How many bytes of BAR0 have registers at fixed offsets.
const FIXED_BYTES: usize = 0x100;

/// The commands of a device without CMDCAP: 1 to 12.
/// [DSA 3.0, 9.2.12 "Command Register (CMD)", Table 9-6]
const COMMANDS_WITHOUT_CMDCAP: u64 = 0x1ffe;

/// What a device says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// VERSION.
    pub version: Version,
    /// GENCAP.
    pub gencap: GenCap,
    /// WQCAP: how many work queues there are and how many entries they share.
    pub wqcap: WqCap,
    /// GRPCAP.
    pub grpcap: GrpCap,
    /// ENGCAP.
    pub engcap: EngCap,
    /// OPCAP: bit N of word W is operation 64 * W + N.
    pub opcap: [u64; 4],
    /// CMDCAP, or what holds without it: bit N is command N.
    pub cmdcap: u64,
    /// OFFSETS, bits 63:0.
    pub offsets: Offsets0,
}

impl Capabilities {
    /// Reads what a device says of itself. The window need not reach beyond the registers
    /// at fixed offsets, 0x100 bytes; so this can be asked before the window is cut.
    ///
    /// # Errors
    /// If the window is smaller, or there is no device.
    pub fn read(registers: &impl Registers) -> Result<Self, Error> {
        let len_bytes = registers.len_bytes();
        if len_bytes < FIXED_BYTES {
            return Err(Error::WindowTooSmall { len_bytes });
        }
        let version = registers.read(VERSION);
        if version.into_bits() == !0 {
            let register = RegisterName::Version;
            return Err(Error::DeviceGone { register });
        }
        let gencap = registers.read(GENCAP);
        if gencap.into_bits() == !0 {
            let register = RegisterName::GenCap;
            return Err(Error::DeviceGone { register });
        }
        let cmdcap = if gencap.command_capabilities() {
            registers.read(CMDCAP)
        } else {
            COMMANDS_WITHOUT_CMDCAP
        };
        Ok(Self {
            version,
            gencap,
            wqcap: registers.read(WQCAP),
            grpcap: registers.read(GRPCAP),
            engcap: registers.read(ENGCAP),
            opcap: [0, 1, 2, 3].map(|word| registers.read(opcap(word))),
            cmdcap,
            offsets: registers.read(OFFSETS_0),
        })
    }

    /// Whether a device with these registers will do, in a window of `len_bytes` bytes,
    /// which may end where the Interrupt Message Storage begins.
    ///
    /// # Errors
    /// One for each thing that is missing.
    pub fn check(&self, len_bytes: usize) -> Result<(), Error> {
        if !self.gencap.configuration() {
            return Err(Error::NotConfigurable(self.gencap));
        }
        if self.count_ims_entries() == 0 {
            return Err(Error::NoInterruptStore(self.gencap));
        }
        if self.count_queues() == 0 || self.count_groups() == 0 || self.count_engines() == 0 {
            return Err(Error::NothingToConfigure {
                queues: self.count_queues(),
                groups: self.count_groups(),
                engines: self.count_engines(),
            });
        }
        let ims = self.ims_bytes();
        for (table, range) in [
            (RegisterName::GrpCfg, self.grpcfg_range()),
            (RegisterName::WqCfg, self.wqcfg_range()),
        ] {
            check_table(table, &range, len_bytes)?;
            if range.start < ims.end && ims.start < range.end {
                let (start, ims) = (range.start, ims.start);
                return Err(Error::TablesOverlap { table, start, ims });
            }
        }
        Ok(())
    }

    /// How many work queues there are.
    pub const fn count_queues(&self) -> u8 {
        self.wqcap.count()
    }

    /// How many descriptors fit into all work queues together.
    pub const fn count_entries(&self) -> u16 {
        self.wqcap.total_size()
    }

    /// How many groups there are.
    pub const fn count_groups(&self) -> u8 {
        self.grpcap.count()
    }

    /// How many engines there are.
    pub const fn count_engines(&self) -> u8 {
        self.engcap.count()
    }

    /// How many slots the Interrupt Message Storage has.
    pub const fn count_ims_entries(&self) -> usize {
        self.gencap.ims_entries()
    }

    /// Whether the device does `command`.
    pub const fn has_command(&self, command: CommandCode) -> bool {
        command.0 < 64 && self.cmdcap >> command.0 & 1 == 1
    }

    /// Whether a descriptor names an interrupt by a handle that the device gave, and not
    /// by its index. [DSA 3.0, 3.7 "Interrupts"]
    pub const fn has_handle_commands(&self) -> bool {
        self.has_command(CommandCode::REQUEST_INTERRUPT_HANDLE)
    }

    /// Whether the device does `operation`.
    pub fn has_operation(&self, operation: u8) -> bool {
        let word = self.opcap.get(usize::from(operation / 64));
        word.is_some_and(|word| word >> (operation % 64) & 1 == 1)
    }

    /// Where in a BAR0 of `bar_bytes` bytes the Interrupt Message Storage is, 16 bytes for
    /// each slot. The slots have owners of their own, so a kernel cuts BAR0 here.
    ///
    /// # Errors
    /// If there is none, or it is outside of BAR0 or where other registers are.
    pub fn ims_range(&self, bar_bytes: usize) -> Result<Range<usize>, Error> {
        let range = self.ims_bytes();
        if range.is_empty() {
            return Err(Error::NoInterruptStore(self.gencap));
        }
        check_table(RegisterName::Ims, &range, bar_bytes)?;
        Ok(range)
    }

    const fn ims_bytes(&self) -> Range<usize> {
        let start = self.offsets.ims_offset();
        start..start + self.count_ims_entries() * ImsEntry::STRIDE
    }

    /// Where in BAR0 the groups are configured.
    pub(crate) fn grpcfg_range(&self) -> Range<usize> {
        let start = self.offsets.grpcfg_offset();
        start..start + usize::from(self.count_groups()) * GroupConfig::STRIDE
    }

    /// Where in BAR0 the work queues are configured.
    pub(crate) fn wqcfg_range(&self) -> Range<usize> {
        let start = self.offsets.wqcfg_offset();
        start..start + usize::from(self.count_queues()) * self.wqcap.wqcfg_bytes()
    }
}

/// That a table is in the window, and not where the registers at fixed offsets are.
const fn check_table(
    table: RegisterName,
    range: &Range<usize>,
    len_bytes: usize,
) -> Result<(), Error> {
    if range.start < FIXED_BYTES || range.end > len_bytes {
        return Err(Error::TableOutside {
            table,
            start: range.start,
            end: range.end,
            len_bytes,
        });
    }
    Ok(())
}

#[cfg(test)]
#[path = "capabilities_tests.rs"]
mod tests;
