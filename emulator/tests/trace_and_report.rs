//! What the bench sees of a device: the report, and a trace with one JSON line
//! for each descriptor.
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

mod support;

use serde_json::{Value, json};
use support::descriptor::UNDEFINED;
use support::registers as r;
use support::{Bytes, LIMITED_IMS, LIMITED_MSIX, QueueSetup, Rig, batch, memory_move, no_op};

const LIST: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;

fn ready() -> Rig {
    let mut rig = Rig::with_queue("", QueueSetup::default());
    for address in [LIST, DATA, RECORD] {
        rig.machine.map(None, address, 0x2000, true);
    }
    rig
}

fn report(rig: &mut Rig) -> Value {
    serde_json::from_str(&rig.control("report")).unwrap()
}

#[test]
fn the_report_counts_what_happened() {
    let mut rig = ready();
    let descriptor = no_op(RECORD).interrupt(1);
    rig.post(0, LIMITED_MSIX, &descriptor);
    rig.run();
    assert!(!rig.enqueue(0, LIMITED_MSIX, &descriptor));
    rig.machine.refuses_messages = true;
    rig.post(0, LIMITED_MSIX, &descriptor);
    rig.run();
    rig.control("queue-full 0 on");
    rig.post(0, LIMITED_MSIX, &descriptor);
    rig.control("queue-full 0 off");
    for index in 0..2 {
        rig.machine
            .poke(None, LIST + 64 * index, &Bytes::new(0, 0).0);
    }
    rig.post(0, LIMITED_MSIX, &batch(LIST, 2, RECORD));
    rig.run();
    rig.post(0, LIMITED_MSIX, &no_op(RECORD));
    rig.command(r::ABORT_ALL);
    let report = report(&mut rig);
    assert_eq!(report["device_id"], "0x0b25");
    assert_eq!(report["state"], "Enabled");
    assert_eq!(report["blocked_messages"], 1);
    assert_eq!(report["queues"].as_array().map(Vec::len), Some(8));
    let expected = json!({
        "submitted": 6,
        "accepted": 4,
        "retried": 1,
        "dropped": 1,
        "completed": 3,
        "abandoned": 1,
        "members_completed": 2,
    });
    assert_eq!(report["queues"][0], expected);
}

#[test]
fn the_report_names_the_state() {
    for (command, state) in [(r::DRAIN_ALL, "Enabled"), (r::DISABLE_DEVICE, "Disabled")] {
        let mut rig = ready();
        rig.command(command);
        assert_eq!(report(&mut rig)["state"], state);
    }
    let mut rig = ready();
    rig.control("halt cold");
    assert_eq!(report(&mut rig)["state"], "Halt");
    rig.control("all-ones on");
    assert_eq!(report(&mut rig)["state"], "Halt", "the bench still sees it");
}

/// Runs `act` on a device whose trace is on; returns the lines.
fn traced(name: &str, act: impl FnOnce(&mut Rig)) -> Vec<Value> {
    let path = std::env::temp_dir().join(format!("dsa-trace-{name}-{}", std::process::id()));
    let mut rig = ready();
    rig.control(&format!("trace {}", path.display()));
    act(&mut rig);
    rig.control("trace off");
    rig.post(0, LIMITED_MSIX, &no_op(RECORD));
    rig.run();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[test]
fn the_trace_says_how_each_descriptor_ended() {
    let lines = traced("ends", |rig| {
        let copy = memory_move(DATA, DATA + 0x1000, 100, RECORD);
        rig.post(0, LIMITED_IMS, &copy);
        rig.run();
        rig.post(
            0,
            LIMITED_MSIX,
            &no_op(RECORD).interrupt(1).with(7, &[UNDEFINED]),
        );
        rig.run();
        rig.post(0, LIMITED_MSIX, &no_op(RECORD));
        rig.command(r::ABORT_ALL);
        assert!(!rig.enqueue(0, LIMITED_MSIX, &no_op(RECORD)));
        rig.control("queue-full 0 on");
        rig.post(0, LIMITED_MSIX, &no_op(RECORD));
    });
    let column = |name: &str| {
        lines
            .iter()
            .map(|line| line[name].clone())
            .collect::<Value>()
    };
    let fates = ["completed", "completed", "abandoned", "retried", "dropped"];
    assert_eq!(column("fate"), json!(fates));
    assert_eq!(column("status"), json!([1, 0x10, null, null, null]));
    assert_eq!(column("queue"), json!([0, 0, 0, 0, 0]));
    assert_eq!(
        column("portal"),
        json!(["ims", "msix", "msix", "msix", "msix"])
    );
    assert_eq!(column("handle"), json!([null, 1, null, null, null]));
    assert_eq!(
        column("interrupt"),
        json!([false, true, false, false, false])
    );
    assert_eq!(column("size"), json!([100, 0, 0, 0, 0]));
    assert_eq!(lines[0]["operation"], "Memory Move");
    assert_eq!(lines[0]["pasid"], Value::Null);
    assert_eq!(lines[0]["member"], Value::Null);
}

#[test]
fn the_trace_has_the_members_of_a_batch() {
    let lines = traced("batch", |rig| {
        let fenced = Bytes::new(0, 1);
        let members = [Bytes::new(0, 0), Bytes::new(UNDEFINED, 0), fenced];
        for (place, member) in (LIST..).step_by(64).zip(members) {
            rig.machine.poke(None, place, &member.0);
        }
        rig.post(0, LIMITED_MSIX, &batch(LIST, 3, RECORD));
        rig.run();
    });
    let found: Vec<(Value, Value)> = lines
        .iter()
        .map(|line| (line["member"].clone(), line["status"].clone()))
        .collect();
    let expected = [
        (json!(0), json!(1)),
        (json!(1), json!(0x10)),
        (json!(2), Value::Null),
        (Value::Null, json!(5)),
    ];
    assert_eq!(found, expected);
    assert_eq!(lines[2]["fate"], "abandoned");
    assert_eq!(lines[3]["size"], 3);
}

/// A trace from power-up on, and PASIDs in it.
#[test]
fn the_trace_can_be_an_option() {
    let path = std::env::temp_dir().join(format!("dsa-trace-option-{}", std::process::id()));
    let setup = QueueSetup {
        privileged: true,
        ..QueueSetup::with_pasid(0x12345)
    };
    let mut rig = Rig::with_queue(&format!("trace={}", path.display()), setup);
    rig.post(0, LIMITED_MSIX, &Bytes::new(0, 0));
    rig.run();
    let line: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(line["pasid"], 0x12345);
    assert_eq!(line["privileged"], true);
}
