//! The capabilities that a DSA has and Weir uses. Each is a type that knows where
//! the capability begins and names its registers.

use bitfield_struct::bitfield;

use crate::register::{Ro, Rw, Rw1c, layouts};

/// PCI Express capability. [PCIe 5.0, 7.5.3 "PCI Express Capability Structure"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcieCapability {
    /// Where it begins.
    pub base: usize,
}

impl PcieCapability {
    /// PCI Express Capabilities Register.
    pub const fn capabilities(self) -> Ro<PcieCapabilities> {
        Ro::at(self.base + 0x02)
    }

    /// Device Capabilities Register.
    pub const fn device_capabilities(self) -> Ro<DeviceCapabilities> {
        Ro::at(self.base + 0x04)
    }

    /// Device Control Register.
    pub const fn device_control(self) -> Rw<DeviceControl> {
        Rw::at(self.base + 0x08)
    }

    /// Device Status Register.
    pub const fn device_status(self) -> Rw1c<DeviceStatus> {
        Rw1c::at(self.base + 0x0a)
    }
}

/// PCI Express Capabilities Register (16-bit, RO).
/// [PCIe 5.0, 7.5.3.2 "PCI Express Capabilities Register"]
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PcieCapabilities {
    /// Capability Version.
    #[bits(4)]
    pub version: u8,
    /// Device/Port Type.
    #[bits(4)]
    pub port_type: u8,
    /// Slot Implemented.
    pub slot: bool,
    /// Interrupt Message Number.
    #[bits(5)]
    pub interrupt_message: u8,
    #[bits(2)]
    _reserved_15_14: u8,
}
const _: () = assert!(PcieCapabilities::PORT_TYPE_OFFSET == 4);

impl PcieCapabilities {
    /// Device/Port Type: Root Complex Integrated Endpoint.
    pub const ROOT_COMPLEX_INTEGRATED: u8 = 0b1001;
}

/// Device Capabilities Register (32-bit, RO).
/// [PCIe 5.0, 7.5.3.3 "Device Capabilities Register"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct DeviceCapabilities {
    /// Bits that Weir has no use for.
    #[bits(28)]
    pub others_27_0: u32,
    /// Function Level Reset Capability.
    pub flr: bool,
    #[bits(3)]
    _reserved_31_29: u8,
}
const _: () = assert!(DeviceCapabilities::FLR_OFFSET == 28);

/// Device Control Register (16-bit, RW).
/// [PCIe 5.0, 7.5.3.4 "Device Control Register"]
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct DeviceControl {
    /// Correctable, Non-Fatal and Fatal Error and Unsupported Request Reporting
    /// Enable.
    #[bits(4)]
    pub error_reporting: u8,
    /// Enable Relaxed Ordering.
    pub relaxed_ordering: bool,
    /// Max_Payload_Size.
    #[bits(3)]
    pub max_payload_size: u8,
    /// Extended Tag Field Enable.
    pub extended_tag: bool,
    /// Phantom Functions Enable.
    pub phantom_functions: bool,
    /// Aux Power PM Enable.
    pub aux_power: bool,
    /// Enable No Snoop.
    pub no_snoop: bool,
    /// Max_Read_Request_Size.
    #[bits(3)]
    pub max_read_request_size: u8,
    /// Initiate Function Level Reset; reads 0.
    pub initiate_flr: bool,
}
const _: () = {
    assert!(DeviceControl::RELAXED_ORDERING_OFFSET == 4 && DeviceControl::NO_SNOOP_OFFSET == 11);
    assert!(DeviceControl::INITIATE_FLR_OFFSET == 15);
};

/// Device Status Register (16-bit, RW1C but for what is said).
/// [PCIe 5.0, 7.5.3.5 "Device Status Register"]
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct DeviceStatus {
    /// Correctable Error Detected.
    pub correctable_error: bool,
    /// Non-Fatal Error Detected.
    pub non_fatal_error: bool,
    /// Fatal Error Detected.
    pub fatal_error: bool,
    /// Unsupported Request Detected.
    pub unsupported_request: bool,
    /// AUX Power Detected, RO.
    pub aux_power: bool,
    /// Transactions Pending, RO.
    pub transactions_pending: bool,
    #[bits(10)]
    _reserved_15_6: u16,
}
const _: () = assert!(DeviceStatus::TRANSACTIONS_PENDING_OFFSET == 5);

/// MSI-X capability. [PCIe 5.0, 7.7.2 "MSI-X Capability and Table Structure"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixCapability {
    /// Where it begins.
    pub base: usize,
}

impl MsixCapability {
    /// Message Control Register.
    pub const fn control(self) -> Rw<MsixControl> {
        Rw::at(self.base + 0x02)
    }

    /// Table Offset/Table BIR Register.
    pub const fn table(self) -> Ro<MsixLocation> {
        Ro::at(self.base + 0x04)
    }

    /// PBA Offset/PBA BIR Register.
    pub const fn pending_bits(self) -> Ro<MsixLocation> {
        Ro::at(self.base + 0x08)
    }
}

/// Message Control Register for MSI-X (16-bit, RW).
/// [PCIe 5.0, 7.7.2.2 "Message Control Register for MSI-X"]
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct MsixControl {
    /// Table Size, less one, RO.
    #[bits(11)]
    pub table_size: u16,
    #[bits(3)]
    _reserved_13_11: u8,
    /// Function Mask.
    pub function_mask: bool,
    /// MSI-X Enable.
    pub enable: bool,
}
const _: () = assert!(MsixControl::FUNCTION_MASK_OFFSET == 14 && MsixControl::ENABLE_OFFSET == 15);

