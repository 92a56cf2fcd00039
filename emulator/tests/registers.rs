//! BAR0 and configuration space as software finds them: literal values, worked
//! out from the specification, and what a write changes.
//! [341204 Rev 3.0 §9.1, §9.2, Appendix C]
#![expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure, and the tables below are small"
)]

mod support;

use dsa_model::{Dsa, Identity};
use support::{Bytes, CRAV, Machine, QueueSetup, RCI, RCR, Rig};

const GENCFG: u64 = 0x80;
const GENCTRL: u64 = 0x88;
const GENSTS: u64 = 0x90;
const INTCAUSE: u64 = 0x98;
const CMD: u64 = 0xa0;
const CMDSTATUS: u64 = 0xa8;
const SWERROR: u64 = 0xc0;
const EVLCFG: u64 = 0xe0;
const EVLSTATUS: u64 = 0xf0;
const ENABLE_DEVICE: u32 = 1 << 20;
const DRAIN_ALL: u32 = 3 << 20;
const RESET_DEVICE: u32 = 5 << 20;
const ENABLE_WQ: u32 = 6 << 20;
const RESET_WQ: u32 = 10 << 20;
const REQUEST_INTERRUPT: u32 = 1 << 31;

/// A device that nobody has written to.
fn untouched(options: &str) -> Rig {
    let identity = Identity::parse(options).unwrap();
    Rig {
        dsa: Dsa::new(identity).unwrap(),
        machine: Machine::default(),
    }
}

fn config(rig: &mut Rig, offset: usize, size: usize) -> u32 {
    rig.dsa.config_read(offset, size)
}

/// Where the tables are, as OFFSETS and the MSI-X capability say.
#[derive(Clone, Copy)]
struct Tables {
    groups: u64,
    queues: u64,
    permissions: u64,
    ims: u64,
    perfmon: u64,
    domains: u64,
    msix: u64,
    pending: u64,
}

fn tables(rig: &mut Rig) -> Tables {
    let (low, high) = (rig.read64(0x60), rig.read64(0x68));
    assert_eq!(high >> 32, 0, "OFFSETS 127:96 is unused");
    let offset = |quad: u64, shift: u32| (quad >> shift & 0xffff) * 0x100;
    let msix = u64::from(config(rig, 0x84, 4));
    let pending = u64::from(config(rig, 0x88, 4));
    assert_eq!((msix & 7, pending & 7), (0, 0), "both in BAR0");
    Tables {
        groups: offset(low, 0),
        queues: offset(low, 16),
        permissions: offset(low, 32),
        ims: offset(low, 48),
        perfmon: offset(high, 0),
        domains: offset(high, 16),
        msix,
        pending,
    }
}

/// Bytes of one WQCFG: 2^(WQCAP 27:24 + 5).
fn wqcfg_bytes(rig: &mut Rig) -> u64 {
    32 << (rig.read64(0x20) >> 24 & 0xf)
}

/// WQCFG of `queue`.
fn wqcfg(rig: &mut Rig, queue: u64) -> u64 {
    tables(rig).queues + queue * wqcfg_bytes(rig)
}

/// Size of BAR 0 or 2 as firmware finds it: write ones, see which stick.
fn sized_by_bar(rig: &mut Rig, bar: usize) -> u64 {
    rig.config_write(bar, 4, u32::MAX);
    rig.config_write(bar + 4, 4, u32::MAX);
    let low = config(rig, bar, 4);
    assert_eq!(low & 0xf, 0xc, "64-bit, prefetchable memory");
    let mask = u64::from(config(rig, bar + 4, 4)) << 32 | u64::from(low & !0xf);
    (!mask).wrapping_add(1)
}

// ---- Capabilities --------------------------------------------------------

/// One identity's capability registers.
struct Capabilities {
    options: &'static str,
    version: u64,
    gencap: u64,
    wqcap: u64,
    grpcap: u64,
    engines: u64,
    operations: u64,
    commands: u64,
}

/// Production Sapphire Rapids; GENCAP is what `gen_cap` shows on one.
const SAPPHIRE_RAPIDS: Capabilities = Capabilities {
    options: "",
    version: 0x100,
    // Block on fault, overlap, cache control, destination readback; 2^31 bytes,
    // 2^10 descriptors, 8 x 256 slots, configurable.
    gencap: 0x40_915f_0107,
    // Both modes, ATS disable, priority, occupancy and its interrupt; 32 bytes,
    // 8 queues, 128 entries.
    wqcap: 0x003f_0000_0008_0080,
    // Read buffer controls with a global limit; 96 read buffers, 4 groups.
    grpcap: 0x0003_6004,
    engines: 4,
    // 0x00-0x09, 0x10-0x15, 0x20.
    operations: 0x1_003f_03ff,
    commands: 0,
};

/// Version 2.0: GENCAP has CMDCAP (4), 16-byte fill (10), CRC64 (11), fault
/// info (12), a log of 64-byte entries (13) and batches of one (52) instead of
/// the withdrawn bit 38; WQCAP has 64 bytes (24), OPCFG (54), PRS disable (55);
/// OPCAP also translation fetch (0x0a) and DIX generate (0x17).
const GRANITE_RAPIDS_D: Capabilities = Capabilities {
    options: "device-id=0x11fb",
    version: 0x200,
    gencap: 0x0010_0000_915f_3d17,
    wqcap: 0x00ff_0000_0108_0080,
    operations: 0x1_00bf_07ff,
    commands: 0x7ffe,
    ..SAPPHIRE_RAPIDS
};

