//! The accelerator's model with one queue, in a machine whose memory is one guest's RAM
//! and one window.

use dsa_model::{Answer, Bus, BusError, Dsa, Identity, Requester, Transaction, TransferError};

/// Bytes of the guest's RAM, which begins at 0.
pub(crate) const RAM: usize = 0x1_0000;
/// Where the window is.
pub(crate) const WINDOW: u64 = 1 << 38;
/// Host PASID of the queue.
pub(crate) const PASID: u32 = 0x101;
/// The IMS slots that are programmed, and their PASIDs. They send their own number.
pub(crate) const SLOTS: [(u16, u32); 3] = [
    (HANDLE, PASID),
    (FOREIGN_HANDLE, 0x102),
    (OWN_HANDLE, PASID),
];
/// The guest's, vector 1.
pub(crate) const HANDLE: u16 = 0x33;
/// Of vector 2, for another PASID.
pub(crate) const FOREIGN_HANDLE: u16 = 0x34;
/// Weir's.
pub(crate) const OWN_HANDLE: u16 = 0x77;
/// The queue has transfers of up to 16 KiB,
pub(crate) const MAX_TRANSFER_LOG2: u8 = 14;
/// and batches of up to 8.
pub(crate) const MAX_BATCH_LOG2: u8 = 3;

/// [DSA 3.0, 9.3 "Portals (BAR2)"]: queue 0, limited, IMS.
const PORTAL: u64 = 0x3000;

const GENCFG: u64 = 0x80;
const CMD: u64 = 0xa0;
const CMDSTATUS: u64 = 0xa8;
const SWERROR: u64 = 0xc0;
/// The tables of the model.
const GRPCFG: u64 = 0x400;
const WQCFG: u64 = 0x4000;
const IMS: u64 = 0x1_0000;

/// What an error in SWERROR says that both ways have in common: its code, whether it is
/// about a member of a batch and which, and the address.
pub(crate) type Error = (u8, Option<u16>, u64);

/// The device and its machine.
pub(crate) struct Device {
    dsa: Dsa,
    pub(crate) machine: Machine,
    is_shared: bool,
}

pub(crate) struct Machine {
    now_ns: u64,
    pub(crate) ram: Vec<u8>,
    /// Not there if it is empty.
    pub(crate) window: Vec<u8>,
    pub(crate) messages: Vec<u16>,
}

impl Device {
    /// A device with one queue, enabled, and a window of `window` bytes.
    pub(crate) fn new(options: &str, is_shared: bool, window: usize) -> Self {
        let mut this = Self {
            dsa: Dsa::new(Identity::parse(options).unwrap()).unwrap(),
            machine: Machine {
                now_ns: 0,
                ram: vec![0; RAM],
                window: vec![0; window],
                messages: Vec::new(),
            },
            is_shared,
        };
        // Memory space and bus mastering, PASID without privileged mode.
        for (offset, value) in [(0x04, 0x0006), (0x236, 0x0001)] {
            let machine = &mut this.machine;
            this.dsa.config_write(offset, 2, value, machine);
        }
        let gencfg = this.dsa.mmio_read(0, GENCFG, 4);
        this.write(GENCFG, 4, gencfg | 1 << 12);
        this.write(GRPCFG, 8, 1);
        this.write(GRPCFG + 0x20, 8, 1);
        let dedicated = u64::from(!is_shared) | u64::from(PASID) << 8;
        let limits = u64::from(MAX_TRANSFER_LOG2) | u64::from(MAX_BATCH_LOG2) << 5;
        for (offset, value) in [
            (0, 16),
            (4, 16),
            (8, dedicated | 1 << 28 | 1 << 4),
            (12, limits),
        ] {
            this.write(WQCFG + offset, 4, value);
        }
        for (slot, pasid) in SLOTS {
            let entry = IMS + 16 * u64::from(slot);
            this.write(entry + 8, 4, slot.into());
            this.write(entry + 12, 4, u64::from(pasid) << 12 | 1 << 3);
        }
        for command in [1 << 20, 6 << 20] {
            this.write(CMD, 4, command);
            this.run();
            assert_eq!(this.dsa.mmio_read(0, CMDSTATUS, 4), 0);
        }
        this.forget_violations();
        this
    }

