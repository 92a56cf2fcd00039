use proptest::prelude::{
    ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::*;

fn window(base: u64, len_bytes: u64) -> Range {
    Window { base, len_bytes }.into()
}

/// A descriptor with this in its second word.
fn with_record(address: u64) -> [u64; 8] {
    [0, address, 0, 0, 0, 0, 0, 0]
}

#[test]
fn a_range_is_touched_by_one_byte() {
    let range = window(0x40_0000_0000, 0x2000);
    for (address, len, is_touched) in [
        (0x3f_ffff_ffff, 1, false),
        (0x3f_ffff_ffff, 2, true),
        (0x40_0000_0000, 1, true),
        (0x40_0000_0000, 0, false),
        (0x40_0000_1fff, 1, true),
        (0x40_0000_2000, 1, false),
        (0, u64::MAX, true),
        (u64::MAX, u64::MAX, false),
    ] {
        assert_eq!(range.touches(address, len), is_touched, "{address:#x}");
    }
}

#[test]
fn far_is_below_half_of_where_the_window_begins() {
    // 1 << 38: no bit from 37 on.
    let range = window(0x40_0000_0000, 0x2000);
    assert!(range.is_far_from(&with_record(0x1f_ffff_ffff)));
    assert!(!range.is_far_from(&with_record(0x20_0000_0000)));
    // A window so low that an operand may reach it from anywhere.
    let range = window(0x2_0000_0000, 0x2000);
    assert!(!range.is_far_from(&with_record(1)));
    assert!(!range.is_far_from(&with_record(0)));
    assert!(!window(0, 0x1000).is_far_from(&with_record(0)));
}

#[test]
fn buffers_are_apart_or_not() {
    for (a, a_len, b, b_len, apart) in [
        (0x1000, 0x10, 0x1010, 0x10, true),
        (0x1000, 0x11, 0x1010, 0x10, false),
        (0x1010, 0x10, 0x1000, 0x10, true),
        (0x1010, 0x10, 0x1000, 0x11, false),
        (0x1000, 1, 0x1000, 1, false),
        (u64::MAX, 2, 0, 1, true),
    ] {
        assert_eq!(are_apart(a, a_len, b, b_len), apart, "{a:#x} {b:#x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 16 } else { 256 }))]

    /// What is passed without a closer look would have passed it.
    #[test]
    fn what_is_far_from_a_window_does_not_touch_it(
        base in prop_oneof![any::<u64>(), 0_u64..1 << 40, (0_u32..64).prop_map(|log2| 1 << log2)],
        len in 0_u64..0x1_0000_0000,
        address in prop_oneof![any::<u64>(), 0_u64..1 << 40, (0_u32..64).prop_map(|log2| 1 << log2)],
        operand in 0_u64..=1 << 33,
    ) {
        let range = window(base, len);
        if range.is_far_from(&with_record(address)) {
            prop_assert!(!range.touches(address, operand));
        }
    }

    /// As with numbers that do not wrap around.
    #[test]
    fn buffers_are_apart_as_numbers_say(a: u64, a_len: u32, b: u64, b_len: u32) {
        let end = |start: u64, len: u32| u128::from(start) + u128::from(len.max(1));
        let apart = end(a, a_len) <= u128::from(b) || end(b, b_len) <= u128::from(a);
        let (a_len, b_len) = (u64::from(a_len.max(1)), u64::from(b_len.max(1)));
        prop_assert_eq!(are_apart(a, a_len, b, b_len), apart);
    }
}
