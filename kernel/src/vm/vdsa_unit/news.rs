//! What the guest is told of the physical device: answers to what it asked for, and
//! events, as hardware would.

use dsa::SoftwareError;
use hwspec::dsa::{ResetType, SwError0, SwError1};
use vdsa::{Answer, SoftwareErrorRecord, VirtualDsa};

use super::moving::{Moving, go_on_moving};
use super::surroundings::Surroundings;
use crate::host::client::{self, Event};
use crate::trace::{self, Kind};

/// Takes what the client was told.
pub(super) fn serve_client(device: &mut VirtualDsa, host: &mut Surroundings<'_>) {
    /// More than a client can have at once; whatever comes later has its own notice.
    const MAX_NEWS: usize = 8;
    for _ in 0..MAX_NEWS {
        let Some(client) = &host.backing.client else {
            return;
        };
        if client.is_waiting() {
            client.accelerator().service();
        }
        if let Some(answer) = client.take_answer() {
            if host.backing.moving != Moving::Not {
                go_on_moving(device, host, answer);
                continue;
            }
            let answer = match answer {
                client::Answer::Done => Answer::Done,
                client::Answer::Handle(handle) => Answer::Handle(handle.0),
                client::Answer::NoHandle => Answer::NoHandle,
                client::Answer::Failed(_) => Answer::Failed,
            };
            let (guest, vdsa) = (host.backing.guest, host.backing.vdsa);
            let has_failed = u32::from(answer == Answer::Failed);
            trace::record(Kind::ANSWER, guest, vdsa, has_failed);
            device.answer(host, answer);
        } else if let Some(event) = client.take_event() {
            tell(device, host, event);
        } else {
            return;
        }
    }
}

/// Tells the guest of an event of the physical device, as hardware would.
#[cold]
fn tell(device: &mut VirtualDsa, host: &mut Surroundings<'_>, event: Event) {
    let (guest, vdsa) = (host.backing.guest, host.backing.vdsa);
    match event {
        Event::SoftwareError(error) => {
            trace::record(Kind::DEVICE_ERROR, guest, vdsa, error.code.0.into());
            let queue = host.backing.virtual_queue(error.queue);
            device.report_error(host, queue, record(&error));
        }
        Event::ErrorsLost => device.report_lost_errors(),
        Event::WasReset => {
            trace::record(Kind::HALT, guest, vdsa, 0);
            // What the guest had in the device is gone, and so it sees a halt that a reset
            // cures.
            device.report_halt(host, ResetType::ResetDevice);
            host.backing.renew_batch_handles(device);
        }
        Event::Halted(reset) => {
            trace::record(Kind::HALT, guest, vdsa, 1);
            device.report_halt(host, reset);
        }
        Event::Failed => {
            trace::record(Kind::HALT, guest, vdsa, 2);
            device.report_halt(host, ResetType::Cold);
        }
    }
}

/// An error as SWERROR shows it; whose queue it was, the guest's device says itself.
fn record(error: &SoftwareError) -> SoftwareErrorRecord {
    let mut word0 = SwError0::new()
        .with_error_code(error.code)
        .with_write(error.is_write)
        .with_error_information_valid(error.information.is_some());
    let mut word1 = SwError1::new().with_error_information(error.information.unwrap_or(0));
    if let Some(descriptor) = error.descriptor {
        word0 = word0
            .with_descriptor_valid(true)
            .with_operation(descriptor.operation)
            .with_pasid(descriptor.pasid.value())
            .with_privileged(descriptor.privileged)
            .with_batch_member(descriptor.batch_index.is_some());
        word1 = word1.with_batch_index(descriptor.batch_index.unwrap_or(0));
    }
    SoftwareErrorRecord {
        word0,
        word1,
        address: error.address,
    }
}
