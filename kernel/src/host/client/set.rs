//! Some of a client's vectors or PASIDs, or of a device's queues.

use super::MAX_VECTORS;

/// Some of a client's vectors or PASIDs, or of a device's queues: a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// All vectors that a client can have.
    pub const ALL_VECTORS: Self = Self((1 << MAX_VECTORS) - 1);

    /// Just `number`; none if it is 64 or more.
    pub const fn just(number: u8) -> Self {
        if number < 64 {
            Self(1 << number)
        } else {
            Self::EMPTY
        }
    }

    /// Whether `number` is in it.
    pub const fn contains(self, number: u8) -> bool {
        number < 64 && self.0 >> number & 1 == 1
    }

    /// These and those of `other`.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of these are in `other`.
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest number, if there is one, taken out.
    pub(in crate::host) fn take_first(&mut self) -> Option<u8> {
        let first = u8::try_from(self.0.trailing_zeros()).ok()?;
        if self.is_empty() {
            return None;
        }
        self.0 &= self.0 - 1;
        Some(first)
    }
}

impl FromIterator<u8> for Set {
    fn from_iter<I: IntoIterator<Item = u8>>(numbers: I) -> Self {
        let numbers = numbers.into_iter().map(Self::just);
        numbers.fold(Self::EMPTY, Self::union)
    }
}
