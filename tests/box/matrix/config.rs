//! weir.toml, piece by piece.

use std::fmt::Write;

/// A configuration that grows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    machine: String,
    guests: String,
    queues: String,
}

impl Config {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// For how long a virtual processor runs while others wait.
    pub(crate) fn slice_ms(mut self, slice: u32) -> Self {
        self.machine = format!("[machine]\nslice-ms = {slice}\n\n");
        self
    }

    /// A guest, with further lines of its own, and its queues: names of work queues, each with
    /// further lines behind a semicolon if need be.
    pub(crate) fn guest(
        mut self,
        name: &str,
        image: &str,
        cmdline: &str,
        more: &str,
        wqs: &[&str],
    ) -> Self {
        let input = if image == "demo" {
            "input = \"input\"\n"
        } else {
            ""
        };
        let text = &mut self.guests;
        write!(
            text,
            "[[guest]]\nname = \"{name}\"\nimage = \"{image}\"\nmemory = \"16M\"\n\
             cmdline = \"{cmdline}\"\n{input}{more}\n"
        )
        .unwrap();
        for wq in wqs {
            let (wq, more) = wq.split_once(';').unwrap_or((wq, ""));
            write!(text, "[[guest.queue]]\nwq = \"{wq}\"\n{more}\n").unwrap();
        }
        self
    }

    /// Dedicated work queues.
    pub(crate) fn dedicated(mut self, wqs: &[&str]) -> Self {
        for wq in wqs {
            write!(self.queues, "[[wq]]\nname = \"{wq}\"\nsize = 16\n\n").unwrap();
        }
        self
    }

    /// A shared work queue.
    pub(crate) fn shared(mut self, wq: &str) -> Self {
        write!(
            self.queues,
            "[[wq]]\nname = \"{wq}\"\nmode = \"shared\"\nsize = 32\nthreshold = 16\n\n"
        )
        .unwrap();
        self
    }

    pub(crate) fn text(&self) -> String {
        format!("{}{}{}", self.machine, self.guests, self.queues)
    }
}
