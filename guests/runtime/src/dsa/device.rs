//! From the function in configuration space to queues that take work.

mod commands;
mod configuration_space;
mod error;
mod queue;

use alloc::vec::Vec;
use core::ops::Range;

use hwio::Registers;
use hwspec::dsa::{
    CommandCode, GENCAP, GENCFG, GENCTRL, GENSTS, GenCtrl, GenSts, GroupConfig, GroupFlags,
    MsixPermission, OFFSETS_0, PortalPage, VERSION, Version, WQCAP, WqConfig, WqLimits, WqSize,
    WqThreshold, msix_permission,
};
use hwspec::pci::{
    CAPABILITY_MSIX, EXTENDED_CAPABILITY_PASID, MsixCapability, MsixControl, MsixEntry,
    MsixVectorControl, PasidCapability, PasidControl, SourceId, VENDOR_ID_INTEL,
};

use crate::mmio::Window;
use crate::pci::Function;
use crate::{Features, Guest, pass_through};

pub use error::Error;
pub use queue::{Limits, Pasids, Queue};

/// Sapphire Rapids and later.
const DEVICE_IDS: &[u16] = &[0x0b25, 0x11fb, 0x1212];
/// The processor's vector of virtual MSI-X vector 0; that of v is v more.
pub const VECTOR_BASE: u8 = 0x40;
/// Where messages to APIC 0 go. [Intel SDM, vol. 3, 12.11.1 "Message Address Register
/// Format"]
const MESSAGE_ADDRESS: u64 = 0xfee0_0000;

/// Queues that the guest makes of a device that nobody has configured, of this size: two
/// dedicated ones, or the second shared if the command line says `bare=shared`.
const BARE_QUEUES: usize = 2;
const BARE_QUEUE_SIZE: u16 = 16;
const BARE_MAX_TRANSFER_LOG2: u8 = 21;
const BARE_MAX_BATCH_LOG2: u8 = 10;

/// A DSA, enabled, with all its queues.
#[derive(Debug)]
pub struct Device {
    function: Function,
    registers: Window,
    bar0: (u64, u64),
    bar2: (u64, u64),
    queues: Vec<Queue>,
    /// Whether the guest makes a shared queue where it makes any.
    makes_shared: bool,
}

impl Device {
    /// Brings the guest's `nth` DSA up: resets it, sets up the interrupts, and enables
    /// it and all of its queues.
    ///
    /// # Errors
    /// What is missing, or what the device refuses.
    pub fn open(guest: &Guest, nth: usize, pasids: Pasids) -> Result<Self, Error> {
        if !guest.features.movdir64b {
            return Err(Error::NoMovdir64b);
        }
        let space = guest.platform.configuration_space();
        let mut function =
            Function::find(space, VENDOR_ID_INTEL, DEVICE_IDS, nth).ok_or(Error::NotFound)?;
        function.set_enabled(false);
        let bar0 = function.bar(0).ok_or(Error::Bar(0))?;
        let bar2 = function.bar(2).ok_or(Error::Bar(2))?;
        let makes_shared =
            !guest.platform.is_weir() && guest.options.text("bare") == Some("shared");
        if makes_shared {
            let base = function.extended_capability(EXTENDED_CAPABILITY_PASID);
            let base = base.ok_or(Error::Table("PASID capability"))?;
            let control = PasidCapability { base }.control();
            let enable = PasidControl::new().with_enable(true);
            function.registers.write(control, enable);
            if !pass_through::enable(function.id) {
                return Err(Error::NoIommu);
            }
        }
        function.set_enabled(true);
        let mut device = Self {
            function,
            registers: Window::new(bar0.0, bar0.1),
            bar0,
            bar2,
            queues: Vec::new(),
            makes_shared,
        };
        // Portals are submitted to, never read or written as registers.
        let _portals = Window::new(bar2.0, bar2.1);
        device.start(guest.features, pasids)?;
        Ok(device)
    }

    /// Resets the device and brings it up again, with other PASIDs if need be. What was
    /// under way is given up.
    ///
    /// # Errors
    /// What is missing, or what the device refuses.
    pub fn start(&mut self, features: Features, pasids: Pasids) -> Result<(), Error> {
        self.queues.clear();
        self.execute(CommandCode::RESET_DEVICE, 0)?;
        let is_configurable = self.registers.read(GENCAP).configuration();
        if is_configurable {
            self.configure()?;
        }
        let count = usize::from(self.registers.read(WQCAP).count());
        let count = if is_configurable {
            count.min(BARE_QUEUES)
        } else {
            count
        };
        self.set_up_vectors(1 + count)?;
        let interrupts = GenCtrl::new()
            .with_software_error(true)
            .with_halt_state(true);
        self.registers.write(GENCTRL, interrupts);
        self.execute(CommandCode::ENABLE_DEVICE, 0)?;
        for index in 0..count {
            let queue = self.start_queue(index, features, pasids)?;
            self.queues.push(queue);
        }
        Ok(())
    }

