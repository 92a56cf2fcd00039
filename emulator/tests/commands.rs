//! The Command register: every command, every error code of Table 5-8 and the
//! general ones of §9.2.13, and what each command does to the device.
//! [341204 Rev 3.0 §3.15, §5.1, §5.2, §5.8.3, §9.2.12, §9.2.13]

mod support;

use support::{Bytes, CRAV, QueueSetup, RCI, RCR, Rig};

const RECORD: u64 = 0x30_0000;

const GENCFG: u64 = 0x80;
const GENCTRL: u64 = 0x88;
const GENSTS: u64 = 0x90;
const INTCAUSE: u64 = 0x98;
const CMD: u64 = 0xa0;
const CMDSTATUS: u64 = 0xa8;
const SWERROR: u64 = 0xc0;
const EVLCFG: u64 = 0xe0;
const EVLSTATUS: u64 = 0xf0;
const GRPCFG: u64 = 0x400;
const ENGINES: u64 = 0x20;
const GROUP_FLAGS: u64 = 0x28;
const MSIXPERM: u64 = 0x800;
const MSIX_TABLE: u64 = 0x2000;
const MSIX_PBA: u64 = 0x3000;
const WQCFG: u64 = 0x4000;
const IMS: u64 = 0x1_0000;

const PCICMD: usize = 0x04;
const PASID_CONTROL: usize = 0x236;
const PRS_CONTROL: usize = 0x244;
const PRS_ALLOCATION: usize = 0x24c;

const ENABLE_DEVICE: u32 = 1 << 20;
const DISABLE_DEVICE: u32 = 2 << 20;
const DRAIN_ALL: u32 = 3 << 20;
const ABORT_ALL: u32 = 4 << 20;
const RESET_DEVICE: u32 = 5 << 20;
const ENABLE_WQ: u32 = 6 << 20;
const DISABLE_WQ: u32 = 7 << 20;
const DRAIN_WQ: u32 = 8 << 20;
const ABORT_WQ: u32 = 9 << 20;
const RESET_WQ: u32 = 10 << 20;
const DRAIN_PASID: u32 = 11 << 20;
const ABORT_PASID: u32 = 12 << 20;
const REQUEST_HANDLE: u32 = 13 << 20;
const RELEASE_HANDLE: u32 = 14 << 20;
const OF_IMS: u32 = 1 << 16;
const REQUEST_INTERRUPT: u32 = 1 << 31;
const ACTIVE: u32 = 1 << 31;

/// GENSTS 1:0 and WQCFG 31:30 of dword 6 agree on these.
const DISABLED: u32 = 0;
const ENABLED: u32 = 1;
const DRAINING: u32 = 2;

/// A device that could be enabled, with queue 0 in group 0.
fn configured(options: &str) -> Rig {
    let mut rig = Rig::new(options);
    rig.configure(0, QueueSetup::default());
    rig
}

fn queue_state(rig: &mut Rig, queue: u64) -> u32 {
    let stride = 32 << (rig.read64(0x20) >> 24 & 0xf);
    rig.read32(WQCFG + queue * stride + 24) >> 30
}

/// What a test case does to a device before the command under test.
type Change = fn(&mut Rig);

// ---- Enable Device and Enable WQ -----------------------------------------

/// [§5.1, Table 5-8]
#[test]
fn enable_device_refuses_each_wrong_configuration() {
    let cases: [(u32, &str, Change); 25] = [
        (0x10, "Enabled already", |rig| rig.enable(&[])),
        (0x12, "no bus mastering", |rig| {
            rig.config_write(PCICMD, 2, 2);
        }),
        (0x13, "PRS without page requests", |rig| {
            rig.config_write(PRS_CONTROL, 2, 1);
        }),
        (0x13, "PRS with more page requests than 0x200", |rig| {
            rig.config_write(PRS_CONTROL, 2, 1);
            rig.config_write(PRS_ALLOCATION, 4, 0x201);
        }),
        (0x14, "129 entries", |rig| rig.write32(WQCFG, 129)),
        (0x14, "128 entries and one", |rig| {
            rig.configure(
                1,
                QueueSetup {
                    size: 1,
                    ..QueueSetup::default()
                },
            );
            rig.write32(WQCFG, 128);
        }),
        (0x15, "a queue without engines", |rig| {
            rig.write64(GRPCFG + ENGINES, 0)
        }),
        (0x15, "engines without a queue", |rig| {
            rig.write64(GRPCFG + 0x40 + ENGINES, 2)
        }),
        (0x16, "a queue in two groups", |rig| {
            rig.write64(GRPCFG + 0x40, 1);
            rig.write64(GRPCFG + 0x40 + ENGINES, 2);
        }),
        (0x16, "an active queue in no group", |rig| {
            rig.write32(WQCFG + 32, 4)
        }),
        (0x16, "an inactive queue in a group", |rig| {
            rig.write64(GRPCFG, 3)
        }),
        (0x17, "an engine in two groups", |rig| {
            rig.write32(WQCFG + 32, 4);
            rig.write64(GRPCFG + 0x40, 2);
            rig.write64(GRPCFG + 0x40 + ENGINES, 1);
        }),
        (0x18, "3 read buffers for an engine", |rig| {
            rig.write64(GRPCFG + GROUP_FLAGS, 3 << 20);
        }),
        (0x18, "7 read buffers for two engines", |rig| {
            rig.write64(GRPCFG + ENGINES, 3);
            rig.write64(GRPCFG + GROUP_FLAGS, 7 << 20);
        }),
        (0x18, "8 allowed, 9 reserved", |rig| {
            rig.write64(GRPCFG + GROUP_FLAGS, 8 << 20 | 9 << 8);
        }),
        (0x18, "97 allowed", |rig| {
            rig.write64(GRPCFG + GROUP_FLAGS, 97 << 20)
        }),
        (0x18, "97 reserved", |rig| {
            rig.write64(GRPCFG + GROUP_FLAGS, 97 << 20 | 97 << 8);
        }),
        (0x18, "60 allowed where another group reserves 40", |rig| {
            rig.write32(WQCFG + 32, 4);
            rig.write64(GRPCFG + 0x40, 2);
            rig.write64(GRPCFG + 0x40 + ENGINES, 2);
            rig.write64(GRPCFG + 0x40 + GROUP_FLAGS, 40 << 20 | 40 << 8);
            rig.write64(GRPCFG + GROUP_FLAGS, 60 << 20);
        }),
        (0x18, "a global limit of 97", |rig| rig.write32(GENCFG, 97)),
        (0x18, "a global limit of 7 used by two engines", |rig| {
            rig.write64(GRPCFG + ENGINES, 3);
            rig.write64(GRPCFG + GROUP_FLAGS, 96 << 20 | 1 << 7);
            rig.write32(GENCFG, 7);
        }),
        (0x19, "a log of 63 entries", |rig| {
            enable_log(rig, 0x1000, 63)
        }),
        (0x19, "a log beyond the end of memory", |rig| {
            enable_log(rig, 0xffff_ffff_ffff_f000, 65);
        }),
        (0x1b, "a log with PASID, without PASID", |rig| {
            enable_log(rig, 0x1001, 64);
            rig.config_write(PASID_CONTROL, 2, 0);
        }),
        (0x1b, "a privileged log without PASID", |rig| {
            enable_log(rig, 0x1002, 64)
        }),
        (0x1b, "a privileged log, without privileged mode", |rig| {
            enable_log(rig, 0x1003, 64);
            rig.config_write(PASID_CONTROL, 2, 1);
        }),
    ];
    for (code, title, change) in cases {
        let mut rig = configured("event-log=on");
        change(&mut rig);
        let state = rig.read32(GENSTS);
        assert_eq!(rig.command(ENABLE_DEVICE), code, "{title}");
        assert_eq!(rig.read32(GENSTS), state, "{title}: the state stays");
    }
}

