//! PCI configuration space, as far as Weir reads and writes it.
//!
//! Offsets are those of a function's 4 KiB of memory-mapped configuration space.
//! The documents are the PCI Express Base Specification, revision 5.0, and, for
//! the header, what it takes over from PCI Local Bus 3.0.

use core::fmt;

use bitfield_struct::bitfield;

use crate::register::{Ro, Rw, Rw1c, layouts};

mod capabilities;

pub use capabilities::{
    AtsCapability, AtsControl, DeviceCapabilities, DeviceControl, DeviceStatus, MsixCapability,
    MsixControl, MsixEntry, MsixLocation, MsixVectorControl, PageRequestCapability,
    PageRequestControl, PasidCapabilities, PasidCapability, PasidControl, PcieCapabilities,
    PcieCapability,
};

/// Requester id of a function, by which VT-d calls it source-id (16-bit).
/// [VT-d 5.10, 3.4.1 "Source Identifier", Figure 3-2]
#[bitfield(u16, debug = false)]
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId {
    /// Function number.
    #[bits(3)]
    pub function: u8,
    /// Device number.
    #[bits(5)]
    pub device: u8,
    /// Bus number.
    pub bus: u8,
}
const _: () = assert!(SourceId::DEVICE_OFFSET == 3 && SourceId::BUS_OFFSET == 8);

impl SourceId {
    /// Device and function number as one.
    pub const fn device_function(self) -> u8 {
        self.device() << 3 | self.function()
    }

    /// Where a function's configuration space is, from that of bus 0.
    /// [PCIe 5.0, 7.2.2 "PCI Express Enhanced Configuration Access Mechanism (ECAM)"]
    pub const fn ecam_offset(self) -> u64 {
        (self.into_bits() as u64) << 12
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:02x}:{:02x}.{}",
            self.bus(),
            self.device(),
            self.function()
        )
    }
}

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Process Address Space Identifier, 20 bits.
/// [PCIe 5.0, 6.20 "PASID TLP Prefix"]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pasid(u32);

impl Pasid {
    /// How many bits a PASID has.
    pub const BITS: u32 = 20;
    /// The highest one.
    pub const MAX: Self = Self((1 << Self::BITS) - 1);
    /// 0.
    pub const ZERO: Self = Self(0);

    /// `value`, if it has no more than 20 bits.
    pub const fn new(value: u32) -> Option<Self> {
        if value <= Self::MAX.0 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The PASID in the low 20 bits of `bits`; those above are ignored.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & Self::MAX.0)
    }

    /// As a field of a register.
    pub const fn into_bits(self) -> u32 {
        self.0
    }

    /// The number.
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Pasid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Pasid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes of configuration space that belong to one function.
pub const CONFIGURATION_SPACE_SIZE: usize = 4096;

/// Vendor ID; FFFFh where there is no function.
/// [PCIe 5.0, 7.5.1.1.1 "Vendor ID Register"]
pub const VENDOR_ID: Ro<u16> = Ro::at(0x00);
/// Vendor ID of a function that is not there.
pub const VENDOR_ID_NONE: u16 = 0xffff;
/// Vendor ID: Intel.
pub const VENDOR_ID_INTEL: u16 = 0x8086;
/// Device ID. [PCIe 5.0, 7.5.1.1.2 "Device ID Register"]
pub const DEVICE_ID: Ro<u16> = Ro::at(0x02);

/// Command Register (16-bit, RW).
/// [PCIe 5.0, 7.5.1.1.3 "Command Register"]
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct Command {
    /// I/O Space Enable.
    pub io_space: bool,
    /// Memory Space Enable.
    pub memory_space: bool,
    /// Bus Master Enable.
    pub bus_master: bool,
    #[bits(3)]
    _reserved_5_3: u8,
    /// Parity Error Response.
    pub parity_error_response: bool,
    _reserved_7: bool,
    /// SERR# Enable.
    pub serr: bool,
    _reserved_9: bool,
    /// Interrupt Disable.
    pub interrupt_disable: bool,
    #[bits(5)]
    _reserved_15_11: u8,
}
const _: () = {
    assert!(Command::MEMORY_SPACE_OFFSET == 1 && Command::BUS_MASTER_OFFSET == 2);
    assert!(Command::PARITY_ERROR_RESPONSE_OFFSET == 6 && Command::SERR_OFFSET == 8);
    assert!(Command::INTERRUPT_DISABLE_OFFSET == 10);
};

