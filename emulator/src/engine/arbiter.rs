//! Which descriptor an idle engine takes up next.

use super::batch::BatchId;
use super::{DISPATCH_NS, Job, Phase, Submission};
use crate::descriptor::Opcode;
use crate::device::Dsa;
use crate::identity::BATCHES_PER_ENGINE;
use crate::registers::DeviceState;

impl Dsa {
    /// Gives each idle engine the next descriptor of its group.
    pub(super) fn dispatch(&mut self, now: u64) {
        if self.state == DeviceState::Halt {
            return;
        }
        for engine in 0..self.scheduler.engines.len() {
            let idle = self
                .scheduler
                .engines
                .get(engine)
                .is_some_and(Option::is_none);
            let group = self
                .groups
                .iter()
                .position(|group| group.has_engine(engine));
            if let (true, Some(group)) = (idle, group)
                && let Some(job) = self.choose(group, now)
                && let Some(place) = self.scheduler.engines.get_mut(engine)
            {
                *place = Some(job);
            }
        }
    }

    /// The next descriptor of a group [§4.1 "Work Dispatch Priority"].
    fn choose(&mut self, group: usize, now: u64) -> Option<Job> {
        let members: Vec<usize> = {
            let group = self.groups.get(group)?;
            (0..self.queues.len())
                .filter(|queue| group.has_queue(*queue))
                .collect()
        };
        let room_for_batches = self.has_room_for_batch(group);
        let eligible: Vec<usize> = members
            .iter()
            .copied()
            .filter(|queue| {
                self.startable_batch(*queue).is_some()
                    || self.head(*queue, room_for_batches).is_some()
            })
            .collect();
        let chosen = self.take_turn(group, &members, &eligible)?;

        let batch = self.startable_batch(chosen);
        let head = self.head(chosen, room_for_batches).is_some();
        let queue = self.queues.get_mut(chosen)?;
        let take_member = batch.is_some() && (!head || queue.batch_goes_first);
        queue.batch_goes_first = !take_member;
        match batch {
            Some(batch) if take_member => self.start_member(batch, now),
            _ => self.take_head(chosen, now),
        }
    }

    /// Queues with work take turns, one descriptor each, until each of them has
    /// had as many turns as its priority says; then all of the group start
    /// anew.
    fn take_turn(&mut self, group: usize, members: &[usize], eligible: &[usize]) -> Option<usize> {
        let last = self.scheduler.last_served.get(&group).copied();
        let after_last = |queue: &&usize| last.is_some_and(|last| **queue > last);
        let (behind, before): (Vec<&usize>, Vec<&usize>) = eligible.iter().partition(after_last);
        let in_turn: Vec<usize> = behind.into_iter().chain(before).copied().collect();
        let has_turns = |queue: &&usize| {
            let queue = self.queues.get(**queue);
            queue.is_some_and(|queue| queue.turns_taken < queue.priority())
        };
        let chosen = match in_turn.iter().find(has_turns) {
            Some(queue) => *queue,
            None => {
                let first = *in_turn.first()?;
                for member in members {
                    if let Some(queue) = self.queues.get_mut(*member) {
                        queue.turns_taken = 0;
                    }
                }
                first
            }
        };
        self.queues.get_mut(chosen)?.turns_taken += 1;
        self.scheduler.last_served.insert(group, chosen);
        Some(chosen)
    }

    fn has_room_for_batch(&self, group: usize) -> bool {
        let Some(group) = self.groups.get(group) else {
            return false;
        };
        let limit = group.engine_count() as usize * usize::from(BATCHES_PER_ENGINE);
        let batches = self.scheduler.batches.values();
        batches
            .filter(|batch| group.has_queue(batch.submission.origin.queue))
            .count()
            < limit
    }

    /// The descriptor at the head of a queue, unless it is a batch and there is
    /// no room for one.
    fn head(&self, queue: usize, room_for_batches: bool) -> Option<&Submission> {
        let head = self.queues.get(queue)?.entries.front()?;
        (room_for_batches || head.descriptor.opcode() != Opcode::BATCH).then_some(head)
    }

    /// The oldest batch of a queue that has a member left to start.
    fn startable_batch(&self, queue: usize) -> Option<BatchId> {
        let batches = self.scheduler.batches.iter();
        let mut mine = batches.filter(|(_, batch)| {
            batch.submission.origin.queue == queue && batch.can_start_member()
        });
        mine.next().map(|(id, _)| *id)
    }

    fn take_head(&mut self, queue: usize, now: u64) -> Option<Job> {
        let entry = self.queues.get_mut(queue)?.entries.pop_front()?;
        Some(Job {
            submission: entry,
            phase: Phase::Start,
            interrupt: None,
            due_ns: now + DISPATCH_NS,
        })
    }
}
