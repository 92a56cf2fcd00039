//! Which descriptor an idle engine takes up next.

use super::batch::BatchId;
use super::{DISPATCH_NS, Job, Phase, Submission};
use crate::bus::Bus;
use crate::descriptor::Opcode;
use crate::device::Dsa;
use crate::identity::BATCHES_PER_ENGINE;
use crate::interrupt::Table;
use crate::registers::{DeviceState, INTCAUSE_OCCUPANCY};

impl Dsa {
    /// Gives each idle engine the next descriptor of its group.
    pub(super) fn dispatch(&mut self, now: u64, bus: &mut dyn Bus) {
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
                && let Some(job) = self.choose(group, now, bus)
                && let Some(place) = self.scheduler.engines.get_mut(engine)
            {
                *place = Some(job);
            }
        }
    }

    /// The next descriptor of a group. Queues with work take turns in
    /// proportion to their priority: each earns its priority at every choice,
    /// the richest one goes and pays what all have earned.
    fn choose(&mut self, group: usize, now: u64, bus: &mut dyn Bus) -> Option<Job> {
        let members: Vec<usize> = {
            let group = self.groups.get(group)?;
            (0..self.queues.len())
                .filter(|queue| group.has_queue(*queue))
                .collect()
        };
        let room_for_batches = self.has_room_for_batch(group);
        let eligible: Vec<usize> = members
            .into_iter()
            .filter(|queue| {
                self.startable_batch(*queue).is_some()
                    || self.head(*queue, room_for_batches).is_some()
            })
            .collect();

        let mut stake = 0;
        for index in &eligible {
            if let Some(queue) = self.queues.get_mut(*index) {
                queue.arbitration_credit += i64::from(queue.priority());
                stake += i64::from(queue.priority());
            }
        }
        let credit = |index: &usize| {
            self.queues
                .get(*index)
                .map(|queue| queue.arbitration_credit)
        };
        // The lowest index wins a tie.
        let chosen = eligible.into_iter().rev().max_by_key(credit)?;
        self.queues.get_mut(chosen)?.arbitration_credit -= stake;

        let batch = self.startable_batch(chosen);
        let head = self.head(chosen, room_for_batches).is_some();
        let queue = self.queues.get_mut(chosen)?;
        let take_member = batch.is_some() && (!head || queue.batch_goes_first);
        queue.batch_goes_first = !take_member;
        match batch {
            Some(batch) if take_member => self.start_member(batch, now),
            _ => self.take_head(chosen, now, bus),
        }
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

    fn take_head(&mut self, queue: usize, now: u64, bus: &mut dyn Bus) -> Option<Job> {
        let entry = self.queues.get_mut(queue)?.entries.pop_front()?;
        if let Some((table, handle)) = self.queues.get_mut(queue)?.take_occupancy_interrupt() {
            self.raise_occupancy(table, handle, bus);
        }
        Some(Job {
            submission: entry,
            phase: Phase::Start,
            interrupt: None,
            due_ns: now + DISPATCH_NS,
        })
    }

    /// [§3.7] The occupancy interrupt uses the entry that WQCFG names; PASID
    /// is not checked, Ignore is.
    fn raise_occupancy(&mut self, table: Table, handle: u16, bus: &mut dyn Bus) {
        self.intcause |= INTCAUSE_OCCUPANCY;
        let Some(index) = self.resolve_handle(table, handle) else {
            return;
        };
        if self
            .permission(table, index)
            .is_some_and(|permission| !permission.ignore)
        {
            self.raise(table, index, bus);
        }
    }
}
