//! Registers, with devices behind them, and a clock.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use hwspec::register::Bits;

use super::{Event, Log};
use crate::{Clock, Registers};

/// A device as its registers show it.
pub trait Device {
    /// A driver reads `len_bytes` bytes at `offset`.
    fn read(&mut self, offset: usize, len_bytes: usize) -> u64;
    /// A driver writes `len_bytes` bytes at `offset`.
    fn write(&mut self, offset: usize, len_bytes: usize, value: u64);
}

/// The registers of a device that the test holds too. Copies are the same registers.
#[derive(Debug)]
pub struct FakeRegisters<D> {
    device: Rc<RefCell<D>>,
    len_bytes: usize,
    log: Log,
}

impl<D> Clone for FakeRegisters<D> {
    fn clone(&self) -> Self {
        Self {
            device: Rc::clone(&self.device),
            len_bytes: self.len_bytes,
            log: self.log.clone(),
        }
    }
}

impl<D: Device> FakeRegisters<D> {
    /// A window of `len_bytes` bytes.
    pub fn new(device: D, len_bytes: usize, log: &Log) -> Self {
        Self {
            device: Rc::new(RefCell::new(device)),
            len_bytes,
            log: log.clone(),
        }
    }

    /// The device, for the test to look at or to interfere with.
    pub fn device(&self) -> Rc<RefCell<D>> {
        Rc::clone(&self.device)
    }

    fn check<B: Bits>(&self, offset: usize) {
        let is_inside = offset + B::BYTES <= self.len_bytes;
        assert!(
            is_inside && offset.is_multiple_of(B::BYTES),
            "access to {offset:#x}"
        );
    }
}

impl<D: Device> Registers for FakeRegisters<D> {
    fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    fn read_raw<B: Bits>(&self, offset: usize) -> B {
        self.check::<B>(offset);
        let value = B::from_low_bits(self.device.borrow_mut().read(offset, B::BYTES));
        self.log.add(Event::Read {
            offset,
            len_bytes: B::BYTES,
            value: value.to_u64(),
        });
        value
    }

    fn write_raw<B: Bits>(&mut self, offset: usize, value: B) {
        self.check::<B>(offset);
        let value = value.to_u64();
        self.log.add(Event::Write {
            offset,
            len_bytes: B::BYTES,
            value,
        });
        self.device.borrow_mut().write(offset, B::BYTES, value);
    }
}

/// A device that is gone: it reads as ones and forgets what is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllOnes;

impl Device for AllOnes {
    fn read(&mut self, _: usize, _: usize) -> u64 {
        !0
    }

    fn write(&mut self, _: usize, _: usize, _: u64) {}
}

/// A device that is there but does nothing: what was given at the start is read for
/// ever, all else as 0.
#[derive(Clone, Debug, Default)]
pub struct NeverCompletes {
    registers: BTreeMap<usize, u64>,
}

impl NeverCompletes {
    /// With registers that do not read as 0, by offset.
    pub fn new(registers: impl IntoIterator<Item = (usize, u64)>) -> Self {
        Self {
            registers: registers.into_iter().collect(),
        }
    }
}

impl Device for NeverCompletes {
    fn read(&mut self, offset: usize, _: usize) -> u64 {
        self.registers.get(&offset).copied().unwrap_or(0)
    }

    fn write(&mut self, _: usize, _: usize, _: u64) {}
}

/// A device that works for a number of accesses, and is gone from then on.
#[derive(Clone, Debug)]
pub struct Vanishes<D> {
    inner: D,
    left: usize,
}

impl<D: Device> Vanishes<D> {
    /// `inner`, for `accesses` accesses.
    pub fn after(accesses: usize, inner: D) -> Self {
        Self {
            inner,
            left: accesses,
        }
    }

    /// Whether it is gone.
    pub fn is_gone(&self) -> bool {
        self.left == 0
    }

    fn is_there(&mut self) -> bool {
        let is_there = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_there
    }
}

impl<D: Device> Device for Vanishes<D> {
    fn read(&mut self, offset: usize, len_bytes: usize) -> u64 {
        if self.is_there() {
            self.inner.read(offset, len_bytes)
        } else {
            !0
        }
    }

    fn write(&mut self, offset: usize, len_bytes: usize, value: u64) {
        if self.is_there() {
            self.inner.write(offset, len_bytes, value);
        }
    }
}

/// A clock on which each look takes a microsecond.
#[derive(Clone, Debug, Default)]
pub struct FakeClock(Rc<Cell<Duration>>);

impl FakeClock {
    /// A clock that begins at 0. Copies show the same time.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Duration {
        self.0.set(self.0.get() + Duration::from_micros(1));
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use hwspec::register::Rw;

    use super::*;

    const CONTROL: Rw<u32> = Rw::at(8);

    #[test]
    fn accesses_are_recorded_in_order() {
        let log = Log::new();
        let mut registers = FakeRegisters::new(NeverCompletes::new([(8, 5)]), 16, &log);
        registers.modify(CONTROL, |value| value + 1);
        let (offset, len_bytes) = (8, 4);
        let read = Event::Read {
            offset,
            len_bytes,
            value: 5,
        };
        let write = Event::Write {
            offset,
            len_bytes,
            value: 6,
        };
        assert_eq!(log.take(), [read, write]);
        assert_eq!(log.take(), []);
    }

    #[test]
    fn a_vanished_device_reads_as_ones() {
        let device = Vanishes::after(1, NeverCompletes::default());
        let registers = FakeRegisters::new(device, 16, &Log::new());
        assert_eq!(registers.read(CONTROL), 0);
        assert_eq!(registers.read(CONTROL), !0);
        assert!(registers.device().borrow().is_gone());
    }

    #[test]
    #[should_panic(expected = "access to 0x10")]
    fn an_access_outside_is_caught() {
        FakeRegisters::new(AllOnes, 16, &Log::new()).read_raw::<u32>(16);
    }
}
