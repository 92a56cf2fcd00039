//! A host that records what it is asked, and shorthands for a guest's accesses.

use std::collections::HashMap;

use hwio::Submission;
use hwspec::pci::Pasid;
use vdsa::{
    Answer, GuestAddr, Host, Message, NotRam, OPERATIONS, PasidPair, Policy, QueueIndex, QueueMode,
    QueueShape, Request, Shape, VirtualDsa, Window,
};

/// Something that the device did to its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Masked(u16, bool),
    Ignored(u16, bool),
    SlotPasid(u16, u32),
    Message(u16, Option<Message>),
    Inject(Message),
    Request(Request),
    Submit(QueueIndex, [u64; 8]),
}

/// Records everything; is pending where it is told.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) effects: Vec<Effect>,
    pub(crate) pending: Vec<u16>,
    pub(crate) memory: HashMap<u64, u64>,
    pub(crate) window: HashMap<usize, u64>,
}

impl Recorder {
    /// What happened since the last call.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }
}

impl Host for Recorder {
    fn read_guest(&self, at: GuestAddr, into: &mut [u64]) -> Result<(), NotRam> {
        for (word, address) in into.iter_mut().zip((at.0..).step_by(8)) {
            *word = self.memory.get(&address).copied().unwrap_or(0);
        }
        Ok(())
    }

    fn write_guest(&mut self, at: GuestAddr, words: &[u64]) -> Result<(), NotRam> {
        self.memory
            .extend((at.0..).step_by(8).zip(words.iter().copied()));
        Ok(())
    }

    fn read_window(&self, offset: usize, into: &mut [u64]) {
        for (word, offset) in into.iter_mut().zip((offset..).step_by(8)) {
            *word = self.window.get(&offset).copied().unwrap_or(0);
        }
    }

    fn write_window(&mut self, offset: usize, words: &[u64]) {
        self.window
            .extend((offset..).step_by(8).zip(words.iter().copied()));
    }

    fn submit(&mut self, queue: QueueIndex, descriptor: &[u64; 8]) -> Submission {
        self.effects.push(Effect::Submit(queue, *descriptor));
        Submission::Accepted
    }

    fn set_masked(&mut self, vector: u16, masked: bool) {
        self.effects.push(Effect::Masked(vector, masked));
    }

    fn set_ignored(&mut self, vector: u16, ignored: bool) {
        self.effects.push(Effect::Ignored(vector, ignored));
    }

    fn set_slot_pasid(&mut self, vector: u16, pasid: Pasid) {
        self.effects.push(Effect::SlotPasid(vector, pasid.value()));
    }

    fn is_pending(&self, vector: u16) -> bool {
        self.pending.contains(&vector)
    }

    fn set_message(&mut self, vector: u16, message: Option<Message>) {
        self.effects.push(Effect::Message(vector, message));
    }

    fn inject(&mut self, message: Message) {
        self.effects.push(Effect::Inject(message));
    }

    fn request(&mut self, request: Request) {
        self.effects.push(Effect::Request(request));
    }
}

pub(crate) fn pasid(value: u32) -> Pasid {
    Pasid::new(value).unwrap()
}

pub(crate) fn queue(index: usize) -> QueueIndex {
    QueueIndex::new(index).unwrap()
}

/// A dedicated queue as in the facts of a minimal device: 16 entries, priority 1,
/// transfers of 2^31 bytes, batches of 2^10.
pub(crate) fn dedicated(default_pasid: u32) -> QueueShape {
    QueueShape {
        mode: QueueMode::Dedicated,
        size: 16,
        threshold: 16,
        priority: 1,
        max_transfer_log2: 31,
        max_batch_log2: 10,
        default_pasid: pasid(default_pasid),
        policy: Policy::Checked,
        batch_handle: Some(BATCH_HANDLE),
        is_stand_in: false,
        submission_interval_ns: 0,
        is_slice: false,
    }
}

pub(crate) fn shared(default_pasid: u32) -> QueueShape {
    QueueShape {
        mode: QueueMode::Shared,
        ..dedicated(default_pasid)
    }
}

pub(crate) const WINDOW: Window = Window {
    base: 1 << 38,
    len_bytes: 0x10_0000,
};
/// By which batches of a queue end.
pub(crate) const BATCH_HANDLE: u16 = 0x70;
pub(crate) const BAR0: u64 = 0xf000_0000;
pub(crate) const BAR2: u64 = 0xf020_0000;

