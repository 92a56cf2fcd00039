//! Intel Data Streaming Accelerator: its registers, its tables and what it works
//! on.
//!
//! BAR0 holds the [registers](GENCAP) and the tables that [`OFFSETS_0`] locates,
//! BAR2 the [portals](PortalPage). A [`Descriptor`] is written to a portal; the
//! device answers with a [`CompletionRecord`] in memory, an interrupt, or
//! [`SWERROR_0`] where neither was asked for.

mod codes;
mod command;
mod completion;
mod descriptor;
mod registers;
mod tables;

pub use command::{CMD, CMDCAP, CMDSTATUS, Cmd, CmdStatus, CommandCode, CommandError};
pub use completion::{CompletionRecord, CompletionWord0, FaultInfo, Operand, Status};
pub use descriptor::{Descriptor, DescriptorWord0, DescriptorWord4, Flags, Operation};
pub use registers::{
    DUMMY_PORTAL, DeviceState, ENGCAP, EngCap, GENCAP, GENCFG, GENCTRL, GENSTS, GRPCAP, GenCap,
    GenCfg, GenCtrl, GenSts, GrpCap, INTCAUSE, IntCause, OFFSETS_0, OFFSETS_1, Offsets0, Offsets1,
    ResetType, SWERROR_0, SWERROR_1, SWERROR_2, SwError0, SwError1, VERSION, Version, WQCAP, WqCap,
    opcap,
};
pub use tables::{
    GroupConfig, GroupFlags, ImsControl, ImsEntry, MsixPermission, OccupancyInterrupt,
    OccupancyLimit, PortalPage, WqConfig, WqLimits, WqMode, WqSize, WqState, WqStatus, WqThreshold,
    msix_permission,
};
