//! Numbers that look random and repeat.

/// A generator: xorshift64* [Vigna, "An experimental exploration of Marsaglia's
/// xorshift generators, scrambled", 2016].
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence number `seed`.
    pub const fn new(seed: u64) -> Self {
        // The state must not be 0.
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, or 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next_u64() >> 8).checked_rem(limit).unwrap_or(0)
    }

    /// As [`below`](Self::below), for places in memory.
    pub fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_repeats_and_keeps_its_limit() {
        let (mut one, mut other) = (Random::new(3), Random::new(3));
        let numbers: [u64; 8] = core::array::from_fn(|_| one.next_u64());
        assert_eq!(numbers, core::array::from_fn(|_| other.next_u64()));
        assert_ne!(numbers[0], Random::new(4).next_u64());
        assert!((0..1000).all(|_| one.below(7) < 7));
        assert_eq!(one.below(0), 0);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            seen[one.index(7)] = true;
        }
        assert_eq!(seen, [true; 7]);
    }
}
