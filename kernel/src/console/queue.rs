//! Text that waits for the serial port.
//!
//! A port takes 11 bytes in a millisecond, so whoever prints puts whole lines here, and
//! [`pump`](super::pump) lets the port have as many bytes as it takes at once. The
//! operator's prompt stands below everything: a line that comes takes it away, and it is
//! shown again when nothing waits any more.

use alloc::collections::VecDeque;
use core::fmt::{self, Write};

/// Takes away what stands on the line and goes to its begin: CR, then EL, "erase to the
/// end of the line". [ECMA-48, 5th edition, 8.3.41 "EL - ERASE IN LINE"]
const TAKE_AWAY: &str = "\r\x1b[K";

/// Bytes on their way to the port.
#[derive(Debug)]
pub(super) struct Queue {
    bytes: VecDeque<u8>,
    /// It never grows beyond.
    capacity: usize,
    /// What was written last is the prompt with what has been typed.
    is_prompt_last: bool,
    /// What was written last does not end a line.
    is_open: bool,
    /// Lines that found no room.
    lost: u64,
}

impl Queue {
    /// An empty one for so many bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::with_capacity(capacity),
            capacity,
            is_prompt_last: false,
            is_open: false,
            lost: 0,
        }
    }

    /// How many bytes there is room for.
    pub(super) fn room(&self) -> usize {
        self.capacity - self.bytes.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds text that ends a line: all of it or, if there is no room, nothing, and the
    /// next one says so.
    pub(super) fn write_line(&mut self, text: fmt::Arguments<'_>) {
        let lost = self.lost;
        let added = self.add(|queue| {
            if queue.is_open {
                queue.write_str("\n")?;
            }
            if lost > 0 {
                writeln!(queue, "[warn] console: lines were lost count={lost}")?;
            }
            queue.write_fmt(text)
        });
        if added {
            self.is_open = false;
            self.lost = 0;
        } else {
            self.lost += 1;
        }
    }

    /// Adds text that may end in the middle of a line, such as what a guest shows on its
    /// console. False if there is no room.
    pub(super) fn write_raw(&mut self, text: &str) -> bool {
        let added = self.add(|queue| queue.write_str(text));
        if added && !text.is_empty() {
            self.is_open = !text.ends_with('\n');
        }
        added
    }

    fn add(&mut self, write: impl FnOnce(&mut Self) -> fmt::Result) -> bool {
        let (before, had_prompt) = (self.bytes.len(), self.is_prompt_last);
        self.is_prompt_last = false;
        let taken_away = match had_prompt {
            true => self.write_str(TAKE_AWAY),
            false => Ok(()),
        };
        let written = taken_away.and_then(|()| write(self));
        if written.is_err() {
            self.bytes.truncate(before);
            self.is_prompt_last = had_prompt;
        }
        written.is_ok()
    }

    /// Shows the prompt, with what has been typed behind it, unless it stands there.
    pub(super) fn show_prompt(&mut self, prompt: &str, typed: &str) {
        if !self.is_prompt_last {
            let before = self.bytes.len();
            let begun = if self.is_open { "\n" } else { "" };
            let written = [begun, prompt, typed]
                .into_iter()
                .try_for_each(|text| self.write_str(text));
            self.is_prompt_last = written.is_ok();
            if written.is_ok() {
                self.is_open = false;
            } else {
                self.bytes.truncate(before);
            }
        }
    }

    /// Shows what was typed, if the prompt stands there.
    pub(super) fn echo(&mut self, text: &str) {
        if self.is_prompt_last {
            // What does not fit shows when the prompt does the next time.
            let _ = self.write_str(text);
        }
    }

    /// What was typed is complete: the line stays, whole, and what follows begins a new
    /// one.
    pub(super) fn end_prompt(&mut self, prompt: &str, typed: &str) {
        self.show_prompt(prompt, typed);
        self.echo("\n");
        self.is_prompt_last = false;
    }

    /// The oldest bytes, as many as lie side by side.
    pub(super) fn front(&self) -> &[u8] {
        self.bytes.as_slices().0
    }

    /// The port has taken so many.
    pub(super) fn consume(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
    }
}

impl Write for Queue {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let needed = if byte == b'\n' { 2 } else { 1 };
            if self.room() < needed {
                return Err(fmt::Error);
            }
            if byte == b'\n' {
                self.bytes.push_back(b'\r');
            }
            self.bytes.push_back(byte);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;

