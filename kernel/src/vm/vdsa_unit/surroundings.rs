//! What is around a virtual DSA while it does something: guest memory, the machine's
//! queues and slots, and the guest's own interrupts.

use hwio::{DmaPages, Submission};
use hwspec::dsa::CommandCode;
use hwspec::pci::Pasid;
use vdsa::{GuestAddr, Host, Message, NotRam, PasidAction, QueueAction, QueueIndex, Request};

use super::backing::{Backing, FIRST_BATCH_VECTOR};
use super::moving::Moving;
use crate::host::accelerator::ClientHandle;
use crate::host::client::{self, Set, VectorError};
use crate::host::routes::{Completion, GuestTarget};
use crate::platform::local_apic::Delivery;
use crate::trace::{self, Kind};
use crate::virt::address::GuestPhysAddr;
use crate::virt::memory::GuestMemory;
use crate::vm::shared::{Line, Place};

/// What is around a virtual DSA, for as long as it does something.
pub(super) struct Surroundings<'s> {
    pub(super) memory: &'s GuestMemory,
    pub(super) place: &'static Place,
    pub(super) backing: &'s mut Backing,
    /// What the guest asked for while a vector was moving.
    pub(super) held: &'s mut Option<client::Request>,
}

impl Surroundings<'_> {
    fn line(&self, vector: u16) -> Option<&'static Line> {
        let vdsa = self.place.vdsas.get(self.backing.vdsa)?;
        vdsa.lines.get(usize::from(vector))
    }

    /// Does something with a slot. What fails there fails with the device, which the
    /// client is told.
    fn with_client(&self, action: impl FnOnce(&ClientHandle) -> Result<(), VectorError>) {
        if let Some(client) = &self.backing.client
            && action(client).is_err()
        {
            trace::record(Kind::DEVICE_ERROR, self.backing.guest, self.backing.vdsa, 0);
        }
    }
}

/// The client's number of a virtual vector.
fn client_vector(vector: u16) -> u8 {
    // A virtual DSA has no vectors beyond MAX_VECTORS; the client refuses what it has
    // not.
    u8::try_from(vector).unwrap_or(u8::MAX)
}

/// The command by which the guest asked for something.
fn command(request: &Request) -> CommandCode {
    match request {
        Request::EnableQueue { .. } => CommandCode::ENABLE_WQ,
        Request::Queues { action, .. } => match action {
            QueueAction::Drain => CommandCode::DRAIN_WQ,
            QueueAction::Abort => CommandCode::ABORT_WQ,
            QueueAction::Disable => CommandCode::DISABLE_WQ,
            QueueAction::Reset => CommandCode::RESET_WQ,
        },
        Request::Pasid { action, .. } => match action {
            PasidAction::Drain => CommandCode::DRAIN_PASID,
            PasidAction::Abort => CommandCode::ABORT_PASID,
        },
        Request::AllocateHandle { .. } => CommandCode::REQUEST_INTERRUPT_HANDLE,
        Request::ReleaseHandle { .. } => CommandCode::RELEASE_INTERRUPT_HANDLE,
        Request::Reset { .. } => CommandCode::RESET_DEVICE,
    }
}

