//! What the fields mean that can be written: each is set to something that the model
//! refuses, or acts upon, for the reason that the field is there for.

use dsa_model::Transaction;
use hwio::{Portal, Registers, Submission};
use hwspec::dsa::{
    CommandCode, CommandError, DescriptorWord4, Flags, GENCFG, ImsControl, MsixPermission,
    OFFSETS_0, OccupancyInterrupt, Operation, PortalPage, Status, WqLimits, WqMode, WqSize,
    WqThreshold, msix_permission,
};

use crate::bench::{Bench, PASID, no_op};

fn interrupt() -> Flags {
    Flags::new().with_request_completion_interrupt(true)
}

/// How Enable WQ ends with this mode.
fn with_mode(options: &str, mode: WqMode) -> CommandError {
    let mut bench = Bench::new(options);
    bench.set_up();
    assert_eq!(bench.enable_device(), CommandError::NONE);
    bench.enable_queue(mode)
}

#[test]
fn mode_of_a_queue() {
    let mode = Bench::mode();
    assert_eq!(with_mode("", mode), CommandError::NONE);
    for (options, mode, error) in [
        ("", mode.with_priority(0), CommandError::WQ_PRIORITY),
        (
            "",
            mode.with_block_on_fault(true),
            CommandError::WQ_BLOCK_ON_FAULT,
        ),
        (
            "ats-disable=off",
            mode.with_ats_disable(true),
            CommandError::WQ_ATS_DISABLE,
        ),
        (
            "device-id=0x11fb",
            mode.with_prs_disable(true),
            CommandError::WQ_PRS_DISABLE,
        ),
        ("modes=shared", mode, CommandError::WQ_MODE),
        (
            "modes=dedicated",
            mode.with_dedicated(false),
            CommandError::WQ_MODE,
        ),
        (
            "",
            mode.with_dedicated(false).with_pasid_enable(false),
            CommandError::WQ_PASID_ENABLE,
        ),
    ] {
        assert_eq!(with_mode(options, mode), error, "{mode:?}");
    }
    assert_eq!(
        with_mode("", mode.with_ats_disable(true)),
        CommandError::NONE
    );
    // A PASID capability without privileged mode.
    let mut bench = Bench::new("");
    bench.set_up();
    bench.model.write_config(0x236, 2, 1);
    bench.enable_device();
    assert_eq!(
        bench.enable_queue(mode.with_privileged(true)),
        CommandError::WQ_PRIVILEGE
    );
}

#[test]
fn pasid_of_a_queue() {
    let bench = Bench::running("");
    assert_eq!(
        bench.run(PortalPage::LimitedIms, &no_op(Flags::new())),
        Status::SUCCESS
    );
    // The record is only there for this PASID.
    let mut other = Bench::new("");
    other.set_up();
    other.enable_device();
    other.enable_queue(Bench::mode().with_pasid(PASID + 1));
    assert_eq!(
        other.run(PortalPage::LimitedIms, &no_op(Flags::new())),
        Status::NONE
    );
}

#[test]
fn limits_of_a_queue() {
    let with = |limits: WqLimits| {
        let mut bench = Bench::new("max-transfer=30");
        bench.set_up();
        bench.registers.write(bench.queue(0).limits(), limits);
        bench.enable_device();
        bench.enable_queue(Bench::mode())
    };
    let limits = WqLimits::new()
        .with_max_transfer_size(30)
        .with_max_batch_size(10);
    assert_eq!(with(limits), CommandError::NONE);
    assert_eq!(
        with(limits.with_max_transfer_size(31)),
        CommandError::WQ_TRANSFER_SIZE
    );
    assert_eq!(
        with(limits.with_max_batch_size(11)),
        CommandError::WQ_BATCH_SIZE
    );
}

