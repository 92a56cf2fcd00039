//! A guest's image of any bytes, ELF or bzImage, is loaded or refused, and nothing is
//! written where there is no RAM.
#![no_main]

use kernel::bundle::File;
use kernel::loader::bzimage::{self, LinuxPayload};
use kernel::loader::{self, Fault, GuestRam, Payload};
use kernel::virt::address::GuestPhysAddr;
use kernel::virt::memory::NotRam;
use libfuzzer_sys::fuzz_target;

const RAM: u64 = 4 << 20;

/// Memory that keeps nothing.
struct Checked;

impl GuestRam for Checked {
    fn len_bytes(&self) -> u64 {
        RAM
    }

    fn write(&mut self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), NotRam> {
        let end = address.0.checked_add(bytes.len() as u64);
        match end.filter(|&end| end <= RAM) {
            Some(_) => Ok(()),
            None => Err(NotRam(address)),
        }
    }
}

fuzz_target!(|content: &[u8]| {
    let payload = Payload {
        image: File {
            name: "image",
            content,
        },
        module: Some(File {
            name: "module",
            content,
        }),
        command_line: "",
        reserved: &[],
    };
    match loader::load(&mut Checked, &payload) {
        Ok(start) => assert!(u64::from(start.entry) < RAM),
        Err(error) => assert!(!matches!(error.fault, Fault::NotRam(_)), "{error}"),
    }
    let payload = LinuxPayload {
        kernel: File {
            name: "kernel",
            content,
        },
        initrd: None,
        command_line: "quiet",
        count_vcpus: 2,
    };
    match bzimage::load(&mut Checked, &payload) {
        Ok(start) => assert!(u64::from(start.entry) < RAM),
        Err(error) => assert!(!matches!(error.fault, Fault::NotRam(_)), "{error}"),
    }
});
