//! Interrupts: the remapping table, the messages that go through it, and the
//! unit's own messages, which do not.

use bitfield_struct::bitfield;

use crate::field::field;
use crate::register::layouts;

/// Interrupt Remapping Table Entry for remapped interrupts (128-bit). The hardware
/// reads it as a whole; what can change while it is present is in the low half.
/// [VT-d 5.10, 9.9 "Interrupt Remapping Table Entry (IRTE) for Remapped Interrupts"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Irte {
    /// Bits 63:0: where the interrupt goes.
    pub low: IrteLow,
    /// Bits 127:64: who may use the entry.
    pub high: IrteHigh,
}
const _: () = assert!(size_of::<Irte>() == 16);

/// IRTE, bits 63:0.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct IrteLow {
    /// P: Present.
    pub p: bool,
    /// FPD: Fault Processing Disable.
    pub fpd: bool,
    /// DM: Destination Mode. 0: physical, 1: logical.
    pub dm: bool,
    /// RH: Redirection Hint.
    pub rh: bool,
    /// TM: Trigger Mode. 0: edge, 1: level.
    pub tm: bool,
    /// DLM: Delivery Mode. 0: fixed.
    #[bits(3)]
    pub dlm: u8,
    /// AVAIL: software's own.
    #[bits(4)]
    pub avail: u8,
    #[bits(3)]
    _reserved_14_12: u8,
    /// IM: IRTE Mode. 1: posted, another format.
    pub im: bool,
    /// V: Vector.
    pub v: u8,
    _reserved_31_24: u8,
    /// DST: Destination ID, an APIC-ID of 32 bits if IRTA_REG.EIME is 1.
    pub dst: u32,
}
const _: () = {
    assert!(IrteLow::FPD_OFFSET == 1 && IrteLow::DM_OFFSET == 2 && IrteLow::RH_OFFSET == 3);
    assert!(IrteLow::TM_OFFSET == 4 && IrteLow::DLM_OFFSET == 5 && IrteLow::AVAIL_OFFSET == 8);
    assert!(IrteLow::IM_OFFSET == 15 && IrteLow::V_OFFSET == 16 && IrteLow::DST_OFFSET == 32);
};

/// IRTE, bits 127:64.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct IrteHigh {
    /// SID: Source Identifier.
    pub sid: u16,
    /// SQ: Source-id Qualifier. 0: all 16 bits are compared.
    #[bits(2)]
    pub sq: u8,
    /// SVT: Source Validation Type.
    #[bits(2)]
    pub svt: SourceValidation,
    #[bits(44)]
    _reserved_127_84: u64,
}
const _: () = assert!(IrteHigh::SQ_OFFSET == 80 - 64 && IrteHigh::SVT_OFFSET == 82 - 64);

/// SVT: Source Validation Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceValidation(u8);

impl SourceValidation {
    /// No verification: anyone may use the entry.
    pub const NONE: Self = Self(0b00);
    /// The requester-id is compared with SID under SQ.
    pub const SOURCE_ID: Self = Self(0b01);
}
field!(SourceValidation: u8);

/// Address of an interrupt request in remappable format. The data of the message
/// plays no part while SHV is 0.
/// [VT-d 5.10, 5.1.2.2 "Interrupt Requests in Remappable Format", Table 13]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RemappableAddress {
    #[bits(2)]
    _ignored_1_0: u8,
    /// `Handle[15]`.
    pub handle_15: bool,
    /// SHV: SubHandle Valid.
    pub shv: bool,
    /// Interrupt Format: 1 for remappable.
    #[bits(default = true)]
    pub format: bool,
    /// `Handle[14:0]`.
    #[bits(15)]
    pub handle_14_0: u16,
    /// Interrupt Identifier.
    #[bits(12, default = 0xfee)]
    pub identifier: u16,
}
const _: () = {
    assert!(RemappableAddress::HANDLE_15_OFFSET == 2 && RemappableAddress::SHV_OFFSET == 3);
    assert!(RemappableAddress::FORMAT_OFFSET == 4 && RemappableAddress::HANDLE_14_0_OFFSET == 5);
    assert!(RemappableAddress::IDENTIFIER_OFFSET == 20);
};

impl RemappableAddress {
    /// The address that refers to entry `index` of the table, with SHV = 0.
    pub const fn for_index(index: u16) -> Self {
        Self::new()
            .with_handle_14_0(index & 0x7fff)
            .with_handle_15(index >> 15 == 1)
    }
}

/// Fault Event and Invalidation Event Control Registers (32-bit, RW).
/// [VT-d 5.10, 11.4.7.2 "Fault Event Control Register", 11.4.9.5 "Invalidation
/// Event Control Register"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct EventControl {
    /// Reserved and preserved.
    #[bits(30)]
    pub reserved_29_0: u32,
    /// IP: Interrupt Pending, RO.
    pub ip: bool,
    /// IM: Interrupt Mask.
    pub im: bool,
}
const _: () = assert!(EventControl::IP_OFFSET == 30 && EventControl::IM_OFFSET == 31);

/// Data of the unit's own message (32-bit, RW). Trigger mode and level are 0.
/// [VT-d 5.10, 5.1.6.2 "Programming in Intel 64 x2APIC Mode", 11.4.7.3 "Fault Event
/// Data Register"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct EventData {
    /// Vector.
    pub vector: u8,
    /// Delivery Mode. 0: fixed.
    pub lowest_priority: bool,
    #[bits(23)]
    _reserved_31_9: u32,
}
const _: () = assert!(EventData::LOWEST_PRIORITY_OFFSET == 8);

/// Address of the unit's own message (32-bit, RW). Bits 31:8 of the APIC-ID are in
/// bits 31:8 of the upper address.
/// [VT-d 5.10, 5.1.6.2 "Programming in Intel 64 x2APIC Mode", 11.4.7.4 "Fault Event
/// Address Register"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct EventAddress {
    #[bits(2)]
    _reserved_1_0: u8,
    /// Destination Mode. 0: physical.
    pub logical: bool,
    /// Redirection Hint.
    pub redirection_hint: bool,
    _reserved_11_4: u8,
    /// Destination ID, bits 7:0.
    pub destination_7_0: u8,
    /// FEEh.
    #[bits(12, default = 0xfee)]
    pub identifier: u16,
}
const _: () = {
    assert!(EventAddress::LOGICAL_OFFSET == 2 && EventAddress::REDIRECTION_HINT_OFFSET == 3);
    assert!(EventAddress::DESTINATION_7_0_OFFSET == 12 && EventAddress::IDENTIFIER_OFFSET == 20);
};

layouts! {
    u32: EventControl, EventData, EventAddress;
}
