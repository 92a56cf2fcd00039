use super::*;

/// Selects a register and writes it.
fn set(io_apic: &mut IoApic, register: u8, value: u32) -> Option<IoApicMessage> {
    assert_eq!(io_apic.write(0x00, register.into()), None);
    io_apic.write(0x10, value)
}

fn get(io_apic: &mut IoApic, register: u8) -> u32 {
    io_apic.write(0x00, register.into());
    io_apic.read(0x10)
}

/// Input 4 as Linux sets it up for an edge: vector 0x21, physical destination 1.
fn edge() -> IoApic {
    let mut io_apic = IoApic::new();
    assert_eq!(set(&mut io_apic, 0x19, 0x0100_0000), None);
    assert_eq!(set(&mut io_apic, 0x18, 0x0000_0021), None);
    io_apic
}

/// The same for a level.
fn level() -> IoApic {
    let mut io_apic = edge();
    assert_eq!(set(&mut io_apic, 0x18, 0x0000_8021), None);
    io_apic
}

const EDGE: IoApicMessage = IoApicMessage {
    address: 0xfee0_1000,
    data: 0x21,
};
const LEVEL_MESSAGE: IoApicMessage = IoApicMessage {
    address: 0xfee0_1000,
    data: 0xc021,
};

#[test]
fn registers_are_as_after_a_reset() {
    let mut io_apic = IoApic::new();
    assert_eq!(get(&mut io_apic, 0), 0);
    assert_eq!(get(&mut io_apic, 1), 0x0017_0020);
    assert_eq!(get(&mut io_apic, 0x10), 0x1_0000);
    assert_eq!(get(&mut io_apic, 0x3e), 0x1_0000);
    assert_eq!(get(&mut io_apic, 0x3f), 0);
    assert_eq!(get(&mut io_apic, 0x40), 0, "there is no entry 24");
    assert_eq!(io_apic.read(0x00), 0x40);
    assert_eq!(io_apic.read(0x20), 0);
}

#[test]
fn reserved_and_read_only_bits_stay() {
    let mut io_apic = IoApic::new();
    set(&mut io_apic, 0, 0xffff_ffff);
    assert_eq!(get(&mut io_apic, 0), 0x0f00_0000);
    set(&mut io_apic, 0x11, 0xffff_ffff);
    assert_eq!(get(&mut io_apic, 0x11), 0xff00_0000);
    set(&mut io_apic, 0x10, 0xffff_ffff);
    assert_eq!(get(&mut io_apic, 0x10), 0x0001_afff);
    assert_eq!(get(&mut io_apic, 0x11), 0xff00_0000, "halves are apart");
    set(&mut io_apic, 0x40, 0xffff_ffff);
    set(&mut io_apic, 3, 0xffff_ffff);
    assert_eq!(get(&mut io_apic, 1), 0x0017_0020);
}

#[test]
fn an_edge_is_sent_once() {
    let mut io_apic = edge();
    assert_eq!(io_apic.set_line(4, true), Some(EDGE));
    assert_eq!(io_apic.set_line(4, true), None);
    assert_eq!(io_apic.set_line(4, false), None);
    assert_eq!(io_apic.set_line(4, true), Some(EDGE));
    assert!(!io_apic.awaits_end());
    assert_eq!(io_apic.end_of_interrupt(0x21), None);
}

#[test]
fn a_masked_edge_is_lost() {
    let mut io_apic = edge();
    set(&mut io_apic, 0x18, 0x0001_0021);
    assert_eq!(io_apic.set_line(4, true), None);
    assert_eq!(set(&mut io_apic, 0x18, 0x0000_0021), None);
    assert_eq!(io_apic.set_line(3, true), None, "all others are masked");
    assert_eq!(io_apic.set_line(24, true), None, "there is no such input");
    assert_eq!(io_apic.set_line(usize::MAX, true), None);
}

#[test]
fn a_level_is_sent_again_when_its_interrupt_ends() {
    let mut io_apic = level();
    assert_eq!(io_apic.set_line(4, true), Some(LEVEL_MESSAGE));
    assert!(io_apic.awaits_end());
    assert_eq!(get(&mut io_apic, 0x18), 0x0000_c021, "remote IRR");
    assert_eq!(io_apic.set_line(4, true), None);
    assert_eq!(io_apic.end_of_interrupt(0x22), None, "another vector");
    assert_eq!(io_apic.end_of_interrupt(0x21), Some(LEVEL_MESSAGE));
    io_apic.set_line(4, false);
    assert_eq!(io_apic.write(0x40, 0x21), None, "by the register");
    assert!(!io_apic.awaits_end());
    assert_eq!(get(&mut io_apic, 0x18), 0x0000_8021);
}

#[test]
fn a_masked_level_is_sent_when_it_is_unmasked() {
    let mut io_apic = level();
    set(&mut io_apic, 0x18, 0x0001_8021);
    assert_eq!(io_apic.set_line(4, true), None);
    assert_eq!(set(&mut io_apic, 0x18, 0x0000_8021), Some(LEVEL_MESSAGE));
}

#[test]
fn an_edge_forgets_that_a_level_was_sent() {
    let mut io_apic = level();
    io_apic.set_line(4, true);
    set(&mut io_apic, 0x18, 0x0000_0021);
    assert_eq!(get(&mut io_apic, 0x18), 0x0000_0021);
    assert!(!io_apic.awaits_end());
}

#[test]
fn messages_carry_mode_and_destination() {
    let mut io_apic = edge();
    // Lowest priority, logical destination 0x83.
    set(&mut io_apic, 0x19, 0x8300_0000);
    set(&mut io_apic, 0x18, 0x0000_0931);
    let expected = IoApicMessage {
        address: 0xfee8_3004,
        data: 0x131,
    };
    assert_eq!(io_apic.set_line(4, true), Some(expected));
}
