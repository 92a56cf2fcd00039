use std::string::{String, ToString};
use std::vec::Vec;

use super::*;

const DATA: u16 = 0;
const IER: u16 = 1;
const IIR: u16 = 2;
const FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;
const SCR: u16 = 7;

struct Rig {
    port: SerialPort,
    output: Output,
    input: Input,
    reader: OutputReader,
}

impl Rig {
    fn new() -> Self {
        Self {
            port: SerialPort::new(),
            output: Output::new(),
            input: Input::new(),
            reader: OutputReader::new(),
        }
    }

    fn get(&mut self, offset: u16) -> u8 {
        self.port.read(offset, &self.input)
    }

    fn set(&mut self, offset: u16, value: u8) {
        self.port.write(offset, value, &self.output);
    }

    fn print(&mut self, text: &[u8]) {
        for &byte in text {
            self.set(DATA, byte);
        }
    }

    fn line(&mut self) -> Option<String> {
        let line = self.reader.next_line(&self.output)?;
        Some(line.to_string())
    }

    fn type_in(&self, text: &[u8]) {
        assert!(text.iter().all(|&byte| self.input.add(byte)));
    }

    fn interrupts(&mut self) -> bool {
        self.port.is_interrupting(&self.input)
    }
}

#[test]
fn registers_after_a_reset() {
    let mut rig = Rig::new();
    for (offset, value) in [
        (DATA, 0),
        (IER, 0),
        (IIR, 0x01),
        (LCR, 0),
        (MCR, 0),
        (LSR, 0x60),
        (MSR, 0xb0),
        (SCR, 0),
        (8, 0xff),
    ] {
        assert_eq!(rig.get(offset), value, "{offset}");
    }
    assert!(!rig.interrupts());
}

#[test]
fn registers_keep_the_bits_they_have() {
    let mut rig = Rig::new();
    for (offset, written, kept) in [
        (IER, 0xff, 0x0f),
        (LCR, 0x7f, 0x7f),
        (MCR, 0xff, 0x1f),
        (SCR, 0xff, 0xff),
    ] {
        rig.set(offset, written);
        assert_eq!(rig.get(offset), kept, "{offset}");
    }
    rig.set(LCR, 0x83);
    rig.set(0, 0x0c);
    rig.set(1, 0x34);
    assert_eq!((rig.get(0), rig.get(1)), (0x0c, 0x34));
    rig.set(LCR, 0x03);
    assert_eq!((rig.get(0), rig.get(1)), (0, 0x0f));
    assert_eq!(rig.output.written(), 0);
    // Status registers are not written.
    rig.set(LSR, 0);
    rig.set(9, 0);
    assert_eq!(rig.get(LSR), 0x60);
}

/// What a driver does to find out what it has, in the order of Linux's: the
/// interrupt enables, the loopback, the FIFOs.
#[test]
fn a_driver_finds_a_16550a() {
    let mut rig = Rig::new();
    rig.set(IER, 0);
    assert_eq!(rig.get(IER) & 0x0f, 0);
    rig.set(IER, 0x0f);
    assert_eq!(rig.get(IER) & 0x0f, 0x0f);
    rig.set(IER, 0);
    rig.set(MCR, 0x1a);
    assert_eq!(rig.get(MSR) & 0xf0, 0x90);
    rig.set(MCR, 0);
    rig.set(LCR, 0xbf);
    rig.set(FCR, 0);
    rig.set(LCR, 0);
    rig.set(FCR, 0x01);
    assert_eq!(rig.get(IIR) >> 6, 3);
    rig.set(FCR, 0);
    assert_eq!(rig.get(IIR) >> 6, 0);
}

