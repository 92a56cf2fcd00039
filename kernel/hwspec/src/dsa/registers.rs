//! BAR0's registers at fixed offsets, but for the command interface.

use bitfield_struct::bitfield;

use super::completion::Status;
use super::descriptor::Operation;
use crate::register::{Ro, Rw, Rw1c, layouts};

/// Version Register (32-bit, RO).
/// [DSA 3.0, 9.2.1 "Version Register (VERSION)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Version {
    /// Minor version.
    pub minor: u8,
    /// Major version.
    pub major: u8,
    _unused_31_16: u16,
}
const _: () = assert!(Version::MAJOR_OFFSET == 8);

/// VERSION.
pub const VERSION: Ro<Version> = Ro::at(0x00);

/// General Capabilities Register (64-bit, RO).
/// [DSA 3.0, 9.2.2 "General Capabilities Register (GENCAP)"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct GenCap {
    /// Block on Fault Support.
    pub block_on_fault: bool,
    /// Overlapping Copy Support.
    pub overlapping_copy: bool,
    /// Cache Control Support.
    pub cache_control: bool,
    _unused_3: bool,
    /// Command Capabilities Support: CMDCAP is there.
    pub command_capabilities: bool,
    /// Durable Write Support.
    pub durable_write: bool,
    /// Inter-Domain Support.
    pub inter_domain: bool,
    /// Translation Fetch Stride Support.
    pub translation_fetch_stride: bool,
    /// Destination Readback Support.
    pub destination_readback: bool,
    /// Drain Descriptor Readback Address Support.
    pub drain_readback_address: bool,
    /// Fill16 Support.
    pub fill16: bool,
    /// CRC64 Support.
    pub crc64: bool,
    /// Completion Record Fault Info Support.
    pub fault_info: bool,
    /// Event Log Support. 0: none, else entries of 2^(N + 5) bytes.
    #[bits(2)]
    pub event_log: u8,
    /// Batch Continuation Support.
    pub batch_continuation: bool,
    /// Maximum Supported Transfer Size, as a power of two.
    #[bits(5)]
    pub max_transfer_size: u8,
    /// Maximum Supported Batch Size, as a power of two.
    #[bits(4)]
    pub max_batch_size: u8,
    /// Interrupt Message Storage Size, in units of 256 entries.
    #[bits(6)]
    pub ims_size: u8,
    /// Configuration Support: groups and queues can be configured.
    pub configuration: bool,
    /// Event Log Overflow Support.
    pub event_log_overflow: bool,
    #[bits(19)]
    _unused_51_33: u32,
    /// Batch1 Support: a batch may have one descriptor.
    pub batch1: bool,
    /// Strict Ordering Limitation for Memory Destinations.
    pub no_strict_ordering_memory: bool,
    /// Strict Ordering Limitation for Peer Destinations.
    pub no_strict_ordering_peer: bool,
    #[bits(9)]
    _unused_63_55: u16,
}
const _: () = {
    assert!(GenCap::OVERLAPPING_COPY_OFFSET == 1 && GenCap::CACHE_CONTROL_OFFSET == 2);
    assert!(GenCap::COMMAND_CAPABILITIES_OFFSET == 4 && GenCap::DURABLE_WRITE_OFFSET == 5);
    assert!(GenCap::INTER_DOMAIN_OFFSET == 6 && GenCap::TRANSLATION_FETCH_STRIDE_OFFSET == 7);
    assert!(GenCap::DESTINATION_READBACK_OFFSET == 8);
    assert!(GenCap::DRAIN_READBACK_ADDRESS_OFFSET == 9 && GenCap::FILL16_OFFSET == 10);
    assert!(GenCap::CRC64_OFFSET == 11 && GenCap::FAULT_INFO_OFFSET == 12);
    assert!(GenCap::EVENT_LOG_OFFSET == 13 && GenCap::BATCH_CONTINUATION_OFFSET == 15);
    assert!(GenCap::MAX_TRANSFER_SIZE_OFFSET == 16 && GenCap::MAX_BATCH_SIZE_OFFSET == 21);
    assert!(GenCap::IMS_SIZE_OFFSET == 25 && GenCap::CONFIGURATION_OFFSET == 31);
    assert!(GenCap::EVENT_LOG_OVERFLOW_OFFSET == 32 && GenCap::BATCH1_OFFSET == 52);
    assert!(GenCap::NO_STRICT_ORDERING_MEMORY_OFFSET == 53);
    assert!(GenCap::NO_STRICT_ORDERING_PEER_OFFSET == 54);
};

