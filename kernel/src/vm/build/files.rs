//! The guest's files, from the bundle into its memory.

use super::{Blueprint, BuildError};
use crate::arch::clock;
use crate::config::plan::BootPlan;
use crate::loader::bzimage::{self, LinuxPayload};
use crate::loader::{self, Payload};
use crate::virt::backend::Entry;
use crate::virt::memory::GuestMemory;
use crate::virt::registers::Register;

/// Where a guest begins.
pub(super) struct Begin {
    pub(super) entry: Entry,
    /// The register that says where the start information is.
    pub(super) told: (Register, u32),
}

/// Puts them there.
///
/// # Errors
/// If one is not in the bundle, or cannot be loaded.
pub(super) fn load(memory: &GuestMemory, blueprint: &Blueprint<'_>) -> Result<Begin, BuildError> {
    let file = |name: &str| blueprint.bundle.file(name).ok_or(BuildError::NoFile);
    match &blueprint.plan.boot {
        BootPlan::Pvh { image, input } => {
            let payload = Payload {
                image: file(image)?,
                module: input.as_deref().map(file).transpose()?,
                command_line: &blueprint.plan.command_line,
                reserved: &[],
            };
            let mut ram = memory;
            let start = clock::fill(|| loader::load(&mut ram, &payload));
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
            let mut ram = memory;
            let start = bzimage::load(&mut ram, &payload);
            let start = start.map_err(|error| BuildError::Load(error.fault))?;
            Ok(Begin {
                entry: Entry::Protected { eip: start.entry },
                told: (Register::RSI, start.boot_params),
            })
        }
    }
}
