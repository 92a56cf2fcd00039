//! The guests' consoles on the operator's.
//!
//! What a guest writes is printed line by line, its name before it. The operator may sit
//! down at one: then what that guest writes is shown as it comes, what is typed goes to
//! it, and the others' lines wait. What a guest has written is kept until it is printed,
//! if the guest itself is gone by then.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use arrayvec::ArrayString;

use super::screen::Screen;
use crate::platform::serial_port::{Line, Output, OutputReader};

/// Lines of one guest that are printed in a tick.
const LINES: usize = 4;
/// Bytes of the guest at whose console the operator sits that are shown in a tick.
const BYTES: usize = 128;

/// Where text goes.
pub trait Printer {
    /// Whether there is room for more.
    fn has_room(&self) -> bool;
    /// Prints a line.
    fn line(&mut self, text: fmt::Arguments<'_>);
    /// Shows text that may end in the middle of a line.
    fn raw(&mut self, text: &str);
}

/// The console of one guest.
#[derive(Debug, Default)]
struct Console {
    output: Option<Arc<Output>>,
    reader: OutputReader,
    /// What the reader had lost when that was said last.
    lost: u64,
}

/// All of them.
#[derive(Debug)]
pub struct Consoles {
    consoles: Vec<Console>,
    /// Who was the first to find no room, and so is the first of the next tick.
    denied: Option<usize>,
    /// At whose the operator sits.
    attached: Option<usize>,
    screen: Screen,
}

impl Console {
    /// Prints some lines of what the guest `name` writes to `now`, or to what it had
    /// before. False if there is more.
    fn print(&mut self, name: &str, now: Option<&Arc<Output>>, to: &mut impl Printer) -> bool {
        for _ in 0..LINES {
            if !to.has_room() {
                return false;
            }
            let line = self.next_line();
            self.tell_lost(name, to);
            match line {
                Some(line) => to.line(format_args!("[{name}] {line}")),
                None => return self.turn_to(name, now, to),
            }
        }
        false
    }

    fn next_line(&mut self) -> Option<Line> {
        self.reader.next_line(self.output.as_ref()?)
    }

    fn tell_lost(&mut self, name: &str, to: &mut impl Printer) {
        let lost = self.reader.lost();
        let more = lost.saturating_sub(self.lost);
        if more > 0 {
            self.lost = lost;
            to.line(format_args!("[{name}] ... {more} bytes were lost here"));
        }
    }

    /// Everything was printed: ends the last line if the guest is gone, and begins with
    /// its next life if there is one.
    fn turn_to(&mut self, name: &str, now: Option<&Arc<Output>>, to: &mut impl Printer) -> bool {
        let is_same = match (&self.output, now) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return true;
        }
        if let Some(rest) = self.reader.take_rest() {
            to.line(format_args!("[{name}] {rest}"));
        }
        *self = Self {
            output: now.cloned(),
            ..Self::default()
        };
        now.is_none()
    }
}

impl Consoles {
    /// Those of so many guests.
    pub fn new(count: usize) -> Self {
        Self {
            consoles: (0..count).map(|_| Console::default()).collect(),
            denied: None,
            attached: None,
            screen: Screen::default(),
        }
    }

    /// The guests' numbers, in the order in which they print in a tick: who found no room
    /// in the last one begins, or one that always writes would leave none to the others.
    pub fn order(&mut self) -> impl Iterator<Item = usize> + use<> {
        let count = self.consoles.len();
        let first = self.denied.take().unwrap_or(0);
        (0..count).map(move |step| (first + step) % count)
    }

    /// At whose console the operator sits.
    pub fn attached(&self) -> Option<usize> {
        self.attached
    }

    /// Sits down at a guest's console.
    pub fn attach(&mut self, number: usize, to: &mut impl Printer) {
        self.attached = Some(number);
        self.screen = Screen::default();
        // What stands on its line already.
        if let Some(console) = self.consoles.get_mut(number)
            && let Some(rest) = console.reader.take_rest()
        {
            for &byte in rest.as_bytes() {
                to.raw(&self.screen.push(byte));
            }
        }
    }

    /// Leaves it.
    pub fn detach(&mut self) {
        self.attached = None;
    }

    /// Prints some of what the guest of this number writes to `now`: to be called for each
    /// guest at each tick, in this [`order`](Self::order). True if all is printed.
    pub fn print(
        &mut self,
        number: usize,
        name: &str,
        now: Option<&Arc<Output>>,
        to: &mut impl Printer,
    ) -> bool {
        let Some(console) = self.consoles.get_mut(number) else {
            return true;
        };
        match self.attached {
            None if !to.has_room() => {
                self.denied.get_or_insert(number);
                false
            }
            None => console.print(name, now, to),
            Some(attached) if attached == number => {
                self.show(number, name, now, to);
                true
            }
            // They wait, and lose what they write too much.
            Some(_) => true,
        }
    }

    /// Shows what the guest writes as it comes.
    fn show(
        &mut self,
        number: usize,
        name: &str,
        now: Option<&Arc<Output>>,
        to: &mut impl Printer,
    ) {
        let Some(console) = self.consoles.get_mut(number) else {
            return;
        };
        let mut text = ArrayString::<{ 2 * BYTES }>::new();
        for _ in 0..BYTES {
            if !to.has_room() {
                break;
            }
            let output = console.output.as_ref();
            let Some(byte) = output.and_then(|output| console.reader.next_byte(output)) else {
                console.turn_to(name, now, to);
                break;
            };
            // No more comes out than went in, but for a sequence that was begun before.
            let _ = text.try_push_str(&self.screen.push(byte));
        }
        to.raw(&text);
    }
}

#[cfg(test)]
#[path = "consoles_tests.rs"]
mod tests;