impl GenCap {
    /// The largest transfer of one descriptor, in bytes.
    pub const fn max_transfer_bytes(self) -> u64 {
        1 << self.max_transfer_size()
    }

    /// The most descriptors in a batch.
    pub const fn max_batch_descriptors(self) -> u32 {
        1 << self.max_batch_size()
    }

    /// How many entries the Interrupt Message Storage has; 0 if there is none.
    pub const fn ims_entries(self) -> usize {
        self.ims_size() as usize * 256
    }
}

/// GENCAP.
pub const GENCAP: Ro<GenCap> = Ro::at(0x10);

/// WQ Capabilities Register (64-bit, RO).
/// [DSA 3.0, 9.2.3 "WQ Capabilities Register (WQCAP)"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct WqCap {
    /// Total WQ Size, in descriptors.
    pub total_size: u16,
    /// Number of WQs.
    pub count: u8,
    /// WQCFG Size: 2^(N + 5) bytes for each WQ.
    #[bits(4)]
    pub wqcfg_size: u8,
    #[bits(20)]
    _unused_47_28: u32,
    /// Shared Mode Support.
    pub shared_mode: bool,
    /// Dedicated Mode Support.
    pub dedicated_mode: bool,
    /// WQ ATS Support: it can be switched off for a WQ.
    pub ats_disable: bool,
    /// WQ Priority Support.
    pub priority: bool,
    /// WQ Occupancy Support.
    pub occupancy: bool,
    /// WQ Occupancy Interrupt Support.
    pub occupancy_interrupt: bool,
    /// WQ Operations Configuration Support.
    pub operations_configuration: bool,
    /// WQ PRS Support: it can be switched off for a WQ.
    pub prs_disable: bool,
    _unused_63_56: u8,
}
const _: () = {
    assert!(WqCap::COUNT_OFFSET == 16 && WqCap::WQCFG_SIZE_OFFSET == 24);
    assert!(WqCap::SHARED_MODE_OFFSET == 48 && WqCap::DEDICATED_MODE_OFFSET == 49);
    assert!(WqCap::ATS_DISABLE_OFFSET == 50 && WqCap::PRIORITY_OFFSET == 51);
    assert!(WqCap::OCCUPANCY_OFFSET == 52 && WqCap::OCCUPANCY_INTERRUPT_OFFSET == 53);
    assert!(WqCap::OPERATIONS_CONFIGURATION_OFFSET == 54 && WqCap::PRS_DISABLE_OFFSET == 55);
};

impl WqCap {
    /// Bytes of WQCFG for each WQ.
    pub const fn wqcfg_bytes(self) -> usize {
        32 << self.wqcfg_size()
    }
}

/// WQCAP.
pub const WQCAP: Ro<WqCap> = Ro::at(0x20);

/// Group Capabilities Register (64-bit, RO).
/// [DSA 3.0, 9.2.4 "Group Capabilities Register (GRPCAP)"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct GrpCap {
    /// Number of Groups.
    pub count: u8,
    /// Total Read Buffers.
    pub read_buffers: u8,
    /// Read Buffer Controls Supported.
    pub read_buffer_controls: bool,
    /// Global Read Buffer Limit Supported.
    pub global_read_buffer_limit: bool,
    /// Descriptors in Progress Limit Supported.
    pub in_progress_limit: bool,
    /// Bandwidth Limit Support.
    pub bandwidth_limit: bool,
    #[bits(44)]
    _unused_63_20: u64,
}
const _: () = {
    assert!(GrpCap::READ_BUFFERS_OFFSET == 8 && GrpCap::READ_BUFFER_CONTROLS_OFFSET == 16);
    assert!(GrpCap::GLOBAL_READ_BUFFER_LIMIT_OFFSET == 17);
    assert!(GrpCap::IN_PROGRESS_LIMIT_OFFSET == 18 && GrpCap::BANDWIDTH_LIMIT_OFFSET == 19);
};

