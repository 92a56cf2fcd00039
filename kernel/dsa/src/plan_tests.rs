use super::*;
use std::string::ToString;

use hwspec::dsa::{EngCap, GenCap, GrpCap, Offsets0, Version, WqCap};

/// Eight queues that share 128 entries, four groups, four engines; transfers up to 2^31
/// bytes and batches up to 2^10 descriptors, of one descriptor not.
fn capabilities() -> Capabilities {
    Capabilities {
        version: Version::from_bits(0x100),
        gencap: GenCap::from_bits(0x40_915f_0107),
        wqcap: WqCap::from_bits(0x003f_0000_0008_0080),
        grpcap: GrpCap::from_bits(0x3_6004),
        engcap: EngCap::from_bits(0x4_0104),
        opcap: [0x1_003f_03ff, 0, 0, 0],
        cmdcap: 0x1ffe,
        offsets: Offsets0::from_bits(0x0080_0004_0008_0006),
    }
}

fn shape() -> QueueShape {
    QueueShape::largest(QueueMode::Dedicated, 16, &capabilities())
}

fn group(engines: u64) -> GroupPlan {
    GroupPlan {
        engines,
        traffic_class: 0,
    }
}

fn queue(index: u8, group: u8) -> QueuePlan {
    let shape = shape();
    QueuePlan {
        index,
        group,
        shape,
    }
}

/// One queue, one group, one engine.
fn least() -> Plan {
    Plan {
        groups: [group(1)].into(),
        queues: [queue(0, 0)].into(),
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Plan), expected: PlanError, words: &str) {
    let mut plan = least();
    change(&mut plan);
    assert_eq!(plan.check(&capabilities()), Err(expected));
    let text = expected.to_string();
    assert!(text.contains(words), "{text}");
}

fn refused_shape(change: impl FnOnce(&mut QueueShape), expected: PlanError, words: &str) {
    refused(|plan| change(&mut plan.queues[0].shape), expected, words);
}

#[test]
fn a_plan_that_fits_is_taken() {
    assert_eq!(least().check(&capabilities()), Ok(()));
    let all = Plan {
        groups: [group(0b0101), group(0b1010)].into(),
        queues: (0..8).map(|index| queue(index, index % 2)).collect(),
    };
    assert_eq!(all.check(&capabilities()), Ok(()));
}

#[test]
fn what_the_device_has_not_is_refused() {
    let empty = PlanError::Empty;
    refused(|plan| plan.queues.clear(), empty, "at least one");
    let error = PlanError::NoSuchGroup { group: 4, count: 4 };
    refused(
        |plan| plan.groups.resize(5, group(0)),
        error,
        "group 4 is planned of 4",
    );
    let error = PlanError::NoSuchEngine {
        engine: 5,
        count: 4,
    };
    refused(
        |plan| plan.groups[0].engines = 0b10_0001,
        error,
        "engine 5 is planned of 4",
    );
    let error = PlanError::NoSuchQueue { queue: 8, count: 8 };
    refused(
        |plan| plan.queues[0].index = 8,
        error,
        "queue 8 is planned of 8",
    );
    let error = PlanError::TotalSize {
        total: 129,
        available: 128,
    };
    let two_large = |plan: &mut Plan| {
        plan.queues.push(queue(1, 0));
        plan.queues[1].shape.size = 113;
    };
    refused(two_large, error, "129 entries of 128");
}

#[test]
fn queues_groups_and_engines_fit_together() {
    let error = PlanError::EngineInTwoGroups {
        engine: 1,
        group: 1,
    };
    let twice = |plan: &mut Plan| plan.groups = [group(0b11), group(0b110)].into();
    refused(twice, error, "engine 1 of group 1 is in another group");
    let error = PlanError::QueueTwice { queue: 0 };
    let twice = |plan: &mut Plan| plan.queues.push(queue(0, 0));
    refused(twice, error, "queue 0 is planned twice");
    let error = PlanError::QueueWithoutGroup { queue: 0, group: 1 };
    refused(
        |plan| plan.queues[0].group = 1,
        error,
        "group 1 of queue 0 is not planned",
    );
    let error = PlanError::GroupWithoutEngines { group: 0, queue: 0 };
    refused(|plan| plan.groups[0] = group(0), error, "has no engine");
    let error = PlanError::GroupWithoutQueues { group: 1 };
    refused(
        |plan| plan.groups.push(group(2)),
        error,
        "group 1 has engines and no queue",
    );
    let error = PlanError::TrafficClass { group: 0, class: 8 };
    refused(
        |plan| plan.groups[0].traffic_class = 8,
        error,
        "traffic class 8",
    );
}

