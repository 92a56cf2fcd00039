//! The serial port of a PC.

use core::fmt;
use core::hint;

use uart_16550::backend::PioBackend;
use uart_16550::{BaudRate, Config, Uart16550};

/// I/O port of COM1.
const COM1: u16 = 0x3f8;
/// I/O port of COM2.
const COM2: u16 = 0x2f8;
/// How often a port that takes nothing is asked again: at 115,200 baud a full
/// FIFO empties in 1.4 ms, and each question takes a microsecond.
const TRIES: u32 = 100_000;

/// A serial port that is ours.
#[derive(Debug)]
pub struct Serial(Uart16550<PioBackend>);

impl Serial {
    /// COM1, at 115,200 baud, if it is there.
    pub(crate) fn first() -> Option<Self> {
        Self::at(COM1)
    }

    /// COM2, likewise.
    pub(crate) fn second() -> Option<Self> {
        Self::at(COM2)
    }

    fn at(port: u16) -> Option<Self> {
        // SAFETY: the ports are where every PC has them, and only this module drives them.
        let mut uart = unsafe { Uart16550::new_port(port) }.ok()?;
        let config = Config {
            baud_rate: BaudRate::Baud115200,
            ..Config::default()
        };
        uart.init(config).ok()?;
        Some(Self(uart))
    }

    /// A byte that has arrived.
    pub fn receive(&mut self) -> Option<u8> {
        self.0.try_receive_byte().ok()
    }

    /// Sends as many of `bytes` as fit into the port at once, and says how many: none
    /// while it is busy.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> usize {
        self.0.send_bytes(bytes)
    }

    /// Sends `bytes` as they are.
    ///
    /// # Errors
    /// If the port takes nothing any more.
    pub(crate) fn send_all(&mut self, mut bytes: &[u8]) -> fmt::Result {
        let mut tries = 0;
        while !bytes.is_empty() {
            match self.send_some(bytes) {
                0 if tries == TRIES => return Err(fmt::Error),
                0 => {
                    tries += 1;
                    hint::spin_loop();
                }
                sent => {
                    tries = 0;
                    bytes = bytes.get(sent..).unwrap_or(&[]);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, byte: u8) -> fmt::Result {
        for _ in 0..TRIES {
            if self.0.try_send_byte(byte).is_ok() {
                return Ok(());
            }
            hint::spin_loop();
        }
        Err(fmt::Error)
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.send(b'\r')?;
            }
            self.send(byte)?;
        }
        Ok(())
    }
}
