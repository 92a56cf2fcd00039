//! How a device is divided: which queues there are, and which engines serve them.

use alloc::vec::Vec;
use core::error;
use core::fmt;

use crate::Capabilities;

/// How a device is divided. What is not named gets nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The groups, by index.
    pub groups: Vec<GroupPlan>,
    /// The work queues, in any order.
    pub queues: Vec<QueuePlan>,
}

/// One group: engines that serve the same queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupPlan {
    /// Its engines: bit N is engine N.
    pub engines: u64,
    /// The traffic class of its accesses, 0 to 7. 0 is always carried; any other the
    /// device's virtual channels must be set up for.
    pub traffic_class: u8,
}

/// One work queue, in exactly one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePlan {
    /// Which queue.
    pub index: u8,
    /// Which group serves it.
    pub group: u8,
    /// What it is like.
    pub shape: QueueShape,
}

/// What a work queue is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueShape {
    /// How many descriptors it holds.
    pub size: u16,
    /// Who may use it.
    pub mode: QueueMode,
    /// How many descriptors the limited portals of a shared queue may fill it with.
    pub threshold: u16,
    /// Its weight against the other queues of its group, 1 to 15.
    pub priority: u8,
    /// The largest transfer, 2^N bytes.
    pub max_transfer_log2: u8,
    /// The largest batch, 2^N descriptors.
    pub max_batch_log2: u8,
}

/// Who may use a work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueMode {
    /// One client, which counts what it submits; one PASID.
    Dedicated,
    /// Several clients, each submission with its PASID and an answer.
    Shared,
}

impl QueueShape {
    /// A queue of `size` descriptors that may do all that the device can do.
    pub const fn largest(mode: QueueMode, size: u16, capabilities: &Capabilities) -> Self {
        Self {
            size,
            mode,
            threshold: size,
            priority: Self::DEFAULT_PRIORITY,
            max_transfer_log2: capabilities.gencap.max_transfer_size(),
            max_batch_log2: capabilities.gencap.max_batch_size(),
        }
    }

    /// The middle: some queues can have less, some more.
    pub const DEFAULT_PRIORITY: u8 = 8;
}

impl Plan {
    /// Queues of these shapes, from queue 0 on, each with a group of its own as long as
    /// there are groups and engines; then groups are shared in turn. All engines are used.
    ///
    /// What clients of one engine can find out about each other is the less, the fewer
    /// they are.
    ///
    /// # Errors
    /// If the device has not enough for it.
    pub fn spread(capabilities: &Capabilities, shapes: &[QueueShape]) -> Result<Self, PlanError> {
        let engines = capabilities.count_engines().min(64);
        let most_groups = usize::from(capabilities.count_groups().min(engines));
        let count_groups = shapes.len().min(most_groups);
        if count_groups == 0 {
            return Err(PlanError::Empty);
        }
        let mut groups = Vec::new();
        groups.resize(count_groups, GroupPlan::default());
        for engine in 0..engines {
            if let Some(group) = groups.get_mut(usize::from(engine) % count_groups) {
                group.engines |= 1 << engine;
            }
        }
        let mut queues = Vec::new();
        for (number, &shape) in shapes.iter().enumerate() {
            let count = capabilities.count_queues();
            let index = u8::try_from(number).unwrap_or(u8::MAX);
            let group = u8::try_from(number % count_groups).unwrap_or(u8::MAX);
            if number >= usize::from(count) {
                return Err(PlanError::NoSuchQueue {
                    queue: index,
                    count,
                });
            }
            queues.push(QueuePlan {
                index,
                group,
                shape,
            });
        }
        let plan = Self { groups, queues };
        plan.check(capabilities)?;
        Ok(plan)
    }

