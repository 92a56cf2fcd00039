//! The last lines of a guest's console, kept when the guest is gone.

use super::output::{Line, MAX_LINE, Output, OutputReader};

/// How many lines are kept: what Linux writes from its panic on, with a short call trace.
pub const KEPT_LINES: usize = 20;

/// The last lines that a guest wrote. They have their place in the value itself, so that
/// keeping them takes no memory.
#[derive(Clone, Copy)]
pub struct LastLines {
    lines: [[u8; MAX_LINE]; KEPT_LINES],
    lengths: [usize; KEPT_LINES],
    /// How many there ever were.
    count: usize,
}

impl LastLines {
    /// None.
    pub const fn none() -> Self {
        Self {
            lines: [[0; MAX_LINE]; KEPT_LINES],
            lengths: [0; KEPT_LINES],
            count: 0,
        }
    }

    /// Those of `output`, the last one even if it was not finished.
    pub fn of(output: &Output) -> Self {
        let mut last = Self::none();
        let mut reader = OutputReader::new();
        while let Some(line) = reader.next_line(output) {
            last.add(&line);
        }
        if let Some(rest) = reader.take_rest() {
            last.add(&rest);
        }
        last
    }

    fn add(&mut self, line: &Line) {
        let at = self.count % KEPT_LINES;
        let (place, length) = (self.lines.get_mut(at), self.lengths.get_mut(at));
        let bytes = line.as_bytes();
        if let (Some(place), Some(length)) = (place, length)
            && let Some(place) = place.get_mut(..bytes.len())
        {
            place.copy_from_slice(bytes);
            *length = bytes.len();
            self.count += 1;
        }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The lines, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Line> {
        let first = self.count.saturating_sub(KEPT_LINES);
        (first..self.count).filter_map(|number| {
            let at = number % KEPT_LINES;
            let bytes = self.lines.get(at)?.get(..*self.lengths.get(at)?)?;
            Some(Line::from_bytes(bytes))
        })
    }
}

impl core::fmt::Debug for LastLines {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LastLines")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;

    fn lines(written: &str) -> Vec<String> {
        let output = Output::new();
        written.bytes().for_each(|byte| output.push(byte));
        let last = LastLines::of(&output);
        assert_eq!(last.is_empty(), last.iter().next().is_none());
        last.iter().map(|line| line.to_string()).collect()
    }

    #[test]
    fn the_last_twenty_are_kept_and_what_was_not_finished() {
        assert_eq!(lines(""), [""; 0]);
        assert_eq!(lines("one\r\ntwo\x1b"), ["one", "two."]);
        let many: String = (0..20)
            .map(|number| std::format!("line {number}\n"))
            .collect();
        let kept = lines(&(many + "rest"));
        assert_eq!(kept.len(), 20);
        assert_eq!((kept[0].as_str(), kept[19].as_str()), ("line 1", "rest"));
    }

    #[test]
    fn a_long_line_comes_in_parts_and_what_was_overwritten_is_gone() {
        let long = "x".repeat(MAX_LINE + 5);
        assert_eq!(lines(&long), ["x".repeat(MAX_LINE), "xxxxx".to_string()]);
        // More than there is room for.
        let flood: String = (0..120)
            .map(|number| std::format!("{number:>190}\n"))
            .collect();
        assert_eq!(lines(&flood).last().unwrap().trim(), "119");
    }
}