#[test]
fn lines_come_out_whole() {
    let mut rig = Rig::new();
    rig.print(b"hello");
    assert_eq!(rig.line(), None);
    rig.print(b" world\r\n\r\nsecond\nthi");
    assert_eq!(rig.line().as_deref(), Some("hello world"));
    assert_eq!(rig.line().as_deref(), Some("second"));
    assert_eq!(rig.line(), None);
    let rest = rig.reader.take_rest().unwrap();
    assert_eq!(rest.as_bytes(), b"thi");
    assert_eq!(rig.reader.take_rest(), None);
    assert_eq!(rig.reader.lost(), 0);
}

#[test]
fn control_characters_are_not_shown() {
    let mut rig = Rig::new();
    rig.print(b"\x1b[31mred\x07\xff~\n");
    assert_eq!(rig.line().as_deref(), Some(".[31mred..~"));
}

#[test]
fn long_lines_are_cut() {
    let mut rig = Rig::new();
    rig.print(&[b'x'; MAX_LINE + 5]);
    rig.print(b"\n");
    assert_eq!(rig.line().unwrap(), "x".repeat(MAX_LINE));
    assert_eq!(rig.line().as_deref(), Some("xxxxx"));
}

#[test]
fn what_nobody_reads_is_overwritten_and_counted() {
    let mut rig = Rig::new();
    // 2,000 lines of 16 bytes: 32,000 bytes, of which 16,384 are kept.
    for number in 0..2000 {
        rig.print(std::format!("line {number:010}\n").as_bytes());
    }
    assert_eq!(rig.line().as_deref(), Some("line 0000000976"));
    assert_eq!(rig.reader.lost(), 32_000 - 16_384);
    let mut last = None;
    while let Some(line) = rig.line() {
        last = Some(line);
    }
    assert_eq!(last.as_deref(), Some("line 0000001999"));
    // Only the beginning of a line was read before it was overtaken.
    rig.print(b"abc");
    assert_eq!(rig.line(), None);
    rig.print(&[b'-'; 16_384]);
    rig.print(b"\nend\n");
    // What is left of the dashes, in parts; the three letters are forgotten.
    assert_eq!(rig.line().unwrap(), "-".repeat(MAX_LINE));
    let rest: Vec<_> = core::iter::from_fn(|| rig.line()).collect();
    assert_eq!(rest.last().map(String::as_str), Some("end"));
    assert_eq!(rig.reader.lost(), 15_616 + 5);
}

#[test]
fn a_reader_beside_a_writer_sees_no_mixture() {
    // Miri takes an hour for what is done in a moment otherwise.
    const LINES: u32 = if cfg!(miri) { 20 } else { 20_000 };
    let output = Output::new();
    let mut reader = OutputReader::new();
    let mut seen = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..LINES {
                for byte in std::format!("{number:08} {number:08}\n").bytes() {
                    output.push(byte);
                }
            }
        });
        loop {
            let is_over = output.written() == u64::from(LINES) * 18;
            while let Some(line) = reader.next_line(&output) {
                let line = line.to_string();
                // After a loss, a line may lack its beginning.
                if let Some((first, second)) = line.split_once(' ')
                    && first.len() == 8
                {
                    assert_eq!(first, second);
                    seen += 1;
                }
            }
            if is_over {
                break;
            }
            // Miri leaves a thread that spins only by chance.
            std::thread::yield_now();
        }
    });
    assert!(seen > 0);
}

#[test]
fn what_is_typed_is_received() {
    let mut rig = Rig::new();
    rig.set(MCR, 0x0b);
    rig.set(IER, 0x01);
    assert!(!rig.interrupts());
    rig.type_in(b"ok");
    assert!(rig.interrupts());
    // Without FIFOs, one after the other.
    assert_eq!(rig.get(IIR), 0x04);
    assert_eq!(rig.get(LSR), 0x61);
    assert_eq!((rig.get(DATA), rig.get(DATA)), (b'o', b'k'));
    assert_eq!(rig.get(LSR), 0x60);
    assert_eq!(rig.get(IIR), 0x01);
    assert!(!rig.interrupts());
    // With FIFOs: below the trigger level of 4 it is a time-out.
    rig.set(FCR, 0x41);
    rig.type_in(b"abc");
    assert_eq!(rig.get(IIR), 0xcc);
    rig.type_in(b"d");
    assert_eq!(rig.get(IIR), 0xc4);
    rig.set(FCR, 0x43);
    assert_eq!(rig.get(LSR), 0x60);
    // OUT2 connects the interrupt.
    rig.type_in(b"e");
    assert!(rig.interrupts());
    rig.set(MCR, 0x03);
    assert!(!rig.interrupts());
}

