//! Which queues and engines make a group.
//!
//! A device wants each queue in exactly one group, each engine in at most one,
//! and in each group both or neither. Queues and groups that the file leaves
//! open are filled in: each queue gets a group of its own; where groups or engines
//! do not reach, the queues of one guest come together first.

use alloc::format;
use alloc::vec::Vec;

use super::super::facts::DsaFacts;
use super::super::plan::{DsaPlan, GroupPlan, QueuePlan};
use super::super::{At, Config, ConfigError, GroupName, MachineFacts, QueueConfig};
use super::queues::find_dsa;

/// The engine bitmap of GRPCFG has 64 bits. [DSA 3.0, 9.2.23 "Group Configuration
/// Table (GRPCFG)"]
const MAX_ENGINES: u8 = 64;

/// Puts all queues of `plans` into groups.
pub(super) fn plan(
    config: &Config,
    machine: &MachineFacts<'_>,
    plans: &mut [DsaPlan],
) -> Result<(), ConfigError> {
    for group in &config.groups {
        find_dsa(machine, group.name.value.dsa, group.name.line)?;
    }
    for ((number, facts), plan) in (0..=u8::MAX).zip(machine.dsas).zip(plans) {
        let mut draft = Draft::new(number, facts);
        draft.take_groups(config)?;
        draft.take_queues(config)?;
        draft.check_use()?;
        draft.fill_in(config)?;
        draft.finish(plan);
    }
    Ok(())
}

/// The groups of one accelerator, in the making.
struct Draft<'m> {
    number: u8,
    facts: &'m DsaFacts,
    groups: Vec<Group>,
    /// The queues that are in no group yet.
    open: Vec<At<u8>>,
}

struct Group {
    name: At<GroupName>,
    queues: Vec<u8>,
    /// Empty where Weir picks them.
    engines: Vec<u8>,
}

impl<'m> Draft<'m> {
    fn new(number: u8, facts: &'m DsaFacts) -> Self {
        Self {
            number,
            facts,
            groups: Vec::new(),
            open: Vec::new(),
        }
    }

    /// The groups that the file describes.
    fn take_groups(&mut self, config: &Config) -> Result<(), ConfigError> {
        let number = self.number;
        let own = config.groups.iter();
        for group in own.filter(|group| group.name.value.dsa == number) {
            let name = group.name;
            self.check_index(name)?;
            if let Some(first) = self.find(name.value) {
                return Err(name.error(format!(
                    "{} is set up twice, first in line {}; remove one",
                    name.value, first.name.line
                )));
            }
            let mut engines = Vec::new();
            for engine in group.engines.iter().flatten() {
                if engine.value >= self.engines() {
                    return Err(engine.error(format!(
                        "{}: there is no engine {}; dsa{number} has {} engines, counted from 0",
                        name.value,
                        engine.value,
                        self.engines()
                    )));
                }
                if engines.contains(&engine.value) || self.is_taken(engine.value) {
                    return Err(engine.error(format!(
                        "{}: engine {} is in a group already; give each engine once",
                        name.value, engine.value
                    )));
                }
                engines.push(engine.value);
            }
            self.groups.push(Group {
                name,
                queues: Vec::new(),
                engines,
            });
        }
        Ok(())
    }

    /// The queues, into the groups that they name.
    fn take_queues(&mut self, config: &Config) -> Result<(), ConfigError> {
        for queue in own_queues(config, self.number) {
            let index = queue.name.value.queue;
            let Some(name) = queue.group else {
                self.open.push(At {
                    line: queue.name.line,
                    value: index,
                });
                continue;
            };
            self.check_index(name)?;
            match self
                .groups
                .iter_mut()
                .find(|group| group.name.value == name.value)
            {
                Some(group) => group.queues.push(index),
                None => self.groups.push(Group {
                    name,
                    queues: Vec::from([index]),
                    engines: Vec::new(),
                }),
            }
        }
        Ok(())
    }

    fn check_index(&self, name: At<GroupName>) -> Result<(), ConfigError> {
        if u16::from(name.value.group) < self.facts.groups {
            return Ok(());
        }
        Err(name.error(format!(
            "there is no {}; dsa{} has {} groups, counted from 0",
            name.value, self.number, self.facts.groups
        )))
    }

    /// A group without a queue would only take engines away.
    fn check_use(&self) -> Result<(), ConfigError> {
        match self.groups.iter().find(|group| group.queues.is_empty()) {
            None => Ok(()),
            Some(Group { name, .. }) => Err(name.error(format!(
                "{0} has no queue; write group = \"group{1}.{2}\" in a [[wq]], or remove it",
                name.value, name.value.dsa, name.value.group
            ))),
        }
    }

