//! The first serial port, where the results go.
#![expect(unsafe_code, reason = "taking the serial port, and its lock")]

use core::fmt::{self, Write};
use core::hint;

use spin::Mutex;
use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550Tty};

/// I/O port of COM1.
const COM1: u16 = 0x3f8;

static CONSOLE: Mutex<Option<Uart16550Tty<PioBackend>>> = Mutex::new(None);

/// Makes [`println!`] work.
pub(crate) fn init() {
    // SAFETY: COM1 is where every PC has it, and this is its only driver.
    let uart = unsafe { Uart16550Tty::new_port(COM1, Config::default()) };
    *CONSOLE.lock() = uart.ok();
}

/// Waits until somebody types something.
pub(crate) fn wait_for_input() {
    let mut console = CONSOLE.lock();
    let Some(uart) = console.as_mut() else { return };
    while uart.inner_mut().try_receive_byte().is_err() {
        hint::spin_loop();
    }
}

/// Lets a panic print, even one that came while something was printed.
pub(crate) fn take_over() {
    // SAFETY: there is one processor, and whoever held the lock is stopped.
    unsafe { CONSOLE.force_unlock() };
}

/// What [`println!`] expands to.
pub(crate) fn write(arguments: fmt::Arguments<'_>) {
    if let Some(uart) = CONSOLE.lock().as_mut() {
        // There is nobody left to tell if the serial port itself fails.
        let _ = uart.write_fmt(arguments);
    }
}

/// Prints a line to the serial port.
macro_rules! println {
    ($($argument:tt)*) => { $crate::console::write(format_args!("{}\n", format_args!($($argument)*))) };
}

pub(crate) use println;
