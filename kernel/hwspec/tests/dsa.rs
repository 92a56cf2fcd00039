//! Literal values of DSA registers and structures, worked out by hand from the
//! tables of the specification.

use hwspec::dsa::{
    CMD, CMDCAP, CMDSTATUS, Cmd, CmdStatus, CommandCode, CommandError, CompletionRecord,
    Descriptor, DescriptorWord0, DescriptorWord4, DeviceState, EngCap, FaultInfo, Flags, GENCAP,
    GenCap, GenCfg, GenCtrl, GenSts, GroupConfig, GroupFlags, GrpCap, INTCAUSE, ImsControl,
    ImsEntry, IntCause, MsixPermission, OFFSETS_0, OccupancyInterrupt, OccupancyLimit, Offsets0,
    Offsets1, Operand, Operation, PortalPage, ResetType, SWERROR_0, SWERROR_1, SWERROR_2, Status,
    SwError0, SwError1, Version, WQCAP, WqCap, WqConfig, WqLimits, WqMode, WqSize, WqState,
    WqStatus, WqThreshold, msix_permission, opcap,
};
use hwspec::register::Layout;

#[test]
fn capabilities_of_sapphire_rapids() {
    assert_eq!(Version::from_bits(0x0100).major(), 1);
    // As sysfs shows it there.
    let gencap = GenCap::from_bits(0x40_915f_0107);
    assert!(gencap.block_on_fault() && gencap.overlapping_copy() && gencap.cache_control());
    assert!(gencap.destination_readback() && !gencap.command_capabilities());
    assert!(!gencap.durable_write() && !gencap.fault_info() && gencap.configuration());
    assert_eq!(gencap.event_log(), 0);
    assert_eq!(gencap.max_transfer_bytes(), 0x8000_0000);
    assert_eq!(gencap.max_batch_descriptors(), 1024);
    assert_eq!(gencap.ims_entries(), 2048);
    assert_eq!(GENCAP.offset(), 0x10);

    let wqcap = WqCap::from_bits(0x003b_0000_0008_0080);
    assert_eq!(
        (wqcap.total_size(), wqcap.count(), wqcap.wqcfg_bytes()),
        (128, 8, 32)
    );
    assert!(wqcap.shared_mode() && wqcap.dedicated_mode() && !wqcap.ats_disable());
    assert!(wqcap.priority() && wqcap.occupancy() && wqcap.occupancy_interrupt());
    assert!(!wqcap.operations_configuration() && !wqcap.prs_disable());
    assert_eq!(WqCap::from_bits(0x0100_0000).wqcfg_bytes(), 64);
    assert_eq!(WQCAP.offset(), 0x20);

    let grpcap = GrpCap::from_bits(0x3_6004);
    assert_eq!((grpcap.count(), grpcap.read_buffers()), (4, 96));
    assert!(grpcap.read_buffer_controls() && grpcap.global_read_buffer_limit());
    assert!(!grpcap.in_progress_limit() && !grpcap.bandwidth_limit());
    let engcap = EngCap::from_bits(0x0020_4004);
    assert_eq!(engcap.count(), 4);
    assert_eq!(
        (
            engcap.max_work_in_progress(),
            engcap.max_batch_in_progress()
        ),
        (0x40, 0x20)
    );
    assert_eq!(opcap(3).offset(), 0x58);

    let offsets = Offsets0::from_bits(0x0080_0004_0008_0006);
    assert_eq!(
        (offsets.grpcfg_offset(), offsets.wqcfg_offset()),
        (0x600, 0x800)
    );
    assert_eq!(
        (offsets.msixperm_offset(), offsets.ims_offset()),
        (0x400, 0x8000)
    );
    assert_eq!(OFFSETS_0.offset(), 0x60);
    assert_eq!(Offsets1::from_bits(0x0090_0020).idpt(), 0x90);
}

#[test]
fn control_and_status() {
    assert_eq!(GenCfg::new().with_user_interrupts(true).into_raw(), 0x1000);
    assert_eq!(GenCfg::new().with_event_log(true).into_raw(), 0x2000);
    assert_eq!(
        GenCtrl::new()
            .with_software_error(true)
            .with_halt_state(true)
            .into_raw(),
        3
    );
    let status = GenSts::from_raw(0x7);
    assert_eq!(
        (status.state(), status.reset_type()),
        (DeviceState::Halted, ResetType::FunctionLevel)
    );
    assert_eq!(GenSts::from_raw(0x9).reset_type(), ResetType::Warm);
    let cause = IntCause::from_raw(0x8000_0013);
    assert!(cause.software_error() && cause.command_completion() && cause.halt_state());
    assert!(cause.handles_revoked() && !cause.occupancy_below_limit());
    assert_eq!(INTCAUSE.offset(), 0x98);
}