    fn write(&mut self, offset: u64, size: u32, value: u64) {
        self.dsa
            .mmio_write(0, offset, size, value, &mut self.machine);
    }

    /// The bench has nothing to say about what guests do.
    pub(crate) fn forget_violations(&mut self) {
        let machine = &mut self.machine;
        self.dsa.control("clear-violations", machine).unwrap();
    }

    /// Hands 64 bytes to the portal; returns whether they were taken.
    pub(crate) fn submit(&mut self, words: &[u64; 8]) -> bool {
        let mut bytes = [0; 64];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let transaction = if self.is_shared {
            Transaction::Deferrable
        } else {
            Transaction::Posted
        };
        let machine = &mut self.machine;
        self.dsa
            .portal_write(2, PORTAL, &bytes, transaction, machine)
            == Answer::Success
    }

    /// Lets time pass until the device is idle.
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

    /// Takes the error in SWERROR.
    pub(crate) fn take_error(&mut self) -> Option<Error> {
        let [first, second, address] =
            [0, 8, 16].map(|offset| self.dsa.mmio_read(0, SWERROR + offset, 8));
        self.write(SWERROR, 8, 3);
        if first & 1 == 0 {
            return None;
        }
        let [_, code, ..] = first.to_le_bytes();
        let [low, high, ..] = second.to_le_bytes();
        let index = (first >> 4 & 1 == 1).then_some(u16::from_le_bytes([low, high]));
        Some((code, index, address))
    }

    /// Takes the interrupts that were raised, in no order.
    pub(crate) fn take_interrupts(&mut self) -> Vec<u16> {
        let mut messages = std::mem::take(&mut self.machine.messages);
        messages.sort_unstable();
        messages
    }
}

impl Machine {
    /// The memory from `address` to the end of what is there.
    fn memory(&mut self, requester: Requester, address: u64, is_write: bool) -> &mut [u8] {
        let nothing = &mut [];
        if requester.pasid.map(dsa_model::Pasid::get) != Some(PASID) {
            return nothing;
        }
        let (memory, offset) = if address >= WINDOW {
            let offset = address - WINDOW;
            // The first page is all that the device may write.
            let end = if is_write { 4096 } else { usize::MAX };
            let end = end.min(self.window.len());
            (&mut self.window[..end], offset)
        } else {
            (&mut self.ram[..], address)
        };
        match usize::try_from(offset)
            .ok()
            .and_then(|o| memory.get_mut(o..))
        {
            Some(rest) => rest,
            None => nothing,
        }
    }

    fn transfer(
        memory: &mut [u8],
        length: usize,
        piece: impl FnOnce(&mut [u8]),
    ) -> Result<(), TransferError> {
        let count = length.min(memory.len());
        piece(&mut memory[..count]);
        if count == length {
            return Ok(());
        }
        Err(TransferError {
            transferred: count,
            cause: BusError::PageFault,
        })
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
        let memory = self.memory(requester, address, false);
        Self::transfer(memory, data.len(), |memory| {
            data[..memory.len()].copy_from_slice(memory);
        })
    }

    fn write(
        &mut self,
        requester: Requester,
        address: u64,
        data: &[u8],
    ) -> Result<(), TransferError> {
        let memory = self.memory(requester, address, true);
        Self::transfer(memory, data.len(), |memory| {
            memory.copy_from_slice(&data[..memory.len()]);
        })
    }

    fn send_message(&mut self, _: u64, data: u32) -> Result<(), BusError> {
        self.messages.push(u16::try_from(data).unwrap());
        Ok(())
    }
}