#[test]
fn capability_registers_have_their_literal_values() {
    let cases = [
        SAPPHIRE_RAPIDS,
        GRANITE_RAPIDS_D,
        // Version 3.0: the log may overflow (GENCAP.32).
        Capabilities {
            options: "device-id=0x1212",
            version: 0x300,
            gencap: 0x0010_0001_915f_3d17,
            ..GRANITE_RAPIDS_D
        },
        Capabilities {
            options: "queues=20;entries=200;groups=3;engines=5",
            wqcap: 0x003f_0000_0014_00c8,
            grpcap: 0x0003_6003,
            engines: 5,
            ..SAPPHIRE_RAPIDS
        },
        Capabilities {
            options: "ims=0",
            gencap: 0x40_815f_0107,
            ..SAPPHIRE_RAPIDS
        },
        Capabilities {
            options: "ims=256",
            gencap: 0x40_835f_0107,
            ..SAPPHIRE_RAPIDS
        },
        Capabilities {
            options: "ims=16128",
            gencap: 0x40_ff5f_0107,
            ..SAPPHIRE_RAPIDS
        },
        Capabilities {
            options: "configurable=off",
            gencap: 0x40_115f_0107,
            ..SAPPHIRE_RAPIDS
        },
        Capabilities {
            options: "event-log=on",
            gencap: 0x40_915f_2107,
            ..SAPPHIRE_RAPIDS
        },
        Capabilities {
            options: "handle-commands=on",
            gencap: 0x40_915f_0117,
            commands: 0x7ffe,
            ..SAPPHIRE_RAPIDS
        },
    ];
    for case in cases {
        let mut rig = untouched(case.options);
        for (register, offset, expected) in [
            ("VERSION", 0x00, case.version),
            ("GENCAP", 0x10, case.gencap),
            ("WQCAP", 0x20, case.wqcap),
            ("GRPCAP", 0x30, case.grpcap),
            ("OPCAP 63:0", 0x40, case.operations),
            ("OPCAP 127:64", 0x48, 0),
            ("OPCAP 191:128", 0x50, 0),
            ("OPCAP 255:192", 0x58, 0),
            ("CMDCAP", 0xb0, case.commands),
            // Neither inter-domain operations nor those of DSACAP.
            ("IDCAP", 0x100, 0),
            ("DSACAP0", 0x180, 0),
            ("DSACAP1", 0x188, 0),
            ("DSACAP2", 0x190, 0),
        ] {
            assert_eq!(
                rig.read64(offset),
                expected,
                "{register} of '{}'",
                case.options
            );
        }
        // 23:8 is undefined while GRPCAP.18 is 0, 63:24 is unused.
        assert_eq!(
            rig.read64(0x38) & 0xff,
            case.engines,
            "ENGCAP of '{}'",
            case.options
        );
        // The vectors: one for the device and one for each queue.
        let queues = case.wqcap >> 16 & 0xff;
        assert_eq!(
            u64::from(config(&mut rig, 0x82, 2)),
            queues,
            "{}",
            case.options
        );
        let portals = (queues * 0x4000).next_power_of_two();
        assert_eq!(sized_by_bar(&mut rig, 0x18), portals, "{}", case.options);
    }
}

/// [§9.2.7] Each table is where OFFSETS says, whole and for itself.
#[test]
fn offsets_point_to_tables_that_are_there() {
    for options in [
        "",
        "device-id=0x11fb",
        "device-id=0x1212;queues=64;groups=16;engines=16;ims=16128",
        "queues=1;groups=1;engines=1;ims=256",
        "ims=0",
    ] {
        let mut rig = untouched(options);
        let table = tables(&mut rig);
        let queues = rig.read64(0x20) >> 16 & 0xff;
        let groups = rig.read64(0x30) & 0xff;
        let vectors = queues + 1;
        let slots = (rig.read64(0x10) >> 25 & 0x3f) * 256;
        let stride = wqcfg_bytes(&mut rig);
        assert_eq!(table.domains, 0, "no inter-domain permissions");

        let mut ranges = vec![
            (0, 0x198, "registers"),
            (0xe000, 8, "CMDPARAM"),
            (0xf000, 0x1000, "dummy portal"),
            (table.groups, groups * 64, "GRPCFG"),
            (table.queues, queues * stride, "WQCFG"),
            (table.permissions, vectors * 8, "MSIXPERM"),
            (table.perfmon, 0x300, "PERFMON"),
            (table.msix, vectors * 16, "MSI-X table"),
            (table.pending, vectors.div_ceil(64) * 8, "MSI-X PBA"),
        ];
        if slots == 0 {
            assert_eq!(table.ims, 0, "{options}: no IMS");
        } else {
            ranges.push((table.ims, slots * 16, "IMS"));
        }
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            let [(start, length, name), (next, _, other)] = pair else {
                unreachable!("windows of two");
            };
            assert!(
                start + length <= *next,
                "{options}: {name} runs into {other}"
            );
        }
        let end = ranges
            .last()
            .map(|(start, length, _)| start + length)
            .unwrap();
        assert!(
            end <= sized_by_bar(&mut rig, 0x10),
            "{options}: BAR0 is too small"
        );

        // The last entry of each.
        let mut entries = vec![
            ("GRPCFG", table.groups + (groups - 1) * 64, 1),
            ("WQCFG", table.queues + (queues - 1) * stride, 0x10),
            (
                "MSIXPERM",
                table.permissions + (vectors - 1) * 8,
                0xabcd_e008,
            ),
            (
                "MSI-X data",
                table.msix + (vectors - 1) * 16 + 8,
                0x1234_5678,
            ),
        ];
        if slots > 0 {
            entries.push(("IMS data", table.ims + (slots - 1) * 16 + 8, 0x8765_4321));
        }
        for (name, offset, value) in &entries {
            rig.write32(*offset, *value);
            assert_eq!(rig.read32(*offset), *value, "{options}: {name}");
        }
        for (name, offset, value) in &entries {
            assert_eq!(
                rig.read32(*offset),
                *value,
                "{options}: {name} is nobody else's"
            );
        }
        assert_ne!(
            rig.read64(table.perfmon) & 0x3f,
            0,
            "{options}: PERFCAP has counters"
        );
    }
}