/// GRPCAP.
pub const GRPCAP: Ro<GrpCap> = Ro::at(0x30);

/// Engine Capabilities Register (64-bit, RO).
/// [DSA 3.0, 9.2.5 "Engine Capabilities Register (ENGCAP)"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct EngCap {
    /// Number of Engines.
    pub count: u8,
    /// Maximum Work Descriptors in Progress.
    pub max_work_in_progress: u8,
    /// Maximum Batch Descriptors in Progress.
    pub max_batch_in_progress: u8,
    #[bits(40)]
    _unused_63_24: u64,
}
const _: () = {
    assert!(EngCap::MAX_WORK_IN_PROGRESS_OFFSET == 8);
    assert!(EngCap::MAX_BATCH_IN_PROGRESS_OFFSET == 16);
};

/// ENGCAP.
pub const ENGCAP: Ro<EngCap> = Ro::at(0x38);

/// Operations Capabilities Register, 64 of its 256 bits (RO): bit N of `word` says
/// that operation 64 * `word` + N is supported.
/// [DSA 3.0, 9.2.6 "Operations Capabilities Register (OPCAP)"]
///
/// # Panics
/// If `word` is above 3.
pub const fn opcap(word: usize) -> Ro<u64> {
    assert!(word < 4, "OPCAP has four words");
    Ro::at(0x40 + 8 * word)
}

/// Table Offsets Register, bits 63:0 (RO), in units of 0x100 bytes.
/// [DSA 3.0, 9.2.7 "Table Offsets Register (OFFSETS)"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Offsets0 {
    /// Group Configuration Offset.
    pub grpcfg: u16,
    /// WQ Configuration Offset.
    pub wqcfg: u16,
    /// MSI-X Permissions Offset.
    pub msixperm: u16,
    /// IMS Offset.
    pub ims: u16,
}
const _: () = {
    assert!(Offsets0::WQCFG_OFFSET == 16 && Offsets0::MSIXPERM_OFFSET == 32);
    assert!(Offsets0::IMS_OFFSET == 48);
};

impl Offsets0 {
    /// Where the Group Configuration Table begins, in bytes.
    pub const fn grpcfg_offset(self) -> usize {
        self.grpcfg() as usize * 0x100
    }

    /// Where the WQ Configuration Table begins, in bytes.
    pub const fn wqcfg_offset(self) -> usize {
        self.wqcfg() as usize * 0x100
    }

    /// Where the MSI-X Permissions Table begins, in bytes.
    pub const fn msixperm_offset(self) -> usize {
        self.msixperm() as usize * 0x100
    }

    /// Where the Interrupt Message Storage begins, in bytes.
    pub const fn ims_offset(self) -> usize {
        self.ims() as usize * 0x100
    }
}

/// OFFSETS, bits 63:0.
pub const OFFSETS_0: Ro<Offsets0> = Ro::at(0x60);

/// Table Offsets Register, bits 127:64 (RO), in units of 0x100 bytes.
/// [DSA 3.0, 9.2.7 "Table Offsets Register (OFFSETS)"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Offsets1 {
    /// Perfmon Offset.
    pub perfmon: u16,
    /// Inter-Domain Permissions Table Offset.
    pub idpt: u16,
    _unused_127_96: u32,
}
const _: () = assert!(Offsets1::IDPT_OFFSET == 80 - 64);

/// OFFSETS, bits 127:64.
pub const OFFSETS_1: Ro<Offsets1> = Ro::at(0x68);

