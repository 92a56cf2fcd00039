//! Start information of any bytes becomes boot information or is refused, and nothing
//! that a loader has no business with is looked at.
#![no_main]

use boot::pvh::{self, LoaderMemory};
use kernel::boot_info::ImageLayout;
use libfuzzer_sys::fuzz_target;
use x86_64::PhysAddr;

/// Where the loader's memory begins; the start information is there.
const BASE: u64 = 0x1000;
/// The magic number and version 1.
const BEGINNING: [u8; 8] = [0x78, 0xc5, 0x6e, 0x33, 1, 0, 0, 0];

struct Memory(Vec<u8>);

impl LoaderMemory for Memory {
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]> {
        let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.0.get(start..end)
    }
}

fuzz_target!(|bytes: &[u8]| {
    // Mostly with a good beginning, or else hardly anything would get further.
    let memory = match bytes.split_first() {
        Some((0, rest)) => Memory(rest.to_vec()),
        Some((_, rest)) => Memory([&BEGINNING, rest].concat()),
        None => return,
    };
    let at = PhysAddr::new;
    let image = ImageLayout {
        text: at(0x20_0000),
        rodata: at(0x21_0000),
        data: at(0x22_0000),
        data_end: at(0x23_0000),
        stack: at(0x23_1000),
        end: at(0x24_1000),
    };
    match pvh::read(&memory, BASE, image) {
        Ok(boot) => {
            for module in &boot.modules {
                let (start, len_bytes) = (module.start().as_u64(), module.len_bytes());
                assert!(memory.bytes(start, len_bytes).is_some());
            }
            assert!(!boot.command_line.contains('\0'));
            let _ = boot.option("suite");
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
});
