//! What can go wrong.

use core::error;
use core::fmt;

use hwspec::dsa::{CmdStatus, CommandCode, CommandError, GenCap, ResetType, WqState};

use crate::ims::ImsIndex;
use crate::{Command, PlanError, State};

/// Why something was not done. Nothing was changed unless a variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A register reads as all ones: there is no device, or no longer.
    DeviceGone {
        /// Which register.
        register: RegisterName,
    },
    /// The register window is smaller than the registers at fixed offsets.
    WindowTooSmall {
        /// Its size.
        len_bytes: usize,
    },
    /// A table is outside of the register window, or where other registers are.
    TableOutside {
        /// Which table.
        table: RegisterName,
        /// Where it begins.
        start: usize,
        /// Where it ends.
        end: usize,
        /// The size of the window.
        len_bytes: usize,
    },
    /// A table overlaps with the Interrupt Message Storage.
    TablesOverlap {
        /// Which table.
        table: RegisterName,
        /// Where it begins.
        start: usize,
        /// Where the storage begins.
        ims: usize,
    },
    /// Queues and groups of the device are fixed (GENCAP.31), and nothing says for whom.
    NotConfigurable(GenCap),
    /// The device has no Interrupt Message Storage (GENCAP 30:25), so that completions
    /// could not be told apart by guest.
    NoInterruptStore(GenCap),
    /// The device has no queues, no groups or no engines.
    NothingToConfigure {
        /// How many queues.
        queues: u8,
        /// How many groups.
        groups: u8,
        /// How many engines.
        engines: u8,
    },

    /// A command that someone gave before the device was taken over does not end.
    StaleCommand {
        /// The last of CMDSTATUS.
        status: CmdStatus,
    },
    /// A command does not end. It may do so later, so there can be no other until then.
    Timeout {
        /// Which command.
        command: CommandCode,
        /// The last of CMDSTATUS.
        status: CmdStatus,
    },
    /// A command is active, and there can only be one.
    CommandActive {
        /// The one that is.
        active: CommandCode,
    },
    /// The device does not know the command.
    UnsupportedCommand {
        /// Which command.
        command: CommandCode,
    },
    /// The device refused a command, or could not do it.
    CommandFailed {
        /// Which command.
        command: CommandCode,
        /// The queue that it was about, if it was about one.
        queue: Option<u8>,
        /// Why.
        error: CommandError,
    },
    /// The device is in another state than it has to be for this.
    WrongState {
        /// In which it is.
        state: State,
        /// In which it has to be.
        needed: State,
    },
    /// The device is halted and comes back only with this reset, which is not a command.
    ResetRequired(ResetType),
    /// GENCFG does not keep the bit without which unprivileged queues may not ask for
    /// interrupts.
    NoUserInterrupts {
        /// What it says.
        gencfg: u32,
    },

    /// A plan that the device cannot be configured to.
    Plan(PlanError),
    /// The device has not been configured.
    NoPlan,
    /// The queue is not in the plan.
    QueueNotPlanned {
        /// The queue.
        queue: u8,
    },
    /// The queue is not disabled, and so cannot be enabled.
    QueueNotDisabled {
        /// The queue.
        queue: u8,
        /// In which state it is.
        state: WqState,
    },

    /// There are no more slots.
    OutOfSlots {
        /// How many there are.
        count: usize,
    },
    /// A slot did not keep what was written to its control word.
    SlotNotWritten {
        /// Which slot.
        index: ImsIndex,
        /// What it says.
        control: u32,
        /// What was written.
        written: u32,
    },
    /// A slot has no message yet, and so cannot be unmasked.
    NoMessage(ImsIndex),
    /// The address is not one of interrupt messages, and the device would not take it.
    MessageAddress {
        /// The address.
        address: u64,
    },
}

/// The registers and tables that errors are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterName {
    /// Version Register.
    Version,
    /// General Capabilities Register.
    GenCap,
    /// General Status Register.
    GenSts,
    /// Interrupt Cause Register.
    IntCause,
    /// Command Status Register.
    CmdStatus,
    /// Software Error Register.
    SwError,
    /// Group Configuration Table.
    GrpCfg,
    /// WQ Configuration Table.
    WqCfg,
    /// Interrupt Message Storage.
    Ims,
}

impl fmt::Display for RegisterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "VERSION",
            Self::GenCap => "GENCAP",
            Self::GenSts => "GENSTS",
            Self::IntCause => "INTCAUSE",
            Self::CmdStatus => "CMDSTATUS",
            Self::SwError => "SWERROR",
            Self::GrpCfg => "GRPCFG",
            Self::WqCfg => "WQCFG",
            Self::Ims => "IMS",
        })
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl Error {
    /// That a command failed.
    pub(crate) fn of_command(command: Command, error: CommandError) -> Self {
        Self::CommandFailed {
            command: command.code(),
            queue: command.queue(),
            error,
        }
    }
}

