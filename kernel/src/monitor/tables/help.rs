//! The commands.

use super::{Next, put};
use crate::monitor::command::HELP;
use crate::monitor::text::Line;

#[derive(Debug, Default)]
pub(super) struct Help {
    next: usize,
}

impl Help {
    pub(super) fn next(&mut self, line: &mut Line) -> Next {
        let Some((name, argument, what)) = HELP.get(self.next) else {
            return Next::End;
        };
        self.next += 1;
        put!(line, "{name:<8}{argument:<6}{what}")
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
        assert_eq!(help.next(&mut line), Next::End);
    }
}
