//! The IOMMU's driver against remapping hardware in software.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

#[path = "vtd/bring_up.rs"]
mod bring_up;
#[path = "vtd/broken.rs"]
mod broken;
#[path = "vtd/errors.rs"]
mod errors;
#[path = "vtd/faults.rs"]
mod faults;
#[path = "vtd/hardware.rs"]
mod hardware;
#[path = "vtd/interrupts.rs"]
mod interrupts;
#[path = "vtd/lab.rs"]
mod lab;
#[path = "vtd/random.rs"]
mod random;
#[path = "vtd/take_over.rs"]
mod take_over;
#[path = "vtd/translation.rs"]
mod translation;
