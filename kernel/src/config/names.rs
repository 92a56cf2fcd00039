//! Work queues and groups by the names that accel-config gives them.
//!
//! Device N is `dsaN`; its queues are `wqN.M` and its groups `groupN.M`. The file
//! writes both parts, `dsaN/wqN.M`. [Linux, Documentation/ABI/stable/
//! sysfs-driver-dma-idxd; accel-config(1)]

use core::fmt;

/// A work queue, as `dsa0/wq0.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueName {
    /// The accelerator's number.
    pub dsa: u8,
    /// The queue's index.
    pub queue: u8,
}

/// A group, as `dsa0/group0.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupName {
    /// The accelerator's number.
    pub dsa: u8,
    /// The group's index.
    pub group: u8,
}

impl QueueName {
    /// The queue of this name.
    pub fn parse(text: &str) -> Option<Self> {
        let (dsa, own) = text.split_once('/')?;
        let dsa = number(dsa.strip_prefix("dsa")?)?;
        let queue = member(own, "wq", dsa)?;
        Some(Self { dsa, queue })
    }
}

impl GroupName {
    /// The group of this name.
    pub fn parse(text: &str) -> Option<Self> {
        let (dsa, own) = text.split_once('/')?;
        let dsa = number(dsa.strip_prefix("dsa")?)?;
        let group = member(own, "group", dsa)?;
        Some(Self { dsa, group })
    }

    /// As [`parse`](Self::parse), of a group of device `dsa`; `dsaN/` may be
    /// left out.
    pub(super) fn parse_within(text: &str, dsa: u8) -> Option<Self> {
        match member(text, "group", dsa) {
            Some(group) => Some(Self { dsa, group }),
            None => Self::parse(text).filter(|name| name.dsa == dsa),
        }
    }
}

/// M of `kindN.M`, where N is `dsa`.
fn member(text: &str, kind: &str, dsa: u8) -> Option<u8> {
    let (device, index) = text.strip_prefix(kind)?.split_once('.')?;
    if number(device)? == dsa {
        number(index)
    } else {
        None
    }
}

/// Digits as they are printed: no sign, and no zero in front.
fn number(text: &str) -> Option<u8> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain && (text == "0" || !text.starts_with('0')) {
        text.parse().ok()
    } else {
        None
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dsa{0}/wq{0}.{1}", self.dsa, self.queue)
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dsa{0}/group{0}.{1}", self.dsa, self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_named_as_accel_config_names_them() {
        let queue = |dsa, queue| Some(QueueName { dsa, queue });
        assert_eq!(QueueName::parse("dsa0/wq0.1"), queue(0, 1));
        assert_eq!(QueueName::parse("dsa12/wq12.7"), queue(12, 7));
        for text in [
            "",
            "wq0.1",
            "dsa0",
            "dsa0/wq1.1",
            "dsa/wq.1",
            "dsa0/wq0",
            "dsa0/wq0.",
            "dsa0/wq0.+1",
            "dsa0/wq0.01",
            "dsa0/wq0.256",
            "dsa0/wq0.1 ",
            "iax1/wq1.0",
            "dsa0/group0.1",
        ] {
            assert_eq!(QueueName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn within_a_device_a_group_needs_no_device() {
        let group = Some(GroupName { dsa: 2, group: 3 });
        assert_eq!(GroupName::parse("dsa2/group2.3"), group);
        assert_eq!(GroupName::parse_within("dsa2/group2.3", 2), group);
        assert_eq!(GroupName::parse_within("group2.3", 2), group);
        assert_eq!(GroupName::parse_within("group0.3", 2), None);
        assert_eq!(GroupName::parse_within("dsa0/group0.3", 2), None);
        assert_eq!(GroupName::parse("group2.3"), None);
    }
}