#[test]
fn commands() {
    let command = Cmd::new()
        .with_code(CommandCode::ENABLE_DEVICE)
        .with_request_interrupt(true);
    assert_eq!(command.into_raw(), 0x8010_0000);
    let request = Cmd::new().with_code(CommandCode::REQUEST_INTERRUPT_HANDLE);
    assert_eq!(
        request.with_operand(Cmd::msix_operand(9)).into_raw(),
        0x00d0_0009
    );
    assert_eq!(
        request.with_operand(Cmd::ims_operand(0x7ff)).into_raw(),
        0x00d1_07ff
    );
    let drain = Cmd::new().with_code(CommandCode::DRAIN_WQ);
    // The specification's examples: WQs 1, 4 and 7 are 0x00092, 21 and 22 0x10060.
    assert_eq!(
        Cmd::wq_operand(1) | Cmd::wq_operand(4) | Cmd::wq_operand(7),
        0x00092
    );
    assert_eq!(Cmd::wq_operand(21) | Cmd::wq_operand(22), 0x10060);
    assert_eq!(
        drain.with_operand(Cmd::wq_operand(4)).into_raw(),
        0x0080_0010
    );
    let status = CmdStatus::from_raw(0x0001_2342);
    assert!(!status.active() && CmdStatus::from_raw(0x8000_0000).active());
    assert_eq!(
        (status.error(), status.result()),
        (CommandError::NO_INTERRUPT_HANDLE, 0x123)
    );
    assert_eq!(
        (CMD.offset(), CMDSTATUS.offset(), CMDCAP.offset()),
        (0xa0, 0xa8, 0xb0)
    );
    assert_eq!(CommandError::WQ_SIZE.to_string(), "WQ size is 0 (0x22)");
    assert_eq!(CommandError(0x7f).to_string(), "undefined (0x7f)");
}

#[test]
fn software_error() {
    let error = SwError0::from_raw(0x0123_4503_0003_190f);
    assert!(error.valid() && error.overflow() && error.descriptor_valid());
    assert!(error.wq_index_valid() && !error.batch_member() && !error.write());
    assert!(!error.privileged() && !error.error_information_valid());
    assert_eq!(error.error_code(), Status::INTERRUPT_HANDLE);
    assert_eq!(
        (error.wq_index(), error.operation()),
        (3, Operation::MEMORY_MOVE)
    );
    assert_eq!(error.pasid(), 0x12345);
    let more = SwError1::from_raw(0x0000_0102_0000_0007);
    assert_eq!((more.batch_index(), more.error_information()), (7, 0x102));
    let all = (SWERROR_0.offset(), SWERROR_1.offset(), SWERROR_2.offset());
    assert_eq!(all, (0xc0, 0xc8, 0xd0));
}

#[test]
fn groups_and_queues() {
    let group = GroupConfig::at(0x600, 2);
    assert_eq!(
        (group.wqs(1).offset(), group.engines().offset()),
        (0x688, 0x6a0)
    );
    assert_eq!(group.flags().offset(), 0x6a8);
    let flags = GroupFlags::new()
        .with_tc_a(1)
        .with_tc_b(2)
        .with_use_global_limit(true)
        .with_read_buffers_reserved(0x11)
        .with_read_buffers_allowed(0x60)
        .with_batch_in_progress_limit(2)
        .with_write_bandwidth_limit(3);
    assert_eq!(flags.into_raw(), 0x0000_3020_0600_1191);

    let wq = WqConfig::at(0x800, 32, 3);
    assert_eq!((wq.size().offset(), wq.status().offset()), (0x860, 0x878));
    assert_eq!(WqConfig::at(0x800, 64, 3).operations(1).offset(), 0x8e8);
    assert_eq!(WqSize::new().with_size(16).into_raw(), 16);
    assert_eq!(WqThreshold::new().with_threshold(8).into_raw(), 8);
    let mode = WqMode::new()
        .with_dedicated(true)
        .with_priority(10)
        .with_pasid(0x12345)
        .with_pasid_enable(true);
    assert_eq!(mode.into_raw(), 0x1123_45a1);
    assert_eq!(
        WqMode::new()
            .with_privileged(true)
            .with_block_on_fault(true)
            .into_raw(),
        0x2000_0002
    );
    assert_eq!(
        WqLimits::new()
            .with_max_transfer_size(21)
            .with_max_batch_size(5)
            .into_raw(),
        0xb5
    );
    assert_eq!(
        OccupancyInterrupt::new()
            .with_handle(5)
            .with_ims(true)
            .into_raw(),
        0x1_0005
    );
    assert_eq!(
        OccupancyLimit::new()
            .with_limit(4)
            .with_enable(true)
            .into_raw(),
        0x1_0004
    );
    let status = WqStatus::from_raw(0x6001_0007);
    assert_eq!((status.state(), status.occupancy()), (WqState::ENABLED, 7));
    assert!(status.mode_support() && status.interrupt_generated());
}

