//! Performance monitoring: what is counted, overflow, freeze and reset.
//! [341204 chapter 6 "Performance Monitoring", §9.2.25, Appendix D]

mod support;

use support::registers::{self as r, PERFMON};
use support::{Bytes, LIMITED_MSIX, QueueSetup, Rig, UNLIMITED_MSIX, memory_move, message, no_op};

const PERFRST: u64 = PERFMON + 0x10;
const PERFFRZ: u64 = PERFMON + 0x20;
const OVFSTATUS: u64 = PERFMON + 0x30;

const ENABLE: u64 = 1 << 0;
const INTERRUPT: u64 = 1 << 1;
const GLOBAL_FREEZE: u64 = 1 << 2;
const LARGEST: u64 = (1 << 48) - 1;

/// Events of category 0, submissions.
const SHARED_LIMITED_TAKEN: u64 = 0x01;
const SHARED_LIMITED_RETRIED: u64 = 0x02;
const SHARED_UNLIMITED_TAKEN: u64 = 0x04;
const SHARED_UNLIMITED_RETRIED: u64 = 0x08;
const DEDICATED_TAKEN: u64 = 0x10;
const DEDICATED_FULL: u64 = 0x20;
const SUBMISSIONS: u64 = 0;
/// Events of category 4, completions.
const PARTIAL: u64 = 0x04;
const ERROR: u64 = 0x08;
const SUCCESS: u64 = 0x10;
const COMPLETIONS: u64 = 4;

const RECORD: u64 = 0x30_0000;
const NOWHERE: u64 = 0x70_0000;

fn evntcap(category: u64) -> u64 {
    PERFMON + 0x80 + 8 * category
}

fn cntrcfg(counter: u64) -> u64 {
    PERFMON + 0x100 + 8 * counter
}

fn cntrdata(counter: u64) -> u64 {
    PERFMON + 0x200 + 8 * counter
}

fn count(rig: &mut Rig, counter: u64, category: u64, events: u64, flags: u64) {
    rig.write64(
        cntrcfg(counter),
        events << 32 | category << 8 | flags | ENABLE,
    );
}

/// A dedicated queue, and a record for its descriptors.
fn ready() -> Rig {
    let mut rig = Rig::with_queue("", QueueSetup::default());
    rig.machine.map(None, RECORD, 0x1000, true);
    rig
}

fn submit_no_ops(rig: &mut Rig, number: u64) {
    for _ in 0..number {
        rig.post(0, LIMITED_MSIX, &Bytes::new(0, 0));
        rig.run();
    }
}

#[test]
fn the_capabilities_suit_linux() {
    let mut rig = Rig::powered_up("");
    // 4 counters of 48 bits, 5 categories of which 0 and 4 have events;
    // writable while enabled, freeze, interrupt; alike, and without filters.
    let expected = 4 | 48 << 8 | 5 << 16 | 0b1_0001 << 20 | 0b1110 << 52;
    assert_eq!(rig.read64(PERFMON), expected);
    let events = [0, 1, 2, 3, 4].map(|category| rig.read64(evntcap(category)));
    assert_eq!(events, [0x3f, 0, 0, 0, PARTIAL | ERROR | SUCCESS]);
    // What its driver writes when it finds the device.
    for (offset, value) in [(PERFRST, 1), (OVFSTATUS, 0), (PERFFRZ, 0), (PERFRST, 2)] {
        rig.write32(offset, value);
        assert_eq!(rig.read32(offset), 0, "{offset:#x}");
    }
    assert_eq!(rig.dsa.violations(), [] as [String; 0]);
}

