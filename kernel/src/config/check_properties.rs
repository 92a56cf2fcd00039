//! Whatever is written and whatever the machine is: no panic, and what a plan
//! promises.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::super::plan::VirtualQueuePlan;
use super::super::{DsaFacts, Mode, Policy};
use super::*;
use crate::bundle::File;

const FILES: &[File<'_>] = &[File {
    name: "demo",
    content: b"",
}];

prop_compose! {
    fn dsa()(
        device_id in prop::sample::select(&[0x0b25, 0x11fb, 0x1212][..]),
        is_configurable in prop::bool::weighted(0.98),
        has_dedicated_mode in prop::bool::weighted(0.98),
        has_shared_mode in prop::bool::weighted(0.98),
        has_occupancy in prop::bool::weighted(0.98),
        queues in prop_oneof![4 => 4..9_u16, 1 => any::<u16>()],
        entries in prop_oneof![4 => 100..200_u16, 1 => any::<u16>()],
        groups in prop_oneof![4 => 1..5_u16, 1 => any::<u16>()],
        engines in prop_oneof![4 => 1..6_u16, 1 => any::<u16>()],
        ims_entries in prop_oneof![4 => Just(2048_u32), 1 => 0..8_u32],
        max_transfer_log2 in 16..32_u8,
        max_batch_log2 in 5..16_u8,
    ) -> DsaFacts {
        DsaFacts {
            device_id, is_configurable, has_dedicated_mode, has_shared_mode, has_occupancy, queues, entries,
            groups, engines, ims_entries, max_transfer_log2, max_batch_log2,
        }
    }
}

fn queue() -> impl Strategy<Value = String> {
    let group = prop_oneof![
        3 => Just(String::new()),
        1 => (0..2_u8).prop_map(|group| format!("group = \"group0.{group}\"\n")),
    ];
    (any::<bool>(), 1..40_u16, group).prop_map(|(is_shared, size, group)| {
        let mode = if is_shared { "shared" } else { "dedicated" };
        format!("mode = \"{mode}\"\nsize = {size}\n{group}")
    })
}

fn guest() -> impl Strategy<Value = String> {
    let reserve = prop::option::weighted(0.3, 1..20_u16);
    let queue =
        (0..6_u8, prop::bool::weighted(0.3), reserve).prop_map(|(queue, is_direct, reserve)| {
            let policy = if is_direct { "direct" } else { "checked" };
            let reserve = reserve.map(|count| format!("mode = \"dedicated\"\nreserve = {count}\n"));
            format!(
                "[[guest.queue]]\nwq = \"dsa0/wq0.{queue}\"\npolicy = \"{policy}\"\n{}",
                reserve.unwrap_or_default()
            )
        });
    let queues = prop::collection::vec(queue, 0..3);
    (any::<bool>(), 1..9_u8, 1..40_u16, queues).prop_map(|(trusted, cpus, chunks, queues)| {
        format!(
            "image = \"demo\"\nmemory = \"{}M\"\ncpus = {cpus}\ntrusted = {trusted}\n{}",
            2 * chunks,
            queues.concat()
        )
    })
}

prop_compose! {
    /// A file about one accelerator, whose queues and guests count from 0.
    fn text()(
        queues in prop::collection::vec(queue(), 3..7),
        guests in prop::collection::vec(guest(), 1..4),
        group in prop::option::weighted(0.2, prop::collection::vec(0..5_u8, 1..3)),
    ) -> String {
        let mut text = String::new();
        for (index, lines) in guests.iter().enumerate() {
            text += &format!("[[guest]]\nname = \"g{index}\"\n{lines}");
        }
        for (index, lines) in queues.iter().enumerate() {
            text += &format!("[[wq]]\nname = \"dsa0/wq0.{index}\"\n{lines}");
        }
        if let Some(engines) = group {
            text += &format!("[[group]]\nname = \"dsa0/group0.1\"\nengines = {engines:?}\n");
        }
        text
    }
}