fn enable_log(rig: &mut Rig, low: u64, entries: u64) {
    rig.write32(GENCFG, 96 | 1 << 13);
    rig.write64(EVLCFG, low);
    rig.write64(EVLCFG + 8, entries);
}

/// [§5.1] The checks of EVLCFG's PASID do not ask whether the log is enabled.
#[test]
fn enable_device_checks_the_pasid_of_a_log_that_is_not_enabled() {
    let mut rig = configured("event-log=on");
    rig.write64(EVLCFG, 0x1001);
    rig.config_write(PASID_CONTROL, 2, 0);
    assert_eq!(rig.command(ENABLE_DEVICE), 0x1b);
}

/// What lies just inside the limits of the test above.
#[test]
fn enable_device_accepts_what_is_just_right() {
    let cases: [(&str, Change); 9] = [
        ("nothing configured", |rig| {
            assert_eq!(rig.command(RESET_DEVICE), 0);
        }),
        ("PRS with 0x200 page requests", |rig| {
            rig.config_write(PRS_CONTROL, 2, 1);
            rig.config_write(PRS_ALLOCATION, 4, 0x200);
        }),
        ("128 entries", |rig| rig.write32(WQCFG, 128)),
        ("4 read buffers for an engine", |rig| {
            rig.write64(GRPCFG + GROUP_FLAGS, 4 << 20);
        }),
        ("all read buffers reserved", |rig| {
            rig.write64(GRPCFG + GROUP_FLAGS, 96 << 20 | 96 << 8);
        }),
        ("56 allowed where another group reserves 40", |rig| {
            rig.write32(WQCFG + 32, 4);
            rig.write64(GRPCFG + 0x40, 2);
            rig.write64(GRPCFG + 0x40 + ENGINES, 2);
            rig.write64(GRPCFG + 0x40 + GROUP_FLAGS, 40 << 20 | 40 << 8);
            rig.write64(GRPCFG + GROUP_FLAGS, 56 << 20);
        }),
        (
            "a group without engines may say anything of read buffers",
            |rig| {
                rig.write64(GRPCFG + 0x40 + GROUP_FLAGS, 1 << 20);
            },
        ),
        ("a global limit of 7 used by nobody", |rig| {
            rig.write32(GENCFG, 7)
        }),
        ("a log that ends with memory", |rig| {
            enable_log(rig, 0xffff_ffff_ffff_f003, 64);
        }),
    ];
    for (title, change) in cases {
        let mut rig = configured("event-log=on");
        change(&mut rig);
        assert_eq!(rig.command(ENABLE_DEVICE), 0, "{title}");
        assert_eq!(rig.read32(GENSTS), ENABLED, "{title}");
    }
}

/// WQCFG dword 2 of a dedicated queue of priority 10, and more bits.
fn dedicated(more: u32) -> u32 {
    10 << 4 | 1 | more
}

/// [§5.2, Table 5-8] One dword of WQCFG 0 is changed while the device is
/// Enabled.
#[test]
fn enable_wq_refuses_each_wrong_configuration() {
    const SECOND: &str = "device-id=0x11fb";
    const SHARED: u32 = 10 << 4;
    const PASID: u32 = 1 << 28;
    const PRIVILEGED: u32 = 1 << 29;
    let batch = |log2: u32| 31 | log2 << 5;
    // Configuration space: PASID control, PRS enable.
    let cases = [
        (0x23, "", (5, 0), 8, 1, "priority 0"),
        (
            0x25,
            "",
            (5, 0),
            8,
            dedicated(1 << 1),
            "block on fault without PRS",
        ),
        (0x26, "", (5, 0), 8, SHARED, "shared, without PASID"),
        (
            0x26,
            "",
            (0, 0),
            8,
            dedicated(PASID),
            "PASID off in configuration space",
        ),
        (0x27, "", (5, 0), 12, batch(0), "batches of one"),
        (0x27, "", (5, 0), 12, batch(11), "batches of 2^11"),
        (0x24, "modes=shared", (5, 0), 8, dedicated(0), "dedicated"),
        (0x24, "modes=dedicated", (5, 0), 8, SHARED | PASID, "shared"),
        (
            0x28,
            "max-transfer=30",
            (5, 0),
            12,
            31 | 10 << 5,
            "transfers of 2^31 bytes",
        ),
        (
            0x2c,
            "ats-disable=off",
            (5, 0),
            8,
            dedicated(1 << 2),
            "ATS disable",
        ),
        (
            0x2a,
            "",
            (1, 0),
            8,
            dedicated(PASID | PRIVILEGED),
            "no privileged mode",
        ),
        (0x2b, "", (5, 0), 16, 9, "MSI-X vector 9 of 9"),
        (0x2b, "", (5, 0), 16, OF_IMS | 2048, "IMS slot 2048 of 2048"),
        (0x2b, "ims=0", (5, 0), 16, OF_IMS, "no IMS"),
        (
            0x2d,
            SECOND,
            (5, 0),
            32,
            1 << 0x18,
            "an operation that is not offered",
        ),
        (
            0x2d,
            SECOND,
            (5, 0),
            36,
            1 << 1,
            "an operation that is not offered",
        ),
        (
            0x2e,
            SECOND,
            (5, 0),
            8,
            dedicated(1 << 3),
            "PRS disable without a log",
        ),
    ];
    for (code, options, (pasid, prs), offset, value, title) in cases {
        // The interrupt may be enabled later, when the handle is fixed: whether
        // it is so now makes no difference.
        for interrupt_enable in [0, 1 << 16] {
            let mut rig = configured(options);
            rig.config_write(PASID_CONTROL, 2, pasid);
            rig.config_write(PRS_CONTROL, 2, prs);
            rig.enable(&[]);
            rig.write32(WQCFG + offset, value);
            rig.write32(WQCFG + 20, interrupt_enable);
            assert_eq!(
                rig.command(ENABLE_WQ),
                code,
                "{title} ({interrupt_enable:#x})"
            );
            assert_eq!(queue_state(&mut rig, 0), DISABLED, "{title}");
        }
    }
    // With the command for handles, an index is none.
    let mut rig = configured("handle-commands=on");
    rig.enable(&[]);
    rig.write32(WQCFG + 16, 1);
    rig.write32(WQCFG + 20, 1 << 16);
    assert_eq!(rig.command(ENABLE_WQ), 0x2b);
    let handle = rig.command(REQUEST_HANDLE | 1) >> 8;
    rig.write32(WQCFG + 16, handle);
    assert_eq!(rig.command(ENABLE_WQ), 0);
}

