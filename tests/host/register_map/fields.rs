//! Where the bits are that can be written: each field of the hypervisor's layouts is written
//! alone and read as raw bits, and together they are all that the model lets be written.

use hwio::Registers;
use hwspec::dsa::{
    GENCFG, GENCTRL, GenCfg, GenCtrl, GroupFlags, ImsControl, MsixPermission, OFFSETS_0,
    OccupancyInterrupt, OccupancyLimit, WqLimits, WqMode, WqSize, WqThreshold, msix_permission,
};
use hwspec::register::Bits;

use crate::bench::Bench;

/// A field of a layout with all its bits set, as the register has it.
macro_rules! fields {
    ($layout:ty: $($with:ident($value:expr)),+ $(,)?) => {
        [$((stringify!($with), <$layout>::new().$with($value).into_bits())),+]
    };
}

/// That each of `fields` is kept as written, and nothing else can be.
#[track_caller]
fn check<B: Bits + PartialEq>(bench: &mut Bench, offset: usize, fields: &[(&str, B)]) {
    let zero = B::from_low_bits(0);
    let reset = bench.registers.read_raw::<B>(offset);
    let mut all = 0;
    for &(name, bits) in fields {
        assert_eq!(all & bits.to_u64(), 0, "{name} overlaps");
        all |= bits.to_u64();
        bench.registers.write_raw(offset, zero);
        bench.registers.write_raw(offset, bits);
        assert!(
            bench.registers.read_raw::<B>(offset) == bits,
            "{name} at {offset:#x}"
        );
    }
    // So far nothing was written that the model takes amiss.
    assert_eq!(bench.model.take_violations(), Vec::<String>::new());
    bench.registers.write_raw(offset, zero);
    bench.registers.write_raw(offset, B::from_low_bits(!0));
    assert_eq!(
        bench.registers.read_raw::<B>(offset).to_u64(),
        all,
        "at {offset:#x}"
    );
    bench.registers.write_raw(offset, zero);
    bench.registers.write_raw(offset, reset);
    // Reserved bits are.
    bench.model.take_violations();
}

/// The third generation has all that there is; with this many queues, groups and engines
/// every bit of the bitmaps can be one.
fn bench() -> Bench {
    Bench::new("device-id=0x1212;queues=64;entries=1024;groups=16;engines=16")
}

#[test]
fn general_registers() {
    let mut bench = bench();
    let fields = fields!(GenCfg:
        with_global_read_buffer_limit(0xff), with_user_interrupts(true), with_event_log(true));
    check(&mut bench, GENCFG.offset(), &fields);
    let fields = fields!(GenCtrl:
        with_software_error(true), with_halt_state(true), with_event_log(true));
    check(&mut bench, GENCTRL.offset(), &fields);
}

#[test]
fn group_configuration() {
    let mut bench = bench();
    for index in [0, 1, 15] {
        let group = bench.group(index);
        check(&mut bench, group.wqs(0).offset(), &[("GRPWQCFG", !0_u64)]);
        check(&mut bench, group.wqs(1).offset(), &[("none", 0_u64)]);
        check(
            &mut bench,
            group.engines().offset(),
            &[("GRPENGCFG", 0xffff_u64)],
        );
        // Limits on descriptors in progress and on bandwidth are not in GRPCAP.
        let fields = fields!(GroupFlags:
            with_tc_a(7), with_tc_b(7), with_use_global_limit(true),
            with_read_buffers_reserved(0xff), with_read_buffers_allowed(0xff));
        check(&mut bench, group.flags().offset(), &fields);
    }
}

#[test]
fn work_queue_configuration() {
    let mut bench = bench();
    for index in [0, 1, 63] {
        let queue = bench.queue(index);
        check(
            &mut bench,
            queue.size().offset(),
            &fields!(WqSize: with_size(0xffff)),
        );
        let fields = fields!(WqThreshold: with_threshold(0xffff));
        check(&mut bench, queue.threshold().offset(), &fields);
        let fields = fields!(WqMode:
            with_dedicated(true), with_block_on_fault(true), with_ats_disable(true),
            with_prs_disable(true), with_priority(15), with_pasid(0xf_ffff),
            with_pasid_enable(true), with_privileged(true));
        check(&mut bench, queue.mode().offset(), &fields);
        // The model has no scatter-gather lists.
        let fields = fields!(WqLimits: with_max_transfer_size(31), with_max_batch_size(15));
        check(&mut bench, queue.limits().offset(), &fields);
        let fields = fields!(OccupancyInterrupt: with_handle(0xffff), with_ims(true));
        check(&mut bench, queue.occupancy_interrupt().offset(), &fields);
    }
}

/// The limit is locked while the interrupt is enabled, so that not both can be written
/// after one another.
#[test]
fn occupancy_limit() {
    let mut bench = bench();
    let register = bench.queue(1).occupancy_limit();
    let limit = OccupancyLimit::new().with_limit(0xffff);
    bench.registers.write(register, limit);
    assert_eq!(bench.registers.read_raw::<u32>(register.offset()), 0xffff);
    bench.registers.write(register, limit.with_enable(true));
    assert_eq!(bench.registers.read_raw::<u32>(register.offset()), 0x1_ffff);
}

#[test]
fn operations_configuration() {
    let mut bench = bench();
    let queue = bench.queue(1);
    let reset = bench.registers.read(queue.operations(0));
    assert_eq!(reset, bench.registers.read(hwspec::dsa::opcap(0)));
    bench.registers.write(queue.operations(0), 1 << 3);
    assert_eq!(bench.registers.read(queue.operations(0)), 1 << 3);
    assert_eq!(bench.registers.read(queue.operations(3)), 0);
}

#[test]
fn permissions_of_msix_entries() {
    let mut bench = bench();
    let table = bench.registers.read(OFFSETS_0).msixperm_offset();
    for index in [0, 1, 64] {
        let fields = fields!(MsixPermission:
            with_ignore(true), with_pasid_enable(true), with_pasid(0xf_ffff));
        check(&mut bench, msix_permission(table, index).offset(), &fields);
    }
}

#[test]
fn interrupt_message_storage() {
    let mut bench = bench();
    for index in [0, 1, 2047] {
        let slot = bench.slot(index);
        bench.registers.write(slot.address(), 0xfeef_fffc);
        assert_eq!(bench.registers.read(slot.address()), 0xfeef_fffc);
        check(
            &mut bench,
            slot.data().offset(),
            &[("Message Data", !0_u32)],
        );
        // Pending cannot be written.
        let fields = fields!(ImsControl:
            with_mask(true), with_ignore(true), with_pasid_enable(true), with_pasid(0xf_ffff));
        check(&mut bench, slot.control().offset(), &fields);
    }
}
