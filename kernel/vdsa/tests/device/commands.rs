//! The command register.

use vdsa::{Answer, PasidAction, QueueAction, QueueSet, Request};

use crate::rig::{
    ACTIVE, CMD, CMDSTATUS, Effect, GENCTRL, GENSTS, INTCAUSE, Rig, SWERROR, WQCFG, dedicated,
    message, pasid, queue, shape, shared, two_pasids,
};

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
const WITH_INTERRUPT: u32 = 1 << 31;

fn queues(indices: &[usize]) -> QueueSet {
    indices.iter().map(|index| queue(*index)).collect()
}

/// WQ State in WQCFG.
fn wq_state(rig: &Rig, index: u32) -> u32 {
    rig.read32(WQCFG + 32 * index + 24) >> 30
}

#[test]
fn enabling_the_device_needs_nothing_physical() {
    let mut rig = Rig::two_queues().set_up();
    assert_eq!(rig.command(ENABLE_DEVICE, &[]), 0);
    assert_eq!(rig.read32(GENSTS), 1);
    assert_eq!(rig.host.take(), []);
    // Again: not Disabled.
    assert_eq!(rig.command(ENABLE_DEVICE, &[]), 0x10);
}

#[test]
fn enabling_the_device_needs_bus_mastering() {
    let mut rig = Rig::two_queues();
    assert_eq!(rig.command(ENABLE_DEVICE, &[]), 0x12);
    assert_eq!(rig.read32(GENSTS), 0);
}

#[test]
fn a_command_is_active_until_its_answer_comes() {
    let mut rig = Rig::two_queues().set_up();
    rig.command(ENABLE_DEVICE, &[]);
    rig.write(CMD, 4, (ENABLE_WQ | 1).into());
    assert_eq!(rig.read32(CMDSTATUS), ACTIVE);
    assert_eq!(wq_state(&rig, 1), 0);
    let request = Request::EnableQueue {
        queue: queue(1),
        pasid: pasid(0x102),
    };
    assert_eq!(rig.host.take(), [Effect::Request(request)]);
    rig.answer(Answer::Done);
    assert_eq!(rig.read32(CMDSTATUS), 0);
    assert_eq!(wq_state(&rig, 1), 1);
    // Without CMD.31 there is no cause and no interrupt.
    assert_eq!(rig.read32(INTCAUSE), 0);
    assert_eq!(rig.host.take(), []);
}

#[test]
fn completion_interrupts_if_asked_to_whatever_the_outcome() {
    let mut rig = Rig::two_queues().set_up();
    let vector0 = Effect::Inject(message(0));
    assert_eq!(rig.command(WITH_INTERRUPT | ENABLE_DEVICE, &[]), 0);
    assert_eq!(rig.read32(INTCAUSE), 2);
    assert_eq!(rig.host.take(), [vector0]);
    rig.write(INTCAUSE, 4, 2);
    assert_eq!(rig.read32(INTCAUSE), 0);
    assert_eq!(rig.command(WITH_INTERRUPT | ENABLE_DEVICE, &[]), 0x10);
    assert_eq!(rig.read32(INTCAUSE), 2);
    assert_eq!(rig.host.take(), [vector0]);
    rig.write(INTCAUSE, 4, 2);
    rig.write(CMD, 4, (WITH_INTERRUPT | ENABLE_WQ).into());
    assert_eq!(rig.read32(INTCAUSE), 0);
    rig.host.take();
    rig.answer(Answer::Failed);
    assert_eq!(rig.read32(CMDSTATUS), 3);
    assert_eq!(rig.read32(INTCAUSE), 2);
    assert_eq!(rig.host.take(), [vector0]);
}

