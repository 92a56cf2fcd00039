//! The Command register: every command, every error code of Table 5-8.
#![allow(clippy::indexing_slicing, reason = "in a test, a panic is the failure")]

mod support;

use support::{Bytes, CRAV, ENABLE_DEVICE, ENABLE_WQ, QueueSetup, RCI, RCR, Rig};

const RECORD: u64 = 0x30_0000;
const WQCFG: u64 = 0x4000;
const GRPCFG: u64 = 0x400;
const REQUEST_INTERRUPT: u32 = 1 << 31;
const DISABLE_DEVICE: u32 = 2 << 20;
const DRAIN_ALL: u32 = 3 << 20;
const ABORT_ALL: u32 = 4 << 20;
const RESET_DEVICE: u32 = 5 << 20;
const DISABLE_WQ: u32 = 7 << 20;
const DRAIN_WQ: u32 = 8 << 20;
const ABORT_WQ: u32 = 9 << 20;
const RESET_WQ: u32 = 10 << 20;
const DRAIN_PASID: u32 = 11 << 20;
const ABORT_PASID: u32 = 12 << 20;

/// A device that could be enabled, with queue 0 in group 0.
fn configured(options: &str) -> Rig {
    let mut rig = Rig::new(options);
    rig.configure(0, QueueSetup::default());
    rig
}

/// What a test case does to a device before the command under test.
type Change = fn(&mut Rig);

/// [341204 §5.1, Table 5-8] What Enable Device refuses.
#[test]
fn enable_device_refuses_each_wrong_configuration() {
    let cases: [(u32, Change); 15] = [
        (0x10, |rig| rig.enable(&[])),
        (0x12, |rig| {
            rig.config_write(0x04, 2, 2);
        }),
        // PRS enabled with no page request allowed, and with too many.
        (0x13, |rig| {
            rig.config_write(0x244, 2, 1);
        }),
        (0x13, |rig| {
            rig.config_write(0x244, 2, 1);
            rig.config_write(0x24c, 4, 0x201);
        }),
        (0x14, |rig| rig.write32(WQCFG, 129)),
        // Queues without engines; engines without queues.
        (0x15, |rig| rig.write64(GRPCFG + 0x20, 0)),
        (0x15, |rig| rig.write64(GRPCFG + 0x40 + 0x20, 2)),
        // A queue in two groups; one with entries in none; one without in one.
        (0x16, |rig| {
            rig.write64(GRPCFG + 0x40, 1);
            rig.write64(GRPCFG + 0x40 + 0x20, 2);
        }),
        (0x16, |rig| rig.write32(WQCFG + 32, 4)),
        (0x16, |rig| rig.write64(GRPCFG, 3)),
        // An engine in two groups.
        (0x17, |rig| {
            rig.write32(WQCFG + 32, 4);
            rig.write64(GRPCFG + 0x40, 2);
            rig.write64(GRPCFG + 0x40 + 0x20, 1);
        }),
        // Allowed read buffers: 3 for an engine, less than reserved, more than
        // there are; the global limit beyond the total.
        (0x18, |rig| rig.write64(GRPCFG + 0x28, 3 << 20)),
        (0x18, |rig| rig.write64(GRPCFG + 0x28, 8 << 20 | 9 << 8)),
        (0x18, |rig| rig.write64(GRPCFG + 0x28, 97 << 20)),
        (0x18, |rig| rig.write32(0x80, 97)),
    ];
    for (index, (code, change)) in cases.into_iter().enumerate() {
        let mut rig = configured("");
        change(&mut rig);
        let state = rig.read32(0x90);
        assert_eq!(rig.command(ENABLE_DEVICE), code, "case {index}");
        assert_eq!(rig.read32(0x90), state, "case {index}: state unchanged");
    }
    let mut rig = configured("");
    assert_eq!(rig.command(ENABLE_DEVICE), 0);
    assert_eq!(rig.read32(0x90), 1);
}

