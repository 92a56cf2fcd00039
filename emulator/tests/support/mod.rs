//! A machine for the device to live in: memory with address spaces, a log of
//! interrupt messages, a clock that moves when told to.
#![allow(dead_code, reason = "each test file uses the part of it that it needs")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

pub(crate) mod drive;

use std::collections::BTreeMap;

use dsa_model::{
    Answer, Bus, BusError, Dsa, Identity, Pasid, Requester, Transaction, TransferError,
};

pub(crate) const PAGE: u64 = 4096;

/// Bytes by (PASID, page number); a page that is not there faults.
#[derive(Default)]
pub(crate) struct Machine {
    pages: BTreeMap<(Option<u32>, u64), Page>,
    pub(crate) now_ns: u64,
    pub(crate) messages: Vec<(u64, u32)>,
    /// Every DMA access that succeeded or not, as (PASID, address, length, write).
    pub(crate) accesses: Vec<(Option<u32>, u64, usize, bool)>,
    /// Accesses above this address abort instead of faulting.
    pub(crate) aborts_from: Option<u64>,
    pub(crate) refuses_messages: bool,
}

struct Page {
    bytes: Box<[u8; PAGE as usize]>,
    writable: bool,
}

impl Machine {
    /// Maps pages for everything that touches `address..address + length`.
    pub(crate) fn map(&mut self, pasid: Option<u32>, address: u64, length: u64, writable: bool) {
        for page in address / PAGE..=(address + length.max(1) - 1) / PAGE {
            let bytes = Box::new([0; PAGE as usize]);
            self.pages.insert((pasid, page), Page { bytes, writable });
        }
    }

    pub(crate) fn unmap(&mut self, pasid: Option<u32>, address: u64) {
        self.pages.remove(&(pasid, address / PAGE));
    }

    /// Reads memory as the CPU would.
    pub(crate) fn peek(&self, pasid: Option<u32>, address: u64, length: usize) -> Vec<u8> {
        let byte =
            |at: u64| self.pages[&(pasid, at / PAGE)].bytes[usize::try_from(at % PAGE).unwrap()];
        (address..address + length as u64).map(byte).collect()
    }

    /// Reads one byte as the CPU would: the status of a completion record.
    pub(crate) fn peek_byte(&self, pasid: Option<u32>, address: u64) -> u8 {
        self.peek(pasid, address, 1)[0]
    }

    /// Writes memory as the CPU would.
    pub(crate) fn poke(&mut self, pasid: Option<u32>, address: u64, bytes: &[u8]) {
        for (at, byte) in (address..).zip(bytes) {
            let page = self.pages.get_mut(&(pasid, at / PAGE)).expect("mapped");
            page.bytes[usize::try_from(at % PAGE).unwrap()] = *byte;
        }
    }

