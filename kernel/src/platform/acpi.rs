//! The ACPI tables that a Linux guest finds: its processors, its I/O APIC, the PCI
//! bus, the console, and how to switch itself off.
//!
//! The platform is a hardware-reduced one: no fixed hardware, no legacy devices, no
//! system control interrupt. A well-kept crate writes the tables; this module says
//! what is in them, and where they are.
//! [ACPI 6.5, 4.1 "Hardware-Reduced ACPI", 5.2 "ACPI System Description Tables"]
//!
//! From [`TABLES`] on: root pointer, XSDT, FADT, MADT, MCFG, DSDT.

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Memory32Fixed, Name,
    Package, Path, ResourceTemplate, Scope, ZERO,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace as GasSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use alloc::vec;
use alloc::vec::Vec;

use super::memory_map::{self, CONSOLE_PIN, ECAM, ECAM_BYTES, IO_APIC, SERIAL_PORT};
use super::power::{
    RESET_PORT, RESET_VALUE, RESTART, SLEEP_CONTROL_PORT, SLEEP_STATUS_PORT, SLEEP_TYPE_OFF,
};
use super::serial_port;
use crate::virt::address::GuestPhysAddr;

/// Where the tables are: in the range that PCs have firmware in.
pub const TABLES: GuestPhysAddr = GuestPhysAddr(0xe_0000);
/// They end here at the latest, and the firmware's range 16 bytes behind.
const TABLES_END: u64 = RESTART.0;

const OEM: [u8; 6] = *b"WEIR  ";
const OEM_TABLE: [u8; 8] = *b"WEIRVM  ";
const OEM_REVISION: u32 = 1;
/// The header of a table without anything behind it.
const HEADER_BYTES: u32 = 36;
const DSDT_REVISION: u8 = 2;
/// Tables begin at multiples of this.
const ALIGNMENT: usize = 16;

/// IAPC_BOOT_ARCH: no VGA, and no CMOS clock. Nothing says that there are legacy
/// devices or a keyboard controller, so there are none.
/// [ACPI 6.5, 5.2.9.3 "IA-PC Boot Architecture Flags", table 5.11]
const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 5;

/// The tables of a guest with `count_vcpus` virtual processors: what belongs at
/// [`TABLES`].
///
/// # Panics
/// If there is no room for them, which there is for as many processors as a guest
/// can have.
pub fn tables(count_vcpus: usize) -> Vec<u8> {
    let mut image = Image {
        bytes: vec![0; Rsdp::len()],
    };
    let dsdt = image.add(&bytes(&dsdt()));
    let fadt = image.add(&bytes(&fadt(dsdt)));
    let madt = image.add(&bytes(&madt(count_vcpus)));
    let mcfg = image.add(&bytes(&mcfg()));
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    for table in [fadt, madt, mcfg] {
        xsdt.add_entry(table);
    }
    let xsdt = image.add(&bytes(&xsdt));
    let root = bytes(&Rsdp::new(OEM, xsdt));
    let mut tables = image.bytes;
    for (place, byte) in tables.iter_mut().zip(root) {
        *place = byte;
    }
    assert!(
        TABLES.0 + tables.len() as u64 <= TABLES_END,
        "there is room for the tables of {count_vcpus} processors"
    );
    tables
}

/// The tables so far.
struct Image {
    bytes: Vec<u8>,
}