/// [341204 §5.1] The event log, where there is one.
#[test]
fn enable_device_refuses_a_wrong_event_log() {
    let with_log = |size: u64, base: u64, pasid_enable: u64| {
        let mut rig = configured("event-log=on");
        rig.write32(0x80, 96 | 1 << 13);
        rig.write64(0xe0, base | pasid_enable);
        rig.write64(0xe8, size);
        rig
    };
    assert_eq!(with_log(63, 0x1000, 0).command(ENABLE_DEVICE), 0x19);
    let top = 0xffff_ffff_ffff_f000;
    assert_eq!(with_log(65, top, 0).command(ENABLE_DEVICE), 0x19);
    assert_eq!(with_log(64, top, 0).command(ENABLE_DEVICE), 0);
    let mut rig = with_log(64, 0x1000, 1);
    rig.config_write(0x236, 2, 0);
    assert_eq!(rig.command(ENABLE_DEVICE), 0x1b, "PASID without PASID");
    // Privileged without a PASID.
    assert_eq!(with_log(64, 0x1000, 2).command(ENABLE_DEVICE), 0x1b);
}

/// [341204 §5.2, Table 5-8] What Enable WQ refuses. Each case changes one
/// word of WQCFG 0 (or something else) while the device is Enabled.
#[test]
fn enable_wq_refuses_each_wrong_configuration() {
    let word2 = |value: u32| value | 10 << 4;
    let cases: [(u32, &str, u64, u32); 11] = [
        (0x23, "", 8, 1),
        (0x25, "", 8, word2(1 | 1 << 1)),
        (0x26, "", 8, word2(0)),
        (0x27, "", 12, 31),
        (0x27, "", 12, 31 | 11 << 5),
        (0x2d, "device-id=0x11fb", 32, 1 << 0x0b),
        (0x2e, "device-id=0x11fb", 8, word2(1 | 1 << 3)),
        // An occupancy interrupt to an MSI-X entry beyond the table, or by a
        // handle that nobody requested.
        (0x2b, "", 16, 9),
        (0x2b, "ims=0", 16, 1 << 16),
        (0x2b, "handle-commands=on", 16, 1),
        (0x2a, "", 8, word2(1 | 1 << 28 | 1 << 29)),
    ];
    for (code, options, offset, value) in cases {
        let mut rig = configured(options);
        if code == 0x2a {
            rig.config_write(0x236, 2, 1);
        }
        rig.enable(&[]);
        rig.write32(WQCFG + offset, value);
        if code == 0x2b {
            rig.write32(WQCFG + 20, 1 << 16);
        }
        let case = format!("code {code:#x} {options} word {offset}");
        assert_eq!(rig.command(ENABLE_WQ), code, "{case}");
        assert_eq!(rig.read32(WQCFG + 24) >> 30, 0, "{case}: still disabled");
    }

    let mut rig = configured("");
    assert_eq!(rig.command(ENABLE_WQ), 0x20, "device not Enabled");
    rig.config_write(0x236, 2, 0);
    rig.enable(&[]);
    assert_eq!(rig.command(ENABLE_WQ | 8), 0x02, "no such queue");
    assert_eq!(rig.command(ENABLE_WQ | 1), 0x22, "queue without entries");
    rig.write32(WQCFG + 8, word2(1 | 1 << 28));
    assert_eq!(
        rig.command(ENABLE_WQ),
        0x26,
        "PASID while PCIe PASID is off"
    );
    rig.write32(WQCFG + 8, word2(1));
    assert_eq!(rig.command(ENABLE_WQ), 0);
    assert_eq!(rig.read32(WQCFG + 24) >> 30, 1, "enabled");
    assert_eq!(rig.command(ENABLE_WQ), 0x21, "not Disabled");
}

#[test]
fn other_commands_refuse_what_they_must() {
    let mut rig = configured("");
    for (word, code) in [
        (0, 0x01),
        (13 << 20, 0x01),
        (31 << 20, 0x01),
        (DISABLE_DEVICE, 0x31),
        (DRAIN_ALL | 1 << 25, 0x04),
        (DRAIN_ALL | 1, 0x04),
        (ENABLE_WQ | 1 << 8, 0x04),
        (DISABLE_WQ | 1, 0x32),
        (DRAIN_WQ | 1, 0x32),
        (ABORT_WQ | 1, 0x32),
        (DISABLE_WQ | 1 << 16 | 1, 0x02),
        (RESET_WQ | 1 << 8, 0x02),
        (RESET_WQ | 1, 0),
    ] {
        assert_eq!(rig.command(word), code, "CMD {word:#x}");
    }
    let mut rig = configured("handle-commands=on");
    for (word, code) in [
        (13 << 20 | 9, 0x41),
        (13 << 20 | 1 << 16 | 2048, 0x41),
        (14 << 20 | 1 << 16 | 5, 0x41),
        (13 << 20 | 1 << 17, 0x04),
        (15 << 20, 0x01),
    ] {
        assert_eq!(rig.command(word), code, "CMD {word:#x}");
    }
}

