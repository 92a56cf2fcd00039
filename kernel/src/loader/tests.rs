use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::testing::FakeRam;
use super::*;
use crate::boot_info::MemoryKind;

/// How much memory the guests have here.
const RAM: usize = 4 << 20;

/// Bytes written as hexadecimal digits, for people to read.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// An executable by hand: a note and one segment, at 0x100000, of 4 bytes in the
/// file and 0x2004 in memory, that begins at its third byte.
fn elf() -> Vec<u8> {
    let file = hex("
        7f454c46 02 01 01 00 0000000000000000    // 64-bit, little-endian
        0200 3e00 01000000                       // EXEC, x86-64
        0000100000000000                         // e_entry
        4000000000000000 0000000000000000        // headers at 0x40
        00000000 4000 3800 0200 0000 0000 0000   // 2 headers of 0x38 bytes

        04000000 04000000 b000000000000000       // NOTE at 0xb0
        0000000000000000 0000000000000000
        1400000000000000 1400000000000000        // 0x14 bytes
        0400000000000000

        01000000 07000000 c400000000000000       // LOAD at 0xc4
        0000108000000000 0000100000000000        // p_vaddr is not p_paddr
        0400000000000000 0420000000000000
        0010000000000000

        04000000 04000000 12000000 58656e00 02001000   // Xen, 18, 0x100002
        f4 90 eb fd
    "
    .lines()
    .map(|line| line.split("//").next().unwrap())
    .collect::<String>()
    .as_str());
    assert_eq!(file.len(), 0xc8, "the digits above are complete");
    file
}

/// Offsets in [`elf`].
const NOTE_HEADER: usize = 0x40;
const LOAD_HEADER: usize = 0x78;
const NOTE: usize = 0xb0;
/// Offsets in a program header.
const OFFSET: usize = 8;
const ADDRESS: usize = 24;
const FILE_SIZE: usize = 32;
const MEMORY_SIZE: usize = 40;

fn patch(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn payload(image: &[u8]) -> Payload<'_> {
    Payload {
        image: File {
            name: "demo",
            content: image,
        },
        module: None,
        command_line: "",
        reserved: &[],
    }
}

/// What is said of [`elf`] with some bytes changed.
fn refusal(at: usize, bytes: &[u8]) -> String {
    let mut file = elf();
    patch(&mut file, at, bytes);
    load(&mut FakeRam::new(RAM), &payload(&file))
        .unwrap_err()
        .to_string()
}

#[test]
fn a_segment_is_copied_to_its_physical_address_and_cleared_behind() {
    let mut ram = FakeRam::new(RAM);
    let file = elf();
    let start = load(&mut ram, &payload(&file)).unwrap();
    assert_eq!(
        start,
        Start {
            entry: 0x10_0002,
            start_info: 0x9_0000
        }
    );
    assert_eq!(ram.at(0x10_0000, 4), [0xf4, 0x90, 0xeb, 0xfd]);
    assert!(ram.at(0x10_0004, 0x2000).iter().all(|&byte| byte == 0));
    assert_eq!(ram.at(0x10_2004, 4), [0xee; 4]);
    assert_eq!(ram.at(0xf_fffc, 4), [0xee; 4]);
}

