//! Operands outside of the guest's memory.

use alloc::format;
use core::time::Duration;

use guest_rt::dsa::Work;
use guest_rt::interrupts;

use crate::places::outside;
use crate::seen::Seen;
use crate::stage::{Stage, UNTOUCHED, Verdict};

/// Reads. Contained if nothing arrives in the guest's memory.
pub(crate) fn read(stage: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    stage.prepare_target();
    for place in outside(stage) {
        let work = Work::memory_move(place, stage.target.address(0), 4096);
        seen.add(&stage.attempt(work));
    }
    let is_untouched = stage.target.is_all(0, 4096, UNTOUCHED);
    // Across the end of RAM: what is before it is the guest's own, and may arrive.
    let end = stage.guest.ram_end / 4096 * 4096;
    let work = Work::memory_move(end - 4096, stage.target.address(8192), 8192);
    seen.add(&stage.attempt(work));
    let is_untouched = is_untouched && stage.target.is_all(8192 + 4096, 4096, UNTOUCHED);
    Verdict {
        is_contained: is_untouched,
        saw: format!("{seen}; target untouched: {is_untouched}"),
    }
}

/// Checksums and comparisons, which tell what is there without copying it. Contained if
/// none is made.
pub(crate) fn checksum(stage: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    for place in outside(stage) {
        for work in [
            Work::crc(place, 64, 0),
            Work::compare_pattern(place, 0, 64),
            Work::compare(place, stage.source.address(0), 64),
        ] {
            seen.add(&stage.attempt(work));
        }
    }
    Verdict {
        is_contained: seen.successes() == 0,
        saw: format!("{seen}"),
    }
}

/// Writes. A device is not told what became of a write, so that success may be what it
/// reports of one that was lost; whether it was is for those to say who own the memory.
pub(crate) fn write(stage: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    for place in outside(stage) {
        let source = stage.source.address(0);
        for work in [
            Work::memory_move(source, place, 4096),
            Work::fill(0x6666_6666_6666_6666, place, 4096),
            Work::dualcast(source, place, place, 4096),
            Work::copy_crc(source, place, 4096, 0),
            Work::create_delta(source, stage.target.address(0), 512, place, 640),
        ] {
            seen.add(&stage.attempt(work));
        }
    }
    Verdict {
        is_contained: true,
        saw: format!("{seen}"),
    }
}

/// Completion records. Contained if there is no success to be seen, which would have to
/// be in the guest's own record.
pub(crate) fn record(stage: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    for place in outside(stage) {
        let work = stage.copy(64).record(place);
        seen.add(&stage.attempt_with_record(work));
    }
    Verdict {
        is_contained: seen.successes() == 0,
        saw: format!("{seen}"),
    }
}

/// Lists of descriptors. Contained if no batch succeeds.
pub(crate) fn list(stage: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    for place in outside(stage) {
        seen.add(&stage.attempt(Work::batch(place, 16)));
    }
    // Across the end of RAM.
    let end = stage.guest.ram_end / 4096 * 4096;
    seen.add(&stage.attempt(Work::batch(end - 64, 2)));
    Verdict {
        is_contained: seen.successes() == 0,
        saw: format!("{seen}"),
    }
}

/// Writes to where interrupt messages go. Contained if no interrupt comes.
pub(crate) fn message(stage: &mut Stage) -> Verdict {
    const MESSAGES: u64 = 0xfee0_0000;
    /// A vector that nothing else uses.
    const VECTOR: u64 = 0xd1;
    let mut seen = Seen::default();
    let before = interrupts::count_all();
    for offset in [0, 0x8, 0x10, 0x1000, 0x2_0000, 0xf_f000] {
        let place = MESSAGES + offset;
        stage.source.write_u64(0, VECTOR);
        let source = stage.source.address(0);
        for work in [
            Work::memory_move(source, place, 4),
            Work::fill(VECTOR, place, 4),
            Work::fill(VECTOR, place, 64),
        ] {
            seen.add(&stage.attempt(work));
        }
        // Its first word is the status, which is a vector below 32 at best.
        let work = Work::no_op().record(place & !31);
        seen.add(&stage.attempt_words(&work.words()));
    }
    let errors = interrupts::count(guest_rt::dsa::VECTOR_BASE);
    interrupts::settle(Duration::from_millis(2));
    let errors = interrupts::count(guest_rt::dsa::VECTOR_BASE).wrapping_sub(errors);
    let came = interrupts::count_all()
        .wrapping_sub(before)
        .wrapping_sub(errors);
    Verdict {
        is_contained: came == 0,
        saw: format!("{seen}; {came} interrupts"),
    }
}
