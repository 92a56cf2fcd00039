//! The check of a submission against the device's model.
//!
//! A guest submits the same bytes twice: to a queue of bare hardware, a DSA 1.0, and to
//! a queue behind the check, with the model of a DSA 1.0 or 2.0 behind that. It must see
//! the same both times: its memory with data and completion records, what SWERROR says,
//! and the interrupts that it gets. Exceptions are what Weir forbids on purpose, and
//! what it says where hardware is silent; each has a test of its own here.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

#[path = "submission/descriptors.rs"]
mod descriptors;
#[path = "submission/device.rs"]
mod device;
#[path = "submission/guest.rs"]
mod guest;

use descriptors::{RECORD, batch, memory, no_op, typical, with_members};
use device::{FOREIGN_HANDLE, HANDLE, OWN_HANDLE, RAM, WINDOW};
use guest::{Bare, Checked, Seen, window};
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use vdsa::Rule;

/// The devices behind the check: what the guest sees is a DSA 1.0 in any case.
const BEHIND: [&str; 2] = ["", "device-id=0x11fb;handle-commands=off;event-log=off"];

/// The guest in front of both, and with both devices behind the check.
struct Pair {
    bare: Bare,
    checked: [Checked; 2],
}

impl Pair {
    fn new(is_shared: bool) -> Self {
        Self {
            bare: Bare::new(is_shared),
            checked: BEHIND.map(|options| Checked::new(options, is_shared)),
        }
    }

    /// Submits both ways, and compares if nothing is forbidden on purpose.
    fn compare(&mut self, ram: &[u8], words: &[u64; 8]) -> (Seen, Vec<Rule>) {
        let bare = self.bare.run(ram, words);
        let mut broken = Vec::new();
        for (checked, options) in self.checked.iter_mut().zip(BEHIND) {
            let seen = checked.run(ram, words);
            broken = checked.take_rules();
            if broken.iter().copied().any(is_weirs_own) {
                continue;
            }
            let bytes = difference(&seen.ram, &bare.ram);
            assert_eq!(bytes, None, "{words:x?} {broken:?} {options}");
            assert_eq!(seen.error, bare.error, "{words:x?} {broken:?} {options}");
            let (seen, bare) = (&seen.interrupts, &bare.interrupts);
            assert_eq!(seen, bare, "{words:x?} {broken:?} {options}");
        }
        (bare, broken)
    }
}

/// The first 32 bytes that differ, and where.
fn difference(ours: &[u8], theirs: &[u8]) -> Option<(usize, [Vec<u8>; 2])> {
    if ours == theirs {
        return None;
    }
    let lines = ours.chunks(32).zip(theirs.chunks(32)).enumerate();
    let mut different = lines.filter(|(_, (ours, theirs))| ours != theirs);
    let (line, (ours, theirs)) = different.next()?;
    Some((32 * line, [ours.to_vec(), theirs.to_vec()]))
}

/// Rules with which Weir is stricter than a device, or says more.
fn is_weirs_own(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::RecordInWindow | Rule::OperandInWindow | Rule::RecordMemory | Rule::ListMemory
    )
}

/// The status in the record at `at`.
fn status(seen: &Seen, at: u64) -> u8 {
    seen.ram[usize::try_from(at).unwrap()]
}

/// Every operation, and every flag of it alone turned over, with and without a record:
/// by itself, and as a member of a batch.
#[test]
fn every_flag_of_every_operation() {
    for is_shared in [false, true] {
        let mut pair = Pair::new(is_shared);
        let ram = memory();
        let mut accepted = 0;
        for operation in 0..=0xff_u8 {
            // Beyond 0x26 nothing is defined, whatever the flags.
            let flags = if operation <= 0x26 { 24 } else { 1 };
            for base in [0x0, 0x4, 0xc, 0x1c] {
                for flag in std::iter::once(0).chain((0..flags).map(|bit| 1 << bit)) {
                    let words = typical(operation, base ^ flag);
                    let (_, broken) = pair.compare(&ram, &words);
                    accepted += u32::from(broken.is_empty());
                    let ram = with_members(&ram, &[words, no_op(1)]);
                    pair.compare(&ram, &batch(2));
                }
            }
        }
        // The table of the operations has 17 rows; each allows some.
        assert!(accepted > 300, "{accepted}");
    }
}

