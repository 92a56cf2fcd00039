//! The I/O APIC: it turns the console's interrupt line into messages.
//! [Intel, 82093AA I/O Advanced Programmable Interrupt Controller (IOAPIC), May 1996,
//! order number 290566, 3.0 "Register Description"; the End of Interrupt register of
//! version 20h: Intel, ICH9 Family Datasheet, order number 316972, 13.5.5]
//!
//! It is changed under its guest's lock, and says what is to be sent. A level that
//! still is there when its interrupt ends is sent again: [`IoApic::end_of_interrupt`].

use super::BadAccess;

/// How many bytes of addresses it answers to.
pub const BYTES: u64 = 0x1000;
/// How many inputs there are.
pub const PINS: usize = 24;

/// Offsets into its page.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const END_OF_INTERRUPT: u64 = 0x40;

/// Registers that are selected.
const ID: u8 = 0;
const VERSION: u8 = 1;
const ARBITRATION: u8 = 2;
const FIRST_ENTRY: u8 = 0x10;

/// Version 20h, with an End of Interrupt register; the number of the last entry.
const VERSION_VALUE: u32 = 0x20 | (LAST_PIN << 16);
const LAST_PIN: u32 = 23;
const _: () = assert!(PINS == LAST_PIN as usize + 1);
const ID_BITS: u32 = 0x0f00_0000;

/// Bits of a redirection table entry.
const VECTOR: u64 = 0xff;
const DELIVERY: u64 = 0b111 << 8;
const LOGICAL: u64 = 1 << 11;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASK: u64 = 1 << 16;
/// What software can change: not the delivery status and the remote IRR.
const WRITABLE: u64 = 0xff00_0000_0001_afff;

/// Where messages go, and what of an entry stands where in them.
const MESSAGE_ADDRESS: u32 = 0xfee0_0000;
const MESSAGE_LOGICAL: u32 = 1 << 2;
const MESSAGE_LEVEL: u32 = 1 << 15;
const MESSAGE_ASSERT: u32 = 1 << 14;

/// An interrupt message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicMessage {
    /// The address.
    pub address: u32,
    /// The data.
    pub data: u32,
}

/// The I/O APIC of a guest.
#[derive(Clone, Debug)]
pub struct IoApic {
    select: u8,
    id: u32,
    entries: [u64; PINS],
    /// A bit for each input that is asserted.
    lines: u32,
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

impl IoApic {
    /// As after a reset: everything is masked.
    pub const fn new() -> Self {
        Self {
            select: 0,
            id: 0,
            entries: [MASK; PINS],
            lines: 0,
        }
    }

    /// Reads the register at `offset` into its page.
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            SELECT => self.select.into(),
            WINDOW => self.read_selected(),
            _ => 0,
        }
    }

    fn read_selected(&self) -> u32 {
        match self.select {
            ID | ARBITRATION => self.id,
            VERSION => VERSION_VALUE,
            select => {
                let Ok((pin, is_high)) = half_of(select) else {
                    return 0;
                };
                let entry = self.entries.get(pin).copied().unwrap_or(0);
                low_half(if is_high { entry >> 32 } else { entry })
            }
        }
    }

    /// Writes the register at `offset` into its page. What is to be sent then, if
    /// anything.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<IoApicMessage> {
        let [byte, ..] = value.to_le_bytes();
        match offset {
            SELECT => self.select = byte,
            WINDOW => return self.write_selected(value),
            END_OF_INTERRUPT => return self.end_of_interrupt(byte),
            _ => {}
        }
        None
    }

    fn write_selected(&mut self, value: u32) -> Option<IoApicMessage> {
        if self.select == ID {
            self.id = value & ID_BITS;
            return None;
        }
        let (pin, is_high) = half_of(self.select).ok()?;
        let entry = self.entries.get_mut(pin)?;
        let (shift, kept) = if is_high { (32, 0) } else { (0, 32) };
        let written = u64::from(value) << shift & WRITABLE;
        let unchanged = !WRITABLE | u64::from(u32::MAX) << kept;
        *entry = *entry & unchanged | written;
        if *entry & LEVEL == 0 {
            // There is none of an edge.
            *entry &= !REMOTE_IRR;
        }
        self.send_level(pin)
    }

    /// Asserts or releases an input. What is to be sent then, if anything.
    pub fn set_line(&mut self, pin: usize, is_asserted: bool) -> Option<IoApicMessage> {
        let bit = u32::try_from(pin)
            .ok()
            .and_then(|pin| 1_u32.checked_shl(pin));
        let bit = bit.filter(|_| pin < PINS)?;
        let was_asserted = self.lines & bit != 0;
        if !is_asserted {
            self.lines &= !bit;
            return None;
        }
        self.lines |= bit;
        let entry = self.entries.get(pin).copied()?;
        if entry & LEVEL != 0 {
            return self.send_level(pin);
        }
        // An edge that comes while the entry is masked is lost.
        (!was_asserted && entry & MASK == 0).then(|| message(entry))
    }

    /// Whether an interrupt of a level has been sent and not been ended.
    pub fn awaits_end(&self) -> bool {
        self.entries.iter().any(|entry| entry & REMOTE_IRR != 0)
    }

    /// A processor has ended the interrupt of `vector`. What is to be sent then, if
    /// anything: one input is enough, as no two of this platform share a vector.
    pub fn end_of_interrupt(&mut self, vector: u8) -> Option<IoApicMessage> {
        let mut sent = None;
        for pin in 0..PINS {
            let entry = self.entries.get_mut(pin)?;
            if *entry & VECTOR == u64::from(vector) && *entry & REMOTE_IRR != 0 {
                *entry &= !REMOTE_IRR;
                let message = self.send_level(pin);
                sent = sent.or(message);
            }
        }
        sent
    }

    /// Sends the interrupt of a level that is there, if it can be now.
    fn send_level(&mut self, pin: usize) -> Option<IoApicMessage> {
        let is_asserted = self.lines >> pin & 1 != 0;
        let entry = self.entries.get_mut(pin)?;
        if !is_asserted || *entry & (LEVEL | MASK | REMOTE_IRR) != LEVEL {
            return None;
        }
        let message = message(*entry);
        *entry |= REMOTE_IRR;
        Some(message)
    }
}

/// Which entry a selected register belongs to, and whether it is its upper half.
fn half_of(select: u8) -> Result<(usize, bool), BadAccess> {
    let number = select.checked_sub(FIRST_ENTRY).ok_or(BadAccess)?;
    Ok((usize::from(number / 2), number % 2 == 1))
}

/// What an entry sends. [Intel SDM, vol. 3, 12.11 "Message Signalled Interrupts"]
fn message(entry: u64) -> IoApicMessage {
    let [.., destination] = entry.to_le_bytes();
    let mut address = MESSAGE_ADDRESS | u32::from(destination) << 12;
    if entry & LOGICAL != 0 {
        address |= MESSAGE_LOGICAL;
    }
    let mut data = low_half(entry & (VECTOR | DELIVERY));
    if entry & LEVEL != 0 {
        data |= MESSAGE_LEVEL | MESSAGE_ASSERT;
    }
    IoApicMessage { address, data }
}

fn low_half(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
#[path = "io_apic_tests.rs"]
mod tests;
