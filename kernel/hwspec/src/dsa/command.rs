//! Administrative commands.

use bitfield_struct::bitfield;

use super::codes::codes;
use crate::register::{Ro, Wo, layouts};

/// Command Register (32-bit, WO).
/// [DSA 3.0, 9.2.12 "Command Register (CMD)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Cmd {
    /// Operand.
    #[bits(20)]
    pub operand: u32,
    /// Command Code.
    #[bits(5)]
    pub code: CommandCode,
    #[bits(6)]
    _reserved_30_25: u8,
    /// Request Completion Interrupt.
    pub request_interrupt: bool,
}
const _: () = assert!(Cmd::CODE_OFFSET == 20 && Cmd::REQUEST_INTERRUPT_OFFSET == 31);

impl Cmd {
    /// Request or Release Interrupt Handle, of entry `index` of the MSI-X table.
    pub const fn msix_operand(index: u16) -> u32 {
        index as u32
    }

    /// Request or Release Interrupt Handle, of entry `index` of the IMS.
    pub const fn ims_operand(index: u16) -> u32 {
        1 << 16 | index as u32
    }

    /// Disable, Drain, Abort or Reset WQ, of WQ `index` alone.
    pub const fn wq_operand(index: u8) -> u32 {
        (index as u32 >> 4) << 16 | 1 << (index & 0xf)
    }
}

/// CMD.
pub const CMD: Wo<Cmd> = Wo::at(0xa0);

/// Command Status Register (32-bit, RO).
/// [DSA 3.0, 9.2.13 "Command Status Register (CMDSTATUS)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CmdStatus {
    /// Error Code.
    #[bits(8)]
    pub error: CommandError,
    /// Command Result: the handle that was asked for.
    pub result: u16,
    #[bits(7)]
    _unused_30_24: u8,
    /// Active: the command is in progress, and the other fields mean nothing.
    pub active: bool,
}
const _: () = assert!(CmdStatus::RESULT_OFFSET == 8 && CmdStatus::ACTIVE_OFFSET == 31);

/// CMDSTATUS.
pub const CMDSTATUS: Ro<CmdStatus> = Ro::at(0xa8);

/// Command Capabilities Register (64-bit, RO): bit N says that command N is
/// supported. Not there if GENCAP says so; commands 1 to 12 are supported then.
/// [DSA 3.0, 9.2.14 "Command Capabilities Register (CMDCAP)"]
pub const CMDCAP: Ro<u64> = Ro::at(0xb0);

/// Command Code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CommandCode(pub u8);

// [DSA 3.0, 9.2.12 "Command Register (CMD)", Table 9-5], without the commands of
// inter-domain operations.
codes! { CommandCode: u8;
    /// Enable Device.
    ENABLE_DEVICE = 1, "enable device";
    /// Disable Device.
    DISABLE_DEVICE = 2, "disable device";
    /// Drain All.
    DRAIN_ALL = 3, "drain all";
    /// Abort All.
    ABORT_ALL = 4, "abort all";
    /// Reset Device.
    RESET_DEVICE = 5, "reset device";
    /// Enable WQ; the operand is its index.
    ENABLE_WQ = 6, "enable WQ";
    /// Disable WQ; the operand is a group of sixteen and a bit for each in it.
    DISABLE_WQ = 7, "disable WQ";
    /// Drain WQ; likewise.
    DRAIN_WQ = 8, "drain WQ";
    /// Abort WQ; likewise.
    ABORT_WQ = 9, "abort WQ";
    /// Reset WQ; likewise.
    RESET_WQ = 10, "reset WQ";
    /// Drain PASID; the operand is the PASID.
    DRAIN_PASID = 11, "drain PASID";
    /// Abort PASID; likewise.
    ABORT_PASID = 12, "abort PASID";
    /// Request Interrupt Handle.
    REQUEST_INTERRUPT_HANDLE = 13, "request interrupt handle";
    /// Release Interrupt Handle.
    RELEASE_INTERRUPT_HANDLE = 14, "release interrupt handle";
}

/// Error Code of a command. From 0x10 on its meaning depends on the command, but no
/// two commands use one code with different meanings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CommandError(pub u8);