    /// Whether a device can be divided like this.
    /// [DSA 3.0, 5.1 "Device Enable Checks"; 5.2 "WQ Enable Checks"]
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, capabilities: &Capabilities) -> Result<(), PlanError> {
        if self.queues.is_empty() {
            return Err(PlanError::Empty);
        }
        self.check_groups(capabilities)?;
        self.check_membership(capabilities)?;
        let mut total = 0;
        for queue in &self.queues {
            queue.check(capabilities)?;
            total += u32::from(queue.shape.size);
        }
        let available = capabilities.count_entries();
        if total > u32::from(available) {
            return Err(PlanError::TotalSize { total, available });
        }
        Ok(())
    }

    fn check_groups(&self, capabilities: &Capabilities) -> Result<(), PlanError> {
        let count = capabilities.count_groups();
        if self.groups.len() > usize::from(count) {
            let group = u8::try_from(self.groups.len() - 1).unwrap_or(u8::MAX);
            return Err(PlanError::NoSuchGroup { group, count });
        }
        let count = capabilities.count_engines();
        let mut seen = 0_u64;
        for (group, plan) in (0..).zip(&self.groups) {
            let unknown = if count < 64 { plan.engines >> count } else { 0 };
            if unknown != 0 {
                let engine = count + trailing_zeros(unknown);
                return Err(PlanError::NoSuchEngine { engine, count });
            }
            let twice = plan.engines & seen;
            if twice != 0 {
                let engine = trailing_zeros(twice);
                return Err(PlanError::EngineInTwoGroups { engine, group });
            }
            seen |= plan.engines;
            if plan.traffic_class > 7 {
                let class = plan.traffic_class;
                return Err(PlanError::TrafficClass { group, class });
            }
        }
        Ok(())
    }

    fn check_membership(&self, capabilities: &Capabilities) -> Result<(), PlanError> {
        let count = capabilities.count_queues();
        for (place, plan) in self.queues.iter().enumerate() {
            let queue = plan.index;
            if queue >= count {
                return Err(PlanError::NoSuchQueue { queue, count });
            }
            if self
                .queues
                .iter()
                .take(place)
                .any(|other| other.index == queue)
            {
                return Err(PlanError::QueueTwice { queue });
            }
            let Some(group) = self.groups.get(usize::from(plan.group)) else {
                let group = plan.group;
                return Err(PlanError::QueueWithoutGroup { queue, group });
            };
            if group.engines == 0 {
                let group = plan.group;
                return Err(PlanError::GroupWithoutEngines { group, queue });
            }
        }
        for (group, plan) in (0..).zip(&self.groups) {
            let is_used = self.queues.iter().any(|queue| queue.group == group);
            if plan.engines != 0 && !is_used {
                return Err(PlanError::GroupWithoutQueues { group });
            }
        }
        Ok(())
    }
}

impl QueuePlan {
    fn check(&self, capabilities: &Capabilities) -> Result<(), PlanError> {
        let queue = self.index;
        let QueueShape {
            size,
            mode,
            threshold,
            priority,
            max_transfer_log2,
            max_batch_log2,
        } = self.shape;
        if size == 0 {
            return Err(PlanError::NoSize { queue });
        }
        let is_supported = match mode {
            QueueMode::Dedicated => capabilities.wqcap.dedicated_mode(),
            QueueMode::Shared => capabilities.wqcap.shared_mode(),
        };
        if !is_supported {
            return Err(PlanError::Mode { queue, mode });
        }
        if threshold > size {
            return Err(PlanError::Threshold {
                queue,
                threshold,
                size,
            });
        }
        if !(1..=15).contains(&priority) {
            return Err(PlanError::Priority { queue, priority });
        }
        let most = capabilities.gencap.max_transfer_size();
        if max_transfer_log2 > most {
            return Err(PlanError::TransferSize {
                queue,
                log2: max_transfer_log2,
                most,
            });
        }
        // A batch of one descriptor is no batch for a device without Batch1 Support.
        let least = u8::from(!capabilities.gencap.batch1());
        let most = capabilities.gencap.max_batch_size();
        if !(least..=most).contains(&max_batch_log2) {
            return Err(PlanError::BatchSize {
                queue,
                log2: max_batch_log2,
                least,
                most,
            });
        }
        Ok(())
    }
}

fn trailing_zeros(bits: u64) -> u8 {
    u8::try_from(bits.trailing_zeros()).unwrap_or(u8::MAX)
}