/// What the options of the refusals above leave.
#[test]
fn enable_wq_accepts_what_the_device_has() {
    for (options, offset, value) in [
        ("modes=shared", 8, 10 << 4 | 1 << 28),
        ("modes=dedicated", 8, dedicated(0)),
        ("max-transfer=30", 12, 30 | 10 << 5),
        ("", 8, dedicated(1 << 2)),
    ] {
        let mut rig = configured(options);
        rig.write32(WQCFG + 12, 30 | 10 << 5);
        rig.enable(&[]);
        rig.write32(WQCFG + offset, value);
        assert_eq!(rig.command(ENABLE_WQ), 0, "{options}");
        assert_eq!(queue_state(&mut rig, 0), ENABLED, "{options}");
    }
    // A fixed configuration is one that the device has.
    for options in ["", "modes=shared", "modes=dedicated", "max-transfer=12"] {
        let mut rig = Rig::new(&format!("configurable=off;{options}"));
        rig.enable(&[0, 7]);
    }
}

/// PRS disable and block on fault exclude each other, [Table 5-8, 0x2e].
#[test]
fn prs_disable_needs_a_log_and_no_blocking() {
    for (word2, code) in [
        (dedicated(1 << 3), 0),
        (dedicated(1 << 3 | 1 << 1), 0x2e),
        (dedicated(1 << 1), 0),
        (dedicated(1 << 2), 0),
    ] {
        let mut rig = configured("device-id=0x11fb");
        enable_log(&mut rig, 0x1000, 64);
        rig.config_write(PRS_ALLOCATION, 4, 1);
        rig.config_write(PRS_CONTROL, 2, 1);
        rig.enable(&[]);
        rig.write32(WQCFG + 8, word2);
        assert_eq!(rig.command(ENABLE_WQ), code, "{word2:#x}");
    }
}

/// [§9.2.2, bit 52] Where a batch of one is allowed, so is a limit of one.
#[test]
fn a_device_with_batches_of_one_accepts_their_limit() {
    let mut rig = configured("device-id=0x11fb");
    assert_eq!(rig.read64(0x10) >> 52 & 1, 1, "Batch1 Support");
    rig.enable(&[]);
    rig.write32(WQCFG + 12, 31);
    assert_eq!(rig.command(ENABLE_WQ), 0);
}

#[test]
fn enable_wq_refuses_in_each_wrong_state() {
    let mut rig = configured("");
    assert_eq!(rig.command(ENABLE_WQ), 0x20, "device not Enabled");
    rig.enable(&[]);
    assert_eq!(rig.command(ENABLE_WQ | 8), 0x02, "queue 8 of 8");
    assert_eq!(rig.command(ENABLE_WQ | 0xff), 0x02, "queue 255 of 8");
    assert_eq!(rig.command(ENABLE_WQ | 1), 0x22, "queue without entries");
    assert_eq!(rig.command(ENABLE_WQ), 0);
    assert_eq!(queue_state(&mut rig, 0), ENABLED);
    assert_eq!(rig.command(ENABLE_WQ), 0x21, "not Disabled");
    assert_eq!(queue_state(&mut rig, 0), ENABLED);
}

/// [§5.1, Table 5-8 code 0x1a] What the platform says of ATS.
#[test]
fn enable_device_wants_of_ats_what_the_platform_wants() {
    for (option, without, with) in [
        ("optional", 0, 0),
        ("required", 0x1a, 0),
        ("unsupported", 0, 0x1a),
    ] {
        for (enabled, code) in [(false, without), (true, with)] {
            let mut rig = configured(&format!("platform-ats={option}"));
            if enabled {
                rig.enable_ats();
            }
            assert_eq!(rig.command(ENABLE_DEVICE), code, "{option}, {enabled}");
            assert_eq!(rig.read32(GENSTS), u32::from(code == 0), "{option}");
        }
    }
}

/// [Table 5-8 code 0x03] The device halts while a command waits.
#[test]
fn a_command_that_the_device_does_not_live_to_see_fails() {
    let mut rig = configured("");
    rig.enable(&[0]);
    rig.start(DISABLE_DEVICE | REQUEST_INTERRUPT);
    assert_eq!(rig.read32(CMDSTATUS), ACTIVE);
    rig.control("halt software");
    rig.run();
    assert_eq!(rig.read32(CMDSTATUS), 0x03);
    assert_eq!(rig.read32(GENSTS), 3, "it stays halted");
    assert_eq!(rig.machine.messages, [(0xfee0_0000, 0x100)]);
}

