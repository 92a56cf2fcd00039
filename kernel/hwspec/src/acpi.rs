//! Firmware's tables, as far as they are read.
//!
//! Each module is one structure: its fields by byte offset from where it begins,
//! all little-endian and none of them aligned. [ACPI 6.5, 5.2 "ACPI System
//! Description Tables"]

use core::marker::PhantomData;

/// A field of type `T` at a fixed offset of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field<T> {
    offset: usize,
    kind: PhantomData<T>,
}

impl<T> Field<T> {
    /// A field that begins `offset` bytes into its structure.
    pub const fn at(offset: usize) -> Self {
        Self {
            offset,
            kind: PhantomData,
        }
    }

    /// Bytes from the start of the structure to the field.
    pub const fn offset(self) -> usize {
        self.offset
    }

    /// Bytes from the start of the structure to the end of the field.
    pub const fn end(self) -> usize {
        self.offset + size_of::<T>()
    }
}

/// Root System Description Pointer. [ACPI 6.5, 5.2.5.3 "Root System Description
/// Pointer (RSDP) Structure"]
pub mod rsdp {
    use super::Field;

    /// "RSD PTR ", with its trailing space.
    pub const SIGNATURE: [u8; 8] = *b"RSD PTR ";
    /// Revision: 0 for the structure of ACPI 1.0.
    pub const REVISION: Field<u8> = Field::at(15);
    /// RsdtAddress.
    pub const RSDT_ADDRESS: Field<u32> = Field::at(16);
    /// Length of the structure; the first version has no such field.
    pub const LENGTH: Field<u32> = Field::at(20);
    /// XsdtAddress.
    pub const XSDT_ADDRESS: Field<u64> = Field::at(24);
    /// The size of the first version, which the checksum at 8 covers.
    pub const SIZE_REVISION_0: usize = 20;
    /// The size since ACPI 2.0, which the checksum at 32 covers.
    pub const SIZE: usize = 36;
}

/// What every table begins with. [ACPI 6.5, 5.2.6 "System Description Table
/// Header"]
pub mod header {
    use super::Field;

    /// Length of the whole table, this header included.
    pub const LENGTH: Field<u32> = Field::at(4);
    /// Revision.
    pub const REVISION: Field<u8> = Field::at(8);
    /// The size of the header.
    pub const SIZE: usize = 36;
}

/// Generic Address Structure. [ACPI 6.5, 5.2.3.2 "Generic Address Structure
/// (GAS)"]
pub mod generic_address {
    use super::Field;

    /// Address Space ID.
    pub const SPACE: Field<u8> = Field::at(0);
    /// Address, in that space.
    pub const ADDRESS: Field<u64> = Field::at(4);
    /// The size of the structure.
    pub const SIZE: usize = 12;

    /// Address Space ID: system memory.
    pub const SYSTEM_MEMORY: u8 = 0;
    /// Address Space ID: I/O ports.
    pub const SYSTEM_IO: u8 = 1;
}

/// Fixed ACPI Description Table, "FACP". [ACPI 6.5, 5.2.9 "Fixed ACPI
/// Description Table (FADT)", table 5.9]
pub mod fadt {
    use super::Field;

    /// DSDT: its physical address.
    pub const DSDT: Field<u32> = Field::at(40);
    /// SMI_CMD: the port that switches ACPI mode on.
    pub const SMI_CMD: Field<u32> = Field::at(48);
    /// ACPI_ENABLE: what to write to that port.
    pub const ACPI_ENABLE: Field<u8> = Field::at(52);
    /// PM1a_CNT_BLK: port of the PM1a control register.
    pub const PM1A_CNT_BLK: Field<u32> = Field::at(64);
    /// PM1b_CNT_BLK: port of the PM1b control register, or 0.
    pub const PM1B_CNT_BLK: Field<u32> = Field::at(68);
    /// PM_TMR_BLK: port of the power management timer, or 0.
    pub const PM_TMR_BLK: Field<u32> = Field::at(76);
    /// Flags.
    pub const FLAGS: Field<u32> = Field::at(112);
    /// X_DSDT: as DSDT, if it is not 0.
    pub const X_DSDT: Field<u64> = Field::at(140);
    /// X_PM1a_CNT_BLK: as PM1a_CNT_BLK, if its address is not 0.
    pub const X_PM1A_CNT_BLK: usize = 172;
    /// X_PM1b_CNT_BLK.
    pub const X_PM1B_CNT_BLK: usize = 184;
    /// X_PM_TMR_BLK.
    pub const X_PM_TMR_BLK: usize = 208;
    /// SLEEP_CONTROL_REG, for hardware-reduced machines.
    pub const SLEEP_CONTROL_REG: usize = 244;

