//! What silicon bears and a driver should not do is recorded; what a careful
//! driver does is not.
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

mod support;

use support::registers as r;
use support::{
    Bytes, LIMITED_IMS, LIMITED_MSIX, QueueSetup, Rig, batch, memory_move, message, no_op,
};

const LIST: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;

/// Queue 0 enabled, and queue 1 configured.
fn ready() -> Rig {
    let mut rig = Rig::new("event-log=on");
    rig.allow_user_interrupts();
    rig.configure(0, QueueSetup::default());
    rig.configure(1, QueueSetup::default());
    rig.enable(&[0]);
    rig.machine.map(None, DATA, 0x4000, true);
    rig.machine.map(None, RECORD, 0x1000, true);
    rig
}

/// What a careless driver does.
type Careless = fn(&mut Rig);

/// Each kind, and the words that it is recorded with.
const KINDS: [(&str, Careless); 24] = [
    ("not naturally aligned", |rig| {
        rig.write(r::GENCTRL + 2, 4, 0)
    }),
    ("not naturally aligned", |rig| {
        rig.read(r::GENCTRL, 3);
    }),
    ("no writable register", |rig| rig.write32(r::GENCAP, 1)),
    ("no writable register", |rig| rig.write32(0x300, 1)),
    ("GENCTRL: reserved bits", |rig| {
        rig.write32(r::GENCTRL, 0x80)
    }),
    ("INTCAUSE: reserved bits", |rig| {
        rig.write32(r::INTCAUSE, 0x40)
    }),
    ("GENCFG: bits", |rig| {
        rig.command(r::DISABLE_DEVICE);
        rig.write32(r::GENCFG, 0x100 | 96 | r::USER_INTERRUPTS);
    }),
    ("GENCFG: bits", |rig| rig.write32(r::GENCFG, 0)),
    ("EVLCFG: written", |rig| rig.write32(r::EVLCFG, 0x1000)),
    ("GRPCFG 0 word 0", |rig| rig.write32(r::GRPCFG, 0)),
    ("GRPCFG 0", |rig| {
        rig.command(r::DISABLE_DEVICE);
        rig.write32(r::GRPCFG, 0x100);
    }),
    ("WQCFG 0 word 2", |rig| rig.write32(r::WQCFG + 8, 0)),
    ("WQCFG 0 word 0", |rig| rig.write32(r::WQCFG, 1)),
    ("WQCFG 1 word 7", |rig| rig.write32(r::WQCFG + 32 + 28, 1)),
    ("MSIXPERM 1: reserved bits", |rig| {
        rig.write32(r::msixperm(1), 1)
    }),
    ("IMS 0: reserved bits", |rig| {
        rig.write32(r::ims(0) + r::CONTROL, 0x11)
    }),
    ("IMS 0: message address outside", |rig| {
        rig.write32(r::ims(0), 0xfed0_0000)
    }),
    ("outside 0xFEExxxxx", |rig| {
        rig.write64(r::ims(0), 0x1_fee0_0000)
    }),
    ("address or data changed while unmasked", |rig| {
        rig.write32(r::ims(0) + r::CONTROL, 0);
        rig.write32(r::ims(0) + 8, 5);
    }),
    ("portals take 64 bytes", |rig| {
        rig.dsa.mmio_write(2, 0x1000, 8, 0, &mut rig.machine);
    }),
    ("portals take 64 bytes", |rig| {
        rig.write(r::DUMMY_PORTAL, 8, 0)
    }),
    ("CMD: written while a command is active", |rig| {
        rig.start(r::DRAIN_ALL);
        rig.start(r::DRAIN_ALL);
    }),
    ("CMD: written with less than 32 bits", |rig| {
        rig.write(r::CMD, 2, 0)
    }),
    ("BME, PASID, ATS or PRS enable changed", |rig| {
        rig.config_write(r::PCICMD, 2, 0b010);
    }),
];

#[test]
fn each_kind_is_recorded_with_what_was_done() {
    for (words, act) in KINDS {
        let mut rig = ready();
        assert_eq!(rig.dsa.violations(), [] as [String; 0]);
        act(&mut rig);
        let found = rig.dsa.violations();
        assert_eq!(found.len(), 1, "{words}: {found:?}");
        assert!(found[0].contains(words), "{words}: {found:?}");
        assert!(!found[0].contains('\n'), "{found:?}");
    }
}

