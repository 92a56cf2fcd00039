//! A guest in front of the check, and the same guest in front of bare hardware.

use std::ops::Range;

use hwio::Submission as Answer;
use hwspec::pci::Pasid;
use vdsa::{
    GuestAddr, Handle, HandleTable, Host, Message, NotRam, Notices, OPERATIONS, PasidMap,
    PasidPair, Policy, QueueIndex, QueueMode, QueuePasid, QueueView, Request, Rule, Submission,
    SubmissionKind, SubmissionRequest, SubmitResult, Window, window_bytes,
};

use crate::device::{
    Device, Error, FOREIGN_HANDLE, HANDLE, MAX_BATCH_LOG2, MAX_TRANSFER_LOG2, OWN_HANDLE, PASID,
    RAM, WINDOW,
};

/// The guest PASID that stands for [`PASID`].
const GUEST_PASID: u32 = 5;
/// How many batches may be in flight.
const BATCHES: usize = 2;

/// What a guest sees of what it submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its memory, afterwards.
    pub(crate) ram: Vec<u8>,
    /// What SWERROR says.
    pub(crate) error: Option<Error>,
    /// The interrupts it got, by handle.
    pub(crate) interrupts: Vec<u16>,
}

/// A guest whose submissions are checked.
pub(crate) struct Checked {
    pub(crate) submission: Submission,
    pub(crate) device: Device,
    handles: HandleTable,
    pasids: PasidMap,
    is_shared: bool,
}

/// The window of [`Checked`].
pub(crate) fn window() -> Range<u64> {
    WINDOW..WINDOW + window_bytes(BATCHES, MAX_BATCH_LOG2)
}

fn pasid(value: u32) -> Pasid {
    Pasid::new(value).unwrap()
}

impl Checked {
    pub(crate) fn new(options: &str, is_shared: bool) -> Self {
        let mut handles = HandleTable::default();
        for (vector, handle, slot) in [(1, HANDLE, PASID), (2, FOREIGN_HANDLE, 0x102)] {
            handles.set(Handle {
                vector,
                handle,
                pasid: Some(pasid(slot)),
            });
        }
        let len_bytes = window_bytes(BATCHES, MAX_BATCH_LOG2);
        let window = Window {
            base: WINDOW,
            len_bytes,
        };
        Self {
            submission: Submission::new(window, MAX_BATCH_LOG2),
            device: Device::new(options, is_shared, usize::try_from(len_bytes).unwrap()),
            handles,
            pasids: PasidMap::new(&[PasidPair {
                guest: pasid(GUEST_PASID),
                host: pasid(PASID),
                batch_handle: None,
            }]),
            is_shared,
        }
    }

    /// Submits `words` with the memory `ram`, and lets the device finish.
    pub(crate) fn run(&mut self, ram: &[u8], words: &[u64; 8]) -> Seen {
        self.device.machine.ram.copy_from_slice(ram);
        let mut words = *words;
        let view = QueueView {
            index: QueueIndex::new(0).unwrap(),
            is_enabled: true,
            is_aborting: false,
            mode: if self.is_shared {
                words[0] = words[0] & !0xf_ffff | u64::from(GUEST_PASID);
                QueueMode::Shared
            } else {
                QueueMode::Dedicated
            },
            is_limited_portal: true,
            size: 16,
            threshold: 16,
            max_transfer_log2: MAX_TRANSFER_LOG2,
            max_batch_log2: MAX_BATCH_LOG2,
            pasid: if self.is_shared {
                QueuePasid::OfSubmission(&self.pasids)
            } else {
                QueuePasid::OfQueue(pasid(PASID))
            },
            is_pasid_enabled: self.is_shared,
            guest_pasid: pasid(0),
            is_privileged: false,
            handles: &self.handles,
            operations: OPERATIONS,
            window: Window {
                base: WINDOW,
                len_bytes: window().end - WINDOW,
            },
            batch_handle: (!self.is_shared).then_some(OWN_HANDLE),
            policy: Policy::Checked,
            submission_interval_ns: 0,
            is_slice: false,
        };
        let request = SubmissionRequest {
            offset: 0x1000,
            kind: if self.is_shared {
                SubmissionKind::Enqcmds
            } else {
                SubmissionKind::Movdir64b
            },
            pasid: None,
            words,
            now_ns: 0,
        };
        let batches = self.submission.counters().batches;
        let mut surroundings = Surroundings(&mut self.device);
        let (result, notices) = self.submission.submit(&view, &mut surroundings, &request);
        assert_eq!(result, SubmitResult::Accepted);
        let mut told = vec![notices];
        self.device.run();
        let mut interrupts = self.device.take_interrupts();
        let for_weir = interrupts
            .iter()
            .filter(|slot| **slot == OWN_HANDLE)
            .count();
        let batches = self.submission.counters().batches - batches;
        // Where submissions name their PASID, no handle has it.
        let expected = if self.is_shared { 0 } else { batches };
        assert_eq!(for_weir as u64, expected, "one interrupt for each batch");
        interrupts.retain(|slot| *slot != OWN_HANDLE);
        let mut surroundings = Surroundings(&mut self.device);
        while let Some(notices) = self.submission.collect(&mut surroundings) {
            told.push(notices);
        }
        assert_eq!(self.submission.in_flight(), 0);

        let from_check = told.iter().find_map(|notices| notices.error.map(error_of));
        let from_device = self.device.take_error();
        self.device.forget_violations();
        interrupts.extend(told.iter().filter_map(handle_of));
        interrupts.sort_unstable();
        Seen {
            ram: self.device.machine.ram.clone(),
            error: from_check.or(from_device),
            interrupts,
        }
    }

