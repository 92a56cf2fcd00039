//! What a [`Service`](super::service::Service) drives: one DSA, and the way of its
//! interrupts.

use dsa::ims::{Entry, ImsIndex, Message};
use dsa::{Command, InterruptHandle, Plan, Poll, QueuePasid, SoftwareError, State};
use hwspec::dsa::IntCause;

use super::routes::GuestTarget;

/// Why a line was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    /// Somebody is using the IOMMU; later.
    Busy,
    /// No vector or no remapping entry is left.
    NoneLeft,
    /// The IOMMU failed.
    Failed,
}

/// What a service drives. Nothing here waits but what says so.
pub(super) trait Hardware {
    /// An IMS entry.
    type Entry: Entry;
    /// The way of an interrupt from the device to a target: a remapping entry, and
    /// a vector of a processor.
    type Line;

    /// As [`dsa::Device::start`], or with an interrupt at the end.
    fn start(&mut self, command: Command, with_interrupt: bool) -> Result<(), dsa::Error>;
    /// As [`dsa::Device::poll`].
    fn poll(&mut self) -> Result<Poll, dsa::Error>;
    /// Whether handles are asked for by command.
    fn has_handle_commands(&self) -> bool;
    /// As [`dsa::Device::take_causes`].
    fn take_causes(&mut self) -> Result<IntCause, dsa::Error>;
    /// As [`dsa::Device::take_software_error`].
    fn take_software_error(&mut self) -> Result<Option<SoftwareError>, dsa::Error>;
    /// As [`dsa::Device::state`].
    fn state(&self) -> Result<State, dsa::Error>;
    /// As [`dsa::Device::configure`]. Waits.
    fn configure(&mut self, plan: &Plan) -> Result<(), dsa::Error>;
    /// As [`dsa::Device::enable_queue`]. Waits.
    fn enable_queue(&mut self, queue: u8, pasid: QueuePasid) -> Result<(), dsa::Error>;
    /// As [`dsa::Device::queue_pasid`].
    fn queue_pasid(&self, queue: u8) -> Option<QueuePasid>;
    /// As [`dsa::Device::restart`]. Waits.
    fn restart(&mut self) -> Result<(), dsa::Error>;
    /// As [`dsa::Device::resume`]. Waits.
    fn resume(&mut self) -> Result<(), dsa::Error>;
    /// As [`dsa::Device::request_handle`]. Waits.
    fn request_handle(&mut self, index: ImsIndex) -> Result<InterruptHandle, dsa::Error>;

    /// Opens a line to a processor.
    fn open_line(&mut self, cpu: usize, target: GuestTarget) -> Result<Self::Line, OpenError>;
    /// What the device sends to a line.
    fn message(line: &Self::Line) -> Message;
    /// The processor that a line leads to.
    fn line_cpu(line: &Self::Line) -> usize;
    /// The vector of that processor.
    fn line_vector(line: &Self::Line) -> u8;
    /// Says what interrupts of a line are about; nothing: they are dropped.
    fn set_line_target(&mut self, line: &Self::Line, target: Option<GuestTarget>);
    /// Closes a line, when nothing sends to it any more. Waits. The line comes back
    /// if the IOMMU is in use or did not confirm.
    fn close_line(&mut self, line: Self::Line) -> Result<(), Self::Line>;
}