    /// Flags: HW_REDUCED_ACPI, there are no PM1 registers.
    pub const FLAG_HW_REDUCED_ACPI: u32 = 1 << 20;

    /// PM1 control: SCI_EN, the machine is in ACPI mode. [ACPI 6.5, 4.8.3.2.1
    /// "PM1 Control Registers"]
    pub const PM1_SCI_EN: u16 = 1 << 0;
    /// PM1 control: where SLP_TYPx begins.
    pub const PM1_SLP_TYP_SHIFT: u32 = 10;
    /// PM1 control: SLP_EN, go to sleep.
    pub const PM1_SLP_EN: u16 = 1 << 13;
    /// Sleep control: where SLP_TYPx begins. [ACPI 6.5, 4.8.3.7 "Sleep Control
    /// and Status Registers"]
    pub const SLEEP_CONTROL_SLP_TYP_SHIFT: u32 = 2;
    /// Sleep control: SLP_EN.
    pub const SLEEP_CONTROL_SLP_EN: u8 = 1 << 5;
    /// The power management timer counts so many times in a second.
    /// [ACPI 6.5, 4.8.2.1 "Power Management Timer"]
    pub const PM_TIMER_HZ: u64 = 3_579_545;
    /// It has at least so many bits.
    pub const PM_TIMER_BITS: u32 = 24;
}

/// Multiple APIC Description Table, "APIC". [ACPI 6.5, 5.2.12 "Multiple APIC
/// Description Table (MADT)"]
pub mod madt {
    use super::Field;

    /// Where the list of structures begins.
    pub const STRUCTURES: usize = 44;

    /// Type of a structure.
    pub const TYPE: Field<u8> = Field::at(0);
    /// Length of a structure.
    pub const LENGTH: Field<u8> = Field::at(1);

    /// Flags of a processor: it is enabled.
    pub const FLAG_ENABLED: u32 = 1 << 0;

    /// Type 0: Processor Local APIC Structure. [5.2.12.2]
    pub mod local_apic {
        use super::Field;

        /// The structure's type.
        pub const TYPE: u8 = 0;
        /// APIC ID.
        pub const APIC_ID: Field<u8> = Field::at(3);
        /// Flags.
        pub const FLAGS: Field<u32> = Field::at(4);
    }

    /// Type 1: I/O APIC Structure. [5.2.12.3]
    pub mod io_apic {
        use super::Field;

        /// The structure's type.
        pub const TYPE: u8 = 1;
        /// I/O APIC ID.
        pub const ID: Field<u8> = Field::at(2);
        /// I/O APIC Address.
        pub const ADDRESS: Field<u32> = Field::at(4);
    }

    /// Type 9: Processor Local x2APIC Structure. [5.2.12.12]
    pub mod local_x2apic {
        use super::Field;

        /// The structure's type.
        pub const TYPE: u8 = 9;
        /// X2APIC ID.
        pub const X2APIC_ID: Field<u32> = Field::at(4);
        /// Flags.
        pub const FLAGS: Field<u32> = Field::at(8);
    }
}

/// PCI memory-mapped configuration space, "MCFG". [PCI Firmware 3.3, 4.1.2 "MCFG
/// Table Description"]
pub mod mcfg {
    use super::Field;

