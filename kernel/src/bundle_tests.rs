use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use proptest::prelude::*;

use super::*;

/// Two files, written out by hand.
const TWO_FILES: &[u8] = b"\
070701\
00000001000081a40000000000000000000000010000000000000004\
00000000000000000000000000000000\
0000000a00000000weir.toml\0\
a=1\n\
070701\
00000002000081a40000000000000000000000010000000000000003\
00000000000000000000000000000000\
0000000200000000x\0\
\xff\0y\0\
070701\
00000000000000000000000000000000000000010000000000000000\
00000000000000000000000000000000\
0000000b00000000TRAILER!!!\0\
\0\0\0";

/// One entry, padded.
fn entry(mode: u32, links: u32, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "07070100000001{mode:08x}0000000000000000{links:08x}00000000{:08x}\
         00000000000000000000000000000000{:08x}00000000",
        content.len(),
        name.len() + 1
    )
    .into_bytes();
    bytes.extend(name);
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(0o100_644, 1, name.as_bytes(), content)
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut all = entries.concat();
    all.extend(entry(0, 1, TRAILER, b""));
    all
}

/// What is said of an archive that is refused.
fn refusal(archive: &[u8]) -> String {
    Bundle::read(archive).unwrap_err().to_string()
}

#[test]
fn files_are_found_by_name() {
    let bundle = Bundle::read(TWO_FILES).unwrap();
    assert_eq!(bundle.config(), "a=1\n");
    assert_eq!(bundle.files().len(), 2);
    assert_eq!(bundle.file("x").unwrap().content, b"\xff\0y");
    assert_eq!(bundle.file("y"), None);
}

#[test]
fn directories_and_leading_dots_are_of_no_account() {
    let all = archive(&[
        entry(0o040_755, 2, b".", b""),
        file("./weir.toml", b""),
        entry(0o040_755, 2, b"./images", b""),
        file("./images/demo", b"demo"),
    ]);
    let mut padded = all.clone();
    padded.resize(all.len().next_multiple_of(512), 0);
    let bundle = Bundle::read(&padded).unwrap();
    assert_eq!(bundle.file("images/demo").unwrap().content, b"demo");
    assert_eq!(bundle.files().len(), 2);
}

#[test]
fn what_is_no_newc_archive_is_refused() {
    let text = "boot bundle, entry 1: no entry of an uncompressed newc archive begins here; \
                pack with boot/bundle";
    assert_eq!(refusal(b"\x1f\x8b\x08compressed"), text);
    let mut bad_digit = TWO_FILES.to_vec();
    bad_digit[60] = b'x';
    assert_eq!(refusal(&bad_digit), text);
    let mut with_checksums = TWO_FILES.to_vec();
    with_checksums[5] = b'2';
    assert_eq!(
        refusal(&with_checksums),
        "boot bundle, entry 1: packed with checksums; use cpio -H newc, not -H crc"
    );
}

#[test]
fn an_archive_that_ends_anywhere_before_its_end_is_refused() {
    // The padding at the very end is not needed.
    for length in 0..TWO_FILES.len() - 3 {
        let error = Bundle::read(&TWO_FILES[..length]).unwrap_err();
        assert_eq!(error.fault, Fault::Truncated, "at {length}");
    }
    assert_eq!(
        refusal(&TWO_FILES[..200]),
        "boot bundle, entry 2: the archive ends in the middle; \
         pack it again, or give the loader more memory"
    );
    let mut long = TWO_FILES.to_vec();
    long[54..62].copy_from_slice(b"ffffffff");
    assert_eq!(Bundle::read(&long).unwrap_err().fault, Fault::Truncated);
}

