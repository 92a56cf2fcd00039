//! Registers of the accelerator: random accesses, commands, and its configuration space.

use alloc::format;
use alloc::string::String;
use core::ops::Range;
use core::time::Duration;

use guest_rt::dsa::Error;
use guest_rt::interrupts;
use guest_rt::probe::{self, Foreign, Width};
use guest_rt::random::Random;
use hwspec::dsa::CommandCode;

use crate::seen::Seen;
use crate::stage::{Stage, Verdict};

/// Where a message may lead: vectors that nothing else uses.
const VECTORS: Range<u64> = 0x60..0xa0;

/// Loads and stores of all widths, aligned and not, all over BAR0. Contained if the
/// device can be brought up again.
pub(crate) fn random(stage: &mut Stage) -> Verdict {
    let mut random = Random::new(0x4e61);
    let mut seen = Seen::default();
    let (base, size) = stage.device.bar0();
    let messages = stage.device.message_table().unwrap_or(0..0);
    let mut accesses = 0_u64;
    for _ in 0..stage.effort * 2 {
        let width = random_width(&mut random);
        let mut offset = random.below(size);
        if random.below(8) != 0 {
            // Most registers are at the beginning, most accesses aligned.
            offset = (offset % 0x1000) / width.bytes() * width.bytes();
        }
        let Some(at) = Foreign::new(base + offset) else {
            continue;
        };
        accesses += 1;
        let result = if random.below(3) == 0 {
            probe::read(at, width).map(|_| ())
        } else {
            match value_for(&mut random, offset, width, &messages) {
                Some(value) => probe::write(at, width, value),
                None => continue,
            }
        };
        if let Err(exception) = result {
            seen.raised(exception);
        }
    }
    // What was provoked arrives before the next attack begins.
    interrupts::settle(Duration::from_millis(2));
    Verdict {
        is_contained: true,
        saw: format!("{accesses} accesses, {} exceptions", seen.exceptions()),
    }
}

fn random_width(random: &mut Random) -> Width {
    let widths = Width::ALL;
    widths
        .get(random.index(widths.len()))
        .copied()
        .unwrap_or(Width::Four)
}

/// A value for a store. A message that leads to an exception's vector would be an attack
/// on nobody but this guest's own handlers, so data of messages is chosen with care.
fn value_for(
    random: &mut Random,
    offset: u64,
    width: Width,
    messages: &Range<usize>,
) -> Option<u64> {
    let value = random.next_u64();
    let end = offset + width.bytes();
    if end <= messages.start as u64 || offset >= messages.end as u64 {
        return Some(value);
    }
    let vector = VECTORS.start + value % (VECTORS.end - VECTORS.start);
    match (offset - offset.min(messages.start as u64)) % 16 {
        // The whole data word, with or without the control word behind it.
        8 if width == Width::Four => Some(vector),
        8 if width == Width::Eight => Some(vector | (value & 1 << 32)),
        // Parts of the data word, or what reaches into it.
        8..=11 => None,
        low if low + width.bytes() > 8 && low < 8 => None,
        _ => Some(value),
    }
}

/// Every command, with operands that are not the guest's to name. Contained if the
/// device can be brought up again; that others go on is for them to say.
pub(crate) fn commands(stage: &mut Stage) -> Verdict {
    let mut random = Random::new(0xc0de);
    let (mut done, mut refused, mut stuck) = (0, 0, 0);
    let operands = |random: &mut Random| match random.below(4) {
        0 => random.below(16),
        1 => 1 << random.below(20),
        2 => random.below(1 << 20),
        _ => 1 << 16 | random.below(2048),
    };
    for code in (0..32).cycle().take(32 * 12) {
        let operand = u32::try_from(operands(&mut random)).unwrap_or(0);
        match stage.device.execute(CommandCode(code), operand) {
            Ok(_) => done += 1,
            Err(Error::Stuck(_)) => stuck += 1,
            Err(_) => refused += 1,
        }
    }
    Verdict {
        is_contained: stuck == 0,
        saw: format!("{done} done, {refused} refused, {stuck} without an end"),
    }
}

/// BARs moved over everything else, and random stores to configuration space. Contained
/// if the guest survives and the device can be brought up again.
pub(crate) fn configuration(stage: &mut Stage) -> Verdict {
    if !stage.guest.platform.is_weir() {
        return Verdict {
            is_contained: true,
            saw: String::from("not tried: on the bare box it would move RAM away"),
        };
    }
    let mut random = Random::new(0xc0f1);
    let mut seen = Seen::default();
    let (bar0, bar2) = (stage.device.bar0().0, stage.device.bar2().0);
    for place in [
        0,
        0x20_0000,
        stage.source.address(0),
        0xb000_0000,
        0xe000_0000,
        0xfee0_0000,
        0xffff_0000,
        bar2,
        1 << 32,
        1 << 38,
        0xffff_ffff_ffff_0000,
    ] {
        for (index, home) in [(0, bar0), (2, bar2)] {
            stage.device.move_bar(index, place);
            for at in [0xb000_0000, 0xfee0_0000, bar0, bar2, 1 << 32, 1 << 38] {
                let Some(at) = Foreign::new(at) else { continue };
                for result in [
                    probe::read(at, Width::Four).map(|_| ()),
                    probe::write(at, Width::Four, 0x1234_5678),
                ] {
                    if let Err(exception) = result {
                        seen.raised(exception);
                    }
                }
            }
            stage.device.move_bar(index, home);
        }
    }
    let space = stage.device.configuration_space();
    let mut accesses = 0;
    for _ in 0..stage.effort {
        let width = random_width(&mut random);
        let offset = random.below(4096 - 8);
        let Some(at) = Foreign::new(space + offset) else {
            continue;
        };
        accesses += 1;
        if let Err(exception) = probe::write(at, width, random.next_u64()) {
            seen.raised(exception);
        }
    }
    interrupts::settle(Duration::from_millis(2));
    Verdict {
        is_contained: true,
        saw: format!("{accesses} stores, {} exceptions", seen.exceptions()),
    }
}
