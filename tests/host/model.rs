//! The accelerator's model behind the traits of `hwio`, in a machine that has no more than
//! memory for each PASID, interrupt messages and time.
//!
//! A model that recorded a violation fails the test when it is dropped.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use dsa_model::{Answer, Bus, BusError, Dsa, Identity, Requester, Transaction, TransferError};
use hwio::{Clock, Portal, Registers, Submission};
use hwspec::dsa::{CompletionRecord, PortalPage};
use hwspec::register::Bits;

const PAGE: u64 = 4096;

/// Nanoseconds that a waiting CPU lets go by before it looks again.
const PATIENCE_NS: u64 = 100;

/// MSI-X table, of the model's own choice; in configuration space it is announced.
const MSIX_TABLE: u64 = 0x2000;

/// The device and the machine around it. Copies are the same one.
#[derive(Clone)]
pub(crate) struct Model(Rc<RefCell<World>>);

struct World {
    dsa: Dsa,
    machine: Machine,
}

#[derive(Default)]
struct Machine {
    now_ns: u64,
    /// By PASID and page number. What is not here faults.
    pages: HashMap<(Option<u32>, u64), Box<[u8; 4096]>>,
    messages: Vec<(u64, u32)>,
}

impl Model {
    /// A device that the kernel's PCI code has been through: memory space and bus
    /// mastering on, PASID on with privileged mode, MSI-X on with entry 0 unmasked.
    pub(crate) fn new(options: &str) -> Self {
        let identity = Identity::parse(options).unwrap();
        let model = Self(Rc::new(RefCell::new(World {
            dsa: Dsa::new(identity).unwrap(),
            machine: Machine::default(),
        })));
        model.enumerate();
        model
    }

    /// What PCI code does to the device, after a reset once more.
    pub(crate) fn enumerate(&self) {
        for (offset, value) in [(0x04, 0x0006), (0x82, 0x8000), (0x236, 0x0005)] {
            self.write_config(offset, 2, value);
        }
        let (address, data) = Self::VECTOR_0;
        self.write_register(MSIX_TABLE, 8, address);
        self.write_register(MSIX_TABLE + 8, 4, data.into());
        self.write_register(MSIX_TABLE + 12, 4, 0);
    }

    /// What MSI-X entry 0 sends.
    pub(crate) const VECTOR_0: (u64, u32) = (0xfee0_0000, 0x20);

    /// Writes configuration space; whoever embeds the model carries out a function-level
    /// reset that this initiates.
    pub(crate) fn write_config(&self, offset: usize, size: usize, value: u32) {
        let World { dsa, machine } = &mut *self.0.borrow_mut();
        if dsa.config_write(offset, size, value, machine) {
            dsa.reset();
        }
    }

    /// Initiates a function-level reset, DEVCTL.15.
    pub(crate) fn reset_function(&self) {
        self.write_config(0x48, 2, 1 << 15);
    }

    pub(crate) fn read_register(&self, offset: u64, size: u32) -> u64 {
        self.0.borrow_mut().dsa.mmio_read(0, offset, size)
    }

    pub(crate) fn write_register(&self, offset: u64, size: u32, value: u64) {
        let World { dsa, machine } = &mut *self.0.borrow_mut();
        dsa.mmio_write(0, offset, size, value, machine);
    }

    /// Bytes of BAR0.
    pub(crate) fn bar_bytes(&self) -> usize {
        usize::try_from(self.0.borrow().dsa.bar_bytes(0)).unwrap()
    }

    /// A window of BAR0.
    pub(crate) fn registers(&self, range: Range<usize>) -> ModelRegisters {
        ModelRegisters {
            model: self.clone(),
            range,
        }
    }

    /// A portal of a queue, as MOVDIR64B or ENQCMDS reaches it.
    pub(crate) fn portal(
        &self,
        queue: u8,
        page: PortalPage,
        transaction: Transaction,
    ) -> ModelPortal {
        let model = self.clone();
        let offset = u64::try_from(page.offset(queue.into())).unwrap();
        ModelPortal {
            model,
            offset,
            transaction,
        }
    }

    /// The bench side of the device.
    pub(crate) fn control(&self, command: &str) {
        let World { dsa, machine } = &mut *self.0.borrow_mut();
        dsa.control(command, machine).unwrap();
    }

    /// Lets so much time pass.
    pub(crate) fn run_for(&self, ns: u64) {
        let World { dsa, machine } = &mut *self.0.borrow_mut();
        let end = machine.now_ns + ns;
        while let Some(deadline) = dsa.deadline().filter(|deadline| *deadline <= end) {
            machine.now_ns = machine.now_ns.max(deadline);
            dsa.advance(machine);
        }
        machine.now_ns = end;
    }

    /// Lets time pass until the device has nothing left to do by itself.
    pub(crate) fn run(&self) {
        let World { dsa, machine } = &mut *self.0.borrow_mut();
        for _ in 0..1_000_000 {
            let Some(deadline) = dsa.deadline() else {
                return;
            };
            machine.now_ns = machine.now_ns.max(deadline);
            dsa.advance(machine);
        }
        panic!("the device does not come to rest");
    }

    /// Gives a PASID a page of memory, of zeros.
    pub(crate) fn map(&self, pasid: Option<u32>, address: u64) {
        let key = (pasid, address / PAGE);
        let pages = &mut self.0.borrow_mut().machine.pages;
        pages.insert(key, Box::new([0; 4096]));
    }

