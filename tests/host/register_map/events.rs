//! What the device reports: states, causes, the ends of commands, errors.

use hwio::Registers;
use hwspec::dsa::{
    CMD, CMDSTATUS, Cmd, CommandCode, CommandError, Descriptor, DescriptorWord0, DescriptorWord4,
    DeviceState, Flags, GENCFG, GENCTRL, GENSTS, GenCtrl, INTCAUSE, IntCause, OFFSETS_1,
    OccupancyLimit, Operation, PortalPage, ResetType, SWERROR_0, SWERROR_1, SWERROR_2, Status,
    SwError0, WqState,
};

use crate::bench::{Bench, PASID, RECORD, no_op};
use crate::model::Model;

#[test]
fn states_of_the_device() {
    let mut bench = Bench::new("");
    let state = |bench: &Bench| bench.registers.read(GENSTS).state();
    assert_eq!(state(&bench), DeviceState::Disabled);
    bench.set_up();
    bench.enable_device();
    assert_eq!(state(&bench), DeviceState::Enabled);
    bench
        .registers
        .write(CMD, Cmd::new().with_code(CommandCode::DISABLE_DEVICE));
    assert_eq!(state(&bench), DeviceState::Draining);
    bench.model.run();
    assert_eq!(state(&bench), DeviceState::Disabled);
    for (word, reset_type) in [
        ("software", ResetType::ResetDevice),
        ("flr", ResetType::FunctionLevel),
        ("warm", ResetType::Warm),
        ("cold", ResetType::Cold),
    ] {
        bench.model.control(&format!("halt {word}"));
        let gensts = bench.registers.read(GENSTS);
        assert_eq!(
            (gensts.state(), gensts.reset_type()),
            (DeviceState::Halted, reset_type)
        );
    }
}

#[test]
fn states_and_occupancy_of_a_queue() {
    let mut bench = Bench::running("");
    let status = bench.queue(0).status();
    assert_eq!(bench.registers.read(status).state(), WqState::ENABLED);
    assert!(!bench.registers.read(status).mode_support());
    bench.model.control("delay-completions 1 1000000");
    for place in 0..4 {
        let mut descriptor = no_op(Flags::new());
        descriptor.completion_record_address += 32 * place;
        bench.post(PortalPage::LimitedIms, &descriptor);
    }
    // One is being worked on.
    bench.model.run_for(10_000);
    assert_eq!(bench.registers.read(status).occupancy(), 3);
    let disable = Cmd::new()
        .with_code(CommandCode::DISABLE_WQ)
        .with_operand(Cmd::wq_operand(0));
    bench.registers.write(CMD, disable);
    assert_eq!(bench.registers.read(status).state(), WqState::DRAINING);
    bench.model.run();
    let read = bench.registers.read(status);
    assert_eq!((read.state(), read.occupancy()), (WqState::DISABLED, 0));
    let fixed = Bench::new("configurable=off");
    assert!(fixed.registers.read(fixed.queue(0).status()).mode_support());
}

/// Each cause by what causes it, enabled and not.
#[test]
fn causes_of_interrupts() {
    let cause = |enables: GenCtrl, provoke: fn(&mut Bench)| {
        let mut bench = Bench::running("device-id=0x11fb;event-log=off");
        bench.registers.write(GENCTRL, enables);
        provoke(&mut bench);
        bench.model.run();
        let causes = bench.registers.read(INTCAUSE);
        let expected = if causes == IntCause::new() {
            vec![]
        } else {
            vec![Model::VECTOR_0]
        };
        assert_eq!(bench.model.take_messages(), expected);
        bench.registers.acknowledge(INTCAUSE, causes);
        assert_eq!(bench.registers.read(INTCAUSE), IntCause::new());
        causes
    };
    let none = GenCtrl::new();
    let halt = |it: &mut Bench| it.model.control("halt software");
    assert_eq!(cause(none, halt), IntCause::new());
    let enabled = none.with_halt_state(true);
    assert_eq!(cause(enabled, halt), IntCause::new().with_halt_state(true));
    let overflow = |it: &mut Bench| {
        it.model.control("queue-full 0 on");
        it.post(PortalPage::LimitedIms, &no_op(Flags::new()));
    };
    assert_eq!(cause(none, overflow), IntCause::new());
    let enabled = none.with_software_error(true);
    assert_eq!(
        cause(enabled, overflow),
        IntCause::new().with_software_error(true)
    );
    let command = |it: &mut Bench| {
        let drain = Cmd::new().with_code(CommandCode::DRAIN_ALL);
        it.registers.write(CMD, drain.with_request_interrupt(true));
    };
    assert_eq!(
        cause(none, command),
        IntCause::new().with_command_completion(true)
    );
    let revoked = cause(none, |it| it.model.control("revoke-handles"));
    assert_eq!(revoked, IntCause::new().with_handles_revoked(true));
}

