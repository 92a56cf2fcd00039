//! Why a DSA cannot be used.

use core::fmt;

use hwspec::dsa::{CommandCode, CommandError};

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