// ---- Reset values --------------------------------------------------------

/// [Table 9-3 "MMIO Register Initial Values"], but for MSI-X table and
/// SWERROR, which only a reset from outside clears.
fn assert_initial_values(rig: &mut Rig, when: &str) {
    let table = tables(rig);
    let operations = rig.read64(0x40);
    for offset in [GENCTRL, GENSTS, INTCAUSE] {
        assert_eq!(rig.read32(offset), 0, "{offset:#x} {when}");
    }
    assert_eq!(rig.read32(GENCFG), 96, "GENCFG is all read buffers {when}");
    for offset in [EVLCFG, EVLCFG + 8, table.pending, 0xe000, 0x108] {
        assert_eq!(rig.read64(offset), 0, "{offset:#x} {when}");
    }
    for group in 0..4 {
        let registers = [0, 8, 0x10, 0x18, 0x20, 0x28]
            .map(|offset| rig.read64(table.groups + group * 64 + offset));
        assert_eq!(
            registers,
            [0, 0, 0, 0, 0, 96 << 20],
            "GRPCFG {group} {when}"
        );
    }
    let stride = wqcfg_bytes(rig);
    for queue in 0..8 {
        let register = table.queues + queue * stride;
        let words: Vec<u64> = (0..stride / 8)
            .map(|quad| rig.read64(register + quad * 8))
            .collect();
        let mut expected = vec![0, 0, 0, 0, operations, 0, 0, 0];
        expected.truncate(words.len());
        assert_eq!(words, expected, "WQCFG {queue} {when}");
    }
    for vector in 0..9 {
        assert_eq!(
            rig.read32(table.permissions + vector * 8),
            0,
            "MSIXPERM {vector} {when}"
        );
    }
    for slot in [0, 1, 2047] {
        let entry = table.ims + slot * 16;
        let words = [rig.read64(entry), rig.read64(entry + 8)];
        assert_eq!(words, [0xfee0_0000, 1 << 32], "IMS {slot} {when}");
    }
}

fn assert_cleared_by_function_level_reset(rig: &mut Rig, when: &str) {
    let table = tables(rig);
    assert_eq!(rig.read32(CMDSTATUS), 0, "CMDSTATUS {when}");
    assert_eq!(rig.software_error(), [0; 4], "SWERROR {when}");
    assert_eq!(rig.read64(EVLSTATUS), 0, "EVLSTATUS {when}");
    for vector in 0..9 {
        let entry = table.msix + vector * 16;
        let words = [rig.read64(entry), rig.read64(entry + 8)];
        assert_eq!(words, [0, 1 << 32], "MSI-X {vector} {when}");
    }
}

/// Leaves a mark in everything that can be written, and an error in SWERROR
/// and CMDSTATUS.
fn make_a_mess(rig: &mut Rig) {
    let table = tables(rig);
    for (offset, value) in [
        (GENCFG, 50 | 1 << 12),
        (GENCTRL, 7),
        (0xe000, 5),
        (EVLCFG, 0x7000),
        (EVLCFG + 8, 64),
        (EVLSTATUS, 3),
        (table.groups, 1),
        (table.groups + 0x20, 1),
        (table.groups + 0x28, 0x0400_0009),
        (table.permissions + 8, 0x1234_5008),
        (table.msix, 0xfee0_1000),
        (table.msix + 8, 0x42),
        (table.ims, 0xfee0_2000),
        (table.ims + 8, 0x43),
        (table.ims + 12, 0x1234_5008),
    ] {
        rig.write32(offset, value);
    }
    let first = wqcfg(rig, 0);
    for (word, value) in [(0, 16), (4, 16), (8, 0x5a1), (12, 0x155), (16, 1), (20, 3)] {
        rig.write32(first + word, value);
    }
    if wqcfg_bytes(rig) == 64 {
        rig.write32(first + 32, 1);
    }
    // A command that fails, and one too many.
    rig.write64(SWERROR, 3);
    rig.write32(CMD, ENABLE_WQ | REQUEST_INTERRUPT);
    rig.write32(CMD, DRAIN_ALL);
    rig.run();
    assert_eq!(rig.read32(CMDSTATUS), 0x20);
    assert_eq!(rig.read32(INTCAUSE), 3);
    assert_eq!(rig.software_error()[0], 1 | 0x52 << 8);
}

#[test]
fn registers_have_their_initial_values_after_power_up_and_each_reset() {
    for options in ["event-log=on", "device-id=0x11fb", "device-id=0x1212"] {
        let mut rig = untouched(options);
        assert_initial_values(&mut rig, "after power-up");
        assert_cleared_by_function_level_reset(&mut rig, "after power-up");

        make_a_mess(&mut rig);
        assert_eq!(rig.command(RESET_DEVICE), 0);
        assert_initial_values(&mut rig, "after Reset Device");

        make_a_mess(&mut rig);
        assert!(
            rig.config_write(0x48, 2, 0x8000),
            "DEVCTL.15 initiates an FLR"
        );
        rig.dsa.reset();
        assert_initial_values(&mut rig, "after FLR");
        assert_cleared_by_function_level_reset(&mut rig, "after FLR");
    }
}