/// The command register.
pub const COMMAND: Rw<Command> = Rw::at(0x04);

/// Status Register (16-bit, RW1C and RO).
/// [PCIe 5.0, 7.5.1.1.4 "Status Register"]
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct Status {
    #[bits(3)]
    _reserved_2_0: u8,
    /// Interrupt Status.
    pub interrupt: bool,
    /// Capabilities List: there is one.
    pub capabilities_list: bool,
    #[bits(3)]
    _reserved_7_5: u8,
    /// Master Data Parity Error.
    pub master_data_parity_error: bool,
    #[bits(2)]
    _reserved_10_9: u8,
    /// Signaled Target Abort.
    pub signaled_target_abort: bool,
    /// Received Target Abort.
    pub received_target_abort: bool,
    /// Received Master Abort.
    pub received_master_abort: bool,
    /// Signaled System Error.
    pub signaled_system_error: bool,
    /// Detected Parity Error.
    pub detected_parity_error: bool,
}
const _: () = {
    assert!(Status::INTERRUPT_OFFSET == 3 && Status::CAPABILITIES_LIST_OFFSET == 4);
    assert!(Status::MASTER_DATA_PARITY_ERROR_OFFSET == 8);
    assert!(Status::SIGNALED_TARGET_ABORT_OFFSET == 11);
    assert!(Status::DETECTED_PARITY_ERROR_OFFSET == 15);
};

/// The status register.
pub const STATUS: Rw1c<Status> = Rw1c::at(0x06);

/// Revision ID and Class Code (32-bit, RO).
/// [PCIe 5.0, 7.5.1.1.5 "Revision ID Register", 7.5.1.1.6 "Class Code Register"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RevisionAndClass {
    /// Revision ID.
    pub revision: u8,
    /// Programming interface.
    pub interface: u8,
    /// Sub-class code.
    pub sub_class: u8,
    /// Base class code.
    pub base_class: u8,
}
const _: () = assert!(RevisionAndClass::BASE_CLASS_OFFSET == 24);

/// Revision and class.
pub const REVISION_AND_CLASS: Ro<RevisionAndClass> = Ro::at(0x08);

/// Header Type Register (8-bit, RO). [PCIe 5.0, 7.5.1.1.9 "Header Type Register"]
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct HeaderType {
    /// Header Layout. 0: an endpoint's, 1: a bridge's.
    #[bits(7)]
    pub layout: u8,
    /// Multi-Function Device.
    pub multi_function: bool,
}
const _: () = assert!(HeaderType::MULTI_FUNCTION_OFFSET == 7);

impl HeaderType {
    /// Header Layout of a device.
    pub const ENDPOINT: u8 = 0;
    /// Header Layout of a bridge.
    pub const BRIDGE: u8 = 1;
}

/// The header type.
pub const HEADER_TYPE: Ro<HeaderType> = Ro::at(0x0e);

/// Base Address Register (32-bit, RW), the lower half of a 64-bit one too.
/// [PCIe 5.0, 7.5.1.2.1 "Base Address Registers"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct BaseAddress {
    /// Memory Space Indicator. 1: I/O space.
    pub io: bool,
    /// Memory Type. 0: 32 bits, 2: 64 bits.
    #[bits(2)]
    pub memory_type: u8,
    /// Prefetchable.
    pub prefetchable: bool,
    /// Bits 31:4 of the address.
    #[bits(28)]
    pub address_31_4: u32,
}
const _: () = {
    assert!(BaseAddress::MEMORY_TYPE_OFFSET == 1 && BaseAddress::PREFETCHABLE_OFFSET == 3);
    assert!(BaseAddress::ADDRESS_31_4_OFFSET == 4);
};

impl BaseAddress {
    /// Memory Type of an address of 64 bits, whose upper half is the next register.
    pub const MEMORY_64: u8 = 2;
}