/// Why a device cannot be divided as a plan says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// There is no queue in it.
    Empty,
    /// The device has fewer groups.
    NoSuchGroup {
        /// The group.
        group: u8,
        /// How many there are.
        count: u8,
    },
    /// The device has fewer engines.
    NoSuchEngine {
        /// The engine.
        engine: u8,
        /// How many there are.
        count: u8,
    },
    /// The device has fewer queues.
    NoSuchQueue {
        /// The queue.
        queue: u8,
        /// How many there are.
        count: u8,
    },
    /// An engine can be in one group only.
    EngineInTwoGroups {
        /// The engine.
        engine: u8,
        /// The second group.
        group: u8,
    },
    /// Traffic classes are 0 to 7.
    TrafficClass {
        /// The group.
        group: u8,
        /// Its traffic class.
        class: u8,
    },
    /// A queue can be in one group only, and so in the plan but once.
    QueueTwice {
        /// The queue.
        queue: u8,
    },
    /// The queue's group is not in the plan.
    QueueWithoutGroup {
        /// The queue.
        queue: u8,
        /// Its group.
        group: u8,
    },
    /// Nobody would serve the queue.
    GroupWithoutEngines {
        /// The group.
        group: u8,
        /// A queue in it.
        queue: u8,
    },
    /// The engines would have nothing to do, which the device refuses.
    GroupWithoutQueues {
        /// The group.
        group: u8,
    },
    /// A queue without entries cannot be enabled.
    NoSize {
        /// The queue.
        queue: u8,
    },
    /// The queues together are larger than the device.
    TotalSize {
        /// How many entries they have together.
        total: u32,
        /// How many the device has.
        available: u16,
    },
    /// The device has no such queues.
    Mode {
        /// The queue.
        queue: u8,
        /// Its mode.
        mode: QueueMode,
    },
    /// More entries than the queue has.
    Threshold {
        /// The queue.
        queue: u8,
        /// Its threshold.
        threshold: u16,
        /// Its size.
        size: u16,
    },
    /// Priorities are 1 to 15.
    Priority {
        /// The queue.
        queue: u8,
        /// Its priority.
        priority: u8,
    },
    /// The device makes no transfers of that size.
    TransferSize {
        /// The queue.
        queue: u8,
        /// Its largest transfer, as a power of two.
        log2: u8,
        /// The device's.
        most: u8,
    },
    /// The device takes no batches of that size.
    BatchSize {
        /// The queue.
        queue: u8,
        /// Its largest batch, as a power of two.
        log2: u8,
        /// The least that can be set.
        least: u8,
        /// The device's.
        most: u8,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("no work queue is planned; plan at least one"),
            Self::NoSuchGroup { group, count } => {
                write!(f, "group {group} is planned of {count}; plan fewer groups")
            }
            Self::NoSuchEngine { engine, count } => {
                write!(f, "engine {engine} is planned of {count}; use lower ones")
            }
            Self::NoSuchQueue { queue, count } => {
                write!(
                    f,
                    "queue {queue} is planned of {count}; give guests fewer queues"
                )
            }
            Self::EngineInTwoGroups { engine, group } => write!(
                f,
                "engine {engine} of group {group} is in another group too; leave it to one"
            ),
            Self::TrafficClass { group, class } => {
                write!(
                    f,
                    "traffic class {class} of group {group} is not from 0 to 7"
                )
            }
            Self::QueueTwice { queue } => {
                write!(
                    f,
                    "queue {queue} is planned twice; it can be in one group only"
                )
            }
            Self::QueueWithoutGroup { queue, group } => {
                write!(f, "group {group} of queue {queue} is not planned; plan it")
            }
            Self::GroupWithoutEngines { group, queue } => write!(
                f,
                "group {group}, which is to serve queue {queue}, has no engine; give it one"
            ),
            Self::GroupWithoutQueues { group } => {
                write!(f, "group {group} has engines and no queue; leave it out")
            }
            Self::NoSize { queue } => write!(f, "queue {queue} has size 0; give it entries"),
            Self::TotalSize { total, available } => write!(
                f,
                "the queues have {total} entries of {available}; make them smaller"
            ),
            Self::Mode { queue, mode } => {
                let (mode, other) = match mode {
                    QueueMode::Dedicated => ("dedicated", "shared"),
                    QueueMode::Shared => ("shared", "dedicated"),
                };
                write!(
                    f,
                    "queue {queue} is {mode}, which the device has not; make it {other}"
                )
            }
            Self::Threshold {
                queue,
                threshold,
                size,
            } => write!(
                f,
                "threshold {threshold} of queue {queue} is above its size {size}; lower it"
            ),
            Self::Priority { queue, priority } => {
                write!(
                    f,
                    "priority {priority} of queue {queue} is not from 1 to 15"
                )
            }
            Self::TransferSize { queue, log2, most } => write!(
                f,
                "transfers of 2^{log2} bytes at queue {queue} are above the device's 2^{most}"
            ),
            Self::BatchSize {
                queue,
                log2,
                least,
                most,
            } => write!(
                f,
                "batches of 2^{log2} at queue {queue} are not from 2^{least} to 2^{most}"
            ),
        }
    }
}

impl error::Error for PlanError {}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
