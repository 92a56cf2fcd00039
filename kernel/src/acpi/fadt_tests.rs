use std::vec::Vec;

use proptest::prelude::*;

use super::super::testing::{Image, table};
use super::super::{dmar, madt, mcfg};
use super::*;

/// NameOp "_S5_" PackageOp, 6 bytes, 4 elements: 5, 7, 0, 0.
const S5: &[u8] = b"\x10\x08_S5_\x12\x08\x04\x0a\x05\x0a\x07\x00\x00";

/// A FADT of ACPI 1.0 with some fields, and a DSDT.
fn image(fields: &[(usize, &[u8])], aml: &[u8]) -> Image {
    let mut body = std::vec![0; 276 - 36];
    for (offset, bytes) in fields {
        body[offset - 36..offset - 36 + bytes.len()].copy_from_slice(bytes);
    }
    let dsdt = table(b"DSDT", 1, aml);
    // `Image` puts its first table here.
    body[4..8].copy_from_slice(&0xe_1000_u32.to_le_bytes());
    Image::new(&[dsdt, table(b"FACP", 6, &body)])
}

fn parse(fields: &[(usize, &[u8])], aml: &[u8]) -> Result<FixedHardware, AcpiError> {
    let image = image(fields, aml);
    FixedHardware::parse(&Tables::find(&image, image.rsdp()).unwrap())
}

#[test]
fn fixed_hardware_is_found_by_plain_fields() {
    let found = parse(
        &[
            (48, &[0xb2, 0, 0, 0]),
            (52, &[2]),
            (64, &[0x04, 0x06, 0, 0]),
            (76, &[0x08, 0x06, 0, 0]),
            (113, &[0x04]),
        ],
        S5,
    );
    assert_eq!(
        found,
        Ok(FixedHardware {
            pm_timer: Some(0x608),
            power_off: Some(PowerOff::Pm1 {
                a: 0x604,
                b: None,
                sleep_type: (5, 7),
                enable: Some((0xb2, 2)),
            }),
        })
    );
}

#[test]
fn extended_fields_come_first() {
    let found = parse(
        &[
            (64, &[0x04, 0x06, 0, 0]),
            (76, &[0x08, 0x06, 0, 0]),
            (172, &[1, 16, 0, 2, 0x04, 0x18]),
            (184, &[1, 16, 0, 2, 0x84, 0x18]),
            (208, &[1, 32, 0, 3, 0x08, 0x18]),
        ],
        S5,
    )
    .unwrap();
    assert_eq!(found.pm_timer, Some(0x1808));
    let Some(PowerOff::Pm1 { a, b, enable, .. }) = found.power_off else {
        panic!("{found:?}");
    };
    assert_eq!((a, b, enable), (0x1804, Some(0x1884), None));
}

#[test]
fn hardware_reduced_machines_have_a_sleep_control_register() {
    let found = parse(
        &[(114, &[0x10]), (244, &[0, 8, 0, 1, 0x00, 0x10, 0xc0, 0xfe])],
        S5,
    );
    assert_eq!(
        found.unwrap().power_off,
        Some(PowerOff::SleepControl {
            register: Register::Memory(0xfec0_1000),
            sleep_type: 5,
        })
    );
}

#[test]
fn sleep_types_are_read_in_all_spellings() {
    for (aml, expected) in [
        (&b"\x08_S5_\x12\x06\x04\x00\x00\x00\x00"[..], Some((0, 0))),
        (b"\x08\\_S5_\x12\x07\x04\x0a\x05\x01\x00\x00", Some((5, 1))),
        (b"\x08_S5_\x12\x04\x01\x0a\x06", Some((6, 6))),
        // A package length of two bytes.
        (b"\x08_S5_\x12\x47\x00\x02\x01\x00", Some((1, 0))),
        // Mentioned before it is defined.
        (
            b"_S5_\x12\x08_S5_\x12\x06\x04\x01\x01\x00\x00",
            Some((1, 1)),
        ),
        // Not defined, not a package, not integers, cut off.
        (b"", None),
        (b"\x70_S5_\x12\x06\x04\x00\x00", None),
        (b"\x08_S5_\x0a\x05", None),
        (b"\x08_S5_\x12\x06\x04\x0d\x00", None),
        (b"\x08_S5_\x12\xc6", None),
        (b"\x08_S5_\x12\x06\x04\x0a", None),
    ] {
        let mut dsdt = table(b"DSDT", 1, aml);
        assert_eq!(s5_sleep_type(&dsdt), expected, "{aml:x?}");
        dsdt.truncate(20);
        assert_eq!(s5_sleep_type(&dsdt), None);
    }
}

#[test]
fn a_short_table_is_refused() {
    let image = Image::new(&[table(b"FACP", 1, &[0; 40])]);
    let tables = Tables::find(&image, image.rsdp()).unwrap();
    let error = AcpiError::Malformed(Signature(*b"FACP"), 112);
    assert_eq!(FixedHardware::parse(&tables), Err(error));
}

/// Everything that is read of firmware's tables.
fn read_all(image: &Image) {
    let Ok(tables) = Tables::find(image, image.rsdp()) else {
        return;
    };
    let _ = FixedHardware::parse(&tables);
    if let Ok(Some(table)) = tables.get(madt::SIGNATURE) {
        let _ = madt::Madt::parse(table);
    }
    if let Ok(Some(table)) = tables.get(mcfg::SIGNATURE) {
        let _ = mcfg::parse(table);
    }
    if let Ok(Some(table)) = tables.get(dmar::SIGNATURE) {
        let _ = dmar::Dmar::parse(table);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 1_000 }))]

    /// Tables of nonsense with good headers and checksums are read or refused.
    #[test]
    fn no_table_makes_us_panic(
        bodies in prop::array::uniform4(prop::collection::vec(
            prop_oneof![Just(0_u8), 0_u8..16, any::<u8>()], 0..160)),
        aml in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x12)], 0..60),
    ) {
        let mut aml = aml;
        aml.extend_from_slice(b"\x08_S5_\x12");
        let names = [b"FACP", b"APIC", b"MCFG", b"DMAR"];
        let mut tables = Vec::from([table(b"DSDT", 1, &aml)]);
        tables.extend(names.iter().zip(&bodies).map(|(name, body)| table(name, 1, body)));
        read_all(&Image::new(&tables));
    }

    /// Nor do single bytes gone wrong anywhere in good ones.
    #[test]
    fn no_changed_byte_makes_us_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut image = image(&[(113, &[0x04])], S5);
        for (at, value) in changes {
            let at = image.base() + at.index(image.len()) as u64;
            image.put(at, &[value]);
        }
        read_all(&image);
    }
}