/// Records of 32 bytes that overlap, of descriptors in progress together, in
/// one address space.
#[test]
fn overlapping_completion_records_are_recorded() {
    for (first, second, overlap) in [
        (RECORD, RECORD, true),
        (RECORD, RECORD + 32, false),
        (RECORD + 32, RECORD, false),
        (RECORD, RECORD + 16, true),
        (RECORD + 31, RECORD, true),
    ] {
        let mut rig = ready();
        for record in [first, second] {
            rig.post(0, LIMITED_MSIX, &no_op(record));
        }
        rig.run();
        assert_eq!(rig.dsa.violations().len(), usize::from(overlap));
        // One after the other is fine.
        rig.control("clear-violations");
        for _ in 0..2 {
            rig.post(0, LIMITED_MSIX, &no_op(RECORD));
            rig.run();
        }
        assert_eq!(rig.dsa.violations(), [] as [String; 0]);
    }
    // The same address in two address spaces is two places.
    let mut rig = Rig::with_queue("", QueueSetup::shared());
    for pasid in [1, 2] {
        rig.machine.map(Some(pasid), RECORD, 0x1000, true);
        assert!(rig.enqueue(0, LIMITED_MSIX, &no_op(RECORD).trusted(pasid)));
    }
    rig.run();
    assert_eq!(rig.dsa.violations(), [] as [String; 0]);
}

/// Members of batches claim records too, and let go of them when they are
/// abandoned.
#[test]
fn records_of_batches_are_claimed_and_released() {
    let mut rig = ready();
    rig.machine.map(None, LIST, 0x1000, true);
    for index in 0..2 {
        rig.machine
            .poke(None, LIST + 64 * index, &no_op(RECORD + 32).0);
    }
    rig.command(r::DISABLE_DEVICE);
    rig.write64(r::GRPCFG + r::ENGINES, 0b11);
    rig.enable(&[0]);
    rig.post(0, LIMITED_MSIX, &batch(LIST, 2, RECORD));
    rig.run();
    assert_eq!(rig.dsa.violations().len(), 1, "{:?}", rig.dsa.violations());
    rig.control("clear-violations");
    for abort in [r::ABORT_ALL, r::ABORT_WQ | 1] {
        rig.post(0, LIMITED_MSIX, &batch(LIST, 2, RECORD));
        rig.post(0, LIMITED_MSIX, &no_op(RECORD + 64));
        rig.command(abort);
    }
    rig.post(0, LIMITED_MSIX, &no_op(RECORD));
    rig.post(0, LIMITED_MSIX, &no_op(RECORD + 32));
    rig.post(0, LIMITED_MSIX, &no_op(RECORD + 64));
    rig.run();
    assert_eq!(rig.dsa.violations(), [] as [String; 0]);
}

