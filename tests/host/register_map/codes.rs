//! Operations, statuses and command codes.

use dsa_model::completion;
use dsa_model::descriptor::Opcode;
use hwspec::dsa::{CommandCode, CommandError, Operation, Status};

use crate::bench::Bench;

/// Every code: defined on both sides or on neither, and by the same name.
#[test]
fn operations() {
    for code in 0..=u8::MAX {
        let model = Opcode(code).name().to_lowercase();
        match Operation(code).text() {
            // What one calls "dualcast" is "memory copy with dualcast" in full.
            Some(text) => assert!(model.ends_with(&text.to_lowercase()), "{text}, {model}"),
            None => assert_eq!(model, "reserved", "{code:#x}"),
        }
    }
}

#[test]
fn statuses() {
    use completion::Status as Model;
    let both = [
        (Status::SUCCESS, Model::SUCCESS),
        (Status::FALSE_PREDICATE, Model::FALSE_PREDICATE),
        (Status::PAGE_FAULT, Model::PAGE_FAULT),
        (Status::PAGE_REQUEST_INVALID, Model::PAGE_REQUEST_INVALID),
        (Status::BATCH_FAILURE, Model::BATCH_MEMBER_FAILED),
        (Status::BATCH_PAGE_FAULT, Model::BATCH_PAGE_FAULT),
        (Status::DELTA_ORDER, Model::DELTA_NOT_INCREASING),
        (Status::DELTA_OFFSET, Model::DELTA_OUT_OF_RANGE),
        (Status::DIF_ERROR, Model::DIF_ERROR),
        (Status::UNSUPPORTED_OPERATION, Model::UNSUPPORTED_OPERATION),
        (Status::INVALID_FLAGS, Model::INVALID_FLAGS),
        (Status::RESERVED_FIELD, Model::RESERVED_FIELD),
        (Status::TRANSFER_SIZE, Model::TRANSFER_SIZE),
        (Status::DESCRIPTOR_COUNT, Model::DESCRIPTOR_COUNT),
        (Status::UNSUPPORTED_VALUE, Model::FIELD_VALUE),
        (Status::OVERLAP, Model::OVERLAPPING_BUFFERS),
        (Status::DUALCAST_ALIGNMENT, Model::DUALCAST_OFFSETS),
        (Status::LIST_ALIGNMENT, Model::MISALIGNED_DESCRIPTOR_LIST),
        (Status::INTERRUPT_HANDLE, Model::INVALID_INTERRUPT_HANDLE),
        (Status::RECORD_PAGE_FAULT, Model::COMPLETION_ADDRESS_FAULT),
        (
            Status::RECORD_ALIGNMENT,
            Model::MISALIGNED_COMPLETION_ADDRESS,
        ),
        (Status::ALIGNMENT, Model::MISALIGNED_ADDRESS),
        (Status::PRIVILEGE, Model::PRIVILEGE),
        (Status::TRAFFIC_CLASS, Model::TRAFFIC_CLASS),
        (Status::DRAIN_PAGE_FAULT, Model::READBACK_PAGE_FAULT),
        (Status::HARDWARE_ERROR, Model::HARDWARE_ERROR),
        (Status::WRITE_ERROR, Model::WRITE_HARDWARE_ERROR),
        (Status::TRANSLATION_ERROR, Model::TRANSLATION_ERROR),
        (
            Status::CONFIGURATION_CHANGED,
            Model::PCI_CONFIGURATION_CHANGE,
        ),
        (Status::COMMAND_ACTIVE, Model::COMMAND_WHILE_ACTIVE),
        (Status::WQ_FULL, Model::QUEUE_OVERFLOW),
        (Status::EVENT_LOG, Model::EVENT_LOG_APPEND),
    ];
    for (status, model) in both {
        assert_eq!(status.0, model.0);
    }
    // Nothing else is defined here that the model does not know.
    for code in 1..=u8::MAX {
        let is_compared = both.iter().any(|(status, _)| status.0 == code);
        assert_eq!(Status(code).text().is_some(), is_compared, "{code:#x}");
    }
}

/// The commands that the model knows are those that have a name here, and each does what its
/// name says: by the state that it needs.
#[test]
fn commands() {
    for code in 0..32 {
        let mut bench = Bench::new("device-id=0x11fb");
        let error = bench.command(CommandCode(code), 0).error();
        let is_known = error != CommandError::UNSUPPORTED;
        assert_eq!(is_known, CommandCode(code).text().is_some(), "{code}");
    }
    // On a device that is disabled, with a WQ operand that names queue 0.
    for (code, expected) in [
        (
            CommandCode::DISABLE_DEVICE,
            CommandError::DEVICE_NOT_ENABLED,
        ),
        (CommandCode::RESET_DEVICE, CommandError::NONE),
        (CommandCode::DRAIN_ALL, CommandError::NONE),
        (CommandCode::ENABLE_WQ, CommandError::WQ_DEVICE_NOT_ENABLED),
        (
            CommandCode::RELEASE_INTERRUPT_HANDLE,
            CommandError::INTERRUPT_INDEX,
        ),
    ] {
        let error = Bench::new("device-id=0x11fb").command(code, 0).error();
        assert_eq!(error, expected, "{code}");
    }
    for (code, expected) in [
        (CommandCode::DISABLE_WQ, CommandError::WQ_NOT_ENABLED),
        (CommandCode::DRAIN_WQ, CommandError::WQ_NOT_ENABLED),
        (CommandCode::ABORT_WQ, CommandError::WQ_NOT_ENABLED),
        (CommandCode::RESET_WQ, CommandError::NONE),
    ] {
        let error = Bench::new("").command(code, 1).error();
        assert_eq!(error, expected, "{code}");
    }
    let mut bench = Bench::running("");
    let again = bench.command(CommandCode::ENABLE_DEVICE, 0).error();
    assert_eq!(again, CommandError::DEVICE_NOT_DISABLED);
    let again = bench.command(CommandCode::ENABLE_WQ, 0).error();
    assert_eq!(again, CommandError::WQ_NOT_DISABLED);
    // An operand where none belongs.
    let operand = bench.command(CommandCode::DRAIN_ALL, 1).error();
    assert_eq!(operand, CommandError::RESERVED_FIELD);
    bench.model.control("halt flr");
    let halted = bench.command(CommandCode::DRAIN_ALL, 0).error();
    assert_eq!(halted, CommandError::HALTED);
}
