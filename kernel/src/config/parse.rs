//! From the text to a [`Config`]: syntax, names of keys, forms of values.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use toml::de::DeTable;

use super::nesting::{MAX_NESTING, too_deep};
use super::reader::{Block, Lines};
use super::{
    At, BootConfig, Config, ConfigError, GroupConfig, GroupName, GuestConfig, GuestQueueConfig,
    MAX_BATCHES, MAX_COMMAND_LINE, MAX_CPUS, MAX_GUESTS, MAX_NAME, MAX_PASIDS, MachineConfig, Mode,
    Policy, QueueConfig, QueueName, Restart,
};
use crate::bundle::MAX_CONFIG;
use crate::virt::memory::CHUNK_BYTES;

/// The guest's RAM ends below the window of its accelerators, at 2 to the power
/// of 38, and has a hole of 1 GiB.
const MAX_MEMORY: u64 = (1 << 38) - (1 << 30);
/// PASIDs have 20 bits, and 0 stands for none.
const MAX_PASID: u32 = (1 << 20) - 1;
/// The virtual accelerator says that it has these limits, and every physical one
/// that exists has at least them.
const MAX_TRANSFER_LOG2: u8 = 31;
const MAX_BATCH_LOG2: u8 = 10;

const DEFAULT_SLICE_MS: u32 = 2;
const DEFAULT_QUEUE_SIZE: u16 = 16;
const DEFAULT_PRIORITY: u8 = 10;

const MACHINE_KEYS: &[&str] = &["slice-ms", "report"];
const GUEST_KEYS: &[&str] = &[
    "name",
    "image",
    "input",
    "kernel",
    "initrd",
    "cmdline",
    "memory",
    "cpus",
    "trusted",
    "restart",
    "pasids",
    "share-rate",
    "queue",
];
const GUEST_QUEUE_KEYS: &[&str] = &["wq", "policy", "mode", "reserve", "batches"];
const QUEUE_KEYS: &[&str] = &[
    "name",
    "mode",
    "size",
    "group",
    "priority",
    "threshold",
    "max-transfer",
    "max-batch",
];
const GROUP_KEYS: &[&str] = &["name", "engines"];

const MODES: [(&str, Mode); 2] = [("dedicated", Mode::Dedicated), ("shared", Mode::Shared)];

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    let lines = Lines::of(text);
    if text.len() > MAX_CONFIG {
        let message = format!(
            "the file has {} bytes; write at most {MAX_CONFIG}",
            text.len()
        );
        return Err(ConfigError::new(1, message));
    }
    if let Some(offset) = too_deep(text) {
        let message = format!("more than {MAX_NESTING} brackets in each other; write fewer");
        return Err(ConfigError::new(lines.line(offset), message));
    }
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let message = format!("{}; correct the line as TOML wants it", error.message());
        ConfigError::new(lines.line(offset), message)
    })?;
    let file = Block::new(
        table.get_ref(),
        &lines,
        1,
        "the file",
        &["machine", "guest", "wq", "group"],
    )?;

    let guests = file.tables("guest", "[[guest]]", GUEST_KEYS)?;
    if let Some(guest) = guests.get(MAX_GUESTS) {
        let message = format!("there are more than {MAX_GUESTS} guests; leave some out");
        return Err(ConfigError::new(guest.line, message));
    }
    let queues = file.tables("wq", "[[wq]]", QUEUE_KEYS)?;
    let groups = file.tables("group", "[[group]]", GROUP_KEYS)?;
    Ok(Config {
        machine: machine(&file)?,
        guests: guests.into_iter().map(guest).collect::<Result<_, _>>()?,
        queues: queues.into_iter().map(queue).collect::<Result<_, _>>()?,
        groups: groups.into_iter().map(group).collect::<Result<_, _>>()?,
    })
}

fn machine(file: &Block<'_>) -> Result<MachineConfig, ConfigError> {
    let mut config = MachineConfig {
        slice_ms: DEFAULT_SLICE_MS,
        report: true,
    };
    if let Some(block) = file.table("machine", "[machine]", MACHINE_KEYS)? {
        if let Some(slice) = block.integer("slice-ms", &(1..=1000))? {
            config.slice_ms = slice.value;
        }
        config.report = block.boolean("report")?.unwrap_or(config.report);
    }
    Ok(config)
}