/// The life of a device under a careful driver, each kind of queue and portal
/// and the event log with it.
#[test]
fn a_careful_driver_causes_none() {
    for options in [
        "",
        "device-id=0x11fb",
        "device-id=0x1212",
        "configurable=off",
    ] {
        let mut rig = Rig::new(options);
        rig.enable_ats();
        rig.command(r::RESET_DEVICE);
        let configurable = rig.read64(r::GENCAP) >> 31 & 1 == 1;
        let has_log = rig.read64(r::GENCAP) >> 13 & 0b11 != 0;
        let has_handles = rig.read32(r::CMDCAP) >> 13 & 1 == 1;
        rig.write32(r::GENCTRL, 0b011);
        if configurable {
            rig.allow_user_interrupts();
            rig.configure(0, QueueSetup::default());
            rig.configure(1, QueueSetup::shared());
        }
        if has_log {
            rig.machine.map(None, LIST + 0x1000, 0x1000, true);
            rig.write64(r::EVLCFG, LIST + 0x1000);
            rig.write64(r::EVLCFG + 8, 64);
            let gencfg = rig.read32(r::GENCFG);
            rig.write32(r::GENCFG, gencfg | r::EVENT_LOG_ENABLE);
            rig.write32(r::GENCTRL, 0b111);
        }
        for enable in [r::ENABLE_DEVICE, r::ENABLE_WQ, r::ENABLE_WQ | 1] {
            assert_eq!(rig.command(enable | r::REQUEST_INTERRUPT), 0, "{options}");
            let cause = rig.read32(r::INTCAUSE);
            rig.write32(r::INTCAUSE, cause);
        }
        let handle = |rig: &mut Rig, entry: u32| {
            if has_handles {
                (rig.command(r::REQUEST_HANDLE | entry) >> 8) as u16
            } else {
                entry as u16
            }
        };
        let msix = handle(&mut rig, 1);
        rig.program_ims(3, (0xfee0_3000, 3), None);
        let ims = handle(&mut rig, r::OF_IMS | 3);
        for address in [LIST, DATA, RECORD] {
            rig.machine.map(None, address, 0x1000, true);
            rig.machine.map(Some(9), address, 0x1000, true);
        }
        let copy = memory_move(DATA, DATA + 0x800, 0x800, RECORD);
        rig.post(0, LIMITED_MSIX, &copy.interrupt(msix));
        rig.run();
        for index in 0..3 {
            let member = no_op(RECORD + 32 * (index + 1));
            rig.machine.poke(None, LIST + 64 * index, &member.0);
        }
        rig.post(0, LIMITED_IMS, &batch(LIST, 3, RECORD).interrupt(ims));
        if configurable {
            assert!(rig.enqueue(1, LIMITED_MSIX, &no_op(RECORD).trusted(9)));
        }
        rig.run();
        assert_eq!(rig.statuses(RECORD, 4), [1; 4], "{options}");
        assert!(rig.machine.messages.contains(&message(1)));
        assert!(rig.machine.messages.contains(&(0xfee0_3000, 3)));
        // Errors of clients are no violations of the driver's.
        rig.post(0, LIMITED_MSIX, &Bytes::new(0x7f, 0));
        rig.run();
        rig.write64(r::SWERROR, 0b11);
        rig.write32(r::EVLSTATUS + 4, 1 << 30);
        let tail = rig.read64(r::EVLSTATUS) >> 32 & 0xffff;
        rig.write32(r::EVLSTATUS, tail as u32);
        rig.write32(r::ims(3) + r::CONTROL, r::MASK);
        for command in [
            r::DRAIN_WQ | 0b11,
            r::DISABLE_WQ | 0b01,
            r::RESET_WQ | 0b11,
            r::DISABLE_DEVICE,
            r::RESET_DEVICE,
        ] {
            assert_eq!(rig.command(command), 0, "{options} {command:#x}");
        }
        rig.config_write(r::DEVCTL, 2, r::INITIATE_FLR);
        rig.dsa.reset();
        assert_eq!(rig.dsa.violations(), [] as [String; 0], "{options}");
    }
}

/// Only the first are kept, all are counted, and all can be forgotten.
#[test]
fn a_flood_of_violations_is_bounded() {
    let mut rig = Rig::powered_up("");
    for _ in 0..1_000 {
        rig.write32(r::GENCTRL, 0x80);
    }
    let kept = rig.dsa.violations().len();
    assert!((100..1_000).contains(&kept), "{kept}");
    let report: serde_json::Value = serde_json::from_str(&rig.control("report")).unwrap();
    assert_eq!(report["violations_total"], 1_000);
    rig.control("clear-violations");
    let report: serde_json::Value = serde_json::from_str(&rig.control("report")).unwrap();
    assert_eq!(report["violations_total"], 0);
    assert_eq!(report["violations"], serde_json::json!([]));
}

#[test]
fn violations_can_be_appended_to_a_file() {
    let path = std::env::temp_dir().join(format!("dsa-violations-{}", std::process::id()));
    std::fs::write(&path, "before\n").unwrap();
    let mut rig = Rig::powered_up(&format!("violations={}", path.display()));
    rig.write32(r::GENCTRL, 0x80);
    rig.write32(r::INTCAUSE, 0x40);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], "before");
    assert!(lines[1].starts_with("GENCTRL") && lines[2].starts_with("INTCAUSE"));
}
