//! Halts, resets, and what comes back after them.

use dsa::{Error, QueuePasid, State};
use hwspec::dsa::{ResetType, Status, WqState};

use crate::lab::{Lab, checked, handle, message, pasid, sent, take_over};
use crate::model::Model;

#[test]
fn a_reset_wipes_the_slots_and_restoring_brings_them_back() {
    let mut lab = Lab::ready("");
    let mut slot = lab.slot(1);
    let mut masked = lab.slot(2);
    masked.set_masked(true).unwrap();
    let control = |slot: &crate::lab::ModelSlot| {
        let at = 0x1_000c + 16 * u64::from(slot.index().0);
        lab.model.read_register(at, 4)
    };
    let before = [control(&slot), control(&masked)];
    assert_eq!(before, [0x1008, 0x2009]);

    lab.device.restart().unwrap();
    assert_eq!([control(&slot), control(&masked)], [1, 1]);
    slot.restore().unwrap();
    masked.restore().unwrap();
    assert_eq!([control(&slot), control(&masked)], before);
    lab.device.resume().unwrap();

    assert_eq!(lab.run_no_op(0, handle(slot.index())), Status::SUCCESS);
    assert_eq!(lab.model.take_messages(), [sent(slot.index().0.into())]);
    assert_eq!(lab.run_no_op(1, handle(masked.index())), Status::SUCCESS);
    assert_eq!(lab.model.take_messages(), []);
    assert!(masked.is_pending().unwrap());
}

#[test]
fn a_slot_that_was_not_restored_interrupts_nobody() {
    let mut lab = Lab::ready("");
    let slot = lab.slot(1);
    lab.device.recover().unwrap();
    assert_eq!(
        lab.run_no_op(0, handle(slot.index())),
        Status::INTERRUPT_HANDLE
    );
    assert_eq!(lab.model.take_messages(), [Model::VECTOR_0]);
}

#[test]
fn a_halted_device_interrupts_and_is_recovered() {
    let mut lab = Lab::ready("");
    let mut slot = lab.slot(1);
    // One of the queues was moved to another PASID, one disabled.
    lab.device.disable_queue(1).unwrap();
    lab.device
        .enable_queue(1, QueuePasid::unprivileged(pasid(5)))
        .unwrap();
    lab.device.disable_queue(2).unwrap();
    lab.model.control("halt software");
    assert_eq!(lab.model.take_messages(), [Model::VECTOR_0]);
    assert!(lab.device.take_causes().unwrap().halt_state());
    assert_eq!(
        lab.device.state(),
        Ok(State::Halted(ResetType::ResetDevice))
    );

    lab.device.recover().unwrap();
    assert_eq!(lab.device.state(), Ok(State::Enabled));
    let states = [0, 1, 2].map(|queue| lab.device.queue_state(queue).unwrap());
    assert_eq!(
        states,
        [WqState::ENABLED, WqState::ENABLED, WqState::DISABLED]
    );
    let pasids = [0, 1, 2].map(|queue| lab.device.queue_pasid(queue).map(|it| it.pasid));
    assert_eq!(pasids, [Some(pasid(1)), Some(pasid(5)), None]);
    assert_eq!(
        lab.model.read_register(0x4028, 4) >> 8 & 0xf_ffff,
        5,
        "PASID of queue 1"
    );
    slot.restore().unwrap();
    assert_eq!(lab.run_no_op(0, handle(slot.index())), Status::SUCCESS);
    assert_eq!(lab.model.take_messages(), [sent(slot.index().0.into())]);
}

#[test]
fn a_halt_that_needs_more_than_a_command_says_what() {
    for (word, reset) in [
        ("flr", ResetType::FunctionLevel),
        ("warm", ResetType::Warm),
        ("cold", ResetType::Cold),
    ] {
        let mut lab = Lab::ready("");
        lab.model.control(&format!("halt {word}"));
        assert_eq!(lab.device.state(), Ok(State::Halted(reset)));
        let needed = Error::ResetRequired(reset);
        assert_eq!(lab.device.recover(), Err(needed));
        assert_eq!(lab.device.reset(), Err(needed));
        assert_eq!(take_over(&lab.model).map(|_| ()).unwrap_err(), needed);
        if reset == ResetType::FunctionLevel {
            lab.model.reset_function();
            lab.model.enumerate();
            lab.device.recover().unwrap();
            let slot = lab.slot(1);
            assert_eq!(lab.run_no_op(0, handle(slot.index())), Status::SUCCESS);
        }
    }
}

/// PCI code that switches PASIDs off under a running device halts it.
#[test]
fn a_change_of_configuration_space_is_reported_as_a_halt() {
    let mut lab = Lab::ready("");
    lab.model.write_config(0x236, 2, 0);
    assert_eq!(
        lab.device.state(),
        Ok(State::Halted(ResetType::FunctionLevel))
    );
    let error = lab.device.take_software_error().unwrap().unwrap();
    assert_eq!(
        (error.code, error.queue),
        (Status::CONFIGURATION_CHANGED, None)
    );
    assert_eq!(
        lab.model.take_violations().len(),
        1,
        "this one is the test's"
    );
}

#[test]
fn a_device_can_be_divided_anew() {
    let mut lab = Lab::ready("");
    lab.device.reset().unwrap();
    let capabilities = *lab.device.capabilities();
    let shape = dsa::QueueShape::largest(dsa::QueueMode::Dedicated, 128, &capabilities);
    let one = dsa::Plan::spread(&capabilities, &[shape]).unwrap();
    lab.device.configure(&one).unwrap();
    lab.device
        .enable_queue(0, QueuePasid::unprivileged(pasid(1)))
        .unwrap();
    assert_eq!(
        lab.device.queue_state(1),
        Err(Error::QueueNotPlanned { queue: 1 })
    );
    let mut slot = lab.store.allocate(checked(1)).unwrap();
    slot.enable(message(3)).unwrap();
    assert_eq!(lab.run_no_op(0, handle(slot.index())), Status::SUCCESS);
}
