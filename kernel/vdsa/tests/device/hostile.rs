//! Random accesses, answers and events, against a host that is strict about what it is
//! asked.

use hwspec::pci::Pasid;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use vdsa::{SubmissionKind, SubmissionRequest};

use crate::rig::{MSIX, MSIXPERM};
use crate::step::{Step, check_slots, device, finish, take};

fn any_width() -> impl Strategy<Value = u8> {
    prop_oneof![8 => prop::sample::select(vec![1, 2, 4, 8]), 1 => any::<u8>()]
}

/// Where something is, mostly.
fn any_offset() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => (0_u32..0x40).prop_map(|word| MSIX + 4 * (word % 20)),
        4 => (0_u32..8).prop_map(|word| MSIXPERM + 4 * word),
        2 => (0_u32..26).prop_map(|word| 0x500 + 4 * word),
        2 => 0_u32..0x800,
        1 => any::<u32>(),
    ]
}

fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => any::<u64>(),
        2 => Just(0),
        1 => Just(0xfee0_1000),
        // MSIXPERM and WQCFG with PASIDs, known and not.
        3 => (4_u64..8).prop_map(|pasid| pasid << 12 | 8),
        2 => (4_u64..8).prop_map(|pasid| pasid << 8 | 1 << 28),
    ]
}

/// A command that is mostly a good one.
fn any_command() -> impl Strategy<Value = Step> {
    let operand = prop_oneof![8 => 0_u32..4, 1 => any::<u32>().prop_map(|bits| bits & 0xf_ffff)];
    let code = prop_oneof![
        12 => prop::sample::select(vec![1_u32, 6, 6, 6, 13, 13]),
        3 => 1_u32..15,
        1 => 0_u32..0x400
    ];
    (code, operand, any::<bool>()).prop_map(|(code, operand, interrupt)| {
        let no_operand = (1..=5).contains(&code) && operand < 7;
        let operand = if no_operand { 0 } else { operand };
        let command = u32::from(interrupt) << 31 | code << 20 & 0x7ff0_0000 | operand;
        Step::Write(0xa0, 4, command.into())
    })
}

fn any_submission() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![
        SubmissionKind::Movdir64b,
        SubmissionKind::Movdir64b,
        SubmissionKind::Movdir64b,
        SubmissionKind::Enqcmd,
        SubmissionKind::Enqcmds,
    ]);
    let operation = prop::sample::select(vec![0_u64, 1, 2, 3, 4, 0x10, 0x30]);
    // Mostly the MSI-X pages of the three queues.
    let offset = prop_oneof![
        4 => (0_u64..6).prop_map(|page| page / 2 * 0x4000 + page % 2 * 0x1000),
        1 => (0_u64..0x1_4000).prop_map(|offset| offset & !63),
    ];
    let wild = (operation, 0_u64..6, any::<u32>(), any::<[u32; 4]>()).prop_map(
        |(operation, handle, pasid, addresses)| {
            let [record, first, second, flags] = addresses.map(u64::from);
            let word0 = operation << 56 | (flags & 0x1c) << 32 | u64::from(pasid & 7);
            let (first, second) = (first & !63, second & !63);
            [
                word0,
                record & !31,
                first,
                second,
                handle << 32 | 4,
                0,
                0,
                0,
            ]
        },
    );
    // A no-op, a batch of two, a drain; all with a record.
    let tame = prop_oneof![
        Just([0xc_0000_0005, 0x2000, 0, 0, 0, 0, 0, 0]),
        Just([0x0100_000c_0000_0005, 0x2000, 0x1_0000, 0, 2, 0, 0, 0]),
        Just([0x0200_000c_0000_0006, 0x2000, 0, 0, 0, 0, 0, 0]),
    ];
    let words = prop_oneof![wild, tame];
    let fields = (offset, kind, 0_u32..8, words);
    fields.prop_map(|(offset, kind, pasid, words)| {
        Step::Submit(SubmissionRequest {
            offset,
            kind,
            pasid: Pasid::new(pasid),
            words,
            now_ns: 0,
        })
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let config = prop_oneof![
        4 => Just(0x04), 4 => Just(0x40), 2 => Just(0x58), 2 => 0_u16..0x80, 1 => any::<u16>()
    ];
    let config_value = prop_oneof![
        // Mostly on.
        20 => Just(0x8000_0006_u32),
        1 => any::<u32>(),
        1 => Just(0x8000),
    ];
    prop_oneof![
        2 => (config, any_width(), config_value).prop_map(|(o, w, v)| Step::WriteConfig(o, w, v)),
        8 => (any_offset(), any_width(), any_value()).prop_map(|(o, w, v)| Step::Write(o, w, v)),
        10 => any_command(),
        12 => prop::bool::weighted(0.9).prop_map(Step::Answer),
        16 => any_submission(),
        2 => prop_oneof![Just(1), Just(5), any::<u64>()]
            .prop_map(|word0| Step::Collect([word0, 0x40_0000_1040, 0, 0])),
        1 => any::<u16>().prop_map(|vector| Step::Revoke(vector % 6)),
        1 => (0_u8..24).prop_map(Step::ReportHalt),
        1 => (any::<[u64; 3]>(), prop::option::of(0_usize..4))
            .prop_map(|(words, queue)| Step::ReportError(words, queue)),
        1 => (0_u64..0x100, any_value()).prop_map(|(at, word)| Step::Poke(0x1_0000 + 8 * at, word)),
        1 => prop::bool::weighted(0.2)
            .prop_map(|really| if really { Step::Reset } else { Step::Answer(true) }),
    ]
}
proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 200 }))]

    #[test]
    fn nothing_that_a_guest_does_breaks_the_device(
        steps in prop::collection::vec(any_step(), 1..if cfg!(miri) { 40 } else { 160 })
    ) {
        let (mut dsa, mut host) = device();
        for step in steps {
            take(&mut dsa, &mut host, step);
            check_slots(&dsa, &host);
        }
        finish(dsa, host);
    }
}

/// The random steps reach what they are meant to reach.
#[test]
#[cfg_attr(
    miri,
    ignore = "hours of random steps, which another test takes few of"
)]
fn random_steps_get_somewhere() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = prop::collection::vec(any_step(), 100..160);
    let (mut accepted, mut batches, mut handles, mut halts) = (0, 0, 0, 0);
    for _ in 0..100 {
        let steps = strategy.new_tree(&mut runner).unwrap().current();
        let (mut dsa, mut host) = device();
        for step in steps {
            take(&mut dsa, &mut host, step);
        }
        accepted += dsa.counters().accepted;
        batches += dsa.counters().batches;
        handles += u64::from(host.count_handles());
        halts += u64::from(dsa.read_register(&host, 0x90, 4) & 3 == 3);
    }
    let reached = (accepted, batches, handles, halts);
    assert!(accepted > 100 && batches > 20, "{reached:?}");
    assert!(handles > 50 && halts > 5, "{reached:?}");
}
