//! Which descriptors a command means, whether any is left, and how they are
//! thrown away.

use super::{Origin, Phase, Submission};
use crate::bus::Pasid;
use crate::device::Dsa;
use crate::trace::Fate;

/// Which descriptors an administrative command means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All of them.
    All,
    /// Those of one queue.
    Queue(usize),
    /// Those that run with this PASID.
    Pasid(Pasid),
}

impl Selection {
    fn covers(self, origin: &Origin) -> bool {
        match self {
            Self::All => true,
            Self::Queue(queue) => origin.queue == queue,
            Self::Pasid(pasid) => origin.requester.pasid == Some(pasid),
        }
    }
}

impl Dsa {
    /// Whether any selected descriptor that was submitted before `horizon` is
    /// still waiting or in progress.
    pub(crate) fn is_busy(&self, selection: Selection, horizon: u64) -> bool {
        let queued = self
            .queues
            .iter()
            .flat_map(|queue| &queue.entries)
            .map(|entry| &entry.origin);
        let mut all = queued
            .chain(self.scheduler.origins())
            .chain(self.scheduler.waiting_drains());
        all.any(|origin| origin.sequence < horizon && selection.covers(origin))
    }

    /// Throws the selected descriptors away: no record, no interrupt.
    pub(crate) fn abandon(&mut self, selection: Selection) {
        let mut victims: Vec<Submission> = Vec::new();
        for queue in &mut self.queues {
            queue.entries.retain(|entry| {
                let covered = selection.covers(&entry.origin);
                if covered {
                    victims.push(*entry);
                }
                !covered
            });
        }
        for place in &mut self.scheduler.engines {
            if let Some(job) = place.take_if(|job| selection.covers(&job.submission.origin)) {
                // A member that was not fetched has no descriptor to account for.
                if !matches!(job.phase, Phase::Fetch { .. }) {
                    victims.push(job.submission);
                }
            }
        }
        let batches = self
            .scheduler
            .batches
            .extract_if(.., |_, batch| selection.covers(&batch.submission.origin));
        for (_, batch) in batches {
            victims.push(batch.submission);
            victims.extend(batch.held);
        }
        let drains = self
            .scheduler
            .drains
            .extract_if(.., |drain| selection.covers(&drain.submission.origin));
        victims.extend(drains.map(|drain| drain.submission));

        for victim in &victims {
            self.scheduler.records.release(victim);
            if let Some(queue) = self.queues.get_mut(victim.origin.queue)
                && victim.origin.member_of.is_none()
            {
                queue.counters.abandoned += 1;
            }
            self.bench.trace(victim, Fate::Abandoned);
        }
    }

    /// Throws away everything, as a reset does.
    pub(crate) fn abandon_all(&mut self) {
        self.abandon(Selection::All);
    }
}