    /// The rules that were broken since the last time.
    pub(crate) fn take_rules(&mut self) -> Vec<Rule> {
        let rules = self.submission.refusals().recent();
        let rules = rules.map(|refusal| refusal.rule).collect();
        let len_bytes = window().end - WINDOW;
        let window = Window {
            base: WINDOW,
            len_bytes,
        };
        self.submission = Submission::new(window, MAX_BATCH_LOG2);
        rules
    }
}

fn handle_of(notices: &Notices) -> Option<u16> {
    notices.interrupt.map(|vector| {
        assert_eq!(vector, 1, "the only vector of this PASID");
        HANDLE
    })
}

fn error_of(error: vdsa::SoftwareErrorRecord) -> Error {
    let index = error.word1.batch_index();
    let index = error.word0.batch_member().then_some(index);
    (error.word0.error_code().0, index, error.address)
}

/// The same guest in front of bare hardware.
pub(crate) struct Bare(pub(crate) Device);

impl Bare {
    pub(crate) fn new(is_shared: bool) -> Self {
        Self(Device::new("", is_shared, 0))
    }

    /// Submits `words` with the memory `ram`, and lets the device finish.
    pub(crate) fn run(&mut self, ram: &[u8], words: &[u64; 8]) -> Seen {
        let device = &mut self.0;
        device.machine.ram.copy_from_slice(ram);
        let mut words = *words;
        words[0] = words[0] & !0xf_ffff | u64::from(PASID);
        assert!(device.submit(&words));
        device.run();
        device.forget_violations();
        let error = device.take_error();
        Seen {
            ram: device.machine.ram.clone(),
            error,
            interrupts: device.take_interrupts(),
        }
    }
}

/// What is around the check.
struct Surroundings<'a>(&'a mut Device);

fn range(at: u64, words: usize, end: usize) -> Result<Range<usize>, NotRam> {
    assert!(at.is_multiple_of(8), "{at:#x}");
    let start = usize::try_from(at).map_err(|_| NotRam)?;
    let bytes = start..start.checked_add(8 * words).ok_or(NotRam)?;
    if bytes.end > end {
        return Err(NotRam);
    }
    Ok(bytes)
}

fn load(bytes: &[u8], into: &mut [u64]) {
    for (word, bytes) in into.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().unwrap());
    }
}

fn store(bytes: &mut [u8], words: &[u64]) {
    for (word, bytes) in words.iter().zip(bytes.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
}

impl Host for Surroundings<'_> {
    fn read_guest(&self, at: GuestAddr, into: &mut [u64]) -> Result<(), NotRam> {
        let range = range(at.0, into.len(), RAM)?;
        load(&self.0.machine.ram[range], into);
        Ok(())
    }

    fn write_guest(&mut self, at: GuestAddr, words: &[u64]) -> Result<(), NotRam> {
        let range = range(at.0, words.len(), RAM)?;
        store(&mut self.0.machine.ram[range], words);
        Ok(())
    }

    fn read_window(&self, offset: usize, into: &mut [u64]) {
        load(&self.0.machine.window[offset..], into);
    }

    fn write_window(&mut self, offset: usize, words: &[u64]) {
        store(
            &mut self.0.machine.window[offset..offset + 8 * words.len()],
            words,
        );
    }

    fn submit(&mut self, _: QueueIndex, descriptor: &[u64; 8]) -> Answer {
        if self.0.submit(descriptor) {
            Answer::Accepted
        } else {
            Answer::Retry
        }
    }

    fn set_masked(&mut self, _: u16, _: bool) {}

    fn set_ignored(&mut self, _: u16, _: bool) {}

    fn set_slot_pasid(&mut self, _: u16, _: Pasid) {}

    fn is_pending(&self, _: u16) -> bool {
        false
    }

    fn set_message(&mut self, _: u16, _: Option<Message>) {}

    fn inject(&mut self, _: Message) {}

    fn request(&mut self, _: Request) {}
}
