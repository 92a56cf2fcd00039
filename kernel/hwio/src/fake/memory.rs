//! Memory with made-up physical addresses, as the CPU sees it and as a device does.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use x86_64::PhysAddr;

use super::{Event, Log};
use crate::{DmaPages, FrameSource, PAGE_SIZE, PAGE_WORDS};

/// Where the addresses begin: above 4 GiB, so that a lost upper half shows.
const FIRST_ADDRESS: u64 = 0x12_3400_0000;

/// A machine's memory. Copies are the same memory.
#[derive(Clone, Debug)]
pub struct Memory {
    state: Rc<RefCell<State>>,
    log: Log,
}

#[derive(Debug)]
struct State {
    /// The addresses of the pages in use.
    pages: BTreeSet<u64>,
    /// The words that are not 0, by address, as the CPU sees them.
    cpu: BTreeMap<u64, u64>,
    /// The same as they got to memory.
    device: BTreeMap<u64, u64>,
    /// Whether a device sees a word as soon as it is written.
    is_coherent: bool,
    /// How many pages can still be handed out.
    left: usize,
    next_address: u64,
}

impl Memory {
    /// Memory that devices see as the CPU does.
    pub fn coherent(log: &Log) -> Self {
        Self::new(true, log)
    }

    /// Memory of which devices see what was written back.
    pub fn non_coherent(log: &Log) -> Self {
        Self::new(false, log)
    }

    fn new(is_coherent: bool, log: &Log) -> Self {
        let state = State {
            pages: BTreeSet::new(),
            cpu: BTreeMap::new(),
            device: BTreeMap::new(),
            is_coherent,
            left: usize::MAX,
            next_address: FIRST_ADDRESS,
        };
        Self {
            state: Rc::new(RefCell::new(state)),
            log: log.clone(),
        }
    }

    /// Lets only `count_pages` more pages be had.
    pub fn limit(&self, count_pages: usize) {
        self.state.borrow_mut().left = count_pages;
    }

    /// How many pages are in use.
    pub fn count_allocated(&self) -> usize {
        self.state.borrow().pages.len()
    }

    /// The word at `address` as a device sees it.
    ///
    /// # Panics
    /// If no page in use is there: no device may look there.
    pub fn device_read(&self, address: u64) -> u64 {
        let state = self.state.borrow();
        state.assert_in_use(address);
        state.device.get(&address).copied().unwrap_or(0)
    }

    /// The word at `address` as a device sees it that looks into the CPU's caches, as
    /// some do for a part of their accesses.
    ///
    /// # Panics
    /// If no page in use is there: no device may look there.
    pub fn snoop(&self, address: u64) -> u64 {
        let state = self.state.borrow();
        state.assert_in_use(address);
        state.cpu.get(&address).copied().unwrap_or(0)
    }

    /// A device writes a word to `address`; what devices write is always coherent.
    ///
    /// # Panics
    /// If no page in use is there: no device may write there.
    pub fn device_write(&self, address: u64, value: u64) {
        let mut state = self.state.borrow_mut();
        state.assert_in_use(address);
        state.device.insert(address, value);
        state.cpu.insert(address, value);
    }
}

impl State {
    fn assert_in_use(&self, address: u64) {
        let page = address - address % PAGE_SIZE as u64;
        assert!(
            address.is_multiple_of(8) && self.pages.contains(&page),
            "a device looks at {address:#x}, which is free"
        );
    }
}

/// The addresses of `count_pages` pages from `first` on.
fn pages(first: u64, count_pages: usize) -> impl Iterator<Item = u64> {
    (first..).step_by(PAGE_SIZE).take(count_pages)
}

impl FrameSource for Memory {
    type Pages = FakePages;

    fn allocate_zeroed(&mut self, count_pages: usize) -> Option<FakePages> {
        let mut state = self.state.borrow_mut();
        state.left = state.left.checked_sub(count_pages)?;
        let address = state.next_address;
        state.pages.extend(pages(address, count_pages));
        // A gap, so that an index too high does not find the next allocation.
        state.next_address += (count_pages as u64 + 1) * PAGE_SIZE as u64;
        Some(FakePages {
            memory: self.clone(),
            address,
            count_pages,
        })
    }
}

/// Pages of a [`Memory`]. A device that looks at them after they were dropped fails
/// the test.
#[derive(Debug)]
pub struct FakePages {
    memory: Memory,
    address: u64,
    count_pages: usize,
}

impl FakePages {
    fn address_of(&self, index: usize) -> u64 {
        assert!(
            index < self.len_words(),
            "word {index} of {}",
            self.len_words()
        );
        self.address + 8 * index as u64
    }
}

impl DmaPages for FakePages {
    fn physical_address(&self) -> PhysAddr {
        PhysAddr::new(self.address)
    }

    fn len_words(&self) -> usize {
        self.count_pages * PAGE_WORDS
    }

    fn read_word(&self, index: usize) -> u64 {
        let address = self.address_of(index);
        let state = self.memory.state.borrow();
        state.cpu.get(&address).copied().unwrap_or(0)
    }

    fn write_word(&mut self, index: usize, value: u64) {
        let address = self.address_of(index);
        self.memory.log.add(Event::Store { address, value });
        let mut state = self.memory.state.borrow_mut();
        state.cpu.insert(address, value);
        if state.is_coherent {
            state.device.insert(address, value);
        }
    }

    fn write_back(&self, words: Range<usize>) {
        self.memory.log.add(Event::WriteBack {
            address: self.address_of(words.start),
            len_bytes: words.len() * 8,
        });
        let mut state = self.memory.state.borrow_mut();
        for index in words {
            let address = self.address_of(index);
            if let Some(&value) = state.cpu.get(&address) {
                state.device.insert(address, value);
            }
        }
    }
}

impl Drop for FakePages {
    fn drop(&mut self) {
        let mut state = self.memory.state.borrow_mut();
        for page in pages(self.address, self.count_pages) {
            state.pages.remove(&page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_sees_what_was_written_back() {
        let mut memory = Memory::non_coherent(&Log::new());
        let mut pages = memory.allocate_zeroed(2).unwrap();
        let address = pages.word_address(PAGE_WORDS).as_u64();
        pages.write_word(PAGE_WORDS, 5);
        assert_eq!(memory.device_read(address), 0);
        assert_eq!(memory.snoop(address), 5);
        pages.write_back(PAGE_WORDS..PAGE_WORDS + 1);
        assert_eq!(memory.device_read(address), 5);
        memory.device_write(address, 6);
        assert_eq!(pages.read_word(PAGE_WORDS), 6);
    }

    #[test]
    fn a_device_of_a_coherent_machine_sees_all() {
        let mut memory = Memory::coherent(&Log::new());
        let mut pages = memory.allocate_zeroed(1).unwrap();
        pages.write_word(3, 7);
        assert_eq!(memory.device_read(pages.word_address(3).as_u64()), 7);
    }

    #[test]
    fn pages_are_counted_and_limited() {
        let mut memory = Memory::coherent(&Log::new());
        memory.limit(2);
        assert!(memory.allocate_zeroed(3).is_none());
        let pages = memory.allocate_zeroed(2);
        assert_eq!(memory.count_allocated(), 2);
        drop(pages);
        assert_eq!(memory.count_allocated(), 0);
    }

    #[test]
    #[should_panic(expected = "which is free")]
    fn a_device_that_looks_at_dropped_pages_is_caught() {
        let mut memory = Memory::coherent(&Log::new());
        let pages = memory.allocate_zeroed(1).unwrap();
        let address = pages.physical_address().as_u64();
        drop(pages);
        memory.device_read(address);
    }
}
