//! SWERROR: the one error that the device shows in a register.

use hwspec::dsa::{Status, SwError0, SwError1};

use crate::access::{WordWrite, high_half, low_half};

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

impl SoftwareErrorRecord {
    /// An error that no descriptor and no queue has to do with.
    pub const fn of_device(error: Status) -> Self {
        Self {
            word0: SwError0::new().with_error_code(error),
            word1: SwError1::new(),
            address: 0,
        }
    }
}

/// The register.
#[derive(Debug, Default)]
pub(crate) struct SoftwareError {
    record: SoftwareErrorRecord,
}

impl SoftwareError {
    /// Keeps the first error until software clears Valid; of later ones it keeps that
    /// they were. Returns whether this was the first.
    pub(crate) fn record(&mut self, record: SoftwareErrorRecord) -> bool {
        if self.record.word0.valid() {
            self.set_overflow();
            return false;
        }
        let overflow = self.record.word0.overflow();
        self.record = record;
        // Error Information Valid came with version 2.
        self.record.word0.set_error_information_valid(false);
        self.record.word0.set_overflow(overflow);
        self.record.word0.set_valid(true);
        true
    }

    /// Errors were lost.
    pub(crate) fn set_overflow(&mut self) {
        self.record.word0.set_overflow(true);
    }

    /// Word `word` of 8.
    pub(crate) fn read(&self, word: u32) -> u32 {
        match word {
            0 => low_half(self.record.word0.into_bits()),
            1 => high_half(self.record.word0.into_bits()),
            2 => low_half(self.record.word1.into_bits()),
            3 => high_half(self.record.word1.into_bits()),
            4 => low_half(self.record.address),
            5 => high_half(self.record.address),
            _ => 0,
        }
    }

    /// Writes word 0: ones clear Valid and Overflow.
    pub(crate) fn write(&mut self, write: WordWrite) {
        let cleared = SwError0::from_bits(write.ones().into());
        let word0 = &mut self.record.word0;
        word0.set_valid(word0.valid() && !cleared.valid());
        word0.set_overflow(word0.overflow() && !cleared.overflow());
    }
}