/// General Configuration Register (32-bit, RW while the device is Disabled).
/// [DSA 3.0, 9.2.8 "General Configuration Register (GENCFG)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct GenCfg {
    /// Global Read Buffer Limit.
    pub global_read_buffer_limit: u8,
    #[bits(4)]
    _reserved_11_8: u8,
    /// User-mode Interrupts Enable.
    pub user_interrupts: bool,
    /// Event Log Enable.
    pub event_log: bool,
    #[bits(18)]
    _reserved_31_14: u32,
}
const _: () = assert!(GenCfg::USER_INTERRUPTS_OFFSET == 12 && GenCfg::EVENT_LOG_OFFSET == 13);

/// GENCFG.
pub const GENCFG: Rw<GenCfg> = Rw::at(0x80);

/// General Control Register (32-bit, RW): what raises the interrupt of MSI-X entry 0.
/// [DSA 3.0, 9.2.9 "General Control Register (GENCTRL)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct GenCtrl {
    /// Software Error Interrupt Enable.
    pub software_error: bool,
    /// Halt State Interrupt Enable.
    pub halt_state: bool,
    /// Event Log Interrupt Enable.
    pub event_log: bool,
    #[bits(29)]
    _reserved_31_3: u32,
}
const _: () = assert!(GenCtrl::HALT_STATE_OFFSET == 1 && GenCtrl::EVENT_LOG_OFFSET == 2);

/// GENCTRL.
pub const GENCTRL: Rw<GenCtrl> = Rw::at(0x88);

/// Device State.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// No work is performed, all submissions are retried.
    Disabled = 0,
    /// WQs may be enabled.
    Enabled = 1,
    /// A Disable Device or Reset Device command is in progress.
    Draining = 2,
    /// Halted by an error or an unsupported condition.
    Halted = 3,
}

impl DeviceState {
    const fn into_bits(self) -> u8 {
        self as u8
    }

    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Disabled,
            1 => Self::Enabled,
            2 => Self::Draining,
            _ => Self::Halted,
        }
    }
}

/// Reset Type Required, the least that recovers the device from Halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetType {
    /// The Reset Device command.
    ResetDevice = 0,
    /// A function-level reset.
    FunctionLevel = 1,
    /// A warm reset.
    Warm = 2,
    /// A cold reset.
    Cold = 3,
}

impl ResetType {
    const fn into_bits(self) -> u8 {
        self as u8
    }

    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::ResetDevice,
            1 => Self::FunctionLevel,
            2 => Self::Warm,
            _ => Self::Cold,
        }
    }
}

/// General Status Register (32-bit, RO).
/// [DSA 3.0, 9.2.10 "General Status Register (GENSTS)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct GenSts {
    /// Device State.
    #[bits(2)]
    pub state: DeviceState,
    /// Reset Type Required.
    #[bits(2)]
    pub reset_type: ResetType,
    #[bits(28)]
    _unused_31_4: u32,
}
const _: () = assert!(GenSts::RESET_TYPE_OFFSET == 2);

/// GENSTS.
pub const GENSTS: Ro<GenSts> = Ro::at(0x90);

/// Interrupt Cause Register (32-bit, RW1C): why MSI-X entry 0 was used.
/// [DSA 3.0, 9.2.11 "Interrupt Cause Register (INTCAUSE)"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct IntCause {
    /// Software Error.
    pub software_error: bool,
    /// Command Completion.
    pub command_completion: bool,
    /// WQ Occupancy Below Limit.
    pub occupancy_below_limit: bool,
    /// Perfmon Counter Overflow.
    pub perfmon_overflow: bool,
    /// Halt State.
    pub halt_state: bool,
    /// Event Log.
    pub event_log: bool,
    #[bits(25)]
    _reserved_30_6: u32,
    /// Interrupt Handles Revoked.
    pub handles_revoked: bool,
}
const _: () = {
    assert!(IntCause::COMMAND_COMPLETION_OFFSET == 1);
    assert!(IntCause::OCCUPANCY_BELOW_LIMIT_OFFSET == 2);
    assert!(IntCause::PERFMON_OVERFLOW_OFFSET == 3 && IntCause::HALT_STATE_OFFSET == 4);
    assert!(IntCause::EVENT_LOG_OFFSET == 5 && IntCause::HANDLES_REVOKED_OFFSET == 31);
};