/// [Table 9-3] An interrupt that waits for its mask is forgotten with the
/// pending bits, the table itself stays.
#[test]
fn reset_device_clears_the_pending_bits() {
    let mut rig = Rig::new("");
    let table = tables(&mut rig);
    rig.write32(table.msix + 12, 1);
    rig.command(DRAIN_ALL | REQUEST_INTERRUPT);
    assert_eq!(rig.read64(table.pending), 1, "vector 0 is masked");
    assert_eq!(rig.command(RESET_DEVICE), 0);
    assert_eq!(rig.read64(table.pending), 0);
    assert_eq!(rig.read32(table.msix + 12), 1);
}

// ---- What a write changes ------------------------------------------------

#[test]
fn read_only_registers_ignore_writes() {
    for options in ["", "device-id=0x1212"] {
        let mut rig = untouched(options);
        let offsets: Vec<u64> = (0x00..GENCFG)
            .step_by(8)
            .chain([GENSTS, CMDSTATUS, 0xb0, 0xb8, 0x100, 0x180, 0x188, 0x190])
            .collect();
        for offset in offsets {
            let before = rig.read64(offset);
            for value in [0, u64::MAX, !before] {
                rig.write64(offset, value);
                rig.write32(offset, value as u32);
                rig.dsa
                    .mmio_write(0, offset, 1, value & 0xff, &mut rig.machine);
            }
            assert_eq!(rig.read64(offset), before, "{options} {offset:#x}");
        }
    }
}

/// What sticks when ones are written to a register of a Disabled device, whose
/// reserved bits read 0.
#[test]
fn exactly_the_defined_bits_can_be_written_while_disabled() {
    const LOG: &str = "event-log=on";
    const SECOND: &str = "device-id=0x11fb";
    let mut default = untouched("");
    let table = tables(&mut default);
    let second_queues = tables(&mut untouched(SECOND)).queues;
    let cases: [(&str, &str, u64, u32); 34] = [
        ("GENCFG", "", GENCFG, 0x10ff),
        ("GENCFG", LOG, GENCFG, 0x30ff),
        ("GENCFG", "configurable=off", GENCFG, 96),
        ("GENCFG", "configurable=off;event-log=on", GENCFG, 0x2060),
        ("GENCTRL", "", GENCTRL, 7),
        ("INTCAUSE", "", INTCAUSE, 0),
        ("EVLCFG base", LOG, EVLCFG, 0xffff_f003),
        ("EVLCFG base", LOG, EVLCFG + 4, 0xffff_ffff),
        ("EVLCFG size, PASID", LOG, EVLCFG + 8, 0xffff_ffff),
        ("EVLCFG PASID", LOG, EVLCFG + 12, 0xf),
        ("EVLSTATUS head", LOG, EVLSTATUS, 0xffff),
        ("EVLSTATUS tail", LOG, EVLSTATUS + 4, 0),
        ("GRPCFG WQs", "", table.groups, 0xff),
        ("GRPCFG WQs", "", table.groups + 4, 0),
        ("GRPCFG WQs", "", table.groups + 8, 0),
        ("GRPCFG engines", "", table.groups + 0x20, 0xf),
        // No descriptor limits (GRPCAP.18), no bandwidth limits (GRPCAP.19).
        ("GRPCFG flags", "", table.groups + 0x28, 0x0ff0_ffbf),
        ("GRPCFG flags", "", table.groups + 0x2c, 0),
        ("MSIXPERM", "", table.permissions, 0xffff_f00c),
        ("MSIXPERM padding", "", table.permissions + 4, 0),
        ("MSI-X address", "", table.msix + 4, 0xffff_ffff),
        ("MSI-X data", "", table.msix + 8, 0xffff_ffff),
        ("MSI-X control", "", table.msix + 12, 1),
        ("MSI-X PBA", "", table.pending, 0),
        ("IMS data", "", table.ims + 8, 0xffff_ffff),
        ("IMS control", "", table.ims + 12, 0xffff_f00d),
        ("WQCFG size", "", table.queues, 0xffff),
        ("WQCFG threshold", "", table.queues + 4, 0xffff),
        // PRS disable (bit 3) comes with WQCAP.55.
        ("WQCFG mode", "", table.queues + 8, 0x3fff_fff7),
        ("WQCFG mode", SECOND, second_queues + 8, 0x3fff_ffff),
        // The SGL size is reserved where nothing gathers.
        ("WQCFG limits", SECOND, second_queues + 12, 0x1ff),
        ("WQCFG occupancy target", "", table.queues + 16, 0x1_ffff),
        ("WQCFG occupancy limit", "", table.queues + 20, 0x1_ffff),
        ("WQCFG reserved", "", table.queues + 28, 0),
    ];
    for (name, options, offset, expected) in cases {
        let mut rig = untouched(options);
        rig.config_write(0x236, 2, 5);
        rig.write32(offset, u32::MAX);
        assert_eq!(
            rig.read32(offset),
            expected,
            "{name} at {offset:#x} of '{options}'"
        );
    }
}

/// [§9.2.24] OPCFG has bits for operations alone, whether offered or not.
#[test]
fn undefined_operations_cannot_be_configured() {
    // 0x00-0x0a, 0x10-0x15, 0x17-0x1e; 0x20, 0x21, 0x23-0x26.
    const DEFINED: [u32; 8] = [0x7fbf_07ff, 0x7b, 0, 0, 0, 0, 0, 0];
    let mut rig = untouched("device-id=0x11fb");
    let first = wqcfg(&mut rig, 0) + 32;
    for (word, defined) in (0..).zip(DEFINED) {
        rig.write32(first + word * 4, u32::MAX);
        let undefined = rig.read32(first + word * 4) & !defined;
        assert_eq!(undefined, 0, "OPCFG word {word}");
        rig.write32(first + word * 4, 0);
        assert_eq!(rig.read32(first + word * 4), 0, "OPCFG word {word}");
    }
}