#[test]
fn a_command_while_another_is_active_is_an_error_of_its_own() {
    let mut rig = Rig::two_queues().set_up();
    rig.write(GENCTRL, 4, 3);
    rig.command(ENABLE_DEVICE, &[]);
    rig.write(CMD, 4, ENABLE_WQ.into());
    rig.host.take();
    rig.write(CMD, 4, (WITH_INTERRUPT | RESET_DEVICE).into());
    // SWERROR: valid, error 0x52. INTCAUSE.0 and vector 0.
    assert_eq!(rig.read(SWERROR, 8), 0x5201);
    assert_eq!(rig.read32(INTCAUSE), 1);
    assert_eq!(rig.host.take(), [Effect::Inject(message(0))]);
    // Once more: overflow, no interrupt.
    rig.write(CMD, 4, ENABLE_DEVICE.into());
    assert_eq!(rig.read(SWERROR, 8), 0x5203);
    assert_eq!(rig.host.take(), []);
    // The first command is not disturbed, and the dropped one asked for nothing.
    rig.answer(Answer::Done);
    assert_eq!(rig.read32(CMDSTATUS), 0);
    assert_eq!(wq_state(&rig, 0), 1);
    assert_eq!(rig.read32(INTCAUSE), 1);
    // As Linux clears it.
    rig.write(SWERROR, 8, 0x5203 & 3);
    assert_eq!(rig.read(SWERROR, 8), 0x5200);
}

#[test]
fn unknown_commands_and_reserved_bits_are_refused() {
    let mut rig = Rig::two_queues().running();
    for code in [0, 15, 16, 17, 18, 31] {
        assert_eq!(rig.command(code << 20, &[]), 1, "{code}");
    }
    // Bits 30:25, and operands of commands that have none.
    for bit in 25..=30 {
        assert_eq!(rig.command(DRAIN_ALL | 1 << bit, &[]), 4, "{bit}");
    }
    for command in [
        ENABLE_DEVICE,
        DISABLE_DEVICE,
        DRAIN_ALL,
        ABORT_ALL,
        RESET_DEVICE,
    ] {
        for bit in 0..20 {
            assert_eq!(
                rig.command(command | 1 << bit, &[]),
                4,
                "{command:#x} {bit}"
            );
        }
    }
    for bit in 8..20 {
        assert_eq!(rig.command(ENABLE_WQ | 1 << bit, &[]), 4, "{bit}");
    }
    for command in [REQUEST_HANDLE, RELEASE_HANDLE] {
        for bit in 17..20 {
            assert_eq!(rig.command(command | 1 << bit | 1, &[]), 4, "{bit}");
        }
    }
    assert_eq!(rig.host.take(), []);
}

#[test]
fn a_command_is_written_with_32_bits() {
    let mut rig = Rig::two_queues().set_up();
    for (offset, width) in [(CMD, 1), (CMD, 2), (CMD + 2, 2), (CMD + 3, 1)] {
        rig.write(offset, width, 0x0010);
    }
    assert_eq!(rig.read32(GENSTS), 0);
    assert_eq!(rig.dsa.dropped_accesses().register_writes, 4);
    // 8 bytes are the command and nothing.
    rig.write(CMD, 8, ENABLE_DEVICE.into());
    assert_eq!(rig.read32(GENSTS), 1);
    assert_eq!(rig.dsa.dropped_accesses().register_writes, 4);
}

#[test]
fn queue_commands_check_the_index_and_the_states() {
    let mut rig = Rig::two_queues().set_up();
    assert_eq!(rig.command(ENABLE_WQ, &[]), 0x20);
    rig.command(ENABLE_DEVICE, &[]);
    for index in [2, 8, 0xff] {
        assert_eq!(rig.command(ENABLE_WQ | index, &[]), 2, "{index}");
    }
    for command in [DISABLE_WQ, DRAIN_WQ, ABORT_WQ, RESET_WQ] {
        // Queue 2; queues 0 and 2; queue 16; queue 255.
        for operand in [4, 5, 0x1_0001, 0xf_8000] {
            assert_eq!(rig.command(command | operand, &[]), 2, "{command:#x}");
        }
    }
    for command in [DISABLE_WQ, DRAIN_WQ, ABORT_WQ] {
        assert_eq!(rig.command(command | 1, &[]), 0x32, "{command:#x}");
    }
    assert_eq!(rig.command(ENABLE_WQ, &[Answer::Done]), 0);
    assert_eq!(rig.command(ENABLE_WQ, &[]), 0x21);
    for command in [DISABLE_WQ, DRAIN_WQ, ABORT_WQ] {
        // One of two is enabled.
        assert_eq!(rig.command(command | 3, &[]), 0x32, "{command:#x}");
    }
    assert_eq!(wq_state(&rig, 0), 1);
}

