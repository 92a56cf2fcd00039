//! A guest at its virtual accelerator: configuration space, registers, descriptors and
//! batches, with answers and events of the physical one in between. The same steps and
//! the same strict host as in `kernel/vdsa/tests/device/hostile.rs`.
#![no_main]
#![allow(
    dead_code,
    reason = "the modules of the tests have more than is needed here"
)]

mod input;
#[path = "../../vdsa/tests/device/rig.rs"]
mod rig;
#[path = "../../vdsa/tests/device/step.rs"]
mod step;
#[path = "../../vdsa/tests/device/strict_host.rs"]
mod strict_host;

use hwspec::pci::Pasid;
use input::Input;
use libfuzzer_sys::fuzz_target;
use step::{Step, check_slots, device, finish, take};
use vdsa::{SubmissionKind, SubmissionRequest};

/// Where batches are, for those that look for them.
const LIST: u64 = 0x1_0000;
const WIDTHS: [u8; 4] = [1, 2, 4, 8];

fn width(input: &mut Input<'_>) -> Option<u8> {
    Some(WIDTHS[usize::from(input.u8()? % 4)])
}

/// An address, a size or anything else, mostly one of interest.
fn word(input: &mut Input<'_>) -> Option<u64> {
    Some(match input.u8()? % 8 {
        0 => 0,
        1 => u64::from(input.u8()?),
        2 => u64::from(input.u32()?),
        3 => LIST + 64 * u64::from(input.u8()?),
        4 => rig::WINDOW
            .base
            .wrapping_add_signed(i64::from(input.u16()?.cast_signed())),
        5 => (1 << 32) - u64::from(input.u8()?),
        _ => input.u64()?,
    })
}

/// First word: operation, flags, PASID.
fn first_word(input: &mut Input<'_>) -> Option<u64> {
    let (operation, flags, pasid) = (input.u8()? % 0x22, input.u32()?, input.u8()?);
    let flags = u64::from(flags & 0xff_ffff);
    Some(u64::from(operation) << 56 | flags << 32 | u64::from(pasid % 8))
}

fn submission(input: &mut Input<'_>) -> Option<Step> {
    let page = input.u8()?;
    let offset = match page {
        0x80.. => u64::from(input.u16()?) * 64,
        // The MSI-X pages of the three queues.
        _ => u64::from(page % 6 / 2) * 0x4000 + u64::from(page % 2) * 0x1000,
    };
    let kind = match input.u8()? % 4 {
        0 => SubmissionKind::Enqcmd,
        1 => SubmissionKind::Enqcmds,
        _ => SubmissionKind::Movdir64b,
    };
    let pasid = Pasid::new(u32::from(input.u8()? % 8));
    let mut words = [0; 8];
    words[0] = first_word(input)?;
    // A record, a size of 32 bits with a handle of those that were given out.
    words[1] = 0x2000 + 32 * u64::from(input.u8()?);
    for place in &mut words[2..4] {
        *place = word(input)?;
    }
    words[4] = u64::from(input.u16()?) | (0x1000 + u64::from(input.u8()? % 16)) << 32;
    // Some of the words are anything.
    let any = input.u8()?;
    for (index, place) in (0..).zip(&mut words) {
        if any >> index & 1 != 0 {
            *place = word(input)?;
        }
    }
    Some(Step::Submit(SubmissionRequest {
        offset,
        kind,
        pasid,
        words,
        now_ns: 0,
    }))
}

fn step(input: &mut Input<'_>) -> Option<Step> {
    Some(match input.u8()? % 16 {
        0 => Step::WriteConfig(input.u16()? % 0x1010, width(input)?, input.u32()?),
        1 => Step::Write(u32::from(input.u16()? % 0x810), width(input)?, word(input)?),
        2 | 3 => {
            let (code, operand) = (input.u8()? % 16, input.u8()?);
            // Drain and the like take a set of queues, others a number.
            let command = u32::from(code) << 20 | u32::from(operand % 8);
            Step::Write(0xa0, 4, (command | u32::from(operand >> 7) << 31).into())
        }
        4 | 5 => Step::Answer(input.u8()? % 8 != 0),
        6..=9 => submission(input)?,
        10 => Step::Collect([word(input)?, word(input)?, word(input)?, 0]),
        11 => {
            // A member of a batch, word by word.
            let at = LIST + 8 * u64::from(input.u8()?);
            let value = if at % 64 == 0 {
                first_word(input)?
            } else {
                word(input)?
            };
            Step::Poke(at, value)
        }
        12 => Step::Revoke(u16::from(input.u8()? % 6)),
        13 => Step::ReportHalt(input.u8()? % 16),
        14 => {
            let record = [word(input)?, word(input)?, word(input)?];
            Step::ReportError(record, Some(usize::from(input.u8()? % 4)))
        }
        _ => match input.u8()? {
            0xff => Step::Reset,
            offset => Step::Write(u32::from(offset) * 8, 8, input.u64()?),
        },
    })
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (mut dsa, mut host) = device();
    while let Some(step) = step(&mut input) {
        take(&mut dsa, &mut host, step);
        check_slots(&dsa, &host);
    }
    finish(dsa, host);
});