#[test]
fn interrupt_tables_and_portals() {
    let permission = MsixPermission::new()
        .with_pasid(0x12345)
        .with_pasid_enable(true);
    assert_eq!(permission.into_raw(), 0x1234_5008);
    assert_eq!(msix_permission(0x400, 3).offset(), 0x418);
    let control = ImsControl::new()
        .with_pasid(0x12345)
        .with_pasid_enable(true)
        .with_mask(true);
    assert_eq!(control.into_raw(), 0x1234_5009);
    assert!(ImsControl::from_raw(2).pending() && ImsControl::from_raw(4).ignore());
    let slot = ImsEntry::at(0x8000, 0x7ff);
    assert_eq!(
        (slot.address().offset(), slot.data().offset()),
        (0xfff0, 0xfff8)
    );
    assert_eq!(slot.control().offset(), 0xfffc);
    assert_eq!(PortalPage::UnlimitedMsix.offset(0), 0);
    assert_eq!(PortalPage::LimitedMsix.offset(1), 0x5000);
    assert_eq!(PortalPage::LimitedIms.offset(2), 0xb000);
}

#[test]
fn descriptor() {
    let flags = Flags::new()
        .with_completion_record_address_valid(true)
        .with_request_completion_record(true)
        .with_request_completion_interrupt(true);
    assert_eq!(flags.into_bits(), 0x1c);
    let descriptor = Descriptor {
        word0: DescriptorWord0::new()
            .with_pasid(0x12345)
            .with_privileged(true)
            .with_flags(flags)
            .with_operation(Operation::MEMORY_MOVE),
        completion_record_address: 0x1000,
        word2: 0x2000,
        word3: 0x3000,
        word4: DescriptorWord4::new()
            .with_transfer_size(0x1000)
            .with_interrupt_handle(0x102),
        ..Descriptor::default()
    };
    let words = [
        0x0300_001c_8001_2345,
        0x1000,
        0x2000,
        0x3000,
        0x0000_0102_0000_1000,
        0,
        0,
        0,
    ];
    assert_eq!(descriptor.words(), words);
    assert_eq!(Descriptor::from_words(words), descriptor);
    assert_eq!(
        Flags::CRC_READ_SEED.union(Flags::CRC_64).into_bits(),
        0x9_0000
    );
    assert!(Flags::from_bits(0x4_0000).contains(Flags::FILL_PATTERN_16));
    assert_eq!(Flags::from_bits(0xff_0000).operation_specific(), 0xff);
    assert!(Flags::from_bits(0x80).check_result() && Flags::from_bits(0x4000).cache_control_2());

    let specific = Descriptor::from_words([0, 0, 0, 0, 0, 0x0011_2233_4455_6677, 0xf0, 0]);
    assert_eq!(specific.destination2_address(), 0x0011_2233_4455_6677);
    assert_eq!(specific.delta_record_size(), 0x4455_6677);
    assert_eq!(specific.max_delta_record_size(), 0xf0);
    assert_eq!(specific.crc_seed_address(), 0xf0);
    assert_eq!(specific.dif_flags(), 0x55);
}

#[test]
fn completion_record() {
    let record = CompletionRecord::from_words([0x0000_0800_0007_0183, 0x5000, 0x1c, 0]);
    assert_eq!(record.word0.status(), Status::PAGE_FAULT);
    assert!(record.word0.write());
    assert_eq!(
        (record.word0.result(), record.word0.bytes_completed()),
        (1, 0x800)
    );
    let info = FaultInfo::new()
        .with_address_masked(true)
        .with_operand(Operand::DESTINATION);
    assert_eq!(record.word0.fault_info(), info);
    assert_eq!(record.fault_address, 0x5000);
    assert!(Status::SUCCESS.is_success() && Status::FALSE_PREDICATE.is_success());
    assert!(!Status::NONE.is_success() && !Status::BATCH_FAILURE.is_success());
    assert_eq!(
        Status::INTERRUPT_HANDLE.to_string(),
        "invalid interrupt handle (0x19)"
    );
}
