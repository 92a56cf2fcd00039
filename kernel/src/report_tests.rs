use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::*;
use crate::config::plan::{BootPlan, Mode, QueuePlan, Restart, VirtualDsaPlan, VirtualQueuePlan};

const HELD: Held = Held {
    ims_slots: 0,
    remapping_entries: 3,
    vectors: 3,
    pasids: 0,
    domains: 1,
    free_pages: 254_321,
    heap_bytes: 190_464,
};

/// The report that `docs/report.md` shows.
fn report() -> Report {
    let dsa = DsaReport {
        name: "dsa0".to_owned(),
        address: "0000:00:04.0".to_owned(),
        id: "8086:0b25".to_owned(),
        ims_slots: 2048,
        ims_allocated: 0,
        ims_peak: 8,
        software_errors: 0,
        halts: 0,
    };
    let demo = VmReport {
        name: "demo-a".to_owned(),
        policy: VmPolicy::Checked,
        result: VmResult::Passed,
        code: Some(0),
        reason: None,
        panicked: false,
        last_lines: Vec::new(),
        cpus: 2,
        console_us: Some(812_345),
        shell_us: None,
        submitted: 1290,
        completed: 1280,
        handed_over: 1280,
        interrupts_injected: 640,
        interrupts_merged: 12,
        interrupts_vector_0: 9,
        handles_moved: 1,
        handles_asked_again: 2,
        exits_submission: 660,
        exits_completion: 702,
        exits: Counts::from([("submission", 660), ("interrupt", 702), ("hypercall", 8)]),
        refused: Counts::new(),
        strays: Strays {
            accesses: 5,
            msrs: 4,
            instructions: 0,
        },
        crc32c: Some(0xe306_9283),
        restarts: 0,
        iommu_faults: 0,
        pasids: Vec::from([1, 2]),
        overhead_bytes: 595_968,
        reported: GuestReport {
            submitted: Some(1280),
            completed: Some(1280),
            interrupts: Some(640),
            checks: Some(96),
            failed: Some(0),
            retried: Some(10),
            errors: Some(0),
        },
        books: Books {
            submitted: 1290,
            completed: 1280,
            retried: 10,
            ..Books::default()
        },
    };
    let adversary = VmReport {
        name: "adversary".to_owned(),
        policy: VmPolicy::Checked,
        result: VmResult::Crashed,
        code: None,
        reason: Some("triple fault".to_owned()),
        panicked: false,
        last_lines: Vec::from(["adversary: attack triple-fault: the end of this guest".to_owned()]),
        cpus: 1,
        console_us: None,
        shell_us: None,
        submitted: 3,
        completed: 0,
        handed_over: 0,
        interrupts_injected: 0,
        interrupts_merged: 0,
        interrupts_vector_0: 0,
        handles_moved: 0,
        handles_asked_again: 0,
        exits_submission: 3,
        exits_completion: 0,
        exits: Counts::from([("submission", 3), ("other", 1)]),
        refused: Counts::from([
            ("interrupt handle is not one of this guest", 2),
            ("privileged descriptor", 1),
        ]),
        strays: Strays::default(),
        crc32c: None,
        restarts: 1,
        iommu_faults: 2,
        pasids: Vec::from([3]),
        overhead_bytes: 604_160,
        reported: GuestReport::default(),
        books: Books {
            submitted: 3,
            refused: 3,
            ..Books::default()
        },
    };
    Report {
        version: VERSION,
        weir: "0.1.0",
        machine: MachineReport {
            cpu: "AMD EPYC Processor".to_owned(),
            cpus: 2,
            virtualisation: "svm".to_owned(),
            memory_bytes: 1 << 30,
            iommu: IommuReport {
                units: 1,
                scalable_mode: true,
                tables: "second-stage",
                interrupt_remapping: true,
                faults: 2,
            },
            dsa: Vec::from([dsa]),
        },
        vms: Vec::from([demo, adversary]),
        held: HeldReport {
            before: HELD,
            after: HELD,
        },
        bench: Some(BenchReport {
            inject: Some(380),
            direct_exits: Some(0),
            ..BenchReport::default()
        }),
    }
}

fn written(report: &Report) -> String {
    let mut line = String::new();
    report.write(&mut line).unwrap();
    line
}

#[test]
fn it_is_one_line_of_json_as_the_document_shows_it() {
    let line = written(&report());
    assert_eq!(line.matches('\n').count(), 1);
    assert!(line.ends_with("}\n"));
    let document = include_str!("../../docs/report.md");
    let (_, rest) = document.split_once("```json\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let example: Value = serde_json::from_str(example).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line, example);
}

#[test]
fn every_name_is_in_the_document() {
    fn names(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(name, value)| {
                found.push(name.clone());
                if !["exits", "refused"].contains(&name.as_str()) {
                    names(value, found);
                }
            }),
            Value::Array(list) => list.iter().for_each(|value| names(value, found)),
            _ => {}
        }
    }
    let document = include_str!("../../docs/report.md");
    let mut all = Vec::new();
    names(
        &serde_json::from_str(&written(&report())).unwrap(),
        &mut all,
    );
    assert!(all.len() > 60, "{all:?}");
    for name in all {
        let row = alloc::format!("`{name}`");
        assert!(document.contains(&row), "{name} is not described");
    }
}

