//! The console: lines of text on the first serial port.
//!
//! A log line reads `[level] module: event key=value ...`, numbers that are
//! addresses in hexadecimal. Nothing on a VM-exit path prints; a guest cannot
//! make the console slow down its neighbours.
//!
//! Until [`start_queue`] whoever prints waits for the port. From then on lines wait in a
//! queue, and [`pump`] hands them to the port as it takes them.

mod queue;

use core::fmt::{self, Write};

use spin::Mutex;

use crate::arch::clock;
use crate::arch::serial::Serial;
use queue::Queue;

/// Bytes that can wait.
const CAPACITY: usize = 32 << 10;
/// How long [`pump`] goes on while the port takes everything, in nanoseconds.
const PUMP_NS: u64 = 200_000;
/// And how many bytes it hands over at the most.
const PUMP_BYTES: usize = 1024;

/// Taken by whoever prints, on any processor, with interrupts off. No other
/// lock is taken while it is held, but the heap's by [`start_queue`].
static CONSOLE: Mutex<Console> = Mutex::new(Console {
    serial: None,
    queue: None,
});

#[derive(Debug)]
struct Console {
    /// The port; nothing where there is none, and then all is dropped.
    serial: Option<Serial>,
    queue: Option<Queue>,
}

impl Console {
    fn print(&mut self, text: fmt::Arguments<'_>) {
        match (&mut self.queue, &mut self.serial) {
            (Some(queue), _) => queue.write_line(text),
            (None, Some(serial)) => {
                // A port that takes nothing leaves nobody to tell.
                let _ = serial.write_fmt(text);
            }
            (None, None) => {}
        }
    }

    /// Waits until the port has taken everything, or takes nothing any more.
    fn flush(&mut self) {
        let Some(queue) = &mut self.queue else { return };
        while !queue.is_empty() {
            let front = queue.front();
            let count = front.len();
            if let Some(serial) = &mut self.serial
                && serial.send_all(front).is_err()
            {
                return;
            }
            queue.consume(count);
        }
    }
}

/// Finds the serial port. Before that, and where there is none, what is printed
/// is dropped.
pub fn init() {
    CONSOLE.lock().serial = Serial::first();
}

/// Lets whoever prints not wait for the port any more. From now on somebody has to
/// [`pump`].
pub fn start_queue() {
    CONSOLE.lock().queue = Some(Queue::new(CAPACITY));
}

/// Prints `arguments`, which end a line, as a whole: lines of several processors do not
/// mix.
///
/// To be used through [`println!`](crate::println).
pub fn write(arguments: fmt::Arguments<'_>) {
    CONSOLE.lock().print(arguments);
}

/// Prints what may end in the middle of a line. False if there is no room; that is to be
/// tried again.
pub fn write_raw(text: &str) -> bool {
    let mut console = CONSOLE.lock();
    let queue = console.queue.as_mut();
    queue.is_some_and(|queue| queue.write_raw(text))
}

/// Whether much can be printed before lines are lost. Who prints what can wait does so
/// only then, and leaves room for the rest.
pub fn has_room() -> bool {
    let console = CONSOLE.lock();
    let queue = console.queue.as_ref();
    queue.is_none_or(|queue| queue.room() >= CAPACITY / 2)
}

/// Lets the port have what waits, as much as it takes at once.
pub fn pump() {
    let mut console = CONSOLE.lock();
    let Console { serial, queue } = &mut *console;
    let Some(queue) = queue else { return };
    let begun = clock::now();
    let mut left = PUMP_BYTES;
    while !queue.is_empty() && left > 0 {
        let front = queue.front();
        let count = match serial {
            Some(serial) => serial.send_some(front),
            None => front.len(),
        };
        queue.consume(count);
        left = left.saturating_sub(count);
        if count == 0 || clock::now().wrapping_sub(begun) > clock::ticks(PUMP_NS) {
            return;
        }
    }
}

/// Waits until the port has taken what waits. For the end.
pub fn flush() {
    CONSOLE.lock().flush();
}

/// Shows the operator's prompt with what has been typed, once nothing else waits to be
/// printed.
pub fn show_prompt(prompt: &str, typed: &str) {
    if let Some(queue) = &mut CONSOLE.lock().queue
        && queue.is_empty()
    {
        queue.show_prompt(prompt, typed);
    }
}

/// Shows what was typed, if the prompt shows.
pub fn echo(text: &str) {
    if let Some(queue) = &mut CONSOLE.lock().queue {
        queue.echo(text);
    }
}

/// What was typed is complete.
pub fn end_prompt(prompt: &str, typed: &str) {
    if let Some(queue) = &mut CONSOLE.lock().queue {
        queue.end_prompt(prompt, typed);
    }
}

/// A byte that somebody typed.
pub fn read() -> Option<u8> {
    CONSOLE.lock().serial.as_mut()?.receive()
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
            guard.flush();
            guard.serial.as_mut()
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