/// Base address register `n`, 0 to 5 of an endpoint, 0 and 1 of a bridge.
///
/// # Panics
/// If there can be no such register.
pub const fn base_address(n: usize) -> Rw<BaseAddress> {
    assert!(n < 6, "a function has six base address registers");
    Rw::at(0x10 + 4 * n)
}

/// The upper half of a 64-bit base address that begins at register `n`.
///
/// # Panics
/// If there can be no such register.
pub const fn base_address_high(n: usize) -> Rw<u32> {
    assert!(n < 5, "the last base address register has no successor");
    Rw::at(0x14 + 4 * n)
}

/// Bus numbers of a bridge (32-bit, RW).
/// [PCIe 5.0, 7.5.1.3 "Type 1 Configuration Space Header", 7.5.1.3.2 to 7.5.1.3.5]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct BusNumbers {
    /// Primary Bus Number.
    pub primary: u8,
    /// Secondary Bus Number: the bus right behind the bridge.
    pub secondary: u8,
    /// Subordinate Bus Number: the last bus behind the bridge.
    pub subordinate: u8,
    /// Secondary Latency Timer, not used.
    pub latency_timer: u8,
}
const _: () = assert!(BusNumbers::SECONDARY_OFFSET == 8 && BusNumbers::SUBORDINATE_OFFSET == 16);

/// A bridge's bus numbers.
pub const BUS_NUMBERS: Rw<BusNumbers> = Rw::at(0x18);

/// Capabilities Pointer; bits 1:0 are reserved.
/// [PCIe 5.0, 7.5.1.1.11 "Capabilities Pointer"]
pub const CAPABILITIES_POINTER: Ro<u8> = Ro::at(0x34);

/// First word of each capability (16-bit, RO). The list ends with a pointer of 0.
/// [PCIe 5.0, 7.5.3.1 "PCI Express Capability List Register"]
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct CapabilityHeader {
    /// Capability ID.
    pub id: u8,
    /// Next Capability Pointer; bits 1:0 are reserved.
    pub next: u8,
}
const _: () = assert!(CapabilityHeader::NEXT_OFFSET == 8);

/// The header of the capability at `base`.
pub const fn capability(base: usize) -> Ro<CapabilityHeader> {
    Ro::at(base)
}

/// Capabilities lie from here to [`EXTENDED_CAPABILITIES`].
pub const CAPABILITIES: usize = 0x40;

/// Capability ID: PCI Express.
pub const CAPABILITY_PCIE: u8 = 0x10;
/// Capability ID: MSI-X.
pub const CAPABILITY_MSIX: u8 = 0x11;

/// First double word of each extended capability (32-bit, RO). The list begins at
/// [`EXTENDED_CAPABILITIES`]; it is empty if that one is 0, and ends with a
/// pointer of 0. [PCIe 5.0, 7.6.3 "PCI Express Extended Capability Header"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ExtendedCapabilityHeader {
    /// PCI Express Extended Capability ID.
    pub id: u16,
    /// Capability Version.
    #[bits(4)]
    pub version: u8,
    /// Next Capability Offset; bits 1:0 are reserved.
    #[bits(12)]
    pub next: u16,
}
const _: () = {
    assert!(ExtendedCapabilityHeader::VERSION_OFFSET == 16);
    assert!(ExtendedCapabilityHeader::NEXT_OFFSET == 20);
};

/// The header of the extended capability at `base`.
pub const fn extended_capability(base: usize) -> Ro<ExtendedCapabilityHeader> {
    Ro::at(base)
}

/// Where extended capabilities begin.
pub const EXTENDED_CAPABILITIES: usize = 0x100;

/// Extended capability ID: Address Translation Services.
pub const EXTENDED_CAPABILITY_ATS: u16 = 0x000f;
/// Extended capability ID: Page Request Interface.
pub const EXTENDED_CAPABILITY_PAGE_REQUEST: u16 = 0x0013;
/// Extended capability ID: PASID.
pub const EXTENDED_CAPABILITY_PASID: u16 = 0x001b;

layouts! {
    u8: HeaderType;
    u16: Command, Status, CapabilityHeader;
    u32: RevisionAndClass, BaseAddress, BusNumbers, ExtendedCapabilityHeader;
}
