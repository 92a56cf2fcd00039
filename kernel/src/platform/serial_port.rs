//! COM1 of a guest: a 16550A as its driver sees it.
//! [National Semiconductor, PC16550D Universal Asynchronous Receiver/Transmitter
//! with FIFOs, June 1995, 8.0 "Registers"]
//!
//! [`SerialPort`] is the registers, changed under the guest's own lock. What the
//! guest writes goes into an [`Output`], from which the operator's side reads
//! lines; what the operator types comes through an [`Input`]. Neither side ever
//! waits for the other.

mod input;
mod last_lines;
mod output;
mod phrase;

use arrayvec::ArrayVec;

pub use input::Input;
pub use last_lines::{KEPT_LINES, LastLines};
pub use output::{Line, MAX_LINE, Output, OutputReader};
pub use phrase::Phrase;

/// How many ports there are.
pub const PORTS: u16 = 8;
/// How many bytes the receiver's FIFO holds.
const FIFO_BYTES: usize = 16;

/// Interrupt Enable Register.
const IER_RECEIVED: u8 = 1 << 0;
const IER_TRANSMITTER: u8 = 1 << 1;
const IER_LINE: u8 = 1 << 2;
const IER_MODEM: u8 = 1 << 3;
const IER_BITS: u8 = 0xf;

/// Interrupt Identification Register.
const IIR_NONE: u8 = 0b0001;
const IIR_LINE: u8 = 0b0110;
const IIR_RECEIVED: u8 = 0b0100;
const IIR_TIMEOUT: u8 = 0b1100;
const IIR_TRANSMITTER: u8 = 0b0010;
const IIR_MODEM: u8 = 0b0000;
const IIR_FIFOS: u8 = 0xc0;

/// FIFO Control Register.
const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RECEIVER: u8 = 1 << 1;

/// Line Control Register.
const LCR_DIVISOR: u8 = 1 << 7;

/// Modem Control Register.
const MCR_DTR: u8 = 1 << 0;
const MCR_RTS: u8 = 1 << 1;
const MCR_OUT1: u8 = 1 << 2;
const MCR_OUT2: u8 = 1 << 3;
const MCR_LOOP: u8 = 1 << 4;
const MCR_BITS: u8 = 0x1f;

/// Line Status Register.
const LSR_DATA: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
/// The transmitter is always empty: a byte is gone as soon as it is written.
const LSR_EMPTY: u8 = 1 << 5 | 1 << 6;

/// Modem Status Register: the lines, and in the lower half what changed.
const MSR_CTS: u8 = 1 << 4;
const MSR_DSR: u8 = 1 << 5;
const MSR_RI: u8 = 1 << 6;
const MSR_DCD: u8 = 1 << 7;
/// The other end is there and ready.
const CONNECTED: u8 = MSR_CTS | MSR_DSR | MSR_DCD;
/// TERI: the ring indicator has gone off, not on.
const MSR_TRAILING_EDGE: u8 = 1 << 2;

/// The registers of the port.
#[derive(Debug)]
pub struct SerialPort {
    interrupt_enable: u8,
    has_fifos: bool,
    /// How many bytes are needed for the interrupt of received data.
    trigger: usize,
    line_control: u8,
    modem_control: u8,
    /// The lower half of the Modem Status Register.
    modem_changes: u8,
    has_overrun: bool,
    scratch: u8,
    divisor: [u8; 2],
    received: ArrayVec<u8, FIFO_BYTES>,
    /// The transmitter is empty, and the driver has not been told.
    is_empty_news: bool,
}

impl Default for SerialPort {
    fn default() -> Self {
        Self::new()
    }
}

impl SerialPort {
    /// As after a reset.
    pub const fn new() -> Self {
        Self {
            interrupt_enable: 0,
            has_fifos: false,
            trigger: 1,
            line_control: 0,
            modem_control: 0,
            modem_changes: 0,
            has_overrun: false,
            scratch: 0,
            divisor: [0; 2],
            received: ArrayVec::new_const(),
            is_empty_news: false,
        }
    }

    const fn is_divisor_shown(&self) -> bool {
        self.line_control & LCR_DIVISOR != 0
    }

    const fn is_looped(&self) -> bool {
        self.modem_control & MCR_LOOP != 0
    }

    /// How many bytes the receiver holds.
    const fn capacity(&self) -> usize {
        if self.has_fifos { FIFO_BYTES } else { 1 }
    }

