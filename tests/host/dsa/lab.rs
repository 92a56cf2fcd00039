//! A driver with its model: two dedicated queues and a shared one.

use std::time::Duration;

use dsa::ims::{DeviceEntry, ImsIndex, Message, Slot, SlotPasid, Store};
use dsa::{Capabilities, Device, Plan, QueueMode, QueuePasid, QueueShape};
use dsa_model::Transaction;
use hwio::{Portal, Submission};
use hwspec::dsa::{
    CompletionRecord, Descriptor, DescriptorWord0, DescriptorWord4, Flags, Operation, PortalPage,
};
use hwspec::pci::Pasid;

use crate::model::{Model, ModelRegisters};

pub(crate) const TIMEOUT: Duration = Duration::from_millis(1);

/// Where each PASID has its completion record.
pub(crate) const RECORD: u64 = 0x7000;

pub(crate) type ModelDevice = Device<ModelRegisters, Model>;
pub(crate) type ModelEntry = DeviceEntry<ModelRegisters>;
pub(crate) type ModelSlot = Slot<ModelEntry>;

/// A driver and what it drives.
pub(crate) struct Lab {
    pub(crate) model: Model,
    pub(crate) device: ModelDevice,
    pub(crate) store: Store<ModelEntry>,
}

pub(crate) fn pasid(number: u32) -> Pasid {
    Pasid::new(number).unwrap()
}

pub(crate) fn checked(number: u32) -> SlotPasid {
    SlotPasid::Checked(pasid(number))
}

/// A message that says which slot sent it.
pub(crate) fn message(number: u32) -> Message {
    Message::new(0xfee0_1000, number).unwrap()
}

/// The same as it leaves the device.
pub(crate) fn sent(number: u32) -> (u64, u32) {
    (0xfee0_1000, number)
}

/// Cuts BAR0 as a kernel does, and takes the device over.
pub(crate) fn take_over(model: &Model) -> Result<(ModelDevice, Store<ModelEntry>), dsa::Error> {
    let bar_bytes = model.bar_bytes();
    let capabilities = Capabilities::read(&model.registers(0..0x100))?;
    let ims = capabilities.ims_range(bar_bytes)?;
    let registers = model.registers(0..ims.start);
    let device = Device::take_over(registers, model.clone(), TIMEOUT)?;
    let entries = ims
        .step_by(16)
        .map(|at| DeviceEntry::new(model.registers(at..at + 16)));
    Ok((device, Store::new(entries)?))
}

/// Queues 0 and 1 are dedicated, queue 2 is shared; 16 entries each.
pub(crate) fn plan(capabilities: &Capabilities) -> Plan {
    let shape = |mode| QueueShape::largest(mode, 16, capabilities);
    let dedicated = shape(QueueMode::Dedicated);
    let shapes = [dedicated, dedicated, shape(QueueMode::Shared)];
    Plan::spread(capabilities, &shapes).unwrap()
}

impl Lab {
    /// Configured, with no queue enabled.
    pub(crate) fn configured(options: &str) -> Self {
        let model = Model::new(options);
        let (mut device, store) = take_over(&model).unwrap();
        let plan = plan(device.capabilities());
        device.configure(&plan).unwrap();
        Self {
            model,
            device,
            store,
        }
    }

    /// With queue N enabled for PASID N + 1, each of which has a page for its record.
    pub(crate) fn ready(options: &str) -> Self {
        let mut lab = Self::configured(options);
        for queue in 0..3 {
            let number = u32::from(queue) + 1;
            let of = QueuePasid::unprivileged(pasid(number));
            lab.device.enable_queue(queue, of).unwrap();
            lab.model.map(Some(number), RECORD);
        }
        lab
    }

    /// A slot that is enabled and sends [`message`] of its index.
    pub(crate) fn slot(&mut self, of: u32) -> ModelSlot {
        let mut slot = self.store.allocate(checked(of)).unwrap();
        slot.enable(message(slot.index().0.into())).unwrap();
        slot
    }

    /// Submits to a dedicated queue, by MOVDIR64B to its limited IMS portal.
    pub(crate) fn post(&self, queue: u8, descriptor: &Descriptor) {
        let portal = self
            .model
            .portal(queue, PortalPage::LimitedIms, Transaction::Posted);
        assert_eq!(portal.submit(&descriptor.words()), Submission::Accepted);
    }

    /// Submits to a shared queue, by ENQCMDS.
    pub(crate) fn enqueue(&self, queue: u8, descriptor: &Descriptor) -> Submission {
        let portal = self
            .model
            .portal(queue, PortalPage::LimitedIms, Transaction::Deferrable);
        portal.submit(&descriptor.words())
    }

    /// The record of a PASID, which is cleared.
    pub(crate) fn take_record(&self, of: u32) -> CompletionRecord {
        let record = self.model.record(Some(of), RECORD);
        self.model
            .write_memory(Some(of), RECORD, &[0; CompletionRecord::SIZE]);
        record
    }

    /// Lets a no-op with this handle run on a dedicated queue, and returns its status.
    pub(crate) fn run_no_op(&self, queue: u8, handle: u16) -> hwspec::dsa::Status {
        self.post(queue, &no_op(handle));
        self.model.run();
        self.take_record(u32::from(queue) + 1).word0.status()
    }
}

/// A no-op with a completion record that asks for an interrupt by this handle.
pub(crate) fn no_op(handle: u16) -> Descriptor {
    let flags = Flags::new()
        .with_completion_record_address_valid(true)
        .with_request_completion_record(true)
        .with_request_completion_interrupt(true);
    Descriptor {
        word0: DescriptorWord0::new()
            .with_flags(flags)
            .with_operation(Operation::NO_OP),
        completion_record_address: RECORD,
        word4: DescriptorWord4::new().with_interrupt_handle(handle),
        ..Descriptor::default()
    }
}

/// The handle that a device without handles takes.
pub(crate) fn handle(index: ImsIndex) -> u16 {
    index.0
}
