//! One line of input, as it is typed.
//!
//! What stands on the screen is what will be obeyed: a line that is too long is refused
//! whole, and keys that send control sequences do nothing, but for the two that bring
//! earlier lines back. [ECMA-48, 5th edition, 5.4 "Control sequences"]

use core::mem;

use arrayvec::{ArrayString, ArrayVec};

/// The longest line.
pub const MAX_LINE: usize = 79;
/// How many earlier lines are remembered.
const REMEMBERED: usize = 8;

const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;
const ESCAPE: u8 = 0x1b;
/// Ctrl-C and Ctrl-U: begin the line anew.
const INTERRUPT: u8 = 0x03;
const KILL: u8 = 0x15;

/// A line.
pub type TypedLine = ArrayString<MAX_LINE>;

/// Where in a control sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sequence {
    /// In none.
    #[default]
    None,
    /// Behind ESC.
    Escape,
    /// Behind ESC [, of which there is something in between or not.
    Control { is_empty: bool },
    /// Behind ESC O: a terminal in application mode sends cursor keys so.
    Single,
}

/// A line that is being typed.
#[derive(Clone, Debug, Default)]
pub struct LineEditor {
    line: TypedLine,
    /// More was typed than there is room for.
    is_too_long: bool,
    /// The last byte ended a line with CR: an LF behind it belongs to that.
    had_return: bool,
    sequence: Sequence,
    /// Earlier lines, the newest first.
    earlier: ArrayVec<TypedLine, REMEMBERED>,
    /// How many of them lie between what is shown and the line that is new; 0: it is that.
    back: usize,
}

/// What a typed byte did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Nothing that shows.
    Nothing,
    /// Show this character.
    Echo(char),
    /// Take back so many characters that are shown.
    Erase(usize),
    /// Take back so many characters, and show [`LineEditor::line`].
    Replace(usize),
    /// The line is complete.
    Line(TypedLine),
    /// The line is complete, as far as it had room, and is not to be obeyed.
    TooLong(TypedLine),
}

impl LineEditor {
    /// Takes a byte.
    pub fn push(&mut self, byte: u8) -> Typed {
        let had_return = mem::replace(&mut self.had_return, byte == b'\r');
        if self.sequence != Sequence::None {
            return self.go_on_sequence(byte);
        }
        match byte {
            ESCAPE => {
                self.sequence = Sequence::Escape;
                Typed::Nothing
            }
            b'\n' if had_return => Typed::Nothing,
            b'\r' | b'\n' => self.end(),
            BACKSPACE | DELETE => {
                self.is_too_long = false;
                match self.line.pop() {
                    Some(_) => Typed::Erase(1),
                    None => Typed::Nothing,
                }
            }
            KILL | INTERRUPT => {
                let count = self.line.len();
                self.begin();
                Typed::Erase(count)
            }
            b' '..=b'~' => {
                let character = char::from(byte);
                match self.line.try_push(character) {
                    Ok(()) => Typed::Echo(character),
                    Err(_) => {
                        self.is_too_long = true;
                        Typed::Nothing
                    }
                }
            }
            _ => Typed::Nothing,
        }
    }

    /// What has been typed so far.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Begins a new line, and returns the old one.
    fn begin(&mut self) -> TypedLine {
        self.back = 0;
        self.is_too_long = false;
        mem::take(&mut self.line)
    }

    fn end(&mut self) -> Typed {
        let is_too_long = self.is_too_long;
        let line = self.begin();
        if is_too_long {
            return Typed::TooLong(line);
        }
        let is_new = self.earlier.first() != Some(&line);
        if !line.trim().is_empty() && is_new {
            self.earlier.truncate(REMEMBERED - 1);
            self.earlier.insert(0, line);
        }
        Typed::Line(line)
    }

    fn go_on_sequence(&mut self, byte: u8) -> Typed {
        let sequence = mem::take(&mut self.sequence);
        self.sequence = match (sequence, byte) {
            (_, ESCAPE) => Sequence::Escape,
            (Sequence::Escape, b'[') => Sequence::Control { is_empty: true },
            (Sequence::Escape, b'O') => Sequence::Single,
            (Sequence::Control { .. }, 0x20..=0x3f) => Sequence::Control { is_empty: false },
            // The final byte, or what is none.
            _ => Sequence::None,
        };
        match (sequence, byte) {
            (Sequence::Control { is_empty: true } | Sequence::Single, b'A') => {
                self.show_earlier(self.back + 1)
            }
            (Sequence::Control { is_empty: true } | Sequence::Single, b'B') => {
                match self.back.checked_sub(1) {
                    Some(back) => self.show_earlier(back),
                    None => Typed::Nothing,
                }
            }
            _ => Typed::Nothing,
        }
    }

