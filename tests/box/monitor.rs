//! The operator's side: what is typed at the monitor of a running box, and what it answers.
#![forbid(unsafe_code)]
#![expect(clippy::indexing_slicing, reason = "a missing field is a failed test")]

#[path = "monitor/commands.rs"]
mod commands;
#[path = "monitor/hang.rs"]
mod hang;
#[path = "monitor/operator.rs"]
mod operator;
#[path = "monitor/pieces.rs"]
mod pieces;

use std::time::Duration;

/// More than a busy machine takes.
const LIMIT: Duration = Duration::from_secs(300);