/// Table 5-8, 0x42. The tables together have more entries than there are
/// handles only on the largest device.
#[test]
fn handles_are_handed_out_for_every_entry() {
    let mut rig = configured("handle-commands=on;ims=256");
    let mut seen = std::collections::BTreeSet::new();
    for entry in (0..9).chain((0..256).map(|slot| 1 << 16 | slot)) {
        let answer = rig.command(13 << 20 | entry);
        assert_eq!(answer & 0xff, 0);
        assert!(seen.insert(answer >> 8), "handle given twice");
    }
    rig.control("fail-command 0x42");
    assert_eq!(rig.command(13 << 20), 0x42);
}

/// [341204 §9.2.12] The interrupt follows success and failure alike, and only
/// where it was asked for.
#[test]
fn a_command_interrupts_only_if_asked() {
    for (word, code) in [(DRAIN_ALL, 0), (DISABLE_DEVICE, 0x31)] {
        let mut rig = configured("");
        assert_eq!(rig.command(word), code);
        assert_eq!((rig.read32(0x98), rig.machine.messages.len()), (0, 0));
        assert_eq!(rig.command(word | REQUEST_INTERRUPT), code);
        assert_eq!(rig.read32(0x98), 1 << 1);
        assert_eq!(rig.machine.messages, [(0xfee0_0000, 0x100)]);
        rig.write32(0x98, 1 << 1);
        assert_eq!(rig.read32(0x98), 0, "cleared by writing one");
    }
    // Also on a reset, which clears INTCAUSE first.
    let mut rig = configured("");
    assert_eq!(rig.command(RESET_DEVICE | REQUEST_INTERRUPT), 0);
    assert_eq!(rig.read32(0x98), 1 << 1);
}

#[test]
fn a_command_while_one_is_active_is_dropped() {
    let mut rig = configured("");
    rig.write32(0xa0, DRAIN_ALL);
    assert_eq!(rig.read32(0xa8), 1 << 31);
    rig.write32(0xa0, ENABLE_DEVICE);
    rig.run();
    assert_eq!(rig.read32(0x90), 0, "not enabled");
    assert_eq!(rig.software_error()[0], 1 | 0x52 << 8);
}

/// A box with a shared queue that serves PASIDs 1 and 2, and a descriptor of
/// each that is long in coming.
fn two_clients() -> Rig {
    let setup = QueueSetup {
        dedicated: false,
        pasid: Some(0),
        ..QueueSetup::default()
    };
    let mut rig = Rig::with_queue("", setup);
    rig.write64(GRPCFG + 0x20, 0);
    for pasid in [1, 2] {
        rig.machine.map(Some(pasid), RECORD, 0x1000, true);
    }
    rig.control("delay-completions 2 1000000");
    for pasid in [1, 2] {
        let descriptor = Bytes::new(0, CRAV | RCR | RCI)
            .pasid(pasid)
            .record(RECORD)
            .handle(u16::try_from(pasid).unwrap_or(0));
        rig.write32(0x800 + 8 * u64::from(pasid), pasid << 12 | 1 << 3);
        assert!(rig.enqueue(0, 1, &descriptor));
    }
    rig
}

fn done(rig: &Rig) -> [u8; 2] {
    [1, 2].map(|pasid| rig.machine.peek_byte(Some(pasid), RECORD))
}

