//! What a guest may do to the operator's terminal.
//!
//! Text goes through, and the few control functions that a shell's line editing needs.
//! Anything else could change the terminal, let it type, or show what is not so.
//! [ECMA-48, 5th edition, 5.4 "Control sequences"]

use arrayvec::ArrayString;

const ESCAPE: u8 = 0x1b;
/// A control sequence: ESC [ parameters final. The longest that is let through.
const MAX_SEQUENCE: usize = 12;

/// Lets text through.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// The begin of a control sequence, ESC included.
    sequence: ArrayString<MAX_SEQUENCE>,
    /// The sequence is too long, or not one that is let through: its rest is dropped.
    is_dropped: bool,
}

/// What a byte shows.
pub type Shown = ArrayString<MAX_SEQUENCE>;

impl Screen {
    /// Takes a byte, and gives what is to be shown.
    pub fn push(&mut self, byte: u8) -> Shown {
        let mut shown = Shown::new();
        if !self.sequence.is_empty() || self.is_dropped {
            self.go_on(byte, &mut shown);
            return shown;
        }
        match byte {
            ESCAPE => self.sequence.push(char::from(ESCAPE)),
            b'\n' | b'\r' | b'\t' | 0x07 | 0x08 | b' '..=b'~' => shown.push(char::from(byte)),
            _ => shown.push('.'),
        }
        shown
    }

    fn go_on(&mut self, byte: u8, shown: &mut Shown) {
        let is_begun = self.sequence.len() > 1 || self.is_dropped;
        let is_parameter = matches!(byte, b'0'..=b'9' | b';');
        let goes_on = match byte {
            b'[' if !is_begun => true,
            0x20..=0x3f => is_begun,
            _ => false,
        };
        let is_kept = !self.is_dropped && (is_parameter || (byte == b'[' && !is_begun));
        if goes_on {
            if !is_kept || self.sequence.try_push(char::from(byte)).is_err() {
                self.sequence.clear();
                self.is_dropped = true;
            }
            return;
        }
        // The final byte, or what is none: cursor movements, erasing, colours.
        let is_let_through = is_begun && matches!(byte, b'A'..=b'D' | b'G' | b'J' | b'K' | b'm');
        if is_let_through && !self.is_dropped && self.sequence.try_push(char::from(byte)).is_ok() {
            *shown = self.sequence;
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;

    fn shown(bytes: &[u8]) -> String {
        let mut screen = Screen::default();
        let mut text = String::new();
        for &byte in bytes {
            text.push_str(&screen.push(byte));
        }
        text
    }

    #[test]
    fn text_and_line_editing_go_through() {
        assert_eq!(shown(b"~ # ls\r\n\tx\x08\x07"), "~ # ls\r\n\tx\x08\x07");
        assert_eq!(shown(b"a\x1b[Jb\x1b[1;31mc"), "a\x1b[Jb\x1b[1;31mc");
        assert_eq!(shown(b"\x1b[12D\x1b[K"), "\x1b[12D\x1b[K");
    }

    #[test]
    fn what_could_change_the_terminal_does_not() {
        // A question to which the terminal would type the answer.
        assert_eq!(shown(b"a\x1b[6nb"), "ab");
        // A title, a private mode, another character set, a reset, CSI in one byte.
        assert_eq!(shown(b"\x1b]0;x\x07y"), "0;x\x07y");
        assert_eq!(shown(b"\x1b[?1049hz"), "z");
        assert_eq!(shown(b"\x1b(0q"), "0q");
        assert_eq!(shown(b"\x1bcq"), "q");
        assert_eq!(shown(b"\x9b2J"), ".2J");
        assert_eq!(shown(b"\x00\x0e\x7f\xff"), "....");
    }

    #[test]
    fn a_sequence_without_end_is_dropped_and_ends() {
        let mut bytes = std::vec::Vec::from(*b"\x1b[");
        bytes.extend([b'1'; 100]);
        bytes.extend(*b"mok");
        assert_eq!(shown(&bytes), "ok");
        assert_eq!(shown(b"\x1b\x1b[Kx"), "[Kx");
    }
}
