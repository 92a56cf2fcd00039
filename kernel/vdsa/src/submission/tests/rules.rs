//! Each rule with descriptors that break it, and what the guest is told.

use hwspec::dsa::Status;

use super::super::{Named, Notices, Rule};
use super::support::{FOREIGN_HANDLE, HANDLE, ORPHAN_HANDLE, Rig, WINDOW, pasid};
use crate::SubmitResult;

/// One row: what is wrong, the descriptor, the rule, and Invalid Flags.
type Row = (&'static str, [u64; 8], Rule, u64);

/// Flags used below: 0x04 record valid, 0x08 record, 0x10 interrupt.
#[rustfmt::skip]
const REPORTED_IN_THE_RECORD: &[Row] = &[
    ("an operation that is not defined",
        [0x7f00_000c_0000_0000, 0x1000, 0, 0, 0, 0, 0, 0], Rule::Operation, 0),
    ("translation fetch, of later devices",
        [0x0a00_000c_0000_0000, 0x1000, 0x2000, 0, 0x1000, 0, 0, 0], Rule::Operation, 0),
    ("update window",
        [0x2100_000c_0000_0000, 0x1000, 0, 0, 0, 0, 0, 0], Rule::Operation, 0),
    ("inter-domain copy",
        [0x2300_000c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0, 0, 0], Rule::Operation, 0),

    ("a fence by itself",
        [0x0000_000d_0000_0000, 0x1000, 0, 0, 0, 0, 0, 0], Rule::Flags, 0x01),
    ("block on fault",
        [0x0300_000e_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0, 0, 0], Rule::Flags, 0x02),
    ("cache control 3, of later devices, and with it all of the field",
        [0x0300_012c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0, 0, 0], Rule::Flags, 0x120),
    ("reserved flag 6",
        [0x0300_004c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0, 0, 0], Rule::Flags, 0x40),
    ("check result of a move",
        [0x0300_008c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0, 0, 0], Rule::Flags, 0x80),
    ("traffic class of a third address that a move does not have",
        [0x0300_080c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0, 0, 0], Rule::Flags, 0x800),
    ("reserved flag 15",
        [0x0300_800c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0, 0, 0], Rule::Flags, 0x8000),
    ("an operation-specific flag that a move does not have",
        [0x0381_000c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0, 0, 0], Rule::Flags, 0x81_0000),
    ("compare without a record on success",
        [0x0500_0004_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0, 0, 0], Rule::Flags, 0x08),
    ("a fill pattern of 16 bytes",
        [0x0404_000c_0000_0000, 0x1000, 1, 0x3000, 8, 2, 0, 0], Rule::Flags, 0x04_0000),
    ("a 64-bit CRC",
        [0x1008_000c_0000_0000, 0x1000, 0x2000, 0, 8, 0, 0, 0], Rule::Flags, 0x08_0000),
    ("traffic class of a seed that is not read",
        [0x1000_080c_0000_0000, 0x1000, 0x2000, 0, 8, 0, 0, 0], Rule::Flags, 0x800),
    ("a readback address of a drain",
        [0x0201_000c_0000_0000, 0x1000, 0x2000, 0, 0, 0, 0, 0], Rule::Flags, 0x01_0000),
    ("a drain that nobody hears of",
        [0x0200_0004_0000_0000, 0x1000, 0, 0, 0, 0, 0, 0], Rule::Flags, 0x18),
    ("a cache flush to the cache",
        [0x2000_010c_0000_0000, 0x1000, 0, 0x3000, 64, 0, 0, 0], Rule::Flags, 0x100),
    ("batch error of a batch, which cannot be continued",
        [0x0101_000c_0000_0000, 0x1000, 0x4000, 0, 2, 0, 0, 0], Rule::Flags, 0x01_0000),

    ("a handle without an interrupt",
        [0x0300_000c_0000_0000, 0x1000, 0x2000, 0x3000, 0x0001_0000_0008, 0, 0, 0],
        Rule::ReservedField, 0),
    ("bytes 38 and 39",
        [0x0300_000c_0000_0000, 0x1000, 0x2000, 0x3000, 0x0001_0000_0000_0008, 0, 0, 0],
        Rule::ReservedField, 0),
    ("the last byte of a move",
        [0x0300_000c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0, 0, 0x0100_0000_0000_0000],
        Rule::ReservedField, 0),
    ("a size of a no-op",
        [0x0000_000c_0000_0000, 0x1000, 0, 0, 8, 0, 0, 0], Rule::ReservedField, 0),
    ("a destination of a CRC",
        [0x1000_000c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0, 0, 0], Rule::ReservedField, 0),
    ("the upper half of a 32-bit seed",
        [0x1000_000c_0000_0000, 0x1000, 0x2000, 0, 8, 0x0000_0001_ffff_ffff, 0, 0],
        Rule::ReservedField, 0),
    ("a seed besides its address",
        [0x1001_000c_0000_0000, 0x1000, 0x2000, 0, 8, 1, 0x5000, 0], Rule::ReservedField, 0),
    ("the address of a seed that is not read",
        [0x1000_000c_0000_0000, 0x1000, 0x2000, 0, 8, 0, 0x5000, 0], Rule::ReservedField, 0),
    ("a reserved DIF flag",
        [0x1200_000c_0000_0000, 0x1000, 0x2000, 0, 520, 0x10_0000, 0, 0],
        Rule::ReservedField, 0),
    ("a reserved destination DIF flag",
        [0x1300_000c_0000_0000, 0x1000, 0x2000, 0x3000, 512, 0x0100, 0, 0],
        Rule::ReservedField, 0),

    ("a move of nothing",
        [0x0300_000c_0000_0000, 0x1000, 0x2000, 0x3000, 0, 0, 0, 0], Rule::TransferSize, 0),
    ("a move of more than 2^20 bytes",
        [0x0300_000c_0000_0000, 0x1000, 0x2000, 0x3000, 0x10_0001, 0, 0, 0],
        Rule::TransferSize, 0),
    ("a delta of more than 512 KiB",
        [0x0700_000c_0000_0000, 0x1000, 0x2000, 0x3000, 0x8_0008, 0x4000, 80, 0],
        Rule::TransferSize, 0),
    ("half a block of DIF Check",
        [0x1200_000c_0000_0000, 0x1000, 0x2000, 0, 512, 0, 0, 0], Rule::TransferSize, 0),
    ("a block of 4104 bytes for DIF Insert and one more",
        [0x1300_000c_0000_0000, 0x1000, 0x2000, 0x1_3000, 4105, 0x3_0000, 0, 0],
        Rule::TransferSize, 0),

    ("a batch of one",
        [0x0100_000c_0000_0000, 0x1000, 0x4000, 0, 1, 0, 0, 0], Rule::DescriptorCount, 0),
    ("a batch of 17, where 16 are the limit",
        [0x0100_000c_0000_0000, 0x1000, 0x4000, 0, 17, 0, 0, 0], Rule::DescriptorCount, 0),
    ("a misaligned list",
        [0x0100_000c_0000_0000, 0x1000, 0x4020, 0, 2, 0, 0, 0], Rule::ListAlignment, 0),
    ("a list that ends behind the RAM",
        [0x0100_000c_0000_0000, 0x1000, 0x1f_ffc0, 0, 2, 0, 0, 0], Rule::ListMemory, 0),
    ("a list in the window",
        [0x0100_000c_0000_0000, 0x1000, WINDOW + 0x1000, 0, 2, 0, 0, 0], Rule::ListMemory, 0),
    ("a list at the end of the address space",
        [0x0100_000c_0000_0000, 0x1000, 0xffff_ffff_ffff_ffc0, 0, 16, 0, 0, 0],
        Rule::ListMemory, 0),

    ("a delta of 12 bytes",
        [0x0700_000c_0000_0000, 0x1000, 0x2000, 0x3000, 12, 0x4000, 80, 0],
        Rule::Alignment, 0),
    ("a delta of misaligned sources",
        [0x0700_000c_0000_0000, 0x1000, 0x2004, 0x3000, 8, 0x4000, 80, 0],
        Rule::Alignment, 0),
    ("a delta applied to a misaligned destination",
        [0x0800_000c_0000_0000, 0x1000, 0x2000, 0x3004, 8, 10, 0, 0], Rule::Alignment, 0),
    ("a seed at an odd address",
        [0x1001_000c_0000_0000, 0x1000, 0x2000, 0, 8, 0, 0x5002, 0], Rule::Alignment, 0),

    ("a delta record of 79 bytes",
        [0x0700_000c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0x4000, 79, 0],
        Rule::DeltaSize, 0),
    ("a delta record of no bytes",
        [0x0800_000c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0, 0, 0], Rule::DeltaSize, 0),
    ("a delta record of one entry and a half",
        [0x0800_000c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 15, 0, 0], Rule::DeltaSize, 0),

    ("copy with CRC onto itself",
        [0x1100_000c_0000_0000, 0x1000, 0x2000, 0x2007, 8, 0, 0, 0], Rule::Overlap, 0),
    ("a delta record over its source",
        [0x0700_000c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0x1fb8, 80, 0], Rule::Overlap, 0),
    ("a dualcast to one place",
        [0x0900_000c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0x3000, 0, 0], Rule::Overlap, 0),
    ("DIF Insert whose last field runs into its source",
        [0x1300_000c_0000_0000, 0x1000, 0x2200, 0x2000, 512, 0, 0, 0], Rule::Overlap, 0),
    ("dualcast destinations 8 bytes apart",
        [0x0900_000c_0000_0000, 0x1000, 0x2000, 0x3000, 8, 0x5008, 0, 0],
        Rule::DualcastOffsets, 0),

    ("a source in the window",
        [0x0300_000c_0000_0000, 0x1000, WINDOW, 0x3000, 8, 0, 0, 0], Rule::OperandInWindow, 0),
    ("a destination whose last byte is in the window",
        [0x0400_000c_0000_0000, 0x1000, 1, WINDOW - 7, 8, 0, 0, 0], Rule::OperandInWindow, 0),
    ("a second destination in the window",
        [0x0900_000c_0000_0000, 0x1000, 0x2000, 0x3000, 8, WINDOW + 0x1000, 0, 0],
        Rule::OperandInWindow, 0),
    ("a delta record in the window",
        [0x0700_000c_0000_0000, 0x1000, 0x2000, 0x3000, 8, WINDOW + 0x800, 80, 0],
        Rule::OperandInWindow, 0),
    ("a delta record to apply that ends in the window",
        [0x0800_000c_0000_0000, 0x1000, WINDOW - 1, 0x3000, 8, 10, 0, 0],
        Rule::OperandInWindow, 0),
    ("a seed in the window",
        [0x1001_000c_0000_0000, 0x1000, 0x2000, 0, 8, 0, WINDOW + 4, 0],
        Rule::OperandInWindow, 0),
    ("an operand around the window",
        [0x0300_000c_0000_0000, 0x1000, 0x2000, WINDOW - 0x1000, 0x10_0000, 0, 0, 0],
        Rule::OperandInWindow, 0),
    ("DIF fields that run into the window",
        [0x1300_000c_0000_0000, 0x1000, 0x2000, WINDOW - 512, 512, 0, 0, 0],
        Rule::OperandInWindow, 0),
    ("a flush of the window",
        [0x2000_000c_0000_0000, 0x1000, 0, WINDOW, 64, 0, 0, 0], Rule::OperandInWindow, 0),
];

/// The codes of [DSA 3.0, 5.8.1 "Operation Status Codes"], and of what a device without
/// ATS says of a read that faults: 0x20.
#[test]
fn each_rule_has_the_code_of_the_specification() {
    let codes = [
        (Rule::Operation, 0x10),
        (Rule::Nested, 0x10),
        (Rule::Flags, 0x11),
        (Rule::ReservedField, 0x12),
        (Rule::TransferSize, 0x13),
        (Rule::DescriptorCount, 0x14),
        (Rule::DeltaSize, 0x15),
        (Rule::Overlap, 0x16),
        (Rule::DualcastOffsets, 0x17),
        (Rule::ListAlignment, 0x18),
        (Rule::UnknownHandle, 0x19),
        (Rule::ForeignHandle, 0x19),
        (Rule::RecordInWindow, 0x1a),
        (Rule::RecordMemory, 0x1a),
        (Rule::RecordAlignment, 0x1b),
        (Rule::Alignment, 0x1c),
        (Rule::Privilege, 0x1d),
        (Rule::ListMemory, 0x20),
        (Rule::OperandInWindow, 0x20),
        (Rule::UnknownPasid, 0x22),
    ];
    for (rule, code) in codes {
        assert_eq!(rule.status().0, code, "{rule:?}");
    }
    let named = |rule: &Rule| codes.iter().any(|(named, _)| named == rule);
    assert!(Rule::ALL.iter().all(named));
}

/// The record that a device writes for a descriptor that it does not execute.
fn record_of(rule: Rule, invalid_flags: u64) -> [u64; 4] {
    [u64::from(rule.status().0), 0, invalid_flags, 0]
}

#[test]
fn refusals_are_reported_in_the_record() {
    for (what, words, rule, invalid_flags) in REPORTED_IN_THE_RECORD {
        let mut rig = Rig::new();
        rig.host.set(0x1000, &[!0; 4]);
        let answer = rig.post(*words);
        let last = rig.submission.refusals().recent().last().copied();
        assert_eq!(last.map(|refusal| refusal.rule), Some(*rule), "{what}");
        assert_eq!(
            answer,
            (SubmitResult::Accepted, Notices::default()),
            "{what}"
        );
        let expected = record_of(*rule, *invalid_flags);
        assert_eq!(rig.host.words::<4>(0x1000), expected, "{what}");
        // The word with the status comes last.
        assert_eq!(rig.host.written, [0x1008, 0x1010, 0x1018, 0x1000]);
        assert_eq!(rig.host.submitted, [], "{what}");
        assert_eq!(rig.submission.counters().refused, 1);
    }
}

/// Without a valid record address SWERROR has the error.
#[test]
fn refusals_without_a_record_are_reported_in_swerror() {
    for (what, words, rule, invalid_flags) in REPORTED_IN_THE_RECORD {
        let mut words = *words;
        words[0] &= !0x0000_000c_0000_0000;
        words[1] = 0;
        let mut rig = Rig::new();
        let (result, notices) = rig.post(words);
        assert_eq!(
            (result, notices.interrupt),
            (SubmitResult::Accepted, None),
            "{what}"
        );
        let error = notices.error.unwrap();
        assert!(
            error.word0.descriptor_valid() && error.word0.wq_index_valid(),
            "{what}"
        );
        assert_eq!(
            u64::from(error.word0.operation().0),
            words[0] >> 56,
            "{what}"
        );
        assert_eq!(rig.host.written, [], "{what}");
        assert_eq!(rig.host.submitted, [], "{what}");
        // Some operations need a record, and lack it now before all else.
        if error.word0.error_code() != Status::INVALID_FLAGS {
            assert_eq!(error.word0.error_code(), rule.status(), "{what}");
            assert_eq!(error.word1.error_information(), 0, "{what}");
        } else if *rule == Rule::Flags {
            let wrong = u64::from(error.word1.error_information());
            assert_eq!(
                wrong & !0xc,
                invalid_flags & !0xc & !0x10 | wrong & 0x10,
                "{what}"
            );
        }
    }
}

#[test]
fn swerror_has_its_fields_where_they_belong() {
    // Compare without a record: flags 0x04 and 0x08 are missing.
    let words = [0x0500_0000_0000_0000, 0, 0x2000, 0x3000, 8, 0, 0, 0];
    let mut rig = Rig::with(|view| {
        view.is_pasid_enabled = true;
        view.is_privileged = true;
    });
    let error = rig.post(words).1.error.unwrap();
    // PASID 9 of the guest's WQCFG, operation 5, queue 3, 0x11, Priv, queue and
    // descriptor valid.
    assert_eq!(u64::from(error.word0), 0x0000_0905_0003_114c);
    assert_eq!(u64::from(error.word1), 0x0000_000c_0000_0000);
    assert_eq!(error.address, 0);
}

#[test]
fn records_that_cannot_be_are_reported_in_swerror() {
    // 0x1b: misaligned. 0x1a, a fault on a write: in the window, at either end.
    for (record, rule, word0) in [
        (0x1010, Rule::RecordAlignment, 0x0000_0003_0003_1b0c),
        (WINDOW + 0x10, Rule::RecordAlignment, 0x0000_0003_0003_1b0c),
        (WINDOW, Rule::RecordInWindow, 0x0000_0003_0003_1a2c),
        (WINDOW + 0x1fe0, Rule::RecordInWindow, 0x0000_0003_0003_1a2c),
    ] {
        let words = [0x0300_001c_0000_0000, record, 0, 0, 0x33_0000_0000, 0, 0, 0];
        let mut rig = Rig::new();
        let (result, notices) = rig.post(words);
        assert_eq!((result, notices.interrupt), (SubmitResult::Accepted, None));
        let error = notices.error.unwrap();
        assert_eq!(u64::from(error.word0), word0, "{record:#x}");
        assert_eq!(error.address, record);
        assert_eq!(rig.host.written, []);
        assert_eq!(rig.host.submitted, []);
        assert_eq!(rig.submission.refusals().count(rule), 1);
    }
}

#[test]
fn what_is_right_next_to_the_window_passes() {
    let len = super::super::window_bytes(super::support::BATCHES, super::support::LIST_LOG2);
    assert_eq!(len, 0x2000, "a page of records and two lists of 2 KiB");
    for words in [
        [
            0x0300_000c_0000_0000,
            WINDOW - 32,
            WINDOW - 8,
            WINDOW + len,
            8,
            0,
            0,
            0,
        ],
        [
            0x0300_000c_0000_0000,
            WINDOW + len,
            0x2000,
            WINDOW - 0x10_0000,
            0x10_0000,
            0,
            0,
            0,
        ],
        // A pattern and a CRC seed are no addresses.
        [0x0400_000c_0000_0000, 0x1000, WINDOW, 0x3000, 8, 0, 0, 0],
        [0x0600_000c_0000_0000, 0x1000, 0x2000, WINDOW, 8, 0, 0, 0],
    ] {
        let mut rig = Rig::new();
        assert_eq!(rig.post(words).0, SubmitResult::Accepted);
        assert_eq!(rig.submission.refusals().total(), 0, "{words:x?}");
        let mut expected = words;
        expected[0] |= 0x101;
        assert_eq!(rig.host.only(), expected);
    }
}

/// A record outside of the RAM cannot be written by Weir, which says so.
#[test]
fn a_refusal_whose_record_is_not_ram_goes_to_swerror() {
    for record in [super::support::RAM - 24, super::support::RAM, !31] {
        let aligned = record & !31;
        let words = [
            0x0300_001c_0000_0000,
            aligned,
            0,
            0,
            0x33_0000_0000,
            0,
            0,
            0,
        ];
        let mut rig = Rig::new();
        let (_, notices) = rig.post(words);
        if aligned < super::support::RAM {
            assert_eq!((notices.interrupt, notices.error), (Some(1), None));
            continue;
        }
        assert_eq!(notices.interrupt, None);
        let error = notices.error.unwrap();
        assert_eq!(u64::from(error.word0), 0x0000_0003_0003_1a2c);
        assert_eq!(error.address, aligned);
        assert_eq!(rig.submission.refusals().count(Rule::TransferSize), 1);
        assert_eq!(rig.submission.refusals().count(Rule::RecordMemory), 1);
    }
}

/// A move with an interrupt through `handle`, of `size` bytes.
fn interrupting(handle: u16, size: u64) -> [u64; 8] {
    let word4 = u64::from(handle) << 32 | size;
    [
        0x0300_001c_0000_0000,
        0x1000,
        0x2000,
        0x3000,
        word4,
        0,
        0,
        0,
    ]
}

#[test]
fn handles_of_others_are_refused_without_an_interrupt() {
    for (handle, rule, named) in [
        (0, Rule::UnknownHandle, Named::NobodysHandle),
        (0xffff, Rule::UnknownHandle, Named::NobodysHandle),
        (
            super::support::BATCH_HANDLE,
            Rule::UnknownHandle,
            Named::NobodysHandle,
        ),
        (
            FOREIGN_HANDLE,
            Rule::ForeignHandle,
            Named::HandleOf {
                vector: 2,
                pasid: Some(pasid(0x102)),
                descriptor: pasid(0x101),
            },
        ),
        (
            ORPHAN_HANDLE,
            Rule::ForeignHandle,
            Named::HandleOf {
                vector: 3,
                pasid: None,
                descriptor: pasid(0x101),
            },
        ),
    ] {
        let mut rig = Rig::new();
        let (result, notices) = rig.post(interrupting(handle, 8));
        assert_eq!((result, notices.interrupt), (SubmitResult::Accepted, None));
        // The device reports this error in both places.
        assert_eq!(rig.host.words::<4>(0x1000), [0x19, 0, 0, 0]);
        let error = notices.error.unwrap();
        assert_eq!(u64::from(error.word0), 0x0000_0003_0003_190c);
        assert_eq!(u64::from(error.word1), u64::from(handle) << 32);
        assert_eq!(rig.host.submitted, []);
        let last = *rig.submission.refusals().recent().last().unwrap();
        assert_eq!((last.rule, last.named), (rule, named));
        assert_eq!(last.value, u64::from(handle));
        assert_eq!(rig.submission.counters().refused_interrupts, 0);
    }
}

#[test]
fn a_refused_descriptor_raises_the_interrupt_that_it_may_have() {
    let mut rig = Rig::new();
    assert_eq!(rig.post(interrupting(HANDLE, 0)).1.interrupt, Some(1));
    assert_eq!(rig.host.words::<1>(0x1000), [0x13]);
    assert_eq!(rig.submission.counters().refused_interrupts, 1);
    // Neither through a handle of somebody else.
    assert_eq!(rig.post(interrupting(FOREIGN_HANDLE, 0)).1.interrupt, None);
    assert_eq!(rig.host.words::<1>(0x1000), [0x13]);
    // Nor unasked.
    let mut words = interrupting(HANDLE, 0);
    words[0] &= !0x0000_0010_0000_0000;
    words[4] = 0;
    assert_eq!(rig.post(words).1.interrupt, None);
    assert_eq!(rig.submission.counters().refused_interrupts, 1);
}

#[test]
fn a_good_handle_passes() {
    let mut rig = Rig::new();
    let answer = rig.post(interrupting(HANDLE, 8));
    assert_eq!(answer, (SubmitResult::Accepted, Notices::default()));
    assert_eq!(rig.host.only()[4], 0x0000_0033_0000_0008);
}