    /// Makes queues of a device that has none.
    fn configure(&mut self) -> Result<(), Error> {
        let limits = WqLimits::new()
            .with_max_transfer_size(BARE_MAX_TRANSFER_LOG2)
            .with_max_batch_size(BARE_MAX_BATCH_LOG2);
        for index in 0..BARE_QUEUES {
            let queue = self.wq_config(index)?;
            let size = WqSize::new().with_size(BARE_QUEUE_SIZE);
            self.registers.write(queue.size(), size);
            let threshold = WqThreshold::new().with_threshold(BARE_QUEUE_SIZE);
            self.registers.write(queue.threshold(), threshold);
            let is_shared = self.makes_shared && index == 1;
            self.registers.modify(queue.mode(), |mode| {
                mode.with_dedicated(!is_shared)
                    .with_pasid_enable(is_shared)
                    .with_priority(1)
            });
            self.registers.write(queue.limits(), limits);
        }
        let table = self.registers.read(OFFSETS_0).grpcfg_offset();
        let table = self.table("GRPCFG", table, GroupConfig::STRIDE)?;
        let group = GroupConfig::at(table, 0);
        self.registers.write(group.wqs(0), (1 << BARE_QUEUES) - 1);
        self.registers.write(group.engines(), 1);
        self.registers
            .modify(group.flags(), |flags: GroupFlags| flags.with_tc_a(1));
        self.registers
            .modify(GENCFG, |config| config.with_user_interrupts(true));
        Ok(())
    }

    /// Programs and unmasks the first `count` vectors.
    fn set_up_vectors(&mut self, count: usize) -> Result<(), Error> {
        let base = self.function.capability(CAPABILITY_MSIX);
        let capability = MsixCapability {
            base: base.ok_or(Error::Table("MSI-X capability"))?,
        };
        let table = self.message_table()?;
        if table.len() < count * MsixEntry::STRIDE {
            return Err(Error::Table("MSI-X table"));
        }
        let control = MsixControl::new().with_enable(true);
        self.function.registers.write(capability.control(), control);
        for (index, vector) in (0..count).zip(VECTOR_BASE..) {
            let entry = MsixEntry::at(table.start, index);
            self.registers.write(entry.address(), MESSAGE_ADDRESS);
            self.registers.write(entry.data(), vector.into());
            self.registers
                .write(entry.control(), MsixVectorControl::new());
        }
        Ok(())
    }

    /// Sends the messages of entry `vector` of the MSI-X table to the processor with
    /// this APIC ID from now on.
    ///
    /// # Errors
    /// If there is no such entry.
    pub fn send_to(&mut self, vector: usize, apic_id: u8) -> Result<(), Error> {
        let table = self.message_table()?;
        if table.len() < (vector + 1) * MsixEntry::STRIDE {
            return Err(Error::Table("MSI-X table"));
        }
        let entry = MsixEntry::at(table.start, vector);
        let masked = MsixVectorControl::new().with_mask(true);
        self.registers.write(entry.control(), masked);
        let address = MESSAGE_ADDRESS | u64::from(apic_id) << 12;
        self.registers.write(entry.address(), address);
        self.registers
            .write(entry.control(), MsixVectorControl::new());
        Ok(())
    }

    /// Writes an entry of MSIXPERM.
    ///
    /// # Errors
    /// If the table is not in BAR0.
    pub fn set_permission(
        &mut self,
        vector: usize,
        permission: MsixPermission,
    ) -> Result<(), Error> {
        let table = self.registers.read(OFFSETS_0).msixperm_offset();
        let table = self.table("MSIXPERM", table, (vector + 1) * 8)?;
        let entry = msix_permission(table, vector);
        self.registers.write(entry, permission);
        Ok(())
    }

    /// The queues.
    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// Where on the bus it is.
    pub fn id(&self) -> SourceId {
        self.function.id
    }

    /// Where its configuration space is.
    pub fn configuration_space(&self) -> u64 {
        self.function.address
    }

    /// VERSION.
    pub fn version(&self) -> Version {
        self.registers.read(VERSION)
    }

    /// GENSTS.
    pub fn state(&self) -> GenSts {
        self.registers.read(GENSTS)
    }

    /// Address and size of BAR0.
    pub fn bar0(&self) -> (u64, u64) {
        self.bar0
    }

    /// Address and size of BAR2.
    pub fn bar2(&self) -> (u64, u64) {
        self.bar2
    }

    /// Where a portal page is; beyond BAR2 if there is no such queue.
    pub fn portal_address(&self, queue: usize, page: PortalPage) -> u64 {
        self.bar2.0 + page.offset(queue) as u64
    }

    /// Where in BAR0 the MSI-X table is.
    ///
    /// # Errors
    /// If it is not there.
    pub fn message_table(&self) -> Result<Range<usize>, Error> {
        let base = self.function.capability(CAPABILITY_MSIX);
        let capability = MsixCapability {
            base: base.ok_or(Error::Table("MSI-X capability"))?,
        };
        let registers = &self.function.registers;
        let location = registers.read(capability.table());
        let length = registers.read(capability.control()).entries() * MsixEntry::STRIDE;
        if location.bir() != 0 {
            return Err(Error::Table("MSI-X table"));
        }
        let start = self.table("MSI-X table", location.offset(), length)?;
        Ok(start..start + length)
    }

    fn wq_config(&self, index: usize) -> Result<WqConfig, Error> {
        let stride = self.registers.read(WQCAP).wqcfg_bytes();
        let table = self.registers.read(OFFSETS_0).wqcfg_offset();
        let table = self.table("WQCFG", table, (index + 1) * stride)?;
        Ok(WqConfig::at(table, stride, index))
    }

    /// `offset`, if so much fits behind it.
    fn table(&self, name: &'static str, offset: usize, length: usize) -> Result<usize, Error> {
        let end = offset.checked_add(length);
        let is_inside = end.is_some_and(|end| end <= self.registers.len_bytes());
        if is_inside && offset.is_multiple_of(8) {
            Ok(offset)
        } else {
            Err(Error::Table(name))
        }
    }
}