// [DSA 3.0, 9.2.13 "Command Status Register (CMDSTATUS)"; 5.8.3 "Administrative
// Command Error Codes", Table 5-8]
codes! { CommandError: u8;
    /// Successful completion.
    NONE = 0x00, "success";
    /// Undefined or unsupported command code.
    UNSUPPORTED = 0x01, "undefined or unsupported command";
    /// Invalid WQ index.
    INVALID_WQ = 0x02, "invalid WQ index";
    /// A platform or internal hardware error.
    HARDWARE = 0x03, "hardware error";
    /// Non-zero reserved field.
    RESERVED_FIELD = 0x04, "reserved field of the command not zero";
    /// Device in halt or error state.
    HALTED = 0x05, "device is in halt or error state";
    /// Enable Device: it is not Disabled.
    DEVICE_NOT_DISABLED = 0x10, "device is not disabled";
    /// Enable Device: unspecified error in the configuration.
    CONFIGURATION = 0x11, "unspecified error in the configuration";
    /// Enable Device: Bus Master Enable is 0.
    NO_BUS_MASTER = 0x12, "bus master enable is 0";
    /// Enable Device: PRSREQALLOC has an unsupported value.
    PAGE_REQUEST_ALLOCATION = 0x13, "page request allocation is not supported";
    /// Enable Device: the sum of the WQ sizes is out of range.
    TOTAL_WQ_SIZE = 0x14, "sum of WQ sizes is out of range";
    /// Enable Device: a group without WQs or without engines, or one too many.
    GROUP = 0x15, "group lacks WQs or engines";
    /// Enable Device: WQs and groups do not fit together.
    GROUP_WQS = 0x16, "WQs of the groups are invalid";
    /// Enable Device: engines and groups do not fit together.
    GROUP_ENGINES = 0x17, "engines of the groups are invalid";
    /// Enable Device: read buffers or bandwidth limits.
    READ_BUFFERS = 0x18, "read buffers or bandwidth limits are invalid";
    /// Enable Device: event log.
    EVENT_LOG = 0x19, "event log configuration is invalid";
    /// Enable Device: ATS.
    ATS = 0x1a, "ATS configuration is invalid";
    /// Enable Device: PASID.
    PASID = 0x1b, "PASID configuration is invalid";
    /// Enable WQ: the device is not Enabled.
    WQ_DEVICE_NOT_ENABLED = 0x20, "device is not enabled";
    /// Enable WQ: it is not Disabled.
    WQ_NOT_DISABLED = 0x21, "WQ is not disabled";
    /// Enable WQ: its size is 0.
    WQ_SIZE = 0x22, "WQ size is 0";
    /// Enable WQ: its priority is 0.
    WQ_PRIORITY = 0x23, "WQ priority is 0";
    /// Enable WQ: its mode is not supported.
    WQ_MODE = 0x24, "WQ mode is not supported";
    /// Enable WQ: block on fault.
    WQ_BLOCK_ON_FAULT = 0x25, "WQ may not block on fault";
    /// Enable WQ: PASID enable.
    WQ_PASID_ENABLE = 0x26, "WQ PASID enable is invalid";
    /// Enable WQ: maximum batch size or SGL size.
    WQ_BATCH_SIZE = 0x27, "WQ maximum batch or SGL size is invalid";
    /// Enable WQ: maximum transfer size.
    WQ_TRANSFER_SIZE = 0x28, "WQ maximum transfer size is invalid";
    /// Enable WQ: privilege.
    WQ_PRIVILEGE = 0x2a, "WQ privilege is not enabled";
    /// Enable WQ: occupancy interrupt.
    WQ_OCCUPANCY = 0x2b, "WQ occupancy interrupt is invalid";
    /// Enable WQ: ATS disable.
    WQ_ATS_DISABLE = 0x2c, "WQ ATS disable is not supported";
    /// Enable WQ: operations configuration.
    WQ_OPERATIONS = 0x2d, "WQ operations are not supported";
    /// Enable WQ: PRS disable.
    WQ_PRS_DISABLE = 0x2e, "WQ PRS disable is invalid";
    /// Disable Device: it is not Enabled.
    DEVICE_NOT_ENABLED = 0x31, "device is not enabled";
    /// Disable, Drain or Abort WQ: one is not Enabled.
    WQ_NOT_ENABLED = 0x32, "WQ is not enabled";
    /// Request or Release Interrupt Handle: invalid index.
    INTERRUPT_INDEX = 0x41, "invalid interrupt table index";
    /// Request Interrupt Handle: no handle is available.
    NO_INTERRUPT_HANDLE = 0x42, "no interrupt handle is available";
}

layouts! {
    u32: Cmd, CmdStatus;
}