#[test]
fn drains_wait_for_what_they_name() {
    for (word, waits_for) in [
        (DRAIN_ALL, [1, 1]),
        (DRAIN_WQ | 1, [1, 1]),
        (DISABLE_WQ | 1, [1, 1]),
        (DISABLE_DEVICE, [1, 1]),
        (DRAIN_PASID | 1, [1, 0]),
    ] {
        let mut rig = two_clients();
        rig.write32(0xa0, word);
        rig.run_for(500_000);
        assert_eq!(rig.read32(0xa8), 1 << 31, "{word:#x} waits");
        assert_eq!(done(&rig), [0, 0]);
        while rig.read32(0xa8) == 1 << 31 {
            rig.run_for(1_000);
        }
        assert_eq!(done(&rig), waits_for, "{word:#x}");
    }
}

/// [341204 chapter 4, facts 3.3] No record and no interrupt of an abandoned
/// descriptor comes after the command has completed.
#[test]
fn aborts_abandon_what_they_name() {
    for (word, left) in [
        (ABORT_ALL, [0, 0]),
        (ABORT_WQ | 1, [0, 0]),
        (RESET_WQ | 1, [0, 0]),
        (RESET_DEVICE, [0, 0]),
        (ABORT_PASID | 1, [0, 1]),
    ] {
        let mut rig = two_clients();
        rig.run_for(10_000);
        rig.write32(0xa0, word);
        rig.run_for(1_000);
        assert_eq!(rig.read32(0xa8), 0, "{word:#x} does not wait");
        rig.run();
        assert_eq!(done(&rig), left, "{word:#x}");
        let survivors = left.iter().filter(|status| **status == 1).count();
        assert_eq!(rig.machine.messages.len(), survivors, "{word:#x}");
        let counters = rig.dsa.queue_counters()[0];
        assert_eq!(counters.abandoned, 2 - survivors as u64);
    }
}

#[test]
fn disable_keeps_the_configuration_and_reset_clears_it() {
    let mut rig = Rig::with_queue("", QueueSetup::default());
    let before = rig.read32(WQCFG + 8);
    assert_eq!(rig.command(DISABLE_WQ | 1), 0);
    assert_eq!(rig.read32(WQCFG + 8), before);
    assert_eq!(rig.command(ENABLE_WQ), 0);
    assert_eq!(rig.command(RESET_WQ | 1), 0);
    assert_eq!(rig.read32(WQCFG), 16, "all but the size");
    assert_eq!(rig.read32(WQCFG + 4), 0);
    assert_eq!(rig.read32(WQCFG + 8), 0);
}

/// Facts 2.16: what Reset Device clears, and what it keeps.
#[test]
fn reset_device_keeps_what_the_administrator_needs() {
    let mut rig = Rig::with_queue("", QueueSetup::default());
    rig.write32(0x88, 3);
    rig.write32(0x808, 0x1234_5008);
    rig.write32(0x1_000c, 0x1234_5009);
    rig.config_write(0x04, 2, 2);
    assert_eq!(rig.read32(0x90), 3 | 1 << 2, "halted");
    rig.config_write(0x04, 2, 6);
    let error = rig.software_error();
    assert_eq!(error[0], 1 | 0x51 << 8);
    // This halt wants a function level reset; a device that is not halted
    // shows what the command keeps.
    rig.config_write(0x48, 2, 0x8000);
    rig.dsa.reset();
    assert_eq!(rig.software_error(), [0; 4], "cleared by FLR");

    let mut rig = Rig::with_queue("", QueueSetup::default());
    rig.write32(0x88, 3);
    rig.write32(0x808, 0x1234_5008);
    rig.write32(0x1_000c, 0x1234_5009);
    rig.control("queue-full 0 on");
    rig.post(0, 1, &Bytes::new(0, 0));
    assert_eq!(rig.command(RESET_DEVICE), 0);
    assert_eq!(rig.software_error()[0], 1 | 8 | 0x53 << 8, "SWERROR stays");
    assert_eq!(rig.read32(0x2018), 0x101, "and so does the MSI-X table");
    for (offset, value) in [
        (0x80, 96),
        (0x88, 0),
        (0x90, 0),
        (0x98, 0),
        (0x808, 0),
        (GRPCFG, 0),
        (WQCFG, 0),
        (WQCFG + 8, 0),
        (0x1_000c, 1),
    ] {
        assert_eq!(rig.read32(offset), value, "{offset:#x}");
    }
}
