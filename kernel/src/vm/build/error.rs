//! Why a guest could not be made.

use core::fmt;

use vdsa::ShapeError;

use crate::host::client::Failure;
use crate::host::error::HostError;
use crate::loader::Fault;
use crate::mm::OutOfMemory;
use crate::vm::shared;

/// Why a guest could not be made.
#[derive(Clone, Debug)]
pub enum BuildError {
    /// A file that the configuration names is not in the bundle.
    NoFile,
    /// Its image cannot be loaded.
    Load(Fault),
    /// Not so much memory is free.
    OutOfMemory(OutOfMemory),
    /// The machine's side failed.
    Host(HostError),
    /// The accelerator could not be shaped as the configuration says.
    Shape(ShapeError),
    /// A physical queue has no portal for this processor.
    NoPortal(u8),
    /// There is no slot, entry or vector left for an interrupt of its own.
    NoInterrupt,
    /// The device refused something, or did not answer in time.
    Device(Option<Failure>),
    /// This accelerator does not work any more.
    DeviceLost(u8),
    /// There are as many guests as there can be.
    TooMany,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str("a file that it needs is not in the boot bundle; add it"),
            Self::Load(fault) => fault.fmt(f),
            Self::OutOfMemory(error) => write!(f, "{error}; give it less memory"),
            Self::Host(error) => error.fmt(f),
            Self::Shape(error) => error.fmt(f),
            Self::NoPortal(queue) => {
                write!(
                    f,
                    "work queue {queue} has no portal that this processor can use"
                )
            }
            Self::NoInterrupt => f.write_str(
                "no IMS slot, remapping entry or interrupt vector is left; \
                 stop another guest or use fewer queues",
            ),
            Self::Device(Some(failure)) => write!(f, "the accelerator failed: {failure:?}"),
            Self::Device(None) => f.write_str("the accelerator did not answer in time; reset it"),
            Self::DeviceLost(number) => write!(
                f,
                "its accelerator dsa{number} does not work any more; restart the machine to use \
                 it again"
            ),
            Self::TooMany => write!(
                f,
                "there are {} guests already; stop one",
                shared::MAX_GUESTS
            ),
        }
    }
}

impl core::error::Error for BuildError {}

impl From<OutOfMemory> for BuildError {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

impl From<HostError> for BuildError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<ShapeError> for BuildError {
    fn from(error: ShapeError) -> Self {
        Self::Shape(error)
    }
}