    /// What a PASID has at `address`.
    pub(crate) fn read_memory(
        &self,
        pasid: Option<u32>,
        address: u64,
        len_bytes: usize,
    ) -> Vec<u8> {
        let world = self.0.borrow();
        let page = &world.machine.pages[&(pasid, address / PAGE)];
        let start = usize::try_from(address % PAGE).unwrap();
        page[start..start + len_bytes].to_vec()
    }

    pub(crate) fn write_memory(&self, pasid: Option<u32>, address: u64, bytes: &[u8]) {
        let mut world = self.0.borrow_mut();
        let page = world
            .machine
            .pages
            .get_mut(&(pasid, address / PAGE))
            .unwrap();
        let start = usize::try_from(address % PAGE).unwrap();
        page[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// The completion record at `address`.
    pub(crate) fn record(&self, pasid: Option<u32>, address: u64) -> CompletionRecord {
        let bytes = self.read_memory(pasid, address, CompletionRecord::SIZE);
        let word = |index: usize| {
            let start = 8 * index;
            u64::from_le_bytes(bytes[start..start + 8].try_into().unwrap())
        };
        CompletionRecord::from_words([word(0), word(1), word(2), word(3)])
    }

    /// Takes the interrupt messages that were sent.
    pub(crate) fn take_messages(&self) -> Vec<(u64, u32)> {
        std::mem::take(&mut self.0.borrow_mut().machine.messages)
    }

    /// Takes the violations that were recorded, where a test provokes some.
    pub(crate) fn take_violations(&self) -> Vec<String> {
        let violations = self.0.borrow().dsa.violations().to_vec();
        self.control("clear-violations");
        violations
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let violations = self.dsa.violations();
            assert!(violations.is_empty(), "{violations:#?}");
        }
    }
}

impl Machine {
    fn transfer(
        &mut self,
        requester: Requester,
        address: u64,
        length: usize,
        mut piece: impl FnMut(&mut [u8], usize),
    ) -> Result<(), TransferError> {
        let mut done = 0;
        while done < length {
            let at = address + done as u64;
            let start = usize::try_from(at % PAGE).unwrap();
            let count = (length - done).min(4096 - start);
            let key = (requester.pasid.map(dsa_model::Pasid::get), at / PAGE);
            let Some(page) = self.pages.get_mut(&key) else {
                return Err(TransferError {
                    transferred: done,
                    cause: BusError::PageFault,
                });
            };
            piece(&mut page[start..start + count], done);
            done += count;
        }
        Ok(())
    }
}

impl Bus for Machine {
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn read(
        &mut self,
        requester: Requester,
        address: u64,
        data: &mut [u8],
    ) -> Result<(), TransferError> {
        self.transfer(requester, address, data.len(), |memory, done| {
            data[done..done + memory.len()].copy_from_slice(memory);
        })
    }

    fn write(
        &mut self,
        requester: Requester,
        address: u64,
        data: &[u8],
    ) -> Result<(), TransferError> {
        self.transfer(requester, address, data.len(), |memory, done| {
            memory.copy_from_slice(&data[done..done + memory.len()]);
        })
    }

    fn send_message(&mut self, address: u64, data: u32) -> Result<(), BusError> {
        self.messages.push((address, data));
        Ok(())
    }
}

/// A window of the model's BAR0.
#[derive(Clone)]
pub(crate) struct ModelRegisters {
    model: Model,
    range: Range<usize>,
}

impl ModelRegisters {
    fn place<B: Bits>(&self, offset: usize) -> (u64, u32) {
        assert!(
            offset.is_multiple_of(B::BYTES) && offset + B::BYTES <= self.range.len(),
            "access of {} bytes to {offset:#x} of {:#x}",
            B::BYTES,
            self.range.len()
        );
        let offset = u64::try_from(self.range.start + offset).unwrap();
        (offset, u32::try_from(B::BYTES).unwrap())
    }
}

impl Registers for ModelRegisters {
    fn len_bytes(&self) -> usize {
        self.range.len()
    }

    fn read_raw<B: Bits>(&self, offset: usize) -> B {
        let (offset, size) = self.place::<B>(offset);
        B::from_low_bits(self.model.read_register(offset, size))
    }

    fn write_raw<B: Bits>(&mut self, offset: usize, value: B) {
        let (offset, size) = self.place::<B>(offset);
        self.model.write_register(offset, size, value.to_u64());
    }
}

impl Clock for Model {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.borrow().machine.now_ns)
    }

    fn relax(&self) {
        self.run_for(PATIENCE_NS);
    }
}

/// One page of a queue's portals.
pub(crate) struct ModelPortal {
    model: Model,
    offset: u64,
    transaction: Transaction,
}

impl Portal for ModelPortal {
    fn submit(&self, descriptor: &[u64; 8]) -> Submission {
        let mut bytes = [0; 64];
        for (place, word) in bytes.chunks_exact_mut(8).zip(descriptor) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let World { dsa, machine } = &mut *self.model.0.borrow_mut();
        match dsa.portal_write(2, self.offset, &bytes, self.transaction, machine) {
            Answer::Success => Submission::Accepted,
            Answer::Retry => Submission::Retry,
        }
    }
}