    fn transfer(
        &mut self,
        requester: Requester,
        address: u64,
        length: usize,
        write: bool,
        mut piece: impl FnMut(&mut [u8], usize),
    ) -> Result<(), TransferError> {
        let pasid = requester.pasid.map(Pasid::get);
        self.accesses.push((pasid, address, length, write));
        let mut done = 0;
        while done < length {
            let at = address + done as u64;
            let inside = usize::try_from(at % PAGE).unwrap();
            let count = (length - done).min(PAGE as usize - inside);
            if self.aborts_from.is_some_and(|limit| at >= limit) {
                return Err(TransferError {
                    transferred: done,
                    cause: BusError::Aborted,
                });
            }
            let page = self.pages.get_mut(&(pasid, at / PAGE));
            let Some(page) = page.filter(|page| page.writable || !write) else {
                return Err(TransferError {
                    transferred: done,
                    cause: BusError::PageFault,
                });
            };
            piece(&mut page.bytes[inside..inside + count], done);
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
        self.transfer(requester, address, data.len(), false, |memory, done| {
            data[done..done + memory.len()].copy_from_slice(memory);
        })
    }

    fn write(
        &mut self,
        requester: Requester,
        address: u64,
        data: &[u8],
    ) -> Result<(), TransferError> {
        self.transfer(requester, address, data.len(), true, |memory, done| {
            memory.copy_from_slice(&data[done..done + memory.len()]);
        })
    }

    fn send_message(&mut self, address: u64, data: u32) -> Result<(), BusError> {
        if self.refuses_messages {
            return Err(BusError::Aborted);
        }
        self.messages.push((address, data));
        Ok(())
    }
}

/// A device in its machine, driven as a driver would.
pub(crate) struct Rig {
    pub(crate) dsa: Dsa,
    pub(crate) machine: Machine,
}

/// How a queue is to be configured.
#[derive(Clone, Copy)]
pub(crate) struct QueueSetup {
    pub(crate) size: u32,
    pub(crate) threshold: u32,
    pub(crate) dedicated: bool,
    pub(crate) priority: u32,
    pub(crate) pasid: Option<u32>,
    pub(crate) privileged: bool,
}

impl Default for QueueSetup {
    fn default() -> Self {
        Self {
            size: 16,
            threshold: 16,
            dedicated: true,
            priority: 10,
            pasid: None,
            privileged: false,
        }
    }
}

pub(crate) const ENABLE_DEVICE: u32 = 1 << 20;
pub(crate) const ENABLE_WQ: u32 = 6 << 20;

impl Rig {
    pub(crate) fn new(options: &str) -> Self {
        let dsa = Dsa::new(Identity::parse(options).unwrap()).unwrap();
        let mut this = Self {
            dsa,
            machine: Machine::default(),
        };
        // MSE and BME, MSI-X enabled, PASID with privileged mode.
        this.config_write(0x04, 2, 0x0006);
        this.config_write(0x82, 2, 0x8000);
        this.config_write(0x236, 2, 0x0005);
        // Message addresses that tell the vectors apart, unmasked.
        for vector in 0..this.dsa.identity().msix_vectors() {
            let entry = 0x2000 + u64::from(vector) * 16;
            this.write32(entry, 0xfee0_0000);
            this.write32(entry + 8, 0x100 + u32::from(vector));
            this.write32(entry + 12, 0);
        }
        this
    }

    pub(crate) fn config_write(&mut self, offset: usize, size: usize, value: u32) -> bool {
        self.dsa
            .config_write(offset, size, value, &mut self.machine)
    }

    pub(crate) fn enable_ats(&mut self) {
        self.config_write(0x226, 2, 0x8000);
    }

    pub(crate) fn read32(&mut self, offset: u64) -> u32 {
        u32::try_from(self.dsa.mmio_read(0, offset, 4)).unwrap()
    }

    pub(crate) fn read64(&mut self, offset: u64) -> u64 {
        self.dsa.mmio_read(0, offset, 8)
    }

    pub(crate) fn write32(&mut self, offset: u64, value: u32) {
        self.dsa
            .mmio_write(0, offset, 4, value.into(), &mut self.machine);
    }

    pub(crate) fn write64(&mut self, offset: u64, value: u64) {
        self.dsa.mmio_write(0, offset, 8, value, &mut self.machine);
    }

    /// Lets time pass until the device has nothing left to do.
    pub(crate) fn run(&mut self) {
        for _ in 0..1_000_000 {
            let Some(deadline) = self.dsa.deadline() else {
                return;
            };
            self.machine.now_ns = self.machine.now_ns.max(deadline);
            self.dsa.advance(&mut self.machine);
        }
        panic!("the device does not come to rest");
    }

    /// Lets at most `ns` pass.
    pub(crate) fn run_for(&mut self, ns: u64) {
        let end = self.machine.now_ns + ns;
        while let Some(deadline) = self.dsa.deadline().filter(|deadline| *deadline <= end) {
            self.machine.now_ns = self.machine.now_ns.max(deadline);
            self.dsa.advance(&mut self.machine);
        }
        self.machine.now_ns = end;
    }

    /// Issues a command and waits for it; returns CMDSTATUS.
    pub(crate) fn command(&mut self, word: u32) -> u32 {
        self.write32(0xa0, word);
        self.run();
        self.read32(0xa8)
    }

