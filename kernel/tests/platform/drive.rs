//! A guest's accesses to its platform, out of any bytes, and what has to be true of what
//! comes of them. Included by the fuzz target `platform` as well.

use std::sync::atomic::{AtomicU64, Ordering};

use hwspec::pci::SourceId;
use kernel::platform::io_apic::{IoApic, IoApicMessage, PINS};
use kernel::platform::local_apic::{ApicEffect, Ipi, LocalApic, Pending, message};
use kernel::platform::msrs::Msrs;
use kernel::platform::pci_bus::{Function, PciBus};
use kernel::platform::serial_port::{Input, Output, OutputReader, PORTS, SerialPort};
use kernel::platform::{kvm_clock, kvm_eoi, power};
use kernel::virt::address::GuestPhysAddr;
use kernel::virt::registers::Width;

/// Virtual processors of the guest; the first one is driven.
const COUNT: usize = 4;
const BAR_BYTES: u64 = 0x1_0000;
const IA32_APIC_BASE: u32 = 0x1b;
const IA32_TSC_DEADLINE: u32 = 0x6e0;
const WIDTHS: [Width; 4] = [Width::Byte, Width::Word, Width::Double, Width::Quad];

/// A function with one BAR, which is wherever the guest says.
struct Moving(AtomicU64);

impl Function for Moving {
    fn read_config(&self, offset: u16, width: Width) -> u32 {
        assert!(offset < 0x1000 && width != Width::Quad);
        0x1234_5678
    }

    fn write_config(&self, _: u16, _: Width, value: u32) {
        self.0.store(u64::from(value) << 16, Ordering::Relaxed);
    }

    fn bar(&self, bar: u8) -> Option<GuestPhysAddr> {
        assert_eq!(bar, 0);
        let at = self.0.load(Ordering::Relaxed);
        (at & 1 << 20 == 0).then_some(GuestPhysAddr(at))
    }
}

struct Platform {
    apic: LocalApic,
    pending: [Pending; COUNT],
    io_apic: IoApic,
    serial: SerialPort,
    input: Input,
    output: Output,
    reader: OutputReader,
    msrs: Msrs,
    bus: PciBus<Moving>,
    now: u64,
}