#[test]
fn bad_names_are_refused() {
    let long = "n".repeat(MAX_NAME + 1);
    assert_eq!(
        refusal(&archive(&[file(&long, b"")])),
        "boot bundle, entry 1: a name of 256 bytes; names have 1 to 255"
    );
    assert_eq!(
        refusal(&archive(&[file("", b"")])),
        "boot bundle, entry 1: a name of 0 bytes; names have 1 to 255"
    );
    let text = "boot bundle, entry 1: the name is not printable UTF-8; rename the file";
    for name in [&b"a\nb"[..], b"\xff", b"a\0b", b"\x1b[2J"] {
        let all = archive(&[entry(0o100_644, 1, name, b"")]);
        assert_eq!(refusal(&all), text, "{name:?}");
    }
    let mut unended = file("weir.toml", b"");
    unended[119] = b'x';
    assert_eq!(refusal(&unended), text);
}

#[test]
fn links_and_devices_are_refused() {
    let config = file("weir.toml", b"");
    assert_eq!(
        refusal(&archive(&[config.clone(), entry(0o120_777, 1, b"l", b"x")])),
        "boot bundle, entry 2 (l): mode 0o120777 is not that of a plain file; \
         pack a copy of the file"
    );
    assert_eq!(
        refusal(&archive(&[config, entry(0o100_644, 2, b"h", b"")])),
        "boot bundle, entry 2 (h): a hard link without content; pack a copy of the file"
    );
}

#[test]
fn a_name_twice_is_refused() {
    let all = archive(&[file("weir.toml", b""), file("a", b"1"), file("./a", b"2")]);
    assert_eq!(
        refusal(&all),
        "boot bundle, entry 3 (./a): there is a file of this name already; pack each name once"
    );
}

#[test]
fn the_number_of_files_is_limited() {
    let mut entries = Vec::from([file("weir.toml", b"")]);
    entries.extend((1..MAX_FILES).map(|index| file(&format!("f{index}"), b"")));
    assert_eq!(
        Bundle::read(&archive(&entries)).unwrap().files().len(),
        MAX_FILES
    );
    entries.push(file("last", b""));
    assert_eq!(
        refusal(&archive(&entries)),
        "boot bundle, entry 65 (last): more than 64 files; pack what weir.toml names"
    );
}

#[test]
fn a_second_archive_behind_the_first_is_refused() {
    let one = archive(&[file("weir.toml", b"")]);
    assert_eq!(
        refusal(&[one.clone(), one].concat()),
        "boot bundle, entry 2: there is something behind the archive's end; pack one archive"
    );
}

#[test]
fn the_first_file_must_be_a_readable_configuration() {
    assert_eq!(
        refusal(&archive(&[])),
        "boot bundle, entry 1: there is no file in it; pack weir.toml and what it names"
    );
    assert_eq!(
        refusal(&archive(&[file("demo", b""), file("weir.toml", b"")])),
        "boot bundle, entry 1 (demo): the first file must be weir.toml; pack it first"
    );
    assert_eq!(
        refusal(&archive(&[file("weir.toml", &vec![b'#'; MAX_CONFIG + 1])])),
        "boot bundle, entry 1 (weir.toml): 65537 bytes are too long; the limit is 65536"
    );
    assert_eq!(
        refusal(&archive(&[file("weir.toml", b"\xff")])),
        "boot bundle, entry 1 (weir.toml): it is not UTF-8; save it as plain text"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    #[test]
    fn no_bytes_make_it_panic(
        start in any::<bool>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..512),
    ) {
        let mut all = if start { b"070701".to_vec() } else { Vec::new() };
        all.extend(bytes);
        let _ = Bundle::read(&all);
    }

    /// Nearly right archives get further into the reader.
    #[test]
    fn no_changed_archive_makes_it_panic(
        changes in proptest::collection::vec((0..TWO_FILES.len(), any::<u8>()), 1..8),
    ) {
        let mut all = TWO_FILES.to_vec();
        for (at, byte) in changes {
            all[at] = byte;
        }
        if let Ok(bundle) = Bundle::read(&all) {
            prop_assert!(bundle.files().len() <= 2);
        }
    }

    #[test]
    fn no_changed_digit_makes_it_panic(
        changes in proptest::collection::vec((6..110_usize, "[0-9a-f]"), 1..4),
    ) {
        let mut all = TWO_FILES.to_vec();
        for (at, digit) in changes {
            all[at] = digit.as_bytes()[0];
        }
        let _ = Bundle::read(&all);
    }
}