#[test]
fn operations_of_a_queue() {
    let mut bench = Bench::new("device-id=0x11fb;event-log=off;handle-commands=off");
    bench.set_up();
    let operations = bench.queue(0).operations(0);
    bench
        .registers
        .write(operations, 1 << Operation::SCATTER_COPY.0);
    bench.enable_device();
    assert_eq!(
        bench.enable_queue(Bench::mode()),
        CommandError::WQ_OPERATIONS
    );
    bench
        .registers
        .write(operations, 1 << Operation::MEMORY_MOVE.0);
    assert_eq!(bench.enable_queue(Bench::mode()), CommandError::NONE);
    let status = bench.run(PortalPage::LimitedIms, &no_op(Flags::new()));
    assert_eq!(status, Status::UNSUPPORTED_OPERATION);
}

#[test]
fn occupancy_interrupt_of_a_queue() {
    let with = |target: OccupancyInterrupt| {
        let mut bench = Bench::new("");
        bench.set_up();
        bench
            .registers
            .write(bench.queue(0).occupancy_interrupt(), target);
        bench.enable_device();
        bench.enable_queue(Bench::mode())
    };
    // There are 9 MSI-X entries and 2048 of the IMS.
    let target = OccupancyInterrupt::new().with_handle(2047);
    assert_eq!(with(target), CommandError::WQ_OCCUPANCY);
    assert_eq!(with(target.with_ims(true)), CommandError::NONE);
}

#[test]
fn size_and_group_of_a_queue() {
    let enable = |change: fn(&mut Bench)| {
        let mut bench = Bench::new("");
        bench.set_up();
        change(&mut bench);
        bench.enable_device()
    };
    assert_eq!(enable(|_| ()), CommandError::NONE);
    let size = enable(|it| {
        it.registers
            .write(it.queue(0).size(), WqSize::new().with_size(129))
    });
    assert_eq!(size, CommandError::TOTAL_WQ_SIZE);
    let no_engine = enable(|it| it.registers.write(it.group(0).engines(), 0));
    assert_eq!(no_engine, CommandError::GROUP);
    let no_group = enable(|it| {
        it.registers
            .write(it.queue(1).size(), WqSize::new().with_size(1))
    });
    assert_eq!(no_group, CommandError::GROUP_WQS);
    let two_groups = enable(|it| {
        it.registers.write(it.group(1).wqs(0), 0b10);
        it.registers.write(it.group(1).engines(), 1);
        it.registers
            .write(it.queue(1).size(), WqSize::new().with_size(1));
    });
    assert_eq!(two_groups, CommandError::GROUP_ENGINES);
}

/// 96 read buffers; an engine needs four.
#[test]
fn read_buffers_of_a_group() {
    let enable = |change: fn(&mut Bench)| {
        let mut bench = Bench::new("");
        bench.set_up();
        change(&mut bench);
        bench.enable_device()
    };
    let few = enable(|it| {
        let flags = it.group(0).flags();
        it.registers
            .modify(flags, |flags| flags.with_read_buffers_allowed(3));
    });
    assert_eq!(few, CommandError::READ_BUFFERS);
    let many = enable(|it| {
        let flags = it.group(0).flags();
        it.registers.modify(flags, |flags| {
            flags
                .with_read_buffers_reserved(97)
                .with_read_buffers_allowed(97)
        });
    });
    assert_eq!(many, CommandError::READ_BUFFERS);
    let limited = enable(|it| {
        let flags = it.group(0).flags();
        it.registers
            .modify(flags, |flags| flags.with_use_global_limit(true));
        it.registers
            .modify(GENCFG, |gencfg| gencfg.with_global_read_buffer_limit(3));
    });
    assert_eq!(limited, CommandError::READ_BUFFERS);
    // Nobody uses the limit.
    let unused = enable(|it| {
        it.registers
            .modify(GENCFG, |gencfg| gencfg.with_global_read_buffer_limit(3));
    });
    assert_eq!(unused, CommandError::NONE);
}