/// The event log's own registers are known to the model only: EVLCFG at 0xe0, with room for
/// 64 entries.
#[test]
fn causes_of_the_event_log() {
    for enabled in [true, false] {
        let mut bench = Bench::new("device-id=0x11fb");
        let log = 0x4_0000;
        bench.model.map(None, log);
        bench.model.write_register(0xe0, 8, log);
        bench.model.write_register(0xe8, 8, 64);
        bench.set_up();
        bench
            .registers
            .modify(GENCFG, |gencfg| gencfg.with_event_log(true));
        bench
            .registers
            .write(GENCTRL, GenCtrl::new().with_event_log(enabled));
        bench.enable_device();
        bench.enable_queue(Bench::mode());
        // An operation that there is not, and no record to say so in.
        let mut descriptor = Descriptor::default();
        descriptor.word0.set_operation(Operation(0x7f));
        bench.post(PortalPage::LimitedIms, &descriptor);
        bench.model.run();
        let causes = bench.registers.read(INTCAUSE);
        assert_eq!(causes, IntCause::new().with_event_log(enabled));
        assert_eq!(bench.model.read_memory(None, log, 2), [0b1101, 0x10]);
    }
}

/// So are those of the performance monitor: counter 0, on, with an interrupt, counts what
/// dedicated queues take, and is about to overflow.
#[test]
fn causes_of_the_performance_monitor() {
    let bench = Bench::running("");
    let perfmon = u64::from(bench.registers.read(OFFSETS_1).perfmon()) * 0x100;
    bench
        .model
        .write_register(perfmon + 0x200, 8, (1 << 48) - 1);
    bench
        .model
        .write_register(perfmon + 0x100, 8, 0x10 << 32 | 0b11);
    bench.post(PortalPage::LimitedIms, &no_op(Flags::new()));
    bench.model.run();
    let causes = bench.registers.read(INTCAUSE);
    assert_eq!(causes, IntCause::new().with_perfmon_overflow(true));
}

/// Through MSI-X entry 0, which all devices without handles have.
#[test]
fn occupancy_below_the_limit() {
    let mut bench = Bench::running("");
    let queue = bench.queue(0);
    let limit = OccupancyLimit::new().with_limit(2).with_enable(true);
    bench.registers.write(queue.occupancy_limit(), limit);
    bench.model.run();
    let causes = bench.registers.read(INTCAUSE);
    assert_eq!(causes, IntCause::new().with_occupancy_below_limit(true));
    let status = bench.registers.read(queue.status());
    assert!(status.interrupt_generated());
}

#[test]
fn ends_of_commands() {
    let mut bench = Bench::running("device-id=0x11fb");
    bench.model.control("fail-command 0x32");
    let status = bench.command(CommandCode::DRAIN_ALL, 0);
    assert_eq!(
        (status.error(), status.result()),
        (CommandError::WQ_NOT_ENABLED, 0)
    );
    let operand = Cmd::ims_operand(3);
    let status = bench.command(CommandCode::REQUEST_INTERRUPT_HANDLE, operand);
    assert_eq!(status.error(), CommandError::NONE);
    let first = status.result();
    // The handle of the IMS entry is not that of the MSI-X entry.
    let operand = Cmd::msix_operand(3);
    let second = bench
        .command(CommandCode::REQUEST_INTERRUPT_HANDLE, operand)
        .result();
    assert_ne!(first, second);
    bench.model.control("hang-command");
    let status = bench.command(CommandCode::DRAIN_ALL, 0);
    assert!(status.active());
    // It is active still, so that this is an error, and a violation.
    bench.registers.write(CMD, Cmd::new());
    assert!(bench.registers.read(CMDSTATUS).active());
    assert_eq!(
        bench.registers.read(SWERROR_0).error_code(),
        Status::COMMAND_ACTIVE
    );
    assert_eq!(bench.model.take_violations().len(), 1);
}