#[test]
fn queue_commands_act_on_the_physical_queues() {
    for (command, action, during, after) in [
        (DISABLE_WQ, QueueAction::Disable, 2, 0),
        (DRAIN_WQ, QueueAction::Drain, 1, 1),
        (ABORT_WQ, QueueAction::Abort, 1, 1),
        (RESET_WQ, QueueAction::Reset, 2, 0),
    ] {
        let mut rig = Rig::two_queues().running();
        rig.command(ENABLE_WQ | 1, &[Answer::Done]);
        rig.host.take();
        rig.write(CMD, 4, (command | 3).into());
        let request = Request::Queues {
            queues: queues(&[0, 1]),
            action,
        };
        assert_eq!(rig.host.take(), [Effect::Request(request)]);
        assert_eq!(rig.read32(CMDSTATUS), ACTIVE);
        assert_eq!((wq_state(&rig, 0), wq_state(&rig, 1)), (during, during));
        rig.answer(Answer::Done);
        assert_eq!(rig.read32(CMDSTATUS), 0);
        assert_eq!((wq_state(&rig, 0), wq_state(&rig, 1)), (after, after));
    }
}

#[test]
fn commands_for_nothing_are_done_at_once() {
    let mut rig = Rig::two_queues().set_up();
    for command in [DRAIN_ALL, ABORT_ALL, DRAIN_WQ, RESET_WQ | 3, RESET_DEVICE] {
        assert_eq!(rig.command(command, &[]), 0, "{command:#x}");
    }
    rig.command(ENABLE_DEVICE, &[]);
    assert_eq!(rig.command(DISABLE_DEVICE, &[]), 0);
    assert_eq!(rig.read32(GENSTS), 0);
    // Not Enabled.
    assert_eq!(rig.command(DISABLE_DEVICE, &[]), 0x31);
    assert_eq!(rig.host.take(), []);
}

#[test]
fn drain_all_and_abort_all_concern_enabled_queues() {
    for (command, action) in [
        (DRAIN_ALL, QueueAction::Drain),
        (ABORT_ALL, QueueAction::Abort),
    ] {
        let mut rig = Rig::two_queues().running();
        assert_eq!(rig.command(command, &[Answer::Done]), 0);
        let queues = queues(&[0]);
        assert_eq!(rig.requests(), [Request::Queues { queues, action }]);
        assert_eq!(rig.command(command, &[Answer::Failed]), 3);
        assert_eq!(rig.read32(GENSTS), 1, "nothing was to stop");
    }
}

#[test]
fn disabling_the_device_disables_its_queues() {
    let mut rig = Rig::two_queues().running();
    rig.write(CMD, 4, DISABLE_DEVICE.into());
    assert_eq!((rig.read32(GENSTS), wq_state(&rig, 0)), (2, 2));
    let request = Request::Queues {
        queues: queues(&[0]),
        action: QueueAction::Disable,
    };
    assert_eq!(rig.requests(), [request]);
    rig.answer(Answer::Done);
    assert_eq!((rig.read32(GENSTS), wq_state(&rig, 0)), (0, 0));
}

#[test]
fn pasid_commands_use_the_host_pasid() {
    let mut rig = Rig::two_queues().running();
    for (command, action) in [
        (DRAIN_PASID, PasidAction::Drain),
        (ABORT_PASID, PasidAction::Abort),
    ] {
        assert_eq!(rig.command(command | 5, &[Answer::Done]), 0);
        let pasid = pasid(0x205);
        assert_eq!(rig.requests(), [Request::Pasid { pasid, action }]);
        // The guest has no descriptors of other PASIDs, whoever has.
        for other in [0, 0x101, 0x205, 0xf_ffff] {
            assert_eq!(rig.command(command | other, &[]), 0, "{other:#x}");
        }
        assert_eq!(rig.requests(), []);
    }
}

