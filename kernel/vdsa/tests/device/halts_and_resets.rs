//! Halts, the reset of the function, and what is asked of the host meanwhile.

use hwspec::dsa::ResetType;
use vdsa::{Answer, QueueAction, QueueSet, Request};

use crate::rig::{
    ACTIVE, CMD, CMDSTATUS, Effect, GENCTRL, GENSTS, INTCAUSE, MSIX, Rig, SWERROR, WQCFG, message,
    pasid, queue,
};

fn one_queue() -> QueueSet {
    QueueSet::EMPTY.with(queue(0))
}

fn stop() -> Request {
    Request::Queues {
        queues: one_queue(),
        action: QueueAction::Reset,
    }
}

fn function_level_reset(rig: &mut Rig) {
    rig.write_config(0x58, 2, 0xa910);
}

#[test]
fn losing_bus_mastering_halts() {
    let mut rig = Rig::two_queues().running();
    rig.write(GENCTRL, 4, 3);
    rig.write_config(0x04, 2, 0x0002);
    // Halt, function-level reset.
    assert_eq!(rig.read32(GENSTS), 0b0111);
    assert_eq!(rig.read(SWERROR, 8), 0x5101);
    // Halt State and Software Error.
    assert_eq!(rig.read32(INTCAUSE), 0x11);
    assert_eq!(
        rig.host.take(),
        [
            Effect::Request(stop()),
            Effect::Inject(message(0)),
            Effect::Inject(message(0))
        ]
    );
    assert_eq!(rig.read32(WQCFG + 24) >> 30, 0);
    assert!(!rig.dsa.view(0).unwrap().is_enabled);
    // Every command is refused; Reset Device is not enough.
    for code in 1..=14 {
        assert_eq!(rig.command(code << 20, &[]), 5, "{code}");
    }
    assert_eq!(rig.command(0x0050_0001, &[]), 4);
    rig.answer(Answer::Done);
    // Nothing physical is left to be reset.
    function_level_reset(&mut rig);
    assert_eq!(rig.requests(), []);
    assert_eq!(rig.read32(GENSTS), 0);
    let mut rig = rig.set_up();
    assert_eq!(rig.command(0x0010_0000, &[]), 0);
}

#[test]
fn bus_mastering_is_free_while_disabled() {
    let mut rig = Rig::two_queues().set_up();
    rig.write_config(0x04, 2, 0);
    rig.write_config(0x04, 1, 0x06);
    assert_eq!((rig.read32(GENSTS), rig.read(SWERROR, 8)), (0, 0));
}

#[test]
fn halts_interrupt_only_if_enabled() {
    let mut rig = Rig::two_queues().running();
    rig.write_config(0x04, 1, 0);
    assert_eq!((rig.read32(GENSTS), rig.read32(INTCAUSE)), (7, 0));
    assert_eq!(rig.host.take(), [Effect::Request(stop())]);
}

#[test]
fn a_software_halt_ends_with_reset_device() {
    let mut rig = Rig::two_queues().running();
    rig.write(GENCTRL, 4, 2);
    rig.dsa.report_halt(&mut rig.host, ResetType::ResetDevice);
    assert_eq!((rig.read32(GENSTS), rig.read32(INTCAUSE)), (3, 0x10));
    assert_eq!(rig.command(0x0010_0000, &[]), 5);
    rig.answer(Answer::Done);
    assert_eq!(rig.command(0x0050_0000, &[]), 0);
    assert_eq!(rig.read32(GENSTS), 0);
}

#[test]
fn of_two_halts_the_stronger_counts() {
    let mut rig = Rig::two_queues().running();
    rig.write(GENCTRL, 4, 2);
    rig.dsa.report_halt(&mut rig.host, ResetType::FunctionLevel);
    rig.write(INTCAUSE, 4, 0x10);
    rig.dsa.report_halt(&mut rig.host, ResetType::ResetDevice);
    assert_eq!(rig.read32(GENSTS), 0b0111);
    rig.dsa.report_halt(&mut rig.host, ResetType::Warm);
    assert_eq!(rig.read32(GENSTS), 0b1011);
    assert_eq!(rig.read32(INTCAUSE), 0, "it halted once");
    // A function-level reset does not cure it, a reset from outside does.
    function_level_reset(&mut rig);
    assert_eq!(rig.read32(GENSTS), 0b1011);
    rig.dsa.reset(&mut rig.host);
    assert_eq!(rig.read32(GENSTS), 0);
}

#[test]
fn a_halt_fails_the_command_that_is_active() {
    let mut rig = Rig::two_queues().running();
    rig.write(CMD, 4, 0x0060_0001);
    rig.dsa.report_halt(&mut rig.host, ResetType::FunctionLevel);
    assert_eq!(rig.read32(CMDSTATUS), ACTIVE);
    rig.host.take();
    rig.answer(Answer::Done);
    assert_eq!(rig.read32(CMDSTATUS), 3);
    // The queue that was enabled meanwhile is stopped with the other.
    let both = one_queue().with(queue(1));
    let stop = Request::Queues {
        queues: both,
        action: QueueAction::Reset,
    };
    assert_eq!(rig.requests(), [stop]);
}