/// Traffic class 1 is carried by no virtual channel here.
#[test]
fn traffic_classes_of_a_group() {
    let run = |tc_a, tc_b, flags| {
        let mut bench = Bench::new("");
        bench.set_up();
        bench.model.write_config(0x184, 1, 0b1111_1101);
        let group = bench.group(0).flags();
        bench
            .registers
            .modify(group, |group| group.with_tc_a(tc_a).with_tc_b(tc_b));
        bench.enable_device();
        bench.enable_queue(Bench::mode());
        let mut descriptor = no_op(flags);
        descriptor.word0.set_operation(Operation::MEMORY_MOVE);
        descriptor.word2 = 0x1_0000;
        descriptor.word3 = 0x2_0000;
        descriptor.word4.set_transfer_size(8);
        bench.model.map(Some(PASID), descriptor.word2);
        bench.model.map(Some(PASID), descriptor.word3);
        bench.run(PortalPage::LimitedIms, &descriptor)
    };
    let source_in_b = Flags::new().with_address_1_tc(true);
    assert_eq!(run(0, 2, source_in_b), Status::SUCCESS);
    // The record goes by B, for by A it would not arrive either.
    let record_in_b = Flags::new().with_completion_record_tc(true);
    assert_eq!(run(0, 2, record_in_b), Status::SUCCESS);
    assert_eq!(run(1, 2, record_in_b), Status::TRAFFIC_CLASS);
    assert_eq!(run(0, 1, Flags::new()), Status::SUCCESS);
    assert_eq!(run(0, 1, source_in_b), Status::TRAFFIC_CLASS);
}

#[test]
fn user_mode_interrupts() {
    for allowed in [true, false] {
        let mut bench = Bench::new("");
        bench.set_up();
        bench
            .registers
            .modify(GENCFG, |gencfg| gencfg.with_user_interrupts(allowed));
        bench.enable_device();
        bench.enable_queue(Bench::mode());
        bench.open_slot();
        let status = bench.run(PortalPage::LimitedIms, &no_op(interrupt()));
        let expected = if allowed {
            Status::SUCCESS
        } else {
            Status::INVALID_FLAGS
        };
        assert_eq!(status, expected);
    }
}

/// Two pages apply the threshold, here 0, and the other two refer to the IMS.
#[test]
fn the_four_pages_of_a_portal() {
    for (page, is_limited, is_ims) in [
        (PortalPage::UnlimitedMsix, false, false),
        (PortalPage::LimitedMsix, true, false),
        (PortalPage::UnlimitedIms, false, true),
        (PortalPage::LimitedIms, true, true),
    ] {
        let mut bench = Bench::new("");
        bench.set_up();
        bench
            .registers
            .write(bench.queue(0).threshold(), WqThreshold::new());
        bench.enable_device();
        let shared = Bench::mode().with_dedicated(false).with_pasid(0);
        assert_eq!(bench.enable_queue(shared), CommandError::NONE);
        bench.open_slot();
        let portal = bench.model.portal(0, page, Transaction::Deferrable);
        let answer = portal.submit(&no_op(interrupt()).words());
        let expected = if is_limited {
            Submission::Retry
        } else {
            Submission::Accepted
        };
        assert_eq!(answer, expected, "{page:?}");
        bench.model.run();

        // With room, the table: MSI-X entry 0 is for work without PASID, slot 0 is not.
        let threshold = WqThreshold::new().with_threshold(16);
        bench.registers.write(bench.queue(0).threshold(), threshold);
        portal.submit(&no_op(interrupt()).words());
        bench.model.run();
        let record = bench.model.record(Some(PASID), crate::bench::RECORD);
        let expected = if is_ims {
            Status::SUCCESS
        } else {
            Status::INTERRUPT_HANDLE
        };
        assert_eq!(record.word0.status(), expected, "{page:?}");
        bench.model.write_register(0xc0, 8, 3);
    }
}

