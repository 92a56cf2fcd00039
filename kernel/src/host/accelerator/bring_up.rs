//! Finding the DSAs and taking them over.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::AtomicBool;
use core::time::Duration;

use dsa::ims::{DeviceEntry, Store};
use dsa::{Capabilities, Device};
use hwio::{Mmio, Registers};
use hwspec::dsa::{ImsEntry, PortalPage};
use hwspec::pci::{
    AtsCapability, COMMAND, EXTENDED_CAPABILITY_ATS, EXTENDED_CAPABILITY_PAGE_REQUEST,
    EXTENDED_CAPABILITY_PASID, MsixEntry, PageRequestCapability, PasidCapability, VENDOR_ID_INTEL,
};
use spin::Mutex;

use super::Accelerator;
use super::announcement::Shown;
use super::dsa_hardware::{DsaHardware, Line};
use crate::host::error::HostError;
use crate::host::iommu::{Interrupt, Iommu};
use crate::host::pci::{Bar, Function, MsixTable, Pci, PciError};
use crate::host::routes::{HostTarget, Routes, Target};
use crate::host::service::{Health, Service};
use crate::host::slices::Accepted;
use crate::host::window::WindowAround;
use crate::info;
use crate::mm::devices;

/// Device ids of DSAs: Sapphire and Emerald Rapids, Granite Rapids-D, Diamond
/// Rapids.
const DEVICE_IDS: [u16; 3] = [0x0b25, 0x11fb, 0x1212];

/// How long a command may take, draining included. Whatever guests may have
/// queued is done in less.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// BAR0: registers. BAR2: portals.
const REGISTERS_BAR: usize = 0;
const PORTALS_BAR: usize = 2;

/// What a device's bring-up needs of the rest.
pub(in crate::host) struct Surroundings<'a> {
    pub(in crate::host) pci: &'a mut Pci<Mmio>,
    pub(in crate::host) iommu: &'static Iommu,
    pub(in crate::host) routes: &'static Routes,
}

impl Accelerator {
    /// Finds all DSAs and takes them over, numbered in the order of their PCI
    /// addresses. One that will not do is an error: an operator who has it wants to
    /// know.
    pub(in crate::host) fn find_all(around: &mut Surroundings<'_>) -> Result<Vec<Self>, HostError> {
        let found: Vec<Function> = around
            .pci
            .functions()
            .iter()
            .filter(|function| {
                function.vendor == VENDOR_ID_INTEL && DEVICE_IDS.contains(&function.device)
            })
            .copied()
            .collect();
        (0..)
            .zip(found)
            .map(|(number, function)| Self::bring_up(number, function, around))
            .collect()
    }

    fn bring_up(
        number: u8,
        function: Function,
        around: &mut Surroundings<'_>,
    ) -> Result<Self, HostError> {
        let source = function.source;
        let dsa_error = |error| HostError::Dsa(source, error);
        let pci = &mut *around.pci;
        let registers_bar = pci.size_bar(&function, REGISTERS_BAR)?;
        let portals_bar = pci.size_bar(&function, PORTALS_BAR)?;
        let table = pci.msix_table(&function, &[registers_bar])?;
        // Bus mastering stays as it is for now: a device that is enabled would halt.
        pci.config(&function)?
            .modify(COMMAND, |command| command.with_memory_space(true));

        let map = |bar: Bar| {
            devices::registers(bar.range).map_err(|error| HostError::Map("a DSA's BAR0", error))
        };
        let mut registers = map(registers_bar)?;
        let capabilities = Capabilities::read(&registers).map_err(dsa_error)?;
        let len_bytes = registers.len_bytes();
        capabilities.check(len_bytes).map_err(dsa_error)?;
        let ims = capabilities.ims_range(len_bytes).map_err(dsa_error)?;
        let len_bytes = capabilities.count_queues() as u64 * PortalPage::WQ_STRIDE as u64;
        if portals_bar.range.len_bytes() < len_bytes {
            return Err(PciError::BarAddress {
                source,
                index: PORTALS_BAR,
                address: portals_bar.range.start().as_u64(),
                len_bytes: portals_bar.range.len_bytes(),
            }
            .into());
        }
        let portals = devices::PortalPages::new(portals_bar.range)
            .map_err(|error| HostError::Map("a DSA's BAR2", error))?;

        let unit = around.iommu.unit_of(function.segment, source)?;
        let route = around.routes.allocate(0)?;
        let target = Target::Host(HostTarget::Accelerator(number));
        around.routes.set_target(&route, target);
        let interrupt = around.iommu.allocate_interrupt(unit, source, &route)?;
        write_msix(pci, &function, &table, &mut registers, &interrupt)?;

        let (registers, entries) = cut(registers, ims);
        let device =
            Device::take_over(registers, devices::clock(), COMMAND_TIMEOUT).map_err(dsa_error)?;
        // It is disabled now, so that these may change.
        enable(pci, &function)?;
        around.iommu.allow_device(unit, source)?;
        let store = Store::new(entries.map(DeviceEntry::new)).map_err(dsa_error)?;
        info!(
            "dsa",
            "took over dsa{number} at={source} id={:04x} queues={} entries={} groups={} \
             engines={} ims={} handle_commands={}",
            function.device,
            capabilities.count_queues(),
            capabilities.count_entries(),
            capabilities.count_groups(),
            capabilities.count_engines(),
            capabilities.count_ims_entries(),
            capabilities.has_handle_commands(),
        );
        let hardware = DsaHardware {
            device,
            source,
            unit,
            iommu: around.iommu,
            routes: around.routes,
        };
        Ok(Self {
            number,
            function,
            unit,
            iommu: around.iommu,
            capabilities,
            portals,
            plan: Mutex::new(None),
            service: Service::new(hardware, store),
            accepted: (0..capabilities.count_queues())
                .map(|_| Accepted::default())
                .collect(),
            shown: Mutex::new(Shown {
                health: Health::Works,
                recoveries: 0,
                refused: 0,
            }),
            is_lost: AtomicBool::new(false),
            _line: Line { interrupt, route },
        })
    }
}