#[test]
fn a_dedicated_queue_takes_the_pasid_that_its_wqcfg_names() {
    let mut rig = Rig::two_queues().set_up();
    rig.command(ENABLE_DEVICE, &[]);
    // PASID 6, enabled.
    let mode = WQCFG + 8;
    rig.write(mode, 4, 0x1000_0611);
    assert_eq!(rig.read32(mode), 0x1000_0611);
    rig.command(ENABLE_WQ, &[Answer::Done]);
    let request = Request::EnableQueue {
        queue: queue(0),
        pasid: pasid(0x206),
    };
    assert_eq!(rig.requests(), [request]);
    // Enabled, it does not change.
    rig.write(mode, 4, 0x0000_0011);
    assert_eq!(rig.read32(mode), 0x1000_0611);
    assert_eq!(rig.dsa.dropped_accesses().register_writes, 1);
    // As Linux does it: disable, change, enable.
    assert_eq!(rig.command(DISABLE_WQ | 1, &[Answer::Done]), 0);
    assert_eq!(rig.read32(mode), 0x1000_0611, "Disable WQ keeps it");
    rig.write(mode, 4, 0x0000_0611);
    rig.host.take();
    rig.command(ENABLE_WQ, &[Answer::Done]);
    let request = Request::EnableQueue {
        queue: queue(0),
        pasid: pasid(0x101),
    };
    assert_eq!(rig.requests(), [request], "its default");
}

#[test]
fn pasid_and_privilege_of_a_queue_are_checked() {
    let mut rig = Rig::two_queues().set_up();
    rig.command(ENABLE_DEVICE, &[]);
    let mode = WQCFG + 8;
    // A PASID that the guest does not have, be it a host PASID.
    for unknown in [0, 7, 0x101, 0x205] {
        rig.write(mode, 4, 0x1000_0011 | unknown << 8);
        assert_eq!(rig.command(ENABLE_WQ, &[]), 0x26, "{unknown:#x}");
    }
    // Privileged with a PASID; without one privilege means nothing.
    rig.write(mode, 4, 0x3000_0511);
    assert_eq!(rig.command(ENABLE_WQ, &[]), 0x2a);
    assert_eq!(wq_state(&rig, 0), 0);
    rig.write(mode, 4, 0x2000_0511);
    assert_eq!(rig.command(ENABLE_WQ, &[Answer::Done]), 0);
}

#[test]
fn a_shared_queue_needs_pasids_enabled() {
    let mut rig = Rig::new(&shape(&[shared(0x101)], &two_pasids())).set_up();
    rig.command(ENABLE_DEVICE, &[]);
    let mode = WQCFG + 8;
    rig.write(mode, 4, 0x0000_0010);
    assert_eq!(rig.command(ENABLE_WQ, &[]), 0x26);
    // The mode is the shape's.
    rig.write(mode, 4, 0x1000_0011);
    assert_eq!(rig.read32(mode), 0x1000_0010);
    assert_eq!(rig.command(ENABLE_WQ, &[Answer::Done]), 0);
    let request = Request::EnableQueue {
        queue: queue(0),
        pasid: pasid(0x101),
    };
    assert_eq!(rig.requests(), [request]);
}

#[test]
fn the_threshold_is_written_at_any_time_and_the_rest_of_wqcfg_never() {
    let mut rig = Rig::two_queues().running();
    rig.write(WQCFG + 4, 4, 5);
    assert_eq!(rig.read32(WQCFG + 4), 5);
    let before: Vec<u32> = (0..8).map(|word| rig.read32(WQCFG + 4 * word)).collect();
    for word in [0, 2, 3, 4, 5, 6, 7] {
        rig.write(WQCFG + 4 * word, 4, !u64::from(before[word as usize]));
    }
    let after: Vec<u32> = (0..8).map(|word| rig.read32(WQCFG + 4 * word)).collect();
    assert_eq!(after, before);
    assert_eq!(rig.dsa.dropped_accesses().register_writes, 7);
    // Bytes of dword 2, of a disabled queue.
    rig.write(WQCFG + 32 + 9, 1, 0x06);
    rig.write(WQCFG + 32 + 10, 2, 0x1000);
    assert_eq!(rig.read32(WQCFG + 32 + 8), 0x1000_0611);
}

