//! An Intel Data Streaming Accelerator. [Intel Data Streaming Accelerator
//! Architecture Specification, Rev. 3.0, order number 341204-006US]
//!
//! [`Dsa`] holds the registers, [`descriptor`] what is submitted and what comes
//! back, [`portal`] the ways in, [`messages`] the two tables of interrupt
//! messages.

pub(crate) mod descriptor;
pub(crate) mod messages;
pub(crate) mod portal;

use bitfield_struct::bitfield;

use crate::cpu;
use crate::memory::Window;
use crate::pci::{Function, SourceId};
use messages::{MessageTable, Messages};
use portal::{Portal, PortalKind};

const VENDOR: u16 = 0x8086;
/// The ids of the function on Sapphire Rapids and on later parts.
const DEVICES: &[u16] = &[0x0b25, 0x11fb, 0x1212];

const CAPABILITY_MSI_X: u8 = 0x11;
const EXTENDED_CAPABILITY_ATS: u16 = 0x0f;
const EXTENDED_CAPABILITY_PASID: u16 = 0x1b;
/// Offset of the control register in both.
const CONTROL: u64 = 6;
const ATS_ENABLE: u16 = 1 << 15;
const PASID_ENABLE: u16 = 1 << 0;

// Byte offsets into BAR 0. [DSA 3.0, 9.2 "MMIO registers"]
const GENCAP: u64 = 0x10;
const WQCAP: u64 = 0x20;
const OFFSETS: u64 = 0x60;
const GENCFG: u64 = 0x80;
const GENCTRL: u64 = 0x88;
const INTCAUSE: u64 = 0x98;
const CMD: u64 = 0xa0;
const CMDSTATUS: u64 = 0xa8;
const CMDCAP: u64 = 0xb0;
const SWERROR: u64 = 0xc0;

/// OFFSETS is in units of this many bytes.
const OFFSET_UNIT: u64 = 0x100;

/// GENCFG bit 12: descriptors of users may ask for interrupts.
const USER_INTERRUPTS: u32 = 1 << 12;
/// GENCTRL bit 0: errors interrupt.
const ERROR_INTERRUPT: u32 = 1 << 0;
/// INTCAUSE bit 0: an error was recorded in SWERROR.
pub(crate) const CAUSE_ERROR: u32 = 1 << 0;
/// INTCAUSE bit 1: a command has completed.
pub(crate) const CAUSE_COMMAND: u32 = 1 << 1;
/// CMD bit 31: interrupt on completion.
const REQUEST_INTERRUPT: u32 = 1 << 31;
/// CMDSTATUS bit 31: a command is being executed.
const ACTIVE: u32 = 1 << 31;

/// Commands, in CMD 24:20.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    EnableDevice = 1,
    DrainAll = 3,
    ResetDevice = 5,
    EnableWorkQueue = 6,
    RequestInterruptHandle = 13,
}

/// How one work queue is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkQueue {
    pub(crate) size: u16,
    /// What the limited portals leave to others.
    pub(crate) threshold: u16,
    pub(crate) dedicated: bool,
    /// Dedicated queues submit in the name of this PASID, or without one;
    /// shared ones in that of each descriptor.
    pub(crate) pasid: Option<u32>,
}

impl WorkQueue {
    /// A dedicated queue of 8 entries.
    pub(crate) const fn dedicated(pasid: Option<u32>) -> Self {
        Self {
            size: 8,
            threshold: 0,
            dedicated: true,
            pasid,
        }
    }

    /// A shared queue of 8 entries.
    pub(crate) const fn shared(threshold: u16) -> Self {
        Self {
            size: 8,
            threshold,
            dedicated: false,
            pasid: None,
        }
    }
}

/// Dword 2 of a WQCFG entry. [DSA 3.0, 9.2, "WQCFG"]
#[bitfield(u32)]
struct QueueMode {
    dedicated: bool,
    block_on_fault: bool,
    ats_disable: bool,
    prs_disable: bool,
    #[bits(4)]
    priority: u8,
    #[bits(20)]
    pasid: u32,
    pasid_enable: bool,
    privileged: bool,
    #[bits(2)]
    _reserved_31_30: u8,
}

const _: () = assert!(
    QueueMode::PRIORITY_OFFSET == 4
        && QueueMode::PASID_OFFSET == 8
        && QueueMode::PASID_ENABLE_OFFSET == 28
);

/// SWERROR, the first recorded error. [DSA 3.0, 9.2, "SWERROR"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SoftwareError {
    pub(crate) code: u8,
    pub(crate) queue: u8,
    pub(crate) operation: u8,
    pub(crate) pasid: u32,
}