#[test]
fn no_more_is_typed_than_fits() {
    let mut rig = Rig::new();
    rig.type_in(&[b'x'; 64]);
    assert!(!rig.input.add(b'y'));
    assert!(rig.input.has_bytes());
    assert_eq!(rig.get(DATA), b'x');
    assert!(rig.input.add(b'y'));
    for _ in 0..63 {
        assert_eq!(rig.get(DATA), b'x');
    }
    assert_eq!(rig.get(DATA), b'y');
    assert!(!rig.input.has_bytes());
}

#[test]
fn the_transmitter_tells_once_that_it_is_empty() {
    let mut rig = Rig::new();
    rig.set(MCR, 0x08);
    rig.set(IER, 0x02);
    assert!(rig.interrupts());
    // Reading the cause takes it away; enabling it again brings it back.
    assert_eq!((rig.get(IIR), rig.get(IIR)), (0x02, 0x01));
    assert!(!rig.interrupts());
    rig.set(IER, 0x00);
    rig.set(IER, 0x02);
    assert_eq!((rig.get(IIR), rig.get(IIR)), (0x02, 0x01));
    // A byte is gone at once.
    rig.set(DATA, b'x');
    assert_eq!(rig.get(LSR), 0x60);
    assert_eq!((rig.get(IIR), rig.get(IIR)), (0x02, 0x01));
    // Received data come first, and do not take it away.
    rig.set(IER, 0x03);
    rig.set(DATA, b'y');
    rig.type_in(b"z");
    assert_eq!(rig.get(IIR), 0x04);
    assert_eq!(rig.get(DATA), b'z');
    assert_eq!(rig.get(IIR), 0x02);
}

#[test]
fn the_port_is_looped_back() {
    let mut rig = Rig::new();
    rig.set(FCR, 0x01);
    rig.set(IER, 0x0c);
    rig.set(MCR, 0x18);
    rig.get(MSR);
    // DTR, RTS, OUT1 and OUT2 come back as DSR, CTS, RI and DCD.
    for (control, lines) in [
        (0x10, 0x00),
        (0x11, 0x20),
        (0x12, 0x10),
        (0x14, 0x40),
        (0x18, 0x80),
    ] {
        rig.set(MCR, control);
        assert_eq!(rig.get(MSR) & 0xf0, lines);
    }
    // DCD goes off, DSR and RI on: RI counts only when it goes off.
    rig.set(MCR, 0x15);
    assert_eq!(rig.get(IIR), 0xc0);
    assert_eq!(rig.get(MSR), 0x6a);
    assert_eq!((rig.get(MSR), rig.get(IIR)), (0x60, 0xc1));
    rig.set(MCR, 0x11);
    assert_eq!(rig.get(MSR), 0x24);
    // Bytes come back, and the seventeenth is lost.
    rig.type_in(b"?");
    for byte in 0..17 {
        rig.set(DATA, byte);
    }
    assert_eq!(rig.output.written(), 0);
    assert_eq!(rig.get(IIR), 0xc6);
    assert!(!rig.interrupts());
    assert_eq!((rig.get(LSR), rig.get(LSR)), (0x63, 0x61));
    for byte in 0..16 {
        assert_eq!(rig.get(DATA), byte);
    }
    rig.set(MCR, 0x08);
    assert_eq!(rig.get(DATA), b'?');
}
