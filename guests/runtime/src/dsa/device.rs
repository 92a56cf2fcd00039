//! From the function in configuration space to queues that take work.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::time::Duration;

use hwio::Registers;
use hwspec::dsa::{
    CMD, CMDCAP, CMDSTATUS, Cmd, CommandCode, CommandError, DeviceState, GENCAP, GENCFG, GENCTRL,
    GENSTS, GenCtrl, GenSts, GroupConfig, GroupFlags, INTCAUSE, IntCause, MsixPermission,
    OFFSETS_0, PortalPage, SWERROR_0, SwError0, VERSION, Version, WQCAP, WqConfig, WqLimits,
    WqSize, WqThreshold, msix_permission,
};
use hwspec::pci::{
    CAPABILITY_MSIX, CAPABILITY_PCIE, DeviceControl, EXTENDED_CAPABILITY_PASID, MsixCapability,
    MsixControl, MsixEntry, MsixVectorControl, PasidCapability, PasidControl, PcieCapability,
    SourceId, VENDOR_ID_INTEL,
};

use super::{Instruction, Portal};
use crate::mmio::Window;
use crate::options::{BadNumber, Options};
use crate::pci::Function;
use crate::{Features, Guest, clock, interrupts, pass_through};

/// Sapphire Rapids and later.
const DEVICE_IDS: &[u16] = &[0x0b25, 0x11fb, 0x1212];
/// How long a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// How long a function level reset may take.
/// [PCIe 5.0, 6.6.2 "Function Level Reset (FLR)"]
const FLR_TIME: Duration = Duration::from_millis(100);
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

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no such device.
    NotFound,
    /// The named BAR has no address, or lies about its size.
    Bar(usize),
    /// A table is not where the device says.
    Table(&'static str),
    /// A command ended with an error.
    Command(CommandCode, u32, CommandError),
    /// A command did not end.
    Stuck(CommandCode),
    /// A shared queue, and a processor without ENQCMDS.
    NoEnqcmd(usize),
    /// The processor has no MOVDIR64B.
    NoMovdir64b,
    /// The bare box has no IOMMU that lets PASIDs pass.
    NoIommu,
    /// The device is halted even after a function level reset.
    Halted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("there is no DSA; give the guest one"),
            Self::Bar(index) => write!(f, "BAR{index} of the DSA has no address"),
            Self::Table(name) => write!(f, "the DSA's {name} is not in BAR0"),
            Self::Command(code, operand, error) => {
                write!(f, "the DSA refuses to {code} {operand:#x}: {error}")?;
                if *error == CommandError::WQ_PASID_ENABLE {
                    f.write_str("; give the guest that PASID, or say another with pasid= and dedicated-pasid=")?;
                }
                Ok(())
            }
            Self::Stuck(code) => write!(f, "the DSA does not finish to {code}"),
            Self::NoEnqcmd(queue) => {
                write!(
                    f,
                    "queue {queue} is shared, and the processor has no ENQCMDS"
                )
            }
            Self::NoIommu => {
                f.write_str("shared queues need the box's IOMMU; leave --no-iommu out")
            }
            Self::Halted => f.write_str("the DSA is halted even after a function level reset"),
            Self::NoMovdir64b => f.write_str("the processor has no MOVDIR64B"),
        }
    }
}

impl core::error::Error for Error {}

/// Which guest PASIDs the queues use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pasids {
    /// Dedicated queues. Without one they run with PASIDs off.
    pub dedicated: Option<u32>,
    /// Shared queues, which cannot be without.
    pub shared: u32,
}

impl Pasids {
    /// `pasid=` for shared queues, 1 if it is not there, and `dedicated-pasid=`.
    ///
    /// # Errors
    /// If one of them is no number.
    pub fn from_options(options: &Options<'static>) -> Result<Self, BadNumber<'static>> {
        let pasid = |key| -> Result<Option<u32>, BadNumber<'static>> {
            let number = options.number(key)?;
            Ok(number.and_then(|number| u32::try_from(number & 0xf_ffff).ok()))
        };
        Ok(Self {
            dedicated: pasid("dedicated-pasid")?,
            shared: pasid("pasid")?.unwrap_or(1),
        })
    }
}

/// What a queue takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a transfer.
    pub transfer: u64,
    /// Descriptors in a batch.
    pub batch: usize,
}

