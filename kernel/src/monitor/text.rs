//! Text as the operator sees it: a line, and quantities with their units.

use core::fmt::{self, Write};

use arrayvec::ArrayString;

/// The longest line; what is beyond is left out.
const MAX_LINE: usize = 240;

/// A line that is being put together.
#[derive(Clone, Debug, Default)]
pub struct Line(ArrayString<MAX_LINE>);

impl Line {
    /// What it says.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.try_push(character).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Shows `what` as wide as `f` asks for.
fn padded(f: &mut fmt::Formatter<'_>, what: fmt::Arguments<'_>) -> fmt::Result {
    let mut text = ArrayString::<40>::new();
    // What is too long is cut.
    let _ = text.write_fmt(what);
    f.pad(&text)
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        for (shift, unit) in UNITS {
            let whole = self.0 >> shift;
            if whole == 0 {
                continue;
            }
            // In tenths, rounded down.
            let tenths = (((self.0 >> (shift - 10)) & 0x3ff) * 10) >> 10;
            return match tenths {
                0 => padded(f, format_args!("{whole} {unit}")),
                _ => padded(f, format_args!("{whole}.{tenths} {unit}")),
            };
        }
        padded(f, format_args!("{} B", self.0))
    }
}

/// A time in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nanoseconds(pub u64);

impl fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us")];
        for (in_ns, unit) in UNITS {
            let whole = self.0 / in_ns;
            if whole > 0 {
                let rest = self.0 % in_ns * 1000 / in_ns;
                return padded(f, format_args!("{whole}.{rest:03} {unit}"));
            }
        }
        padded(f, format_args!("{} ns", self.0))
    }
}

/// What stands in a place of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<T> {
    /// This.
    Shows(T),
    /// There is no such thing.
    Nothing,
    /// It could not be looked at, for somebody uses it.
    Busy,
}

impl<T> Cell<T> {
    /// `value`, or nothing.
    pub fn of(value: Option<T>) -> Self {
        value.map_or(Self::Nothing, Self::Shows)
    }

    /// A part of what it shows.
    pub fn map<U>(self, part: impl FnOnce(T) -> U) -> Cell<U> {
        match self {
            Self::Shows(value) => Cell::Shows(part(value)),
            Self::Nothing => Cell::Nothing,
            Self::Busy => Cell::Busy,
        }
    }
}

impl<T: fmt::Display> fmt::Display for Cell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shows(value) => padded(f, format_args!("{value}")),
            Self::Nothing => f.pad("-"),
            Self::Busy => f.pad("busy"),
        }
    }
}

/// Numbers with commas between them.
#[derive(Clone, Copy, Debug)]
pub struct List<I>(pub I);

impl<I: Iterator<Item = T> + Clone, T: fmt::Display> fmt::Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = ArrayString::<40>::new();
        for (place, item) in self.0.clone().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            // What is too long is cut.
            let _ = write!(text, "{comma}{item}");
        }
        f.pad(if text.is_empty() { "-" } else { &text })
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn bytes_have_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (172 << 10, "172 KiB"),
            (32 << 20, "32 MiB"),
            (3_489_660_928, "3.2 GiB"),
            (2 << 30, "2 GiB"),
            (5 << 40, "5 TiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(format!("{}", Bytes(bytes)), text);
        }
        assert_eq!(format!("[{:>8}]", Bytes(32 << 20)), "[  32 MiB]");
    }

    #[test]
    fn times_have_three_digits_behind_the_point() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.000 us"),
            (12_345, "12.345 us"),
            (1_999_999, "1.999 ms"),
            (83_040_000_000, "83.040 s"),
        ] {
            assert_eq!(format!("{}", Nanoseconds(ns)), text);
        }
    }

    #[test]
    fn cells_and_lists_keep_their_width() {
        assert_eq!(format!("[{:>5}]", Cell::Shows(12)), "[   12]");
        assert_eq!(format!("[{:>5}]", Cell::<u8>::Nothing), "[    -]");
        assert_eq!(format!("[{:<5}]", Cell::<u8>::Busy), "[busy ]");
        assert_eq!(format!("[{:<6}]", List([0, 1, 3].iter())), "[0,1,3 ]");
        assert_eq!(format!("[{:<2}]", List([0_u8; 0].iter())), "[- ]");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        let mut line = Line::default();
        for _ in 0..100 {
            write!(line, "ä{}", 12).unwrap();
        }
        assert_eq!(line.as_str().len(), 240);
        line.clear();
        assert_eq!(line.as_str(), "");
    }
}
