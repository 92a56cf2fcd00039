//! One line of input, as it is typed.

use arrayvec::ArrayString;

/// The longest line.
pub const MAX_LINE: usize = 79;

const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;
/// Ctrl-U: begins the line anew.
const KILL: u8 = 0x15;

/// A line that is being typed.
#[derive(Clone, Debug, Default)]
pub struct LineEditor {
    line: ArrayString<MAX_LINE>,
    /// The last byte ended a line with CR: an LF behind it belongs to that.
    had_return: bool,
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
    /// The line is complete.
    Line(ArrayString<MAX_LINE>),
}

impl LineEditor {
    /// Takes a byte.
    pub fn push(&mut self, byte: u8) -> Typed {
        let had_return = core::mem::replace(&mut self.had_return, byte == b'\r');
        match byte {
            b'\n' if had_return => Typed::Nothing,
            b'\r' | b'\n' => Typed::Line(core::mem::take(&mut self.line)),
            BACKSPACE | DELETE => match self.line.pop() {
                Some(_) => Typed::Erase(1),
                None => Typed::Nothing,
            },
            KILL => {
                let count = self.line.len();
                self.line.clear();
                Typed::Erase(count)
            }
            b' '..=b'~' => {
                let character = char::from(byte);
                match self.line.try_push(character) {
                    Ok(()) => Typed::Echo(character),
                    Err(_) => Typed::Nothing,
                }
            }
            _ => Typed::Nothing,
        }
    }

    /// What has been typed so far.
    pub fn line(&self) -> &str {
        &self.line
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
            if !matches!(byte, b'\r' | b'\n' | KILL | BACKSPACE | DELETE) {
                let typed = editor.push(byte);
                assert!(matches!(typed, Typed::Nothing | Typed::Echo(_)));
            }
        }
        assert_eq!(editor.line().len(), MAX_LINE);
        assert_eq!(editor.push(b'x'), Typed::Nothing);
    }
}