#[test]
fn function_level_reset_makes_everything_new_and_quiet() {
    let mut rig = Rig::two_queues().running();
    rig.command(0x00d0_0001, &[Answer::Handle(7)]);
    rig.command(0x0010_0000, &[]);
    rig.write(GENCTRL, 4, 3);
    rig.write(0x308, 4, 0x4);
    rig.write_config(0x10, 4, 0xd000_0000);
    rig.host.take();
    function_level_reset(&mut rig);
    let reset = Request::Reset {
        queues: one_queue(),
    };
    assert_eq!(
        rig.host.take(),
        [Effect::Masked(1, true), Effect::Request(reset)]
    );
    assert!(!rig.dsa.is_idle());
    let fresh = Rig::two_queues();
    for offset in (0..0x1000).step_by(4) {
        let config = u16::try_from(offset).unwrap();
        assert_eq!(rig.read_config(config, 4), fresh.read_config(config, 4));
        assert_eq!(rig.read32(offset), fresh.read32(offset), "{offset:#x}");
    }
    // In any width, and never without the bit.
    rig.answer(Answer::Done);
    assert!(rig.dsa.is_idle());
    for (offset, width, value) in [(0x58, 4, 0x8000), (0x59, 1, 0x80), (0x58, 2, 0x8000)] {
        rig = rig.set_up();
        rig.write_config(offset, width, value);
        assert_eq!(rig.read_config(0x04, 2), 0);
    }
    for (offset, width, value) in [(0x58, 1, 0x80), (0x5a, 2, 0x8000), (0x58, 2, 0x7fff)] {
        rig = rig.set_up();
        rig.write_config(offset, width, value);
        assert_eq!(rig.read_config(0x04, 2), 6);
    }
}

#[test]
fn a_reset_waits_for_what_is_out_and_new_commands_for_the_reset() {
    let mut rig = Rig::two_queues().running();
    // A handle is on its way when the function is reset.
    rig.write(CMD, 4, 0x80d0_0001);
    rig.host.take();
    function_level_reset(&mut rig);
    assert_eq!(rig.read32(CMDSTATUS), 0);
    assert_eq!(rig.requests(), []);
    rig = rig.set_up();
    assert_eq!(rig.command(0x0010_0000, &[]), 0);
    rig.write(CMD, 4, 0x0060_0000);
    assert_eq!((rig.read32(CMDSTATUS), rig.requests()), (ACTIVE, vec![]));
    // The handle is nobody's, and freed with the rest.
    rig.answer(Answer::Handle(7));
    let reset = Request::Reset {
        queues: one_queue(),
    };
    assert_eq!(rig.requests(), [reset]);
    assert!(rig.dsa.view(0).unwrap().handles.find(7).is_none());
    assert_eq!(rig.read32(CMDSTATUS), ACTIVE);
    rig.answer(Answer::Done);
    let enable = Request::EnableQueue {
        queue: queue(0),
        pasid: pasid(0x101),
    };
    assert_eq!(rig.requests(), [enable]);
    rig.answer(Answer::Done);
    assert_eq!(rig.read32(CMDSTATUS), 0);
    assert_eq!(rig.read32(INTCAUSE), 0, "nobody asked");
}

#[test]
fn a_cleanup_that_failed_halts_and_is_tried_again_by_the_next_reset() {
    let mut rig = Rig::two_queues().running();
    function_level_reset(&mut rig);
    rig = rig.set_up();
    assert_eq!(rig.command(0x0010_0000, &[]), 0);
    rig.write(CMD, 4, 0x0060_0000);
    rig.answer(Answer::Failed);
    // What waited for it is not sent.
    assert_eq!((rig.read32(CMDSTATUS), rig.read32(GENSTS)), (3, 7));
    assert_eq!(rig.requests(), []);
    function_level_reset(&mut rig);
    let reset = Request::Reset {
        queues: one_queue(),
    };
    assert_eq!(rig.requests(), [reset]);
    rig.answer(Answer::Done);
    assert_eq!(rig.read32(GENSTS), 0);
}

#[test]
fn reset_device_after_a_function_level_reset_waits_too() {
    let mut rig = Rig::two_queues().running();
    function_level_reset(&mut rig);
    rig = rig.set_up();
    rig.write(CMD, 4, 0x0050_0000);
    assert_eq!(rig.read32(CMDSTATUS), ACTIVE);
    rig.answer(Answer::Done);
    let nothing = Request::Reset {
        queues: QueueSet::EMPTY,
    };
    assert_eq!(rig.requests().last(), Some(&nothing));
    rig.answer(Answer::Done);
    assert_eq!((rig.read32(CMDSTATUS), rig.read32(GENSTS)), (0, 0));
    assert_eq!(rig.read(MSIX, 8), 0xfee0_0000);
}
