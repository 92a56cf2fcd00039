//! What a guest says of itself by hypercalls.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::platform::hypercall::{self, Key};

/// The last value that a guest gave for each key.
#[derive(Debug, Default)]
pub struct Results {
    values: [AtomicU64; hypercall::COUNT],
    /// Bit n: key n was given.
    given: AtomicU64,
}

impl Results {
    /// Keeps a value.
    pub fn set(&self, key: Key, value: u64) {
        if let Some(place) = self.values.get(key as usize) {
            place.store(value, Ordering::Relaxed);
            self.given.fetch_or(1 << key as u32, Ordering::Release);
        }
    }

    /// The values of all keys, by their numbers.
    pub fn all(&self) -> [Option<u64>; hypercall::COUNT] {
        let given = self.given.load(Ordering::Acquire);
        core::array::from_fn(|index| {
            let value = self.values.get(index)?.load(Ordering::Relaxed);
            (given >> index & 1 == 1).then_some(value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_by_key() {
        let results = Results::default();
        assert_eq!(results.all(), [None; hypercall::COUNT]);
        results.set(Key::Crc32c, 0x1234_5678);
        results.set(Key::Crc32c, 5);
        results.set(Key::BenchEnd, 6);
        let mut expected = [None; hypercall::COUNT];
        // As docs/guest-interface.md numbers them.
        expected[1] = Some(5);
        expected[11] = Some(6);
        assert_eq!(results.all(), expected);
    }
}