    /// Where the list of allocations begins.
    pub const ALLOCATIONS: usize = 44;
    /// The size of each.
    pub const ALLOCATION_SIZE: usize = 16;

    /// Base Address: of bus 0, whether or not that bus is in the range.
    pub const BASE_ADDRESS: Field<u64> = Field::at(0);
    /// PCI Segment Group Number.
    pub const SEGMENT: Field<u16> = Field::at(8);
    /// Start Bus Number.
    pub const START_BUS: Field<u8> = Field::at(10);
    /// End Bus Number, which is in the range.
    pub const END_BUS: Field<u8> = Field::at(11);
}

/// DMA Remapping Reporting Structure, "DMAR". [VT-d 5.10, 8.1 "DMA Remapping
/// Reporting Structure"]
pub mod dmar {
    use super::Field;

    /// Host Address Width: one less than the bits of a DMA address.
    pub const HOST_ADDRESS_WIDTH: Field<u8> = Field::at(36);
    /// Flags.
    pub const FLAGS: Field<u8> = Field::at(37);
    /// Where the list of structures begins.
    pub const STRUCTURES: usize = 48;

    /// Flags: INTR_REMAP, the platform can remap interrupts.
    pub const FLAG_INTR_REMAP: u8 = 1 << 0;

    /// Type of a structure.
    pub const TYPE: Field<u16> = Field::at(0);
    /// Length of a structure.
    pub const LENGTH: Field<u16> = Field::at(2);

    /// Type 0: DMA Remapping Hardware Unit Definition Structure. [8.3]
    pub mod drhd {
        use super::Field;

        /// The structure's type.
        pub const TYPE: u16 = 0;
        /// Flags.
        pub const FLAGS: Field<u8> = Field::at(4);
        /// Size: the registers take 2^N pages, N in bits 3:0.
        pub const SIZE: Field<u8> = Field::at(5);
        /// Segment Number.
        pub const SEGMENT: Field<u16> = Field::at(6);
        /// Register Base Address.
        pub const REGISTER_BASE: Field<u64> = Field::at(8);
        /// Where its device scopes begin.
        pub const DEVICE_SCOPE: usize = 16;

        /// Flags: INCLUDE_PCI_ALL, every device of the segment that is in no
        /// other unit's scope.
        pub const FLAG_INCLUDE_PCI_ALL: u8 = 1 << 0;
    }

    /// Type 1: Reserved Memory Region Reporting Structure. [8.4]
    pub mod rmrr {
        use super::Field;

        /// The structure's type.
        pub const TYPE: u16 = 1;
        /// Segment Number.
        pub const SEGMENT: Field<u16> = Field::at(6);
        /// Reserved Memory Region Base Address.
        pub const BASE: Field<u64> = Field::at(8);
        /// Reserved Memory Region Limit Address: its last byte.
        pub const LIMIT: Field<u64> = Field::at(16);
        /// Where its device scopes begin.
        pub const DEVICE_SCOPE: usize = 24;
    }

    /// Device Scope Structure. [8.3.1]
    pub mod scope {
        use super::Field;

        /// Type.
        pub const TYPE: Field<u8> = Field::at(0);
        /// Length.
        pub const LENGTH: Field<u8> = Field::at(1);
        /// Enumeration ID: for an I/O APIC, its id in the MADT.
        pub const ENUMERATION_ID: Field<u8> = Field::at(4);
        /// Start Bus Number.
        pub const START_BUS: Field<u8> = Field::at(5);
        /// Where the path begins: pairs of device and function number.
        pub const PATH: usize = 6;

        /// Type: PCI Endpoint Device.
        pub const PCI_ENDPOINT: u8 = 1;
        /// Type: PCI Sub-hierarchy, a bridge and all below it.
        pub const PCI_SUB_HIERARCHY: u8 = 2;
        /// Type: IOAPIC.
        pub const IO_APIC: u8 = 3;
        /// Type: MSI_CAPABLE_HPET.
        pub const HPET: u8 = 4;
    }
}