    /// All that waits, and nothing waits any more.
    fn sent(queue: &mut Queue) -> String {
        let mut text = String::new();
        while !queue.is_empty() {
            let front = queue.front();
            text.push_str(core::str::from_utf8(front).unwrap());
            let count = front.len();
            queue.consume(count);
        }
        text
    }

    #[test]
    fn lines_come_out_in_their_order() {
        let mut queue = Queue::new(100);
        queue.write_line(format_args!("one {}\n", 1));
        queue.write_line(format_args!("two\n"));
        assert_eq!(queue.front(), b"one 1\r\ntwo\r\n");
        queue.consume(5);
        queue.write_line(format_args!("three\n"));
        assert_eq!(sent(&mut queue), "\r\ntwo\r\nthree\r\n");
    }

    #[test]
    fn a_line_that_does_not_fit_is_lost_whole_and_counted() {
        let mut queue = Queue::new(60);
        queue.write_line(format_args!("{:<40}\n", "first"));
        queue.write_line(format_args!("{:<40}\n", "second"));
        queue.write_line(format_args!("{:<40}\n", "third"));
        assert_eq!(queue.room(), 18);
        assert_eq!(sent(&mut queue), std::format!("{:<40}\r\n", "first"));
        queue.write_line(format_args!("fourth\n"));
        assert_eq!(
            sent(&mut queue),
            "[warn] console: lines were lost count=2\r\nfourth\r\n"
        );
        queue.write_line(format_args!("fifth\n"));
        assert_eq!(sent(&mut queue), "fifth\r\n");
    }

    #[test]
    fn a_line_takes_the_prompt_away_and_it_comes_back_with_what_was_typed() {
        let mut queue = Queue::new(100);
        queue.show_prompt("weir> ", "");
        queue.show_prompt("weir> ", "");
        queue.echo("v");
        queue.echo("m");
        assert_eq!(sent(&mut queue), "weir> vm");
        queue.write_line(format_args!("[a] hello\n"));
        queue.echo("s");
        assert_eq!(sent(&mut queue), "\r\x1b[K[a] hello\r\n");
        queue.show_prompt("weir> ", "vms");
        queue.end_prompt("weir> ", "vms");
        queue.write_line(format_args!("vm\n"));
        assert_eq!(sent(&mut queue), "weir> vms\r\nvm\r\n");
    }

    #[test]
    fn a_line_that_was_typed_stays_although_another_took_its_prompt_away() {
        let mut queue = Queue::new(100);
        queue.show_prompt("weir> ", "");
        queue.echo("vm");
        queue.write_line(format_args!("[a] hello\n"));
        queue.end_prompt("weir> ", "vms");
        assert_eq!(
            sent(&mut queue),
            "weir> vm\r\x1b[K[a] hello\r\nweir> vms\r\n"
        );
    }

    #[test]
    fn what_does_not_fit_leaves_the_prompt_where_it_is() {
        let mut queue = Queue::new(20);
        queue.show_prompt("weir> ", "stop");
        assert!(!queue.write_raw("more than there is room for"));
        queue.echo(" a");
        assert_eq!(sent(&mut queue), "weir> stop a");
        assert!(queue.write_raw("login: "));
        assert_eq!(sent(&mut queue), "\r\x1b[Klogin: ");
    }

    #[test]
    fn a_line_that_was_left_open_is_ended_first() {
        let mut queue = Queue::new(100);
        queue.write_raw("login: ");
        queue.write_line(format_args!("[info] a\n"));
        queue.write_raw("Password: ");
        queue.show_prompt("weir> ", "");
        queue.write_raw("\n");
        queue.write_line(format_args!("b\n"));
        assert_eq!(
            sent(&mut queue),
            "login: \r\n[info] a\r\nPassword: \r\nweir> \r\x1b[K\r\nb\r\n"
        );
    }

    #[test]
    fn a_full_queue_panics_at_nothing() {
        let mut queue = Queue::new(3);
        queue.show_prompt("weir> ", "");
        queue.echo("x");
        queue.end_prompt("weir> ", "x");
        queue.write_line(format_args!("a\n"));
        queue.write_line(format_args!("b\n"));
        assert_eq!(sent(&mut queue), "a\r\n");
        queue.consume(5);
    }
}