#[test]
fn the_start_information_is_what_the_abi_says() {
    let mut ram = FakeRam::new(RAM);
    let file = elf();
    let module = File {
        name: "input",
        content: &[0x5a; 0x1234],
    };
    let reserved = [Region {
        start: 0xe000_0000,
        length: 0x10_0000,
        kind: MemoryKind::RESERVED,
    }];
    let payload = Payload {
        module: Some(module),
        command_line: "hello",
        reserved: &reserved,
        ..payload(&file)
    };
    load(&mut ram, &payload).unwrap();
    let expected = hex("
        78c56e33 01000000 00000000 01000000
        3800090000000000 8800090000000000
        0000000000000000 5800090000000000
        02000000 00000000

        00e03f0000000000 3412000000000000
        0000000000000000 0000000000000000

        0000000000000000 0000400000000000 01000000 00000000
        000000e000000000 0000100000000000 02000000 00000000

        68656c6c6f00
    ");
    assert_eq!(ram.at(0x9_0000, expected.len()), expected);
    // The highest page from where the module fits below 4 MiB.
    assert_eq!(ram.at(0x3f_e000, 0x1234), [0x5a; 0x1234]);
    assert_eq!(ram.at(0x3f_f234, 4), [0xee; 4]);
}

#[test]
fn memory_above_the_hole_is_a_region_of_its_own() {
    let info = StartInfo {
        ram_bytes: (3 << 30) + (2 << 20),
        module: None,
        command_line: "",
        reserved: &[],
    };
    let bytes = info.at(0x1000, 0x2000).unwrap();
    let expected = hex("
        78c56e33 01000000 00000000 00000000
        0000000000000000 6810000000000000
        0000000000000000 3810000000000000
        02000000 00000000
        0000000000000000 000000c000000000 01000000 00000000
        0000000001000000 0000200000000000 01000000 00000000
        00
    ");
    assert_eq!(bytes, expected);
    let low = StartInfo {
        ram_bytes: 3 << 30,
        ..info
    };
    assert_eq!(low.at(0x1000, 0x2000).unwrap()[48], 1);
}

#[test]
fn a_command_line_that_is_too_long_is_refused() {
    let file = elf();
    let long = "x".repeat(0x2000);
    let payload = Payload {
        command_line: &long,
        ..payload(&file)
    };
    assert_eq!(
        load(&mut FakeRam::new(RAM), &payload)
            .unwrap_err()
            .to_string(),
        "demo: its start information has 8273 bytes and room for 8192; \
         give it a shorter command line"
    );
}

#[test]
fn a_module_that_does_not_fit_is_refused() {
    let file = elf();
    let content = vec![0; 0x2f_e000];
    let mut payload = payload(&file);
    let mut load = |content| {
        let name = "input";
        payload.module = Some(File { name, content });
        load(&mut FakeRam::new(RAM), &payload).map_err(|error| error.to_string())
    };
    // 0x10_2004 to 0x40_0000 are free, and a page begins at 0x10_3000.
    assert!(load(&content[0x1000..]).is_ok());
    assert_eq!(
        load(&content).unwrap_err(),
        "input: 3137536 bytes do not fit into the 3137532 that are free in the guest's low RAM; \
         give the guest more memory or a smaller file"
    );
    assert_eq!(
        load(&vec![0; RAM + 1]).unwrap_err(),
        "input: 4194305 bytes do not fit into the 4194304 that are free in the guest's low RAM; \
         give the guest more memory or a smaller file"
    );
}

#[test]
fn other_files_are_refused() {
    let not_elf = "demo: not an ELF file; give a 64-bit ELF with a PVH note";
    assert_eq!(refusal(0, b"\x7fELG"), not_elf);
    let mut linux = vec![0; 0x400];
    patch(&mut linux, 0x202, b"HdrS");
    assert_eq!(
        load(&mut FakeRam::new(RAM), &payload(&linux))
            .unwrap_err()
            .to_string(),
        "demo: a Linux bzImage; name it by 'kernel' and not by 'image'"
    );
    assert_eq!(
        load(&mut FakeRam::new(RAM), &payload(b""))
            .unwrap_err()
            .to_string(),
        not_elf
    );
}

#[test]
fn elf_files_for_something_else_are_refused() {
    let advice = "; link it as a little-endian 64-bit x86-64 executable at fixed addresses";
    for (at, bytes, what) in [
        (4, &[1][..], "not a 64-bit ELF file"),
        (5, &[2], "a big-endian ELF file"),
        (18, &[0xb7, 0], "an ELF file for another machine"),
        (
            16,
            &[3, 0],
            "an ELF file that is not linked to addresses (relocatable, shared or PIE)",
        ),
        (54, &[0x20, 0], "an ELF file with odd program headers"),
        (
            NOTE + 4,
            &[3],
            "an ELF file whose PVH note is not of 4 or 8 bytes",
        ),
    ] {
        assert_eq!(refusal(at, bytes), alloc::format!("demo: {what}{advice}"));
    }
}

#[test]
fn files_that_end_early_are_refused() {
    let file = elf();
    for length in 4..file.len() {
        let error = load(&mut FakeRam::new(RAM), &payload(&file[..length])).unwrap_err();
        let expected = match length {
            ..0x40 => "the ELF header",
            0x40..0xb0 => "the program header table",
            0xb0..0xc4 => "a note segment",
            _ => "a segment",
        };
        assert_eq!(error.fault, Fault::Truncated(expected), "at {length:#x}");
    }
    assert_eq!(
        refusal(LOAD_HEADER + OFFSET, &[0xff; 8]),
        "demo: a segment is not all in the file; copy the file again"
    );
    // The table of headers ends behind all addresses.
    assert_eq!(
        refusal(32, &[0xff; 8]),
        "demo: the program header table is not all in the file; copy the file again"
    );
    // A name, and then a descriptor, that is longer than its segment.
    for at in [NOTE, NOTE + 4] {
        for size in [[0xff; 4], [0x40, 0, 0, 0]] {
            assert_eq!(
                refusal(at, &size),
                "demo: a note is not all in the file; copy the file again"
            );
        }
    }
}

#[test]
fn too_many_or_no_segments_are_refused() {
    assert_eq!(
        refusal(56, &[0xff, 0xff]),
        "demo: 65535 program headers are too many; link it into at most 32 segments"
    );
    let nothing = "demo: nothing in it is to be loaded; link it as a program";
    assert_eq!(refusal(56, &[0, 0]), nothing);
    assert_eq!(refusal(56, &[1, 0]), nothing);
}

#[test]
fn segments_that_cannot_be_are_refused() {
    let text = "demo: the segment at 0x100000 is larger in the file than in memory, or ends \
                behind all addresses; link it again";
    assert_eq!(
        refusal(LOAD_HEADER + MEMORY_SIZE, &[3, 0, 0, 0, 0, 0, 0, 0]),
        text
    );
    assert_eq!(refusal(LOAD_HEADER + MEMORY_SIZE, &[0xff; 8]), text);
}

#[test]
fn segments_outside_the_guests_memory_are_refused() {
    let text = "demo: the segment at 0x100000..0x400001 is not below 0x400000, where the guest's \
                low RAM ends; give the guest more memory or link the image lower";
    assert_eq!(refusal(LOAD_HEADER + MEMORY_SIZE, &[1, 0, 0x30, 0]), text);
}

#[test]
fn segments_on_the_start_information_are_refused() {
    let mut file = elf();
    patch(&mut file, LOAD_HEADER + ADDRESS, &[0, 0x10, 0x09]);
    patch(&mut file, NOTE + 16, &[0, 0x10, 0x09]);
    assert_eq!(
        load(&mut FakeRam::new(RAM), &payload(&file))
            .unwrap_err()
            .to_string(),
        "demo: the segment at 0x91000..0x93004 overlaps the start information at \
         0x90000..0x92000; link it elsewhere, such as at 0x100000"
    );
    // Right behind it is well.
    patch(&mut file, LOAD_HEADER + ADDRESS, &[0, 0x20, 0x09]);
    patch(&mut file, NOTE + 16, &[0, 0x20, 0x09]);
    assert!(load(&mut FakeRam::new(RAM), &payload(&file)).is_ok());
}

#[test]
fn segments_that_overlap_are_refused() {
    // The note becomes a second segment, of 0x14 bytes, at the last of the first.
    let mut file = elf();
    patch(&mut file, NOTE_HEADER, &[1]);
    patch(&mut file, NOTE_HEADER + ADDRESS, &[3, 0x20, 0x10]);
    assert_eq!(
        load(&mut FakeRam::new(RAM), &payload(&file))
            .unwrap_err()
            .to_string(),
        "demo: the segment at 0x100000..0x102004 overlaps another; link them apart"
    );
}

#[test]
fn a_missing_note_is_named() {
    let text = "demo: no PVH note (owner \"Xen\", type 18) in a PT_NOTE segment; \
                add one with the 32-bit entry point";
    assert_eq!(refusal(NOTE_HEADER, &[6]), text);
    assert_eq!(refusal(NOTE + 8, &[17]), text);
    assert_eq!(refusal(NOTE + 12, b"GNU"), text);
    assert_eq!(refusal(NOTE_HEADER + FILE_SIZE, &[0]), text);
}

#[test]
fn an_entry_outside_the_code_is_refused() {
    // Right behind the segment's bytes, and right before its first.
    for address in [[4, 0, 0x10, 0], [0xff, 0xff, 0x0f, 0]] {
        let text = refusal(NOTE + 16, &address);
        assert!(text.contains("is in no segment below 4 GiB"), "{text}");
    }
    // In the segment, but not in reach of 32-bit mode: an address of 8 bytes.
    let mut file = elf();
    file.splice(NOTE + 16..NOTE + 20, hex("0200000001000000"));
    patch(&mut file, NOTE + 4, &[8]);
    patch(&mut file, NOTE_HEADER + FILE_SIZE, &[0x18]);
    patch(&mut file, LOAD_HEADER + OFFSET, &[0xc8]);
    patch(&mut file, LOAD_HEADER + ADDRESS, &[0, 0, 0, 0, 1]);
    assert_eq!(
        Elf::read(&file),
        Err(Fault::EntryOutside(0x1_0000_0002)),
        "with {file:x?}"
    );
}

#[test]
fn notes_of_others_are_skipped_whatever_their_alignment() {
    // A note of GNU with 4 bytes, then ours; the segment says 8, so each part
    // is padded to 8.
    let notes = hex("
        04000000 04000000 05000000 474e5500 01020304 00000000
        04000000 08000000 12000000 58656e00 0200100000000000
    ");
    let mut file = elf();
    file.extend(&notes);
    patch(&mut file, NOTE_HEADER + OFFSET, &[0xc8]);
    patch(&mut file, NOTE_HEADER + FILE_SIZE, &[48]);
    patch(&mut file, NOTE_HEADER + 48, &[8]);
    let start = load(&mut FakeRam::new(RAM), &payload(&file)).unwrap();
    assert_eq!(start.entry, 0x10_0002);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let mut file = b"\x7fELF\x02\x01".to_vec();
        file.extend(&bytes);
        let _ = Elf::read(&file);
        let _ = Elf::read(&bytes);
    }

    /// Nearly right files get further into the loader.
    #[test]
    fn no_changed_file_makes_it_panic_or_write_outside(
        changes in proptest::collection::vec((0..0xc8_usize, any::<u8>()), 1..8),
    ) {
        let mut file = elf();
        for (at, byte) in changes {
            file[at] = byte;
        }
        let mut ram = FakeRam::new(RAM);
        // Only a segment may be where there is no RAM, and that is found before.
        if let Err(error) = load(&mut ram, &payload(&file)) {
            prop_assert!(!matches!(error.fault, Fault::NotRam(_)), "{error}");
        }
    }
}
