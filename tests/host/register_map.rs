//! Two transcriptions of one specification, that of the hypervisor and that of the model,
//! which share nothing: they have to agree about every register, field and code that both
//! have. What one side writes the other reads, and what a field means is what the model
//! does about it.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

#[expect(dead_code, reason = "the tests of the driver use the rest")]
mod model;

#[path = "register_map/bench.rs"]
mod bench;
#[path = "register_map/capabilities.rs"]
mod capabilities;
#[path = "register_map/codes.rs"]
mod codes;
#[path = "register_map/descriptors.rs"]
mod descriptors;
#[path = "register_map/events.rs"]
mod events;
#[path = "register_map/fields.rs"]
mod fields;
#[path = "register_map/settings.rs"]
mod settings;