    /// Configures queue `queue` in group 0 with engine 0; the device must be
    /// Disabled.
    pub(crate) fn configure(&mut self, queue: u64, setup: QueueSetup) {
        let stride = if self.dsa.identity().version() >= 0x200 {
            64
        } else {
            32
        };
        let wqcfg = 0x4000 + queue * stride;
        let pasid = setup.pasid.map_or(0, |pasid| 1 << 28 | pasid << 8);
        self.write32(wqcfg, setup.size);
        self.write32(wqcfg + 4, setup.threshold);
        let word2 = u32::from(setup.dedicated)
            | setup.priority << 4
            | pasid
            | u32::from(setup.privileged) << 29;
        self.write32(wqcfg + 8, word2);
        self.write32(wqcfg + 12, 31 | 10 << 5);
        let queues = self.read64(0x400) | 1 << queue;
        self.write64(0x400, queues);
        if self.read64(0x420) == 0 {
            self.write64(0x420, 1);
        }
    }

    /// Enables the device and the given queues.
    pub(crate) fn enable(&mut self, queues: &[u32]) {
        assert_eq!(self.command(ENABLE_DEVICE), 0, "Enable Device");
        for queue in queues {
            assert_eq!(self.command(ENABLE_WQ | queue), 0, "Enable WQ {queue}");
        }
    }

    /// A box with one dedicated queue, enabled.
    pub(crate) fn with_queue(options: &str, setup: QueueSetup) -> Self {
        let mut this = Self::new(options);
        let gencfg = this.read32(0x80);
        this.write32(0x80, gencfg | 1 << 12);
        this.configure(0, setup);
        this.enable(&[0]);
        this
    }

    /// MOVDIR64B to the limited MSI-X portal (page 1), or another page.
    pub(crate) fn post(&mut self, queue: u64, page: u64, descriptor: &Bytes) {
        let offset = queue * 0x4000 + page * 0x1000;
        self.dsa.portal_write(
            2,
            offset,
            &descriptor.0,
            Transaction::Posted,
            &mut self.machine,
        );
    }

    /// ENQCMD likewise; returns whether it was accepted.
    pub(crate) fn enqueue(&mut self, queue: u64, page: u64, descriptor: &Bytes) -> bool {
        let offset = queue * 0x4000 + page * 0x1000;
        let machine = &mut self.machine;
        let answer =
            self.dsa
                .portal_write(2, offset, &descriptor.0, Transaction::Deferrable, machine);
        answer == Answer::Success
    }

    pub(crate) fn control(&mut self, command: &str) -> String {
        self.dsa.control(command, &mut self.machine).unwrap()
    }

    /// SWERROR's four quadwords.
    pub(crate) fn software_error(&mut self) -> [u64; 4] {
        [0xc0, 0xc8, 0xd0, 0xd8].map(|offset| self.read64(offset))
    }
}

/// The 64 bytes of a descriptor, laid out by hand here and not by the model.
#[derive(Clone, Copy)]
pub(crate) struct Bytes(pub(crate) [u8; 64]);

pub(crate) const CRAV: u32 = 1 << 2;
pub(crate) const RCR: u32 = 1 << 3;
pub(crate) const RCI: u32 = 1 << 4;

impl Bytes {
    pub(crate) fn new(operation: u8, flags: u32) -> Self {
        Self([0; 64])
            .with(4, &flags.to_le_bytes()[..3])
            .with(7, &[operation])
    }

    pub(crate) fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn pasid(self, pasid: u32) -> Self {
        self.with(0, &pasid.to_le_bytes())
    }

    pub(crate) fn record(self, address: u64) -> Self {
        self.with(8, &address.to_le_bytes())
    }

    pub(crate) fn source(self, address: u64) -> Self {
        self.with(16, &address.to_le_bytes())
    }

    pub(crate) fn destination(self, address: u64) -> Self {
        self.with(24, &address.to_le_bytes())
    }

    pub(crate) fn size(self, bytes: u32) -> Self {
        self.with(32, &bytes.to_le_bytes())
    }

    pub(crate) fn handle(self, handle: u16) -> Self {
        self.with(36, &handle.to_le_bytes())
    }
}

/// A memory move with a completion record.
pub(crate) fn memory_move(source: u64, destination: u64, size: u32, record: u64) -> Bytes {
    Bytes::new(3, CRAV | RCR)
        .record(record)
        .source(source)
        .destination(destination)
        .size(size)
}
