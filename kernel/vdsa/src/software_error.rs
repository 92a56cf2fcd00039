//! SWERROR: the one error that the device shows in a register.

use hwspec::dsa::{SwError0, SwError1};

/// What SWERROR says about an error. Valid and Overflow are the register's own.
/// [DSA 3.0, 9.2.15 "Software Error Register (SWERROR)"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftwareErrorRecord {
    /// Bytes 7:0.
    pub word0: SwError0,
    /// Bytes 15:8.
    pub word1: SwError1,
    /// Bytes 23:16.
    pub address: u64,
}