#[test]
fn a_queue_that_is_being_enabled_is_not_reconfigured() {
    let mut rig = Rig::two_queues().set_up();
    rig.command(ENABLE_DEVICE, &[]);
    rig.write(CMD, 4, ENABLE_WQ.into());
    rig.write(WQCFG + 8, 4, 0x1000_0511);
    assert_eq!(rig.read32(WQCFG + 8), 0x11);
    rig.answer(Answer::Done);
    assert_eq!(rig.read32(WQCFG + 8), 0x11);
}

#[test]
fn what_a_driver_found_in_wqcfg_survives_resets() {
    for reset in [RESET_WQ | 1, RESET_DEVICE] {
        let mut rig = Rig::two_queues().set_up();
        rig.command(ENABLE_DEVICE, &[]);
        let found: Vec<u32> = (0..8).map(|word| rig.read32(WQCFG + 4 * word)).collect();
        assert_eq!(found, [16, 16, 0x11, 0x15f, 0, 0, 0x2000_0000, 0]);
        rig.write(WQCFG + 8, 4, 0x1000_0511);
        rig.write(WQCFG + 4, 4, 3);
        rig.command(ENABLE_WQ, &[Answer::Done]);
        assert_eq!(rig.command(reset, &[Answer::Done]), 0);
        let left: Vec<u32> = (0..8).map(|word| rig.read32(WQCFG + 4 * word)).collect();
        assert_eq!(left, found, "{reset:#x}");
    }
}

#[test]
fn a_handle_is_allocated_once_for_a_vector() {
    let mut rig = Rig::two_queues().running();
    assert_eq!(
        rig.command(REQUEST_HANDLE | 2, &[Answer::Handle(0x2b)]),
        0x2b00
    );
    let request = Request::AllocateHandle {
        vector: 2,
        pasid: pasid(0x102),
    };
    assert_eq!(rig.requests(), [request]);
    for _ in 0..2 {
        assert_eq!(rig.command(REQUEST_HANDLE | 2, &[]), 0x2b00);
    }
    assert_eq!(rig.requests(), []);
    assert_eq!(
        rig.command(REQUEST_HANDLE | 1, &[Answer::Handle(0xffff)]),
        0xff_ff00
    );
}

#[test]
fn handles_are_of_vectors_that_have_slots() {
    let mut rig = Rig::two_queues().running();
    // The emulated one, one too many, and the table of a device with IMS.
    for operand in [0, 3, 0xffff, 0x1_0000, 0x1_0001] {
        let command = REQUEST_HANDLE | operand;
        assert_eq!(rig.command(command, &[]), 0x41, "{operand:#x}");
    }
    assert_eq!(rig.command(REQUEST_HANDLE | 1, &[Answer::NoHandle]), 0x42);
    assert_eq!(rig.command(REQUEST_HANDLE | 1, &[Answer::Failed]), 3);
    assert_eq!(rig.command(REQUEST_HANDLE | 1, &[Answer::Done]), 3);
    assert_eq!(rig.command(REQUEST_HANDLE | 1, &[Answer::Handle(7)]), 0x700);
}

#[test]
fn a_handle_is_released_by_itself_or_by_its_index() {
    let mut rig = Rig::two_queues().running();
    // Nothing is allocated.
    for operand in [0, 1, 2, 3, 0x2b, 0x1_0001] {
        let command = RELEASE_HANDLE | operand;
        assert_eq!(rig.command(command, &[]), 0x41, "{operand:#x}");
    }
    for operand in [0x2b, 2] {
        rig.command(REQUEST_HANDLE | 2, &[Answer::Handle(0x2b)]);
        rig.host.take();
        let release = RELEASE_HANDLE | operand;
        assert_eq!(rig.command(release | 0x1_0000, &[]), 0x41);
        rig.write(CMD, 4, release.into());
        // Quiet first; what the guest writes meanwhile does not concern it any more.
        rig.write(0x600 + 16 * 2 + 12, 4, 1);
        rig.write(0x600 + 16 * 2 + 12, 4, 0);
        assert_eq!(
            rig.host.take(),
            [
                Effect::Masked(2, true),
                Effect::Request(Request::ReleaseHandle { vector: 2 })
            ]
        );
        rig.answer(Answer::Done);
        assert_eq!(rig.read32(CMDSTATUS), 0);
        assert_eq!(rig.command(release, &[]), 0x41, "it is gone");
    }
}