fn guest(mut block: Block<'_>) -> Result<GuestConfig, ConfigError> {
    let wanted = format!("1 to {MAX_NAME} of a-z, 0-9 and -");
    let name = block.parsed("name", &wanted, guest_name)?;
    let name = block.required("name", name, "\"demo\"")?;
    block.owner = format!("guest '{}'", name.value);

    let memory = block.size("memory")?;
    let memory = block.required("memory", memory, "\"64M\"")?;
    if memory.value == 0 || !memory.value.is_multiple_of(CHUNK_BYTES) || memory.value > MAX_MEMORY {
        return Err(memory.error(format!(
            "{}: memory is \"{}\"; write a multiple of 2M, at most {}G",
            block.owner,
            super::size::Size(memory.value),
            MAX_MEMORY >> 30
        )));
    }
    let wanted = format!("at most {MAX_COMMAND_LINE} bytes on one line");
    let command_line = block.parsed("cmdline", &wanted, command_line)?;
    let restart = [("never", Restart::Never), ("on-reset", Restart::OnReset)];
    let restart = block.choice("restart", restart)?;
    let cpus = block.integer("cpus", &(1..=MAX_CPUS))?;
    let pasids = block.integers("pasids", &(1..=MAX_PASID), MAX_PASIDS)?;
    let queues = block.tables("queue", "[[guest.queue]]", GUEST_QUEUE_KEYS)?;
    let queues = queues
        .into_iter()
        .map(|queue| guest_queue(queue, &block.owner));
    Ok(GuestConfig {
        boot: boot(&block)?,
        memory,
        cpus: cpus.map_or(1, |cpus| cpus.value),
        trusted: block.boolean("trusted")?.unwrap_or(false),
        command_line: command_line.map_or_else(String::new, |text| text.value),
        restart: restart.map_or(Restart::Never, |restart| restart.value),
        pasids: pasids.map_or_else(Vec::new, |list| list.value),
        share_rate: block.integer("share-rate", &(1..=1_000_000))?,
        queues: queues.collect::<Result<_, _>>()?,
        name,
    })
}

fn guest_name(text: &str) -> Option<String> {
    let is_name_byte =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_name_byte);
    is_name.then(|| text.to_owned())
}

fn command_line(text: &str) -> Option<String> {
    let is_one_line = !text.contains(char::is_control);
    (text.len() <= MAX_COMMAND_LINE && is_one_line).then(|| text.to_owned())
}

fn boot(block: &Block<'_>) -> Result<BootConfig, ConfigError> {
    let file = |key| {
        let text = block.string(key)?;
        Ok(text.map(|text| At {
            line: text.line,
            value: text.value.to_owned(),
        }))
    };
    let misplaced = |file: &At<String>, key: &str, other: &str| {
        let message = format!("{}: {key} goes with {other}; remove it", block.owner);
        Err(file.error(message))
    };
    let (image, kernel) = (file("image")?, file("kernel")?);
    let (input, initrd) = (file("input")?, file("initrd")?);
    match (image, kernel) {
        (Some(_), Some(kernel)) => Err(kernel.error(format!(
            "{} has an image and a kernel; keep one of them",
            block.owner
        ))),
        (None, None) => Err(ConfigError::new(
            block.line,
            format!(
                "{} has no image; add image = \"FILE\", or kernel = \"FILE\" for Linux",
                block.owner
            ),
        )),
        (Some(image), None) => match initrd {
            Some(initrd) => misplaced(&initrd, "initrd", "kernel"),
            None => Ok(BootConfig::Pvh { image, input }),
        },
        (None, Some(kernel)) => match input {
            Some(input) => misplaced(&input, "input", "image"),
            None => Ok(BootConfig::Linux { kernel, initrd }),
        },
    }
}

/// What a queue's name should have looked like.
const QUEUE_NAME: &str = "a queue as accel-config names it, such as \"dsa0/wq0.1\"";