    /// Reads register `offset`, 0 to 7, one byte. All ones if there is none.
    pub fn read(&mut self, offset: u16, input: &Input) -> u8 {
        self.receive(input);
        let [low, high] = self.divisor;
        match offset {
            0 if self.is_divisor_shown() => low,
            1 if self.is_divisor_shown() => high,
            0 => self.received.pop_at(0).unwrap_or(0),
            1 => self.interrupt_enable,
            2 => {
                let identification = self.identification();
                if identification == IIR_TRANSMITTER {
                    self.is_empty_news = false;
                }
                identification | if self.has_fifos { IIR_FIFOS } else { 0 }
            }
            3 => self.line_control,
            4 => self.modem_control,
            5 => {
                let status = self.line_status();
                self.has_overrun = false;
                status
            }
            6 => {
                let changes = core::mem::take(&mut self.modem_changes);
                self.lines() | changes
            }
            7 => self.scratch,
            _ => 0xff,
        }
    }

    /// Writes register `offset`, 0 to 7, one byte. Nothing if there is none.
    pub fn write(&mut self, offset: u16, value: u8, output: &Output) {
        let [low, high] = &mut self.divisor;
        match offset {
            0 if self.line_control & LCR_DIVISOR != 0 => *low = value,
            1 if self.line_control & LCR_DIVISOR != 0 => *high = value,
            0 => {
                if self.is_looped() {
                    self.take(value);
                } else {
                    output.push(value);
                }
                self.is_empty_news = true;
            }
            1 => {
                let enabled = value & !self.interrupt_enable;
                self.interrupt_enable = value & IER_BITS;
                if enabled & IER_TRANSMITTER != 0 {
                    self.is_empty_news = true;
                }
            }
            2 => self.control_fifos(value),
            3 => self.line_control = value,
            4 => self.control_modem(value & MCR_BITS),
            7 => self.scratch = value,
            // The two status registers, and what is not there.
            _ => {}
        }
    }

    /// Whether the port asks for its interrupt. OUT2 connects it to the interrupt
    /// controller on this kind of machine.
    pub fn is_interrupting(&mut self, input: &Input) -> bool {
        self.receive(input);
        let is_connected = self.modem_control & MCR_OUT2 != 0 && !self.is_looped();
        is_connected && self.identification() != IIR_NONE
    }

    /// Takes from the operator what fits.
    fn receive(&mut self, input: &Input) {
        while !self.is_looped() && self.received.len() < self.capacity() {
            let Some(byte) = input.take() else {
                return;
            };
            self.received.push(byte);
        }
    }

    /// Takes a byte from the port's own transmitter.
    fn take(&mut self, byte: u8) {
        if self.received.len() < self.capacity() {
            self.received.push(byte);
        } else {
            self.has_overrun = true;
        }
    }

    fn control_fifos(&mut self, value: u8) {
        let has_fifos = value & FCR_ENABLE != 0;
        if has_fifos != self.has_fifos || value & FCR_CLEAR_RECEIVER != 0 {
            self.received.clear();
        }
        self.has_fifos = has_fifos;
        self.trigger = match value >> 6 {
            1 if has_fifos => 4,
            2 if has_fifos => 8,
            3 if has_fifos => 14,
            _ => 1,
        };
    }

    fn control_modem(&mut self, value: u8) {
        let before = self.lines();
        self.modem_control = value;
        let after = self.lines();
        let mut changes = (before ^ after) >> 4;
        if before & !after & MSR_RI == 0 {
            changes &= !MSR_TRAILING_EDGE;
        }
        self.modem_changes |= changes;
    }

    /// The upper half of the Modem Status Register.
    fn lines(&self) -> u8 {
        if !self.is_looped() {
            return CONNECTED;
        }
        let mut lines = 0;
        let pairs = [
            (MCR_RTS, MSR_CTS),
            (MCR_DTR, MSR_DSR),
            (MCR_OUT1, MSR_RI),
            (MCR_OUT2, MSR_DCD),
        ];
        for (control, status) in pairs {
            if self.modem_control & control != 0 {
                lines |= status;
            }
        }
        lines
    }

    const fn line_status(&self) -> u8 {
        let mut status = LSR_EMPTY;
        if !self.received.is_empty() {
            status |= LSR_DATA;
        }
        if self.has_overrun {
            status |= LSR_OVERRUN;
        }
        status
    }

    /// The interrupt of the highest priority.
    fn identification(&self) -> u8 {
        let enabled = self.interrupt_enable;
        if enabled & IER_LINE != 0 && self.has_overrun {
            IIR_LINE
        } else if enabled & IER_RECEIVED != 0 && !self.received.is_empty() {
            if self.received.len() >= self.trigger {
                IIR_RECEIVED
            } else {
                // Nothing more comes soon; the real one waits for four characters.
                IIR_TIMEOUT
            }
        } else if enabled & IER_TRANSMITTER != 0 && self.is_empty_news {
            IIR_TRANSMITTER
        } else if enabled & IER_MODEM != 0 && self.modem_changes != 0 {
            IIR_MODEM
        } else {
            IIR_NONE
        }
    }
}

#[cfg(test)]
#[path = "serial_port_tests.rs"]
mod tests;
