use super::*;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The table at a guest-physical address, with its header.
fn table(all: &[u8], address: u64) -> &[u8] {
    let start = usize::try_from(address - 0xe_0000).unwrap();
    let length = usize::try_from(u32_at(all, start + 4)).unwrap();
    let table = &all[start..start + length];
    assert_eq!(sum(table), 0, "checksum of {:?}", &table[..4]);
    table
}

/// The tables by their signatures, found as an operating system finds them.
fn find<'t>(all: &'t [u8], signature: &[u8]) -> &'t [u8] {
    let xsdt = table(all, u64_at(all, 24));
    assert_eq!(&xsdt[..4], b"XSDT");
    let mut entries = (36..xsdt.len()).step_by(8).map(|at| u64_at(xsdt, at));
    let address = entries.find(|&address| table(all, address).starts_with(signature));
    table(all, address.unwrap())
}

#[test]
fn the_root_pointer_comes_first() {
    let all = tables(1);
    assert_eq!(&all[..8], b"RSD PTR ");
    assert_eq!(sum(&all[..20]), 0);
    assert_eq!(sum(&all[..36]), 0);
    assert_eq!(all[15], 2, "revision");
    assert_eq!(u32_at(&all, 16), 0, "there is no RSDT");
}

#[test]
fn the_platform_is_hardware_reduced() {
    let all = tables(1);
    let fadt = find(&all, b"FACP");
    assert_eq!(fadt.len(), 276);
    // WBINVD, no fixed buttons, reset register, headless, hardware-reduced.
    assert_eq!(u32_at(fadt, 112), 0x0010_1431);
    // No VGA, no CMOS clock; no legacy devices, no keyboard controller.
    assert_eq!(fadt[109..111], [0x24, 0]);
    // Port, 8 bits, byte access; reset value.
    assert_eq!(fadt[116..120], [1, 8, 0, 1]);
    assert_eq!(u64_at(fadt, 120), 0xcf9);
    assert_eq!(fadt[128], 6);
    assert_eq!(fadt[244..248], [1, 8, 0, 1]);
    assert_eq!(u64_at(fadt, 248), 0x600, "sleep control");
    assert_eq!(u64_at(fadt, 260), 0x601, "sleep status");
    assert_eq!(&table(&all, u64_at(fadt, 140))[..4], b"DSDT");
}

#[test]
fn processors_and_the_io_apic_are_listed() {
    let all = tables(2);
    let madt = find(&all, b"APIC");
    let expected = [
        0, 0, 0xe0, 0xfe, 0, 0, 0, 0, // local APICs, no flags: there is no 8259
        0, 8, 0, 0, 1, 0, 0, 0, // processor 0, APIC 0, enabled
        0, 8, 1, 1, 1, 0, 0, 0, // processor 1, APIC 1, enabled
        1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0, // I/O APIC 0, inputs from 0 on
    ];
    assert_eq!(madt[36..], expected);
}

#[test]
fn configuration_space_is_that_of_one_bus() {
    let all = tables(1);
    let mcfg = find(&all, b"MCFG");
    let expected = [
        0, 0, 0, 0, 0, 0, 0, 0, // reserved
        0, 0, 0, 0xe0, 0, 0, 0, 0, // address
        0, 0, 0, 0, 0, 0, 0, 0, // segment 0, buses 0 to 0
    ];
    assert_eq!(mcfg[36..], expected);
}

#[test]
fn devices_are_described() {
    let all = tables(1);
    let fadt = find(&all, b"FACP");
    let dsdt = table(&all, u64_at(fadt, 140));
    let has = |part: &[u8]| dsdt.windows(part.len()).any(|window| window == part);
    // \_SB, then devices with their names.
    assert!(has(b"_SB_") && has(b"PCI0") && has(b"MRES") && has(b"COM1"));
    // EISA IDs PNP0A08, PNP0C02 and PNP0501, as integers of four bytes.
    assert!(has(&[0x0c, 0x41, 0xd0, 0x0a, 0x08]));
    assert!(has(&[0x0c, 0x41, 0xd0, 0x0c, 0x02]));
    assert!(has(&[0x0c, 0x41, 0xd0, 0x05, 0x01]));
    // Bus 0 alone: word address space, type 2, fixed minimum and maximum.
    let bus = [0x88, 0x0d, 0, 2, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    assert!(has(&bus));
    // Memory 0xf0000000 to 0xf6ffffff, not cacheable, writable.
    let memory = [
        0x87, 0x17, 0, 0, 0x0c, 1, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0xff, 0xff, 0xff, 0xf6, 0, 0, 0, 0,
        0, 0, 0, 7,
    ];
    assert!(has(&memory));
    // Ports 0x3f8 to 0x3ff, and interrupt 4, edge, high, exclusive.
    assert!(has(&[0x47, 1, 0xf8, 0x03, 0xf8, 0x03, 1, 8]));
    assert!(has(&[0x89, 6, 0, 3, 1, 4, 0, 0, 0]));
    // _S5 is a package of 5 and zeros.
    assert!(has(b"_S5_\x12\x07\x04\x0a\x05\x00\x00\x00"));
}

#[test]
fn there_is_room_for_as_many_processors_as_a_guest_can_have() {
    let all = tables(crate::virt::space::MAX_VCPUS);
    let madt = find(&all, b"APIC");
    assert_eq!(madt.len(), 36 + 8 + 64 * 8 + 12);
}
