//! Whatever a guest does with its platform, nothing of it panics, and no interrupt goes
//! where there is no processor.
#![forbid(unsafe_code)]

#[cfg(test)]
mod drive;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::drive::drive;

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 2_000 })
        })]

        #[test]
        fn no_accesses_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..800)) {
            drive(&bytes);
        }
    }
}
