//! A bare-metal kernel that checks the emulated lab box where Linux does not
//! look: the submission instructions, the IOMMU in scalable mode, the DSA with
//! PASIDs, and its Interrupt Message Store behind interrupt remapping.
//!
//! It is the second author of everything that it checks. Layouts and numbers
//! are transcribed from the specifications once more; nothing is shared with
//! the device model, nor with the hypervisor.
//!
//! The command line chooses what is checked:
//!
//! - `group=instructions have=movdiri,movdir64b,enqcmd`: the instructions on
//!   RAM, at CPL 0 and 3. Those that `have` does not list must be absent.
//! - `group=nested`: the same as a guest under SVM with nested paging.
//! - `group=portals`: the instructions on the portals of a DSA.
//! - `group=iommu` and `group=interrupts`: DMA and interrupts of a DSA through
//!   VT-d. With `stage=first` through first-stage tables; with `ats=on` the DSA
//!   asks for translations first, so that it can report page faults.
//! - `clock=icount` adds what holds only where instructions are counted.
//! - `hold=on` waits for a line on the console before QEMU ends.
//!
//! Every check prints `ok NAME` or `FAIL NAME: …`, the last line is
//! `passed N failed M`. Then QEMU ends by `isa-debug-exit` at port 0xf4, or by
//! a reset where that device is missing (start QEMU with `-no-reboot`).
//!
//! Read on in [`boot`], then [`checks`].
#![no_std]
#![no_main]

mod acpi;
mod apic;
mod boot;
mod checks;
mod console;
mod cpu;
mod dsa;
mod encodings;
mod memory;
mod paging;
mod pci;
mod program;
mod report;
mod svm;
mod trap;
mod vtd;

use core::panic::PanicInfo;

use crate::boot::BootInfo;
use crate::console::println;
use crate::report::Report;

/// Where 64-bit code begins; `start_info` is what the loader passed.
extern "sysv64" fn kernel_main(start_info: u64) -> ! {
    console::init();
    let boot = BootInfo::read(start_info);
    println!("boxtest {}", boot.command_line);
    paging::init();
    trap::init();
    apic::init();

    let mut report = Report::new();
    checks::run(&boot, &mut report);
    let good = report.finish();
    if boot.option("hold") == Some("on") {
        console::wait_for_input();
    }
    cpu::exit(good)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    console::take_over();
    println!("FAIL panic: {info}");
    cpu::exit(false)
}
