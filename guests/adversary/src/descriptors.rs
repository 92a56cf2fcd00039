//! Descriptors and batches that no driver would write, and completion records where
//! they should not be.

use alloc::format;
use alloc::string::String;

use guest_rt::dsa::{Submission, Work};
use guest_rt::probe::{self, Foreign};
use guest_rt::random::Random;
use hwspec::dsa::{Flags, Operation, Status};

use crate::places::outside;
use crate::seen::Seen;
use crate::stage::{ROOM, Stage, UNTOUCHED, Verdict};

/// Record addresses that are no multiple of 32. Contained if none is written to.
pub(crate) fn misaligned_record(stage: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    stage.prepare_target();
    for offset in [1, 4, 8, 16, 31, 4095] {
        let work = Work::no_op().record(stage.target.address(4096) + offset);
        seen.add(&stage.attempt_with_record(work));
    }
    let is_untouched = stage.target.is_all(0, ROOM, UNTOUCHED);
    Verdict {
        is_contained: is_untouched,
        saw: format!("{seen}; target untouched: {is_untouched}"),
    }
}

/// Records in operands, in the list of a batch and in each other. What comes of it is
/// the guest's own loss; contained if the device survives.
pub(crate) fn overlapping_record(stage: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    let (source, target) = (stage.source.address(0), stage.target.address(0));
    let record = stage.records.address(0);
    for work in [
        Work::memory_move(source, target, 256).record(target),
        Work::memory_move(source, target, 256).record(target + 128),
        Work::memory_move(source, target, 256).record(source + 32),
        // The record is what is written to.
        Work::memory_move(source, record, 32).record(record),
        Work::fill(0, record, 64).record(record),
    ] {
        seen.add(&stage.attempt_with_record(work));
    }
    // Members whose records are in the list, and are the batch's own.
    let list = stage.list.address(0);
    for member in 0..4 {
        let work = Work::no_op();
        let work = match member {
            0 => work.record(list + 64),
            1 => work.record(record),
            _ => work.record(list),
        };
        stage.list.write_words(member * 64, &work.words());
    }
    seen.add(&stage.attempt(Work::batch(list, 4)));
    stage.list.fill(0, 4 * 64, 0);
    Verdict {
        is_contained: true,
        saw: format!("{seen}"),
    }
}

/// Operations, flags and sizes that are not allowed. Contained if each is refused.
pub(crate) fn invalid(stage: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    let mut undefined = alloc::vec::Vec::new();
    for code in 0..=0xff {
        let operation = Operation(code);
        // Those of version 1.0, and those that need no operand.
        if !matches!(code, 0..=9 | 0x10..=0x15 | 0x20) {
            undefined.push(Work::of(operation));
        }
    }
    let copy = stage.copy(64);
    let list = stage.list.address(0);
    let wrong = [
        copy.size(0),
        copy.size(u32::MAX),
        copy.flags(Flags::from_bits(1 << 6)),
        copy.flags(Flags::from_bits(1 << 1)),
        // A fence outside of a batch.
        copy.fence(),
        Work::batch(list, 0),
        Work::batch(list, 1),
        Work::batch(list, 1025),
        Work::batch(list, u32::MAX),
        Work::batch(list + 8, 2),
    ];
    for work in undefined.into_iter().chain(wrong) {
        seen.add(&stage.attempt(work));
    }
    Verdict {
        is_contained: seen.successes() == 0,
        saw: format!("{seen}"),
    }
}

/// Members of a batch that are not allowed, each between two that are. Contained if none
/// of them is done.
pub(crate) fn batch_members(stage: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    let mut done = 0;
    let ram_end = stage.guest.ram_end.next_multiple_of(4096);
    let list = stage.list.address(0);
    stage.prepare_target();
    let evil = [
        Work::batch(list, 2),
        Work::drain(),
        stage.copy(64).interrupt(1999),
        stage.copy(64).interrupt(0xffff),
        Work::memory_move(ram_end, stage.target.address(0), 64),
        Work::memory_move(1 << 38, stage.target.address(0), 64),
        stage.copy(64).size(0),
        stage.copy(64).flags(Flags::from_bits(1 << 6)),
        Work::of(Operation(0x7f)),
    ];
    let member_record = stage.records.address(2);
    for work in evil {
        let good = Work::no_op();
        let work = work.record(member_record);
        for (member, work) in [good, work, good].iter().enumerate() {
            stage.list.write_words(member * 64, &work.words());
        }
        stage.records.clear(2);
        seen.add(&stage.attempt(Work::batch(list, 3)));
        stage.count_submitted(3);
        done += u32::from(stage.records.status(2) == Status::SUCCESS);
    }
    stage.list.fill(0, 3 * 64, 0);
    let is_untouched = stage.target.is_all(0, 64, UNTOUCHED);
    Verdict {
        is_contained: done == 0 && is_untouched,
        saw: format!("{seen}; {done} members done; target untouched: {is_untouched}"),
    }
}

