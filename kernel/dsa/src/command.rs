//! What a device can be told to do while it runs.

use core::fmt;

use hwspec::dsa::{Cmd, CommandCode, CommandError};
use hwspec::pci::Pasid;

use crate::ims::ImsIndex;

/// With what PASID and privilege a work queue runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePasid {
    /// The PASID of every access of a dedicated queue. On a shared queue it counts for
    /// nothing: each descriptor brings its own.
    pub pasid: Pasid,
    /// Whether a dedicated queue's accesses are privileged, which the PASID capability
    /// must allow.
    pub privileged: bool,
}

impl QueuePasid {
    /// An unprivileged queue.
    pub const fn unprivileged(pasid: Pasid) -> Self {
        Self {
            pasid,
            privileged: false,
        }
    }
}

/// What a descriptor says to have an interrupt. Where the device has no commands for
/// handles it equals the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterruptHandle(pub u16);

impl fmt::Display for InterruptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupt handle {:#x}", self.0)
    }
}

/// A command. What changes the device as a whole is not among them: see
/// [`Device`](crate::Device).
/// [DSA 3.0, 9.2.12 "Command Register (CMD)", Table 9-5]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Configures a queue as the plan says and with this PASID, then enables it.
    EnableQueue {
        /// The queue.
        queue: u8,
        /// Its PASID.
        pasid: QueuePasid,
    },
    /// Waits until a queue's descriptors are done, and disables it.
    DisableQueue(u8),
    /// Waits until a queue's descriptors are done. It accepts none meanwhile.
    DrainQueue(u8),
    /// Ends a queue's descriptors or abandons them.
    AbortQueue(u8),
    /// Abandons a queue's descriptors and disables it.
    ResetQueue(u8),
    /// Waits until the descriptors accepted so far are done, of all queues.
    DrainAll,
    /// Ends or abandons the descriptors of all queues.
    AbortAll,
    /// Waits until the descriptors of a PASID are done, in all queues.
    DrainPasid(Pasid),
    /// Ends or abandons the descriptors of a PASID, in all queues.
    AbortPasid(Pasid),
    /// Asks for the handle of an IMS entry. The result is an [`InterruptHandle`].
    RequestHandle(ImsIndex),
    /// Gives a handle back. Descriptors that name it fail from then on.
    ReleaseHandle(InterruptHandle),
}

impl Command {
    /// Its code.
    pub const fn code(self) -> CommandCode {
        match self {
            Self::EnableQueue { .. } => CommandCode::ENABLE_WQ,
            Self::DisableQueue(_) => CommandCode::DISABLE_WQ,
            Self::DrainQueue(_) => CommandCode::DRAIN_WQ,
            Self::AbortQueue(_) => CommandCode::ABORT_WQ,
            Self::ResetQueue(_) => CommandCode::RESET_WQ,
            Self::DrainAll => CommandCode::DRAIN_ALL,
            Self::AbortAll => CommandCode::ABORT_ALL,
            Self::DrainPasid(_) => CommandCode::DRAIN_PASID,
            Self::AbortPasid(_) => CommandCode::ABORT_PASID,
            Self::RequestHandle(_) => CommandCode::REQUEST_INTERRUPT_HANDLE,
            Self::ReleaseHandle(_) => CommandCode::RELEASE_INTERRUPT_HANDLE,
        }
    }

    /// The queue that it is about, if it is about one.
    pub const fn queue(self) -> Option<u8> {
        match self {
            Self::EnableQueue { queue, .. }
            | Self::DisableQueue(queue)
            | Self::DrainQueue(queue)
            | Self::AbortQueue(queue)
            | Self::ResetQueue(queue) => Some(queue),
            _ => None,
        }
    }

    /// CMD.
    pub(crate) const fn register(self) -> Cmd {
        let operand = match self {
            Self::EnableQueue { queue, .. } => queue as u32,
            Self::DisableQueue(queue)
            | Self::DrainQueue(queue)
            | Self::AbortQueue(queue)
            | Self::ResetQueue(queue) => Cmd::wq_operand(queue),
            Self::DrainAll | Self::AbortAll => 0,
            Self::DrainPasid(pasid) | Self::AbortPasid(pasid) => pasid.value(),
            Self::RequestHandle(index) => Cmd::ims_operand(index.0),
            Self::ReleaseHandle(handle) => Cmd::ims_operand(handle.0),
        };
        Cmd::new().with_code(self.code()).with_operand(operand)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EnableQueue { queue, pasid } => {
                write!(f, "enable queue {queue} with PASID {}", pasid.pasid)
            }
            Self::DisableQueue(queue) => write!(f, "disable queue {queue}"),
            Self::DrainQueue(queue) => write!(f, "drain queue {queue}"),
            Self::AbortQueue(queue) => write!(f, "abort queue {queue}"),
            Self::ResetQueue(queue) => write!(f, "reset queue {queue}"),
            Self::DrainAll => write!(f, "drain all queues"),
            Self::AbortAll => write!(f, "abort all queues"),
            Self::DrainPasid(pasid) => write!(f, "drain PASID {pasid}"),
            Self::AbortPasid(pasid) => write!(f, "abort PASID {pasid}"),
            Self::RequestHandle(index) => write!(f, "request the handle of {index}"),
            Self::ReleaseHandle(handle) => write!(f, "release {handle}"),
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which command.
    pub command: Command,
    /// Whether it succeeded, and if not, why.
    pub error: CommandError,
    /// Its result: the handle that was asked for.
    pub result: u16,
}

/// What became of the command that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// None was started since the last one ended.
    Idle,
    /// The device is at it.
    Active,
    /// It is done.
    Done(Outcome),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [DSA 3.0, 9.2.12 "Command Register (CMD)"]: code in 24:20, operand in 19:0.
    #[test]
    fn commands_have_the_bits_of_the_specification() {
        let pasid = Pasid::new(0xa_bcde).unwrap();
        let bits = |command: Command| command.register().into_bits();
        let enable = Command::EnableQueue {
            queue: 0x12,
            pasid: QueuePasid::unprivileged(pasid),
        };
        assert_eq!(bits(enable), 0x0060_0012);
        assert_eq!(bits(Command::DisableQueue(3)), 0x0070_0008);
        assert_eq!(bits(Command::DrainQueue(0x12)), 0x0081_0004);
        assert_eq!(bits(Command::AbortQueue(0)), 0x0090_0001);
        assert_eq!(bits(Command::ResetQueue(15)), 0x00a0_8000);
        assert_eq!(bits(Command::DrainAll), 0x0030_0000);
        assert_eq!(bits(Command::AbortAll), 0x0040_0000);
        assert_eq!(bits(Command::DrainPasid(pasid)), 0x00ba_bcde);
        assert_eq!(bits(Command::AbortPasid(pasid)), 0x00ca_bcde);
        assert_eq!(bits(Command::RequestHandle(ImsIndex(0x123))), 0x00d1_0123);
        assert_eq!(
            bits(Command::ReleaseHandle(InterruptHandle(0x4001))),
            0x00e1_4001
        );
    }

    #[test]
    fn a_command_says_what_it_is_about() {
        let text = |command: Command| std::format!("{command}");
        assert_eq!(text(Command::DrainQueue(3)), "drain queue 3");
        assert_eq!(
            text(Command::RequestHandle(ImsIndex(7))),
            "request the handle of IMS index 7"
        );
        assert_eq!(Command::DrainQueue(3).queue(), Some(3));
        assert_eq!(Command::DrainAll.queue(), None);
    }
}
