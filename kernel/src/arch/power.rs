//! Switching the machine off, as firmware's tables say.

use core::ptr::NonNull;

use hwspec::acpi::fadt;
use spin::Once;
use x86_64::instructions::port::Port;

use super::{clock, park};
use crate::acpi::fadt::{FixedHardware, PowerOff, Register};
use crate::mm::PhysRange;
use crate::mm::address_space::{self, Window};

/// How long the machine may take to get into ACPI mode, or to switch off.
const PATIENCE_NS: u64 = 1_000_000_000;
const POLL_NS: u64 = 1_000_000;

/// How to switch it off, if the tables say.
static OFF: Once<Option<Off>> = Once::new();

/// A register that can be written at once.
#[derive(Clone, Copy, Debug)]
enum Mapped {
    Port(u16),
    Memory(NonNull<u8>),
}

#[derive(Debug)]
enum Off {
    Pm1(PowerOff),
    SleepControl(Mapped, u8),
}

// SAFETY: the pointers are to registers, which any processor may write.
unsafe impl Send for Off {}
// SAFETY: as for `Send`.
unsafe impl Sync for Off {}

/// Keeps what the tables say, and maps what it needs.
pub(super) fn init(hardware: &FixedHardware) {
    let off = hardware.power_off.and_then(|off| match off {
        PowerOff::Pm1 { .. } => Some(Off::Pm1(off)),
        PowerOff::SleepControl {
            register,
            sleep_type,
        } => {
            let value =
                sleep_type << fadt::SLEEP_CONTROL_SLP_TYP_SHIFT | fadt::SLEEP_CONTROL_SLP_EN;
            Some(Off::SleepControl(map(register)?, value))
        }
    });
    OFF.call_once(|| off);
}

fn map(register: Register) -> Option<Mapped> {
    match register {
        Register::Port(port) => Some(Mapped::Port(port)),
        Register::Memory(address) => {
            let range = PhysRange::from_parts(address, 1)?;
            let pointer = address_space::map_window(range, Window::Registers).ok()?;
            Some(Mapped::Memory(pointer))
        }
    }
}

impl Mapped {
    fn write(self, value: u8) {
        match self {
            // SAFETY: firmware says that this is what the register is for.
            Self::Port(port) => unsafe { Port::<u8>::new(port).write(value) },
            // SAFETY: as above; the register is mapped for good.
            Self::Memory(pointer) => unsafe { pointer.write_volatile(value) },
        }
    }
}

/// Switches the machine off. Halts if the tables do not say how.
pub fn off() -> ! {
    match OFF.get().and_then(Option::as_ref) {
        Some(Off::Pm1(off)) => write_pm1(off),
        Some(Off::SleepControl(register, value)) => register.write(*value),
        None => {}
    }
    clock::wait(PATIENCE_NS);
    park::stop()
}

fn write_pm1(off: &PowerOff) {
    let &PowerOff::Pm1 {
        a,
        b,
        sleep_type,
        enable,
    } = off
    else {
        return;
    };
    // SAFETY: reading the register changes nothing.
    let is_acpi_mode = || unsafe { Port::<u16>::new(a).read() } & fadt::PM1_SCI_EN != 0;
    if let Some((port, value)) = enable
        && !is_acpi_mode()
    {
        // SAFETY: firmware says that this switches to ACPI mode, in which PM1
        // control does what the tables say.
        unsafe { Port::<u8>::new(port).write(value) };
        for _ in 0..PATIENCE_NS / POLL_NS {
            if is_acpi_mode() {
                break;
            }
            clock::wait(POLL_NS);
        }
    }
    let command =
        |sleep_type: u8| u16::from(sleep_type) << fadt::PM1_SLP_TYP_SHIFT | fadt::PM1_SLP_EN;
    // SAFETY: the machine is meant to go off.
    unsafe { Port::<u16>::new(a).write(command(sleep_type.0)) };
    if let Some(b) = b {
        // SAFETY: as above.
        unsafe { Port::<u16>::new(b).write(command(sleep_type.1)) };
    }
}