/// What the device itself would refuse, and what nobody may have.
fn assert_is_sound(plan: &Plan, machine: &MachineFacts<'_>) {
    let facts = machine.dsas[0];
    let dsa = &plan.dsas[0];
    let sizes: u32 = dsa.queues.iter().map(|queue| u32::from(queue.size)).sum();
    assert!(sizes <= u32::from(facts.entries));
    let mut engines = Vec::new();
    let mut queues = Vec::new();
    for group in &dsa.groups {
        assert!(u16::from(group.index) < facts.groups);
        assert!(!group.queues.is_empty() && !group.engines.is_empty());
        engines.extend(&group.engines);
        for &index in &group.queues {
            let queue = dsa.queues.iter().find(|queue| queue.index == index);
            assert_eq!(queue.map(|queue| queue.group), Some(group.index));
            queues.push(index);
        }
    }
    assert!(
        engines
            .iter()
            .all(|&engine| u16::from(engine) < facts.engines)
    );
    assert_eq!(queues.len(), dsa.queues.len());
    for list in [&mut engines, &mut queues] {
        let length = list.len();
        list.sort_unstable();
        list.dedup();
        assert_eq!(list.len(), length, "one is given twice");
    }
    for queue in &dsa.queues {
        assert!(u16::from(queue.index) < facts.queues && queue.threshold <= queue.size);
        assert!(queue.max_transfer_log2 <= facts.max_transfer_log2);
        assert!(queue.max_batch_log2 <= facts.max_batch_log2);
        assert!(queue.mode == Mode::Dedicated || machine.has_enqcmds);
    }

    let memory: u64 = plan.guests.iter().map(|guest| guest.memory_bytes).sum();
    assert!(memory <= machine.memory_bytes);
    for queue in &dsa.queues {
        let virtual_queues = plan.guests.iter().flat_map(|guest| &guest.dsas);
        let shares: Vec<u16> = virtual_queues
            .flat_map(|dsa| &dsa.queues)
            .filter(|own| own.physical.index == queue.index)
            .map(|own| own.reserved)
            .collect();
        let is_shared_too = shares.contains(&0);
        let common = if is_shared_too { queue.threshold } else { 0 };
        assert!(shares.iter().sum::<u16>() + common <= queue.size);
        assert!(queue.mode == Mode::Shared || shares.iter().all(|&share| share == 0));
    }
    let mut dedicated = Vec::new();
    for guest in &plan.guests {
        assert!(guest.cpus.iter().all(|&cpu| cpu < machine.cpus));
        for VirtualQueuePlan {
            physical, policy, ..
        } in guest.dsas.iter().flat_map(|d| &d.queues)
        {
            assert!(dsa.queues.contains(physical));
            if physical.mode == Mode::Dedicated {
                assert!(!dedicated.contains(&physical.index));
                dedicated.push(physical.index);
            }
            if *policy == Policy::Direct {
                assert_eq!(physical.mode, Mode::Dedicated);
                assert!(guest.trusted || facts.device_id != 0x0b25);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 1024 }))]

    #[test]
    fn every_plan_is_sound(
        text in text(),
        dsa in dsa(),
        memory_mib in 50..400_u64,
        cpus in 1..5_usize,
        has_enqcmds in prop::bool::weighted(0.9),
    ) {
        let dsas = [dsa];
        let machine = MachineFacts {
            memory_bytes: memory_mib << 20,
            cpus,
            has_enqcmds,
            files: FILES,
            dsas: &dsas,
        };
        match Config::parse(&text).unwrap().check(&machine) {
            Ok(plan) => assert_is_sound(&plan, &machine),
            Err(error) => {
                let lines = text.matches('\n').count() + 1;
                prop_assert!((1..=lines).contains(&usize::try_from(error.line).unwrap()));
            }
        }
    }
}