/// Every bit of a descriptor that is right, turned over.
#[test]
fn every_bit_of_typical_descriptors() {
    let mut pair = Pair::new(false);
    let ram = memory();
    for operation in (0..=0x20).filter(|operation| *operation != 1) {
        for flags in [0xc, 0x1c] {
            for bit in 0..512 {
                let mut words = typical(operation, flags);
                words[bit / 64] ^= 1 << (bit % 64);
                pair.compare(&ram, &words);
                if bit >= 32 {
                    let ram = with_members(&ram, &[words, no_op(1)]);
                    pair.compare(&ram, &batch(2));
                }
            }
        }
    }
    let words = batch(2);
    let ram = with_members(&ram, &[no_op(0), no_op(1)]);
    for bit in 0..512 {
        let mut words = words;
        words[bit / 64] ^= 1 << (bit % 64);
        pair.compare(&ram, &words);
    }
}

/// So many cases; one that fails is printed and not kept in a file.
fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(count)
    }
}

proptest! {
    #![proptest_config(cases(4_000))]

    #[test]
    fn random_descriptors(words in descriptors::any_descriptor(), is_shared: bool) {
        thread_local! {
            static PAIRS: std::cell::RefCell<[Pair; 2]> =
                std::cell::RefCell::new([Pair::new(false), Pair::new(true)]);
        }
        let ram = memory();
        PAIRS.with_borrow_mut(|pairs| {
            pairs[usize::from(is_shared)].compare(&ram, &words);
        });
    }
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn random_batches(
        members in prop::collection::vec(descriptors::any_member(), 2..=8),
        flags in any::<u8>(),
        seed in any::<u16>(),
    ) {
        thread_local! {
            static PAIR: std::cell::RefCell<Pair> = std::cell::RefCell::new(Pair::new(false));
        }
        let ram = with_members(&memory(), &members);
        let words = descriptors::batch_with(members.len(), flags, seed);
        PAIR.with_borrow_mut(|pair| pair.compare(&ram, &words));
    }
}

/// Each refused member gives the code that its rule has, in its own record, and fails
/// the batch; what comes behind a fence is given up, and the rest goes on.
#[test]
fn replaced_members_are_refused_by_the_device_with_the_same_code() {
    let mut pair = Pair::new(false);
    let mut seen_codes = Vec::new();
    for (words, code) in descriptors::refused_members() {
        for is_fenced in [false, true] {
            let mut last = no_op(2);
            if is_fenced {
                last[0] |= 1 << 32;
            }
            let members = [no_op(0), words, last];
            let ram = with_members(&memory(), &members);
            for (checked, options) in pair.checked.iter_mut().zip(BEHIND) {
                let seen = checked.run(&ram, &batch(3));
                assert_eq!(checked.take_rules().len(), 1, "{words:x?}");
                assert_eq!(status(&seen, words[1]), code, "{words:x?} {options}");
                assert_eq!(status(&seen, no_op(0)[1]), 1);
                assert_eq!(status(&seen, no_op(2)[1]), u8::from(!is_fenced));
                // The batch: a member failed; how many were processed.
                let record = usize::try_from(RECORD).unwrap();
                let processed = if is_fenced { 2 } else { 3 };
                assert_eq!(
                    seen.ram[record..record + 8],
                    [5, 0, 0, 0, processed, 0, 0, 0]
                );
                assert_eq!(seen.interrupts.last(), Some(&HANDLE), "of the batch");
            }
        }
        seen_codes.push(code);
    }
    seen_codes.sort_unstable();
    seen_codes.dedup();
    assert_eq!(
        seen_codes,
        [0x10, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x19, 0x1c, 0x20]
    );
}

/// A misaligned record is no record: only SWERROR has the code, from the device.
#[test]
fn a_member_with_a_misaligned_record_is_discarded_by_the_device() {
    let mut pair = Pair::new(false);
    let mut words = no_op(1);
    words[1] += 8;
    let ram = with_members(&memory(), &[no_op(0), words]);
    let (seen, broken) = pair.compare(&ram, &batch(2));
    assert_eq!(broken, [Rule::RecordAlignment]);
    assert_eq!(seen.error, Some((0x1b, Some(1), words[1])));
    assert_eq!(status(&seen, RECORD), 5);
}

/// Operands in the window: bare hardware would find nothing there, and says so of
/// reads alone. The check says so of writes too, and neither touches the window.
#[test]
fn the_window_is_out_of_reach_for_operands() {
    let mut refused = 0;
    for options in BEHIND {
        let mut checked = Checked::new(options, false);
        for operation in (0..=0x20).filter(|operation| *operation != 1) {
            let words = typical(operation, 0xc);
            for place in [2, 3, 5, 6] {
                for target in [window().start, window().end - 512] {
                    let mut words = words;
                    words[place] = target;
                    for is_member in [false, true] {
                        let ram = with_members(&memory(), &[words, no_op(1)]);
                        let before = checked.device.machine.window.clone();
                        let submitted = if is_member { batch(2) } else { words };
                        let seen = checked.run(&ram, &submitted);
                        let broken = checked.take_rules();
                        if broken == [Rule::OperandInWindow] {
                            assert_eq!(status(&seen, words[1]), 0x20);
                            refused += 1;
                        }
                        if !is_member {
                            assert_eq!(checked.device.machine.window, before);
                        }
                    }
                }
            }
        }
    }
    // 25 operands of 14 operations, two places each; at the second one the destinations
    // of a dualcast are refused for their offsets before.
    assert_eq!(refused, (25 * 2 - 2) * 2 * BEHIND.len());
}