/// INTCAUSE.
pub const INTCAUSE: Rw1c<IntCause> = Rw1c::at(0x98);

/// Software Error Register, byte offset 7:0 (64-bit, RO but for two RW1C bits).
/// [DSA 3.0, 9.2.15 "Software Error Register (SWERROR)"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SwError0 {
    /// Valid, RW1C.
    pub valid: bool,
    /// Overflow, RW1C: later errors were not recorded.
    pub overflow: bool,
    /// Descriptor Valid: Batch Member, Operation, Batch Index, Priv and PASID are.
    pub descriptor_valid: bool,
    /// WQ Index Valid.
    pub wq_index_valid: bool,
    /// Batch Member: the descriptor was submitted in a batch.
    pub batch_member: bool,
    /// R/W of a page fault. 1: write.
    pub write: bool,
    /// Priv.
    pub privileged: bool,
    /// Error Information Valid.
    pub error_information_valid: bool,
    /// Error code: a status code, or one of the "other software error codes".
    #[bits(8)]
    pub error_code: Status,
    /// WQ Index.
    pub wq_index: u8,
    _unused_31_24: u8,
    /// Operation.
    #[bits(8)]
    pub operation: Operation,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    #[bits(4)]
    _unused_63_60: u8,
}
const _: () = {
    assert!(SwError0::OVERFLOW_OFFSET == 1 && SwError0::DESCRIPTOR_VALID_OFFSET == 2);
    assert!(SwError0::WQ_INDEX_VALID_OFFSET == 3 && SwError0::BATCH_MEMBER_OFFSET == 4);
    assert!(SwError0::WRITE_OFFSET == 5 && SwError0::PRIVILEGED_OFFSET == 6);
    assert!(SwError0::ERROR_INFORMATION_VALID_OFFSET == 7 && SwError0::ERROR_CODE_OFFSET == 8);
    assert!(SwError0::WQ_INDEX_OFFSET == 16 && SwError0::OPERATION_OFFSET == 32);
    assert!(SwError0::PASID_OFFSET == 40);
};

/// SWERROR, byte offset 7:0.
pub const SWERROR_0: Rw1c<SwError0> = Rw1c::at(0xc0);

/// Software Error Register, byte offset 15:8 (64-bit, RO).
/// [DSA 3.0, 9.2.15 "Software Error Register (SWERROR)"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SwError1 {
    /// Batch Index.
    pub batch_index: u16,
    _unused_31_16: u16,
    /// Error Information. With code 0x11 the invalid flags; with 0x19 the interrupt
    /// handle in its low half.
    pub error_information: u32,
}
const _: () = assert!(SwError1::ERROR_INFORMATION_OFFSET == 32);

/// SWERROR, byte offset 15:8.
pub const SWERROR_1: Ro<SwError1> = Ro::at(0xc8);
/// SWERROR, byte offset 23:16 (64-bit, RO): the address of a page fault.
/// [DSA 3.0, 9.2.15 "Software Error Register (SWERROR)"]
pub const SWERROR_2: Ro<u64> = Ro::at(0xd0);

/// Dummy Portal: a page of BAR0 that behaves like the portal of a disabled WQ.
/// [DSA 3.0, 9.2.21 "Dummy Portal (DUMMY)"]
pub const DUMMY_PORTAL: usize = 0xf000;

layouts! {
    u32: Version, GenCfg, GenCtrl, GenSts, IntCause;
    u64: GenCap, WqCap, GrpCap, EngCap, Offsets0, Offsets1, SwError0, SwError1;
}