/// Descriptors that are right but for one thing, or all over random. Operands are the
/// guest's own buffers, with small sizes, or outside. Contained if nothing that is
/// outside arrives in the target, and the device survives.
pub(crate) fn random(stage: &mut Stage) -> Verdict {
    let mut random = Random::new(0x000d_e5c4);
    let mut seen = Seen::default();
    let places = outside(stage);
    for _ in 0..stage.effort {
        let mut words = plausible(stage, &places, &mut random);
        match random.below(4) {
            // As it is.
            0 => {}
            // One bit of PASID, Priv, flags and operation, or of interrupt handle and
            // what is reserved. Sizes stay small: a buffer has an end.
            1 => flip(&mut words, 0, 1 << random.below(64)),
            2 => flip(&mut words, 4, 1 << (32 + random.below(32))),
            _ => flip(&mut words, 0, random.next_u64()),
        }
        seen.add(&stage.attempt_words(&words));
    }
    // The list was an operand too.
    stage.list.fill(0, ROOM, 0);
    Verdict {
        is_contained: true,
        saw: format!("{seen}"),
    }
}

fn flip(words: &mut [u64; 8], index: usize, bits: u64) {
    if let Some(word) = words.get_mut(index) {
        *word ^= bits;
    }
}

/// An operation with operands that it could have.
fn plausible(stage: &Stage, places: &[u64], random: &mut Random) -> [u64; 8] {
    const MOST: u64 = 2048;
    let own = [
        stage.source.address(0),
        stage.target.address(0),
        stage.target.address(ROOM / 2),
    ];
    let mut operand = || match random.below(8) {
        0 => places.get(random.index(places.len())).copied().unwrap_or(0),
        _ => own.get(random.index(own.len())).copied().unwrap_or(0) + random.below(512) * 8,
    };
    let (first, second, third) = (operand(), operand(), operand());
    let size = u32::try_from(8 + random.below(MOST / 8) * 8).unwrap_or(8);
    let work = match random.below(12) {
        0 => Work::no_op(),
        1 => Work::memory_move(first, second, size),
        2 => Work::fill(first, second, size),
        3 => Work::compare(first, second, size),
        4 => Work::compare_pattern(first, second, size),
        5 => Work::create_delta(first, second, size, third, 4090),
        6 => Work::apply_delta(first, 80, second, size),
        7 => Work::dualcast(first, second, third & !0xfff | second & 0xfff, size),
        8 => Work::crc(first, size, 0),
        9 => Work::copy_crc(first, second, size, 0),
        10 => Work::drain(),
        _ => Work::batch(stage.list.address(0), 2 + size % 64),
    };
    let work = work.record(stage.records.address(0));
    match random.below(4) {
        0 => work.interrupt(stage.queue().handle).words(),
        1 => work
            .interrupt(u16::try_from(random.below(2100)).unwrap_or(0))
            .words(),
        _ => work.words(),
    }
}

/// As much as fits, as fast as it goes. Contained if the device survives; whether others
/// were delayed is for them to say.
pub(crate) fn flood(stage: &mut Stage) -> Verdict {
    let (mut accepted, mut retried, mut raised) = (0, 0, 0);
    let queue = stage.queue();
    let work = stage.copy(4096).words();
    let Some(portal) = Foreign::new(queue.portal.address()) else {
        return Verdict {
            is_contained: true,
            saw: String::from("no portal"),
        };
    };
    for _ in 0..stage.effort * 10 {
        let submission = if queue.is_dedicated {
            probe::movdir64b(portal, &work).map(|()| Submission::Accepted)
        } else {
            probe::enqcmds(portal, &work)
        };
        match submission {
            Ok(Submission::Accepted) => accepted += 1,
            Ok(Submission::Retry) => retried += 1,
            Err(_) => raised += 1,
        }
    }
    stage.count_submitted(accepted);
    stage.count_retried(retried);
    let error = stage.device.take_error();
    Verdict {
        is_contained: raised == 0,
        saw: format!(
            "{accepted} submitted, {retried} to be tried again, SWERROR {}",
            error.map_or(Status::NONE, |error| error.error_code())
        ),
    }
}
