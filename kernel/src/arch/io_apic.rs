//! The I/O APICs, which are not used: what firmware routed through them is
//! masked.

use crate::acpi::madt::IoApic;
use crate::mm::address_space::{self, Window};
use crate::mm::{MapError, PAGE_SIZE, PhysRange};

/// Byte offsets of the two registers that lead to all others: number, value.
/// [Intel 82093AA I/O APIC datasheet, 3.1 "Memory Mapped Registers for
/// Accessing IOAPIC Registers"]
const SELECT: usize = 0x00;
/// As [`SELECT`].
const VALUE: usize = 0x10;
/// IOAPICVER: the last entry of the redirection table in bits 23:16.
const VERSION: u32 = 1;
/// `IOREDTBL[0]`, the lower half of the first entry; two numbers for each.
const REDIRECTION: u32 = 0x10;
/// Interrupt Mask.
const MASKED: u32 = 1 << 16;

/// Masks all inputs of an I/O APIC.
///
/// # Errors
/// If its registers cannot be where the MADT says.
pub(super) fn mask(io_apic: IoApic) -> Result<(), MapError> {
    let address = u64::from(io_apic.address);
    let range =
        PhysRange::from_parts(address, PAGE_SIZE).expect("32 bits are within all addresses");
    let registers = address_space::map_window(range, Window::Registers)?;
    // SAFETY: the window is a page.
    let select = unsafe { registers.add(SELECT) }.cast::<u32>();
    // SAFETY: as above.
    let value = unsafe { registers.add(VALUE) }.cast::<u32>();
    // SAFETY: the register is mapped, and nobody else uses the I/O APIC.
    let choose = |register: u32| unsafe { select.write_volatile(register) };
    choose(VERSION);
    // SAFETY: as above.
    let version = unsafe { value.read_volatile() };
    for entry in 0..=version >> 16 & 0xff {
        choose(REDIRECTION + entry * 2);
        // SAFETY: as above; a masked input does nothing.
        unsafe { value.write_volatile(MASKED) };
    }
    Ok(())
}