/// What an operator can do about a command that failed.
fn advice(error: CommandError) -> &'static str {
    match error {
        CommandError::HARDWARE | CommandError::HALTED => "reset the device",
        CommandError::NO_BUS_MASTER => "set Bus Master Enable in its PCI command register",
        CommandError::PAGE_REQUEST_ALLOCATION => "switch page requests off",
        CommandError::ATS => "switch ATS off",
        CommandError::PASID | CommandError::WQ_PASID_ENABLE => {
            "set PASID Enable in its PASID capability"
        }
        CommandError::WQ_PRIVILEGE => "set Privileged Mode Enable in its PASID capability",
        CommandError::NO_INTERRUPT_HANDLE => "give guests fewer vectors",
        CommandError::DEVICE_NOT_ENABLED | CommandError::WQ_DEVICE_NOT_ENABLED => {
            "configure the device first"
        }
        CommandError::WQ_NOT_ENABLED => "enable the queue first",
        CommandError::WQ_NOT_DISABLED => "disable the queue first",
        CommandError::UNSUPPORTED => "this device is older than the command",
        _ => "the driver and the device disagree, which is a defect of one of them",
    }
}

/// What a reset is called, and how one is had.
fn reset_advice(reset: ResetType) -> &'static str {
    match reset {
        ResetType::ResetDevice => "the Reset Device command: recover it",
        ResetType::FunctionLevel => {
            "a function-level reset: initiate one in its PCIe capability, then recover it"
        }
        ResetType::Warm => "a warm reset: reboot the machine",
        ResetType::Cold => "a cold reset: switch the machine off and on",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DeviceGone { register } => write!(
                f,
                "the DSA is gone: {register} reads as ones; look for a power or link failure"
            ),
            Self::WindowTooSmall { len_bytes } => write!(
                f,
                "the DSA has only {len_bytes:#x} bytes of registers; check what BAR0 is mapped"
            ),
            Self::TableOutside {
                table,
                start,
                end,
                len_bytes,
            } => write!(
                f,
                "the DSA's {table} from {start:#x} to {end:#x} is not in the {len_bytes:#x} \
                 bytes of its window; check what BAR0 is mapped"
            ),
            Self::TablesOverlap { table, start, ims } => write!(
                f,
                "the DSA's {table} at {start:#x} overlaps with its IMS at {ims:#x}; it cannot \
                 be used"
            ),
            Self::NotConfigurable(gencap) => write!(
                f,
                "the DSA cannot be configured (GENCAP {:#018x}); use one that is not virtual",
                gencap.into_bits()
            ),
            Self::NoInterruptStore(gencap) => write!(
                f,
                "the DSA has no IMS (GENCAP {:#018x}); use one that is not virtual",
                gencap.into_bits()
            ),
            Self::NothingToConfigure {
                queues,
                groups,
                engines,
            } => write!(
                f,
                "the DSA has {queues} queues, {groups} groups, {engines} engines; it cannot be \
                 used"
            ),
            Self::StaleCommand { status } => write!(
                f,
                "a command from before does not end: CMDSTATUS is {:#010x}; give the DSA a \
                 function-level reset",
                status.into_bits()
            ),
            Self::Timeout { command, status } => write!(
                f,
                "command {command} of the DSA does not end: CMDSTATUS is {:#010x}; give it a \
                 function-level reset if it never does",
                status.into_bits()
            ),
            Self::CommandActive { active } => write!(
                f,
                "the DSA is busy with command {active}; poll it until it is done"
            ),
            Self::UnsupportedCommand { command } => {
                write!(f, "the DSA does not know command {command}; do without it")
            }
            Self::CommandFailed {
                command,
                queue,
                error,
            } => {
                write!(f, "command {command} of the DSA failed")?;
                if let Some(queue) = queue {
                    write!(f, " for queue {queue}")?;
                }
                write!(f, ": {error}; {}", advice(error))
            }
            Self::WrongState { state, needed } => {
                write!(f, "the DSA is {state} and has to be {needed}; recover it")
            }
            Self::ResetRequired(reset) => {
                write!(f, "the DSA is halted and needs {}", reset_advice(reset))
            }
            Self::NoUserInterrupts { gencfg } => write!(
                f,
                "the DSA does not let unprivileged queues interrupt: GENCFG stays {gencfg:#010x}; \
                 it cannot be used"
            ),
            Self::Plan(error) => write!(f, "the DSA cannot be divided like this: {error}"),
            Self::NoPlan => f.write_str("the DSA is not configured; configure it first"),
            Self::QueueNotPlanned { queue } => {
                write!(f, "queue {queue} of the DSA is not in the plan; plan it")
            }
            Self::QueueNotDisabled { queue, state } => {
                let state = match state {
                    WqState::ENABLED => "enabled",
                    WqState::DRAINING => "draining",
                    _ => "in an undefined state",
                };
                write!(f, "queue {queue} of the DSA is {state}; disable it first")
            }
            Self::OutOfSlots { count } => write!(
                f,
                "all {count} IMS slots are in use; give guests fewer vectors"
            ),
            Self::SlotNotWritten {
                index,
                control,
                written,
            } => write!(
                f,
                "{index} holds {control:#010x} and not {written:#010x}, as written; the device \
                 is not to be trusted"
            ),
            Self::NoMessage(index) => {
                write!(f, "{index} has no message; set one before it is unmasked")
            }
            Self::MessageAddress { address } => write!(
                f,
                "{address:#x} is no address of interrupt messages; use one in 0xfee00000 to \
                 0xfeefffff"
            ),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Plan(error) => Some(error),
            _ => None,
        }
    }
}
