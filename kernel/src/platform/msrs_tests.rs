use super::*;

#[test]
fn constants() {
    let msrs = Msrs::new();
    for (register, value) in [
        (0x10, 77),
        (0x17, 0),
        (0x3a, 1),
        (0x8b, 0x1_0000_0001),
        (0xbd, 1),
        (0xce, 0),
        // No variable ranges, no fixed ranges, write-combining.
        (0xfe, 0x400),
        (0x10a, 0x20_0000),
        (0x140, 0),
        (0x179, 0),
        (0x17a, 0),
        (0x1a0, 0x1801),
        (0x1d9, 0),
        // Enabled, write-back.
        (0x2ff, 0x806),
        (0xc001_0010, 0),
        (0xc001_0015, 0x100_0000),
        (0xc001_001a, 0),
        (0xc001_001d, 0),
        (0xc001_001f, 0),
        (0xc001_0055, 0),
        (0xc001_0114, 0x18),
        (0xc001_1020, 0),
        (0xc001_1022, 0),
        (0xc001_1029, 2),
    ] {
        assert_eq!(msrs.read(register, 77), Ok(value), "{register:#x}");
    }
}

#[test]
fn writes_without_effect() {
    let mut msrs = Msrs::new();
    for register in [
        0x8b,
        0x1a0,
        0xc001_0015,
        0xc001_001f,
        0xc001_0055,
        0xc001_1020,
        0xc001_1029,
    ] {
        let before = msrs.read(register, 0);
        assert_eq!(msrs.write(register, u64::MAX), Ok(()), "{register:#x}");
        assert_eq!(msrs.read(register, 0), before);
    }
    for register in [0x140, 0x17a, 0x1d9, 0xc001_0010] {
        assert_eq!(msrs.write(register, 0), Ok(()), "{register:#x}");
        assert_eq!(msrs.write(register, 1), Err(BadAccess), "{register:#x}");
    }
    for register in [0x10, 0x17, 0x3a, 0xbd, 0xfe, 0x10a, 0x179, 0xc001_0114] {
        assert_eq!(msrs.write(register, 0), Err(BadAccess), "{register:#x}");
    }
}

#[test]
fn the_pasid_is_valid_with_bit_31() {
    let mut msrs = Msrs::new();
    assert_eq!((msrs.read(0xd93, 0), msrs.pasid()), (Ok(0), None));
    assert_eq!(msrs.write(0xd93, 0x8001_2345), Ok(()));
    assert_eq!(msrs.read(0xd93, 0), Ok(0x8001_2345));
    assert_eq!(msrs.pasid(), Pasid::new(0x1_2345));
    assert_eq!(msrs.write(0xd93, 0x800f_ffff), Ok(()));
    assert_eq!(msrs.pasid(), Pasid::new(0xf_ffff));
    for reserved in [1 << 20, 1 << 30, 1 << 32, 1 << 63] {
        assert_eq!(msrs.write(0xd93, 0x8000_0001 | reserved), Err(BadAccess));
    }
    assert_eq!(msrs.read(0xd93, 0), Ok(0x800f_ffff));
    assert_eq!(msrs.write(0xd93, 5), Ok(()));
    assert_eq!(msrs.pasid(), None);
    assert_eq!(msrs.write(0xd93, 0x8000_0005), Ok(()));
    msrs.reset();
    assert_eq!((msrs.read(0xd93, 0), msrs.pasid()), (Ok(0), None));
}

#[test]
fn memory_types_are_types() {
    let mut msrs = Msrs::new();
    for value in [0x006, 0xc06, 0x800, 0x801, 0x804, 0x805] {
        assert_eq!(msrs.write(0x2ff, value), Ok(()), "{value:#x}");
        assert_eq!(msrs.read(0x2ff, 0), Ok(value));
    }
    for value in [0x802, 0x803, 0x807, 0x906, 0x1806, 1 << 32] {
        assert_eq!(msrs.write(0x2ff, value), Err(BadAccess), "{value:#x}");
    }
}

#[test]
fn what_is_not_there_is_refused() {
    let mut msrs = Msrs::new();
    for register in [0, 0xda0, 0x4000_0000, 0xc001_0117] {
        assert_eq!(msrs.read(register, 0), Err(BadAccess));
        assert_eq!(msrs.write(register, 0), Err(BadAccess));
    }
}

#[test]
fn ends_of_interrupts_by_a_word_are_off_after_init() {
    const REGISTER: u32 = 0x4b56_4d04;
    let mut msrs = Msrs::new();
    assert_eq!(msrs.read(REGISTER, 0), Ok(0));
    assert_eq!(msrs.write(REGISTER, 0x1235), Ok(()));
    // Bit 1 is reserved.
    assert_eq!(msrs.write(REGISTER, 0x5677), Err(BadAccess));
    assert_eq!(msrs.read(REGISTER, 0), Ok(0x1235));
    msrs.reset();
    assert_eq!(msrs.read(REGISTER, 0), Ok(0));
}

#[test]
fn the_registers_of_the_clock_keep_what_was_written() {
    let mut msrs = Msrs::new();
    for (register, value) in [(0x4b56_4d00, 0x1234_5000), (0x4b56_4d01, 0x1234_5041)] {
        assert_eq!(msrs.read(register, 0), Ok(0));
        assert_eq!(msrs.write(register, value), Ok(()));
        assert_eq!(msrs.read(register, 0), Ok(value));
    }
    msrs.reset();
    assert_eq!(msrs.read(0x4b56_4d01, 0), Ok(0x1234_5041), "INIT leaves it");
    // Those of the first version of the interface are not offered.
    assert_eq!(msrs.read(0x11, 0), Err(BadAccess));
    assert_eq!(msrs.write(0x12, 1), Err(BadAccess));
}
