//! A second processor that changes what the first submits, while it is being checked.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guest_rt::dsa::{Instruction, Submission, Work};
use guest_rt::memory::Buffer;
use guest_rt::{clock, second};
use spin::Once;

use crate::stage::{OWN, Stage, UNTOUCHED, Verdict};

/// The words that change, in a descriptor of 64 bytes.
const WORDS: usize = 8;
/// Members of the batch, of which each second one changes.
const MEMBERS: usize = 8;
/// How long one submission may take before it counts as lost.
const PATIENCE: core::time::Duration = core::time::Duration::from_millis(20);

/// What both processors see.
#[derive(Debug)]
struct Shared {
    /// The descriptor, or the list of them.
    memory: Buffer,
    /// What it is to be: harmless, with foreign bytes, with a foreign handle. The words
    /// of the record are the same.
    harmless: Buffer,
    foreign_bytes: Buffer,
    foreign_handle: Buffer,
}

static SHARED: Once<Shared> = Once::new();
/// How many descriptors are to be changed; 0 for none.
static CHANGING: AtomicU64 = AtomicU64::new(0);
static CHANGES: AtomicU64 = AtomicU64::new(0);
static HAS_SECOND: AtomicBool = AtomicBool::new(false);

/// What the second processor does: makes descriptors harmful and harmless again.
fn change() {
    let Some(shared) = SHARED.get() else { return };
    loop {
        let count = CHANGING.load(Ordering::Acquire);
        if count == 0 {
            core::hint::spin_loop();
            continue;
        }
        for template in [
            &shared.foreign_bytes,
            &shared.harmless,
            &shared.foreign_handle,
            &shared.harmless,
        ] {
            for descriptor in 0..usize::try_from(count).unwrap_or(0).min(MEMBERS) {
                for word in 0..WORDS {
                    let at = descriptor * 64 + word * 8;
                    shared.memory.write_u64(at, template.read_u64(at));
                }
            }
            CHANGES.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Starts the second processor, once.
fn prepare() -> Option<&'static Shared> {
    let mut is_new = false;
    let shared = SHARED.call_once(|| {
        is_new = true;
        Shared {
            memory: Buffer::new(MEMBERS * 64),
            harmless: Buffer::new(MEMBERS * 64),
            foreign_bytes: Buffer::new(MEMBERS * 64),
            foreign_handle: Buffer::new(MEMBERS * 64),
        }
    });
    if is_new {
        HAS_SECOND.store(second::start(change), Ordering::Relaxed);
    }
    HAS_SECOND.load(Ordering::Relaxed).then_some(shared)
}

/// The descriptors: a copy of the guest's own bytes, one of bytes that are not the
/// guest's, and one that names a handle that is not the guest's.
fn templates(stage: &Stage, shared: &Shared, at: usize) {
    let place = stage.guest.ram_end.next_multiple_of(4096);
    let record = stage.records.address(0);
    let target = stage.target.address(at * 64);
    let queue = stage.queue();
    let pasid = match queue.is_dedicated {
        true => 0,
        false => queue.pasid.unwrap_or(0),
    };
    let copy = |from| Work::memory_move(from, target, 64).record(record);
    let harmless = copy(stage.source.address(0)).pasid(pasid);
    let foreign_bytes = copy(place).pasid(pasid);
    let foreign_handle = harmless.interrupt(1999).privileged();
    shared.harmless.write_words(at * 64, &harmless.words());
    shared
        .foreign_bytes
        .write_words(at * 64, &foreign_bytes.words());
    shared
        .foreign_handle
        .write_words(at * 64, &foreign_handle.words());
    shared.memory.write_words(at * 64, &harmless.words());
}

fn no_second() -> Verdict {
    Verdict {
        is_contained: true,
        saw: String::from("not tried: there is no second processor; give the guest two"),
    }
}

/// A descriptor that changes under MOVDIR64B or ENQCMDS. Contained if never anything
/// but the guest's own bytes arrives.
pub(crate) fn descriptor(stage: &mut Stage) -> Verdict {
    let Some(shared) = prepare() else {
        return no_second();
    };
    templates(stage, shared, 0);
    let queue = stage.queue();
    let submit = || {
        queue
            .portal
            .submit_from(&shared.memory, 0, queue.instruction)
    };
    race(stage, 1, submit)
}

/// A batch whose members change. Contained as above.
pub(crate) fn batch(stage: &mut Stage) -> Verdict {
    let Some(shared) = prepare() else {
        return no_second();
    };
    for member in 0..MEMBERS {
        templates(stage, shared, member);
    }
    let queue = stage.queue();
    let count = u32::try_from(MEMBERS).unwrap_or(2);
    let work = Work::batch(shared.memory.address(0), count);
    // The members write record 0, all of them; the batch has its own.
    let work = work
        .record(stage.records.address(1))
        .pasid(match queue.instruction {
            Instruction::Movdir64b => 0,
            _ => queue.pasid.unwrap_or(0),
        });
    let submit = || queue.portal.submit(&work, queue.instruction);
    race(stage, MEMBERS, submit)
}

fn race(stage: &mut Stage, members: usize, submit: impl Fn() -> Submission) -> Verdict {
    let (mut own, mut refused, mut lost, mut leaked) = (0_u64, 0_u64, 0_u64, 0_u64);
    let record = usize::from(members > 1);
    let before = CHANGES.load(Ordering::Relaxed);
    CHANGING.store(members as u64, Ordering::Release);
    // The other processor is at work.
    clock::spin_until(PATIENCE, || CHANGES.load(Ordering::Relaxed) != before);
    let mut submitted = 0;
    for _ in 0..stage.effort {
        stage.target.fill(0, members * 64, UNTOUCHED);
        stage.records.clear(record);
        if submit() == Submission::Retry {
            stage.count_retried(1);
            continue;
        }
        submitted += 1;
        let records = &stage.records;
        if !clock::spin_until(PATIENCE, || records.is_written(record)) {
            lost += 1;
            stage.device.take_error();
            continue;
        }
        match stage.records.status(record).is_success() {
            true => own += 1,
            false => refused += 1,
        }
        for member in 0..members {
            let is_known = [OWN, UNTOUCHED]
                .iter()
                .any(|&byte| stage.target.is_all(member * 64, 64, byte));
            leaked += u64::from(!is_known);
        }
    }
    CHANGING.store(0, Ordering::Release);
    let descriptors = if members > 1 { members as u64 + 1 } else { 1 };
    stage.count_submitted(submitted * descriptors);
    let changes = CHANGES.load(Ordering::Relaxed).wrapping_sub(before);
    Verdict {
        is_contained: leaked == 0,
        saw: format!(
            "{submitted} submitted while changed {changes} times: {own} done, {refused} refused, \
             {lost} without an answer, {leaked} with foreign bytes"
        ),
    }
}