#[test]
fn the_handle_wins_over_an_index_of_the_same_number() {
    let mut rig = Rig::two_queues().running();
    rig.command(REQUEST_HANDLE | 1, &[Answer::Handle(2)]);
    rig.command(REQUEST_HANDLE | 2, &[Answer::Handle(1)]);
    rig.host.take();
    rig.command(RELEASE_HANDLE | 1, &[Answer::Done]);
    assert_eq!(rig.requests(), [Request::ReleaseHandle { vector: 2 }]);
}

#[test]
fn reset_device_frees_what_the_device_had() {
    let mut rig = Rig::two_queues().running();
    rig.command(REQUEST_HANDLE | 1, &[Answer::Handle(9)]);
    rig.write(0x300 + 8, 4, 0x4);
    rig.write(GENCTRL, 4, 3);
    rig.host.take();
    rig.write(CMD, 4, (WITH_INTERRUPT | RESET_DEVICE).into());
    assert_eq!((rig.read32(GENSTS), wq_state(&rig, 0)), (2, 2));
    // The slot is quiet at once.
    let queues = queues(&[0]);
    assert_eq!(
        rig.host.take(),
        [
            Effect::Masked(1, true),
            Effect::Request(Request::Reset { queues })
        ]
    );
    rig.answer(Answer::Done);
    assert_eq!((rig.read32(CMDSTATUS), rig.read32(GENSTS)), (0, 0));
    // The interrupt that was asked for comes, after the causes were cleared.
    assert_eq!(rig.read32(INTCAUSE), 2);
    assert_eq!(rig.host.take(), [Effect::Inject(message(0))]);
    // GENCTRL and MSIXPERM are reset, the MSI-X table is kept.
    assert_eq!((rig.read32(GENCTRL), rig.read32(0x308)), (0, 0));
    assert_eq!(rig.read(0x610, 8), 0xfee0_0000);
    assert_eq!(rig.read(0x618, 8), 0x41);
    // The handle is gone.
    assert_eq!(rig.command(RELEASE_HANDLE | 9, &[]), 0x41);
    // Nothing is left, so the next reset asks for nothing.
    assert_eq!(rig.command(RESET_DEVICE, &[]), 0);
    assert_eq!(rig.requests(), []);
}

#[test]
fn a_stop_that_failed_halts_the_device() {
    for command in [DISABLE_DEVICE, RESET_DEVICE, DISABLE_WQ | 1, RESET_WQ | 1] {
        let mut rig = Rig::two_queues().running();
        assert_eq!(rig.command(command, &[Answer::Failed]), 3, "{command:#x}");
        // Halt, function-level reset.
        assert_eq!(rig.read32(GENSTS), 7, "{command:#x}");
        assert_eq!(rig.command(RESET_DEVICE, &[]), 5);
        // It is tried again, once.
        let stop = Request::Queues {
            queues: queues(&[0]),
            action: QueueAction::Reset,
        };
        assert_eq!(rig.requests().last(), Some(&stop));
        rig.answer(Answer::Failed);
        assert_eq!(rig.requests(), []);
    }
}

#[test]
fn an_answer_to_nothing_changes_nothing() {
    let mut rig = Rig::new(&shape(&[dedicated(0x101)], &[])).set_up();
    for answer in [
        Answer::Done,
        Answer::Handle(3),
        Answer::NoHandle,
        Answer::Failed,
    ] {
        rig.answer(answer);
    }
    assert_eq!((rig.read32(CMDSTATUS), rig.read32(GENSTS)), (0, 0));
    assert_eq!(rig.host.take(), []);
}
