use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::loader::testing::FakeRam;

/// How much memory the guests have here.
const RAM: usize = 32 << 20;

fn patch(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A kernel with one setup sector, as Debian's 6.1 has its header, but small: it wants
/// to be at 16 MiB and needs 1 MiB there.
fn kernel() -> Vec<u8> {
    let mut file = vec![0; 0x400];
    patch(&mut file, 0x1f1, &[1]);
    patch(&mut file, 0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    patch(&mut file, 0x202, b"HdrS\x0f\x02");
    patch(&mut file, 0x211, &[0x01]);
    patch(&mut file, 0x22c, &[0xff, 0xff, 0xff, 0x7f]);
    patch(&mut file, 0x230, &[0, 0, 0x20, 0, 1, 0x15, 0x7f, 0]);
    patch(&mut file, 0x238, &[0xff, 7, 0, 0]);
    patch(&mut file, 0x258, &[0, 0, 0, 1, 0, 0, 0, 0]);
    patch(&mut file, 0x260, &[0, 0, 0x10, 0]);
    file.extend_from_slice(b"kernel proper");
    file
}

fn payload<'f>(kernel: &'f [u8], initrd: Option<&'f [u8]>) -> LinuxPayload<'f> {
    LinuxPayload {
        kernel: File {
            name: "vmlinuz",
            content: kernel,
        },
        initrd: initrd.map(|content| File {
            name: "initrd",
            content,
        }),
        command_line: "console=ttyS0",
        count_vcpus: 1,
    }
}

/// What is said of [`kernel`] with some bytes changed.
fn refusal(at: usize, bytes: &[u8]) -> String {
    let mut file = kernel();
    patch(&mut file, at, bytes);
    let result = load(&mut FakeRam::new(RAM), &payload(&file, None));
    result.unwrap_err().to_string()
}

#[test]
fn a_kernel_is_loaded_where_it_wants_to_be() {
    let mut ram = FakeRam::new(RAM);
    let file = kernel();
    let start = load(&mut ram, &payload(&file, Some(b"files"))).unwrap();
    let expected = LinuxStart {
        entry: 0x100_0000,
        boot_params: 0x9_0000,
    };
    assert_eq!(start, expected);
    assert_eq!(ram.at(0x100_0000, 13), b"kernel proper");
    assert_eq!(ram.at(0x9_1000, 14), b"console=ttyS0\0");
    assert_eq!(ram.at(0xe_0000, 8), b"RSD PTR ");
    assert_eq!(ram.at(0xf_fff0, 3), [0xba, 0xf9, 0x0c]);
    // The last page of low RAM.
    assert_eq!(ram.at(0x1ff_f000, 5), b"files");
}

#[test]
fn the_kernel_is_told_what_it_needs() {
    let mut ram = FakeRam::new(RAM);
    let file = kernel();
    load(&mut ram, &payload(&file, Some(b"files"))).unwrap();
    let page = ram.at(0x9_0000, 0x1000);
    assert_eq!(
        page[0x70..0x78],
        [0, 0, 0x0e, 0, 0, 0, 0, 0],
        "acpi_rsdp_addr"
    );
    assert_eq!(page[0x1f1..0x202], file[0x1f1..0x202], "the header");
    assert_eq!(page[0x202..0x210], file[0x202..0x210]);
    assert_eq!(page[0x210], 0xff, "type_of_loader");
    assert_eq!(
        page[0x218..0x220],
        [0, 0xf0, 0xff, 1, 5, 0, 0, 0],
        "ramdisk"
    );
    assert_eq!(page[0x228..0x22c], [0, 0x10, 9, 0], "cmd_line_ptr");
    assert_eq!(page[0x258..0x264], file[0x258..0x264]);
    // 0x6a bytes behind 0x202 are the header; nothing else comes from the file.
    assert!(page[0x26c..0x290].iter().all(|&byte| byte == 0));
    assert_eq!(page[0x1e8], 6, "e820_entries");
    let mut expected = Vec::new();
    for (start, length, kind) in [
        (0_u64, 0xa_0000_u64, 1_u32),
        (0xe_0000, 0x2_0000, 2),
        (0x10_0000, 0x1f0_0000, 1),
        (0xe000_0000, 0x10_0000, 2),
        (0xfec0_0000, 0x1000, 2),
        (0xfee0_0000, 0x10_0000, 2),
    ] {
        expected.extend_from_slice(&start.to_le_bytes());
        expected.extend_from_slice(&length.to_le_bytes());
        expected.extend_from_slice(&kind.to_le_bytes());
    }
    assert_eq!(page[0x2d0..0x2d0 + 120], expected);
}

#[test]
fn no_initial_file_system_is_told_of_if_there_is_none() {
    let mut ram = FakeRam::new(RAM);
    load(&mut ram, &payload(&kernel(), None)).unwrap();
    assert_eq!(ram.at(0x9_0218, 8), [0; 8]);
}

#[test]
fn the_kernel_limits_where_its_file_system_is() {
    let mut ram = FakeRam::new(RAM);
    let mut file = kernel();
    patch(&mut file, 0x22c, &[0xff, 0xff, 0x7f, 1]);
    load(&mut ram, &payload(&file, Some(b"files"))).unwrap();
    assert_eq!(ram.at(0x17f_f000, 5), b"files");
}

#[test]
fn what_is_no_kernel_is_named() {
    for (at, bytes) in [(0x1fe, [0_u8, 0]), (0x202, *b"hd")] {
        assert_eq!(
            refusal(at, &bytes),
            "vmlinuz: not a Linux bzImage; give the 'vmlinuz' of a distribution, \
             or name a program with a PVH note by 'image'"
        );
    }
    assert_eq!(
        refusal(0x206, &[0x0d, 0x02]),
        "vmlinuz: boot protocol 2.13 is too old; give Linux 5.5 or later"
    );
    let expected = "vmlinuz: not a kernel for 64 bits; give one for x86-64";
    assert_eq!(refusal(0x211, &[0]), expected);
    assert_eq!(refusal(0x236, &[0x7e]), expected);
    assert_eq!(
        refusal(0x201, &[0x61]),
        "vmlinuz: the kernel's header is not all in the file; copy the file again"
    );
    assert_eq!(
        refusal(0x1f1, &[2]),
        "vmlinuz: the kernel is not all in the file; copy the file again"
    );
    for address in [0x100_0800_u64, 0x8_0000, 0] {
        assert!(
            refusal(0x258, &address.to_le_bytes())
                .starts_with("vmlinuz: the kernel wants to be at"),
            "{address:#x}"
        );
    }
}

#[test]
fn a_file_that_ends_early_is_named() {
    let file = kernel();
    for length in 0x208..0x264 {
        let result = load(&mut FakeRam::new(RAM), &payload(&file[..length], None));
        assert_eq!(
            result.unwrap_err().to_string(),
            "vmlinuz: the kernel's header is not all in the file; copy the file again"
        );
    }
}

#[test]
fn what_does_not_fit_is_named() {
    assert_eq!(
        refusal(0x260, &[1, 0, 0, 1]),
        "vmlinuz: the kernel needs 0x1000001 bytes from 0x1000000 on, and the guest's low RAM \
         ends at 0x2000000; give the guest more memory"
    );
    assert_eq!(
        refusal(0x258, &[0xff; 8].map(|byte: u8| byte)),
        "vmlinuz: the kernel wants to be at 0xffffffffffffffff, where it cannot be started; \
         build it with CONFIG_PHYSICAL_START at a page from 0x100000 on, below 4 GiB"
    );
    assert_eq!(
        refusal(0x238, &[12, 0, 0, 0]),
        "vmlinuz: the command line has 13 bytes, and the kernel takes 12; shorten it"
    );
    let (file, initrd) = (kernel(), vec![0; (15 << 20) + 1]);
    let result = load(&mut FakeRam::new(RAM), &payload(&file, Some(&initrd)));
    let message = result.unwrap_err().to_string();
    assert!(
        message.starts_with("initrd: 15728641 bytes do not fit into the 15728640"),
        "{message}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    /// Most files are whole, or nothing behind the header would be looked at.
    #[test]
    fn no_file_is_followed_unchecked(
        changes in prop::collection::vec((0x1f1_usize..0x290, any::<u8>()), 0..12),
        cut in prop::option::weighted(0.2, 0_usize..0x410),
    ) {
        let mut file = kernel();
        for (at, byte) in changes {
            file[at] = byte;
        }
        file.truncate(cut.unwrap_or(file.len()));
        let result = load(&mut FakeRam::new(RAM), &payload(&file, Some(b"files")));
        // What does not fit is found before anything is written.
        if let Err(error) = result {
            prop_assert!(!matches!(error.fault, Fault::NotRam(_)), "{error}");
        }
    }
}