/// The second member of a batch of a privileged queue cannot write its record.
#[test]
fn every_field_of_the_software_error_register() {
    let mut bench = Bench::new("");
    // With ATS on, without which the device hears of no fault of a write.
    bench.model.write_config(0x226, 2, 0x8000);
    bench.set_up();
    bench.enable_device();
    let mode = Bench::mode().with_privileged(true);
    assert_eq!(bench.enable_queue(mode), CommandError::NONE);
    let list = 0x3_0000;
    bench.model.map(Some(PASID), list);
    let mut bad = no_op(Flags::new());
    bad.completion_record_address = 0x9_9000;
    for (place, member) in [(0, no_op(Flags::new())), (64, bad)] {
        let bytes: Vec<u8> = member
            .words()
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect();
        bench.model.write_memory(Some(PASID), list + place, &bytes);
    }
    let flags = Flags::new()
        .with_completion_record_address_valid(true)
        .with_request_completion_record(true);
    let batch = Descriptor {
        word0: DescriptorWord0::new()
            .with_flags(flags)
            .with_operation(Operation::BATCH),
        completion_record_address: RECORD + 64,
        word2: list,
        word4: DescriptorWord4::new().with_transfer_size(2),
        ..Descriptor::default()
    };
    bench.post(PortalPage::LimitedIms, &batch);
    bench.model.run();

    let expected = SwError0::new()
        .with_valid(true)
        .with_descriptor_valid(true)
        .with_wq_index_valid(true)
        .with_batch_member(true)
        .with_write(true)
        .with_privileged(true)
        .with_error_code(Status::RECORD_PAGE_FAULT)
        .with_wq_index(0)
        .with_operation(Operation::NO_OP)
        .with_pasid(PASID);
    assert_eq!(bench.registers.read(SWERROR_0), expected);
    assert_eq!(bench.registers.read(SWERROR_1).batch_index(), 1);
    assert_eq!(bench.registers.read(SWERROR_2), 0x9_9000);
    // A second error overflows, and both bits are cleared by ones.
    bench.model.control("queue-full 0 on");
    bench.post(PortalPage::LimitedIms, &batch);
    let overflown = expected.with_overflow(true);
    assert_eq!(bench.registers.read(SWERROR_0), overflown);
    let both = SwError0::new().with_valid(true).with_overflow(true);
    bench.registers.acknowledge(SWERROR_0, both);
    let cleared = expected.with_valid(false);
    assert_eq!(bench.registers.read(SWERROR_0), cleared);
}

/// What went wrong is in the upper half of the second word: the handle, or the flags.
#[test]
fn error_information() {
    let bench = Bench::running("device-id=0x11fb;event-log=off");
    let mut descriptor = no_op(Flags::new().with_request_completion_interrupt(true));
    descriptor.word4.set_interrupt_handle(0x4321);
    let status = bench.run(PortalPage::LimitedIms, &descriptor);
    assert_eq!(status, Status::INTERRUPT_HANDLE);
    assert!(bench.registers.read(SWERROR_0).error_information_valid());
    assert_eq!(bench.registers.read(SWERROR_1).error_information(), 0x4321);
}

#[test]
fn the_dummy_portal_takes_nothing() {
    let bench = Bench::running("");
    let offset = u64::try_from(hwspec::dsa::DUMMY_PORTAL).unwrap();
    assert_eq!(bench.model.read_register(offset, 8), 0);
    bench.model.write_register(offset, 8, 1);
    let violations = bench.model.take_violations();
    assert!(
        violations[0].contains("portals take 64 bytes"),
        "{violations:?}"
    );
}
