//! The accelerator's driver against its model.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

mod model;

#[path = "dsa/bring_up.rs"]
mod bring_up;
#[path = "dsa/commands.rs"]
mod commands;
#[path = "dsa/errors.rs"]
mod errors;
#[path = "dsa/handles.rs"]
mod handles;
#[path = "dsa/lab.rs"]
mod lab;
#[path = "dsa/queues.rs"]
mod queues;
#[path = "dsa/recovery.rs"]
mod recovery;
#[path = "dsa/slots.rs"]
mod slots;
