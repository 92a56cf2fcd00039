//! Submits one descriptor over and over, for a tool that counts instructions:
//!
//! ```text
//! cargo build --release -p vdsa --example submission_cost
//! valgrind --tool=callgrind target/release/examples/submission_cost move 1000
//! ```
//!
//! Twice, with different counts: the difference of the totals by that of the counts is
//! what one costs. Its host does as little as a host can, and is part of the number.

use std::env;
use std::hint::black_box;
use std::process::ExitCode;

use hwspec::pci::Pasid;
use vdsa::{
    GuestAddr, Handle, HandleTable, Host, Message, NotRam, OPERATIONS, Policy, QueueIndex,
    QueueMode, QueuePasid, QueueView, Request, Submission, SubmissionKind, SubmissionRequest,
    Window, window_bytes,
};

const MAX_BATCH_LOG2: u8 = 10;
/// Words of RAM: 128 KiB.
const RAM: usize = 0x4000;

struct Memory {
    ram: Vec<u64>,
    window: Vec<u64>,
}

impl Host for Memory {
    fn read_guest(&self, at: GuestAddr, into: &mut [u64]) -> Result<(), NotRam> {
        let first = usize::try_from(at.0 / 8).map_err(|_| NotRam)?;
        let words = self.ram.get(first..).ok_or(NotRam)?;
        into.copy_from_slice(words.get(..into.len()).ok_or(NotRam)?);
        Ok(())
    }

    fn write_guest(&mut self, at: GuestAddr, words: &[u64]) -> Result<(), NotRam> {
        let first = usize::try_from(at.0 / 8).map_err(|_| NotRam)?;
        let places = self.ram.get_mut(first..).ok_or(NotRam)?;
        let places = places.get_mut(..words.len()).ok_or(NotRam)?;
        places.copy_from_slice(words);
        Ok(())
    }

    fn read_window(&self, offset: usize, into: &mut [u64]) {
        if let Some(words) = self.window.get(offset / 8..) {
            into.iter_mut()
                .zip(words)
                .for_each(|(into, word)| *into = *word);
        }
    }

    fn write_window(&mut self, offset: usize, words: &[u64]) {
        if let Some(places) = self.window.get_mut(offset / 8..offset / 8 + words.len()) {
            places.copy_from_slice(words);
        }
    }

    fn submit(&mut self, _: QueueIndex, descriptor: &[u64; 8]) -> hwio::Submission {
        black_box(descriptor);
        hwio::Submission::Accepted
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

/// A memory move, and the same with an interrupt through the handle of the first and of
/// the last vector.
const MOVE: [u64; 8] = [
    0x0300_000c_0000_0000,
    0x1000,
    0x2000,
    0x3000,
    0x100,
    0,
    0,
    0,
];
const INTERRUPTING: [u64; 8] = [
    0x0300_001c_0000_0000,
    0x1000,
    0x2000,
    0x3000,
    0x31_0000_0100,
    0,
    0,
    0,
];
const INTERRUPTING_LAST: [u64; 8] = [
    0x0300_001c_0000_0000,
    0x1000,
    0x2000,
    0x3000,
    0x38_0000_0100,
    0,
    0,
    0,
];
const DUALCAST: [u64; 8] = [
    0x0900_000c_0000_0000,
    0x1000,
    0x2000,
    0x3000,
    0x100,
    0x5000,
    0,
    0,
];
const CREATE_DELTA: [u64; 8] = [
    0x0700_000c_0000_0000,
    0x1000,
    0x2000,
    0x3000,
    0x100,
    0x4000,
    0x50,
    0,
];
const DIF_INSERT: [u64; 8] = [
    0x1300_000c_0000_0000,
    0x1000,
    0x2000,
    0x8000,
    0x200,
    0,
    0,
    0,
];
const CRC: [u64; 8] = [
    0x1001_000c_0000_0000,
    0x1000,
    0x2000,
    0,
    0x100,
    0,
    0x5000,
    0,
];
/// Refused: no bytes.
const REFUSED: [u64; 8] = [0x0300_000c_0000_0000, 0x1000, 0x2000, 0x3000, 0, 0, 0, 0];

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let case = arguments.next().unwrap_or_default();
    let count: u32 = arguments.next().and_then(|c| c.parse().ok()).unwrap_or(0);
    let (member, members) = match case.as_str() {
        "move" => (MOVE, 0),
        "interrupting" => (INTERRUPTING, 0),
        "interrupting-last" => (INTERRUPTING_LAST, 0),
        "dualcast" => (DUALCAST, 0),
        "create-delta" => (CREATE_DELTA, 0),
        "dif-insert" => (DIF_INSERT, 0),
        "crc" => (CRC, 0),
        "refused" => (REFUSED, 0),
        "batch-2" => (MOVE, 2),
        "batch-1024" => (MOVE, 1024),
        "batch-1024-interrupting" => (INTERRUPTING, 1024),
        "batch-1024-interrupting-last" => (INTERRUPTING_LAST, 1024),
        "batch-1024-refused" => (REFUSED, 1024),
        _ => {
            eprintln!("'{case}' is no case; see the source");
            return ExitCode::FAILURE;
        }
    };
    run(member, members, count);
    ExitCode::SUCCESS
}

fn run(member: [u64; 8], members: u64, count: u32) {
    let window = Window {
        base: 1 << 38,
        len_bytes: window_bytes(2, MAX_BATCH_LOG2),
    };
    let mut host = Memory {
        ram: vec![0; RAM],
        window: vec![0; usize::try_from(window.len_bytes / 8).unwrap_or(0)],
    };
    for place in host.ram.as_chunks_mut::<8>().0.iter_mut().skip(256) {
        *place = member;
    }
    let (Some(index), Some(pasid)) = (QueueIndex::new(0), Pasid::new(0x101)) else {
        return;
    };
    // All vectors of a virtual accelerator have a handle.
    let mut handles = HandleTable::default();
    for vector in 1..=8 {
        handles.set(Handle {
            vector,
            handle: 0x30 + vector,
            pasid: Some(pasid),
        });
    }
    let view = QueueView {
        index,
        is_enabled: true,
        is_aborting: false,
        mode: QueueMode::Dedicated,
        is_limited_portal: true,
        size: 16,
        threshold: 16,
        max_transfer_log2: 31,
        max_batch_log2: MAX_BATCH_LOG2,
        pasid: QueuePasid::OfQueue(pasid),
        is_pasid_enabled: false,
        guest_pasid: Pasid::ZERO,
        is_privileged: false,
        handles: &handles,
        operations: OPERATIONS,
        window,
        batch_handle: Some(0x77),
        policy: Policy::Checked,
        submission_interval_ns: 0,
        is_slice: false,
    };
    let batch = [0x0100_000c_0000_0000, 0x1000, 0x4000, 0, members, 0, 0, 0];
    let request = SubmissionRequest {
        offset: 0x1000,
        kind: SubmissionKind::Movdir64b,
        pasid: None,
        words: if members == 0 { member } else { batch },
        now_ns: 0,
    };
    let mut submission = Submission::new(window, MAX_BATCH_LOG2);
    for _ in 0..count {
        black_box(submission.submit(&view, &mut host, black_box(&request)));
        if members != 0 {
            // The device is done with it.
            host.write_window(0, &[members << 32 | 1]);
            black_box(submission.collect(&mut host));
        }
    }
    assert_eq!(submission.counters().submitted, u64::from(count));
    assert_eq!(submission.counters().dropped, 0);
}
