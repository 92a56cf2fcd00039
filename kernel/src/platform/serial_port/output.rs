//! What a guest has written to its serial port, until somebody reads it.

use alloc::boxed::Box;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arrayvec::ArrayVec;

/// The longest line that is shown whole.
pub const MAX_LINE: usize = 200;
/// Bytes that are kept.
const KEPT: usize = 16 << 10;

/// A ring of the last bytes that a guest has written.
///
/// The guest's side only ever stores: it does not know whether anybody reads. A
/// reader finds out afterwards whether it was overtaken.
#[derive(Debug)]
pub struct Output {
    bytes: Box<[AtomicU8]>,
    /// How many bytes were ever begun to be written: those more than [`KEPT`]
    /// before this may be overwritten.
    begun: AtomicU64,
    /// How many bytes were ever written.
    written: AtomicU64,
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

impl Output {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            bytes: (0..KEPT).map(|_| AtomicU8::new(0)).collect(),
            begun: AtomicU64::new(0),
            written: AtomicU64::new(0),
        }
    }

    /// Adds a byte. Calls must not overlap: the guest's lock is held.
    pub fn push(&self, byte: u8) {
        let number = self.written.load(Ordering::Relaxed);
        // Whoever sees the new byte sees that it was begun.
        self.begun.store(number + 1, Ordering::Relaxed);
        if let Some(place) = self.place(number) {
            place.store(byte, Ordering::Release);
        }
        self.written.store(number + 1, Ordering::Release);
    }

    /// How many bytes were ever written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Byte `number`. `Err` has the number of the oldest that is still there, if
    /// this one is not.
    fn byte(&self, number: u64) -> Result<u8, u64> {
        let byte = self
            .place(number)
            .map_or(0, |byte| byte.load(Ordering::Acquire));
        let oldest = self
            .begun
            .load(Ordering::Relaxed)
            .saturating_sub(KEPT as u64);
        if number < oldest {
            Err(oldest)
        } else {
            Ok(byte)
        }
    }

    fn place(&self, number: u64) -> Option<&AtomicU8> {
        let index = usize::try_from(number % KEPT as u64).ok()?;
        self.bytes.get(index)
    }
}

/// A line that a guest has written, or a part of one that is longer.
///
/// Shown, it is text without control characters, whatever the guest wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    bytes: ArrayVec<u8, MAX_LINE>,
}

impl Line {
    /// As much of `bytes` as a line has.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.iter().take(MAX_LINE).copied().collect(),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in &self.bytes {
            let is_shown = byte == b' ' || byte.is_ascii_graphic();
            f.write_char(if is_shown { byte.into() } else { '.' })?;
        }
        Ok(())
    }
}

/// Reads an [`Output`] line by line.
#[derive(Debug, Default)]
pub struct OutputReader {
    /// The number of the next byte.
    next: u64,
    line: Line,
    lost: u64,
}

impl OutputReader {
    /// A reader from the first byte on.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes were overwritten before they were read.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// The next line that the guest has finished. A carriage return is no part of
    /// it, and neither is a line without anything.
    pub fn next_line(&mut self, output: &Output) -> Option<Line> {
        let end = output.written();
        while self.next < end {
            match output.byte(self.next) {
                Ok(byte) => {
                    self.next += 1;
                    match byte {
                        b'\r' => {}
                        b'\n' if self.line.bytes.is_empty() => {}
                        b'\n' => return Some(core::mem::take(&mut self.line)),
                        _ => {
                            self.line.bytes.push(byte);
                            if self.line.bytes.is_full() {
                                return Some(core::mem::take(&mut self.line));
                            }
                        }
                    }
                }
                Err(oldest) => self.skip_to(oldest),
            }
        }
        None
    }

    /// The next byte, whatever it is, instead of a line.
    pub fn next_byte(&mut self, output: &Output) -> Option<u8> {
        while self.next < output.written() {
            match output.byte(self.next) {
                Ok(byte) => {
                    self.next += 1;
                    return Some(byte);
                }
                Err(oldest) => self.skip_to(oldest),
            }
        }
        None
    }

    /// What lies before `oldest` was overwritten.
    fn skip_to(&mut self, oldest: u64) {
        self.lost = self.lost.saturating_add(oldest.saturating_sub(self.next));
        self.next = oldest;
        // The rest of what was begun is gone.
        self.line.bytes.clear();
    }

    /// What the guest has written of a line that it has not finished, when no
    /// more is to come.
    pub fn take_rest(&mut self) -> Option<Line> {
        let line = core::mem::take(&mut self.line);
        (!line.bytes.is_empty()).then_some(line)
    }
}