#[test]
fn a_queue_is_one_that_can_be_enabled() {
    let error = PlanError::NoSize { queue: 0 };
    refused_shape(|shape| shape.size = 0, error, "queue 0 has size 0");
    let error = PlanError::Threshold {
        queue: 0,
        threshold: 17,
        size: 16,
    };
    refused_shape(
        |shape| shape.threshold = 17,
        error,
        "threshold 17 of queue 0 is above its size 16",
    );
    for priority in [0, 16] {
        let error = PlanError::Priority { queue: 0, priority };
        refused_shape(
            |shape| shape.priority = priority,
            error,
            "is not from 1 to 15",
        );
    }
    let error = PlanError::TransferSize {
        queue: 0,
        log2: 32,
        most: 31,
    };
    refused_shape(
        |shape| shape.max_transfer_log2 = 32,
        error,
        "transfers of 2^32 bytes",
    );
    for log2 in [0, 11] {
        let error = PlanError::BatchSize {
            queue: 0,
            log2,
            least: 1,
            most: 10,
        };
        refused_shape(
            |shape| shape.max_batch_log2 = log2,
            error,
            "not from 2^1 to 2^10",
        );
    }
}

#[test]
fn batches_of_one_are_for_devices_that_take_them() {
    let mut device = capabilities();
    device.gencap.set_batch1(true);
    let mut plan = least();
    plan.queues[0].shape.max_batch_log2 = 0;
    assert_eq!(plan.check(&device), Ok(()));
}

#[test]
fn a_mode_is_one_that_the_device_has() {
    for (mode, words) in [
        (
            QueueMode::Dedicated,
            "is dedicated, which the device has not",
        ),
        (QueueMode::Shared, "is shared, which the device has not"),
    ] {
        let mut device = capabilities();
        match mode {
            QueueMode::Dedicated => device.wqcap.set_dedicated_mode(false),
            QueueMode::Shared => device.wqcap.set_shared_mode(false),
        }
        let mut plan = least();
        plan.queues[0].shape.mode = mode;
        assert_eq!(plan.check(&capabilities()), Ok(()));
        let error = plan.check(&device).unwrap_err();
        assert_eq!(error, PlanError::Mode { queue: 0, mode });
        assert!(error.to_string().contains(words));
    }
}

/// D20: as far as groups and engines reach, no two queues share any.
#[test]
fn each_queue_gets_engines_of_its_own_as_far_as_they_reach() {
    let spread = |count| Plan::spread(&capabilities(), &std::vec![shape(); count]);
    let engines = |plan: &Plan| -> Vec<u64> { plan.groups.iter().map(|it| it.engines).collect() };
    let members = |plan: &Plan| -> Vec<u8> { plan.queues.iter().map(|it| it.group).collect() };

    let three = spread(3).unwrap();
    assert_eq!(engines(&three), [0b1001, 0b0010, 0b0100]);
    assert_eq!(members(&three), [0, 1, 2]);
    let six = spread(6).unwrap();
    assert_eq!(engines(&six), [1, 2, 4, 8]);
    assert_eq!(members(&six), [0, 1, 2, 3, 0, 1]);

    assert_eq!(spread(0), Err(PlanError::Empty));
    let error = PlanError::NoSuchQueue { queue: 8, count: 8 };
    assert_eq!(spread(9), Err(error));
    let error = PlanError::TotalSize {
        total: 160,
        available: 128,
    };
    let large = QueueShape {
        size: 40,
        ..shape()
    };
    let spread = Plan::spread(
        &capabilities(),
        &[QueueShape {
            threshold: 40,
            ..large
        }; 4],
    );
    assert_eq!(spread, Err(error));
}

#[test]
fn a_device_of_two_engines_has_two_groups_in_use() {
    let mut device = capabilities();
    device.engcap.set_count(2);
    let plan = Plan::spread(&device, &[shape(); 3]).unwrap();
    assert_eq!(plan.groups, [group(1), group(2)]);
    assert_eq!(plan.check(&device), Ok(()));
}