pub(crate) fn shape<'a>(queues: &'a [QueueShape], guest_pasids: &'a [PasidPair]) -> Shape<'a> {
    Shape {
        queues,
        guest_pasids,
        operations: OPERATIONS,
        window: WINDOW,
        bars: [BAR0, BAR2],
    }
}

/// Guest PASIDs 5 and 6 stand for 0x205 and 0x206.
pub(crate) fn two_pasids() -> [PasidPair; 2] {
    [5, 6].map(|guest| PasidPair {
        guest: pasid(guest),
        host: pasid(0x200 + guest),
        batch_handle: None,
    })
}

/// A device and its host.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) dsa: VirtualDsa,
    pub(crate) host: Recorder,
}

pub(crate) const GENCTRL: u32 = 0x88;
pub(crate) const GENSTS: u32 = 0x90;
pub(crate) const INTCAUSE: u32 = 0x98;
pub(crate) const CMD: u32 = 0xa0;
pub(crate) const CMDSTATUS: u32 = 0xa8;
pub(crate) const SWERROR: u32 = 0xc0;
pub(crate) const MSIXPERM: u32 = 0x300;
pub(crate) const GRPCFG: u32 = 0x400;
pub(crate) const WQCFG: u32 = 0x500;
pub(crate) const MSIX: u32 = 0x600;
pub(crate) const PBA: u32 = 0x700;
pub(crate) const ACTIVE: u32 = 0x8000_0000;

impl Rig {
    pub(crate) fn new(shape: &Shape<'_>) -> Self {
        Self {
            dsa: VirtualDsa::new(shape).unwrap(),
            host: Recorder::default(),
        }
    }

    /// Two dedicated queues with host PASIDs 0x101 and 0x102, and two guest PASIDs.
    pub(crate) fn two_queues() -> Self {
        Self::new(&shape(&[dedicated(0x101), dedicated(0x102)], &two_pasids()))
    }

    /// Memory space, bus mastering and MSI-X are on, all vectors unmasked: vector v
    /// has address 0xfee0_0000 and data 0x40 + v.
    pub(crate) fn set_up(mut self) -> Self {
        self.write_config(0x04, 2, 0x0006);
        self.write_config(0x42, 2, 0x8000);
        for vector in 0..=self.read_config(0x42, 2) & 0x7ff {
            let entry = MSIX + 16 * vector;
            self.write(entry, 8, 0xfee0_0000);
            self.write(entry + 8, 4, u64::from(0x40 + vector));
            self.write(entry + 12, 4, 0);
        }
        self.host.take();
        self
    }

    /// Set up, the device and queue 0 enabled.
    pub(crate) fn running(mut self) -> Self {
        self = self.set_up();
        assert_eq!(self.command(0x0010_0000, &[]), 0);
        assert_eq!(self.command(0x0060_0000, &[Answer::Done]), 0);
        self.host.take();
        self
    }

    pub(crate) fn read_config(&self, offset: u16, width: u8) -> u32 {
        self.dsa.read_config(offset, width)
    }

    pub(crate) fn write_config(&mut self, offset: u16, width: u8, value: u32) {
        self.dsa.write_config(&mut self.host, offset, width, value);
    }

    pub(crate) fn read(&self, offset: u32, width: u8) -> u64 {
        self.dsa.read_register(&self.host, offset, width)
    }

    pub(crate) fn read32(&self, offset: u32) -> u32 {
        u32::try_from(self.read(offset, 4)).unwrap()
    }

    pub(crate) fn write(&mut self, offset: u32, width: u8, value: u64) {
        self.dsa
            .write_register(&mut self.host, offset, width, value);
    }

    pub(crate) fn answer(&mut self, answer: Answer) {
        self.dsa.answer(&mut self.host, answer);
    }

    /// Writes CMD, answers what it asks, and returns CMDSTATUS.
    pub(crate) fn command(&mut self, command: u32, answers: &[Answer]) -> u32 {
        self.write(CMD, 4, command.into());
        for answer in answers {
            assert_eq!(self.read32(CMDSTATUS), ACTIVE, "{command:#x}");
            self.answer(*answer);
        }
        self.read32(CMDSTATUS)
    }

    /// Requests that were sent since the last look at the effects; forgets the rest.
    pub(crate) fn requests(&mut self) -> Vec<Request> {
        let effects = self.host.take().into_iter();
        effects
            .filter_map(|effect| match effect {
                Effect::Request(request) => Some(request),
                _ => None,
            })
            .collect()
    }
}

/// The message of a vector after [`Rig::set_up`].
pub(crate) fn message(vector: u32) -> Message {
    Message {
        address: 0xfee0_0000,
        data: 0x40 + vector,
    }
}
