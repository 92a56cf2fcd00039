//! The bytes of an instruction.

/// No instruction is longer.
pub const MAX_INSTRUCTION: usize = 15;

/// The bytes of an instruction: fifteen, or as many as there are before something
/// that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstructionBytes {
    bytes: [u8; 16],
    length: usize,
}

impl InstructionBytes {
    /// Fifteen bytes: the lower ones of `words`.
    #[inline]
    pub(crate) fn from_words([low, high]: [u64; 2]) -> Self {
        let word = u128::from(high) << 64 | u128::from(low);
        Self {
            bytes: word.to_le_bytes(),
            length: MAX_INSTRUCTION,
        }
    }

    /// The first fifteen bytes of `bytes`, or all.
    pub fn from_slice(bytes: &[u8]) -> Self {
        let mut found = [0; 16];
        let length = bytes.len().min(MAX_INSTRUCTION);
        for (place, &byte) in found.iter_mut().zip(bytes).take(length) {
            *place = byte;
        }
        Self {
            bytes: found,
            length,
        }
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The bytes as a number, the first one lowest. What is behind them is not
    /// to be looked at.
    #[inline]
    pub(super) fn word(&self) -> u128 {
        u128::from_le_bytes(self.bytes)
    }

    /// The first eight of them likewise.
    #[inline]
    pub(super) fn low_half(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// How many there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.length
    }
}
