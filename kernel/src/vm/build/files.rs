//! The guest's files, from the bundle into its memory.

use super::{Blueprint, BuildError};
use crate::config::plan::BootPlan;
use crate::loader::bzimage::{self, LinuxPayload};
use crate::loader::{self, GuestRam, Payload};
use crate::virt::backend::Entry;
use crate::virt::registers::Register;

/// Where a guest begins.
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) entry: Entry,
    /// The register that says where the start information is.
    pub(super) told: (Register, u32),
}

/// Puts them there.
///
/// # Errors
/// If one is not in the bundle, or cannot be loaded.
pub(super) fn load(
    ram: &mut impl GuestRam,
    blueprint: &Blueprint<'_>,
) -> Result<Begin, BuildError> {
    let file = |name: &str| blueprint.bundle.file(name).ok_or(BuildError::NoFile);
    match &blueprint.plan.boot {
        BootPlan::Pvh { image, input } => {
            let payload = Payload {
                image: file(image)?,
                module: input.as_deref().map(file).transpose()?,
                command_line: &blueprint.plan.command_line,
                reserved: &[],
            };
            let start = loader::load(ram, &payload);
            let start = start.map_err(|error| BuildError::Load(error.fault))?;
            Ok(Begin {
                entry: Entry::Protected { eip: start.entry },
                told: (Register::RBX, start.start_info),
            })
        }
        BootPlan::Linux { kernel, initrd } => {
            let payload = LinuxPayload {
                kernel: file(kernel)?,
                initrd: initrd.as_deref().map(file).transpose()?,
                command_line: &blueprint.plan.command_line,
                count_vcpus: blueprint.plan.cpus.len(),
            };
            let start = bzimage::load(ram, &payload);
            let start = start.map_err(|error| BuildError::Load(error.fault))?;
            Ok(Begin {
                entry: Entry::Protected { eip: start.entry },
                told: (Register::RSI, start.boot_params),
            })
        }
    }
}