/// The next number, of as many bytes as asked for; none if the bytes are used up.
fn take(bytes: &mut &[u8], count: usize) -> Option<u64> {
    let (number, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    let mut wide = [0; 8];
    wide[..count].copy_from_slice(number);
    Some(u64::from_le_bytes(wide))
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let number = take(bytes, 1)?;
    Some(number.to_le_bytes()[0])
}

fn word(bytes: &mut &[u8]) -> Option<u32> {
    let [a, b, c, d, ..] = take(bytes, 4)?.to_le_bytes();
    Some(u32::from_le_bytes([a, b, c, d]))
}

impl Platform {
    fn new() -> Self {
        let mut bus = PciBus::new();
        for device in [4_u16, 5] {
            let function = Moving(AtomicU64::new(0xf000_0000 + 0x40_0000 * u64::from(device)));
            bus.add(SourceId::from(device << 3), function, &[(0, BAR_BYTES)]);
        }
        Self {
            apic: LocalApic::new(0, COUNT),
            pending: Default::default(),
            io_apic: IoApic::new(),
            serial: SerialPort::new(),
            input: Input::new(),
            output: Output::new(),
            reader: OutputReader::new(),
            msrs: Msrs::new(),
            bus,
            now: 0,
        }
    }

    /// An interrupt is carried to processors that there are.
    fn send(&self, ipi: &Ipi) {
        for target in ipi.targets.iter() {
            self.pending[target].deliver(ipi.delivery);
        }
    }

    fn carry(&self, found: Option<IoApicMessage>) {
        let Some(IoApicMessage { address, data }) = found else {
            return;
        };
        assert_eq!(address >> 20, 0xfee);
        if let Some(ipi) = message(address.into(), data, COUNT) {
            self.send(&ipi);
        }
    }

    /// The guest takes what is next, if it may.
    fn deliver(&mut self, task_priority: u8) {
        let [pending, ..] = &self.pending;
        let serviced = self.apic.servicing();
        let Some(vector) = self.apic.highest(pending, task_priority) else {
            return;
        };
        assert!(vector >= 16, "vector {vector} is the processor's own");
        assert!(vector >> 4 > serviced >> 4 && vector >> 4 > task_priority);
        self.apic.accept(pending, vector);
        assert_eq!(self.apic.servicing(), vector);
        let next = self.apic.highest(pending, task_priority);
        assert!(next.is_none_or(|next| next >> 4 > vector >> 4));
    }

    fn local_apic(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let register = match byte(bytes)? {
            0xfe => IA32_APIC_BASE,
            0xff => IA32_TSC_DEADLINE,
            register => 0x800 + u32::from(register),
        };
        assert!(LocalApic::keeps(register));
        let is_write = byte(bytes)? & 1 != 0;
        let [pending, ..] = &self.pending;
        if !is_write {
            let _ = self.apic.read(pending, register, 0, self.now);
            return Some(());
        }
        let value = take(bytes, 8)?;
        let effect = self.apic.write(pending, register, value, self.now);
        match effect {
            Ok(ApicEffect::Ipi(ipi)) => self.send(&ipi),
            Ok(ApicEffect::TaskPriority(priority)) => assert!(priority < 16),
            _ => {}
        }
        Some(())
    }

    fn step(&mut self, bytes: &mut &[u8]) -> Option<()> {
        match byte(bytes)? % 16 {
            0..=2 => self.local_apic(bytes)?,
            3 => {
                let priority = byte(bytes)? & 0xf;
                self.deliver(priority);
            }
            4 => self.apic.end_of_interrupt(),
            5 => {
                self.now = self.now.wrapping_add(take(bytes, 4)?);
                if let Some(vector) = self.apic.take_expired_timer(self.now) {
                    self.pending[0].raise(vector);
                }
            }
            6 => {
                let (address, data) = (take(bytes, 8)?, word(bytes)?);
                if let Some(ipi) = message(address, data, COUNT) {
                    self.send(&ipi);
                }
            }
            7 => {
                let (offset, value) = (u64::from(byte(bytes)? & 0x70), word(bytes)?);
                let found = self.io_apic.write(offset, value);
                self.carry(found);
                self.io_apic.read(offset);
            }
            8 => {
                let (pin, is_asserted) = (byte(bytes)?, byte(bytes)? & 1 != 0);
                let found = self.io_apic.set_line(usize::from(pin) % PINS, is_asserted);
                self.carry(found);
            }
            9 => {
                let found = self.io_apic.end_of_interrupt(byte(bytes)?);
                self.carry(found);
            }
            10 => {
                let register = u16::from(byte(bytes)?) % PORTS;
                self.serial.write(register, byte(bytes)?, &self.output);
                self.reader.next_line(&self.output);
            }
            11 => {
                let register = u16::from(byte(bytes)?) % PORTS;
                self.serial.read(register, &self.input);
                self.serial.is_interrupting(&self.input);
            }
            12 => {
                self.input.add(byte(bytes)?);
            }
            13 => {
                let (register, value) = (word(bytes)?, take(bytes, 8)?);
                // Mostly IA32_PASID and those of KVM's interface.
                let register = match register & 3 {
                    0 => 0xd93,
                    1 => kvm_clock::SYSTEM_TIME,
                    2 => kvm_eoi::END_OF_INTERRUPT,
                    _ => register,
                };
                let _ = self.msrs.write(register, value);
                let _ = self.msrs.read(register, self.now);
                assert!(
                    self.msrs
                        .pasid()
                        .is_none_or(|pasid| pasid.value() < 1 << 20)
                );
                kvm_clock::clock_address(value);
            }
            14 => {
                let [low, high, value, _] = word(bytes)?.to_le_bytes();
                power::write(u16::from_le_bytes([low, high]), value);
            }
            _ => {
                let width = WIDTHS[usize::from(byte(bytes)? % 4)];
                let (offset, value) = (take(bytes, 3)? % 0x10_0000, take(bytes, 4)?);
                self.bus.write_config(offset, width, value);
                let read = self.bus.read_config(offset, width);
                assert_eq!(read, width.truncate(read));
                if let Some(place) = self.bus.find(GuestPhysAddr(value << 16)) {
                    assert!(place.offset < BAR_BYTES);
                }
            }
        }
        Some(())
    }
}

/// Does what the bytes say, until they are used up.
pub(crate) fn drive(mut bytes: &[u8]) {
    let mut platform = Platform::new();
    // SVR: the APIC is enabled. What the bytes do may change that.
    let [pending, ..] = &platform.pending;
    let _ = platform.apic.write(pending, 0x80f, 0x1ff, 0);
    while platform.step(&mut bytes).is_some() {}
    // Whatever is in service comes to an end.
    for _ in 0..256 {
        platform.apic.end_of_interrupt();
    }
    assert_eq!(platform.apic.servicing(), 0);
}
