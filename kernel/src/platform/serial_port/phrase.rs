//! Words that are looked for in what a guest writes.

/// A text that is waited for, byte by byte.
#[derive(Clone, Copy, Debug)]
pub struct Phrase {
    text: &'static [u8],
    /// How many of its bytes have come, one after the other.
    seen: usize,
}

impl Phrase {
    /// Waits for `text`, whose first byte is nowhere else in it: where it fails to go on,
    /// it can only begin anew.
    ///
    /// # Panics
    /// If it is there once more.
    pub const fn new(text: &'static str) -> Self {
        let text = text.as_bytes();
        if let [first, rest @ ..] = text {
            let mut left = rest;
            while let [byte, others @ ..] = left {
                assert!(*byte != *first, "the first byte comes only once");
                left = others;
            }
        }
        Self { text, seen: 0 }
    }

    /// Whether the text ends with this byte.
    pub fn ends_with(&mut self, byte: u8) -> bool {
        if self.text.get(self.seen) != Some(&byte) {
            self.seen = 0;
        }
        if self.text.get(self.seen) == Some(&byte) {
            self.seen += 1;
        }
        let has_ended = self.seen == self.text.len();
        if has_ended {
            self.seen = 0;
        }
        has_ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &'static str, written: &str) -> usize {
        let mut phrase = Phrase::new(text);
        written.bytes().filter(|&b| phrase.ends_with(b)).count()
    }

    #[test]
    fn a_phrase_is_found_wherever_it_begins() {
        let panic = "Kernel panic";
        assert_eq!(
            count(panic, "[    1.23] Kernel panic - not syncing: VFS"),
            1
        );
        assert_eq!(count(panic, "KKernel KernelKernel panic"), 1);
        assert_eq!(count(panic, "Kernel panicKernel panic"), 2);
        assert_eq!(count(panic, "Kernel  panic, kernel panic, Kernel pani"), 0);
        assert_eq!(count(panic, ""), 0);
    }
}
