//! A register window with a gap.

use hwio::Registers;
use hwspec::register::Bits;

/// The registers below a range that somebody else owns, and those above it, under
/// their old offsets.
#[derive(Debug)]
pub(super) struct WindowAround<R> {
    low: R,
    high: R,
    /// Where the upper part begins.
    high_start: usize,
}

impl<R: Registers> WindowAround<R> {
    /// `high` begins at offset `high_start` of the whole window.
    ///
    /// # Panics
    /// If that is within the lower part.
    pub(super) fn new(low: R, high: R, high_start: usize) -> Self {
        assert!(
            low.len_bytes() <= high_start,
            "the upper part of a window begins at {high_start:#x}, within the lower"
        );
        Self {
            low,
            high,
            high_start,
        }
    }
}

impl<R: Registers> Registers for WindowAround<R> {
    fn len_bytes(&self) -> usize {
        self.high_start + self.high.len_bytes()
    }

    /// Panics within the gap too.
    fn read_raw<B: Bits>(&self, offset: usize) -> B {
        match offset.checked_sub(self.high_start) {
            Some(offset) => self.high.read_raw(offset),
            None => self.low.read_raw(offset),
        }
    }

    /// Panics within the gap too.
    fn write_raw<B: Bits>(&mut self, offset: usize, value: B) {
        match offset.checked_sub(self.high_start) {
            Some(offset) => self.high.write_raw(offset, value),
            None => self.low.write_raw(offset, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use hwio::fake::{FakeRegisters, Log, NeverCompletes};

    use super::*;

    /// 0x00 to 0x0f and 0x20 to 0x2f.
    fn window() -> WindowAround<FakeRegisters<NeverCompletes>> {
        let part = |at, value| {
            let device = NeverCompletes::new([(at, value)]);
            FakeRegisters::new(device, 16, &Log::new())
        };
        WindowAround::new(part(8, 1), part(4, 2), 0x20)
    }

    #[test]
    fn offsets_are_those_of_the_whole_window() {
        let window = window();
        assert_eq!(window.len_bytes(), 0x30);
        assert_eq!(window.read_raw::<u64>(8), 1);
        assert_eq!(window.read_raw::<u32>(0x24), 2);
    }

    #[test]
    #[should_panic(expected = "access to 0x10")]
    fn there_is_nothing_in_the_gap() {
        window().read_raw::<u32>(0x10);
    }

    #[test]
    #[should_panic(expected = "access to 0x1c")]
    fn there_is_nothing_at_the_end_of_the_gap() {
        window().write_raw(0x1c, 0_u32);
    }
}
