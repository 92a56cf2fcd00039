//! The Halt state, and what brings a device out of it. [341204 §5.7 "Device
//! Halt State", §9.1.3, §9.2.10, Table 9-3]
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

mod support;

use support::registers as r;
use support::{LIMITED_MSIX, QueueSetup, Rig, memory_move, message, no_op};

const DATA: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;

fn ready() -> Rig {
    let mut rig = Rig::with_queue("", QueueSetup::default());
    rig.machine.map(None, DATA, 0x1_0000, true);
    rig.machine.map(None, RECORD, 0x1000, true);
    rig
}

fn state(rig: &mut Rig) -> u32 {
    rig.read32(r::GENSTS) & 0b11
}

/// Initiates an FLR and carries it out, as whoever embeds the model does.
fn function_level_reset(rig: &mut Rig) {
    assert!(rig.config_write(r::DEVCTL, 2, r::INITIATE_FLR));
    rig.dsa.reset();
}

/// After a reset, a driver starts from the beginning.
fn works_again(mut rig: Rig) {
    rig.config_write(r::PCICMD, 2, 0b110);
    rig.configure(0, QueueSetup::default());
    rig.enable(&[0]);
    rig.machine.poke(None, RECORD, &[0]);
    rig.post(0, LIMITED_MSIX, &no_op(RECORD));
    rig.run();
    assert_eq!(rig.status(RECORD), 1);
}

/// §9.2.10, Reset Type Required: the minimum; a stronger one does as well.
#[test]
fn a_halt_yields_to_the_reset_that_it_names() {
    type Reset = fn(&mut Rig);
    let resets: [Reset; 3] = [
        |rig| {
            rig.command(r::RESET_DEVICE);
        },
        function_level_reset,
        |rig| rig.dsa.reset(),
    ];
    for (minimum, word) in ["software", "flr", "warm", "cold"].into_iter().enumerate() {
        for (strength, reset) in resets.into_iter().enumerate() {
            let mut rig = ready();
            rig.control(&format!("halt {word}"));
            let required = (minimum as u32) << 2;
            assert_eq!(rig.read32(r::GENSTS), r::HALTED | required, "{word}");
            reset(&mut rig);
            let case = format!("halt {word}, reset {strength}");
            if strength < minimum {
                assert_eq!(rig.read32(r::GENSTS), r::HALTED | required, "{case}");
            } else {
                assert_eq!(rig.read32(r::GENSTS), r::DISABLED, "{case}");
                works_again(rig);
            }
        }
    }
}

/// §9.2.9: INTCAUSE and the interrupt only where GENCTRL asks for them.
#[test]
fn a_halt_interrupts_where_asked() {
    for enabled in [true, false] {
        let mut rig = ready();
        rig.write32(r::GENCTRL, u32::from(enabled) << 1);
        rig.control("halt software");
        let cause = if enabled { r::CAUSE_HALT } else { 0 };
        assert_eq!(rig.read32(r::INTCAUSE), cause);
        let messages = if enabled { vec![message(0)] } else { vec![] };
        assert_eq!(rig.machine.messages, messages);
    }
}

/// "The device typically stops sending upstream reads and writes"; submissions
/// are answered with retry or lost.
#[test]
fn a_halted_device_does_nothing() {
    let mut rig = ready();
    let long = memory_move(DATA, DATA + 0x8000, 0x8000, RECORD).interrupt(1);
    rig.post(0, LIMITED_MSIX, &long);
    rig.post(0, LIMITED_MSIX, &no_op(RECORD + 32).interrupt(1));
    rig.run_for(200);
    rig.control("halt flr");
    let seen = rig.machine.accesses.len();
    rig.post(0, LIMITED_MSIX, &no_op(RECORD + 64));
    assert!(!rig.enqueue(0, LIMITED_MSIX, &no_op(RECORD + 64)));
    rig.run();
    assert_eq!(rig.machine.accesses.len(), seen);
    assert_eq!(rig.machine.messages, []);
    assert_eq!(rig.statuses(RECORD, 3), [0; 3]);
    assert_eq!(rig.dsa.queue_counters()[0].abandoned, 2);
    // Each command but the reset, which must be the right one.
    for code in 1..13 {
        assert_eq!(rig.command(code << 20), 0x05, "command {code}");
    }
    // Its registers can still be read, and acknowledged.
    assert_eq!(rig.read32(r::VERSION), 0x100);
    rig.write32(r::GENCTRL, 0b11);
    assert_eq!(rig.read32(r::GENCTRL), 0b11);
}

