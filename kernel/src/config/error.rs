//! A mistake in `weir.toml`.

use alloc::string::String;
use core::error::Error;
use core::fmt;

use super::At;
use crate::bundle::CONFIG_NAME;

/// A mistake: one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The line of `weir.toml`, counted from 1.
    pub line: u32,
    /// What is wrong, on what; and what to do.
    pub message: String,
}

impl ConfigError {
    pub(super) fn new(line: u32, message: String) -> Self {
        Self { line, message }
    }
}

impl<T> At<T> {
    /// A mistake on this line.
    pub(super) fn error(&self, message: String) -> ConfigError {
        ConfigError::new(self.line, message)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CONFIG_NAME}:{}: {}", self.line, self.message)
    }
}

impl Error for ConfigError {}