impl Host for Surroundings<'_> {
    #[inline]
    fn read_guest(&self, at: GuestAddr, into: &mut [u64]) -> Result<(), NotRam> {
        let result = self.memory.copy_words_out(GuestPhysAddr(at.0), into);
        result.map_err(|_| NotRam)
    }

    #[inline]
    fn write_guest(&mut self, at: GuestAddr, words: &[u64]) -> Result<(), NotRam> {
        let result = self.memory.copy_words_in(GuestPhysAddr(at.0), words);
        result.map_err(|_| NotRam)
    }

    #[inline]
    fn write_record(&mut self, at: GuestAddr, record: &[u64; 4]) -> Result<(), NotRam> {
        let result = self.memory.copy_record_in(GuestPhysAddr(at.0), record);
        result.map_err(|_| NotRam)
    }

    #[inline]
    fn read_window(&self, offset: usize, into: &mut [u64]) {
        if let Some(window) = &self.backing.window {
            window.read_words(offset / 8, into);
        }
    }

    #[inline]
    fn write_window(&mut self, offset: usize, words: &[u64]) {
        if let Some(window) = &mut self.backing.window {
            window.write_words(offset / 8, words);
        }
    }

    #[inline]
    fn submit(&mut self, queue: QueueIndex, descriptor: &[u64; 8]) -> Submission {
        match self.backing.queues.get_mut(queue.index()) {
            Some(queue) => queue.submit(descriptor),
            None => Submission::Retry,
        }
    }

    fn has_room(&mut self, queue: QueueIndex) -> bool {
        let Backing { client, queues, .. } = &mut *self.backing;
        match (client, queues.get_mut(queue.index())) {
            (Some(client), Some(queue)) => queue.has_room(client.accelerator()),
            _ => true,
        }
    }

    fn set_masked(&mut self, vector: u16, masked: bool) {
        self.with_client(|client| client.set_masked(client_vector(vector), masked));
    }

    fn set_ignored(&mut self, vector: u16, ignored: bool) {
        self.with_client(|client| client.set_ignored(client_vector(vector), ignored));
    }

    fn set_slot_pasid(&mut self, vector: u16, pasid: Pasid) {
        let pasid = self.backing.slot_pasid(vector, pasid);
        self.with_client(|client| client.set_vector_pasid(client_vector(vector), pasid));
    }

    fn is_pending(&self, vector: u16) -> bool {
        let client = self.backing.client.as_ref();
        client.is_some_and(|client| client.is_pending(client_vector(vector)).unwrap_or(false))
    }

    fn set_message(&mut self, vector: u16, message: Option<Message>) {
        let Some(line) = self.line(vector) else {
            return;
        };
        let ipi = message.and_then(|message| self.place.message(message));
        let target = ipi.and_then(|ipi| match ipi.delivery {
            Delivery::Fixed(vector) => {
                let vcpu = u8::try_from(ipi.targets.iter().next()?).ok()?;
                Some((vcpu, vector))
            }
            // A device that wants anything else than an interrupt gets nothing.
            _ => None,
        });
        line.connect(target);
    }

    #[inline]
    fn inject(&mut self, message: Message) {
        if self.place.inject(message) {
            self.backing.injected += 1;
        }
    }

    fn request(&mut self, request: Request) {
        let backing = &mut *self.backing;
        let code = command(&request).0.into();
        trace::record(Kind::COMMAND, backing.guest, backing.vdsa, code);
        let request = match request {
            Request::EnableQueue { queue, pasid, .. } => match backing.queue(queue) {
                Some(queue) if queue.is_exclusive => client::Request::EnableQueue {
                    queue: queue.physical,
                    // Weir grants nobody privileged access.
                    pasid: dsa::QueuePasid::unprivileged(pasid),
                },
                // A shared queue is enabled already, and the PASID comes with each
                // descriptor.
                _ => client::Request::Queues {
                    queues: Set::EMPTY,
                    action: client::QueueAction::Drain,
                    pasids: Set::EMPTY,
                },
            },
            Request::Queues { queues, action } => client::Request::Queues {
                queues: backing.exclusive(queues),
                action: match action {
                    QueueAction::Drain => client::QueueAction::Drain,
                    QueueAction::Abort => client::QueueAction::Abort,
                    QueueAction::Disable => client::QueueAction::Disable,
                    QueueAction::Reset => client::QueueAction::Reset,
                },
                pasids: backing.pasids_of_shared(queues),
            },
            Request::Pasid { pasid, action } => match (backing.pasids_behind(pasid), action) {
                (Some(pasids), _) => client::Request::Queues {
                    queues: Set::EMPTY,
                    action: client::QueueAction::Drain,
                    pasids,
                },
                (None, PasidAction::Drain) => client::Request::DrainPasid(pasid),
                (None, PasidAction::Abort) => client::Request::AbortPasid(pasid),
            },
            Request::AllocateHandle { vector, pasid } => client::Request::AllocateVector {
                vector: client_vector(vector),
                pasid: backing.slot_pasid(vector, pasid),
                cpu: backing.processor_for(self.place, vector.into()),
                target: GuestTarget {
                    vm: u16::try_from(backing.guest).unwrap_or(u16::MAX),
                    device: u8::try_from(backing.vdsa).unwrap_or(u8::MAX),
                    completion: Completion::Vector(vector),
                },
            },
            Request::ReleaseHandle { vector } => {
                client::Request::ReleaseVectors(Set::just(client_vector(vector)))
            }
            Request::Reset { queues } => client::Request::Reset {
                queues: backing.exclusive(queues),
                pasids: backing.pasids_of_shared(queues),
                vectors: (0..FIRST_BATCH_VECTOR).collect(),
            },
        };
        if backing.moving != Moving::Not {
            // The guest has one command at a time.
            *self.held = Some(request);
        } else if let Some(client) = &backing.client {
            client.post(request);
        }
    }
}
