//! A guest's share of an accelerator.

use alloc::sync::Arc;

use dsa::InterruptHandle;
use dsa::ims::SlotPasid;
use hwio::Clock;
use hwspec::pci::Pasid;

use super::Accelerator;
use super::dsa_hardware::DsaHardware;
use crate::host::client::{Answer, Client, Event, Failure, Request, Set, VectorError};
use crate::mm::devices;
use crate::warn;

/// A guest's share of an accelerator.
///
/// What is about a vector takes no lock but that vector's own, which nobody else
/// holds but the service while it carries out a request of this client about it, and
/// housekeeping while it recovers the device.
#[derive(Debug)]
pub struct ClientHandle {
    pub(super) accelerator: &'static Accelerator,
    pub(super) number: usize,
    pub(super) client: Arc<Client<DsaHardware>>,
}

impl ClientHandle {
    /// The device.
    pub fn accelerator(&self) -> &'static Accelerator {
        self.accelerator
    }

    /// Asks for something. Waits for nothing; the answer comes to
    /// [`take_answer`](Self::take_answer), perhaps at once.
    ///
    /// # Panics
    /// If the last answer was not taken yet.
    pub fn post(&self, request: Request) {
        self.client.post(request);
        self.accelerator.service.post(self.number);
    }

    /// The answer, if it has come.
    pub fn take_answer(&self) -> Option<Answer> {
        self.client.take_answer()
    }

    /// Whether something was asked for and is not answered yet.
    pub fn is_waiting(&self) -> bool {
        self.client.is_waiting()
    }

    /// Whether nothing was asked for whose answer has not been taken.
    pub fn is_idle(&self) -> bool {
        self.client.is_idle()
    }

    /// Something that it is to be told, if there is anything.
    pub fn take_event(&self) -> Option<Event> {
        self.client.take_event()
    }

    /// Asks for something and waits for it, for life-cycle code. If something was
    /// asked for before, its answer is dropped.
    ///
    /// # Errors
    /// What comes instead of an answer that says that it is done.
    pub fn call(&self, request: Request) -> Result<Option<InterruptHandle>, Answer> {
        self.wait_for_answer();
        self.post(request);
        match self.wait_for_answer() {
            Some(Answer::Done) => Ok(None),
            Some(Answer::Handle(handle)) => Ok(Some(handle)),
            Some(answer) => Err(answer),
            None => Err(Answer::Failed(Failure::Stopped)),
        }
    }

    /// Waits for the answer to what was asked for, if anything was.
    ///
    /// Each command is bounded by the device's own limit, after which all are
    /// answered; so this ends.
    fn wait_for_answer(&self) -> Option<Answer> {
        let clock = devices::clock();
        while self.client.is_waiting() {
            self.accelerator.service.housekeep();
            clock.relax();
        }
        self.take_answer()
    }

    /// Masks a vector's slot or unmasks it, which sends what is pending.
    ///
    /// # Errors
    /// If it has no slot, or the device does not keep what is written.
    pub fn set_masked(&self, vector: u8, is_masked: bool) -> Result<(), VectorError> {
        self.client
            .with_slot(vector, |slot| slot.set_masked(is_masked))
    }

    /// Lets a vector's slot ignore interrupts or not.
    ///
    /// # Errors
    /// As [`set_masked`](Self::set_masked).
    pub fn set_ignored(&self, vector: u8, is_ignored: bool) -> Result<(), VectorError> {
        self.client
            .with_slot(vector, |slot| slot.set_ignored(is_ignored))
    }

    /// The host PASID in whose name a vector's slot may be used, if it has one.
    pub fn vector_pasid(&self, vector: u8) -> Option<Pasid> {
        match self.client.vector_pasid(vector)? {
            SlotPasid::Checked(pasid) => Some(pasid),
            SlotPasid::Unchecked(_) => None,
        }
    }

    /// Moves a vector's slot to another PASID of the client's.
    ///
    /// # Errors
    /// As [`set_masked`](Self::set_masked), and if the PASID is not the client's.
    pub fn set_vector_pasid(&self, vector: u8, pasid: Pasid) -> Result<(), VectorError> {
        self.client.set_vector_pasid(vector, pasid)
    }

    /// Whether a vector's slot has an interrupt pending.
    ///
    /// # Errors
    /// If it has no slot, or there is no device any more.
    pub fn is_pending(&self, vector: u8) -> Result<bool, VectorError> {
        self.client.with_slot(vector, |slot| slot.is_pending())
    }

    /// A vector's handle, if it has a slot. It changes only when the device was
    /// reset.
    pub fn handle(&self, vector: u8) -> Option<InterruptHandle> {
        self.client.handle(vector)
    }

    /// Ends a client: takes its vectors, and lets go of its PASIDs. Its queues have
    /// been reset, and nothing of it is in the device any more. Waits.
    pub fn close(self) {
        let all = Request::ReleaseVectors(Set::ALL_VECTORS);
        // A device that halts meanwhile may have them back the second time. What it does
        // not let go of then is lost.
        if self.call(all).is_err() && self.call(all).is_err() {
            warn!(
                "dsa",
                "dsa{} did not give interrupt slots back; they are lost until the machine is \
                 started anew",
                self.accelerator.number()
            );
        }
        self.accelerator.service.remove_client(self.number);
        for &pasid in &self.client.setup.pasids {
            self.accelerator.iommu.let_go_of_pasid(pasid);
        }
    }
}
