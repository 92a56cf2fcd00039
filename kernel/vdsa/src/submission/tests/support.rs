//! A host with a little memory, and a queue to submit to.

use std::cell::{Cell, RefCell};
use std::vec;
use std::vec::Vec;

use hwio::Submission as Answer;
use hwspec::pci::Pasid;

use super::super::{Notices, Submission, window_bytes};
use crate::{
    GuestAddr, Handle, HandleTable, Host, Message, NotRam, OPERATIONS, PasidMap, PasidPair, Policy,
    QueueIndex, QueueMode, QueuePasid, QueueView, Request, SubmissionKind, SubmissionRequest,
    SubmitResult, Window,
};

/// The guest's RAM ends here.
pub(super) const RAM: u64 = 0x20_0000;
/// Where the window is.
pub(super) const WINDOW: u64 = 1 << 38;
/// The queue has batches of up to 16 descriptors.
const MAX_BATCH_LOG2: u8 = 4;
/// The window has room for batches of up to 32.
pub(super) const LIST_LOG2: u8 = 5;
/// How many batches there can be.
pub(super) const BATCHES: usize = 2;
/// The host PASID of the queue.
pub(super) const PASID: u32 = 0x101;
/// The handle of vector 1, of the queue's PASID.
pub(super) const HANDLE: u16 = 0x33;
/// The handle of vector 2, of PASID 0x102.
pub(super) const FOREIGN_HANDLE: u16 = 0x34;
/// The handle of vector 3, of a guest PASID that is unknown.
pub(super) const ORPHAN_HANDLE: u16 = 0x35;
/// Weir's own.
pub(super) const BATCH_HANDLE: u16 = 0x77;

pub(super) fn pasid(value: u32) -> Pasid {
    Pasid::new(value).unwrap()
}

/// Memory, and what was submitted.
pub(super) struct FakeHost {
    pub(super) ram: RefCell<Vec<u64>>,
    /// How often each word of RAM was read.
    pub(super) reads: RefCell<Vec<u32>>,
    /// Whether a word changes when it is read, as if the guest wrote it meanwhile.
    pub(super) is_changing: Cell<bool>,
    pub(super) window: Vec<u64>,
    pub(super) submitted: Vec<(u8, [u64; 8])>,
    /// Answers that are Retry.
    pub(super) retries: usize,
    /// The slice has no entry left.
    pub(super) is_full: bool,
    /// Words of RAM in the order in which they were written.
    pub(super) written: Vec<u64>,
}

impl FakeHost {
    pub(super) fn new() -> Self {
        let words = usize::try_from(RAM / 8).unwrap();
        let window = usize::try_from(window_bytes(BATCHES, LIST_LOG2) / 8).unwrap();
        Self {
            ram: RefCell::new(vec![0; words]),
            reads: RefCell::new(vec![0; words]),
            is_changing: Cell::new(false),
            window: vec![0; window],
            submitted: Vec::new(),
            retries: 0,
            is_full: false,
            written: Vec::new(),
        }
    }

    /// The words of RAM at `at`.
    fn range(at: GuestAddr, count: usize) -> Result<core::ops::Range<usize>, NotRam> {
        assert!(at.0.is_multiple_of(8), "{at:?}");
        let end = at.0.checked_add(8 * count as u64).ok_or(NotRam)?;
        if end > RAM {
            return Err(NotRam);
        }
        let first = usize::try_from(at.0 / 8).unwrap();
        Ok(first..first + count)
    }

    pub(super) fn words<const N: usize>(&self, at: u64) -> [u64; N] {
        let range = Self::range(GuestAddr(at), N).unwrap();
        self.ram.borrow()[range].try_into().unwrap()
    }

    pub(super) fn set(&mut self, at: u64, words: &[u64]) {
        let range = Self::range(GuestAddr(at), words.len()).unwrap();
        self.ram.borrow_mut()[range].copy_from_slice(words);
    }

    /// The device completes what has slot `slot`.
    pub(super) fn complete(&mut self, slot: usize, record: [u64; 4]) {
        self.window[slot * 8..slot * 8 + 4].copy_from_slice(&record);
    }

    /// The members in the window of slot `slot`.
    pub(super) fn members(&self, slot: usize, count: usize) -> Vec<[u64; 8]> {
        let first = (0x1000 + slot * (64 << LIST_LOG2)) / 8;
        let words = &self.window[first..first + 8 * count];
        words.as_chunks().0.to_vec()
    }

    /// The only descriptor that was submitted.
    pub(super) fn only(&self) -> [u64; 8] {
        assert_eq!(self.submitted.len(), 1, "{:x?}", self.submitted);
        self.submitted[0].1
    }
}

impl Host for FakeHost {
    fn read_guest(&self, at: GuestAddr, into: &mut [u64]) -> Result<(), NotRam> {
        let range = Self::range(at, into.len())?;
        let (mut ram, mut reads) = (self.ram.borrow_mut(), self.reads.borrow_mut());
        for (index, word) in range.zip(into) {
            *word = ram[index];
            reads[index] += 1;
            if self.is_changing.get() {
                ram[index] = !ram[index];
            }
        }
        Ok(())
    }

    fn write_guest(&mut self, at: GuestAddr, words: &[u64]) -> Result<(), NotRam> {
        let range = Self::range(at, words.len())?;
        self.ram.borrow_mut()[range].copy_from_slice(words);
        self.written
            .extend((0..words.len() as u64).map(|index| at.0 + 8 * index));
        Ok(())
    }