/// The unspecified errors have no other cause than the bench.
#[test]
fn unspecified_errors_come_from_the_bench() {
    for (word, code) in [(DRAIN_ALL, 0x03), (ENABLE_DEVICE, 0x11)] {
        let mut rig = configured("");
        let state = rig.read32(GENSTS);
        rig.control(&format!("fail-command {code:#x}"));
        assert_eq!(rig.command(word | REQUEST_INTERRUPT), code, "{word:#x}");
        assert_eq!(rig.read32(GENSTS), state, "{code:#x}: nothing was done");
        assert_eq!(rig.machine.messages, [(0xfee0_0000, 0x100)]);
        assert_eq!(rig.command(word), 0, "{code:#x}: only once");
    }
}

// ---- What is refused whatever the command --------------------------------

/// [§9.2.14, Table 9-6]
#[test]
fn commands_that_the_device_does_not_have_are_refused() {
    for (options, supported) in [
        ("", 1..=12),
        ("handle-commands=on", 1..=14),
        ("device-id=0x1212", 1..=14),
    ] {
        for code in (0..32_u32).filter(|code| !supported.contains(code)) {
            let mut rig = configured(options);
            assert_eq!(rig.command(code << 20), 0x01, "{options} {code}");
        }
    }
}

/// [Table 9-5] Each reserved bit of each command.
#[test]
fn reserved_bits_of_a_command_are_refused() {
    const EVERYWHERE: u32 = 0x3f << 25;
    for (word, reserved) in [
        (ENABLE_DEVICE, 0xf_ffff),
        (DISABLE_DEVICE, 0xf_ffff),
        (DRAIN_ALL, 0xf_ffff),
        (ABORT_ALL, 0xf_ffff),
        (RESET_DEVICE, 0xf_ffff),
        (ENABLE_WQ, 0xf_ff00),
        (DISABLE_WQ, 0),
        (DRAIN_WQ, 0),
        (ABORT_WQ, 0),
        (RESET_WQ, 0),
        (DRAIN_PASID, 0),
        (ABORT_PASID, 0),
        (REQUEST_HANDLE, 0xe_0000),
        (RELEASE_HANDLE, 0xe_0000),
    ] {
        let mut rig = configured("handle-commands=on");
        let state = rig.read32(GENSTS);
        for bit in (0..32).filter(|bit| (EVERYWHERE | reserved) >> bit & 1 == 1) {
            assert_eq!(
                rig.command(word | 1 << bit),
                0x04,
                "{word:#x} with bit {bit}"
            );
        }
        assert_eq!(rig.read32(GENSTS), state);
    }
}

/// [§9.2.10, §9.2.13] A halted device takes Reset Device, if that is the reset
/// it wants, and nothing else.
#[test]
fn a_halted_device_refuses_commands() {
    let others = [
        ENABLE_DEVICE,
        DISABLE_DEVICE,
        DRAIN_ALL,
        ABORT_ALL,
        ENABLE_WQ,
        DISABLE_WQ | 1,
        DRAIN_WQ | 1,
        ABORT_WQ | 1,
        RESET_WQ | 1,
        DRAIN_PASID | 1,
        ABORT_PASID | 1,
        REQUEST_HANDLE | 1,
        RELEASE_HANDLE | 1,
    ];
    for (halt, reset_type, after_reset) in [
        ("software", 0, 0),
        ("flr", 1, 0x05),
        ("warm", 2, 0x05),
        ("cold", 3, 0x05),
    ] {
        let mut rig = configured("handle-commands=on");
        rig.enable(&[0]);
        rig.control(&format!("halt {halt}"));
        assert_eq!(rig.read32(GENSTS), 3 | reset_type << 2, "{halt}");
        for word in others {
            assert_eq!(rig.command(word), 0x05, "{halt}: {word:#x}");
        }
        assert_eq!(rig.command(RESET_DEVICE), after_reset, "{halt}");
        let state = if after_reset == 0 {
            DISABLED
        } else {
            3 | reset_type << 2
        };
        assert_eq!(rig.read32(GENSTS), state, "{halt}");
    }
    // The interrupt that was asked for comes all the same.
    let mut rig = configured("");
    rig.control("halt software");
    assert_eq!(rig.command(DRAIN_ALL | REQUEST_INTERRUPT), 0x05);
    assert_eq!(rig.machine.messages.len(), 1);
}

/// [Table 5-8] The commands that act on queues or on all descriptors.
#[test]
fn each_command_refuses_the_wrong_state() {
    let mut rig = configured("");
    for (word, code) in [
        (DISABLE_DEVICE, 0x31),
        (DISABLE_WQ | 1, 0x32),
        (DRAIN_WQ | 1, 0x32),
        (ABORT_WQ | 1, 0x32),
        // No error codes are defined for these.
        (DRAIN_ALL, 0),
        (ABORT_ALL, 0),
        (DRAIN_PASID | 0xf_ffff, 0),
        (ABORT_PASID | 0xf_ffff, 0),
        (RESET_WQ | 1, 0),
        (RESET_DEVICE, 0),
    ] {
        assert_eq!(rig.command(word), code, "{word:#x} while Disabled");
    }
    for command in [DISABLE_WQ, DRAIN_WQ, ABORT_WQ, RESET_WQ] {
        for operand in [1 << 8, 1 << 15, 1 << 16 | 1, 0xf << 16 | 1, 0x101] {
            let mut rig = configured("");
            rig.enable(&[0]);
            assert_eq!(
                rig.command(command | operand),
                0x02,
                "{:#x}",
                command | operand
            );
            assert_eq!(
                queue_state(&mut rig, 0),
                ENABLED,
                "{:#x}",
                command | operand
            );
        }
    }
}

/// One queue that is not Enabled is enough, and then nothing is done.
#[test]
fn a_set_of_queues_is_taken_whole_or_not_at_all() {
    for (command, state) in [
        (DISABLE_WQ, DISABLED),
        (DRAIN_WQ, ENABLED),
        (ABORT_WQ, ENABLED),
        (RESET_WQ, DISABLED),
    ] {
        let mut rig = Rig::new("");
        for queue in 0..3 {
            rig.configure(queue, QueueSetup::default());
        }
        rig.enable(&[0, 1]);
        if command != RESET_WQ {
            assert_eq!(rig.command(command | 0b111), 0x32, "{command:#x}");
            for queue in 0..2 {
                assert_eq!(queue_state(&mut rig, queue), ENABLED, "{command:#x}");
            }
            assert_eq!(rig.command(command | 0b11), 0, "{command:#x}");
        } else {
            assert_eq!(
                rig.command(command | 0b111),
                0,
                "Reset WQ takes Disabled ones too"
            );
        }
        for queue in 0..2 {
            assert_eq!(queue_state(&mut rig, queue), state, "{command:#x}");
        }
    }
}