fn guest_queue(mut block: Block<'_>, guest: &str) -> Result<GuestQueueConfig, ConfigError> {
    block.owner = format!("{guest}, [[guest.queue]]");
    let wq = block.parsed("wq", QUEUE_NAME, QueueName::parse)?;
    let wq = block.required("wq", wq, "\"dsa0/wq0.0\"")?;
    block.owner = format!("{guest}, {}", wq.value);
    let policy = [("checked", Policy::Checked), ("direct", Policy::Direct)];
    Ok(GuestQueueConfig {
        policy: block.choice("policy", policy)?.unwrap_or(At {
            line: wq.line,
            value: Policy::Checked,
        }),
        mode: block.choice("mode", MODES)?,
        reserve: block.integer("reserve", &(1..=u16::MAX))?,
        batches: block.integer("batches", &(1..=MAX_BATCHES))?,
        wq,
    })
}

fn queue(mut block: Block<'_>) -> Result<QueueConfig, ConfigError> {
    let name = block.parsed("name", QUEUE_NAME, QueueName::parse)?;
    let name = block.required("name", name, "\"dsa0/wq0.0\"")?;
    block.owner = format!("{}", name.value);

    let dsa = name.value.dsa;
    let wanted = format!("a group of the same device, such as \"group{dsa}.0\"");
    let group = block.parsed("group", &wanted, |text| GroupName::parse_within(text, dsa))?;
    let priority = block.integer("priority", &(1..=15))?;
    Ok(QueueConfig {
        mode: block.choice("mode", MODES)?.unwrap_or(At {
            line: name.line,
            value: Mode::Dedicated,
        }),
        size: block.integer("size", &(1..=u16::MAX))?.unwrap_or(At {
            line: name.line,
            value: DEFAULT_QUEUE_SIZE,
        }),
        group,
        priority: priority.map_or(DEFAULT_PRIORITY, |priority| priority.value),
        threshold: block.integer("threshold", &(1..=u16::MAX))?,
        max_transfer_log2: max_transfer(&block)?,
        max_batch_log2: max_batch(&block)?,
        name,
    })
}

fn max_transfer(block: &Block<'_>) -> Result<Option<At<u8>>, ConfigError> {
    let Some(size) = block.size("max-transfer")? else {
        return Ok(None);
    };
    match power(size, 1..=MAX_TRANSFER_LOG2) {
        Some(log2) => Ok(Some(log2)),
        None => Err(size.error(format!(
            "{}: max-transfer is \"{}\"; write a power of two, at most \"2G\"",
            block.owner,
            super::size::Size(size.value)
        ))),
    }
}

fn max_batch(block: &Block<'_>) -> Result<Option<At<u8>>, ConfigError> {
    let Some(count) = block.integer("max-batch", &(2..=1 << MAX_BATCH_LOG2))? else {
        return Ok(None);
    };
    match power(count, 1..=MAX_BATCH_LOG2) {
        Some(log2) => Ok(Some(log2)),
        None => Err(count.error(format!(
            "{}: max-batch is {}; write a power of two",
            block.owner, count.value
        ))),
    }
}

/// N, where the value is 2 to the power of N and N is in the range.
fn power(value: At<u64>, range: core::ops::RangeInclusive<u8>) -> Option<At<u8>> {
    let log2 = u8::try_from(value.value.checked_ilog2()?).ok()?;
    (value.value.is_power_of_two() && range.contains(&log2)).then_some(At {
        line: value.line,
        value: log2,
    })
}

fn group(mut block: Block<'_>) -> Result<GroupConfig, ConfigError> {
    let wanted = "a group as accel-config names it, such as \"dsa0/group0.0\"";
    let name = block.parsed("name", wanted, GroupName::parse)?;
    let name = block.required("name", name, "\"dsa0/group0.0\"")?;
    block.owner = format!("{}", name.value);
    let engines = block.integers("engines", &(0..=u8::MAX), 64)?;
    if let Some(list) = engines.as_ref().filter(|list| list.value.is_empty()) {
        return Err(list.error(format!(
            "{}: engines is empty; write at least one, or leave it out",
            block.owner
        )));
    }
    Ok(GroupConfig {
        name,
        engines: engines.map(|list| list.value),
    })
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