    fn read_window(&self, offset: usize, into: &mut [u64]) {
        into.copy_from_slice(&self.window[offset / 8..offset / 8 + into.len()]);
    }

    fn write_window(&mut self, offset: usize, words: &[u64]) {
        self.window[offset / 8..offset / 8 + words.len()].copy_from_slice(words);
    }

    fn has_room(&mut self, queue: QueueIndex) -> bool {
        assert_eq!(queue.value(), 3);
        !self.is_full
    }

    fn submit(&mut self, queue: QueueIndex, descriptor: &[u64; 8]) -> Answer {
        if self.retries != 0 {
            self.retries -= 1;
            return Answer::Retry;
        }
        self.submitted.push((queue.value(), *descriptor));
        Answer::Accepted
    }

    fn set_masked(&mut self, _: u16, _: bool) {
        panic!("not the check's business");
    }

    fn set_ignored(&mut self, _: u16, _: bool) {
        panic!("not the check's business");
    }

    fn set_slot_pasid(&mut self, _: u16, _: Pasid) {
        panic!("not the check's business");
    }

    fn is_pending(&self, _: u16) -> bool {
        panic!("not the check's business");
    }

    fn set_message(&mut self, _: u16, _: Option<Message>) {
        panic!("not the check's business");
    }

    fn inject(&mut self, _: Message) {
        panic!("the check leaves interrupts to the device's vectors");
    }

    fn request(&mut self, _: Request) {
        panic!("not the check's business");
    }
}

/// A guest's submissions, its handles, and its host.
pub(super) struct Rig {
    pub(super) submission: Submission,
    pub(super) host: FakeHost,
    pub(super) handles: HandleTable,
    pub(super) pasids: PasidMap,
    /// What is different about the queue.
    pub(super) shape: fn(&mut QueueView<'_>),
    /// A shared queue with PASIDs.
    pub(super) names_pasids: bool,
    pub(super) now_ns: u64,
}

impl Rig {
    /// A dedicated queue.
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// A queue that `shape` makes different from a dedicated one.
    pub(super) fn with(shape: fn(&mut QueueView<'_>)) -> Self {
        let mut handles = HandleTable::default();
        for (vector, handle, slot) in [
            (1, HANDLE, Some(PASID)),
            (2, FOREIGN_HANDLE, Some(0x102)),
            (3, ORPHAN_HANDLE, None),
        ] {
            handles.set(Handle {
                vector,
                handle,
                pasid: slot.map(pasid),
            });
        }
        let window = Window {
            base: WINDOW,
            len_bytes: window_bytes(BATCHES, LIST_LOG2),
        };
        Self {
            submission: Submission::new(window, LIST_LOG2),
            host: FakeHost::new(),
            handles,
            pasids: PasidMap::new(&[PasidPair {
                guest: pasid(5),
                host: pasid(PASID),
                batch_handle: None,
            }]),
            shape,
            names_pasids: false,
            now_ns: 1_000_000,
        }
    }

    /// A shared queue whose submissions name their PASID.
    pub(super) fn shared() -> Self {
        Self {
            names_pasids: true,
            ..Self::with(|view| {
                view.mode = QueueMode::Shared;
                view.is_pasid_enabled = true;
                view.batch_handle = None;
            })
        }
    }

    pub(super) fn request(
        &mut self,
        kind: SubmissionKind,
        offset: u64,
        named: Option<u32>,
        words: [u64; 8],
    ) -> (SubmitResult, Notices) {
        let mut view = view(&self.handles);
        if self.names_pasids {
            view.pasid = QueuePasid::OfSubmission(&self.pasids);
        }
        (self.shape)(&mut view);
        let request = SubmissionRequest {
            offset,
            kind,
            pasid: named.map(pasid),
            words,
            now_ns: self.now_ns,
        };
        self.submission.submit(&view, &mut self.host, &request)
    }

    /// ENQCMD to the limited portal, with what IA32_PASID holds.
    pub(super) fn enqueue(
        &mut self,
        named: Option<u32>,
        words: [u64; 8],
    ) -> (SubmitResult, Notices) {
        self.request(SubmissionKind::Enqcmd, 0x1000, named, words)
    }

    /// MOVDIR64B to the limited portal.
    pub(super) fn post(&mut self, words: [u64; 8]) -> (SubmitResult, Notices) {
        self.request(SubmissionKind::Movdir64b, 0x1000, None, words)
    }
}

/// A dedicated queue, number 3.
fn view(handles: &HandleTable) -> QueueView<'_> {
    QueueView {
        index: QueueIndex::new(3).unwrap(),
        is_enabled: true,
        is_aborting: false,
        mode: QueueMode::Dedicated,
        is_limited_portal: true,
        size: 16,
        threshold: 8,
        max_transfer_log2: 20,
        max_batch_log2: MAX_BATCH_LOG2,
        pasid: QueuePasid::OfQueue(pasid(PASID)),
        is_pasid_enabled: false,
        guest_pasid: pasid(9),
        is_privileged: false,
        handles,
        operations: OPERATIONS,
        window: Window {
            base: WINDOW,
            len_bytes: window_bytes(BATCHES, LIST_LOG2),
        },
        batch_handle: Some(BATCH_HANDLE),
        policy: Policy::Checked,
        submission_interval_ns: 0,
        is_slice: false,
    }
}