/// [§9.2.12] Bits 19:16 are bits 7:4 of the index; the example is the
/// specification's.
#[test]
fn queues_beyond_the_sixteenth_are_named_by_their_block() {
    let mut rig = Rig::new("queues=24");
    let setup = QueueSetup {
        size: 4,
        threshold: 4,
        ..QueueSetup::default()
    };
    for queue in [5, 6, 20, 21, 22, 23] {
        rig.configure(queue, setup);
    }
    rig.enable(&[5, 6, 20, 21, 22, 23]);
    assert_eq!(rig.command(DRAIN_WQ | 0x1_0060), 0);
    assert_eq!(rig.command(DISABLE_WQ | 0x1_0060), 0);
    let states = [5, 6, 20, 21, 22, 23].map(|queue| queue_state(&mut rig, queue));
    assert_eq!(
        states,
        [ENABLED, ENABLED, ENABLED, DISABLED, DISABLED, ENABLED]
    );
    assert_eq!(rig.command(DISABLE_WQ | 0x1_0100), 0x02, "queue 24 of 24");
    assert_eq!(rig.command(ENABLE_WQ | 21), 0);
    assert_eq!(queue_state(&mut rig, 21), ENABLED);
}

// ---- Completion ----------------------------------------------------------

/// [§9.2.12] The interrupt follows success and failure alike, each time, and
/// only where it was asked for.
#[test]
fn a_command_interrupts_only_if_asked() {
    for (word, code) in [
        (ENABLE_DEVICE, 0),
        (DRAIN_ALL, 0),
        (RESET_DEVICE, 0),
        (DISABLE_DEVICE, 0x31),
        (0, 0x01),
        (RESET_WQ | 1 << 16 | 1, 0x02),
        (DRAIN_ALL | 1, 0x04),
    ] {
        let mut rig = configured("");
        assert_eq!(rig.command(word), code, "{word:#x}");
        assert_eq!(
            (rig.read32(INTCAUSE), rig.machine.messages.len()),
            (0, 0),
            "{word:#x}"
        );

        let mut rig = configured("");
        assert_eq!(rig.command(word | REQUEST_INTERRUPT), code, "{word:#x}");
        assert_eq!(rig.read32(INTCAUSE), 1 << 1, "{word:#x}");
        assert_eq!(rig.machine.messages, [(0xfee0_0000, 0x100)], "{word:#x}");

        // Again, with the cause still set; CMD may be written with 8 bytes.
        rig.write64(CMD, (DRAIN_ALL | REQUEST_INTERRUPT).into());
        rig.run();
        assert_eq!(rig.read32(CMDSTATUS), 0);
        assert_eq!(rig.machine.messages.len(), 2, "{word:#x}");
        rig.write32(INTCAUSE, 1 << 1);
        assert_eq!(rig.read32(INTCAUSE), 0, "{word:#x}");
    }
}

/// [§3.7] Vector 0 obeys its mask like any other.
#[test]
fn a_masked_command_interrupt_waits_for_its_mask() {
    let mut rig = configured("");
    rig.write32(MSIX_TABLE + 12, 1);
    // Neither PASID nor Ignore matters to it.
    rig.write32(MSIXPERM, 0x1234_500c);
    assert_eq!(rig.command(DRAIN_ALL | REQUEST_INTERRUPT), 0);
    assert_eq!(rig.read32(INTCAUSE), 1 << 1);
    assert_eq!((rig.read64(MSIX_PBA), rig.machine.messages.len()), (1, 0));
    rig.write32(MSIX_TABLE + 12, 0);
    assert_eq!(rig.read64(MSIX_PBA), 0);
    assert_eq!(rig.machine.messages, [(0xfee0_0000, 0x100)]);
}

/// [§9.2.12, §9.2.15] Active from the write to the completion; what is written
/// meanwhile is discarded and reported.
#[test]
fn a_command_while_one_is_active_is_discarded() {
    let mut rig = configured("");
    rig.write32(GENCTRL, 1);
    rig.write32(CMD, DRAIN_ALL);
    assert_eq!(rig.read32(CMDSTATUS) & ACTIVE, ACTIVE);
    assert_eq!(rig.software_error()[0], 0);
    rig.write32(CMD, ENABLE_DEVICE | REQUEST_INTERRUPT);
    // Neither a descriptor nor a queue is to blame.
    assert_eq!(rig.software_error(), [1 | 0x52 << 8, 0, 0, 0]);
    assert_eq!(rig.read32(INTCAUSE), 1, "software error");
    rig.write32(CMD, ENABLE_DEVICE);
    assert_eq!(rig.software_error(), [3 | 0x52 << 8, 0, 0, 0], "and again");
    rig.run();
    assert_eq!(rig.read32(CMDSTATUS), 0, "of the first");
    assert_eq!(rig.read32(GENSTS), DISABLED, "not enabled");
    assert_eq!(rig.read32(INTCAUSE), 1, "the first asked for no interrupt");
    assert_eq!(rig.machine.messages.len(), 1);
    assert_eq!(rig.command(ENABLE_DEVICE), 0);
}

// ---- Draining and aborting -----------------------------------------------

/// Virtual time that the descriptors of [`two_clients`] take.
const LONG_NS: u64 = 1_000_000;
/// How closely a test looks meanwhile; Miri takes minutes for more.
const STEP_NS: u64 = if cfg!(miri) { LONG_NS / 50 } else { 100 };

/// A box with a shared queue that serves PASIDs 1 and 2, and a descriptor of
/// each that is long in coming.
fn two_clients() -> Rig {
    let shared = QueueSetup {
        dedicated: false,
        pasid: Some(0),
        ..QueueSetup::default()
    };
    let mut rig = Rig::with_queue("", shared);
    for pasid in [1, 2] {
        rig.machine.map(Some(pasid), RECORD, 0x1000, true);
    }
    rig.control(&format!("delay-completions 2 {LONG_NS}"));
    for pasid in [1, 2] {
        rig.write32(MSIXPERM + 8 * u64::from(pasid), pasid << 12 | 1 << 3);
        assert!(rig.enqueue(0, 1, &no_op(pasid, RECORD)));
    }
    rig
}

