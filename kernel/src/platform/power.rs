//! How a guest switches itself off, and how it resets itself: two ports that its
//! ACPI tables name, and the place where PCs begin.
//! [ACPI 6.5, 4.8.3.7 "Sleep Control and Status Registers", 4.8.3.6 "Reset Register"]

use crate::virt::address::GuestPhysAddr;

/// The Sleep Control Register of hardware-reduced ACPI.
pub const SLEEP_CONTROL_PORT: u16 = 0x600;
/// The Sleep Status Register. The guest never wakes up from anything, so it is 0.
pub const SLEEP_STATUS_PORT: u16 = 0x601;
/// The reset register, where PCs have it.
pub const RESET_PORT: u16 = 0xcf9;
/// What is written there to reset. Its bit 2 does it, its bit 1 says how thoroughly.
pub const RESET_VALUE: u8 = RESET_CPU | 1 << 1;
/// SLP_TYP of S5, soft off.
pub const SLEEP_TYPE_OFF: u8 = 5;

/// Where a processor in real mode goes to have the machine started anew: 16 bytes
/// below the end of the firmware's range.
///
/// On a hardware-reduced platform Linux takes the firmware's reset service and not
/// the reset register; where that is missing too, it jumps here.
pub const RESTART: GuestPhysAddr = GuestPhysAddr(0xf_fff0);
/// What stands there, 16-bit code: [`RESET_VALUE`] goes to [`RESET_PORT`].
pub const RESTART_CODE: [u8; 9] = {
    let [low, high] = RESET_PORT.to_le_bytes();
    // mov dx, PORT; mov al, VALUE; out dx, al; again: hlt; jmp again
    [0xba, low, high, 0xb0, RESET_VALUE, 0xee, 0xf4, 0xeb, 0xfd]
};

const RESET_CPU: u8 = 1 << 2;
/// Sleep Control Register: SLP_EN, and where SLP_TYP is. [ACPI 6.5, table 4.19]
const SLEEP_ENABLE: u8 = 1 << 5;
const SLEEP_TYPE_SHIFT: u32 = 2;
const SLEEP_TYPE_BITS: u8 = 0b111;

/// What a write asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerRequest {
    /// To be switched off.
    Off,
    /// To be started anew.
    Reset,
}

/// What writing the byte `value` to `port` asks for.
pub const fn write(port: u16, value: u8) -> Option<PowerRequest> {
    let sleep_type = value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_BITS;
    match port {
        SLEEP_CONTROL_PORT if value & SLEEP_ENABLE != 0 && sleep_type == SLEEP_TYPE_OFF => {
            Some(PowerRequest::Off)
        }
        RESET_PORT if value & RESET_CPU != 0 => Some(PowerRequest::Reset),
        _ => None,
    }
}

/// What reading the byte at `port` finds, if the port is one of these.
pub const fn read(port: u16) -> Option<u8> {
    match port {
        SLEEP_CONTROL_PORT | SLEEP_STATUS_PORT | RESET_PORT => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_off_is_asked_for_by_type_and_enable() {
        // SLP_EN, bit 5, and SLP_TYP 5, bits 4:2.
        assert_eq!(write(0x600, 0x34), Some(PowerRequest::Off));
        assert_eq!(write(0x600, 0x14), None);
        assert_eq!(write(0x600, 0x30), None);
        assert_eq!(write(0x601, 0x34), None);
    }

    #[test]
    fn a_reset_is_asked_for_as_on_a_pc() {
        assert_eq!(write(0xcf9, 0x06), Some(PowerRequest::Reset));
        assert_eq!(write(0xcf9, 0x0e), Some(PowerRequest::Reset));
        assert_eq!(write(0xcf9, 0x02), None);
        assert_eq!(RESET_VALUE, 6);
        assert_eq!(RESTART.0, 0xf000 * 16 + 0xfff0);
        assert_eq!(RESTART_CODE[..6], [0xba, 0xf9, 0x0c, 0xb0, 6, 0xee]);
    }

    #[test]
    fn the_registers_read_as_nothing_pending() {
        assert_eq!([read(0x600), read(0x601), read(0xcf9)], [Some(0); 3]);
        assert_eq!(read(0xcf8), None);
    }
}