/// A command that is in progress when the device halts ends, but does not bring
/// the device out of the halt.
#[test]
fn a_command_in_progress_does_not_undo_a_halt() {
    for command in [
        r::DISABLE_DEVICE,
        r::RESET_DEVICE,
        r::DRAIN_ALL,
        r::DISABLE_WQ | 1,
        r::RESET_WQ | 1,
    ] {
        let mut rig = ready();
        rig.control("delay-completions 1 1000000");
        rig.post(0, LIMITED_MSIX, &no_op(RECORD));
        rig.run_for(1_000);
        rig.start(command);
        rig.control("halt flr");
        rig.run();
        assert_eq!(rig.read32(r::GENSTS), r::HALTED | 1 << 2, "{command:#x}");
        assert_ne!(rig.read32(r::CMDSTATUS), r::ACTIVE, "{command:#x}");
    }
}

/// Offset, value before, value after, both of two bytes.
type Change = (usize, u32, u32);

/// §9.1.3, Table 5-1: bus mastering, PASID, its privileged mode, ATS and PRS.
const ENABLES: [Change; 8] = [
    (r::PCICMD, 0b110, 0b010),
    (r::PASID_CONTROL, 0b101, 0b100),
    (r::PASID_CONTROL, 0b101, 0b001),
    (r::PASID_CONTROL, 0b000, 0b001),
    (r::ATS_CONTROL, 0, 0x8000),
    (r::ATS_CONTROL, 0x8000, 0),
    (r::PRS_CONTROL, 0, 1),
    (r::PRS_CONTROL, 1, 0),
];

#[test]
fn changing_pci_enables_under_a_running_device_halts_it() {
    for (offset, before, after) in ENABLES {
        for draining in [false, true] {
            let mut rig = Rig::new("");
            rig.config_write(r::PRS_ALLOCATION, 4, 1);
            rig.config_write(offset, 2, before);
            rig.configure(0, QueueSetup::default());
            rig.enable(&[0]);
            rig.write32(r::GENCTRL, 0b11);
            if draining {
                rig.start(r::DISABLE_DEVICE);
            }
            // The value that is there already is no change.
            rig.config_write(offset, 2, before);
            assert_ne!(state(&mut rig), r::HALTED);
            rig.config_write(offset, 2, after);
            let case = format!("{offset:#x}: {before:#x} to {after:#x}");
            assert_eq!(rig.read32(r::GENSTS), r::HALTED | 1 << 2, "{case}");
            assert_eq!(rig.software_error(), [0x5101, 0, 0, 0], "{case}");
            let causes = r::CAUSE_HALT | r::CAUSE_SOFTWARE_ERROR;
            assert_eq!(rig.read32(r::INTCAUSE), causes, "{case}");
            assert_eq!(rig.dsa.violations().len(), 1, "{case}");
            // The halt has happened; changes back and forth add nothing.
            rig.config_write(offset, 2, before);
            rig.config_write(offset, 2, after);
            assert_eq!(rig.software_error()[0], 0x5101, "{case}");
            function_level_reset(&mut rig);
            rig.machine.map(None, RECORD, 0x1000, true);
            works_again(rig);
        }
    }
}

#[test]
fn pci_enables_are_free_while_the_device_is_disabled() {
    for (offset, before, after) in ENABLES {
        let mut rig = Rig::new("");
        rig.config_write(offset, 2, before);
        rig.config_write(offset, 2, after);
        assert_eq!(rig.read32(r::GENSTS), r::DISABLED);
        assert_eq!(rig.software_error(), [0; 4]);
        assert_eq!(rig.dsa.violations(), [] as [String; 0]);
    }
    // Nor does anything else in configuration space halt a running one.
    let mut rig = ready();
    for (offset, value) in [(0x82, 0xc000), (0x0c, 0x10), (0x4a, 0xf), (0x190, 0x0200)] {
        rig.config_write(offset, 2, value);
    }
    assert_eq!(state(&mut rig), r::ENABLED);
}

/// [PCI Express 6.6.2] An FLR abandons what is in progress, even a command
/// that would never end.
#[test]
fn a_function_level_reset_ends_everything() {
    let mut rig = ready();
    rig.control("hang-command");
    rig.control("delay-completions 1 1000000");
    rig.post(0, LIMITED_MSIX, &no_op(RECORD).interrupt(1));
    rig.start(r::DRAIN_ALL | r::REQUEST_INTERRUPT);
    rig.run_for(10_000);
    assert_eq!(rig.read32(r::CMDSTATUS), r::ACTIVE);
    function_level_reset(&mut rig);
    assert_eq!(rig.dsa.deadline(), None);
    rig.run_for(10_000_000);
    assert_eq!(rig.status(RECORD), 0);
    assert_eq!(rig.machine.messages, []);
    assert_eq!(rig.read32(r::CMDSTATUS), 0);
    assert_eq!(rig.dsa.queue_counters()[0].abandoned, 1);
    works_again(rig);
}
