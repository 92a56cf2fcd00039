//! Guests: made, run, looked after, and taken apart.
//!
//! A [`guest`](guest::Guest) is what its virtual processors share.
//! [`schedule`] gives each of those its turns on its processor, and [`exits`] does
//! what a guest was left for. A completion interrupt finds its way to the guest by
//! [`shared`] alone. [`build`] is the only place where a guest gets anything of the
//! machine, and gives it back; [`hypervisor`] decides when.
#![forbid(unsafe_code)]

pub mod account;
pub mod bench;
pub mod build;
pub mod counters;
mod exits;
pub mod guest;
mod held;
pub mod hypervisor;
pub mod milestones;
pub mod results;
pub mod schedule;
pub mod shared;
pub mod start;
pub mod summary;
pub mod vdsa_unit;
pub mod virtual_cpu;