/// Its first quadword.
#[bitfield(u64)]
struct ErrorStatus {
    valid: bool,
    overflow: bool,
    descriptor_valid: bool,
    queue_valid: bool,
    batch: bool,
    write: bool,
    privileged: bool,
    information_valid: bool,
    code: u8,
    queue: u8,
    #[bits(8)]
    _reserved_31_24: u8,
    operation: u8,
    #[bits(20)]
    pasid: u32,
    #[bits(4)]
    _reserved_63_60: u8,
}

const _: () = assert!(ErrorStatus::CODE_OFFSET == 8 && ErrorStatus::PASID_OFFSET == 40);

/// The accelerator.
#[derive(Debug)]
pub(crate) struct Dsa {
    function: Function,
    registers: Window,
    portals: Window,
}

impl Dsa {
    /// Takes over the first accelerator on bus 0 and resets it, with requests
    /// that carry PASIDs enabled, and the translation service if so wanted.
    pub(crate) fn new(configuration_space: u64, ats: bool) -> Self {
        let function =
            Function::find(configuration_space, VENDOR, DEVICES).expect("there is no DSA on bus 0");
        function.disable();
        let dsa = Self {
            registers: function.bar(0),
            portals: function.bar(2),
            function,
        };
        for (id, enable) in [
            (EXTENDED_CAPABILITY_PASID, PASID_ENABLE),
            (EXTENDED_CAPABILITY_ATS, if ats { ATS_ENABLE } else { 0 }),
        ] {
            let capability = dsa.function.extended_capability(id);
            let capability =
                capability.unwrap_or_else(|| panic!("the DSA lacks capability {id:#x}"));
            dsa.function.write_u16(capability + CONTROL, enable);
        }
        dsa.function.enable();
        dsa.must(Command::ResetDevice, 0);
        dsa
    }

    /// The id of the function's requests.
    pub(crate) fn source_id(&self) -> SourceId {
        self.function.source_id()
    }

    /// How many work queues there are. WQCAP 23:16.
    pub(crate) fn queues(&self) -> u64 {
        self.registers.read_u64(WQCAP) >> 16 & 0xff
    }

    /// How many slots the Interrupt Message Store has. GENCAP 30:25.
    pub(crate) fn message_slots(&self) -> u64 {
        (self.registers.read_u64(GENCAP) >> 25 & 0x3f) * 256
    }