/// A record in the window is not written, neither by the device nor by Weir; SWERROR
/// says so where bare hardware would lose it.
#[test]
fn a_record_in_the_window_goes_to_swerror() {
    for options in BEHIND {
        let mut checked = Checked::new(options, false);
        for record in [WINDOW, window().end - 32] {
            let mut words = no_op(1);
            words[1] = record;
            let seen = checked.run(&memory(), &words);
            assert_eq!(seen.error, Some((0x1a, None, record)));
            assert_eq!(seen.ram, memory());
            // As a member: the batch fails, and its count has the member.
            let ram = with_members(&memory(), &[no_op(0), words]);
            let seen = checked.run(&ram, &batch(2));
            assert_eq!(seen.error, Some((0x1a, Some(1), record)));
            assert_eq!(status(&seen, RECORD), 5);
            let rules = checked.take_rules();
            assert_eq!(rules, [Rule::RecordInWindow; 2]);
        }
    }
}

/// Weir's own handle has the PASID of the queue, so that the device would take it.
#[test]
fn weirs_own_handle_is_refused_though_the_device_would_take_it() {
    let mut words = no_op(1);
    words[0] |= 0x10 << 32;
    words[4] = u64::from(OWN_HANDLE) << 32;
    let bare = Bare::new(false).run(&memory(), &words);
    assert_eq!(bare.interrupts, [OWN_HANDLE]);
    for options in BEHIND {
        let mut checked = Checked::new(options, false);
        let seen = checked.run(&memory(), &words);
        assert_eq!((status(&seen, words[1]), seen.interrupts), (0x19, vec![]));
        let ram = with_members(&memory(), &[words, no_op(0)]);
        // `run` counts that one interrupt came, the batch's.
        let seen = checked.run(&ram, &batch(2));
        assert_eq!(status(&seen, words[1]), 0x19);
        assert_eq!(seen.interrupts, [HANDLE]);
        assert_eq!(checked.take_rules(), [Rule::UnknownHandle; 2]);
    }
}

/// A list that is not all there: bare hardware without ATS executes what it can read
/// and ends the batch with a hardware error. The check reads all of it first, and ends
/// it with the same code before anything is executed.
#[test]
fn a_list_that_is_not_all_there_is_a_hardware_error() {
    let mut words = batch(2);
    words[2] = RAM as u64 - 64;
    let mut ram = memory();
    let member = no_op(0);
    for (place, word) in ram[RAM - 64..].chunks_exact_mut(8).zip(member) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let bare = Bare::new(false).run(&ram, &words);
    assert_eq!((status(&bare, RECORD), status(&bare, member[1])), (0x20, 1));
    let mut checked = Checked::new("", false);
    let seen = checked.run(&ram, &words);
    assert_eq!(status(&seen, RECORD), 0x20);
    assert_ne!(status(&seen, member[1]), 1);
    assert_eq!(seen.interrupts, bare.interrupts);
    assert_eq!(checked.take_rules(), [Rule::ListMemory]);
}

/// A record that is not in RAM: a device without ATS loses it without notice.
#[test]
fn a_refusal_without_memory_for_its_record_goes_to_swerror() {
    let mut words = typical(0x7f, 0xc);
    words[1] = RAM as u64;
    let mut pair = Pair::new(false);
    let (bare, broken) = pair.compare(&memory(), &words);
    assert_eq!(broken, [Rule::Operation, Rule::RecordMemory]);
    assert_eq!(bare.error, None);
    let seen = pair.checked[0].run(&memory(), &words);
    assert_eq!(seen.error, Some((0x1a, None, RAM as u64)));
}

#[test]
fn a_foreign_handle_is_refused_both_ways() {
    let mut pair = Pair::new(false);
    let mut words = no_op(1);
    words[0] |= 0x10 << 32;
    words[4] = u64::from(FOREIGN_HANDLE) << 32;
    let (seen, broken) = pair.compare(&memory(), &words);
    assert_eq!(broken, [Rule::ForeignHandle]);
    assert_eq!(status(&seen, words[1]), 0x19);
    assert_eq!(seen.error, Some((0x19, None, 0)));
}
