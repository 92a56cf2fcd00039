//! The console: lines of text on the first serial port.
//!
//! A log line reads `[level] module: event key=value ...`, numbers that are
//! addresses in hexadecimal. Nothing on a VM-exit path prints; a guest cannot
//! make the console slow down its neighbours.

use core::fmt::{self, Write};

use spin::Mutex;

use crate::arch::serial::Serial;

/// Taken by whoever prints, on any processor, with interrupts off. No other
/// lock is taken while it is held.
static CONSOLE: Mutex<Option<Serial>> = Mutex::new(None);

/// Finds the serial port. Before that, and where there is none, what is printed
/// is dropped.
pub fn init() {
    *CONSOLE.lock() = Serial::first();
}

/// Prints `arguments` as a whole: lines of several processors do not mix.
///
/// To be used through [`println!`](crate::println).
pub fn write(arguments: fmt::Arguments<'_>) {
    if let Some(serial) = CONSOLE.lock().as_mut() {
        // A port that takes nothing leaves nobody to tell.
        let _ = serial.write_fmt(arguments);
    }
}

/// A byte that somebody typed.
pub fn read() -> Option<u8> {
    CONSOLE.lock().as_mut()?.receive()
}

/// Prints although another processor, or this one, may be in the middle of
/// printing. For the last words of a panic, when the others have been stopped.
pub fn write_at_last(arguments: fmt::Arguments<'_>) {
    /// Enough for another processor to finish its line.
    const TRIES: u32 = 1 << 20;
    let console = (0..TRIES).find_map(|_| {
        core::hint::spin_loop();
        CONSOLE.try_lock()
    });
    // A driver of its own if the other one is stuck: a port has no state that
    // this could spoil further.
    let mut other;
    let mut guard;
    let serial = match console {
        Some(console) => {
            guard = console;
            guard.as_mut()
        }
        None => {
            other = Serial::first();
            other.as_mut()
        }
    };
    if let Some(serial) = serial {
        let _ = serial.write_fmt(arguments);
    }
}

/// Prints a line on the console.
#[macro_export]
macro_rules! println {
    () => { $crate::console::write(format_args!("\n")) };
    ($($argument:tt)*) => {
        $crate::console::write(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// Logs what has been done: `info!("module", "event key={value}")`.
#[macro_export]
macro_rules! info {
    ($module:literal, $($argument:tt)*) => {
        $crate::println!("[info] {}: {}", $module, format_args!($($argument)*))
    };
}

/// Logs what is wrong but can be lived with.
#[macro_export]
macro_rules! warn {
    ($module:literal, $($argument:tt)*) => {
        $crate::println!("[warn] {}: {}", $module, format_args!($($argument)*))
    };
}
