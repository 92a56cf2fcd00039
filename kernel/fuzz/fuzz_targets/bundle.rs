//! A boot bundle of any bytes is read or refused.
#![no_main]

use kernel::bundle::{Bundle, CONFIG_NAME, MAX_FILES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|archive: &[u8]| match Bundle::read(archive) {
    Ok(bundle) => {
        assert!(bundle.files().len() <= MAX_FILES);
        for file in bundle.files() {
            assert_eq!(bundle.file(file.name), Some(*file), "a name is there twice");
        }
        let config = bundle.file(CONFIG_NAME).expect("it is the first file");
        assert_eq!(config.content, bundle.config().as_bytes());
    }
    Err(error) => assert!(!error.to_string().contains(char::is_control)),
});