/// A no-op that interrupts by the vector of its PASID's number.
fn no_op(pasid: u32, record: u64) -> Bytes {
    Bytes::new(0, CRAV | RCR | RCI)
        .with(0, &pasid.to_le_bytes())
        .record(record)
        .with(36, &pasid.to_le_bytes()[..2])
}

fn done(rig: &Rig) -> [u8; 2] {
    [1, 2].map(|pasid| rig.machine.peek_byte(Some(pasid), RECORD))
}

/// [§3.15] What must have been completed, record and interrupt, when the
/// command is; it may wait for more.
#[test]
fn drains_wait_for_what_they_name() {
    for (word, must_be_done) in [
        (DRAIN_ALL, [true, true]),
        (DRAIN_WQ | 1, [true, true]),
        (DISABLE_WQ | 1, [true, true]),
        (DISABLE_DEVICE, [true, true]),
        (DRAIN_PASID | 1, [true, false]),
        (DRAIN_PASID | 2, [false, true]),
    ] {
        let mut rig = two_clients();
        rig.write32(CMD, word);
        rig.run_for(LONG_NS / 2);
        assert_eq!(rig.read32(CMDSTATUS) & ACTIVE, ACTIVE, "{word:#x} waits");
        assert_eq!(done(&rig), [0, 0], "{word:#x}");
        let mut steps = 0;
        while rig.read32(CMDSTATUS) & ACTIVE != 0 {
            rig.run_for(STEP_NS);
            steps += 1;
            assert!(steps < 1_000_000, "{word:#x} never completes");
        }
        assert_eq!(rig.read32(CMDSTATUS), 0, "{word:#x}");
        let (done, messages) = (done(&rig), rig.machine.messages.clone());
        for client in (0..2).filter(|client| must_be_done[*client]) {
            assert_eq!(done[client], 1, "{word:#x}: record of client {client}");
            let message = (0xfee0_0000, 0x101 + u32::try_from(client).unwrap_or(0));
            assert!(
                messages.contains(&message),
                "{word:#x}: interrupt of client {client}"
            );
        }
    }
}

/// A PASID that has nothing in the device is not waited for.
#[test]
fn draining_an_idle_pasid_waits_for_nobody() {
    let mut rig = two_clients();
    rig.write32(CMD, DRAIN_PASID | 3);
    rig.run_for(LONG_NS / 2);
    assert_eq!(rig.read32(CMDSTATUS), 0);
    assert_eq!(done(&rig), [0, 0]);
}

/// A dedicated queue's descriptors belong to the PASID in WQCFG; those of one
/// without a PASID to none.
#[test]
fn the_pasid_of_a_dedicated_queue_is_that_of_its_configuration() {
    for (own, word, waits) in [
        (Some(7), DRAIN_PASID | 7, true),
        (Some(7), DRAIN_PASID | 1, false),
        (None, DRAIN_PASID, false),
        (None, DRAIN_PASID | 1, false),
    ] {
        let mut rig = Rig::with_queue(
            "",
            QueueSetup {
                pasid: own,
                ..QueueSetup::default()
            },
        );
        rig.machine.map(own, RECORD, 0x1000, true);
        rig.control(&format!("delay-completions 1 {LONG_NS}"));
        let descriptor = Bytes::new(0, CRAV | RCR).with(0, &[1]).record(RECORD);
        rig.post(0, 1, &descriptor);
        rig.write32(CMD, word);
        rig.run_for(LONG_NS / 2);
        assert_eq!(
            rig.read32(CMDSTATUS) & ACTIVE != 0,
            waits,
            "{own:?} {word:#x}"
        );
        rig.run();
        assert_eq!(rig.machine.peek_byte(own, RECORD), 1);
    }
}

/// [§3.15] The device goes on accepting during Drain All and Drain PASID, and
/// during Drain WQ on other queues.
#[test]
fn drains_do_not_close_queues_that_they_do_not_name() {
    for word in [DRAIN_ALL, DRAIN_PASID | 1, DRAIN_WQ | 1, DISABLE_WQ | 1] {
        let mut rig = Rig::new("");
        for queue in 0..2 {
            rig.configure(queue, QueueSetup::default());
        }
        rig.enable(&[0, 1]);
        rig.machine.map(None, RECORD, 0x1000, true);
        rig.control(&format!("delay-completions 1 {LONG_NS}"));
        rig.post(0, 1, &Bytes::new(0, CRAV | RCR).record(RECORD));
        rig.write32(CMD, word);
        rig.run_for(1_000);
        rig.post(1, 1, &Bytes::new(0, CRAV | RCR).record(RECORD + 32));
        rig.run();
        assert_eq!(rig.read32(CMDSTATUS), 0, "{word:#x}");
        for record in [RECORD, RECORD + 32] {
            assert_eq!(rig.machine.peek_byte(None, record), 1, "{word:#x}");
        }
    }
}

/// [§3.15, facts 3.3] Abandoned descriptors have no record and no interrupt,
/// then or ever; those that the command does not name have theirs.
#[test]
fn aborts_abandon_what_they_name() {
    for (word, left) in [
        (ABORT_ALL, [0, 0]),
        (ABORT_WQ | 1, [0, 0]),
        (RESET_WQ | 1, [0, 0]),
        (RESET_DEVICE, [0, 0]),
        (ABORT_PASID | 1, [0, 1]),
        (ABORT_PASID | 2, [1, 0]),
        (ABORT_PASID | 3, [1, 1]),
    ] {
        // In the queue still, and in an engine already.
        for head_start_ns in [0, 10_000] {
            let mut rig = two_clients();
            rig.run_for(head_start_ns);
            rig.write32(CMD, word);
            rig.run_for(LONG_NS / 2);
            assert_eq!(rig.read32(CMDSTATUS), 0, "{word:#x} does not wait");
            rig.run();
            assert_eq!(done(&rig), left, "{word:#x} after {head_start_ns} ns");
            let survivors: Vec<u32> = (0..2)
                .filter(|client| left[*client as usize] == 1)
                .collect();
            let messages: Vec<u32> = rig
                .machine
                .messages
                .iter()
                .map(|message| message.1 - 0x101)
                .collect();
            assert_eq!(messages, survivors, "{word:#x} after {head_start_ns} ns");
            let abandoned = rig.dsa.queue_counters()[0].abandoned;
            assert_eq!(abandoned, 2 - survivors.len() as u64, "{word:#x}");
        }
    }
}

