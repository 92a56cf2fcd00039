//! The commands.

use super::{Next, put};
use crate::monitor::command::HELP;
use crate::monitor::text::Line;

const KEYS: &str =
    "Up brings back an earlier line, Ctrl-U begins it anew, Ctrl-C ends a long answer";

#[derive(Debug, Default)]
pub(super) struct Help {
    next: usize,
}

impl Help {
    pub(super) fn next(&mut self, line: &mut Line) -> Next {
        let number = self.next;
        self.next += 1;
        match (HELP.get(number), number.checked_sub(HELP.len())) {
            (Some((name, argument, what)), _) => put!(line, "{name:<8}{argument:<6}{what}"),
            (None, Some(0)) => put!(line, "{KEYS}"),
            _ => Next::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_its_line() {
        let (mut help, mut line) = (Help::default(), Line::default());
        assert_eq!(help.next(&mut line), Next::Line);
        assert_eq!(line.as_str(), "help          lists the commands");
        for _ in 1..HELP.len() {
            assert_eq!(help.next(&mut line), Next::Line);
        }
        line.clear();
        assert_eq!(help.next(&mut line), Next::Line);
        assert_eq!(line.as_str(), KEYS);
        assert_eq!(help.next(&mut line), Next::End);
    }
}
