//! The groups of checks, and what they have in common.

mod arena;
mod instructions;
mod interrupts;
mod iommu;
mod machine;
mod nested;
mod portals;

use crate::boot::BootInfo;
use crate::report::Report;

/// Runs the group that the command line names.
pub(crate) fn run(boot: &BootInfo, report: &mut Report) {
    match boot.option("group") {
        Some("instructions") => instructions::run(boot, report),
        Some("nested") => nested::run(boot, report),
        Some("portals") => portals::run(boot, report),
        Some("iommu") => iommu::run(boot, report),
        Some("interrupts") => interrupts::run(boot, report),
        group => panic!("no such group of checks: {group:?}"),
    }
}