/// A batch that is aborted while its members are under way writes no more.
#[test]
fn an_aborted_batch_writes_no_records() {
    for word in [ABORT_ALL, ABORT_WQ | 1] {
        let mut rig = Rig::with_queue("", QueueSetup::default());
        rig.machine.map(None, RECORD, 0x2000, true);
        for member in 0..8 {
            let descriptor = Bytes::new(0, CRAV | RCR).record(RECORD + 32 * (member + 1));
            rig.machine
                .poke(None, RECORD + 0x1000 + 64 * member, &descriptor.0);
        }
        rig.control(&format!("delay-completions 8 {LONG_NS}"));
        let batch = Bytes::new(1, CRAV | RCR)
            .record(RECORD)
            .source(RECORD + 0x1000)
            .size(8);
        rig.post(0, 1, &batch);
        rig.run_for(LONG_NS / 2);
        rig.write32(CMD, word);
        rig.run_for(LONG_NS / 4);
        assert_eq!(rig.read32(CMDSTATUS), 0, "{word:#x}");
        let records = rig.machine.peek(None, RECORD, 32 * 9);
        rig.run();
        assert_eq!(rig.machine.peek(None, RECORD, 32 * 9), records, "{word:#x}");
        assert_eq!(records[0], 0, "{word:#x}: the batch has no record");
    }
}

// ---- States on the way, and what is left ---------------------------------

/// [§9.2.10, §9.2.24 bytes 27:24] State 2 is for the commands that end in
/// Disabled; meanwhile nothing is accepted.
#[test]
fn a_device_or_queue_that_is_going_down_says_so_and_takes_nothing() {
    for (word, device, queue) in [
        (DISABLE_DEVICE, DRAINING, DRAINING),
        (RESET_DEVICE, DRAINING, DRAINING),
        (DISABLE_WQ | 1, ENABLED, DRAINING),
        (RESET_WQ | 1, ENABLED, DRAINING),
    ] {
        let mut rig = two_clients();
        rig.write32(CMD, word);
        assert_eq!(rig.read32(CMDSTATUS) & ACTIVE, ACTIVE);
        assert_eq!(rig.read32(GENSTS), device, "{word:#x}");
        assert_eq!(queue_state(&mut rig, 0), queue, "{word:#x}");
        assert!(
            !rig.enqueue(0, 1, &no_op(1, RECORD + 32)),
            "{word:#x}: retry"
        );
        rig.run();
        let down = if device == DRAINING {
            DISABLED
        } else {
            ENABLED
        };
        assert_eq!(rig.read32(GENSTS), down, "{word:#x}");
        assert_eq!(queue_state(&mut rig, 0), DISABLED, "{word:#x}");
        assert!(
            !rig.enqueue(0, 1, &no_op(1, RECORD + 32)),
            "{word:#x}: retry"
        );
        rig.run();
        assert_eq!(rig.machine.peek_byte(Some(1), RECORD + 32), 0, "{word:#x}");
    }
}

#[test]
fn drains_and_aborts_leave_queues_enabled() {
    for word in [
        DRAIN_ALL,
        ABORT_ALL,
        DRAIN_WQ | 1,
        ABORT_WQ | 1,
        DRAIN_PASID | 1,
        ABORT_PASID | 1,
    ] {
        let mut rig = two_clients();
        rig.write32(CMD, word);
        assert_eq!(
            queue_state(&mut rig, 0),
            ENABLED,
            "{word:#x}: no state for it"
        );
        rig.run();
        assert_eq!(rig.read32(GENSTS), ENABLED, "{word:#x}");
        assert_eq!(queue_state(&mut rig, 0), ENABLED, "{word:#x}");
        assert!(rig.enqueue(0, 1, &no_op(1, RECORD + 32)), "{word:#x}");
        rig.run();
        assert_eq!(rig.machine.peek_byte(Some(1), RECORD + 32), 1, "{word:#x}");
    }
}

/// WQCFG of the first queue, but for state and occupancy.
fn configuration(rig: &mut Rig) -> Vec<u32> {
    let words = 8 << (rig.read64(0x20) >> 24 & 0xf);
    (0..words)
        .filter(|word| *word != 6)
        .map(|word| rig.read32(WQCFG + word * 4))
        .collect()
}

/// [§3.15, facts 11.16]
#[test]
fn disable_keeps_a_configuration_and_reset_clears_all_but_the_size() {
    let setup = QueueSetup {
        pasid: Some(5),
        threshold: 3,
        ..QueueSetup::default()
    };
    for enabled in [true, false] {
        let mut rig = Rig::new("device-id=0x11fb");
        rig.configure(0, setup);
        rig.write32(WQCFG + 16, 1);
        rig.write32(WQCFG + 20, 4);
        rig.write32(WQCFG + 32, 1);
        let before = configuration(&mut rig);
        rig.enable(&[]);
        if enabled {
            for command in [DISABLE_WQ | 1, DISABLE_DEVICE] {
                assert_eq!(rig.command(ENABLE_WQ), 0);
                assert_eq!(rig.command(command), 0);
                assert_eq!(configuration(&mut rig), before, "{command:#x}");
            }
            rig.enable(&[0]);
        }
        assert_eq!(rig.command(RESET_WQ | 1), 0);
        assert_eq!(queue_state(&mut rig, 0), DISABLED);
        let operations = rig.read32(0x40);
        let beyond = rig.read32(0x44);
        let mut after = vec![16, 0, 0, 0, 0, 0, 0, operations, beyond];
        after.resize(before.len(), 0);
        assert_eq!(configuration(&mut rig), after, "enabled before: {enabled}");
    }
}