/// Lets MSI-X entry 0 send `interrupt`, and masks all others.
fn write_msix(
    pci: &mut Pci<Mmio>,
    function: &Function,
    table: &MsixTable,
    registers: &mut Mmio,
    interrupt: &Interrupt,
) -> Result<(), HostError> {
    let mut config = pci.config(function)?;
    let control = table.capability.control();
    config.modify(control, |control| control.with_function_mask(true));
    for index in 0..table.entries {
        let entry = MsixEntry::at(table.offset, index);
        registers.modify(entry.control(), |control| control.with_mask(true));
    }
    let message = interrupt.message();
    let entry = MsixEntry::at(table.offset, 0);
    registers.write(entry.address(), message.address);
    registers.write(entry.data(), message.data);
    registers.modify(entry.control(), |control| control.with_mask(false));
    config.modify(control, |control| {
        control.with_enable(true).with_function_mask(false)
    });
    Ok(())
}

/// Lets a device that is disabled use the bus, with PASIDs and nothing else.
///
/// [DSA 3.0, 9.1 "PCI Configuration Registers"]: what is changed here may not change
/// while the device is enabled.
fn enable(pci: &mut Pci<Mmio>, function: &Function) -> Result<(), HostError> {
    let mut config = pci.config(function)?;
    if let Some(base) = config.find_extended_capability(EXTENDED_CAPABILITY_ATS) {
        let control = AtsCapability { base }.control();
        config.modify(control, |control| control.with_enable(false));
    }
    if let Some(base) = config.find_extended_capability(EXTENDED_CAPABILITY_PAGE_REQUEST) {
        let control = PageRequestCapability { base }.control();
        config.modify(control, |control| control.with_enable(false));
    }
    let base = config
        .find_extended_capability(EXTENDED_CAPABILITY_PASID)
        .ok_or(PciError::NoCapability(function.source, "PASID"))?;
    let control = PasidCapability { base }.control();
    config.modify(control, |control| {
        control
            .with_enable(true)
            .with_execute(false)
            .with_privileged(false)
    });
    config.modify(COMMAND, |command| command.with_bus_master(true));
    Ok(())
}

/// Cuts BAR0 into the registers that the driver has, and a window for each IMS entry.
fn cut(mut low: Mmio, range: Range<usize>) -> (WindowAround<Mmio>, impl Iterator<Item = Mmio>) {
    let mut entries = low.split_off(range.start);
    let high = entries.split_off(range.len());
    let count = range.len() / ImsEntry::STRIDE;
    let entries = (0..count).map(move |_| {
        let rest = entries.split_off(ImsEntry::STRIDE);
        core::mem::replace(&mut entries, rest)
    });
    (WindowAround::new(low, high, range.end), entries)
}