/// [Table 9-7 "Work Queue Configuration Support"] Each field with one of its
/// bits: where it stands, and whether it can be written in each situation.
#[test]
fn wqcfg_fields_can_be_written_exactly_when_table_9_7_says() {
    /// Read-write...
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum When {
        Never,
        DeviceDisabled,
        WqDisabled,
        Always,
    }
    use When::{Always, DeviceDisabled, Never, WqDisabled};
    // Columns: Configuration Support; 0 with Mode Support.
    let fields = [
        ("size", 0, 0, DeviceDisabled, Never),
        ("threshold", 4, 1, Always, Always),
        ("mode", 8, 0, WqDisabled, WqDisabled),
        ("block on fault", 8, 1, WqDisabled, Never),
        ("ATS disable", 8, 2, WqDisabled, Never),
        ("PRS disable", 8, 3, WqDisabled, Never),
        ("priority", 8, 7, WqDisabled, Never),
        ("PASID", 8, 8, WqDisabled, WqDisabled),
        ("PASID", 8, 27, WqDisabled, WqDisabled),
        ("PASID enable", 8, 28, WqDisabled, WqDisabled),
        ("privileged", 8, 29, WqDisabled, WqDisabled),
        ("maximum transfer size", 12, 0, WqDisabled, Never),
        ("maximum batch size", 12, 8, WqDisabled, Never),
        ("occupancy handle", 16, 1, WqDisabled, WqDisabled),
        ("occupancy table", 16, 16, WqDisabled, WqDisabled),
        ("occupancy limit", 20, 3, Always, Always),
        ("occupancy interrupt enable", 20, 16, Always, Always),
        ("mode support", 24, 29, Never, Never),
        ("state", 24, 30, Never, Never),
        ("operations", 32, 3, WqDisabled, Never),
        ("operations", 36, 0, WqDisabled, Never),
    ];
    let situations = ["device Disabled", "device Enabled", "queue Enabled"];
    for configurable in [true, false] {
        for (name, word, bit, with_support, without) in fields {
            for (situation, title) in situations.into_iter().enumerate() {
                let mut rig = if configurable {
                    let mut rig = Rig::new("device-id=0x11fb");
                    rig.configure(0, QueueSetup::default());
                    rig
                } else {
                    Rig::new("device-id=0x11fb;configurable=off")
                };
                match situation {
                    0 => {}
                    1 => rig.enable(&[]),
                    _ => rig.enable(&[0]),
                }
                let expected = match if configurable { with_support } else { without } {
                    Never => false,
                    DeviceDisabled => situation == 0,
                    WqDisabled => situation < 2,
                    Always => true,
                };
                let register = wqcfg(&mut rig, 0) + word;
                let before = rig.read32(register);
                rig.write32(register, before ^ 1 << bit);
                let after = if expected { before ^ 1 << bit } else { before };
                assert_eq!(
                    rig.read32(register),
                    after,
                    "{name}, bit {bit}; {title}, configurable: {configurable}"
                );
            }
        }
    }
}

/// [§9.2.24, bytes 23:20] The limit belongs to the enable bit: it is fixed
/// while that is 1, and may be written together with it.
#[test]
fn the_occupancy_limit_is_fixed_while_its_interrupt_is_enabled() {
    for options in ["", "configurable=off"] {
        let mut rig = untouched(options);
        let register = wqcfg(&mut rig, 0) + 20;
        for (written, expected) in [
            (7, 7),
            (1 << 16 | 9, 1 << 16 | 9),
            (1 << 16 | 3, 1 << 16 | 9),
            (9, 9),
            (3, 3),
        ] {
            rig.write32(register, written);
            assert_eq!(rig.read32(register), expected, "'{options}' {written:#x}");
        }
    }
}

/// [Table 9-4 "Read-Only MMIO Registers"] Registers that are fixed while the
/// device is not Disabled, and others that never are.
#[test]
fn device_wide_configuration_is_fixed_while_the_device_is_not_disabled() {
    let mut rig = Rig::new("event-log=on");
    let table = tables(&mut rig);
    let fixed = [
        GENCFG,
        EVLCFG + 4,
        EVLCFG + 8,
        table.groups,
        table.groups + 0x40,
        table.groups + 0x20,
        table.groups + 0x28,
    ];
    let free = [
        GENCTRL,
        table.permissions + 8,
        table.msix + 0x18,
        table.ims + 8,
        EVLSTATUS,
    ];

    rig.configure(0, QueueSetup::default());
    for situation in ["Disabled", "Enabled", "Halt", "Disabled again"] {
        match situation {
            "Enabled" => rig.enable(&[0]),
            "Halt" => _ = rig.control("halt software"),
            "Disabled again" => assert_eq!(rig.command(RESET_DEVICE), 0),
            _ => {}
        }
        let disabled = situation.starts_with("Disabled");
        for (offset, changes) in fixed
            .map(|offset| (offset, disabled))
            .into_iter()
            .chain(free.map(|at| (at, true)))
        {
            let before = rig.read32(offset);
            let flipped = before
                ^ if offset == table.permissions + 8 {
                    1 << 2
                } else {
                    1
                };
            rig.write32(offset, flipped);
            let after = if changes { flipped } else { before };
            assert_eq!(rig.read32(offset), after, "{offset:#x} while {situation}");
            rig.write32(offset, before);
            assert_eq!(rig.read32(offset), before, "{offset:#x} while {situation}");
        }
    }
}