    /// How descriptors name entry `index` of `table`: by that number, unless
    /// the device hands out handles for it.
    pub(crate) fn interrupt_handle(&self, table: MessageTable, index: u16) -> u16 {
        /// GENCAP bit 4: CMDCAP says which commands there are.
        const COMMAND_CAPABILITIES: u64 = 1 << 4;
        const REQUEST: Command = Command::RequestInterruptHandle;
        if self.registers.read_u64(GENCAP) & COMMAND_CAPABILITIES == 0
            || self.registers.read_u64(CMDCAP) & 1 << REQUEST as u32 == 0
        {
            return index;
        }
        let table = match table {
            MessageTable::MsiX => 0,
            MessageTable::Store => 1 << 16,
        };
        self.must(REQUEST, table | u32::from(index));
        // CMDSTATUS 23:8 is the result.
        let [_, low, high, _] = self.registers.read_u32(CMDSTATUS).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Runs a command to its end and returns the error code, 0 for success.
    pub(crate) fn command(&self, command: Command, operand: u32) -> u8 {
        self.start_command(command, operand, 0)
    }

    /// The same, asking for an interrupt.
    pub(crate) fn command_with_interrupt(&self, command: Command, operand: u32) -> u8 {
        self.start_command(command, operand, REQUEST_INTERRUPT)
    }

    fn start_command(&self, command: Command, operand: u32, flags: u32) -> u8 {
        let value = flags | (command as u32) << 20 | operand;
        self.registers.write_u32(CMD, value);
        let done = cpu::wait_until(|| self.registers.read_u32(CMDSTATUS) & ACTIVE == 0);
        assert!(done, "the DSA does not finish {command:?}");
        let [code, ..] = self.registers.read_u32(CMDSTATUS).to_le_bytes();
        code
    }

    fn must(&self, command: Command, operand: u32) {
        let code = self.command(command, operand);
        assert_eq!(code, 0, "the DSA refuses {command:?} {operand:#x}");
    }

    /// Puts `queues` and one engine into group 0 and enables them all.
    pub(crate) fn start(&self, queues: &[WorkQueue]) {
        for (index, queue) in (0..).zip(queues) {
            self.configure(index, queue);
        }
        let [groups, ..] = self.tables();
        let bitmap = (1 << queues.len()) - 1;
        self.registers.write_u64(groups, bitmap);
        self.registers.write_u64(groups + 0x20, 1);
        let configuration = self.registers.read_u32(GENCFG);
        self.registers
            .write_u32(GENCFG, configuration | USER_INTERRUPTS);
        self.must(Command::EnableDevice, 0);
        for (index, _) in (0..).zip(queues) {
            self.must(Command::EnableWorkQueue, index);
        }
    }

    /// Writes the WQCFG entry of queue `index`.
    fn configure(&self, index: u64, queue: &WorkQueue) {
        /// Transfers of up to 2^21 bytes, batches of up to 2^4 descriptors.
        const LIMITS: u32 = 21 | 4 << 5;
        let [_, table, ..] = self.tables();
        // WQCAP 27:24: the size of an entry is 2^(N + 5) bytes.
        let size = 32 << (self.registers.read_u64(WQCAP) >> 24 & 0xf);
        let entry = table + index * size;
        let mode = QueueMode::new()
            .with_dedicated(queue.dedicated)
            .with_priority(1)
            .with_pasid(queue.pasid.unwrap_or(0))
            .with_pasid_enable(!queue.dedicated || queue.pasid.is_some());
        for (offset, dword) in [
            (0, u32::from(queue.size)),
            (4, u32::from(queue.threshold)),
            (8, mode.into_bits()),
            (12, LIMITS),
        ] {
            self.registers.write_u32(entry + offset, dword);
        }
    }

    /// Offsets of GRPCFG, WQCFG, MSIXPERM and IMS in BAR 0.
    fn tables(&self) -> [u64; 4] {
        let offsets = self.registers.read_u64(OFFSETS);
        [0, 16, 32, 48].map(|shift| (offsets >> shift & 0xffff) * OFFSET_UNIT)
    }

    /// A portal of queue `index`.
    pub(crate) fn portal(&self, index: u64, kind: PortalKind) -> Portal {
        const QUEUE_STRIDE: u64 = 0x4000;
        Portal::new(&self.portals, index * QUEUE_STRIDE + kind.offset())
    }

    /// The page of BAR 0 that looks like a portal and leads nowhere.
    pub(crate) fn dummy_portal(&self) -> Portal {
        const DUMMY: u64 = 0xf000;
        Portal::new(&self.registers, DUMMY)
    }

    /// One of the two tables of interrupt messages.
    pub(crate) fn messages(&self, table: MessageTable) -> Messages<'_> {
        let [_, _, permissions, store] = self.tables();
        match table {
            MessageTable::Store => Messages::store(&self.registers, store),
            MessageTable::MsiX => {
                let capability = self
                    .function
                    .capability(CAPABILITY_MSI_X)
                    .expect("the DSA has no MSI-X capability");
                // Both tables are in BAR 0 (BIR, bits 2:0).
                let table = self.function.read_u32(capability + 4) & !7;
                let pending = self.function.read_u32(capability + 8) & !7;
                Messages::msi_x(
                    &self.registers,
                    u64::from(table),
                    u64::from(pending),
                    permissions,
                )
            }
        }
    }

    /// Turns the MSI-X table on, with or without the mask for all of it.
    pub(crate) fn enable_msi_x(&self, masked: bool) {
        const CONTROL: u64 = 2;
        const ENABLE: u16 = 1 << 15;
        const FUNCTION_MASK: u16 = 1 << 14;
        let capability = self
            .function
            .capability(CAPABILITY_MSI_X)
            .expect("the DSA has no MSI-X capability");
        let mask = if masked { FUNCTION_MASK } else { 0 };
        self.function.write_u16(capability + CONTROL, ENABLE | mask);
        // The other bits are read only.
        let control = self.function.read_u16(capability + CONTROL);
        assert!(control & ENABLE != 0, "MSI-X stays off");
    }

    /// INTCAUSE, which this clears.
    pub(crate) fn take_interrupt_causes(&self) -> u32 {
        let causes = self.registers.read_u32(INTCAUSE);
        self.registers.write_u32(INTCAUSE, causes);
        causes
    }

    /// Lets errors raise MSI-X entry 0.
    pub(crate) fn enable_error_interrupt(&self) {
        self.registers.write_u32(GENCTRL, ERROR_INTERRUPT);
    }

    /// The physical address and the present value of GENCTRL, a register that
    /// any software may write at any time.
    pub(crate) fn general_control(&self) -> (u64, u32) {
        let address = self.registers.base() + GENCTRL;
        (address, self.registers.read_u32(GENCTRL))
    }

    /// The recorded error, which this clears.
    pub(crate) fn take_error(&self) -> Option<SoftwareError> {
        const CLEAR: u64 = 3;
        let status = ErrorStatus::from_bits(self.registers.read_u64(SWERROR));
        self.registers.write_u64(SWERROR, CLEAR);
        status.valid().then(|| SoftwareError {
            code: status.code(),
            queue: status.queue(),
            operation: status.operation(),
            pasid: status.pasid(),
        })
    }
}
