//! A vector gets another slot while the guest runs, as the operator wants it: the guest
//! is told that its handles were revoked, and asks for new ones.

use vdsa::{MovedHandle, VirtualDsa};

use super::VdsaUnit;
use super::surroundings::Surroundings;
use crate::host::client::{Answer, MAX_VECTORS, Request, Set};
use crate::vm::shared::VdsaDoor;

/// The slot that a vector had before it got another one, until that is released.
pub(super) const RETIRED_VECTOR: u8 = 47;
const _: () = assert!(RETIRED_VECTOR as usize + 1 == MAX_VECTORS);

/// A vector gets another slot, step by step. What the guest asks for meanwhile waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moving {
    /// None does.
    #[default]
    Not,
    /// This one: a new slot was asked for.
    Replacing(u8),
    /// The guest was told. What it had submitted before is being done.
    Draining,
    /// The old slot is being given back.
    Releasing,
}

impl VdsaUnit {
    /// Looks whether the operator wants a vector to get another slot.
    pub(super) fn start_moving(&self, door: &VdsaDoor) {
        if !door.has_move() {
            return;
        }
        let mut inner = self.inner.lock();
        let backing = &mut inner.backing;
        let Some(client) = &backing.client else {
            return;
        };
        // What the guest asked for comes first, and then this is called again.
        if backing.moving != Moving::Not || !client.is_idle() {
            return;
        }
        let Some(vector) = door.take_move() else {
            return;
        };
        backing.moving = Moving::Replacing(vector);
        client.post(Request::ReplaceVector {
            vector,
            cpu: backing.processor_for(self.place, vector.into()),
            aside: RETIRED_VECTOR,
        });
    }
}

/// A step of [`Moving`] was answered.
#[cold]
pub(super) fn go_on_moving(device: &mut VirtualDsa, host: &mut Surroundings<'_>, answer: Answer) {
    let next = match (host.backing.moving, answer) {
        (Moving::Replacing(vector), Answer::Handle(handle)) => {
            host.backing.moved += 1;
            let moved = MovedHandle {
                vector: vector.into(),
                handle: handle.0,
            };
            device.revoke_handles(host, &[moved]);
            let client = host.backing.client.as_ref();
            let pasid = client.and_then(|client| client.vector_pasid(RETIRED_VECTOR));
            match pasid {
                Some(pasid) => (Moving::Draining, Some(Request::DrainPasid(pasid))),
                None => (Moving::Not, host.held.take()),
            }
        }
        // Whatever came of it: what names the old slot from now on is refused.
        (Moving::Draining, _) => {
            let retired = Set::just(RETIRED_VECTOR);
            (Moving::Releasing, Some(Request::ReleaseVectors(retired)))
        }
        _ => (Moving::Not, host.held.take()),
    };
    let (moving, request) = next;
    host.backing.moving = moving;
    if let (Some(client), Some(request)) = (&host.backing.client, request) {
        client.post(request);
    }
}