/// [§9.2.23] GRPCFG of a device without Configuration Support.
#[test]
fn a_fixed_device_has_fixed_groups() {
    let mut rig = untouched("configurable=off");
    let table = tables(&mut rig);
    for offset in (0..4 * 64).step_by(8).map(|offset| table.groups + offset) {
        let before = rig.read64(offset);
        rig.write64(offset, !before);
        assert_eq!(rig.read64(offset), before, "{offset:#x}");
    }
}

#[test]
fn interrupt_causes_are_cleared_one_by_one() {
    let mut rig = Rig::new("");
    rig.write32(GENCTRL, 1);
    rig.write32(CMD, DRAIN_ALL | REQUEST_INTERRUPT);
    rig.write32(CMD, DRAIN_ALL);
    rig.run();
    for (written, left) in [(0, 3), (1, 2), (1, 2), (2, 0), (3, 0)] {
        rig.write32(INTCAUSE, written);
        assert_eq!(rig.read32(INTCAUSE), left, "after writing {written}");
    }
}

/// [§9.2.15] Valid and Overflow are cleared by ones, the rest is read-only.
#[test]
fn the_software_error_register_is_cleared_bit_by_bit() {
    let mut rig = Rig::new("");
    for _ in 0..2 {
        rig.write32(CMD, DRAIN_ALL);
        rig.write32(CMD, DRAIN_ALL);
        rig.run();
    }
    let error = [3 | 0x52 << 8, 0, 0, 0];
    assert_eq!(rig.software_error(), error);
    for (offset, value) in [
        (SWERROR, 0),
        (SWERROR, !3),
        (SWERROR + 8, u64::MAX),
        (SWERROR + 16, u64::MAX),
        (SWERROR + 24, u64::MAX),
    ] {
        rig.write64(offset, value);
        assert_eq!(rig.software_error(), error, "{value:#x} to {offset:#x}");
    }
    rig.write64(SWERROR, 2);
    assert_eq!(rig.software_error()[0] & 3, 1, "Overflow goes alone");
    rig.write64(SWERROR, 1);
    assert_eq!(rig.software_error()[0] & 3, 0);
}

/// [§9.2.28] What is no interrupt address is not stored, in one access or two;
/// bits 1:0 are ignored.
#[test]
fn an_ims_address_is_stored_whole_or_not_at_all() {
    let mut rig = untouched("");
    let entry = tables(&mut rig).ims;
    for (written, stored) in [
        (0xfee1_2344, 0xfee1_2344),
        (0xfee5_6787, 0xfee5_6784),
        (0xfef0_0000, 0xfee5_6784),
        (0xfed0_0000, 0xfee5_6784),
        (0, 0xfee5_6784),
        (0x1_fee0_1000, 0xfee5_6784),
        (0x8000_0000_fee0_1000, 0xfee5_6784),
        (0xfeef_fffc, 0xfeef_fffc),
    ] {
        rig.write64(entry, written);
        assert_eq!(rig.read64(entry), stored, "after {written:#x}");
    }
    rig.write32(entry + 4, 1);
    assert_eq!(rig.read64(entry), 0xfeef_fffc);
}

/// [§9.2.17] The log's head is software's, its tail the device's.
#[test]
fn the_event_log_status_belongs_to_both_sides() {
    let mut rig = Rig::new("event-log=on");
    rig.write64(EVLSTATUS, 0x7fff_0005);
    assert_eq!(rig.read64(EVLSTATUS), 5, "31:16 is reserved");
    rig.write64(EVLSTATUS, 0x1234_0000_0006);
    assert_eq!(rig.read64(EVLSTATUS), 6, "the tail is read-only");
    rig.write32(EVLSTATUS + 4, 1 << 30);
    assert_eq!(
        rig.read64(EVLSTATUS),
        6,
        "Interrupt Pending is not set by software"
    );

    // Enable Device clears it where it enables the log.
    assert_eq!(rig.command(ENABLE_DEVICE), 0);
    assert_eq!(rig.read64(EVLSTATUS), 6, "the log is not enabled");
    let mut rig = Rig::new("event-log=on");
    rig.write64(EVLSTATUS, 6);
    rig.write32(GENCFG, 96 | 1 << 13);
    rig.write64(EVLCFG, 0x1000);
    rig.write64(EVLCFG + 8, 64);
    assert_eq!(rig.command(ENABLE_DEVICE), 0);
    assert_eq!(rig.read64(EVLSTATUS), 0);
}

// ---- Access widths -------------------------------------------------------

#[test]
fn every_width_reads_the_same_bytes() {
    let mut rig = Rig::new("device-id=0x11fb");
    rig.configure(0, QueueSetup::default());
    let table = tables(&mut rig);
    let first = wqcfg(&mut rig, 0);
    let ranges = [
        (0, CMD),
        (CMDSTATUS, 0x98),
        (table.groups, 64),
        (first, 64),
        (table.permissions, 16),
        (table.msix, 32),
        (table.pending, 8),
        (table.ims, 32),
        (table.perfmon, 16),
    ];
    let offsets = ranges
        .into_iter()
        .flat_map(|(start, length)| (start..start + length).step_by(8));
    for offset in offsets {
        let whole = rig.read64(offset);
        for size in [1, 2, 4] {
            let pieces = (0..8 / u64::from(size)).map(|piece| {
                let at = piece * u64::from(size);
                rig.dsa.mmio_read(0, offset + at, size) << (8 * at)
            });
            let put_together = pieces.fold(0, |quad, piece| quad | piece);
            assert_eq!(put_together, whole, "{offset:#x} in pieces of {size}");
        }
    }
    assert_eq!(rig.dsa.violations(), [] as [String; 0]);
}

