//! Who is served how often. [341204 §4.1 "Work Dispatch Priority", §3.4
//! "Engines and Groups"]

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the failure"
)]

mod support;

use support::registers as r;
use support::{Bytes, LIMITED_MSIX, QueueSetup, Rig, batch, memory_move, no_op};

const LIST: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;

/// Queues of one group with the given priorities, all of the same size.
fn with_priorities(priorities: &[u32], size: u32) -> Rig {
    let mut rig = Rig::new("");
    let queues: Vec<u32> = (0..priorities.len() as u32).collect();
    for (queue, priority) in (0..).zip(priorities) {
        let setup = QueueSetup {
            size,
            priority: *priority,
            ..QueueSetup::default()
        };
        rig.configure(queue, setup);
    }
    rig.enable(&queues);
    rig
}

/// Keeps every queue busy until `total` descriptors have completed; returns how
/// many of each queue have.
fn serve(rig: &mut Rig, queues: usize, total: u64) -> Vec<u64> {
    loop {
        for queue in 0..queues as u64 {
            let occupancy = rig.read32(rig.wqcfg(queue) + 24) & 0xffff;
            for _ in occupancy..16 {
                rig.post(queue, LIMITED_MSIX, &Bytes::new(0, 0));
            }
        }
        rig.run_for(50);
        let counters = rig.dsa.queue_counters();
        let completed: Vec<u64> = counters
            .iter()
            .take(queues)
            .map(|queue| queue.completed)
            .collect();
        if completed.iter().sum::<u64>() >= total {
            return completed;
        }
    }
}

/// "A WQ with a priority of 6 will issue 3 times as many descriptors to the
/// engine as a WQ with a priority of 2."
#[test]
fn queues_are_served_in_proportion_to_their_priority() {
    let rounds = if cfg!(miri) { 1 } else { 10 };
    for priorities in [&[6, 2][..], &[1, 1], &[15, 1], &[4, 3, 2, 1]] {
        let sum: u32 = priorities.iter().sum();
        let mut rig = with_priorities(priorities, 16);
        let total = u64::from(sum) * 4 * rounds;
        let served = serve(&mut rig, priorities.len(), total);
        for (queue, priority) in priorities.iter().enumerate() {
            let fair = u64::from(*priority) * 4 * rounds;
            // What is on its way when we look may belong to anyone.
            let off = served[queue].abs_diff(fair);
            assert!(off <= 2, "{priorities:?}: {served:?}, queue {queue}");
        }
    }
}

/// "There is no delay caused by the arbiter checking empty WQs": alone, a queue
/// of low priority gets all.
#[test]
fn a_lonely_queue_of_low_priority_is_served_at_once() {
    let time_of = |priorities: &[u32], queue: u64| {
        let mut rig = with_priorities(priorities, 16);
        for _ in 0..16 {
            rig.post(queue, LIMITED_MSIX, &Bytes::new(0, 0));
        }
        let start = rig.machine.now_ns;
        rig.run();
        assert_eq!(rig.dsa.queue_counters()[queue as usize].completed, 16);
        rig.machine.now_ns - start
    };
    assert_eq!(time_of(&[15, 1], 1), time_of(&[15], 0));
}

/// A queue that was idle is served at its next turn, however full another one
/// of higher priority is.
#[test]
fn a_flood_does_not_starve_another_queue() {
    for flood_priority in [1, 15] {
        let mut rig = with_priorities(&[flood_priority, 1], 16);
        rig.machine.map(None, DATA, 0x2000, true);
        rig.machine.map(None, RECORD, 0x1000, true);
        for _ in 0..16 {
            let flood = memory_move(DATA, DATA + 0x1000, 0x1000, 0).without_record();
            rig.post(0, LIMITED_MSIX, &flood);
        }
        rig.post(1, LIMITED_MSIX, &no_op(RECORD));
        rig.run_until(10, |rig| rig.status(RECORD) == 1);
        let flooded = rig.dsa.queue_counters()[0].completed;
        assert!(flooded <= 2, "{flooded} of the flood came first");
    }
}

/// Members of a batch take their queue's turns, not more.
#[test]
fn a_batch_does_not_starve_another_queue() {
    let mut rig = with_priorities(&[10, 10], 16);
    rig.machine.map(None, LIST, 0x4000, true);
    rig.machine.map(None, RECORD, 0x1000, true);
    for index in 0..256 {
        rig.machine
            .poke(None, LIST + 64 * index, &Bytes::new(0, 0).0);
    }
    rig.post(0, LIMITED_MSIX, &batch(LIST, 256, RECORD));
    rig.run_for(1_000);
    let before = rig.dsa.queue_counters()[0].members_completed;
    for index in 1..9 {
        rig.post(1, LIMITED_MSIX, &no_op(RECORD + 32 * index));
    }
    rig.run_until(10, |rig| rig.statuses(RECORD + 32, 8) == [1; 8]);
    let members = rig.dsa.queue_counters()[0].members_completed - before;
    assert!(members <= 10, "{members} members came first");
}

/// §3.4: engines serve the queues of their own group only.
#[test]
fn a_busy_group_does_not_delay_another() {
    let time_of = |busy: bool| {
        let mut rig = Rig::new("");
        for queue in [0, 1] {
            let setup = QueueSetup {
                group: queue,
                ..QueueSetup::default()
            };
            rig.configure(queue, setup);
        }
        rig.enable(&[0, 1]);
        rig.machine.map(None, DATA, 0x1_0000, true);
        rig.machine.map(None, RECORD, 0x1000, true);
        for _ in 0..if busy { 16 } else { 0 } {
            let long = memory_move(DATA, DATA + 0x8000, 0x8000, 0).without_record();
            rig.post(0, LIMITED_MSIX, &long);
        }
        let start = rig.machine.now_ns;
        rig.post(1, LIMITED_MSIX, &no_op(RECORD));
        rig.run_until(1, |rig| rig.status(RECORD) == 1);
        rig.machine.now_ns - start
    };
    assert_eq!(time_of(true), time_of(false));
}

/// An engine without a group does nothing, and a group uses all of its own.
#[test]
fn engines_of_a_group_share_its_work() {
    let time_of = |engines: u64| {
        let mut rig = Rig::new("");
        rig.configure(0, QueueSetup::default());
        rig.write64(r::GRPCFG + r::ENGINES, engines);
        rig.enable(&[0]);
        rig.machine.map(None, DATA, 0x1_0000, true);
        let start = rig.machine.now_ns;
        for _ in 0..8 {
            let long = memory_move(DATA, DATA + 0x8000, 0x8000, 0).without_record();
            rig.post(0, LIMITED_MSIX, &long);
        }
        rig.run();
        rig.machine.now_ns - start
    };
    let alone = time_of(0b0001);
    assert_eq!(time_of(0b1000), alone);
    assert_eq!(time_of(0b0110) * 2, alone);
    assert_eq!(time_of(0b1111) * 4, alone);
}