#[test]
fn submissions_are_counted_by_portal_and_fate() {
    let shared = QueueSetup {
        threshold: 2,
        size: 4,
        ..QueueSetup::shared()
    };
    for (page, taken, retried) in [
        (LIMITED_MSIX, SHARED_LIMITED_TAKEN, SHARED_LIMITED_RETRIED),
        (
            UNLIMITED_MSIX,
            SHARED_UNLIMITED_TAKEN,
            SHARED_UNLIMITED_RETRIED,
        ),
    ] {
        let mut rig = Rig::with_queue("", shared);
        count(&mut rig, 0, SUBMISSIONS, taken, 0);
        count(&mut rig, 1, SUBMISSIONS, retried, 0);
        count(&mut rig, 2, SUBMISSIONS, 0x3f & !(taken | retried), 0);
        let accepted = (0..9).filter(|_| rig.enqueue(0, page, &Bytes::new(0, 0).trusted(1)));
        let accepted = accepted.count() as u64;
        assert!((2..9).contains(&accepted));
        let counted = [0, 1, 2].map(|counter| rig.read64(cntrdata(counter)));
        assert_eq!(counted, [accepted, 9 - accepted, 0], "page {page}");
    }
    let mut rig = ready();
    count(&mut rig, 0, SUBMISSIONS, DEDICATED_TAKEN, 0);
    count(&mut rig, 1, SUBMISSIONS, DEDICATED_FULL, 0);
    rig.post(0, LIMITED_MSIX, &Bytes::new(0, 0));
    rig.control("queue-full 0 on");
    rig.post(0, LIMITED_MSIX, &Bytes::new(0, 0));
    rig.post(0, UNLIMITED_MSIX, &Bytes::new(0, 0));
    let counted = [0, 1].map(|counter| rig.read64(cntrdata(counter)));
    assert_eq!(counted, [1, 2]);
}

#[test]
fn completions_are_counted_by_their_status() {
    let mut rig = ready();
    rig.command(r::DISABLE_DEVICE);
    rig.enable_ats();
    rig.enable(&[0]);
    count(&mut rig, 0, COMPLETIONS, PARTIAL, 0);
    count(&mut rig, 1, COMPLETIONS, ERROR, 0);
    count(&mut rig, 2, COMPLETIONS, SUCCESS, 0);
    // The sum of several events of one category.
    count(&mut rig, 3, COMPLETIONS, PARTIAL | SUCCESS, 0);
    for _ in 0..3 {
        rig.post(0, LIMITED_MSIX, &no_op(RECORD));
        rig.run();
    }
    for _ in 0..2 {
        rig.post(0, LIMITED_MSIX, &memory_move(NOWHERE, RECORD, 8, RECORD));
        rig.run();
    }
    rig.post(0, LIMITED_MSIX, &Bytes::new(0x7f, 0));
    rig.run();
    let counted = [0, 1, 2, 3].map(|counter| rig.read64(cntrdata(counter)));
    assert_eq!(counted, [2, 1, 3, 5]);
}

/// §6.3.1, §9.2.25.5.
#[test]
fn overflow_is_remembered_and_interrupts_where_asked() {
    for flags in [0, INTERRUPT] {
        let mut rig = ready();
        rig.write64(cntrdata(2), LARGEST);
        count(&mut rig, 2, SUBMISSIONS, DEDICATED_TAKEN, flags);
        submit_no_ops(&mut rig, 2);
        assert_eq!(rig.read64(cntrdata(2)), 1, "goes on from zero");
        assert_eq!(rig.read32(OVFSTATUS), 1 << 2);
        let interrupts = flags == INTERRUPT;
        let cause = if interrupts { r::CAUSE_PERFMON } else { 0 };
        assert_eq!(rig.read32(r::INTCAUSE), cause);
        let messages = if interrupts { vec![message(0)] } else { vec![] };
        assert_eq!(rig.machine.messages, messages);
        rig.write32(OVFSTATUS, !(1 << 2));
        assert_eq!(rig.read32(OVFSTATUS), 1 << 2);
        rig.write32(OVFSTATUS, 1 << 2);
        assert_eq!(rig.read32(OVFSTATUS), 0);
    }
}

/// §6.3.2, §9.2.25.6: one bit for each counter.
#[test]
fn frozen_counters_keep_their_value() {
    let mut rig = ready();
    count(&mut rig, 0, SUBMISSIONS, DEDICATED_TAKEN, 0);
    count(&mut rig, 1, SUBMISSIONS, DEDICATED_TAKEN, 0);
    rig.write32(PERFFRZ, 0b10);
    submit_no_ops(&mut rig, 3);
    let both = |rig: &mut Rig| [0, 1].map(|counter| rig.read64(cntrdata(counter)));
    assert_eq!(both(&mut rig), [3, 0]);
    assert_eq!(rig.read32(PERFFRZ), 0b10);
    rig.write32(PERFFRZ, 0b01);
    submit_no_ops(&mut rig, 1);
    assert_eq!(both(&mut rig), [3, 1]);
    // Disabling a counter thaws it.
    rig.write64(cntrcfg(0), 0);
    assert_eq!(rig.read32(PERFFRZ), 0);
}