#[test]
fn every_width_writes_its_bytes_and_no_others() {
    let table = tables(&mut untouched("event-log=on"));
    let cases = [
        ("GENCTRL", GENCTRL, 0x7),
        ("EVLCFG", EVLCFG, 0x1234_5678_9abc_d001),
        ("EVLCFG", EVLCFG + 8, 0xf_8765_4321),
        ("GRPCFG WQs", table.groups, 0xa5),
        ("GRPCFG flags", table.groups + 0x28, 0x0a50_3c3f),
        ("WQCFG size, threshold", table.queues, 0x0a0b_0000_0c0d),
        (
            "WQCFG mode, limits",
            table.queues + 8,
            0x0000_0155_1234_56a1,
        ),
        ("MSIXPERM", table.permissions, 0xabcd_e00c),
        ("MSI-X address", table.msix, 0x0123_4567_fee0_1230),
        ("MSI-X data, control", table.msix + 8, 0x89ab_cdef),
        ("IMS address", table.ims, 0xfee1_2344),
        ("IMS data, control", table.ims + 8, 0x1234_500d_89ab_cdef),
    ];
    for (name, offset, value) in cases {
        for size in [1, 2, 4, 8] {
            let mut rig = untouched("event-log=on");
            rig.config_write(0x236, 2, 5);
            let neighbours = [offset - 8, offset + 8].map(|at| (at, rig.read64(at)));
            for piece in 0..8 / u64::from(size) {
                let at = piece * u64::from(size);
                let bytes = value >> (8 * at) & (u64::MAX >> (64 - 8 * size));
                rig.dsa
                    .mmio_write(0, offset + at, size, bytes, &mut rig.machine);
            }
            assert_eq!(rig.read64(offset), value, "{name} in pieces of {size}");
            for (at, before) in neighbours {
                assert_eq!(rig.read64(at), before, "{name}: {at:#x} beside it");
            }
        }
    }
}

/// [Chapter 9] Accesses are aligned and of 1, 2, 4 or 8 bytes; others change
/// nothing and are noted.
#[test]
fn an_access_that_is_no_access_is_a_violation() {
    for (offset, size) in [
        (GENCTRL + 2, 4),
        (GENCTRL + 1, 2),
        (GENCTRL - 4, 8),
        (GENCTRL, 3),
    ] {
        let mut rig = untouched("");
        rig.dsa
            .mmio_write(0, offset, size, u64::MAX, &mut rig.machine);
        assert_eq!(rig.read32(GENCTRL), 0, "{size} bytes at {offset:#x}");
        assert_eq!(rig.dsa.violations().len(), 1, "{size} bytes at {offset:#x}");
    }
}

#[test]
fn places_without_a_register_read_zero() {
    let mut rig = untouched("");
    let holes = [
        0x04, 0x08, 0x18, 0x28, 0x70, 0x78, 0x84, 0x8c, 0x94, 0x9c, 0xac, 0xb8, 0xf8,
    ];
    for offset in holes {
        rig.write32(offset, u32::MAX);
        assert_eq!(rig.read32(offset), 0, "{offset:#x}");
    }
}

/// [§9.1.1.2, §9.2.21] Portals and the dummy portal are for writing only.
#[test]
fn portals_read_as_all_zeros_or_all_ones() {
    let mut rig = untouched("");
    for (bar, offset) in [(0, 0xf000), (0, 0xfff8), (2, 0), (2, 0x1000), (2, 0x1_fff8)] {
        for size in [1, 2, 4, 8] {
            let value = rig.dsa.mmio_read(bar, offset, size);
            let ones = u64::MAX >> (64 - 8 * size);
            assert!(
                value == 0 || value == ones,
                "BAR{bar} {offset:#x}: {value:#x}"
            );
        }
    }
}

// ---- A device that software cannot configure -----------------------------

