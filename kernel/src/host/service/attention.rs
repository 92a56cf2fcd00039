//! What a device says unasked: errors and halts.

use core::sync::atomic::Ordering;

use dsa::{SoftwareError, State};
use hwspec::dsa::ResetType;

use super::super::client::{Answer, Failure};
use super::super::hardware::Hardware;
use super::{Counters, Health, Inner};

impl<H: Hardware> Inner<H> {
    /// Looks why the device interrupted.
    pub(super) fn attend(&mut self, counters: &Counters) {
        let causes = match self.hardware.take_causes() {
            Ok(causes) => causes,
            Err(error) => return self.fail(Some(error)),
        };
        if causes.software_error() {
            match self.hardware.take_software_error() {
                Ok(Some(error)) => self.deliver(error, counters),
                Ok(None) => {}
                Err(error) => self.fail(Some(error)),
            }
        }
        if causes.halt_state() {
            match self.hardware.state() {
                Ok(State::Halted(reset)) => self.halt(reset),
                Ok(_) => {}
                Err(error) => self.fail(Some(error)),
            }
        }
        // Command completions are polled; the other causes are not enabled.
    }

    fn halt(&mut self, reset: ResetType) {
        if self.health != Health::Works {
            return;
        }
        if reset == ResetType::ResetDevice {
            self.health = Health::Recovers;
            return;
        }
        self.health = Health::Halted(reset);
        for client in self.clients.iter().flatten() {
            client.tell_end(Some(reset));
        }
    }

    /// Tells of an error whoever it is about: by queue, or where that is shared or not
    /// known, by PASID.
    fn deliver(&mut self, error: SoftwareError, counters: &Counters) {
        self.last_error = Some(error);
        counters.software_errors.fetch_add(1, Ordering::Relaxed);
        let clients = || self.clients.iter().flatten();
        let by_queue = error
            .queue
            .and_then(|queue| clients().find(|client| client.setup.queues.contains(queue)));
        let pasid = error.descriptor.map(|descriptor| descriptor.pasid);
        let owner = by_queue.or_else(|| {
            let pasid = pasid?;
            clients().find(|client| client.owns_pasid(pasid))
        });
        match owner {
            Some(client) => client.tell_error(error),
            None => {
                counters.unowned_errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        if error.overflow {
            counters.lost_errors.fetch_add(1, Ordering::Relaxed);
            for client in clients() {
                client.tell_errors_lost();
            }
        }
    }

    /// Resets a device that halted, and puts everything back: the slots before the
    /// queues, so that no descriptor meets a slot that is not there.
    pub(super) fn recover(&mut self, counters: &Counters) {
        let restored = self.hardware.restart().and_then(|()| self.restore_slots());
        if let Err(error) = restored.and_then(|()| self.hardware.resume()) {
            self.finish(Answer::Failed(Failure::Stopped));
            self.fail(Some(error));
            return;
        }
        counters.recoveries.fetch_add(1, Ordering::Relaxed);
        self.health = Health::Works;
        // What was under way is lost, whatever it was.
        if let Some(job) = &self.job
            && let (Some(number), Some(client)) = (job.opened, self.client(job.client))
        {
            self.take_back(&client, number);
        }
        self.finish(Answer::Failed(Failure::Stopped));
        for client in self.clients.iter().flatten() {
            client.tell_reset();
        }
    }

    fn restore_slots(&mut self) -> Result<(), dsa::Error> {
        for client in self.clients.iter().flatten() {
            for cell in client.vectors() {
                let restored = match cell.lock().as_mut() {
                    Some(vector) => vector.slot.restore().map(|()| vector.slot.index())?,
                    None => continue,
                };
                if !self.hardware.has_handle_commands() {
                    continue;
                }
                // This waits, so nobody is kept out meanwhile.
                let handle = self.hardware.request_handle(restored)?;
                if let Some(vector) = cell.lock().as_mut() {
                    vector.handle = handle;
                }
            }
        }
        Ok(())
    }
}
