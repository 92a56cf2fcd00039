//! Work queues and what may be done through them.

use dsa::{Command, Error, QueuePasid};
use hwio::Submission;
use hwspec::dsa::{CommandCode, CommandError, DescriptorWord0, Operation, Status, WqState};

use crate::lab::{Lab, RECORD, handle, no_op, pasid, sent};

#[test]
fn a_dedicated_queue_works_in_the_name_of_its_pasid() {
    let lab = Lab::ready("");
    // Whatever the descriptor says.
    let mut descriptor = no_op(0);
    let flags = descriptor
        .word0
        .flags()
        .with_request_completion_interrupt(false);
    descriptor.word0 = DescriptorWord0::new()
        .with_flags(flags)
        .with_operation(Operation::MEMORY_MOVE)
        .with_pasid(0xfffff);
    descriptor.word2 = 0x1_0000;
    descriptor.word3 = 0x2_0000;
    descriptor.word4.set_transfer_size(4);
    for page in [0x1_0000, 0x2_0000] {
        lab.model.map(Some(1), page);
    }
    lab.model.write_memory(Some(1), 0x1_0000, b"weir");
    lab.post(0, &descriptor);
    lab.model.run();
    assert_eq!(lab.take_record(1).word0.status(), Status::SUCCESS);
    assert_eq!(lab.model.read_memory(Some(1), 0x2_0000, 4), b"weir");
}

#[test]
fn a_shared_queue_works_in_the_name_of_each_submission() {
    let mut lab = Lab::ready("");
    for number in [7, 8] {
        lab.model.map(Some(number), RECORD);
        let slot = lab.slot(number);
        let mut descriptor = no_op(handle(slot.index()));
        descriptor.word0.set_pasid(number);
        assert_eq!(lab.enqueue(2, &descriptor), Submission::Accepted);
        lab.model.run();
        assert_eq!(lab.take_record(number).word0.status(), Status::SUCCESS);
        let index = u32::from(slot.index().0);
        assert_eq!(lab.model.take_messages(), [sent(index)]);
    }
}

#[test]
fn a_shared_queue_that_is_full_says_so() {
    let lab = Lab::ready("");
    lab.model.control("queue-full 2 on");
    assert_eq!(lab.enqueue(2, &no_op(0)), Submission::Retry);
}

#[test]
fn a_disabled_queue_takes_nothing_and_can_be_enabled_for_another() {
    let mut lab = Lab::ready("");
    lab.device.disable_queue(0).unwrap();
    assert_eq!(lab.device.queue_state(0), Ok(WqState::DISABLED));
    assert_eq!(lab.run_no_op(0, 0), Status::NONE, "dropped");

    lab.device
        .enable_queue(0, QueuePasid::unprivileged(pasid(9)))
        .unwrap();
    lab.model.map(Some(9), RECORD);
    let slot = lab.slot(9);
    lab.post(0, &no_op(handle(slot.index())));
    lab.model.run();
    assert_eq!(lab.take_record(9).word0.status(), Status::SUCCESS);
    assert_eq!(lab.model.take_messages().len(), 1);
}

/// Reset WQ wipes what Enable WQ needs; the driver writes it anew.
#[test]
fn a_queue_that_was_reset_is_enabled_like_any_other() {
    let mut lab = Lab::ready("");
    lab.device.execute(Command::ResetQueue(0)).unwrap();
    assert_eq!(lab.device.queue_pasid(0), None);
    assert_eq!(lab.model.read_register(0x4008, 4), 0);
    lab.device
        .enable_queue(0, QueuePasid::unprivileged(pasid(1)))
        .unwrap();
    let slot = lab.slot(1);
    assert_eq!(lab.run_no_op(0, handle(slot.index())), Status::SUCCESS);
}

#[test]
fn privilege_is_for_queues_that_have_it() {
    let mut lab = Lab::configured("");
    let privileged = QueuePasid {
        pasid: pasid(1),
        privileged: true,
    };
    lab.device.enable_queue(0, privileged).unwrap();
    // The PASID capability without privileged mode, which only a disabled device bears.
    lab.device.reset().unwrap();
    lab.model.write_config(0x236, 2, 1);
    let plan = crate::lab::plan(lab.device.capabilities());
    lab.device.configure(&plan).unwrap();
    let error = lab.device.enable_queue(0, privileged).unwrap_err();
    let expected = Error::CommandFailed {
        command: CommandCode::ENABLE_WQ,
        queue: Some(0),
        error: CommandError::WQ_PRIVILEGE,
    };
    assert_eq!(error, expected);
}

#[test]
fn what_pci_configuration_lacks_is_said_by_name() {
    let mut lab = Lab::configured("");
    lab.device.reset().unwrap();
    // Bus mastering and PASIDs off.
    lab.model.write_config(0x236, 2, 0);
    lab.model.write_config(0x04, 2, 2);
    let plan = crate::lab::plan(lab.device.capabilities());
    let error = lab.device.configure(&plan).unwrap_err();
    assert!(
        error.to_string().contains("set Bus Master Enable"),
        "{error}"
    );
    lab.model.write_config(0x04, 2, 6);
    lab.device.configure(&plan).unwrap();
    let of = QueuePasid::unprivileged(pasid(1));
    let error = lab.device.enable_queue(0, of).unwrap_err();
    assert!(error.to_string().contains("set PASID Enable"), "{error}");
}
