//! What a guest's console tells of how far it has come.
//!
//! A Linux guest makes no hypercalls. Its kernel says that it panicked, and the init of
//! an initramfs that is made for Weir says when there is a shell, by words on the console.
//! A guest may write them whatever they mean; they end up in its own report.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::platform::serial_port::Phrase;

/// What an init writes when its shell begins.
const SHELL: &str = "weir: shell";
/// What Linux writes when it panics. [Linux, `kernel/panic.c`, `panic()`]
const PANIC: &str = "Kernel panic - not syncing";

/// When things happened for the first time, in ticks of the time-stamp counter; 0: not
/// yet.
#[derive(Debug, Default)]
pub struct Milestones {
    console: AtomicU64,
    shell: AtomicU64,
    panic: AtomicU64,
}

/// What is looked for on the console of a guest.
#[derive(Debug)]
pub struct Watch {
    shell: Phrase,
    panic: Phrase,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            shell: Phrase::new(SHELL),
            panic: Phrase::new(PANIC),
        }
    }
}

/// Notes a moment, unless there was one.
fn note(place: &AtomicU64, now: u64) {
    if place.load(Ordering::Relaxed) == 0 {
        place.store(now, Ordering::Relaxed);
    }
}

fn read(place: &AtomicU64) -> Option<u64> {
    let ticks = place.load(Ordering::Relaxed);
    (ticks != 0).then_some(ticks)
}

impl Milestones {
    /// The guest has written a byte.
    pub fn written(&self, watch: &mut Watch, byte: u8, now: u64) {
        note(&self.console, now);
        if watch.shell.ends_with(byte) {
            note(&self.shell, now);
        }
        if watch.panic.ends_with(byte) {
            note(&self.panic, now);
        }
    }

    /// When it wrote its first byte.
    pub fn console(&self) -> Option<u64> {
        read(&self.console)
    }

    /// When its init said that there is a shell.
    pub fn shell(&self) -> Option<u64> {
        read(&self.shell)
    }

    /// When its kernel said that it panicked.
    pub fn panic(&self) -> Option<u64> {
        read(&self.panic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(milestones: &Milestones, watch: &mut Watch, text: &str, now: u64) {
        for byte in text.bytes() {
            milestones.written(watch, byte, now);
        }
    }

    #[test]
    fn the_first_of_each_counts() {
        let (milestones, mut watch) = (Milestones::default(), Watch::default());
        assert_eq!(milestones.console(), None);
        write(&milestones, &mut watch, "[    0.0] Linux version\r\n", 5);
        assert_eq!((milestones.console(), milestones.shell()), (Some(5), None));
        write(&milestones, &mut watch, "[    1.2] weir: sh", 7);
        write(&milestones, &mut watch, "ell\r\nweir: shell\r\n", 8);
        write(&milestones, &mut watch, "weir: shell\r\n", 9);
        assert_eq!(milestones.shell(), Some(8));
        assert_eq!(milestones.panic(), None);
        let panic = "[    2.0] Kernel panic - not syncing: sysrq triggered crash\r\n";
        write(&milestones, &mut watch, panic, 11);
        assert_eq!(
            (milestones.console(), milestones.panic()),
            (Some(5), Some(11))
        );
    }
}