    /// Shows the line of so many lines before; 0: an empty one.
    fn show_earlier(&mut self, back: usize) -> Typed {
        let line = match back.checked_sub(1) {
            Some(place) => self.earlier.get(place).copied(),
            None => Some(TypedLine::new()),
        };
        let Some(line) = line else {
            return Typed::Nothing;
        };
        let count = self.line.len();
        self.begin();
        self.line = line;
        self.back = back;
        Typed::Replace(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_all(editor: &mut LineEditor, bytes: &[u8]) -> std::vec::Vec<Typed> {
        bytes.iter().map(|&byte| editor.push(byte)).collect()
    }

    #[test]
    fn lines_are_edited_as_they_are_typed() {
        let mut editor = LineEditor::default();
        let typed = type_all(&mut editor, b"vmx\x7fs");
        assert_eq!(typed[3], Typed::Erase(1));
        assert_eq!(editor.line(), "vms");
        let typed = type_all(&mut editor, b"\r\nwhy");
        let Typed::Line(line) = &typed[0] else {
            panic!("{typed:?}");
        };
        assert_eq!(line.as_str(), "vms");
        assert_eq!(typed[1], Typed::Nothing);
        assert_eq!(editor.push(KILL), Typed::Erase(3));
        assert_eq!(editor.push(BACKSPACE), Typed::Nothing);
    }

    #[test]
    fn what_cannot_be_typed_is_dropped() {
        let mut editor = LineEditor::default();
        for byte in 0..=u8::MAX {
            let ends = matches!(byte, b'\r' | b'\n' | KILL | INTERRUPT | BACKSPACE | DELETE);
            if !ends && byte != ESCAPE {
                let typed = editor.push(byte);
                assert!(matches!(typed, Typed::Nothing | Typed::Echo(_)));
            }
        }
        assert_eq!(editor.line().len(), MAX_LINE);
        assert_eq!(editor.push(b'x'), Typed::Nothing);
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_unless_it_is_made_shorter() {
        let mut editor = LineEditor::default();
        type_all(&mut editor, &[b'x'; MAX_LINE + 1]);
        assert!(matches!(editor.push(b'\r'), Typed::TooLong(line) if line.len() == MAX_LINE));
        assert!(matches!(editor.push(b'\r'), Typed::Line(line) if line.is_empty()));
        type_all(&mut editor, &[b'x'; MAX_LINE + 1]);
        editor.push(DELETE);
        assert!(matches!(editor.push(b'\r'), Typed::Line(line) if line.len() == MAX_LINE - 1));
        type_all(&mut editor, &[b'x'; MAX_LINE + 1]);
        assert_eq!(editor.push(INTERRUPT), Typed::Erase(MAX_LINE));
        assert!(matches!(editor.push(b'\r'), Typed::Line(line) if line.is_empty()));
    }

    #[test]
    fn keys_that_send_control_sequences_do_nothing() {
        let mut editor = LineEditor::default();
        // Right, delete, F5, F1, Alt-x, and an escape that begins another one.
        type_all(
            &mut editor,
            b"v\x1b[Cm\x1b[3~s\x1b[15~\x1bOP\x1bx\x1b\x1b[1;5A!",
        );
        assert_eq!(editor.line(), "vms!");
    }

    #[test]
    fn earlier_lines_come_back() {
        let mut editor = LineEditor::default();
        assert_eq!(type_all(&mut editor, b"\x1b[A")[2], Typed::Nothing);
        type_all(&mut editor, b"vms\rwhy\rwhy\r \rx");
        assert_eq!(type_all(&mut editor, b"\x1b[A")[2], Typed::Replace(1));
        assert_eq!(editor.line(), "why");
        assert_eq!(type_all(&mut editor, b"\x1bOA")[2], Typed::Replace(3));
        assert_eq!(editor.line(), "vms");
        assert_eq!(type_all(&mut editor, b"\x1b[A")[2], Typed::Nothing);
        assert_eq!(type_all(&mut editor, b"\x1b[B")[2], Typed::Replace(3));
        assert_eq!(editor.line(), "why");
        type_all(&mut editor, b"\x1b[B");
        assert_eq!(editor.line(), "");
        assert_eq!(type_all(&mut editor, b"\x1b[B")[2], Typed::Nothing);
        for number in b'0'..=b'9' {
            type_all(&mut editor, &[number, b'\r']);
        }
        for _ in 0..20 {
            type_all(&mut editor, b"\x1b[A");
        }
        assert_eq!(editor.line(), "2");
    }
}