/// What Linux takes from a device without Configuration Support (facts 10.4),
/// read as it reads it.
#[test]
fn a_fixed_configuration_is_one_that_linux_can_load_and_use() {
    for options in [
        "configurable=off",
        "configurable=off;queues=20;entries=300;device-id=0x11fb",
    ] {
        let mut rig = Rig::new(options);
        let table = tables(&mut rig);
        let (gencap, wqcap, grpcap) = (rig.read64(0x10), rig.read64(0x20), rig.read64(0x30));
        assert_eq!(gencap >> 31 & 1, 0);
        assert_eq!(rig.read32(GENCFG) & 0xff, 96, "global read buffer limit");
        let (queues, groups) = (wqcap >> 16 & 0xff, grpcap & 0xff);
        let stride = wqcfg_bytes(&mut rig);

        let (mut members, mut engines) = (0, 0);
        for group in (0..groups).map(|group| table.groups + group * 64) {
            let (own, own_engines) = (rig.read64(group), rig.read64(group + 0x20));
            assert_eq!(
                (own & members, own_engines & engines),
                (0, 0),
                "in two groups"
            );
            assert_eq!(own == 0, own_engines == 0, "half a group");
            assert_eq!(
                rig.read64(group + 8),
                0,
                "{options}: no more than 64 queues"
            );
            assert_eq!(
                rig.read64(group + 0x28) >> 20 & 0xff,
                96,
                "read buffers allowed"
            );
            members |= own;
            engines |= own_engines;
        }
        assert_eq!(
            members,
            (1 << queues) - 1,
            "a queue without a group is of no use"
        );

        let mut entries = 0;
        for queue in 0..queues {
            let register = table.queues + queue * stride;
            let bytes: Vec<u8> = (0..stride)
                .map(|at| rig.dsa.mmio_read(0, register + at, 1) as u8)
                .collect();
            let word = |index: usize| {
                u32::from_le_bytes(
                    bytes
                        .chunks_exact(4)
                        .nth(index)
                        .unwrap()
                        .try_into()
                        .unwrap(),
                )
            };
            assert_ne!(word(0) & 0xffff, 0, "size");
            assert_ne!(word(1) & 0xffff, 0, "threshold");
            assert_eq!(word(2) & 1, 1, "dedicated, or the probe fails");
            assert_eq!(word(2) >> 28 & 1, 0, "without PASID, or the probe fails");
            assert_ne!(word(2) >> 4 & 0xf, 0, "priority");
            assert!(word(3) & 0x1f >= 12, "transfers of a page");
            assert_ne!(word(3) >> 5 & 0xf, 0, "batches");
            assert_eq!(word(6) >> 29, 1, "Mode Support, and Disabled");
            entries += word(0) & 0xffff;
        }
        assert!(
            u64::from(entries) <= wqcap & 0xffff,
            "more entries than there are"
        );

        // Usable, and as good as new after each of the resets that Linux does.
        let snapshot = |rig: &mut Rig| -> Vec<u64> {
            let words = (0..queues * stride).step_by(8).map(|at| table.queues + at);
            let words: Vec<u64> = words
                .chain((0..groups * 64).step_by(8).map(|at| table.groups + at))
                .collect();
            words.into_iter().map(|at| rig.read64(at)).collect()
        };
        let pristine = snapshot(&mut rig);
        rig.machine.map(None, 0x1000, 0x1000, true);
        let all: Vec<u32> = (0..queues as u32).collect();
        for round in 0..2 {
            rig.enable(&all);
            for queue in 0..queues {
                let record = 0x1000 + (round * queues + queue) * 32;
                rig.post(queue, 1, &no_op(record));
                rig.run();
                assert_eq!(rig.machine.peek_byte(None, record), 1, "queue {queue}");
            }
            assert_eq!(rig.command(RESET_WQ | 0xff), 0);
            assert_eq!(rig.command(RESET_DEVICE), 0);
            assert_eq!(snapshot(&mut rig), pristine, "{options}");
        }
    }
}

/// Mode Support: what a guest that shares a queue sets, and what Reset WQ takes
/// back.
#[test]
fn a_fixed_queue_takes_a_mode_and_a_pasid_and_forgets_them_with_its_reset() {
    let mut rig = Rig::new("configurable=off");
    let register = wqcfg(&mut rig, 0);
    let (word1, word2) = (rig.read32(register + 4), rig.read32(register + 8));
    rig.write32(register + 4, 2);
    rig.write32(register + 8, word2 & !1 | 1 << 28 | 0x12345 << 8);
    assert_eq!(
        rig.read32(register + 8),
        word2 & !1 | 1 << 28 | 0x12345 << 8
    );
    rig.enable(&[0]);
    assert_eq!(rig.command(RESET_WQ | 1), 0);
    assert_eq!(
        (rig.read32(register + 4), rig.read32(register + 8)),
        (word1, word2)
    );
}

fn no_op(record: u64) -> Bytes {
    Bytes::new(0, CRAV | RCR).record(record)
}

// ---- Interrupt Message Storage -------------------------------------------

/// The last slot works, the one behind it is none, and without slots there are
/// no IMS portals (facts 4.2).
#[test]
fn the_ims_has_as_many_slots_as_gencap_says() {
    for (slots, bar0) in [
        (0, 0x1_0000),
        (256, 0x2_0000),
        (2048, 0x2_0000),
        (16128, 0x8_0000),
    ] {
        let mut rig = Rig::with_queue(&format!("ims={slots}"), QueueSetup::default());
        assert_eq!(rig.read64(0x10) >> 25 & 0x3f, slots / 256);
        let table = tables(&mut rig).ims;
        rig.machine.map(None, 0x1000, 0x1000, true);
        let descriptor = |handle: u64| {
            Bytes::new(0, CRAV | RCR | RCI)
                .record(0x1000)
                .with(36, &(handle as u16).to_le_bytes())
        };
        if slots == 0 {
            assert_eq!(table, 0);
            for page in [2, 3] {
                rig.post(0, page, &descriptor(0));
                rig.run();
                assert_eq!(rig.machine.peek_byte(None, 0x1000), 0, "dropped");
                assert!(!rig.enqueue(0, page, &descriptor(0)), "answered with retry");
            }
        } else {
            let last = table + (slots - 1) * 16;
            rig.write64(last, 0xfee0_3000);
            rig.write64(last + 8, 0x77);
            rig.post(0, 3, &descriptor(slots - 1));
            rig.run();
            assert_eq!(rig.machine.peek_byte(None, 0x1000), 1, "{slots} slots");
            assert_eq!(rig.machine.messages, [(0xfee0_3000, 0x77)]);

            rig.machine.poke(None, 0x1000, &[0]);
            rig.post(0, 3, &descriptor(slots));
            rig.run();
            assert_eq!(rig.machine.peek_byte(None, 0x1000), 0x19, "{slots} slots");
            assert_eq!(rig.machine.messages.len(), 1);
        }
        assert_eq!(
            sized_by_bar(&mut untouched(&format!("ims={slots}")), 0x10),
            bar0
        );
    }
}
