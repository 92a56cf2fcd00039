//! What goes wrong in the device and is reported.

use dsa::{Command, Error, RegisterName};
use hwspec::dsa::{Operation, Status};

use crate::lab::{Lab, handle, no_op, pasid, take_over};
use crate::model::Model;

/// The check that keeps guests apart: a handle is worth nothing under another PASID.
#[test]
fn a_slot_of_another_pasid_gives_0x19_and_no_interrupt() {
    let mut lab = Lab::ready("");
    let foreign = lab.slot(1);
    // Queue 1 works for PASID 2.
    assert_eq!(
        lab.run_no_op(1, handle(foreign.index())),
        Status::INTERRUPT_HANDLE
    );
    // No completion interrupt; that of the error goes to vector 0, which is the host's.
    assert_eq!(lab.model.take_messages(), [Model::VECTOR_0]);
    assert!(lab.device.take_causes().unwrap().software_error());
    let error = lab.device.take_software_error().unwrap().unwrap();
    assert_eq!(
        (error.code, error.queue),
        (Status::INTERRUPT_HANDLE, Some(1))
    );
    let descriptor = error.descriptor.unwrap();
    assert_eq!(
        (descriptor.operation, descriptor.pasid),
        (Operation::NO_OP, pasid(2))
    );
    assert_eq!(
        (descriptor.privileged, descriptor.batch_index),
        (false, None)
    );
    assert!(!error.overflow);
    assert!(
        error
            .to_string()
            .starts_with("invalid interrupt handle (0x19), queue 1, no-op")
    );
    // And for its owner it works on.
    assert_eq!(lab.run_no_op(0, handle(foreign.index())), Status::SUCCESS);
}

#[test]
fn a_free_slot_and_one_that_does_not_exist_give_0x19() {
    let lab = Lab::ready("");
    for index in [5, 2047, 2048, 0xffff] {
        assert_eq!(lab.run_no_op(0, index), Status::INTERRUPT_HANDLE, "{index}");
    }
}

#[test]
fn an_error_without_a_record_is_in_the_register_and_later_ones_overflow() {
    let mut lab = Lab::ready("");
    let mut fails = no_op(0);
    fails.completion_record_address = 0x9_9000;
    lab.post(1, &fails);
    lab.post(0, &fails);
    lab.model.run();
    assert!(lab.device.take_causes().unwrap().software_error());
    let error = lab.device.take_software_error().unwrap().unwrap();
    assert!(error.overflow);
    assert!(
        error.to_string().ends_with("later errors were lost"),
        "{error}"
    );
    assert_eq!(lab.device.take_software_error(), Ok(None));
    // The register is free for the next one, and interrupts for it.
    lab.model.take_messages();
    lab.post(0, &fails);
    lab.model.run();
    assert_eq!(lab.model.take_messages(), [Model::VECTOR_0]);
    let error = lab.device.take_software_error().unwrap().unwrap();
    assert_eq!((error.queue, error.overflow), (Some(0), false));
}

#[test]
fn a_device_of_the_second_generation_says_which_handle() {
    let mut lab = Lab::ready("device-id=0x11fb;event-log=off");
    assert_eq!(lab.run_no_op(1, 0x4abc), Status::INTERRUPT_HANDLE);
    let error = lab.device.take_software_error().unwrap().unwrap();
    assert_eq!(error.information.map(|it| it & 0xffff), Some(0x4abc));
}

#[test]
fn a_queue_that_overflows_is_named() {
    let mut lab = Lab::ready("");
    lab.model.control("queue-full 0 on");
    lab.post(0, &no_op(0));
    let error = lab.device.take_software_error().unwrap().unwrap();
    assert_eq!((error.code, error.queue), (Status::WQ_FULL, Some(0)));
}

#[test]
fn a_device_that_falls_off_the_bus_is_noticed_by_every_call() {
    let mut lab = Lab::ready("");
    let mut slot = lab.slot(1);
    lab.device.start(Command::DrainAll).unwrap();
    lab.model.control("all-ones on");
    let gone = |register| Error::DeviceGone { register };
    assert_eq!(lab.device.poll(), Err(gone(RegisterName::CmdStatus)));
    assert_eq!(lab.device.state(), Err(gone(RegisterName::GenSts)));
    assert_eq!(lab.device.recover(), Err(gone(RegisterName::GenSts)));
    assert_eq!(lab.device.reset(), Err(gone(RegisterName::GenSts)));
    assert_eq!(lab.device.queue_state(0), Err(gone(RegisterName::WqCfg)));
    assert_eq!(lab.device.take_causes(), Err(gone(RegisterName::IntCause)));
    assert_eq!(
        lab.device.take_software_error(),
        Err(gone(RegisterName::SwError))
    );
    assert_eq!(slot.set_masked(true), Err(gone(RegisterName::Ims)));
    assert_eq!(slot.is_pending(), Err(gone(RegisterName::Ims)));
    assert_eq!(slot.restore(), Err(gone(RegisterName::Ims)));
    let error = take_over(&lab.model).map(|_| ()).unwrap_err();
    assert_eq!(error, gone(RegisterName::Version));
}