#[test]
fn an_overflow_can_freeze_all_counters() {
    let mut rig = ready();
    rig.write64(cntrdata(0), LARGEST);
    count(&mut rig, 0, SUBMISSIONS, DEDICATED_TAKEN, GLOBAL_FREEZE);
    count(&mut rig, 1, SUBMISSIONS, DEDICATED_TAKEN, 0);
    submit_no_ops(&mut rig, 4);
    assert_eq!(rig.read32(PERFFRZ) & 0b11, 0b11);
    assert_eq!(rig.read64(cntrdata(0)), 0);
    assert!(rig.read64(cntrdata(1)) <= 1);
    rig.write32(PERFFRZ, 0);
    submit_no_ops(&mut rig, 1);
    assert_eq!(rig.read64(cntrdata(0)), 1);
}

/// Table 9-8, §6.3: only Enable can be written while the counter is enabled;
/// data can (PERFCAP.53), and keeps as many bits as the counter has.
#[test]
fn an_enabled_counter_is_locked_but_for_its_value() {
    let mut rig = ready();
    count(&mut rig, 0, SUBMISSIONS, DEDICATED_TAKEN, 0);
    let before = rig.read64(cntrcfg(0));
    count(&mut rig, 0, COMPLETIONS, ERROR, INTERRUPT | GLOBAL_FREEZE);
    assert_eq!(rig.read64(cntrcfg(0)), before);
    rig.write64(cntrdata(0), u64::MAX);
    assert_eq!(rig.read64(cntrdata(0)), LARGEST);
    rig.write64(cntrcfg(0), before & !ENABLE);
    assert_eq!(rig.read64(cntrcfg(0)), before & !ENABLE);
    submit_no_ops(&mut rig, 1);
    assert_eq!(rig.read64(cntrdata(0)), LARGEST, "disabled");
    // Reserved bits.
    rig.write64(cntrcfg(0), !ENABLE);
    assert_eq!(rig.read64(cntrcfg(0)), 0x0fff_ffff_0000_0f06);
}

/// §9.2.25.4 "Performance Monitoring Reset Control Register (PERFRST)".
#[test]
fn configuration_and_counters_are_reset_apart() {
    let fresh = || {
        let mut rig = ready();
        rig.write64(cntrdata(1), LARGEST);
        count(&mut rig, 0, SUBMISSIONS, DEDICATED_TAKEN, 0);
        count(&mut rig, 1, SUBMISSIONS, DEDICATED_TAKEN, GLOBAL_FREEZE);
        submit_no_ops(&mut rig, 1);
        assert_ne!(rig.read32(OVFSTATUS), 0);
        rig.write64(cntrdata(0), 5);
        rig
    };
    let mut rig = fresh();
    rig.write32(PERFRST, 0b01);
    assert_eq!(rig.read64(cntrcfg(0)), 0);
    assert_eq!(rig.read32(OVFSTATUS), 0);
    assert_eq!(rig.read32(PERFFRZ), 0);
    assert_eq!(rig.read64(cntrdata(0)), 5);

    let mut rig = fresh();
    rig.write32(PERFRST, 0b10);
    assert_ne!(rig.read64(cntrcfg(0)), 0);
    assert_ne!(rig.read32(OVFSTATUS), 0);
    assert_eq!(rig.read64(cntrdata(0)), 0);
    assert_eq!(rig.read32(PERFRST), 0, "done");

    // Table 9-3: Reset Device takes everything.
    let mut rig = fresh();
    rig.command(r::RESET_DEVICE);
    for offset in [cntrcfg(0), cntrdata(0), OVFSTATUS, PERFFRZ] {
        assert_eq!(rig.read64(offset), 0, "{offset:#x}");
    }
}
