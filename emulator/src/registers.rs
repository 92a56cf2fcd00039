//! Where the registers and tables of BAR0 stand, and the layout of the simple
//! ones.
//!
//! Transcribed for the model alone from [341204 Rev 3.0 §9.2 "MMIO Registers"];
//! the hypervisor has its own transcription, and a test compares the two.

/// Version Register.
pub(crate) const VERSION: u64 = 0x00;
/// General Capabilities Register.
pub(crate) const GENCAP: u64 = 0x10;
/// Work Queue Capabilities Register.
pub(crate) const WQCAP: u64 = 0x20;
/// Group Capabilities Register.
pub(crate) const GRPCAP: u64 = 0x30;
/// Engine Capabilities Register.
pub(crate) const ENGCAP: u64 = 0x38;
/// Operation Capabilities Register, 32 bytes.
pub(crate) const OPCAP: u64 = 0x40;
/// Table Offsets Register, 16 bytes, in units of 0x100.
pub(crate) const OFFSETS: u64 = 0x60;
/// General Configuration Register.
pub(crate) const GENCFG: u64 = 0x80;
/// General Control Register.
pub(crate) const GENCTRL: u64 = 0x88;
/// General Status Register.
pub(crate) const GENSTS: u64 = 0x90;
/// Interrupt Cause Register.
pub(crate) const INTCAUSE: u64 = 0x98;
/// Command Register.
pub(crate) const CMD: u64 = 0xa0;
/// Command Status Register.
pub(crate) const CMDSTATUS: u64 = 0xa8;
/// Command Capabilities Register.
pub(crate) const CMDCAP: u64 = 0xb0;
/// Software Error Register, 32 bytes.
pub(crate) const SWERROR: u64 = 0xc0;
/// Event Log Configuration Register, 16 bytes.
pub(crate) const EVLCFG: u64 = 0xe0;
/// Event Log Status Register.
pub(crate) const EVLSTATUS: u64 = 0xf0;

/// The tables, at offsets of this model's choice: any layout that OFFSETS
/// announces and that does not overlap is legal.
pub(crate) const GRPCFG: u64 = 0x400;
/// Bytes of one GRPCFG entry.
pub(crate) const GRPCFG_STRIDE: u64 = 0x40;
/// MSI-X Permissions Table.
pub(crate) const MSIXPERM: u64 = 0x800;
/// Performance monitor block.
pub(crate) const PERFMON: u64 = 0x1000;
/// Work Queue Configuration Table.
pub(crate) const WQCFG: u64 = 0x4000;
/// A portal page that accepts submissions and ignores them.
pub(crate) const DUMMY_PORTAL: u64 = 0xf000;
/// Interrupt Message Storage Table.
pub(crate) const IMS: u64 = 0x1_0000;
/// Bytes of one MSI-X or IMS entry.
pub(crate) const MESSAGE_STRIDE: u64 = 16;

/// Bytes of BAR2 for one queue: four portal pages.
pub(crate) const PORTAL_STRIDE: u64 = 0x4000;

/// GENCFG 7:0, Global Read Buffer Limit.
pub(crate) const GENCFG_READ_BUFFER_LIMIT: u32 = 0xff;
/// GENCFG.12, User-mode Interrupt Enable.
pub(crate) const GENCFG_USER_INTERRUPTS: u32 = 1 << 12;
/// GENCFG.13, Event Log Enable.
pub(crate) const GENCFG_EVENT_LOG: u32 = 1 << 13;

/// GENCTRL.0, Software Error Interrupt Enable.
pub(crate) const GENCTRL_SOFTWARE_ERROR: u32 = 1 << 0;
/// GENCTRL.1, Halt State Interrupt Enable.
pub(crate) const GENCTRL_HALT: u32 = 1 << 1;
/// GENCTRL.2, Event Log Interrupt Enable.
pub(crate) const GENCTRL_EVENT_LOG: u32 = 1 << 2;

/// INTCAUSE.0, Software Error.
pub(crate) const INTCAUSE_SOFTWARE_ERROR: u32 = 1 << 0;
/// INTCAUSE.1, Command Completion.
pub(crate) const INTCAUSE_COMMAND: u32 = 1 << 1;
/// INTCAUSE.2, WQ Occupancy Below Limit.
pub(crate) const INTCAUSE_OCCUPANCY: u32 = 1 << 2;
/// INTCAUSE.3, Performance Monitor Counter Overflow.
pub(crate) const INTCAUSE_PERFMON: u32 = 1 << 3;
/// INTCAUSE.4, Halt State.
pub(crate) const INTCAUSE_HALT: u32 = 1 << 4;
/// INTCAUSE.5, Event Log.
pub(crate) const INTCAUSE_EVENT_LOG: u32 = 1 << 5;
/// INTCAUSE.31, Interrupt Handles Revoked.
pub(crate) const INTCAUSE_HANDLES_REVOKED: u32 = 1 << 31;
/// All causes.
pub(crate) const INTCAUSE_ALL: u32 = INTCAUSE_SOFTWARE_ERROR
    | INTCAUSE_COMMAND
    | INTCAUSE_OCCUPANCY
    | INTCAUSE_PERFMON
    | INTCAUSE_HALT
    | INTCAUSE_EVENT_LOG
    | INTCAUSE_HANDLES_REVOKED;

/// GENSTS 1:0, Device State.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// Not processing descriptors; configuration may be written.
    Disabled = 0,
    /// Accepting and processing descriptors.
    Enabled = 1,
    /// Being disabled or reset: waiting for descriptors.
    Drain = 2,
    /// Stopped by an error that needs a reset.
    Halt = 3,
}

/// GENSTS 3:2, the reset that a halted device needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetType {
    /// The Reset Device command.
    Software = 0,
    /// Function level reset.
    FunctionLevel = 1,
    /// Warm reset of the platform.
    Warm = 2,
    /// Power cycle.
    Cold = 3,
}
