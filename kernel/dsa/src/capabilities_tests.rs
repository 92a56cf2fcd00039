use super::*;
use std::string::ToString;

use hwio::fake::{AllOnes, FakeRegisters, Log, NeverCompletes};

/// What a production Sapphire Rapids shows; the offsets are those of the specification's
/// example: GRPCFG 0x600, WQCFG 0x800, MSIXPERM 0x400, IMS 0x8000.
const SAPPHIRE_RAPIDS: [(usize, u64); 8] = [
    (0x00, 0x0100),
    (0x10, 0x0000_0040_915f_0107),
    (0x20, 0x003f_0000_0008_0080),
    (0x30, 0x0003_6004),
    (0x38, 0x0004_0104),
    (0x40, 0x0000_0001_003f_03ff),
    (0x60, 0x0080_0004_0008_0006),
    (0xb0, 0xdead_beef),
];

fn registers(values: &[(usize, u64)], len_bytes: usize) -> FakeRegisters<NeverCompletes> {
    let device = NeverCompletes::new(SAPPHIRE_RAPIDS.into_iter().chain(values.iter().copied()));
    FakeRegisters::new(device, len_bytes, &Log::new())
}

fn read(values: &[(usize, u64)]) -> Capabilities {
    Capabilities::read(&registers(values, 0x100)).unwrap()
}

#[test]
fn a_production_part_is_understood() {
    let found = read(&[]);
    assert_eq!((found.version.major(), found.version.minor()), (1, 0));
    assert_eq!((found.count_queues(), found.count_entries()), (8, 128));
    assert_eq!((found.count_groups(), found.count_engines()), (4, 4));
    assert_eq!(found.count_ims_entries(), 2048);
    assert_eq!(found.ims_range(0x1_0000), Ok(0x8000..0x1_0000));
    assert_eq!(found.grpcfg_range(), 0x600..0x700);
    assert_eq!(found.wqcfg_range(), 0x800..0x900);
    assert!(found.has_operation(0x20) && found.has_operation(3) && !found.has_operation(0x0a));
    assert!(!found.has_operation(0xff));
    // Both with the whole of BAR0 and with what is left when the slots are cut off.
    assert_eq!(found.check(0x1_0000), Ok(()));
    assert_eq!(found.check(0x8000), Ok(()));
}

#[test]
fn without_cmdcap_there_are_twelve_commands_and_no_handles() {
    let found = read(&[]);
    assert_eq!(found.cmdcap, 0x1ffe);
    assert!(found.has_command(CommandCode::ABORT_PASID));
    assert!(!found.has_handle_commands());
    // GENCAP.4: CMDCAP is there.
    let with = read(&[(0x10, 0x0000_0040_915f_0117), (0xb0, 0x7ffe)]);
    assert!(with.has_handle_commands());
    assert!(with.has_command(CommandCode::RELEASE_INTERRUPT_HANDLE));
    assert!(!with.has_command(CommandCode(15)) && !with.has_command(CommandCode(64)));
}

#[test]
fn a_window_without_the_fixed_registers_is_refused() {
    let error = Capabilities::read(&registers(&[], 0xf8)).unwrap_err();
    assert_eq!(error, Error::WindowTooSmall { len_bytes: 0xf8 });
    assert!(error.to_string().contains("only 0xf8 bytes of registers"));
}

#[test]
fn a_device_that_is_gone_is_noticed() {
    let error = Capabilities::read(&FakeRegisters::new(AllOnes, 0x100, &Log::new()));
    let register = RegisterName::Version;
    assert_eq!(error, Err(Error::DeviceGone { register }));
    let error = Capabilities::read(&registers(&[(0x10, !0)], 0x100));
    let register = RegisterName::GenCap;
    assert_eq!(error, Err(Error::DeviceGone { register }));
}

#[test]
fn what_is_missing_is_named() {
    let fixed = read(&[(0x10, 0x0000_0040_115f_0107)]);
    assert_eq!(
        fixed.check(0x8000),
        Err(Error::NotConfigurable(fixed.gencap))
    );
    // IMS size, bits 30:25, is 0.
    let without = read(&[(0x10, 0x0000_0040_815f_0107)]);
    let missing = Error::NoInterruptStore(without.gencap);
    assert_eq!(without.check(0x8000), Err(missing));
    assert_eq!(without.ims_range(0x1_0000), Err(missing));
    let none = read(&[(0x38, 0)]);
    let expected = Error::NothingToConfigure {
        queues: 8,
        groups: 4,
        engines: 0,
    };
    assert_eq!(none.check(0x8000), Err(expected));
}

#[test]
fn tables_that_cannot_be_where_they_are_said_to_be_are_refused() {
    let outside = |table, start, end, len_bytes| Error::TableOutside {
        table,
        start,
        end,
        len_bytes,
    };
    let found = read(&[]);
    let expected = outside(RegisterName::WqCfg, 0x800, 0x900, 0x8ff);
    assert_eq!(found.check(0x8ff), Err(expected));
    let expected = outside(RegisterName::Ims, 0x8000, 0x1_0000, 0xffff);
    assert_eq!(found.ims_range(0xffff), Err(expected));
    // GRPCFG at 0, where VERSION is.
    let low = read(&[(0x60, 0x0080_0004_0008_0000)]);
    let expected = outside(RegisterName::GrpCfg, 0, 0x100, 0x8000);
    assert_eq!(low.check(0x8000), Err(expected));
    // WQCFG at the last offset that there is.
    let high = read(&[(0x60, 0x0080_0004_ffff_0006)]);
    let expected = outside(RegisterName::WqCfg, 0xff_ff00, 0x100_0000, 0x8000);
    assert_eq!(high.check(0x8000), Err(expected));
    // WQCFG in the middle of the slots.
    let inside = read(&[(0x60, 0x0080_0004_00a0_0006)]);
    let expected = Error::TablesOverlap {
        table: RegisterName::WqCfg,
        start: 0xa000,
        ims: 0x8000,
    };
    assert_eq!(inside.check(0x1_0000), Err(expected));
}