/// Facts 2.16: what Reset Device clears stands in `registers.rs`; this is what
/// it keeps.
#[test]
fn reset_device_keeps_errors_and_the_msix_table() {
    let mut rig = Rig::with_queue("event-log=on", QueueSetup::default());
    rig.write32(EVLSTATUS, 5);
    rig.write32(CMD, DRAIN_ALL);
    rig.write32(CMD, DRAIN_ALL);
    rig.run();
    let table: Vec<u64> = (0..18)
        .map(|quad| rig.read64(MSIX_TABLE + quad * 8))
        .collect();
    assert_eq!(rig.command(RESET_DEVICE | REQUEST_INTERRUPT), 0);
    assert_eq!(rig.read32(GENSTS), DISABLED);
    assert_eq!(rig.read64(SWERROR), 1 | 0x52 << 8);
    assert_eq!(rig.read64(EVLSTATUS), 5);
    let kept: Vec<u64> = (0..18)
        .map(|quad| rig.read64(MSIX_TABLE + quad * 8))
        .collect();
    assert_eq!(kept, table);
    // INTCAUSE is cleared first, and CMD with its request is kept.
    assert_eq!(rig.read32(INTCAUSE), 1 << 1);
    assert_eq!(rig.machine.messages, [(0xfee0_0000, 0x100)]);

    // Its configuration is gone, and the device as good as new.
    assert_eq!(rig.read32(IMS + 12), 1);
    rig.configure(0, QueueSetup::default());
    rig.enable(&[0]);
    rig.machine.map(None, RECORD, 0x1000, true);
    rig.post(0, 1, &Bytes::new(0, CRAV | RCR).record(RECORD));
    rig.run();
    assert_eq!(rig.machine.peek_byte(None, RECORD), 1);
}

// ---- Interrupt handles ---------------------------------------------------

/// [§9.2.12 Table 9-5, Table 5-8] Every entry has a handle of its own; an index
/// beyond the table has none.
#[test]
fn handles_are_handed_out_for_every_entry() {
    let mut rig = configured("handle-commands=on;ims=256");
    let mut seen = std::collections::BTreeSet::new();
    for entry in (0..9).chain((0..256).map(|slot| OF_IMS | slot)) {
        let status = rig.command(REQUEST_HANDLE | entry);
        assert_eq!(status & 0xff00_00ff, 0, "entry {entry:#x}");
        assert!(
            seen.insert(status >> 8),
            "entry {entry:#x}: a handle given twice"
        );
    }
    for entry in [9, 0xffff, OF_IMS | 256, OF_IMS | 0xffff] {
        assert_eq!(
            rig.command(REQUEST_HANDLE | entry) & 0xff,
            0x41,
            "entry {entry:#x}"
        );
        assert_eq!(
            rig.command(RELEASE_HANDLE | entry) & 0xff,
            0x41,
            "entry {entry:#x}"
        );
    }
    let mut rig = configured("handle-commands=on;ims=0");
    assert_eq!(rig.command(REQUEST_HANDLE | OF_IMS) & 0xff, 0x41, "no IMS");
}

/// [Table 5-8 code 0x42] Those that are alive count; a release makes room.
#[test]
fn handles_can_run_out() {
    let mut rig = configured("handle-commands=on;handles=2");
    let first = rig.command(REQUEST_HANDLE | 1);
    let second = rig.command(REQUEST_HANDLE | OF_IMS | 1);
    assert_eq!((first | second) & 0xff, 0);
    assert_eq!(rig.command(REQUEST_HANDLE | 2), 0x42);
    assert_eq!(rig.command(REQUEST_HANDLE | 1), first, "the same again");
    assert_eq!(rig.command(RELEASE_HANDLE | 1), 0);
    assert_eq!(rig.command(REQUEST_HANDLE | 2) & 0xff, 0);
    assert_eq!(rig.command(REQUEST_HANDLE | 1), 0x42);
}

/// Released by index, as the specification says, or by handle, as Linux does
/// (facts 11.2); once, and of the right table.
#[test]
fn a_handle_can_be_released_once() {
    for (table, other) in [(0, OF_IMS), (OF_IMS, 0)] {
        for by_handle in [false, true] {
            let mut rig = configured("handle-commands=on");
            assert_eq!(
                rig.command(RELEASE_HANDLE | table | 3),
                0x41,
                "never requested"
            );
            let handle = rig.command(REQUEST_HANDLE | table | 3) >> 8;
            assert_eq!(
                rig.command(RELEASE_HANDLE | other | 3),
                0x41,
                "of the other table"
            );
            let name = if by_handle { handle } else { 3 };
            assert_eq!(rig.command(RELEASE_HANDLE | table | name), 0);
            assert_eq!(
                rig.command(RELEASE_HANDLE | table | name),
                0x41,
                "no longer there"
            );
        }
    }
}

/// [§3.7] After these a descriptor that names the handle ends with 0x19.
#[test]
fn a_handle_lives_until_its_release_or_a_reset() {
    let cases: [(u8, &str, Change); 4] = [
        (0x01, "Disable Device", |rig| {
            assert_eq!(rig.command(DISABLE_DEVICE), 0)
        }),
        (0x01, "Reset WQ", |rig| {
            assert_eq!(rig.command(RESET_WQ | 1), 0)
        }),
        (0x19, "Release", |rig| {
            assert_eq!(rig.command(RELEASE_HANDLE | 1), 0)
        }),
        (0x19, "Reset Device", |rig| {
            assert_eq!(rig.command(RESET_DEVICE), 0)
        }),
    ];
    for (status, title, change) in cases {
        let mut rig = configured("handle-commands=on");
        rig.enable(&[0]);
        let handle = rig.command(REQUEST_HANDLE | 1) >> 8;
        change(&mut rig);
        if queue_state(&mut rig, 0) == DISABLED {
            if rig.read32(GENSTS) == ENABLED {
                assert_eq!(rig.command(DISABLE_DEVICE), 0);
            }
            rig.configure(0, QueueSetup::default());
            rig.enable(&[0]);
        }
        rig.machine.map(None, RECORD, 0x1000, true);
        let descriptor = Bytes::new(0, CRAV | RCR | RCI)
            .record(RECORD)
            .with(36, &handle.to_le_bytes()[..2]);
        rig.post(0, 1, &descriptor);
        rig.run();
        assert_eq!(rig.machine.peek_byte(None, RECORD), status, "after {title}");
        assert_eq!(
            rig.machine.messages.len(),
            usize::from(status == 1),
            "after {title}"
        );
    }
}
