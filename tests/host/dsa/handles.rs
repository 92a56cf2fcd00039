//! Devices on which a handle is not an index.

use dsa::ims::ImsIndex;
use dsa::{Command, Error, InterruptHandle};
use hwspec::dsa::{CommandCode, CommandError, Status};

use crate::lab::{Lab, sent};
use crate::model::Model;

const GRANITE_RAPIDS: &str = "device-id=0x11fb;event-log=off";

#[test]
fn an_interrupt_is_asked_for_by_the_handle_that_the_device_gave() {
    let mut lab = Lab::ready(GRANITE_RAPIDS);
    assert!(lab.device.capabilities().has_handle_commands());
    let slot = lab.slot(1);
    let handle = lab.device.request_handle(slot.index()).unwrap();
    assert_ne!(handle.0, slot.index().0);
    assert_eq!(lab.run_no_op(0, handle.0), Status::SUCCESS);
    let index = u32::from(slot.index().0);
    assert_eq!(lab.model.take_messages(), [sent(index)]);
    // The index is no handle, and the handle no other PASID's.
    assert_eq!(lab.run_no_op(0, slot.index().0), Status::INTERRUPT_HANDLE);
    assert_eq!(lab.run_no_op(1, handle.0), Status::INTERRUPT_HANDLE);
    assert_eq!(lab.model.take_messages(), [Model::VECTOR_0]);

    lab.device.execute(Command::ReleaseHandle(handle)).unwrap();
    assert_eq!(lab.run_no_op(0, handle.0), Status::INTERRUPT_HANDLE);
}

#[test]
fn handles_that_are_not_there_are_refused() {
    let mut lab = Lab::ready(GRANITE_RAPIDS);
    let failed = |command| Error::CommandFailed {
        command,
        queue: None,
        error: CommandError::INTERRUPT_INDEX,
    };
    let error = lab.device.request_handle(ImsIndex(2048)).unwrap_err();
    assert_eq!(error, failed(CommandCode::REQUEST_INTERRUPT_HANDLE));
    let release = Command::ReleaseHandle(InterruptHandle(0x7777));
    let error = lab.device.execute(release).unwrap_err();
    assert_eq!(error, failed(CommandCode::RELEASE_INTERRUPT_HANDLE));
}

#[test]
fn revoked_handles_are_announced_and_requested_anew() {
    let mut lab = Lab::ready(GRANITE_RAPIDS);
    let slot = lab.slot(1);
    let old = lab.device.request_handle(slot.index()).unwrap();
    lab.model.control("revoke-handles");
    assert!(lab.device.take_causes().unwrap().handles_revoked());
    assert_eq!(lab.run_no_op(0, old.0), Status::INTERRUPT_HANDLE);
    let new = lab.device.request_handle(slot.index()).unwrap();
    assert_ne!(new, old);
    assert_eq!(lab.run_no_op(0, new.0), Status::SUCCESS);
}

#[test]
fn a_device_without_handles_is_not_asked_for_them() {
    let mut lab = Lab::ready("");
    let slot = lab.slot(1);
    let handle = lab.device.request_handle(slot.index()).unwrap();
    assert_eq!(handle.0, slot.index().0);
    for (command, code) in [
        (
            Command::RequestHandle(slot.index()),
            CommandCode::REQUEST_INTERRUPT_HANDLE,
        ),
        (
            Command::ReleaseHandle(handle),
            CommandCode::RELEASE_INTERRUPT_HANDLE,
        ),
    ] {
        let error = lab.device.start(command).unwrap_err();
        assert_eq!(error, Error::UnsupportedCommand { command: code });
    }
}