    /// Gives every queue a group and every group an engine.
    fn fill_in(&mut self, config: &Config) -> Result<(), ConfigError> {
        let mut free: Vec<u8> = (0..self.engines())
            .filter(|&engine| !self.is_taken(engine))
            .collect();
        let waiting = self.groups.iter().filter(|group| group.engines.is_empty());
        if let Some(group) = waiting.clone().nth(free.len()) {
            return Err(group.name.error(format!(
                "no engine is left for {}; give other groups fewer, or use fewer groups",
                group.name.value
            )));
        }
        let reach = free.len() - waiting.count();
        self.place_open_queues(config, reach)?;

        // One after the other, until there are no more.
        let mut waiting: Vec<&mut Group> = self
            .groups
            .iter_mut()
            .filter(|group| group.engines.is_empty())
            .collect();
        free.reverse();
        while !waiting.is_empty() && !free.is_empty() {
            for group in &mut waiting {
                group.engines.extend(free.pop());
            }
        }
        Ok(())
    }

    /// Puts the queues that are in no group into at most `reach` new ones.
    fn place_open_queues(&mut self, config: &Config, reach: usize) -> Result<(), ConfigError> {
        let Some(first) = self.open.first().copied() else {
            return Ok(());
        };
        let indices = 0..u8::try_from(self.facts.groups).unwrap_or(u8::MAX);
        let is_free = |&index: &u8| self.groups.iter().all(|g| g.name.value.group != index);
        let places: Vec<u8> = indices.filter(is_free).take(reach).collect();
        if places.is_empty() {
            return Err(first.error(format!(
                "no group and engine are left for dsa{0}/wq{0}.{1}; \
                 put it into a group that has engines, with group = \"group{0}.N\"",
                self.number, first.value
            )));
        }
        let is_tight = self.open.len() > places.len();
        let mut owners: Vec<Owner> = Vec::new();
        let mut placed: Vec<Group> = Vec::new();
        for queue in &self.open {
            let owner = owner_of(config, self.number, queue.value, is_tight);
            let rank = owners.iter().position(|&other| other == owner);
            let rank = rank.unwrap_or_else(|| {
                owners.push(owner);
                owners.len() - 1
            });
            let place = rank % places.len();
            match placed.get_mut(place) {
                Some(group) => group.queues.push(queue.value),
                // Ranks come in order, so this is the next place.
                None => placed.extend(places.get(place).map(|&index| Group {
                    name: At {
                        line: queue.line,
                        value: GroupName {
                            dsa: self.number,
                            group: index,
                        },
                    },
                    queues: Vec::from([queue.value]),
                    engines: Vec::new(),
                })),
            }
        }
        self.groups.extend(placed);
        Ok(())
    }

    fn finish(self, plan: &mut DsaPlan) {
        for group in self.groups {
            let index = group.name.value.group;
            let is_own = |queue: &&mut QueuePlan| group.queues.contains(&queue.index);
            plan.queues
                .iter_mut()
                .filter(is_own)
                .for_each(|queue| queue.group = index);
            plan.groups.push(GroupPlan {
                index,
                queues: group.queues,
                engines: group.engines,
            });
        }
        plan.groups.sort_by_key(|group| group.index);
    }

    /// How many engines there are: no more than a group's entry has bits for.
    fn engines(&self) -> u8 {
        u8::try_from(self.facts.engines).map_or(MAX_ENGINES, |count| count.min(MAX_ENGINES))
    }

    fn find(&self, name: GroupName) -> Option<&Group> {
        self.groups.iter().find(|group| group.name.value == name)
    }

    fn is_taken(&self, engine: u8) -> bool {
        self.groups
            .iter()
            .any(|group| group.engines.contains(&engine))
    }
}

fn own_queues(config: &Config, number: u8) -> impl Iterator<Item = &QueueConfig> {
    let queues = config.queues.iter();
    queues.filter(move |queue| queue.name.value.dsa == number)
}

/// Whose queues come into one group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The queue has a group of its own.
    Queue(u8),
    /// The first guest that uses it.
    Guest(usize),
}

fn owner_of(config: &Config, dsa: u8, queue: u8, is_tight: bool) -> Owner {
    let uses = |guest: &super::super::GuestConfig| {
        let mut names = guest.queues.iter().map(|queue| queue.wq.value);
        names.any(|name| name.dsa == dsa && name.queue == queue)
    };
    let guest = config.guests.iter().position(uses);
    match guest {
        Some(guest) if is_tight => Owner::Guest(guest),
        _ => Owner::Queue(queue),
    }
}
