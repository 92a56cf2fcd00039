//! The first serial port, where a guest tells its story.
#![expect(unsafe_code, reason = "taking the serial port, and its lock")]

use core::fmt::{self, Write};
use core::hint;

use spin::Mutex;
use uart_16550::Uart16550;
use uart_16550::backend::PioBackend;

/// I/O port of COM1.
const COM1: u16 = 0x3f8;
/// How often a byte is offered before it is given up.
const TRIES: u32 = 100_000;

static CONSOLE: Mutex<Option<Console>> = Mutex::new(None);

struct Console(Uart16550<PioBackend>);

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            for _ in 0..TRIES {
                if self.0.try_send_byte(byte).is_ok() {
                    break;
                }
                hint::spin_loop();
            }
        }
        Ok(())
    }
}

/// Makes [`println!`](crate::println) work. The port is as firmware or the hypervisor
/// has set it up.
pub(crate) fn init() {
    // SAFETY: COM1 is where every PC has it, and this is its only driver.
    let uart = unsafe { Uart16550::new_port(COM1) };
    *CONSOLE.lock() = uart.ok().map(Console);
}

/// Lets a panic print, even one that came while something was printed.
pub(crate) fn take_over() {
    // SAFETY: whoever held the lock on this processor is stopped. If it was the other
    // processor, lines get mixed up, which is better than none.
    unsafe { CONSOLE.force_unlock() };
}

/// What [`println!`](crate::println) expands to.
pub fn write(arguments: fmt::Arguments<'_>) {
    if let Some(console) = CONSOLE.lock().as_mut() {
        // It never fails.
        let _ = console.write_fmt(arguments);
    }
}

/// A byte that was typed at the other end, if one has come.
pub fn read() -> Option<u8> {
    CONSOLE.lock().as_mut()?.0.try_receive_byte().ok()
}

/// Prints a line to the serial port.
#[macro_export]
macro_rules! println {
    () => { $crate::console::write(format_args!("\n")) };
    ($($argument:tt)*) => {
        $crate::console::write(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// Prints what may end in the middle of a line.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::write(format_args!($($argument)*)) };
}

pub use {print, println};