#[test]
fn control_of_a_slot() {
    let mut bench = Bench::running("");
    bench.open_slot();
    let control = bench.slot(0).control();
    let open = bench.registers.read(control);
    let run = |bench: &Bench| {
        let status = bench.run(PortalPage::LimitedIms, &no_op(interrupt()));
        (status, bench.model.take_messages())
    };
    let sent = vec![(0xfee0_1000, 5)];
    assert_eq!(run(&bench), (Status::SUCCESS, sent.clone()));

    bench.registers.write(control, open.with_ignore(true));
    assert_eq!(run(&bench), (Status::SUCCESS, vec![]));
    assert!(!bench.registers.read(control).pending());

    bench.registers.write(control, open.with_mask(true));
    assert_eq!(run(&bench), (Status::SUCCESS, vec![]));
    assert!(bench.registers.read(control).pending());
    bench.registers.write(control, open);
    assert_eq!(bench.model.take_messages(), sent);
    assert!(!bench.registers.read(control).pending());

    for other in [
        open.with_pasid(PASID + 1),
        open.with_pasid_enable(false),
        ImsControl::new(),
    ] {
        bench.registers.write(control, other);
        assert_eq!(run(&bench), (Status::INTERRUPT_HANDLE, vec![]));
        bench.model.write_register(0xc0, 8, 3);
    }
}

#[test]
fn permission_of_an_msix_entry() {
    let mut bench = Bench::running("");
    let table = bench.registers.read(OFFSETS_0).msixperm_offset();
    let register = msix_permission(table, 1);
    // Entry 1 of the MSI-X table.
    bench.model.write_register(0x2010, 8, 0xfee0_2000);
    bench.model.write_register(0x201c, 4, 0);
    let mut descriptor = no_op(interrupt());
    descriptor.word4 = DescriptorWord4::new().with_interrupt_handle(1);
    let run = |bench: &Bench| {
        let status = bench.run(PortalPage::LimitedMsix, &descriptor);
        (status, bench.model.take_messages())
    };
    let open = MsixPermission::new()
        .with_pasid_enable(true)
        .with_pasid(PASID);
    bench.registers.write(register, open);
    assert_eq!(run(&bench), (Status::SUCCESS, vec![(0xfee0_2000, 0)]));
    bench.registers.write(register, open.with_ignore(true));
    assert_eq!(run(&bench), (Status::SUCCESS, vec![]));
    for other in [open.with_pasid(PASID + 1), open.with_pasid_enable(false)] {
        bench.registers.write(register, other);
        assert_eq!(run(&bench), (Status::INTERRUPT_HANDLE, vec![]));
        bench.model.write_register(0xc0, 8, 3);
    }
}

/// A bitmap of sixteen queues, and which sixteen.
#[test]
fn queues_in_the_operand_of_a_command() {
    let mut bench = Bench::new("queues=20");
    let group = bench.group(0);
    bench.registers.write(group.wqs(0), 1 << 17);
    bench.registers.write(group.engines(), 1);
    let queue = bench.queue(17);
    bench
        .registers
        .write(queue.size(), WqSize::new().with_size(4));
    bench
        .registers
        .write(queue.limits(), WqLimits::new().with_max_batch_size(1));
    assert_eq!(bench.enable_device(), CommandError::NONE);
    bench.registers.write(queue.mode(), Bench::mode());
    let error = |status: hwspec::dsa::CmdStatus| status.error();
    assert_eq!(
        error(bench.command(CommandCode::ENABLE_WQ, 17)),
        CommandError::NONE
    );
    let drain = |bench: &mut Bench, queue| {
        let operand = hwspec::dsa::Cmd::wq_operand(queue);
        error(bench.command(CommandCode::DRAIN_WQ, operand))
    };
    assert_eq!(drain(&mut bench, 17), CommandError::NONE);
    assert_eq!(drain(&mut bench, 16), CommandError::WQ_NOT_ENABLED);
    assert_eq!(drain(&mut bench, 1), CommandError::WQ_NOT_ENABLED);
    assert_eq!(drain(&mut bench, 20), CommandError::INVALID_WQ);
}