#[test]
fn without_benches_there_is_no_bench() {
    let mut report = report();
    report.bench = None;
    let line: Value = serde_json::from_str(&written(&report)).unwrap();
    assert_eq!(line.get("bench"), None);
    report.bench = Some(BenchReport::default());
    let line: Value = serde_json::from_str(&written(&report)).unwrap();
    assert_eq!(line["bench"]["inject"], Value::Null);
    assert_eq!(line["bench"].as_object().unwrap().len(), 12);
}

#[test]
fn text_from_elsewhere_stays_within_its_quotes() {
    let mut report = report();
    report.machine.cpu = "a\"\n\\\u{1b}é".to_owned();
    let line = written(&report);
    assert!(line.contains(r#""cpu":"a\"\n\\\u001bé","#), "{line}");
    assert_eq!(line.matches('\n').count(), 1);
}

#[test]
fn results_and_policies_are_words() {
    let result = |result: VmResult| serde_json::to_value(result).unwrap();
    assert_eq!(result(VmResult::Passed), json!("passed"));
    assert_eq!(result(VmResult::Failed), json!("failed"));
    assert_eq!(result(VmResult::Crashed), json!("crashed"));
    assert_eq!(result(VmResult::Off), json!("off"));
    assert_eq!(result(VmResult::Stopped), json!("stopped"));
    assert_eq!(result(VmResult::Running), json!("running"));
    let policy = |policy: VmPolicy| serde_json::to_value(policy).unwrap();
    assert_eq!(policy(VmPolicy::None), json!("none"));
    assert_eq!(policy(VmPolicy::Checked), json!("checked"));
    assert_eq!(policy(VmPolicy::Direct), json!("direct"));
    assert_eq!(policy(VmPolicy::Mixed), json!("mixed"));
}

#[test]
fn books_balance_only_if_everything_is_accounted_for() {
    let books = Books {
        submitted: 31,
        completed: 1,
        refused: 2,
        retried: 4,
        dropped: 8,
        abandoned: 16,
    };
    assert!(books.balance());
    let missing = Books {
        abandoned: 15,
        ..books
    };
    assert!(!missing.balance());
    // A sum beyond 64 bits is no other number.
    let beyond = Books {
        submitted: 0,
        completed: u64::MAX,
        refused: 1,
        retried: 0,
        dropped: 0,
        abandoned: 0,
    };
    assert!(!beyond.balance());
    let value = serde_json::to_value(missing).unwrap();
    let expected = json!({
        "submitted": 31, "completed": 1, "refused": 2, "retried": 4, "dropped": 8,
        "abandoned": 15, "balance": false,
    });
    assert_eq!(value, expected);
}

#[test]
fn a_guests_policy_is_that_of_its_queues() {
    let queue = |policy| VirtualQueuePlan {
        physical: QueuePlan {
            index: 0,
            mode: Mode::Dedicated,
            size: 16,
            threshold: 16,
            priority: 10,
            group: 0,
            max_transfer_log2: 31,
            max_batch_log2: 10,
        },
        mode: Mode::Dedicated,
        reserved: 0,
        policy,
        batches: 4,
    };
    let policy = |dsas: &[&[Policy]]| {
        let dsas = dsas.iter().enumerate().map(|(dsa, queues)| VirtualDsaPlan {
            dsa,
            queues: queues.iter().map(|&policy| queue(policy)).collect(),
        });
        VmPolicy::of(&GuestPlan {
            name: String::new(),
            boot: BootPlan::Pvh {
                image: String::new(),
                input: None,
            },
            command_line: String::new(),
            memory_bytes: 0,
            cpus: Vec::new(),
            restart: Restart::Never,
            trusted: false,
            pasids: Vec::new(),
            share_rate: 0,
            dsas: dsas.collect(),
        })
    };
    use Policy::{Checked, Direct};
    assert_eq!(policy(&[]), VmPolicy::None);
    assert_eq!(policy(&[&[Checked, Checked]]), VmPolicy::Checked);
    assert_eq!(policy(&[&[Direct], &[Direct]]), VmPolicy::Direct);
    assert_eq!(policy(&[&[Direct], &[Checked]]), VmPolicy::Mixed);
    assert_eq!(policy(&[&[Direct, Checked, Direct]]), VmPolicy::Mixed);
}
