//! What happened, in order.

use std::cell::RefCell;
use std::rc::Rc;
use std::vec::Vec;

/// Something a driver did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A register was read.
    Read {
        /// Bytes from the start of the window.
        offset: usize,
        /// Bytes read.
        len_bytes: usize,
        /// What the device said.
        value: u64,
    },
    /// A register was written.
    Write {
        /// Bytes from the start of the window.
        offset: usize,
        /// Bytes written.
        len_bytes: usize,
        /// What was written.
        value: u64,
    },
    /// A word of memory was written.
    Store {
        /// Its physical address.
        address: u64,
        /// What was written.
        value: u64,
    },
    /// Words of memory were written back.
    WriteBack {
        /// The physical address of the first.
        address: u64,
        /// How many bytes.
        len_bytes: usize,
    },
    /// A descriptor was submitted.
    Submit {
        /// The descriptor.
        descriptor: [u64; 8],
    },
}

/// What happened so far. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Log(Rc<RefCell<Vec<Event>>>);

impl Log {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn add(&self, event: Event) {
        self.0.borrow_mut().push(event);
    }

    /// Takes out all that happened.
    pub fn take(&self) -> Vec<Event> {
        self.0.take()
    }

    /// Takes out what was written: to registers, to memory, back to memory, to
    /// portals.
    pub fn take_effects(&self) -> Vec<Event> {
        let mut events = self.take();
        events.retain(|event| !matches!(event, Event::Read { .. }));
        events
    }
}