impl Image {
    /// Adds a table, and says where it is.
    fn add(&mut self, table: &[u8]) -> u64 {
        let start = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(start, 0);
        self.bytes.extend_from_slice(table);
        TABLES.0 + start as u64
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn fadt(dsdt: u64) -> impl Aml {
    let port = |port: u16| {
        GAS::new(
            GasSpace::SystemIo,
            8,
            0,
            AccessSize::ByteAccess,
            port.into(),
        )
    };
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless)
        .flag(Flags::HwReducedAcpi);
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = port(RESET_PORT);
    fadt.reset_value = RESET_VALUE;
    fadt.sleep_control_reg = port(SLEEP_CONTROL_PORT);
    fadt.sleep_status_reg = port(SLEEP_STATUS_PORT);
    fadt.hypervisor_vendor_identity = u64::from_le_bytes(*b"Weir\0\0\0\0").into();
    fadt.finalize()
}

/// Local APICs of IDs below 255 are told of as such, in whatever mode they are.
/// [ACPI 6.5, 5.2.12.12 "Processor Local x2APIC Structure"]
fn madt(count_vcpus: usize) -> impl Aml {
    let address = u32::try_from(memory_map::INTERRUPT_MESSAGES.0).unwrap_or(u32::MAX);
    let controller = LocalInterruptController::Address(address);
    let mut madt = MADT::new(OEM, OEM_TABLE, OEM_REVISION, controller);
    for number in 0..u8::try_from(count_vcpus).unwrap_or(u8::MAX) {
        madt.add_structure(ProcessorLocalApic::new(
            number,
            number,
            EnabledStatus::Enabled,
        ));
    }
    let io_apic = u32::try_from(IO_APIC.0).unwrap_or(u32::MAX);
    madt.add_structure(IoApic::new(0, io_apic, 0));
    madt
}

fn mcfg() -> impl Aml {
    let mut mcfg = MCFG::new(OEM, OEM_TABLE, OEM_REVISION);
    mcfg.add_ecam(ECAM.0, 0, 0, 0);
    mcfg
}

/// The devices that cannot be found otherwise.
fn dsdt() -> impl Aml {
    let window = memory_map::DEVICES_RANGE;
    let serial_ports = u8::try_from(serial_port::PORTS).unwrap_or(u8::MAX);
    let low = |address: u64| u32::try_from(address).unwrap_or(u32::MAX);
    let scope = bytes(&Scope::new(
        Path::new("_SB_"),
        vec![
            &Device::new(
                Path::new("PCI0"),
                vec![
                    &Name::new(Path::new("_HID"), &EISAName::new("PNP0A08")),
                    &Name::new(Path::new("_CID"), &EISAName::new("PNP0A03")),
                    &Name::new(Path::new("_UID"), &ZERO),
                    &Name::new(Path::new("_SEG"), &ZERO),
                    &Name::new(Path::new("_BBN"), &ZERO),
                    &Name::new(Path::new("_CBA"), &ECAM.0),
                    &Name::new(
                        Path::new("_CRS"),
                        &ResourceTemplate::new(vec![
                            &AddressSpace::new_bus_number(0_u16, 0_u16),
                            &AddressSpace::new_memory(
                                AddressSpaceCacheable::NotCacheable,
                                true,
                                low(window.start.0),
                                low(window.end.0 - 1),
                                None,
                            ),
                        ]),
                    ),
                ],
            ),
            // Linux uses configuration space only where it is told to keep out of it.
            &Device::new(
                Path::new("MRES"),
                vec![
                    &Name::new(Path::new("_HID"), &EISAName::new("PNP0C02")),
                    &Name::new(Path::new("_UID"), &ZERO),
                    &Name::new(
                        Path::new("_CRS"),
                        &ResourceTemplate::new(vec![&Memory32Fixed::new(
                            true,
                            low(ECAM.0),
                            low(ECAM_BYTES),
                        )]),
                    ),
                ],
            ),
            &Device::new(
                Path::new("COM1"),
                vec![
                    &Name::new(Path::new("_HID"), &EISAName::new("PNP0501")),
                    &Name::new(Path::new("_UID"), &ZERO),
                    &Name::new(
                        Path::new("_CRS"),
                        &ResourceTemplate::new(vec![
                            &IO::new(SERIAL_PORT, SERIAL_PORT, 1, serial_ports),
                            // Edge-triggered, active high, its own.
                            &Interrupt::new(true, true, false, false, CONSOLE_PIN.into()),
                        ]),
                    ),
                ],
            ),
        ],
    ));
    let off = bytes(&Name::new(
        Path::new("_S5_"),
        &Package::new(vec![&SLEEP_TYPE_OFF, &ZERO, &ZERO, &ZERO]),
    ));
    let mut dsdt = Sdt::new(
        *b"DSDT",
        HEADER_BYTES,
        DSDT_REVISION,
        OEM,
        OEM_TABLE,
        OEM_REVISION,
    );
    dsdt.append_slice(&scope);
    dsdt.append_slice(&off);
    dsdt
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