impl MsixControl {
    /// How many entries the table has.
    pub const fn entries(self) -> usize {
        self.table_size() as usize + 1
    }
}

/// Where the MSI-X table or its pending bits are (32-bit, RO).
/// [PCIe 5.0, 7.7.2.3 "Table Offset/Table BIR Register for MSI-X"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct MsixLocation {
    /// BIR: in the memory of which base address register.
    #[bits(3)]
    pub bir: u8,
    /// Bits 31:3 of the offset in that memory.
    #[bits(29)]
    pub offset_31_3: u32,
}
const _: () = assert!(MsixLocation::OFFSET_31_3_OFFSET == 3);

impl MsixLocation {
    /// The offset in bytes.
    pub const fn offset(self) -> usize {
        (self.offset_31_3() as usize) << 3
    }
}

/// An entry of the MSI-X table, in the memory of a base address register.
/// [PCIe 5.0, 7.7.2.5 "Message Address Register for MSI-X Table Entries" to 7.7.2.8]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixEntry {
    /// Where it begins.
    pub base: usize,
}

impl MsixEntry {
    /// Bytes from one entry to the next.
    pub const STRIDE: usize = 16;

    /// Entry `index` of a table that begins at `table`.
    pub const fn at(table: usize, index: usize) -> Self {
        Self {
            base: table + index * Self::STRIDE,
        }
    }

    /// Message Address and Message Upper Address.
    pub const fn address(self) -> Rw<u64> {
        Rw::at(self.base)
    }

    /// Message Data.
    pub const fn data(self) -> Rw<u32> {
        Rw::at(self.base + 8)
    }

    /// Vector Control.
    pub const fn control(self) -> Rw<MsixVectorControl> {
        Rw::at(self.base + 12)
    }
}

/// Vector Control Register (32-bit, RW).
/// [PCIe 5.0, 7.7.2.8 "Vector Control Register for MSI-X Table Entries"]
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct MsixVectorControl {
    /// Mask Bit.
    pub mask: bool,
    /// Reserved and preserved.
    #[bits(31)]
    pub reserved_31_1: u32,
}

/// PASID capability. [PCIe 5.0, 7.8.8 "PASID Extended Capability Structure"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasidCapability {
    /// Where it begins.
    pub base: usize,
}

impl PasidCapability {
    /// PASID Capability Register.
    pub const fn capabilities(self) -> Ro<PasidCapabilities> {
        Ro::at(self.base + 0x04)
    }

    /// PASID Control Register.
    pub const fn control(self) -> Rw<PasidControl> {
        Rw::at(self.base + 0x06)
    }
}

/// PASID Capability Register (16-bit, RO).
/// [PCIe 5.0, 7.8.8.2 "PASID Capability Register"]
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PasidCapabilities {
    _reserved_0: bool,
    /// Execute Permission Supported.
    pub execute: bool,
    /// Privileged Mode Supported.
    pub privileged: bool,
    #[bits(5)]
    _reserved_7_3: u8,
    /// Max PASID Width: how many bits the function uses.
    #[bits(5)]
    pub width: u8,
    #[bits(3)]
    _reserved_15_13: u8,
}
const _: () = {
    assert!(PasidCapabilities::EXECUTE_OFFSET == 1 && PasidCapabilities::PRIVILEGED_OFFSET == 2);
    assert!(PasidCapabilities::WIDTH_OFFSET == 8);
};

/// PASID Control Register (16-bit, RW). [PCIe 5.0, 7.8.8.3 "PASID Control Register"]
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PasidControl {
    /// PASID Enable.
    pub enable: bool,
    /// Execute Permission Enable.
    pub execute: bool,
    /// Privileged Mode Enable.
    pub privileged: bool,
    #[bits(13)]
    _reserved_15_3: u16,
}
const _: () = assert!(PasidControl::EXECUTE_OFFSET == 1 && PasidControl::PRIVILEGED_OFFSET == 2);

/// Address Translation Services capability.
/// [PCIe 5.0, 10.5.1 "ATS Extended Capability Structure"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtsCapability {
    /// Where it begins.
    pub base: usize,
}

impl AtsCapability {
    /// ATS Control Register.
    pub const fn control(self) -> Rw<AtsControl> {
        Rw::at(self.base + 0x06)
    }
}

/// ATS Control Register (16-bit, RW). [PCIe 5.0, 10.5.1.3 "ATS Control Register"]
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct AtsControl {
    /// Smallest Translation Unit: 2^STU pages.
    #[bits(5)]
    pub stu: u8,
    #[bits(10)]
    _reserved_14_5: u16,
    /// Enable.
    pub enable: bool,
}
const _: () = assert!(AtsControl::ENABLE_OFFSET == 15);

/// Page Request Interface capability.
/// [PCIe 5.0, 10.5.2 "Page Request Extended Capability Structure"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequestCapability {
    /// Where it begins.
    pub base: usize,
}

impl PageRequestCapability {
    /// Page Request Control Register.
    pub const fn control(self) -> Rw<PageRequestControl> {
        Rw::at(self.base + 0x04)
    }
}

/// Page Request Control Register (16-bit, RW).
/// [PCIe 5.0, 10.5.2.2 "Page Request Control Register"]
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PageRequestControl {
    /// Enable.
    pub enable: bool,
    /// Reset.
    pub reset: bool,
    #[bits(14)]
    _reserved_15_2: u16,
}
const _: () = assert!(PageRequestControl::RESET_OFFSET == 1);

layouts! {
    u16: PcieCapabilities, DeviceControl, DeviceStatus, MsixControl, PasidCapabilities,
        PasidControl, AtsControl, PageRequestControl;
    u32: DeviceCapabilities, MsixLocation, MsixVectorControl;
}
