//! The physical work queues.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::super::facts::DsaFacts;
use super::super::plan::{DsaPlan, QueuePlan};
use super::super::size::Size;
use super::super::{At, Config, ConfigError, MachineFacts, Mode, QueueConfig};

/// The virtual accelerator promises no more than this.
const MAX_TRANSFER_LOG2: u8 = 31;
const MAX_BATCH_LOG2: u8 = 10;

/// All accelerators with their queues, each in a group 0 that
/// [`groups`](super::groups) replaces.
pub(super) fn plan(
    config: &Config,
    machine: &MachineFacts<'_>,
) -> Result<Vec<DsaPlan>, ConfigError> {
    let mut plans = vec![DsaPlan::default(); machine.dsas.len()];
    for (index, queue) in config.queues.iter().enumerate() {
        let name = queue.name;
        let facts = find_dsa(machine, name.value.dsa, name.line)?;
        let earlier = config.queues.iter().take(index);
        if let Some(first) = earlier
            .map(|other| other.name)
            .find(|o| o.value == name.value)
        {
            return Err(name.error(format!(
                "{} is set up twice, first in line {}; remove one",
                name.value, first.line
            )));
        }
        let Some(plan) = plans.get_mut(usize::from(name.value.dsa)) else {
            continue;
        };
        let queue = plan_queue(queue, facts, machine, &plan.queues)?;
        plan.queues.push(queue);
    }
    Ok(plans)
}

/// The accelerator of this number.
pub(super) fn find_dsa<'m>(
    machine: &MachineFacts<'m>,
    number: u8,
    line: u32,
) -> Result<&'m DsaFacts, ConfigError> {
    let facts = machine.dsas.get(usize::from(number)).ok_or_else(|| {
        let all = match machine.dsas.len() {
            0 => "no DSA".to_string(),
            1 => "dsa0 only".to_string(),
            count => format!("dsa0 to dsa{}", count - 1),
        };
        ConfigError::new(
            line,
            format!("there is no dsa{number}; this machine has {all}"),
        )
    })?;
    if !facts.is_configurable {
        let message = format!(
            "dsa{number} cannot be set up (its Configuration Support is 0); use another DSA"
        );
        return Err(ConfigError::new(line, message));
    }
    Ok(facts)
}

/// One queue, beside the `others` of the same accelerator.
fn plan_queue(
    queue: &QueueConfig,
    facts: &DsaFacts,
    machine: &MachineFacts<'_>,
    others: &[QueuePlan],
) -> Result<QueuePlan, ConfigError> {
    let name = queue.name;
    let dsa = name.value.dsa;
    if u16::from(name.value.queue) >= facts.queues {
        return Err(name.error(format!(
            "there is no {}; dsa{dsa} has {} queues, counted from 0",
            name.value, facts.queues
        )));
    }
    check_mode(queue, facts, machine)?;

    let size = queue.size;
    let taken: u32 = others.iter().map(|other| u32::from(other.size)).sum();
    let left = u32::from(facts.entries).saturating_sub(taken);
    if u32::from(size.value) > left {
        return Err(size.error(format!(
            "{}: size is {}, but of dsa{dsa}'s {} entries {left} are left; write a smaller size",
            name.value, size.value, facts.entries
        )));
    }
    let threshold = match queue.threshold {
        Some(threshold) => check_threshold(queue, threshold)?,
        None => size.value,
    };
    let limit = facts.max_transfer_log2.min(MAX_TRANSFER_LOG2);
    let max_transfer_log2 = within(queue.max_transfer_log2, limit, |log2| {
        format!(
            "{}: max-transfer is \"{}\"; dsa{dsa} has at most \"{}\"",
            name.value,
            Size(1 << log2),
            Size(1 << limit)
        )
    })?;
    let limit = facts.max_batch_log2.min(MAX_BATCH_LOG2);
    let max_batch_log2 = within(queue.max_batch_log2, limit, |log2| {
        format!(
            "{}: max-batch is {}; dsa{dsa} has at most {}",
            name.value,
            1 << log2,
            1 << limit
        )
    })?;
    Ok(QueuePlan {
        index: name.value.queue,
        mode: queue.mode.value,
        size: size.value,
        threshold,
        priority: queue.priority,
        group: 0,
        max_transfer_log2,
        max_batch_log2,
    })
}

fn check_mode(
    queue: &QueueConfig,
    facts: &DsaFacts,
    machine: &MachineFacts<'_>,
) -> Result<(), ConfigError> {
    let name = queue.name.value;
    let (word, is_there, other) = match queue.mode.value {
        Mode::Dedicated => ("dedicated", facts.has_dedicated_mode, "shared"),
        Mode::Shared => ("shared", facts.has_shared_mode, "dedicated"),
    };
    if !is_there {
        return Err(queue.mode.error(format!(
            "{name}: dsa{} has no {word} queues; write mode = \"{other}\"",
            name.dsa
        )));
    }
    if queue.mode.value == Mode::Shared && !machine.has_enqcmds {
        return Err(queue.mode.error(format!(
            "{name}: a shared queue needs ENQCMDS, which this machine's processors have not; \
             write mode = \"dedicated\" here, and mode = \"shared\" in a [[guest.queue]] whose \
             guest wants to see a shared one"
        )));
    }
    Ok(())
}

fn check_threshold(queue: &QueueConfig, threshold: At<u16>) -> Result<u16, ConfigError> {
    let name = queue.name.value;
    if queue.mode.value == Mode::Dedicated {
        return Err(threshold.error(format!(
            "{name}: threshold is for shared queues, and this one is dedicated; remove it"
        )));
    }
    if threshold.value > queue.size.value {
        return Err(threshold.error(format!(
            "{name}: threshold is {}; write at most the queue's size, {}",
            threshold.value, queue.size.value
        )));
    }
    Ok(threshold.value)
}

/// The configured value, if the device has it, or else the device's.
fn within(
    value: Option<At<u8>>,
    limit: u8,
    message: impl FnOnce(u8) -> String,
) -> Result<u8, ConfigError> {
    match value {
        Some(at) if at.value > limit => Err(at.error(message(at.value))),
        Some(at) => Ok(at.value),
        None => Ok(limit),
    }
}