/// A queue that takes work.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Its number.
    pub index: usize,
    /// Dedicated, or shared.
    pub is_dedicated: bool,
    /// Entries.
    pub size: usize,
    /// What it takes.
    pub limits: Limits,
    /// Its limited portal, the one that Linux uses.
    pub portal: Portal,
    /// The instruction for it.
    pub instruction: Instruction,
    /// The guest PASID of its work, if any.
    pub pasid: Option<u32>,
    /// What a descriptor names to interrupt.
    pub handle: u16,
    /// The processor's vector that this arrives at.
    pub vector: u8,
}

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

    fn start_queue(
        &mut self,
        index: usize,
        features: Features,
        pasids: Pasids,
    ) -> Result<Queue, Error> {
        let config = self.wq_config(index)?;
        let mode = self.registers.read(config.mode());
        let is_dedicated = mode.dedicated();
        let pasid = if is_dedicated {
            pasids.dedicated
        } else {
            Some(pasids.shared)
        };
        if !is_dedicated && !features.enqcmd {
            return Err(Error::NoEnqcmd(index));
        }
        // That of a shared queue comes with each descriptor.
        if let Some(pasid) = pasid.filter(|_| is_dedicated) {
            let mode = mode.with_pasid(pasid).with_pasid_enable(true);
            self.registers.write(config.mode(), mode);
        }
        let operand = u32::try_from(index).unwrap_or(u32::MAX);
        self.execute(CommandCode::ENABLE_WQ, operand)?;

        let virtual_vector = u16::try_from(index + 1).unwrap_or(u16::MAX);
        let permission = match pasid {
            None => MsixPermission::new(),
            Some(pasid) => MsixPermission::new()
                .with_pasid_enable(true)
                .with_pasid(pasid),
        };
        self.set_permission(virtual_vector.into(), permission)?;
        let limits = self.registers.read(config.limits());
        let [low, ..] = virtual_vector.to_le_bytes();
        Ok(Queue {
            index,
            is_dedicated,
            size: self.registers.read(config.size()).size().into(),
            limits: Limits {
                transfer: 1 << limits.max_transfer_size(),
                batch: 1 << limits.max_batch_size(),
            },
            portal: Portal::new(self.portal_address(index, PortalPage::LimitedMsix)),
            instruction: if is_dedicated {
                Instruction::Movdir64b
            } else {
                Instruction::Enqcmds
            },
            pasid,
            handle: self.request_handle(virtual_vector)?,
            vector: VECTOR_BASE.wrapping_add(low),
        })
    }

    /// What descriptors name entry `vector` of the MSI-X table by: its number, unless
    /// the device hands out handles.
    ///
    /// # Errors
    /// The device's own.
    pub fn request_handle(&mut self, vector: u16) -> Result<u16, Error> {
        const REQUEST: CommandCode = CommandCode::REQUEST_INTERRUPT_HANDLE;
        let has_handles = self.registers.read(GENCAP).command_capabilities()
            && self.registers.read(CMDCAP) & 1 << REQUEST.0 != 0;
        if has_handles {
            self.execute(REQUEST, Cmd::msix_operand(vector))
        } else {
            Ok(vector)
        }
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

    /// Lets the device execute a command, and returns its result.
    ///
    /// # Errors
    /// The device's own, or that it does not finish.
    pub fn execute(&mut self, code: CommandCode, operand: u32) -> Result<u16, Error> {
        let command = Cmd::new().with_code(code).with_operand(operand);
        self.registers.write(CMD, command);
        let registers = &self.registers;
        if !clock::spin_until(COMMAND_LIMIT, || !registers.read(CMDSTATUS).active()) {
            return Err(Error::Stuck(code));
        }
        self.outcome(code, operand)
    }

    /// The same, waiting for the interrupt of vector 0.
    ///
    /// # Errors
    /// The device's own, or that the interrupt does not come.
    pub fn execute_with_interrupt(
        &mut self,
        code: CommandCode,
        operand: u32,
    ) -> Result<u16, Error> {
        let before = interrupts::count(VECTOR_BASE);
        let command = Cmd::new().with_code(code).with_operand(operand);
        self.registers
            .write(CMD, command.with_request_interrupt(true));
        let came =
            interrupts::wait_until(COMMAND_LIMIT, || interrupts::count(VECTOR_BASE) != before);
        let causes = self.take_causes();
        if !came || !causes.command_completion() {
            return Err(Error::Stuck(code));
        }
        self.outcome(code, operand)
    }

    fn outcome(&self, code: CommandCode, operand: u32) -> Result<u16, Error> {
        let status = self.registers.read(CMDSTATUS);
        match status.error() {
            CommandError::NONE => Ok(status.result()),
            error => Err(Error::Command(code, operand, error)),
        }
    }

    /// INTCAUSE, which this clears.
    pub fn take_causes(&mut self) -> IntCause {
        let causes = self.registers.read(INTCAUSE);
        self.registers.acknowledge(INTCAUSE, causes);
        causes
    }

    /// SWERROR, if there is an error in it; this clears it.
    pub fn take_error(&mut self) -> Option<SwError0> {
        let error = self.registers.read(SWERROR_0);
        if !error.valid() {
            return None;
        }
        let clear = SwError0::new().with_valid(true).with_overflow(true);
        self.registers.acknowledge(SWERROR_0, clear);
        Some(error)
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

    /// Makes the function answer again where it was found, whatever was done to its
    /// configuration space, and resets it if it has halted.
    ///
    /// # Errors
    /// If it does not come out of a function level reset.
    pub fn revive(&mut self) -> Result<(), Error> {
        self.restore_configuration();
        if self.registers.read(GENSTS).state() != DeviceState::Halted {
            return Ok(());
        }
        let base = self.function.capability(CAPABILITY_PCIE);
        let capability = PcieCapability {
            base: base.ok_or(Error::Table("PCIe capability"))?,
        };
        let control = DeviceControl::new().with_initiate_flr(true);
        self.function
            .registers
            .write(capability.device_control(), control);
        clock::spin_until(FLR_TIME, || false);
        self.restore_configuration();
        match self.registers.read(GENSTS).state() {
            DeviceState::Halted => Err(Error::Halted),
            _ => Ok(()),
        }
    }

    /// Address and enables. What is right already is not written: a device that works
    /// does not bear changes.
    fn restore_configuration(&mut self) {
        for (index, (address, _)) in [(0, self.bar0), (2, self.bar2)] {
            if self.function.bar_address(index) != address {
                self.function.set_bar(index, address);
            }
        }
        if !self.function.is_enabled() {
            self.function.set_enabled(true);
        }
    }

    /// Moves BAR0 or BAR2, but for the driver's own idea of where they are.
    pub fn move_bar(&mut self, index: usize, address: u64) {
        self.function.set_bar(index, address);
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
