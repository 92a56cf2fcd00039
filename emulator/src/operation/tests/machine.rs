//! Memory of a few pages, any of which may be broken, and random numbers.

use crate::bus::{Bus, BusError, Requester, TransferError};

pub(super) const PAGE: u64 = 4096;
/// The address of the first page.
pub(super) const BASE: u64 = 0x7f12_3456_7000;
/// Pages there are.
pub(super) const PAGES: u64 = 15;

/// What happens to an access to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Present,
    ReadOnly,
    WriteOnly,
    Absent,
    /// Accesses are aborted by whatever is there.
    Broken,
}

/// The memory, as the bus of the operations under test and, byte by byte, as
/// the ground that oracles work on.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) bytes: Vec<u8>,
    pub(super) pages: Vec<Page>,
    /// Accesses that came over the bus.
    pub(super) accesses: u64,
    /// How many bytes the bus copies by itself at the most, when asked to.
    pub(super) copies: usize,
}

impl Machine {
    /// A machine with random contents.
    pub(super) fn new(random: &mut Random) -> Self {
        let mut machine = Self::zeroed();
        // Words take Miri long, so there every page is like the first but for
        // its first byte.
        let random_bytes = if cfg!(miri) {
            4096
        } else {
            machine.bytes.len()
        };
        let (fresh, rest) = machine.bytes.split_at_mut(random_bytes);
        for word in fresh.chunks_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        for (page, number) in rest.chunks_mut(4096).zip(1..) {
            page.copy_from_slice(fresh);
            page[0] = number;
        }
        machine
    }

    pub(super) fn zeroed() -> Self {
        let pages = usize::try_from(PAGES).unwrap();
        Self {
            bytes: vec![0; pages * 4096],
            pages: vec![Page::Present; pages],
            accesses: 0,
            copies: 0,
        }
    }

    /// Whether the device may access the page of `address`.
    fn admit(&self, address: u64, write: bool) -> Result<(), BusError> {
        let index = address.checked_sub(BASE).map(|offset| offset / PAGE);
        let page = index.and_then(|index| self.pages.get(usize::try_from(index).unwrap()));
        match (page, write) {
            (Some(Page::Present), _)
            | (Some(Page::ReadOnly), false)
            | (Some(Page::WriteOnly), true) => Ok(()),
            (Some(Page::Broken), _) => Err(BusError::Aborted),
            _ => Err(BusError::PageFault),
        }
    }

    fn index(address: u64) -> usize {
        usize::try_from(address - BASE).unwrap()
    }

    /// The byte at `address`, as a read by the device finds it.
    pub(super) fn peek(&self, address: u64) -> Result<u8, BusError> {
        self.admit(address, false)?;
        Ok(self.bytes[Self::index(address)])
    }

    /// Writes `value` to `address` as the device would.
    pub(super) fn poke(&mut self, address: u64, value: u8) -> Result<(), BusError> {
        self.admit(address, true)?;
        self.bytes[Self::index(address)] = value;
        Ok(())
    }

    /// The bytes at `address`, whatever the pages say.
    pub(super) fn at(&mut self, address: u64, length: usize) -> &mut [u8] {
        &mut self.bytes[Self::index(address)..][..length]
    }

    /// How many bytes from `address` on the pages let by, up to `length`, and
    /// what stops the others.
    fn transfer(&mut self, address: u64, length: usize, write: bool) -> (usize, Transfer) {
        self.accesses += 1;
        let mut transferred = 0;
        while transferred < length {
            let at = address + transferred as u64;
            if let Err(cause) = self.admit(at, write) {
                return (transferred, Err(TransferError { transferred, cause }));
            }
            transferred += usize::try_from(PAGE - at % PAGE).unwrap();
        }
        (length, Ok(()))
    }
}

type Transfer = Result<(), TransferError>;

impl Bus for Machine {
    fn now_ns(&self) -> u64 {
        0
    }

    fn read(&mut self, _requester: Requester, address: u64, data: &mut [u8]) -> Transfer {
        let (length, result) = self.transfer(address, data.len(), false);
        if length > 0 {
            data[..length].copy_from_slice(self.at(address, length));
        }
        result
    }

    fn write(&mut self, _requester: Requester, address: u64, data: &[u8]) -> Transfer {
        let (length, result) = self.transfer(address, data.len(), true);
        if length > 0 {
            self.at(address, length).copy_from_slice(&data[..length]);
        }
        result
    }

    fn copy(&mut self, _: Requester, source: u64, destination: u64, length: usize) -> usize {
        let length = length.min(self.copies);
        if length == 0 {
            return 0;
        }
        let (readable, _) = self.transfer(source, length, false);
        let (copied, _) = self.transfer(destination, readable, true);
        if copied > 0 {
            let from = Self::index(source);
            self.bytes
                .copy_within(from..from + copied, Self::index(destination));
        }
        copied
    }

    fn send_message(&mut self, _address: u64, _data: u32) -> Result<(), BusError> {
        panic!("operations send no interrupts");
    }
}

/// SplitMix64: small, seeded, good enough to choose test cases.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of `choices`.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}
