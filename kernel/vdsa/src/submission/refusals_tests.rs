use std::string::ToString;
use std::vec::Vec;

use super::*;

fn refusal(value: u64) -> Refusal {
    Refusal {
        rule: Rule::TransferSize,
        value,
        named: Named::Nothing,
        queue: QueueIndex::new(0).unwrap(),
        operation: Operation::MEMORY_MOVE,
        member: None,
    }
}

#[test]
fn the_last_32_are_kept_in_order_and_all_are_counted() {
    let mut refusals = Refusals::new();
    assert_eq!(refusals.recent().count(), 0);
    for value in 0..3 {
        refusals.record(refusal(value));
    }
    let values = |refusals: &Refusals| -> Vec<u64> {
        refusals.recent().map(|refusal| refusal.value).collect()
    };
    assert_eq!(values(&refusals), [0, 1, 2]);
    for value in 3..100 {
        refusals.record(refusal(value));
    }
    assert_eq!(values(&refusals), (68..100).collect::<Vec<_>>());
    assert_eq!(refusals.count(Rule::TransferSize), 100);
    assert_eq!(refusals.count(Rule::Flags), 0);
    assert_eq!(refusals.total(), 100);
}

#[test]
fn a_refusal_says_what_where_whose_and_what_to_do() {
    let handle = Refusal {
        rule: Rule::ForeignHandle,
        value: 7,
        named: Named::HandleOf {
            vector: 2,
            pasid: Pasid::new(0x102),
            descriptor: Pasid::new(0x101).unwrap(),
        },
        member: Some(5),
        ..refusal(0)
    };
    assert_eq!(
        handle.to_string(),
        "queue 0, memory move (0x03), member 5 of a batch: interrupt handle belongs to another \
         PASID, Completion Interrupt Handle = 0x7 (vector 2, of host PASID 0x102; the descriptor \
         has 0x101); use a vector of this queue, or write the PASID into the vector's MSIXPERM \
         entry"
    );
    assert_eq!(
        refusal(0).to_string(),
        "queue 0, memory move (0x03): transfer size out of range, Transfer Size = 0x0; stay \
         within WQCFG's maximum transfer size, in whole blocks for DIF operations"
    );
}

#[test]
fn every_rule_has_a_count_of_its_own() {
    let mut refusals = Refusals::new();
    for rule in Rule::ALL {
        refusals.record(Refusal {
            rule: *rule,
            ..refusal(0)
        });
    }
    assert!(Rule::ALL.iter().all(|rule| refusals.count(*rule) == 1));
    assert_eq!(refusals.total(), Rule::COUNT as u64);
}
